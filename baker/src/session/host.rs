//! A host that is there already, over SSH as its user has set it up: configuration, agent, jump hosts and known hosts are
//! OpenSSH's, and what needs root is done with sudo. Or this machine, for a tree that is here.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::program::run;
use super::{Ended, Input, Session};

/// A way to run programs on a host.
#[derive(Debug, Clone)]
pub struct HostSession {
    /// Where programs are run.
    pub place: Place,
    /// Whether programs are run with sudo.
    pub sudo: bool,
}

/// Where programs are run.
#[derive(Debug, Clone)]
pub enum Place {
    /// On a host that ssh reaches.
    Ssh {
        /// Options of ssh, before the destination.
        options: Vec<String>,
        /// The destination, as ssh takes it.
        destination: String,
        /// A configuration that goes with the session.
        config: Option<PathBuf>,
    },
    /// On this machine.
    Here,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { destination, .. } => formatter.write_str(destination),
            Self::Here => formatter.write_str("this machine"),
        }
    }
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
        let mut words = sudo.iter().chain(argv).copied();
        let mut command = match &self.place {
            Place::Here => Command::new(words.next().unwrap_or_default()),
            Place::Ssh { .. } => Command::new("ssh"),
        };
        match &self.place {
            Place::Here => {
                command.args(words);
            }
            Place::Ssh { options, destination, config } => {
                let remote = shlex::try_join(words).map_err(io::Error::other)?;
                if let Some(config) = config {
                    command.arg("-F").arg(config);
                }
                // Nobody is asked anything: a plan is for scripts, too.
                command.args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-T"]);
                command.args(options).args(["--", destination, &remote]);
            }
        }
        command.kill_on_drop(true).process_group(0).stdin(Stdio::null());
        run(command, input, line).await
    }
}
