//! The body of an instance: a container that runs from its disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::disks::{cut_off, leave_mounts, mount_disk};
use crate::host::{Group, write_resolver};
use crate::world::{World, done};

/// How systemd-nspawn ends, with `--keep-unit`, when what is in the container reboots.
const REBOOTED: i32 = 133;

/// How long a shutdown may take before the power goes.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// How a body is made.
pub(super) struct Settings {
    /// The instance.
    pub(super) id: String,
    /// The number of its address in the world.
    pub(super) number: u8,
    /// Its disk.
    pub(super) disk: PathBuf,
    /// How much room is left on the disk, in megabytes.
    pub(super) room: Option<u64>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It is up: its systemd has started everything.
    Booted,
    /// It is off, as it was told to be.
    Off,
    /// Somebody inside shut it down.
    Shutdown,
    /// It is gone, and nobody said that it shall.
    Died,
}

/// A body that lives, or has lived.
pub(super) struct Body {
    id: String,
    folder: TempDir,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The processes that run it, as this machine sees them.
    nspawn: Option<Pid>,
    leader: Option<u32>,
    booted: bool,
    /// Whether it was told to be off.
    told: bool,
    over: bool,
}

impl Body {
    /// Brings it up in a thread of its own, and returns at once. `tell` is told what becomes of it.
    pub(super) fn start(
        settings: Settings,
        world: Arc<World>,
        tell: impl Fn(Event) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let body = Arc::new(Self {
            id: settings.id.clone(),
            folder: TempDir::with_prefix("body-")?,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&body);
        thread::spawn(move || {
            let lived = own.live(&settings, &world, &tell);
            if let Err(error) = &lived {
                let _ = fs::write(own.console(), format!("the instance could not be started: {error}\n"));
            }
            let told = {
                let mut state = own.state();
                state.over = true;
                state.leader = None;
                state.nspawn = None;
                state.told
            };
            own.changed.notify_all();
            tell(match lived {
                _ if told => Event::Off,
                Ok(status) if status.success() => Event::Shutdown,
                Ok(_) | Err(_) => Event::Died,
            });
        });
        Ok(body)
    }

    /// The file that what it says on its console is in.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.path().join("console.log")
    }

    /// The last lines of it.
    pub(super) fn last_words(&self) -> String {
        const LINES: usize = 30;
        let text = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Those that show progress are written over one another.
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.contains("\u{1b}M")).map(str::trim_end).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// The first process of it, as this machine sees it; none if it does not run.
    pub(super) fn leader(&self) -> Option<u32> {
        self.state().leader
    }

    /// Waits until it is up; false if it is over before, or not up in time.
    pub(super) fn wait_until_booted(&self, limit: Duration) -> bool {
        let state = self.state();
        let wait = self.changed.wait_timeout_while(state, limit, |state| !state.booted && !state.over);
        wait.is_ok_and(|(state, _)| state.booted)
    }

    /// Waits until it is over.
    pub(super) fn wait_until_over(&self, limit: Duration) -> bool {
        let state = self.state();
        self.changed.wait_timeout_while(state, limit, |state| !state.over).is_ok_and(|(state, _)| state.over)
    }

    /// Has it shut down in order, and cuts its power if it does not.
    pub(super) fn power_off(self: &Arc<Self>) {
        let nspawn = {
            let mut state = self.state();
            state.told = true;
            state.nspawn
        };
        // systemd-nspawn(1): on SIGTERM it has the container's systemd shut down.
        match nspawn {
            Some(id) => drop(kill(id, Signal::SIGTERM)),
            None => return self.kill(),
        }
        let own = Arc::clone(self);
        thread::spawn(move || {
            if !own.wait_until_over(STOP_LIMIT) {
                own.kill();
            }
        });
    }

    /// Cuts its power, and it is known why. On its disk is what was synchronised.
    pub(super) fn kill(&self) {
        self.state().told = true;
        self.die();
    }

    /// Cuts its power.
    pub(super) fn die(&self) {
        if let Some(id) = self.state().nspawn {
            let _ = kill(id, Signal::SIGKILL);
        }
    }

    /// Has it reboot.
    pub(super) fn reboot(&self) {
        // systemd(1): SIGINT is Ctrl-Alt-Del.
        if let Some(leader) = self.leader().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(leader), Signal::SIGINT);
        }
    }

    /// Does something while nothing is written to its disk.
    pub(super) fn frozen<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(leader) = self.leader() else { return work() };
        let root = format!("/proc/{leader}/root");
        // If it is frozen already, whoever did that thaws it.
        let frozen = done(Command::new("fsfreeze").args(["--freeze", &root])).is_ok();
        let result = work();
        if frozen {
            done(Command::new("fsfreeze").args(["--unfreeze", &root]))?;
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, settings: &Settings, world: &World, tell: &impl Fn(Event)) -> io::Result<ExitStatus> {
        leave_mounts()?;
        let root = self.folder.path().join("root");
        mount_disk(&settings.disk, &root)?;
        write_resolver(&root)?;
        if let Some(room) = settings.room {
            fill(&root, room)?;
        }
        let group = Group::create(&format!("testbed-{}", self.id))?;
        let network = group.outbound()?;
        let namespace = network.path().display().to_string();
        world.connect(settings.number, &namespace)?;
        guise(self.folder.path())?;
        loop {
            let status = self.run_once(settings, &group, &root, &namespace, tell)?;
            let told = self.state().told;
            if status.code() != Some(REBOOTED) || told {
                unmount(&root, status)?;
                return Ok(status);
            }
        }
    }

    fn run_once(
        &self,
        settings: &Settings,
        group: &Group,
        root: &Path,
        namespace: &str,
        tell: &impl Fn(Event),
    ) -> io::Result<ExitStatus> {
        let socket = self.folder.path().join("notify");
        let _ = fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket)?;
        notifications.set_read_timeout(Some(Duration::from_millis(50)))?;
        let console = File::options().create(true).append(true).open(self.console())?;
        let folder = self.folder.path().display();
        let mut nspawn = group
            .command("systemd-nspawn")
            .arg(format!("--directory={}", root.display()))
            .arg(format!("--network-namespace-path={namespace}"))
            .arg(format!("--machine=ip-10-200-0-{}", settings.number))
            .args(["--boot", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=read-only"])
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            .arg("--capability=CAP_NET_ADMIN")
            .arg(format!("--bind-ro={folder}/guise:/run/systemd/system"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NOTIFY_SOCKET", &socket)
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()?;
        let id = i32::try_from(nspawn.id()).map_err(io::Error::other)?;
        {
            let mut state = self.state();
            state.nspawn = Some(Pid::from_raw(id));
            if state.told {
                nspawn.kill()?;
            }
        }
        let mut buffer = vec![0; 4096];
        loop {
            if let Some(status) = nspawn.try_wait()? {
                let mut state = self.state();
                (state.leader, state.nspawn, state.booted) = (None, None, false);
                return Ok(status);
            }
            let Ok(count) = notifications.recv(&mut buffer) else { continue };
            for line in String::from_utf8_lossy(&buffer[..count]).lines() {
                if let Some(leader) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    self.state().leader = leader.parse().ok();
                }
                if line == "READY=1" {
                    self.state().booted = true;
                    self.changed.notify_all();
                    tell(Event::Booted);
                }
            }
        }
    }
}

/// What there is of `/sys` for cloud-init, and one thing more: what Xen tells of an instance of EC2. cloud-init looks
/// there or at firmware, which no container has, and asks for a token only where it finds that it is on EC2.
const ON_EC2: &str = "[Service]
TemporaryFileSystem=/sys:ro
BindReadOnlyPaths=/sys/block /sys/bus /sys/class /sys/dev /sys/devices /sys/fs /sys/kernel /sys/module
BindReadOnlyPaths=/run/systemd/system/hypervisor:/sys/hypervisor
";

/// Units that make a container an instance of EC2. The network is made from outside.
fn guise(folder: &Path) -> io::Result<()> {
    let guise = folder.join("guise");
    // Not cloud-init-local: it would ask for an address, and nobody would answer.
    let drop_ins = guise.join("cloud-init.service.d");
    fs::create_dir_all(&drop_ins)?;
    fs::write(drop_ins.join("on-ec2.conf"), ON_EC2)?;
    fs::create_dir_all(guise.join("hypervisor"))?;
    fs::write(guise.join("hypervisor/uuid"), "ec2e1916-9099-7caf-fd21-012345abcdef\n")?;
    for unit in
        ["systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service"]
    {
        symlink("/dev/null", guise.join(unit))?;
    }
    Ok(())
}

/// Leaves so many megabytes of a file system.
fn fill(root: &Path, room: u64) -> io::Result<()> {
    let file = File::create(root.join("var/lib/full"))?;
    let there = nix::sys::statvfs::fstatvfs(&file)?;
    // Those that are reserved are for root, who can do most harm.
    let free = there.blocks_free() * there.fragment_size();
    let size = i64::try_from(free.saturating_sub(room * 1024 * 1024)).map_err(io::Error::other)?;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, size)?;
    Ok(())
}

/// Takes the disk out. What was written is on it then, or, if the power was cut, what was synchronised.
fn unmount(root: &Path, ended: ExitStatus) -> io::Result<()> {
    let cut = ended.signal() == Some(Signal::SIGKILL as i32);
    if cut {
        cut_off(root)?;
    }
    // If what is inside froze it, it cannot be unmounted.
    let _ = done(Command::new("fsfreeze").arg("--unfreeze").arg(root));
    if !cut {
        // Processes that were killed may have it for a moment longer than this thread.
        done(Command::new("sync").arg("--file-system").arg(root))?;
    }
    let until = Instant::now() + Duration::from_secs(5);
    // Processes that were killed may take a moment to be gone.
    while let Err(error) = done(Command::new("umount").arg(root)) {
        if Instant::now() > until {
            return Err(error);
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
