//! A direct pipe into a local container.

use std::fs::File;
use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

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
        // Ctrl-C is for baker, which ends what it started in order.
        command.kill_on_drop(true).process_group(0);
        command
    }
}

impl Session for LocalSession {
    async fn run(&self, argv: &[&str], input: Input, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
        let mut command = self.command(argv);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let bytes = match input {
            Input::Nothing => {
                command.stdin(Stdio::null());
                None
            }
            Input::File(path) => {
                command.stdin(File::open(path)?);
                None
            }
            Input::Bytes(bytes) => {
                command.stdin(Stdio::piped());
                Some(bytes)
            }
        };
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let write = async {
            if let (Some(mut stdin), Some(bytes)) = (stdin, bytes) {
                // A program that does not read all of its input says why with its exit code.
                let _ = stdin.write_all(&bytes).await;
                let _ = stdin.shutdown().await;
            }
            Ok::<_, io::Error>(())
        };
        let stdout = child.stdout.take();
        let read = async {
            if let Some(stdout) = stdout {
                let mut lines = BufReader::new(stdout).lines();
                while let Some(text) = lines.next_line().await? {
                    line(&text);
                }
            }
            Ok(())
        };
        let stderr = child.stderr.take();
        let complain = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                stderr.read_to_end(&mut text).await?;
            }
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let ((), (), error) = tokio::try_join!(write, read, complain)?;
        let status = child.wait().await?;
        Ok(Ended { code: status.code(), error })
    }
}
