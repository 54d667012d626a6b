//! dnf 4 and 5: one transaction, no questions, and the versions that recipes name. It waits for the lock of another
//! one by itself, and so does rpm.

use std::io;
use std::path::{Path, PathBuf};

use super::{Manager, Packages, Upgrade, command, grouped, rpm, said};
use crate::op::{PackageRequest, Upgrades};
use crate::system::linux::{Linux, failed};
use crate::system::{EntryKind, PackageChange, PackageFile, PerformError};

/// What the plugin versionlock keeps at a version, unless its settings say another file (versionlock(8)).
const LOCKS: &str = "/etc/dnf/plugins/versionlock.list";

/// The same of dnf 5, which has no plugin for it (dnf5-versionlock(8)).
const LOCKS_OF_5: &str = "/etc/dnf/versionlock.toml";

/// The program of dnf 5. Where it is all there is of dnf, `dnf` is a link to it.
const PROGRAM_OF_5: &str = "/usr/bin/dnf5";

pub(super) struct Dnf;

impl Manager for Dnf {
    fn packages(&self, linux: &Linux) -> io::Result<Packages> {
        let read = |path: &str| {
            let locks = linux.tree.read(Path::new(path))?.unwrap_or_default();
            Ok::<_, io::Error>(String::from_utf8_lossy(&locks).into_owned())
        };
        let locks = if is_of_5(linux)? {
            rpm::parse_toml_locks(&read(LOCKS_OF_5)?)
        } else {
            rpm::parse_locks(&read(LOCKS)?)
        };
        Ok(rpm::packages(&rpm::installed(linux)?, &locks))
    }

    fn upgrades(&self, linux: &Linux) -> io::Result<Vec<Upgrade>> {
        let would = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|&word| word.to_owned());
            simulate(linux, arguments).map_err(io::Error::other)
        };
        let all = would(&["--nobest", "upgrade"])?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let security = would(&["--nobest", "upgrade", "--security"])?;
        let changes = all.into_iter().filter(|change| change.version.is_some());
        let upgrade = |change| Upgrade { is_security: security.contains(&change), package: change.name };
        Ok(changes.map(upgrade).collect())
    }

    fn simulate_install(
        &self,
        linux: &Linux,
        packages: &[&PackageRequest],
        recommends: bool,
    ) -> Result<Vec<PackageChange>, PerformError> {
        // dnf 5 cannot be told to pass over its locks, so of what is held it tells nothing.
        simulate(linux, install_arguments(linux.packages()?, packages, recommends, five(linux)?).into_iter())
    }

    fn package_file(&self, linux: &Linux, path: &Path) -> io::Result<Option<PackageFile>> {
        rpm::package_file(linux, path)
    }

    fn update_lists(&self, linux: &Linux, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        dnf(linux, ["--refresh", "makecache"].map(str::to_owned), output)
    }

    fn install(
        &self,
        linux: &mut Linux,
        packages: &[PackageRequest],
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        for (recommends, chosen) in grouped(packages) {
            let (known, is_of_5) = (linux.packages()?, five(linux)?);
            let mut arguments = install_arguments(known, &chosen, recommends, is_of_5);
            let locked = versioned_and_held(known, &chosen);
            if is_of_5 {
                lock(linux, &locked, false, output)?;
            }
            if !linux.lists_are_fresh.get() {
                arguments.insert(0, "--refresh".into());
            }
            dnf(linux, arguments, output)?;
            linux.lists_are_fresh.set(true);
            // The new version is the one that is held now.
            lock(linux, &locked, true, output)?;
        }
        Ok(())
    }

    /// Of a package that is purged, what rpm saved of its configuration goes too.
    fn remove(
        &self,
        linux: &mut Linux,
        packages: &[String],
        purge: bool,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        let held = &linux.packages()?.held;
        let held: Vec<String> = packages.iter().filter(|name| held.contains(*name)).cloned().collect();
        let configuration = if purge { configuration(linux, packages)? } else { Vec::new() };
        let arguments = ["--setopt=clean_requirements_on_remove=False", "remove"].map(str::to_owned);
        dnf(linux, arguments.into_iter().chain(packages.iter().cloned()), output)?;
        lock(linux, &held, false, output)?;
        for path in configuration {
            match linux.tree.remove(&path, &EntryKind::File) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(failed(format!("remove `{}`", path.display())))?,
            }
        }
        Ok(())
    }

    fn upgrade(
        &self,
        linux: &mut Linux,
        _packages: &[String],
        which: Upgrades,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        self.refresh(linux, output)?;
        let security = (which == Upgrades::Security).then_some("--security");
        // What cannot be had in its newest version stays, and the others are upgraded.
        dnf(linux, ["--nobest", "upgrade"].into_iter().chain(security).map(str::to_owned), output)
    }

    fn hold(
        &self,
        linux: &Linux,
        packages: &[String],
        held: bool,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError> {
        lock(linux, packages, held, output)
    }
}

/// What installs packages. A recipe that says which version of a held package it wants, wants just that; what else
/// is held stays as it is.
fn install_arguments(
    known: &Packages,
    packages: &[&PackageRequest],
    recommends: bool,
    is_of_5: bool,
) -> Vec<String> {
    let weak = if recommends { "True" } else { "False" };
    let mut arguments = vec!["--best".to_owned(), format!("--setopt=install_weak_deps={weak}")];
    let locked = versioned_and_held(known, packages);
    if !locked.is_empty() && !is_of_5 {
        arguments.push("--disableplugin=versionlock".into());
        // By bare names, which stand for every architecture.
        let is_locked = |name: &String| {
            locked.iter().any(|locked| {
                locked.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let others = known.installed.keys().filter(|name| known.held.contains(*name) && !is_locked(name));
        arguments.extend(others.map(|name| format!("--exclude={name}")));
    }
    arguments.push("install".into());
    arguments.extend(packages.iter().map(|package| specification(package)));
    arguments
}

/// What dnf is told to install: a file, `NAME`, `NAME.ARCHITECTURE`, or with a version `NAME-VERSION.ARCHITECTURE`.
fn specification(PackageRequest { name, version, source, .. }: &PackageRequest) -> String {
    const ARCHITECTURES: [&str; 4] = ["noarch", "x86_64", "i686", "aarch64"];
    if let Some(source) = source {
        return source.display().to_string();
    }
    match (version, name.rsplit_once('.').filter(|(_, architecture)| ARCHITECTURES.contains(architecture))) {
        (None, _) => name.clone(),
        (Some(version), None) => format!("{name}-{version}"),
        (Some(version), Some((name, architecture))) => format!("{name}-{version}.{architecture}"),
    }
}

fn versioned_and_held(known: &Packages, packages: &[&PackageRequest]) -> Vec<String> {
    let versioned = packages.iter().filter(|package| package.version.is_some());
    versioned.map(|package| package.name.clone()).filter(|name| known.held.contains(name)).collect()
}

/// Locks packages at the version that is installed, or at none. A lock at another version goes first, for it would
/// stand in the way of this one.
fn lock(
    linux: &Linux,
    packages: &[String],
    held: bool,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    if packages.is_empty() {
        return Ok(());
    }
    for verb in ["delete", "add"].into_iter().take(if held { 2 } else { 1 }) {
        let words = ["--cacheonly", "versionlock", verb].map(str::to_owned);
        dnf(linux, words.into_iter().chain(packages.iter().cloned()), output)?;
    }
    Ok(())
}

/// Where rpm keeps what was changed of the configuration of packages, once they are removed.
fn configuration(linux: &Linux, packages: &[String]) -> Result<Vec<PathBuf>, PerformError> {
    let words = ["rpm", "--query", "--configfiles", "--"].map(str::to_owned);
    let command = command(linux, words.into_iter().chain(packages.iter().cloned()));
    let what = format!("run `{command}`");
    let files = linux.runner.read(&command).map_err(failed(what))?;
    // Without any it says so, in words.
    let files = files.lines().filter(|line| line.starts_with('/'));
    Ok(files.map(|path| PathBuf::from(format!("{path}.rpmsave"))).collect())
}

/// Whether it is dnf 5 that a host installs packages with.
fn is_of_5(linux: &Linux) -> io::Result<bool> {
    let kind = |path: &str| Ok::<_, io::Error>(linux.tree.entry(Path::new(path))?.map(|entry| entry.kind));
    Ok(kind(PROGRAM_OF_5)?.is_some()
        && match kind("/usr/bin/dnf")? {
            Some(EntryKind::Symlink { target }) => target.ends_with("dnf5"),
            other => other.is_none(),
        })
}

fn five(linux: &Linux) -> Result<bool, PerformError> {
    is_of_5(linux).map_err(failed(format!("look for `{PROGRAM_OF_5}`")))
}

fn program(linux: &Linux) -> Result<&'static str, PerformError> {
    five(linux).map(|is_of_5| if is_of_5 { "dnf5" } else { "dnf" })
}

fn dnf(
    linux: &Linux,
    arguments: impl IntoIterator<Item = String>,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let options = [
        program(linux)?,
        "--assumeyes",
        // A lock is waited for, and a repository that cannot be had is an error, whatever this host's settings say.
        "--setopt=exit_on_lock=False",
        "--setopt=*.skip_if_unavailable=False",
    ];
    linux.runner.run(&command(linux, options.map(str::to_owned).into_iter().chain(arguments)), output)
}

/// What dnf says when it was told to answer every question with no, which is an error to it as any other.
const ABORTED: &str = "Operation aborted";

/// Asks what a transaction would do, with the package lists at hand.
fn simulate(
    linux: &Linux,
    arguments: impl Iterator<Item = String>,
) -> Result<Vec<PackageChange>, PerformError> {
    let words = [program(linux)?, "--assumeno", "--cacheonly"].map(str::to_owned);
    match said(linux, &command(linux, words.into_iter().chain(arguments))) {
        (text, Err(PerformError::Program { .. })) if text.lines().any(|line| line.starts_with(ABORTED)) => {
            Ok(parse_transaction(&text))
        }
        // There is nothing to do.
        (_, Ok(())) => Ok(Vec::new()),
        (_, Err(error)) => Err(error),
    }
}

/// Reads the table that dnf shows of a transaction. Under each heading are lines of one space, name, architecture,
/// version, repository and size; what is replaced is on further lines with more spaces.
pub(super) fn parse_transaction(text: &str) -> Vec<PackageChange> {
    let mut changes: Vec<PackageChange> = Vec::new();
    let mut comes: Option<bool> = None;
    for line in text.lines() {
        match line.strip_prefix(' ').filter(|row| !row.starts_with(' ')) {
            Some(row) => {
                let mut fields = row.split_whitespace();
                let (Some(comes), Some(name), Some(_), Some(version), _) =
                    (comes, fields.next(), fields.next(), fields.next(), fields.next())
                else {
                    continue;
                };
                // dnf 5 writes the epoch that nobody gave as well.
                let version = comes.then(|| version.strip_prefix("0:").unwrap_or(version).to_owned());
                let download = version.as_ref().and_then(|_| size_of(fields.next()?, fields.next()?));
                changes.push(PackageChange { name: name.to_owned(), version, download });
            }
            None if line.starts_with(' ') => {}
            None => {
                let heads = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
                comes = match line.trim_end().ends_with(':') {
                    true if heads(&["Installing", "Upgrading", "Downgrading", "Reinstalling"]) => Some(true),
                    true if heads(&["Removing"]) => Some(false),
                    _ => None,
                };
            }
        }
    }
    changes
}

/// The bytes that `6.2` `k` are, rounded as they are. dnf 5 shows what a package takes when it is installed, in KiB.
fn size_of(number: &str, unit: &str) -> Option<u64> {
    let factor = [("k", 1e3), ("M", 1e6), ("G", 1e9)].iter().find(|(name, _)| *name == unit)?.1;
    let bytes = number.parse::<f64>().ok().filter(|number| (0.0..1e6).contains(number))? * factor;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds")]
    Some(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::linux::package::rpm::{packages, parse_locks, parse_query};

    /// As dnf 4.14 prints it, with lines that later ones have besides.
    const TABLE: &str = "Last metadata expiration check: 0:00:01 ago on Tue Nov 24 22:56:57 2026.
Dependencies resolved.
================================================================================
 Package                          Arch    Version                  Repo    Size
================================================================================
Installing:
 big                              noarch  1.0-1                    probe  6.2 k
     replacing  rec.noarch 1.0-1
Upgrading:
 probe                            noarch  3.0-1                    probe  6.1 k
   replacing probe                noarch  1.0-1                    probe  6.1 k
Installing dependencies:
 lib                              noarch  3:1.0-1                  probe  6.1 k
Removing dependent packages:
 other                            noarch  1.0-1                    @probe     8
Skipping packages with broken dependencies:
 skipped                          noarch  2.0-1                    probe  6.1 k

Transaction Summary
================================================================================
Install  2 Packages

Operation aborted.
";

    #[test]
    fn a_table_tells_what_would_be_done() {
        let changes = parse_transaction(TABLE);
        let shown: Vec<String> = changes
            .iter()
            .map(|PackageChange { name, version, download }| {
                format!("{name} {} {}", version.as_deref().unwrap_or("goes"), download.unwrap_or_default())
            })
            .collect();
        assert_eq!(shown, ["big 1.0-1 6200", "probe 3.0-1 6100", "lib 3:1.0-1 6100", "other goes 0"]);
        assert_eq!(parse_transaction("Dependencies resolved.\nNothing to do.\nComplete!\n"), []);
        assert_eq!(parse_transaction("Installing:\n \n a\n a b\n\n a b c\n"), []);
    }

    /// As dnf 5.4 prints it.
    const TABLE_OF_5: &str = "Updating and loading repositories:
Repositories loaded.
Package \"app-1.0-1.noarch\" is already installed.

Package         Arch   Version Repository      Size
Upgrading:
 up             noarch 0:2.0-1 probe        4.0   B
   replacing up noarch 0:1.0-1 probe        4.0   B
Installing:
 strong         noarch 0:1.0-1 probe        4.0   B
Installing weak dependencies:
 lib            noarch 3:1.0-1 probe        4.0   B
Removing dependent packages:
 app            noarch 0:1.0-1 probe        4.0   B

Transaction Summary:
 Installing:         2 packages
 Upgrading:          1 package
 Replacing:          1 package
 Removing:           1 package

Total size of inbound packages is 19 KiB. Need to download 19 KiB.
After this operation, 8 B extra will be used (install 12 B, remove 4 B).
Operation aborted by the user.
";

    #[test]
    fn so_does_that_of_dnf_5() {
        let changes = parse_transaction(TABLE_OF_5);
        let shown: Vec<String> = changes
            .iter()
            .map(|change| format!("{} {}", change.name, change.version.as_deref().unwrap_or("goes")))
            .collect();
        assert_eq!(shown, ["up 2.0-1", "strong 1.0-1", "lib 3:1.0-1", "app goes"]);
        assert!(TABLE_OF_5.lines().any(|line| line.starts_with(ABORTED)));
    }

    #[test]
    fn only_a_version_that_is_asked_for_changes_what_is_held() {
        let installed = parse_query("1\ta\t(none)\t1\t1\tnoarch\n2\tb\t2\t1\t1\tnoarch\n");
        let known = packages(&installed, &parse_locks("a-0:1-1.*\nb-2:1-1.*\n"));
        let arguments = |name: &str, version: Option<&str>| {
            let version = version.map(str::to_owned);
            let package = PackageRequest { name: name.into(), version, recommends: false, source: None };
            install_arguments(&known, &[&package], false, false).join(" ")
        };
        insta::assert_snapshot!(arguments("c", Some("1.*")), @"--best --setopt=install_weak_deps=False install c-1.*");
        insta::assert_snapshot!(arguments("a", None), @"--best --setopt=install_weak_deps=False install a");
        insta::assert_snapshot!(arguments("a.noarch", Some("2-1")), @"--best --setopt=install_weak_deps=False --disableplugin=versionlock --exclude=b install a-2-1.noarch");
        insta::assert_snapshot!(arguments("a", Some("2-1")), @"--best --setopt=install_weak_deps=False --disableplugin=versionlock --exclude=b install a-2-1");
        let package =
            PackageRequest { name: "a".into(), version: Some("2-1".into()), recommends: true, source: None };
        let of_5 = install_arguments(&known, &[&package], true, true).join(" ");
        insta::assert_snapshot!(of_5, @"--best --setopt=install_weak_deps=True install a-2-1");
    }
}
