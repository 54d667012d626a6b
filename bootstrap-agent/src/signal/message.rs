//! What somebody is told of a boot.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::declared::Report;

/// The version of the format.
pub const VERSION: u32 = 1;

/// What somebody is told of a boot. Everything that sending it takes is in it, so that it can be sent when the
/// user-data is out of reach. No value that was fetched is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// [`VERSION`].
    pub version: u32,
    /// Who is told.
    pub to: Recipient,
    /// What the boot came to.
    pub result: Outcome,
    /// The boot that this is about, as the kernel numbers it.
    pub boot_id: String,
    /// The instance that this is about, if it was known.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// The region, if it is not the instance's.
    #[serde(default)]
    pub region: Option<String>,
    /// Where the AWS services are, if not where they are for everybody.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// When it was written, in seconds since 1970.
    pub written: u64,
    /// How many seconds after that it is held back.
    #[serde(default)]
    pub held: u64,
    /// For how many seconds at the most it is held back if the launches before this one failed as well; none if that is
    /// not to be asked, or was.
    #[serde(default)]
    pub brake: Option<u64>,
    /// The report of a host that failed. What is secret is not in it.
    #[serde(default)]
    pub report: Option<String>,
    /// How often it was tried to send it.
    #[serde(default)]
    pub tries: u32,
    /// Why the last try did not succeed.
    #[serde(default)]
    pub last_error: Option<String>,
    /// What the recipient made of it, once it has it.
    #[serde(default)]
    pub answer: Option<String>,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// A lifecycle hook of an Auto Scaling group.
    AutoScaling {
        /// The name of the hook.
        hook: String,
        /// The group; the instance's if none.
        group: Option<String>,
        /// How many seconds may pass until the hook is told that the host still works.
        heartbeat: u64,
    },
    /// The Auto Scaling group's view of the instance's health.
    InstanceHealth,
    /// A resource of a stack.
    Cloudformation {
        /// The stack; that of the instance's tags if none.
        stack: Option<String>,
        /// The logical id of the resource; that of the instance's tags if none.
        resource: Option<String>,
    },
    /// A tag of the instance.
    Tag {
        /// Its key.
        key: String,
    },
    /// Whoever reads the report of a host that failed.
    Report {
        /// Where it is left.
        place: Report,
    },
    /// This host's own power switch.
    PowerOff,
}

/// What a boot came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The host is up.
    Up,
    /// It failed.
    Failed {
        /// The step that it failed in.
        step: String,
    },
}

impl Recipient {
    /// The name of its file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::AutoScaling { .. } => "auto_scaling",
            Self::InstanceHealth => "instance_health",
            Self::Cloudformation { .. } => "cloudformation",
            Self::Tag { .. } => "tag",
            Self::Report { .. } => "report",
            Self::PowerOff => "power_off",
        }
    }

    /// Whether it ends a host that failed, so that nobody can look at it any more.
    pub fn ends_host(&self) -> bool {
        !matches!(self, Self::Tag { .. } | Self::Report { .. })
    }
}

impl Message {
    /// How long it is still held back. A clock that was set back does not make that longer.
    pub fn wait(&self, now: SystemTime) -> Duration {
        let held = Duration::from_secs(self.held);
        let due = SystemTime::UNIX_EPOCH + Duration::from_secs(self.written) + held;
        due.duration_since(now).unwrap_or_default().min(held)
    }

    /// Whether it says the same about the same boot.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.to, &self.result, &self.boot_id) == (&other.to, &other.result, &other.boot_id)
    }
}

/// A point in time as messages have it.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A message of a test.
#[cfg(test)]
pub(crate) fn of_test(to: Recipient, result: Outcome) -> Message {
    Message {
        version: VERSION,
        to,
        result,
        boot_id: "boot-1".into(),
        instance_id: Some("i-0123456789abcdef0".into()),
        region: Some("us-east-1".into()),
        endpoint_url: None,
        written: 1000,
        held: 0,
        brake: None,
        report: None,
        tries: 0,
        last_error: None,
        answer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_does_not_hold_a_message_for_longer() {
        let message = Message { held: 60, ..of_test(Recipient::PowerOff, Outcome::Up) };
        let at = |seconds| message.wait(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).as_secs();
        assert_eq!([at(1000), at(1050), at(1060), at(9999), at(5)], [60, 10, 0, 0, 60]);
    }
}
