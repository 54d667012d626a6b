//! The files of a recipe: what is fetched, written, and compared with the lock.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use recipes::error::{Problem, did_you_mean};
use recipes::op::hex;
use sha2::{Digest, Sha256};

use super::declared::{NAMES, is_name};
use super::lock::{LockedFile, LockedRecipe};

/// What a recipe may have in all: four of the longest files that a recipe may have.
pub(super) const MOST_BYTES: u64 = 4 * 64 * 1024 * 1024;

/// The file that makes a folder a recipe.
pub(super) const RECIPE: &str = "recipe.yaml";

/// Every file of a recipe by its path in the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Folder(pub(super) BTreeMap<String, File>);

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// Whether its owner may execute it: of all permissions git keeps this one.
    pub(super) executable: bool,
}

impl Folder {
    /// Reads a folder. Only regular files can be sent to a host, so anything else is refused, and no link
    /// leads anywhere.
    ///
    /// # Errors
    /// Names what is not a file, cannot be read, or is too much.
    pub(super) fn read(path: &Path, shown: &str) -> Result<Self, Problem> {
        let mut files = BTreeMap::new();
        let mut left = MOST_BYTES;
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let at = path.join(&below);
            for entry in fs::read_dir(&at).map_err(unreadable(shown, &below))? {
                let entry = entry.map_err(unreadable(shown, &below))?;
                let below = below.join(entry.file_name());
                let kind = entry.file_type().map_err(unreadable(shown, &below))?;
                if kind.is_dir() {
                    folders.push(below);
                    continue;
                }
                if !kind.is_file() {
                    return Err(not_a_file(&format!("{shown}/{}", below.display())));
                }
                let name = below.to_str().ok_or_else(|| {
                    Problem::new(format!("the name `{shown}/{}` is not UTF-8", below.display()))
                })?;
                let file = fs::File::open(entry.path()).map_err(unreadable(shown, &below))?;
                let mode = file.metadata().map_err(unreadable(shown, &below))?.permissions().mode();
                let mut bytes = Vec::new();
                file.take(left + 1).read_to_end(&mut bytes).map_err(unreadable(shown, &below))?;
                left = left.checked_sub(bytes.len() as u64).ok_or_else(|| too_much(shown))?;
                files.insert(name.to_owned(), File { bytes, executable: mode & 0o100 != 0 });
            }
        }
        Ok(Self(files))
    }

    /// Writes the folder, which is not there yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        for (name, file) in &self.0 {
            let path = path.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(mode).open(path)?.write_all(&file.bytes)?;
        }
        Ok(())
    }

    /// What the lock says of it.
    pub(super) fn locked(&self) -> LockedRecipe {
        let files = self.0.iter().map(|(name, file)| {
            let sha256 = hex(&Sha256::digest(&file.bytes));
            (name.clone(), LockedFile { sha256, executable: file.executable })
        });
        LockedRecipe::new(files.collect())
    }
}

/// Something other than a regular file.
pub(super) fn not_a_file(shown: &str) -> Problem {
    Problem::new(format!("`{shown}` is not a regular file"))
        .help("links, devices and submodules are not taken: a recipe is sent to hosts as files")
}

/// More than a recipe may have.
pub(super) fn too_much(shown: &str) -> Problem {
    let limit = MOST_BYTES / 1024 / 1024;
    Problem::new(format!("`{shown}` has more than {limit} MiB"))
        .help("what is large belongs into a package or a download")
}

fn unreadable(shown: &str, below: &Path) -> impl Fn(io::Error) -> Problem {
    let what = Path::new(shown).join(below).display().to_string();
    move |error| Problem::new(format!("failed to read `{what}`: {error}"))
}

/// The names of the recipes that are wanted of those that are there. A source that is a recipe itself has the
/// name that it was given.
///
/// # Errors
/// When one is not there, or none.
pub(super) fn choose(
    there: &[String],
    wanted: Option<&[String]>,
    source: &str,
) -> Result<Vec<String>, Problem> {
    if there.is_empty() {
        return Err(Problem::new(format!("`{source}` has no recipe")).help(format!(
            "a recipe is a folder with `{RECIPE}`; `path` says where in the source they are"
        )));
    }
    // What others call a folder becomes a path of ours.
    let is_wanted = |name: &&String| wanted.is_none_or(|wanted| wanted.contains(name));
    if let Some(name) = there.iter().filter(is_wanted).find(|name| !is_name(name)) {
        return Err(
            Problem::new(format!("`{name}` in `{source}` cannot be the name of a recipe")).help(NAMES)
        );
    }
    let Some(wanted) = wanted else { return Ok(there.to_vec()) };
    match wanted.iter().find(|name| !there.contains(name)) {
        None => Ok(wanted.to_vec()),
        Some(missing) => {
            let names: Vec<&str> = there.iter().map(String::as_str).collect();
            let problem = Problem::new(format!("`{source}` has no recipe `{missing}`"));
            Err(problem.help(did_you_mean(missing, &names)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_written_as_it_was_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Folder(BTreeMap::from([
            (RECIPE.to_owned(), File { bytes: b"resources: []\n".to_vec(), executable: false }),
            ("files/a/run".to_owned(), File { bytes: b"#!/bin/sh\n".to_vec(), executable: true }),
        ]));
        let path = folder.path().join("x");
        files.write(&path).expect("written");
        let read = Folder::read(&path, "x").expect("readable");
        assert_eq!(read, files);
        assert_eq!(read.locked().digest, files.locked().digest);
        assert!(files.write(&path).is_err(), "what is there is not written over");
    }

    #[test]
    fn no_name_of_others_leads_out_of_the_folder() {
        for name in ["..", ".", "-x", "a b", ".git", ""] {
            let error = choose(&[name.to_owned()], None, "acme").expect_err("no name").located();
            assert!(error.contains("cannot be the name of a recipe; a name has letters"), "{error}");
        }
        let there = ["..".to_owned(), "nginx-1.2".to_owned()];
        assert_eq!(choose(&there, Some(&there[1..]), "acme").expect("a name"), there[1..]);
    }

    /// The digest is a promise to every lock that was ever written.
    #[test]
    fn the_digest_has_paths_modes_and_contents() {
        let digest = |name: &str, bytes: &[u8], executable: bool| {
            let file = File { bytes: bytes.to_vec(), executable };
            Folder(BTreeMap::from([(name.to_owned(), file)])).locked().digest
        };
        let first = digest("a", b"x", false);
        assert_eq!(first, "sha256:3845a9c838b92da260e7809002f29f0f2500bf85c57f396c734e8cdd2827f1bc");
        for other in [digest("b", b"x", false), digest("a", b"y", false), digest("a", b"x", true)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn links_are_refused_wherever_they_lead() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a"), "a").expect("written");
        for target in ["a", "/etc/passwd", "."] {
            let link = folder.path().join("link");
            symlink(target, &link).expect("linked");
            let error = Folder::read(folder.path(), "x").expect_err("a link").located();
            insta::allow_duplicates! {
                insta::assert_snapshot!(error, @"`x/link` is not a regular file; links, devices and submodules are not taken: a recipe is sent to hosts as files");
            }
            fs::remove_file(link).expect("removed");
        }
    }
}
