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
            tags: BTreeMap::new(),
        }
    }
}

/// The service of one instance. It ends with the test.
#[derive(Debug, Clone)]
pub struct Metadata {
    instance: Arc<Mutex<Instance>>,
    /// Statuses that the next requests are answered with, whatever they ask for.
    early: Arc<Mutex<VecDeque<u16>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Metadata {
    /// Starts the service in a world.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn start(world: &World, instance: Instance) -> io::Result<Self> {
        let listener = world.within(|| TcpListener::bind((METADATA, 80)))?;
        let metadata =
            Self { instance: Arc::new(Mutex::new(instance)), early: Arc::default(), asked: Arc::default() };
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

    /// Answers the next requests with these statuses, as a service does that is not ready.
    pub fn answer_early(&self, statuses: &[u16]) {
        self.early.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    /// Changes what the service tells from now on.
    pub fn change(&self, change: impl FnOnce(&mut Instance)) {
        change(&mut self.instance.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn serve(&self, stream: &TcpStream) {
        while let Ok(Some(request)) = Request::read(stream) {
            let (status, body) = self.tell(&request);
            let line = format!("{} {}", request.method, request.path);
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            if answer(stream, status, body.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn tell(&self, request: &Request) -> (u16, String) {
        if let Some(status) = self.early.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return (status, String::new());
        }
        if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
            let has_ttl = request.headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds");
            return if has_ttl { (200, TOKEN.into()) } else { (400, String::new()) };
        }
        let instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let token = request.headers.get("x-aws-ec2-metadata-token").map(String::as_str);
        if token != Some(TOKEN) && (token.is_some() || instance.tokens_required) {
            return (401, String::new());
        }
        // Of every version the pages are the same.
        let path = request.path.trim_matches('/').split_once('/').map_or("", |(_, page)| page);
        if let Some(key) = path.strip_prefix("meta-data/tags/instance/") {
            return instance.tags.get(key).map_or((404, String::new()), |tag| (200, tag.clone()));
        }
        pages(&instance)
            .remove(format!("/latest/{path}").trim_end_matches('/'))
            .map_or((404, String::new()), |body| (200, body))
    }
}

/// Every page of an instance, by path. cloud-init reads the tree by the listings of its folders.
fn pages(instance: &Instance) -> BTreeMap<&'static str, String> {
    let mut pages = BTreeMap::from([
        ("/latest", "dynamic\nmeta-data\nuser-data".to_owned()),
        (
            "/latest/meta-data",
            "ami-id\nhostname\niam/\ninstance-id\ninstance-type\nlocal-hostname\nlocal-ipv4\nmac\nplacement/"
                .into(),
        ),
        ("/latest/meta-data/ami-id", "ami-0123456789abcdef0".into()),
        ("/latest/meta-data/hostname", "ip-10-200-0-2.ec2.internal".into()),
        ("/latest/meta-data/local-hostname", "ip-10-200-0-2.ec2.internal".into()),
        ("/latest/meta-data/instance-id", instance.id.clone()),
        ("/latest/meta-data/instance-type", "m7i.large".into()),
        ("/latest/meta-data/local-ipv4", instance.address.clone()),
        ("/latest/meta-data/mac", "06:00:00:00:00:02".into()),
        ("/latest/meta-data/placement", "availability-zone\nregion".into()),
        ("/latest/meta-data/placement/availability-zone", "us-east-1a".into()),
        ("/latest/meta-data/placement/region", "us-east-1".into()),
        ("/latest/dynamic", "instance-identity/".into()),
        ("/latest/dynamic/instance-identity", "document".into()),
        (
            "/latest/dynamic/instance-identity/document",
            json!({
                "accountId": "111122223333", "architecture": "x86_64", "availabilityZone": "us-east-1a",
                "billingProducts": null, "imageId": "ami-0123456789abcdef0", "instanceId": instance.id,
                "instanceType": "m7i.large", "pendingTime": "2026-11-22T10:00:00Z",
                "privateIp": instance.address, "region": "us-east-1", "version": "2017-09-30",
            })
            .to_string(),
        ),
    ]);
    if let Some(user_data) = &instance.user_data {
        pages.insert("/latest/user-data", user_data.clone());
    }
    if let Some(role) = &instance.role {
        pages.insert("/latest/meta-data/iam", "security-credentials/".into());
        pages.insert("/latest/meta-data/iam/security-credentials", role.clone());
        let credentials = json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
            "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "Token": "example-session-token",
            "LastUpdated": "2026-11-22T10:00:00Z", "Expiration": "2036-11-22T16:00:00Z",
        });
        // Every test's role has the same name.
        pages.insert("/latest/meta-data/iam/security-credentials/web", credentials.to_string());
    }
    pages
}
