//! What happens during a bake, told as it happens: one closed set of events for people and machines.

mod human;
mod json;
mod markdown;

use recipes::event::Event as AgentEvent;
use serde::{Deserialize, Serialize};

pub use human::Human;
pub use json::Json;
pub use markdown::{drift_markdown, markdown};

use crate::bake::Step;
use crate::manifest::Ami;

/// One thing that happened. As JSON, one object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The bake of an image begins.
    BakeStarted {
        /// The image.
        image: String,
        /// The run.
        run: String,
    },
    /// The image exists already, made of the same things, and is young enough.
    UpToDate {
        /// The image.
        image: String,
        /// Where it is.
        path: String,
    },
    /// A step begins.
    StepStarted {
        /// The image.
        image: String,
        /// The step.
        step: Step,
    },
    /// Something that the agent on the builder tells.
    Agent {
        /// What it tells.
        agent: AgentEvent,
    },
    /// A line that a program of this machine printed.
    Output {
        /// The line.
        line: String,
    },
    /// A check was carried out on the builder.
    Checked {
        /// What was to be seen.
        check: String,
        /// What was wrong; nothing if it was seen.
        error: Option<String>,
    },
    /// A step is done.
    StepFinished {
        /// The image.
        image: String,
        /// The step.
        step: Step,
        /// How long it took.
        milliseconds: u64,
        /// What it came to, in a few words.
        result: String,
    },
    /// The bake failed, and its builder was asked to be kept.
    Kept {
        /// The run.
        run: String,
        /// The command that connects to it.
        way_in: String,
    },
    /// Something that the bake had created does not exist any more.
    Undone {
        /// What it was.
        created: String,
        /// Why it could not be undone; nothing if it was.
        error: Option<String>,
    },
    /// The image is there.
    BakeFinished {
        /// The image.
        image: String,
        /// Where it is.
        path: String,
        /// The digest of its archive, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// Its AMIs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        amis: Vec<Ami>,
    },
    /// The bake failed. What it had created is undone.
    BakeFailed {
        /// The image.
        image: String,
        /// The step it failed in.
        step: Option<Step>,
        /// Why, with all causes.
        error: String,
        /// Where it is written, if a recipe is the reason.
        at: Option<String>,
        /// What to do about it, if anybody knows.
        help: Option<String>,
    },
}

/// Where events go.
pub trait Report {
    /// Tells of an event.
    fn event(&mut self, event: &Event);
}
