//! `clean`: undo what bakes left that were killed.

use std::io::{self, Write};

use super::{DONE, State, World, fail};
use crate::bake::undo;
use crate::failure::Failure;
use crate::ledger::{Created, Ledger, LedgerError};
use crate::platform::{ControlGroup, GROUP_PREFIX, Platform};
use crate::report::Human;

/// Undo what bakes created that were killed before they could
///
/// Runs that are under way are left alone.
#[derive(Debug, clap::Args)]
pub(super) struct Clean {
    /// Show what would be undone, and undo nothing
    #[arg(long)]
    dry_run: bool,
    /// End the processes of runs that have no ledger in this state folder, too: right if no other state
    /// folder is in use
    #[arg(long)]
    orphans: bool,
}

impl Clean {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let platform = state.local(world, false);
        let runs = match Ledger::runs(&state.runs()) {
            Ok(runs) => runs,
            Err(error) => return fail(&Failure::because("failed to list the runs", &error)),
        };
        let mut code = DONE;
        let mut cleaned = 0;
        let say = |text: &str| {
            let _ = writeln!(io::stdout(), "{text}");
        };
        for run in &runs {
            let ledger = match Ledger::open(&state.runs(), run) {
                Ok(ledger) => ledger,
                Err(LedgerError::UnderWay(run)) => {
                    say(&format!("{run}: under way, left alone"));
                    continue;
                }
                Err(error) => {
                    code = fail(&Failure::because(run, &error));
                    continue;
                }
            };
            for (_, created) in ledger.remaining() {
                say(&format!("{run}: {created}"));
            }
            if self.dry_run {
                continue;
            }
            match undo(&platform, ledger, &mut Human::new(false)).await {
                Ok(()) => cleaned += 1,
                Err(failure) => code = fail(&failure),
            }
        }
        // A group without a ledger: its state folder was removed by hand, or is another one.
        let groups = ControlGroup::with_prefix(GROUP_PREFIX).unwrap_or_default();
        for name in groups.iter().filter(|name| !runs.iter().any(|run| name.ends_with(run))) {
            if !self.orphans || self.dry_run {
                say(&format!("{name}: processes of a run that has no ledger here; `--orphans` ends them"));
                continue;
            }
            say(&format!("{name}: processes of a run that has no ledger here"));
            match platform.undo(&Created::ControlGroup { name: name.clone() }).await {
                Ok(()) => cleaned += 1,
                Err(failure) => code = fail(&failure),
            }
        }
        say(&format!("{cleaned} runs cleaned."));
        code
    }
}
