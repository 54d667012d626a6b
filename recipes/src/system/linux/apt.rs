//! apt and dpkg: one transaction, no questions, no services started, locks waited for.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::tree::Tree;
use super::{Linux, failed};
use crate::op::{Command, PackageRequest};
use crate::system::{EntryKind, PerformError};

/// While this says 101, invoke-rc.d and deb-systemd-invoke start nothing (Debian policy, 9.3.3.1).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_STAGED: &str = "/usr/sbin/.policy-rc.d.staged";
const POLICY_TEXT: &str = "#!/bin/sh\n# Made by recipes while packages are installed.\nexit 101\n";

/// How long the lock of another package manager is waited for, and how long between two looks at that of the
/// package lists, which has no option for it.
const LOCK_LIMIT: Duration = Duration::from_mins(5);
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// A transaction that takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(30);

pub(super) fn install(
    linux: &mut Linux,
    packages: &[PackageRequest],
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    if !linux.lists_are_fresh {
        // Without this error mode apt-get ends with 0 although a list could not be had.
        update(linux, output)?;
        linux.lists_are_fresh = true;
    }
    let without_services = |linux: &mut Linux, output: &mut dyn FnMut(&str)| {
        configure_interrupted(linux, output)?;
        for recommends in [false, true] {
            let chosen: Vec<&PackageRequest> =
                packages.iter().filter(|package| package.recommends == recommends).collect();
            if chosen.is_empty() {
                continue;
            }
            let mut arguments =
                vec![if recommends { "--install-recommends" } else { "--no-install-recommends" }.to_owned()];
            if chosen.iter().any(|package| package.version.is_some()) {
                arguments.push("--allow-downgrades".into());
            }
            let versioned = chosen.iter().filter(|package| package.version.is_some());
            arguments.extend(change_held(linux, versioned.map(|package| &package.name))?);
            arguments.extend(["install".into(), "--".into()]);
            arguments.extend(chosen.iter().map(|package| match &package.version {
                Some(version) => format!("{}={version}", package.name),
                None => package.name.clone(),
            }));
            apt_get(linux, &arguments, output)?;
        }
        Ok(())
    };
    keeping_services_stopped(linux, output, without_services)
}

pub(super) fn remove(
    linux: &mut Linux,
    packages: &[String],
    purge: bool,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    keeping_services_stopped(linux, output, |linux, output| {
        configure_interrupted(linux, output)?;
        let mut arguments = vec![if purge { "purge" } else { "remove" }.to_owned()];
        arguments.extend(change_held(linux, packages)?);
        arguments.push("--".into());
        arguments.extend(packages.iter().cloned());
        apt_get(linux, &arguments, output)
    })
}

/// Keeps packages at the version they have, or lets upgrades change them again.
pub(super) fn hold(
    linux: &Linux,
    packages: &[String],
    held: bool,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let argv = ["apt-mark", if held { "hold" } else { "unhold" }, "--"].map(str::to_owned);
    let command = command(linux, argv.into_iter().chain(packages.iter().cloned()));
    waiting_for_lock(linux, output, |output| linux.runner.run(&command, output))
}

/// Without this apt-get refuses to change what is held. A recipe that says which version it wants, or that it
/// wants none, wants just that.
fn change_held<'a>(
    linux: &Linux,
    packages: impl IntoIterator<Item = &'a String>,
) -> Result<Option<String>, PerformError> {
    let held = &linux.packages()?.held;
    let is_held = packages.into_iter().any(|name| held.contains(name));
    Ok(is_held.then(|| "--allow-change-held-packages".to_owned()))
}

/// Finishes what an interrupted dpkg left, without which apt refuses to do anything.
fn configure_interrupted(linux: &Linux, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
    let path = Path::new(super::dpkg::STATUS);
    let status = linux.tree.read(path).map_err(failed(format!("read `{}`", path.display())))?;
    let journal = Path::new("/var/lib/dpkg/updates");
    let updates = linux.tree.names(journal).map_err(failed(format!("read `{}`", journal.display())))?;
    if updates.is_empty() && !super::dpkg::is_interrupted(&status.unwrap_or_default()) {
        return Ok(());
    }
    let argv = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"];
    linux.runner.run(&command(linux, argv.map(str::to_owned)), output)
}

/// Refreshes the package lists. `DPkg::Lock::Timeout` is not for their lock (apt 2.6).
fn update(linux: &Linux, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
    waiting_for_lock(linux, output, |output| {
        apt_get(linux, &["-o", "APT::Update::Error-Mode=any", "update"], output)
    })
}

/// Does something again as long as another package manager has a lock that it does not wait for itself.
fn waiting_for_lock(
    linux: &Linux,
    output: &mut dyn FnMut(&str),
    mut work: impl FnMut(&mut dyn FnMut(&str)) -> Result<(), PerformError>,
) -> Result<(), PerformError> {
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        let mut is_locked = false;
        let result = work(&mut |line| {
            // What apt-get says, and what dpkg does.
            is_locked |= line.contains("Could not get lock") || line.contains("locked by another process");
            output(line);
        });
        match result {
            Err(_) if is_locked && Instant::now() < until && !linux.runner.interrupter().is_interrupted() => {
                sleep(LOCK_PAUSE);
            }
            result => return result,
        }
    }
}

fn apt_get<S: AsRef<str>>(
    linux: &Linux,
    arguments: &[S],
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let options = [
        "apt-get",
        "--yes",
        "--quiet",
        // The lock that another package manager holds is waited for; apt-get alone fails at once.
        &format!("-o=DPkg::Lock::Timeout={}", LOCK_LIMIT.as_secs()),
        "-o=Dpkg::Use-Pty=0",
        "-o=Dpkg::Options::=--force-confdef",
        "-o=Dpkg::Options::=--force-confold",
        "-o=Acquire::Retries=3",
    ];
    let argv = options
        .iter()
        .map(|&option| option.to_owned())
        .chain(arguments.iter().map(|word| word.as_ref().into()));
    linux.runner.run(&command(linux, argv), output)
}

fn command(linux: &Linux, argv: impl IntoIterator<Item = String>) -> Command {
    let mut command = Command { timeout: LIMIT, ..Command::new(argv) };
    command.environment.clone_from(&linux.environment);
    let quiet = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBIAN_PRIORITY", "critical"),
        ("UCF_FORCE_CONFFOLD", "1"),
        ("NEEDRESTART_SUSPEND", "1"),
    ];
    command.environment.extend(quiet.map(|(name, value)| (name.to_owned(), value.to_owned())));
    command
}

/// Removes the policy that a run left which was cut off: with it no upgrade would restart anything.
pub(super) fn forget_policy(tree: &Tree) -> Result<(), PerformError> {
    let path = Path::new(POLICY);
    let what = format!("remove `{POLICY}`");
    match tree.read(path).map_err(failed(&what))? {
        Some(text) if text == POLICY_TEXT.as_bytes() => {
            tree.remove(path, &EntryKind::File).map_err(failed(what))
        }
        _ => Ok(()),
    }
}

/// Maintainer scripts must not start what is not configured yet. A policy of somebody else's stays.
fn keeping_services_stopped(
    linux: &mut Linux,
    output: &mut dyn FnMut(&str),
    work: impl FnOnce(&mut Linux, &mut dyn FnMut(&str)) -> Result<(), PerformError>,
) -> Result<(), PerformError> {
    let path = Path::new(POLICY);
    let what = || format!("write `{POLICY}`");
    // One of ours is of a run that was cut off.
    let ours = match linux.tree.read(path).map_err(failed(what()))? {
        None => {
            // Under another name first: half of it would count as somebody else's.
            let staged = Path::new(POLICY_STAGED);
            linux.tree.create(staged, POLICY_TEXT.as_bytes(), 0, 0, 0o755).map_err(failed(what()))?;
            linux.tree.rename(staged, path).map_err(failed(what()))?;
            true
        }
        Some(text) => text == POLICY_TEXT.as_bytes(),
    };
    let result = work(linux, output);
    if ours {
        let removed = linux.tree.remove(path, &EntryKind::File).map_err(failed(format!("remove `{POLICY}`")));
        return result.and(removed);
    }
    result
}
