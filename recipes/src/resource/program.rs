//! What `command` and `script` have in common: how a program runs, and how it is known to be done.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::fields::AbsolutePath;
use super::{Claim, Resource};
use crate::duration::Span;
use crate::error::Problem;
use crate::op::{Command, Input, Op};
use crate::system::{Facts, PlanError};
use crate::words::Words;

/// How long a program may run if nothing is said.
const TIMEOUT: Duration = Duration::from_mins(5);

/// What a program and its guards run in.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub(super) environment: BTreeMap<String, String>,
    pub(super) user: Option<String>,
    pub(super) cwd: Option<AbsolutePath>,
    pub(super) timeout: Option<Span>,
}

impl Surroundings {
    /// A program that runs in them. What the system could not take is an error here.
    pub(super) fn command(&self, words: Vec<String>) -> Result<Command, Problem> {
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                let name = name.escape_debug();
                return Err(Problem::new(format!(
                    "`{name}` is not the name of a variable: it is empty or has `=` or NUL in it"
                )));
            }
            no_nul(&format!("the variable `{name}`"), value)?;
        }
        for word in &words {
            no_nul("a word of a command", word)?;
        }
        Ok(Command {
            environment: self.environment.clone(),
            directory: self.cwd.as_ref().map(|directory| directory.as_path().to_owned()),
            user: self.user.clone(),
            timeout: self.timeout.map_or(TIMEOUT, |span| span.0),
            ..Command::new(words)
        })
    }

    fn guard(&self, words: Option<Words>) -> Result<Option<Command>, Problem> {
        words.map(|words| self.command(words.0)).transpose()
    }

    /// When a program that runs in them is done.
    pub(super) fn conditions(
        &self,
        creates: Option<AbsolutePath>,
        unless: Option<Words>,
        onlyif: Option<Words>,
    ) -> Result<Conditions, Problem> {
        Ok(Conditions { creates, unless: self.guard(unless)?, onlyif: self.guard(onlyif)? })
    }
}

/// Arguments and variables end at the first NUL (execve(2)).
fn no_nul(what: &str, text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::new(format!("{what} has NUL in it, which no program can be given")));
    }
    Ok(())
}

/// When a program need not run.
#[derive(Debug)]
pub(super) struct Conditions {
    creates: Option<AbsolutePath>,
    unless: Option<Command>,
    onlyif: Option<Command>,
}

impl Conditions {
    fn are_met(&self, facts: &dyn Facts) -> Result<bool, PlanError> {
        if let Some(path) = &self.creates
            && facts.entry(path.as_path())?.known()?.is_some()
        {
            return Ok(true);
        }
        if let Some(guard) = &self.unless
            && facts.succeeds(guard)?.known()?
        {
            return Ok(true);
        }
        match &self.onlyif {
            Some(guard) => Ok(!facts.succeeds(guard)?.known()?),
            None => Ok(false),
        }
    }
}

/// A program that runs until it need not.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) command: Command,
    pub(super) conditions: Conditions,
}

impl Resource for Program {
    fn subject(&self) -> String {
        match &self.command.input {
            Input::Script { name, .. } => name.clone(),
            Input::Nothing | Input::Text(_) => self.command.to_string(),
        }
    }

    fn claims(&self) -> Vec<Claim> {
        // Two equal commands are one thing twice; what they change is not known.
        Vec::new()
    }

    fn command(&self) -> Option<&Command> {
        Some(&self.command)
    }

    fn creates(&self) -> Option<&Path> {
        self.conditions.creates.as_ref().map(AbsolutePath::as_path)
    }

    fn runs_every_time(&self) -> bool {
        let Conditions { creates, unless, onlyif } = &self.conditions;
        creates.is_none() && unless.is_none() && onlyif.is_none()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let is_done = self.conditions.are_met(facts)?;
        Ok(if is_done { Vec::new() } else { vec![Op::Run(self.command.clone())] })
    }
}

/// The exit codes that count as success; 0 alone if not said.
pub(super) fn success_codes(codes: Option<Vec<u8>>) -> Result<Vec<u8>, Problem> {
    match codes {
        Some(codes) if codes.is_empty() => {
            Err(Problem::new("`success_codes` is empty: no exit code would be a success"))
        }
        codes => Ok(codes.unwrap_or_else(|| vec![0])),
    }
}
