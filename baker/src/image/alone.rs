//! A recipe alone, as an image that nobody bakes: it is planned and applied as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recipes::declaration::Wanted;
use recipes::error::Problems;
use recipes::loader::Loader;
use recipes::node::{Key, Node};
use recipes::source::{Location, Source as Text};
use serde_json::Map;

use super::ec2::{BuilderSettings, PublishSettings};
use super::resolve::{BakePlan, Chain, Lookup, recipe_use, shown};
use super::source::{LocalSource, Source, Suite};

/// A recipe, as somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By its folder.
    Folder(PathBuf),
    /// By its name, as an image definition names it.
    Name(String),
}

impl Chain {
    /// A recipe alone, with its inputs. Where no host is named it is planned on Debian 12.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub fn of_recipe(
        named: &Named,
        inputs: Vec<(Key, Node)>,
        recipes: &[PathBuf],
        cache: &Path,
    ) -> Result<Self, Problems> {
        let (name, folder) = match named {
            Named::Name(name) => (name.clone(), None),
            Named::Folder(path) => {
                // Of `.` only the whole path has a name.
                let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (name, Some((path.clone(), shown(path))))
            }
        };
        // Recipes that it includes are beside it, or where those of an image in this folder are.
        let beside = folder.as_ref().map(|(path, _)| path.join(".."));
        let folders: Vec<PathBuf> = recipes.iter().cloned().chain(beside).collect();
        let lookup = Lookup::new(&folders, Path::new("recipe"), cache)?;
        let find = |wanted: &str| match &folder {
            Some(folder) if wanted == name => Ok(folder.clone()),
            _ => lookup.find(wanted),
        };
        let text = Arc::new(Text { name: "(command line)".into(), text: name.clone() });
        let wanted = Wanted { name: name.clone(), at: Location::new(&text, 0, name.len()), inputs };
        let used = recipe_use(&wanted, 0, &mut Loader::new(&find))?;
        let source = LocalSource { suite: Suite::Bookworm, include: Vec::new() };
        let image = BakePlan {
            // A run is called by it, and a host by the run.
            name: name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
                .collect(),
            path: folder.map_or_else(|| PathBuf::from(&name), |(path, _)| path),
            description: used.recipe.description.clone(),
            parent: None,
            variables: Map::new(),
            recipes: vec![used],
            boot: None,
            services: Vec::new(),
            checks: Vec::new(),
            allow_leaks: Vec::new(),
            max_age: Duration::ZERO,
            builder: BuilderSettings::default(),
            test: None,
            publish: PublishSettings::default(),
            vendored: BTreeMap::new(),
        };
        Ok(Self { images: vec![image], source: Source { local: Some(source), ec2: None } })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use recipes::bundle::MANIFEST;

    use super::*;

    fn loaded(named: &Named, folder: &Path) -> Result<Chain, Problems> {
        Chain::of_recipe(named, Vec::new(), &[], &folder.join("cache"))
    }

    #[test]
    fn a_recipe_is_found_by_its_folder_with_those_beside_it_or_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |recipe: &str, text: &str| {
            let path = folder.path().join(recipe);
            fs::create_dir_all(&path).expect("made");
            fs::write(path.join("recipe.yaml"), text).expect("written");
            Named::Folder(path)
        };
        // One of the library has this name, too: the folder that is named is the one that is meant.
        let sshd = write("sshd", "resources:\n  - include: Web_Site\n");
        write("Web_Site", "resources: []\n");
        let chain = loaded(&sshd, folder.path()).expect("valid");
        let bundle = chain.images[0].bundle().expect("packed");
        let names: Vec<&str> = bundle.keys().map(String::as_str).collect();
        assert_eq!(names, [MANIFEST, "recipes/Web_Site/recipe.yaml", "recipes/sshd/recipe.yaml"]);
        let site = loaded(&Named::Folder(folder.path().join("Web_Site/.")), folder.path()).expect("valid");
        assert_eq!(site.images[0].name, "web-site");

        let of_library = loaded(&Named::Name("sshd".into()), folder.path()).expect("valid");
        assert!(of_library.images[0].bundle().expect("packed").len() > 2);
        let missing = loaded(&Named::Name("sshdd".into()), folder.path()).expect_err("there is none");
        assert!(
            missing.to_string().contains("there is no recipe `sshdd`; did you mean `sshd`?"),
            "{missing}"
        );
    }

    #[test]
    fn what_a_recipe_needs_to_be_told_is_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("site");
        fs::create_dir(&path).expect("made");
        let problem = |text: &str| {
            fs::write(path.join("recipe.yaml"), text).expect("written");
            loaded(&Named::Folder(path.clone()), folder.path()).expect_err("not valid").to_string()
        };
        let inputs = "inputs: { port: { type: integer, description: where it listens } }\nresources: []\n";
        insta::assert_snapshot!(problem(inputs), @"(command line):1:1: the input of `site` `port` is required; it is: where it listens");
        let secret = "inputs: { key: { type: string, secret: true } }\nresources: []\n";
        insta::assert_snapshot!(problem(secret), @"(command line):1:1: `site` has the secret input `key`; neither an image definition nor a command line keeps secrets: `include` the recipe from a boot recipe, which can give it one of `secrets`");
    }
}
