//! The first step: what this host is told to be, by its image, its tags and its user-data.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use recipes::error::Problems;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::BOOT_BUNDLE;
use super::error::BootError;
use super::steps::Boot;
use super::telling::Telling;
use crate::aws_call::{CallError, Caller};
use crate::cache::{Cached, Vault};
use crate::config::encoded::decode;
use crate::config::layers::{Layer, Written};
use crate::config::object::{Object, insert};
use crate::config::signed::{believes_tags, verify};
use crate::config::{Config, Ending};
use crate::s3;
use crate::source::aws::{Account, InstanceRole};
use crate::source::instance::Identity;

/// What this host is told to be.
pub(super) struct Told {
    pub(super) config: Config,
    /// All that it is told, and what the image brings for its boot, as one number.
    pub(super) digest: String,
    pub(super) user_data: Option<Vec<u8>>,
    /// The object with the rest of the configuration, if there is one.
    pub(super) object: Option<Vec<u8>>,
    /// What tags said, by field.
    pub(super) tags: Vec<(String, String)>,
}

/// What a tag says.
struct Tag {
    field: &'static str,
    key: String,
    value: String,
}

/// How often an object is asked for where that may help, and how long between.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(500);

async fn with_patience<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.may_pass() => {
                sleep(error.wait().unwrap_or_else(|| wait.mul_f64(fastrand::f64()))).await;
                wait *= 2;
            }
            other => return other,
        }
    }
    call().await
}

impl<W: Write> Boot<'_, W> {
    /// Reads everything that tells this host what to be. Who is told the result is known even where that fails.
    pub(super) async fn configure(&mut self) -> Result<Told, BootError> {
        let mut layers = Layer::of_image(Path::new("/"))
            .map_err(|error| BootError::new("configure", format!("failed to read {error}")))?;
        self.will_tell(&layers);
        let user_data = match self.user_data(&layers).await {
            Err(error) if error.is_offline => {
                let bytes = self.last_good(error)?.user_data.clone();
                bytes.map(|bytes| Layer { name: "user-data".into(), bytes, is_user_data: true })
            }
            other => other?,
        };
        if let Some(user_data) = user_data {
            // Until it is believed it says nothing, nor whom to tell.
            let refused = |why| BootError::new("configure", format!("the user-data is refused: {why}"));
            let believed = verify(Path::new("/"), &layers, &user_data).map_err(refused)?;
            if let Some(believed) = believed.filter(|_| !self.is_look()) {
                believed.remember(Path::new("/")).map_err(refused)?;
            }
            layers.push(user_data);
            self.will_tell(&layers);
        }
        let failed = |problems: Problems| BootError::new("configure", problems.to_string());
        let mut written = Written::read(&layers).map_err(failed)?;
        let tags = self.tags(&layers, &mut written).await?;
        let mut object = None;
        if let Some(named) = Object::of(&written).map_err(failed)? {
            let bytes = self.object(&named, &written).await?;
            let layer = named.layer(&bytes).map_err(|problem| failed(problem.into()))?;
            insert(&mut layers, layer);
            object = Some(bytes);
            written = Written::read(&layers).map_err(failed)?;
            tags.iter().for_each(|Tag { field, key, value }| written.set(field, value, key));
        }
        let config = Config::of(&written).map_err(failed)?;
        self.telling = Some(Telling::new(&self.status.boot_id, config.ending()));
        let mut digest = Sha256::new();
        for layer in &layers {
            digest.update((layer.bytes.len() as u64).to_le_bytes());
            digest.update(&layer.bytes);
        }
        tags.iter().for_each(|Tag { field, value, .. }| digest.update(format!("{field}={value}\n")));
        let manifest = Path::new(BOOT_BUNDLE).join(recipes::bundle::MANIFEST);
        digest.update(std::fs::read(manifest).unwrap_or_default());
        let tags = tags.into_iter().map(|tag| (tag.field.to_owned(), tag.value)).collect();
        let user_data = layers.pop().filter(|layer| layer.is_user_data).map(|layer| layer.bytes);
        Ok(Told { config, digest: recipes::op::hex(&digest.finalize()), user_data, object, tags })
    }

    /// What tags say of it.
    async fn tags(&self, layers: &[Layer], written: &mut Written) -> Result<Vec<Tag>, BootError> {
        let mut tags = Vec::new();
        for (field, key) in written.tags_over(layers) {
            if !believes_tags(Path::new("/")) {
                let why = format!(
                    "its {field} is named by a tag, and an image with `trusted-keys` believes no tags"
                );
                return Err(BootError::new("configure", why));
            }
            let value = if let Some(cached) = &self.cached {
                cached.tags.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone())
            } else {
                let value = self.metadata.tag(&key).await;
                value.map_err(|error| BootError::of_metadata("configure", &error))?
            };
            let value = value.ok_or_else(|| BootError {
                step: "configure",
                message: format!("the instance has no tag `{key}`, which names its {field}"),
                help: Some(
                    "set the tag, and `InstanceMetadataTags` to `enabled` in the metadata options".into(),
                ),
                is_offline: false,
            })?;
            written.set(field, &value, &key);
            tags.push(Tag { field, key, value });
        }
        Ok(tags)
    }

    /// The object with the rest of the configuration, or the last good one if S3 is out of reach.
    async fn object(&mut self, object: &Object, written: &Written) -> Result<Vec<u8>, BootError> {
        let kept = |cached: &Cached| cached.object.clone();
        if let Some(bytes) = self.cached.as_ref().and_then(kept) {
            return Ok(bytes);
        }
        let identity = self.metadata.identity().await;
        let identity = identity.map_err(|error| BootError::of_metadata("configure", &error))?;
        let account = account(written, &identity, self.metadata.is_ipv6(), self.role.clone());
        let caller = Caller::new(account, self.settings.environment.clone());
        let error = match with_patience(async || s3::get(&caller, &object.s3).await).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let allow = "allow `s3:GetObject` for it in the policy of the instance's role";
        let error = BootError {
            step: "configure",
            message: format!("failed to fetch {}: {error}", object.s3),
            help: (!error.may_pass()).then(|| allow.to_owned()),
            is_offline: error.may_pass(),
        };
        if !error.is_offline {
            return Err(error);
        }
        let why = error.message.clone();
        let kept = kept(self.last_good(error)?);
        kept.ok_or_else(|| {
            BootError::new("configure", format!("{why}; it was not kept with the last good values"))
        })
    }

    /// What was good last, where the network is away.
    pub(super) fn last_good(&mut self, error: BootError) -> Result<&Cached, BootError> {
        match Vault::below(Path::new("/")).open() {
            Ok(mut cached) => {
                cached.fetched.calls = 0;
                self.reporter.line(&format!(
                    "{}; the last good values, of {}, are used",
                    error.message,
                    cached.time()
                ));
                self.status.cached = Some(cached.time());
                Ok(self.cached.insert(cached))
            }
            Err(why) => {
                let message = format!("{}; there are no last good values: {why}", error.message);
                Err(BootError { message, ..error })
            }
        }
    }

    fn will_tell(&mut self, layers: &[Layer]) {
        if self.is_look() {
            return;
        }
        let ending = Ending::of_broken(layers);
        self.telling = ending.map(|ending| Telling::new(&self.status.boot_id, ending));
        // For whoever has to tell if this process is killed. If it cannot be written, that is said later.
        if let Some(telling) = &self.telling {
            let _ = telling.keep(Path::new("/"));
        }
    }

    /// The user-data; none if there is none and the image says that there need not be.
    async fn user_data(&mut self, image: &[Layer]) -> Result<Option<Layer>, BootError> {
        let failed = |message: String| BootError::new("user-data", message);
        let (name, bytes) = if let Some(path) = self.settings.file.clone() {
            let name = path.display().to_string();
            let bytes =
                std::fs::read(&path).map_err(|error| failed(format!("failed to read `{name}`: {error}")))?;
            (name, bytes)
        } else {
            let data = self
                .timed("user-data", async |boot| {
                    let data = boot.metadata.user_data().await;
                    data.map_err(|error| BootError::of_metadata("user-data", &error))
                })
                .await?;
            match data {
                Some(bytes) => ("user-data".into(), bytes),
                None if is_optional(image) => return Ok(None),
                None => return Err(failed("the instance was launched without user-data".into())),
            }
        };
        let bytes = decode(bytes).map_err(|why| failed(format!("{name} cannot be read: {why}")))?;
        Ok(Some(Layer { name, bytes, is_user_data: true }))
    }
}

/// Where AWS is for a host whose configuration is not whole yet.
pub(crate) fn account(
    written: &Written,
    identity: &Identity,
    dual_stack: bool,
    role: InstanceRole,
) -> Account {
    let text = |field: &str| Some(written.field(field)?.as_str("text").ok()?.to_owned());
    let region = text("region").unwrap_or_else(|| identity.region.clone());
    Account { region, endpoint_url: text("endpoint_url"), dual_stack, role }
}

fn is_optional(image: &[Layer]) -> bool {
    let written = Written::read(image).ok();
    let said = written.as_ref().and_then(|written| written.field("user_data")?.as_str("a word").ok());
    said == Some("optional")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_image_says_that_user_data_may_be_missing() {
        let layer = |text: &str| Layer { name: "a".into(), bytes: text.into(), is_user_data: false };
        assert!(is_optional(&[layer("user_data: optional\n")]));
        assert!(!is_optional(&[layer("user_data: required\n")]));
        assert!(!is_optional(&[layer("environment: prod\n")]));
        assert!(!is_optional(&[]));
    }
}
