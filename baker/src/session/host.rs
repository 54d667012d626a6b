//! A host that is there already, over SSH as its user has set it up: configuration, agent, jump hosts and known hosts are
//! OpenSSH's, and what needs root is done with sudo.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::program::run;
use super::{Ended, Input, Session};

/// A way to run programs on a host.
#[derive(Debug, Clone)]
pub struct HostSession {
    /// Options of ssh, before the destination.
    pub options: Vec<String>,
    /// The destination, as ssh takes it.
    pub destination: String,
    /// Whether programs are run with sudo.
    pub sudo: bool,
    /// A configuration that goes with the session.
    pub config: Option<PathBuf>,
}

impl HostSession {
    /// The same without sudo.
    #[must_use]
    pub fn as_user(&self) -> Self {
        Self { sudo: false, ..self.clone() }
    }
}

impl Session for HostSession {
    async fn run(&self, argv: &[&str], input: Input, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
        let sudo: &[&str] = if self.sudo { &["sudo", "--non-interactive", "--"] } else { &[] };
        let remote = shlex::try_join(sudo.iter().chain(argv).copied()).map_err(io::Error::other)?;
        let mut command = Command::new("ssh");
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        // Nobody is asked anything: a plan is for scripts, too.
        command.args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-T"]);
        command.args(&self.options).args(["--", &self.destination, &remote]);
        command.kill_on_drop(true).process_group(0).stdin(Stdio::null());
        run(command, input, line).await
    }
}
