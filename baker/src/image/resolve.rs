//! From what was written to what is baked: recipes found, inputs checked, everything rendered once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recipes::ahead::{check_ahead, running_services};
use recipes::bundle::{self, Contents, with_facts};
use recipes::check::Check;
use recipes::declaration::Wanted;
use recipes::error::{Problem, Problems, did_you_mean};
use recipes::input;
use recipes::loader::Loader;
use recipes::node::Value;
use recipes::recipe::Recipe;
use recipes::resolve::{RecipeUse, resolve};
use recipes::source::Location;
use recipes::system::live::Live;
use recipes::system::{Host, Mode};
use recipes::template::Scope;
use serde_json::{Map, Value as Json};

use super::definition::{Definition, Start, Test};
use super::ec2::{BuilderSettings, PublishSettings};
use super::leaks::AllowedLeak;
use super::source::{Builder, Source};
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
    pub source: Source,
}

/// Everything about the bake of one image that is decided before it begins.
#[derive(Debug, Clone)]
pub struct BakePlan {
    /// The image's name.
    pub name: String,
    /// The file that defines it.
    pub path: PathBuf,
    /// What it is for.
    pub description: String,
    /// The image that it extends.
    pub parent: Option<String>,
    /// The values of its variables.
    pub variables: Map<String, Json>,
    /// What is applied, in order.
    pub recipes: Vec<RecipeUse>,
    /// What is applied at first boot; none if the image has no boot of ours.
    pub boot: Option<Vec<RecipeUse>>,
    /// The units that start only when the boot recipes have been applied.
    pub services: Vec<String>,
    /// What must be seen on the builder.
    pub checks: Vec<Check>,
    /// Files that look like leaks and may be in it, also for those that it extends.
    pub allow_leaks: Vec<AllowedLeak>,
    /// How old the image may become before it is baked again.
    pub max_age: Duration,
    /// What it is baked on.
    pub builder: BuilderSettings,
    /// How it is tested.
    pub test: Option<Test>,
    /// Where it goes.
    pub publish: PublishSettings,
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

    /// The folder of a recipe, and its path in messages.
    pub(super) fn find(&self, name: &str) -> Result<(PathBuf, String), Problem> {
        let own = self.folders.iter().enumerate().find_map(|(number, (folder, shown))| {
            let path = folder.join(name);
            let is_recipe = path.join("recipe.yaml").is_file();
            is_recipe.then(|| (number < self.given, path, format!("{shown}/{name}")))
        });
        // A recipe of others must not take the place of one of ours without anybody noticing, nor ours of theirs.
        match (own, self.vendored.get(name)) {
            (Some((false, _, shown)), Some(vendored)) => {
                return Err(there_twice(name, &shown, &vendored.shown));
            }
            (Some((_, path, shown)), _) => return Ok((path, shown)),
            (None, Some(vendored)) => return Ok((vendored.folder.clone(), vendored.shown.clone())),
            (None, None) => {}
        }
        let mut names: Vec<String> = self.folders.iter().flat_map(|(folder, _)| names(folder)).collect();
        names.extend(self.vendored.keys().cloned());
        names.sort();
        names.dedup();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Err(Problem::new(format!("there is no recipe `{name}`")).help(did_you_mean(name, &names)))
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
pub(super) fn shown(path: &Path) -> String {
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
                Start::Source(found) => source = Some(found.clone()),
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
        let find = |name: &str| lookup.find(name);
        let mut loader = Loader::new(&find);
        let builders = source.builders();
        let mut settings = BuilderSettings::default();
        let mut allowed = Vec::new();
        let images = definitions
            .into_iter()
            .enumerate()
            .filter_map(|(stage, mut definition)| {
                settings = definition.builder.take().unwrap_or_else(|| settings.clone());
                definition.builder = Some(settings.clone());
                // What is in an image is in those that extend it.
                allowed.append(&mut definition.allow_leaks);
                definition.allow_leaks.clone_from(&allowed);
                problems.keep(BakePlan::resolve(definition, stage, &lookup, &mut loader, &builders))
            })
            .collect();
        problems.unless_any(Self { images, source })
    }

    /// The recipes of all its images, as a bundle.
    ///
    /// # Errors
    /// When a file of a recipe cannot be read.
    pub fn bundle(&self) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
        bundle_of(self.images.iter())
    }

    /// The image that was asked for.
    pub fn image(&self) -> Option<&BakePlan> {
        self.images.last()
    }
}

/// The recipes of images, each of which extends the one before it, as a bundle.
pub(crate) fn bundle_of<'a>(
    images: impl Iterator<Item = &'a BakePlan>,
) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let uses: Vec<RecipeUse> = images.flat_map(|image| image.recipes.clone()).collect();
    bundle::pack(&Contents { mode: Mode::Bake, uses: &uses, checks: &[], services: &[] })
}

impl BakePlan {
    fn resolve(
        definition: Definition,
        stage: usize,
        lookup: &Lookup,
        loader: &mut Loader<'_>,
        builders: &[Builder],
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut found = |wanted: &[Wanted]| -> Vec<RecipeUse> {
            wanted.iter().filter_map(|wanted| problems.keep(recipe_use(wanted, stage, loader))).collect()
        };
        let mut recipes = found(&definition.recipes);
        let boot = definition.boot.as_deref().map(&mut found);
        let scope = |host: &Host| with_facts(&Scope::new(Map::new()), host);
        let mut services = Vec::new();
        for builder in builders {
            // Which facts a live host will have is known, and not what they will be.
            let live = builder.host(Mode::Live);
            let ahead = scope(&Host { live: Some(Live::default()), ..live.clone() });
            for used in boot.iter().flatten() {
                problems.keep(check_ahead(used, &ahead));
                services.extend(problems.keep(running_services(used, &scope(&live))).unwrap_or_default());
            }
        }
        services.sort();
        services.dedup();
        if boot.is_some() {
            // First: what looks at the image as it has become is written last.
            recipes.splice(0..0, problems.keep(recipe_use(&agent_recipe(&services)?, stage, loader)));
        }
        problems.clone().unless_any(())?;
        for builder in builders {
            problems.keep(resolve(&recipes, &scope(&builder.host(Mode::Bake))));
        }
        let all =
            recipes.iter().chain(boot.iter().flatten()).flat_map(|used| used.recipe.all().into_values());
        let vendored = all
            .filter_map(|recipe| {
                let found = lookup.vendored.values().find(|vendored| vendored.shown == recipe.origin)?;
                Some((recipe.origin.clone(), found.provenance.clone()))
            })
            .collect();
        problems.unless_any(Self {
            name: definition.name,
            path: definition.path,
            description: definition.description,
            parent: match definition.start {
                Start::Extends(parent, _) => Some(parent),
                Start::Source(_) => None,
            },
            variables: definition.variables,
            recipes,
            boot,
            services,
            checks: definition.checks,
            allow_leaks: definition.allow_leaks,
            max_age: definition.max_age,
            builder: definition.builder.unwrap_or_default(),
            test: definition.test,
            publish: definition.publish,
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

pub(super) fn recipe_use(
    wanted: &Wanted,
    stage: usize,
    loader: &mut Loader<'_>,
) -> Result<RecipeUse, Problems> {
    let recipe = loader.load(&wanted.name, Some(&wanted.at))?;
    if let Some(secret) = recipe.inputs.iter().find(|input| input.secret) {
        let problem = Problem::new(format!("`{}` has the secret input `{}`", recipe.name, secret.name));
        let help = "neither an image definition nor a command line keeps secrets: `include` the recipe from a boot recipe, which can give it one of `secrets`";
        return Err(problem.at(&wanted.at).help(help).into());
    }
    let noun = format!("input of `{}`", recipe.name);
    let inputs = input::resolve(&recipe.inputs, &wanted.inputs, &wanted.at, &noun)?;
    Ok(RecipeUse { recipe, inputs, stage, at: Some(wanted.at.clone()) })
}

/// Recipes as they are recorded: with where they came from, their inputs, and the recipes that they include.
pub(crate) fn recorded(uses: &[RecipeUse], vendored: &BTreeMap<String, Provenance>) -> Json {
    let record = |recipe: &Recipe| {
        let mut record = serde_json::json!({ "recipe": recipe.name, "origin": recipe.origin });
        if let Some(provenance) = vendored.get(&recipe.origin) {
            record["vendored"] = serde_json::json!(provenance);
        }
        record
    };
    uses.iter()
        .map(|used| {
            let mut recorded = record(&used.recipe);
            recorded["inputs"] = Json::Object(used.inputs.clone());
            let included = used.recipe.all().into_values().filter(|recipe| recipe.name != used.recipe.name);
            let included: Vec<Json> = included.map(record).collect();
            if !included.is_empty() {
                recorded["includes"] = Json::Array(included);
            }
            recorded
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use recipes::plan::{Guards, plan};
    use recipes::system::fake::Fake;

    use super::*;

    /// What recipes need and none makes, for every host of the distributions has it.
    const DIRECTORIES: [&str; 3] = ["/etc/default", "/etc/systemd", "/etc/systemd/system"];
    const FILES: [&str; 3] = ["/etc/adduser.conf", "/etc/default/useradd", "/etc/login.defs"];

    /// On machines in memory with the facts of each builder, also of those that tests cannot launch.
    #[test]
    fn every_shipped_image_can_be_planned_on_each_of_its_builders() {
        let cache = tempfile::tempdir().expect("a folder");
        let mut planned = 0;
        for entry in fs::read_dir("../images").expect("images") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                continue;
            }
            // What vendors publish is named when an image is baked.
            let given = [("url", "https://example.com/archive".to_owned()), ("sha256", "0".repeat(64))];
            let given = given.map(|(name, value)| (name.to_owned(), value)).into();
            let chain = Chain::load(&path, &given, &[], cache.path());
            let chain = chain.unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
            for builder in chain.source.builders() {
                let host = builder.host(Mode::Bake);
                let scope = with_facts(&Scope::new(Map::new()), &host);
                let mut fake = Fake::with_host(host);
                DIRECTORIES.iter().for_each(|path| fake.directory(path));
                FILES.iter().for_each(|path| fake.file(path, ""));
                for image in &chain.images {
                    let resolved = resolve(&image.recipes, &scope).expect("it is resolved");
                    let plan = plan(&resolved, &fake, Guards::Skip);
                    let plan = plan.unwrap_or_else(|error| panic!("{} {builder:?}: {error}", path.display()));
                    assert!(image.recipes.is_empty() || !plan.is_empty(), "{} {builder:?}", path.display());
                }
                planned += 1;
            }
        }
        assert!(planned >= 7, "{planned}");
    }
}
