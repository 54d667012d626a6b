//! `json`: one value in a JSON file that something else owns.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::edited::{EditedFile, line_end};
use super::fields::{AbsolutePath, State};
use super::keys::{KeyPath, given, has_no_keys, value_matches_state};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};
use crate::words::Words;

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
    /// A command that must accept the new file, as `{file}`, before it is put in place.
    validate: Option<Words>,
    /// `present` or `absent`. An object stays when its last key goes.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    file: EditedFile,
    key: KeyPath,
    /// None if the key shall be absent.
    value: Option<Json>,
}

impl Fields for JsonKey {
    const KIND: &'static str = "json";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        value_matches_state(Self::KIND, self.state, self.value.as_ref())?;
        let file = EditedFile {
            path: self.path,
            create: self.create,
            validate: self.validate.map(|words| words.0),
            state: self.state,
        };
        Ok(Box::new(Resolved { file, key: self.key, value: self.value }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        format!("{}: {}", self.file.path, self.key)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Key { path: self.file.path.as_path().to_owned(), keys: self.key.0.clone() }]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.file.plan(facts, |before| self.edit(before))
    }
}

impl Resolved {
    fn edit(&self, before: &str) -> Result<String, PlanError> {
        let text = match (before.trim().is_empty(), &self.value) {
            (true, None) => return Ok(before.to_owned()),
            (true, Some(_)) => "{}\n",
            (false, _) => before,
        };
        // The text is known to be valid from here on, so looking for places in it can be simple.
        serde_json::from_str::<Json>(text)
            .map_err(|error| self.file.impossible(&format!("is not valid JSON: {error}")))?;
        let mut object = skip_space(text, 0);
        let (above, _) = self.key.split();
        for depth in 0..=above.len() {
            let Some(members) = members(text, object) else {
                if self.value.is_none() {
                    return Ok(text.to_owned());
                }
                let noun = noun(text, object);
                if depth == 0 {
                    return Err(self.file.impossible(&format!("is {noun}, which has no key to set")));
                }
                return Err(has_no_keys(&self.file, &self.key.0[..depth], noun));
            };
            let mut same = members.iter().enumerate().filter(|(_, member)| member.key == self.key.0[depth]);
            match (same.next(), same.next()) {
                (None, _) => {
                    return Ok(self.value.as_ref().map_or_else(
                        || text.to_owned(),
                        |value| add(text, object, &members, &self.key.0[depth..], value),
                    ));
                }
                (Some(_), Some(_)) => {
                    let key = self.key.0[..=depth].join(".");
                    return Err(self.file.impossible(&format!("has the key `{key}` more than once")));
                }
                (Some((at, member)), None) if depth == above.len() => {
                    return Ok(match &self.value {
                        Some(value) => replace(text, member, value),
                        None => remove(text, object, &members, at),
                    });
                }
                (Some((_, member)), None) => object = member.value.start,
            }
        }
        Ok(text.to_owned())
    }
}

/// A key and its value in a text.
#[derive(Debug)]
struct Member {
    key: String,
    /// Where the key begins, with its quote.
    start: usize,
    value: Range<usize>,
}

/// The members of the object at a place in a valid text; none if something else is there.
fn members(text: &str, object: usize) -> Option<Vec<Member>> {
    if !text[object..].starts_with('{') {
        return None;
    }
    let mut members = Vec::new();
    let mut at = skip_space(text, object + 1);
    while text[at..].starts_with('"') {
        let end = skip_value(text, at);
        let key = serde_json::from_str(&text[at..end]).ok()?;
        let value = skip_space(text, skip_space(text, end) + 1);
        let value = value..skip_value(text, value);
        let next = skip_space(text, value.end);
        members.push(Member { key, start: at, value });
        at = if text[next..].starts_with(',') { skip_space(text, next + 1) } else { next };
    }
    Some(members)
}

fn skip_space(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches([' ', '\t', '\n', '\r']).len()
}

/// The end of the value that begins at a place in a valid text.
fn skip_value(text: &str, at: usize) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (offset, byte) in text.bytes().enumerate().skip(at) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return offset + 1;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            // A number or a word ends where what it is in goes on.
            b'}' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return offset,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

fn noun(text: &str, at: usize) -> &'static str {
    match text.as_bytes().get(at) {
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "`null`",
        _ => "a number",
    }
}

fn replace(text: &str, member: &Member, value: &Json) -> String {
    let before = &text[member.value.clone()];
    if serde_json::from_str::<Json>(before).is_ok_and(|before| before == *value) {
        return text.to_owned();
    }
    let written = write(value, text, indent_of_line(text, member.start), is_spread(text));
    format!("{}{written}{}", &text[..member.value.start], &text[member.value.end..])
}

/// Adds a member behind the last one, in the way that one is written.
fn add(text: &str, object: usize, members: &[Member], keys: &[String], value: &Json) -> String {
    let Some((key, below)) = keys.split_first() else { return text.to_owned() };
    let wrapped = below
        .iter()
        .rev()
        .fold(value.clone(), |value, key| Json::Object([(key.clone(), value)].into_iter().collect()));
    let key = Json::from(key.as_str());
    let Some(last) = members.last() else {
        let outer = indent_of_line(text, object);
        let (open, inner, close) = if is_spread(text) {
            let end = line_end(text);
            let inner = format!("{outer}{}", indent_unit(text));
            (format!("{end}{inner}"), inner, format!("{end}{outer}"))
        } else {
            (String::new(), String::new(), String::new())
        };
        let written = write(&wrapped, text, &inner, is_spread(text));
        let rest = &text[skip_space(text, object + 1)..];
        return format!("{}{{{open}{key}{}{written}{close}{rest}", &text[..object], colon(text, None));
    };
    // What is before the last key is a line end and its indent, or a space, or nothing.
    let gap = &text[text[..last.start].trim_end().len()..last.start];
    let gap = if gap.is_empty() && members.len() == 1 && text.contains(": ") { " " } else { gap };
    let written = write(&wrapped, text, indent_of_line(text, last.start), gap.contains('\n'));
    let (head, rest) = text.split_at(last.value.end);
    format!("{head},{gap}{key}{}{written}{rest}", colon(text, Some(last)))
}

/// Removes a member with the comma that separates it.
fn remove(text: &str, object: usize, members: &[Member], at: usize) -> String {
    let range = match (at.checked_sub(1).map(|before| &members[before]), members.get(at + 1)) {
        (_, Some(next)) => members[at].start..next.start,
        (Some(before), None) => before.value.end..members[at].value.end,
        (None, None) => object + 1..skip_space(text, members[at].value.end),
    };
    format!("{}{}", &text[..range.start], &text[range.end..])
}

/// What is between a key and its value, as in this member.
fn colon<'a>(text: &'a str, like: Option<&Member>) -> &'a str {
    match like {
        Some(member) => &text[skip_value(text, member.start)..member.value.start],
        None if !text.contains(": ") && text.contains(':') => ":",
        None => ": ",
    }
}

/// A value as it is written at an indent of this text.
fn write(value: &Json, text: &str, indent: &str, spread: bool) -> String {
    if !spread {
        return value.to_string();
    }
    let unit = indent_unit(text);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(unit.as_bytes());
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    match value.serialize(&mut serializer).map(|()| String::from_utf8(bytes)) {
        Ok(Ok(pretty)) => pretty.replace('\n', &format!("{}{indent}", line_end(text))),
        _ => value.to_string(),
    }
}

/// Whether a text has a line for each member, or is empty yet.
fn is_spread(text: &str) -> bool {
    text.trim().contains('\n') || text.trim() == "{}"
}

/// What the first member of the text is indented by; two spaces if it is not.
fn indent_unit(text: &str) -> &str {
    let first =
        members(text, skip_space(text, 0)).and_then(|members| members.first().map(|first| first.start));
    first.map(|start| indent_of_line(text, start)).filter(|indent| !indent.is_empty()).unwrap_or("  ")
}

fn indent_of_line(text: &str, at: usize) -> &str {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn edited(text: &str, fields: &str) -> String {
        let mut fake = Fake::debian();
        fake.file("/etc/a", text);
        Example::resources(&format!("- json: {{ path: /etc/a, {fields} }}")).settles(&mut fake);
        fake.text("/etc/a").expect("the file")
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
        example: json /etc/new: b
          ? known after apply: whether installing p brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
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

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i32>().prop_map(Json::from),
            "[a\"\\\\{}\\[\\],: é]{0,4}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
                prop::collection::vec(("[ab\"\\\\}]{1,2}", inner), 0..3)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever the file is and however it is written: the key gets the value, or goes, and nothing
        /// else changes.
        #[test]
        fn the_text_that_is_edited_is_the_value_that_is_edited(
            first in any_json(),
            second in any_json(),
            wanted in prop::option::of(any_json()),
            pretty in any::<bool>(),
        ) {
            let before = serde_json::json!({ "first": first, "b": { "c": second }, "e": {} });
            let text =
                if pretty { serde_json::to_string_pretty(&before).expect("JSON") } else { before.to_string() };
            for key in ["first", "b.c", "b.d", "e.f.g", "new"] {
                let key = KeyPath(key.split('.').map(str::to_owned).collect());
                let file = EditedFile {
                    path: serde_json::from_str("\"/etc/a\"").expect("a path"),
                    create: false,
                    validate: None,
                    state: State::Present,
                };
                let resolved = Resolved { file, key, value: wanted.clone() };
                let edited = resolved.edit(&text).expect("edited");
                let mut expected = before.clone();
                let (above, last) = resolved.key.split();
                let mut object = &mut expected;
                if wanted.is_some() || above != ["e", "f"] {
                    for key in above {
                        let members = object.as_object_mut().expect("an object");
                        object = members.entry(key.clone()).or_insert_with(|| serde_json::json!({}));
                    }
                    let members = object.as_object_mut().expect("an object");
                    match &wanted {
                        Some(value) => members.insert(last.to_owned(), value.clone()),
                        None => members.shift_remove(last),
                    };
                }
                let edited_value: Json = serde_json::from_str(&edited).expect("valid JSON");
                prop_assert_eq!(edited_value.to_string(), expected.to_string());
                prop_assert_eq!(resolved.edit(&edited).expect("edited"), edited);
            }
        }
    }
}
