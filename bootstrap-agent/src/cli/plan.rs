//! `plan`: what apply would do.

use std::io::{self, Write};
use std::path::PathBuf;

use recipes::plan::{Guards, plan_with_transaction};
use recipes::system::linux::Linux;
use recipes::system::{Facts, Machine};

use super::{BundleArgument, CHANGES, DONE, FAILED, Tags, complain, fail, fail_with};
use crate::boot::error::chain;
use crate::report::Format;
use crate::unpack;

/// Show what apply would do on this host, and do nothing
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    bundle: BundleArgument,
    #[command(flatten)]
    tags: Tags,
    /// The root of the host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// End with 2 if there is something to change
    #[arg(long)]
    detailed_exitcode: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Plan {
    pub(super) fn run(self) -> u8 {
        let opened = match unpack::open(&self.bundle.bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        let machine = Linux::open(&self.root, opened.bundle.manifest.mode);
        let machine = match machine {
            Ok(machine) => machine,
            Err(error) => {
                complain(&format!("error: {}", chain(&error)));
                return FAILED;
            }
        };
        let resolved = match self.tags.resolve(&opened.bundle, machine.host()) {
            Ok(resolved) => resolved,
            Err(problems) => return fail_with(&problems),
        };
        let pending = match machine.pending_handlers() {
            Ok(pending) => pending,
            Err(error) => {
                complain(&format!("error: {}", chain(&error)));
                return FAILED;
            }
        };
        let plan = match plan_with_transaction(&resolved, &machine, Guards::Run, &pending) {
            Ok(plan) => plan,
            Err(error) => return fail(&error),
        };
        let text = match self.format {
            Format::Human => plan.to_string(),
            Format::Json => serde_json::to_string(&plan).unwrap_or_default(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        if self.detailed_exitcode && !plan.is_empty() { CHANGES } else { DONE }
    }
}
