//! EC2: an instance becomes an AMI.
//!
//! ```text
//! security group ─▶ instance ─▶ (stopped) ─▶ snapshot ─▶ AMI ─▶ test instance ─▶ copies ─▶ kept ─▶ channel
//! └────────────────────── each has, from its birth, the tag baker:temporary ───────────────┘
//! ```
//!
//! The ledger has one line for each region: what has the tags of the run and `baker:temporary` goes. So there is no
//! moment at which something exists that is written down nowhere, and with the ledger lost the tags are enough.

mod address;
mod batch;
mod call;
mod connect;
mod image;
mod launch;
mod look;
mod on_builder;
mod place;
mod policy;
mod preflight;
mod publish;
mod quota;
mod session_manager;
mod simulate;
mod source;
mod tags;
mod undo;
mod user_data;
mod wait;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use futures_util::future::try_join_all;
use serde_json::Value as Json;

pub use connect::Way;
pub use policy::policy;
pub use session_manager::{PluginCall, SESSION_MANAGER_PLUGIN, open_session};
use source::Ami as SourceAmi;
pub use undo::Leftover;

use self::call::CallError;
use self::launch::{Launch, Running};
use self::look::{Looks, Shared};
use self::on_builder::{freeze, packages};
use self::place::Placement;
use self::preflight::Wanted;
use self::tags::Tags;
use super::{Existing, Kept, Platform, Run, SealReport, Undo};
use crate::bake::{AGENT, Order};
use crate::failure::{Failure, failed};
use crate::image::{Ec2Builder, Source};
use crate::ledger::Created;
use crate::manifest::{Ami, Artifact, Manifest, SourceRecord};
use crate::session::{Input, Keys, Session, SshSession};

/// How much longer than its builder what else a bake makes may be needed.
const GRACE: Duration = Duration::from_hours(6);

/// A region of an account.
#[derive(Debug, Clone)]
pub struct Ec2 {
    sdk: SdkConfig,
    ec2: aws_sdk_ec2::Client,
    ssm: aws_sdk_ssm::Client,
    sts: aws_sdk_sts::Client,
    region: String,
    /// The ARN of whoever calls.
    caller: String,
    looks: Rc<Looks>,
    shared: Rc<Shared>,
    memory: Rc<Memory>,
}

/// What a bake knows that AWS may not tell yet.
#[derive(Debug, Default)]
struct Memory {
    /// The ids of what was made.
    made: RefCell<BTreeSet<String>>,
    /// The ids of what was published: it stays, whatever its tags still seem to be.
    kept: RefCell<BTreeSet<String>>,
    /// Calls that make something and were not answered.
    unanswered: Cell<u32>,
}

/// What is known of a bake before anything is made.
#[derive(Debug)]
pub struct Checked {
    placement: Placement,
    tags: Tags,
    name: String,
}

/// A way in to a builder that does not exist yet.
#[derive(Debug)]
pub struct Prepared {
    checked: Checked,
    source: SourceAmi,
    settings: Ec2Builder,
    groups: Vec<String>,
    keys: Keys,
}

/// An instance that answers.
#[derive(Debug)]
pub struct Builder {
    running: Running,
    session: SshSession,
    prepared: Rc<Prepared>,
}

/// An instance that was cleaned and stopped.
#[derive(Debug)]
pub struct Sealed {
    running: Running,
    prepared: Rc<Prepared>,
    packages: Vec<(String, String)>,
}

/// An AMI that is removed unless it is published.
#[derive(Debug)]
pub struct Image {
    ami: Ami,
    source: SourceAmi,
    /// What is written on it and on its copies.
    tags: Tags,
    prepared: Rc<Prepared>,
}

impl Ec2 {
    /// A call that makes something, whose answer is remembered: only an answer says that it was all.
    async fn making<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
        id: impl FnOnce(&T) -> Option<&str>,
    ) -> Result<T, CallError> {
        let unanswered = &self.memory.unanswered;
        unanswered.set(unanswered.get() + 1);
        let result = work.await;
        if !result.as_ref().is_err_and(CallError::is_unknown) {
            unanswered.set(unanswered.get() - 1);
        }
        if let Some(id) = result.as_ref().ok().and_then(id) {
            self.memory.made.borrow_mut().insert(id.to_owned());
        }
        result
    }

    /// An error, with what AWS says of a missing permission only to whoever asks (`DecodeAuthorizationMessage`).
    async fn explained(&self, error: CallError) -> Failure {
        const ENCODED: &str = "Encoded authorization failure message:";
        let Some((before, encoded)) = error.message.split_once(ENCODED) else { return error.into() };
        let request = self.sts.decode_authorization_message().encoded_message(encoded.trim());
        let decoded = request.send().await.ok().and_then(|answer| answer.decoded_message);
        let decoded = decoded.and_then(|text| serde_json::from_str::<Json>(&text).ok());
        let mut message = before.trim().to_owned();
        if let Some(context) = decoded.as_ref().and_then(|decoded| decoded.get("context")) {
            let field = |name: &str| context.get(name).and_then(Json::as_str).unwrap_or("?").to_owned();
            message += &format!(" `{}` may not be done to `{}`", field("action"), field("resource"));
        }
        CallError { message, ..error }.into()
    }

    /// What a call came to, explained if it failed.
    async fn done<T>(&self, result: Result<T, CallError>) -> Result<T, Failure> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// Launches an instance and waits until it answers.
    async fn up(&self, launch: &Launch<'_>, keys: &Keys) -> Result<(Running, SshSession, String), Failure> {
        let (id, candidate) = self.launch_anywhere(launch).await?;
        let (running, session) = self.until_it_answers(&id, launch.settings, keys).await?;
        let shown = format!("{id}, {candidate}, at {}", running.address());
        Ok((running, session, shown))
    }
}

/// The AMI's name: the one that was asked for, else the image's with the time at which the run began.
fn ami_name(order: &Order<'_, SourceAmi>, run: &str) -> String {
    let name = order.image.publish.ec2.name.clone();
    name.unwrap_or_else(|| format!("{}-{}", order.image.name, run.split('-').next().unwrap_or_default()))
}

impl Platform for Ec2 {
    type Origin = SourceAmi;
    type Checked = Checked;
    type Prepared = Prepared;
    type Builder = Builder;
    type Sealed = Sealed;
    type Image = Image;
    type Session = SshSession;

    const NAME: &str = "ec2";
    const BOOTS: bool = true;

    fn anew(&self) -> Self {
        Self { memory: Rc::default(), ..self.clone() }
    }

    fn region(&self) -> Option<&str> {
        Some(&self.region)
    }

    async fn start(&self, source: &Source) -> Result<(SourceAmi, SourceRecord), Failure> {
        let Some(ec2) = &source.ec2 else {
            return Err(Failure::new("there is no AMI to start from").help(
                "an image has one with `source: { ec2: { ami: { owner: \"136693071363\", name: \"debian-12-amd64-*\", most_recent: true } } }`; a recipe alone is planned with `--on ami:ID`",
            ));
        };
        let ami = self.resolve(&ec2.ami, ec2.arch).await?;
        let record = self.record(&ami);
        Ok((ami, record))
    }

    async fn find(&self, order: &Order<'_, SourceAmi>) -> Result<Option<Existing<SourceAmi>>, Failure> {
        let image = order.image;
        let Some((ami, created)) = self.made_of(&image.name, &order.input_digest).await? else {
            return Ok(None);
        };
        let age =
            humantime::parse_rfc3339(&created).ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age >= image.max_age) {
            return Ok(None);
        }
        // A bake may have ended between the image and the channel.
        if let Some(channel) = &image.publish.ec2.channel {
            self.point(channel, &ami.id).await?;
        }
        self.as_origin(&ami, order).await.map(Some)
    }

    async fn existing(
        &self,
        manifest: &Manifest,
        order: &Order<'_, SourceAmi>,
    ) -> Result<Existing<SourceAmi>, Failure> {
        let ami = manifest.amis.first().ok_or_else(|| Failure::new("the image has no AMI"))?;
        self.as_origin(ami, order).await
    }

    async fn preflight(
        &self,
        order: &Order<'_, SourceAmi>,
        run: &mut Run<'_>,
    ) -> Result<(Checked, String), Failure> {
        let settings = &order.image.builder.ec2;
        let placement = self.place(settings, order.arch).await?;
        let lifetime = settings.time_limit.0 + GRACE;
        let tags =
            Tags::temporary(&settings.tags, run.ledger.run(), &order.image.name, &self.caller, lifetime);
        let name = ami_name(order, run.ledger.run());
        let wanted = Wanted {
            image: order.image,
            ami: &order.origin,
            placement: &placement,
            name: &name,
            tags: &tags,
        };
        let result = self.foresee(&wanted).await?;
        Ok((Checked { placement, tags, name }, result))
    }

    async fn prepare(
        &self,
        checked: Checked,
        order: &Order<'_, SourceAmi>,
        run: &mut Run<'_>,
    ) -> Result<(Prepared, String), Failure> {
        let settings = order.image.builder.ec2.clone();
        let name = run.ledger.run().to_owned();
        let keys = Self::keys(run.ledger.folder()).await?;
        let created = Created::Ec2 { region: self.region.clone(), run: name.clone() };
        run.ledger.intend(created).map_err(failed("write the ledger"))?;
        let groups = match settings.security_groups.as_slice() {
            [] => vec![self.admit(&name, &checked.placement.vpc, &settings, &checked.tags).await?],
            groups => groups.to_vec(),
        };
        let shown = format!("{} ({})", order.origin.id, order.origin.name);
        Ok((Prepared { checked, source: order.origin.clone(), settings, groups, keys }, shown))
    }

    async fn launch(&self, prepared: Prepared, run: &mut Run<'_>) -> Result<(Builder, String), Failure> {
        let user_data = prepared.user_data(false)?;
        let launch = Launch {
            ami: &prepared.source,
            placement: &prepared.checked.placement,
            settings: &prepared.settings,
            groups: &prepared.groups,
            user_data: &user_data,
            tags: &prepared.checked.tags,
            token: run.ledger.run(),
        };
        let (running, session, shown) = self.up(&launch, &prepared.keys).await?;
        Ok((Builder { running, session, prepared: Rc::new(prepared) }, shown))
    }

    fn session(&self, builder: &Builder) -> SshSession {
        builder.session.clone()
    }

    async fn seal(
        &self,
        builder: Builder,
        gate: Vec<u8>,
        _: &mut Run<'_>,
    ) -> Result<(Sealed, SealReport), Failure> {
        let Builder { running, session, prepared } = builder;
        let packages = packages(&session).await?;
        let mut text = String::new();
        // What is on the disk when it is clean is what the volume has: nothing shuts down in order after this.
        let argv =
            ["sh", "-c", "\"$1\" seal --root=/ --gate --format=json; code=$?; sync; exit $code", "sh", AGENT];
        let ended = session.run(&argv, Input::Bytes(gate), &mut |line| text += line).await;
        let report = SealReport::read(&text, &ended.map_err(failed("seal the builder"))?)?;
        match report.leaks.as_slice() {
            [] if prepared.settings.quiesce || !running.stops => freeze(&session).await?,
            [] => self.stop(&running.id).await?,
            _ => {}
        }
        Ok((Sealed { running, prepared, packages }, report))
    }

    async fn snapshot(
        &self,
        sealed: Sealed,
        order: &Order<'_, SourceAmi>,
        run: &mut Run<'_>,
    ) -> Result<(Kept<Image>, String), Failure> {
        let Sealed { running, prepared, packages } = sealed;
        let name = &prepared.checked.name;
        let mut wanted = order.image.publish.ec2.tags.clone();
        wanted.insert(tags::INPUT_DIGEST.into(), order.input_digest.clone());
        wanted.insert("Name".into(), name.clone());
        let tags = prepared.checked.tags.with(wanted);
        let (run, volumes) = (run.ledger.run(), &running.volumes);
        let begun = volumes.iter().map(|(_, volume)| self.begin_snapshot(volume, run, &tags));
        let snapshots = try_join_all(begun).await?;
        self.begin_to_end(&running.id).await;
        try_join_all(snapshots.iter().map(|snapshot| self.until_complete(snapshot))).await?;
        let (source, settings) = (&prepared.source, &prepared.settings);
        let parts = volumes.iter().zip(&snapshots).map(|((device, _), snapshot)| {
            let volume = settings.volumes.get(device).unwrap_or(&settings.volume);
            (device.clone(), volume, snapshot.clone())
        });
        let parts: Vec<_> = parts.collect();
        let id = self.register(name, &order.image.description, source, &parts, &tags).await?;
        let shown = format!("{id} ({name}) of {}, {} packages", snapshots.join(" and "), packages.len());
        let ami = Ami { region: self.region.clone(), id: id.clone(), name: name.clone(), snapshots };
        let source = SourceAmi { id, name: name.clone(), ..source.clone() };
        let artifact = Artifact::Ami(ami.clone());
        Ok((Kept { image: Image { ami, source, tags, prepared }, artifact, packages }, shown))
    }

    async fn boot(
        &self,
        image: &Image,
        order: &Order<'_, SourceAmi>,
        run: &mut Run<'_>,
    ) -> Result<Builder, Failure> {
        let prepared = &image.prepared;
        let token = format!("{}-boot", run.ledger.run());
        let mut user_data = prepared.user_data(order.image.test.is_some())?;
        // The image brings its volumes itself.
        let mut settings = Ec2Builder {
            volumes: BTreeMap::new(),
            scratch_volumes: BTreeMap::new(),
            ..prepared.settings.clone()
        };
        if let Some(test) = &order.image.test {
            user_data = user_data::with_other(&user_data, &test.text);
            settings.instance_profile = test.instance_profile.clone().or(settings.instance_profile);
        }
        let launch = Launch {
            ami: &image.source,
            placement: &prepared.checked.placement,
            settings: &settings,
            groups: &prepared.groups,
            user_data: &user_data,
            tags: &prepared.checked.tags,
            token: &token,
        };
        let (running, session, _) = self.up(&launch, &prepared.keys).await?;
        Ok(Builder { running, session, prepared: Rc::clone(prepared) })
    }

    async fn publish(
        &self,
        image: Image,
        manifest: &mut Manifest,
        order: &Order<'_, SourceAmi>,
        run: &mut Run<'_>,
    ) -> Result<String, Failure> {
        let Image { ami, tags, prepared, .. } = image;
        let settings = &order.image.publish.ec2;
        let volume = &prepared.settings.volume;
        manifest.amis = self.publish_everywhere(&ami, volume, settings, &tags, run).await?;
        manifest.write_as(&place(order)).map_err(failed(format!("write `{}`", place(order).display())))?;
        let amis: Vec<String> =
            manifest.amis.iter().map(|ami| format!("{} in {}", ami.id, ami.region)).collect();
        Ok(amis.join(", "))
    }
}

impl Undo for Ec2 {
    async fn undo(&self, created: &Created) -> Result<(), Failure> {
        match created {
            Created::Ec2 { region, run } => self.in_region(region).undo_run(run).await,
            Created::Path { .. } | Created::ControlGroup { .. } => {
                Err(Failure::new("it is on the machine of a local bake"))
            }
        }
    }
}

impl Ec2 {
    /// An AMI of this region, for a manifest.
    fn record(&self, ami: &SourceAmi) -> SourceRecord {
        SourceRecord::Ami { region: self.region.clone(), id: ami.id.clone(), name: ami.name.clone() }
    }

    /// An image of ours as the source of another.
    async fn as_origin(
        &self,
        ami: &Ami,
        order: &Order<'_, SourceAmi>,
    ) -> Result<Existing<SourceAmi>, Failure> {
        let id = crate::image::AmiSource { id: Some(ami.id.clone()), ..Default::default() };
        let origin = self.resolve(&id, order.arch).await?;
        let record = self.record(&origin);
        Ok(Existing { origin, record, shown: ami.id.clone() })
    }
}

impl Prepared {
    /// What an instance boots with that this run launches; `boots` is whether its agent configures it.
    fn user_data(&self, boots: bool) -> Result<String, Failure> {
        let what = "read the keys of the run";
        let (host, authorized) =
            (self.keys.host().map_err(failed(what))?, self.keys.authorized().map_err(failed(what))?);
        let limit = self.settings.time_limit.0;
        Ok(user_data::cloud_config(&host, &authorized, self.settings.ssh.port, limit, boots))
    }
}

/// Where the manifest of an image on EC2 is.
fn place(order: &Order<'_, SourceAmi>) -> PathBuf {
    Manifest::place(&order.output, &order.image.name, Ec2::NAME)
}
