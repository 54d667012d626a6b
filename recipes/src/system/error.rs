//! What cannot be read, planned or done on a host.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Why, fetch};
use crate::url::HttpsUrl;

/// Why a resource has no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It depends on something that only performing can tell.
    #[error("it is not known whether {}", .0.0)]
    Unknown(Why),
    /// A fact could not be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The host is such that the resource cannot be had.
    #[error("{message}")]
    Impossible {
        /// What stands in the way.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
}

impl PlanError {
    /// The host is such that the resource cannot be had.
    pub fn impossible(message: impl Into<String>) -> Self {
        Self::Impossible { message: message.into(), help: None }
    }

    /// The same with advice.
    pub fn impossible_but(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Impossible { message: message.into(), help: Some(help.into()) }
    }
}

/// A fact that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {what}")]
pub struct FactsError {
    /// What was looked for, such as "`/etc/motd`" or "the package database".
    pub what: String,
    /// Why it could not be read.
    #[source]
    pub source: io::Error,
}

/// An operation that could not be performed.
#[derive(Debug, thiserror::Error)]
pub enum PerformError {
    /// The system refused.
    #[error("failed to {what}")]
    Io {
        /// What was being done, such as "write `/etc/motd`".
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("`{program}` {outcome}{}", tail(.output))]
    Program {
        /// The program and its arguments.
        program: String,
        /// How it ended, such as "ended with 1".
        outcome: String,
        /// The last lines it printed.
        output: Vec<String>,
    },
    /// What was waited for did not come.
    #[error("not seen within {}: {what} ({last})", crate::duration::Span(*within))]
    NotSeen {
        /// What was to be seen.
        what: String,
        /// How long it was waited for.
        within: Duration,
        /// What was seen last.
        last: String,
    },
    /// A file that is not valid was not put in place.
    #[error("the new `{}` is not valid", path.display())]
    Invalid {
        /// The file as it would have been called.
        path: PathBuf,
        /// What the checker said.
        #[source]
        source: Box<PerformError>,
    },
    /// A firewall was loaded and did not prove itself.
    #[error("the new rules were taken back, and the old ones are in force again: {0}")]
    TakenBack(String),
    /// Something could not be had from another host.
    #[error("failed to fetch `{url}`")]
    Fetch {
        /// From where.
        url: HttpsUrl,
        /// Why.
        #[source]
        source: fetch::FetchError,
    },
    /// What was fetched is not what it shall be, and was not put in place.
    #[error(
        "`{url}` is not what it shall be: {size} bytes with the sha256 {got}, expected {expected}; \
         if it is a new release on purpose, write its sha256 into the recipe"
    )]
    WrongDigest {
        /// From where.
        url: HttpsUrl,
        /// The SHA-256 that it shall have.
        expected: String,
        /// The one that it has.
        got: String,
        /// How many bytes it has.
        size: u64,
    },
    /// It cannot be done on this kind of host.
    #[error("{0}")]
    Unsupported(String),
    /// A fact needed for it could not be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
}

fn tail(output: &[String]) -> String {
    output.iter().map(|line| format!("\n  {line}")).collect()
}
