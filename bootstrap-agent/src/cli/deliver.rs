//! `deliver`: what systemd runs when somebody is still to be told what a boot came to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::run::keep_memory_private;
use super::{DONE, FAILED, World, complain};
use crate::boot::boot_id;
use crate::lock::{Locks, Turn};
use crate::report::{Format, Reporter};
use crate::signal::outbox::Outbox;
use crate::signal::post::Post;
use crate::source::aws::InstanceRole;
use crate::source::instance::Metadata;

/// How long the metadata service is waited for before it is tried again a little later.
const METADATA_PATIENCE: Duration = Duration::from_secs(30);

/// Tell those who have not been told yet what this host's boot came to
///
/// Systemd runs this after a boot whose result could not be told at once, and after one that failed and is
/// held for diagnosis. It ends when nobody is left to be told.
#[derive(Debug, clap::Args)]
pub(super) struct Deliver {}

impl Deliver {
    pub(super) fn run(self, world: &World) -> u8 {
        let Self {} = self;
        keep_memory_private();
        match deliver(world) {
            Ok(()) => DONE,
            Err(error) => {
                complain(&format!("error: failed to tell the result of the boot: {error}"));
                FAILED
            }
        }
    }
}

fn deliver(world: &World) -> io::Result<()> {
    // A run that is under way may come to something else.
    if let Turn::Theirs(run) = Locks::take(Path::new("/"))? {
        run.until_ended()?;
    }
    let metadata = Arc::new(Metadata::new(world.metadata_endpoint.as_deref(), METADATA_PATIENCE));
    let post = Post {
        outbox: Outbox::below(Path::new("/")),
        role: InstanceRole::new(Arc::clone(&metadata)),
        metadata,
        proxies: world.proxies.clone(),
        boot_id: boot_id(),
        // That it is time is written down; `power-off` has the power to do it.
        power_off: Box::new(|| Ok(())),
    };
    let mut reporter = Reporter::new(Format::Human, io::stdout());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(post.deliver_all(|line| reporter.line(line)))
}
