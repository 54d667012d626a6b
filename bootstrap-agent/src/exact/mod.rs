//! An exact plan: recipes are applied for real, to a copy of this host that is thrown away, and what that made of it is told.
//!
//! ```text
//! start ─── thread with namespaces of its own ──▶ process: enter, converge, compare, tell
//!   └────── relay: what the copy fetches, fetched from the network of the host
//! ```
//!
//! Nothing of it outlives its processes: mounts are of their namespace, and what was written is in memory. The process in the copy is
//! the first of its namespace and dies with the thread that started it, and with it everything that it started.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use recipes::difference::ExactPlan;
use recipes::event::{Event, Outcome};
use recipes::plan::{Basis, Plan, PlanItem};
use recipes::resolve::Resolved;
use recipes::run::{Files, RunError, converge};
use recipes::system::copy::{Copy, Original};
use recipes::system::linux::Linux;
use recipes::system::{Facts, Mode};

use self::look::Seen;
use crate::fetch::Https;

mod look;
mod network;
mod relay;
mod world;

/// How the process in a copy came out.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it printed on its standard output.
    pub output: String,
}

/// Runs this program once more in namespaces of its own, with these arguments and the port of a proxy on its loopback device
/// behind them, and with what it asks of the proxy fetched from here. On its standard input it gets the names of the units that
/// are active: systemd answers nobody from another namespace of processes.
///
/// # Errors
/// When the host refuses namespaces, or the program cannot be started.
pub fn start(
    arguments: &[String],
    active: &BTreeSet<String>,
    proxies: &BTreeMap<String, String>,
) -> io::Result<Ended> {
    let (started, is_started) = channel();
    let arguments = arguments.to_vec();
    let active = active.iter().map(|unit| format!("{unit}\n")).collect::<String>();
    // The process dies with the thread that started it, so the thread stays.
    let holder = thread::spawn(move || {
        let (mut child, listener) = match spawn(&arguments) {
            Ok(spawned) => spawned,
            Err(error) => {
                let _ = started.send(Err(error));
                return None;
            }
        };
        let _ = started.send(Ok((listener, child.stdout.take())));
        // One that ends before it has read them says why itself.
        let _ = child.stdin.take().map(|mut input| input.write_all(active.as_bytes()));
        Some(child.wait())
    });
    let (listener, output) = is_started.recv().map_err(io::Error::other)??;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.map_or(Ok(0), |mut output| output.read_to_string(&mut text)).map(|_| text)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(async {
        let read = tokio::task::spawn_blocking(|| reader.join());
        tokio::select! {
            read = read => read.map_err(io::Error::other)?.map_err(|_| io::Error::other("a thread is gone"))?,
            Err(error) = relay::serve(listener, proxies) => Err(error),
        }
    })?;
    let status: Option<io::Result<ExitStatus>> =
        holder.join().map_err(|_| io::Error::other("a thread is gone"))?;
    Ok(Ended { code: status.transpose()?.and_then(|status| status.code()), output })
}

/// Gives this thread namespaces of its own, and starts the program in them.
fn spawn(arguments: &[String]) -> io::Result<(Child, std::net::TcpListener)> {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID,
    )?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let listener = network::listen()?;
    let port = listener.local_addr()?.port().to_string();
    // Of this process, whatever has taken the place of its file since.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("bootstrap-agent").args(arguments).arg(port);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok((command.spawn()?, listener))
}

/// The host that a copy is of.
struct OfHost {
    active: BTreeSet<String>,
    /// Its network, and the one of this process.
    networks: [File; 2],
}

impl Original for OfHost {
    fn active(&self, unit: &str) -> bool {
        self.active.contains(unit)
    }

    fn in_network_of_host<T>(&self, ask: impl FnOnce() -> T) -> T {
        let [host, own] = &self.networks;
        // Where that is refused, the answer is that of an empty network.
        let _ = setns(host, CloneFlags::CLONE_NEWNET);
        let answer = ask();
        let _ = setns(own, CloneFlags::CLONE_NEWNET);
        answer
    }
}

/// Why there is no exact plan.
#[derive(Debug, thiserror::Error)]
pub enum ExactError {
    /// The host has no place for it.
    #[error("this host has no place for an exact plan: {0}")]
    Refused(#[source] io::Error),
    /// What it was made of cannot be read.
    #[error("failed to compare the copy with the host: {0}")]
    Look(#[source] io::Error),
    /// What is true of the host, or of the copy, cannot be read.
    #[error(transparent)]
    Facts(#[from] recipes::system::FactsError),
    /// A resource could not be made true.
    #[error("in a copy of this host, in which no service runs: {0}")]
    Run(#[source] Box<RunError>),
}

/// Applies what was resolved for `machine` to a copy of the host. The namespaces of the process have to be its own already,
/// and its parent process that of [`start`], so that `parent` is in the network of the host.
///
/// # Errors
/// When the host refuses, or something cannot be made true.
pub fn apply_to_copy(
    resolved: &Resolved,
    machine: &Linux,
    parent: u32,
    port: u16,
) -> Result<ExactPlan, ExactError> {
    // It dies with the thread that waits for it (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).map_err(|error| ExactError::Refused(error.into()))?;
    let network = |path: String| File::open(path).map_err(ExactError::Refused);
    let networks = [network(format!("/proc/{parent}/ns/net"))?, network("/proc/thread-self/ns/net".into())?];
    let active = io::read_to_string(io::stdin()).map_err(ExactError::Look)?;
    let original = OfHost { active: active.lines().map(str::to_owned).collect(), networks };
    let host = machine.host().clone();
    let before = Seen::now(machine.installed_packages()?).map_err(ExactError::Look)?;
    let world = world::enter().map_err(ExactError::Refused)?;
    let proxy = format!("http://127.0.0.1:{port}");
    let proxies = BTreeMap::from([("http_proxy".into(), proxy.clone()), ("https_proxy".into(), proxy)]);
    // What scripts of packages ask of systemd they are answered from the copy's files (systemd's docs/ENVIRONMENT.md).
    let offline = [("SYSTEMD_OFFLINE".into(), "1".into())];
    // The kernel is the host's: as in a bake, it is left alone.
    let inside = Linux::open(Path::new("/"), Mode::Bake)?
        .with_environment(proxies.clone().into_iter().chain(offline).collect())
        .with_fetch(Box::new(Https::new(&proxies)));
    let mut copy = Copy::new(inside, original, host);
    let mut items = Vec::new();
    let result = converge(resolved, &mut copy, Files::InTurn, &mut |event| note(&mut items, event));
    let mut left_out = copy.left_out().to_vec();
    let read_only = world.read_only.iter().map(|path| format!("write to {}", path.display()));
    left_out.extend(read_only);
    result.map_err(|error| ExactError::Run(Box::new(error)))?;
    let packages = Linux::open(Path::new("/"), Mode::Bake)?.installed_packages()?;
    let after = Seen::now(packages).map_err(ExactError::Look)?;
    let difference = look::difference(&world, &before, &after).map_err(ExactError::Look)?;
    Ok(ExactPlan { plan: Plan { items }, difference, left_out })
}

/// What was done, as a plan has it.
fn note(items: &mut Vec<PlanItem>, event: Event) {
    match event {
        Event::ResourceStarted { resource, changes, .. } => {
            items.push(PlanItem { resource, changes, basis: Basis::Observed, notified_by: Vec::new() });
        }
        Event::ResourceFinished { resource, outcome: Outcome::Unchanged } => {
            items.push(PlanItem {
                resource,
                changes: Vec::new(),
                basis: Basis::Observed,
                notified_by: Vec::new(),
            });
        }
        _ => {}
    }
}
