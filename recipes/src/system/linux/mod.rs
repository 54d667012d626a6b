//! A real Linux host, or a folder that looks like one.
//!
//! This folder is the only place in the engine that writes or executes. Every path is resolved inside the
//! root, symbolic links included, so that a link in a tree cannot lead out of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::accounts::Accounts;
use super::fetch::Fetch;
use super::{
    Entry, EntryKind, Facts, FactsError, Group, Host, Known, Machine, Mode, PackageFile, PerformError,
    Reading, User,
};
use crate::op::{Command, Download, Op, UnitAction, Upgrades};
use crate::plan::is_of_apt;

mod accounts;
mod apt;
mod commit;
mod download;
mod dpkg;
mod git;
mod host;
mod process;
mod state;
mod tree;
mod units;

pub use process::Interrupter;
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
    runner: process::Runner,
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
    packages: OnceCell<dpkg::Packages>,
    upgrades: OnceCell<Vec<apt::Upgrade>>,
    digests: RefCell<BTreeMap<PathBuf, Option<String>>>,
    package_files: RefCell<BTreeMap<PathBuf, Option<PackageFile>>>,
    active_units: OnceCell<BTreeSet<String>>,
    /// By everything about the command: another folder or user gives another answer.
    guards: RefCell<BTreeMap<String, bool>>,
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
            runner: process::Runner::default(),
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

    /// Every installed package with its version.
    ///
    /// # Errors
    /// When the package database cannot be read.
    pub fn installed_packages(&self) -> Result<BTreeMap<String, String>, FactsError> {
        // Each is there under its bare name as well as under the one with its architecture.
        let bare = self.packages()?.installed.iter().filter(|(name, _)| !name.contains(':'));
        Ok(bare.map(|(name, version)| (name.clone(), version.clone())).collect())
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

    fn packages(&self) -> Result<&dpkg::Packages, FactsError> {
        if self.caches.packages.get().is_none() {
            let path = Path::new(dpkg::STATUS);
            let bytes = self.tree.read(path).map_err(reading(path))?.unwrap_or_default();
            let _ = self.caches.packages.set(dpkg::packages(&bytes));
        }
        Ok(self.caches.packages.get_or_init(dpkg::Packages::default))
    }

    /// Forgets what an operation may have changed.
    fn forget(&mut self, op: &Op) {
        if op.path().is_some_and(is_of_apt) {
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
            Op::CreateDirectory { .. } | Op::SetAttributes { .. } | Op::SetKernelParameter { .. } => {}
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
            Op::InstallPackages { .. }
            | Op::RemovePackages { .. }
            | Op::UpgradePackages { .. }
            | Op::Checkout(_)
            | Op::Run(_) => {
                self.units_are_stale = true;
                self.caches = Caches::default();
            }
        }
        self.caches.guards.take();
        self.caches.digests.take();
        self.caches.package_files.take();
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

    fn package_file(&self, path: &Path) -> Reading<Option<PackageFile>> {
        if let Some(known) = self.caches.package_files.borrow().get(path) {
            return Ok(Known::Yes(known.clone()));
        }
        let file = dpkg::package_file(self, path).map_err(reading(path))?;
        self.caches.package_files.borrow_mut().insert(path.to_owned(), file.clone());
        Ok(Known::Yes(file))
    }

    fn names(&self, path: &Path) -> Reading<Vec<String>> {
        self.tree.names(path).map(Known::Yes).map_err(reading(path))
    }

    fn package(&self, name: &str) -> Reading<Option<String>> {
        Ok(Known::Yes(self.packages()?.installed.get(name).cloned()))
    }

    fn held(&self, package: &str) -> Reading<bool> {
        Ok(Known::Yes(self.packages()?.held.contains(package)))
    }

    fn upgradable(&self, which: Upgrades) -> Reading<Vec<String>> {
        if self.caches.upgrades.get().is_none() {
            let failed = |source| FactsError { what: "which packages have a newer version".into(), source };
            if !self.tree.is_host() {
                return Err(failed(io::ErrorKind::Unsupported.into()));
            }
            // Only a run that changes the host may bring its package lists up to date.
            if self.lock.is_some() {
                apt::refresh(self, &mut |_| {}).map_err(|error| failed(io::Error::other(error)))?;
            }
            let _ = self.caches.upgrades.set(apt::upgrades(self).map_err(failed)?);
        }
        let upgrades = self.caches.upgrades.get_or_init(Vec::new);
        let meant = upgrades.iter().filter(|upgrade| which == Upgrades::All || upgrade.is_security);
        Ok(Known::Yes(meant.map(|upgrade| upgrade.package.clone()).collect()))
    }

    fn user(&self, name: &str) -> Reading<Option<User>> {
        Ok(Known::Yes(self.accounts()?.user(name).cloned()))
    }

    fn group(&self, name: &str) -> Reading<Option<Group>> {
        Ok(Known::Yes(self.accounts()?.group(name).cloned()))
    }

    fn active(&self, unit: &str) -> Reading<bool> {
        if !self.host.systemd {
            return Ok(Known::Yes(false));
        }
        if self.caches.active_units.get().is_none() {
            let _ = self.caches.active_units.set(units::active(&self.runner)?);
        }
        Ok(Known::Yes(self.caches.active_units.get_or_init(BTreeSet::new).contains(unit)))
    }

    fn kernel_parameter(&self, key: &str) -> Reading<Option<String>> {
        let path = kernel_path(key);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Known::Yes(Some(text.trim_end().to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::Yes(None)),
            Err(error) => Err(reading(&path)(error)),
        }
    }

    fn succeeds(&self, command: &Command) -> Reading<bool> {
        let what = command.to_string();
        let key = format!("{command:?}");
        if let Some(answer) = self.caches.guards.borrow().get(&key) {
            return Ok(Known::Yes(*answer));
        }
        let failed = |source| FactsError { what: format!("the answer of `{what}`"), source };
        if !self.tree.is_host() {
            return Err(failed(io::ErrorKind::Unsupported.into()));
        }
        let answer = self.runner.succeeds(&self.at_home(command)?).map_err(failed)?;
        self.caches.guards.borrow_mut().insert(key, answer);
        Ok(Known::Yes(answer))
    }
}

impl Machine for Linux {
    fn begin(&mut self) -> Result<(), PerformError> {
        if self.lock.is_none() {
            self.lock = Some(state::lock(&self.tree)?);
            commit::roll_forward(&self.tree)?;
            apt::forget_policy(&self.tree)?;
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

    fn sync(&mut self) -> Result<(), PerformError> {
        self.tree.sync().map_err(failed("synchronise the file system"))
    }
}

impl Linux {
    fn do_perform(&mut self, op: &Op, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self.runner.interrupter().is_interrupted() {
            return Err(failed("go on")(io::ErrorKind::Interrupted.into()));
        }
        match op {
            Op::WriteFile(write) => {
                let staged = commit::stage(self, write, output)?;
                self.tree
                    .rename(&staged, &write.path)
                    .map_err(failed(format!("write `{}`", write.path.display())))
            }
            Op::Download(download) => {
                let staged = download::stage(self, download, None, output)?;
                self.tree
                    .rename(&staged, &download.path)
                    .map_err(failed(format!("put `{}` in place", download.path.display())))
            }
            Op::CreateDirectory { path, attributes } => {
                let (uid, gid) = self.owners(attributes)?;
                self.tree
                    .create_directory(path, uid, gid, attributes.mode)
                    .map_err(failed(format!("create the directory `{}`", path.display())))
            }
            Op::CreateSymlink { path, target, .. } => {
                let staged = commit::stage_link(&self.tree, path, target)?;
                self.tree.rename(&staged, path).map_err(failed(format!("link `{}`", path.display())))
            }
            Op::SetAttributes { path, attributes, .. } => {
                let (uid, gid) = self.owners(attributes)?;
                self.tree
                    .set_attributes(path, uid, gid, attributes.mode)
                    .map_err(failed(format!("set owner and mode of `{}`", path.display())))
            }
            Op::Remove { path, directory } => {
                let kind = if *directory { EntryKind::Directory } else { EntryKind::File };
                self.tree.remove(path, &kind).map_err(failed(format!("remove `{}`", path.display())))
            }
            Op::InstallPackages { packages } => {
                self.needs_booted_root("install packages")?;
                apt::install(self, packages, output)
            }
            Op::RemovePackages { packages, purge } => {
                self.needs_booted_root("remove packages")?;
                apt::remove(self, packages, *purge, output)
            }
            Op::UpgradePackages { packages, which } => {
                self.needs_booted_root("upgrade packages")?;
                apt::upgrade(self, packages, *which, output)
            }
            Op::HoldPackages { packages, held } => {
                self.needs_booted_root("hold packages")?;
                apt::hold(self, packages, *held, output)
            }
            Op::Checkout(checkout) => {
                self.needs_booted_root("check out a repository")?;
                git::check_out(self, checkout, output)
            }
            Op::CreateGroup { .. }
            | Op::ModifyGroup { .. }
            | Op::RemoveGroup { .. }
            | Op::CreateUser(_)
            | Op::ModifyUser(_)
            | Op::RemoveUser { .. } => accounts::perform(self, op, output),
            Op::Unit { name, action } => self.act_on_unit(name, *action, output),
            Op::SetKernelParameter { key, value, .. } => {
                let path = kernel_path(key);
                std::fs::write(&path, value)
                    .map_err(failed(format!("set `{key}` to `{value}` in the kernel")))
            }
            Op::Run(command) => {
                self.needs_booted_root("run a command")?;
                self.runner.run(&self.at_home(command)?, output)
            }
        }
    }

    /// A command that another user runs has the home of that user.
    fn at_home(&self, command: &Command) -> Result<Command, FactsError> {
        let mut command = command.clone();
        if let Some(user) = command.user.as_deref().map(|name| self.accounts().map(|all| all.user(name)))
            && let Some(user) = user?
        {
            let home = user.home.display().to_string();
            command.environment.entry("HOME".into()).or_insert(home);
        }
        Ok(command)
    }

    fn act_on_unit(
        &mut self,
        name: &str,
        action: UnitAction,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        let changes_links = matches!(
            action,
            UnitAction::Enable | UnitAction::Disable | UnitAction::Mask | UnitAction::Unmask
        );
        if !changes_links {
            self.needs_booted_root("start and stop units")?;
        }
        if self.host.systemd && self.units_are_stale {
            units::reload_systemd(&self.runner, output)?;
            self.units_are_stale = false;
        }
        units::act(self, name, action, output)
    }

    /// The numbers of an owner and a group.
    fn owners(&self, attributes: &super::Attributes) -> Result<(u32, u32), PerformError> {
        let accounts = self.accounts()?;
        let missing =
            |noun: &str, name: &str| PerformError::Unsupported(format!("the {noun} `{name}` does not exist"));
        let uid = accounts.uid(&attributes.owner).ok_or_else(|| missing("user", &attributes.owner))?;
        let gid = accounts.gid(&attributes.group).ok_or_else(|| missing("group", &attributes.group))?;
        Ok((uid, gid))
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
