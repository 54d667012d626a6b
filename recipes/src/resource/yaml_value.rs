//! Values of recipes as YAML has them.

use serde_json::Value as Json;

use super::yaml_tree::{Style, plain};

/// How a file is written.
#[derive(Debug)]
pub(super) struct Habits {
    /// What a mapping is indented by.
    pub(super) unit: usize,
    /// Whether the dashes of a list are indented, under the key that it belongs to.
    pub(super) indents_lists: bool,
    /// Whether values are written on the line of their key only.
    pub(super) is_inline: bool,
    pub(super) line_end: &'static str,
}

/// A value as it follows its key.
#[derive(Debug)]
pub(super) enum Written {
    /// On the line of its key.
    Inline(String),
    /// On lines of its own, each with its end, below the line of its key, which has this header.
    Lines { header: &'static str, lines: String },
}

/// A value in a block mapping whose keys are at an indent.
pub(super) fn block(value: &Json, indent: usize, habits: &Habits) -> Written {
    match value {
        Json::String(text) if habits.is_inline => Written::Inline(scalar(text, Style::Plain)),
        other if habits.is_inline => Written::Inline(flow(other)),
        Json::Object(members) if !members.is_empty() => {
            let lines = members.iter().map(|(key, value)| entry(key, value, indent + habits.unit, habits));
            Written::Lines { header: "", lines: lines.collect() }
        }
        Json::Array(elements) if !elements.is_empty() => {
            let indent = if habits.indents_lists { indent + habits.unit } else { indent };
            let lines = elements.iter().map(|value| element(value, indent, habits)).collect();
            Written::Lines { header: "", lines }
        }
        Json::String(text) if is_literal(text) => {
            let (header, text) = match text.strip_suffix('\n') {
                Some(text) => ("|", text),
                None => ("|-", text.as_str()),
            };
            let indent = " ".repeat(indent + habits.unit);
            let line = |line: &str| match line {
                "" => habits.line_end.to_owned(),
                line => format!("{indent}{line}{}", habits.line_end),
            };
            Written::Lines { header, lines: text.split('\n').map(line).collect() }
        }
        Json::String(text) => Written::Inline(scalar(text, Style::Plain)),
        other => Written::Inline(flow(other)),
    }
}

/// A key with its value, as lines.
pub(super) fn entry(key: &str, value: &Json, indent: usize, habits: &Habits) -> String {
    let (spaces, key, end) = (" ".repeat(indent), scalar(key, Style::Plain), habits.line_end);
    match block(value, indent, habits) {
        Written::Inline(text) => format!("{spaces}{key}: {text}{end}"),
        Written::Lines { header: "", lines } => format!("{spaces}{key}:{end}{lines}"),
        Written::Lines { header, lines } => format!("{spaces}{key}: {header}{end}{lines}"),
    }
}

/// An element of a list, as lines.
fn element(value: &Json, indent: usize, habits: &Habits) -> String {
    let spaces = " ".repeat(indent);
    // What is in it is indented by the dash and the space behind it.
    let inner = indent + 2;
    let lines: String = match value {
        Json::Object(members) if !members.is_empty() => {
            members.iter().map(|(key, value)| entry(key, value, inner, habits)).collect()
        }
        Json::Array(elements) if !elements.is_empty() => {
            elements.iter().map(|value| element(value, inner, habits)).collect()
        }
        other => {
            return match block(other, indent, habits) {
                Written::Inline(text) => format!("{spaces}- {text}{}", habits.line_end),
                Written::Lines { header, lines } => format!("{spaces}- {header}{}{lines}", habits.line_end),
            };
        }
    };
    format!("{spaces}- {}", &lines[inner..])
}

/// A value on one line.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::Null => "null".into(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => written_float(float),
            None => number.to_string(),
        },
        Json::String(text) => flow_scalar(text),
        Json::Array(elements) => {
            format!("[{}]", elements.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Json::Object(members) => {
            let member = |(key, value): (&String, &Json)| format!("{}: {}", flow_scalar(key), flow(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

/// In `[ ]` and `{ }` some readers end a word at every colon.
fn flow_scalar(text: &str) -> String {
    scalar(text, if text.contains(':') { Style::DoubleQuoted } else { Style::Plain })
}

/// Readers of YAML 1.1 take a float without a dot, or whose exponent has no sign, for a string.
fn written_float(float: f64) -> String {
    let text = format!("{float:?}");
    match text.split_once('e') {
        None => text,
        Some((mantissa, exponent)) => {
            let dot = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}{dot}e{sign}{exponent}")
        }
    }
}

/// A string in this style if it can be; without quotes only where every reader takes it for a string.
pub(super) fn scalar(text: &str, style: Style) -> String {
    // A word of these has no meaning in YAML, also in `[ ]` and `{ }`.
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_./@+-".contains(c);
    let starts_well = |first: char| first.is_ascii_alphanumeric() || "_./".contains(first);
    let is_plain = || {
        text.starts_with(starts_well)
            && text.chars().all(|c| is_word(c) || c == ' ' || c == ':')
            && !text.ends_with(' ')
            && text.split(':').all(|part| part.starts_with(is_word))
            && !text.starts_with("...")
            && matches!(plain(text), Some(Json::String(_)))
    };
    match style {
        Style::SingleQuoted if !text.contains(|c| is_special(c) || c == '\n' || c == '\t') => {
            format!("'{}'", text.replace('\'', "''"))
        }
        Style::Plain | Style::Block if is_plain() => text.to_owned(),
        _ => double_quoted(text),
    }
}

/// JSON's strings are YAML's, but for what YAML does not take for printable (YAML 1.2, chapter 5.1) or
/// takes for a line end in YAML 1.1.
fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in Json::from(text).to_string().chars() {
        if is_special(c) && !c.is_ascii_control() || c == '\u{7f}' {
            quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

fn is_special(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a text of several lines can be written as it is, below a `|`.
fn is_literal(text: &str) -> bool {
    let ends = text.strip_suffix('\n').unwrap_or(text);
    text.contains('\n')
        && !ends.is_empty()
        && !text.starts_with(['\n', ' ', '\t'])
        && !ends.ends_with(['\n', ' ', '\t'])
        && !text.contains(is_special)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_have_quotes_where_a_reader_would_take_them_for_something_else() {
        for (text, written) in [
            ("a b", "a b"),
            ("10.0.0.5", "10.0.0.5"),
            ("http://a:80/b", "http://a:80/b"),
            ("yes", "\"yes\""),
            ("0644", "\"0644\""),
            ("12:30", "\"12:30\""),
            ("2020-01-02", "\"2020-01-02\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a:", "\"a:\""),
            ("a #b", "\"a #b\""),
            ("- a", "\"- a\""),
            (" a", "\" a\""),
            ("*a", "\"*a\""),
            ("a\"b\n\u{85}\u{1}", "\"a\\\"b\\n\\u0085\\u0001\""),
        ] {
            assert_eq!(scalar(text, Style::Plain), written);
        }
        assert_eq!(scalar("it's", Style::SingleQuoted), "'it''s'");
        assert_eq!(scalar("a\tb", Style::SingleQuoted), "\"a\\tb\"");
    }

    #[test]
    fn numbers_are_numbers_for_every_reader() {
        let written: Vec<String> =
            [json!(1), json!(-1.5), json!(1e300), json!(2e-7), json!(2.0)].iter().map(flow).collect();
        assert_eq!(written, ["1", "-1.5", "1.0e+300", "2.0e-7", "2.0"]);
    }

    #[test]
    fn nested_values_are_written_on_lines_of_their_own() {
        let value = json!({ "a": [1, { "b": "x\ny\n", "c": [] }, [2, 3]], "d": {} });
        let habits = |indents_lists| Habits { unit: 2, indents_lists, is_inline: false, line_end: "\n" };
        insta::assert_snapshot!(entry("k", &value, 0, &habits(true)), @"
        k:
          a:
            - 1
            - b: |
                x
                y
              c: []
            - - 2
              - 3
          d: {}
        ");
        insta::assert_snapshot!(entry("k", &value, 0, &habits(false)), @"
        k:
          a:
          - 1
          - b: |
              x
              y
            c: []
          - - 2
            - 3
          d: {}
        ");
        assert_eq!(flow(&value), "{a: [1, {b: \"x\\ny\\n\", c: []}, [2, 3]], d: {}}");
    }
}
