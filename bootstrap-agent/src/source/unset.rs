//! Values that nobody has set: empty ones, and what is put where a value shall come later.

use serde_json::Value as Json;

/// Words that stand where a value shall come, compared without case, `_`, `-` and spaces.
const WORDS: &[&str] = &[
    "changeme",
    "changeit",
    "changethis",
    "replaceme",
    "replacethis",
    "placeholder",
    "todo",
    "tbd",
    "fixme",
    "undefined",
    "null",
    "unset",
    "dummy",
];

/// What is wrong with the first value in a tree that nobody has set: its path, with dots, and why. `may` says which
/// paths may be so.
pub fn first(value: &Json, may: &dyn Fn(&str) -> bool) -> Option<(String, &'static str)> {
    below("", value, may)
}

fn below(path: &str, value: &Json, may: &dyn Fn(&str) -> bool) -> Option<(String, &'static str)> {
    let inner = |key: &str, value: &Json| {
        below(&if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }, value, may)
    };
    let why = match value {
        Json::Object(entries) if !entries.is_empty() => {
            return entries.iter().find_map(|(key, value)| inner(key, value));
        }
        Json::Array(elements) if !elements.is_empty() => {
            return elements.iter().enumerate().find_map(|(index, value)| inner(&index.to_string(), value));
        }
        Json::Object(_) | Json::Array(_) | Json::Null => Some("is empty"),
        Json::String(text) => of_text(text),
        Json::Bool(_) | Json::Number(_) => None,
    };
    why.filter(|_| !may(path)).map(|why| (path.to_owned(), why))
}

fn of_text(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Some("is empty");
    }
    let word: String = text.to_lowercase().chars().filter(|c| !" _-".contains(*c)).collect();
    let is_framed = [("<", ">"), ("${", "}"), ("{{", "}}"), ("[", "]")].iter().any(|(start, end)| {
        text.starts_with(start) && text.ends_with(end) && is_name(&text[start.len()..text.len() - end.len()])
    });
    let is_crossed = text.len() >= 3 && text.chars().all(|c| c == 'x' || c == 'X');
    (WORDS.contains(&word.as_str()) || is_framed || is_crossed).then_some("looks as if nobody had set it")
}

/// Whether a frame is around the name of a value, such as `<password>`, and not around a value such as `[1, 2]`.
fn is_name(text: &str) -> bool {
    let text = text.trim();
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() < 40
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-.".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn first(value: &Json) -> Option<String> {
        super::first(value, &|path| path == "may.be").map(|(path, why)| format!("{path} {why}"))
    }

    #[test]
    fn what_is_empty_is_found() {
        assert_eq!(first(&json!({ "a": "x", "b": " " })).as_deref(), Some("b is empty"));
        assert_eq!(first(&json!({})).as_deref(), Some(" is empty"));
        let nested = json!({ "db": { "hosts": ["a", ""] } });
        assert_eq!(first(&nested).as_deref(), Some("db.hosts.1 is empty"));
        assert_eq!(first(&json!({ "may": { "be": "" }, "a": 0 })), None);
    }

    #[test]
    fn what_stands_where_a_value_shall_come_is_found() {
        for text in [
            "CHANGEME",
            "change-me",
            "Replace Me",
            "TODO",
            "xxx",
            "XXXXX",
            "<password>",
            "${DB_PASSWORD}",
            "{{ db.password }}",
            "[your token]",
            "null",
        ] {
            assert!(first(&json!(text)).is_some(), "{text}");
        }
        for text in [
            "x",
            "xx",
            "todo-list",
            "<html><body>x</body></html>",
            "[1, 2]",
            "[::1]",
            "${a}/${b}",
            "nullable",
            "change",
        ] {
            assert_eq!(first(&json!(text)), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_can_be_looked_at(text in "[<\\[$ {}a-zé\\]>]{0,6}") {
            of_text(&text);
        }
    }
}
