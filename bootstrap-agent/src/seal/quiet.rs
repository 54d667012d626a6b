//! A host that runs while it is sealed goes on writing: its journal, its logs, its timers. They are told not to.

use std::path::Path;
use std::process::{Command, Stdio};

/// What writes to the disk by itself and is not the host's purpose. What of it is enabled starts again at the next boot.
const WRITERS: &[&str] = &[
    "syslog.socket",
    "rsyslog.service",
    "syslog-ng.service",
    "cron.service",
    "crond.service",
    "atd.service",
    "anacron.service",
    "unattended-upgrades.service",
    "packagekit.service",
    "chrony.service",
    "chronyd.service",
    "systemd-timesyncd.service",
];

/// Stops what would write after the host was cleaned, if `root` is the host that this process runs on. What cannot be
/// stopped is not there.
pub fn quiet(root: &Path) {
    if root != Path::new("/") || !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let listed = command("systemctl")
        .args(["list-units", "--type=timer", "--state=active", "--plain", "--no-legend", "--full"])
        .output();
    let listed =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let timers = listed.lines().filter_map(|line| line.split_whitespace().next());
    let _ = command("systemctl").args(["stop", "--quiet", "--"]).args(timers).args(WRITERS).status();
    // It refuses to be stopped, for nobody is to be unwatched (auditd.service); the kernel's log has what it is told from now on.
    let _ = command("systemctl").args(["kill", "--quiet", "auditd.service"]).status();
    // journalctl(1): from now on the journal is in /run.
    let _ = command("journalctl").arg("--relinquish-var").status();
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_is_not_this_host_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        quiet(folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
