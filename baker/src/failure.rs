//! Why a step of a bake failed, said so that somebody can do something about it.

use std::error::Error;
use std::fmt::{self, Display};

use recipes::error::{Problem, Problems};

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, with all causes.
    pub message: String,
    /// Where it is written, if a recipe or an image definition is the reason.
    pub at: Option<String>,
    /// What to do about it, if anybody knows.
    pub help: Option<String>,
}

impl Failure {
    /// Something went wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: None, help: None }
    }

    /// Something went wrong because of something else.
    pub fn because(what: impl Display, cause: &dyn Error) -> Self {
        let mut message = what.to_string();
        let mut next = Some(cause);
        while let Some(cause) = next {
            let separator = if message.is_empty() { "" } else { ": " };
            message += &format!("{separator}{cause}");
            next = cause.source();
        }
        Self::new(message)
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Failure {}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            message: problem.to_string(),
            at: problem.location().map(ToString::to_string),
            help: problem.advice().map(str::to_owned),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::new(problems.to_string())
    }
}

/// For `map_err`: what was being done when something went wrong.
pub fn failed<E: Error>(what: impl Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure::because(format!("failed to {what}"), &error)
}
