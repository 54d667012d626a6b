//! Asking commands that only look.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use super::Linux;
use super::process::Runner;
use crate::op::Command;
use crate::system::{FactsError, Known, Mode, Reading, Why};

/// What a command that only looks is asked.
pub(super) struct Question<T> {
    /// What is read, for errors.
    pub(super) what: String,
    /// What is not known where it may not be run, as what comes after "whether".
    pub(super) unknown: String,
    /// Runs it where it cannot write, if the host has such a place.
    pub(super) held: fn(&Runner, &Command) -> io::Result<Option<T>>,
    /// Runs it as any other program.
    pub(super) trusted: fn(&Runner, &Command) -> io::Result<T>,
}

impl Linux {
    /// The answer of a command that only looks. It is asked once, until something changes.
    pub(super) fn look<T: Clone>(
        &self,
        command: &Command,
        answers: &RefCell<HashMap<Command, T>>,
        question: &Question<T>,
    ) -> Reading<T> {
        if let Some(answer) = answers.borrow().get(command) {
            return Ok(Known::Yes(answer.clone()));
        }
        let failed = |source| FactsError { what: question.what.clone(), source };
        let unknown = || Ok(Known::Unknown(Why(question.unknown.clone())));
        if !self.tree.is_host() {
            let changes = self.lock.is_some();
            return if changes { Err(failed(io::ErrorKind::Unsupported.into())) } else { unknown() };
        }
        let at_home = self.at_home(command)?;
        let answer = match (question.held)(&self.runner, &at_home).map_err(failed)? {
            Some(answer) => answer,
            None if self.trusts_guards() => (question.trusted)(&self.runner, &at_home).map_err(failed)?,
            None => return unknown(),
        };
        answers.borrow_mut().insert(command.clone(), answer.clone());
        Ok(Known::Yes(answer))
    }

    /// Who changes the host anyway, or throws it away, trusts what only looks even if it cannot be held.
    fn trusts_guards(&self) -> bool {
        self.lock.is_some() || self.host.mode == Mode::Bake
    }
}
