//! `template`: a file rendered from a template of the recipe.

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::Contents;
use super::fields::{AbsolutePath, Mode, attributes};
use super::{Context, Fields, Resource};
use crate::error::Problem;
use crate::words::Words;

/// A regular file rendered from a template in the recipe's `templates/`.
///
/// Templates are Tera. They see `inputs` and `facts`, and at boot also `environment`, `role`, `instance`,
/// `parameters` and `secrets`. What is not defined is an error. It is put in place as a `file` is.
///
/// ```yaml
/// - template:
///     path: /etc/ssh/sshd_config
///     source: sshd_config.tera
///     mode: "0600"
///     validate: sshd -t -f {file}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    /// Where the file is.
    path: AbsolutePath,
    /// The template in the recipe's `templates/`.
    source: String,
    /// Its owner; `root` if not said.
    owner: Option<String>,
    /// Its group; `root` if not said.
    group: Option<String>,
    /// Its permission bits; `"0644"` if not said, `"0400"` if a secret went into it.
    mode: Option<Mode>,
    /// A command that must accept the new file, as `{file}`, before it is put in place.
    validate: Option<Words>,
}

impl Fields for Template {
    const KIND: &'static str = "template";

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let content = context.template(&self.source)?;
        let default_mode = if content.is_secret() { 0o400 } else { 0o644 };
        Ok(Box::new(Contents {
            path: self.path.as_path().to_owned(),
            attributes: attributes(self.owner, self.group, self.mode, default_mode),
            content,
            validate: self.validate.map(|words| words.0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const RECIPE: &str = "
inputs:
  port: { type: integer, default: 80 }
resources:
  - template: { path: /etc/app.conf, source: app.conf.tera, validate: 'app --check {file}' }
";

    #[test]
    fn settles_with_its_inputs_and_facts() {
        let mut fake = Fake::debian();
        let example = Example::recipe(RECIPE)
            .template("app.conf.tera", "# {{ facts.os.codename }}\nport {{ inputs.port }}\n");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: template /etc/app.conf
          + create /etc/app.conf (root:root 0644, 19 bytes)
              --- /dev/null
              +++ /etc/app.conf
              @@ -0,0 +1,2 @@
              +# bookworm
              +port 80
        Plan: 1 to change, 0 unchanged.
        ");
        let example = example.inputs("{ port: 8080 }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: template /etc/app.conf
          ~ change /etc/app.conf
              --- /etc/app.conf
              +++ /etc/app.conf
              @@ -1,2 +1,2 @@
               # bookworm
              -port 80
              +port 8080
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_the_template_asks_for_must_exist() {
        let problems = |text: &str| Example::recipe(RECIPE).template("app.conf.tera", text).problems();
        insta::assert_snapshot!(problems("port {{ inputs.prot }}\n"), @"example/templates/app.conf.tera:1:9: `inputs.prot` is not defined; did you mean `port`? valid is `port`");
        insta::assert_snapshot!(problems("{% if facts.os.nmae %}{% endif %}"), @"example/templates/app.conf.tera:1:7: `facts.os.nmae` is not defined; did you mean `name`? valid are `name`, `id`, `family`, `like`, `version` and `codename`");
        insta::assert_snapshot!(problems("{{ secrets.password }}"), @"example/templates/app.conf.tera:1:4: variable `secrets` is not defined. Available variables: facts, inputs");
        insta::assert_snapshot!(Example::recipe(RECIPE).template("app.tera", "").problems(), @"example/recipe.yaml:5:15: there is no template `app.conf.tera`; valid is `app.tera`");
    }

    #[test]
    fn a_secret_in_it_makes_all_of_it_secret() {
        let mut fake = Fake::debian();
        let example = Example::recipe(RECIPE)
            .template("app.conf.tera", "password={{ secrets.password }}\n")
            .secret("hunter2");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: template /etc/app.conf
          + create the directory /run/bootstrap-agent (root:root 0711)
          + create the directory /run/bootstrap-agent/files (root:root 0711)
          + create the directory /run/bootstrap-agent/files/etc (root:root 0711)
          + create /run/bootstrap-agent/files/etc/app.conf (root:root 0400, secret, 17 bytes)
          + link /etc/app.conf -> /run/bootstrap-agent/files/etc/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
        let open = Example::recipe(RECIPE).template("app.conf.tera", "no secret\n").secret("hunter2");
        insta::assert_snapshot!(open.settles(&mut fake), @"
        example: template /etc/app.conf
          ~ replace the link /etc/app.conf -> /run/bootstrap-agent/files/etc/app.conf by a file (root:root 0644, 10 bytes)
              --- /dev/null
              +++ /etc/app.conf
              @@ -0,0 +1 @@
              +no secret
        Plan: 1 to change, 0 unchanged.
        ");
    }
}
