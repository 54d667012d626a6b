//! `vendor/lock.json`: what was fetched, down to each file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use recipes::error::{Problem, Problems};
use recipes::op::hex;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::declared::{Source, is_commit, is_name};
use super::{Folder, VENDOR};

/// The name of the file in `vendor/`.
pub(super) const LOCK: &str = "lock.json";

/// The version of the format.
const VERSION: u32 = 1;

/// So many names in one message help; more do not.
const NAMED: usize = 5;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    /// [`VERSION`].
    version: u32,
    /// Each source by its name.
    pub(super) sources: BTreeMap<String, LockedSource>,
}

/// What was fetched of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedSource {
    /// What was wanted.
    pub(super) source: Source,
    /// The commit that it was taken from; none of a folder.
    pub(super) commit: Option<String>,
    /// Each recipe by its name.
    pub(super) recipes: BTreeMap<String, LockedRecipe>,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedRecipe {
    /// `sha256:` and the digest of all files: their paths, modes and contents.
    pub(super) digest: String,
    /// Each file by its path in the recipe's folder.
    files: BTreeMap<String, LockedFile>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedFile {
    /// The digest of its content.
    pub(super) sha256: String,
    /// Whether it is a program.
    pub(super) executable: bool,
}

impl LockedRecipe {
    /// The digest is made of a line for each file, sorted by path: `SHA256 MODE LENGTH PATH`. The length is that
    /// of the path, which may have any character in it.
    pub(super) fn new(files: BTreeMap<String, LockedFile>) -> Self {
        let mut hash = Sha256::new();
        for (path, file) in &files {
            let mode = if file.executable { "755" } else { "644" };
            hash.update(format!("{} {mode} {} {path}\n", file.sha256, path.len()));
        }
        Self { digest: format!("sha256:{}", hex(&hash.finalize())), files }
    }

    /// What is different in a folder, in words.
    fn differences(&self, found: &Self) -> String {
        let paths: BTreeSet<&String> = self.files.keys().chain(found.files.keys()).collect();
        let different =
            paths.into_iter().filter_map(|path| match (self.files.get(path), found.files.get(path)) {
                (Some(locked), Some(found)) if locked == found => None,
                (Some(_), Some(_)) => Some(format!("`{path}` was changed")),
                (Some(_), None) => Some(format!("`{path}` is missing")),
                _ => Some(format!("`{path}` was added")),
            });
        let different: Vec<String> = different.collect();
        let more = different.len().saturating_sub(NAMED);
        let named = different[..different.len() - more].join(", ");
        if more == 0 { named } else { format!("{named} and {more} more") }
    }
}

impl Lock {
    /// A lock of these sources.
    pub(super) fn new(sources: BTreeMap<String, LockedSource>) -> Self {
        Self { version: VERSION, sources }
    }

    /// Reads the lock in a folder of recipes; none if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is of another version.
    pub(super) fn read(recipes: &Path, shown: &str) -> Result<Option<Self>, Problem> {
        #[derive(Deserialize)]
        struct Format {
            version: u32,
        }
        let shown = format!("{shown}/{VENDOR}/{LOCK}");
        let bytes = match fs::read(recipes.join(VENDOR).join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Problem::new(format!("failed to read `{shown}`: {error}")))?,
        };
        let wrong = |error: serde_json::Error| {
            Problem::new(format!("`{shown}` is not a lock: {error}"))
                .help("it is written by `baker vendor`: restore it from version control, or remove the folder and run that")
        };
        let Format { version } = serde_json::from_slice(&bytes).map_err(wrong)?;
        if version != VERSION {
            let message = format!("`{shown}` has the version {version}, and this program knows {VERSION}");
            return Err(Problem::new(message).help("use the baker that wrote it, or a newer one"));
        }
        let lock: Self = serde_json::from_slice(&bytes).map_err(wrong)?;
        if let Some(odd) = lock.odd() {
            return Err(wrong(serde_json::Error::custom(format!("`{odd}` cannot be in it"))));
        }
        Ok(Some(lock))
    }

    /// What `baker vendor` never writes. A lock may come from anybody's branch, and its names become paths and
    /// arguments.
    fn odd(&self) -> Option<&str> {
        let names = self.sources.iter().flat_map(|(name, source)| source.recipes.keys().chain([name]));
        let commits = self.sources.values().filter_map(|source| source.commit.as_ref());
        let odd = names.filter(|name| !is_name(name)).chain(commits.filter(|commit| !is_commit(commit)));
        odd.map(String::as_str).next()
    }

    /// Writes the lock into `vendor/`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, vendor: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(vendor.join(LOCK), text)
    }

    /// Compares the files in `vendor/` with what the lock says of them.
    ///
    /// # Errors
    /// Everything that is different.
    pub(super) fn compare(&self, vendor: &Path, shown: &str) -> Result<(), Problems> {
        const RESTORE: &str = "`baker vendor` brings back what was fetched; to change a recipe, copy it into a folder of your own and leave it out of `vendor.yaml`";
        let mut problems = Problems::new();
        for (source, locked) in &self.sources {
            for (name, recipe) in &locked.recipes {
                let (path, shown) = (vendor.join(source).join(name), format!("{shown}/{source}/{name}"));
                if !path.is_dir() {
                    problems.push(Problem::new(format!("`{shown}` is missing")).help(RESTORE));
                    continue;
                }
                let Some(found) = problems.keep(Folder::read(&path, &shown)) else { continue };
                let found = found.locked();
                if found != *recipe {
                    let message =
                        format!("`{shown}` is not what was fetched: {}", recipe.differences(&found));
                    problems.push(Problem::new(message).help(RESTORE));
                }
            }
        }
        for path in problems.keep(below(vendor, shown)).unwrap_or_default() {
            let is_known = match path.split_once('/') {
                None => path == LOCK || self.sources.contains_key(&path),
                Some((source, name)) => {
                    self.sources.get(source).is_some_and(|source| source.recipes.contains_key(name))
                }
            };
            if !is_known {
                let problem = Problem::new(format!("`{shown}/{path}` was not fetched"));
                problems.push(problem.help("remove it: recipes of your own are beside `vendor`"));
            }
        }
        problems.unless_any(())
    }

    /// Makes sure that no two sources have a recipe of one name: which is meant could not be said.
    ///
    /// # Errors
    /// Names each recipe that two of them have.
    pub(super) fn owners(&self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (source, locked) in &self.sources {
            for name in locked.recipes.keys() {
                if let Some(other) = owners.insert(name, source) {
                    problems.push(
                        Problem::new(format!("`{other}` and `{source}` both have a recipe `{name}`")).help(
                            format!(
                                "say under `recipes` of one of them which ones are wanted, without `{name}`"
                            ),
                        ),
                    );
                }
            }
        }
        problems.unless_any(())
    }
}

/// What is in `vendor/` and in the folders there, by path.
fn below(vendor: &Path, shown: &str) -> Result<Vec<String>, Problem> {
    let failed = |error: io::Error| Problem::new(format!("failed to read `{shown}`: {error}"));
    let names = |path: &Path| -> Result<Vec<(String, bool)>, Problem> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            names.push((entry.file_name().to_string_lossy().into_owned(), is_folder));
        }
        names.sort();
        Ok(names)
    };
    let mut paths = Vec::new();
    for (name, is_folder) in names(vendor)? {
        if is_folder {
            paths.extend(names(&vendor.join(&name))?.into_iter().map(|(below, _)| format!("{name}/{below}")));
        }
        paths.push(name);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock as the first release wrote it.
    const FIRST: &str = r#"{"version":1,"sources":{"acme":{"source":{"from":{"git":{"url":"https://git.example.com/acme.git","reference":{"tag":"v1"},"path":"recipes"}},"recipes":["ntp"]},"commit":"0123456789abcdef0123456789abcdef01234567","recipes":{"ntp":{"digest":"sha256:a","files":{"recipe.yaml":{"sha256":"b","executable":false}}}}},"mine":{"source":{"from":{"folder":{"path":"../mine"}},"recipes":null},"commit":null,"recipes":{}}}}"#;

    fn read(text: &str) -> Result<Option<Lock>, Problem> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(VENDOR)).expect("made");
        fs::write(folder.path().join(VENDOR).join(LOCK), text).expect("written");
        Lock::read(folder.path(), "recipes")
    }

    #[test]
    fn a_lock_of_the_first_release_is_read() {
        let lock = read(FIRST).expect("readable").expect("there");
        assert_eq!(serde_json::to_string(&lock).expect("JSON"), FIRST);
    }

    #[test]
    fn what_is_not_a_lock_is_refused() {
        insta::assert_snapshot!(read(r#"{"version":2}"#).expect_err("another").located(), @"`recipes/vendor/lock.json` has the version 2, and this program knows 1; use the baker that wrote it, or a newer one");
        let error = read("<<<<<<<").expect_err("a conflict").located();
        assert!(error.contains("`recipes/vendor/lock.json` is not a lock"), "{error}");
        let odd = [
            ("\"ntp\":{\"digest", "\"../ntp\":{\"digest"),
            ("\"mine\":", "\"..\":"),
            ("0123456789abcdef0", "--upload-pack=id"),
        ];
        for (from, to) in odd {
            let error = read(&FIRST.replacen(from, to, 1)).expect_err("not safe").located();
            assert!(error.contains("cannot be in it"), "{from}: {error}");
        }
    }

    #[test]
    fn what_was_changed_is_named() {
        let recipe = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(path, sha256)| {
                ((*path).to_owned(), LockedFile { sha256: (*sha256).to_owned(), executable: false })
            });
            LockedRecipe::new(files.collect())
        };
        let locked = recipe(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let found = recipe(&[("a", "1"), ("b", "x"), ("d", "4")]);
        insta::assert_snapshot!(locked.differences(&found), @"`b` was changed, `c` is missing, `d` was added");
        let many: Vec<(String, &str)> = (0..7).map(|number| (number.to_string(), "1")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(path, digest)| (path.as_str(), *digest)).collect();
        insta::assert_snapshot!(recipe(&[]).differences(&recipe(&many)), @"`0` was added, `1` was added, `2` was added, `3` was added, `4` was added and 2 more");
    }
}
