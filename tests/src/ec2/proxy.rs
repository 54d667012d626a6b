//! What is between clients and moto: it remembers, and does what the script says.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::answers;
use super::bodies::{Bodies, ids};
use super::call::{Call, Outcome};
use super::fault::{Effect, Faults};
use super::server::Server;
use crate::http::{Answer, Request};

/// How much clocks may differ before a signature is too old, or not yet good.
const SKEW_LIMIT: i64 = 15 * 60;

pub(super) struct Proxy {
    pub(super) server: Arc<Server>,
    pub(super) bodies: Option<Arc<Bodies>>,
    pub(super) faults: Faults,
    /// How many seconds the cloud's clock is ahead of this machine's.
    pub(super) ahead: AtomicI64,
    started: Instant,
    calls: Mutex<Calls>,
    /// The last answer to each call.
    answers: Mutex<BTreeMap<String, Answer>>,
}

#[derive(Default)]
struct Calls {
    all: Vec<Call>,
    of_clients: usize,
}

impl Proxy {
    pub(super) fn new(server: Arc<Server>, bodies: Option<Arc<Bodies>>) -> Self {
        Self {
            server,
            bodies,
            faults: Faults::default(),
            ahead: AtomicI64::new(0),
            started: Instant::now(),
            calls: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Serves for as long as this exists.
    pub(super) fn serve(self: &Arc<Self>, listener: TcpListener) {
        let own = Arc::downgrade(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(own) = own.upgrade() else { return };
                thread::spawn(move || own.answer(&stream));
            }
        });
    }

    /// Every call so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.lock().all.clone()
    }

    pub(super) fn forget(&self) {
        *self.lock() = Calls::default();
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn answer(&self, stream: &TcpStream) {
        let Ok(Some(request)) = Request::read(stream) else { return };
        let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
        let instance = self.bodies.as_ref().and_then(|bodies| bodies.at(&peer));
        let (place, call) = self.begin(Call::of(&request, instance, self.started.elapsed()));
        let effects = self.faults.at(&call);
        for effect in &effects {
            if let Effect::Before(hook) = effect {
                hook(&call);
            }
        }
        let answer = self.decide(&request, &call, &effects);
        let outcome = match &answer {
            Some(answer) => Outcome::of(answer),
            None => Outcome::Cut,
        };
        // It may have been forgotten meanwhile.
        if let Some(call) = self.lock().all.get_mut(place) {
            call.outcome = outcome.clone();
        }
        match answer {
            // Whoever waits for it is gone, or does not.
            Some(answer) => drop(self.send(stream, &answer)),
            None => drop(stream.shutdown(Shutdown::Both)),
        }
        for effect in &effects {
            if let Effect::After(hook) = effect {
                hook(&Call { outcome: outcome.clone(), ..call.clone() });
            }
        }
    }

    /// Remembers a call, and returns where.
    fn begin(&self, mut call: Call) -> (usize, Call) {
        let mut calls = self.lock();
        if call.instance.is_none() {
            calls.of_clients += 1;
            call.number = calls.of_clients;
        }
        calls.all.push(call.clone());
        (calls.all.len() - 1, call)
    }

    /// The answer; none if the connection is to be cut.
    fn decide(&self, request: &Request, call: &Call, effects: &[Effect]) -> Option<Answer> {
        if effects.iter().any(|effect| matches!(effect, Effect::CutBefore)) {
            return None;
        }
        for effect in effects {
            if let Effect::Slow(delay) = effect {
                thread::sleep(*delay);
            }
            if let Effect::Stale = effect
                && let Some(answer) = self.lock_answers().get(&call.key())
            {
                return Some(answer.clone());
            }
            if let Some(answer) = answers::of_fault(effect, call) {
                return Some(answer);
            }
        }
        if self.is_out_of_time(request) {
            return Some(answers::expired(call));
        }
        if call.action == "DecodeAuthorizationMessage"
            && let Some(answer) = answers::decoded(call)
        {
            return Some(answer);
        }
        let answer = match self.take_effect(request, call, effects) {
            Ok(answer) => answer,
            Err(error) => answers::internal(call, &error.to_string()),
        };
        self.lock_answers().insert(call.key(), answer.clone());
        if effects.iter().any(|effect| matches!(effect, Effect::CutAfter)) {
            return None;
        }
        Some(answer)
    }

    fn take_effect(&self, request: &Request, call: &Call, effects: &[Effect]) -> io::Result<Answer> {
        let mut answer = self.server.forward(request)?;
        if answer.body.contains("<Code>DryRunOperation</Code>") {
            answer.status = 412;
        }
        if !(200..300).contains(&answer.status) || call.dry_run || call.service != "ec2" {
            return Ok(answer);
        }
        if let Some(bodies) = &self.bodies {
            bodies.follow(call, &answer, effects)?;
        }
        for effect in effects {
            match effect {
                Effect::Fails if call.action != "RunInstances" => {
                    for (prefix, state) in [("ami-", "failed"), ("snap-", "error")] {
                        for id in ids(&answer.body, prefix) {
                            self.server.ask("doom", &json!({ "id": id, "state": state }))?;
                        }
                    }
                }
                Effect::Dies(after) if self.bodies.is_none() => {
                    for id in ids(&answer.body, "i-") {
                        let (server, after) = (Arc::clone(&self.server), *after);
                        thread::spawn(move || {
                            thread::sleep(after);
                            server.ask("tell", &json!({ "id": id, "event": "died" }))
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Whether a request was signed at a time that is too far from the cloud's.
    fn is_out_of_time(&self, request: &Request) -> bool {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead == 0 {
            return false;
        }
        let signed = request.headers.get("x-amz-date").and_then(|date| seconds(date));
        signed.is_some_and(|signed| (now() + ahead - signed).abs() > SKEW_LIMIT)
    }

    fn send(&self, stream: &TcpStream, answer: &Answer) -> io::Result<()> {
        answer.send(stream, &[("date", &http_date(now() + self.ahead.load(Ordering::Relaxed)))])
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_answers(&self) -> MutexGuard<'_, BTreeMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The same of a time as signatures have it, such as `20261122T100000Z`.
fn seconds(date: &str) -> Option<i64> {
    let part = |range: Range<usize>| date.get(range);
    let (day, time) = ((part(0..4)?, part(4..6)?, part(6..8)?), (part(9..11)?, part(11..13)?, part(13..15)?));
    let date = format!("{}-{}-{}T{}:{}:{}Z", day.0, day.1, day.2, time.0, time.1, time.2);
    let since = humantime::parse_rfc3339(&date).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// A time as HTTP has it, such as `Sun, 22 Nov 2026 10:00:00 GMT`.
fn http_date(seconds: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = seconds.unsigned_abs();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    // 1970 began on a Thursday.
    let day = DAYS[usize::try_from(seconds / 86_400 % 7).unwrap_or(0)];
    let month = text[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"Jan");
    format!("{day}, {} {month} {} {} GMT", &text[8..10], &text[..4], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_aws_does() {
        assert_eq!(seconds("20261122T100000Z"), Some(1_795_341_600));
        assert_eq!(http_date(1_795_341_600), "Sun, 22 Nov 2026 10:00:00 GMT");
        assert_eq!(seconds("yesterday"), None);
    }
}
