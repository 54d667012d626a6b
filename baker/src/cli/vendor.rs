//! `vendor`: fetch recipes of others.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{DONE, Format, INTERRUPTED, Interrupts, World, fail, fail_with};
use crate::failure::Failure;
use crate::vendor::{self, Change, DECLARED, Outcome, Refresh, VendorError};

/// Fetch the recipes of others that `vendor.yaml` names, and lock them
///
/// They are written to the folder `vendor` beside it, to be committed. A source that is locked stays at its
/// commit. All other verbs read only that folder, and refuse one that is not what its lock says.
#[derive(Debug, clap::Args)]
pub(super) struct Vendor {
    /// The folder of recipes that `vendor.yaml` is in
    #[arg(long, value_name = "DIR", default_value = "recipes")]
    recipes: PathBuf,
    /// Fetch nothing: look whether what is there is what `vendor.yaml` and the lock say
    #[arg(long)]
    check: bool,
    /// Move these sources to the newest commit of their branch, or all if none is named
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "check")]
    update: Option<Vec<String>>,
    /// How to tell what was fetched
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Vendor {
    pub(super) async fn run(self, world: &World) -> u8 {
        let shown = self.recipes.display().to_string();
        if self.check {
            return self.check(&shown);
        }
        let mut interrupts = match Interrupts::listen() {
            Ok(interrupts) => interrupts,
            Err(failure) => return fail(&failure),
        };
        let refresh = match self.update {
            None => Refresh::Needed,
            Some(names) if names.is_empty() => Refresh::All,
            Some(names) => Refresh::These(names),
        };
        let environment = [world.proxies.as_slice(), world.git.as_slice()].concat();
        let result = tokio::select! {
            result = vendor::vendor(&self.recipes, &shown, &refresh, &environment) => result,
            () = interrupts.told() => return INTERRUPTED,
        };
        let changes = match result {
            Ok(changes) => changes,
            Err(VendorError::Written(problems)) => return fail_with(&problems),
            Err(VendorError::Failed(failure)) => return fail(&failure),
        };
        for change in changes {
            let text = match self.format {
                Format::Human => told(&change),
                Format::Json => serde_json::to_string(&change).unwrap_or_default(),
            };
            let _ = writeln!(io::stdout(), "{text}");
        }
        DONE
    }

    fn check(&self, shown: &str) -> u8 {
        // A folder that is misspelt must not pass for one in which all is well.
        if !self.recipes.join(DECLARED).exists() {
            return fail(
                &Failure::new(format!("there is no `{shown}/{DECLARED}`"))
                    .help("`--recipes` names its folder"),
            );
        }
        let vendored = match vendor::verify(&self.recipes, shown) {
            Ok(vendored) => vendored,
            Err(problems) => return fail_with(&problems),
        };
        let text = match self.format {
            Format::Human => format!("{} recipes are as they were fetched", vendored.len()),
            Format::Json => serde_json::json!({ "recipes": vendored.len() }).to_string(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        DONE
    }
}

fn told(change: &Change) -> String {
    /// So much of a commit is enough for people, as `git log --oneline` has it.
    const SHORT: usize = 12;
    let short = |commit: &str| commit.chars().take(SHORT).collect::<String>();
    let commit = match (&change.commit, &change.was) {
        (Some(commit), Some(was)) if commit != was => format!(" {} -> {}", short(was), short(commit)),
        (Some(commit), _) => format!(" {}", short(commit)),
        (None, _) => String::new(),
    };
    let how = match change.outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Restored => "restored",
        Outcome::Fetched => "fetched",
    };
    format!("{}:{commit} {how} ({})", change.source, change.recipes.join(", "))
}
