//! Checks: what must be seen from outside for a host to be good. The agent carries them out.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::words::Words;

/// One check. It is tried until it succeeds or its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A systemd unit is in a state.
    Service(ServiceCheck),
    /// A URL answers with a status.
    Http(HttpCheck),
    /// Something accepts connections.
    Tcp(TcpCheck),
    /// A command succeeds.
    Command(CommandCheck),
}

/// A systemd unit is in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCheck {
    /// The unit; without a suffix it is a `.service`.
    pub name: String,
    /// `running` if not said.
    #[serde(default)]
    pub state: ServiceState,
    /// How long it may take; 30 s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// The states that a service can be checked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It is active.
    #[default]
    Running,
    /// It is not active.
    Stopped,
}

/// A URL answers with a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// An `http://` URL. Redirects are answers, not followed.
    pub url: String,
    /// The status it must have; 200 if not said.
    #[serde(default = "ok")]
    pub status: u16,
    /// Text that must be in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// How long it may take; 30 s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// Something accepts connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {
    /// `HOST:PORT`.
    pub address: String,
    /// How long it may take; 30 s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// A command succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandCheck {
    /// The program and its arguments: a list, or a string that is split at spaces.
    pub argv: Words,
    /// How long it may take; 30 s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

fn ok() -> u16 {
    200
}

impl Check {
    /// How long it may take.
    pub fn within(&self) -> std::time::Duration {
        let within = match self {
            Self::Service(check) => check.within,
            Self::Http(check) => check.within,
            Self::Tcp(check) => check.within,
            Self::Command(check) => check.within,
        };
        within.map_or(std::time::Duration::from_secs(30), |span| span.0)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(ServiceCheck { name, state: ServiceState::Running, .. }) => {
                write!(formatter, "service {name} is running")
            }
            Self::Service(ServiceCheck { name, state: ServiceState::Stopped, .. }) => {
                write!(formatter, "service {name} is stopped")
            }
            Self::Http(check) => write!(formatter, "{} answers {}", check.url, check.status),
            Self::Tcp(check) => write!(formatter, "{} accepts connections", check.address),
            Self::Command(check) => write!(formatter, "`{}` succeeds", check.argv.0.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_told_in_words_and_have_half_a_minute_if_nothing_is_said() {
        let told = [
            r#"{"service":{"name":"nginx"}}"#,
            r#"{"service":{"name":"apt-daily.timer","state":"stopped"}}"#,
            r#"{"http":{"url":"http://127.0.0.1/","within":"1m"}}"#,
            r#"{"tcp":{"address":"127.0.0.1:22"}}"#,
            r#"{"command":{"argv":"test -e /etc/motd","within":"5s"}}"#,
        ]
        .map(|text| {
            let check: Check = serde_json::from_str(text).expect("a check");
            format!("{check} within {} s", check.within().as_secs())
        });
        insta::assert_snapshot!(told.join("\n"), @"
        service nginx is running within 30 s
        service apt-daily.timer is stopped within 30 s
        http://127.0.0.1/ answers 200 within 60 s
        127.0.0.1:22 accepts connections within 30 s
        `test -e /etc/motd` succeeds within 5 s
        ");
    }
}
