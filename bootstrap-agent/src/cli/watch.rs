//! `watch`: new values while the host is up.

use std::io;
use std::time::Duration;

use super::run::keep_memory_private;
use super::{DONE, FAILED, World, complain, fail_at};
use crate::report::{Format, Reporter};
use crate::stop::Stop;
use crate::watch::{Settings, watch};

/// Look for new values once, and put them in place
///
/// If the host is not healthy with them, they are taken back. A timer of systemd runs this where the configuration has
/// `watch`. It ends with 0 only if the host has the newest values.
#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// How long to wait for the instance metadata service
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    metadata_timeout: Duration,
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Watch {
    pub(super) fn run(self, world: &World) -> u8 {
        keep_memory_private();
        let settings = Settings {
            metadata_endpoint: world.metadata_endpoint.clone(),
            metadata_patience: self.metadata_timeout,
            environment: world.proxies.clone(),
        };
        let mut reporter = Reporter::new(self.format, io::stdout());
        let mut run = || -> io::Result<_> {
            let stop = Stop::listen()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok((runtime.block_on(watch(&settings, &mut reporter, &stop)), stop))
        };
        match run() {
            Ok((Ok(()), _)) => DONE,
            Ok((Err(failure), stop)) => fail_at(&failure, &stop),
            Err(error) => {
                complain(&format!("error: failed to start: {error}"));
                FAILED
            }
        }
    }
}
