//! Why a boot failed.

use recipes::event::Event;
use recipes::run::RunError;

use crate::redact::Redactor;
use crate::source::instance::MetadataError;
use crate::status::Failure;
use crate::values::FetchError;

/// Why a boot failed: the step, and what to tell.
#[derive(Debug)]
pub(crate) struct BootError {
    pub(crate) step: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// Whether nobody said no: the network, or the services, are out of reach.
    pub(crate) is_offline: bool,
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl BootError {
    pub(crate) fn new(step: &'static str, message: impl Into<String>) -> Self {
        Self { step, message: message.into(), help: None, is_offline: false }
    }

    /// As it is told, without secrets.
    pub(crate) fn failure(self, redactor: &Redactor) -> Failure {
        Failure { step: self.step.into(), message: redactor.clean(&self.message), help: self.help }
    }

    pub(crate) fn of_metadata(step: &'static str, error: &MetadataError) -> Self {
        let help = error.advice().map(str::to_owned);
        Self { step, message: chain(error), help, is_offline: error.is_offline() }
    }

    pub(crate) fn of_fetch(error: FetchError) -> Self {
        let message = error.to_string();
        Self { step: "fetch", message, help: error.help, is_offline: error.is_offline }
    }

    pub(crate) fn of_run(error: &RunError) -> Self {
        let Event::RunFailed { resource, error: message, at, help } = error.event() else {
            return Self::new("converge", error.to_string());
        };
        let place = at.map_or_else(String::new, |at| format!(" ({at})"));
        let resource = resource.map_or_else(String::new, |resource| format!("{resource}: "));
        Self { step: "converge", message: format!("{resource}{message}{place}"), help, is_offline: false }
    }
}
