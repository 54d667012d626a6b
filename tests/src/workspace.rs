//! A folder with image definitions and recipes, and baker run in it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use baker::platform::{ControlGroup, GROUP_PREFIX};
use baker::report::Event;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::binaries;

/// How long the processes of a killed bake may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// The folder. It has a state folder of its own, with the cache of trees that all of them share.
#[derive(Debug)]
pub struct Workspace {
    folder: TempDir,
}

/// How a run of baker ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A run of baker that tells its events.
pub struct Running {
    child: Child,
    events: BufReader<ChildStdout>,
    stderr: JoinHandle<String>,
}

impl Workspace {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        let workspace = Self::without_cache()?;
        std::os::unix::fs::symlink(shared("cache")?, workspace.path("state/cache"))?;
        Ok(workspace)
    }

    /// An empty one in which nothing is cached.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn without_cache() -> io::Result<Self> {
        let workspace = Self { folder: TempDir::with_prefix("workspace-")? };
        fs::create_dir(workspace.path("state"))?;
        Ok(workspace)
    }

    /// The same with a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with(self, path: &str, text: &str) -> io::Result<Self> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, text)?;
        Ok(self)
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs baker to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn baker(&self, arguments: &[&str]) -> io::Result<Ended> {
        self.command(arguments)?.stdin(Stdio::null()).output().map(Ended::from)
    }

    /// Bakes an image.
    ///
    /// # Errors
    /// When it cannot be baked: what baker said.
    pub fn bake(&self, image: &str) -> io::Result<PathBuf> {
        let ended = self.baker(&["build", &format!("images/{image}.yaml")])?;
        match ended.code {
            Some(0) => Ok(self.path("output").join(image)),
            _ => Err(io::Error::other(format!("{image} was not baked: {}", ended.stderr))),
        }
    }

    /// Starts a bake, to follow its events.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, image: &str) -> io::Result<Running> {
        let mut command = self.command(&["build", "--format=json", &format!("images/{image}.yaml")])?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let missing = || io::Error::other("it has no output");
        let events = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Ok(Running { child, events, stderr })
    }

    /// The command that runs baker, for a test that starts it somewhere else.
    ///
    /// # Errors
    /// When a program is missing.
    pub fn command(&self, arguments: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(binaries::baker()?);
        let (verb, rest) = arguments.split_first().ok_or_else(|| io::Error::other("there is no verb"))?;
        command.current_dir(self.folder.path()).arg(verb).arg("--state").arg(self.path("state"));
        if ["build", "plan", "apply", "drift", "facts"].contains(verb) {
            command.arg("--agent").arg(binaries::agent()?);
        }
        command.args(rest);
        Ok(command)
    }

    /// The runs that have left something, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn runs(&self) -> io::Result<Vec<String>> {
        names(&self.path("state/runs"))
    }

    /// Everything that is left of runs, in words, once what has been killed is gone: folders, partial files,
    /// processes, mounts and control groups. Networks are gone with the processes in them.
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn left(&self, runs: &[String]) -> io::Result<Vec<String>> {
        let until = Instant::now() + GONE_LIMIT;
        loop {
            let left = self.left_now(runs)?;
            if left.is_empty() || Instant::now() > until {
                return Ok(left);
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn left_now(&self, runs: &[String]) -> io::Result<Vec<String>> {
        let mut left: Vec<String> = self.runs()?.iter().map(|run| format!("the folder of {run}")).collect();
        let partial = names(&self.path("output"))?.into_iter().filter(|name| name.starts_with('.'));
        left.extend(partial.map(|name| format!("the folder output/{name}")));
        let cached = names(&self.path("state/cache"))?.into_iter();
        left.extend(cached.filter(|name| runs.iter().any(|run| name.contains(run))));
        let folder = self.folder.path().display().to_string();
        for run in runs {
            let groups = ControlGroup::with_prefix(&format!("{GROUP_PREFIX}{run}"));
            left.extend(groups.map_err(io::Error::other)?);
        }
        for process in names(Path::new("/proc"))?.iter().filter(|name| name.parse::<u32>().is_ok()) {
            let read = |file: &str| {
                let bytes = fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let (command, group) = (read("cmdline"), read("cgroup"));
            if command.contains(&folder)
                || runs.iter().any(|run| command.contains(run) || group.contains(run))
            {
                left.push(format!("the process {process}: {command}"));
            }
            let mounts = read("mountinfo");
            left.extend(
                mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("the mount {line}")),
            );
        }
        Ok(left)
    }
}

impl Running {
    /// Waits for an event; nothing if it ended without.
    ///
    /// # Errors
    /// When what it tells is no event.
    pub fn until(&mut self, mut seen: impl FnMut(&Event) -> bool) -> io::Result<Option<Event>> {
        loop {
            let mut line = String::new();
            if self.events.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let event =
                serde_json::from_str(&line).map_err(|error| io::Error::other(format!("{error}: {line}")))?;
            if seen(&event) {
                return Ok(Some(event));
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(id), signal).map_err(io::Error::from)
    }

    /// Waits for its end, and returns what it said on standard error.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(mut self) -> io::Result<(ExitStatus, String)> {
        io::copy(&mut self.events, &mut io::sink())?;
        let status = self.child.wait()?;
        Ok((status, self.stderr.join().unwrap_or_default()))
    }
}

/// An image of the project, baked once for all tests.
///
/// # Errors
/// When it cannot be baked.
pub fn image(name: &str) -> io::Result<PathBuf> {
    image_of(&binaries::project(), name, &[])
}

/// An image of a folder that extends those of the project, with arguments for its bake. Those that it extends are baked once for
/// all tests.
///
/// # Errors
/// When it cannot be baked.
pub fn image_of(project: &Path, name: &str, arguments: &[&str]) -> io::Result<PathBuf> {
    let folder = shared(&format!("images-{}", binaries::version()?))?;
    let lock = fs::File::create(folder.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
    let output = Command::new(binaries::baker()?)
        .current_dir(project)
        .args(["build", &format!("images/{name}.yaml"), "--state"])
        .arg(shared("")?)
        .arg("--agent")
        .arg(binaries::agent()?)
        .arg("--output")
        .arg(&folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(folder.join(name));
    }
    Err(io::Error::other(format!("{name} was not baked: {}", String::from_utf8_lossy(&output.stderr))))
}

/// A folder that all tests share, below cargo's.
pub(crate) fn shared(name: &str) -> io::Result<PathBuf> {
    let folder = binaries::target()?.join("testbed").join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            Ok(entries?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        }
    }
}
