//! `json`: one value in a JSON file that something else owns.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::checkers::Validate;
use super::edited::EditedFile;
use super::fields::{AbsolutePath, State};
use super::json_text::{Obstacle, edit};
use super::keys::{KeyPath, NestedKey, given, value_matches_state};
use super::{Context, Fields, Resource};
use crate::error::Problem;
use crate::system::PlanError;

/// One value in a JSON file that something else owns.
///
/// Only the value changes: the order of keys, the indent and the rest of the file stay as they are.
/// Objects on the way that are missing are made. A list is set as a whole. A file with comments is not
/// JSON, and an error; an empty one is taken for `{}`.
///
/// ```yaml
/// - json: { path: /etc/docker/daemon.json, key: log-opts.max-size, value: 10m, create: true }
/// - json: { path: /etc/app.json, key: [features, "app.beta"], value: [a, b] }
/// - json: { path: /etc/app.json, key: debug, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonKey {
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
    /// `present` or `absent`. An object stays when its last key goes.
    #[serde(default)]
    state: State,
}

impl Fields for JsonKey {
    const KIND: &'static str = "json";

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
    let text = match (before.trim().is_empty(), &wanted.value) {
        (true, None) => return Ok(before.to_owned()),
        (true, Some(_)) => "{}\n",
        (false, _) => before,
    };
    edit(text, &wanted.key.0, wanted.value.as_ref()).map_err(|obstacle| match obstacle {
        Obstacle::Invalid(error) => wanted.file.impossible(&format!("is not valid JSON: {error}")),
        Obstacle::NoObject { depth, noun } => wanted.has_no_keys(depth, noun),
        Obstacle::Twice { depth } => wanted.is_there_twice(depth),
    })
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::{self, Example};

    fn edited(text: &str, fields: &str) -> String {
        testing::edited("json", text, fields)
    }

    const DAEMON: &str = "{\n    \"z\": 1.50,\n    \"log\": {\n        \"size\": \"10\\u006d\",\n        \"tags\": [ 1, 2 ]\n    },\n    \"a\": {}\n}";

    #[test]
    fn settles_with_one_value_changed_and_the_rest_as_it_was() {
        let mut fake = Fake::debian();
        fake.file("/etc/daemon.json", DAEMON);
        let example =
            Example::resources("- json: { path: /etc/daemon.json, key: log.size, value: { max: [20, x] } }");
        insta::assert_snapshot!(example.settles(&mut fake), @r#"
        example: json /etc/daemon.json: log.size
          ~ change /etc/daemon.json
              --- /etc/daemon.json
              +++ /etc/daemon.json
              @@ -1,7 +1,12 @@
               {
                   "z": 1.50,
                   "log": {
              -        "size": "10\u006d",
              +        "size": {
              +            "max": [
              +                20,
              +                "x"
              +            ]
              +        },
                       "tags": [ 1, 2 ]
                   },
                   "a": {}
        Plan: 1 to change, 0 unchanged.
        "#);
        assert_eq!(edited(DAEMON, "key: log.size, value: 10m"), DAEMON, "it is true already");
        assert_eq!(edited(DAEMON, "key: log.tags, value: [1, 2]"), DAEMON);
        assert_eq!(edited(DAEMON, "key: z, value: null"), DAEMON.replace("1.50", "null"));
        assert_eq!(
            edited(DAEMON, "key: log.x, value: true"),
            DAEMON.replace("2 ]", "2 ],\n        \"x\": true")
        );
        assert_eq!(
            edited(DAEMON, "key: a.b.c, value: 1"),
            DAEMON.replace("{}", "{\n        \"b\": {\n            \"c\": 1\n        }\n    }")
        );
    }

    #[test]
    fn settles_without_the_key() {
        let absent = |key: &str| edited(DAEMON, &format!("key: {key}, state: absent"));
        assert_eq!(absent("z"), DAEMON.replace("\"z\": 1.50,\n    ", ""));
        assert_eq!(absent("log.tags"), DAEMON.replace(",\n        \"tags\": [ 1, 2 ]", ""));
        assert_eq!(absent("a"), DAEMON.replace(",\n    \"a\": {}", ""));
        assert_eq!(absent("none.b"), DAEMON);
        assert_eq!(absent("z.b"), DAEMON, "a number has no keys");
        assert_eq!(edited("{ \"a\": 1 }", "key: a, state: absent"), "{}");
        assert_eq!(edited("", "key: a, state: absent"), "");
    }

    #[test]
    fn what_is_added_is_written_as_the_file_is() {
        assert_eq!(edited("", "key: a.b, value: 1"), "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n");
        assert_eq!(edited("{}", "key: a, value: []"), "{\n  \"a\": []\n}");
        assert_eq!(edited("{\"a\":1}", "key: b.c, value: x"), "{\"a\":1,\"b\":{\"c\":\"x\"}}");
        assert_eq!(edited("{\"a\":{}}", "key: a.b, value: x"), "{\"a\":{\"b\":\"x\"}}");
        assert_eq!(edited("{ \"a\": 1 }\n", "key: b, value: 2"), "{ \"a\": 1, \"b\": 2 }\n");
        assert_eq!(
            edited("{\r\n\t\"a\": 1\r\n}\r\n", "key: b.c, value: 2"),
            "{\r\n\t\"a\": 1,\r\n\t\"b\": {\r\n\t\t\"c\": 2\r\n\t}\r\n}\r\n"
        );
        assert_eq!(edited("{\"a\": \"}\\\"{\"}", "key: [b.c], value: 2"), "{\"a\": \"}\\\"{\", \"b.c\": 2}");
    }

    #[test]
    fn what_cannot_be_edited_is_named() {
        let fails = |text: &str, key: &str| {
            let mut fake = Fake::debian();
            fake.file("/etc/a", text);
            Example::resources(&format!("- json: {{ path: /etc/a, key: {key}, value: 1 }}")).fails(&mut fake)
        };
        insta::assert_snapshot!(fails("{\n  // why\n  \"a\": 1 }", "a"), @"example: json /etc/a: a: `/etc/a` is not valid JSON: key must be a string at line 2 column 3");
        insta::assert_snapshot!(fails("[]", "a"), @"example: json /etc/a: a: `/etc/a` is a list, which has no key to set");
        insta::assert_snapshot!(fails(DAEMON, "log.size.x"), @"example: json /etc/a: log.size.x: `log.size` in `/etc/a` is a string, which has no key to set");
        insta::assert_snapshot!(fails("{ \"a\": 1, \"a\": 2 }", "a"), @"example: json /etc/a: a: `/etc/a` has the key `a` more than once");
    }

    #[test]
    fn what_is_not_there_is_made_only_if_told_and_what_is_unknown_is_not_guessed() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- json: { path: /etc/new, key: b, value: 1 }").fails(&mut fake), @"example: json /etc/new: b: `/etc/new` does not exist; install what brings it before, or write `create: true`");
        let brought =
            Example::resources("- package: { name: p }\n- json: { path: /etc/new, key: b, value: 1 }");
        insta::assert_snapshot!(brought.plan(&fake).expect("a plan"), @"
        example: package p
          + install p
        example: json /etc/new: b (assumed)
          ? known after apply: whether installing p brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
        Example::resources("- json: { path: /etc/new, key: b, state: absent }").settles(&mut fake);
        Example::resources("- json: { path: /etc/new, key: b, value: 1, create: true }").settles(&mut fake);
        assert_eq!(fake.text("/etc/new").as_deref(), Some("{\n  \"b\": 1\n}\n"));
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- json: {{ path: /etc/a, {fields} }}")).problems();
        insta::assert_snapshot!(problems("key: a"), @"example/recipe.yaml:2:11: a `json` needs its `value`");
        insta::assert_snapshot!(problems("key: a, value: null, state: absent"), @"example/recipe.yaml:2:11: a key that shall be absent has no `value`");
        insta::assert_snapshot!(problems("key: a..b, value: 1"), @"example/recipe.yaml:2:32: `a..b` has an empty key in it; a key that has dots itself is written in a list");
        insta::assert_snapshot!(problems("key: [], value: 1"), @"example/recipe.yaml:2:32: a list of keys has at least one, and none is empty");
        insta::assert_snapshot!(problems("key: { a: b }, value: 1"), @"example/recipe.yaml:2:32: expected keys with dots between them, such as `server.port`, or a list of keys, found a mapping");
        let several = "
- json: { path: /etc/a, key: b.c, value: 1 }
- json: { path: /etc/a, key: b, value: {} }
- json: { path: /etc/a, key: [b, c], value: 2 }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"
        example/recipe.yaml:4:5: the key `b.c` of `/etc/a` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:2:5: the key `b.c` of `/etc/a` is set, but all of the key `b` of `/etc/a` is decided elsewhere (here: example/recipe.yaml:3:5); put it into the value there
        ");
    }
}
