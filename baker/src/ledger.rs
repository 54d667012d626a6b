//! The ledger: everything a bake created that must be undone.
//!
//! It is an append-only file of JSON lines. A line is on the disk before the thing it names can exist, so
//! whatever happens to baker, [`Ledger::open`] knows all that may be there. Undoing is idempotent: what does
//! not exist any more, or never came to be, is undone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// The version of the format.
pub const VERSION: u32 = 1;

const LEDGER: &str = "ledger.jsonl";
const LOCK: &str = "lock";

/// Something that a bake creates and that must not outlive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Created {
    /// Every process, mount and network of the run: they are in a control group of this name.
    ControlGroup {
        /// The name of the group.
        name: String,
    },
    /// A file, or a folder with everything in it.
    Path {
        /// Where.
        path: PathBuf,
    },
    /// Everything of the run in a region of EC2 that only the bake needs. It has tags that say so.
    Ec2 {
        /// The region.
        region: String,
        /// The run, as the tags have it.
        run: String,
    },
}

impl std::fmt::Display for Created {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ControlGroup { name } => write!(formatter, "processes of {name}"),
            Self::Path { path } => write!(formatter, "{}", path.display()),
            Self::Ec2 { region, run } => write!(formatter, "what {run} made in {region}"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Begin { version: u32, run: String },
    Intend { number: usize, created: Created },
    Undone { number: usize },
}

/// The ledger of one run, which is under way for as long as this exists.
#[derive(Debug)]
pub struct Ledger {
    run: String,
    folder: PathBuf,
    file: File,
    entries: Vec<Option<Created>>,
    _lock: Flock<File>,
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process is working on the run.
    #[error("the run `{0}` is under way")]
    UnderWay(String),
    /// The ledger could not be read or written.
    #[error("failed to {what} the ledger `{path}`")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Ledger {
    /// Begins the ledger of a new run, in a folder of its own below `runs`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(runs: &Path, run: &str) -> Result<Self, LedgerError> {
        let folder = runs.join(run);
        let path = folder.join(LEDGER);
        let failed = |source| LedgerError::Io { what: "begin", path: path.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = lock(&folder, run)?;
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path).map_err(failed)?;
        let mut ledger = Self { run: run.into(), folder, file, entries: Vec::new(), _lock: lock };
        ledger.append(&Line::Begin { version: VERSION, run: run.into() })?;
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        sync(&ledger.folder).and_then(|()| sync(runs)).map_err(failed)?;
        Ok(ledger)
    }

    /// Opens the ledger of a run that ended, however it ended.
    ///
    /// # Errors
    /// When the run is under way, or the ledger cannot be read.
    pub fn open(runs: &Path, run: &str) -> Result<Self, LedgerError> {
        let folder = runs.join(run);
        let path = folder.join(LEDGER);
        let failed = |source| LedgerError::Io { what: "read", path: path.clone(), source };
        let lock = lock(&folder, run)?;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let entries = parse(&text).map_err(failed)?;
        // A line that was cut off names nothing that exists: it was not synced yet. A new one must not
        // continue it.
        if !text.is_empty() && !text.ends_with('\n') {
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            file.set_len(whole as u64)
                .and_then(|()| file.seek(SeekFrom::End(0)).map(drop))
                .map_err(failed)?;
        }
        Ok(Self { run: run.into(), folder, file, entries, _lock: lock })
    }

    /// The names of all runs that left something, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn runs(runs: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(runs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The name of the run.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The folder of the run, where whatever it needs may be; it goes with the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down that something may exist from now on.
    ///
    /// # Errors
    /// When that is not on the disk: the thing must not be created then.
    pub fn intend(&mut self, created: Created) -> Result<(), LedgerError> {
        let number = self.entries.len();
        self.entries.push(Some(created.clone()));
        self.append(&Line::Intend { number, created })
    }

    /// What may still exist, newest first.
    pub fn remaining(&self) -> Vec<(usize, Created)> {
        let entries = self.entries.iter().enumerate().rev();
        entries.filter_map(|(number, created)| Some((number, created.clone()?))).collect()
    }

    /// Writes down that something does not exist any more.
    ///
    /// # Errors
    /// When it cannot be written; undoing it again does no harm.
    pub fn undone(&mut self, number: usize) -> Result<(), LedgerError> {
        if let Some(entry) = self.entries.get_mut(number) {
            *entry = None;
        }
        self.append(&Line::Undone { number })
    }

    /// Removes the run's folder with the ledger, when nothing remains.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn close(self) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::Io { what: "remove", path: self.folder.clone(), source };
        fs::remove_dir_all(&self.folder).map_err(failed)
    }

    fn append(&mut self, line: &Line) -> Result<(), LedgerError> {
        let path = self.folder.join(LEDGER);
        let failed = |source| LedgerError::Io { what: "write", path, source };
        let mut text = serde_json::to_string(line).map_err(|error| failed_json(&self.folder, error))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}

fn failed_json(folder: &Path, error: serde_json::Error) -> LedgerError {
    LedgerError::Io { what: "write", path: folder.join(LEDGER), source: error.into() }
}

fn parse(text: &str) -> io::Result<Vec<Option<Created>>> {
    let mut entries: Vec<Option<Created>> = Vec::new();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    for line in whole.lines() {
        match serde_json::from_str(line)? {
            Line::Begin { version: VERSION, .. } => {}
            Line::Begin { version, .. } => {
                return Err(io::Error::other(format!(
                    "it has the version {version}, and this program knows {VERSION}"
                )));
            }
            Line::Intend { number, created } => {
                entries.resize(entries.len().max(number + 1), None);
                entries[number] = Some(created);
            }
            Line::Undone { number } => {
                if let Some(entry) = entries.get_mut(number) {
                    *entry = None;
                }
            }
        }
    }
    Ok(entries)
}

fn lock(folder: &Path, run: &str) -> Result<Flock<File>, LedgerError> {
    let path = folder.join(LOCK);
    let failed = |source| LedgerError::Io { what: "lock", path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => LedgerError::UnderWay(run.into()),
        error => failed(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Created {
        Created::Path { path: name.into() }
    }

    #[test]
    fn what_was_intended_and_not_undone_remains_newest_first() {
        let runs = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::begin(runs.path(), "run-1").expect("begun");
        ledger.intend(Created::ControlGroup { name: "baker-run-1".into() }).expect("written");
        ledger.intend(path("/a")).expect("written");
        ledger.intend(path("/b")).expect("written");
        ledger.undone(1).expect("written");
        drop(ledger);
        let ledger = Ledger::open(runs.path(), "run-1").expect("read");
        let remaining: Vec<String> =
            ledger.remaining().iter().map(|(_, created)| created.to_string()).collect();
        assert_eq!(remaining, ["/b", "processes of baker-run-1"]);
        assert_eq!(Ledger::runs(runs.path()).expect("listed"), ["run-1"]);
        ledger.close().expect("removed");
        assert_eq!(Ledger::runs(runs.path()).expect("listed"), Vec::<String>::new());
    }

    #[test]
    fn a_run_that_is_under_way_is_left_alone() {
        let runs = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::begin(runs.path(), "run-1").expect("begun");
        let error = Ledger::open(runs.path(), "run-1").expect_err("under way");
        assert_eq!(error.to_string(), "the run `run-1` is under way");
        drop(ledger);
        Ledger::open(runs.path(), "run-1").expect("it ended");
    }

    /// A line that the kill cut off, at every byte of it.
    #[test]
    fn a_line_that_was_cut_off_is_as_if_it_had_not_begun() {
        let runs = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::begin(runs.path(), "run-1").expect("begun");
        ledger.intend(path("/a")).expect("written");
        let file = ledger.folder().join(LEDGER);
        drop(ledger);
        let whole = fs::read(&file).expect("read");
        for cut in 1..60 {
            let mut text = whole.clone();
            text.extend_from_slice(
                &br#"{"intend":{"number":1,"created":{"path":{"path":"/bbbbbbbbbbbbbbbbbb"}}}}"#[..cut],
            );
            fs::write(&file, &text).expect("written");
            let mut ledger = Ledger::open(runs.path(), "run-1").expect("read");
            assert_eq!(ledger.remaining(), [(0, path("/a"))]);
            ledger.intend(path("/c")).expect("written");
            drop(ledger);
            assert_eq!(Ledger::open(runs.path(), "run-1").expect("read").remaining().len(), 2);
            fs::write(&file, &whole).expect("written");
        }
    }

    /// A ledger as the first release wrote it.
    #[test]
    fn a_ledger_of_the_first_release_is_read_and_one_of_another_version_is_refused() {
        let first = r#"{"begin":{"version":1,"run":"r"}}
{"intend":{"number":0,"created":{"control_group":{"name":"baker-r"}}}}
{"intend":{"number":1,"created":{"path":{"path":"/t"}}}}
{"undone":{"number":1}}
"#;
        let entries = parse(first).expect("read");
        assert_eq!(entries, [Some(Created::ControlGroup { name: "baker-r".into() }), None]);
        let of_ec2 = r#"{"intend":{"number":0,"created":{"ec2":{"region":"eu-west-1","run":"r"}}}}
"#;
        let created = Created::Ec2 { region: "eu-west-1".into(), run: "r".into() };
        assert_eq!(parse(of_ec2).expect("read"), [Some(created)]);
        assert!(parse("{\"begin\":{\"version\":2,\"run\":\"r\"}}\n").is_err());
    }
}
