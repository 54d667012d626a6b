//! The end of a boot: what it came to is written down and told, and a host that failed does not serve.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use super::steps::Boot;
use super::telling::{Telling, power_off, send_later};
use super::{now, services, tell_console, tell_systemd};
use crate::cache::Vault;
use crate::journal;
use crate::metrics;
use crate::signal::message::Outcome;
use crate::signal::outbox::Outbox;
use crate::signal::post::Post;
use crate::status::{Failure, State, replace};
use crate::watch::kept::Kept;
use crate::watch::timer;

/// How long the run itself tries to tell its result; after that another process does.
const TELL_LIMIT: Duration = Duration::from_secs(20);

impl<W: Write> Boot<'_, W> {
    /// Writes down what the run came to and tells it. `was_up` is whether an earlier run of this boot went well.
    pub(super) async fn finish(mut self, result: Result<(), Failure>, was_up: bool) -> Result<(), Failure> {
        self.beats = None;
        self.status.finished = Some(now());
        let mut outcome = None;
        match &result {
            Ok(()) if self.status.state == State::Rebooting => {}
            Ok(()) => {
                self.status.state = State::Done;
                outcome = Some(Outcome::Up);
            }
            Err(failure) => {
                // Until the commit, what an earlier run brought up serves on as it did.
                if self.status.state == State::Committed || !was_up {
                    self.stop_services();
                    outcome = Some(Outcome::Failed { step: failure.step.clone() });
                }
                self.status.state = State::Failed;
                self.status.error = Some(failure.clone());
                let _ = timer::stop(Path::new("/"));
            }
        }
        // Before the status says so: who is killed in between comes to the same with its next run, and who is killed after
        // it leaves what is to be sent.
        if let Some(outcome) = &outcome {
            self.put(outcome);
        }
        if self.status.state == State::Done {
            self.keep_values();
        }
        self.write_status();
        let line = self.console_line();
        let line = self.reporter.redactor().clean(&line);
        tell_systemd(&[NotifyState::Status(&line)]);
        tell_console(&line);
        // journald gets it once, with its fields.
        if !(self.settings.is_in_journal && journal::tell(&self.status, &line)) {
            self.reporter.line(&line);
        }
        if outcome.is_some() {
            self.deliver().await;
        }
        self.write_metrics();
        result
    }

    /// Tells it in numbers, if somebody wants them.
    fn write_metrics(&mut self) {
        let Some(path) = self.telling.as_ref().and_then(Telling::metrics) else { return };
        let untold = Outbox::below(Path::new("/")).waiting().map_or(0, |waiting| waiting.len());
        let text = metrics::text(&self.status, untold);
        if let Err(error) = replace(path, text.as_bytes(), 0o644) {
            let path = path.display().to_string();
            self.reporter.line(&format!("failed to write `{path}`: {error}"));
        }
    }

    /// Keeps what was good for a boot without a network, and for whoever looks for new values, if it is to be kept.
    fn keep_values(&mut self) {
        let vault = Vault::below(Path::new("/"));
        if self.cached.is_none() {
            match &mut self.good {
                Some(good) if self.keeps.seal => {
                    if let Err(why) = vault.seal(good) {
                        self.reporter
                            .line(&format!("the values are not kept for a boot without a network: {why}"));
                    }
                }
                _ => vault.clear(),
            }
        }
        let watching = match (&self.good, self.keeps.watch) {
            (Some(good), Some(every)) => {
                Kept::below(Path::new("/")).start(good).and_then(|()| timer::start(Path::new("/"), every))
            }
            _ => timer::stop(Path::new("/")),
        };
        if let Err(error) = watching {
            self.reporter.line(&format!("nobody will look for new values: {error}"));
        }
    }

    /// Puts the result into the outbox of those who wait for it.
    fn put(&mut self, outcome: &Outcome) {
        // Without the user-data, those are told whom an earlier boot of this instance would have told.
        let kept = || Telling::kept(Path::new("/")).map(|kept| kept.about(&self.status.boot_id));
        let Some(telling) = self.telling.clone().or_else(kept) else { return };
        let outbox = Outbox::below(Path::new("/"));
        let report = self.reporter.redactor().clean(&self.status.text());
        let report = format!("{report}\n\n{}", self.reporter.tail());
        if let Err(error) = telling.put(&outbox, outcome, &report) {
            self.reporter.line(&format!("failed to write down whom to tell: {error}"));
        }
    }

    /// Tells those who wait for the result. Who cannot be told now is told later, by another process.
    pub(super) async fn deliver(&mut self) {
        let outbox = Outbox::below(Path::new("/"));
        if outbox.waiting().is_ok_and(|waiting| waiting.is_empty()) {
            return;
        }
        // Told to stop, the host may be about to boot again, and that boot may go well.
        if !self.stop.is_told() {
            let post = Post {
                outbox: outbox.clone(),
                metadata: Arc::clone(&self.metadata),
                role: self.role.clone(),
                proxies: self.settings.environment.clone(),
                boot_id: self.status.boot_id.clone(),
                power_off: Box::new(power_off),
            };
            match post.deliver(TELL_LIMIT).await {
                Ok(pass) => {
                    for line in pass.told {
                        self.reporter.line(&format!("told {line}"));
                    }
                    for line in pass.failed {
                        self.reporter.line(&line);
                    }
                }
                Err(error) => self.reporter.line(&format!("failed to tell the result: {error}")),
            }
        }
        if outbox.waiting().is_ok_and(|waiting| !waiting.is_empty()) && !send_later() {
            self.reporter
                .line("what is left to tell is told at the next boot, if that comes to nothing else");
        }
    }

    /// A host that is not healthy must not serve.
    fn stop_services(&mut self) {
        for service in services() {
            let stopped = Command::new("systemctl").args(["stop", "--", &service]).status();
            if !stopped.is_ok_and(|status| status.success()) {
                self.reporter.line(&format!("failed to stop {service}"));
            }
        }
    }

    fn console_line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let name = |part: &Option<String>| part.clone().unwrap_or_else(|| "?".into());
        let what = format!("{}/{}", name(&self.status.environment), name(&self.status.role));
        match &self.status.error {
            None if self.status.state == State::Rebooting => {
                format!("bootstrap-agent: {what} reboots after {seconds:.1} s, and goes on after that")
            }
            None if self.status.cached.is_some() => format!(
                "bootstrap-agent: {what} is up after {seconds:.1} s with the last good values, of {}: the network is away",
                self.status.cached.as_deref().unwrap_or("?")
            ),
            None => format!(
                "bootstrap-agent: {what} is up after {seconds:.1} s ({} AWS requests, {} metadata requests)",
                self.status.requests.aws, self.status.requests.metadata
            ),
            Some(failure) => format!(
                "bootstrap-agent: {what} failed at {} after {seconds:.1} s: {}",
                failure.step,
                failure.message.replace('\n', " ")
            ),
        }
    }
}
