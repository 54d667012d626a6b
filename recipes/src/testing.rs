//! What the engine's tests share: a recipe in a temporary folder, built in one expression.

use std::fs;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;

use crate::error::Problems;
use crate::event::{Event, Summary};
use crate::input;
use crate::load;
use crate::node::Node;
use crate::plan::{Guards, Plan, plan};
use crate::recipe::Recipe;
use crate::resolve::{RecipeUse, Resolved, resolve};
use crate::run::{Files, RunError, converge};
use crate::source::Source;
use crate::system::fake::Fake;
use crate::system::{Facts, Host};
use crate::template::Scope;

/// A recipe under test, called `example`.
pub(crate) struct Example {
    folder: TempDir,
    inputs: String,
    secrets: Option<(Json, Json)>,
}

impl Example {
    /// A recipe with these resources, as the lines under `resources:`.
    pub(crate) fn resources(resources: &str) -> Self {
        let indented: String = resources.trim().lines().map(|line| format!("  {line}\n")).collect();
        Self::recipe(&format!("resources:\n{indented}"))
    }

    /// A recipe with this `recipe.yaml`.
    pub(crate) fn recipe(text: &str) -> Self {
        let example = Self { folder: TempDir::new().expect("a folder"), inputs: "{}".into(), secrets: None };
        example.put("recipe.yaml", text);
        example
    }

    pub(crate) fn template(self, name: &str, text: &str) -> Self {
        self.put(&format!("templates/{name}"), text);
        self
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        self.put(&format!("files/{name}"), text);
        self
    }

    pub(crate) fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        self.put(&format!("files/{name}"), bytes);
        self
    }

    /// The inputs given, as YAML.
    pub(crate) fn inputs(mut self, text: &str) -> Self {
        self.inputs = text.into();
        self
    }

    /// A password that templates see as `secrets.password`.
    pub(crate) fn secret(mut self, password: &str) -> Self {
        self.secrets = Some((json!({ "password": password }), json!({ "password": "(masked)" })));
        self
    }

    /// Another recipe, which this one may include.
    pub(crate) fn beside(self, name: &str, text: &str) -> Self {
        self.put(&format!("../{name}/recipe.yaml"), text);
        self
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join("example").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    pub(crate) fn load(&self) -> Result<Arc<Recipe>, Problems> {
        Recipe::load(&self.folder.path().join("example"), "example")
    }

    pub(crate) fn resolve(&self, host: &Host) -> Result<Resolved, Problems> {
        let recipe = self.load()?;
        let given = node(&self.inputs);
        let inputs = input::resolve(&recipe.inputs, given.as_map("a mapping")?, &given.at, "input")?;
        let facts = serde_json::to_value(host).expect("facts are JSON");
        let mut scope = Scope::new(Map::from_iter([("facts".to_owned(), facts)]));
        if let Some((secrets, masked)) = &self.secrets {
            let with = |value: &Json| Map::from_iter([("secrets".to_owned(), value.clone())]);
            scope = scope.with_secrets(&with(secrets), &with(masked));
        }
        resolve(&[RecipeUse { recipe, inputs, stage: 0, at: None }], &scope)
    }

    /// What is wrong with it on Debian.
    pub(crate) fn problems(&self) -> String {
        let Err(problems) = self.resolve(Fake::debian().host()) else { panic!("nothing is wrong") };
        problems.to_string()
    }

    pub(crate) fn plan(&self, fake: &Fake) -> Result<Plan, RunError> {
        plan(&self.resolve(fake.host()).expect("a valid recipe"), fake, Guards::Skip)
    }

    pub(crate) fn converge(&self, fake: &mut Fake) -> Result<Summary, RunError> {
        self.run(fake, Files::InTurn).0
    }

    pub(crate) fn run(&self, fake: &mut Fake, files: Files) -> (Result<Summary, RunError>, Vec<Event>) {
        let resolved = self.resolve(fake.host()).expect("a valid recipe");
        let mut events = Vec::new();
        let result = converge(&resolved, fake, files, &mut |event| events.push(event));
        (result, events)
    }

    /// Applies it, and finds that the plan told what was done, that it settles, and that a second run
    /// does nothing. Returns the plan as a person sees it.
    pub(crate) fn settles(&self, fake: &mut Fake) -> String {
        let plan = self.plan(fake).expect("a plan").to_string();
        self.converge(fake).expect("it converges");
        assert!(self.plan(fake).expect("a plan").is_empty(), "the second plan is empty");
        let performed = fake.performed.len();
        self.converge(fake).expect("it converges again");
        assert_eq!(fake.performed.len(), performed, "the second run does nothing");
        plan
    }

    /// Why it cannot be applied, as a person sees it.
    pub(crate) fn fails(&self, fake: &mut Fake) -> String {
        let error = self.converge(fake).expect_err("it fails");
        let Event::RunFailed { resource, error, help, .. } = error.event() else { unreachable!("it failed") };
        let help = help.map_or_else(String::new, |help| format!("; {help}"));
        format!("{}: {error}{help}", resource.unwrap_or_default())
    }
}

/// What a resource that edits a file makes of its text, once it has settled.
pub(crate) fn edited(kind: &str, text: &str, fields: &str) -> String {
    const FILE: &str = "/etc/edited";
    let mut fake = Fake::debian();
    fake.file(FILE, text);
    Example::resources(&format!("- {kind}: {{ path: {FILE}, {fields} }}")).settles(&mut fake);
    fake.text(FILE).expect("the file")
}

/// A YAML value.
pub(crate) fn node(text: &str) -> Node {
    load::parse(&Arc::new(Source { name: "inputs".into(), text: text.into() })).expect("valid YAML")
}
