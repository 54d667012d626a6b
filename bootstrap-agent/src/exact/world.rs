//! A world of one's own on a host: its files, on which everything can be written and nothing is kept.
//!
//! Mounts, processes, IPC, host name and network are namespaces of the process that enters it, and end with it, however it ends.
//! What is written goes to memory, in layers over the file systems of the host (overlayfs, `Documentation/filesystems/overlayfs.rst`
//! of Linux). Devices are only those that are of no machine; `/proc/sys` and `/sys` are read-only; and what reaches beyond all of
//! this is no capability any more.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use recipes::system::linux::mounts::{self, Mount};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// Where the world is put together. What is there on the host is not seen in it.
const STAGE: &str = "/run";

/// Devices that are of no machine (null(4), random(4), tty(4)).
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// What would reach the kernel, the clock or the hardware of the host (capabilities(7)).
const BEYOND: &[CapabilitySet] = &[
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYSLOG,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::AUDIT_CONTROL,
    CapabilitySet::WAKE_ALARM,
    CapabilitySet::BPF,
    CapabilitySet::PERFMON,
    CapabilitySet::MKNOD,
];

/// A file system of the host, with what is written over it.
#[derive(Debug)]
pub(super) struct Layer {
    /// Where it is mounted.
    pub(super) mounted: PathBuf,
    /// The file system as it is, and what is written over it: held open, since no path leads to them any more.
    below: File,
    above: File,
}

impl Layer {
    /// Where a path below [`Self::mounted`] is on the host.
    pub(super) fn below(&self, path: &Path) -> PathBuf {
        held(&self.below).join(path)
    }

    /// Where it is if it was written, or removed.
    pub(super) fn above(&self, path: &Path) -> PathBuf {
        held(&self.above).join(path)
    }
}

/// A path to what is held open (`proc_pid_fd(5)`).
fn held(file: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

/// The world, seen from inside.
#[derive(Debug)]
pub(super) struct World {
    pub(super) layers: Vec<Layer>,
    /// File systems that cannot be written over, and so are read-only.
    pub(super) read_only: Vec<PathBuf>,
}

/// Enters a world. The namespaces of the process have to be its own already.
///
/// # Errors
/// What this host refuses.
pub(super) fn enter() -> io::Result<World> {
    let there = mounts::with_files(mounts::of_this_thread()?);
    let root = Path::new(STAGE).join("root");
    mount(Some("tmpfs"), STAGE, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))?;
    fs::create_dir(&root)?;
    let mut world = World { layers: Vec::new(), read_only: Vec::new() };
    for Mount { path, file_system, .. } in there {
        // What another mount covers is not there any more.
        let Ok(below) = hold(&path) else { continue };
        let target = root.join(path.strip_prefix("/").unwrap_or(&path));
        match overlay(&path, &target, world.layers.len()) {
            Ok(above) => world.layers.push(Layer { mounted: path, below, above }),
            Err(error) if path == Path::new("/") => {
                let what = format!("cannot lay anything over `/` ({file_system}): {error}");
                return Err(io::Error::new(error.kind(), what));
            }
            Err(_) => {
                read_only(&path, &target)?;
                world.read_only.push(path);
            }
        }
    }
    kernel(&root)?;
    devices(&root.join("dev"))?;
    let run = root.join("run");
    mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    fs::create_dir(run.join("lock"))?;
    // The old root is put over the new one, and let go of (pivot_root(2)).
    chdir(&root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    for &capability in BEYOND {
        // A kernel that does not know one does not give it.
        let _ = remove_capability_from_bounding_set(capability);
    }
    Ok(world)
}

fn hold(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)
}

/// Mounts what is at a path at another place, with all that is written there going to memory. Returns what is written.
fn overlay(path: &Path, target: &Path, number: usize) -> io::Result<File> {
    // In the options of a mount these have a meaning.
    let text = path.to_str().filter(|text| !text.contains([',', ':', '\\']));
    let (Some(path), true) = (text, path.is_dir()) else { return Err(io::ErrorKind::Unsupported.into()) };
    let layer = Path::new(STAGE).join(format!("layer-{number}"));
    let (above, work) = (layer.join("above"), layer.join("work"));
    fs::create_dir(&layer)?;
    fs::create_dir(&above)?;
    fs::create_dir(&work)?;
    // The folder on top is the one that is seen; `/tmp` is everybody's.
    let attributes = fs::metadata(path)?;
    chown(&above, Some(attributes.uid()), Some(attributes.gid()))?;
    fs::set_permissions(&above, attributes.permissions())?;
    let options = format!("lowerdir={path},upperdir={},workdir={}", above.display(), work.display());
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    hold(&above)
}

fn read_only(path: &Path, target: &Path) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(path), target, none, MsFlags::MS_BIND, none)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    Ok(mount(none, target, none, flags, none)?)
}

/// What the kernel shows: of the processes in here, and nothing of it can be changed.
fn kernel(root: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (proc, sys) = (root.join("proc"), root.join("sys"));
    mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>)?;
    for name in ["sys", "sysrq-trigger", "irq", "bus"] {
        let path = proc.join(name);
        if path.exists() {
            read_only(&path, &path)?;
        }
    }
    Ok(mount(Some("sysfs"), &sys, Some("sysfs"), flags | MsFlags::MS_RDONLY, None::<&str>)?)
}

fn devices(dev: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755"))?;
    for name in DEVICES {
        let path = dev.join(name);
        File::create(&path)?;
        mount(Some(&Path::new("/dev").join(name)), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    let (pts, shm) = (dev.join("pts"), dev.join("shm"));
    fs::create_dir(&pts)?;
    mount(Some("devpts"), &pts, Some("devpts"), flags, Some("newinstance,ptmxmode=0666,mode=0620"))?;
    fs::create_dir(&shm)?;
    mount(Some("tmpfs"), &shm, Some("tmpfs"), flags | MsFlags::MS_NODEV, Some("mode=1777"))?;
    Ok(())
}
