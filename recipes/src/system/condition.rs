//! What can be waited for.

use std::fmt;
use std::path::PathBuf;

use super::{Facts, Reading};
use crate::op::Command;

/// Something that comes to hold while a run waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Something accepts TCP connections.
    Tcp {
        /// `HOST:PORT`.
        address: String,
    },
    /// Something is at a path.
    Exists(PathBuf),
    /// Nothing is at a path.
    Absent(PathBuf),
    /// A unit, by its whole name, is active.
    Running(String),
    /// It is not.
    Stopped(String),
    /// A command succeeds.
    Succeeds(Command),
}

impl Condition {
    /// Whether it holds now.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn holds(&self, facts: &dyn Facts) -> Reading<bool> {
        Ok(match self {
            Self::Tcp { address } => facts.accepts(address)?,
            Self::Exists(path) => facts.entry(path)?.map(|entry| entry.is_some()),
            Self::Absent(path) => facts.entry(path)?.map(|entry| entry.is_none()),
            Self::Running(unit) => facts.active(unit)?,
            Self::Stopped(unit) => facts.active(unit)?.map(|active| !active),
            Self::Succeeds(command) => facts.succeeds(command)?,
        })
    }
}

/// In the words of the checks of an image.
impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address } => write!(formatter, "{address} accepts connections"),
            Self::Exists(path) => write!(formatter, "{} exists", path.display()),
            Self::Absent(path) => write!(formatter, "{} is gone", path.display()),
            Self::Running(unit) => write!(formatter, "{unit} is running"),
            Self::Stopped(unit) => write!(formatter, "{unit} is stopped"),
            Self::Succeeds(command) => write!(formatter, "`{command}` succeeds"),
        }
    }
}
