//! JSON as text: one value is changed, and every other byte stays.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value as Json;

use super::edited::line_end;

/// Why a text cannot be edited.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It is not JSON.
    Invalid(serde_json::Error),
    /// Behind so many keys there is something else than an object.
    NoObject {
        depth: usize,
        /// What is there.
        noun: &'static str,
    },
    /// The key at this depth is there more than once, and programs differ in which one they take.
    Twice { depth: usize },
}

/// The text with a value behind these keys, or with nothing there.
pub(super) fn edit(text: &str, keys: &[String], value: Option<&Json>) -> Result<String, Obstacle> {
    // The text is known to be valid from here on, so looking for places in it can be simple.
    serde_json::from_str::<Json>(text).map_err(Obstacle::Invalid)?;
    let mut object = skip_space(text, 0);
    for depth in 0..keys.len() {
        let members = match (members(text, object), value) {
            (Some(members), _) => members,
            (None, None) => break,
            (None, Some(_)) => return Err(Obstacle::NoObject { depth, noun: noun(text, object) }),
        };
        let mut same = members.iter().enumerate().filter(|(_, member)| member.key == keys[depth]);
        let (at, member) = match (same.next(), same.next(), value) {
            (Some(found), None, _) => found,
            (Some(_), Some(_), _) => return Err(Obstacle::Twice { depth }),
            (None, _, Some(value)) => return Ok(add(text, object, &members, &keys[depth..], value)),
            (None, _, None) => break,
        };
        match value {
            _ if depth + 1 < keys.len() => object = member.value.start,
            Some(value) => return Ok(replace(text, member, value)),
            None => return Ok(remove(text, object, &members, at)),
        }
    }
    Ok(text.to_owned())
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
                let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
                let edited = edit(&text, &keys, wanted.as_ref()).expect("edited");
                let mut expected = before.clone();
                let (last, above) = keys.split_last().expect("a key");
                let mut object = &mut expected;
                if wanted.is_some() || above != ["e", "f"] {
                    for key in above {
                        let members = object.as_object_mut().expect("an object");
                        object = members.entry(key.clone()).or_insert_with(|| serde_json::json!({}));
                    }
                    let members = object.as_object_mut().expect("an object");
                    match &wanted {
                        Some(value) => members.insert(last.clone(), value.clone()),
                        None => members.shift_remove(last),
                    };
                }
                let edited_value: Json = serde_json::from_str(&edited).expect("valid JSON");
                prop_assert_eq!(edited_value.to_string(), expected.to_string());
                prop_assert_eq!(edit(&edited, &keys, wanted.as_ref()).expect("edited"), edited);
            }
        }
    }
}
