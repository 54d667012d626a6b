//! The first step: what this host is told to be, by its image, its tags and its user-data.

use std::io::Write;
use std::path::Path;

use recipes::error::Problems;
use sha2::{Digest, Sha256};

use super::BOOT_BUNDLE;
use super::error::BootError;
use super::steps::Boot;
use super::telling::Telling;
use crate::cache::{Cached, Vault};
use crate::config::encoded::decode;
use crate::config::layers::{Layer, Written};
use crate::config::signed::{believes_tags, verify};
use crate::config::{Config, Ending};

/// What this host is told to be.
pub(super) struct Told {
    pub(super) config: Config,
    /// All that it is told, and what the image brings for its boot, as one number.
    pub(super) digest: String,
    pub(super) user_data: Option<Vec<u8>>,
    /// What tags said, by field.
    pub(super) tags: Vec<(String, String)>,
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
            verify(Path::new("/"), &layers, &user_data)
                .map_err(|why| BootError::new("configure", format!("the user-data is refused: {why}")))?;
            layers.push(user_data);
            self.will_tell(&layers);
        }
        let failed = |problems: Problems| BootError::new("configure", problems.to_string());
        let mut written = Written::read(&layers).map_err(failed)?;
        let mut digest = Sha256::new();
        let mut tags = Vec::new();
        for layer in &layers {
            digest.update((layer.bytes.len() as u64).to_le_bytes());
            digest.update(&layer.bytes);
        }
        for (field, key) in written.tags_over(&layers) {
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
            tags.push((field.to_owned(), value.clone()));
            digest.update(format!("{field}={value}\n"));
            written.set(field, &value, &key);
        }
        let config = Config::of(&written).map_err(failed)?;
        self.telling = Some(Telling::new(&self.status.boot_id, config.ending()));
        let manifest = Path::new(BOOT_BUNDLE).join(recipes::bundle::MANIFEST);
        digest.update(std::fs::read(manifest).unwrap_or_default());
        let user_data = layers.pop().filter(|layer| layer.is_user_data).map(|layer| layer.bytes);
        Ok(Told { config, digest: recipes::op::hex(&digest.finalize()), user_data, tags })
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
