//! Where every file of an image comes from: a package, a resource of a recipe, or nobody who is known.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::clean::ELSEWHERE;
use super::packaged::of_rpm;

/// Files and links, from the root, by whose they are.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owners {
    /// Those that packages brought, or that are made of what they brought.
    pub packages: BTreeMap<String, Vec<String>>,
    /// Those that resources made, in whole or in part, by their ids.
    pub resources: BTreeMap<String, Vec<String>>,
    /// Those of which neither is known: what scripts of packages and programs wrote.
    pub nobody: Vec<String>,
}

impl Owners {
    /// The resource of each path that one made.
    pub fn made(&self) -> BTreeMap<String, String> {
        let each = self
            .resources
            .iter()
            .flat_map(|(id, paths)| paths.iter().map(move |path| (path.clone(), id.clone())));
        each.collect()
    }
}

/// What package managers keep for themselves.
const OF_MANAGERS: &[(&str, &str)] = &[
    ("var/lib/dpkg", "dpkg"),
    ("var/lib/apt", "apt"),
    ("var/lib/rpm", "rpm"),
    ("usr/lib/sysimage/rpm", "rpm"),
    ("var/lib/dnf", "dnf"),
];

/// Finds whose every file is. `made` is what resources made, with `/` at the end of a directory that is theirs with all in it.
pub fn owners(root: &Path, made: &BTreeMap<String, String>) -> Owners {
    let packaged = packaged(root);
    let mut owners = Owners::default();
    for path in files_below(root) {
        let inside = path.strip_prefix(root).unwrap_or(&path);
        let name = format!("/{}", inside.display());
        // A resource that changed a file of a package is who decides about it.
        if let Some(id) = resource_of(&name, made) {
            owners.resources.entry(id.clone()).or_default().push(name);
        } else if let Some(package) =
            package_of(inside, &packaged).or_else(|| of_target(root, &path, &packaged))
        {
            owners.packages.entry(package.into()).or_default().push(name);
        } else {
            owners.nobody.push(name);
        }
    }
    owners
}

fn resource_of<'a>(name: &str, made: &'a BTreeMap<String, String>) -> Option<&'a String> {
    let above = Path::new(name).ancestors().skip(1).map(|folder| format!("{}/", folder.display()));
    let whole = above.filter(|folder| folder != "//").find_map(|folder| made.get(&folder));
    // Units are known by their names: `multi-user.target.wants/NAME`.
    let unit =
        || name.strip_prefix("/etc/systemd/system/").and_then(|path| made.get(path.rsplit('/').next()?));
    made.get(name).or(whole).or_else(unit)
}

fn package_of<'a>(path: &Path, packaged: &'a HashMap<String, String>) -> Option<&'a str> {
    let name = path.to_string_lossy();
    // dpkg may know a path under /lib that is under /usr/lib really.
    let known = packaged.get(name.as_ref()).or_else(|| packaged.get(name.strip_prefix("usr/")?));
    let compiled = || packaged.get(source_of(path)?.to_string_lossy().as_ref());
    known.or_else(compiled).map(String::as_str).or_else(|| {
        OF_MANAGERS.iter().find(|(folder, _)| path.starts_with(folder)).map(|(_, manager)| *manager)
    })
}

/// A link to a file of a package is of that package: scripts of packages make them, by alternatives, for units and for certificates.
fn of_target<'a>(root: &Path, path: &Path, packaged: &'a HashMap<String, String>) -> Option<&'a str> {
    // As many as the kernel follows (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { return None };
        let mut next = match target.strip_prefix("/") {
            Ok(_) => root.to_owned(),
            Err(_) => path.parent()?.to_owned(),
        };
        for part in target.components() {
            match part {
                Component::ParentDir if next != *root => drop(next.pop()),
                Component::Normal(name) => next.push(name),
                _ => {}
            }
        }
        let package = package_of(next.strip_prefix(root).ok()?, packaged);
        if package.is_some() {
            return package;
        }
        path = next;
    }
    None
}

/// What Python's byte code was compiled from: `FOLDER/__pycache__/NAME.TAG.pyc` of `FOLDER/NAME.py` (PEP 3147). A package's
/// maintainer script does that on the host.
pub(super) fn source_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(".pyc")?;
    let (module, _) = name.split_once('.')?;
    let folder = path.parent().filter(|cache| cache.ends_with("__pycache__"))?.parent()?;
    Some(folder.join(format!("{module}.py")))
}

/// The package of each path, from the root, as dpkg or rpm knows it.
fn packaged(root: &Path) -> HashMap<String, String> {
    let mut packaged = HashMap::new();
    for entry in fs::read_dir(root.join("var/lib/dpkg/info")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "list") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let package = name.split(':').next().unwrap_or_default();
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        packaged.extend(
            text.lines().filter_map(|line| Some((line.strip_prefix('/')?.to_owned(), package.to_owned()))),
        );
    }
    if root == Path::new("/") {
        packaged.extend(of_rpm("=NAME"));
    }
    packaged
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_elsewhere = path
                .strip_prefix(root)
                .is_ok_and(|path| ELSEWHERE.iter().any(|name| path == Path::new(name)));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_elsewhere => folders.push(path),
                Ok(kind) if kind.is_file() || kind.is_symlink() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_file_is_somebodys_or_nobodys() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        put(
            "var/lib/dpkg/info/nginx:amd64.list",
            "/.\n/lib\n/lib/systemd/nginx.service\n/etc/nginx/nginx.conf\n/usr/lib/x.py\n",
        );
        for path in [
            "usr/lib/systemd/nginx.service",
            "etc/nginx/nginx.conf",
            "etc/nginx/site.conf",
            "usr/lib/__pycache__/x.cpython-311.pyc",
            "opt/app/bin/app",
            "etc/alternatives/x",
            "etc/systemd/system/multi-user.target.wants/app.service",
            "run/x",
        ] {
            put(path, "x");
        }
        fs::create_dir_all(folder.path().join("usr/bin")).expect("made");
        for (link, target) in [
            ("usr/bin/editor", "/etc/alternatives/editor"),
            ("etc/alternatives/editor", "../../usr/lib/x.py"),
        ] {
            symlink(target, folder.path().join(link)).expect("linked");
        }
        let made = [
            ("/etc/nginx/nginx.conf", "nginx: template /etc/nginx/nginx.conf"),
            ("/etc/nginx/site.conf", "site: file /etc/nginx/site.conf"),
            ("/opt/app/", "site: archive /opt/app"),
            ("app.service", "site: service app"),
        ];
        let made = made.map(|(path, id)| (path.to_owned(), id.to_owned())).into_iter().collect();
        let owners = owners(folder.path(), &made);
        assert_eq!(
            owners.packages["nginx"],
            [
                "/etc/alternatives/editor",
                "/usr/bin/editor",
                "/usr/lib/__pycache__/x.cpython-311.pyc",
                "/usr/lib/systemd/nginx.service"
            ]
        );
        assert_eq!(owners.packages["dpkg"], ["/var/lib/dpkg/info/nginx:amd64.list"]);
        assert_eq!(owners.resources["site: archive /opt/app"], ["/opt/app/bin/app"]);
        assert_eq!(owners.resources["nginx: template /etc/nginx/nginx.conf"], ["/etc/nginx/nginx.conf"]);
        assert_eq!(
            owners.resources["site: service app"],
            ["/etc/systemd/system/multi-user.target.wants/app.service"]
        );
        assert_eq!(owners.nobody, ["/etc/alternatives/x"]);
    }
}
