//! Who is told what a boot came to: known as soon as the user-data is, and kept for whoever ends the boot.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config::Ending;
use crate::signal::declared::OnFailure;
use crate::signal::message::{Message, Outcome, Recipient, VERSION, seconds};
use crate::signal::outbox::Outbox;

/// What sends what is left in the outbox.
const OUTBOX_UNIT: &str = "bootstrap-agent-outbox.service";

const FILE: &str = "var/lib/bootstrap-agent/signals.json";

/// Who is told what a boot came to. It is on the disk as well, for when the process is killed, and for a boot
/// that cannot read its user-data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telling {
    version: u32,
    pub(super) boot_id: String,
    pub(super) instance_id: Option<String>,
    ending: Ending,
}

impl Telling {
    pub(super) fn new(boot_id: &str, ending: Ending) -> Self {
        Self { version: VERSION, boot_id: boot_id.into(), instance_id: None, ending }
    }

    /// What was kept last, by this boot or an earlier one.
    pub(super) fn kept(root: &Path) -> Option<Self> {
        let telling: Self = serde_json::from_slice(&std::fs::read(root.join(FILE)).ok()?).ok()?;
        (telling.version == VERSION).then_some(telling)
    }

    /// The same for another boot.
    pub(super) fn about(self, boot_id: &str) -> Self {
        Self { boot_id: boot_id.into(), ..self }
    }

    pub(super) fn keep(&self, root: &Path) -> io::Result<()> {
        crate::status::replace(&root.join(FILE), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    pub(super) fn recipients(&self) -> Vec<Recipient> {
        self.ending.signal.recipients(false)
    }

    /// The file that tells the result in numbers.
    pub(super) fn metrics(&self) -> Option<&Path> {
        self.ending.metrics.as_deref()
    }

    /// Puts what a boot came to into the outbox, in place of what an earlier run or boot came to.
    pub(super) fn put(&self, outbox: &Outbox, result: &Outcome, report: &str) -> io::Result<()> {
        if *result == Outcome::Up {
            for to in [Recipient::InstanceHealth, Recipient::PowerOff] {
                outbox.withdraw(to.key())?;
                outbox.forget(to.key())?;
            }
        }
        self.messages(result, report, SystemTime::now()).iter().try_for_each(|message| outbox.put(message))
    }

    fn messages(&self, result: &Outcome, report: &str, now: SystemTime) -> Vec<Message> {
        let mut recipients = self.ending.signal.recipients(*result == Outcome::Up);
        let mut held = 0;
        if *result != Outcome::Up {
            match self.ending.on_failure {
                OnFailure::Stay => {}
                OnFailure::Poweroff => recipients.push(Recipient::PowerOff),
                OnFailure::Hold(time) => {
                    recipients.push(Recipient::PowerOff);
                    held = time.as_secs();
                }
            }
        }
        let brake = self.ending.signal.auto_scaling.as_ref().and_then(|hook| hook.brake);
        let brake = brake.filter(|_| *result != Outcome::Up).map(|span| span.0.as_secs());
        let message = |to: Recipient| Message {
            version: VERSION,
            result: result.clone(),
            boot_id: self.boot_id.clone(),
            instance_id: self.instance_id.clone(),
            region: self.ending.region.clone(),
            endpoint_url: self.ending.endpoint_url.clone(),
            written: seconds(now),
            held: if to.ends_host() { held } else { 0 },
            brake: brake.filter(|_| matches!(to, Recipient::AutoScaling { .. })),
            report: matches!(to, Recipient::Report { .. }).then(|| report.to_owned()),
            to,
            tries: 0,
            last_error: None,
            answer: None,
        };
        recipients.into_iter().map(message).collect()
    }
}

/// Has systemd send what is left in the outbox, and does not wait for it.
pub(super) fn send_later() -> bool {
    let status = Command::new("systemctl").args(["start", "--no-block", OUTBOX_UNIT]).status();
    status.is_ok_and(|status| status.success())
}

/// Asks systemd to power the host off, and does not wait for it.
pub(crate) fn power_off() -> io::Result<()> {
    let status = Command::new("systemctl").args(["poweroff", "--no-block"]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("systemctl ended with {status}"))) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::signal::declared::{Signals, Tag};

    fn telling(on_failure: OnFailure) -> Telling {
        let tag = Some(Tag { key: "bootstrap".into() });
        let signal = Signals { instance_health: true, tag, ..Signals::default() };
        let ending = Ending { signal, on_failure, ..Ending::default() };
        Telling { instance_id: Some("i-1".into()), ..Telling::new("boot-1", ending) }
    }

    fn told(on_failure: OnFailure, result: &Outcome) -> Vec<(&'static str, u64)> {
        let messages = telling(on_failure).messages(result, "", SystemTime::now());
        messages.iter().map(|message| (message.to.key(), message.held)).collect()
    }

    #[test]
    fn what_ends_a_host_waits_while_it_is_held_and_the_tag_does_not() {
        let failed = Outcome::Failed { step: "fetch".into() };
        let hold = OnFailure::Hold(Duration::from_mins(30));
        assert_eq!(told(OnFailure::Stay, &failed), [("instance_health", 0), ("tag", 0)]);
        assert_eq!(
            told(OnFailure::Poweroff, &failed),
            [("instance_health", 0), ("tag", 0), ("power_off", 0)]
        );
        assert_eq!(told(hold, &failed), [("instance_health", 1800), ("tag", 0), ("power_off", 1800)]);
        assert_eq!(told(hold, &Outcome::Up), [("tag", 0)]);
    }

    #[test]
    fn a_host_that_came_up_after_all_is_not_powered_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::below(folder.path());
        let failed = Outcome::Failed { step: "fetch".into() };
        let telling = telling(OnFailure::Hold(Duration::from_mins(30)));
        telling.keep(folder.path()).expect("written");
        assert_eq!(Telling::kept(folder.path()), Some(telling.clone()));
        telling.put(&outbox, &failed, "").expect("written");
        assert_eq!(outbox.waiting().expect("readable").len(), 3);
        telling.put(&outbox, &Outcome::Up, "").expect("written");
        let waiting = outbox.waiting().expect("readable");
        assert_eq!(waiting.iter().map(|message| message.to.key()).collect::<Vec<_>>(), ["tag"]);
    }
}
