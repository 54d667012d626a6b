//! Machines of Vagrant, as its program tells of them in the folder of a Vagrantfile.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{Failure, failed};

/// A machine that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down(Option<String>);

impl fmt::Display for Down {
    /// The command that starts it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("vagrant up")?;
        self.0.iter().try_for_each(|name| write!(formatter, " {name}"))
    }
}

impl Down {
    /// Starts it, and waits until it is up. What Vagrant says is shown, and it may ask.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&self) -> Result<(), Failure> {
        let what = format!("run `{self}`");
        // Standard output is for the plan.
        let shown = io::stderr().as_fd().try_clone_to_owned().map_err(failed(&what))?;
        let mut command = Command::new("vagrant");
        command.arg("up").args(&self.0).stdout(Stdio::from(shown));
        let status = command.status().await.map_err(failed(&what))?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("`{self}` failed ({status})"))) }
    }
}

/// How ssh reaches a machine; the only one, or the primary one, if not named.
pub(crate) async fn ssh_config(name: Option<&str>) -> Result<String, Failure> {
    let output = Command::new("vagrant").arg("ssh-config").args(name).output().await;
    let output = output.map_err(failed("run `vagrant ssh-config`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`vagrant ssh-config` failed: {}", why.trim()))
        .help("say `vagrant` in the folder of a Vagrantfile, and `vagrant:NAME` if it has several machines"))
}

/// The machine, if it is there to be started.
pub(crate) async fn down(name: Option<&str>) -> Option<Down> {
    let output = Command::new("vagrant").args(["status", "--machine-readable"]).args(name).output().await;
    let told = output.ok().filter(|output| output.status.success())?;
    let told = String::from_utf8_lossy(&told.stdout);
    let states = states(&told);
    let is_down = !states.is_empty() && states.iter().all(|state| *state != "running");
    is_down.then(|| Down(name.map(str::to_owned)))
}

/// The state of each machine, of lines such as `1764167000,default,state,poweroff` ("Machine Readable Output" in Vagrant's
/// manual).
fn states(told: &str) -> Vec<&str> {
    let fields = told.lines().map(|line| line.split(',').skip(2));
    fields
        .filter_map(|mut fields| (fields.next() == Some("state")).then(|| fields.next()).flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_each_machine_is_read() {
        let told = "1764167000,web,metadata,provider,libvirt\n1764167001,web,provider-name,libvirt\n\
                    1764167002,web,state,shutoff\n1764167002,web,state-human-short,shutoff\n1764167003,db,state,running\n";
        assert_eq!(states(told), ["shutoff", "running"]);
        assert_eq!(states("1764167000,,ui,error,no Vagrantfile\n"), [""; 0]);
        assert_eq!(Down(Some("web".into())).to_string(), "vagrant up web");
    }
}
