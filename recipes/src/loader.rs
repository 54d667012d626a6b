//! Loading recipes by name, with those that they include.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Problem, Problems};
use crate::recipe::Recipe;
use crate::source::Location;

/// Finds the folder of a recipe, and its path in messages, by the recipe's name.
pub type Find<'a> = dyn Fn(&str) -> Result<(PathBuf, String), Problem> + 'a;

/// Loads recipes by name, each once.
pub struct Loader<'a> {
    find: &'a Find<'a>,
    loaded: BTreeMap<String, Arc<Recipe>>,
    /// The recipes that are being loaded, each because the one before it includes it.
    under_way: Vec<String>,
}

impl<'a> Loader<'a> {
    /// A loader that finds recipes this way.
    pub fn new(find: &'a Find<'a>) -> Self {
        Self { find, loaded: BTreeMap::new(), under_way: Vec::new() }
    }

    /// Loads a recipe with all that it includes. `at` is where it is named.
    ///
    /// # Errors
    /// Everything that is wrong with them, each at its place.
    pub fn load(&mut self, name: &str, at: Option<&Location>) -> Result<Arc<Recipe>, Problems> {
        if let Some(recipe) = self.loaded.get(name) {
            return Ok(Arc::clone(recipe));
        }
        let placed = |problem: Problem| match at {
            Some(at) => problem.at(at),
            None => problem,
        };
        if self.under_way.iter().any(|other| other == name) {
            let circle = self.under_way.join("` includes `");
            let message = format!("a recipe cannot include itself: `{circle}` includes `{name}`");
            return Err(placed(Problem::new(message)).into());
        }
        let (folder, shown) = (self.find)(name).map_err(placed)?;
        let mut recipe = Recipe::read(&folder, &shown)?;
        self.under_way.push(name.to_owned());
        let mut problems = Problems::new();
        let mut included = BTreeMap::new();
        for wanted in recipe.includes() {
            let found = problems.keep(self.load(&wanted.name, Some(&wanted.at)));
            included.extend(found.map(|recipe| (wanted.name.clone(), recipe)));
        }
        self.under_way.pop();
        problems.unless_any(())?;
        recipe.included = included;
        let recipe = Arc::new(recipe);
        self.loaded.insert(name.to_owned(), Arc::clone(&recipe));
        Ok(recipe)
    }
}
