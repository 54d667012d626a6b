//! What is mounted, as `/proc/PID/mountinfo` tells (`proc_pid_mountinfo(5)`).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::mount::MsFlags;

/// Something that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub path: PathBuf,
    /// The type of the file system, such as `ext4`.
    pub file_system: String,
    /// The restrictions that it has.
    pub(super) flags: MsFlags,
}

/// Where a kernel, its devices and what is running are shown.
const NOT_FILES: &[&str] = &["/proc", "/sys", "/dev", "/run"];

/// Types that have no files of anybody in them, wherever they are mounted.
const NO_FILES: &[&str] = &["autofs", "binfmt_misc", "devtmpfs", "nsfs", "proc", "rpc_pipefs", "sysfs"];

/// What this thread sees mounted, in the order in which it was.
///
/// # Errors
/// When there is no `/proc`.
pub fn of_this_thread() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/thread-self/mountinfo")?))
}

/// Those that have files which somebody may want to change, but for what others cover.
pub fn with_files(mounts: Vec<Mount>) -> Vec<Mount> {
    let mut visible: Vec<Mount> = Vec::new();
    for mount in mounts {
        visible.retain(|other| !other.path.starts_with(&mount.path));
        let is_of_kernel = NOT_FILES.iter().any(|path| mount.path.starts_with(path));
        if !is_of_kernel && !NO_FILES.contains(&mount.file_system.as_str()) {
            visible.push(mount);
        }
    }
    visible
}

/// The fifth field is the path, the sixth has the options of the mount, and the type is behind a hyphen.
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mounts = lines.filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(4);
        let path = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
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
        let flags = flags.fold(MsFlags::empty(), |all, flag| all | flag);
        let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount { path, file_system: String::from_utf8_lossy(file_system).into_owned(), flags })
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
    use std::path::Path;

    use super::*;

    fn mount(path: &str, file_system: &str, flags: MsFlags) -> Mount {
        Mount { path: path.into(), file_system: file_system.into(), flags }
    }

    #[test]
    fn mounts_keep_their_restrictions() {
        let text = b"22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                     30 22 0:26 / /srv/a\\040b\\134 rw,nosuid,nodev,noexec - tmpfs tmpfs rw\n";
        let restricted = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let expected = [mount("/", "ext4", MsFlags::MS_RELATIME), mount("/srv/a b\\", "tmpfs", restricted)];
        assert_eq!(parse(text), expected);
        assert_eq!(parse(b"22 1 0:21 /\nnonsense\n"), []);
    }

    #[test]
    fn files_are_what_neither_the_kernel_nor_another_mount_covers() {
        let plain = |path, file_system| mount(path, file_system, MsFlags::empty());
        let there = vec![
            plain("/", "rootfs"),
            plain("/", "ext4"),
            plain("/proc", "proc"),
            plain("/proc/sys/fs/binfmt_misc", "autofs"),
            plain("/run/lock", "tmpfs"),
            plain("/srv/old/inside", "ext4"),
            plain("/srv", "ext4"),
            plain("/tmp", "tmpfs"),
        ];
        let paths: Vec<PathBuf> = with_files(there).into_iter().map(|mount| mount.path).collect();
        assert_eq!(paths, [Path::new("/"), Path::new("/srv"), Path::new("/tmp")]);
    }
}
