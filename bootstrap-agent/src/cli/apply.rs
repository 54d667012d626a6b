//! `apply`: make everything in a bundle true.

use std::io;
use std::path::PathBuf;

use recipes::run::{Files, converge};
use recipes::system::Facts;
use recipes::system::linux::Linux;

use super::{
    BundleArgument, DONE, FAILED, INTERRUPTED, REBOOTING, Tags, World, complain, fail, fail_by, fail_with,
};
use crate::fetch::Https;
use crate::report::{Format, Reporter};
use crate::stop::Stop;
use crate::unpack;

/// Make everything in a bundle true on this host
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    bundle: BundleArgument,
    #[command(flatten)]
    tags: Tags,
    /// The root of the host: a tree that is not booted takes files, accounts and links of units only
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Apply {
    pub(super) fn run(self, world: &World) -> u8 {
        let opened = match unpack::open(&self.bundle.bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        let mut machine = match Linux::open(&self.root, opened.bundle.manifest.mode) {
            Ok(machine) => machine
                .with_environment(world.proxies.clone())
                .with_fetch(Box::new(Https::new(&world.proxies))),
            Err(error) => return fail_by(&error),
        };
        let resolved = match self.tags.resolve(&opened.bundle, machine.host()) {
            Ok(resolved) => resolved,
            Err(problems) => return fail_with(&problems),
        };
        let stop = match Stop::listen() {
            Ok(stop) => stop,
            Err(error) => {
                complain(&format!("error: failed to listen for signals: {error}"));
                return FAILED;
            }
        };
        stop.also(machine.interrupter());
        let mut reporter = Reporter::new(self.format, io::stdout());
        match converge(&resolved, &mut machine, Files::InTurn, &mut |event| reporter.event(&event)) {
            Ok(summary) if summary.rebooting => REBOOTING,
            Ok(_) => DONE,
            Err(error) => {
                let code = fail(&error);
                if stop.is_told() { INTERRUPTED } else { code }
            }
        }
    }
}
