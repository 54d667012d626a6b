//! The free blocks of the disks of a running builder. A snapshot has them too, with whatever was deleted in them.
//!
//! All that is free becomes one file, whose blocks the file system gives it without writing to them. `filefrag` tells where on the
//! disk they are; what is in them is looked through for leaks, and what is not zero already is overwritten, through the file. So
//! nothing is written around the file system, and blocks that never held anything stay as they are: they make no snapshot larger.
//! Where that cannot be had (another file system, no `filefrag`), the file is filled with zeros. At last free blocks are
//! discarded, where the disk can.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use rustix::fs::IFlags;
use serde::Serialize;

use super::gate::Gate;
use super::scan::{Finding, Look};

/// The file that has everything that is free, for a moment.
const ALL: &str = ".bootstrap-agent-free-space";

/// What is read and written at once.
const PART: usize = 4 * 1024 * 1024;

/// The unit in which blocks are told: file systems have none that is smaller.
const UNIT: u64 = 1024;

/// File systems that give blocks to a file without writing to them.
const GIVING: &[&str] = &["ext4", "xfs"];

/// What became of the free blocks of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Where it is mounted.
    pub path: String,
    /// How many bytes were free.
    pub free: u64,
    /// How many of them were overwritten.
    pub overwritten: u64,
    /// What was found in them. It is gone.
    pub found: Vec<Finding>,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
#[error("failed to overwrite what is free in `{}`: {source}", path.display())]
pub struct EraseError {
    path: PathBuf,
    source: io::Error,
}

/// A file system of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    path: PathBuf,
    kind: String,
    disk: PathBuf,
    /// The numbers of the device, as `259:1`.
    device: String,
}

/// Overwrites what is free on the disks of this host. Of a tree that is no host with disks of its own there are no blocks: nothing is
/// returned.
///
/// # Errors
/// When a file system cannot be filled, or a disk not read.
pub fn erase(root: &Path, gate: &Gate) -> Result<Vec<Erased>, EraseError> {
    // In a container the disk is the machine's, whatever is mounted.
    let in_container = ["/run/host/container-manager", "/run/systemd/container", "/.dockerenv"];
    if root != Path::new("/") || in_container.iter().any(|mark| Path::new(mark).exists()) {
        return Ok(Vec::new());
    }
    let look = Look::new(gate);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let erased = mounted(&table).into_iter().map(|mounted| {
        let erased = erase_one(&mounted, &look);
        erased.map_err(|source| EraseError { path: mounted.path, source })
    });
    erased.collect()
}

/// The file systems that are mounted from a disk, whole and to be written to, each once (proc(5)).
fn mounted(table: &str) -> Vec<Mounted> {
    let mut found: Vec<Mounted> = Vec::new();
    for line in table.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let (mount, source): (Vec<&str>, Vec<&str>) =
            (mount.split(' ').collect(), source.split(' ').collect());
        let (&[_, _, device, root, path, options, ..], &[kind, disk, of_all, ..]) = (&mount[..], &source[..])
        else {
            continue;
        };
        let writable = |options: &str| options.split(',').any(|option| option == "rw");
        let is_disk = root == "/" && disk.starts_with("/dev/") && writable(options) && writable(of_all);
        let disk = PathBuf::from(disk);
        if is_disk && !found.iter().any(|other| other.disk == disk) {
            // A blank is `\040` there.
            let path = path.replace("\\040", " ").into();
            found.push(Mounted { path, kind: kind.into(), disk, device: device.into() });
        }
    }
    found
}

fn erase_one(mounted: &Mounted, look: &Look) -> io::Result<Erased> {
    let path = mounted.path.join(ALL);
    // A run that was killed left it.
    let _ = fs::remove_file(&path);
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    if mounted.kind == "btrfs" {
        // Compressed, zeros would be no blocks.
        let _ = rustix::fs::ioctl_setflags(&file, IFlags::NOCOW);
    }
    let erased = erase_with(mounted, &mut file, &path, look);
    drop(file);
    fs::remove_file(&path)?;
    nix::unistd::sync();
    // Many disks cannot discard, those of EC2 among them. What is free is zero either way.
    let _ = quietly("fstrim").arg(&mounted.path).status();
    erased
}

fn erase_with(mounted: &Mounted, file: &mut File, path: &Path, look: &Look) -> io::Result<Erased> {
    let shown = mounted.path.display().to_string();
    // What was deleted a moment ago may be on its way to the disk.
    nix::unistd::sync();
    give_all(mounted);
    let extents = if GIVING.contains(&mounted.kind.as_str()) && take_all(mounted, file)? {
        file.sync_all()?;
        let told = quietly("filefrag").args(["-v", "-b1024"]).arg(path).stdout(Stdio::piped()).output();
        told.ok()
            .filter(|told| told.status.success())
            .and_then(|told| extents(&String::from_utf8_lossy(&told.stdout)))
    } else {
        None
    };
    let Some(extents) = extents else {
        let filled = fill(file)?;
        return Ok(Erased { path: shown, free: filled, overwritten: filled, found: Vec::new() });
    };
    let disk = File::open(&mounted.disk)?;
    // What this host once read of the disk may be another than what is on it now.
    posix_fadvise(&disk, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)?;
    let free = extents.iter().map(|extent| extent.length).sum();
    let name = PathBuf::from(format!("{} (free blocks)", shown.trim_start_matches('/')));
    let (mut overwritten, mut found) = (0, Vec::new());
    for extent in &extents {
        let mut reader = Used { disk: &disk, file, extent, at: 0, overwritten: &mut overwritten };
        for finding in look.through(&name, &mut reader, PART)? {
            if !found.iter().any(|other: &Finding| other.what == finding.what) {
                found.push(Finding { line: None, ..finding });
            }
        }
    }
    synchronise(file)?;
    Ok(Erased { path: shown, free, overwritten, found })
}

/// XFS writes blocks first and takes down afterwards that they were written, for which it has no room when a file has everything. What
/// it wants to know is which blocks of the file mean something, and the file is gone in a moment.
fn synchronise(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(()),
    }
}

/// File systems keep some blocks back that nobody gets: ext4 2 % up to 4096 blocks, XFS up to 8192. Until they are mounted anew, they
/// do not. Where that cannot be said to them, those blocks stay as they are.
fn give_all(mounted: &Mounted) {
    if mounted.kind == "xfs" {
        let _ = quietly("xfs_io").args(["-x", "-c", "resblks 0"]).arg(&mounted.path).status();
    }
    let device = fs::canonicalize(format!("/sys/dev/block/{}", mounted.device)).unwrap_or_default();
    let name = device.file_name().unwrap_or_default();
    let _ = fs::write(Path::new("/sys/fs/ext4").join(name).join("reserved_clusters"), "0");
}

fn quietly(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Has the file system give everything that is free to a file. The last blocks, which it needs to remember that, are not to be had.
fn take_all(mounted: &Mounted, file: &File) -> io::Result<bool> {
    let of = nix::sys::statvfs::statvfs(&mounted.path).map_err(io::Error::from)?;
    let unit = of.fragment_size();
    let mut wanted = of.blocks_free() * unit;
    while wanted >= unit {
        let length = file.metadata()?.len();
        let (Ok(from), Ok(more)) = (i64::try_from(length), i64::try_from(wanted)) else { return Ok(false) };
        match fallocate(file, FallocateFlags::empty(), from, more) {
            Ok(()) | Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::ENOSPC) => wanted = wanted / 2 / unit * unit,
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Where a part of the file is on the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    within: u64,
    on_disk: u64,
    length: u64,
}

/// What `filefrag -v -b1024` tells: ` 0:   0..  2047:   8192..  10239:  2048:  ...`. Nothing if it is something else.
fn extents(text: &str) -> Option<Vec<Extent>> {
    let lines = text.lines().filter(|line| line.contains(".."));
    let extents = lines.map(|line| {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        let first =
            |range: &str| range.split("..").next().and_then(|number| number.trim().parse::<u64>().ok());
        Some(Extent {
            within: first(fields.get(1)?)? * UNIT,
            on_disk: first(fields.get(2)?)? * UNIT,
            length: fields.get(3)?.parse::<u64>().ok()? * UNIT,
        })
    });
    extents.collect::<Option<Vec<_>>>().filter(|extents| !extents.is_empty())
}

/// Reads an extent from the disk, and overwrites in the file what is not zero.
struct Used<'a> {
    disk: &'a File,
    file: &'a File,
    extent: &'a Extent,
    at: u64,
    overwritten: &'a mut u64,
}

impl Read for Used<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const BLOCK: usize = 4096;
        let left = usize::try_from(self.extent.length - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.disk.read_at(&mut buffer[..length], self.extent.on_disk + self.at)?;
        let mut at = self.extent.within + self.at;
        for block in buffer[..read].chunks(BLOCK) {
            if block.iter().any(|&byte| byte != 0) {
                self.file.write_all_at(&[0; BLOCK][..block.len()], at)?;
                *self.overwritten += block.len() as u64;
            }
            at += block.len() as u64;
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// Writes zeros until nothing is free, and returns how many.
fn fill(file: &mut File) -> io::Result<u64> {
    let zeros = vec![0; PART];
    let mut length = PART;
    file.seek(SeekFrom::Start(0))?;
    while length > 0 {
        match file.write(&zeros[..length]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => length /= 2,
            // What a file may be long, FAT's for one.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => break,
            Err(error) => return Err(error),
        }
    }
    synchronise(file)?;
    file.stream_position()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_disks_are_told_from_others() {
        let table = "\
22 1 259:1 / / rw,relatime - ext4 /dev/root rw
23 22 0:20 / /proc rw - proc proc rw
24 22 259:2 / /boot/efi rw - vfat /dev/nvme0n1p15 rw
25 22 0:30 / /tmp rw - tmpfs tmpfs rw
26 22 259:1 /srv/jail /jail rw - ext4 /dev/root rw
27 22 7:0 / /snap/x ro - squashfs /dev/loop0 ro
28 22 259:4 / /mnt/my\\040disk rw shared:3 - xfs /dev/nvme1n1 rw
";
        let found: Vec<_> = mounted(table).into_iter().map(|one| one.path.display().to_string()).collect();
        assert_eq!(found, ["/", "/boot/efi", "/mnt/my disk"]);
    }

    #[test]
    fn what_filefrag_tells_is_understood_or_not_used() {
        let text = "Filesystem type is: ef53
File size of x is 20971520 (20480 blocks of 1024 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..    8191:      32768..     40959:   8192:             unwritten
   1:     8192..   20479:      49152..     61439:  12288:      40960: last,unwritten,eof
x: 2 extents found
";
        let part = |within: u64, on_disk: u64, length: u64| Extent {
            within: within * 1024,
            on_disk: on_disk * 1024,
            length: length * 1024,
        };
        assert_eq!(extents(text), Some(vec![part(0, 32768, 8192), part(8192, 49152, 12288)]));
        assert_eq!(extents("x: 0 extents found"), None);
        assert_eq!(extents("0: a..b: c..d: 3"), None);
    }

    #[test]
    fn a_tree_has_no_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(erase(folder.path(), &Gate::default()).expect("nothing to do"), []);
    }
}
