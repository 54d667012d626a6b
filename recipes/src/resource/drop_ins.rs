//! Directories of settings that several files share, as sysctl.d(5), modules-load.d(5) and modprobe.d(5)
//! are read: all files in the order of their names, and of two with one name the first directory's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::system::{EntryKind, Facts, FactsError, Known, led_to};

/// A file of settings that counts.
#[derive(Debug)]
pub(super) struct DropIn {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The files of directories whose names end like this and are wanted, sorted by name. None while packages are yet to come: nobody
/// can know then, and it is looked at again when they are there.
pub(super) fn drop_ins(
    facts: &dyn Facts,
    directories: &[&str],
    extension: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<Vec<DropIn>>, FactsError> {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories {
        let Some(names) = facts.names_if_known(Path::new(directory))? else { return Ok(None) };
        for name in names.into_iter().filter(|name| has_extension(name, extension)) {
            let path = Path::new(directory).join(&name);
            paths.entry(name).or_insert(path);
        }
    }
    let mut found = Vec::new();
    for (_, path) in paths.into_iter().filter(|(name, _)| wanted(name)) {
        let path = match facts.entry(&path)? {
            Known::Yes(Some(entry)) => match entry.kind {
                EntryKind::Symlink { target } => led_to(&path, &target),
                _ => path,
            },
            _ => continue,
        };
        let Known::Yes(Some(bytes)) = facts.content(&path)? else { continue };
        found.push(DropIn { path, text: String::from_utf8_lossy(&bytes).into_owned() });
    }
    Ok(Some(found))
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|other| other == extension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Fake;

    #[test]
    fn the_first_directory_wins_and_links_are_followed() {
        let mut fake = Fake::debian();
        for (path, text) in [
            ("/usr/lib/x.d/a.conf", "hidden"),
            ("/usr/lib/x.d/b.conf", "b"),
            ("/etc/x.d/a.conf", "a"),
            ("/etc/x.d/README", "no"),
            ("/etc/other", "c"),
        ] {
            fake.file(path, text);
        }
        fake.symlink("/etc/x.d/c.conf", "../other");
        fake.symlink("/etc/x.d/masked.conf", "/dev/null");
        let found =
            drop_ins(&fake, &["/etc/x.d", "/usr/lib/x.d"], "conf", |_| true).expect("read").expect("known");
        let texts: Vec<&str> = found.iter().map(|drop_in| drop_in.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"]);
    }
}
