//! `yaml`: one value in a YAML file that something else owns.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::checkers::Validate;
use super::edited::EditedFile;
use super::fields::{AbsolutePath, State};
use super::keys::{KeyPath, NestedKey, given, value_matches_state};
use super::yaml_text::{Obstacle, edit};
use super::{Context, Fields, Resource};
use crate::error::Problem;
use crate::system::PlanError;

/// One value in a YAML file that something else owns.
///
/// Only the value changes: comments, the order of keys and the rest of the file stay as they are. Mappings
/// on the way that are missing are made; a key without a value counts as one. A list is set as a whole. A
/// key goes with its comments: those on its line, right above it, and below it with a deeper indent.
///
/// What is written is what readers of YAML 1.1 and 1.2 take for the same value, so a string such as `yes`
/// or `0644` gets quotes. A file with several documents is an error, and so is a value with an anchor, a
/// tag, an alias or a merge key in it: what refers to it would change too.
///
/// ```yaml
/// - yaml: { path: /etc/app/config.yml, key: server.port, value: 8080, create: true }
/// - yaml: { path: /etc/prometheus/prometheus.yml, key: [global, external_labels, "host.name"], value: web }
/// - yaml: { path: /etc/app/config.yml, key: debug, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct YamlKey {
    /// The file.
    path: AbsolutePath,
    /// The keys that lead to the value, with dots between them, or as a list where keys have dots.
    key: KeyPath,
    /// The value, of any type, `null` too; required, unless `absent`.
    #[serde(default, deserialize_with = "given")]
    value: Option<Json>,
    /// Whether a file that is not there is made, as root's, with mode 0644; `false` if not said.
    #[serde(default)]
    create: bool,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// `present` or `absent`. A mapping stays, as `{}`, when its last key goes.
    #[serde(default)]
    state: State,
}

impl Fields for YamlKey {
    const KIND: &'static str = "yaml";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        value_matches_state(Self::KIND, self.state, self.value.as_ref())?;
        let file = EditedFile {
            path: self.path,
            create: self.create,
            validate: self.validate.map(|validate| validate.0),
            state: self.state,
        };
        Ok(Box::new(NestedKey { file, key: self.key, value: self.value, edit: edited }))
    }
}

fn edited(wanted: &NestedKey, before: &str) -> Result<String, PlanError> {
    edit(before, &wanted.key.0, wanted.value.as_ref()).map_err(|obstacle| explain(wanted, obstacle))
}

fn explain(wanted: &NestedKey, obstacle: Obstacle) -> PlanError {
    let whole = "decide the whole file with a `file` or a `template`";
    match obstacle {
        Obstacle::Invalid(error) => {
            let (what, line) = (error.info(), error.marker().line());
            wanted.file.impossible(&format!("is not valid YAML: {what} in line {line}"))
        }
        Obstacle::Several => PlanError::impossible_but(
            format!(
                "`{}` has several documents, and a `yaml` decides a key of a single one",
                wanted.file.path
            ),
            whole,
        ),
        Obstacle::NoMapping { depth, noun } => wanted.has_no_keys(depth, noun),
        Obstacle::Twice { depth } => wanted.is_there_twice(depth),
        Obstacle::Shared { depth, noun } => {
            let what = match depth {
                0 => format!("`{}`", wanted.file.path),
                _ => format!("`{}` in `{}`", wanted.key.0[..depth].join("."), wanted.file.path),
            };
            PlanError::impossible_but(format!("{what} has {noun}, so it cannot be changed alone"), whole)
        }
        Obstacle::Unknown => PlanError::impossible_but(
            format!("`{}` is written such that `{}` cannot be changed alone", wanted.file.path, wanted.key),
            whole,
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::{self, Example};

    fn edited(text: &str, fields: &str) -> String {
        testing::edited("yaml", text, fields)
    }

    const CONFIG: &str = "# The application.
server:
    # Where it listens.
    port: 80 # not 443
    hosts: [ a, 'b' ]

    tls: {cert: /a, key: /b}
text: |
    one

    two
jobs:
- name: x   # first
  \"on\": yes

# About a and b.
a: 'it''s'

# Only b.
b: \"x\"
";

    #[test]
    fn settles_with_one_value_changed_and_the_rest_as_it_was() {
        let mut fake = Fake::debian();
        fake.file("/etc/app.yml", CONFIG);
        let example = Example::resources("- yaml: { path: /etc/app.yml, key: server.port, value: 8080 }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: yaml /etc/app.yml: server.port
          ~ change /etc/app.yml
              --- /etc/app.yml
              +++ /etc/app.yml
              @@ -1,7 +1,7 @@
               # The application.
               server:
                   # Where it listens.
              -    port: 80 # not 443
              +    port: 8080 # not 443
                   hosts: [ a, 'b' ]
               
                   tls: {cert: /a, key: /b}
        Plan: 1 to change, 0 unchanged.
        ");
        let with = |from: &str, to: &str| {
            assert!(CONFIG.contains(from));
            CONFIG.replacen(from, to, 1)
        };
        assert_eq!(edited(CONFIG, "key: server.port, value: 80"), CONFIG, "it is true already");
        assert_eq!(edited(CONFIG, "key: server.hosts, value: [a, b]"), CONFIG);
        assert_eq!(edited(CONFIG, "key: text, value: \"one\\n\\ntwo\\n\""), CONFIG);
        assert_eq!(edited(CONFIG, "key: a, value: \"no\""), with("'it''s'", "'no'"));
        assert_eq!(edited(CONFIG, "key: b, value: y z"), with("\"x\"", "\"y z\""));
        assert_eq!(edited(CONFIG, "key: b, value: null"), with("\"x\"", "null"));
        assert_eq!(edited(CONFIG, "key: server.port, value: '80'"), with("80 #", "\"80\" #"));
        assert_eq!(
            edited(CONFIG, "key: server.hosts, value: [c, 'yes']"),
            with("[ a, 'b' ]", "[c, \"yes\"]")
        );
        assert_eq!(edited(CONFIG, "key: server.tls.key, value: [1]"), with("/b", "[1]"));
        assert_eq!(
            edited(CONFIG, "key: text, value: \"three\\nfour\""),
            with("|\n    one\n\n    two", "|-\n    three\n    four")
        );
        assert_eq!(edited(CONFIG, "key: text, value: three"), with("|\n    one\n\n    two", "three"));
        assert_eq!(
            edited(CONFIG, "key: jobs, value: [{ name: x, 'on': 'yes' }, z]"),
            with("- name: x   # first\n  \"on\": yes\n", "- name: x\n  \"on\": \"yes\"\n- z\n"),
            "what is a boolean to some readers is no string"
        );
        assert_eq!(
            edited(CONFIG, "key: server.port, value: { from: 1 }"),
            with("port: 80 # not 443\n", "port: # not 443\n        from: 1\n")
        );
        assert_eq!(
            edited(CONFIG, "key: server, value: off-line"),
            format!(
                "# The application.\nserver: off-line\n{}",
                &CONFIG[CONFIG.find("text:").expect("there")..]
            )
        );
    }

    #[test]
    fn settles_without_the_key_and_its_comments() {
        let absent = |key: &str| edited(CONFIG, &format!("key: {key}, state: absent"));
        let without = |part: &str| {
            assert!(CONFIG.contains(part));
            CONFIG.replacen(part, "", 1)
        };
        assert_eq!(absent("server.port"), without("    # Where it listens.\n    port: 80 # not 443\n"));
        assert_eq!(absent("server.tls.cert"), without("cert: /a, "));
        assert_eq!(absent("server.tls.key"), without(", key: /b"));
        assert_eq!(absent("text"), without("text: |\n    one\n\n    two\n"));
        assert_eq!(absent("b"), without("# Only b.\nb: \"x\"\n"));
        assert_eq!(absent("server.none"), CONFIG);
        assert_eq!(absent("a.b.c"), CONFIG, "a string has no keys");
        assert_eq!(edited("# File.\na: 1\nb: 2\n", "key: a, state: absent"), "# File.\nb: 2\n");
        assert_eq!(edited("a:\n  b: 1\n  # c: 2\nd: 3\n", "key: a, state: absent"), "d: 3\n");
        assert_eq!(edited("a: # x\n  b: 1 # y\nd: 3\n", "key: a.b, state: absent"), "a: {} # x\nd: 3\n");
        assert_eq!(edited("x: { a: { b: 1, } }\n", "key: x.a.b, state: absent"), "x: { a: {} }\n");
        assert_eq!(edited("# File.\n---\na: 1\n...\n", "key: a, state: absent"), "# File.\n---\n{}\n...\n");
        assert_eq!(
            edited("a: |+\n  x\n\nb: 1\n\n\nc: 1\n", "key: b, state: absent"),
            "a: |+\n  x\n\nc: 1\n",
            "the empty lines below it do not become a part of the text above it"
        );
        assert_eq!(edited("", "key: a, state: absent"), "");
    }

    #[test]
    fn what_is_added_is_written_as_the_file_is() {
        let set = |text: &str, key: &str, value: &str| edited(text, &format!("key: {key}, value: {value}"));
        assert_eq!(set("", "a.b", "1"), "a:\n  b: 1\n");
        assert_eq!(set("# Nothing yet.", "a", "[]"), "# Nothing yet.\na: []\n");
        assert_eq!(set("---\n", "a", "b"), "---\na: b\n");
        assert_eq!(set("--- # x\n", "a", "b"), "--- # x\na: b\n");
        assert_eq!(set("{}\n", "a", "b"), "a: b\n");
        assert_eq!(set("--- {}\n", "a", "b"), "--- {a: b}\n");
        assert_eq!(set("null\n", "a", "b"), "a: b\n");
        assert_eq!(set("\u{feff}a: 1\r\nb:\r\n", "b.c", "[x]"), "\u{feff}a: 1\r\nb:\r\n  c:\r\n    - x\r\n");
        assert_eq!(set("a: 1", "b", "2"), "a: 1\nb: 2\n");
        assert_eq!(set("a: {} # x\nb: 1\n", "a.c.d", "2"), "a: # x\n  c:\n    d: 2\nb: 1\n");
        assert_eq!(set("a: ~\n", "a.b", "2"), "a:\n  b: 2\n");
        assert_eq!(set("a: { b: 1 }\n", "a.c", "x y"), "a: { b: 1, c: x y }\n");
        assert_eq!(set("a: {b: {}, c}\n", "a.b.d", "1"), "a: {b: {d: 1}, c}\n");
        assert_eq!(set("a: {b: {}, c}\n", "a.c", "1"), "a: {b: {}, c: 1}\n");
        assert_eq!(set("a: {\n  b: 1,\n  c: 2\n}\n", "a.d", "3"), "a: {\n  b: 1,\n  c: 2,\n  d: 3\n}\n");
        assert_eq!(set("\"a\": 1\n", "'8080'", "2"), "\"a\": 1\n\"8080\": 2\n");
        assert_eq!(set("8080: 1\n", "'8080'", "2"), "8080: 2\n");
        let after = |added: &str| CONFIG.replacen("\ntext:", &format!("\n{added}text:"), 1);
        assert_eq!(
            set(CONFIG, "server.extra", "{ list: [1, a: b], long: \"x\\ny\\n\" }"),
            after(
                "    extra:\n        list:\n        - 1\n        - a: b\n        long: |\n            x\n            y\n"
            )
        );
        assert_eq!(set("a: |+\n  x\n\n# c\n", "b", "1"), "a: |+\n  x\n\nb: 1\n# c\n");
        assert_eq!(set("a: |\n  x\n\n# c\n", "b", "1"), "a: |\n  x\nb: 1\n\n# c\n");
        assert_eq!(set("a:\n  -\n  - 1\n  -\nb: 1\n", "c", "1"), "a:\n  -\n  - 1\n  -\nb: 1\nc: 1\n");
        assert_eq!(set("a:\n  -\n  -\n", "c", "1"), "a:\n  -\n  -\nc: 1\n");
        assert_eq!(set("a: b\n  c # x\n", "d", "1"), "a: b\n  c # x\nd: 1\n");
        assert_eq!(set("d: &x 1\na: *x\n", "c", "1"), "d: &x 1\na: *x\nc: 1\n");
        assert_eq!(set("a: 1\n...\n", "b", "2"), "a: 1\nb: 2\n...\n");
    }

    #[test]
    fn what_cannot_be_edited_is_named() {
        let fails = |text: &str, fields: &str| {
            let mut fake = Fake::debian();
            fake.file("/etc/a", text);
            Example::resources(&format!("- yaml: {{ path: /etc/a, {fields} }}")).fails(&mut fake)
        };
        let set = |text: &str, key: &str| fails(text, &format!("key: {key}, value: 5"));
        insta::assert_snapshot!(set("a: [1\n", "a"), @"example: yaml /etc/a: a: `/etc/a` is not valid YAML: unclosed bracket '[' in line 1");
        insta::assert_snapshot!(set("a:\n\tb: 1\n", "a"), @"example: yaml /etc/a: a: `/etc/a` is not valid YAML: tabs disallowed within this context (block indentation) in line 2");
        insta::assert_snapshot!(set("a: 1\n---\nb: 1\n", "a"), @"example: yaml /etc/a: a: `/etc/a` has several documents, and a `yaml` decides a key of a single one; decide the whole file with a `file` or a `template`");
        insta::assert_snapshot!(set("- a\n", "a"), @"example: yaml /etc/a: a: `/etc/a` is a list, which has no key to set");
        insta::assert_snapshot!(set("a: { b: x }\n", "a.b.c"), @"example: yaml /etc/a: a.b.c: `a.b` in `/etc/a` is a string, which has no key to set");
        insta::assert_snapshot!(set("a: 1\n\"a\": 2\n", "a"), @"example: yaml /etc/a: a: `/etc/a` has the key `a` more than once");
        insta::assert_snapshot!(set("a: &x 1\nb: *x\n", "a"), @"example: yaml /etc/a: a: `a` in `/etc/a` has an anchor, so it cannot be changed alone; decide the whole file with a `file` or a `template`");
        insta::assert_snapshot!(set("a: &x { c: 1 }\nb: *x\n", "b.c"), @"example: yaml /etc/a: b.c: `b` in `/etc/a` has an alias, so it cannot be changed alone; decide the whole file with a `file` or a `template`");
        insta::assert_snapshot!(set("a: &x { c: 1 }\nb: *x\n", "a.d"), @"example: yaml /etc/a: a.d: `a` in `/etc/a` has an anchor, so it cannot be changed alone; decide the whole file with a `file` or a `template`");
        insta::assert_snapshot!(set("a: !vault x\n", "a"), @"example: yaml /etc/a: a: `a` in `/etc/a` has a tag, so it cannot be changed alone; decide the whole file with a `file` or a `template`");
        insta::assert_snapshot!(fails("x: &x { c: 1 }\nb:\n  <<: *x\n  c: 2\n", "key: b.c, state: absent"), @"example: yaml /etc/a: b.c: `b` in `/etc/a` has a merge key, so it cannot be changed alone; decide the whole file with a `file` or a `template`");
        insta::assert_snapshot!(set("? a\n: 1\n", "b"), @"example: yaml /etc/a: b: `/etc/a` is written such that `b` cannot be changed alone; decide the whole file with a `file` or a `template`");
        assert_eq!(
            edited("x: &x { c: 1 }\nb:\n  <<: *x\n", "key: b.c, value: 2"),
            "x: &x { c: 1 }\nb:\n  <<: *x\n  c: 2\n"
        );
    }

    #[test]
    fn what_is_not_there_is_made_only_if_told_and_what_is_unknown_is_not_guessed() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- yaml: { path: /etc/new, key: b, value: 1 }").fails(&mut fake), @"example: yaml /etc/new: b: `/etc/new` does not exist; install what brings it before, or write `create: true`");
        let brought =
            Example::resources("- package: { name: p }\n- yaml: { path: /etc/new, key: b, value: 1 }");
        insta::assert_snapshot!(brought.plan(&fake).expect("a plan"), @"
        example: package p
          + install p
        example: yaml /etc/new: b (assumed)
          ? known after apply: whether installing p brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
        Example::resources("- yaml: { path: /etc/new, key: b, state: absent }").settles(&mut fake);
        Example::resources("- yaml: { path: /etc/new, key: b, value: 1, create: true }").settles(&mut fake);
        assert_eq!(fake.text("/etc/new").as_deref(), Some("b: 1\n"));
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- yaml: {{ path: /etc/a, {fields} }}")).problems();
        insta::assert_snapshot!(problems("key: a"), @"example/recipe.yaml:2:11: a `yaml` needs its `value`");
        insta::assert_snapshot!(problems("key: a, value: null, state: absent"), @"example/recipe.yaml:2:11: a key that shall be absent has no `value`");
        let several = "
- yaml: { path: /etc/a, key: b.c, value: 1 }
- yaml: { path: /etc/a, key: b, value: {} }
- yaml: { path: /etc/a, key: [b, c], value: 2 }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:4:5: the key `b.c` of `/etc/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:2:5: the key `b.c` of `/etc/a` is set, but all of the key `b` of `/etc/a` is decided elsewhere (here: example/recipe.yaml:3:5); put it into the value there
        ");
    }
}
