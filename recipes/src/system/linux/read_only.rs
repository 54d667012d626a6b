//! Starting a program where it cannot write: in a mount namespace in which every file system is read-only.
//!
//! The namespace is that of one thread, which starts the program and ends. No helper program is needed, and
//! a guard costs the one process that it is.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

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
    for Mount { path, flags } in parse(&fs::read("/proc/thread-self/mountinfo")?) {
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

/// A mount, with the restrictions that it keeps.
#[derive(Debug, PartialEq)]
struct Mount {
    path: PathBuf,
    flags: MsFlags,
}

/// The mounts in `/proc/PID/mountinfo` (proc(5)): the fifth field is the path, the sixth has
/// the options of the mount.
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mounts = lines.filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(4);
        let path = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.next()?)));
        let options = fields.next()?.split(|&byte| byte == b',');
        let flags = options.map(|option| match option {
            b"nosuid" => MsFlags::MS_NOSUID,
            b"nodev" => MsFlags::MS_NODEV,
            b"noexec" => MsFlags::MS_NOEXEC,
            b"noatime" => MsFlags::MS_NOATIME,
            b"nodiratime" => MsFlags::MS_NODIRATIME,
            b"relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        });
        Some(Mount { path, flags: flags.fold(MsFlags::empty(), |all, flag| all | flag) })
    });
    mounts.collect()
}

/// Space, tab, line end and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_keep_their_restrictions() {
        let text = b"22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                     30 22 0:26 / /srv/a\\040b\\134 rw,nosuid,nodev,noexec - tmpfs tmpfs rw\n";
        let expected = [
            Mount { path: "/".into(), flags: MsFlags::MS_RELATIME },
            Mount {
                path: "/srv/a b\\".into(),
                flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            },
        ];
        assert_eq!(parse(text), expected);
        assert_eq!(parse(b"22 1 0:21 /\nnonsense\n"), []);
    }
}
