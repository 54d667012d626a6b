//! `apply`: make what an image's recipes say true on a host that is there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use recipes::plan::Plan as Changes;

use super::host::{ask, connect};
use super::plan::Selection;
use super::subject::Subject;
use super::{DONE, FAILED, INTERRUPTED, Interrupts, State, World, complain, fail, fail_with};
use crate::failure::Failure;
use crate::image::Chain;
use crate::report::Human;
use crate::saved::SavedPlan;
use crate::target::{Host, Target};

/// Apply the recipes of an image, or a recipe alone, to a host that is there
///
/// The plan is shown first, and nothing is changed before somebody says `yes`. Afterwards a second plan has to be empty.
///
/// In place of an image it can be a plan that `baker plan --save` has kept. That was agreed to when it was made: it is applied
/// to its host as it is, or not at all if the host would be changed in another way by now.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    selection: Selection,
    /// The host: `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]`, or a tree, `root:PATH`
    #[arg(long = "on", value_name = "TARGET")]
    target: Option<Target>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Remove the agent from the host afterwards, which else stays in the user's cache there for the next time
    #[arg(long)]
    leave_nothing: bool,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Show what programs print
    #[arg(long, short)]
    verbose: bool,
}

/// What is applied, and where.
struct Wanted {
    target: Target,
    options: Vec<String>,
    bundle: BTreeMap<String, Vec<u8>>,
    /// What was agreed to.
    plan: Option<Changes>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    Applying,
    After,
}

impl Stage {
    /// What is true of a host when it ends here.
    fn left(self, target: &Target) -> &'static str {
        match (self, target) {
            (Self::Before, _) => "nothing was changed on the host",
            (Self::Applying, Target::Root(_)) => {
                "the run was told to stop; plan again to see what is left to do"
            }
            (Self::Applying, _) => {
                "the run on the host goes on to its end; plan again to see what is left to do"
            }
            (Self::After, _) => "the recipes were applied; plan again to see whether anything is left to do",
        }
    }
}

impl Apply {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let wanted = match self.saved() {
            Ok(Some(wanted)) => wanted,
            Ok(None) => match self.subject.load(world, state) {
                Ok(chain) => match self.of_image(&chain) {
                    Ok(wanted) => wanted,
                    Err(failure) => return fail(&failure),
                },
                Err(problems) => return fail_with(&problems),
            },
            Err(failure) => return fail(&failure),
        };
        let mut interrupts = match Interrupts::listen() {
            Ok(interrupts) => interrupts,
            Err(failure) => return fail(&failure),
        };
        let stage = Cell::new(Stage::Before);
        let applied = tokio::select! {
            applied = self.apply(world, &wanted, &stage) => applied,
            () = interrupts.heard() => {
                complain(&format!("interrupted: {}", stage.get().left(&wanted.target)));
                return INTERRUPTED;
            }
        };
        applied.unwrap_or_else(|failure| fail(&failure))
    }

    /// The plan that is named in place of an image.
    fn saved(&self) -> Result<Option<Wanted>, Failure> {
        // What is wrong with an image that is not there is said when it is read.
        if !self.subject.path.is_file() {
            return Ok(None);
        }
        let Some(SavedPlan { target, options, plan, bundle }) = SavedPlan::open(&self.subject.path)? else {
            return Ok(None);
        };
        if self.target.is_some() || !self.subject.is_as_written() || !self.selection.options().is_empty() {
            return Err(Failure::new("a plan that was saved is applied as it is, to the host that it is of")
                .help("leave out `--on`, `--var`, `--recipes`, inputs and tags, or plan again"));
        }
        let target = target.parse().map_err(Failure::new)?;
        Ok(Some(Wanted { target, options, bundle, plan: Some(plan) }))
    }

    fn of_image(&self, chain: &Chain) -> Result<Wanted, Failure> {
        let target = self.target.clone().ok_or_else(|| {
            Failure::new("nobody has said which host the recipes are applied to").help("say `--on TARGET`")
        })?;
        Ok(Wanted { target, options: self.selection.options(), bundle: chain.bundle()?, plan: None })
    }

    async fn apply(&self, world: &World, wanted: &Wanted, stage: &Cell<Stage>) -> Result<u8, Failure> {
        let host = connect(&wanted.target, self.agent.as_deref(), world).await?;
        let applied = self.apply_to(&host, wanted, stage).await;
        host.end(self.leave_nothing, applied).await
    }

    async fn apply_to(&self, host: &Host, wanted: &Wanted, stage: &Cell<Stage>) -> Result<u8, Failure> {
        let Wanted { target, options, bundle, plan: agreed_to } = wanted;
        let plan: Changes = host.plan(bundle, options).await?;
        let _ = writeln!(io::stdout(), "{plan}");
        if agreed_to.as_ref().is_some_and(|agreed_to| *agreed_to != plan) {
            return Err(Failure::new(format!(
                "`{target}` is not as it was when the plan was saved, and nothing was changed: the plan would be another one by now"
            ))
            .help("plan again, with `--save`"));
        }
        if plan.is_empty() {
            return Ok(DONE);
        }
        if agreed_to.is_none() && !self.yes && !agreed().await? {
            complain("nothing was changed");
            return Ok(FAILED);
        }
        stage.set(Stage::Applying);
        let counts = host.apply(bundle, options, &mut Human::new(self.verbose)).await?;
        stage.set(Stage::After);
        let left: Changes = host.plan(bundle, options).await?;
        let _ = writeln!(io::stdout(), "{} changed, {} unchanged", counts.changed, counts.unchanged);
        if left.is_empty() {
            return Ok(DONE);
        }
        let what = format!("after the recipes were applied a second plan is not empty:\n{left}");
        Err(Failure::new(what))
    }
}

/// Asks whoever is there.
async fn agreed() -> Result<bool, Failure> {
    match ask("Apply this plan? Only `yes` is taken for it: ").await {
        Some(answer) => Ok(answer == "yes"),
        None => {
            Err(Failure::new("nobody is there to ask whether the plan is to be applied").help("say `--yes`"))
        }
    }
}
