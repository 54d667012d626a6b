//! A host that is there already, over SSH as its user has set it up: configuration, agent, jump hosts and known hosts are
//! OpenSSH's, and what needs root is done with sudo. Or this machine, for a tree that is here.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::process::Command;

use super::program::{Abandoned, run};
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
        // What is left of a connection does nothing; what works on this machine cleans up.
        let abandoned = match &self.place {
            Place::Here => Abandoned::Told,
            Place::Ssh { .. } => Abandoned::Killed,
        };
        run(command, input, abandoned, line).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    /// As a bundle on this machine, which is removed by the shell that works on it.
    #[tokio::test]
    async fn what_nobody_waits_for_cleans_up_on_this_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bundle");
        let script = r#"trap 'rm "$1"' EXIT; trap 'exit 143' PIPE TERM; touch "$1"; echo; sleep 60"#;
        let session = HostSession { place: Place::Here, sudo: false };
        let (path_text, mut heard) = (path.display().to_string(), 0);
        let argv = ["sh", "-c", script, "sh", &path_text];
        let mut line = |_: &str| heard += 1;
        let work = session.run(&argv, Input::Nothing, &mut line);
        assert!(timeout(Duration::from_secs(2), work).await.is_err(), "it takes its time");
        assert_eq!(heard, 1);
        let gone = async {
            while path.exists() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.expect("it was told to stop, and not killed");
    }
}
