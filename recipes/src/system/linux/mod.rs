//! A real Linux host, or a folder that looks like one.
//!
//! This folder is the only place in the engine that writes or executes. Every path is resolved inside the
//! root, symbolic links included, so that a link in a tree cannot lead out of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::accounts::Accounts;
use super::fetch::Fetch;
use super::{
    Entry, Facts, FactsError, Group, Host, Known, Machine, Mode, PackageArchive, PackageChange, PackageFile,
    PerformError, Reading, User, Why,
};
use crate::archive::ReadSeek;
use crate::op::{Command, Download, Op, PackageRequest, Upgrades};
use crate::plan::is_of_package_manager;

mod accounts;
mod commit;
mod download;
mod firewall;
mod git;
mod host;
mod live;
mod look;
pub mod mounts;
pub(crate) mod package;
mod perform;
mod process;
mod read_only;
mod session;
mod state;
mod tree;
mod units;
mod unpack;
mod wait;

use look::Question;
pub use process::Interrupter;
use process::Runner;
use tree::Tree;

#[cfg(test)]
mod tests;

/// A host that is reached through the system calls of this process.
pub struct Linux {
    tree: Tree,
    host: Host,
    /// Variables that package managers get, such as proxies.
    environment: BTreeMap<String, String>,
    /// What reaches other hosts.
    fetch: Option<Box<dyn Fetch>>,
    runner: Runner,
    caches: Caches,
    /// Whether package lists were refreshed in this run.
    lists_are_fresh: Cell<bool>,
    /// Whether unit files changed since systemd read them.
    units_are_stale: bool,
    /// Held while this is the one run that changes the host.
    lock: Option<state::Lock>,
}

/// What was read once and is true until something is performed.
#[derive(Default)]
struct Caches {
    accounts: OnceCell<Accounts>,
    packages: OnceCell<package::Packages>,
    upgrades: OnceCell<Vec<package::Upgrade>>,
    digests: RefCell<BTreeMap<PathBuf, Option<String>>>,
    package_files: RefCell<BTreeMap<PathBuf, Option<PackageFile>>>,
    active_units: OnceCell<BTreeSet<String>>,
    /// By everything about the command: another folder, user or input gives another answer.
    guards: RefCell<HashMap<Command, bool>>,
    /// What registered commands print, until something changes.
    outputs: RefCell<HashMap<Command, String>>,
    /// By the file of rules and the table.
    firewalls: RefCell<BTreeMap<(PathBuf, String), bool>>,
}

impl Linux {
    /// Opens the host under a root path: `/`, or a tree that is not booted.
    ///
    /// # Errors
    /// When the root is not a directory that can be read.
    pub fn open(root: &Path, mode: Mode) -> Result<Self, FactsError> {
        let tree = Tree::open(root).map_err(reading(root))?;
        let host = host::detect(&tree, mode)?;
        Ok(Self {
            tree,
            host,
            environment: BTreeMap::new(),
            fetch: None,
            runner: Runner::default(),
            caches: Caches::default(),
            lists_are_fresh: Cell::new(false),
            // What an earlier run wrote, and was cut off before it told systemd, counts.
            units_are_stale: true,
            lock: None,
        })
    }

    /// Gives package managers variables, such as `http_proxy`.
    #[must_use]
    pub fn with_environment(mut self, environment: BTreeMap<String, String>) -> Self {
        self.environment = environment;
        self
    }

    /// Gives it what reaches other hosts; without it, nothing can be downloaded.
    #[must_use]
    pub fn with_fetch(mut self, fetch: Box<dyn Fetch>) -> Self {
        self.fetch = Some(fetch);
        self
    }

    /// What stops a run on this host from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.runner.interrupter().clone()
    }

    /// The names, aliases included, of all units that are active.
    ///
    /// # Errors
    /// When systemd cannot be asked.
    pub fn active_units(&self) -> Result<&BTreeSet<String>, FactsError> {
        if self.caches.active_units.get().is_none() {
            let active = if self.host.systemd { units::active(&self.runner)? } else { BTreeSet::new() };
            let _ = self.caches.active_units.set(active);
        }
        Ok(self.caches.active_units.get_or_init(BTreeSet::new))
    }

    /// Every installed package with its version.
    ///
    /// # Errors
    /// When the package database cannot be read.
    pub fn installed_packages(&self) -> Result<BTreeMap<String, String>, FactsError> {
        Ok(self.packages()?.installed.clone())
    }

    fn accounts(&self) -> Result<&Accounts, FactsError> {
        if self.caches.accounts.get().is_none() {
            let read = |path: &str| {
                let path = Path::new(path);
                let bytes = self.tree.read(path).map_err(reading(path))?.unwrap_or_default();
                Ok::<_, FactsError>(String::from_utf8_lossy(&bytes).into_owned())
            };
            let accounts = Accounts::parse(&read("/etc/passwd")?, &read("/etc/group")?);
            let _ = self.caches.accounts.set(accounts);
        }
        Ok(self.caches.accounts.get_or_init(Accounts::default))
    }

    /// What is installed. Where no package manager is known nothing is.
    fn packages(&self) -> Result<&package::Packages, FactsError> {
        if self.caches.packages.get().is_none()
            && let Some(manager) = package::of(&self.host.os)
        {
            let packages = manager.packages(self).map_err(package::unreadable)?;
            let _ = self.caches.packages.set(packages);
        }
        Ok(self.caches.packages.get_or_init(package::Packages::default))
    }

    /// The package manager of a host that is booted, to do something with.
    fn package_manager(&self, what: &str) -> Result<&'static dyn package::Manager, PerformError> {
        self.needs_booted_root(what)?;
        package::of(&self.host.os).ok_or_else(|| {
            PerformError::Unsupported(format!("cannot {what}: `{}` is not known here", self.host.os.id))
        })
    }

    /// Forgets what an operation may have changed.
    fn forget(&mut self, op: &Op) {
        if op.path().is_some_and(is_of_package_manager) {
            self.lists_are_fresh.set(false);
            self.caches.upgrades.take();
        }
        match op {
            Op::WriteFile(write) => {
                self.units_are_stale |= units::is_unit_path(&write.path);
                if write.path.starts_with("/etc/passwd") || write.path.starts_with("/etc/group") {
                    self.caches.accounts.take();
                }
            }
            Op::CreateSymlink { path, .. }
            | Op::Remove { path, .. }
            | Op::Download(Download { path, .. }) => {
                self.units_are_stale |= units::is_unit_path(path);
            }
            Op::CreateDirectory { .. }
            | Op::SetAttributes { .. }
            | Op::SetKernelParameter { .. }
            | Op::LoadFirewall(_) => {}
            Op::CreateGroup { .. }
            | Op::ModifyGroup { .. }
            | Op::RemoveGroup { .. }
            | Op::CreateUser(_)
            | Op::ModifyUser(_)
            | Op::RemoveUser { .. } => {
                self.caches.accounts.take();
            }
            Op::HoldPackages { .. } => {
                self.caches.packages.take();
                self.caches.upgrades.take();
            }
            Op::Unit { .. } => {
                self.caches.active_units.take();
            }
            Op::WaitFor { .. } | Op::Reboot => self.forget_what_passes(),
            Op::InstallPackages { .. }
            | Op::RemovePackages { .. }
            | Op::UpgradePackages { .. }
            | Op::Checkout(_)
            | Op::Unpack(_)
            | Op::Run(_) => {
                self.units_are_stale = true;
                self.caches = Caches::default();
            }
        }
        self.caches.guards.take();
        self.caches.firewalls.take();
        self.caches.digests.take();
        self.caches.package_files.take();
        self.caches.outputs.take();
    }

    /// Forgets what may change by itself.
    fn forget_what_passes(&mut self) {
        self.caches.active_units.take();
        self.caches.guards.take();
        self.caches.accounts.take();
    }

    fn needs_booted_root(&self, what: &str) -> Result<(), PerformError> {
        if self.tree.is_host() {
            return Ok(());
        }
        Err(PerformError::Unsupported(format!(
            "cannot {what} in `{}`: programs run only on a host itself, with the root `/`",
            self.tree.root().display()
        )))
    }
}

/// What could not be read, for `map_err`.
fn reading(path: &Path) -> impl FnOnce(io::Error) -> FactsError {
    let what = format!("`{}`", path.display());
    move |source| FactsError { what, source }
}

/// What could not be done, for `map_err`.
fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> PerformError {
    let what = what.into();
    move |source| PerformError::Io { what, source }
}

impl Facts for Linux {
    fn host(&self) -> &Host {
        &self.host
    }

    fn entry(&self, path: &Path) -> Reading<Option<Entry>> {
        let Some(found) = self.tree.entry(path).map_err(reading(path))? else { return Ok(Known::Yes(None)) };
        let accounts = self.accounts()?;
        Ok(Known::Yes(Some(Entry {
            kind: found.kind,
            attributes: super::Attributes {
                owner: accounts.user_name(found.uid),
                group: accounts.group_name(found.gid),
                mode: found.mode,
            },
        })))
    }

    fn content(&self, path: &Path) -> Reading<Option<Vec<u8>>> {
        self.tree.read(path).map(Known::Yes).map_err(reading(path))
    }

    fn open(&self, path: &Path) -> Reading<Option<Box<dyn ReadSeek>>> {
        let file = self.tree.open_file(path).map_err(reading(path))?;
        Ok(Known::Yes(file.map(|file| Box::new(file) as Box<dyn ReadSeek>)))
    }

    fn sha256(&self, path: &Path) -> Reading<Option<String>> {
        if let Some(known) = self.caches.digests.borrow().get(path) {
            return Ok(Known::Yes(known.clone()));
        }
        let digest = download::sha256(&self.tree, path).map_err(reading(path))?;
        self.caches.digests.borrow_mut().insert(path.to_owned(), digest.clone());
        Ok(Known::Yes(digest))
    }

    fn is_unchanged(&self, checkout: &Path, owner: &str) -> Reading<bool> {
        self.succeeds(&git::unchanged(checkout, owner))
    }

    fn is_residual(&self, package: &str) -> Reading<bool> {
        Ok(Known::Yes(self.packages()?.residual.contains(package)))
    }

    fn is_half_there(&self, package: &str) -> Reading<bool> {
        Ok(Known::Yes(self.packages()?.half_there.contains(package)))
    }

    fn package_file(&self, path: &Path) -> Reading<Option<PackageFile>> {
        if let Some(known) = self.caches.package_files.borrow().get(path) {
            return Ok(Known::Yes(known.clone()));
        }
        let Some(manager) = package::of(&self.host.os) else { return Ok(Known::Yes(None)) };
        let file = manager.package_file(self, path).map_err(reading(path))?;
        self.caches.package_files.borrow_mut().insert(path.to_owned(), file.clone());
        Ok(Known::Yes(file))
    }

    fn names(&self, path: &Path) -> Reading<Vec<String>> {
        self.tree.names(path).map(Known::Yes).map_err(reading(path))
    }

    fn package(&self, name: &str) -> Reading<Option<String>> {
        Ok(Known::Yes(self.packages()?.version(name).cloned()))
    }

    fn held(&self, package: &str) -> Reading<bool> {
        Ok(Known::Yes(self.packages()?.held.contains(package)))
    }

    fn upgradable(&self, which: Upgrades) -> Reading<Vec<String>> {
        if self.caches.upgrades.get().is_none() {
            let failed = |source| FactsError { what: "which packages have a newer version".into(), source };
            let manager = self
                .package_manager("look for newer packages")
                .map_err(|error| failed(io::Error::other(error)))?;
            // Only a run that changes the host may bring its package lists up to date, and until one has,
            // the lists at hand say nothing of the repositories.
            if self.lock.is_some() {
                manager.refresh(self, &mut |_| {}).map_err(|error| failed(io::Error::other(error)))?;
                let noted = state::note_fresh_lists(&self.tree);
                noted.map_err(|error| failed(io::Error::other(error)))?;
            } else if !state::has_fresh_lists(&self.tree).map_err(failed)? {
                return Ok(Known::Unknown(Why("the repositories have newer packages".into())));
            }
            let mut upgrades = manager.upgrades(self).map_err(failed)?;
            upgrades.sort_by(|one, other| one.package.cmp(&other.package));
            let _ = self.caches.upgrades.set(upgrades);
        }
        let upgrades = self.caches.upgrades.get_or_init(Vec::new);
        let meant = upgrades.iter().filter(|upgrade| which == Upgrades::All || upgrade.is_security);
        Ok(Known::Yes(meant.map(|upgrade| upgrade.package.clone()).collect()))
    }

    fn transaction(&self, packages: &[PackageRequest]) -> Reading<Vec<PackageChange>> {
        let unknown = || Known::Unknown(Why("the package lists at hand can tell it".into()));
        let Ok(manager) = self.package_manager("ask what comes with packages") else { return Ok(unknown()) };
        let failed = |source| FactsError { what: "what comes with packages".into(), source };
        Ok(manager.transaction(self, packages).map_err(failed)?.map_or_else(unknown, Known::Yes))
    }

    fn package_archives(
        &self,
        packages: &[(&PackageChange, Option<&Path>)],
        texts: &BTreeSet<String>,
    ) -> Reading<Vec<Option<PackageArchive>>> {
        let failed = |source| FactsError { what: "the archives of packages".into(), source };
        package::archives(self, packages, texts).map(Known::Yes).map_err(failed)
    }

    fn user(&self, name: &str) -> Reading<Option<User>> {
        Ok(Known::Yes(self.accounts()?.user(name).cloned()))
    }

    fn group(&self, name: &str) -> Reading<Option<Group>> {
        Ok(Known::Yes(self.accounts()?.group(name).cloned()))
    }

    fn active(&self, unit: &str) -> Reading<bool> {
        Ok(Known::Yes(self.active_units()?.contains(unit)))
    }

    fn kernel_parameter(&self, key: &str) -> Reading<Option<String>> {
        let path = kernel_path(key);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Known::Yes(Some(text.trim_end().to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::Yes(None)),
            Err(error) => Err(reading(&path)(error)),
        }
    }

    fn accepts(&self, address: &str) -> Reading<bool> {
        Ok(Known::Yes(wait::accepts(address)))
    }

    fn firewall_loaded(&self, rules: &Path, table: &str) -> Reading<bool> {
        let key = (rules.to_owned(), table.to_owned());
        if let Some(answer) = self.caches.firewalls.borrow().get(&key) {
            return Ok(Known::Yes(*answer));
        }
        let answer = firewall::is_loaded(self, rules, table)?;
        self.caches.firewalls.borrow_mut().insert(key, answer);
        Ok(Known::Yes(answer))
    }

    fn succeeds(&self, command: &Command) -> Reading<bool> {
        self.look(
            command,
            &self.caches.guards,
            &Question {
                what: format!("the answer of `{command}`"),
                unknown: format!("`{command}` succeeds"),
                held: Runner::succeeds_held,
                trusted: Runner::succeeds,
            },
        )
    }

    fn output(&self, command: &Command) -> Reading<String> {
        self.look(
            command,
            &self.caches.outputs,
            &Question {
                what: format!("what `{command}` prints"),
                unknown: format!("`{command}` then prints the same"),
                held: Runner::output_held,
                trusted: Runner::output,
            },
        )
    }
}

impl Machine for Linux {
    fn begin(&mut self) -> Result<(), PerformError> {
        if self.lock.is_none() {
            self.lock = Some(state::lock(&self.tree)?);
            commit::roll_forward(&self.tree)?;
            if let Some(manager) = package::of(&self.host.os) {
                manager.clean_up(self)?;
                self.caches = Caches::default();
            }
        }
        Ok(())
    }

    fn perform(&mut self, op: &Op, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        let result = self.do_perform(op, output);
        self.forget(op);
        result
    }

    fn commit(&mut self, writes: &[Op], output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        let result = commit::commit(self, writes, output);
        writes.iter().for_each(|op| self.forget(op));
        result
    }

    fn pending_handlers(&self) -> Result<Vec<String>, PerformError> {
        state::pending_handlers(&self.tree)
    }

    fn remember_handlers(&mut self, handlers: &[String]) -> Result<(), PerformError> {
        state::remember_handlers(&self.tree, handlers)
    }

    fn rebooted_for(&self, resource: &str) -> Result<bool, PerformError> {
        state::rebooted_for(&self.tree, resource)
    }

    fn remember_reboot(&mut self, resource: &str) -> Result<(), PerformError> {
        state::remember_reboot(&self.tree, resource)
    }

    fn forget_reboots(&mut self) -> Result<(), PerformError> {
        state::remove(&self.tree, state::REBOOTS)
    }

    fn sync(&mut self) -> Result<(), PerformError> {
        self.tree.sync().map_err(failed("synchronise the file system"))
    }
}

/// Where the kernel shows a parameter. A slash in a key stands for a dot in a name, as in
/// `net.ipv4.conf.eth0/100.rp_filter` (sysctl(8)).
fn kernel_path(key: &str) -> PathBuf {
    let swapped: String = key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    Path::new("/proc/sys").join(swapped)
}
