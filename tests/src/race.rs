//! Somebody who looks, all the time, whether a secret can be read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::host::Host;

/// `nobody`, in every distribution.
const NOBODY: u32 = 65534;

/// A reader that is another user on a host, for as long as this exists.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<BTreeSet<PathBuf>>>,
}

impl Reader {
    /// Starts one that looks for a secret in everything below folders of a host.
    ///
    /// # Errors
    /// When the host cannot be entered.
    pub fn start(host: &Host, folders: &[&str], secret: &str) -> io::Result<Self> {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mounts = File::open(format!("/proc/{}/ns/mnt", host.leader()))?;
        let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
        let secret = secret.as_bytes().to_vec();
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&looks));
        let thread = thread::spawn(move || {
            // Only this thread has another root and, for files, another user.
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
            setfsgid(Gid::from_raw(NOBODY));
            setfsuid(Uid::from_raw(NOBODY));
            let mut found = BTreeSet::new();
            while !told.load(Ordering::SeqCst) {
                folders.iter().for_each(|folder| look(folder, &secret, &mut found));
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Ok(found)
        });
        Ok(Self { stop, looks, thread })
    }

    /// How often it has looked everywhere.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    /// Ends it, and returns the files in which it has seen the secret.
    ///
    /// # Errors
    /// When it could not look.
    pub fn end(self) -> io::Result<BTreeSet<PathBuf>> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| io::Error::other("the reader panicked"))?
    }
}

fn look(path: &Path, secret: &[u8], found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(&path, secret, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(secret.len()).any(|part| part == secret)) {
            found.insert(path);
        }
    }
}
