//! `toml`: one value in a TOML file that something else owns.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;
use toml_edit::{Document, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::checkers::Validate;
use super::edited::{EditedFile, comments_above, insert_at, line_end, lines_of};
use super::fields::{AbsolutePath, State};
use super::keys::{KeyPath, NestedKey, given, value_matches_state};
use super::toml_value::{is_same, noun, to_toml};
use super::{Context, Fields, Resource};
use crate::error::Problem;
use crate::system::PlanError;

/// One value in a TOML file that something else owns.
///
/// Only the value changes: comments, the order of keys and the rest of the file stay as they are. Tables
/// on the way that are missing are made. A list is set as a whole; a mapping is written as an inline
/// table, and does not replace a table with a header of its own. Dates cannot be set.
///
/// ```yaml
/// - toml: { path: /etc/containerd/config.toml, key: [plugins, "io.containerd.grpc.v1.cri", sandbox_image], value: pause }
/// - toml: { path: /etc/app.toml, key: server.port, value: 8080, create: true }
/// - toml: { path: /etc/app.toml, key: debug, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TomlKey {
    /// The file.
    path: AbsolutePath,
    /// The keys that lead to the value, with dots between them, or as a list where keys have dots.
    key: KeyPath,
    /// The value: a string, number, boolean, list or mapping; required, unless `absent`.
    #[serde(default, deserialize_with = "given")]
    value: Option<Json>,
    /// Whether a file that is not there is made, as root's, with mode 0644; `false` if not said.
    #[serde(default)]
    create: bool,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// `present`, or `absent`: a table with all that is in it. A table stays when its last key goes.
    #[serde(default)]
    state: State,
}

impl Fields for TomlKey {
    const KIND: &'static str = "toml";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        value_matches_state(Self::KIND, self.state, self.value.as_ref())?;
        if self.value.as_ref().is_some_and(|value| to_toml(value).is_none()) {
            return Err(Problem::new("`value` has `null` in it, which TOML does not know")
                .help("to remove the key write `state: absent`"));
        }
        let file = EditedFile {
            path: self.path,
            create: self.create,
            validate: self.validate.map(|validate| validate.0),
            state: self.state,
        };
        Ok(Box::new(NestedKey { file, key: self.key, value: self.value, edit: NestedKey::edit_toml }))
    }
}

impl NestedKey {
    fn edit_toml(&self, before: &str) -> Result<String, PlanError> {
        let document = Document::parse(before).map_err(|error| {
            let line = error.span().map_or(1, |span| before[..span.start].matches('\n').count() + 1);
            self.file.impossible(&format!("is not valid TOML: {} in line {line}", error.message()))
        })?;
        let (above, last) = self.key.split();
        let mut table: &dyn TableLike = document.as_table();
        for (depth, key) in above.iter().enumerate() {
            let Some(item) = table.get(key) else { return self.not_there(before, depth) };
            match (item.as_table_like(), &self.value) {
                (Some(inner), _) => table = inner,
                (None, None) => return Ok(before.to_owned()),
                (None, Some(_)) => {
                    return Err(self.has_no_keys(depth + 1, noun(item)));
                }
            }
        }
        let Some((key, item)) = table.get_key_value(last) else { return self.not_there(before, above.len()) };
        match (&self.value, item) {
            (Some(value), item) if is_same(item, value) => Ok(before.to_owned()),
            (Some(value), Item::Value(Value::InlineTable(old))) if old.is_dotted() => {
                Err(self.is_table(value))
            }
            (Some(value), Item::Value(old)) => match (old.span(), to_toml(value)) {
                (Some(span), Some(new)) => {
                    Ok(format!("{}{new}{}", &before[..span.start], &before[span.end..]))
                }
                _ => Ok(before.to_owned()),
            },
            (Some(value), _) => Err(self.is_table(value)),
            // Whole lines go, and comments stay where they are; inside of `{ }` there are no lines.
            (None, Item::Value(old)) if self.is_in_lines(document.as_table()) => {
                let (Some(start), Some(end)) = (key.span(), old.span()) else { return Ok(before.to_owned()) };
                let start = before[..start.start].rfind('\n').map_or(0, |end| end + 1);
                let end = before[end.end..].find('\n').map_or(before.len(), |length| end.end + length + 1);
                Ok(format!("{}{}", &before[..start], &before[end..]))
            }
            (None, _) => {
                let mut document = document.into_mut();
                let item = descend(document.as_item_mut(), above);
                if let Some(table) = item.and_then(Item::as_table_like_mut) {
                    table.remove(last);
                }
                Ok(as_it_was_written(&document, before))
            }
        }
    }

    /// Whether all tables that lead to the value are written in lines, not in `{ }`.
    fn is_in_lines(&self, mut table: &Table) -> bool {
        let (above, _) = self.key.split();
        above.iter().all(|key| match table.get(key) {
            Some(Item::Table(inner)) => {
                table = inner;
                true
            }
            _ => false,
        })
    }

    /// The text with the keys from this depth on, of which the first is not there.
    fn not_there(&self, before: &str, depth: usize) -> Result<String, PlanError> {
        let Some(value) = self.value.as_ref().and_then(to_toml) else { return Ok(before.to_owned()) };
        let parsed = before.parse::<DocumentMut>();
        let mut document = parsed.map_err(|_| self.file.impossible("is not valid TOML"))?;
        let (above, last) = self.key.split();
        let (root, header) = (document.as_table(), |line: &String| line.trim_start().starts_with('['));
        // toml_edit takes comments at the top for those of the first table, or of the end. A first key goes
        // behind them.
        if root.get_values().is_empty() && (root.is_empty() || above.is_empty()) {
            let mut new = DocumentMut::new();
            insert(new.as_table_mut(), above, last, value);
            let mut lines = lines_of(before);
            let (end, first) = (line_end(before), lines.iter().position(header));
            let at = first.map_or(lines.len(), |first| comments_above(&lines, first));
            let gap = if first.is_some() { end } else { "" };
            insert_at(&mut lines, at, new.to_string().trim_start().replace('\n', end) + gap);
            return Ok(lines.concat());
        }
        let mut item = descend(document.as_item_mut(), &above[..depth]);
        match &mut item {
            Some(Item::Value(Value::InlineTable(table))) => make_room(table),
            // A table that had no header gets one at the end, not above the tables in it and their comments.
            Some(Item::Table(table)) if table.is_implicit() && table.get_values().is_empty() && depth > 0 => {
                table.set_position(Some(isize::MAX));
            }
            _ => {}
        }
        if let Some(table) = item.and_then(Item::as_table_like_mut) {
            insert(table, &above[depth..], last, value);
        }
        Ok(as_it_was_written(&document, before))
    }

    fn is_table(&self, value: &Json) -> PlanError {
        let help = match value {
            Json::Object(_) => "set its keys one by one",
            _ => "set its keys, or decide the whole file with a `file`",
        };
        PlanError::impossible_but(
            format!("`{}` in `{}` is a table, which a value does not replace", self.key, self.file.path),
            help,
        )
    }
}

/// What these keys lead to.
fn descend<'a>(mut item: &'a mut Item, keys: &[String]) -> Option<&'a mut Item> {
    for key in keys {
        item = item.as_table_like_mut()?.get_mut(key)?;
    }
    Some(item)
}

/// Takes the space off that is before `}`, where a comma comes now.
fn make_room(table: &mut InlineTable) {
    if let Some((_, last)) = table.iter_mut().last() {
        let decor = last.decor_mut();
        if decor.suffix().and_then(|suffix| suffix.as_str()).is_some_and(|suffix| suffix.trim().is_empty()) {
            decor.set_suffix("");
        }
    }
}

/// Puts a value into a table, with tables for the keys that lead to it.
fn insert(table: &mut dyn TableLike, missing: &[String], last: &str, value: Value) {
    let Some((first, below)) = missing.split_first() else {
        table.insert(last, Item::Value(value));
        return;
    };
    let mut inner = Table::new();
    // Only tables with values of their own get a header.
    inner.set_implicit(true);
    insert(&mut inner, below, last, value);
    table.insert(first, Item::Table(inner));
}

/// The document as text. `toml_edit` leaves out the byte order mark and all `\r`.
fn as_it_was_written(document: &DocumentMut, before: &str) -> String {
    let mark = if before.starts_with('\u{feff}') { "\u{feff}" } else { "" };
    let text = document.to_string();
    match line_end(before) {
        "\r\n" => format!("{mark}{}", text.replace("\r\n", "\n").replace('\n', "\r\n")),
        _ => format!("{mark}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::system::fake::Fake;
    use crate::testing::{self, Example};

    const APP: &str = "# The app.\nname = 'app' # its name\nids = [\n  1, # one\n  2,\n]\n\n# About the server.\n[server]\nport   = 0x50\ntls = { cert = \"/a\" }\n\n# How much.\n[server.limits]\nmax.size = 1.0\n[[sites]]\nname = \"a\"\n";

    fn edited(text: &str, fields: &str) -> String {
        testing::edited("toml", text, fields)
    }

    fn changed(fields: &str, from: &str, to: &str) {
        assert!(APP.contains(from), "{from}");
        assert_eq!(edited(APP, fields), APP.replace(from, to));
    }

    #[test]
    fn settles_with_one_value_changed_and_the_rest_as_it_was() {
        let mut fake = Fake::debian();
        fake.file("/etc/app.toml", APP);
        let example = Example::resources("- toml: { path: /etc/app.toml, key: name, value: the \"app\" }");
        insta::assert_snapshot!(example.settles(&mut fake), @r#"
        example: toml /etc/app.toml: name
          ~ change /etc/app.toml
              --- /etc/app.toml
              +++ /etc/app.toml
              @@ -1,5 +1,5 @@
               # The app.
              -name = 'app' # its name
              +name = 'the "app"' # its name
               ids = [
                 1, # one
                 2,
        Plan: 1 to change, 0 unchanged.
        "#);
        changed("key: server.port, value: 80", "0x50", "0x50");
        changed("key: server.port, value: 81", "0x50", "81");
        changed("key: ids, value: [1, 2]", "ids", "ids");
        changed("key: ids, value: [x, true]", "[\n  1, # one\n  2,\n]", "[\"x\", true]");
        changed("key: server.tls.cert, value: /b", "\"/a\"", "\"/b\"");
        changed("key: server.tls, value: { cert: /a }", "tls", "tls");
        changed("key: server.limits, value: { max: { size: 1.0 } }", "max", "max");
        changed("key: server.limits.max.size, value: 1", "size = 1.0", "size = 1");
        changed("key: sites, value: [ { name: a } ]", "sites", "sites");
    }

    #[test]
    fn settles_without_the_key_and_with_the_comments() {
        changed("key: name, state: absent", "name = 'app' # its name\n", "");
        changed("key: ids, state: absent", "ids = [\n  1, # one\n  2,\n]\n", "");
        changed("key: server.limits.max.size, state: absent", "max.size = 1.0\n", "");
        changed("key: server.tls.cert, state: absent", "{ cert = \"/a\" }", "{}");
        changed("key: server.limits, state: absent", "\n# How much.\n[server.limits]\nmax.size = 1.0\n", "");
        changed("key: sites, state: absent", "[[sites]]\nname = \"a\"\n", "");
        changed("key: name.x, state: absent", "name", "name");
        changed("key: x.y, state: absent", "name", "name");
    }

    #[test]
    fn a_new_key_goes_to_its_table() {
        changed("key: x, value: 1", "  2,\n]\n", "  2,\n]\nx = 1\n");
        changed("key: server.x, value: 1", "\"/a\" }\n", "\"/a\" }\nx = 1\n");
        changed("key: server.limits.max.x, value: 1", "1.0\n", "1.0\nmax.x = 1\n");
        changed("key: server.tls.a.b, value: 1", "\"/a\" }", "\"/a\", a = { b = 1 } }");
        assert_eq!(
            edited(APP, "key: a.b.c, value: { d: [1, { e: x }] }"),
            format!("{APP}\n[a.b]\nc = {{ d = [1, {{ e = \"x\" }}] }}\n")
        );
        assert_eq!(edited("", "key: a.b, value: 1"), "[a]\nb = 1\n");
        assert_eq!(edited("# Only\n# comments.", "key: a, value: x"), "# Only\n# comments.\na = \"x\"\n");
        assert_eq!(
            edited("a = 1\r\n[b]\r\nc = 2\r\n", "key: b.d, value: 3"),
            "a = 1\r\n[b]\r\nc = 2\r\nd = 3\r\n"
        );
        assert_eq!(edited("a = 1", "key: [b.c], value: 3"), "a = 1\n\"b.c\" = 3\n");
        assert_eq!(
            edited("# File.\n\n[a.b]\nc = 1\n", "key: a.d, value: 3"),
            "# File.\n\n[a.b]\nc = 1\n\n[a]\nd = 3\n"
        );
        assert_eq!(
            edited("# File.\n\n# About b.\n[b]\nc = 1\n", "key: a, value: 3"),
            "# File.\n\na = 3\n\n# About b.\n[b]\nc = 1\n"
        );
        assert_eq!(
            edited("[b]\nc = 1\n[b.d.e]\n", "key: b.d.f, value: 3"),
            "[b]\nc = 1\n[b.d.e]\n\n[b.d]\nf = 3\n"
        );
        assert_eq!(edited("[b.d]\n", "key: b.x.y, value: 3"), "[b.d]\n\n[b.x]\ny = 3\n");
        assert_eq!(edited("\u{feff}a = 1\nb = 2\n", "key: b, value: 3"), "\u{feff}a = 1\nb = 3\n");
        assert_eq!(edited("\u{feff}a = 1\n", "key: b, value: 3"), "\u{feff}a = 1\nb = 3\n");
    }

    #[test]
    fn what_cannot_be_edited_is_named() {
        let fails = |text: &str, fields: &str| {
            let mut fake = Fake::debian();
            fake.file("/etc/a", text);
            Example::resources(&format!("- toml: {{ path: /etc/a, {fields} }}")).fails(&mut fake)
        };
        insta::assert_snapshot!(fails("a = 1\nb =\n", "key: a, value: 1"), @"example: toml /etc/a: a: `/etc/a` is not valid TOML: string values must be quoted, expected literal string in line 2");
        insta::assert_snapshot!(fails(APP, "key: name.x, value: 1"), @"example: toml /etc/a: name.x: `name` in `/etc/a` is a string, which has no key to set");
        insta::assert_snapshot!(fails(APP, "key: sites.name, value: 1"), @"example: toml /etc/a: sites.name: `sites` in `/etc/a` is a list, which has no key to set");
        insta::assert_snapshot!(fails(APP, "key: server, value: { port: 1 }"), @"example: toml /etc/a: server: `server` in `/etc/a` is a table, which a value does not replace; set its keys one by one");
        insta::assert_snapshot!(fails(APP, "key: server, value: 1"), @"example: toml /etc/a: server: `server` in `/etc/a` is a table, which a value does not replace; set its keys, or decide the whole file with a `file`");
    }

    #[test]
    fn what_is_not_there_is_made_only_if_told_and_what_is_unknown_is_not_guessed() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- toml: { path: /etc/new, key: b, value: 1 }").fails(&mut fake), @"example: toml /etc/new: b: `/etc/new` does not exist; install what brings it before, or write `create: true`");
        let brought =
            Example::resources("- package: { name: p }\n- toml: { path: /etc/new, key: b, value: 1 }");
        insta::assert_snapshot!(brought.plan(&fake).expect("a plan"), @"
        example: package p
          + install p
        example: toml /etc/new: b (assumed)
          ? known after apply: whether installing p brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
        Example::resources("- toml: { path: /etc/new, key: b, state: absent }").settles(&mut fake);
        Example::resources("- toml: { path: /etc/new, key: b, value: 1, create: true }").settles(&mut fake);
        assert_eq!(fake.text("/etc/new").as_deref(), Some("b = 1\n"));
    }

    #[test]
    fn wrong_fields_and_contradictions_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- toml: {{ path: /etc/a, {fields} }}")).problems();
        insta::assert_snapshot!(problems("key: a"), @"example/recipe.yaml:2:11: a `toml` needs its `value`");
        insta::assert_snapshot!(problems("key: a, value: [null]"), @"example/recipe.yaml:2:11: `value` has `null` in it, which TOML does not know; to remove the key write `state: absent`");
        let several = "
- toml: { path: /etc/a, key: b.c, value: 1 }
- toml: { path: /etc/a, key: b, state: absent }
";
        insta::assert_snapshot!(Example::resources(several).problems(), @"example/recipe.yaml:2:5: the key `b.c` of `/etc/a` is set, but all of the key `b` of `/etc/a` is decided elsewhere (here: example/recipe.yaml:3:5); put it into the value there");
    }

    proptest! {
        /// Whatever the file is: the key has the value, or is gone, and every other line is as it was.
        #[test]
        fn other_lines_stay_and_the_value_is_read_back(
            root in prop::sample::subsequence(vec!["# root", "a = 1 # a", "b.c = 2", "d = { e = 1, f = 'x' }", ""], 0..=5),
            tables in prop::sample::subsequence(vec!["# t\n[t]\nu = [ 1,\n 2 ]", "[t.v]\nw = 0x1\n", "[[l]]\nm = 1", "\n[b.x]", "# end"], 0..=5).prop_shuffle(),
            key in prop::sample::select(vec!["a", "b.c", "b.n", "d.e", "d.n", "d.n.o", "t.u", "t.n", "t.v.w", "t.v.n.o", "n", "n.o"]),
            value in prop::option::of(prop::sample::select(vec![json!(1), json!("x\n\"y"), json!([1.5, [true]]), json!({ "k": { "l": "m" } })])),
        ) {
            let before = root.into_iter().chain(tables).map(|part| format!("{part}\n")).collect::<String>();
            prop_assume!(Document::parse(before.as_str()).is_ok());
            let key = KeyPath(key.split('.').map(str::to_owned).collect());
            let file = EditedFile {
                path: serde_json::from_str("\"/etc/a\"").expect("a path"),
                create: false,
                validate: None,
                state: State::Present,
            };
            let wanted = NestedKey { file, key, value, edit: NestedKey::edit_toml };
            let after = wanted.edit_toml(&before).expect("edited");
            let document = after.parse::<DocumentMut>().expect("valid TOML");
            let item = wanted.key.0.iter().try_fold(document.as_item(), |item, key| item.get(key));
            match &wanted.value {
                Some(value) => prop_assert!(item.is_some_and(|item| is_same(item, value)), "{after}"),
                None => prop_assert!(item.is_none(), "{after}"),
            }
            prop_assert_eq!(wanted.edit_toml(&after).expect("edited"), after.as_str());
            // The line of the key itself, and of the table in `{ }` or the list that it is in, may change.
            let own = wanted.key.0[0].as_str();
            let mut rest = after.lines();
            let is_other = |line: &&str| {
                let key = line.split([' ', '.']).next().unwrap_or_default();
                !line.trim().is_empty() && key != own && !(own == "t" && ["u", "w", "2"].contains(&line.trim().split(' ').next().unwrap_or_default()))
            };
            for line in before.lines().filter(is_other) {
                prop_assert!(rest.any(|other| other == line), "{line:?} is gone from {after}");
            }
        }
    }
}
