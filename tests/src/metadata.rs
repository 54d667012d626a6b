//! The instance metadata service, version 2: nothing is told without a token.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::json;

use crate::http::{Request, answer};
use crate::world::{METADATA, World};

const TOKEN: &str = "AQAEAEXAMPLE-token-of-the-metadata-service==";

/// The hops that an answer may make, of those that are limited: one to the instance itself.
const HOPS: u32 = 64;

/// What the service tells.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The id of the instance.
    pub id: String,
    /// Its address.
    pub address: String,
    /// The user-data; none if it was launched without.
    pub user_data: Option<String>,
    /// The name of its role; none if it has none.
    pub role: Option<String>,
    /// Whether nothing is told without a token (`HttpTokens`).
    pub tokens_required: bool,
    /// How many hops an answer with a token makes (`HttpPutResponseHopLimit`).
    pub hop_limit: u32,
    /// Its image.
    pub image: String,
    /// Its type.
    pub kind: String,
    /// Its architecture.
    pub architecture: String,
    /// Its region.
    pub region: String,
    /// Its availability zone.
    pub zone: String,
    /// The account that it is in.
    pub account: String,
    /// More pages, by path, which go before the others.
    pub pages: BTreeMap<String, Vec<u8>>,
    /// The tags that are told (`InstanceMetadataTags`).
    pub tags: BTreeMap<String, String>,
}

impl Instance {
    /// An instance with user-data and a role.
    pub fn new(address: &str, user_data: &str) -> Self {
        Self {
            id: "i-0123456789abcdef0".into(),
            address: address.into(),
            user_data: Some(user_data.into()),
            role: Some("web".into()),
            tokens_required: true,
            hop_limit: HOPS,
            image: "ami-0123456789abcdef0".into(),
            kind: "m7i.large".into(),
            architecture: "x86_64".into(),
            region: "us-east-1".into(),
            zone: "us-east-1a".into(),
            account: "111122223333".into(),
            pages: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// The service, which tells each instance what is its own. It ends with the test.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// By address.
    instances: Arc<Mutex<BTreeMap<String, Instance>>>,
    /// Statuses that the next requests are answered with, whatever they ask for.
    early: Arc<Mutex<VecDeque<u16>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Metadata {
    /// Starts the service in a world, with one instance in it.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn start(world: &World, instance: Instance) -> io::Result<Self> {
        let metadata = Self::without_instances(world)?;
        metadata.put(instance);
        Ok(metadata)
    }

    /// Starts the service in a world.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn without_instances(world: &World) -> io::Result<Self> {
        let listener = world.within(|| TcpListener::bind((METADATA, 80)))?;
        let metadata = Self { instances: Arc::default(), early: Arc::default(), asked: Arc::default() };
        let service = metadata.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = service.clone();
                thread::spawn(move || service.serve(&stream));
            }
        });
        Ok(metadata)
    }

    /// Every request so far, such as `GET /latest/user-data`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells an instance about itself from now on.
    pub fn put(&self, instance: Instance) {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.insert(instance.address.clone(), instance);
    }

    /// Tells nothing any more to the instance of an address.
    pub fn remove(&self, address: &str) {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Answers the next requests with these statuses, as a service does that is not ready.
    pub fn answer_early(&self, statuses: &[u16]) {
        self.early.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    /// Changes what the service tells from now on.
    pub fn change(&self, change: impl FnMut(&mut Instance)) {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).values_mut().for_each(change);
    }

    fn serve(&self, stream: &TcpStream) {
        while let Ok(Some(request)) = Request::read(stream) {
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let instance = self.instances.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
            let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let (status, body) = match (early, instance) {
                (Some(status), _) => (status, Vec::new()),
                (None, Some(instance)) => tell(&instance, &request, stream),
                (None, None) => (404, Vec::new()),
            };
            let line = format!("{} {}", request.method, request.path);
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            if answer(stream, status, &body).is_err() {
                return;
            }
        }
    }
}

fn tell(instance: &Instance, request: &Request, stream: &TcpStream) -> (u16, Vec<u8>) {
    let own = format!("{TOKEN}{}", instance.id);
    if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
        // Somebody asks for somebody else.
        if request.headers.contains_key("x-forwarded-for") {
            return (403, Vec::new());
        }
        let has_ttl = request.headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds");
        // An answer that is to go further does not arrive.
        return match stream.set_ttl(instance.hop_limit) {
            Ok(()) if has_ttl => (200, own.into_bytes()),
            Ok(()) => (400, Vec::new()),
            Err(_) => (500, Vec::new()),
        };
    }
    let token = request.headers.get("x-aws-ec2-metadata-token");
    if token != Some(&own) && (token.is_some() || instance.tokens_required) {
        return (401, Vec::new());
    }
    // Of every version the pages are the same.
    let path = request.path.trim_matches('/').split_once('/').map_or("", |(_, page)| page);
    let path = format!("/latest/{path}");
    let path = path.trim_end_matches('/');
    if let Some(page) = instance.pages.get(path) {
        return (200, page.clone());
    }
    if let Some(key) = path.strip_prefix("/latest/meta-data/tags/instance/") {
        return instance.tags.get(key).map_or((404, Vec::new()), |tag| (200, tag.clone().into_bytes()));
    }
    pages(instance).remove(path).map_or((404, Vec::new()), |page| (200, page.into_bytes()))
}

/// Every page of an instance, by path. cloud-init reads the tree by the listings of its folders.
fn pages(instance: &Instance) -> BTreeMap<String, String> {
    let host_name = format!("ip-{}.ec2.internal", instance.address.replace('.', "-"));
    let mut pages: BTreeMap<String, String> = [
        ("/latest", "dynamic\nmeta-data\nuser-data".to_owned()),
        (
            "/latest/meta-data",
            "ami-id\nhostname\niam/\ninstance-id\ninstance-type\nlocal-hostname\nlocal-ipv4\nmac\nplacement/"
                .into(),
        ),
        ("/latest/meta-data/ami-id", instance.image.clone()),
        ("/latest/meta-data/hostname", host_name.clone()),
        ("/latest/meta-data/local-hostname", host_name),
        ("/latest/meta-data/instance-id", instance.id.clone()),
        ("/latest/meta-data/instance-type", instance.kind.clone()),
        ("/latest/meta-data/local-ipv4", instance.address.clone()),
        ("/latest/meta-data/mac", "06:00:00:00:00:02".into()),
        ("/latest/meta-data/placement", "availability-zone\nregion".into()),
        ("/latest/meta-data/placement/availability-zone", instance.zone.clone()),
        ("/latest/meta-data/placement/region", instance.region.clone()),
        ("/latest/dynamic", "instance-identity/".into()),
        ("/latest/dynamic/instance-identity", "document".into()),
        (
            "/latest/dynamic/instance-identity/document",
            json!({
                "accountId": instance.account, "architecture": instance.architecture,
                "availabilityZone": instance.zone, "billingProducts": null, "imageId": instance.image,
                "instanceId": instance.id, "instanceType": instance.kind,
                "pendingTime": "2026-11-22T10:00:00Z", "privateIp": instance.address,
                "region": instance.region, "version": "2017-09-30",
            })
            .to_string(),
        ),
    ]
    .map(|(path, page)| (path.to_owned(), page))
    .into();
    let mut put = |path: &str, page: String| pages.insert(path.to_owned(), page);
    if let Some(user_data) = &instance.user_data {
        put("/latest/user-data", user_data.clone());
    }
    if let Some(role) = &instance.role {
        put("/latest/meta-data/iam", "security-credentials/".into());
        put("/latest/meta-data/iam/security-credentials", role.clone());
        let credentials = json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
            "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "Token": "example-session-token",
            "LastUpdated": "2026-11-22T10:00:00Z", "Expiration": "2036-11-22T16:00:00Z",
        });
        put(&format!("/latest/meta-data/iam/security-credentials/{role}"), credentials.to_string());
    }
    pages
}
