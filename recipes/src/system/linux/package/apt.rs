//! apt and dpkg: one transaction, no questions, no services started, locks waited for.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Manager, Packages, Upgrade, dpkg, grouped, said};
use crate::op::{Command, PackageRequest, Upgrades};
use crate::system::linux::{Linux, failed};
use crate::system::{DPKG_ARCHITECTURES, EntryKind, Mode, PackageChange, PackageFile, PerformError};

/// While this says 101, invoke-rc.d and deb-systemd-invoke start nothing (Debian policy, 9.3.3.1).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_STAGED: &str = "/usr/sbin/.policy-rc.d.staged";
const POLICY_TEXT: &str = "#!/bin/sh\n# Made by recipes while packages are installed.\nexit 101\n";

/// How long the lock of another package manager is waited for, and how long between two looks at that of the
/// package lists, which has no option for it.
const LOCK_LIMIT: Duration = Duration::from_mins(5);
const LOCK_PAUSE: Duration = Duration::from_secs(1);

/// Where packages stay that were fetched (`Dir::Cache::archives`), until `apt-get clean`.
const ARCHIVES: &str = "/var/cache/apt/archives";

pub(super) struct Apt;

impl Manager for Apt {
    fn packages(&self, linux: &Linux) -> io::Result<Packages> {
        let status = linux.tree.read(Path::new(dpkg::STATUS))?;
        Ok(dpkg::packages(&status.unwrap_or_default()))
    }

    fn upgrades(&self, linux: &Linux) -> io::Result<Vec<Upgrade>> {
        let text = linux.runner.read(&simulation(linux, UPGRADE.map(str::to_owned)))?;
        let steps = parse_simulation(&text).into_iter().filter(|step| step.change.version.is_some());
        let upgrade = |Step { change, is_security }| Upgrade { package: change.name, is_security };
        Ok(steps.map(upgrade).collect())
    }

    fn simulate_install(
        &self,
        linux: &Linux,
        packages: &[&PackageRequest],
        recommends: bool,
    ) -> Result<Vec<PackageChange>, PerformError> {
        let arguments = install_arguments(linux.packages()?, packages, recommends);
        let (text, result) = said(linux, &simulation(linux, arguments.clone()));
        result?;
        // What is to be fetched a simulation does not tell.
        let (uris, result) = said(linux, &asking(linux, ["--print-uris", "--yes"], arguments));
        let downloads = result.is_ok().then(|| parse_uris(&uris));
        let change = |Step { mut change, .. }: Step| {
            let coming = downloads.as_ref().filter(|_| change.version.is_some());
            change.download = coming.map(|sizes| sizes.get(&change.name).copied().unwrap_or_default());
            change
        };
        Ok(parse_simulation(&text).into_iter().map(change).collect())
    }

    fn package_file(&self, linux: &Linux, path: &Path) -> io::Result<Option<PackageFile>> {
        dpkg::package_file(linux, path)
    }

    fn archive_places(&self, linux: &Linux, package: &PackageChange, source: Option<&Path>) -> Vec<PathBuf> {
        let Some(version) = &package.version else { return Vec::new() };
        let own = DPKG_ARCHITECTURES.iter().find(|(processor, _)| *processor == linux.host.arch);
        let own = own.map_or(linux.host.arch.as_str(), |(_, architecture)| architecture);
        let (name, architecture) = package.name.split_once(':').unwrap_or((&package.name, own));
        let named = |architecture: &str| {
            Path::new(ARCHIVES).join(format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a")))
        };
        source.map_or_else(|| vec![named(architecture), named("all")], |path| vec![path.to_owned()])
    }

    /// A policy of ours is of a run that was cut off in a transaction, whose programs may still be at work; with it
    /// no upgrade would restart anything. What dpkg wrote down last counts only when it has taken that in.
    fn clean_up(&self, linux: &Linux) -> Result<(), PerformError> {
        let path = Path::new(POLICY);
        let what = format!("remove `{POLICY}`");
        match linux.tree.read(path).map_err(failed(&what))? {
            Some(text) if text == POLICY_TEXT.as_bytes() => {
                if linux.tree.is_host() {
                    finish_interrupted(linux, true, &mut |_| {})?;
                }
                linux.tree.remove(path, &EntryKind::File).map_err(failed(what))
            }
            _ if linux.tree.is_host() && has_journal(linux)? => finish_interrupted(linux, true, &mut |_| {}),
            _ => Ok(()),
        }
    }

    /// `DPkg::Lock::Timeout` is not for the lock of the lists (apt 2.6). Without this error mode apt-get ends with 0
    /// although a list could not be had.
    fn update_lists(&self, linux: &Linux, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        waiting_for_lock(linux, output, |output| {
            apt_get(linux, &["-o", "APT::Update::Error-Mode=any", "update"], output)
        })
    }

    fn install(
        &self,
        linux: &mut Linux,
        packages: &[PackageRequest],
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        self.refresh(linux, output)?;
        keeping_services_stopped(linux, output, |linux, output| {
            finish_interrupted(linux, false, output)?;
            for (recommends, chosen) in grouped(packages) {
                apt_get(linux, &install_arguments(linux.packages()?, &chosen, recommends), output)?;
            }
            Ok(())
        })
    }

    fn remove(
        &self,
        linux: &mut Linux,
        packages: &[String],
        purge: bool,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        keeping_services_stopped(linux, output, |linux, output| {
            finish_interrupted(linux, false, output)?;
            let mut arguments = vec![if purge { "purge" } else { "remove" }.to_owned()];
            arguments.extend(change_held(linux.packages()?, packages));
            arguments.push("--".into());
            arguments.extend(packages.iter().cloned());
            apt_get(linux, &arguments, output)?;
            // What a transaction was cut off with while it was removed, apt only removes at first.
            let now = dpkg::packages(&status(linux)?);
            if purge && packages.iter().any(|name| now.residual.contains(name)) {
                apt_get(linux, &arguments, output)?;
            }
            Ok(())
        })
    }

    fn upgrade(
        &self,
        linux: &mut Linux,
        packages: &[String],
        which: Upgrades,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        self.refresh(linux, output)?;
        keeping_services_stopped(linux, output, |linux, output| {
            finish_interrupted(linux, false, output)?;
            match which {
                Upgrades::All => apt_get(linux, &UPGRADE, output),
                Upgrades::Security => {
                    let with = |words: &[&str]| {
                        words
                            .iter()
                            .map(|&word| word.to_owned())
                            .chain(packages.iter().cloned())
                            .collect::<Vec<_>>()
                    };
                    // `install` takes what it is told for wanted by name; what came as a dependency stays one.
                    let automatic = command(linux, with(&["apt-mark", "showauto", "--"]));
                    let what = format!("run `{automatic}`");
                    let automatic = linux.runner.read(&automatic).map_err(failed(what))?;
                    apt_get(linux, &with(&["--no-install-recommends", "install", "--"]), output)?;
                    if automatic.trim().is_empty() {
                        return Ok(());
                    }
                    let words = ["apt-mark", "auto", "--"].into_iter().chain(automatic.lines());
                    let command = command(linux, words.map(str::to_owned));
                    waiting_for_lock(linux, output, |output| linux.runner.run(&command, output))
                }
            }
        })
    }

    fn hold(
        &self,
        linux: &Linux,
        packages: &[String],
        held: bool,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        let argv = ["apt-mark", if held { "hold" } else { "unhold" }, "--"].map(str::to_owned);
        let command = command(linux, argv.into_iter().chain(packages.iter().cloned()));
        waiting_for_lock(linux, output, |output| linux.runner.run(&command, output))
    }
}

/// What installs packages at the versions that recipes name.
fn install_arguments(known: &Packages, packages: &[&PackageRequest], recommends: bool) -> Vec<String> {
    let mut arguments =
        vec![if recommends { "--install-recommends" } else { "--no-install-recommends" }.to_owned()];
    if packages.iter().any(|package| package.version.is_some()) {
        arguments.push("--allow-downgrades".into());
    }
    let versioned = packages.iter().filter(|package| package.version.is_some());
    arguments.extend(change_held(known, versioned.map(|package| &package.name)));
    arguments.extend(["install".into(), "--".into()]);
    arguments.extend(packages.iter().map(|package| match (&package.source, &package.version) {
        // apt takes what has a slash in it for a file, and what it needs from the repositories.
        (Some(path), _) => path.display().to_string(),
        (None, Some(version)) => format!("{}={version}", package.name),
        (None, None) => package.name.clone(),
    }));
    arguments
}

/// A program that says what would be done.
fn simulation(linux: &Linux, arguments: impl IntoIterator<Item = String>) -> Command {
    asking(linux, ["--simulate", "--quiet"], arguments)
}

/// A program that only tells, with the package lists at hand and whoever has the locks. It keeps nothing of them in
/// `/var/cache/apt` (apt.conf(5), `Dir::Cache`): a plan writes nothing.
fn asking(linux: &Linux, how: [&str; 2], arguments: impl IntoIterator<Item = String>) -> Command {
    let options = ["-o=Debug::NoLocking=1", "-o=Dir::Cache::pkgcache=", "-o=Dir::Cache::srcpkgcache="];
    let words = ["apt-get"].into_iter().chain(how).chain(options).map(str::to_owned);
    command(linux, words.chain(arguments))
}

/// Without this apt-get refuses to change what is held. A recipe that says which version it wants, or that it
/// wants none, wants just that.
fn change_held<'a>(known: &Packages, packages: impl IntoIterator<Item = &'a String>) -> Option<String> {
    let is_held = packages.into_iter().any(|name| known.held.contains(name));
    is_held.then(|| "--allow-change-held-packages".to_owned())
}

/// Finishes what an interrupted dpkg left, without which apt refuses to do anything. Whether there is anything can
/// be told only when nobody else is at work, and then dpkg has to be asked.
///
/// What cannot be finished stands in the way of what is done next, and that fails then, unless it is just what was
/// lacking, such as a package from a file.
fn finish_interrupted(linux: &Linux, ask: bool, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
    let unless_it_failed = |result| match result {
        Err(PerformError::Program { .. }) => Ok(()),
        other => other,
    };
    if ask || is_interrupted(linux)? {
        let argv = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"].map(str::to_owned);
        let configure = command(linux, argv);
        unless_it_failed(waiting_for_lock(linux, output, |output| linux.runner.run(&configure, output)))?;
    }
    // What lacks a package that was to come with it is configured when that has come, and what is only half unpacked
    // is unpacked anew, which apt does only if it is told to.
    if is_interrupted(linux)? {
        unless_it_failed(Apt.refresh(linux, output))?;
        let options = ["--no-remove", "--reinstall", "--fix-broken", "install", "--"].map(str::to_owned);
        let arguments: Vec<String> =
            options.into_iter().chain(dpkg::half_installed(&status(linux)?)).collect();
        unless_it_failed(apt_get(linux, &arguments, output))?;
    }
    Ok(())
}

/// Whether packages are neither wholly there nor wholly gone.
fn is_interrupted(linux: &Linux) -> Result<bool, PerformError> {
    Ok(has_journal(linux)? || dpkg::is_interrupted(&status(linux)?))
}

/// Whether dpkg has written down what is not in its database yet.
fn has_journal(linux: &Linux) -> Result<bool, PerformError> {
    let journal = Path::new("/var/lib/dpkg/updates");
    let updates = linux.tree.names(journal).map_err(failed(format!("read `{}`", journal.display())))?;
    Ok(!updates.is_empty())
}

fn status(linux: &Linux) -> Result<Vec<u8>, PerformError> {
    let path = Path::new(dpkg::STATUS);
    let status = linux.tree.read(path).map_err(failed(format!("read `{}`", path.display())))?;
    Ok(status.unwrap_or_default())
}

/// What installs what an upgrade newly needs, and removes nothing (apt-get(8)).
const UPGRADE: [&str; 2] = ["--with-new-pkgs", "upgrade"];

/// What apt would do with one package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    change: PackageChange,
    /// Whether the version it gets is from a repository of security updates.
    is_security: bool,
}

/// Lines are `Inst NAME [OLD] (NEW ORIGIN:VERSION/ARCHIVE, ... [ARCHITECTURE])` and `Remv NAME [OLD]`; the origin of
/// security updates is `Debian-Security`, or of an archive such as `noble-security`.
pub(super) fn parse_simulation(text: &str) -> Vec<Step> {
    text.lines()
        .filter_map(|line| {
            if let Some((name, _)) = line.strip_prefix("Remv ").and_then(|rest| rest.split_once(' ')) {
                let change = PackageChange { name: name.to_owned(), version: None, download: None };
                return Some(Step { change, is_security: false });
            }
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let origins = rest.split_once('(')?.1;
            let origins = origins.split_once(" [").map_or(origins, |(origins, _)| origins);
            let mut origins = origins.split([' ', ',']);
            let version = origins.next()?.to_owned();
            let is_security =
                origins.any(|origin| origin.starts_with("Debian-Security:") || origin.ends_with("-security"));
            Some(Step {
                change: PackageChange { name: name.to_owned(), version: Some(version), download: None },
                is_security,
            })
        })
        .collect()
}

/// The bytes of each package that is not at hand. Lines are `'URI' NAME_VERSION_ARCHITECTURE.deb BYTES DIGEST`.
pub(super) fn parse_uris(text: &str) -> BTreeMap<String, u64> {
    let size = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (name, _) = words.next()?.split_once('_')?;
        Some((name.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter(|line| line.starts_with('\'')).filter_map(size).collect()
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
    // A bake synchronises the whole file system at its end, so what dpkg writes is not synchronised file by file.
    let hasty = (linux.host.mode == Mode::Bake).then_some("-o=Dpkg::Options::=--force-unsafe-io");
    let argv = options
        .into_iter()
        .chain(hasty)
        .map(str::to_owned)
        .chain(arguments.iter().map(|word| word.as_ref().into()));
    linux.runner.run(&command(linux, argv), output)
}

/// A program that asks nothing.
fn command(linux: &Linux, argv: impl IntoIterator<Item = String>) -> Command {
    let mut command = super::command(linux, argv);
    let quiet = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBIAN_PRIORITY", "critical"),
        ("UCF_FORCE_CONFFOLD", "1"),
        ("NEEDRESTART_SUSPEND", "1"),
    ];
    command.environment.extend(quiet.map(|(name, value)| (name.to_owned(), value.to_owned())));
    command
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As apt 2.6 prints it on Debian and apt 2.7 on Ubuntu.
    const SIMULATION: &str = "NOTE: This is only a simulation!
Reading package lists...
The following packages will be upgraded:
  base-files libssl3
2 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Remv exim4-base [4.96-15+deb12u7]
Inst base-files [12.4+deb12u8] (12.4+deb12u9 Debian:12.9/stable [amd64])
Inst openssl [3.0.15-1~deb12u1] (3.0.17-1~deb12u2 Debian-Security:12/stable-security, Debian:12.9/stable [amd64]) []
Inst libssl3 [3.0] (3.1 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble-security [amd64])
Inst linux-image-6.1.0-30-amd64 (6.1.124-1 Debian:12.9/stable [amd64])
Conf base-files (12.4+deb12u9 Debian:12.9/stable [amd64])
";

    #[test]
    fn a_simulation_tells_what_would_be_done() {
        let steps: Vec<String> = parse_simulation(SIMULATION)
            .iter()
            .map(|Step { change, is_security }| {
                let security = if *is_security { " for security" } else { "" };
                format!("{} {}{security}", change.name, change.version.as_deref().unwrap_or("goes"))
            })
            .collect();
        insta::assert_snapshot!(steps.join("\n"), @"
        exim4-base goes
        base-files 12.4+deb12u9
        openssl 3.0.17-1~deb12u2 for security
        libssl3 3.1 for security
        linux-image-6.1.0-30-amd64 6.1.124-1
        ");
        let uris =
            "'http://deb.example.org/pool/a_1%3a2_all.deb' a_1%3a2_all.deb 4711 SHA256:00\nE: x\n'x' b_1\n";
        assert_eq!(parse_uris(uris), [("a".to_owned(), 4711)].into());
        assert_eq!(parse_simulation("0 upgraded, 0 newly installed, 0 to remove and 4 not upgraded.\n"), []);
        assert_eq!(parse_simulation("Inst \nInst a\nInst a (\nInst a [x\nRemv \nRemv a\n").len(), 1);
    }
}
