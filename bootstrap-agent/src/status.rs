//! The status file: what the host's boot came to, for people, monitors and the next boot.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the format.
pub const VERSION: u32 = 1;

/// `/var/lib/bootstrap-agent/status.json`. No value that was fetched is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// How far the run is.
    pub state: State,
    /// The version of the agent.
    pub agent: String,
    /// The boot that this is about, as the kernel numbers it.
    pub boot_id: String,
    /// The instance, once it is known.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// The environment, once it is known.
    #[serde(default)]
    pub environment: Option<String>,
    /// The role, once it is known.
    #[serde(default)]
    pub role: Option<String>,
    /// SHA-256 of the user-data and of what the image brings for its boot.
    #[serde(default)]
    pub config_digest: Option<String>,
    /// When the run began, as RFC 3339.
    pub started: String,
    /// When it ended.
    #[serde(default)]
    pub finished: Option<String>,
    /// The steps that were reached.
    pub steps: Vec<Step>,
    /// The names of what was fetched.
    #[serde(default)]
    pub fetched: Vec<String>,
    /// How many requests went to AWS and to the metadata service.
    pub requests: Requests,
    /// When the values were fetched that were used because the network is away.
    #[serde(default)]
    pub cached: Option<String>,
    /// What the last look for new values came to, if this host looks for them.
    #[serde(default)]
    pub watch: Option<Watched>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Failure>,
}

impl Status {
    /// All of it, as the file has it.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// What a look for new values came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// What the host has.
    pub state: WatchState,
    /// When it was looked, as RFC 3339.
    pub looked: String,
    /// The names of the values that were new when there last were any.
    #[serde(default)]
    pub changed: Vec<String>,
    /// When that was.
    #[serde(default)]
    pub since: Option<String>,
    /// How many requests the look made to AWS.
    pub requests: u32,
    /// Why the host does not have the newest values, or why nobody knows.
    #[serde(default)]
    pub error: Option<Failure>,
}

/// What a host has that looks for new values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchState {
    /// The newest values.
    Current,
    /// Those before the newest, with which it was not healthy.
    RolledBack,
    /// Those that it had; whether they are the newest could not be seen.
    Unknown,
    /// Some of both: it could not go back to those before the newest.
    Failed,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is under way, and services that need it must wait.
    Running,
    /// All files are in place: services that need it may start.
    Committed,
    /// The host is about to reboot, and the run of the next boot goes on.
    Rebooting,
    /// The host is up.
    Done,
    /// The host must not serve.
    Failed,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, such as `fetch`.
    pub name: String,
    /// How long it took.
    pub milliseconds: u64,
    /// How often something was asked for: of AWS, of the metadata service, or by a check.
    #[serde(default)]
    pub calls: u32,
    /// How often that was tried, all tries of a call counted.
    #[serde(default)]
    pub attempts: u32,
}

/// What it cost, as people read it.
impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { milliseconds, calls, attempts, .. } = self;
        write!(formatter, "{milliseconds} ms")?;
        let plural = |count: &u32| if *count == 1 { "" } else { "s" };
        match (*calls, *attempts) {
            (0, 0) => Ok(()),
            (calls, attempts) => write!(
                formatter,
                ", {calls} call{} in {attempts} attempt{}",
                plural(&calls),
                plural(&attempts)
            ),
        }
    }
}

/// How many requests a run made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// To AWS services.
    pub aws: u32,
    /// To the instance metadata service.
    pub metadata: u32,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The step that it failed in.
    pub step: String,
    /// What went wrong, with all causes.
    pub message: String,
    /// What to do about it, if anybody knows.
    #[serde(default)]
    pub help: Option<String>,
}

/// The one part of a status that every version has.
#[derive(Deserialize)]
struct Format {
    version: u32,
}

/// Where the status is kept.
#[derive(Debug, Clone)]
pub struct StatusFile(PathBuf);

impl StatusFile {
    /// The status file below a root.
    pub fn below(root: &Path) -> Self {
        Self(root.join("var/lib/bootstrap-agent/status.json"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it says; none if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is of another version.
    pub fn read(&self) -> io::Result<Option<Status>> {
        let bytes = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let Format { version } = serde_json::from_slice(&bytes)?;
        if version != VERSION {
            let why = format!("it has the version {version}, and this program knows {VERSION}");
            return Err(io::Error::other(why));
        }
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Replaces it, whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, status: &Status) -> io::Result<()> {
        replace(&self.0, &serde_json::to_vec_pretty(status)?, 0o644)
    }
}

/// Replaces a file of the agent's own, whole; its folder is made if it is missing.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let staged = path.with_extension("staged");
    let _ = fs::remove_file(&staged);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&staged, path)) {
        // A disk that is full is not made fuller.
        let _ = fs::remove_file(&staged);
        return Err(error);
    }
    fs::File::open(folder)?.sync_all()
}

/// A status of a test.
#[cfg(test)]
pub(crate) fn of_test(state: State) -> Status {
    Status {
        version: VERSION,
        state,
        agent: "0.1.0".into(),
        boot_id: "b".into(),
        instance_id: Some("i-0123456789abcdef0".into()),
        environment: Some("prod".into()),
        role: Some("web".into()),
        config_digest: None,
        started: "2026-11-22T10:00:00.000Z".into(),
        finished: Some("2026-11-22T10:00:02.500Z".into()),
        steps: Vec::new(),
        fetched: Vec::new(),
        requests: Requests { aws: 2, metadata: 5 },
        cached: None,
        watch: None,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status as the first release wrote it.
    const FIRST: &str = r#"{"version":1,"state":"failed","agent":"0.1.0","boot_id":"b","instance_id":"i-1","environment":"prod","role":"web","config_digest":"d","started":"2026-11-22T10:00:00Z","finished":"2026-11-22T10:00:01Z","steps":[{"name":"identify","milliseconds":3}],"fetched":["ssm:/a/"],"requests":{"aws":2,"metadata":5},"error":{"step":"fetch","message":"m","help":null}}"#;

    #[test]
    fn what_the_first_release_wrote_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StatusFile::below(folder.path());
        assert_eq!(file.read().expect("readable"), None);
        let status: Status = serde_json::from_str(FIRST).expect("valid");
        file.write(&status).expect("written");
        file.write(&status).expect("written again");
        assert_eq!(file.read().expect("readable"), Some(status));
        fs::write(file.path(), r#"{"version":2}"#).expect("written");
        assert!(file.read().expect_err("another version").to_string().contains("version 2"));
    }
}
