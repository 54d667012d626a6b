//! Recipes and values to resources: everything is rendered, read and checked before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::contradictions::find_contradictions;
use crate::declaration::{Declaration, Wanted, What};
use crate::error::{Problem, Problems, did_you_mean};
use crate::input::{self, Input};
use crate::node::{Key, Node, Value};
use crate::order::order;
use crate::recipe::Recipe;
use crate::registered::{Deferred, Queries, Unbuilt, refuse};
use crate::resource::{Context, Kind, Resource};
use crate::source::Location;
use crate::template::{MASK, Scope, condition, render};

/// A recipe and the values of all its inputs.
#[derive(Debug, Clone)]
pub struct RecipeUse {
    /// The recipe.
    pub recipe: Arc<Recipe>,
    /// A value for every input it declares.
    pub inputs: Map<String, Json>,
    /// Which image of a chain wants it, from 0: a later image may decide anew what an earlier one decided.
    pub stage: usize,
    /// Where it is wanted, if that is known here.
    pub at: Option<Location>,
}

/// What a host shall be, in order.
#[derive(Debug, Default)]
pub struct Resolved {
    /// One after the other.
    pub recipes: Vec<ResolvedRecipe>,
}

/// The resources of a recipe with all values decided. A recipe that includes others is several of these: what
/// comes before an included one, that one, and what comes after it, with the handlers.
#[derive(Debug)]
pub struct ResolvedRecipe {
    /// The recipe's name, with a number if it is used more than once.
    pub name: String,
    /// Which image of a chain wants it.
    pub stage: usize,
    /// What must be true, in order.
    pub resources: Vec<Step>,
    /// What is done at the end if something notified it, in order, each with how it is known on a host.
    pub handlers: Vec<(String, Step)>,
    /// What is done if one of its resources or handlers fails: its own, and then that of each recipe around.
    pub on_error: Vec<Arc<[Step]>>,
}

/// A resource in its place.
#[derive(Debug)]
pub struct Step {
    /// How it is called in plans, events and errors, such as `sshd: template /etc/ssh/sshd_config`.
    pub id: String,
    /// Where it is written.
    pub at: Location,
    /// Where its recipe is wanted, if that is known.
    pub recipe_at: Option<Location>,
    /// The resource.
    pub resource: Box<dyn Resource>,
    /// The handlers it notifies when it changes, as they are known on a host.
    pub notify: Vec<String>,
    /// What it is selected by.
    pub tags: Vec<String>,
}

/// Which resources are meant, by their tags. Nothing said is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that have one of these.
    pub tags: Vec<String>,
    /// But not those that have one of these.
    pub skip_tags: Vec<String>,
}

impl Resolved {
    /// Every resource, without handlers.
    pub fn resources(&self) -> impl Iterator<Item = &Step> {
        self.recipes.iter().flat_map(|recipe| &recipe.resources)
    }

    /// Keeps only the resources that are meant. Their handlers stay.
    ///
    /// # Errors
    /// When no resource has a tag that is named.
    pub fn select(&mut self, selection: &Selection) -> Result<(), Problem> {
        let mut known: Vec<&str> = self.resources().flat_map(|step| &step.tags).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        let named = selection.tags.iter().chain(&selection.skip_tags);
        if let Some(unknown) = named.into_iter().find(|tag| !known.contains(&tag.as_str())) {
            let problem = Problem::new(format!("no resource has the tag `{unknown}`"));
            return Err(problem.help(did_you_mean(unknown, &known)));
        }
        let has = |step: &Step, tags: &[String]| step.tags.iter().any(|tag| tags.contains(tag));
        for recipe in &mut self.recipes {
            recipe.resources.retain(|step| {
                (selection.tags.is_empty() || has(step, &selection.tags)) && !has(step, &selection.skip_tags)
            });
        }
        Ok(())
    }
}

/// Decides everything about resources that can be decided before anything runs. `scope` has the values
/// that all recipes see; each recipe's inputs are added to it.
///
/// # Errors
/// Every problem in any recipe, each at its place.
pub fn resolve(uses: &[RecipeUse], scope: &Scope) -> Result<Resolved, Problems> {
    let mut problems = Problems::new();
    let mut resolver = Resolver { base: scope.clone(), resolved: Resolved::default(), uses: BTreeMap::new() };
    for used in uses {
        let masked = masked(&used.recipe.inputs, &used.inputs, Map::new());
        let scope = scope.clone().with_masked("inputs", Json::Object(used.inputs.clone()), masked);
        let around = Around { stage: used.stage, at: used.at.clone(), ..Around::default() };
        problems.keep(resolver.recipe(&used.recipe, &scope, &around));
    }
    find_contradictions(&resolver.resolved, &mut problems);
    problems.unless_any(resolver.resolved)
}

/// What a recipe takes over from the one that includes it.
#[derive(Default)]
struct Around {
    stage: usize,
    at: Option<Location>,
    notify: Vec<String>,
    tags: Vec<String>,
    on_error: Vec<Arc<[Step]>>,
}

struct Resolver {
    /// What every recipe sees.
    base: Scope,
    resolved: Resolved,
    /// How often each recipe was used.
    uses: BTreeMap<String, usize>,
}

impl Resolver {
    fn recipe(&mut self, recipe: &Arc<Recipe>, scope: &Scope, around: &Around) -> Result<(), Problems> {
        let uses = self.uses.entry(recipe.name.clone()).or_default();
        *uses += 1;
        let label = if *uses == 1 { recipe.name.clone() } else { format!("{} ({uses})", recipe.name) };
        let mut problems = Problems::new();
        let Some(scope) = problems.keep(with_vars(scope, &recipe.vars)) else {
            return problems.unless_any(());
        };
        let mut part = Part { recipe, label: &label, scope: Arc::new(scope), queries: Queries::of(recipe) };
        let mut own = Vec::new();
        for declaration in &recipe.on_error {
            own.extend(problems.keep(part.steps(declaration)).unwrap_or_default());
        }
        let mut on_error: Vec<Arc<[Step]>> = if own.is_empty() { Vec::new() } else { vec![own.into()] };
        on_error.extend(around.on_error.iter().cloned());

        let mut resources = Vec::new();
        let block = |resources, handlers| ResolvedRecipe {
            name: label.clone(),
            stage: around.stage,
            resources,
            handlers,
            on_error: on_error.clone(),
        };
        for declaration in ordered(&recipe.resources)? {
            let mut tags = around.tags.clone();
            tags.extend(declaration.tags.iter().cloned());
            match &declaration.what {
                What::Resource { .. } => {
                    for mut step in problems.keep(part.steps(declaration)).unwrap_or_default() {
                        step.notify.extend(around.notify.iter().cloned());
                        step.tags.clone_from(&tags);
                        step.recipe_at.clone_from(&around.at);
                        resources.push(step);
                    }
                }
                What::Include(wanted) => {
                    if !resources.is_empty() {
                        self.resolved.recipes.push(block(std::mem::take(&mut resources), Vec::new()));
                    }
                    let Some(included) = recipe.included.get(&wanted.name) else { continue };
                    let mut notify = problems.keep(part.notified(declaration)).unwrap_or_default();
                    notify.extend(around.notify.iter().cloned());
                    let (at, on_error) = (Some(wanted.at.clone()), on_error.clone());
                    let inner = Around { stage: around.stage, at, notify, tags, on_error };
                    for scope in problems.keep(part.scopes(declaration)).unwrap_or_default() {
                        let told = problems.keep(include_inputs(included, wanted, &scope));
                        let Some((values, masked)) = told else { continue };
                        let scope = self.base.clone().with_masked("inputs", values, masked);
                        problems.keep(self.recipe(included, &scope, &inner));
                    }
                }
            }
        }
        let mut handlers = Vec::new();
        for (Key { name, .. }, declaration) in &recipe.handlers {
            for mut step in problems.keep(part.steps(declaration)).unwrap_or_default() {
                step.id = format!("{label}: handler {name}");
                handlers.push((handler_id(&label, name), step));
            }
        }
        for step in resources.iter().filter(|step: &&Step| step.resource.is_reaction()) {
            problems.push(
                Problem::new("this is done every time, so it is for a handler")
                    .at(&step.at)
                    .help("put it under `handlers:` and `notify` it from what it depends on"),
            );
        }
        self.resolved.recipes.push(block(resources, handlers));
        problems.unless_any(())
    }
}

/// How a handler is remembered on a host.
fn handler_id(recipe: &str, handler: &str) -> String {
    format!("{recipe}/{handler}")
}

/// The values of `vars`, each of which may use those above it.
pub(crate) fn with_vars(scope: &Scope, vars: &[(Key, Node)]) -> Result<Scope, Problem> {
    let (mut values, mut masked) = (Map::new(), Map::new());
    let mut scope = scope.clone();
    for (key, node) in vars {
        refuse(node, "`vars`", false)?;
        let (value, mask) = render_both(node, &scope)?;
        values.insert(key.name.clone(), value.to_json());
        masked.insert(key.name.clone(), mask);
        scope = scope.with_masked("vars", Json::Object(values.clone()), Json::Object(masked.clone()));
    }
    Ok(scope)
}

/// What an included recipe is told, as it is and as it is under the mask.
fn include_inputs(recipe: &Recipe, wanted: &Wanted, scope: &Scope) -> Result<(Json, Json), Problems> {
    let mut problems = Problems::new();
    let mut given = Vec::new();
    let mut masks = Map::new();
    let mut declared = recipe.inputs.clone();
    for (key, node) in &wanted.inputs {
        let rendered =
            refuse(node, "the inputs of an `include`", false).and_then(|()| render_both(node, scope));
        let Some((value, mask)) = problems.keep(rendered) else { continue };
        if value.to_json() != mask {
            let of_name = declared.iter_mut().filter(|input| input.name == key.name);
            of_name.for_each(|input| input.secret = true);
            masks.insert(key.name.clone(), mask);
        }
        given.push((key.clone(), value));
    }
    let noun = format!("input of `{}`", recipe.name);
    let values = problems.keep(input::resolve(&declared, &given, &wanted.at, &noun)).unwrap_or_default();
    let masked = masked(&declared, &values, masks);
    problems.unless_any((Json::Object(values), masked))
}

/// The values of inputs with each secret replaced, by what is given or by the mask.
fn masked(declared: &[Input], values: &Map<String, Json>, mut masks: Map<String, Json>) -> Json {
    let mut masked = values.clone();
    for input in declared.iter().filter(|input| input.secret && values.contains_key(&input.name)) {
        masked.insert(input.name.clone(), masks.remove(&input.name).unwrap_or_else(|| MASK.into()));
    }
    Json::Object(masked)
}

/// A value rendered as it is, and as it is under the mask.
fn render_both(node: &Node, scope: &Scope) -> Result<(Node, Json), Problem> {
    let rendered = render(node, scope)?;
    let masked = match scope.masked().map(|masked| render(node, masked)) {
        None => rendered.to_json(),
        Some(Ok(masked)) => masked.to_json(),
        // What does not render without its secrets has one in it.
        Some(Err(_)) => MASK.into(),
    };
    Ok((rendered, masked))
}

/// The declarations in the order in which they are applied.
fn ordered(declarations: &[Declaration]) -> Result<Vec<&Declaration>, Problem> {
    let names: Vec<Option<&str>> = declarations
        .iter()
        .map(|declaration| match declaration.name.as_ref().map(|node| &node.value) {
            Some(Value::String(name)) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    // Of two with a name, which is a problem of its own, the first.
    let positions: BTreeMap<&str, usize> =
        names.iter().enumerate().rev().filter_map(|(at, name)| Some(((*name)?, at))).collect();
    let position = |node: &Node| {
        let name = node.as_str("the name of another resource")?;
        positions.get(name).copied().ok_or_else(|| {
            let valid: Vec<&str> = names.iter().flatten().copied().collect();
            Problem::new(format!("no resource has the name `{name}`"))
                .at(&node.at)
                .help(did_you_mean(name, &valid))
        })
    };
    let after = declarations
        .iter()
        .map(|declaration| declaration.after.iter().map(position).collect())
        .collect::<Result<Vec<Vec<usize>>, Problem>>()?;
    let order = order(&after)
        .map_err(|item| Problem::new("this comes, in the end, after itself").at(&declarations[item].at))?;
    Ok(order.into_iter().map(|item| &declarations[item]).collect())
}

/// A recipe that is being resolved.
struct Part<'a> {
    recipe: &'a Arc<Recipe>,
    label: &'a str,
    scope: Arc<Scope>,
    queries: Queries,
}

impl Part<'_> {
    /// What a declaration is resolved with: nothing, one scope, or one for each element.
    fn scopes(&self, declaration: &Declaration) -> Result<Vec<Arc<Scope>>, Problems> {
        let mut scopes = Vec::new();
        match &declaration.for_each {
            None => scopes.push(Arc::clone(&self.scope)),
            Some(for_each) => {
                refuse(for_each, "`for_each`", false)?;
                let items = elements(for_each, &self.scope)?;
                let masked = self.scope.masked().map(|masked| elements(for_each, masked)).transpose()?;
                for (index, item) in items.into_iter().enumerate() {
                    let mask = match &masked {
                        None => item.clone(),
                        Some(masked) => masked.get(index).cloned().unwrap_or_else(|| MASK.into()),
                    };
                    scopes.push(Arc::new(Scope::clone(&self.scope).with_masked("item", item, mask)));
                }
            }
        }
        let Some(when) = &declaration.when else { return Ok(scopes) };
        refuse(when, "`when`", true)?;
        let mut problems = Problems::new();
        scopes.retain(|scope| problems.keep(condition(when, scope)).unwrap_or_default());
        problems.unless_any(scopes)
    }

    /// The resources that a declaration stands for: none, one, or one for each element.
    fn steps(&mut self, declaration: &Declaration) -> Result<Vec<Step>, Problems> {
        let mut problems = Problems::new();
        let mut steps = Vec::new();
        for scope in self.scopes(declaration)? {
            steps.extend(problems.keep(self.step(declaration, &scope)).flatten());
        }
        problems.unless_any(steps)
    }

    fn step(&mut self, declaration: &Declaration, scope: &Arc<Scope>) -> Result<Option<Step>, Problem> {
        let What::Resource { kind, fields } = &declaration.what else { return Ok(None) };
        let asks = self.queries.asked_by(kind, fields)?;
        let unbuilt = || Unbuilt {
            kind,
            fields: fields.clone(),
            recipe: Arc::clone(self.recipe),
            scope: Arc::clone(scope),
            at: declaration.at.clone(),
        };
        let resource: Box<dyn Resource> = match &declaration.register {
            Some(key) => {
                if declaration.for_each.is_some() {
                    let problem = Problem::new("`register` does not go with `for_each`").at(&key.at);
                    return Err(problem.help("a name stands for the result of one command"));
                }
                let command = unbuilt();
                Box::new(self.queries.register(key, command, asks)?)
            }
            None if asks.is_empty() => build(kind, fields, self.recipe, scope, &declaration.at)?,
            None => Box::new(Deferred::new(unbuilt(), asks)?),
        };
        let label = match &declaration.name {
            Some(name) => shown_name(name, scope)?,
            None => format!("{} {}", kind.name, resource.subject()),
        };
        Ok(Some(Step {
            id: format!("{}: {label}", self.label),
            at: declaration.at.clone(),
            recipe_at: None,
            resource,
            notify: self.notified(declaration)?,
            tags: declaration.tags.clone(),
        }))
    }

    /// The handlers that a declaration notifies.
    fn notified(&self, declaration: &Declaration) -> Result<Vec<String>, Problem> {
        let id = |node: &Node| Ok(handler_id(self.label, node.as_str("the name of a handler")?));
        declaration.notify.iter().map(id).collect()
    }
}

/// The elements of a `for_each`; those of a mapping have `key` and `value`.
pub(crate) fn elements(for_each: &Node, scope: &Scope) -> Result<Vec<Json>, Problem> {
    let rendered = render(for_each, scope)?;
    match &rendered.value {
        Value::List(elements) => Ok(elements.iter().map(Node::to_json).collect()),
        Value::Map(entries) => Ok(entries
            .iter()
            .map(|(key, value)| serde_json::json!({ "key": key.name, "value": value.to_json() }))
            .collect()),
        _ => Err(rendered.mismatch("a list or a mapping")),
    }
}

/// What a resource is called by its `name`.
fn shown_name(name: &Node, scope: &Scope) -> Result<String, Problem> {
    refuse(name, "the `name` of a resource", false)?;
    let (rendered, masked) = render_both(name, scope)?;
    if rendered.to_json() != masked {
        let problem = Problem::new("a secret may not be used in the `name` of a resource").at(&name.at);
        return Err(problem.help("names are shown in plans, events and logs"));
    }
    rendered.as_str("a name").map(str::to_owned)
}

/// Makes a resource of its fields.
pub(crate) fn build(
    kind: &Kind,
    fields: &Node,
    recipe: &Recipe,
    scope: &Scope,
    at: &Location,
) -> Result<Box<dyn Resource>, Problem> {
    let rendered = render(fields, scope)?;
    let secret = match scope.masked() {
        Some(masked) => holds_secret(kind, fields, &rendered, masked)?,
        None => false,
    };
    let context = Context { recipe, scope, at, secret };
    kind.build(&rendered, &context).map_err(|problem| problem.at(at))
}

/// Whether secrets went into the fields. They may go only where they are never shown.
fn holds_secret(kind: &Kind, written: &Node, rendered: &Node, masked: &Scope) -> Result<bool, Problem> {
    // A field that does not render without the secret has the secret in it.
    let Value::Map(entries) = &written.value else { return Ok(false) };
    let Value::Map(rendered) = &rendered.value else { return Ok(false) };
    let mut secret = false;
    for ((key, node), (_, rendered)) in entries.iter().zip(rendered) {
        if render(node, masked).is_ok_and(|masked| masked.value == rendered.value) {
            continue;
        }
        if !kind.secret_fields.contains(&key.name.as_str()) {
            return Err(Problem::new(format!(
                "a secret may not be used in `{}` of a `{}`",
                key.name, kind.name
            ))
            .at(&node.at)
            .help("it would be seen in plans and process lists; write it to a `file` or `template`"));
        }
        secret = true;
    }
    Ok(secret)
}

#[cfg(test)]
mod tests;
