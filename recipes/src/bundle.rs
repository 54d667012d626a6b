//! The bundle: what goes to a host, or stays in an image for its first boot.
//!
//! It is a folder, sent as a tar: `bundle.json` and the recipes as they were written, under
//! `recipes/NAME/`. Recipes travel unresolved, because facts are known only on the host, and with the
//! path they were written at, so that an error on the host points into the file that its author knows.
//! No secret is ever in one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::check::Check;
use crate::error::{Problem, Problems};
use crate::loader::Loader;
use crate::op::hex;
use crate::recipe::Recipe;
use crate::resolve::{RecipeUse, Resolved, resolve};
use crate::system::{Host, Mode};
use crate::template::Scope;

/// The version of the format. A bundle of another version is refused.
pub const SCHEMA: u32 = 1;

/// The name of the file that describes a bundle.
pub const MANIFEST: &str = "bundle.json";

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What a run of it is for.
    pub mode: Mode,
    /// What is applied, in order.
    pub recipes: Vec<Entry>,
    /// Where the recipes were written that these include, by their names, for messages.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub included: BTreeMap<String, String>,
    /// What must be seen afterwards.
    pub checks: Vec<Check>,
    /// The units that start only when it has been applied.
    pub services: Vec<String>,
    /// The SHA-256 of every other file.
    pub files: BTreeMap<String, String>,
}

/// A recipe in a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name of its folder under `recipes/`.
    pub recipe: String,
    /// Where it was written, for messages.
    pub origin: String,
    /// A value for every input.
    pub inputs: Map<String, Json>,
    /// Which image of a chain wants it.
    #[serde(default)]
    pub stage: usize,
}

/// A bundle that was read and found whole.
#[derive(Debug)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: Manifest,
    uses: Vec<RecipeUse>,
}

/// What a bundle is made of.
#[derive(Debug, Clone)]
pub struct Contents<'a> {
    /// What a run of it is for.
    pub mode: Mode,
    /// What is applied, in order.
    pub uses: &'a [RecipeUse],
    /// What must be seen afterwards.
    pub checks: &'a [Check],
    /// The units that start only when it has been applied.
    pub services: &'a [String],
}

/// The files of a bundle, by path. The same contents are the same bytes.
///
/// # Errors
/// When a file of a recipe cannot be read.
pub fn pack(contents: &Contents<'_>) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let mut files = BTreeMap::new();
    let mut recipes = Vec::new();
    let mut included = BTreeMap::new();
    for used in contents.uses {
        for (name, recipe) in used.recipe.all() {
            for (path, bytes) in recipe.all_files()? {
                files.insert(format!("recipes/{name}/{path}"), bytes);
            }
            included.insert(name.to_owned(), recipe.origin.clone());
        }
        recipes.push(Entry {
            recipe: used.recipe.name.clone(),
            origin: used.recipe.origin.clone(),
            inputs: used.inputs.clone(),
            stage: used.stage,
        });
    }
    included.retain(|name, _| !recipes.iter().any(|entry: &Entry| entry.recipe == *name));
    let manifest = Manifest {
        schema: SCHEMA,
        mode: contents.mode,
        recipes,
        included,
        checks: contents.checks.to_vec(),
        services: contents.services.to_vec(),
        files: files.iter().map(|(path, bytes)| (path.clone(), sha256(bytes))).collect(),
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(|error| Problem::new(error.to_string()))?;
    files.insert(MANIFEST.to_owned(), json);
    Ok(files)
}

impl Bundle {
    /// Opens a bundle's folder.
    ///
    /// # Errors
    /// When it is of another version, a file differs from what it says, or a recipe in it is not valid.
    pub fn open(folder: &Path) -> Result<Self, Problems> {
        let path = folder.join(MANIFEST);
        let shown = path.display();
        let bytes =
            fs::read(&path).map_err(|error| Problem::new(format!("failed to read `{shown}`: {error}")))?;
        check_schema(&bytes).map_err(|why| Problem::new(format!("`{shown}` {why}")))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(format!("`{shown}` is not a bundle: {error}")))?;
        for (name, expected) in &manifest.files {
            let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            let found = fs::read(folder.join(name)).map(|bytes| sha256(&bytes));
            match found {
                Ok(found) if inside && found == *expected => {}
                Ok(_) => {
                    return Err(
                        Problem::new(format!("`{name}` in the bundle is not what it was made of")).into()
                    );
                }
                Err(error) => {
                    return Err(
                        Problem::new(format!("failed to read `{name}` in the bundle: {error}")).into()
                    );
                }
            }
        }
        let mut problems = Problems::new();
        let entries = manifest.recipes.iter().map(|entry| (&entry.recipe, &entry.origin));
        let origins: BTreeMap<&String, &String> = manifest.included.iter().chain(entries).collect();
        let find = |name: &str| match origins.get(&name.to_owned()) {
            Some(origin) => Ok((folder.join("recipes").join(name), (*origin).clone())),
            None => Err(Problem::new(format!("the bundle has no recipe `{name}`"))),
        };
        let mut loader = Loader::new(&find);
        let mut uses = Vec::new();
        for entry in &manifest.recipes {
            if let Some(recipe) = problems.keep(loader.load(&entry.recipe, None)) {
                uses.push(RecipeUse { recipe, inputs: entry.inputs.clone(), stage: entry.stage, at: None });
            }
        }
        problems.unless_any(())?;
        Ok(Self { manifest, uses })
    }

    /// The same with a recipe before all others, which has no inputs.
    #[must_use]
    pub fn with_first(mut self, recipe: Arc<Recipe>) -> Self {
        self.uses.insert(0, RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None });
        self
    }

    /// Decides everything about its resources for a host. `scope` has what recipes see besides `facts`
    /// and `inputs`.
    ///
    /// # Errors
    /// Every problem in any recipe.
    pub fn resolve(&self, host: &Host, scope: &Scope) -> Result<Resolved, Problems> {
        resolve(&self.uses, &with_facts(scope, host))
    }
}

/// Values that recipes see, with the facts of a host among them.
pub fn with_facts(scope: &Scope, host: &Host) -> Scope {
    scope.clone().with("facts", serde_json::to_value(host).unwrap_or_default())
}

/// The version comes first: what else is in a bundle of another version is not ours to complain about.
fn check_schema(bytes: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    match serde_json::from_slice::<Version>(bytes) {
        Ok(Version { schema: SCHEMA }) => Ok(()),
        Ok(Version { schema }) => Err(format!(
            "has the version {schema}, and this program knows {SCHEMA}; use programs of one release"
        )),
        Err(error) => Err(format!("is not a bundle: {error}")),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::system::Facts;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn packed() -> BTreeMap<String, Vec<u8>> {
        let example = Example::recipe(
            "
inputs: { name: { type: string } }
resources:
  - template: { path: \"/etc/{{ inputs.name }}\", source: a.tera }
",
        )
        .template("a.tera", "{{ facts.os.id }}\n");
        let recipe = example.load().expect("valid");
        let inputs = Map::from_iter([("name".to_owned(), Json::from("motd"))]);
        let uses = [RecipeUse { recipe, inputs, stage: 0, at: None }];
        let contents = Contents { mode: Mode::Bake, uses: &uses, checks: &[], services: &[] };
        pack(&contents).expect("packed")
    }

    fn unpacked(files: &BTreeMap<String, Vec<u8>>) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        folder
    }

    #[test]
    fn what_is_packed_is_what_is_opened() {
        let folder = unpacked(&packed());
        let bundle = Bundle::open(folder.path()).expect("whole");
        let resolved = bundle.resolve(Fake::debian().host(), &Scope::new(Map::new())).expect("valid");
        let ids: Vec<&str> = resolved.resources().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["example: template /etc/motd"]);
        assert_eq!(
            resolved.resources().next().map(|step| step.at.to_string()).as_deref(),
            Some("example/recipe.yaml:4:5")
        );
        assert_eq!(packed(), packed(), "the same contents are the same bytes");
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let mut files = packed();
        files.insert("recipes/example/templates/a.tera".into(), b"changed".to_vec());
        let error = Bundle::open(unpacked(&files).path()).expect_err("changed").to_string();
        insta::assert_snapshot!(error, @"`recipes/example/templates/a.tera` in the bundle is not what it was made of");
        files.remove("recipes/example/templates/a.tera");
        let error = Bundle::open(unpacked(&files).path()).expect_err("missing").to_string();
        insta::assert_snapshot!(error, @"failed to read `recipes/example/templates/a.tera` in the bundle: No such file or directory (os error 2)");
    }

    #[test]
    fn a_bundle_of_another_version_is_refused_whatever_is_in_it() {
        let files = BTreeMap::from([(MANIFEST.to_owned(), br#"{"schema":2,"new":true}"#.to_vec())]);
        let error = Bundle::open(unpacked(&files).path()).expect_err("another version").to_string();
        assert!(
            error.ends_with("has the version 2, and this program knows 1; use programs of one release"),
            "{error}"
        );
    }

    /// A bundle as the first release wrote it: later ones still read it, or say that they do not.
    #[test]
    fn a_bundle_of_the_first_release_is_read() {
        let text = r#"{"schema":1,"mode":"live","recipes":[],"checks":[{"http":{"url":"http://127.0.0.1/","status":200}},{"service":{"name":"nginx","state":"running","within":"1m"}}],"services":["nginx.service"],"files":{}}"#;
        let files = BTreeMap::from([(MANIFEST.to_owned(), text.as_bytes().to_vec())]);
        let bundle = Bundle::open(unpacked(&files).path()).expect("read");
        assert_eq!(serde_json::to_string(&bundle.manifest).expect("JSON"), text);
    }

    #[test]
    fn recipes_that_are_included_are_in_it_too() {
        let example = Example::resources("- include: site")
            .beside("site", "resources: [ { file: { path: /etc/site, content: x } } ]");
        let recipe = example.load().expect("valid");
        let uses = [RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None }];
        let contents = Contents { mode: Mode::Bake, uses: &uses, checks: &[], services: &[] };
        let mut files = pack(&contents).expect("packed");
        let bundle = Bundle::open(unpacked(&files).path()).expect("whole");
        let resolved = bundle.resolve(Fake::debian().host(), &Scope::new(Map::new())).expect("valid");
        let places: Vec<String> = resolved.resources().map(|step| step.at.to_string()).collect();
        assert_eq!(places, ["site/recipe.yaml:1:16"]);
        let manifest = String::from_utf8(files[MANIFEST].clone()).expect("text");
        files.insert(MANIFEST.into(), manifest.replace("\"site\": \"site\"", "").into_bytes());
        let error = Bundle::open(unpacked(&files).path()).expect_err("unknown").to_string();
        insta::assert_snapshot!(error, @"example/recipe.yaml:2:14: the bundle has no recipe `site`");
    }
}
