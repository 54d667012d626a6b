//! The cloud as a test has it.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::bodies::Bodies;
use super::call::Call;
use super::disks::Tree;
use super::fault::{Effect, On};
use super::proxy::Proxy;
use super::server::Server;
use crate::host::inside;
use crate::http::{Answer, Request};
use crate::metadata::Metadata;
use crate::world::{GATEWAY, World};

/// The region that clients are told to be in.
const REGION: &str = "us-east-1";

/// Who owns what [`Cloud::source_ami`] makes: Debian.
const OWNER: &str = "136693071363";

/// The port in a world.
const PORT: u16 = 4566;

/// What kind of cloud it is.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether instances are hosts that run. Needs root.
    pub bodies: bool,
    /// How long everything takes.
    pub times: Times,
    /// Whether time stands still but for this much at each call: then waiting takes calls, not time.
    pub step: Option<Duration>,
}

/// How long it takes from a call to what it leads to. Nothing takes time if not said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// An instance is running.
    pub running: Duration,
    /// The status checks of a running instance have passed. With bodies also its systemd must be up.
    pub status: Duration,
    /// An instance is stopped. With bodies no sooner than it is off.
    pub stopped: Duration,
    /// An instance is terminated. With bodies no sooner than it is off.
    pub terminated: Duration,
    /// A snapshot is completed.
    pub snapshot: Duration,
    /// An image is available; after its snapshots, if the same call made them.
    pub image: Duration,
    /// A copy of a snapshot or an image is done.
    pub copy: Duration,
}

/// Something that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Left {
    /// Its region.
    pub region: String,
    /// `instance`, `volume`, `snapshot`, `image`, `security group`, `key pair`, `network interface`,
    /// `launch template` or `parameter`.
    pub kind: String,
    /// Its id, or its name if that is what it is known by.
    pub id: String,
    /// Its state, or its value if it is a parameter.
    pub state: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A cloud, for as long as this exists. Everything in it ends with it, or with the test.
pub struct Cloud {
    proxy: Arc<Proxy>,
    address: String,
    /// What was there before.
    remembered: Mutex<Vec<Left>>,
    _folder: TempDir,
}

impl Cloud {
    /// A new one, in which nothing is.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn start(options: &Options) -> io::Result<Self> {
        let folder = TempDir::with_prefix("cloud-")?;
        let server = Arc::new(Server::start(folder.path())?);
        let bodies = if options.bodies { Some(Arc::new(Bodies::new(Arc::clone(&server))?)) } else { None };
        let listener = match &bodies {
            Some(bodies) => bodies.world.within(|| TcpListener::bind((GATEWAY, PORT)))?,
            None => TcpListener::bind(("127.0.0.1", 0))?,
        };
        let address = listener.local_addr()?.to_string();
        let proxy = Arc::new(Proxy::new(server, bodies));
        let cloud = Self { proxy, address, remembered: Mutex::default(), _folder: folder };
        cloud.set_times(options.times)?;
        cloud.ask(
            "configure",
            &json!({ "bodies": options.bodies, "step": options.step.map(|step| step.as_secs_f64()) }),
        )?;
        cloud.proxy.serve(listener);
        Ok(cloud)
    }

    /// Everything takes that long from now on.
    ///
    /// # Errors
    /// When moto is gone.
    pub fn set_times(&self, times: Times) -> io::Result<()> {
        let times = [
            ("running", times.running),
            ("status", times.status),
            ("stopped", times.stopped),
            ("terminated", times.terminated),
            ("snapshot", times.snapshot),
            ("image", times.image),
            ("copy", times.copy),
        ];
        let times: BTreeMap<_, _> =
            times.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect();
        self.ask("configure", &json!({ "times": times })).map(drop)
    }

    /// Where clients find it: `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The variables that lead a client of AWS here, and nowhere else.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", REGION.into()),
            ("AWS_DEFAULT_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".into()),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_CONFIG_FILE", "/nonexistent".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent".into()),
        ]
    }

    /// Starts a client with these variables, from where it reaches the cloud and its instances.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.envs(self.environment());
        self.within(|| command.spawn())
    }

    /// Runs a client to its end, the same way.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, command: &mut Command) -> io::Result<Output> {
        command.envs(self.environment());
        self.within(|| command.output())
    }

    /// Does something from where the cloud and its instances are reached.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.proxy.bodies {
            Some(bodies) => bodies.world.within(work),
            None => work(),
        }
    }

    /// The network that instances with bodies are in.
    pub fn world(&self) -> Option<&World> {
        self.proxy.bodies.as_ref().map(|bodies| &*bodies.world)
    }

    /// The metadata service of instances with bodies.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.proxy.bodies.as_ref().map(|bodies| &bodies.metadata)
    }

    /// Puts a public image of Debian's account into the region, which has a disk ([`super::debian`]) if instances
    /// have bodies, and returns its id. It is nobody's that could be left behind.
    ///
    /// # Errors
    /// When moto refuses it.
    pub fn source_ami(&self, name: &str, disk: Option<&Path>) -> io::Result<String> {
        self.source_ami_with(json!({ "name": name }), disk)
    }

    /// The same with more said: `region`, `owner`, `architecture`, `boot_mode`, `root_device_name`, `size` (GiB),
    /// `created` (a time, RFC 3339), `description`.
    ///
    /// # Errors
    /// When moto refuses it.
    pub fn source_ami_with(&self, said: Json, disk: Option<&Path>) -> io::Result<String> {
        let mut image = json!({
            "region": REGION, "owner": OWNER, "architecture": "x86_64", "root_device_name": "/dev/xvda", "size": 8,
        });
        if let (Some(image), Json::Object(said)) = (image.as_object_mut(), said) {
            image.extend(said);
        }
        let image = self.ask("seed_image", &image)?;
        if let (Some(bodies), Some(disk)) = (&self.proxy.bodies, disk) {
            bodies.seed(&image, disk);
        }
        Ok(image["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes a call as somebody else would: it is not remembered, and no fault happens at it. Parameters as the Query
    /// API has them, such as `InstanceId.1`. Instances that are launched so have no bodies.
    ///
    /// # Errors
    /// When it is answered with an error.
    pub fn call(&self, region: &str, action: &str, parameters: &[(&str, &str)]) -> io::Result<Answer> {
        let service = "ec2";
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", "2016-11-15")
            .extend_pairs(parameters)
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.proxy.server.forward(&signed(service, region, &headers, form.into_bytes()))?;
        good(action, answer)
    }

    /// The same of a service that takes JSON, such as `ssm` and `AmazonSSM.PutParameter`.
    ///
    /// # Errors
    /// When it is answered with an error.
    pub fn call_json(&self, service: &str, target: &str, body: &Json) -> io::Result<Json> {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let request = signed(service, REGION, &headers, body.to_string().into_bytes());
        let answer = good(target, self.proxy.server.forward(&request)?)?;
        serde_json::from_str(&answer.body).map_err(io::Error::other)
    }

    /// Makes a role with an instance profile of the same name.
    ///
    /// # Errors
    /// When moto refuses it.
    pub fn instance_profile(&self, name: &str) -> io::Result<()> {
        let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
        for (action, more) in [
            ("CreateRole", vec![("RoleName", name), ("AssumeRolePolicyDocument", policy)]),
            ("CreateInstanceProfile", vec![("InstanceProfileName", name)]),
            ("AddRoleToInstanceProfile", vec![("InstanceProfileName", name), ("RoleName", name)]),
        ] {
            let form = form_urlencoded::Serializer::new(String::new())
                .append_pair("Action", action)
                .append_pair("Version", "2010-05-08")
                .extend_pairs(more)
                .finish();
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            let request = signed("iam", REGION, &headers, form.into_bytes());
            good(action, self.proxy.server.forward(&request)?)?;
        }
        Ok(())
    }

    /// Sets a quota of the account.
    ///
    /// # Errors
    /// When the cloud does not answer.
    pub fn quota(&self, code: &str, value: u32) -> io::Result<()> {
        self.proxy.server.ask("quota", &json!({ "code": code, "value": value })).map(drop)
    }

    /// Has IAM's simulation say that an action is not allowed.
    ///
    /// # Errors
    /// When the cloud does not answer.
    pub fn deny(&self, action: &str) -> io::Result<()> {
        self.proxy.server.ask("deny", &json!({ "action": action })).map(drop)
    }

    /// Something happens at calls from now on.
    pub fn fault(&self, on: On, effect: Effect) {
        self.proxy.faults.add(on, effect);
    }

    /// Nothing happens at calls any more.
    pub fn clear_faults(&self) {
        self.proxy.faults.clear();
    }

    /// The clock of the cloud is ahead of this machine's by so many seconds, or behind.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.proxy.ahead.store(seconds, Ordering::Relaxed);
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.proxy.calls()
    }

    /// What is there now is somebody else's, or was there before.
    ///
    /// # Errors
    /// When moto is gone.
    pub fn remember(&self) -> io::Result<()> {
        let inventory = self.inventory()?;
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = inventory;
        Ok(())
    }

    /// What is there, in any region, that was not there when it was remembered. Instances that are about to be gone are
    /// not there any more.
    ///
    /// # Errors
    /// When moto is gone.
    pub fn left(&self) -> io::Result<Vec<Left>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = |left: &Left| remembered.iter().any(|other| other.is(left));
        Ok(self.inventory()?.into_iter().filter(|left| !known(left)).collect())
    }

    /// What was there when it was remembered, and is not as it was: gone, in another state, with other tags.
    ///
    /// # Errors
    /// When moto is gone.
    pub fn lost(&self) -> io::Result<Vec<Left>> {
        let inventory = self.inventory()?;
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(remembered.into_iter().filter(|left| !inventory.contains(left)).collect())
    }

    /// Forgets everything: resources, calls, faults and clock, and makes an end of all bodies. Delays and disks of
    /// source images stay; the images have to be put in anew.
    ///
    /// # Errors
    /// When moto is gone.
    pub fn reset(&self) -> io::Result<()> {
        if let Some(bodies) = &self.proxy.bodies {
            bodies.end();
        }
        self.clear_faults();
        self.set_clock_ahead(0);
        self.ask("reset", &json!({}))?;
        self.proxy.forget();
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Waits until an instance with a body is up: its systemd has started everything, cloud-init included.
    ///
    /// # Errors
    /// When it does not come up; with its console.
    pub fn wait_until_booted(&self, instance: &str) -> io::Result<()> {
        self.bodies()?.wait_until_booted(instance).map(drop)
    }

    /// Runs a program in an instance with a body, as root.
    ///
    /// # Errors
    /// When the instance does not run.
    pub fn run(&self, instance: &str, argv: &[&str]) -> io::Result<Output> {
        let body = self.bodies()?.of(instance)?;
        let leader = body.leader().ok_or_else(|| io::Error::other(format!("{instance} does not run")))?;
        inside(leader, argv).output()
    }

    /// What an instance with a body has said on its console.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn console(&self, instance: &str) -> io::Result<String> {
        let console = std::fs::read(self.bodies()?.of(instance)?.console())?;
        Ok(String::from_utf8_lossy(&console).into_owned())
    }

    /// What is on the root disk of an image that an instance with a body became.
    ///
    /// # Errors
    /// When the image has no disk.
    pub fn image_tree(&self, image: &str) -> io::Result<Tree> {
        self.bodies()?.tree(image)
    }

    fn bodies(&self) -> io::Result<&Arc<Bodies>> {
        self.proxy.bodies.as_ref().ok_or_else(|| io::Error::other("instances have no bodies in this cloud"))
    }

    fn inventory(&self) -> io::Result<Vec<Left>> {
        if let Some(bodies) = &self.proxy.bodies {
            bodies.settle();
        }
        let inventory: Vec<Left> =
            serde_json::from_value(self.ask("inventory", &json!({}))?).map_err(io::Error::other)?;
        // They go by themselves.
        let going = |left: &Left| left.kind == "instance" && left.state.as_deref() == Some("shutting-down");
        Ok(inventory.into_iter().filter(|left| !going(left)).collect())
    }

    fn ask(&self, verb: &str, body: &Json) -> io::Result<Json> {
        self.proxy.server.ask(verb, body)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(bodies) = &self.proxy.bodies {
            bodies.end();
        }
    }
}

impl Left {
    /// Whether it is the same thing, in whatever state.
    fn is(&self, other: &Self) -> bool {
        (&self.region, &self.kind, &self.id) == (&other.region, &other.kind, &other.id)
    }
}

/// A request that names its service and region; nobody looks at the signature.
fn signed(service: &str, region: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    );
    let mut headers: BTreeMap<String, String> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.insert("host".into(), format!("{service}.{region}.amazonaws.com"));
    headers.insert("authorization".into(), authorization);
    Request { method: "POST".into(), path: "/".into(), headers, body }
}

fn good(what: &str, answer: Answer) -> io::Result<Answer> {
    match answer.status {
        200..300 => Ok(answer),
        status => Err(io::Error::other(format!("{what} was answered with {status}: {}", answer.body))),
    }
}
