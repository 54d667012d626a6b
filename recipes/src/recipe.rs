//! A recipe as it is written: a folder with `recipe.yaml`, `templates/` and `files/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Problem, Problems, did_you_mean};
use crate::input::Input;
use crate::load;
use crate::node::{Key, Node, Value};
use crate::resource::{KINDS, Kind};
use crate::source::{Location, Source};
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
    pub(crate) resources: Vec<Declaration>,
    pub(crate) handlers: Vec<(Key, Declaration)>,
    templates: Templates,
    folder: PathBuf,
}

/// A resource as it is written, with its strings not rendered yet.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) kind: &'static Kind,
    /// The value under the kind.
    pub(crate) fields: Node,
    pub(crate) name: Option<Node>,
    pub(crate) when: Option<Node>,
    pub(crate) for_each: Option<Node>,
    pub(crate) notify: Vec<Node>,
    pub(crate) after: Vec<Node>,
    pub(crate) at: Location,
}

const FIELDS: [&str; 4] = ["description", "inputs", "resources", "handlers"];

/// The keys that every resource may have beside its kind.
const COMMON: [&str; 5] = ["name", "when", "for_each", "notify", "after"];

/// A file of a recipe longer than this belongs into a package or a download.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;

impl Recipe {
    /// Reads a recipe's folder. `shown` is the folder's path in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub fn load(folder: &Path, shown: &str) -> Result<Self, Problems> {
        let source = load::read(&folder.join("recipe.yaml"), &format!("{shown}/recipe.yaml"))?;
        Self::parse(&source, read_templates(folder, shown), folder)
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
            resources: Vec::new(),
            handlers: Vec::new(),
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
                "resources" => recipe.resources = problems.keep(declarations(node)).unwrap_or_default(),
                "handlers" => recipe.handlers = problems.keep(handlers(node)).unwrap_or_default(),
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

fn declarations(node: &Node) -> Result<Vec<Declaration>, Problems> {
    let mut problems = Problems::new();
    let elements = node.as_list("a list of resources")?;
    let declared = elements.iter().filter_map(|element| problems.keep(Declaration::read(element))).collect();
    problems.unless_any(declared)
}

fn handlers(node: &Node) -> Result<Vec<(Key, Declaration)>, Problems> {
    let mut problems = Problems::new();
    let mut handlers = Vec::new();
    for (key, node) in node.as_map("a mapping of handlers")? {
        let Some(handler) = problems.keep(Declaration::read(node)) else { continue };
        let unusable = [
            ("for_each", handler.for_each.is_some()),
            ("notify", !handler.notify.is_empty()),
            ("after", !handler.after.is_empty()),
            ("name", handler.name.is_some()),
        ];
        for (field, _) in unusable.iter().filter(|(_, given)| *given) {
            let problem = Problem::new(format!("a handler has no `{field}`")).at(&node.at);
            problems.push(problem.help("handlers run once, in the order in which they are written"));
        }
        handlers.push((key.clone(), handler));
    }
    problems.unless_any(handlers)
}

impl Declaration {
    fn read(node: &Node) -> Result<Self, Problem> {
        let entries = node.as_map("a resource, such as `file: { path: /etc/motd, content: hi }`")?;
        let kinds = || KINDS.iter().map(|kind| kind.name);
        let mut of_kind =
            entries.iter().filter_map(|(key, node)| Kind::named(&key.name).map(|kind| (kind, key, node)));
        let found = of_kind.next();
        if let (Some((first, ..)), Some((second, key, _))) = (found, of_kind.next()) {
            let message = format!("a resource has one kind; this has `{}` and `{}`", first.name, second.name);
            return Err(Problem::new(message).at(&key.at).help("start another resource with `-`"));
        }
        let unknown = entries
            .iter()
            .map(|(key, _)| key)
            .find(|key| Kind::named(&key.name).is_none() && !COMMON.contains(&key.name.as_str()));
        if let Some(key) = unknown {
            // With a kind present it is a misspelt common key, without one it is a misspelt kind.
            let (message, valid): (_, Vec<&str>) = match found {
                Some(_) => (format!("unknown field `{}` beside the kind", key.name), COMMON.to_vec()),
                None => (format!("unknown kind `{}`", key.name), kinds().collect()),
            };
            return Err(Problem::new(message).at(&key.at).help(did_you_mean(&key.name, &valid)));
        }
        let Some((kind, key, fields)) = found else {
            return Err(Problem::new("this resource has no kind")
                .at(&node.at)
                .help("such as `file: { path: /etc/motd, content: hi }`; `baker docs` lists all kinds"));
        };
        let field =
            |name: &str| entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node.clone());
        let several = |name: &str| match field(name) {
            None => Ok(Vec::new()),
            Some(Node { value: Value::List(elements), .. }) => Ok(elements),
            Some(node @ Node { value: Value::String(_), .. }) => Ok(vec![node]),
            Some(other) => Err(other.mismatch("a name or a list of names")),
        };
        Ok(Self {
            kind,
            fields: fields.clone(),
            name: field("name"),
            when: field("when"),
            for_each: field("for_each"),
            notify: several("notify")?,
            after: several("after")?,
            at: key.at.clone(),
        })
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
