//! The bodies of all instances, and what calls do to them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::body::{Body, Event, Settings};
use super::call::Call;
use super::disks::{Disks, Tree};
use super::fault::Effect;
use super::server::Server;
use crate::http::Answer;
use crate::metadata::{Instance, Metadata};
use crate::world::World;

/// How long an instance that is to be used may take to come up, or to be gone.
const LIMIT: Duration = Duration::from_mins(2);

/// The bodies, and the world that they are in.
pub(super) struct Bodies {
    pub(super) world: Arc<World>,
    pub(super) metadata: Metadata,
    disks: Disks,
    server: Arc<Server>,
    alive: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    body: Arc<Body>,
    address: String,
    volume: String,
}

/// What the server knows of an instance.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Described {
    id: String,
    region: String,
    zone: String,
    account: String,
    image: String,
    #[serde(rename = "type")]
    kind: String,
    architecture: String,
    state: String,
    address: String,
    public_address: Option<String>,
    user_data: Option<String>,
    public_key: Option<String>,
    key_name: Option<String>,
    role: Option<String>,
    root_volume: Option<String>,
    tokens_required: bool,
    hop_limit: u32,
    metadata: bool,
    metadata_tags: bool,
    tags: BTreeMap<String, String>,
}

impl Bodies {
    pub(super) fn new(server: Arc<Server>) -> io::Result<Self> {
        let world = World::new()?;
        let metadata = Metadata::without_instances(&world)?;
        Ok(Self { world: Arc::new(world), metadata, disks: Disks::new()?, server, alive: Mutex::default() })
    }

    /// From now on instances of an image start from a disk.
    pub(super) fn seed(&self, image: &Json, disk: &Path) {
        for snapshot in image["snapshots"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            self.disks.put(snapshot, disk);
        }
    }

    /// The instance of an address.
    pub(super) fn at(&self, address: &str) -> Option<String> {
        self.alive().iter().find(|(_, known)| known.address == address).map(|(id, _)| id.clone())
    }

    /// The body of an instance.
    pub(super) fn of(&self, instance: &str) -> io::Result<Arc<Body>> {
        let known = self.alive().get(instance).map(|known| Arc::clone(&known.body));
        known.ok_or_else(|| io::Error::other(format!("{instance} has no body")))
    }

    /// What is on the disk of an image.
    pub(super) fn tree(&self, image: &str) -> io::Result<Tree> {
        Tree::of(&self.disks.of(&self.snapshot_of(image)?))
    }

    /// Does to bodies what a call that succeeded says.
    pub(super) fn follow(
        self: &Arc<Self>,
        call: &Call,
        answer: &Answer,
        effects: &[Effect],
    ) -> io::Result<()> {
        let named = || call.parameters.iter().filter(|(name, _)| name.starts_with("InstanceId."));
        let bodies = || named().filter_map(|(_, id)| self.of(id).ok());
        match call.action.as_str() {
            "RunInstances" => {
                for id in ids(&answer.body, "i-") {
                    if self.of(&id).is_err() {
                        self.launch(&id, effects)?;
                    }
                }
            }
            "StartInstances" => {
                for (_, id) in named() {
                    if self.of(id).is_ok_and(|body| body.wait_until_over(Duration::ZERO)) {
                        self.start(&self.describe(id)?, None)?;
                    }
                }
            }
            "StopInstances" if call.says("SkipOsShutdown") => bodies().for_each(|body| body.kill()),
            "StopInstances" => bodies().for_each(|body| body.power_off()),
            "RebootInstances" => bodies().for_each(|body| body.reboot()),
            "TerminateInstances" => {
                for body in bodies() {
                    body.kill();
                }
                named().for_each(|(_, id)| self.gone(id));
            }
            "CreateSnapshot" | "CreateSnapshots" => {
                for snapshot in ids(&answer.body, "snap-") {
                    self.keep(&snapshot)?;
                }
            }
            "CreateImage" => {
                for image in ids(&answer.body, "ami-") {
                    self.keep(&self.snapshot_of(&image)?)?;
                }
                let body = self.of(call.parameter("InstanceId"));
                if let Ok(body) = body
                    && !call.says("NoReboot")
                {
                    body.reboot();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Kills all of them, waits until they are gone, and removes every disk that was made here.
    pub(super) fn end(&self) {
        let bodies: Vec<_> = std::mem::take(&mut *self.alive()).into_values().collect();
        for known in &bodies {
            known.body.kill();
        }
        for known in &bodies {
            known.body.wait_until_over(LIMIT);
            self.metadata.remove(&known.address);
        }
        self.disks.clear();
    }

    fn launch(self: &Arc<Self>, id: &str, effects: &[Effect]) -> io::Result<()> {
        let instance = self.describe(id)?;
        let volume = instance.root_volume.as_deref().unwrap_or_default();
        let image = self.server.ask("describe_image", &json!({ "id": instance.image }))?;
        let mut snapshots = image["snapshots"].as_array().into_iter().flatten().filter_map(Json::as_str);
        let snapshot = snapshots.find(|snapshot| self.disks.of(snapshot).exists());
        let snapshot = snapshot.ok_or_else(|| io::Error::other(format!("{} has no disk", instance.image)))?;
        self.disks.copy(snapshot, volume)?;
        let room = effects.iter().find_map(|effect| match effect {
            Effect::DiskFull(room) => Some(*room),
            _ => None,
        });
        let body = self.start(&instance, room)?;
        // Who ended it meanwhile did not find its body.
        if !["pending", "running"].contains(&self.describe(id)?.state.as_str()) {
            body.kill();
            self.gone(id);
            return Ok(());
        }
        let dies = effects.iter().find_map(|effect| match effect {
            Effect::Dies(after) => Some(*after),
            _ => None,
        });
        if let Some(after) = dies {
            thread::spawn(move || {
                thread::sleep(after);
                body.die();
            });
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, instance: &Described, room: Option<u64>) -> io::Result<Arc<Body>> {
        let volume = instance.root_volume.clone().unwrap_or_default();
        let number = instance.address.rsplit('.').next().and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| io::Error::other(format!("{} is no address", instance.address)))?;
        if instance.metadata {
            self.metadata.put(instance.metadata());
        }
        let settings = Settings { id: instance.id.clone(), number, disk: self.disks.of(&volume), room };
        let (server, id) = (Arc::clone(&self.server), instance.id.clone());
        // Under the lock, so that nobody asks for a body that is not known yet.
        let mut alive = self.alive();
        let body = Body::start(settings, Arc::clone(&self.world), move |event| {
            let event = match event {
                Event::Booted => "booted",
                Event::Off => "off",
                Event::Shutdown => "shutdown",
                Event::Died => "died",
            };
            // The cloud may have ended meanwhile.
            let _ = server.ask("tell", &json!({ "id": id, "event": event }));
        })?;
        let known = Known { body: Arc::clone(&body), address: instance.address.clone(), volume };
        alive.insert(instance.id.clone(), known);
        let console = json!({ "id": instance.id, "event": "console", "detail": body.console() });
        self.server.ask("tell", &console)?;
        Ok(body)
    }

    /// Forgets an instance when it is gone.
    fn gone(self: &Arc<Self>, id: &str) {
        let Some(known) = self.alive().get(id).cloned() else { return };
        let (own, id) = (Arc::clone(self), id.to_owned());
        thread::spawn(move || {
            known.body.wait_until_over(LIMIT);
            own.alive().remove(&id);
            own.metadata.remove(&known.address);
            own.disks.remove(&known.volume);
        });
    }

    /// Keeps the disk that a snapshot is of, as it is now.
    fn keep(&self, snapshot: &str) -> io::Result<()> {
        let described = self.server.ask("snapshot", &json!({ "id": snapshot }))?;
        let volume = described["volume"].as_str().unwrap_or_default();
        let body =
            self.alive().values().find(|known| known.volume == volume).map(|known| Arc::clone(&known.body));
        match body {
            Some(body) => body.frozen(|| self.disks.copy(volume, snapshot)),
            // A volume that is no root volume has no disk.
            None => Ok(()),
        }
    }

    /// The snapshot of an image's root volume that has a disk.
    fn snapshot_of(&self, image: &str) -> io::Result<String> {
        let image = self.server.ask("describe_image", &json!({ "id": image }))?;
        let snapshots: Vec<&str> =
            image["snapshots"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let kept = snapshots.iter().find(|snapshot| self.disks.of(snapshot).exists());
        let snapshot =
            kept.or(snapshots.first()).ok_or_else(|| io::Error::other("the image has no snapshot"))?;
        Ok((*snapshot).to_owned())
    }

    pub(super) fn wait_until_booted(&self, instance: &str) -> io::Result<Arc<Body>> {
        let body = self.of(instance)?;
        if body.wait_until_booted(LIMIT) {
            return Ok(body);
        }
        Err(io::Error::other(format!("{instance} did not come up: {}", body.last_words())))
    }

    /// Waits until instances that are on their way to be gone are gone.
    pub(super) fn settle(&self) {
        let until = Instant::now() + LIMIT;
        loop {
            let going = self.alive().keys().cloned().collect::<Vec<_>>();
            let going =
                going.iter().any(|id| self.describe(id).is_ok_and(|found| found.state == "shutting-down"));
            if !going || Instant::now() > until {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn describe(&self, id: &str) -> io::Result<Described> {
        let described = self.server.ask("describe_instance", &json!({ "id": id }))?;
        serde_json::from_value(described).map_err(io::Error::other)
    }

    fn alive(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Described {
    /// What its metadata service tells.
    fn metadata(&self) -> Instance {
        let mut instance = Instance::new(&self.address, "");
        instance.id.clone_from(&self.id);
        instance.user_data = None;
        instance.role.clone_from(&self.role);
        instance.tokens_required = self.tokens_required;
        instance.hop_limit = self.hop_limit;
        instance.image.clone_from(&self.image);
        instance.kind.clone_from(&self.kind);
        instance.architecture.clone_from(&self.architecture);
        instance.region.clone_from(&self.region);
        instance.zone.clone_from(&self.zone);
        instance.account.clone_from(&self.account);
        instance.pages = self.pages();
        instance
    }

    fn pages(&self) -> BTreeMap<String, Vec<u8>> {
        let mut pages = BTreeMap::new();
        let mut put =
            |path: &str, page: &str| pages.insert(format!("/latest{path}"), page.as_bytes().to_vec());
        let mut list = vec![
            "ami-id",
            "hostname",
            "instance-id",
            "instance-type",
            "local-hostname",
            "local-ipv4",
            "mac",
            "placement/",
        ];
        if let Some(address) = &self.public_address {
            list.push("public-ipv4");
            put("/meta-data/public-ipv4", address);
        }
        if let (Some(key), Some(name)) = (&self.public_key, &self.key_name) {
            list.push("public-keys/");
            put("/meta-data/public-keys", &format!("0={name}"));
            put("/meta-data/public-keys/0", "openssh-key");
            put("/meta-data/public-keys/0/openssh-key", key);
        }
        if self.role.is_some() {
            list.push("iam/");
        }
        if self.metadata_tags {
            list.push("tags/");
            put("/meta-data/tags", "instance/");
            put("/meta-data/tags/instance", &self.tags.keys().cloned().collect::<Vec<_>>().join("\n"));
            for (key, value) in &self.tags {
                put(&format!("/meta-data/tags/instance/{key}"), value);
            }
        }
        put("/meta-data", &list.join("\n"));
        if let Some(data) = &self.user_data {
            // A character is a byte.
            let bytes = data.chars().filter_map(|byte| u8::try_from(u32::from(byte)).ok()).collect();
            pages.insert("/latest/user-data".into(), bytes);
        }
        pages
    }
}

/// The ids of a kind in an answer, each once.
pub(super) fn ids(body: &str, prefix: &str) -> Vec<String> {
    let texts = body.split('>').filter_map(|part| part.split('<').next());
    let mut found: Vec<String> = Vec::new();
    for text in texts {
        let is_id =
            text.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_id && !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    }
    found
}
