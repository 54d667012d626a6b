//! A recipe applied to a host by the host's agent, from a bundle, as a bake does it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use baker::bake::AGENT;
use recipes::bundle::{Contents, pack};
use recipes::event::{Event, Outcome};
use recipes::recipe::Recipe;
use recipes::resolve::RecipeUse;
use recipes::system::Mode;
use serde_json::Map;
use tempfile::TempDir;

use crate::binaries::project;
use crate::host::Host;

/// How a run of `bootstrap-agent apply` ended, and what it told meanwhile.
#[derive(Debug)]
pub struct Applied {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What happened.
    pub events: Vec<Event>,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Host {
    /// Puts a recipe with this `recipe.yaml` on the disk, as a bundle of this name, and returns the bundle's path.
    /// The recipe itself is called `probe`. It may include those of the library.
    ///
    /// # Errors
    /// When the recipe is not valid, or the disk cannot be written.
    pub fn put(&self, name: &str, recipe: &str) -> io::Result<String> {
        let bundle = format!("/srv/bundles/{name}");
        write_bundle(&self.disk().tree().join(bundle.trim_start_matches('/')), "probe", recipe, &[])?;
        Ok(bundle)
    }

    /// Applies a bundle. Words may be put before the agent's, to run it with another program.
    ///
    /// # Errors
    /// When it cannot be run, or tells what is no event.
    pub fn apply(&self, before: &[&str], bundle: &str) -> io::Result<Applied> {
        let output = self.run(&[before, &[AGENT, "apply", "--format", "json", bundle]].concat())?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        // Who is killed may not have written its last line to the end.
        let events = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| {
            serde_json::from_str(line).map_err(|error| io::Error::other(format!("{error}: {line}")))
        });
        Ok(Applied {
            code: output.status.code(),
            events: events.collect::<io::Result<_>>()?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Writes a bundle of one recipe of a name, which may include those of the library, into a folder. `services` are the units that start only when it has been
/// applied.
///
/// # Errors
/// When the recipe is not valid, or the folder cannot be written.
pub fn write_bundle(to: &Path, name: &str, recipe: &str, services: &[String]) -> io::Result<()> {
    let folder = TempDir::with_prefix("recipe-")?;
    let folder = folder.path().join(name);
    fs::create_dir(&folder)?;
    fs::write(folder.join("recipe.yaml"), recipe)?;
    for library in fs::read_dir(project().join("recipes/library"))?.flatten() {
        symlink(library.path(), folder.with_file_name(library.file_name()))?;
    }
    let loaded = Recipe::load(&folder, name).map_err(|problems| io::Error::other(problems.to_string()))?;
    let used = RecipeUse { recipe: loaded, inputs: Map::new(), stage: 0, at: None };
    let contents = Contents { mode: Mode::Live, uses: &[used], checks: &[], services };
    for (path, bytes) in pack(&contents).map_err(io::Error::other)? {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

impl Applied {
    /// Why it failed: the resource, the cause, the place and the advice, in one line.
    pub fn failure(&self) -> Option<String> {
        self.events.iter().find_map(|event| match event {
            Event::RunFailed { resource, error, at, help } => {
                let place = at.as_ref().map_or_else(String::new, |at| format!("{at}: "));
                let resource = resource.as_ref().map_or_else(String::new, |resource| format!("{resource}: "));
                let help = help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
                Some(format!("{place}{resource}{error}{help}"))
            }
            _ => None,
        })
    }

    /// The resources that it changed.
    pub fn changed(&self) -> BTreeSet<&str> {
        let changed = self.events.iter().filter_map(|event| match event {
            Event::ResourceFinished { resource, outcome: Outcome::Changed } => Some(resource.as_str()),
            _ => None,
        });
        changed.collect()
    }
}
