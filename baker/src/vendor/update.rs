//! `baker vendor`: fetches recipes of others, and puts all of them in place or none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::unistd::syncfs;
use recipes::error::{Problem, Problems, did_you_mean};
use serde::Serialize;

use super::declared::{Place, Reference};
use super::folder::{RECIPE, choose};
use super::git::Git;
use super::lock::LockedSource;
use super::{DECLARED, Declared, Folder, Lock, VENDOR};
use crate::failure::{Failure, failed};

/// What is made beside `vendor` before it takes its place. One name, so that a run which was killed leaves
/// nothing that the next one does not remove.
const PARTIAL: &str = ".vendor.partial";

/// Which sources are looked up anew; the others stay at the commit that the lock has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// Those that are not in the lock as they are written.
    Needed,
    /// All.
    All,
    /// Those of these names.
    These(Vec<String>),
}

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub source: String,
    /// The commit that its recipes are of; none of a folder.
    pub commit: Option<String>,
    /// The commit that they were of before; none if it is new, or a folder.
    pub was: Option<String>,
    /// The names of its recipes.
    pub recipes: Vec<String>,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it was.
    Unchanged,
    /// It had been changed here, and is again what the lock says.
    Restored,
    /// It is new, or another than before.
    Fetched,
}

/// Why there is no new folder. The old one is as it was.
#[derive(Debug)]
pub enum VendorError {
    /// Something that was written is wrong.
    Written(Problems),
    /// Something could not be done.
    Failed(Failure),
}

impl<T: Into<Problems>> From<T> for VendorError {
    fn from(problems: T) -> Self {
        Self::Written(problems.into())
    }
}

/// Fetches what `vendor.yaml` in a folder of recipes names, and writes the lock. `environment` are variables
/// for git.
///
/// # Errors
/// Says which source cannot be had and why; nothing was changed then.
pub async fn vendor(
    recipes: &Path,
    shown: &str,
    refresh: &Refresh,
    environment: &[(String, String)],
) -> Result<Vec<Change>, VendorError> {
    let Some(declared) = Declared::load(recipes, shown)? else {
        return Err(Problem::new(format!("there is no `{shown}/{DECLARED}`"))
            .help("it says where recipes of others come from, such as `acme: { git: \"https://git.example.com/acme.git\", tag: v1.0 }`")
            .into());
    };
    if let Refresh::These(wanted) = refresh {
        let names: Vec<&str> = declared.iter().map(|source| source.name.as_str()).collect();
        if let Some(name) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
            let problem = Problem::new(format!("there is no source `{name}` in `{shown}/{DECLARED}`"));
            return Err(problem.help(did_you_mean(name, &names)).into());
        }
    }
    let _lock = alone(recipes, shown).map_err(VendorError::Failed)?;
    let before = Lock::read(recipes, shown)?.map(|lock| lock.sources).unwrap_or_default();
    let partial = Partial::begin(recipes).map_err(VendorError::Failed)?;
    let mut sources = BTreeMap::new();
    let mut changes = Vec::new();
    for source in &declared {
        let locked = before.get(&source.name);
        let is_kept = match refresh {
            Refresh::Needed => true,
            Refresh::All => false,
            Refresh::These(names) => !names.contains(&source.name),
        };
        let kept = locked.filter(|locked| is_kept && locked.source == source.source);
        let mut work = Work { recipes, shown, partial: &partial, environment };
        let Fetched { commit, folders, outcome } = match kept {
            Some(locked) => work.keep(source, locked).await,
            None => work.fetch(source, locked).await,
        }
        .map_err(|failure| at(source, failure))?;
        for (name, folder) in &folders {
            folder
                .write(&partial.vendor().join(&source.name).join(name))
                .map_err(failed(format!("write `{shown}/{VENDOR}/{}/{name}`", source.name)))
                .map_err(VendorError::Failed)?;
        }
        let now = LockedSource {
            source: source.source.clone(),
            commit,
            recipes: folders.iter().map(|(name, folder)| (name.clone(), folder.locked())).collect(),
        };
        changes.push(Change {
            source: source.name.clone(),
            commit: now.commit.clone(),
            was: locked.and_then(|locked| locked.commit.clone()),
            recipes: now.recipes.keys().cloned().collect(),
            outcome: if locked == Some(&now) { outcome } else { Outcome::Fetched },
        });
        sources.insert(source.name.clone(), now);
    }
    let lock = Lock::new(sources);
    lock.owners()?;
    partial.finish(&lock, recipes, shown).map_err(VendorError::Failed)?;
    Ok(changes)
}

/// A failure at the place where its source is written.
fn at(source: &Declared, failure: Failure) -> VendorError {
    let problem = Problem::new(format!("`{}`: {}", source.name, failure.message)).at(&source.at);
    match failure.help {
        Some(help) => problem.help(help).into(),
        None => problem.into(),
    }
}

/// What fetching a source needs to know.
struct Work<'a> {
    recipes: &'a Path,
    shown: &'a str,
    partial: &'a Partial,
    environment: &'a [(String, String)],
}

/// Recipes by their names, and the commit that they are of if it is a repository that they came from.
struct Fetched {
    commit: Option<String>,
    folders: BTreeMap<String, Folder>,
    outcome: Outcome,
}

impl Work<'_> {
    /// What the lock says: as it is here if nobody touched it, else fetched again.
    async fn keep(&mut self, source: &Declared, locked: &LockedSource) -> Result<Fetched, Failure> {
        let here: Option<BTreeMap<String, Folder>> = locked
            .recipes
            .keys()
            .map(|name| {
                let path = self.recipes.join(VENDOR).join(&source.name).join(name);
                Folder::read(&path, self.shown).ok().map(|folder| (name.clone(), folder))
            })
            .collect();
        let is_locked = |folders: &BTreeMap<String, Folder>| {
            folders.len() == locked.recipes.len()
                && folders.iter().all(|(name, folder)| locked.recipes.get(name) == Some(&folder.locked()))
        };
        if let Some(here) = here.filter(is_locked) {
            let commit = locked.commit.clone();
            return Ok(Fetched { commit, folders: here, outcome: Outcome::Unchanged });
        }
        let folders = match (&source.source.from, &locked.commit) {
            (Place::Git { url, path, .. }, Some(commit)) => {
                let reference = Reference::Commit(commit.clone());
                self.of_git(source, url, &reference, path).await?.1
            }
            _ => self.fetch(source, None).await?.folders,
        };
        if is_locked(&folders) {
            return Ok(Fetched { commit: locked.commit.clone(), folders, outcome: Outcome::Restored });
        }
        Err(Failure::new("what is there now is not what the lock says").help(format!(
            "`baker vendor --update {}` takes it as it is now; review the difference",
            source.name
        )))
    }

    /// What is there now.
    async fn fetch(&mut self, source: &Declared, locked: Option<&LockedSource>) -> Result<Fetched, Failure> {
        let wanted = source.source.recipes.as_deref();
        match &source.source.from {
            Place::Git { url, reference, path } => {
                let (commit, folders) = self.of_git(source, url, reference, path).await?;
                if let (Reference::Tag(_), Some(locked)) = (reference, locked)
                    && let Place::Git { url: was_url, reference: was, .. } = &locked.source.from
                    && (was_url, was) == (url, reference)
                    && let Some(was) = locked.commit.as_ref().filter(|was| **was != commit)
                {
                    return Err(Failure::new(format!("{reference} was moved from {was} to {commit}"))
                        .help("a tag stands for one commit; if its owner meant to move it, write `commit` in its place"));
                }
                Ok(Fetched { commit: Some(commit), folders, outcome: Outcome::Unchanged })
            }
            Place::Folder { path } => {
                let folders = of_folder(&self.recipes.join(path), path, wanted, &source.name)?;
                Ok(Fetched { commit: None, folders, outcome: Outcome::Unchanged })
            }
        }
    }

    async fn of_git(
        &mut self,
        source: &Declared,
        url: &str,
        reference: &Reference,
        path: &str,
    ) -> Result<(String, BTreeMap<String, Folder>), Failure> {
        let git = Git::init(&self.partial.0.join(format!("{}.git", source.name)), self.environment).await?;
        let commit = git.fetch(url, reference).await?;
        let recipes = git.recipes(&commit, path, source.source.recipes.as_deref(), &source.name).await?;
        Ok((commit, recipes))
    }
}

/// The recipes in a folder of this machine.
fn of_folder(
    folder: &Path,
    shown: &Path,
    wanted: Option<&[String]>,
    source: &str,
) -> Result<BTreeMap<String, Folder>, Failure> {
    let shown = shown.display().to_string();
    if folder.join(RECIPE).is_file() {
        let name = choose(&[source.to_owned()], wanted, source)?.remove(0);
        return Ok(BTreeMap::from([(name, Folder::read(folder, &shown)?)]));
    }
    let mut there = Vec::new();
    let what = format!("read the folder `{shown}`");
    for entry in fs::read_dir(folder).map_err(failed(&what))? {
        let entry = entry.map_err(failed(&what))?;
        if entry.path().join(RECIPE).is_file() {
            there.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    there.sort();
    let mut recipes = BTreeMap::new();
    for name in choose(&there, wanted, source)? {
        let read = Folder::read(&folder.join(&name), &format!("{shown}/{name}"))?;
        recipes.insert(name, read);
    }
    Ok(recipes)
}

/// Makes this the only run that changes the folder.
fn alone(recipes: &Path, shown: &str) -> Result<Flock<fs::File>, Failure> {
    let file =
        fs::File::open(recipes.join(DECLARED)).map_err(failed(format!("open `{shown}/{DECLARED}`")))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Failure::new(format!("another `baker vendor` is changing `{shown}/{VENDOR}`")))
}

/// The folder in which everything is made; it is gone when this is.
struct Partial(PathBuf);

impl Partial {
    fn begin(recipes: &Path) -> Result<Self, Failure> {
        let partial = Self(recipes.join(PARTIAL));
        partial.remove().map_err(failed(format!("remove `{}`", partial.0.display())))?;
        let vendor = partial.vendor();
        fs::create_dir_all(&vendor).map_err(failed(format!("make `{}`", vendor.display())))?;
        Ok(partial)
    }

    fn vendor(&self) -> PathBuf {
        self.0.join(VENDOR)
    }

    /// Puts the new folder in place of the old one, at once.
    fn finish(self, lock: &Lock, recipes: &Path, shown: &str) -> Result<(), Failure> {
        let what = format!("put what was fetched into `{shown}/{VENDOR}`");
        let (new, place) = (self.vendor(), recipes.join(VENDOR));
        lock.write(&new).map_err(failed(&what))?;
        let folder = fs::File::open(recipes).map_err(failed(&what))?;
        syncfs(&folder).map_err(failed(&what))?;
        let flags = if place.exists() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::empty() };
        renameat2(AT_FDCWD, &new, AT_FDCWD, &place, flags).map_err(failed(&what))?;
        folder.sync_all().map_err(failed(&what))
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = self.remove();
    }
}
