//! What is known of the boot recipes of an image before the values are that they will see.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::declaration::{Wanted, What};
use crate::error::{Problem, Problems, did_you_mean};
use crate::input::{self, Input};
use crate::node::{Key, Node, Value};
use crate::recipe::Recipe;
use crate::resolve::{RecipeUse, elements, with_vars};
use crate::resource::Kind;
use crate::system::units::full_name;
use crate::template::{Scope, check, is_template, render};

/// The units that a recipe has something to do with: that it enables or keeps running, or that its handlers
/// reload, found before the values it will see are known. Those of an image's boot recipes have to wait for
/// the agent, but for those that it waits for itself.
///
/// # Errors
/// When the name or the state of one depends on values that only the boot will bring.
pub fn running_services(used: &RecipeUse, scope: &Scope) -> Result<Vec<String>, Problems> {
    let own = scope.clone().with("inputs", Json::Object(used.inputs.clone()));
    let own = with_vars(&own, &used.recipe.vars).map_err(too_late)?;
    let mut services = Vec::new();
    let handlers = used.recipe.handlers.iter().map(|(_, declaration)| declaration);
    for declaration in used.recipe.resources.iter().chain(handlers) {
        let items = declaration.for_each.as_ref().map(|each| elements(each, &own)).transpose();
        match &declaration.what {
            What::Resource { kind, fields } if kind.name == "service" => {
                for item in items.map_err(too_late)?.unwrap_or_else(|| vec![Json::Null]) {
                    services.extend(running_service(fields, &own.clone().with("item", item))?);
                }
            }
            What::Resource { .. } => {}
            What::Include(wanted) => {
                let Some(recipe) = used.recipe.included.get(&wanted.name) else { continue };
                if !may_run_services(recipe) {
                    continue;
                }
                for item in items.map_err(too_late)?.unwrap_or_else(|| vec![Json::Null]) {
                    let inputs = known_inputs(recipe, wanted, &own.clone().with("item", item));
                    let inner = RecipeUse { recipe: Arc::clone(recipe), inputs, stage: used.stage, at: None };
                    services.extend(running_services(&inner, scope)?);
                }
            }
        }
    }
    services.retain(|unit| !comes_before_agent(unit));
    services.sort();
    services.dedup();
    Ok(services)
}

/// What is wrong with a value that only the boot will bring.
fn too_late(problem: Problem) -> Problem {
    let why = "which services of boot recipes wait for the agent has to be known when the image is baked";
    let message = format!("{}; {why}", problem.message());
    problem.with_message(message)
}

/// What an included recipe is told, as far as that is known: what is not may be about something else.
fn known_inputs(recipe: &Recipe, wanted: &Wanted, scope: &Scope) -> Map<String, Json> {
    let value = |input: &Input| match wanted.inputs.iter().find(|(key, _)| key.name == input.name) {
        Some((_, node)) => render(node, scope).ok().map(|node| node.to_json()),
        None => input.default.as_ref().map(Node::to_json),
    };
    recipe.inputs.iter().filter_map(|input| Some((input.name.clone(), value(input)?))).collect()
}

/// Whether anything in a recipe, or in what it includes, is about a service: if nothing is, what it is told need
/// not be known yet.
fn may_run_services(recipe: &Recipe) -> bool {
    let handlers = recipe.handlers.iter().map(|(_, declaration)| declaration);
    recipe.resources.iter().chain(handlers).any(|declaration| match &declaration.what {
        What::Resource { kind, .. } => kind.name == "service",
        What::Include(wanted) => {
            recipe.included.get(&wanted.name).is_some_and(|recipe| may_run_services(recipe))
        }
    })
}

/// The unit that a `service` keeps running, enables or reloads, if it does.
fn running_service(fields: &Node, scope: &Scope) -> Result<Option<String>, Problem> {
    let Value::Map(fields) = &fields.value else { return Ok(None) };
    let field = |name: &str| fields.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
    let known = |node: &Node| render(node, scope).map_err(too_late);
    let says = |name: &str, wanted: &[Json]| {
        let said = field(name).map(known).transpose();
        said.map(|node| node.is_some_and(|node| wanted.contains(&node.to_json())))
    };
    let Some(name) = field("name") else { return Ok(None) };
    if !says("state", &["running".into(), "reloaded".into(), "restarted".into()])?
        && !says("enabled", &[true.into()])?
    {
        return Ok(None);
    }
    Ok(Some(full_name(known(name)?.as_str("the name of a unit")?)))
}

/// Whether a unit is part of what every service starts after, such as the journal, the network and local file
/// systems. If it waited for the agent, it would wait for itself; systemd ends that by not starting one of
/// them, which one nobody can know.
fn comes_before_agent(unit: &str) -> bool {
    let (name, suffix) = unit.rsplit_once('.').unwrap_or((unit, ""));
    name.starts_with("systemd-")
        || ["apparmor", "dbus", "dbus-broker", "networking", "nftables"].contains(&name)
        || ["automount", "mount", "swap"].contains(&suffix)
}

/// Finds mistakes that would otherwise show at the first boot: inputs and facts that do not exist, and files
/// and templates that the recipe does not have.
///
/// # Errors
/// Each mistake at its place.
pub fn check_ahead(used: &RecipeUse, scope: &Scope) -> Result<(), Problems> {
    let recipe = &used.recipe;
    let vars = recipe.vars.iter().map(|(key, _)| (key.name.clone(), Json::Null)).collect();
    let own =
        scope.clone().with("inputs", Json::Object(used.inputs.clone())).with("vars", Json::Object(vars));
    let mut problems = Problems::new();
    problems.keep(recipe.templates().check(&own));
    let handlers = recipe.handlers.iter().map(|(_, declaration)| declaration);
    for (_, node) in &recipe.vars {
        problems.keep(check(node, &own));
    }
    for declaration in recipe.resources.iter().chain(handlers).chain(&recipe.on_error) {
        for part in [declaration.name.as_ref(), declaration.for_each.as_ref()].into_iter().flatten() {
            problems.keep(check(part, &own));
        }
        match &declaration.what {
            What::Resource { kind, fields } => {
                problems.keep(check(fields, &own));
                problems.keep(source_exists(recipe, kind, fields));
            }
            What::Include(wanted) => {
                let Some(included) = recipe.included.get(&wanted.name) else { continue };
                problems.keep(check_told(included, wanted));
                for (_, node) in &wanted.inputs {
                    problems.keep(check(node, &own));
                }
                // Which values they will have is not known; which inputs there are is.
                let inputs = included.inputs.iter().map(|input| (input.name.clone(), Json::Null)).collect();
                let inner = RecipeUse { recipe: Arc::clone(included), inputs, stage: used.stage, at: None };
                problems.keep(check_ahead(&inner, scope));
            }
        }
    }
    problems.unless_any(())
}

/// Whether an included recipe is told all that it requires and nothing that it does not know.
fn check_told(recipe: &Recipe, wanted: &Wanted) -> Result<(), Problems> {
    let written: Vec<(Key, Node)> =
        wanted.inputs.iter().filter(|(_, node)| !is_rendered(node)).cloned().collect();
    let told =
        |input: &&Input| !wanted.inputs.iter().any(|(key, node)| key.name == input.name && is_rendered(node));
    let declared: Vec<Input> = recipe.inputs.iter().filter(told).cloned().collect();
    let noun = format!("input of `{}`", recipe.name);
    let mut problems = Problems::new();
    problems.keep(input::resolve(&declared, &written, &wanted.at, &noun));
    let names: Vec<&str> = recipe.inputs.iter().map(|input| input.name.as_str()).collect();
    for (key, _) in
        wanted.inputs.iter().filter(|(key, node)| is_rendered(node) && !names.contains(&key.name.as_str()))
    {
        let problem = Problem::new(format!("there is no {noun} `{}`", key.name)).at(&key.at);
        problems.push(problem.help(did_you_mean(&key.name, &names)));
    }
    problems.unless_any(())
}

/// Whether a value has anything in it that is rendered.
fn is_rendered(node: &Node) -> bool {
    match &node.value {
        Value::String(text) => is_template(text),
        Value::List(elements) => elements.iter().any(is_rendered),
        Value::Map(entries) => entries.iter().any(|(_, node)| is_rendered(node)),
        _ => false,
    }
}

/// Whether the recipe has the files and templates that a resource names, if they are named plainly.
fn source_exists(recipe: &Recipe, kind: &Kind, fields: &Node) -> Result<(), Problem> {
    let Value::Map(fields) = &fields.value else { return Ok(()) };
    let (file, template) = match kind.name {
        "template" => (None, Some("source")),
        "file" => (Some("source"), None),
        "script" => (Some("source"), Some("template")),
        _ => return Ok(()),
    };
    for (key, node) in fields {
        let Value::String(name) = &node.value else { continue };
        if name.contains('{') {
            continue;
        }
        let names: Vec<&str> = recipe.templates().names().collect();
        if Some(key.name.as_str()) == template && !names.contains(&name.as_str()) {
            let problem = Problem::new(format!("there is no template `{name}`")).at(&node.at);
            return Err(problem.help(did_you_mean(name, &names)));
        }
        if Some(key.name.as_str()) == file {
            recipe.file(name).map_err(|problem| problem.at(&node.at))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Example;

    #[test]
    fn the_services_of_a_recipe_are_known_before_its_values() {
        let services = |text: &str| {
            let recipe = Example::resources(text).load().expect("valid");
            running_services(
                &RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None },
                &Scope::new(Map::new()),
            )
        };
        let several = "
- service: { name: nginx, state: running }
- service: { name: nginx.service, state: running }
- service: { name: \"{{ item }}\", state: running }
  for_each: [a, b.timer]
- service: { name: stopped, state: stopped }
- service: { name: enabled, enabled: true }
- service: { name: disabled, enabled: false }
- service: { name: \"{{ item }}\", state: running }
  for_each: [systemd-journald, nftables, dbus.socket, srv-data.mount]
- file: { path: /etc/a, content: \"{{ parameters.x }}\" }
";
        assert_eq!(
            services(several).expect("known"),
            ["a.service", "b.timer", "enabled.service", "nginx.service"]
        );
        let unknown = services("- service: { name: \"{{ parameters.x }}\", state: running }");
        insta::assert_snapshot!(unknown.expect_err("not known").to_string(), @"example/recipe.yaml:2:26: `parameters.x` is not defined; which services of boot recipes wait for the agent has to be known when the image is baked; valid are `inputs` and `item`");
        assert!(services("- service: { name: a, state: \"{{ parameters.x }}\" }").is_err());
        assert!(services("- service: { name: \"{{ facts.live.cloud }}\", state: running }").is_err());
        assert!(
            services(
                "- service: { name: \"{{ item }}\", state: running }\n  for_each: \"{{ parameters.x }}\""
            )
            .is_err()
        );
        let reloaded = "- file: { path: /etc/a, content: a }\n  notify: reload nginx\nhandlers:\n  reload nginx: { service: { name: nginx, state: reloaded } }\n";
        let recipe = Example::recipe(&format!("resources:\n{reloaded}")).load().expect("valid");
        let used = RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None };
        let scope = Scope::new(Map::new());
        assert_eq!(running_services(&used, &scope).expect("known"), ["nginx.service"]);
    }

    #[test]
    fn what_can_be_known_to_be_wrong_is_found_before_the_values_are_there() {
        let text = "
inputs:
  port: { type: integer, default: 80 }
resources:
  - template: { path: /etc/a, source: a.tera }
  - template: { path: /etc/b, source: aa.tera }
  - file: { path: /etc/c, source: c }
  - file: { path: \"/etc/{{ inputs.prot }}\", content: \"{{ parameters.x }}\" }
";
        let example = Example::recipe(text).template("a.tera", "{{ parameters.x }} {{ inputs.prot }}");
        let recipe = example.load().expect("valid");
        let inputs = Map::from_iter([("port".to_owned(), Json::from(80))]);
        let used = RecipeUse { recipe, inputs, stage: 0, at: None };
        let problems = check_ahead(&used, &Scope::new(Map::new())).expect_err("wrong");
        insta::assert_snapshot!(problems.to_string(), @"
        example/templates/a.tera:1:23: `inputs.prot` is not defined; did you mean `port`? valid is `port`
        example/recipe.yaml:6:39: there is no template `aa.tera`; did you mean `a.tera`? valid is `a.tera`
        example/recipe.yaml:7:35: the recipe has no `files/c`; no name is valid here
        example/recipe.yaml:8:28: `inputs.prot` is not defined; did you mean `port`? valid is `port`
        ");
    }

    #[test]
    fn included_recipes_are_looked_into_before_their_values_are_known() {
        let site = "
inputs: { name: { type: string }, page: { type: string, default: x } }
resources:
  - service: { name: \"{{ inputs.name }}\", state: running }
  - file: { path: /etc/page, content: \"{{ inputs.page }}{{ inputs.nmae }}\" }
";
        let ahead = |include: &str| {
            let example = Example::resources(include).beside("site", site);
            let recipe = example.load().expect("valid");
            let used = RecipeUse { recipe, inputs: Map::new(), stage: 0, at: None };
            let scope = Scope::new(Map::new());
            let services = running_services(&used, &scope).map_err(|problems| problems.to_string());
            (services, check_ahead(&used, &scope).expect_err("misspelt").to_string())
        };
        let (services, problems) = ahead(
            "- include: { site: { name: \"{{ item }}\", page: \"{{ parameters.page }}\" } }\n  for_each: [a, b]",
        );
        assert_eq!(
            services,
            Ok(vec!["a.service".into(), "b.service".into()]),
            "what else it is told may be unknown"
        );
        insta::assert_snapshot!(problems, @"site/recipe.yaml:5:60: `inputs.nmae` is not defined; did you mean `name`? valid are `name` and `page`");
        let (services, problems) = ahead(
            "- include: { site: { name: \"{{ parameters.name }}\", pgae: \"{{ parameters.page }}\" } }",
        );
        insta::assert_snapshot!(services.expect_err("not known"), @"site/recipe.yaml:4:26: `inputs.name` is not defined; which services of boot recipes wait for the agent has to be known when the image is baked; valid is `page`");
        insta::assert_snapshot!(problems, @"
        example/recipe.yaml:2:55: there is no input of `site` `pgae`; did you mean `page`? valid are `name` and `page`
        site/recipe.yaml:5:60: `inputs.nmae` is not defined; did you mean `name`? valid are `name` and `page`
        ");
    }
}
