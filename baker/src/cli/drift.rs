//! `drift`: what has changed on a host since its image was baked.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use recipes::drift::Drift as Drifted;

use super::host::look_at;
use super::plan::{PlanFormat, Selection};
use super::{CHANGES, DONE, INTERRUPTED, PlatformName, World, fail};
use crate::failure::{Failure, failed};
use crate::record;
use crate::report::drift_markdown;
use crate::target::Target;

/// Show what has changed on a host since its image was baked
///
/// The host is compared with the record that the bake has kept beside the image's manifest: packages, what resources made, and
/// what the recipes of the image would change back. Nothing is changed on the host.
#[derive(Debug, clap::Args)]
pub(super) struct Drift {
    /// The host: `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]`, or a tree, `root:PATH`
    #[arg(long = "on", value_name = "TARGET")]
    target: Target,
    /// The name of the image
    #[arg(long, value_name = "NAME", required_unless_present = "record")]
    image: Option<String>,
    /// The record of an image that was kept elsewhere, such as that of an earlier bake
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    record: Option<PathBuf>,
    /// The folder that images are kept in
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// Where the image was baked, if it was on both
    #[arg(long, value_enum)]
    platform: Option<PlatformName>,
    #[command(flatten)]
    selection: Selection,
    /// Remove the agent from the host afterwards, which else stays in the user's cache there for the next time
    #[arg(long)]
    leave_nothing: bool,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// End with 2 if something has changed
    #[arg(long)]
    detailed_exitcode: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: PlanFormat,
}

impl Drift {
    pub(super) async fn run(self, world: &World) -> u8 {
        let drift = match self.drift(world).await {
            Ok(Some(drift)) => drift,
            Ok(None) => return INTERRUPTED,
            Err(failure) => return fail(&failure),
        };
        let text = match self.format {
            PlanFormat::Human => drift.to_string(),
            PlanFormat::Json => serde_json::to_string(&drift).unwrap_or_default(),
            PlanFormat::Markdown => drift_markdown(&self.target.to_string(), &drift),
        };
        let _ = writeln!(io::stdout(), "{text}");
        if self.detailed_exitcode && !drift.is_empty() { CHANGES } else { DONE }
    }

    /// What has changed; nothing if it was interrupted.
    async fn drift(&self, world: &World) -> Result<Option<Drifted>, Failure> {
        let path = match (&self.record, &self.image) {
            (Some(path), _) => path.clone(),
            (None, image) => {
                let platform = self.platform.map(PlatformName::name);
                record::find(&self.output, image.as_deref().unwrap_or_default(), platform)?
            }
        };
        let bytes = fs::read(&path).map_err(failed(format!("read `{}`", path.display())))?;
        let options = self.selection.options();
        look_at(&self.target, self.agent.as_deref(), world, self.leave_nothing, async |host| {
            host.drift(bytes, &options).await
        })
        .await
    }
}
