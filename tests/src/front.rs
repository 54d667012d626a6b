//! What stands before the AWS stand-in: it takes the calls that tell a result, which `moto_server` lacks or
//! knows no waiting for, and passes everything else on.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::aws::Aws;
use crate::http::{Request, answer, ask};
use crate::world::{GATEWAY, World};

const PORT: u16 = 5001;

const HEARTBEAT: &str = "RecordLifecycleActionHeartbeat";

/// The calls that it takes.
const TAKEN: &[&str] =
    &["CompleteLifecycleAction", HEARTBEAT, "SetInstanceHealth", "SignalResource", "CreateTags"];

/// The front. It ends with the test.
#[derive(Debug, Clone, Default)]
pub struct Front(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    told: Vec<BTreeMap<String, String>>,
    refusal: Option<(u16, String)>,
    /// The launches before this one that failed.
    failures: usize,
}

impl Front {
    /// Starts it in a world that has the stand-in.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn start(world: &World) -> io::Result<Self> {
        let listener = world.within(|| TcpListener::bind((GATEWAY, PORT)))?;
        let front = Self::default();
        let service = front.clone();
        // The connections of a thread are in the network that it is in: it is made in the world.
        world.within(|| {
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let service = service.clone();
                    thread::spawn(move || service.serve(&stream));
                }
            });
        });
        Ok(front)
    }

    /// Its URL, as hosts of the world reach it.
    pub fn url() -> String {
        format!("http://{GATEWAY}:{PORT}")
    }

    /// From now on calls that it takes are refused with this status and code; taken again with none.
    pub fn refuse(&self, refusal: Option<(u16, &str)>) {
        self.shared().refusal = refusal.map(|(status, code)| (status, code.to_owned()));
    }

    /// From now on so many launches of the group have failed before this one.
    pub fn launches_failed(&self, failures: usize) {
        self.shared().failures = failures;
    }

    /// What was told so far and not refused: the parameters of each call, with `Action`.
    pub fn told(&self) -> Vec<BTreeMap<String, String>> {
        self.shared().told.clone()
    }

    /// How many heartbeats there were so far.
    pub fn beats(&self) -> usize {
        self.told().iter().filter(|call| call["Action"] == HEARTBEAT).count()
    }

    /// The results that were told so far, such as `CompleteLifecycleAction CONTINUE`.
    pub fn results(&self) -> Vec<String> {
        let result = |call: &BTreeMap<String, String>| {
            let value = ["LifecycleActionResult", "HealthStatus", "Status", "Tag.1.Value"]
                .iter()
                .find_map(|name| call.get(*name).cloned());
            format!("{} {}", call["Action"], value.unwrap_or_default()).trim().to_owned()
        };
        self.told().iter().filter(|call| call["Action"] != HEARTBEAT).map(result).collect()
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) {
        while let Ok(Some(request)) = Request::read(stream) {
            let (status, body) = self.tell(&request);
            if answer(stream, status, body.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn tell(&self, request: &Request) -> (u16, String) {
        let form = form(&String::from_utf8_lossy(&request.body));
        if form.get("Action").is_some_and(|action| action == "DescribeScalingActivities") {
            return (200, activities(self.shared().failures));
        }
        if !form.get("Action").is_some_and(|action| TAKEN.contains(&action.as_str())) {
            return pass_on(request).unwrap_or_else(|error| (502, error.to_string()));
        }
        let mut shared = self.shared();
        if let Some((status, code)) = &shared.refusal {
            let error = format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
            return (*status, error);
        }
        shared.told.push(form);
        (200, String::new())
    }
}

fn activities(failures: usize) -> String {
    let launch = |status: &str| {
        format!(
            "<member><Description>Launching a new EC2 instance: i-1</Description><StatusCode>{status}</StatusCode></member>"
        )
    };
    format!("<Activities>{}{}</Activities>", launch("InProgress"), launch("Cancelled").repeat(failures))
}

fn pass_on(request: &Request) -> io::Result<(u16, String)> {
    let skipped = ["connection", "content-length"];
    let headers = request.headers.iter().filter(|(name, _)| !skipped.contains(&name.as_str()));
    let headers: Vec<(&str, &str)> = headers
        .map(|(name, value)| (if name == "host" { "Host" } else { name.as_str() }, value.as_str()))
        .collect();
    let address = Aws::url();
    let address = address.trim_start_matches("http://");
    let answer = ask(&request.method, address, &request.path, &headers, &request.body)?;
    Ok((answer.status, answer.body))
}

fn form(body: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((decoded(name), decoded(value)))
    };
    body.split('&').filter_map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
                std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
