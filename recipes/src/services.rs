//! Which units the boot recipes of an image have something to do with.

use serde_json::Value as Json;

use crate::error::Problem;
use crate::node::{Node, Value};
use crate::resolve::{RecipeUse, elements};
use crate::system::units::full_name;
use crate::template::{Scope, render};

/// The units that a recipe has something to do with: that it enables or keeps running, or that its handlers
/// reload, found before the values it will see are known. Those of an image's boot recipes have to wait for
/// the agent.
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
    services.sort();
    services.dedup();
    Ok(services)
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
}
