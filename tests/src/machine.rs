//! An image on a virtual machine, with a kernel of its own, so that what no container can run does run: auditing, process
//! accounting, `AppArmor`, the clock, containers. The machine is emulated, since not everywhere is a KVM that works.
//!
//! The image is on its first disk, as it was baked, and a folder with what is to be done on a second one. It boots with the image's
//! kernel and initial file system directly. In the place of the first process a script is run (`tests/machine/begin.sh`), which has
//! systemd run the `task.sh` of the folder; what that one says comes over a serial line.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binaries::project;
use crate::ec2::make_disk;
use crate::host::{Disk, Group};
use crate::world::World;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// What the kernel is told. `ro` is no word here, not even within quotes: the initial file system takes each for its own.
const COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 init=/bin/sh -- -c \"mkdir -p /run/task; \
                            mount -r /dev/vdb /run/task && sh /run/task/begin.sh; exec /sbin/init\"";

/// How long it may be silent. Lynis says nothing before its end, and a processor is emulated.
const SILENCE: Duration = Duration::from_hours(1);

/// How long QEMU may take to be there.
const START: Duration = Duration::from_secs(10);

/// Where the machine is reached, in its world.
pub const ADDRESS: &str = "127.0.0.1";

/// A machine that runs, for as long as this exists.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    line: BufReader<UnixStream>,
    folder: TempDir,
    _group: Group,
}

impl Machine {
    /// Boots an image, with a folder at hand that has a `task.sh`, in a world where it can be reached at one port and reaches nobody.
    ///
    /// # Errors
    /// When there is no QEMU, the image has no kernel, or the machine does not start.
    pub fn boot(disk: &Disk, task: &Path, world: &World, port: u16) -> io::Result<Self> {
        if !Path::new(QEMU).exists() {
            let why = format!("`{QEMU}` is not there: `make judge VM=1` and `make test-machine` install it");
            return Err(io::Error::other(why));
        }
        fs::copy(project().join("tests/machine/begin.sh"), task.join("begin.sh"))?;
        let folder = TempDir::with_prefix("machine-")?;
        let path = |name: &str| folder.path().join(name);
        make_disk(&disk.tree(), &path("image"))?;
        make_disk(task, &path("task"))?;
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let group = Group::create(&format!("testbed-{name}"))?;
        let mut command = group.command(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi"]);
        command.args(["-cpu", "max", "-smp", "2", "-m", "2048", "-device", "virtio-rng-pci", "-kernel"]);
        command.arg(of_boot(&disk.tree(), "vmlinuz-")?).arg("-initrd");
        command.arg(of_boot(&disk.tree(), "initrd.img-")?).args(["-append", COMMAND_LINE]);
        for (name, how) in [("image", "cache=unsafe"), ("task", "readonly=on")] {
            command.arg("-drive").arg(format!("file={},if=virtio,format=raw,{how}", path(name).display()));
        }
        let network = format!("user,model=virtio-net-pci,restrict=on,hostfwd=tcp:{ADDRESS}:{port}-:{port}");
        command.args(["-nic", &network, "-serial", &format!("file:{}", path("console.log").display())]);
        command.args(["-serial", &format!("unix:{},server=on,wait=off", path("line").display())]);
        command.stdin(Stdio::null()).stderr(fs::File::create(path("qemu.log"))?);
        let mut qemu = world.spawn(&mut command)?;
        let until = Instant::now() + START;
        let line = loop {
            match UnixStream::connect(path("line")) {
                Ok(line) => break line,
                Err(_) if Instant::now() < until && qemu.try_wait()?.is_none() => {
                    sleep(Duration::from_millis(50));
                }
                Err(_) => {
                    let said = fs::read_to_string(path("qemu.log"))?;
                    return Err(io::Error::other(format!("QEMU does not come up: {said}")));
                }
            }
        };
        line.set_read_timeout(Some(SILENCE))?;
        Ok(Self { qemu, line: BufReader::new(line), folder, _group: group })
    }

    /// What it says before a line.
    ///
    /// # Errors
    /// When it says no such line before it ends, or nothing at all for an hour.
    pub fn until(&mut self, last: &str) -> io::Result<String> {
        let mut said = String::new();
        loop {
            let from = said.len();
            match self.line.read_line(&mut said) {
                Ok(length) if length > 0 => {}
                ended => {
                    let why = ended.err().map_or("it ended".to_owned(), |error| error.to_string());
                    let console = fs::read(self.folder.path().join("console.log"))?;
                    let console =
                        String::from_utf8_lossy(&console[console.len().saturating_sub(2000)..]).into_owned();
                    return Err(io::Error::other(format!(
                        "the machine did not say `{last}`: {why}: {console}"
                    )));
                }
            }
            if said[from..].trim_end() == last {
                said.truncate(from);
                return Ok(said);
            }
        }
    }

    /// Says a line to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.line.get_mut().write_all(format!("{text}\n").as_bytes())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The kernel, or what it starts with.
fn of_boot(tree: &Path, start: &str) -> io::Result<PathBuf> {
    let files = fs::read_dir(tree.join("boot"))?.flatten().map(|entry| entry.path());
    let mut found: Vec<_> = files
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
        .collect();
    found.sort();
    found
        .pop()
        .ok_or_else(|| io::Error::other(format!("the image has no `/boot/{start}*`: it has no kernel")))
}
