//! Whom the result is told, and what becomes of a host that failed: as the user-data says it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use recipes::duration::Span;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::message::Recipient;
use crate::s3::Place;

/// How long a lifecycle action is left alone before it is said that this host is still working on it. Hooks
/// wait an hour if nothing else is said, and 30 s at the least (API reference, `PutLifecycleHook`).
const HEARTBEAT: Duration = Duration::from_mins(5);

/// Whom the result is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Signals {
    /// A lifecycle hook of the Auto Scaling group: `CONTINUE` or `ABANDON`.
    #[serde(default)]
    pub auto_scaling: Option<AutoScaling>,
    /// Whether a host that failed is set unhealthy, so that its Auto Scaling group replaces it.
    #[serde(default)]
    pub instance_health: bool,
    /// The stack whose resource waits for a signal: `SUCCESS` or `FAILURE`.
    #[serde(default)]
    pub cloudformation: Option<CloudFormation>,
    /// A tag of the instance: `up`, or `failed at STEP`.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// Where a host that failed leaves a report.
    #[serde(default)]
    pub report: Option<Report>,
}

/// A lifecycle hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AutoScaling {
    /// The name of the hook.
    pub hook: String,
    /// The group; that of the instance if not said.
    #[serde(default)]
    pub group: Option<String>,
    /// How often the hook is told that the host still works; every 5 minutes if not said.
    #[serde(default)]
    pub heartbeat: Option<Span>,
    /// For how long at the most a host that failed is kept where the launches before it failed as well.
    #[serde(default)]
    pub brake: Option<Span>,
}

/// A resource of a stack that waits for a signal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CloudFormation {
    /// The stack; that of the instance's tags if not said.
    #[serde(default)]
    pub stack: Option<String>,
    /// The logical id of the resource; that of the instance's tags if not said.
    #[serde(default)]
    pub resource: Option<String>,
}

/// A tag of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tag {
    /// Its key.
    pub key: String,
}

/// Where a host that failed leaves a report. The id of the instance becomes part of the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Report {
    /// A parameter of SSM below this path.
    Ssm(#[serde(deserialize_with = "path")] String),
    /// An object of S3 whose key begins with this one.
    S3(Place),
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    let valid = path.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if path.starts_with('/') && !path.ends_with('/') && valid {
        return Ok(path);
    }
    Err(de::Error::custom(format!("`{path}` is not a path of parameters; write one such as `/acme/reports`")))
}

/// What becomes of a host that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum OnFailure {
    /// It stays as it is, and does not serve.
    #[default]
    Stay,
    /// It is powered off when those who wait for its result have been told.
    Poweroff,
    /// It stays for this long, for somebody to look at what it says; then those who would end it are told, and
    /// it is powered off.
    Hold(Duration),
}

impl Signals {
    /// Those who are told a result.
    pub fn recipients(&self, is_up: bool) -> Vec<Recipient> {
        let hook = self.auto_scaling.clone().map(|AutoScaling { hook, group, heartbeat, .. }| {
            let heartbeat = heartbeat.map_or(HEARTBEAT, |span| span.0).as_secs().max(1);
            Recipient::AutoScaling { hook, group, heartbeat }
        });
        // Health is for those that are in service already; a host that is up is healthy if nobody says otherwise.
        let health = (self.instance_health && !is_up).then_some(Recipient::InstanceHealth);
        let stack = self
            .cloudformation
            .clone()
            .map(|CloudFormation { stack, resource }| Recipient::Cloudformation { stack, resource });
        let tag = self.tag.clone().map(|Tag { key }| Recipient::Tag { key });
        let report = self.report.clone().filter(|_| !is_up).map(|place| Recipient::Report { place });
        [hook, health, stack, tag, report].into_iter().flatten().collect()
    }
}

/// A visitor, so that an error is at the place of the text.
impl<'de> Deserialize<'de> for OnFailure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = OnFailure;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`stay`, `poweroff` or `hold TIME`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OnFailure, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Words)
    }
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            None if text == "stay" => Ok(Self::Stay),
            None if text == "poweroff" => Ok(Self::Poweroff),
            Some(("hold", time)) => humantime::parse_duration(time.trim())
                .map(Self::Hold)
                .map_err(|_| format!("`{time}` is not a time; write one such as `hold 30m`")),
            _ => Err(format!("`{text}` is not valid here; valid are `stay`, `poweroff` and `hold TIME`")),
        }
    }
}

impl From<OnFailure> for String {
    fn from(what: OnFailure) -> Self {
        match what {
            OnFailure::Stay => "stay".into(),
            OnFailure::Poweroff => "poweroff".into(),
            OnFailure::Hold(time) => format!("hold {}", humantime::format_duration(time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_host_that_failed_is_a_word_or_two() {
        for text in ["stay", "poweroff", "hold 30m"] {
            let what = text.parse::<OnFailure>().expect("valid");
            assert_eq!(String::from(what), text);
        }
        let error = |text: &str| text.parse::<OnFailure>().expect_err(text);
        insta::assert_snapshot!(error("reboot"), @"`reboot` is not valid here; valid are `stay`, `poweroff` and `hold TIME`");
        insta::assert_snapshot!(error("hold long"), @"`long` is not a time; write one such as `hold 30m`");
        insta::assert_snapshot!(error("stay 30m"), @"`stay 30m` is not valid here; valid are `stay`, `poweroff` and `hold TIME`");
    }

    #[test]
    fn only_a_host_that_failed_is_set_unhealthy() {
        let signals = Signals {
            auto_scaling: Some(AutoScaling {
                hook: "launch".into(),
                group: None,
                heartbeat: None,
                brake: None,
            }),
            instance_health: true,
            ..Signals::default()
        };
        let hook = Recipient::AutoScaling { hook: "launch".into(), group: None, heartbeat: 300 };
        assert_eq!(signals.recipients(true), std::slice::from_ref(&hook));
        assert_eq!(signals.recipients(false), [hook, Recipient::InstanceHealth]);
    }
}
