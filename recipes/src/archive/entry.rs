//! What may be in an archive: names that stay below a folder, each once, and links that do not lead out.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{ArchiveError, MOST_ENTRIES};

/// What has been seen in an archive.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<PathBuf, Kind>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory without an entry yet.
    Parent,
    Directory,
    File,
    Link,
}

impl Seen {
    /// Takes in an entry. Returns the directories above it that were not there yet, outermost first.
    pub(super) fn add(&mut self, path: &Path, kind: Kind) -> Result<Vec<PathBuf>, ArchiveError> {
        let refused = |why| Err(ArchiveError::Entry { name: path.display().to_string(), why });
        let mut parents = Vec::new();
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            match self.0.get(parent) {
                None => parents.push(parent.to_owned()),
                Some(Kind::Directory | Kind::Parent) => break,
                Some(Kind::File | Kind::Link) => return refused("below what is no directory in it"),
            }
        }
        match (self.0.get(path), kind) {
            (None | Some(Kind::Parent | Kind::Directory), Kind::Directory)
            | (None, Kind::File | Kind::Link) => {}
            _ => return refused("more than once"),
        }
        parents.reverse();
        self.0.extend(parents.iter().map(|parent| (parent.clone(), Kind::Parent)));
        self.0.insert(path.to_owned(), kind);
        if self.0.len() > MOST_ENTRIES { Err(ArchiveError::TooMany) } else { Ok(parents) }
    }

    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.0.get(path) == Some(&Kind::File)
    }
}

/// The path of an entry, without so many of its first names; none if nothing is left.
pub(super) fn path_of(name: &[u8], strip: usize) -> Result<Option<PathBuf>, ArchiveError> {
    let text = text_of(name)?;
    let refused = |why| ArchiveError::Entry { name: text.to_owned(), why };
    if text.contains('\\') {
        return Err(refused("whose name has `\\` in it"));
    }
    let mut path = PathBuf::new();
    let mut names = 0;
    for part in Path::new(text).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => {
                names += 1;
                if names > strip {
                    path.push(name);
                }
            }
            Component::RootDir | Component::Prefix(_) => return Err(refused("whose name starts with `/`")),
            Component::ParentDir => return Err(refused("whose name leads up by `..`")),
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

/// Where a symbolic link points, if that is below the folder that the archive is unpacked into.
///
/// Only `..` at its start is counted: behind another name, which may be a link itself, `..` leads to a
/// place that nobody can tell from the text.
pub(super) fn target_of(path: &Path, target: &[u8]) -> Result<PathBuf, ArchiveError> {
    let refused = |why| Err(ArchiveError::Entry { name: path.display().to_string(), why });
    let target = Path::new(text_of(target)?);
    let depth = path.components().count() - 1;
    let (mut up, mut names) = (0, 0);
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => names += 1,
            Component::ParentDir if names == 0 => up += 1,
            _ => return refused("a link that may lead out of the folder"),
        }
    }
    if up > depth || target.as_os_str().is_empty() {
        return refused("a link that leads out of the folder");
    }
    Ok(target.to_owned())
}

/// The permission bits that an archive decides: no setuid, setgid or sticky bit, and no writing for others
/// than the owner, who can always read.
pub(super) fn mode_of(mode: u32, kind: Kind) -> u32 {
    let least = if kind == Kind::Directory { 0o700 } else { 0o400 };
    mode & 0o755 | least
}

fn text_of(name: &[u8]) -> Result<&str, ArchiveError> {
    let refused =
        |why| ArchiveError::Entry { name: String::from_utf8_lossy(name).escape_debug().to_string(), why };
    let text = std::str::from_utf8(name).map_err(|_| refused("whose name is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("whose name has a control character in it"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_folder() {
        let path = |name: &str, strip| path_of(name.as_bytes(), strip).expect("a path");
        assert_eq!(path("./a/b/", 0), Some("a/b".into()));
        assert_eq!(path("a/b/c", 2), Some("c".into()));
        assert_eq!(path("a/b", 2), None);
        assert_eq!(path("./", 0), None);
        let refused = |name: &[u8]| path_of(name, 0).expect_err("refused").to_string();
        assert_eq!(refused(b"/etc/passwd"), "has `/etc/passwd` in it, whose name starts with `/`");
        assert_eq!(refused(b"a/../../b"), "has `a/../../b` in it, whose name leads up by `..`");
        assert_eq!(refused(b"a\\b"), "has `a\\b` in it, whose name has `\\` in it");
        assert_eq!(refused(b"a\nb"), "has `a\\nb` in it, whose name has a control character in it");
        assert_eq!(refused(b"\xff"), "has `\u{fffd}` in it, whose name is not UTF-8");
    }

    #[test]
    fn links_do_not_lead_out() {
        for (path, target, may) in [
            ("a", "b", true),
            ("a/b", "../c/d", true),
            ("a/b", "..", true),
            ("a", "/etc", false),
            ("a", "../b", false),
            ("a/b", "../../c", false),
            ("a/b/c", "d/..", false),
            ("a", "", false),
        ] {
            assert_eq!(target_of(Path::new(path), target.as_bytes()).is_ok(), may, "{path} -> {target}");
        }
    }

    #[test]
    fn each_name_is_there_once_and_below_directories() {
        let mut seen = Seen::default();
        assert_eq!(
            seen.add(Path::new("a/b/c"), Kind::File).expect("new"),
            [PathBuf::from("a"), "a/b".into()]
        );
        assert!(seen.add(Path::new("a"), Kind::Directory).is_ok(), "its entry may come later");
        assert!(seen.add(Path::new("a"), Kind::Directory).is_ok());
        for (path, kind) in
            [("a/b/c", Kind::File), ("a", Kind::Link), ("a/b/c/d", Kind::File), ("a/b", Kind::File)]
        {
            assert!(seen.add(Path::new(path), kind).is_err(), "{path}");
        }
    }

    #[test]
    fn an_archive_gives_nobody_more_than_its_owner_has() {
        assert_eq!(mode_of(0o6777, Kind::File), 0o755);
        assert_eq!(mode_of(0o1777, Kind::Directory), 0o755);
        assert_eq!(mode_of(0o000, Kind::File), 0o400);
        assert_eq!(mode_of(0o640, Kind::File), 0o640);
    }
}
