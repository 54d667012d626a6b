//! `plan`: what apply would do.

use std::io::{self, Write};
use std::path::PathBuf;

use recipes::plan::{Guards, plan_with_transaction};
use recipes::system::linux::Linux;
use recipes::system::{Facts, Machine};

use super::{CHANGES, DONE, FAILED, Tags, complain, fail, fail_with};
use crate::boot::error::chain;
use crate::config::Config;
use crate::report::Format;
use crate::source::plan::FetchPlan;
use crate::unpack;

/// Show what apply would do on this host, or which calls a boot makes
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// The bundle: a tar file, or a folder
    #[arg(value_name = "BUNDLE", required_unless_present = "user_data")]
    bundle: Option<PathBuf>,
    /// Show the calls that fetch the values of a host with this user-data
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    user_data: Option<PathBuf>,
    /// How long the quotas make a fleet of this size wait that boots at once
    #[arg(long, value_name = "HOSTS", requires = "user_data")]
    fleet: Option<u32>,
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
        let Some(bundle) = &self.bundle else { return self.calls() };
        let opened = match unpack::open(bundle) {
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

    /// The calls that a host makes for its values.
    fn calls(&self) -> u8 {
        let path = self.user_data.clone().unwrap_or_default();
        let name = path.display().to_string();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                complain(&format!("error: failed to read `{name}`: {error}"));
                return FAILED;
            }
        };
        let config = match Config::parse(&name, &bytes) {
            Ok(config) => config,
            Err(problems) => return fail_with(&problems),
        };
        let plan = FetchPlan::of(&config);
        let fleet = self.fleet.map(|hosts| format!("\n{}", plan.fleet(hosts))).unwrap_or_default();
        let text = match self.format {
            Format::Human => format!("{plan}{fleet}"),
            Format::Json => serde_json::json!({
                "paths": plan.paths,
                "names": plan.names,
                "secrets": plan.secrets.iter().map(|secret| &secret.id).collect::<Vec<_>>(),
                "calls": plan.calls(),
                "wait_seconds": self.fleet.map(|hosts| plan.wait(hosts).as_secs_f64()),
            })
            .to_string(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        DONE
    }
}
