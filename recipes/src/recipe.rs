//! A recipe as it is written: a folder with `recipe.yaml`, `templates/` and `files/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::declaration::{Declaration, Wanted, What};
use crate::error::{Problem, Problems, did_you_mean};
use crate::input::Input;
use crate::load;
use crate::loader::Loader;
use crate::node::{Key, Node, Value};
use crate::source::Source;
use crate::template::Templates;

/// A recipe, checked as far as it can be without values.
#[derive(Debug)]
pub struct Recipe {
    /// The name of its folder.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it can be told.
    pub inputs: Vec<Input>,
    /// Where it is, as messages show it.
    pub origin: String,
    pub(crate) vars: Vec<(Key, Node)>,
    pub(crate) resources: Vec<Declaration>,
    pub(crate) handlers: Vec<(Key, Declaration)>,
    pub(crate) on_error: Vec<Declaration>,
    pub(crate) included: BTreeMap<String, Arc<Recipe>>,
    templates: Templates,
    folder: PathBuf,
}

const FIELDS: [&str; 6] = ["description", "inputs", "vars", "resources", "handlers", "on_error"];

/// A file of a recipe longer than this belongs into a package or a download.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;

impl Recipe {
    /// Reads a recipe's folder, and the recipes that it includes from beside it. `shown` is the folder's path
    /// in messages. To look for recipes elsewhere, there is [`Loader`](crate::loader::Loader).
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub fn load(folder: &Path, shown: &str) -> Result<Arc<Self>, Problems> {
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let beside = |path: &Path, name: &str| path.parent().unwrap_or(Path::new("")).join(name);
        let find = |wanted: &str| {
            let path = beside(folder, wanted);
            if wanted == name || path.join("recipe.yaml").is_file() {
                return Ok((path, beside(Path::new(shown), wanted).display().to_string()));
            }
            Err(Problem::new(format!("there is no recipe `{wanted}` beside `{name}`")))
        };
        Loader::new(&find).load(&name, None)
    }

    /// Reads a recipe that a program wrote. It has no folder, and so no files, no templates and no recipes beside it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub fn of_text(name: &str, text: String) -> Result<Arc<Self>, Problems> {
        let source = Arc::new(Source { name: name.into(), text });
        Self::parse(&source, Ok(Templates::default()), Path::new(name)).map(Arc::new)
    }

    /// Reads a recipe's folder, without the recipes that it includes.
    pub(crate) fn read(folder: &Path, shown: &str) -> Result<Self, Problems> {
        let source = load::read(&folder.join("recipe.yaml"), &format!("{shown}/recipe.yaml"))?;
        let mut recipe = Self::parse(&source, read_templates(folder, shown), folder)?;
        shown.clone_into(&mut recipe.origin);
        Ok(recipe)
    }

    /// Reads what is written in `recipe.yaml`.
    pub(crate) fn parse(
        source: &Arc<Source>,
        templates: Result<Templates, Problem>,
        folder: &Path,
    ) -> Result<Self, Problems> {
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let root = load::parse(source)?;
        let entries = root.as_map("a recipe, which is a mapping with `resources`")?;
        let mut problems = Problems::new();
        let mut recipe = Self {
            name,
            description: String::new(),
            inputs: Vec::new(),
            origin: String::new(),
            vars: Vec::new(),
            resources: Vec::new(),
            handlers: Vec::new(),
            on_error: Vec::new(),
            included: BTreeMap::new(),
            templates: problems.keep(templates).unwrap_or_default(),
            folder: folder.to_owned(),
        };
        for (key, node) in entries {
            match key.name.as_str() {
                "description" => {
                    let text = problems.keep(node.as_str("a description").map(str::to_owned));
                    recipe.description = text.unwrap_or_default();
                }
                "inputs" => recipe.inputs = problems.keep(Input::list(node)).unwrap_or_default(),
                "vars" => {
                    let vars = problems.keep(node.as_map("a mapping of names to values"));
                    recipe.vars = vars.unwrap_or_default().to_vec();
                }
                "resources" => recipe.resources = problems.keep(Declaration::list(node)).unwrap_or_default(),
                "handlers" => {
                    recipe.handlers = problems.keep(Declaration::handlers(node)).unwrap_or_default();
                }
                "on_error" => {
                    recipe.on_error = problems.keep(Declaration::on_error(node)).unwrap_or_default();
                }
                other => {
                    let problem = Problem::new(format!("unknown field `{other}` in a recipe"));
                    problems.push(problem.at(&key.at).help(did_you_mean(other, &FIELDS)));
                }
            }
        }
        if !entries.iter().any(|(key, _)| key.name == "resources") {
            problems.push(Problem::new("a recipe needs `resources`").at(&root.at));
        }
        recipe.check_notified(&mut problems);
        problems.unless_any(recipe)
    }

    /// The recipes that it includes, as they are named in it.
    pub(crate) fn includes(&self) -> impl Iterator<Item = &Wanted> {
        self.resources.iter().filter_map(|declaration| match &declaration.what {
            What::Include(wanted) => Some(wanted),
            What::Resource { .. } => None,
        })
    }

    /// It and every recipe that it includes, in the end, each once.
    pub fn all(&self) -> BTreeMap<&str, &Self> {
        let mut all = BTreeMap::from([(self.name.as_str(), self)]);
        for included in self.included.values() {
            all.extend(included.all());
        }
        all
    }

    /// Its templates.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// The bytes of one of its `files/`.
    ///
    /// # Errors
    /// When there is no such file, it cannot be read, or it is too long to be a configuration file.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, Problem> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(Problem::new(format!("`{name}` is not a path inside the recipe's `files/`")));
        }
        let path = self.folder.join("files").join(name);
        let failed =
            |error: &io::Error| Problem::new(format!("failed to read `files/{name}` of the recipe: {error}"));
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > LONGEST_FILE => {
                let limit = LONGEST_FILE / 1024 / 1024;
                return Err(Problem::new(format!("`files/{name}` is longer than {limit} MiB")));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let all = list(&self.folder.join("files")).unwrap_or_default();
                let names: Vec<&str> = all.iter().map(String::as_str).collect();
                return Err(Problem::new(format!("the recipe has no `files/{name}`"))
                    .help(did_you_mean(name, &names)));
            }
            Err(error) => return Err(failed(&error)),
            Ok(_) => {}
        }
        fs::read(&path).map_err(|error| failed(&error))
    }

    /// Every file of the recipe by its path in the folder.
    pub(crate) fn all_files(&self) -> Result<Vec<(String, Vec<u8>)>, Problem> {
        let failed =
            |error: io::Error| Problem::new(format!("failed to read the recipe `{}`: {error}", self.name));
        let mut files = Vec::new();
        for folder in ["templates", "files"] {
            for name in list(&self.folder.join(folder)).map_err(failed)? {
                let path = format!("{folder}/{name}");
                let bytes = fs::read(self.folder.join(&path)).map_err(failed)?;
                files.push((path, bytes));
            }
        }
        files.push(("recipe.yaml".into(), fs::read(self.folder.join("recipe.yaml")).map_err(failed)?));
        Ok(files)
    }

    /// Every `notify` must name a handler: a typo would be a service that is never reloaded.
    fn check_notified(&self, problems: &mut Problems) {
        let names: Vec<&str> = self.handlers.iter().map(|(key, _)| key.name.as_str()).collect();
        for node in self.resources.iter().flat_map(|resource| &resource.notify) {
            if let Value::String(name) = &node.value
                && !names.contains(&name.as_str())
            {
                let problem = Problem::new(format!("there is no handler `{name}`")).at(&node.at);
                problems.push(problem.help(did_you_mean(name, &names)));
            }
        }
    }
}

fn read_templates(folder: &Path, shown: &str) -> Result<Templates, Problem> {
    let folder = folder.join("templates");
    let names = list(&folder)
        .map_err(|error| Problem::new(format!("failed to read `{shown}/templates`: {error}")))?;
    let mut sources = BTreeMap::new();
    for name in names {
        let source = load::read(&folder.join(&name), &format!("{shown}/templates/{name}"))?;
        sources.insert(name, source);
    }
    Templates::parse(sources)
}

/// Every file under a folder, as paths relative to it, sorted; nothing if there is no such folder.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(name) = path.strip_prefix(folder) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}
