//! YAML text to [`Node`]s: the only place that knows which YAML library is used.
//!
//! Input is bounded before it is believed: size, depth, number of nodes, and what aliases expand to.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{MergeKeyPolicy, Spanned};

use crate::error::Problem;
use crate::node::{Key, Node, Value};
use crate::source::{Location, Source};

/// No recipe or image definition is near this long; a file that is was not meant for us.
pub const MAXIMUM_BYTES: usize = 1024 * 1024;

/// No recipe is near this deep. Where nothing is optimised a level takes some 35 KiB of stack: the 2 MiB that a
/// thread has are used up between 50 and 64 levels.
pub(crate) const MAXIMUM_DEPTH: usize = 32;

/// Reads a text file that a person wrote. `name` is the path to show.
///
/// # Errors
/// Names the file when it cannot be read, is longer than [`MAXIMUM_BYTES`] or is not UTF-8.
pub fn read(path: &Path, name: &str) -> Result<Arc<Source>, Problem> {
    let failed = |why: String| Problem::new(format!("failed to read `{name}`: {why}"));
    let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAXIMUM_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() > MAXIMUM_BYTES {
        return Err(failed(format!("it is longer than {} KiB", MAXIMUM_BYTES / 1024)));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| failed(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to())))?;
    Ok(Arc::new(Source { name: name.to_owned(), text }))
}

/// Parses one YAML document.
///
/// # Errors
/// Says where the text is not YAML, has a key twice, a tag, a merge key, or more than one document.
pub fn parse(source: &Arc<Source>) -> Result<Node, Problem> {
    if source.text.len() > MAXIMUM_BYTES {
        return Err(Problem::new(format!("`{}` is longer than {} KiB", source.name, MAXIMUM_BYTES / 1024)));
    }
    if let Some(offset) = source.text.find('\0') {
        return Err(Problem::new("NUL is not valid in YAML").at(&Location::new(source, offset, 1)));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAXIMUM_DEPTH, max_nodes: 250_000, max_aliases: 1000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        leading_zero_numbers_as_strings: true,
        strict_booleans: true,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(&source.text, options)
        .map_err(|error| problem(source, &error))?;
    Ok(node(source, raw))
}

/// What the library found wrong, in our words and at our place.
fn problem(source: &Arc<Source>, error: &serde_saphyr::Error) -> Problem {
    let place = error.location();
    // The library ends its messages with the place, which is shown beside them.
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default().trim();
    let text = match text {
        _ if text.starts_with("duplicate mapping key") => {
            let key =
                place.map(|place| locate(source, &place)).map_or_else(String::new, |at| at.text().into());
            return at_place(Problem::new(format!("the key `{key}` is already set above")), source, place);
        }
        _ if text.starts_with("multiple YAML documents") => "a second document starts here",
        _ if text.starts_with("YAML merge keys") => "merge keys (`<<`) are not supported",
        _ if text.starts_with("expected string scalar") => "a key has to be a string",
        _ if text.starts_with("budget breached: Depth") || text.starts_with("recursion limit") => {
            "this is nested deeper than anybody writes"
        }
        _ if text.starts_with("budget breached: Nodes") => "there are more values than anybody writes",
        _ if text.starts_with("budget breached: Aliases") || text.starts_with("alias replay limit") => {
            "there are more aliases, or they stand for more, than anybody writes"
        }
        _ if text.starts_with("recursive references") => "this alias is inside of what it stands for",
        _ => text,
    };
    at_place(Problem::new(text), source, place)
}

fn at_place(problem: Problem, source: &Arc<Source>, place: Option<serde_saphyr::Location>) -> Problem {
    match place {
        Some(place) => problem.at(&locate(source, &place)),
        None => problem.at(&Location::new(source, 0, 0)),
    }
}

/// The library's location as ours. Scanner errors know line and column only.
fn locate(source: &Arc<Source>, place: &serde_saphyr::Location) -> Location {
    let span = place.span();
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    match (span.byte_offset(), span.byte_len()) {
        (Some(offset), Some(length)) => Location::new(source, number(offset), number(length)),
        _ => Location::at_line(source, number(place.line()), number(place.column())),
    }
}

fn node(source: &Arc<Source>, raw: Spanned<Raw>) -> Node {
    let at = locate(source, &raw.referenced);
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(elements) => {
            Value::List(elements.into_iter().map(|element| node(source, element)).collect())
        }
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let at = locate(source, &key.referenced);
                    (Key { name: key.value, at }, node(source, value))
                })
                .collect(),
        ),
    };
    Node { value, at }
}

/// The tree as the library delivers it.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(value)))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number over i64::MAX is no whole number to us")]
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Raw::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Node, Problem> {
        parse(&Arc::new(Source { name: "test.yaml".into(), text: text.into() }))
    }

    fn problem_of(text: &str) -> String {
        load(text).expect_err("this text has a problem").located()
    }

    #[test]
    fn values_know_where_they_were_written() {
        let root = load("a: 1\nb:\n  - { c: \"x\" }\n").expect("valid");
        let entries = root.as_map("a mapping").expect("a mapping");
        assert_eq!(entries[1].0.at.to_string(), "test.yaml:2:1");
        let list = entries[1].1.as_list("a list").expect("a list");
        let inner = list[0].as_map("a mapping").expect("a mapping");
        assert_eq!((inner[0].1.at.to_string().as_str(), inner[0].1.at.text()), ("test.yaml:3:10", "\"x\""));
    }

    #[test]
    fn scalars_follow_yaml_1_2_and_keep_leading_zeros() {
        let root = load("[yes, true, 0644, 644, 1.5, ~, '1', 18446744073709551615]").expect("valid");
        let values: Vec<&Value> =
            root.as_list("a list").expect("a list").iter().map(|node| &node.value).collect();
        assert_eq!(values[0], &Value::String("yes".into()));
        assert_eq!(values[1], &Value::Boolean(true));
        assert_eq!(values[2], &Value::String("0644".into()));
        assert_eq!(values[3], &Value::Integer(644));
        assert_eq!(values[4], &Value::Float(1.5));
        assert_eq!(values[5], &Value::Null);
        assert_eq!(values[6], &Value::String("1".into()));
        assert!(matches!(values[7], Value::Float(_)));
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused_with_its_place() {
        insta::assert_snapshot!(problem_of("a: 1\na: 2\n"), @"test.yaml:2:1: the key `a` is already set above");
        insta::assert_snapshot!(problem_of("a: 1\n---\nb: 2\n"), @"test.yaml:3:1: a second document starts here");
        insta::assert_snapshot!(problem_of("<<: { a: 1 }\n"), @"test.yaml:1:1: merge keys (`<<`) are not supported");
        insta::assert_snapshot!(problem_of("a: !foo x\n"), @"test.yaml:1:9: unsupported tag `!foo`");
        insta::assert_snapshot!(problem_of("a: [1\nb: 2"), @"test.yaml:2:2: illegal placement of ':' indicator");
        insta::assert_snapshot!(problem_of("a: \t\n\tb"), @"test.yaml:2:2: tabs disallowed within this context (block indentation)");
        insta::assert_snapshot!(problem_of("a: .nan"), @"test.yaml:1:4: non-finite float `.nan` rejected by the configured policy");
        insta::assert_snapshot!(problem_of("a: b\0"), @"test.yaml:1:5: NUL is not valid in YAML");
        insta::assert_snapshot!(problem_of("? [a]\n: b\n"), @"test.yaml:1:3: a key has to be a string");
        insta::assert_snapshot!(problem_of("a: *b\n"), @"test.yaml:1:4: alias references unknown anchor");
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_are_accepted() {
        let root = load("\u{feff}a: x\r\nb: y\r\n").expect("valid");
        assert_eq!(root.to_json(), serde_json::json!({ "a": "x", "b": "y" }));
    }

    #[test]
    fn bombs_are_bounded() {
        let mut bomb = String::from("a0: &a0 [x]\n");
        for level in 1..40 {
            bomb += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        assert!(problem_of(&bomb).contains("alias"));
        assert!(problem_of(&format!("{}x", "[".repeat(1000))).starts_with("test.yaml:1:"));
        assert!(problem_of(&"x".repeat(MAXIMUM_BYTES + 1)).contains("longer than 1024 KiB"));
    }
}
