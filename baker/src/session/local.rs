//! A direct pipe into a local container.

use std::io;

use tokio::process::Command;

use super::program::{Abandoned, run};
use super::{Ended, Input, Session};

/// Runs programs as transient units of the container's own systemd, so that they have its control groups,
/// its capabilities and its filters, as on a host of their own.
#[derive(Debug, Clone)]
pub struct LocalSession {
    /// The first process of the container, as this machine sees it.
    leader: u32,
    /// Variables that every program gets, such as proxies.
    environment: Vec<(String, String)>,
}

impl LocalSession {
    /// A session with the container whose first process this is.
    pub fn new(leader: u32, environment: Vec<(String, String)>) -> Self {
        Self { leader, environment }
    }

    fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.leader.to_string();
        command
            .args([
                "--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
                "--wd",
            ])
            .args(["--", "systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        for (name, value) in &self.environment {
            // By name only: a proxy's password is not for the list of processes.
            command.arg(format!("--setenv={name}")).env(name, value);
        }
        command.arg("--").args(argv);
        command
    }
}

impl Session for LocalSession {
    async fn run(&self, argv: &[&str], input: Input, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
        run(self.command(argv), input, Abandoned::Killed, line).await
    }
}
