//! What is planned and applied: an image definition, or a recipe alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use recipes::error::{Problem, Problems};
use recipes::load;
use recipes::node::{Key, Node, Value};
use recipes::source::{Location, Source};

use super::{Reading, State, World, variable};
use crate::image::{Chain, Named};

/// The file of a recipe, in its folder.
const RECIPE: &str = "recipe.yaml";

/// What every image definition has some of.
const OF_IMAGES: [&str; 3] = ["source", "extends", "recipes"];

/// What is planned or applied, and what it is read with.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// An image definition; or a recipe alone: its folder, or its name
    #[arg(value_name = "IMAGE.yaml|RECIPE")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// An input of the recipe, if it is one alone; a list or a mapping as YAML in one line
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = variable)]
    inputs: Vec<(String, String)>,
    /// A YAML file with inputs of the recipe
    #[arg(long = "inputs", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Subject {
    /// Whether nothing is said of how it is read.
    pub(super) fn is_as_written(&self) -> bool {
        self.reading.is_empty() && self.inputs.is_empty() && self.file.is_none()
    }

    pub(super) fn load(&self, world: &World, state: &State) -> Result<Chain, Problems> {
        let Some(named) = recipe(&self.path)? else {
            if !self.inputs.is_empty() || self.file.is_some() {
                let shown = self.path.display();
                return Err(Problem::new(format!("`{shown}` is an image definition, which has no inputs"))
                    .help("it gives its recipes theirs; `--var` gives its variables their values")
                    .into());
            }
            return self.reading.load(&self.path, world, state);
        };
        if let Some((name, _)) = self.reading.variables.first() {
            return Err(Problem::new(format!(
                "`--var {name}` is for an image definition, and this is a recipe"
            ))
            .help("`--input` is for a recipe")
            .into());
        }
        Chain::of_recipe(&named, self.given()?, &self.reading.recipes, &state.cache())
    }

    /// The inputs: those of the file, and those that are given one by one, of which the last counts.
    fn given(&self) -> Result<Vec<(Key, Node)>, Problem> {
        let mut given = match &self.file {
            Some(path) => {
                let node = load::parse(&load::read(path, &path.display().to_string())?)?;
                node.as_map("a mapping of inputs")?.to_vec()
            }
            None => Vec::new(),
        };
        for (name, text) in &self.inputs {
            given.retain(|(key, _)| key.name != *name);
            given.push(input(name, text)?);
        }
        Ok(given)
    }
}

/// An input that is given on the command line. Only a list and a mapping are YAML, so that any text can be given as it is.
fn input(name: &str, text: &str) -> Result<(Key, Node), Problem> {
    let source = Arc::new(Source { name: format!("--input {name}"), text: text.to_owned() });
    let at = Location::new(&source, 0, text.len());
    let key = Key { name: name.to_owned(), at: at.clone() };
    if text.starts_with(['[', '{']) {
        return Ok((key, load::parse(&source)?));
    }
    let is_text = text.parse::<f64>().is_err() && text.parse::<bool>().is_err();
    // What may be a number is one if the input is, and text otherwise.
    let value = if is_text { Value::String(text.to_owned()) } else { Value::Rendered(text.to_owned()) };
    Ok((key, Node { value, at }))
}

/// The recipe that a path names; none if it is that of an image definition.
fn recipe(path: &Path) -> Result<Option<Named>, Problem> {
    let shown = path.display();
    if path.is_dir() {
        return if path.join(RECIPE).is_file() {
            Ok(Some(Named::Folder(path.to_owned())))
        } else {
            Err(Problem::new(format!("`{shown}` is no recipe: it has no `{RECIPE}`"))
                .help("an image definition is a file, such as `images/web.yaml`"))
        };
    }
    if !path.exists() {
        let is_name = path.components().count() == 1 && path.extension().is_none();
        return Ok(is_name.then(|| Named::Name(shown.to_string())));
    }
    if path.file_name().is_some_and(|name| name == RECIPE) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        return Ok(Some(Named::Folder(folder.unwrap_or(Path::new(".")).to_owned())));
    }
    let node = load::parse(&load::read(path, &shown.to_string())?)?;
    let is_image = match &node.value {
        Value::Map(entries) => entries.iter().any(|(key, _)| OF_IMAGES.contains(&key.name.as_str())),
        _ => false,
    };
    if is_image {
        return Ok(None);
    }
    Err(Problem::new(format!("`{shown}` is neither an image definition nor a recipe"))
        .help(format!("an image definition has a `source`, or `extends` an image; a recipe is a folder with `{RECIPE}` in it")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_path_is_an_image_a_recipe_or_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("recipes/site")).expect("made");
        fs::write(path("recipes/site/recipe.yaml"), "resources: []\n").expect("written");
        fs::write(path("web.yaml"), "extends: base\n").expect("written");
        fs::write(path("other.yaml"), "resources: []\n").expect("written");
        let site = || Ok(Some(Named::Folder(path("recipes/site"))));
        let told = |path: &Path| recipe(path).map_err(|problem| problem.message().to_owned());
        assert_eq!(told(&path("recipes/site")), site());
        assert_eq!(told(&path("recipes/site/recipe.yaml")), site());
        assert_eq!(told(&path("web.yaml")), Ok(None));
        assert_eq!(told(&path("missing.yaml")), Ok(None), "that there is none is said when it is read");
        assert_eq!(told(Path::new("no-such-recipe")), Ok(Some(Named::Name("no-such-recipe".into()))));
        let error = told(&path("other.yaml")).expect_err("neither");
        assert!(error.ends_with("other.yaml` is neither an image definition nor a recipe"), "{error}");
        let error = told(&path("recipes")).expect_err("no recipe");
        assert!(error.ends_with("recipes` is no recipe: it has no `recipe.yaml`"), "{error}");
    }

    #[test]
    fn an_input_is_text_unless_it_is_something_else() {
        let value = |text: &str| input("a", text).expect("valid").1.value;
        assert_eq!(value("keep out # now: {x}"), Value::String("keep out # now: {x}".into()));
        assert_eq!(value(""), Value::String(String::new()));
        assert_eq!(value("1.10"), Value::Rendered("1.10".into()));
        assert!(matches!(value("[ { port: 443 } ]"), Value::List(_)));
        let error = Problems::from(input("a", "[ 1").expect_err("not YAML")).to_string();
        assert!(error.starts_with("--input a:1:"), "{error}");
    }
}
