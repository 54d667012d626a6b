//! A tree, booted: systemd-nspawn with a systemd of the tree's own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::time::timeout;

use super::group::ControlGroup;
use super::network::{NAME_SERVER, Network};
use super::tools;
use crate::failure::{Failure, failed};
use crate::platform::{Run, SealReport};
use crate::session::Ended;

/// How long a tree may take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// How often a tree may reboot before it is up: more often would be for ever.
const REBOOTS: usize = 3;

/// How systemd-nspawn ends, with `--keep-unit`, when what is in the container reboots: whoever started it is to
/// start it again (`RestartForceExitStatus=133` in systemd-nspawn@.service).
const REBOOTED: i32 = 133;

/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// How a container is booted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, which is its host name too.
    pub name: String,
    /// A folder for what the boot needs: its notification socket and its console's log.
    pub folder: PathBuf,
    /// The tree.
    pub tree: PathBuf,
    /// Whether what it writes is thrown away with it.
    pub ephemeral: bool,
    /// Files of this machine that it sees, read-only: here, and there.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// A folder of this machine that it keeps things in for later ones: here, and there.
    pub cache: Option<(PathBuf, PathBuf)>,
    /// Whether its fsyncs do nothing: a builder that is cut off is thrown away anyway.
    pub suppress_sync: bool,
}

/// A container that runs.
pub struct Container {
    nspawn: Child,
    leader: u32,
    console: PathBuf,
    /// Keeps its network, if nobody else does.
    _network: Vec<Child>,
}

/// What a builder sees of this machine: a name server that answers in its network, and a sign that it is a
/// builder, for units that must not run on one.
pub(super) fn builder_binds(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let (resolver, sign) = (folder.join("resolv.conf"), folder.join("builder"));
    fs::write(&resolver, format!("nameserver {NAME_SERVER}\n"))
        .map_err(failed("write the builder's resolv.conf"))?;
    fs::write(&sign, "").map_err(failed("write the sign of a builder"))?;
    Ok(vec![(resolver, "/etc/resolv.conf".into()), (sign, "/run/baker-builder".into())])
}

/// Where the agent keeps what recipes download on a builder. It believes none of it that is not what it shall be,
/// so one builder cannot harm the next.
pub(super) fn downloads(cache: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let here = cache.join("downloads");
    fs::create_dir_all(&here).map_err(failed("make the folder of downloads"))?;
    Ok((here, "/var/cache/bootstrap-agent/downloads".into()))
}

impl Container {
    /// Boots a tree and waits until its systemd says that it is up, also where it reboots before it is.
    ///
    /// # Errors
    /// When it does not come up in time. Whatever runs is in the group then.
    pub async fn boot(settings: &Settings, network: Network, group: &ControlGroup) -> Result<Self, Failure> {
        for _ in 0..REBOOTS {
            if let Some((nspawn, leader, console)) = Self::boot_once(settings, &network, group).await? {
                return Ok(Self { nspawn, leader, console, _network: network.into_processes() });
            }
        }
        Err(Failure::new(format!("the container did not boot: it rebooted {REBOOTS} times before it was up")))
    }

    /// The same; none if it rebooted.
    async fn boot_once(
        settings: &Settings,
        network: &Network,
        group: &ControlGroup,
    ) -> Result<Option<(Child, u32, PathBuf)>, Failure> {
        let notifications = Notifications::listen(&settings.folder)?;
        let console = settings.folder.join("console.log");
        let log = File::create(&console).map_err(failed("make the log of the console"))?;
        let errors = log.try_clone().map_err(failed("make the log of the console"))?;
        let mut command = tools::command(group, "systemd-nspawn");
        let value = |name: &str, path: &Path| {
            let mut argument = std::ffi::OsString::from(format!("--{name}="));
            argument.push(path);
            argument
        };
        command
            .arg(value("directory", &settings.tree))
            .arg(value("network-namespace-path", network.path()))
            .args(["--boot", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=read-only"])
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            // The network is its own, so it may do with it what a host does: addresses, firewall.
            .arg("--capability=CAP_NET_ADMIN")
            .arg(format!("--machine={}", settings.name))
            .env("NOTIFY_SOCKET", &notifications.address)
            .stdout(log)
            .stderr(errors);
        if settings.ephemeral {
            command.arg("--volatile=overlay");
        }
        if settings.suppress_sync {
            command.arg("--suppress-sync=yes");
        }
        for (here, there) in &settings.binds {
            command.arg(format!("--bind-ro={}:{}", here.display(), there.display()));
        }
        if let Some((here, there)) = &settings.cache {
            command.arg(format!("--bind={}:{}", here.display(), there.display()));
        }
        let mut nspawn = command.spawn().map_err(failed("start systemd-nspawn"))?;
        let booted = tokio::select! {
            booted = timeout(BOOT_LIMIT, notifications.until_ready()) => match booted {
                Ok(booted) => booted.map_err(failed("hear from systemd-nspawn")),
                Err(_) => Err(Failure::new(format!("the container did not boot within {} s", BOOT_LIMIT.as_secs()))),
            },
            ended = nspawn.wait() => Err(match ended {
                Ok(status) if status.code() == Some(REBOOTED) => return Ok(None),
                Ok(status) => Failure::new(format!("the container did not boot: systemd-nspawn ended ({status})")),
                Err(error) => Failure::because("the container did not boot", &error),
            }),
        };
        let leader = booted.map_err(|failure| with_console(failure, &console))?;
        Ok(Some((nspawn, leader, console)))
    }

    /// Its first process, as this machine sees it.
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// Shuts it down in order and waits until it is off.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn power_off(mut self) -> Result<(), Failure> {
        let id = self.nspawn.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // systemd-nspawn(1): on SIGTERM it has the container's systemd shut down.
            kill(Pid::from_raw(id), Signal::SIGTERM).map_err(failed("stop the container"))?;
        }
        match timeout(STOP_LIMIT, self.nspawn.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                let failure = Failure::new(format!("the container did not stop in order ({status})"));
                Err(with_console(failure, &self.console))
            }
            Ok(Err(error)) => Err(Failure::because("failed to wait for the container", &error)),
            Err(_) => {
                let failure =
                    Failure::new(format!("the container did not stop within {} s", STOP_LIMIT.as_secs()));
                Err(with_console(failure, &self.console))
            }
        }
    }
}

/// A socket that systemd-nspawn tells its progress to. Only root can reach it.
struct Notifications {
    socket: UnixDatagram,
    address: String,
    /// The folder that the address leads through; open for as long as somebody may send.
    _folder: File,
}

impl Notifications {
    fn listen(folder: &Path) -> Result<Self, Failure> {
        let what = "make the socket for notifications";
        let private = folder.join("notify");
        let _ = fs::remove_dir_all(&private);
        fs::create_dir(&private).map_err(failed(what))?;
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).map_err(failed(what))?;
        // The path of a socket has room for 107 bytes (unix(7)); through an open folder it is short.
        let folder = File::open(&private).map_err(failed(what))?;
        let address = format!("/proc/{}/fd/{}/socket", std::process::id(), folder.as_raw_fd());
        let socket = UnixDatagram::bind(&address).map_err(failed(what))?;
        Ok(Self { socket, address, _folder: folder })
    }

    /// Waits for `READY=1`, and returns the container's first process, which is told before.
    async fn until_ready(&self) -> io::Result<u32> {
        let mut leader = None;
        let mut buffer = vec![0; 4096];
        loop {
            let count = self.socket.recv(&mut buffer).await?;
            let text = String::from_utf8_lossy(&buffer[..count]);
            for line in text.lines() {
                if let Some(id) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    leader = id.parse().ok();
                }
                if line == "READY=1"
                    && let Some(leader) = leader
                {
                    return Ok(leader);
                }
            }
        }
    }
}

/// The last lines of the console say why a container did not boot.
fn with_console(mut failure: Failure, console: &Path) -> Failure {
    const LINES: usize = 15;
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        failure.message += &format!("\n  {line}");
    }
    failure
}

/// Cleans a tree that is not booted, from the inside, where no link leads out of it.
pub(super) async fn seal(
    tree: &Path,
    group: &ControlGroup,
    gate: &[u8],
    run: &mut Run<'_>,
) -> Result<SealReport, Failure> {
    let what = "seal the builder";
    let output = run.ledger.folder().join("seal.json");
    let mut command = tools::command(group, "systemd-nspawn");
    let mut directory = std::ffi::OsString::from("--directory=");
    directory.push(tree);
    command
        .arg(directory)
        .args(["--quiet", "--as-pid2", "--register=no", "--keep-unit", "--private-network", "--console=pipe"])
        .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--machine=seal"])
        .args(["/usr/local/bin/bootstrap-agent", "seal", "--root=/", "--gate", "--format=json"])
        // The tree's own /tmp is to be seen, not an empty one.
        .env("SYSTEMD_NSPAWN_TMPFS_TMP", "0")
        .stdin(Stdio::piped())
        .stdout(File::create(&output).map_err(failed(what))?)
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed(what))?;
    if let Some(mut stdin) = child.stdin.take() {
        // An agent that does not read all of it says why.
        let _ = stdin.write_all(gate).await;
    }
    let ended = child.wait_with_output().await.map_err(failed(what))?;
    let text = fs::read(&output).map_err(failed(what))?;
    let ended =
        Ended { code: ended.status.code(), error: String::from_utf8_lossy(&ended.stderr).into_owned() };
    SealReport::read(&String::from_utf8_lossy(&text), &ended)
}
