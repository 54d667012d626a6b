//! A plan that is kept in a file: it is applied as it was seen, or not at all.
//!
//! The file is a tar: `plan.json` with the target, the options and the plan, and behind it the files of the bundle. So it is
//! applied with the recipes and inputs that it was made of, whatever has become of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use recipes::plan::Plan;
use serde::{Deserialize, Serialize};

use crate::bake::tar_of;
use crate::failure::{Failure, failed};

/// The first entry, by which such a file is known.
const HEAD: &str = "plan.json";

/// Where the files of the bundle are: by name, behind the head.
const BUNDLE: &str = "plan/";

/// Of the format.
const VERSION: u32 = 1;

/// A plan, and all that it takes to apply it.
#[derive(Debug, PartialEq)]
pub struct SavedPlan {
    /// The host that it is of.
    pub target: String,
    /// Options of the agent that it was made with, such as tags.
    pub options: Vec<String>,
    /// What is to be done.
    pub plan: Plan,
    /// The bundle.
    pub bundle: BTreeMap<String, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    target: String,
    options: Vec<String>,
    plan: Plan,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl SavedPlan {
    /// Writes it to a file that only its owner can read: plans show what is in files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let head = Head {
            version: VERSION,
            target: self.target.clone(),
            options: self.options.clone(),
            plan: self.plan.clone(),
        };
        let head = serde_json::to_vec_pretty(&head).unwrap_or_default();
        let bundle = self.bundle.iter().map(|(name, bytes)| (format!("{BUNDLE}{name}"), bytes.clone()));
        let bytes = tar_of(&bundle.chain([(HEAD.to_owned(), head)]).collect())?;
        let what = format!("save the plan as `{}`", path.display());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let mut file = file.map_err(failed(&what))?;
        file.write_all(&bytes).map_err(failed(&what))?;
        file.persist(path).map(drop).map_err(|error| failed(&what)(error.error))
    }

    /// Reads one; none if the file is something else.
    ///
    /// # Errors
    /// When it cannot be read, or is of another version.
    pub fn open(path: &Path) -> Result<Option<Self>, Failure> {
        let what = format!("read `{}`", path.display());
        if !begins_with(path, HEAD.as_bytes()).map_err(failed(&what))? {
            return Ok(None);
        }
        let bytes = fs::read(path).map_err(failed(&what))?;
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().map_err(failed(&what))? {
            let mut entry = entry.map_err(failed(&what))?;
            let name = entry.path().map_err(failed(&what))?.display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(failed(&what))?;
            files.insert(name, content);
        }
        let head = files.remove(HEAD).unwrap_or_default();
        let version = serde_json::from_slice(&head).map(|Version { version }| version);
        if !matches!(version, Ok(VERSION)) {
            return Err(Failure::new(format!("`{}` is not a plan that this version reads", path.display()))
                .help("plan again, with `--save`"));
        }
        let Head { target, options, plan, .. } =
            serde_json::from_slice(&head).map_err(|error| failed(&what)(io::Error::other(error)))?;
        let bundle = files
            .into_iter()
            .filter_map(|(name, bytes)| Some((name.strip_prefix(BUNDLE)?.to_owned(), bytes)))
            .collect();
        Ok(Some(Self { target, options, plan, bundle }))
    }
}

fn begins_with(path: &Path, start: &[u8]) -> io::Result<bool> {
    let mut found = Vec::new();
    File::open(path)?.take(start.len() as u64 + 1).read_to_end(&mut found)?;
    Ok(found.strip_prefix(start) == Some(b"\0"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_plan_is_what_it_was_and_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web.plan");
        let saved = SavedPlan {
            target: "ssh://web-1".into(),
            options: vec!["--tags=a".into()],
            plan: Plan::default(),
            bundle: BTreeMap::from([
                ("bundle.json".to_owned(), b"{}".to_vec()),
                ("recipes/a/recipe.yaml".to_owned(), vec![b'x'; 2000]),
            ]),
        };
        saved.save(&path).unwrap_or_else(|failure| panic!("{}", failure.message));
        let opened = SavedPlan::open(&path).unwrap_or_else(|failure| panic!("{}", failure.message));
        assert_eq!(opened, Some(saved));
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);

        fs::write(&path, "source: { local: { suite: bookworm } }\n").expect("written");
        assert!(matches!(SavedPlan::open(&path), Ok(None)));
        let newer = tar_of(&BTreeMap::from([(HEAD.to_owned(), b"{\"version\": 2}".to_vec())]));
        fs::write(&path, newer.unwrap_or_default()).expect("written");
        let Err(refused) = SavedPlan::open(&path) else { panic!("it is of another version") };
        assert!(refused.message.contains("is not a plan that this version reads"), "{}", refused.message);
    }
}
