//! `file`: a regular file with exactly this content, or none.

use schemars::JsonSchema;
use serde::Deserialize;

use super::checkers::Validate;
use super::contents::{Contents, plan_no_file};
use super::fields::{AbsolutePath, Mode, State, attributes};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Facts, PlanError};

/// A regular file with exactly this content.
///
/// The content is given in place or taken from the recipe's `files/`. It is written beside the file,
/// with owner and mode set before the content, checked, and moved into place: a reader sees the old file
/// or the new one. A file whose content holds a secret is kept on tmpfs and linked to.
///
/// ```yaml
/// - file: { path: /etc/motd, content: "Managed by recipes.\n" }
/// - file: { path: /etc/sudoers.d/ops, source: ops, mode: "0440", validate: "visudo -cf {file}" }
/// - file: { path: /etc/nologin, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Where it is.
    path: AbsolutePath,
    /// What is in it.
    content: Option<String>,
    /// The file in the recipe's `files/` that it is a copy of.
    source: Option<String>,
    /// Its owner; `root` if not said.
    owner: Option<String>,
    /// Its group; `root` if not said.
    group: Option<String>,
    /// Its permission bits; `"0644"` if not said, `"0400"` if it holds a secret.
    mode: Option<Mode>,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// No file.
#[derive(Debug)]
pub(super) struct AbsentFile {
    pub(super) path: AbsolutePath,
}

impl Fields for File {
    const KIND: &'static str = "file";
    const SECRET_FIELDS: &'static [&'static str] = &["content"];

    fn build(self, context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.state == State::Absent {
            return match (self.content, self.source) {
                (None, None) => Ok(Box::new(AbsentFile { path: self.path })),
                _ => Err(Problem::new("a file that shall be absent has no `content` or `source`")),
            };
        }
        let content = match (self.content, self.source) {
            (Some(text), None) => Content::new(text).secret_if(context.secret),
            (None, Some(source)) => context.file(&source)?,
            (None, None) => {
                return Err(Problem::new("a `file` needs `content` or `source`")
                    .help("for an empty file write `content: \"\"`"));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::new("a `file` has either `content` or `source`, not both"));
            }
        };
        let default_mode = if content.is_secret() { 0o400 } else { 0o644 };
        Ok(Box::new(Contents {
            path: self.path.as_path().to_owned(),
            attributes: attributes(self.owner, self.group, self.mode, default_mode),
            content,
            validate: self.validate.map(|validate| validate.0),
        }))
    }
}

impl Resource for Contents {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(self.path.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        Self::plan(self, facts)
    }

    fn is_verbatim(&self) -> bool {
        true
    }
}

impl Resource for AbsentFile {
    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(self.path.as_path().to_owned())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        plan_no_file(facts, self.path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_from_nothing_from_drift_and_to_absence() {
        let mut fake = Fake::debian();
        let example = Example::resources("- file: { path: /etc/motd, content: \"hi\\n\" }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: file /etc/motd
          + create /etc/motd (root:root 0644, 3 bytes)
              --- /dev/null
              +++ /etc/motd
              @@ -0,0 +1 @@
              +hi
        Plan: 1 to change, 0 unchanged.
        ");
        fake.file("/etc/motd", "changed\n");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: file /etc/motd
          ~ change /etc/motd
              --- /etc/motd
              +++ /etc/motd
              @@ -1 +1 @@
              -changed
              +hi
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources("- file: { path: /etc/motd, content: \"hi\\n\", mode: \"0600\" }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: file /etc/motd
          ~ /etc/motd: root:root 0644 -> root:root 0600
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources("- file: { path: /etc/motd, state: absent }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: file /etc/motd
          - remove /etc/motd
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/etc/motd"), None);
    }

    #[test]
    fn a_source_is_copied_and_a_link_is_replaced() {
        let mut fake = Fake::debian();
        fake.symlink("/etc/motd", "/run/motd");
        let example =
            Example::resources("- file: { path: /etc/motd, source: motd }").file("motd", "from a file\n");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: file /etc/motd
          ~ replace the link /etc/motd -> /run/motd by a file (root:root 0644, 12 bytes)
              --- /dev/null
              +++ /etc/motd
              @@ -0,0 +1 @@
              +from a file
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/etc/motd").as_deref(), Some("from a file\n"));
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut fake = Fake::debian();
        let fails =
            |fields: &str, fake: &mut Fake| Example::resources(&format!("- file: {fields}")).fails(fake);
        insta::assert_snapshot!(fails("{ path: /etc, content: x }", &mut fake), @"example: file /etc: `/etc` is a directory, not a file");
        insta::assert_snapshot!(fails("{ path: /etc, state: absent }", &mut fake), @"example: file /etc: `/etc` is a directory, not a file; to remove it with all that is in it: `directory: { path: /etc, state: absent }`");
        insta::assert_snapshot!(fails("{ path: /etc/app/a.conf, content: x }", &mut fake), @"example: file /etc/app/a.conf: the directory `/etc/app` does not exist; put a `directory: { path: /etc/app }` before it");
        insta::assert_snapshot!(fails("{ path: /etc/a, content: x, owner: app }", &mut fake), @"example: file /etc/a: the user `app` does not exist; put a `user: { name: app }` before it");
        fake.make_unreadable("/etc/a");
        insta::assert_snapshot!(fails("{ path: /etc/a, content: x }", &mut fake), @"example: file /etc/a: failed to read `/etc/a`: permission denied");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- file: {fields}")).problems();
        insta::assert_snapshot!(problems("{ path: /etc/a }"), @r#"example/recipe.yaml:2:11: a `file` needs `content` or `source`; for an empty file write `content: ""`"#);
        insta::assert_snapshot!(problems("{ path: /etc/a, content: x, source: y }"), @"example/recipe.yaml:2:11: a `file` has either `content` or `source`, not both");
        insta::assert_snapshot!(problems("{ path: etc/a, content: x }"), @"example/recipe.yaml:2:11: the path `etc/a` does not start with `/`");
        insta::assert_snapshot!(problems("{ path: /etc/../a, content: x }"), @"example/recipe.yaml:2:11: the path `/etc/../a` has `..` or NUL in it");
        insta::assert_snapshot!(problems("{ path: /etc/a, content: x, mode: 644 }"), @r#"example/recipe.yaml:2:45: a mode is a string: the number 644 is 0o1204 in octal; write "0644""#);
        insta::assert_snapshot!(problems("{ path: /etc/a, content: x, mode: \"0999\" }"), @r#"example/recipe.yaml:2:45: expected a mode as a string of octal digits, such as "0644", found the string `0999`"#);
        insta::assert_snapshot!(problems("{ path: /etc/a, contnet: x }"), @"example/recipe.yaml:2:27: unknown field `contnet` in `file`; did you mean `content`? valid are `path`, `content`, `source`, `owner`, `group`, `mode`, `validate` and `state`");
        insta::assert_snapshot!(problems("{ path: /etc/a, source: nope }"), @"example/recipe.yaml:2:11: the recipe has no `files/nope`; no name is valid here");
        insta::assert_snapshot!(problems("{ path: /etc/a, source: ../recipe.yaml }"), @"example/recipe.yaml:2:11: `../recipe.yaml` is not a path inside the recipe's `files/`");
    }

    #[test]
    fn a_secret_is_kept_on_tmpfs_and_never_shown() {
        let mut fake = Fake::debian();
        fake.directory("/etc/app");
        let example =
            Example::resources("- file: { path: /etc/app/key, content: \"{{ secrets.password }}\" }")
                .secret("hunter2");
        let plan = example.settles(&mut fake);
        insta::assert_snapshot!(plan, @"
        example: file /etc/app/key
          + create the directory /run/bootstrap-agent (root:root 0711)
          + create the directory /run/bootstrap-agent/files (root:root 0711)
          + create the directory /run/bootstrap-agent/files/etc (root:root 0711)
          + create the directory /run/bootstrap-agent/files/etc/app (root:root 0711)
          + create /run/bootstrap-agent/files/etc/app/key (root:root 0400, secret, 7 bytes)
          + link /etc/app/key -> /run/bootstrap-agent/files/etc/app/key
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/run/bootstrap-agent/files/etc/app/key").as_deref(), Some("hunter2"));
        assert!(!format!("{:?}", fake.performed).contains("hunter2"));
        let leaky = Example::resources("- file: { path: \"/etc/{{ secrets.password }}\", content: x }")
            .secret("hunter2");
        insta::assert_snapshot!(leaky.problems(), @"example/recipe.yaml:2:19: a secret may not be used in `path` of a `file`; it would be seen in plans and process lists; write it to a `file` or `template`");
    }
}
