//! What is known of the boot recipes of an image before the values are that they will see.

use serde_json::Value as Json;

use crate::error::{Problem, Problems, did_you_mean};
use crate::node::{Node, Value};
use crate::recipe::{Declaration, Recipe};
use crate::resolve::{RecipeUse, elements};
use crate::system::units::full_name;
use crate::template::{Scope, check, render};

/// The units that a recipe has something to do with: that it enables or keeps running, or that its handlers
/// reload, found before the values it will see are known. Those of an image's boot recipes have to wait for
/// the agent, but for those that it waits for itself.
///
/// # Errors
/// When the name or the state of one depends on values that only the boot will bring.
pub fn running_services(used: &RecipeUse, scope: &Scope) -> Result<Vec<String>, Problem> {
    let scope = scope.clone().with("inputs", Json::Object(used.inputs.clone()));
    let mut services = Vec::new();
    let help = "which services of boot recipes wait for the agent has to be known when the image is baked";
    let handlers = used.recipe.handlers.iter().map(|(_, declaration)| declaration);
    let declarations = used.recipe.resources.iter().chain(handlers);
    for declaration in declarations.filter(|declaration| declaration.kind.name == "service") {
        let Value::Map(fields) = &declaration.fields.value else { continue };
        let field = |name: &str| fields.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        let Some(name) = field("name") else { continue };
        let items = declaration.for_each.as_ref().map(|each| elements(each, &scope)).transpose();
        for item in items.map_err(|problem| problem.help(help))?.unwrap_or_else(|| vec![Json::Null]) {
            let scope = scope.clone().with("item", item);
            let known = |node: &Node| render(node, &scope).map_err(|problem| problem.help(help));
            let says = |name: &str, wanted: &[Json]| {
                field(name)
                    .map(known)
                    .transpose()
                    .map(|node| node.is_some_and(|node| wanted.contains(&node.to_json())))
            };
            if !says("state", &["running".into(), "reloaded".into(), "restarted".into()])?
                && !says("enabled", &[true.into()])?
            {
                continue;
            }
            let rendered = known(name)?;
            services.push(full_name(rendered.as_str("the name of a unit")?));
        }
    }
    services.retain(|unit| !comes_before_agent(unit));
    services.sort();
    services.dedup();
    Ok(services)
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
    let scope = scope.clone().with("inputs", Json::Object(used.inputs.clone()));
    let recipe = &used.recipe;
    let mut problems = Problems::new();
    problems.keep(recipe.templates().check(&scope));
    let handlers = recipe.handlers.iter().map(|(_, declaration)| declaration);
    for declaration in recipe.resources.iter().chain(handlers) {
        let parts = [Some(&declaration.fields), declaration.name.as_ref(), declaration.for_each.as_ref()];
        for part in parts.into_iter().flatten() {
            problems.keep(check(part, &scope));
        }
        problems.keep(source_exists(recipe, declaration));
    }
    problems.unless_any(())
}

/// Whether the recipe has the files and templates that a resource names, if they are named plainly.
fn source_exists(recipe: &Recipe, declaration: &Declaration) -> Result<(), Problem> {
    let Value::Map(fields) = &declaration.fields.value else { return Ok(()) };
    let (file, template) = match declaration.kind.name {
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
            let recipe = std::sync::Arc::new(Example::resources(text).load().expect("valid"));
            running_services(
                &RecipeUse { recipe, inputs: serde_json::Map::new(), stage: 0 },
                &Scope::new(serde_json::Map::new()),
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
        insta::assert_snapshot!(unknown.expect_err("not known").located(), @"example/recipe.yaml:2:26: `parameters.x` is not defined; valid are `inputs` and `item`");
        assert!(services("- service: { name: a, state: \"{{ parameters.x }}\" }").is_err());
        assert!(
            services(
                "- service: { name: \"{{ item }}\", state: running }\n  for_each: \"{{ parameters.x }}\""
            )
            .is_err()
        );
        let reloaded = "- file: { path: /etc/a, content: a }\n  notify: reload nginx\nhandlers:\n  reload nginx: { service: { name: nginx, state: reloaded } }\n";
        let recipe =
            std::sync::Arc::new(Example::recipe(&format!("resources:\n{reloaded}")).load().expect("valid"));
        let used = RecipeUse { recipe, inputs: serde_json::Map::new(), stage: 0 };
        let scope = Scope::new(serde_json::Map::new());
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
        let recipe = std::sync::Arc::new(example.load().expect("valid"));
        let inputs = serde_json::Map::from_iter([("port".to_owned(), Json::from(80))]);
        let used = RecipeUse { recipe, inputs, stage: 0 };
        let problems = check_ahead(&used, &Scope::new(serde_json::Map::new())).expect_err("wrong");
        insta::assert_snapshot!(problems.to_string(), @"
        example/templates/a.tera:1:23: `inputs.prot` is not defined; did you mean `port`? valid is `port`
        example/recipe.yaml:6:39: there is no template `aa.tera`; did you mean `a.tera`? valid is `a.tera`
        example/recipe.yaml:7:35: the recipe has no `files/c`; no name is valid here
        example/recipe.yaml:8:28: `inputs.prot` is not defined; did you mean `port`? valid is `port`
        ");
    }
}
