//! Running programs: no shell, an empty environment, a time limit, and what they print line by line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::failed;
use super::read_only::{self, NotStarted};
use crate::op::{Command, Input};
use crate::system::PerformError;

/// How many of the last lines an error shows.
const TAIL: usize = 20;

/// How much of what a program complained of an error shows, in bytes.
const LONGEST_COMPLAINT: u64 = 4096;

/// A program that ended may have left a child that holds its output; that one is not waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Runs programs, until it is told to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Runner(Interrupter);

/// How long a program that is asked to end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops a run from another thread, such as one that waits for signals.
#[derive(Debug, Clone, Default)]
pub struct Interrupter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    interrupted: AtomicBool,
    /// The process group of the program that runs now, or 0.
    running: AtomicI32,
}

impl Interrupter {
    /// Asks the program that runs now to end, and lets no other begin.
    pub fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::SeqCst);
        let running = self.0.running.load(Ordering::SeqCst);
        if running > 0 {
            let _ = killpg(Pid::from_raw(running), Signal::SIGTERM);
            let shared = Arc::clone(&self.0);
            thread::spawn(move || {
                thread::sleep(PATIENCE);
                if shared.running.load(Ordering::SeqCst) == running {
                    let _ = killpg(Pid::from_raw(running), Signal::SIGKILL);
                }
            });
        }
    }

    /// Whether somebody did.
    pub fn is_interrupted(&self) -> bool {
        self.0.interrupted.load(Ordering::SeqCst)
    }
}

enum News {
    Line(String),
    EndOfOutput,
    Ended(io::Result<ExitStatus>),
}

impl Runner {
    /// What stops it.
    pub(super) fn interrupter(&self) -> &Interrupter {
        &self.0
    }

    /// Runs a program to its end. What it prints goes to `output`, and the last of it into the error.
    pub(super) fn run(&self, command: &Command, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        let mut tail = VecDeque::new();
        let outcome = self
            .start_and_wait(command, &mut |line| {
                if command.sensitive {
                    return;
                }
                output(line);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line.to_owned());
            })
            .map_err(failed(format!("run `{command}`")))?;
        if command.sensitive {
            tail.push_back("(what it printed is sensitive)".into());
        }
        match outcome {
            outcome if outcome.is_success(&command.success_codes) => Ok(()),
            outcome => Err(PerformError::Program {
                program: command.to_string(),
                outcome: outcome.to_string(),
                output: tail.into(),
            }),
        }
    }

    /// Runs a program that only looks, where it cannot write. None if this host refuses such a place.
    pub(super) fn succeeds_held(&self, command: &Command) -> io::Result<Option<bool>> {
        let Some(started) = unless_refused(start(command, read_only::spawn))? else { return Ok(None) };
        Ok(Some(self.wait(command, started, &mut |_| {})?.is_success(&[0])))
    }

    /// Runs a program that only looks, and is trusted to.
    pub(super) fn succeeds(&self, command: &Command) -> io::Result<bool> {
        Ok(self.start_and_wait(command, &mut |_| {})?.is_success(&[0]))
    }

    /// What a program that only looks prints, run where it cannot write. None if this host refuses such a place.
    pub(super) fn output_held(&self, command: &Command) -> io::Result<Option<String>> {
        unless_refused(self.output_of(command, read_only::spawn))
    }

    /// What a program prints that only looks, and is trusted to.
    pub(super) fn output(&self, command: &Command) -> io::Result<String> {
        self.output_of(command, std::process::Command::spawn)
    }

    /// What a program prints. Its complaints are no part of that; they are in the error if it fails.
    fn output_of<E: From<io::Error>>(
        &self,
        command: &Command,
        spawn: impl FnOnce(&mut std::process::Command) -> Result<Child, E>,
    ) -> Result<String, E> {
        let mut complaints =
            File::from(memfd_create("complaints", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        let errors = complaints.try_clone()?;
        let started = start(command, |prepared| spawn(prepared.stderr(errors)))?;
        let mut text = String::new();
        let outcome = self.wait(command, started, &mut |line| {
            text.push_str(line);
            text.push('\n');
        })?;
        if outcome.is_success(&command.success_codes) {
            return Ok(text);
        }
        let mut why = String::new();
        if !command.sensitive {
            complaints.rewind()?;
            complaints.take(LONGEST_COMPLAINT).read_to_string(&mut why)?;
        }
        Err(io::Error::other(format!("it {outcome}\n{why}").trim_end().to_owned()).into())
    }

    /// Runs a program and returns what it printed.
    pub(super) fn read(&self, command: &Command) -> io::Result<String> {
        let mut text = String::new();
        let outcome = self.start_and_wait(command, &mut |line| {
            text.push_str(line);
            text.push('\n');
        })?;
        match outcome {
            outcome if outcome.is_success(&[0]) => Ok(text),
            outcome => Err(io::Error::other(format!("`{command}` {outcome}\n{text}"))),
        }
    }

    fn start_and_wait(&self, command: &Command, line: &mut dyn FnMut(&str)) -> io::Result<Outcome> {
        self.wait(command, start(command, std::process::Command::spawn)?, line)
    }

    fn wait(
        &self,
        command: &Command,
        (news, pid): Started,
        line: &mut dyn FnMut(&str),
    ) -> io::Result<Outcome> {
        self.0.0.running.store(pid.as_raw(), Ordering::SeqCst);
        let outcome = self.wait_for(command, &news, pid, line);
        self.0.0.running.store(0, Ordering::SeqCst);
        outcome
    }

    fn wait_for(
        &self,
        command: &Command,
        news: &Receiver<News>,
        pid: Pid,
        line: &mut dyn FnMut(&str),
    ) -> io::Result<Outcome> {
        if self.0.is_interrupted() {
            let _ = killpg(pid, Signal::SIGTERM);
        }
        let mut deadline = Instant::now() + command.timeout;
        let mut status = None;
        let mut output_ended = false;
        loop {
            match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(News::Line(text)) => line(&text),
                Ok(News::EndOfOutput) => output_ended = true,
                Ok(News::Ended(ended)) => {
                    status = Some(ended?);
                    deadline = Instant::now() + GRACE;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if status.is_some() => break,
                Err(RecvTimeoutError::Timeout) => {
                    // The whole group: a shell's children as well.
                    let _ = killpg(pid, Signal::SIGKILL);
                    return Ok(Outcome::TookTooLong(command.timeout));
                }
            }
            if status.is_some() && output_ended {
                break;
            }
        }
        status.map(Outcome::Ended).ok_or_else(|| io::Error::other("it was lost"))
    }
}

/// None where the host refuses a place in which nothing can be written.
fn unless_refused<T>(result: Result<T, NotStarted>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(NotStarted::Refused) => Ok(None),
        Err(NotStarted::Failed(error)) => Err(error),
    }
}

enum Outcome {
    Ended(ExitStatus),
    TookTooLong(Duration),
}

impl Outcome {
    fn is_success(&self, codes: &[u8]) -> bool {
        let code = match self {
            Self::Ended(status) => status.code().and_then(|code| u8::try_from(code).ok()),
            Self::TookTooLong(_) => None,
        };
        code.is_some_and(|code| codes.contains(&code))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TookTooLong(limit) => write!(formatter, "was stopped after {} s", limit.as_secs()),
            Self::Ended(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(formatter, "ended with {code}"),
                (None, Some(signal)) => write!(formatter, "was killed by signal {signal}"),
                (None, None) => formatter.write_str("ended in an unknown way"),
            },
        }
    }
}

/// What comes of a program, and the group of processes that it leads.
type Started = (Receiver<News>, Pid);

/// Starts a program in the way that is given.
fn start<E: From<io::Error>>(
    command: &Command,
    spawn: impl FnOnce(&mut std::process::Command) -> Result<Child, E>,
) -> Result<Started, E> {
    let mut words = command.argv.clone();
    if let Some(user) = &command.user {
        words.splice(0..0, ["runuser", "-u", user, "--"].map(str::to_owned));
    }
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no program to run").into());
    };
    let (reader, writer) = io::pipe()?;
    let mut prepared = std::process::Command::new(program);
    prepared
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .envs(&command.environment)
        .current_dir(command.directory.as_deref().unwrap_or("/".as_ref()))
        .stdin(standard_input(&command.input)?)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let mut child = spawn(&mut prepared)?;
    // It has the other end of the pipe, which ends when nobody has it any more.
    drop(prepared);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (send, news) = channel();
    let lines = send.clone();
    thread::spawn(move || send_lines(reader, &lines));
    thread::spawn(move || {
        let _ = send.send(News::Ended(child.wait()));
    });
    Ok((news, pid))
}

/// A file in memory that has no name: nobody else finds it, and it ends with the last program that has it.
fn standard_input(input: &Input) -> io::Result<Stdio> {
    let (Input::Text(text) | Input::Script { text, .. }) = input else { return Ok(Stdio::null()) };
    let mut file = File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(text.bytes())?;
    // Nobody who reads it can change it for others who do.
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    // At its end it is an empty input; who opens it anew, by `/dev/stdin`, begins at its start.
    if matches!(input, Input::Text(_)) {
        file.rewind()?;
    }
    Ok(file.into())
}

fn send_lines(reader: io::PipeReader, news: &Sender<News>) {
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&bytes);
        // A progress bar rewrites its line; only the last state of it is a line.
        let text = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default();
        if news.send(News::Line(text.to_owned())).is_err() {
            return;
        }
        bytes.clear();
    }
    let _ = news.send(News::EndOfOutput);
}
