//! What operations do to a host in memory.

use std::io;

use super::Fake;
use crate::op::Op;
use crate::system::{Known, Machine, PerformError};

impl Machine for Fake {
    fn begin(&mut self) -> Result<(), PerformError> {
        Ok(())
    }

    fn perform(&mut self, op: &Op, _output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self.fail_at == Some(self.performed.len()) {
            let what = "do what this test wants to fail".into();
            return Err(PerformError::Io { what, source: io::ErrorKind::StorageFull.into() });
        }
        if let Op::WaitFor { condition, within } = op {
            self.later.iter().for_each(|op| self.state.apply(op));
            if condition.holds(self)? != Known::Yes(true) {
                let (what, last) = (condition.to_string(), "nothing came".into());
                return Err(PerformError::NotSeen { what, within: *within, last });
            }
        }
        match op {
            Op::Download(download) => self.state.apply(&self.fetched(download)?),
            Op::Checkout(checkout) => {
                self.changed.remove(&checkout.path);
                self.state.apply(op);
            }
            Op::Unpack(unpack) => self.unpack(unpack)?,
            _ => self.state.apply(op),
        }
        if let Op::InstallPackages { packages } = op {
            for brought in packages.iter().filter_map(|package| self.brings.get(&package.name)).flatten() {
                self.state.apply(brought);
            }
        }
        if let Op::UpgradePackages { packages, .. } = op {
            self.upgradable.retain(|name, _| !packages.contains(name));
        }
        if let Op::Run(command) = op {
            for made in self.makes.get(&command.argv).into_iter().flatten() {
                self.state.apply(made);
            }
        }
        self.performed.push(op.clone());
        Ok(())
    }

    fn commit(&mut self, writes: &[Op], output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if self
            .fail_at
            .is_some_and(|at| (self.performed.len()..self.performed.len() + writes.len()).contains(&at))
        {
            let what = "stage what this test wants to fail".into();
            return Err(PerformError::Io { what, source: io::ErrorKind::StorageFull.into() });
        }
        writes.iter().try_for_each(|op| self.perform(op, output))
    }

    fn pending_handlers(&self) -> Result<Vec<String>, PerformError> {
        Ok(self.pending.clone())
    }

    fn remember_handlers(&mut self, handlers: &[String]) -> Result<(), PerformError> {
        self.pending = handlers.to_vec();
        Ok(())
    }

    fn rebooted_for(&self, resource: &str) -> Result<bool, PerformError> {
        Ok(self.reboots.get(resource) == Some(&true))
    }

    fn remember_reboot(&mut self, resource: &str) -> Result<(), PerformError> {
        self.reboots.insert(resource.into(), false);
        Ok(())
    }

    fn forget_reboots(&mut self) -> Result<(), PerformError> {
        self.reboots.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), PerformError> {
        Ok(())
    }
}
