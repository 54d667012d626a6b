//! `session-manager`: the way to a builder that admits nobody, for ssh's `ProxyCommand`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{World, fail};
use crate::failure::Failure;
use crate::platform::{SESSION_MANAGER_PLUGIN, open_session};

/// Connect standard input and output with a port of an instance, through Session Manager
#[derive(Debug, clap::Args)]
pub(super) struct SessionManager {
    /// The region of the instance
    #[arg(long, value_name = "REGION")]
    region: String,
    /// The instance
    instance: String,
    /// The port
    port: u16,
}

impl SessionManager {
    pub(super) async fn run(self, world: &World) -> u8 {
        let session = match open_session(&self.region, &self.instance, self.port, &world.way()).await {
            Ok(session) => session,
            Err(failure) => return fail(&failure),
        };
        let mut plugin = Command::new(SESSION_MANAGER_PLUGIN);
        // This process becomes the plugin, so that the connection ends with it.
        let error = plugin.args(session.arguments).envs(session.variables).exec();
        fail(&Failure::because(format!("failed to start `{SESSION_MANAGER_PLUGIN}`"), &error))
    }
}
