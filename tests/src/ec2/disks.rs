//! The disks of volumes and snapshots: files with a file system in them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::binaries;
use crate::world::done;

/// How large every disk is; what is not used takes no room.
const SIZE: &str = "8G";

/// Where they are.
#[derive(Debug)]
pub(super) struct Disks {
    folder: TempDir,
    /// Those that somebody else keeps, by snapshot.
    sources: Mutex<BTreeMap<String, PathBuf>>,
}

/// A tree that was on a disk. It ends with this.
#[derive(Debug)]
pub struct Tree {
    folder: TempDir,
}

impl Disks {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { folder: TempDir::with_prefix("disks-")?, sources: Mutex::default() })
    }

    /// The disk of a volume or a snapshot.
    pub(super) fn of(&self, id: &str) -> PathBuf {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(id).cloned().unwrap_or_else(|| self.folder.path().join(format!("{id}.ext4")))
    }

    /// From now on this is the disk of a snapshot.
    pub(super) fn put(&self, id: &str, disk: &Path) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into(), disk.into());
    }

    /// Copies one to another.
    pub(super) fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        copy(&self.of(from), &self.of(to))
    }

    /// Removes all of them; those that somebody else keeps stay.
    pub(super) fn clear(&self) {
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Removes that of a volume.
    pub(super) fn remove(&self, id: &str) {
        let _ = fs::remove_file(self.folder.path().join(format!("{id}.ext4")));
    }
}

impl Tree {
    /// What is on a disk now.
    pub(super) fn of(disk: &Path) -> io::Result<Self> {
        let tree = Self { folder: TempDir::with_prefix("tree-")? };
        let copy = tree.folder.path().join("disk");
        // What is on it may be in use, and its journal is to be played back.
        self::copy(disk, &copy)?;
        let (mounted, path) = (tree.folder.path().join("mounted"), tree.path());
        apart(|| {
            mount_disk(&copy, &mounted)?;
            done(Command::new("cp").args(["--archive"]).arg(&mounted).arg(&path))
        })?;
        fs::remove_file(&copy)?;
        Ok(tree)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// The text of a file in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.path().join(path.trim_start_matches('/')))
    }
}

/// Makes a disk with a tree on it.
pub(crate) fn make(tree: &Path, disk: &Path) -> io::Result<()> {
    let partial = disk.with_extension("partial");
    let _ = fs::remove_file(&partial);
    done(Command::new("truncate").args(["--size", SIZE]).arg(&partial))?;
    done(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(tree).arg(&partial))?;
    fs::rename(&partial, disk)
}

/// Mounts a disk, in the mounts of this thread. What is synchronised in it is in the file of the disk then; nobody has to
/// wait until that is on the machine's own disk as well (`barrier=0`).
pub(crate) fn mount_disk(disk: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    done(Command::new("mount").args(["-t", "ext4", "-o", "loop,barrier=0"]).arg(disk).arg(folder))
}

/// Cuts off a mounted disk, as when the power goes: nothing gets to it any more, not even what is in the journal's memory.
pub(super) fn cut_off(folder: &Path) -> io::Result<()> {
    // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH. There is no program for it in util-linux or e2fsprogs.
    const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
                            disk = os.open(sys.argv[1], os.O_RDONLY)\n\
                            fcntl.ioctl(disk, 0x8004587D, struct.pack('I', 2))";
    done(Command::new(binaries::python()?).args(["-I", "-c", SHUTDOWN]).arg(folder))
}

/// From now on nobody else sees what this thread mounts. All of it ends with the last process that does.
pub(crate) fn leave_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

/// Does something with mounts of its own.
fn apart(work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    thread::scope(|scope| {
        let apart = scope.spawn(|| {
            leave_mounts()?;
            work()
        });
        apart.join().map_err(|_| io::Error::other("the thread panicked"))?
    })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    done(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to))
}
