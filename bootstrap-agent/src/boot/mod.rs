//! The life of a boot, top to bottom.
//!
//! ```text
//! user-data ─▶ identify ─▶ fetch ─▶ render ─▶ commit ─▶ converge ─▶ health ─▶ done
//!     └────────────┴──────────┴─────────┴─────────┼─────────┴──────────┴──▶ failed
//!                                                 └──▶ rebooting ─▶ (the next boot's run)
//! ```
//!
//! It fails closed: before the commit nothing is in place and what needs the agent does not start; after
//! it, what was started is stopped again. Either way the reason is in the status file and on the console.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use recipes::bundle::Bundle;
use sd_notify::NotifyState;

use self::steps::{Boot, Ready};
use crate::lock::{Locks, Turn};
use crate::report::Reporter;
use crate::status::{Failure, State, Status, StatusFile};
use crate::stop::Stop;

pub(crate) mod apply;
pub(crate) mod configure;
mod ending;
pub(crate) mod error;
pub(crate) mod steps;
pub(crate) mod telling;
mod unfinished;

pub use self::unfinished::{report_panics, stop_unfinished};

/// Where the recipes for the boot are in an image.
pub const BOOT_BUNDLE: &str = "/usr/lib/bootstrap-agent/boot";

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file with the user-data; the metadata service's if none.
    pub file: Option<PathBuf>,
    /// The URL of the metadata service, if it is not where it always is.
    pub metadata_endpoint: Option<String>,
    /// How long the metadata service is waited for.
    pub metadata_patience: Duration,
    /// Whether a run that this boot has already had is repeated.
    pub force: bool,
    /// Whether what it prints goes to journald.
    pub is_in_journal: bool,
    /// Variables that package managers get, such as proxies.
    pub environment: BTreeMap<String, String>,
}

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The host is up.
    Up,
    /// The host is about to reboot; the run of the next boot goes on.
    Rebooting,
}

/// Runs the boot, or waits for the process that already does.
///
/// # Errors
/// What the run came to, when that is a failure. The status file has it too.
pub async fn run<W: Write>(
    settings: &Settings,
    reporter: &mut Reporter<W>,
    stop: &Stop,
) -> Result<Ended, Failure> {
    let root = Path::new("/");
    let status = StatusFile::below(root);
    let failed = |error: std::io::Error| Failure {
        step: "start".into(),
        message: format!("failed to take the lock of the run: {error}"),
        help: Some("run it as root".into()),
    };
    loop {
        match Locks::take(root).map_err(failed)? {
            Turn::Ours(locks) => return Boot::new(settings, reporter, stop, status, Some(locks)).run().await,
            Turn::Theirs(waiting) => {
                reporter.line("another process runs the boot; waiting for it");
                let committing = waiting.clone();
                waited(stop, move || committing.until_committed()).await?.map_err(failed)?;
                if state_of_this_boot(&status)
                    .is_some_and(|status| status.state == State::Committed || status.state == State::Done)
                {
                    tell_systemd(&[NotifyState::Ready]);
                }
                waited(stop, move || waiting.until_ended()).await?.map_err(failed)?;
                match state_of_this_boot(&status) {
                    Some(Status { state: State::Done, .. }) => return Ok(Ended::Up),
                    Some(Status { state: State::Rebooting, .. }) => return Ok(Ended::Rebooting),
                    Some(Status { state: State::Failed, error: Some(failure), .. }) => return Err(failure),
                    // It was killed: this process does the run.
                    _ => {}
                }
            }
        }
    }
}

/// Goes through the steps of a run that come before anything changes, and changes nothing.
///
/// # Errors
/// What a run would fail at.
pub(crate) async fn look<W: Write>(
    settings: &Settings,
    reporter: &mut Reporter<W>,
    stop: &Stop,
) -> Result<Ready, Failure> {
    Boot::new(settings, reporter, stop, StatusFile::below(Path::new("/")), None).look().await
}

/// Waits for what blocks, in a thread of its own, unless this process is told to stop meanwhile.
async fn waited<T: Send + 'static>(
    stop: &Stop,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (send, done) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || send.send(work()));
    let ended = |message: &str| Failure { step: "wait".into(), message: message.into(), help: None };
    tokio::select! {
        result = done => result.map_err(|_| ended("the wait for the other run was lost")),
        () = stop.told() => Err(ended("it was told to stop while it waited for the other run")),
    }
}

/// Where nobody can log in, the console is what is left (`GetConsoleOutput`).
pub(crate) fn tell_console(line: &str) {
    if let Ok(mut console) = std::fs::OpenOptions::new().write(true).open("/dev/console") {
        let _ = write!(console, "{line}\r\n");
    }
}

/// The units of this image that need a run to go well.
fn services() -> Vec<String> {
    Bundle::open(Path::new(BOOT_BUNDLE)).map(|bundle| bundle.manifest.services).unwrap_or_default()
}

pub(crate) fn state_of_this_boot(file: &StatusFile) -> Option<Status> {
    file.read().ok().flatten().filter(|status| status.boot_id == boot_id())
}

/// The kernel's number for this boot.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    // Not started by systemd, or it went away: neither changes what this run does.
    let _ = sd_notify::notify(states);
}
