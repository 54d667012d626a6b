//! What a host remembers between runs, and the lock that makes a run the only one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failed;
use super::tree::Tree;
use crate::system::{EntryKind, PerformError};

const HANDLERS: &str = "/var/lib/bootstrap-agent/handlers.json";
pub(super) const REBOOTS: &str = "/var/lib/bootstrap-agent/reboots.json";
const LOCK: &str = "/run/bootstrap-agent/apply.lock";
/// There if a run since the boot brought the package lists up to date.
const FRESH_LISTS: &str = "/run/bootstrap-agent/package-lists";
const VERSION: u32 = 1;

/// Held for as long as it exists; the kernel lets go of it when the process ends, however it ends.
pub(super) struct Lock {
    _file: Flock<File>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handlers {
    version: u32,
    pending: Vec<String>,
}

/// What the host was to be booted anew for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reboots {
    version: u32,
    /// The id of each resource, with the boot that it was asked for in.
    boots: BTreeMap<String, String>,
}

/// What every file of ours begins with.
#[derive(Deserialize)]
struct Format {
    version: u32,
}

/// Takes the lock.
pub(super) fn lock(tree: &Tree) -> Result<Lock, PerformError> {
    let path = Path::new(LOCK);
    let what = || format!("take the lock `{LOCK}`");
    make_parents(tree, path)?;
    let file = tree.open_lock(path).map_err(failed(what()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            written.map_err(failed(what()))?;
            Ok(Lock { _file: file })
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
            Err(PerformError::Unsupported(format!(
                "another run is changing this host (process {}); wait for it to end",
                if holder.is_empty() { "unknown" } else { &holder }
            )))
        }
        Err((_, error)) => Err(failed(what())(error.into())),
    }
}

pub(super) fn pending_handlers(tree: &Tree) -> Result<Vec<String>, PerformError> {
    Ok(read::<Handlers>(tree, HANDLERS)?.map(|handlers| handlers.pending).unwrap_or_default())
}

pub(super) fn remember_handlers(tree: &Tree, handlers: &[String]) -> Result<(), PerformError> {
    if handlers.is_empty() {
        return remove(tree, HANDLERS);
    }
    let handlers = Handlers { version: VERSION, pending: handlers.to_vec() };
    write_durably(tree, Path::new(HANDLERS), &serde_json::to_vec(&handlers).unwrap_or_default())
}

/// Whether the host has booted since it was remembered that it will for this resource.
pub(super) fn rebooted_for(tree: &Tree, resource: &str) -> Result<bool, PerformError> {
    let Some(reboots) = read::<Reboots>(tree, REBOOTS)? else { return Ok(false) };
    Ok(reboots.boots.get(resource).is_some_and(|boot| *boot != boot_id()))
}

pub(super) fn remember_reboot(tree: &Tree, resource: &str) -> Result<(), PerformError> {
    let mut boots = read::<Reboots>(tree, REBOOTS)?.map(|reboots| reboots.boots).unwrap_or_default();
    boots.insert(resource.to_owned(), boot_id());
    let reboots = Reboots { version: VERSION, boots };
    write_durably(tree, Path::new(REBOOTS), &serde_json::to_vec(&reboots).unwrap_or_default())
}

/// The kernel's number for this boot (random(4)).
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Reads a file of ours; none if it is not there.
fn read<T: DeserializeOwned>(tree: &Tree, path: &str) -> Result<Option<T>, PerformError> {
    let what = format!("read `{path}`");
    let Some(bytes) = tree.read(Path::new(path)).map_err(failed(&what))? else { return Ok(None) };
    let Format { version } = serde_json::from_slice(&bytes).map_err(|error| failed(&what)(error.into()))?;
    if version != VERSION {
        let why = format!("it has version {version}, and this program knows {VERSION}");
        return Err(failed(what)(io::Error::other(why)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(what)(error.into()))
}

/// Removes a file of ours, if it is there.
pub(super) fn remove(tree: &Tree, path: &str) -> Result<(), PerformError> {
    match tree.remove(Path::new(path), &EntryKind::File) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed(format!("remove `{path}`"))),
    }
}

/// Remembers until the next boot that the package lists were brought up to date.
pub(super) fn note_fresh_lists(tree: &Tree) -> Result<(), PerformError> {
    write_durably(tree, Path::new(FRESH_LISTS), b"")
}

/// Whether a run since the boot brought the package lists up to date.
pub(super) fn has_fresh_lists(tree: &Tree) -> io::Result<bool> {
    Ok(tree.entry(Path::new(FRESH_LISTS))?.is_some())
}

/// Writes a file of ours whole, so that it is there after a power cut. Root alone can read it.
pub(super) fn write_durably(tree: &Tree, path: &Path, bytes: &[u8]) -> Result<(), PerformError> {
    let what = || format!("write `{}`", path.display());
    make_parents(tree, path)?;
    let staged = path.with_extension("staged");
    let file = tree.create(&staged, bytes, 0, 0, 0o600).map_err(failed(what()))?;
    file.sync_all().map_err(failed(what()))?;
    tree.rename(&staged, path).map_err(failed(what()))?;
    tree.sync_directory_of(path).map_err(failed(what()))
}

pub(super) fn make_parents(tree: &Tree, path: &Path) -> Result<(), PerformError> {
    let parents: Vec<&Path> = path.ancestors().skip(1).collect();
    for parent in parents.into_iter().rev() {
        let what = format!("create the directory `{}`", parent.display());
        if tree.entry(parent).map_err(failed(&what))?.is_none() {
            tree.create_directory(parent, 0, 0, 0o755).map_err(failed(what))?;
        }
    }
    Ok(())
}
