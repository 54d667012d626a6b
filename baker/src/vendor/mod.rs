//! Recipes of others.
//!
//! `recipes/vendor.yaml` says where they come from. `baker vendor` fetches them into `recipes/vendor/`, with
//! a lock that has the commit of each source and the digest of each file. Everything else looks only at that
//! folder, never at a network, and refuses one that differs from its lock.

mod declared;
mod folder;
mod git;
mod lock;
mod update;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use recipes::error::{Problem, Problems};
use serde::{Deserialize, Serialize};

use declared::Declared;
use folder::Folder;
use lock::Lock;
pub use update::{Change, Outcome, Refresh, VendorError, vendor};

/// The name of the file, in a folder of recipes, that says where recipes of others come from.
pub const DECLARED: &str = "vendor.yaml";

/// The name of the folder, beside it, that has them.
const VENDOR: &str = "vendor";

/// What to do when `vendor` and `vendor.yaml` disagree.
const RUN: &str = "run `baker vendor`";

/// A recipe of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendored {
    /// Its folder.
    pub folder: PathBuf,
    /// How the folder is shown in messages.
    pub shown: String,
    /// Where it came from.
    pub provenance: Provenance,
}

/// Where a recipe of others came from, for the manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The name of the source in `vendor.yaml`.
    pub source: String,
    /// The address of the repository, or the path of the folder.
    pub from: String,
    /// The commit; none of a folder.
    pub commit: Option<String>,
    /// `sha256:` and the digest of its files.
    pub digest: String,
}

/// The recipes of others in a folder of recipes, each by its name, once all of them are what their lock says.
///
/// # Errors
/// Everything that differs: between `vendor.yaml` and the lock, and between the lock and the files.
pub fn verify(recipes: &Path, shown: &str) -> Result<BTreeMap<String, Vendored>, Problems> {
    let (declared, lock) = (Declared::load(recipes, shown)?, Lock::read(recipes, shown)?);
    let folder = recipes.join(VENDOR);
    let shown_folder = format!("{shown}/{VENDOR}");
    let (declared, lock) = match (declared, lock) {
        (None, None) => return Ok(BTreeMap::new()),
        (None, Some(_)) => {
            let problem = Problem::new(format!("`{shown_folder}` is there, and `{shown}/{DECLARED}` is not"));
            return Err(problem
                .help(format!("write `{shown}/{DECLARED}`, or remove `{shown_folder}`"))
                .into());
        }
        (Some(_), None) => {
            let problem = Problem::new(format!("what `{shown}/{DECLARED}` names has not been fetched"));
            return Err(problem.help(format!("{RUN}, and commit `{shown_folder}`")).into());
        }
        (Some(declared), Some(lock)) => (declared, lock),
    };
    let mut problems = Problems::new();
    for source in &declared {
        match lock.sources.get(&source.name) {
            Some(locked) if locked.source == source.source => {}
            Some(_) => problems.push(
                Problem::new(format!("`{}` was changed since it was fetched", source.name))
                    .at(&source.at)
                    .help(RUN),
            ),
            None => problems.push(
                Problem::new(format!("`{}` has not been fetched", source.name)).at(&source.at).help(RUN),
            ),
        }
    }
    for name in lock.sources.keys().filter(|name| !declared.iter().any(|source| source.name == **name)) {
        let message = format!("`{shown_folder}/{name}` is there, and `{shown}/{DECLARED}` does not name it");
        problems.push(Problem::new(message).help(RUN));
    }
    problems.keep(lock.compare(&folder, &shown_folder));
    problems.clone().unless_any(())?;
    lock.owners()?;
    let mut vendored = BTreeMap::new();
    for (source, locked) in &lock.sources {
        for (name, recipe) in &locked.recipes {
            let provenance = Provenance {
                source: source.clone(),
                from: locked.source.from.to_string(),
                commit: locked.commit.clone(),
                digest: recipe.digest.clone(),
            };
            let (folder, shown) = (folder.join(source).join(name), format!("{shown_folder}/{source}/{name}"));
            vendored.insert(name.clone(), Vendored { folder, shown, provenance });
        }
    }
    Ok(vendored)
}
