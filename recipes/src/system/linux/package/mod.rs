//! The package managers: what each knows of a host, and how it changes it.
//!
//! Another one is a file here that implements [`Manager`], a variant of [`PackageManager`], and its line in [`of`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::Linux;
use crate::op::{Command, PackageRequest, Upgrades};
use crate::system::{
    FactsError, Os, PackageArchive, PackageChange, PackageFile, PackageManager, PerformError,
};

mod apt;
mod deb;
mod dnf;
pub(crate) mod dpkg;
mod rpm;
mod sqlite;

/// A transaction that takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(30);

/// A package manager, together with the database of what is installed.
///
/// Nothing here asks a question, and each waits for the lock that another package manager holds.
pub(super) trait Manager {
    /// The packages of a host, or of a tree that is not booted.
    fn packages(&self, linux: &Linux) -> io::Result<Packages>;

    /// Everything that an upgrade would do, as the package lists at hand say, in any order.
    fn upgrades(&self, linux: &Linux) -> io::Result<Vec<Upgrade>>;

    /// All that installing packages would come to, as the package lists at hand say, which fails if they do not
    /// know of one of them. Nothing is changed by those who tell.
    fn simulate_install(
        &self,
        linux: &Linux,
        packages: &[&PackageRequest],
        recommends: bool,
    ) -> Result<Vec<PackageChange>, PerformError>;

    /// The same; none if the package lists do not know of one of them, or if it would be two transactions.
    fn transaction(
        &self,
        linux: &Linux,
        packages: &[PackageRequest],
    ) -> io::Result<Option<Vec<PackageChange>>> {
        let [(recommends, chosen)] = &grouped(packages)[..] else { return Ok(None) };
        match self.simulate_install(linux, chosen, *recommends) {
            Err(PerformError::Program { .. }) => Ok(None),
            other => other.map(Some).map_err(io::Error::other),
        }
    }

    /// What a package's file says of itself; none if there is none.
    fn package_file(&self, linux: &Linux, path: &Path) -> io::Result<Option<PackageFile>>;

    /// Where the archive of a package may be at hand, as one that [`deb::read`] reads.
    fn archive_places(
        &self,
        _linux: &Linux,
        _package: &PackageChange,
        _source: Option<&Path>,
    ) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Finishes a transaction of a run that was cut off, and removes what it left behind.
    fn clean_up(&self, _linux: &Linux) -> Result<(), PerformError> {
        Ok(())
    }

    /// Brings the package lists up to date.
    fn update_lists(&self, linux: &Linux, output: &mut dyn FnMut(&str)) -> Result<(), PerformError>;

    /// Brings the package lists up to date, once a run.
    fn refresh(&self, linux: &Linux, output: &mut dyn FnMut(&str)) -> Result<(), PerformError> {
        if !linux.lists_are_fresh.get() {
            self.update_lists(linux, output)?;
            linux.lists_are_fresh.set(true);
        }
        Ok(())
    }

    /// Installs packages, or changes their version.
    fn install(
        &self,
        linux: &mut Linux,
        packages: &[PackageRequest],
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError>;

    /// Removes packages, and their configuration if it is a purge.
    fn remove(
        &self,
        linux: &mut Linux,
        packages: &[String],
        purge: bool,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError>;

    /// Upgrades packages in one transaction.
    fn upgrade(
        &self,
        linux: &mut Linux,
        packages: &[String],
        which: Upgrades,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError>;

    /// Keeps packages at the version they have, or lets upgrades change them again.
    fn hold(
        &self,
        linux: &Linux,
        packages: &[String],
        held: bool,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), PerformError>;
}

/// The package manager of a host, if it has one that is known here.
pub(super) fn of(os: &Os) -> Option<&'static dyn Manager> {
    Some(match os.package_manager()? {
        PackageManager::Apt => &apt::Apt,
        PackageManager::Dnf => &dnf::Dnf,
    })
}

/// What packages bring whose archives are at hand and whole, read on all processors, since what takes time is to decompress them.
pub(super) fn archives(
    linux: &Linux,
    packages: &[(&PackageChange, Option<&Path>)],
    texts: &BTreeSet<String>,
) -> io::Result<Vec<Option<PackageArchive>>> {
    let Some(manager) = of(&linux.host.os) else { return Ok(vec![None; packages.len()]) };
    let mut files = Vec::new();
    for (index, (package, source)) in packages.iter().enumerate() {
        for place in manager.archive_places(linux, package, *source) {
            let size = |file: File| file.metadata().ok().map(|metadata| metadata.len());
            if let Some(size) = linux.tree.open_file(&place).ok().flatten().and_then(size) {
                files.push((size, index, place));
                break;
            }
        }
    }
    // The largest first: the others are read beside them.
    files.sort_unstable_by(|one, other| other.cmp(one));
    let (tree, next, looked_for) = (&linux.tree, AtomicUsize::new(0), deb::LookedFor::new(texts)?);
    let work = || {
        let mut done = Vec::new();
        while let Some((_, index, place)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let file = tree.open_file(place).ok().flatten();
            done.push((*index, file.and_then(|file| deb::read(file, &looked_for).ok())));
        }
        done
    };
    let mut archives = vec![None; packages.len()];
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(files.len());
    let done: Vec<_> = thread::scope(|scope| {
        // Where there may be no more threads, this one does all of it.
        let others = (1..processors).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok());
        let others: Vec<_> = others.collect();
        let own = work();
        let theirs =
            others.into_iter().flat_map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        own.into_iter().chain(theirs).collect()
    });
    for (index, archive) in done {
        archives[index] = archive;
    }
    Ok(archives)
}

/// The packages of a host.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    /// Every installed package with its version.
    pub(crate) installed: BTreeMap<String, String>,
    /// The same by names that have the architecture in them, as the package manager writes them.
    of_architecture: BTreeMap<String, String>,
    /// The installed packages that no upgrade changes, by both names.
    pub(crate) held: BTreeSet<String>,
    /// The packages of which only the configuration is there, by both names; rpm leaves none such.
    pub(super) residual: BTreeSet<String>,
    /// The packages that a transaction was cut off with, by both names.
    pub(crate) half_there: BTreeSet<String>,
}

impl Packages {
    /// The version of a package, with or without an architecture in its name.
    pub(crate) fn version(&self, name: &str) -> Option<&String> {
        self.installed.get(name).or_else(|| self.of_architecture.get(name))
    }
}

/// A package that an upgrade would change or newly install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upgrade {
    pub(super) package: String,
    /// Whether it belongs to an upgrade that is of security updates only.
    pub(super) is_security: bool,
}

/// Packages that one transaction installs: those with which what they recommend comes, and those without.
fn grouped(packages: &[PackageRequest]) -> Vec<(bool, Vec<&PackageRequest>)> {
    let group = |recommends| {
        let chosen = packages.iter().filter(|package| package.recommends == recommends).collect();
        (recommends, chosen)
    };
    let groups: [(bool, Vec<&PackageRequest>); 2] = [false, true].map(group);
    groups.into_iter().filter(|(_, chosen)| !chosen.is_empty()).collect()
}

/// A program of a package manager, which reaches the repositories as this host does.
fn command(linux: &Linux, argv: impl IntoIterator<Item = String>) -> Command {
    Command { timeout: LIMIT, environment: linux.environment.clone(), ..Command::new(argv) }
}

/// Runs a program for what it says, however it ends.
fn said(linux: &Linux, command: &Command) -> (String, Result<(), PerformError>) {
    let mut text = String::new();
    let result = linux.runner.run(command, &mut |line| {
        text.push_str(line);
        text.push('\n');
    });
    (text, result)
}

/// What is wrong with a database, in words that follow its name.
fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// The package database could not be read, for `map_err`.
pub(super) fn unreadable(source: io::Error) -> FactsError {
    FactsError { what: "the package database".into(), source }
}

/// Every parser of this folder, for texts that nobody meant to be read.
#[cfg(test)]
pub(crate) mod hostile {
    use super::{apt, dnf, dpkg, rpm};

    /// The table of packages of an rpm 4.18 with four packages and a key in it, in pages of 512 bytes, so that
    /// there are inner pages and records that go over many.
    pub(crate) const RPM_DATABASE: &[u8] = include_bytes!("rpmdb.sqlite");

    /// A text as what each program prints and each list has.
    pub(crate) fn parse_text(text: &str) {
        let _ = (apt::parse_simulation(text), apt::parse_uris(text), dnf::parse_transaction(text));
        let _ = (rpm::parse_query(text), rpm::parse_locks(text), dpkg::packages(text.as_bytes()));
    }

    /// Bytes as the database of rpm.
    pub(crate) fn parse_rpm_database(bytes: &[u8]) {
        let _ = rpm::parse_database(&bytes);
    }
}
