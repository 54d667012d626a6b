//! `clean`: undo what bakes left that were killed.

use std::io::{self, Write};
use std::time::SystemTime;

use super::{DONE, State, World, fail};
use crate::bake::undo;
use crate::failure::Failure;
use crate::ledger::{Created, Ledger, LedgerError};
use crate::platform::{ControlGroup, Ec2, GROUP_PREFIX, Leftover, Local, Undo, Way};
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
    /// Look for what is left in this region of EC2 as well, by its tags: for runs whose ledger is lost or on another
    /// machine
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<String>,
    /// The same in every region that the account has enabled
    #[arg(long, conflicts_with = "regions")]
    all_regions: bool,
    /// Only this run; of others what has expired goes as well
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Everything that this ARN made, whether it has expired or not: right if no bake of it is under way
    #[arg(long, value_name = "ARN")]
    all_of: Option<String>,
}

impl Clean {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let (code, cleaned) = self.ledgers(world, state).await;
        let by_tags = match self.by_tags(world).await {
            Ok(by_tags) => by_tags,
            Err(failure) => return fail(&failure),
        };
        say(&format!("{cleaned} runs cleaned."));
        code.max(by_tags)
    }

    /// Undoes what ledgers here know of; returns how many runs that was.
    async fn ledgers(&self, world: &World, state: &State) -> (u8, usize) {
        let runs = match Ledger::runs(&state.runs()) {
            Ok(runs) => runs,
            Err(error) => return (fail(&Failure::because("failed to list the runs", &error)), 0),
        };
        let undoing =
            Undoing { local: state.local(world, false), way: world.way(), ec2: tokio::sync::OnceCell::new() };
        let (mut code, mut cleaned) = (DONE, 0);
        let wanted = |run: &&String| self.run.as_ref().is_none_or(|wanted| wanted == *run);
        for run in runs.iter().filter(wanted) {
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
            match undo(&undoing, ledger, &mut Human::new(false)).await {
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
            match undoing.local.undo(&Created::ControlGroup { name: name.clone() }).await {
                Ok(()) => cleaned += 1,
                Err(failure) => code = fail(&failure),
            }
        }
        (code, cleaned)
    }

    /// Removes what the tags in regions of EC2 say is left. What has not expired may be of a bake that is under way
    /// elsewhere, so it goes only if it was asked for.
    async fn by_tags(&self, world: &World) -> Result<u8, Failure> {
        let mut code = DONE;
        if self.regions.is_empty() && !self.all_regions {
            return Ok(code);
        }
        let ec2 = Ec2::connect(self.regions.first().map(String::as_str), &world.way()).await?;
        let regions = if self.all_regions { ec2.regions().await? } else { self.regions.clone() };
        for region in &regions {
            let there = ec2.in_region(region);
            let now = SystemTime::now();
            let (gone, stays): (Vec<_>, Vec<_>) =
                there.leftovers(self.run.as_deref()).await?.into_iter().partition(|one| {
                    self.run.is_some()
                        || self.all_of.as_ref().is_some_and(|owner| *owner == one.owner)
                        || one.is_expired(now)
                });
            for one in &stays {
                let Leftover { run, owner, expires, .. } = one;
                say(&format!(
                    "{run}: {one} may be needed until {expires}; `--run {run}` or `--all-of {owner}` removes it"
                ));
            }
            for one in &gone {
                say(&format!("{}: {one}", one.run));
            }
            if self.dry_run {
                continue;
            }
            for why in there.remove(gone).await {
                code = fail(&Failure::new(format!("left behind: {why}")));
            }
        }
        Ok(code)
    }
}

/// Undoes what any platform created.
struct Undoing {
    local: Local,
    way: Way,
    /// Only runs on EC2 need credentials.
    ec2: tokio::sync::OnceCell<Ec2>,
}

impl Undo for Undoing {
    async fn undo(&self, created: &Created) -> Result<(), Failure> {
        match created {
            Created::Ec2 { region, .. } => {
                let ec2 = self.ec2.get_or_try_init(|| Ec2::connect(Some(region), &self.way)).await?;
                ec2.undo(created).await
            }
            Created::Path { .. } | Created::ControlGroup { .. } => self.local.undo(created).await,
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
