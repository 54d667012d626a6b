//! How a copy of a host differs from the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use recipes::change::ChangeKind;
use recipes::difference::{Difference, DifferingFile, differing};
use rustix::fs::lgetxattr;

use super::world::{Layer, World};

/// What package managers keep for themselves.
const OF_PACKAGE_MANAGERS: &[&str] = &[
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/dnf",
    "/var/cache/ldconfig",
    "/var/cache/libdnf5",
    "/var/lib/apt",
    "/var/lib/dnf",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/usr/lib/sysimage",
    "/var/log/apt",
    "/var/log/dpkg.log",
    "/etc/ld.so.cache",
];

/// What only a run of the agent itself leaves.
const OF_THE_AGENT: &str = "/var/lib/bootstrap-agent";

/// What can be told of a host before and after.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) packages: BTreeMap<String, String>,
    pub(super) users: BTreeMap<String, String>,
    pub(super) groups: BTreeMap<String, String>,
}

impl Seen {
    /// Reads what this process sees.
    pub(super) fn now(packages: BTreeMap<String, String>) -> io::Result<Self> {
        Ok(Self { packages, users: table("/etc/passwd")?, groups: table("/etc/group")? })
    }
}

/// A file of lines with a name, a colon and fields; the password, which is the first field, is left out.
fn table(path: &str) -> io::Result<BTreeMap<String, String>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let rows = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (name, _, rest) = (parts.next()?, parts.next()?, parts.next()?);
        Some((name.to_owned(), rest.to_owned()))
    });
    Ok(rows.collect())
}

/// All that differs.
pub(super) fn difference(world: &World, before: &Seen, after: &Seen) -> io::Result<Difference> {
    let packages = differing(&before.packages, &after.packages);
    let mut owned = BTreeSet::new();
    for layer in world.layers.iter().filter(|layer| layer.mounted == Path::new("/")) {
        for folder in [layer.below(LISTS.as_ref()), Path::new("/").join(LISTS)] {
            owned.extend(owned_by(&folder, packages.iter().map(|package| package.name.as_str()))?);
        }
    }
    let coming = packages.iter().filter(|package| package.after.is_some());
    owned.extend(owned_by_rpm(coming.map(|package| package.name.as_str())));
    let mut found =
        Found { owned, files: Vec::new(), of_packages: 0, units: [BTreeMap::new(), BTreeMap::new()] };
    for layer in &world.layers {
        found.walk(layer, Path::new(""))?;
    }
    found.files.sort_by(|one, other| one.path.cmp(&other.path));
    let [units_before, units_after] = &found.units;
    Ok(Difference {
        packages,
        users: differing(&before.users, &after.users),
        groups: differing(&before.groups, &after.groups),
        units: differing(units_before, units_after),
        files: found.files,
        files_of_packages: found.of_packages,
    })
}

/// Where dpkg has the paths of each package, a file for each (dpkg-query(1), FILES).
const LISTS: &str = "var/lib/dpkg/info";

/// The paths of packages, of the lists in a folder.
fn owned_by<'a>(folder: &Path, packages: impl Iterator<Item = &'a str>) -> io::Result<BTreeSet<PathBuf>> {
    let mut owned = BTreeSet::new();
    let packages: BTreeSet<&str> = packages.collect();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(owned),
        entries => entries?,
    };
    for entry in entries {
        let (path, name) = {
            let entry = entry?;
            (entry.path(), entry.file_name().to_string_lossy().into_owned())
        };
        // `NAME.list`, or `NAME:ARCHITECTURE.list`.
        let Some(name) = name.strip_suffix(".list") else { continue };
        if !packages.contains(name.split(':').next().unwrap_or(name)) {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            owned.insert(PathBuf::from(line));
            // dpkg knows them where they were before `/bin` and others became links (hier(7)).
            if ["/bin/", "/sbin/", "/lib/", "/lib64/"].iter().any(|folder| line.starts_with(folder)) {
                owned.insert(PathBuf::from(format!("/usr{line}")));
            }
        }
    }
    Ok(owned)
}

/// The paths of installed packages of rpm; none where there is no rpm.
fn owned_by_rpm<'a>(packages: impl Iterator<Item = &'a str>) -> BTreeSet<PathBuf> {
    let packages: Vec<&str> = packages.collect();
    if packages.is_empty()
        || !Path::new("/usr/lib/sysimage/rpm").exists() && !Path::new("/var/lib/rpm").exists()
    {
        return BTreeSet::new();
    }
    let asked = Command::new("rpm").args(["--query", "--list", "--"]).args(packages).output();
    let text = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).into_owned()).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

struct Found {
    owned: BTreeSet<PathBuf>,
    files: Vec<DifferingFile>,
    of_packages: usize,
    /// Units that are linked into others, before and after.
    units: [BTreeMap<String, String>; 2],
}

impl Found {
    /// Goes through what was written below a folder of a layer.
    fn walk(&mut self, layer: &Layer, folder: &Path) -> io::Result<()> {
        let mut names: Vec<_> = fs::read_dir(layer.above(folder))?.collect::<Result<_, _>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let path = folder.join(entry.file_name());
            let (above, below) = (layer.above(&path), layer.below(&path));
            let (new, old) = (fs::symlink_metadata(&above)?, there(&below)?);
            let shown = layer.mounted.join(&path);
            if is_whiteout(&new) {
                if old.is_some() {
                    self.note(&shown, ChangeKind::Remove, Some(&below), None);
                }
                continue;
            }
            match &old {
                None => self.note(&shown, ChangeKind::Create, None, Some(&above)),
                Some(old) if !is_same(old, &new, &below, &above)? => {
                    self.note(&shown, ChangeKind::Update, Some(&below), Some(&above));
                }
                Some(_) => {}
            }
            if new.is_dir() {
                if is_opaque(&above) && old.is_some_and(|old| old.is_dir()) {
                    self.note_gone(layer, &path)?;
                }
                self.walk(layer, &path)?;
            }
        }
        Ok(())
    }

    /// What was in a folder that was made anew.
    fn note_gone(&mut self, layer: &Layer, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(layer.below(folder))? {
            let path = folder.join(entry?.file_name());
            if there(&layer.above(&path))?.is_none() {
                self.note(&layer.mounted.join(&path), ChangeKind::Remove, Some(&layer.below(&path)), None);
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &Path, kind: ChangeKind, old: Option<&Path>, new: Option<&Path>) {
        for (side, at) in [old, new].into_iter().enumerate() {
            let wanted = at.filter(|at| at.is_symlink()).and_then(|_| wanted_by(path));
            if let Some((unit, by)) = wanted {
                self.units[side].insert(unit, by);
            }
        }
        if path.starts_with(OF_THE_AGENT) {
            return;
        }
        // What Python made of the modules of a package (PEP 3147).
        let is_compiled = path.iter().any(|part| part == "__pycache__") && path.starts_with("/usr");
        let is_kept = is_compiled || OF_PACKAGE_MANAGERS.iter().any(|kept| path.starts_with(kept));
        if is_kept || self.owned.contains(path) {
            self.of_packages += 1;
        } else {
            self.files.push(DifferingFile { path: path.to_owned(), kind });
        }
    }
}

/// Of a link below `multi-user.target.wants/`, what wants what (systemd.unit(5)).
fn wanted_by(path: &Path) -> Option<(String, String)> {
    let folder = path.parent().filter(|folder| folder.starts_with("/etc/systemd/system"))?;
    let (by, how) = folder.file_name()?.to_str()?.rsplit_once('.')?;
    let how = match how {
        "wants" => "wanted",
        "requires" => "required",
        _ => return None,
    };
    Some((path.file_name()?.to_string_lossy().into_owned(), format!("{how} by {by}")))
}

fn there(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What was removed is a device of its own (overlayfs.rst, "whiteouts and opaque directories").
fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether nothing of a folder below shows through.
fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    lgetxattr(path, "trusted.overlay.opaque", &mut value).is_ok_and(|length| length == 1 && value == *b"y")
}

/// Whether two things are alike but for their times.
fn is_same(old: &Metadata, new: &Metadata, below: &Path, above: &Path) -> io::Result<bool> {
    let attributes = |of: &Metadata| (of.mode(), of.uid(), of.gid());
    if attributes(old) != attributes(new) {
        return Ok(false);
    }
    if old.is_symlink() {
        return Ok(fs::read_link(below)? == fs::read_link(above)?);
    }
    if old.is_file() {
        return Ok(old.len() == new.len() && has_same_content(below, above)?);
    }
    Ok(true)
}

fn has_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        if other.read_exact(&mut right[..length]).is_err() || left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_wanted_by_what_it_is_linked_below() {
        let wanted = |path: &str| wanted_by(Path::new(path));
        assert_eq!(
            wanted("/etc/systemd/system/multi-user.target.wants/nginx.service"),
            Some(("nginx.service".into(), "wanted by multi-user.target".into()))
        );
        assert_eq!(wanted("/etc/systemd/system/sshd.service"), None);
        assert_eq!(wanted("/etc/multi-user.target.wants/nginx.service"), None);
    }
}
