//! What a host remembers between runs, and the lock that makes a run the only one.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::failed;
use super::tree::Tree;
use crate::system::{EntryKind, PerformError};

const HANDLERS: &str = "/var/lib/bootstrap-agent/handlers.json";
const LOCK: &str = "/run/bootstrap-agent/apply.lock";
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
    let what = format!("read `{HANDLERS}`");
    let Some(bytes) = tree.read(Path::new(HANDLERS)).map_err(failed(&what))? else { return Ok(Vec::new()) };
    match serde_json::from_slice::<Handlers>(&bytes) {
        Ok(handlers) if handlers.version == VERSION => Ok(handlers.pending),
        Ok(handlers) => Err(failed(what)(io::Error::other(format!(
            "it has version {}, and this program knows {VERSION}",
            handlers.version
        )))),
        Err(error) => Err(failed(what)(error.into())),
    }
}

pub(super) fn remember_handlers(tree: &Tree, handlers: &[String]) -> Result<(), PerformError> {
    let path = Path::new(HANDLERS);
    if handlers.is_empty() {
        return match tree.remove(path, &EntryKind::File) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed(format!("remove `{HANDLERS}`"))),
        };
    }
    let handlers = Handlers { version: VERSION, pending: handlers.to_vec() };
    write_durably(tree, path, &serde_json::to_vec(&handlers).unwrap_or_default())
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
