//! From what was written to what is baked: recipes found, inputs checked, everything rendered once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recipes::ahead::{check_ahead, running_services};
use recipes::bundle::{self, Contents, with_facts};
use recipes::check::Check;
use recipes::error::{Problem, Problems, did_you_mean};
use recipes::input;
use recipes::node::{Key, Node, Value};
use recipes::recipe::Recipe;
use recipes::resolve::{RecipeUse, resolve};
use recipes::source::Location;
use recipes::system::live::Live;
use recipes::system::{Host, Mode, Os, PackageManager};
use recipes::template::Scope;
use serde_json::{Map, Value as Json};

use super::definition::{Definition, LocalSource, Start, Suite, Wanted};
use crate::library;
use crate::vendor::{self, Provenance, Vendored};

/// The recipe that starts the agent at boot; images with boot recipes get it by themselves.
const AGENT_RECIPE: &str = "bootstrap-agent";

/// An image and what it starts from, the first that is baked first.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Each extends the one before it.
    pub images: Vec<BakePlan>,
    /// What the first one starts from.
    pub source: LocalSource,
}

/// Everything about the bake of one image that is decided before it begins.
#[derive(Debug, Clone)]
pub struct BakePlan {
    /// The image's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The values of its variables.
    pub variables: Map<String, Json>,
    /// What is applied, in order, each with where it was written.
    pub recipes: Vec<(RecipeUse, String)>,
    /// What is applied at first boot; none if the image has no boot of ours.
    pub boot: Option<Vec<(RecipeUse, String)>>,
    /// The units that start only when the boot recipes have been applied.
    pub services: Vec<String>,
    /// What must be seen on the builder.
    pub checks: Vec<Check>,
    /// How old the image may become before it is baked again.
    pub max_age: Duration,
    /// Where the recipes of others among them came from, by where they were written.
    pub vendored: BTreeMap<String, Provenance>,
}

/// Where recipes are looked for.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Folders of recipes, first hit wins, each with how it is shown.
    folders: Vec<(PathBuf, String)>,
    /// How many of them were given, and win over recipes of others.
    given: usize,
    /// The recipes of others, by their names.
    vendored: BTreeMap<String, Vendored>,
}

impl Lookup {
    /// The given folders, then `recipes` and `recipes/library` beside or above the image, then the library
    /// that is in the program, unpacked below `cache`. Each folder but the last may have recipes of
    /// others.
    ///
    /// # Errors
    /// When the library cannot be unpacked, or a recipe of others is not what its lock says.
    pub fn new(given: &[PathBuf], image: &Path, cache: &Path) -> Result<Self, Problems> {
        let mut folders: Vec<PathBuf> = given.to_vec();
        let beside = image.parent().unwrap_or(Path::new(""));
        let above = if beside.as_os_str().is_empty() { PathBuf::from("..") } else { beside.join("..") };
        for folder in [beside, &above] {
            folders.extend([folder.join("recipes"), folder.join("recipes/library")]);
        }
        let mut folders: Vec<(PathBuf, String)> =
            folders.into_iter().map(|folder| (tidy(&folder), shown(&folder))).collect();
        let library = library::unpack(cache)
            .map_err(|error| Problem::new(format!("failed to unpack the library of recipes: {error}")))?;
        let mut problems = Problems::new();
        let mut vendored = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (folder, shown) in folders.iter().filter(|(folder, _)| seen.insert(folder.clone())) {
            for (name, found) in problems.keep(vendor::verify(folder, shown)).unwrap_or_default() {
                let shown = found.shown.clone();
                if let Some(other) = vendored.insert(name.clone(), found) {
                    problems.push(there_twice(&name, &other.shown, &shown));
                }
            }
        }
        folders.push((library, library::SHOWN.into()));
        problems.unless_any(Self { folders, given: given.len(), vendored })
    }

    fn find(&self, wanted: &Wanted) -> Result<(Recipe, String), Problems> {
        let own = self.folders.iter().enumerate().find_map(|(number, (folder, shown))| {
            let path = folder.join(&wanted.name);
            let is_recipe = path.join("recipe.yaml").is_file();
            is_recipe.then(|| (number < self.given, path, format!("{shown}/{}", wanted.name)))
        });
        // A recipe of others must not take the place of one of ours without anybody noticing, nor ours of theirs.
        match (own, self.vendored.get(&wanted.name)) {
            (Some((false, _, shown)), Some(vendored)) => {
                return Err(there_twice(&wanted.name, &shown, &vendored.shown).at(&wanted.at).into());
            }
            (Some((_, path, shown)), _) => return Ok((Recipe::load(&path, &shown)?, shown)),
            (None, Some(vendored)) => {
                return Ok((Recipe::load(&vendored.folder, &vendored.shown)?, vendored.shown.clone()));
            }
            (None, None) => {}
        }
        let mut names: Vec<String> = self.folders.iter().flat_map(|(folder, _)| names(folder)).collect();
        names.extend(self.vendored.keys().cloned());
        names.sort();
        names.dedup();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let problem = Problem::new(format!("there is no recipe `{}`", wanted.name)).at(&wanted.at);
        Err(problem.help(did_you_mean(&wanted.name, &names)).into())
    }
}

fn there_twice(name: &str, one: &str, other: &str) -> Problem {
    Problem::new(format!("the recipe `{name}` is there twice: `{one}` and `{other}`"))
        .help("remove one, or leave it out of `recipes` in `vendor.yaml`; a folder given by `--recipes` comes before both")
}

/// A path without `folder/..` in it.
fn tidy(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as it is shown: `images/../recipes` is `recipes`.
fn shown(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part.as_os_str().to_string_lossy() {
            part if part == ".." && parts.last().is_some_and(|last| last != ".." && last != "/") => {
                parts.pop();
            }
            part => parts.push(part.into_owned()),
        }
    }
    parts.join("/").replace("//", "/")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let recipes = entries.filter(|entry| entry.path().join("recipe.yaml").is_file());
    recipes.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

impl Chain {
    /// Reads an image definition, those it extends, and every recipe, and checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong, each at its place.
    pub fn load(
        path: &Path,
        given: &BTreeMap<String, String>,
        recipes: &[PathBuf],
        cache: &Path,
    ) -> Result<Self, Problems> {
        let lookup = Lookup::new(recipes, path, cache)?;
        let mut definitions = Vec::new();
        let mut next = Some(path.to_owned());
        let mut source = None;
        while let Some(path) = next.take() {
            let definition = Definition::load(&path, given)?;
            match &definition.start {
                Start::Source(found) => source = Some(found.local.clone()),
                Start::Extends(name, at) => {
                    let parent = Definition::beside(&path, name);
                    let around = name == &definition.name
                        || definitions.iter().any(|other: &Definition| other.name == *name);
                    if around {
                        let problem = Problem::new(format!("`{name}` extends, in the end, itself"));
                        return Err(problem.at(at).into());
                    }
                    if !parent.is_file() {
                        let problem = Problem::new(format!("there is no image `{name}`")).at(at);
                        return Err(problem.help(format!("its file would be `{}`", parent.display())).into());
                    }
                    next = Some(parent);
                }
            }
            definitions.push(definition);
        }
        let Some(source) = source else { return Err(Problem::new("the image has no source").into()) };
        definitions.reverse();
        let mut problems = Problems::new();
        let images = definitions
            .into_iter()
            .enumerate()
            .filter_map(|(stage, definition)| {
                problems.keep(BakePlan::resolve(definition, stage, &lookup, source.suite))
            })
            .collect();
        problems.unless_any(Self { images, source })
    }

    /// The image that was asked for.
    pub fn image(&self) -> Option<&BakePlan> {
        self.images.last()
    }
}

impl BakePlan {
    fn resolve(
        definition: Definition,
        stage: usize,
        lookup: &Lookup,
        suite: Suite,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut found = |wanted: &[Wanted]| -> Vec<(RecipeUse, String)> {
            wanted.iter().filter_map(|wanted| problems.keep(recipe_use(wanted, stage, lookup))).collect()
        };
        let mut recipes = found(&definition.recipes);
        let boot = definition.boot.as_deref().map(&mut found);
        let bake = with_facts(&Scope::new(Map::new()), &host(suite, Mode::Bake));
        // Which facts a live host will have is known, and not what they will be.
        let live = host(suite, Mode::Live);
        let ahead =
            with_facts(&Scope::new(Map::new()), &Host { live: Some(Live::default()), ..live.clone() });
        let live = with_facts(&Scope::new(Map::new()), &live);
        let mut services = Vec::new();
        for (used, _) in boot.iter().flatten() {
            problems.keep(check_ahead(used, &ahead));
            services.extend(problems.keep(running_services(used, &live)).unwrap_or_default());
        }
        services.sort();
        services.dedup();
        if boot.is_some() {
            recipes.extend(problems.keep(recipe_use(&agent_recipe(&services)?, stage, lookup)));
        }
        problems.clone().unless_any(())?;
        let uses: Vec<RecipeUse> = recipes.iter().map(|(used, _)| used.clone()).collect();
        problems.keep(resolve(&uses, &bake));
        let origins = recipes.iter().chain(boot.iter().flatten()).map(|(_, origin)| origin);
        let vendored = origins
            .filter_map(|origin| {
                let found = lookup.vendored.values().find(|vendored| vendored.shown == *origin)?;
                Some((origin.clone(), found.provenance.clone()))
            })
            .collect();
        problems.unless_any(Self {
            name: definition.name,
            description: definition.description,
            variables: definition.variables,
            recipes,
            boot,
            services,
            checks: definition.checks,
            max_age: definition.max_age,
            vendored,
        })
    }

    /// The files of the bundle that the builder applies.
    ///
    /// # Errors
    /// When a file of a recipe cannot be read.
    pub fn bundle(&self) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
        bundle::pack(&Contents { mode: Mode::Bake, uses: &self.recipes, checks: &self.checks, services: &[] })
    }

    /// The files of the bundle that stays in the image; none if the image has no boot of ours.
    ///
    /// # Errors
    /// When a file of a recipe cannot be read.
    pub fn boot_bundle(&self) -> Result<Option<BTreeMap<String, Vec<u8>>>, Problem> {
        let Some(uses) = &self.boot else { return Ok(None) };
        let contents = Contents { mode: Mode::Live, uses, checks: &[], services: &self.services };
        bundle::pack(&contents).map(Some)
    }
}

/// The recipe that starts the agent, as if it had been written.
fn agent_recipe(services: &[String]) -> Result<Wanted, Problem> {
    let text = serde_json::json!({ "services": services }).to_string();
    let source = Arc::new(recipes::source::Source { name: "(made by baker)".into(), text });
    let node = recipes::load::parse(&source)?;
    let at = Location::new(&source, 0, 0);
    let inputs = match node.value {
        Value::Map(entries) => entries,
        _ => Vec::new(),
    };
    Ok(Wanted { name: AGENT_RECIPE.into(), at, inputs })
}

fn recipe_use(wanted: &Wanted, stage: usize, lookup: &Lookup) -> Result<(RecipeUse, String), Problems> {
    let (recipe, origin) = lookup.find(wanted)?;
    let given: &[(Key, Node)] = &wanted.inputs;
    let inputs = input::resolve(&recipe.inputs, given, &wanted.at, &format!("input of `{}`", recipe.name))?;
    Ok((RecipeUse { recipe: Arc::new(recipe), inputs, stage }, origin))
}

/// What the builder of a suite will be, as far as recipes may ask before it exists.
fn host(suite: Suite, mode: Mode) -> Host {
    Host {
        os: Os {
            name: format!("Debian GNU/Linux {} ({})", suite.version(), suite.codename()),
            id: "debian".into(),
            family: "debian".into(),
            like: Vec::new(),
            version: suite.version().into(),
            codename: suite.codename().into(),
        },
        arch: std::env::consts::ARCH.into(),
        container: true,
        systemd: true,
        package_manager: PackageManager::Apt,
        mode,
        live: None,
    }
}

/// Recipes as they are recorded: with where they came from, and their inputs.
pub(crate) fn recorded(uses: &[(RecipeUse, String)], vendored: &BTreeMap<String, Provenance>) -> Json {
    uses.iter()
        .map(|(used, origin)| {
            let mut record =
                serde_json::json!({ "recipe": used.recipe.name, "origin": origin, "inputs": used.inputs });
            if let Some(provenance) = vendored.get(origin) {
                record["vendored"] = serde_json::json!(provenance);
            }
            record
        })
        .collect()
}
