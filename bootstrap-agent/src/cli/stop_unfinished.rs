//! `stop-unfinished`: what systemd runs when the agent's process is gone.

use super::{DONE, FAILED, complain};
use crate::boot;

/// Stop the services that need this boot's run, unless it went well
///
/// The agent's unit runs this when its process has ended, so that a host whose agent was killed does not
/// serve.
#[derive(Debug, clap::Args)]
pub(super) struct StopUnfinished {}

impl StopUnfinished {
    pub(super) fn run(self) -> u8 {
        let Self {} = self;
        match boot::stop_unfinished() {
            Ok(()) => DONE,
            Err(error) => {
                complain(&format!("error: failed to stop what needs the run: {error}"));
                FAILED
            }
        }
    }
}
