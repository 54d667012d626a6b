//! `apply-to-copy`: what `plan --exact` starts in namespaces of its own.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use recipes::system::Facts;
use recipes::system::linux::Linux;

use super::{DONE, Tags, complain, fail, fail_by, fail_with};
use crate::exact::{ExactError, apply_to_copy};
use crate::unpack;

/// Apply a bundle to a copy of this host, in namespaces that are this process's own
#[derive(Debug, clap::Args)]
pub(super) struct ApplyToCopy {
    /// The bundle: a folder
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// The port of the proxy on the loopback device
    #[arg(value_name = "PORT")]
    port: u16,
    #[command(flatten)]
    tags: Tags,
    /// The process that started this one, which is in the network of the host
    #[arg(long, value_name = "PID")]
    parent: u32,
}

impl ApplyToCopy {
    pub(super) fn run(self) -> u8 {
        let opened = match unpack::open(&self.bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        let machine = match Linux::open(Path::new("/"), opened.bundle.manifest.mode) {
            Ok(machine) => machine,
            Err(error) => return fail_by(&error),
        };
        let resolved = match self.tags.resolve(&opened.bundle, machine.host()) {
            Ok(resolved) => resolved,
            Err(problems) => return fail_with(&problems),
        };
        match apply_to_copy(&resolved, &machine, self.parent, self.port) {
            Ok(plan) => {
                let text = serde_json::to_string(&plan).unwrap_or_default();
                let _ = writeln!(io::stdout(), "{text}");
                DONE
            }
            Err(ExactError::Run(error)) => {
                complain("what follows happened in a copy of this host, in which no service runs");
                fail(&*error)
            }
            Err(error) => fail_by(&error),
        }
    }
}
