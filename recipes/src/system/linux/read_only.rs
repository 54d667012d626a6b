//! Starting a program where it cannot write: in a mount namespace in which every file system is read-only.
//!
//! The namespace is that of one thread, which starts the program and ends. No helper program is needed, and
//! a guard costs the one process that it is.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::mounts::{self, Mount};

/// Why a program was not started.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// The host refuses a namespace, or one in which nothing can be written.
    Refused,
    /// There is no such program, or it may not be run.
    Failed(io::Error),
}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Starts a program that can read every file and write none: it gets `EROFS`. What it asks other programs to
/// do, over a socket, is theirs.
pub(super) fn spawn(command: &mut Command) -> Result<Child, NotStarted> {
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            hold().map_err(|_| NotStarted::Refused)?;
            command.spawn().map_err(NotStarted::Failed)
        });
        held.join().unwrap_or(Err(NotStarted::Refused))
    })
}

/// Makes everything read-only for this thread and what it starts.
fn hold() -> io::Result<()> {
    // Of all threads this one alone gets another view of the mounts (unshare(2)).
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What is mounted on demand comes in still; what happens here does not go out.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    let mut refused = Vec::new();
    for Mount { path, flags, .. } in mounts::of_this_thread()? {
        let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        if mount(None::<&str>, &path, None::<&str>, flags, None::<&str>).is_err() {
            refused.push(path);
        }
    }
    // What another mount covers cannot be reached, and so not be written.
    let is_held = refused.iter().all(|path| is_read_only_or_covered(path));
    if is_held { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn is_read_only_or_covered(path: &Path) -> bool {
    match statvfs(path) {
        Ok(found) => found.flags().contains(FsFlags::ST_RDONLY),
        Err(error) => matches!(error, nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR),
    }
}
