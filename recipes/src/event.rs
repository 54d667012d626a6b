//! What happens during a run, as it happens: one closed set that people and machines see alike.

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::system::Mode;

/// One thing that happened. As JSON, one object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// What it is for.
        mode: Mode,
        /// How many resources there are.
        resources: usize,
    },
    /// A resource that is not true yet is being made true.
    ResourceStarted {
        /// Its id.
        resource: String,
        /// What will be done.
        changes: Vec<Change>,
        /// The files that this makes, in whole or in part. A directory that is its own with all in it ends with `/`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        makes: Vec<String>,
    },
    /// A program that runs for a resource printed a line.
    Output {
        /// The id of the resource.
        resource: String,
        /// The line.
        line: String,
    },
    /// A resource is true.
    ResourceFinished {
        /// Its id.
        resource: String,
        /// Whether it was true already.
        outcome: Outcome,
    },
    /// All files of a run were put in place together.
    Committed {
        /// How many paths.
        paths: usize,
    },
    /// The host is about to be booted anew, and the run to end; the next one goes on.
    Rebooting {
        /// The id of the resource that it is for.
        resource: String,
    },
    /// Everything is true, or will be when the host has booted anew and a run has gone on.
    RunFinished {
        /// The counts.
        summary: Summary,
    },
    /// The run stopped.
    RunFailed {
        /// The id of the resource that could not be made true, if it was one.
        resource: Option<String>,
        /// Why, with all causes.
        error: String,
        /// Where it is written.
        at: Option<String>,
        /// What to do about it.
        help: Option<String>,
    },
}

/// How a resource came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was true already.
    Unchanged,
    /// It was made true.
    Changed,
}

/// The counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Resources that were true already.
    pub unchanged: usize,
    /// Resources that were made true.
    pub changed: usize,
    /// Handlers that ran.
    pub handlers: usize,
    /// Whether the run ended to have the host booted anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebooting: bool,
}
