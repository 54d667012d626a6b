//! A YAML file as a tree in which everything knows where in the text it is.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle};
use regex::Regex;
use serde_json::{Number, Value as Json};

/// A value in a text.
#[derive(Debug)]
pub(super) struct Node {
    /// Where its content begins: behind the `|` of a block scalar, at the first key of a block mapping.
    pub(super) start: usize,
    /// Behind its last byte, without what is only space.
    pub(super) end: usize,
    /// What is in front of it that others may refer to, or that says what it is: an anchor or a tag.
    pub(super) property: Option<&'static str>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar { text: String, style: Style },
    List { flow: bool, elements: Vec<Node> },
    Map { flow: bool, entries: Vec<Entry> },
    Alias(usize),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Node,
    pub(super) value: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// `|` or `>`.
    Block,
}

/// Why a text has no tree.
#[derive(Debug)]
pub(super) enum NoTree {
    /// It is not YAML.
    Invalid(ScanError),
    /// It has more than one document in it.
    Several,
}

/// Reads a text with one document or none in it.
pub(super) fn parse(text: &str) -> Result<Option<Node>, NoTree> {
    let mut events = Events { text, parser: Parser::new_from_str(text) };
    let mut root = None;
    let mut documents = 0;
    while let Some((event, span)) = events.next()? {
        match event {
            Event::DocumentStart(..) if documents > 0 => return Err(NoTree::Several),
            Event::DocumentStart(..) => documents += 1,
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            event => root = Some(events.node(event, span)?),
        }
    }
    Ok(root)
}

struct Events<'a> {
    text: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, NoTree> {
        self.parser.next().transpose().map_err(NoTree::Invalid)
    }

    /// The node that an event begins.
    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, NoTree> {
        let (start, mut end) = (offset(span.start), offset(span.end));
        let mut property = None;
        let mut has = |anchor: usize, is_tagged: bool| {
            if is_tagged {
                property = Some("a tag");
            } else if anchor > 0 {
                property = Some("an anchor");
            }
        };
        let kind = match event {
            Event::Scalar(text, style, anchor, tag) => {
                has(anchor, tag.is_some());
                let style = match style {
                    ScalarStyle::SingleQuoted => Style::SingleQuoted,
                    ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    ScalarStyle::Plain => Style::Plain,
                };
                if style == Style::Block {
                    end = block_end(self.text, start, end, &text);
                }
                // The parser says `~` for a value that is not written.
                let text = if style == Style::Plain && start == end { String::new() } else { text.into() };
                Kind::Scalar { text, style }
            }
            Event::SequenceStart(style, anchor, tag) => {
                has(anchor, tag.is_some());
                let flow = style == StructureStyle::Flow;
                let mut elements = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if event == Event::SequenceEnd {
                        end = if flow { offset(span.end) } else { last_end(start, elements.last()) };
                        break;
                    }
                    elements.push(self.node(event, span)?);
                }
                Kind::List { flow, elements }
            }
            Event::MappingStart(style, anchor, tag) => {
                has(anchor, tag.is_some());
                let flow = style == StructureStyle::Flow;
                let mut entries: Vec<Entry> = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if event == Event::MappingEnd {
                        end = if flow {
                            offset(span.end)
                        } else {
                            last_end(start, entries.last().map(|entry| &entry.value))
                        };
                        break;
                    }
                    let key = self.node(event, span)?;
                    let Some((event, span)) = self.next()? else { break };
                    entries.push(Entry { key, value: self.node(event, span)? });
                }
                Kind::Map { flow, entries }
            }
            Event::Alias(of) => Kind::Alias(of),
            // Comments and anchors are not asked for, and nothing else stands where a node does.
            _ => Kind::Scalar { text: String::new(), style: Style::Plain },
        };
        Ok(Node { start, end, property, kind })
    }
}

/// A text that is given as a string has byte offsets.
fn offset(marker: granit_parser::Marker) -> usize {
    marker.byte_offset().unwrap_or_default()
}

fn last_end(start: usize, last: Option<&Node>) -> usize {
    last.map_or(start, |last| last.end)
}

/// The parser ends a block scalar behind the space that follows it. Empty lines belong to it only if they
/// are part of its value, which then ends with them.
fn block_end(text: &str, start: usize, end: usize, value: &str) -> usize {
    let written = &text[start..end];
    if value.ends_with("\n\n") || value.trim_matches('\n').is_empty() {
        return start + written.rfind('\n').map_or(written.len(), |at| at + 1);
    }
    start + written.trim_end_matches(['\n', '\r', ' ']).len()
}

impl Node {
    pub(super) fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::List { .. } => "a list",
            Kind::Map { .. } => "a mapping",
            Kind::Alias(_) => "an alias",
            Kind::Scalar { text, style: Style::Plain } => match plain(text) {
                Some(Json::Null) => "`null`",
                Some(Json::Bool(_)) => "a boolean",
                Some(Json::Number(_)) => "a number",
                _ => "a string",
            },
            Kind::Scalar { .. } => "a string",
        }
    }

    /// Whether it says that there is no value, or is a mapping with nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, style: Style::Plain } => plain(text) == Some(Json::Null),
            Kind::Map { entries, .. } => entries.is_empty(),
            _ => false,
        }
    }

    /// The anchor, tag or alias in it, if there is one.
    pub(super) fn shared(&self) -> Option<&'static str> {
        self.property.or_else(|| match &self.kind {
            Kind::Alias(_) => Some("an alias"),
            Kind::Scalar { .. } => None,
            Kind::List { elements, .. } => elements.iter().find_map(Self::shared),
            Kind::Map { entries, .. } => {
                entries.iter().find_map(|entry| entry.key.shared().or_else(|| entry.value.shared()))
            }
        })
    }

    /// Whether it is this key, however it is quoted.
    pub(super) fn is_key(&self, key: &str) -> bool {
        self.property.is_none() && matches!(&self.kind, Kind::Scalar { text, .. } if text == key)
    }

    /// Whether it is this value for every reader of YAML.
    pub(super) fn is_same(&self, wanted: &Json) -> bool {
        if self.property.is_some() {
            return false;
        }
        match (&self.kind, wanted) {
            (Kind::Scalar { text, style: Style::Plain }, wanted) => plain(text).as_ref() == Some(wanted),
            (Kind::Scalar { text, .. }, Json::String(wanted)) => text == wanted,
            (Kind::List { elements, .. }, Json::Array(wanted)) => {
                elements.len() == wanted.len()
                    && elements.iter().zip(wanted).all(|(element, wanted)| element.is_same(wanted))
            }
            (Kind::Map { entries, .. }, Json::Object(wanted)) => {
                let mut keys = BTreeSet::new();
                entries.len() == wanted.len()
                    && entries.iter().all(|entry| match &entry.key.kind {
                        Kind::Scalar { text, .. } if entry.key.property.is_none() => {
                            keys.insert(text)
                                && wanted.get(text).is_some_and(|wanted| entry.value.is_same(wanted))
                        }
                        _ => false,
                    })
            }
            _ => false,
        }
    }

    /// Whether it is what another is, written the same way.
    pub(super) fn is_unchanged(&self, other: &Self) -> bool {
        self.property == other.property
            && match (&self.kind, &other.kind) {
                (Kind::Scalar { text, style }, Kind::Scalar { text: other_text, style: other_style }) => {
                    text == other_text && style == other_style
                }
                (Kind::List { elements, .. }, Kind::List { elements: others, .. }) => {
                    elements.len() == others.len()
                        && elements.iter().zip(others).all(|(one, other)| one.is_unchanged(other))
                }
                (Kind::Map { entries, .. }, Kind::Map { entries: others, .. }) => {
                    entries.len() == others.len()
                        && entries.iter().zip(others).all(|(one, other)| one.is_unchanged(other))
                }
                (Kind::Alias(of), Kind::Alias(other)) => of == other,
                _ => false,
            }
    }
}

impl Entry {
    pub(super) fn is_unchanged(&self, other: &Self) -> bool {
        self.key.is_unchanged(&other.key) && self.value.is_unchanged(&other.value)
    }
}

/// What a word without quotes is; none if readers of YAML 1.1 and YAML 1.2 take it for different things.
pub(super) fn plain(text: &str) -> Option<Json> {
    /// Everything that some reader takes for something else than a string: YAML 1.2, chapter 10.3, and the
    /// types of YAML 1.1 (null, bool, int, float, timestamp, merge, value).
    static NO_STRING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?ix)^(
                ~ | null | y | n | yes | no | on | off | true | false | << | =
                | [-+]? 0b [01_]+
                | [-+]? 0x [0-9a-f_]+
                | [-+]? 0o? [0-7_]+
                | [-+]? [0-9] [0-9_]* (:[0-5]?[0-9])* (\.[0-9_]*)? (e[-+]?[0-9]+)?
                | [-+]? \. [0-9_]+ (e[-+]?[0-9]+)?
                | [-+]? \. (inf|nan)
                | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} .*
            )?$",
        )
        .expect("a valid pattern")
    });
    /// Floats that readers of YAML 1.1 take for floats as well: with a dot and a signed exponent.
    static FLOAT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?$").expect("a valid pattern"));
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Json::Null),
        "true" | "True" | "TRUE" => return Some(Json::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Json::Bool(false)),
        _ if !NO_STRING.is_match(text) => return Some(Json::String(text.to_owned())),
        _ => {}
    }
    let digits = text.trim_start_matches(['-', '+']);
    let is_decimal =
        digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
    if is_decimal {
        let positive = text.strip_prefix('+').unwrap_or(text);
        let number = positive.parse::<i64>().map(Number::from);
        return number.or_else(|_| positive.parse::<u64>().map(Number::from)).ok().map(Json::Number);
    }
    if FLOAT.is_match(text) {
        return text.parse().ok().and_then(Number::from_f64).map(Json::Number);
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_what_all_readers_take_them_for() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("true", json!(true)),
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("+7", json!(7)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.50", json!(1.5)),
            ("1.0e+3", json!(1000.0)),
            ("10.0.0.5", json!("10.0.0.5")),
            ("10m", json!("10m")),
            ("v1", json!("v1")),
            ("a:b", json!("a:b")),
        ] {
            assert_eq!(plain(text), Some(value), "{text}");
        }
        for text in [
            "yes",
            "Off",
            "y",
            "0644",
            "0o17",
            "0x1F",
            "1_000",
            "1e3",
            "12:30",
            "2020-01-02",
            ".5",
            ".inf",
            "<<",
        ] {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn block_scalars_end_where_their_value_does() {
        for (text, written) in [
            ("a: |\n  x\n\n# c\nb: 1\n", "x"),
            ("a: |+\n  x\n\n# c\nb: 1\n", "x\n\n"),
            ("a: >-\n   x\n  # c\nb: 1\n", "x"),
            ("a: |\n  x", "x"),
        ] {
            let Ok(Some(Node { kind: Kind::Map { entries, .. }, .. })) = parse(text) else {
                panic!("{text}")
            };
            let value = &entries[0].value;
            assert_eq!(&text[value.start..value.end], written, "{text}");
        }
    }

    #[test]
    fn one_document_is_read_and_what_is_none_has_no_tree() {
        assert!(matches!(parse(""), Ok(None)));
        assert!(matches!(parse("# c\n"), Ok(None)));
        assert!(matches!(parse("---\na: 1\n...\n"), Ok(Some(_))));
        assert!(matches!(parse("a: 1\n---\nb: 1\n"), Err(NoTree::Several)));
        assert!(matches!(parse("a: [1\n"), Err(NoTree::Invalid(_))));
    }
}
