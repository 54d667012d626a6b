//! The timer that has new values looked for. Its unit is the image's; how often is this boot's.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::status::replace;

const UNIT: &str = "bootstrap-agent-watch.timer";

/// What is over the unit, for this boot.
const DROP_IN: &str = "run/systemd/system/bootstrap-agent-watch.timer.d/10-every.conf";

/// Starts it, with a time of its own: a fleet that boots at once does not look at once.
pub(crate) fn start(root: &Path, every: Duration) -> io::Result<()> {
    let path = root.join(DROP_IN);
    let text = drop_in(every);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return systemctl(&["start", UNIT]);
    }
    replace(&path, text.as_bytes(), 0o644)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["restart", UNIT])
}

/// Stops it.
pub(crate) fn stop(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join(DROP_IN)) {
        // It was not started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| systemctl(&["stop", UNIT])),
    }
}

/// Each wait is longer by up to a quarter. What is empty takes the unit's own times away.
fn drop_in(every: Duration) -> String {
    let seconds = every.as_secs().max(1);
    let jitter = every.as_millis() / 4;
    format!(
        "[Timer]\nOnActiveSec=\nOnActiveSec={seconds}s\nOnUnitInactiveSec={seconds}s\nRandomizedDelaySec={jitter}ms\n"
    )
}

fn systemctl(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("systemctl").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`systemctl {}` failed: {}", arguments.join(" "), said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_a_fleet_do_not_look_at_once() {
        insta::assert_snapshot!(drop_in(Duration::from_mins(15)), @r"
        [Timer]
        OnActiveSec=
        OnActiveSec=900s
        OnUnitInactiveSec=900s
        RandomizedDelaySec=225000ms
        ");
    }
}
