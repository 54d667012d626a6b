//! `assert`: something that must hold for the recipe to make sense.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::node::{Node, Value};
use crate::op::Op;
use crate::system::{Facts, PlanError};
use crate::template::condition;

/// A condition that must hold, or nothing is applied: it is decided before anything runs, from inputs,
/// facts and values, as the `when` of a resource is. It changes nothing.
///
/// What only the running host can tell, such as whether a port answers, is for the checks of an image and
/// the `health` of a boot.
///
/// ```yaml
/// - assert:
///     that: facts.os.family == "debian"
///     message: this recipe knows only Debian and its descendants
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Assert {
    /// The condition: an expression without braces, as in `when`.
    that: String,
    /// What is wrong if it does not hold, and what to do; the condition itself if not said.
    message: Option<String>,
}

#[derive(Debug)]
struct Resolved {
    that: String,
}

impl Fields for Assert {
    const KIND: &'static str = "assert";

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let node = Node { value: Value::String(self.that.clone()), at: context.at.clone() };
        if condition(&node, context.scope)? {
            return Ok(Box::new(Resolved { that: self.that }));
        }
        match self.message {
            Some(message) => Err(Problem::new(message).help(format!("required is `{}`", self.that))),
            None => Err(Problem::new(format!("`{}` does not hold", self.that))),
        }
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.that.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    fn plan(&self, _facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn recipe(fields: &str) -> Example {
        let text = "inputs: { port: { type: integer, default: 80 } }\nresources:\n";
        Example::recipe(&format!("{text}  - file: {{ path: /etc/a, content: a }}\n  - assert: {fields}\n"))
    }

    #[test]
    fn settles_by_doing_nothing_if_it_holds() {
        let mut fake = Fake::debian();
        recipe("{ that: inputs.port < 1024 and facts.os.id == \"debian\" }").settles(&mut fake);
        assert_eq!(fake.performed.len(), 1, "the file");
    }

    #[test]
    fn nothing_is_applied_if_it_does_not_hold() {
        insta::assert_snapshot!(recipe("{ that: inputs.port > 1024 }").problems(), @"example/recipe.yaml:4:13: `inputs.port > 1024` does not hold");
        insta::assert_snapshot!(
            recipe("{ that: inputs.port > 1024, message: 'port {{ inputs.port }} needs root' }").problems(),
            @"example/recipe.yaml:4:13: port 80 needs root; required is `inputs.port > 1024`"
        );
    }

    #[test]
    fn it_is_decided_only_where_when_and_for_each_say() {
        let mut fake = Fake::debian();
        let never = "- assert: { that: facts.arch == \"vax\" }\n  when: facts.os.id == \"vms\"";
        Example::resources(never).settles(&mut fake);
        let each = "- assert: { that: item > 1 }\n  for_each: [1, 2]";
        insta::assert_snapshot!(Example::resources(each).problems(), @"example/recipe.yaml:2:13: `item > 1` does not hold");
    }

    #[test]
    fn what_is_no_condition_is_explained() {
        insta::assert_snapshot!(recipe("{ that: inputs.prot > 1024 }").problems(), @"example/recipe.yaml:4:5: `inputs.prot` is not defined; did you mean `port`? valid is `port`");
        insta::assert_snapshot!(recipe("{ that: 'inputs.port >' }").problems(), @r#"example/recipe.yaml:4:5: found `%}` but expected one of: integer, float, string, bool, ident, `-`, `not`, `<`, `{`, `[` or `(`; a condition is an expression without braces, such as `facts.os.id == "debian"`"#);
        insta::assert_snapshot!(recipe("{ that: \"{{ inputs.port }} > 1024\" }").problems(), @"example/recipe.yaml:4:13: `80 > 1024` does not hold");
        insta::assert_snapshot!(recipe("{ message: x }").problems(), @"example/recipe.yaml:4:13: the field `that` is missing in `assert`");
        let leaky = "- assert: { that: secrets.password == \"x\", message: \"{{ secrets.password }}\" }";
        insta::assert_snapshot!(Example::resources(leaky).secret("hunter2").problems(), @"example/recipe.yaml:2:55: a secret may not be used in `message` of a `assert`; it would be seen in plans and process lists; write it to a `file` or `template`");
        let quiet = "- assert: { that: secrets.password == \"x\" }";
        insta::assert_snapshot!(Example::resources(quiet).secret("hunter2").problems(), @r#"example/recipe.yaml:2:13: `secrets.password == "x"` does not hold"#);
    }
}
