//! The leak scan: keys, credentials and passwords anywhere in the tree.
//!
//! A file that a package brought, unchanged, is public already and is never a leak.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

use super::clean::ELSEWHERE;
use super::files;
use super::gate::{Gate, Known};
use super::inside::{self, Ended};
use super::packaged::Packaged;
use super::search::{ASSIGNED, Rules};

/// Something that must not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where, from the root.
    pub path: String,
    /// The line, from 1, if it is in the middle of a file.
    pub line: Option<usize>,
    /// What it looks like. What it is, is never told.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}", self.what, self.path)?;
        self.line.map_or(Ok(()), |line| write!(formatter, ":{line}"))
    }
}

/// What a scan came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// What must not be in an image.
    pub findings: Vec<Finding>,
    /// What would not be allowed if the gate had not said so.
    pub allowed: Vec<Finding>,
}

/// Manuals that programs put into tables when they are installed: the examples in them give passwords values.
const MANUALS: &[&str] = &["/var/lib/mysql/mysql/help_topic.MAD", "/var/lib/mysql/mysql/help_topic.MYD"];

/// A longer file is looked through in parts, which overlap by more than anything that is searched for.
const PART: usize = 16 * 1024 * 1024;
const OVERLAP: usize = 16 * 1024;

/// More threads read no faster from one disk.
const MOST_THREADS: usize = 4;

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to scan `{}`: {source}", path.display())]
pub struct ScanError {
    path: PathBuf,
    source: io::Error,
}

/// Looks at every file below a root.
///
/// # Errors
/// The first path that could not be read: what was not looked at is not known to be clean.
pub fn scan(root: &Path, gate: &Gate) -> Result<Scanned, ScanError> {
    let files = files_below(root)?;
    let look = Look::new(gate);
    let packaged = Packaged::new(root);
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::new(), None));
    let work = || {
        loop {
            let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let found = look.file(root, path, &packaged);
            let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match found {
                Ok(found) => results.0.extend(found),
                Err(source) => {
                    results.1.get_or_insert(ScanError { path: root.join(path), source });
                    return;
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (mut found, error) = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    found.sort();
    let mut scanned = Scanned::default();
    let mut allowed = BTreeMap::new();
    for mut finding in found {
        if finding.what == ASSIGNED && MANUALS.contains(&finding.path.as_str()) {
            continue;
        }
        match allowed.entry(finding.path.clone()).or_insert_with(|| gate.allows(root, &finding.path)) {
            Some(true) => scanned.allowed.push(finding),
            Some(false) => {
                finding.what += " (the file is another than the one that is allowed)";
                scanned.findings.push(finding);
            }
            None => scanned.findings.push(finding),
        }
    }
    Ok(scanned)
}

/// Every file that is not empty, from the root.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, ScanError> {
    // This program is full of what leaks look like.
    let same = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let ourselves = fs::metadata("/proc/self/exe").map(same).ok();
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let failed = |source| ScanError { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let metadata = path.symlink_metadata();
            let metadata = metadata.map_err(|source| ScanError { path: path.clone(), source })?;
            let inside = path.strip_prefix(root).unwrap_or(&path);
            if metadata.is_dir() && !ELSEWHERE.iter().any(|elsewhere| inside == Path::new(elsewhere)) {
                folders.push(path);
            } else if metadata.is_file() && metadata.len() > 0 && ourselves != Some(same(metadata)) {
                files.push(inside.to_owned());
            }
        }
    }
    Ok(files)
}

/// What is looked for.
pub(super) struct Look {
    rules: &'static Rules,
    known: Option<Known>,
}

impl Look {
    pub(super) fn new(gate: &Gate) -> Self {
        Self { rules: Rules::get(), known: Known::new(&gate.secrets) }
    }

    /// What is in a file and must not be.
    fn file(&self, root: &Path, path: &Path, packaged: &Packaged<'_>) -> io::Result<Vec<Finding>> {
        let full = root.join(path);
        let mut file = File::open(&full)?;
        let mut magic = Vec::new();
        file.by_ref().take(inside::MAGIC as u64).read_to_end(&mut magic)?;
        let is_packed = inside::is_packed(&magic);
        let mut found = self.through(path, magic.chain(file), PART)?;
        let name = format!("/{}", path.display());
        let finding = |line, what: &str| Finding { path: name.clone(), line, what: what.into() };
        found.extend(files::by_name(path).map(|what| finding(None, what)));
        if files::has_accounts(path) {
            let accounts = files::accounts(path, &fs::read(&full)?);
            found.extend(accounts.into_iter().map(|(line, what)| finding(Some(line), what)));
        }
        if found.is_empty() && !is_packed || packaged.has(path) {
            return Ok(Vec::new());
        }
        if is_packed {
            let mut visit = |stream: &mut dyn Read| {
                for inner in self.through(path, stream, PART)? {
                    // A line inside of something packed is none of the file.
                    if !found.iter().any(|other| other.what == inner.what) {
                        found.push(Finding { line: None, ..inner });
                    }
                }
                Ok(())
            };
            if inside::unpack(File::open(&full)?, &mut visit)? == Ended::TooBig {
                found.push(finding(None, "more than can be looked through"));
            }
        }
        Ok(found)
    }

    /// Looks at what is read, part by part. Of each kind of leak the first is told.
    pub(super) fn through(
        &self,
        path: &Path,
        mut reader: impl Read,
        part: usize,
    ) -> io::Result<Vec<Finding>> {
        let name = format!("/{}", path.display());
        let mut found: Vec<Finding> = Vec::new();
        let (mut bytes, mut lines_before) = (Vec::new(), 0);
        loop {
            let kept = bytes.len();
            let read = reader.by_ref().take((part - kept) as u64).read_to_end(&mut bytes)?;
            if read == 0 {
                return Ok(found);
            }
            for (at, what) in self.at(&bytes) {
                let line = lines_before + bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
                // What one rule names, another need not name again.
                if !found.iter().any(|other| other.what == what || other.line == Some(line)) {
                    found.push(Finding { path: name.clone(), line: Some(line), what: what.into() });
                }
            }
            if bytes.len() < part {
                return Ok(found);
            }
            let passed = part - OVERLAP.min(part / 2);
            lines_before += bytes[..passed].iter().filter(|&&byte| byte == b'\n').count();
            bytes.drain(..passed);
        }
    }

    /// Where something is, and what. Of what is at one place, a secret of the bake comes first.
    fn at(&self, bytes: &[u8]) -> Vec<(usize, &str)> {
        let known = self.known.iter().flat_map(|known| known.look(bytes));
        let mut rest: Vec<_> = self.rules.look(bytes).into_iter().map(|hit| (hit.at, hit.what)).collect();
        rest.sort_unstable();
        known.chain(rest).collect()
    }
}
