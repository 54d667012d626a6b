//! What is done when the process that ran a boot did not come to its end.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::telling::{Telling, send_later};
use super::{boot_id, now, services, state_of_this_boot, tell_console};
use crate::lock::{Locks, Turn};
use crate::signal::message::Outcome;
use crate::signal::outbox::Outbox;
use crate::status::{Failure, State, Status, StatusFile};

/// What is left to do when the process that ran the boot is gone: unless the boot's run went well or another
/// process goes on with it, the services that need it are stopped, and the status says so.
///
/// # Errors
/// When it cannot be known or written how the run ended.
pub fn stop_unfinished() -> std::io::Result<()> {
    let Turn::Ours(_locks) = Locks::take(Path::new("/"))? else { return Ok(()) };
    let file = StatusFile::below(Path::new("/"));
    let status = state_of_this_boot(&file);
    if status.as_ref().is_some_and(|status| status.state == State::Done) {
        // It was up, and its process may have been killed while it told that.
        if !Outbox::below(Path::new("/")).waiting()?.is_empty() {
            send_later();
        }
        return Ok(());
    }
    // systemd waits for this program, so this program does not wait for systemd.
    for service in services() {
        let _ = Command::new("systemctl").args(["stop", "--no-block", "--", &service]).status();
    }
    let step = match status {
        Some(Status { state: State::Rebooting, .. }) => return Ok(()),
        Some(Status { state: State::Failed, error, .. }) => error.map(|error| error.step),
        Some(status) => Some(cut_off(&file, status, "the run was cut off")?),
        None => None,
    };
    tell_failure(Path::new("/"), &step.unwrap_or_else(|| "start".into()))
}

/// Those who wait for the result are told, unless they have been.
fn tell_failure(root: &Path, step: &str) -> std::io::Result<()> {
    let Some(telling) = Telling::kept(root).filter(|telling| telling.boot_id == boot_id()) else {
        return Ok(());
    };
    let outbox = Outbox::below(root);
    let report = StatusFile::below(root).read().ok().flatten().map(|status| status.text());
    telling.put(&outbox, &Outcome::Failed { step: step.into() }, &report.unwrap_or_default())?;
    if !outbox.waiting()?.is_empty() {
        send_later();
    }
    Ok(())
}

/// Says of a run that did not come to its end that it failed, and returns where it was.
fn cut_off(file: &StatusFile, mut status: Status, message: &str) -> std::io::Result<String> {
    let step = status.steps.last().map_or_else(|| "start".into(), |step| format!("after {}", step.name));
    let line = format!("bootstrap-agent: {step}: {message}");
    status.state = State::Failed;
    status.finished = Some(now());
    status.error = Some(Failure { step: step.clone(), message: message.into(), help: None });
    file.write(&status)?;
    tell_console(&line);
    Ok(step)
}

/// Has a panic end as a failed run, with its place and without its message, in which a secret could be.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        let message = format!("the agent has a bug: it panicked{place}");
        let file = StatusFile::below(Path::new("/"));
        if let Some(status) = state_of_this_boot(&file).filter(|status| status.state != State::Done) {
            let _ = cut_off(&file, status, &message);
        }
        let _ = writeln!(std::io::stderr(), "error: {message}");
    }));
}
