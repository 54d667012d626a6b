//! A host in a throw-away copy of its file system: everything is done but what only the running host could do.
//!
//! Packages, files, accounts, links of units and commands are the copy's and are really done. Units are not started, since the
//! kernel and the network are the host's: what would be is noted, and taken as done from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::condition::Condition;
use super::{
    Entry, Facts, Group, Host, Known, Machine, PackageChange, PackageFile, PerformError, Reading, User,
};
use crate::archive::ReadSeek;
use crate::change::Change;
use crate::op::{Command, Content, Op, PackageRequest, UnitAction, Upgrades};

/// The live half of a host, which a copy of its files does not have.
pub trait Original {
    /// Whether a unit is active.
    fn active(&self, unit: &str) -> bool;
    /// Asks something of the machine where the host's network is seen.
    fn in_network_of_host<T>(&self, ask: impl FnOnce() -> T) -> T;
}

/// A machine whose files are a copy of a host's.
pub struct Copy<M, O> {
    machine: M,
    original: O,
    host: Host,
    active: BTreeMap<String, bool>,
    kernel: BTreeMap<String, String>,
    firewalls: BTreeMap<String, Content>,
    accepting: BTreeSet<String>,
    /// What was not done, in the words of a plan.
    left_out: Vec<String>,
}

impl<M: Machine, O: Original> Copy<M, O> {
    /// The copy that `machine` has the files of; `host` is what is true of the host itself.
    pub fn new(machine: M, original: O, host: Host) -> Self {
        Self {
            machine,
            original,
            host,
            active: BTreeMap::new(),
            kernel: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            accepting: BTreeSet::new(),
            left_out: Vec::new(),
        }
    }

    /// What a run would have done on the host and did not do in the copy.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Takes as done what the copy cannot do. Whether it was such an operation.
    fn is_of_original(&mut self, op: &Op) -> bool {
        match op {
            Op::Unit { name, action: UnitAction::Start | UnitAction::Restart } => {
                self.active.insert(name.clone(), true);
            }
            Op::Unit { name, action: UnitAction::Stop } => {
                self.active.insert(name.clone(), false);
            }
            Op::SetKernelParameter { key, value, .. } => {
                self.kernel.insert(key.clone(), value.clone());
            }
            Op::LoadFirewall(firewall) => {
                self.firewalls.insert(firewall.table.clone(), firewall.ruleset.clone());
            }
            Op::WaitFor { condition: Condition::Running(unit), .. } => {
                self.active.insert(unit.clone(), true);
            }
            Op::WaitFor { condition: Condition::Stopped(unit), .. } => {
                self.active.insert(unit.clone(), false);
            }
            Op::WaitFor { condition: Condition::Tcp { address }, .. } => {
                self.accepting.insert(address.clone());
            }
            Op::Unit { action: UnitAction::Reload, .. } | Op::Reboot => {}
            _ => return false,
        }
        let what = Change::from(op).summary;
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
        true
    }
}

impl<M: Machine, O: Original> Facts for Copy<M, O> {
    fn host(&self) -> &Host {
        &self.host
    }

    fn entry(&self, path: &Path) -> Reading<Option<Entry>> {
        self.machine.entry(path)
    }

    fn content(&self, path: &Path) -> Reading<Option<Vec<u8>>> {
        self.machine.content(path)
    }

    fn open(&self, path: &Path) -> Reading<Option<Box<dyn ReadSeek>>> {
        self.machine.open(path)
    }

    fn sha256(&self, path: &Path) -> Reading<Option<String>> {
        self.machine.sha256(path)
    }

    fn is_unchanged(&self, checkout: &Path, owner: &str) -> Reading<bool> {
        self.machine.is_unchanged(checkout, owner)
    }

    fn names(&self, path: &Path) -> Reading<Vec<String>> {
        self.machine.names(path)
    }

    fn package(&self, name: &str) -> Reading<Option<String>> {
        self.machine.package(name)
    }

    fn is_residual(&self, package: &str) -> Reading<bool> {
        self.machine.is_residual(package)
    }

    fn is_half_there(&self, package: &str) -> Reading<bool> {
        self.machine.is_half_there(package)
    }

    fn package_file(&self, path: &Path) -> Reading<Option<PackageFile>> {
        self.machine.package_file(path)
    }

    fn held(&self, package: &str) -> Reading<bool> {
        self.machine.held(package)
    }

    fn upgradable(&self, which: Upgrades) -> Reading<Vec<String>> {
        self.machine.upgradable(which)
    }

    fn transaction(&self, packages: &[PackageRequest]) -> Reading<Vec<PackageChange>> {
        self.machine.transaction(packages)
    }

    fn user(&self, name: &str) -> Reading<Option<User>> {
        self.machine.user(name)
    }

    fn group(&self, name: &str) -> Reading<Option<Group>> {
        self.machine.group(name)
    }

    fn active(&self, unit: &str) -> Reading<bool> {
        let active = self.active.get(unit).copied();
        Ok(Known::Yes(active.unwrap_or_else(|| self.original.active(unit))))
    }

    fn kernel_parameter(&self, key: &str) -> Reading<Option<String>> {
        match self.kernel.get(key) {
            Some(value) => Ok(Known::Yes(Some(value.clone()))),
            None => self.original.in_network_of_host(|| self.machine.kernel_parameter(key)),
        }
    }

    fn accepts(&self, address: &str) -> Reading<bool> {
        if self.accepting.contains(address) {
            return Ok(Known::Yes(true));
        }
        self.original.in_network_of_host(|| self.machine.accepts(address))
    }

    fn firewall_loaded(&self, rules: &Path, table: &str) -> Reading<bool> {
        match self.firewalls.get(table) {
            Some(loaded) => Ok(self.content(rules)?.map(|rules| rules.as_deref() == Some(loaded.bytes()))),
            None => self.original.in_network_of_host(|| self.machine.firewall_loaded(rules, table)),
        }
    }

    fn succeeds(&self, command: &Command) -> Reading<bool> {
        self.original.in_network_of_host(|| self.machine.succeeds(command))
    }

    fn output(&self, command: &Command) -> Reading<String> {
        self.original.in_network_of_host(|| self.machine.output(command))
    }
}

impl<M: Machine, O: Original> Machine for Copy<M, O> {
    fn begin(&mut self) -> Result<(), PerformError> {
        self.machine.begin()
    }

    fn perform(&mut self, op: &Op, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self.is_of_original(op) { Ok(()) } else { self.machine.perform(op, output) }
    }

    fn commit(&mut self, writes: &[Op], output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        self.machine.commit(writes, output)
    }

    fn pending_handlers(&self) -> Result<Vec<String>, PerformError> {
        self.machine.pending_handlers()
    }

    fn remember_handlers(&mut self, handlers: &[String]) -> Result<(), PerformError> {
        self.machine.remember_handlers(handlers)
    }

    fn rebooted_for(&self, resource: &str) -> Result<bool, PerformError> {
        self.machine.rebooted_for(resource)
    }

    fn remember_reboot(&mut self, resource: &str) -> Result<(), PerformError> {
        self.machine.remember_reboot(resource)
    }

    fn forget_reboots(&mut self) -> Result<(), PerformError> {
        self.machine.forget_reboots()
    }

    /// Nothing of a copy outlives it.
    fn sync(&mut self) -> Result<(), PerformError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Files, converge};
    use crate::system::fake::Fake;
    use crate::testing::Example;

    /// A host on which nothing but `cron.service` runs.
    struct Quiet;

    impl Original for Quiet {
        fn active(&self, unit: &str) -> bool {
            unit == "cron.service"
        }

        fn in_network_of_host<T>(&self, ask: impl FnOnce() -> T) -> T {
            ask()
        }
    }

    #[test]
    fn files_are_changed_and_units_only_noted() {
        let mut fake = Fake::debian();
        for unit in ["site", "cron"] {
            fake.file(
                &format!("/usr/lib/systemd/system/{unit}.service"),
                "[Install]\nWantedBy=multi-user.target\n",
            );
        }
        let example = Example::recipe(
            "
resources:
  - file: { path: /etc/site, content: x }
    notify: again
  - service: { name: site, enabled: true, state: running }
  - service: { name: cron, state: running }
  - wait_for: { tcp: 'localhost:80' }
  - sysctl: { name: site, settings: { vm.swappiness: 1 } }
handlers:
  again: { service: { name: site, state: restarted } }
",
        );
        let resolved = example.resolve(fake.host()).expect("valid");
        let host = fake.host().clone();
        let mut copy = Copy::new(fake, Quiet, host);
        let summary = converge(&resolved, &mut copy, Files::InTurn, &mut |_| {}).expect("it converges");
        insta::assert_snapshot!(format!("{summary:?}\n{}", copy.left_out().join("\n")), @"
        Summary { unchanged: 1, changed: 4, handlers: 1, rebooting: false }
        start site.service
        wait until localhost:80 accepts connections, at most 30s
        restart site.service
        ");
        let performed: Vec<String> =
            copy.machine.performed.iter().map(|op| Change::from(op).summary).collect();
        insta::assert_snapshot!(performed.join("\n"), @"
        create /etc/site (root:root 0644, 1 bytes)
        enable site.service
        create /etc/sysctl.d/99-zz-site.conf (root:root 0644, 18 bytes)
        ");
    }
}
