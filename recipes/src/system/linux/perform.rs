//! What is done for each operation.

use std::io;

use super::{Linux, accounts, commit, download, failed, firewall, git, kernel_path, units, unpack, wait};
use crate::op::{Command, Op, UnitAction};
use crate::system::{Attributes, EntryKind, FactsError, PerformError};

impl Linux {
    /// Does what an operation says.
    pub(super) fn do_perform(&mut self, op: &Op, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self.runner.interrupter().is_interrupted() {
            return Err(failed("go on")(io::ErrorKind::Interrupted.into()));
        }
        match op {
            Op::WriteFile(write) => {
                let staged = commit::stage(self, write, output)?;
                commit::put(&self.tree, &staged, &write.path)
                    .map_err(failed(format!("write `{}`", write.path.display())))
            }
            Op::Download(download) => {
                let staged = download::stage(self, download, None, output)?;
                commit::put(&self.tree, &staged, &download.path)
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
                commit::put(&self.tree, &staged, path).map_err(failed(format!("link `{}`", path.display())))
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
            Op::Unpack(unpack) => unpack::perform(self, unpack),
            Op::InstallPackages { packages } => {
                self.package_manager("install packages")?.install(self, packages, output)
            }
            Op::RemovePackages { packages, purge } => {
                self.package_manager("remove packages")?.remove(self, packages, *purge, output)
            }
            Op::UpgradePackages { packages, which } => {
                self.package_manager("upgrade packages")?.upgrade(self, packages, *which, output)
            }
            Op::HoldPackages { packages, held } => {
                self.package_manager("hold packages")?.hold(self, packages, *held, output)
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
            Op::Reboot => {
                self.needs_booted_root("reboot")?;
                // It is not for somebody who is logged in to hold up the run.
                let words = ["systemctl", "--no-wall", "--check-inhibitors=no", "reboot"];
                self.runner.run(&Command::new(words), output)
            }
            Op::WaitFor { condition, within } => {
                self.needs_booted_root("wait")?;
                wait::wait_until(self, condition, *within)
            }
            Op::LoadFirewall(wanted) => firewall::load(self, wanted, output),
            Op::Run(command) => {
                self.needs_booted_root("run a command")?;
                self.runner.run(&self.at_home(command)?, output)
            }
        }
    }

    /// A command that another user runs has the home of that user.
    pub(super) fn at_home(&self, command: &Command) -> Result<Command, FactsError> {
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
    pub(super) fn owners(&self, attributes: &Attributes) -> Result<(u32, u32), PerformError> {
        let accounts = self.accounts()?;
        let missing =
            |noun: &str, name: &str| PerformError::Unsupported(format!("the {noun} `{name}` does not exist"));
        let uid = accounts.uid(&attributes.owner).ok_or_else(|| missing("user", &attributes.owner))?;
        let gid = accounts.gid(&attributes.group).ok_or_else(|| missing("group", &attributes.group))?;
        Ok((uid, gid))
    }
}
