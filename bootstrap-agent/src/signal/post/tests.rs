//! What becomes of messages, with a stand-in for the metadata service and AWS.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::signal::message::{Outcome, of_test, seconds};

/// The metadata service and AWS in one: answers to calls are scripted, then each is taken.
pub(crate) struct Service {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answers: VecDeque<(u16, String)>,
    asked: Vec<Asked>,
    date: Option<&'static str>,
}

/// A call.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

const IDENTITY: &str = r#"{"instanceId":"i-0123456789abcdef0","region":"us-east-1","availabilityZone":"us-east-1a","instanceType":"m7g.large","imageId":"ami-0123456789abcdef0","accountId":"111122223333","privateIp":"10.0.0.1"}"#;
const CREDENTIALS: &str = r#"{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","Token":"example-session-token","Expiration":"2036-11-22T16:00:00Z"}"#;

impl Service {
    pub(crate) async fn new(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Mutex::new(Shared { answers: answers.into(), ..Shared::default() }));
        let own = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                let mut buffer = [0; 4096];
                loop {
                    let count = stream.read(&mut buffer).await.unwrap_or(0);
                    text += &String::from_utf8_lossy(&buffer[..count]);
                    if count == 0 || is_whole(&text) {
                        break;
                    }
                }
                let (status, body, date) = answer(&own, &text);
                let length = body.len();
                let date = date.map_or_else(String::new, |date| format!("Date: {date}\r\n"));
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{date}Connection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { url, shared }
    }

    pub(crate) fn date(&mut self, date: &'static str) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).date = Some(date);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    fn bodies(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.body).collect()
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(shared: &Mutex<Shared>, text: &str) -> (u16, String, Option<&'static str>) {
    let line = text.lines().next().unwrap_or_default();
    let date = shared.lock().unwrap_or_else(PoisonError::into_inner).date;
    let metadata = |body: &str| (200, body.to_owned(), date);
    if line.starts_with("PUT /latest/api/token") {
        return metadata("the-token");
    }
    if line.starts_with("GET ") {
        let pages = [
            ("/document ", IDENTITY),
            ("/security-credentials/ ", "web"),
            ("/security-credentials/web ", CREDENTIALS),
            ("/aws:autoscaling:groupName ", "web-group"),
        ];
        let page = pages.iter().find(|(end, _)| line.contains(end));
        return page.map_or((404, String::new(), None), |(_, page)| metadata(page));
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.asked.push(Asked { headers, body: body.to_owned() });
    let (status, body) = shared.answers.pop_front().unwrap_or((200, String::new()));
    (status, body, shared.date)
}

pub(crate) fn account(url: &str) -> Account {
    let metadata = Arc::new(Metadata::new(Some(url), Duration::from_secs(1)));
    let role = InstanceRole::new(metadata);
    Account { region: "us-east-1".into(), endpoint_url: Some(url.into()), dual_stack: false, role }
}

struct World {
    _folder: TempDir,
    post: Post,
    is_off: Arc<AtomicBool>,
}

fn world(metadata: &str) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let metadata = Arc::new(Metadata::new(Some(metadata), Duration::from_millis(100)));
    let is_off = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_off);
    let post = Post {
        outbox: Outbox::below(folder.path()),
        role: InstanceRole::new(Arc::clone(&metadata)),
        metadata,
        proxies: BTreeMap::new(),
        boot_id: "boot-1".into(),
        power_off: Box::new(move || {
            switch.store(true, Ordering::SeqCst);
            Ok(())
        }),
    };
    World { _folder: folder, post, is_off }
}

fn failed() -> Outcome {
    Outcome::Failed { step: "fetch".into() }
}

fn hook() -> Recipient {
    Recipient::AutoScaling { hook: "launch".into(), group: None, heartbeat: 300 }
}

fn error(code: &str, message: &str) -> (u16, String) {
    let text = format!(
        "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    );
    (400, text)
}

impl World {
    fn put(&self, service: &Service, to: Recipient, result: Outcome) {
        let message = Message { endpoint_url: Some(service.url.clone()), ..of_test(to, result) };
        self.post.outbox.put(&message).expect("written");
    }

    async fn pass(&self) -> Pass {
        self.post.pass(Instant::now()).await.expect("the outbox is there")
    }
}

#[tokio::test]
async fn everybody_is_told_once_in_their_own_words() {
    let service = Service::new(vec![]).await;
    let world = world(&service.url);
    world.put(&service, hook(), Outcome::Up);
    world.put(&service, Recipient::InstanceHealth, failed());
    let stack = Recipient::Cloudformation { stack: Some("web".into()), resource: Some("Group".into()) };
    world.put(&service, stack, failed());
    world.put(&service, Recipient::Tag { key: "bootstrap".into() }, failed());
    let pass = world.post.deliver(Duration::ZERO).await.expect("delivered");
    assert_eq!(
        pass.told,
        [
            "auto_scaling: CONTINUE",
            "cloudformation: FAILURE",
            "instance_health: Unhealthy",
            "tag: failed at fetch"
        ]
    );
    insta::assert_snapshot!(service.bodies().join("\n"), @"
    Action=CompleteLifecycleAction&Version=2011-01-01&AutoScalingGroupName=web-group&LifecycleHookName=launch&InstanceId=i-0123456789abcdef0&LifecycleActionResult=CONTINUE
    Action=SignalResource&Version=2010-05-15&StackName=web&LogicalResourceId=Group&UniqueId=i-0123456789abcdef0&Status=FAILURE
    Action=SetInstanceHealth&Version=2011-01-01&InstanceId=i-0123456789abcdef0&HealthStatus=Unhealthy
    Action=CreateTags&Version=2016-11-15&ResourceId.1=i-0123456789abcdef0&Tag.1.Key=bootstrap&Tag.1.Value=failed+at+fetch
    ");
    assert_eq!(world.pass().await, Pass::default(), "nothing is left");
}

#[tokio::test]
async fn nobody_who_waits_is_as_good_as_told() {
    let service = Service::new(vec![
        error("ValidationError", "No active Lifecycle Action found with instance ID i-0123456789abcdef0"),
        error("ValidationError", "Stack:web is in CREATE_COMPLETE state and cannot be signaled"),
    ])
    .await;
    let world = world(&service.url);
    world.put(&service, hook(), Outcome::Up);
    let stack = Recipient::Cloudformation { stack: Some("web".into()), resource: Some("Group".into()) };
    world.put(&service, stack, Outcome::Up);
    let pass = world.pass().await;
    assert_eq!(
        pass.told,
        [
            "auto_scaling: nobody waits for it: No active Lifecycle Action found with instance ID i-0123456789abcdef0",
            "cloudformation: nobody waits for it: Stack:web is in CREATE_COMPLETE state and cannot be signaled",
        ]
    );
    assert_eq!(world.post.outbox.waiting().expect("readable"), []);
}

#[tokio::test]
async fn what_could_not_be_told_waits_on_the_disk_with_the_reason() {
    let service =
        Service::new(vec![error("AccessDenied", "not yours"), error("Throttling", "slow down")]).await;
    let world = world(&service.url);
    world.put(&service, hook(), failed());
    let pass = world.pass().await;
    assert_eq!(pass.failed, ["auto_scaling is not told yet: AccessDenied: not yours"]);
    assert!(!pass.may_pass, "somebody has to allow it");
    let waiting = world.post.outbox.waiting().expect("readable");
    assert_eq!((waiting[0].tries, waiting[0].last_error.as_deref()), (1, Some("AccessDenied: not yours")));
    let pass = world.post.deliver(Duration::from_secs(20)).await.expect("delivered");
    assert_eq!(pass.told, ["auto_scaling: ABANDON"], "throttling is waited for");
    let told = world.post.outbox.told().expect("readable");
    assert_eq!((told[0].tries, told[0].answer.as_deref()), (2, Some("ABANDON")));
}

#[tokio::test]
async fn what_a_cloned_disk_brings_along_is_not_told() {
    let service = Service::new(vec![]).await;
    let world = world(&service.url);
    let other = of_test(hook(), failed());
    let other = Message { instance_id: Some("i-0fedcba9876543210".into()), ..other };
    world.post.outbox.put(&other).expect("written");
    let nameless = of_test(Recipient::InstanceHealth, failed());
    let nameless = Message { instance_id: None, boot_id: "boot-0".into(), ..nameless };
    world.post.outbox.put(&nameless).expect("written");
    let off = Message { boot_id: "boot-0".into(), ..of_test(Recipient::PowerOff, failed()) };
    world.post.outbox.put(&off).expect("written");
    assert_eq!(world.pass().await, Pass::default());
    assert_eq!(world.post.outbox.waiting().expect("readable"), []);
    assert_eq!(service.bodies(), Vec::<String>::new());
    assert!(!world.is_off.load(Ordering::SeqCst));
}

#[tokio::test]
async fn without_metadata_a_message_waits() {
    let service = Service::new(vec![]).await;
    let world = world("http://127.0.0.1:1");
    world.put(&service, hook(), failed());
    let pass = world.pass().await;
    assert!(pass.may_pass && pass.failed[0].contains("metadata service did not tell"), "{pass:?}");
    assert_eq!(world.post.outbox.waiting().expect("readable").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_power_goes_last_and_does_not_wait_for_ever() {
    let service = Service::new(vec![error("AccessDenied", "no"), error("AccessDenied", "no")]).await;
    let world = world(&service.url);
    world.put(&service, Recipient::PowerOff, failed());
    world.put(&service, Recipient::Tag { key: "bootstrap".into() }, failed());
    let began = Instant::now();
    assert_eq!(world.post.pass(began).await.expect("passed").told, Vec::<String>::new());
    assert!(!world.is_off.load(Ordering::SeqCst), "somebody is still to be told");
    tokio::time::advance(POWER_OFF_PATIENCE).await;
    assert_eq!(world.post.pass(began).await.expect("passed").told, ["power_off: poweroff"]);
    assert!(world.is_off.load(Ordering::SeqCst));
    let waiting = world.post.outbox.waiting().expect("readable");
    assert_eq!(waiting.iter().map(|message| message.to.key()).collect::<Vec<_>>(), ["tag"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_held_says_that_it_still_works() {
    let service = Service::new(vec![]).await;
    let world = world(&service.url);
    let now = seconds(SystemTime::now());
    let held = Message {
        endpoint_url: Some(service.url.clone()),
        written: now,
        held: 3600,
        ..of_test(hook(), failed())
    };
    world.post.outbox.put(&held).expect("written");
    // Real time stands still, so that what is held back stays so.
    let told = tokio::time::timeout(Duration::from_mins(11), world.post.deliver_all(|_| {})).await;
    assert!(told.is_err(), "it goes on");
    let beats = service.bodies();
    assert_eq!(beats.len(), 3, "{beats:?}");
    assert!(beats[0].starts_with("Action=RecordLifecycleActionHeartbeat&"), "{beats:?}");
}
