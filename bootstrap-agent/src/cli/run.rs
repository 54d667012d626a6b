//! `run`: the boot.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{DONE, FAILED, REBOOTING, World, complain, fail_at};
use crate::boot::{self, Ended, Settings};
use crate::report::{Format, Reporter};
use crate::status::Failure;
use crate::stop::Stop;

/// Configure this host: pull its values, render, start, verify and report
///
/// With a FILE, that is the user-data, so that a file whose first line is
/// `#!/usr/local/bin/bootstrap-agent run` is a script. Without one, the user-data is read from the
/// instance metadata service. If another process does this already, it is waited for.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The user-data; the instance metadata service's if left out
    file: Option<PathBuf>,
    /// Run again what this boot has had already
    #[arg(long)]
    force: bool,
    /// How long to wait for the instance metadata service
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    metadata_timeout: Duration,
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// What this process knows goes into no core file, and no other process may look into it (prctl(2)).
pub(super) fn keep_memory_private() {
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
}

impl Run {
    pub(super) fn run(self, world: &World) -> u8 {
        boot::report_panics();
        keep_memory_private();
        let settings = Settings {
            file: self.file,
            metadata_endpoint: world.metadata_endpoint.clone(),
            metadata_patience: self.metadata_timeout,
            force: self.force,
            is_in_journal: world.is_in_journal,
            environment: world.proxies.clone(),
        };
        let mut reporter = Reporter::new(self.format, io::stdout());
        let mut run = || -> io::Result<(Result<Ended, Failure>, Stop)> {
            let stop = Stop::listen()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(boot::run(&settings, &mut reporter, &stop));
            Ok((result, stop))
        };
        match run() {
            Ok((Ok(Ended::Up), _)) => DONE,
            Ok((Ok(Ended::Rebooting), _)) => REBOOTING,
            Ok((Err(failure), stop)) => fail_at(&failure, &stop),
            Err(error) => {
                complain(&format!("error: failed to start: {error}"));
                FAILED
            }
        }
    }
}
