//! `doctor`: everything that a boot needs from outside, looked at one by one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{DONE, FAILED, World, complain};
use crate::config::encoded::decode;
use crate::config::layers::Layer;
use crate::doctor::{examine, human};
use crate::signal::outbox::Outbox;
use crate::source::instance::Metadata;

/// How long the metadata service is waited for: a person waits, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Find out what keeps this host from coming up
///
/// Each thing that a boot needs from outside is looked at for itself, so that one that is wrong hides no other. Nothing
/// is changed, and no value is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// The user-data; the instance metadata service's if left out
    file: Option<PathBuf>,
}

impl Doctor {
    pub(super) fn run(self, world: &World) -> u8 {
        match self.examine(world) {
            Ok((text, is_well)) => {
                let _ = writeln!(io::stdout(), "{text}");
                if is_well { DONE } else { FAILED }
            }
            Err(why) => {
                complain(&format!("error: {why}"));
                FAILED
            }
        }
    }

    fn examine(&self, world: &World) -> Result<(String, bool), String> {
        let image = Layer::of_image(Path::new("/")).map_err(|error| format!("failed to read {error}"))?;
        let read = |path: &PathBuf| {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).map_err(|error| format!("failed to read `{name}`: {error}"))?;
            let bytes = decode(bytes).map_err(|why| format!("{name} cannot be read: {why}"))?;
            Ok::<_, String>(Layer { name, bytes, is_user_data: true })
        };
        let user_data = self.file.as_ref().map(read).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("failed to start: {error}"))?;
        let metadata = Arc::new(Metadata::new(world.metadata_endpoint.as_deref(), PATIENCE));
        let outbox = Outbox::below(Path::new("/"));
        let found = runtime.block_on(examine(metadata, &image, user_data, &outbox, &world.proxies));
        Ok((human(&found), found.iter().all(|finding| finding.wrong.is_none())))
    }
}
