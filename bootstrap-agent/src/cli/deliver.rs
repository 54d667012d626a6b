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
pub(super) struct Deliver {
    /// The boot, as the kernel or systemd numbers it; the one that the kernel tells if left out
    #[arg(long, value_name = "ID")]
    boot_id: Option<String>,
}

impl Deliver {
    pub(super) fn run(self, world: &World) -> u8 {
        keep_memory_private();
        let boot_id = self.boot_id.map_or_else(boot_id, |id| dashed(&id));
        match deliver(world, boot_id) {
            Ok(()) => DONE,
            Err(error) => {
                complain(&format!("error: failed to tell the result of the boot: {error}"));
                FAILED
            }
        }
    }
}

/// As the kernel writes it: systemd leaves the dashes out.
fn dashed(id: &str) -> String {
    let digits: String = id.chars().filter(|digit| *digit != '-').collect();
    let parts: Vec<&str> =
        [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().filter_map(|part| digits.get(part)).collect();
    if digits.len() == 32 && parts.len() == 5 { parts.join("-") } else { id.to_owned() }
}

fn deliver(world: &World, boot_id: String) -> io::Result<()> {
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
        boot_id,
        // That it is time is written down; `power-off` has the power to do it.
        power_off: Box::new(|| Ok(())),
    };
    let mut reporter = Reporter::new(Format::Human, io::stdout());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(post.deliver_all(|line| reporter.line(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_the_same_however_it_is_written() {
        let kernel = "23237994-d71b-47af-b372-b3bd298396e9";
        assert_eq!(dashed("23237994d71b47afb372b3bd298396e9"), kernel);
        assert_eq!(dashed(kernel), kernel);
        assert_eq!(dashed("b"), "b");
    }
}
