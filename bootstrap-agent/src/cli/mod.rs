//! The command line: one file for each verb.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use miette::{Diagnostic, ReportHandler};
use recipes::bundle::Bundle;
use recipes::error::{Problem, Problems};
use recipes::resolve::{Resolved, Selection};
use recipes::system::Host;
use recipes::template::Scope;
use serde_json::Map;

use crate::boot::error::chain;
use crate::status::Failure;
use crate::stop::Stop;

mod apply;
mod apply_to_copy;
mod check;
mod deliver;
mod doctor;
mod drift;
mod explain;
mod facts;
mod plan;
mod power_off;
mod run;
mod seal;
mod sign;
mod simulate;
mod status;
mod stop_unfinished;
mod user_data;
mod watch;

/// Everything went well.
pub const DONE: u8 = 0;
/// Something failed, and was said on standard error.
pub const FAILED: u8 = 1;
/// A plan with `--detailed-exitcode` has changes.
pub const CHANGES: u8 = 2;
/// The host is about to reboot, and the run goes on after that (sysexits.h, `EX_TEMPFAIL`).
pub const REBOOTING: u8 = 75;
/// The command line was not understood (sysexits.h, `EX_USAGE`).
pub const USAGE: u8 = 64;
/// It was told to stop (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Applies recipes to this host, and on first boot pulls values, renders, starts, verifies and reports.
#[derive(Debug, Parser)]
#[command(name = "bootstrap-agent", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Apply(apply::Apply),
    Plan(plan::Plan),
    Drift(drift::Drift),
    Check(check::Check),
    Facts(facts::Facts),
    Seal(seal::Seal),
    Status(status::Status),
    Watch(watch::Watch),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    UserData(user_data::UserData),
    Simulate(simulate::Simulate),
    Sign(sign::Sign),
    #[command(hide = true)]
    ApplyToCopy(apply_to_copy::ApplyToCopy),
    #[command(hide = true)]
    StopUnfinished(stop_unfinished::StopUnfinished),
    #[command(hide = true)]
    Deliver(deliver::Deliver),
    #[command(hide = true)]
    PowerOff(power_off::PowerOff),
}

/// What the program is told besides its arguments.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Arguments, the program's name first.
    pub arguments: Vec<OsString>,
    /// Whether what it prints goes to journald.
    pub is_in_journal: bool,
    /// Where the instance metadata service is, if not where it always is.
    pub metadata_endpoint: Option<String>,
    /// Proxies, for package managers and downloads.
    pub proxies: std::collections::BTreeMap<String, String>,
}

/// Runs the program and returns its exit code.
pub fn main(world: &World) -> u8 {
    let arguments = match Arguments::try_parse_from(&world.arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_help { DONE } else { USAGE };
        }
    };
    match arguments.verb {
        Verb::Run(verb) => verb.run(world),
        Verb::Apply(verb) => verb.run(world),
        Verb::Plan(verb) => verb.run(world),
        Verb::Drift(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Facts(verb) => verb.run(),
        Verb::Seal(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Watch(verb) => verb.run(world),
        Verb::Explain(verb) => verb.run(world),
        Verb::Doctor(verb) => verb.run(world),
        Verb::UserData(verb) => verb.run(),
        Verb::Simulate(verb) => verb.run(),
        Verb::Sign(verb) => verb.run(),
        Verb::ApplyToCopy(verb) => verb.run(),
        Verb::StopUnfinished(verb) => verb.run(),
        Verb::Deliver(verb) => verb.run(world),
        Verb::PowerOff(verb) => verb.run(),
    }
}

/// The bundle that a verb works on.
#[derive(Debug, clap::Args)]
struct BundleArgument {
    /// The bundle: a tar file, or a folder
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
}

/// Which of its resources are meant.
#[derive(Debug, clap::Args)]
struct Tags {
    /// Only resources with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// No resource with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    skip_tags: Vec<String>,
}

impl Tags {
    /// As arguments of another verb.
    fn options(&self) -> Vec<String> {
        let tags = self.tags.iter().map(|tag| format!("--tags={tag}"));
        tags.chain(self.skip_tags.iter().map(|tag| format!("--skip-tags={tag}"))).collect()
    }

    /// Everything about a bundle's resources that are meant, decided for a host.
    fn resolve(&self, bundle: &Bundle, host: &Host) -> Result<Resolved, Problems> {
        let mut resolved = bundle.resolve(host, &Scope::new(Map::new()))?;
        self.select(&mut resolved)?;
        Ok(resolved)
    }

    /// Leaves what is not meant.
    fn select(&self, resolved: &mut Resolved) -> Result<(), Problem> {
        resolved.select(&Selection { tags: self.tags.clone(), skip_tags: self.skip_tags.clone() })
    }
}

/// Says on standard error why nothing could be done.
fn fail(error: &(dyn Diagnostic + 'static)) -> u8 {
    complain(&format!("{:?}", Shown(error)));
    FAILED
}

/// Says on standard error what went wrong, with its causes.
fn fail_by(error: &dyn std::error::Error) -> u8 {
    complain(&format!("error: {}", chain(error)));
    FAILED
}

/// Says on standard error everything that is wrong with what somebody wrote.
fn fail_with(problems: &Problems) -> u8 {
    for problem in problems.iter() {
        fail(problem);
    }
    FAILED
}

/// Says on standard error what a run came to that failed or was told to stop.
fn fail_at(failure: &Failure, stop: &Stop) -> u8 {
    complain(&format!("error: {}: {}", failure.step, failure.message));
    if let Some(help) = &failure.help {
        complain(&format!("help: {help}"));
    }
    if stop.is_told() { INTERRUPTED } else { FAILED }
}

/// Says something on standard error.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}

/// A diagnostic as miette shows it: with its causes, the source around it, and what to do.
struct Shown<'a>(&'a (dyn Diagnostic + 'static));

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        miette::MietteHandlerOpts::new().build().debug(self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A change of the interface shows in review.
    #[test]
    fn help_is_as_reviewed() {
        let mut command = Arguments::command().term_width(100);
        command.build();
        let verbs = command.get_subcommands_mut().filter(|verb| verb.get_name() != "help");
        let texts: Vec<String> = verbs.map(|verb| verb.render_long_help().to_string()).collect();
        insta::assert_snapshot!(texts.join("\n----\n\n"));
    }
}
