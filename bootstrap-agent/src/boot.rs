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
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use recipes::bundle::Bundle;
use recipes::event::Event;
use recipes::run::{Files, converge};
use recipes::system::linux::Linux;
use recipes::system::{Facts, Mode};
use sd_notify::NotifyState;
use sha2::{Digest, Sha256};

use crate::boot_error::{BootError, chain};
use crate::config::Config;
use crate::fetch::Https;
use crate::health::wait_for;
use crate::lock::{Locks, Turn};
use crate::report::Reporter;
use crate::signals::Stop;
use crate::source::instance::Metadata;
use crate::status::{Failure, Requests, State, Status, StatusFile, Step, VERSION};
use crate::values;

/// Where the recipes for the boot are in an image.
pub const BOOT_BUNDLE: &str = "/usr/lib/bootstrap-agent/boot";

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file with the user-data; the metadata service's if none.
    pub file: Option<PathBuf>,
    /// The URL of the metadata service.
    pub metadata_endpoint: String,
    /// How long the metadata service is waited for.
    pub metadata_patience: Duration,
    /// Whether a run that this boot has already had is repeated.
    pub force: bool,
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
            Turn::Ours(locks) => return Boot::new(settings, reporter, stop, status, locks).run().await,
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
        return Ok(());
    }
    // systemd waits for this program, so this program does not wait for systemd.
    for service in services() {
        let _ = Command::new("systemctl").args(["stop", "--no-block", "--", &service]).status();
    }
    match status {
        Some(status) if !matches!(status.state, State::Failed | State::Rebooting) => {
            cut_off(&file, status, "the run was cut off")
        }
        _ => Ok(()),
    }
}

/// Says of a run that did not come to its end that it failed, and where it was.
fn cut_off(file: &StatusFile, mut status: Status, message: &str) -> std::io::Result<()> {
    let step = status.steps.last().map_or_else(|| "start".into(), |step| format!("after {}", step.name));
    let line = format!("bootstrap-agent: {step}: {message}");
    status.state = State::Failed;
    status.finished = Some(now());
    status.error = Some(Failure { step, message: message.into(), help: None });
    file.write(&status)?;
    tell_console(&line);
    Ok(())
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

/// Where nobody can log in, the console is what is left (`GetConsoleOutput`).
fn tell_console(line: &str) {
    if let Ok(mut console) = std::fs::OpenOptions::new().write(true).open("/dev/console") {
        let _ = write!(console, "{line}\r\n");
    }
}

/// The units of this image that need a run to go well.
fn services() -> Vec<String> {
    Bundle::open(Path::new(BOOT_BUNDLE)).map(|bundle| bundle.manifest.services).unwrap_or_default()
}

fn state_of_this_boot(file: &StatusFile) -> Option<Status> {
    file.read().ok().flatten().filter(|status| status.boot_id == boot_id())
}

/// The kernel's number for this boot.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    // Not started by systemd, or it went away: neither changes what this run does.
    let _ = sd_notify::notify(states);
}

struct Boot<'a, W> {
    settings: &'a Settings,
    reporter: &'a mut Reporter<W>,
    stop: &'a Stop,
    file: StatusFile,
    locks: Locks,
    status: Status,
    metadata: Arc<Metadata>,
    began: Instant,
    /// Whether this run is the one that the status file is about: not before it is known that this boot
    /// has not had it already.
    is_decided: bool,
}

impl<'a, W: Write> Boot<'a, W> {
    fn new(
        settings: &'a Settings,
        reporter: &'a mut Reporter<W>,
        stop: &'a Stop,
        file: StatusFile,
        locks: Locks,
    ) -> Self {
        let metadata = Arc::new(Metadata::new(&settings.metadata_endpoint, settings.metadata_patience));
        let status = Status {
            version: VERSION,
            state: State::Running,
            agent: env!("CARGO_PKG_VERSION").into(),
            boot_id: boot_id(),
            instance_id: None,
            environment: None,
            role: None,
            config_digest: None,
            started: now(),
            finished: None,
            steps: Vec::new(),
            fetched: Vec::new(),
            requests: Requests::default(),
            error: None,
        };
        Self {
            settings,
            reporter,
            stop,
            file,
            locks,
            status,
            metadata,
            began: Instant::now(),
            is_decided: false,
        }
    }

    async fn run(mut self) -> Result<Ended, Failure> {
        let earlier = state_of_this_boot(&self.file);
        let was_up = earlier.as_ref().is_some_and(|earlier| earlier.state == State::Done);
        if !was_up {
            // What the last boot came to says nothing of this one.
            self.write_status();
        }
        let stop = self.stop;
        let result = tokio::select! {
            result = self.steps(earlier.as_ref()) => result,
            () = stop.told() => Err(BootError::new("stop", "the run was told to stop")),
        };
        if self.status.state == State::Rebooting {
            // What comes down now may tell this process to stop as well.
            return self.finish(Ok(()), was_up).map(|()| Ended::Rebooting);
        }
        if let Ok(true) = result {
            tell_systemd(&[NotifyState::Ready]);
            self.reporter.line("this boot has had its run already; `--force` repeats it");
            return Ok(Ended::Up);
        }
        let result = result.map(|_| ()).map_err(|error| Failure {
            step: error.step.into(),
            message: self.reporter.redactor().clean(&error.message),
            help: error.help,
        });
        if !self.is_decided && was_up {
            // Nothing was changed: what the earlier run came to is still so.
            return result.map(|()| Ended::Up);
        }
        self.finish(result, was_up).map(|()| Ended::Up)
    }

    /// The steps. `Ok(true)` if this boot has had them already.
    async fn steps(&mut self, earlier: Option<&Status>) -> Result<bool, BootError> {
        let user_data = self.read_user_data().await?;
        let config = Config::parse(&user_data.name, &user_data.bytes)
            .map_err(|problems| BootError::new("configure", problems.to_string()))?;
        let bundle = Bundle::open(Path::new(BOOT_BUNDLE))
            .map_err(|problems| BootError::new("configure", problems.to_string()))?;
        let digest = digest(&user_data.bytes);
        if !self.settings.force
            && earlier.is_some_and(|earlier| {
                earlier.state == State::Done && earlier.config_digest.as_deref() == Some(&digest)
            })
        {
            return Ok(true);
        }
        self.is_decided = true;
        self.status.environment = Some(config.environment.clone());
        self.status.role = Some(config.role.clone());
        self.status.config_digest = Some(digest);

        let identity = self
            .timed("identify", async |boot| {
                let identity = boot.metadata.identity().await;
                identity.map_err(|error| BootError::of_metadata("identify", &error))
            })
            .await?;
        self.status.instance_id = Some(identity.instance_id.clone());
        self.write_status();

        let values = self
            .timed("fetch", async |boot| {
                let values = values::fetch(&config, &identity, Arc::clone(&boot.metadata)).await;
                values.map_err(|error| BootError {
                    step: "fetch",
                    message: error.to_string(),
                    help: error.help,
                })
            })
            .await?;
        self.reporter.hide(&values.secrets);
        self.status.fetched.clone_from(&values.names);
        self.status.requests.aws = values.calls;

        self.timed("converge", async |boot| boot.converge(&bundle, &values)).await?;
        if self.status.state == State::Rebooting {
            return Ok(false);
        }

        self.timed("health", async |_| {
            for check in &config.health {
                let seen = wait_for(check).await;
                seen.map_err(|error| BootError::new("health", error.to_string()))?;
            }
            Ok(())
        })
        .await?;
        Ok(false)
    }

    async fn read_user_data(&mut self) -> Result<UserData, BootError> {
        let Some(path) = self.settings.file.clone() else {
            return self
                .timed("user-data", async |boot| {
                    let data = boot.metadata.user_data().await;
                    match data.map_err(|error| BootError::of_metadata("user-data", &error))? {
                        Some(bytes) => Ok(UserData { name: "user-data".into(), bytes }),
                        None => {
                            Err(BootError::new("user-data", "the instance was launched without user-data"))
                        }
                    }
                })
                .await;
        };
        let name = path.display().to_string();
        match std::fs::read(&path) {
            Ok(bytes) => Ok(UserData { name, bytes }),
            Err(error) => Err(BootError::new("user-data", format!("failed to read `{name}`: {error}"))),
        }
    }

    fn converge(&mut self, bundle: &Bundle, values: &values::Values) -> Result<(), BootError> {
        let failed = |message: String| BootError::new("converge", message);
        let mut machine = Linux::open(Path::new("/"), Mode::Live)
            .map_err(|error| failed(chain(&error)))?
            .with_environment(self.settings.environment.clone())
            .with_fetch(Box::new(Https::new(&self.settings.environment)));
        let resolved = bundle
            .resolve(machine.host(), &values.scope())
            .map_err(|problems| BootError::new("render", problems.to_string()))?;
        self.stop.also(machine.interrupter());
        let Self { reporter, locks, status, file, stop, .. } = self;
        let mut events = |event: Event| {
            if let Event::Committed { .. } = event {
                status.state = State::Committed;
                let _ = file.write(status);
                locks.committed();
                tell_systemd(&[NotifyState::Ready]);
            }
            if let Event::Rebooting { .. } = event {
                status.state = State::Rebooting;
                let _ = file.write(status);
            }
            reporter.event(&event);
        };
        let result = converge(&resolved, &mut machine, Files::Together, &mut events);
        // A reboot may tell this process to stop while it is asked for; otherwise it was refused.
        if result.is_err() && status.state == State::Rebooting && !stop.is_told() {
            status.state = State::Committed;
        }
        result.map(drop).map_err(|error| BootError::of_run(&error))
    }

    /// Runs a step and remembers how long it took.
    async fn timed<T>(
        &mut self,
        name: &'static str,
        step: impl AsyncFnOnce(&mut Self) -> Result<T, BootError>,
    ) -> Result<T, BootError> {
        tell_systemd(&[NotifyState::Status(name)]);
        let began = Instant::now();
        let result = step(self).await;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.status.steps.push(Step { name: name.into(), milliseconds });
        if self.is_decided {
            self.write_status();
        }
        result
    }

    fn write_status(&mut self) {
        self.status.requests.metadata = self.metadata.requests();
        if let Err(error) = self.file.write(&self.status) {
            let path = self.file.path().display().to_string();
            self.reporter.line(&format!("failed to write `{path}`: {error}"));
        }
    }

    fn finish(mut self, result: Result<(), Failure>, was_up: bool) -> Result<(), Failure> {
        self.status.finished = Some(now());
        match &result {
            Ok(()) if self.status.state == State::Rebooting => {}
            Ok(()) => self.status.state = State::Done,
            Err(failure) => {
                // Until the commit, what an earlier run brought up serves on as it did.
                if self.status.state == State::Committed || !was_up {
                    self.stop_services();
                }
                self.status.state = State::Failed;
                self.status.error = Some(failure.clone());
            }
        }
        self.write_status();
        let line = self.console_line();
        let line = self.reporter.redactor().clean(&line);
        tell_systemd(&[NotifyState::Status(&line)]);
        tell_console(&line);
        self.reporter.line(&line);
        result
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

struct UserData {
    name: String,
    bytes: Vec<u8>,
}

/// The user-data and what the image brings for its boot, as one number.
fn digest(user_data: &[u8]) -> String {
    let manifest = std::fs::read(Path::new(BOOT_BUNDLE).join(recipes::bundle::MANIFEST)).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update((user_data.len() as u64).to_le_bytes());
    hash.update(user_data);
    hash.update(&manifest);
    recipes::op::hex(&hash.finalize())
}
