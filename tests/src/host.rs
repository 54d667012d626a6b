//! Hosts that are booted from images, as instances are.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aho_corasick::AhoCorasick;
use baker::platform::{Container, ControlGroup, Network, Settings, Watch};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::ec2::{leave_mounts, mount_disk};
use crate::world::{Place, done};

/// How much of a disk is looked at at once.
const PIECE: u64 = 16 << 20;

/// A host that runs, for as long as this exists.
pub struct Host {
    container: Container,
    group: Group,
    /// Where it is, if that is a world of the test.
    _place: Option<Place>,
    disk: Disk,
}

/// The tree that a host runs on, and what it leaves.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
}

/// A control group that ends with the test, however that ends.
#[derive(Debug)]
pub(crate) struct Group {
    control: ControlGroup,
    /// Kills what is left.
    _watch: Watch,
    /// Waits for the processes in it, from first to last.
    runtime: Runtime,
}

impl Disk {
    /// A disk with an image on it.
    ///
    /// # Errors
    /// When the archive cannot be unpacked.
    pub fn of_image(image: &Path) -> io::Result<Self> {
        let disk = Self { folder: TempDir::with_prefix("host-")? };
        fs::create_dir(disk.tree())?;
        disk.unpack(image)?;
        Ok(disk)
    }

    /// The same with blocks: what is written is on them at once, and stays there when it is removed. Only this thread, and
    /// what it starts, sees what is on the disk.
    ///
    /// # Errors
    /// When it cannot be made, or the archive cannot be unpacked.
    pub fn of_image_with_blocks(image: &Path) -> io::Result<Self> {
        let disk = Self { folder: TempDir::with_prefix("host-")? };
        let blocks = disk.blocks();
        leave_mounts()?;
        done(Command::new("truncate").args(["--size", "3G"]).arg(&blocks))?;
        done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&blocks))?;
        mount_disk(&blocks, &disk.tree())?;
        disk.unpack(image)?;
        done(Command::new("mount").args(["-o", "remount,sync"]).arg(disk.tree()))?;
        Ok(disk)
    }

    fn blocks(&self) -> PathBuf {
        self.folder.path().join("blocks")
    }

    /// Takes its file system away, and says which of these is on its blocks.
    ///
    /// # Errors
    /// When somebody uses it, or the blocks cannot be read.
    pub fn found_on_blocks(&self, needles: &[&[u8]]) -> io::Result<Vec<bool>> {
        done(Command::new("umount").arg(self.tree()))?;
        let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or_default();
        let finder = AhoCorasick::new(needles).map_err(io::Error::other)?;
        let (mut file, mut window, mut found) =
            (fs::File::open(self.blocks())?, Vec::new(), vec![false; needles.len()]);
        loop {
            // A needle may begin in one piece and end in the next.
            window.drain(..window.len().saturating_sub(longest));
            if file.by_ref().take(PIECE).read_to_end(&mut window)? == 0 {
                return Ok(found);
            }
            finder.find_iter(&window).for_each(|hit| found[hit.pattern().as_usize()] = true);
        }
    }

    fn unpack(&self, image: &Path) -> io::Result<()> {
        let archive = image.join("rootfs.tar.zst");
        let status = Command::new("tar")
            .args(["--extract", "--numeric-owner", "--same-owner", "--preserve-permissions"])
            .args(["--xattrs", "--xattrs-include=*", "--directory"])
            .arg(self.tree())
            .arg("--file")
            .arg(archive)
            .status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("tar ended with {status}"))) }
    }

    /// The tree.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// The control group of the host that runs on it.
    pub fn group(&self) -> String {
        let folder = self.folder.path().file_name().unwrap_or_default();
        format!("testbed-{}", folder.to_string_lossy().to_lowercase())
    }

    /// What was written to the console when it ran.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn console(&self) -> io::Result<String> {
        let bytes = fs::read(self.folder.path().join("console.log"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of a file on it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.tree().join(path.trim_start_matches('/')))
    }
}

/// A file system that is mounted cannot be removed.
impl Drop for Disk {
    fn drop(&mut self) {
        if self.blocks().exists() {
            let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(self.tree()).status();
        }
    }
}

impl Host {
    /// Boots a disk at a place, and waits until its systemd has started everything.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn boot(disk: Disk, place: Place) -> io::Result<Self> {
        Self::boot_with(disk, place, Vec::new())
    }

    /// The same with files of this machine that it sees, read-only: here, and there.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn boot_with(disk: Disk, place: Place, binds: Vec<(PathBuf, PathBuf)>) -> io::Result<Self> {
        let group = Group::create(&disk.group())?;
        let network = Network::existing(Path::new(&place.namespace()));
        Self::boot_in(network, group, disk, Some(place), binds)
    }

    /// The same where repositories of packages are reached, and nothing reaches the host.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn boot_with_way_out(disk: Disk) -> io::Result<Self> {
        let group = Group::create(&disk.group())?;
        write_resolver(&disk.tree())?;
        Self::boot_in(group.outbound()?, group, disk, None, Vec::new())
    }

    fn boot_in(
        network: Network,
        group: Group,
        disk: Disk,
        place: Option<Place>,
        binds: Vec<(PathBuf, PathBuf)>,
    ) -> io::Result<Self> {
        let settings = Settings {
            name: "host".into(),
            folder: disk.folder.path().to_owned(),
            tree: disk.tree(),
            ephemeral: false,
            binds,
            cache: None,
            suppress_sync: true,
        };
        let booting = Container::boot(&settings, network, &group.control);
        let container = group.runtime.block_on(booting).map_err(io::Error::other)?;
        Ok(Self { container, group, _place: place, disk })
    }

    /// Runs a program on the host, as root, and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, argv: &[&str]) -> io::Result<Output> {
        inside(self.container.leader(), argv).output()
    }

    /// The same, for a program that must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn output(&self, argv: &[&str]) -> io::Result<String> {
        let output = self.run(argv)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("`{}` ended with {}: {text}{error}", argv.join(" "), output.status)))
    }

    /// Whether a unit is active.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub fn is_active(&self, unit: &str) -> io::Result<bool> {
        Ok(self.run(&["systemctl", "is-active", "--quiet", unit])?.status.success())
    }

    /// The first process of the host, as this machine sees it.
    pub fn leader(&self) -> u32 {
        self.container.leader()
    }

    /// What is on its disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Shuts it down in order, and returns its disk.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn power_off(self) -> io::Result<Disk> {
        let Self { container, group, disk, .. } = self;
        group.runtime.block_on(container.power_off()).map_err(io::Error::other)?;
        Ok(disk)
    }
}

/// Tells a tree the name server that slirp4netns answers as, as a client of DHCP would.
pub(crate) fn write_resolver(root: &Path) -> io::Result<()> {
    let resolver = root.join("etc/resolv.conf");
    let _ = fs::remove_file(&resolver);
    fs::write(&resolver, "nameserver 10.0.2.3\n")
}

impl Group {
    /// A new one.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let control = ControlGroup::create(name).map_err(io::Error::other)?;
        // Its process belongs to the runtime.
        let watch = runtime.block_on(async { control.watch() }).map_err(io::Error::other)?;
        Ok(Self { control, _watch: watch, runtime })
    }

    /// A program that will run in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &self.control.joining_script(), "sh"]);
        command.args(self.control.joining_arguments()).arg(program).stdin(Stdio::null());
        command
    }

    /// A network with a way out, kept by processes in it.
    pub(crate) fn outbound(&self) -> io::Result<Network> {
        self.runtime.block_on(Network::outbound(&self.control)).map_err(io::Error::other)
    }

    /// Kills everything in it.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.runtime.block_on(self.control.end()).map_err(io::Error::other)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A program that runs inside a container, as root.
pub(crate) fn inside(leader: u32, argv: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &leader.to_string()]);
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]);
    command.args(argv).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null());
    command
}
