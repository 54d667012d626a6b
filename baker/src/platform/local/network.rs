//! A network of its own for a container. The machine's own addresses, routes and rules are not touched.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::timeout;

use super::group::ControlGroup;
use super::tools;
use crate::failure::{Failure, failed};

/// The name server that slirp4netns answers as, in the network that it makes (slirp4netns(1)).
pub(super) const NAME_SERVER: &str = "10.0.2.3";

/// How long making a network may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A network namespace, for as long as its processes live.
pub struct Network {
    path: PathBuf,
    processes: Vec<Child>,
}

impl Network {
    /// A network that somebody else made and keeps.
    pub fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), processes: Vec::new() }
    }

    /// A network with a way out through this machine, in user space. This machine's loopback and the metadata
    /// service of the instance that it may be cannot be reached: whose user-data and role they are is not for
    /// what is baked.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn outbound(group: &ControlGroup) -> Result<Self, Failure> {
        let mut command = tools::command(group, "unshare");
        // It says that it is in its namespace: whoever joined it earlier would join the machine's.
        let script = "ip route add unreachable 169.254.0.0/16 && echo && exec sleep infinity";
        command.args(["--net", "--", "sh", "-c", script]);
        let mut holder =
            command.stdout(Stdio::piped()).spawn().map_err(failed("make a network namespace"))?;
        until_it_speaks(&mut holder, "make a network namespace").await?;
        let id = holder.id().ok_or_else(|| Failure::new("the network namespace ended at once"))?;

        let mut command = tools::command(group, "slirp4netns");
        command.args(["--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=1"]);
        command.args([&id.to_string(), "tap0"]);
        let mut slirp = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed("connect the network of the builder"))?;
        until_it_speaks(&mut slirp, "connect the network of the builder").await?;
        Ok(Self { path: format!("/proc/{id}/ns/net").into(), processes: vec![holder, slirp] })
    }

    /// Where the namespace can be joined.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processes that keep it.
    pub(super) fn into_processes(self) -> Vec<Child> {
        self.processes
    }
}

/// Waits for the first byte that a program writes.
async fn until_it_speaks(child: &mut Child, what: &str) -> Result<(), Failure> {
    let mut byte = [0];
    let read = match child.stdout.as_mut() {
        Some(stdout) => timeout(LIMIT, stdout.read(&mut byte)).await,
        None => Ok(Ok(0)),
    };
    match read {
        Ok(Ok(1)) => Ok(()),
        Ok(Ok(_)) => Err(Failure::new(format!("failed to {what}: the program ended"))),
        Ok(Err(error)) => Err(Failure::because(format!("failed to {what}"), &error)),
        Err(_) => Err(Failure::new(format!("failed to {what} within {} s", LIMIT.as_secs()))),
    }
}
