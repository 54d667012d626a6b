//! `apply`: make what an image's recipes say true on a host that is there.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use recipes::plan::Plan as Changes;

use super::plan::{Selection, bundle_of};
use super::{
    DONE, FAILED, INTERRUPTED, ImageArguments, Interrupts, State, World, agent, complain, fail, fail_with,
};
use crate::failure::Failure;
use crate::image::Chain;
use crate::report::Human;
use crate::target::Target;

/// Apply an image's recipes to a host that is there, such as a machine of Vagrant
///
/// The plan is shown first, and nothing is changed before somebody says `yes`. Afterwards a second plan has to be empty.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    image: ImageArguments,
    #[command(flatten)]
    selection: Selection,
    /// The host: `ssh://[USER@]HOST[:PORT]` or `vagrant[:NAME]`
    #[arg(long = "on", value_name = "TARGET")]
    target: Target,
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

impl Apply {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let chain = match self.image.load(world, state) {
            Ok(chain) => chain,
            Err(problems) => return fail_with(&problems),
        };
        let mut interrupts = match Interrupts::listen() {
            Ok(interrupts) => interrupts,
            Err(failure) => return fail(&failure),
        };
        let applied = tokio::select! {
            applied = self.apply(world, &chain) => applied,
            () = interrupts.told() => return INTERRUPTED,
        };
        applied.unwrap_or_else(|failure| fail(&failure))
    }

    async fn apply(&self, world: &World, chain: &Chain) -> Result<u8, Failure> {
        let (bundle, selection) = (bundle_of(chain)?, self.selection.options());
        let host = self.target.connect(|arch| agent(self.agent.as_deref(), world, arch)).await?;
        let plan: Changes = host.plan(&bundle, &selection).await?;
        let _ = writeln!(io::stdout(), "{plan}");
        let mut code = DONE;
        if !plan.is_empty() {
            if !self.yes && !agreed()? {
                complain("nothing was changed");
                return Ok(FAILED);
            }
            let counts = host.apply(&bundle, &selection, &mut Human::new(self.verbose)).await?;
            let left: Changes = host.plan(&bundle, &selection).await?;
            let _ = writeln!(io::stdout(), "{} changed, {} unchanged", counts.changed, counts.unchanged);
            if !left.is_empty() {
                let what = format!("after the recipes were applied a second plan is not empty:\n{left}");
                code = fail(&Failure::new(what));
            }
        }
        if self.leave_nothing {
            host.leave_nothing().await?;
        }
        Ok(code)
    }
}

/// Asks whoever is there.
fn agreed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(
            Failure::new("nobody is there to ask whether the plan is to be applied").help("say `--yes`")
        );
    }
    let _ = write!(io::stderr(), "Apply this plan? Only `yes` is taken for it: ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && answer.trim() == "yes")
}
