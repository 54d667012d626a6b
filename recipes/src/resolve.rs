//! Recipes and values to resources: everything is rendered, read and checked before anything runs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::error::{Problem, Problems, did_you_mean};
use crate::node::{Key, Node, Value};
use crate::order::order;
use crate::recipe::{Declaration, Recipe};
use crate::resource::{Claim, Context, Resource};
use crate::source::Location;
use crate::template::{Scope, condition, render};

/// A recipe and the values of all its inputs.
#[derive(Debug, Clone)]
pub struct RecipeUse {
    /// The recipe.
    pub recipe: Arc<Recipe>,
    /// A value for every input it declares.
    pub inputs: Map<String, Json>,
    /// Which image of a chain wants it, from 0: a later image may decide anew what an earlier one decided.
    pub stage: usize,
}

/// What a host shall be, in order.
#[derive(Debug, Default)]
pub struct Resolved {
    /// One after the other.
    pub recipes: Vec<ResolvedRecipe>,
}

/// The resources of a recipe with all values decided.
#[derive(Debug)]
pub struct ResolvedRecipe {
    /// The recipe's name.
    pub name: String,
    /// Which image of a chain wants it.
    pub stage: usize,
    /// What must be true, in order.
    pub resources: Vec<Step>,
    /// What is done at the end if something notified it, in order.
    pub handlers: Vec<(String, Step)>,
}

/// A resource in its place.
#[derive(Debug)]
pub struct Step {
    /// How it is called in plans, events and errors, such as `sshd: template /etc/ssh/sshd_config`.
    pub id: String,
    /// Where it is written.
    pub at: Location,
    /// The resource.
    pub resource: Box<dyn Resource>,
    /// The handlers it notifies when it changes.
    pub notify: Vec<String>,
}

impl Resolved {
    /// Every resource, without handlers.
    pub fn resources(&self) -> impl Iterator<Item = &Step> {
        self.recipes.iter().flat_map(|recipe| &recipe.resources)
    }
}

/// Decides everything about resources that can be decided before anything runs. `scope` has the values
/// that all recipes see; each recipe's inputs are added to it.
///
/// # Errors
/// Every problem in any recipe, each at its place.
pub fn resolve(uses: &[RecipeUse], scope: &Scope) -> Result<Resolved, Problems> {
    let mut problems = Problems::new();
    let mut resolved = Resolved::default();
    for used in uses {
        let scope = scope.clone().with("inputs", Json::Object(used.inputs.clone()));
        let recipe = problems.keep(resolve_recipe(&used.recipe, &scope));
        resolved.recipes.extend(recipe.map(|recipe| ResolvedRecipe { stage: used.stage, ..recipe }));
    }
    find_contradictions(&resolved, &mut problems);
    problems.unless_any(resolved)
}

fn resolve_recipe(recipe: &Recipe, scope: &Scope) -> Result<ResolvedRecipe, Problems> {
    let mut problems = Problems::new();
    let mut resources = Vec::new();
    for declaration in ordered(&recipe.resources)? {
        resources.extend(problems.keep(steps(recipe, declaration, scope)).unwrap_or_default());
    }
    let mut handlers = Vec::new();
    for (Key { name, .. }, declaration) in &recipe.handlers {
        for mut step in problems.keep(steps(recipe, declaration, scope)).unwrap_or_default() {
            step.id = format!("{}: handler {name}", recipe.name);
            handlers.push((name.clone(), step));
        }
    }
    for step in resources.iter().filter(|step: &&Step| step.resource.is_reaction()) {
        problems.push(
            Problem::new("this is done every time, so it is for a handler")
                .at(&step.at)
                .help("put it under `handlers:` and `notify` it from what it depends on"),
        );
    }
    problems.unless_any(ResolvedRecipe { name: recipe.name.clone(), stage: 0, resources, handlers })
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
    let position = |node: &Node| {
        let name = node.as_str("the name of another resource")?;
        names.iter().position(|other| *other == Some(name)).ok_or_else(|| {
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

/// The resources that a declaration stands for: none, one, or one for each element.
fn steps(recipe: &Recipe, declaration: &Declaration, scope: &Scope) -> Result<Vec<Step>, Problems> {
    let Some(for_each) = &declaration.for_each else {
        return Ok(step(recipe, declaration, scope)?.into_iter().collect());
    };
    let items = elements(for_each, scope)?;
    let masked_items = scope.masked().map(|masked| elements(for_each, masked)).transpose()?;
    let mut problems = Problems::new();
    let mut steps = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let masked = masked_items.as_ref().and_then(|items| items.get(index));
        let scope = scope.clone().with_item(item, masked);
        steps.extend(problems.keep(step(recipe, declaration, &scope)).flatten());
    }
    problems.unless_any(steps)
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

fn step(recipe: &Recipe, declaration: &Declaration, scope: &Scope) -> Result<Option<Step>, Problem> {
    if let Some(when) = &declaration.when
        && !condition(when, scope)?
    {
        return Ok(None);
    }
    let fields = render(&declaration.fields, scope)?;
    let secret = match scope.masked() {
        Some(masked) => holds_secret(declaration, &fields, masked)?,
        None => false,
    };
    let context = Context { recipe, scope, at: &declaration.at, secret };
    let resource =
        declaration.kind.build(&fields, &context).map_err(|problem| problem.at(&declaration.at))?;
    let label = match &declaration.name {
        Some(name) => {
            let rendered = render(name, scope)?;
            let is_open =
                |masked: &Scope| render(name, masked).is_ok_and(|masked| masked.value == rendered.value);
            if !scope.masked().is_none_or(is_open) {
                let problem =
                    Problem::new("a secret may not be used in the `name` of a resource").at(&name.at);
                return Err(problem.help("names are shown in plans, events and logs"));
            }
            rendered.as_str("a name")?.to_owned()
        }
        None => format!("{} {}", declaration.kind.name, resource.subject()),
    };
    let notify = declaration
        .notify
        .iter()
        .map(|node| node.as_str("the name of a handler").map(str::to_owned))
        .collect::<Result<_, _>>()?;
    Ok(Some(Step { id: format!("{}: {label}", recipe.name), at: declaration.at.clone(), resource, notify }))
}

/// Whether secrets went into the fields. They may go only where they are never shown.
fn holds_secret(declaration: &Declaration, fields: &Node, masked: &Scope) -> Result<bool, Problem> {
    // A field that does not render without the secret has the secret in it.
    let Value::Map(entries) = &declaration.fields.value else { return Ok(false) };
    let Value::Map(rendered) = &fields.value else { return Ok(false) };
    let mut secret = false;
    for ((key, node), (_, rendered)) in entries.iter().zip(rendered) {
        if render(node, masked).is_ok_and(|masked| masked.value == rendered.value) {
            continue;
        }
        if !declaration.kind.secret_fields.contains(&key.name.as_str()) {
            return Err(Problem::new(format!(
                "a secret may not be used in `{}` of a `{}`",
                key.name, declaration.kind.name
            ))
            .at(&node.at)
            .help("it would be seen in plans and process lists; write it to a `file` or `template`"));
        }
        secret = true;
    }
    Ok(secret)
}

/// Two resources that decide the same thing differently would undo each other for ever.
fn find_contradictions(resolved: &Resolved, problems: &mut Problems) {
    let mut claimed: BTreeMap<(usize, Claim), &Step> = BTreeMap::new();
    for (stage, step) in
        resolved.recipes.iter().flat_map(|recipe| recipe.resources.iter().map(|step| (recipe.stage, step)))
    {
        for claim in step.resource.claims() {
            match claimed.entry((stage, claim)) {
                Entry::Vacant(place) => {
                    place.insert(step);
                }
                Entry::Occupied(first) => {
                    let same = format!("{:?}", first.get().resource) == format!("{:?}", step.resource);
                    if !same {
                        let problem =
                            Problem::new(format!("{} is decided twice, differently", first.key().1));
                        problems.push(problem.at(&step.at).and_at(&first.get().at, "first here"));
                    }
                }
            }
        }
    }
    for ((stage, claim), step) in &claimed {
        for outer in claim.within() {
            let Some(whole) = claimed.get(&(*stage, outer.clone())) else { continue };
            let (what, help) = match outer {
                Claim::Path(_) => ("the whole file".to_owned(), "put it where the file is decided"),
                Claim::AuthorizedKeys(_) => (outer.to_string(), "put it among the keys there"),
                outer => (format!("all of {outer}"), "put it into the value there"),
            };
            let message = format!("{claim} is set, but {what} is decided elsewhere");
            problems.push(Problem::new(message).at(&step.at).and_at(&whole.at, "here").help(help));
        }
    }
    for ((stage, many), by) in claimed.iter().filter(|((_, claim), _)| claim.is_of_many()) {
        for ((_, one), step) in claimed.iter().filter(|((of, claim), _)| of == stage && many.reaches(claim)) {
            let message = format!("{one} is set, but {many} is decided elsewhere");
            let problem = Problem::new(message).at(&step.at).and_at(&by.at, "here");
            problems.push(problem.help(match many {
                Claim::Purged { .. } => "add it to `keep` there",
                _ => "narrow the pattern, or take one of the two away",
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::system::Facts;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn ids(example: &Example) -> Vec<String> {
        let resolved = example.resolve(Fake::debian().host()).expect("valid");
        resolved.resources().map(|step| step.id.clone()).collect()
    }

    #[test]
    fn when_and_for_each_decide_before_anything_runs() {
        let example = Example::recipe(
            "
inputs:
  names: { type: list, default: [a, b] }
  links: { type: map, default: { /etc/x: /y } }
resources:
  - file: { path: \"/etc/{{ item }}\", content: x }
    for_each: \"{{ inputs.names }}\"
  - symlink: { path: \"{{ item.key }}\", target: \"{{ item.value }}\" }
    for_each: \"{{ inputs.links }}\"
  - file: { path: /etc/debian, content: x }
    when: facts.os.family == \"debian\"
  - file: { path: /etc/fedora, content: x }
    when: facts.os.family == \"fedora\"
  - file: { path: /etc/c, content: x }
    name: call it {{ facts.arch }}
",
        );
        insta::assert_snapshot!(ids(&example).join("\n"), @"
        example: file /etc/a
        example: file /etc/b
        example: symlink /etc/x
        example: file /etc/debian
        example: call it x86_64
        ");
    }

    #[test]
    fn after_changes_the_order() {
        let example = Example::resources(
            "
- file: { path: /etc/a, content: x }
  after: last
- file: { path: /etc/b, content: x }
  name: last
",
        );
        insta::assert_snapshot!(ids(&example).join("\n"), @"
        example: last
        example: file /etc/a
        ");
        let around = Example::resources(
            "
- file: { path: /etc/a, content: x }
  name: a
  after: b
- file: { path: /etc/b, content: x }
  name: b
  after: [a]
",
        );
        insta::assert_snapshot!(around.problems(), @"example/recipe.yaml:2:5: this comes, in the end, after itself");
        insta::assert_snapshot!(Example::resources("- file: { path: /a, content: x }\n  after: nope").problems(), @"example/recipe.yaml:3:12: no resource has the name `nope`; no name is valid here");
    }

    #[test]
    fn contradictions_name_both_places() {
        let twice = "
- file: { path: /etc/a, content: x }
- symlink: { path: /etc/a, target: /b }
- sysctl: { name: one, settings: { a.b: 1 } }
- sysctl: { name: two, settings: { a.b: 2 } }
- service: { name: nginx, enabled: true }
- service: { name: nginx.service, enabled: false }
- line: { path: /etc/a, line: z }
";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"
        example/recipe.yaml:3:5: the path `/etc/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:5:5: the sysctl `a.b` is decided twice, differently (first here: example/recipe.yaml:4:5)
        example/recipe.yaml:7:5: the unit `nginx.service` is decided twice, differently (first here: example/recipe.yaml:6:5)
        example/recipe.yaml:8:5: the line `z` of `/etc/a` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:2:5); put it where the file is decided
        ");
        let same = "
- package: { name: a }
- package: { name: a }
";
        assert_eq!(
            ids(&Example::resources(same)).len(),
            2,
            "wanting the same thing twice is no contradiction"
        );
    }

    #[test]
    fn what_is_not_a_recipe_is_explained_all_at_once() {
        let problems = |text: &str| Example::recipe(text).problems();
        insta::assert_snapshot!(problems("resources: []\nresorces: []\ninputs: []\n"), @"
        example/recipe.yaml:2:1: unknown field `resorces` in a recipe; did you mean `resources`? valid are `description`, `inputs`, `resources` and `handlers`
        example/recipe.yaml:3:9: expected a mapping of inputs, found a list of 0
        ");
        insta::assert_snapshot!(problems("description: x\n"), @"example/recipe.yaml:1:1: a recipe needs `resources`");
        insta::assert_snapshot!(problems("- file: {}\n"), @"example/recipe.yaml:1:1: expected a recipe, which is a mapping with `resources`, found a list of 1");
        insta::assert_snapshot!(Example::resources(
            "
- fiel: { path: /etc/a, content: x }
- file: { path: /etc/b, content: x }
  notfy: x
- file: { path: /etc/b, content: x }
  package: { name: x }
- file: { path: /etc/c, content: x }
  notify: nope
- when: true
- file: { path: /etc/c, content: x }
  notify: { a: b }
- text
"
        )
        .problems(), @"
        example/recipe.yaml:2:5: unknown kind `fiel`; did you mean `file`?
        example/recipe.yaml:4:5: unknown field `notfy` beside the kind; did you mean `notify`? valid are `name`, `when`, `for_each`, `notify` and `after`
        example/recipe.yaml:6:5: a resource has one kind; this has `file` and `package`; start another resource with `-`
        example/recipe.yaml:9:5: this resource has no kind; such as `file: { path: /etc/motd, content: hi }`; `baker docs` lists all kinds
        example/recipe.yaml:11:13: expected a name or a list of names, found a mapping of 1
        example/recipe.yaml:12:5: expected a resource, such as `file: { path: /etc/motd, content: hi }`, found the string `text`
        ");
        insta::assert_snapshot!(problems("
resources:
  - file: { path: /etc/a, content: x }
    when: facts.os.id = 'x'
  - file: { path: /etc/b, content: x }
    for_each: 3
handlers:
  x: { file: { path: /etc/c, content: x }, for_each: [1] }
"), @"example/recipe.yaml:8:6: a handler has no `for_each`; handlers run once, in the order in which they are written");
    }

    #[test]
    fn a_secret_in_a_name_is_refused() {
        let named = "- file: { path: /etc/a, content: a }\n  name: \"{{ secrets.password }}\"\n";
        let problems = Example::resources(named).secret("hunter2").problems();
        assert!(
            problems.contains("a secret may not be used in the `name`") && !problems.contains("hunter2"),
            "{problems}"
        );
    }

    #[test]
    fn a_secret_in_a_list_is_found_in_each_element() {
        let example = Example::resources(
            "
- file: { path: \"/etc/{{ item.name }}\", content: \"{{ item.value }}\" }
  for_each: [ { name: a, value: \"{{ secrets.password }}\" }, { name: b, value: open } ]
",
        )
        .secret("hunter2");
        let mut fake = Fake::debian();
        example.settles(&mut fake);
        assert_eq!(fake.text("/etc/b").as_deref(), Some("open"));
        assert_eq!(fake.text("/run/bootstrap-agent/files/etc/a").as_deref(), Some("hunter2"));
    }
}
