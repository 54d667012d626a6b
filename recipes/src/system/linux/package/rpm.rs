//! The package database of rpm: read from its file where that is an `SQLite` database, as it is
//! since rpm 4.16, and told by rpm itself where it is not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item};

use super::sqlite::{Database, Source};
use super::{Packages, invalid};
use crate::op::Command;
use crate::system::PackageFile;
use crate::system::linux::Linux;

/// Where it may be: Fedora moved it, and left a link.
const FOLDERS: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];

/// What rpm is asked for each package: the number it got when it was installed, and what it is.
const QUERY: &str = "%{DBINSTANCE}\t%{NAME}\t%{EPOCH}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n";

/// A package as rpm knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    name: String,
    architecture: String,
    epoch: u32,
    /// `VERSION-RELEASE`.
    version: String,
}

impl Installed {
    /// The version with its epoch, if it has one, as rpm writes `%{EVR}`.
    fn version(&self) -> String {
        if self.epoch == 0 { self.version.clone() } else { format!("{}:{}", self.epoch, self.version) }
    }
}

/// What a package's file says of itself; none if there is none.
pub(super) fn package_file(linux: &Linux, path: &Path) -> io::Result<Option<PackageFile>> {
    if linux.tree.open_file(path)?.is_none() {
        return Ok(None);
    }
    if !linux.tree.is_host() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // dnf looks at signatures where its settings say so; here it would be warned of keys.
    let words = ["rpm", "--query", "--package", "--nosignature", "--queryformat", "%{NAME}\t%{EVR}\n", "--"];
    let command = Command::new(words.into_iter().map(str::to_owned).chain([path.display().to_string()]));
    let said = linux.runner.read(&command)?;
    let (name, version) =
        said.trim_end().split_once('\t').ok_or_else(|| invalid("it does not say which package it is"))?;
    Ok(Some(PackageFile { name: name.into(), version: version.into() }))
}

/// Every installed package, in the order in which they were installed.
pub(super) fn installed(linux: &Linux) -> io::Result<Vec<Installed>> {
    for folder in FOLDERS {
        let path = Path::new(folder).join("rpmdb.sqlite");
        if let Some(file) = linux.tree.open_file(&path)? {
            let before = State::of(linux, &file, &path)?;
            let read = parse_database(&file);
            if before.is_at_rest() && before == State::of(linux, &file, &path)? {
                let named = |error| invalid(format!("`{}`: {error}", path.display()));
                return read.map_err(named);
            }
        }
    }
    if linux.tree.is_host() {
        // It is of another kind, or somebody is changing it, whom rpm waits for or reads around.
        let command = Command::new(["rpm", "--query", "--all", "--queryformat", QUERY]);
        return linux.runner.read(&command).map(|text| parse_query(&text));
    }
    for folder in FOLDERS {
        let names = linux.tree.names(Path::new(folder))?;
        if names.iter().any(|name| name == "rpmdb.sqlite") {
            return Err(invalid(format!(
                "`{folder}` has changes that rpm has not written into its database"
            )));
        }
        if names.iter().any(|name| ["Packages", "Packages.db"].contains(&name.as_str())) {
            return Err(invalid(format!(
                "`{folder}` is not SQLite's, and only rpm itself reads other kinds"
            )));
        }
    }
    Ok(Vec::new())
}

/// What tells whether somebody writes to the database while it is read.
#[derive(PartialEq)]
struct State {
    length: u64,
    modified: std::time::SystemTime,
    /// How long the log is in which changes are before they are in the database.
    log: u64,
}

impl State {
    fn of(linux: &Linux, file: &File, path: &Path) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = linux.tree.open_file(&PathBuf::from(log))?;
        let log = log.map(|log| log.metadata()).transpose()?.map_or(0, |metadata| metadata.len());
        Ok(Self { length: metadata.len(), modified: metadata.modified()?, log })
    }

    fn is_at_rest(&self) -> bool {
        self.log == 0
    }
}

/// Reads the table of packages: a number and the header of each.
pub(super) fn parse_database<S: Source>(source: &S) -> io::Result<Vec<Installed>> {
    let mut installed = Vec::new();
    Database::open(source)?.rows("Packages", &mut |row| {
        installed.push(parse_header(&|limit| row.bytes(1, limit))?);
        Ok(())
    })?;
    Ok(without_keys(installed))
}

/// The tags of a header (`rpmtag.h`), and what it may have at most (`header.c`).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCHITECTURE: u32 = 1022;
const MOST_TAGS: usize = 0xffff;

/// Names and versions are parts of file names, which have 255 bytes.
const LONGEST: usize = 256;

/// Reads the header of a package: how many tags and bytes, the tags, the bytes. `read` returns its beginning.
/// What is looked for is at the beginning of the bytes, and what follows, such as all files, is not read.
fn parse_header(read: &dyn Fn(usize) -> io::Result<Vec<u8>>) -> io::Result<Installed> {
    let broken = || invalid("the header of a package is damaged");
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|four| u32::from_be_bytes(*four))
    };
    let size = |bytes: &[u8], at: usize| number(bytes, at).and_then(|value| usize::try_from(value).ok());
    let tags = size(&read(8)?, 0).filter(|tags| *tags <= MOST_TAGS).ok_or_else(broken)?;
    let data = 8 + 16 * tags;
    let index = read(data)?;
    let mut places = BTreeMap::new();
    for entry in index.get(8..data).ok_or_else(broken)?.chunks_exact(16) {
        // Tag, type, offset, count.
        if let (Some(tag), Some(offset)) = (number(entry, 0), size(entry, 8)) {
            places.entry(tag).or_insert(offset);
        }
    }
    let wanted = [NAME, VERSION, RELEASE, EPOCH, ARCHITECTURE];
    let last = wanted.iter().filter_map(|tag| places.get(tag)).max().copied().unwrap_or_default();
    let header = read(data.saturating_add(last).saturating_add(LONGEST))?;
    let at = |tag: u32| header.get(data.checked_add(*places.get(&tag)?)?..);
    let text = |tag: u32| {
        let bytes = at(tag)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        String::from_utf8(bytes[..end].to_vec()).ok()
    };
    let (name, version, release) =
        text(NAME).zip(text(VERSION)).zip(text(RELEASE)).map(|((a, b), c)| (a, b, c)).ok_or_else(broken)?;
    let epoch = at(EPOCH).map_or(Some(0), |bytes| number(bytes, 0)).ok_or_else(broken)?;
    let architecture = text(ARCHITECTURE).unwrap_or_default();
    Ok(Installed { name, architecture, epoch, version: format!("{version}-{release}") })
}

/// Reads what rpm answers to [`QUERY`]. What is not there is `(none)`.
pub(super) fn parse_query(text: &str) -> Vec<Installed> {
    let mut numbered: Vec<(u64, Installed)> = text
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [number, name, epoch, version, release, architecture] = fields[..] else { return None };
            let installed = Installed {
                name: name.into(),
                architecture: architecture.into(),
                epoch: epoch.parse().unwrap_or_default(),
                version: format!("{version}-{release}"),
            };
            Some((number.parse().ok()?, installed))
        })
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    without_keys(numbered.into_iter().map(|(_, installed)| installed).collect())
}

/// rpm keeps the keys that it trusts as packages, which they are not.
fn without_keys(mut installed: Vec<Installed>) -> Vec<Installed> {
    installed.retain(|package| package.name != "gpg-pubkey");
    installed
}

/// A package that dnf keeps at a version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lock {
    name: String,
    /// `EPOCH:VERSION-RELEASE`.
    version: String,
}

/// Reads the list of versionlock(8): `NAME-EPOCH:VERSION-RELEASE.ARCHITECTURE`, and after `!` what is not wanted.
pub(super) fn parse_locks(text: &str) -> Vec<Lock> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', '!']))
        .filter_map(|line| {
            let (package, _architecture) = line.rsplit_once('.')?;
            let (rest, release) = package.rsplit_once('-')?;
            let (name, version) = rest.rsplit_once('-')?;
            let epoch = if version.contains(':') { "" } else { "0:" };
            Some(Lock { name: name.into(), version: format!("{epoch}{version}-{release}") })
        })
        .collect()
}

/// Reads the list of dnf 5 (dnf5-versionlock(8)), in TOML. Of its conditions only one for a single version keeps a
/// package at it.
pub(super) fn parse_toml_locks(text: &str) -> Vec<Lock> {
    let Ok(list) = text.parse::<DocumentMut>() else { return Vec::new() };
    let tables = |table: &toml_edit::Table, name: &str| {
        table.get(name).and_then(Item::as_array_of_tables).cloned().unwrap_or_default()
    };
    let is =
        |table: &toml_edit::Table, name: &str, value: &str| text_of(table, name).as_deref() == Some(value);
    let mut locks = Vec::new();
    for package in &tables(&list, "packages") {
        let conditions = tables(package, "conditions");
        let version = conditions.iter().find(|one| is(one, "key", "evr") && is(one, "comparator", "="));
        if let (Some(name), Some(version)) =
            (text_of(package, "name"), version.and_then(|version| text_of(version, "value")))
        {
            let epoch = if version.contains(':') { "" } else { "0:" };
            locks.push(Lock { name, version: format!("{epoch}{version}") });
        }
    }
    locks
}

fn text_of(table: &toml_edit::Table, name: &str) -> Option<String> {
    table.get(name).and_then(Item::as_str).map(str::to_owned)
}

/// The packages under their names and under `NAME.ARCHITECTURE`. Of one that is there several times, as kernels
/// are, the one that was installed last counts.
pub(super) fn packages(installed: &[Installed], locks: &[Lock]) -> Packages {
    let mut packages = Packages::default();
    for package in installed {
        let names = [package.name.clone(), format!("{}.{}", package.name, package.architecture)];
        let version = format!("{}:{}", package.epoch, package.version);
        let is_held = locks.iter().any(|lock| lock.name == package.name && lock.version == version);
        for name in &names {
            if is_held {
                packages.held.insert(name.clone());
            } else {
                packages.held.remove(name);
            }
        }
        let [name, qualified] = names;
        packages.installed.insert(name, package.version());
        packages.of_architecture.insert(qualified, package.version());
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::super::hostile::RPM_DATABASE;
    use super::*;

    /// What rpm 4.18 says of the same packages.
    const ANSWER: &str = "5\tprobe\t(none)\t2.0\t1\tnoarch
2\tlib\t3\t1.0\t1\tnoarch
1\tgpg-pubkey\t(none)\tac13bd72\t6b061555\t(none)
3\tapp\t(none)\t1.0\t1\tnoarch
4\tprobe\t(none)\t1.0\t1\tnoarch
";

    #[test]
    fn the_file_and_rpm_itself_tell_the_same() {
        let read = parse_database(&RPM_DATABASE).expect("a database");
        assert_eq!(read, parse_query(ANSWER));
        let names: Vec<&str> = read.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["lib", "app", "probe", "probe"]);
    }

    #[test]
    fn the_package_that_was_installed_last_counts() {
        let locks = "# Added lock on Tue\nprobe-0:1.0-1.*\nlib-3:1.0-1.*\n!app-0:1.0-1.*\n";
        let packages = packages(&parse_query(ANSWER), &parse_locks(locks));
        let version = |name: &str| packages.version(name).map(String::as_str);
        assert_eq!(
            (version("probe"), version("lib"), version("nope")),
            (Some("2.0-1"), Some("3:1.0-1"), None)
        );
        assert_eq!((version("app"), version("app.noarch")), (Some("1.0-1"), Some("1.0-1")));
        assert_eq!(
            packages.held.iter().collect::<Vec<_>>(),
            ["lib", "lib.noarch"],
            "another version is locked"
        );
        assert_eq!(packages.installed.len(), 3);
    }

    #[test]
    fn locks_may_be_written_without_an_epoch() {
        let of = |line: &str| parse_locks(line).into_iter().map(|lock| (lock.name, lock.version)).next();
        let lock = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(of("python3-dnf-4.14.0-1.amzn2023.*"), lock("python3-dnf", "0:4.14.0-1.amzn2023"));
        assert_eq!(of("a-7:1-2.x86_64"), lock("a", "7:1-2"));
        assert_eq!((of("a"), of(""), of("a.b"), of("a-1.c")), (None, None, None, None));
    }

    #[test]
    fn locks_of_dnf_5_are_in_toml() {
        let list = "version = \"1.0\"

[[packages]]
name = \"held\"
comment = \"Added by 'versionlock add' command on 2026-11-26 05:17:16\"
[[packages.conditions]]
key = \"evr\"
comparator = \"=\"
value = \"1.0-1\"

[[packages]]
name = \"below\"
[[packages.conditions]]
key = \"evr\"
comparator = \"<\"
value = \"4\"

[[packages]]
name = \"lib\"
[[packages.conditions]]
key = \"arch\"
comparator = \"=\"
value = \"noarch\"
[[packages.conditions]]
key = \"evr\"
comparator = \"=\"
value = \"3:1.0-1\"
";
        let lock = |name: &str, version: &str| Lock { name: name.into(), version: version.into() };
        assert_eq!(parse_toml_locks(list), [lock("held", "0:1.0-1"), lock("lib", "3:1.0-1")]);
        assert_eq!((parse_toml_locks(""), parse_toml_locks("packages = [")), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_is_no_database_is_told() {
        let problem = |bytes: &[u8]| parse_database(&bytes).expect_err("it is none").to_string();
        assert_eq!(problem(&[b'x'; 200]), "it is no SQLite database");
        assert_eq!(problem(&RPM_DATABASE[..5000]), "unexpected end of file");
        let mut looped = RPM_DATABASE.to_vec();
        // The first page is the description of tables; the root of the packages is the second one.
        let root = &mut looped[512..1024];
        assert_eq!(root[0], 5, "an inner page");
        root[8..12].copy_from_slice(&2_u32.to_be_bytes());
        assert_eq!(problem(&looped), "its pages lead back to themselves");
    }
}
