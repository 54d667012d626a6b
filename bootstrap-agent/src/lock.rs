//! One boot, one run: cloud-init and the unit may both start the agent at once.
//!
//! The first takes two locks. It lets go of `commit` when all files are in place, and of `run` at its end.
//! A second waits for `commit` to tell systemd that services may start, then for `run`, and returns what
//! the first came to. The kernel frees the locks of a process that ends, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The locks of the run that is under way.
pub struct Locks {
    _run: Flock<File>,
    commit: Option<Flock<File>>,
}

/// Whether this process does the run.
pub enum Turn {
    /// It does.
    Ours(Locks),
    /// Another does; this one waits.
    Theirs(Waiting),
}

/// A run of another process.
#[derive(Debug, Clone)]
pub struct Waiting {
    run: PathBuf,
    commit: PathBuf,
}

impl Locks {
    /// Takes the locks below a root, or finds that another process has them.
    ///
    /// # Errors
    /// When the lock files cannot be made.
    pub fn take(root: &Path) -> io::Result<Turn> {
        let folder = root.join("run/bootstrap-agent");
        fs::create_dir_all(&folder)?;
        let (run, commit) = (folder.join("run.lock"), folder.join("commit.lock"));
        // `commit` first: who has `run` without it has put its files in place.
        let Some(committing) = try_lock(&commit)? else { return Ok(Turn::Theirs(Waiting { run, commit })) };
        match try_lock(&run)? {
            Some(running) => Ok(Turn::Ours(Self { _run: running, commit: Some(committing) })),
            None => Ok(Turn::Theirs(Waiting { run, commit })),
        }
    }

    /// Lets those who wait for the files go on.
    pub fn committed(&mut self) {
        self.commit = None;
    }
}

impl Waiting {
    /// Waits until the other run has put its files in place or has ended.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn until_committed(&self) -> io::Result<()> {
        lock(&self.commit).map(drop)
    }

    /// Waits until the other run has ended.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn until_ended(&self) -> io::Result<()> {
        lock(&self.run).map(drop)
    }
}

/// The lock; none if another process has it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(locked)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

fn lock(path: &Path) -> io::Result<Flock<File>> {
    Flock::lock(open(path)?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_second_waits_for_the_files_and_then_for_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let Turn::Ours(mut locks) = Locks::take(folder.path()).expect("free") else { panic!("nobody else") };
        let Turn::Theirs(waiting) = Locks::take(folder.path()).expect("readable") else { panic!("taken") };
        let (send, seen) = channel();
        let waiter = thread::spawn(move || {
            waiting.until_committed().expect("waited");
            send.send("committed").expect("heard");
            waiting.until_ended().expect("waited");
            send.send("ended").expect("heard");
        });
        assert!(seen.try_recv().is_err());
        locks.committed();
        assert_eq!(seen.recv(), Ok("committed"));
        assert!(seen.try_recv().is_err());
        drop(locks);
        assert_eq!(seen.recv(), Ok("ended"));
        waiter.join().expect("no panic");
        assert!(matches!(Locks::take(folder.path()), Ok(Turn::Ours(_))));
    }
}
