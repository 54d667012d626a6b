//! systemd, through `systemctl`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Linux;
use super::process::Runner;
use crate::op::{Command, UnitAction};
use crate::system::{FactsError, PerformError};

/// How much of a unit's journal an error shows.
const JOURNAL_LINES: &str = "15";

/// The names, aliases included, of all units that are active.
pub(super) fn active(runner: &Runner) -> Result<BTreeSet<String>, FactsError> {
    let command = Command::new(["systemctl", "show", "--property=Names,ActiveState", "*"]);
    let text = runner
        .read(&command)
        .map_err(|source| FactsError { what: "the state of the units".into(), source })?;
    let mut active = BTreeSet::new();
    for block in text.split("\n\n") {
        let property = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        if matches!(property("ActiveState="), Some("active" | "reloading")) {
            active.extend(property("Names=").unwrap_or_default().split_whitespace().map(str::to_owned));
        }
    }
    Ok(active)
}

/// Whether systemd has to be told when this path changes.
pub(super) fn is_unit_path(path: &Path) -> bool {
    let folders = [
        "/lib/systemd/system",
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
    ];
    // Of each entry in fstab systemd makes a unit (systemd-fstab-generator(8)).
    path == Path::new("/etc/fstab") || folders.iter().any(|folder| path.starts_with(folder))
}

/// Has systemd read all unit files again.
pub(super) fn reload_systemd(runner: &Runner, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
    runner.run(&Command::new(["systemctl", "daemon-reload"]), output)
}

/// Does something to a unit, of the host or of a tree that is not booted.
pub(super) fn act(
    linux: &Linux,
    name: &str,
    action: UnitAction,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let verb = match action {
        UnitAction::Enable => "enable",
        UnitAction::Disable => "disable",
        UnitAction::Mask => "mask",
        UnitAction::Unmask => "unmask",
        UnitAction::Start => "start",
        UnitAction::Stop => "stop",
        UnitAction::Restart => "restart",
        UnitAction::Reload => "reload-or-restart",
    };
    let mut argv = vec!["systemctl".to_owned(), "--no-ask-password".to_owned()];
    argv.extend(linux.tree.prefix().map(|prefix| format!("--root={}", prefix.display())));
    argv.extend([verb.to_owned(), "--".to_owned(), name.to_owned()]);
    let command = Command { timeout: Duration::from_mins(5), ..Command::new(argv) };
    match linux.runner.run(&command, output) {
        Err(PerformError::Program { program, outcome, output: mut lines })
            if matches!(action, UnitAction::Start | UnitAction::Restart | UnitAction::Reload) =>
        {
            // systemctl says where to look; who bakes in CI cannot look there.
            let journal = Command::new([
                "journalctl",
                "--no-pager",
                "--output=cat",
                "--lines",
                JOURNAL_LINES,
                "--unit",
                name,
            ]);
            let journal = linux.runner.read(&journal).unwrap_or_default();
            lines.extend(journal.lines().map(|line| format!("{name}: {line}")));
            Err(PerformError::Program { program, outcome, output: lines })
        }
        other => other,
    }
}
