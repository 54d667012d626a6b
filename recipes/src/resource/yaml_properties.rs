//! Tests: generated YAML files and edits. Whatever they are, nothing else changes.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::yaml_text::{Obstacle, edit};
use super::yaml_tree::{Kind, Node, parse};

/// Lines of which a document may be made: mappings, lists, scalars of every style, comments.
fn documents() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "1",
        "x y",
        "'q''s'",
        "\"d\\n\"",
        "",
        "yes",
        "~",
        "[]",
        "{}",
        "[1, {k: v}]",
        "{k: v, l: [x]}",
        "{\n      k: 1,\n      l: 2 }",
        "|\n      one\n\n      two",
        "|+\n      one\n\n",
        ">-\n      one\n      two",
        "two\n      lines",
        "&x 1",
        "!t 1",
    ]);
    let comment = prop::sample::select(vec!["", "", " # c", "   #d"]);
    let gap = prop::sample::select(vec!["", "", "\n", "# c\n", "  # deep\n", "    # deeper\n"]);
    let leaf = (prop::sample::select(vec!["a", "b", "c", "k", "'q'"]), scalar, comment, gap);
    let leaves = prop::collection::vec(leaf, 1..4);
    let top = (prop::sample::select(vec!["a", "b", "c", "d"]), leaves, 0..4_usize);
    let head = prop::sample::select(vec!["", "", "---\n", "# head\n", "\u{feff}", "# head\n\n"]);
    (head, prop::collection::vec(top, 0..4), any::<bool>(), any::<bool>()).prop_map(
        |(head, tops, crlf, ends)| {
            let mut text = head.to_owned();
            for (key, leaves, shape) in tops {
                let line = |(key, value, comment, gap): &(&str, &str, &str, &str), indent: &str| {
                    let comment = if value.contains(['|', '>']) { "" } else { *comment };
                    format!("{indent}{key}: {value}{comment}\n{gap}")
                };
                match shape {
                    0 => text.push_str(&line(&(key, leaves[0].1, leaves[0].2, leaves[0].3), "")),
                    1 => {
                        text.push_str(&format!("{key}:\n"));
                        leaves.iter().for_each(|leaf| text.push_str(&line(leaf, "  ")));
                    }
                    2 => {
                        text.push_str(&format!("{key}: # c\n"));
                        leaves.iter().for_each(|leaf| text.push_str(&format!("- {}", line(leaf, ""))));
                    }
                    _ => {
                        text.push_str(&format!("{key}:\n    deep:\n"));
                        leaves.iter().for_each(|leaf| text.push_str(&line(leaf, "     ")));
                    }
                }
            }
            let text = if ends { text } else { text.trim_end_matches('\n').to_owned() };
            if crlf { text.replace('\n', "\r\n") } else { text }
        },
    )
}

fn values() -> impl Strategy<Value = Option<Json>> {
    let leaf = prop_oneof![
        prop::sample::select(vec![json!(null), json!(true), json!(1), json!(1.5), json!([]), json!({})]),
        "[ -~é☃\n\t\r\u{85}]{0,8}".prop_map(Json::from),
        prop::sample::select(vec!["yes", "0644", "a: b", "# c", "x\ny\n", "x\n\n y", "|", "%", "---"])
            .prop_map(Json::from),
    ];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::vec(("[a-c:]{1,2}", inner), 0..3)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    });
    prop::option::weighted(0.8, nested)
}

/// Whether what is behind these keys, or what they end at, is more than one line or flow collection.
fn is_on_lines(node: Option<&Node>, keys: &[String]) -> bool {
    match (node.map(|node| &node.kind), keys.split_first()) {
        (Some(Kind::Map { entries, .. }), Some((key, below))) => {
            let found = entries.iter().find(|entry| entry.key.is_key(key));
            is_on_lines(found.map(|entry| &entry.value), below)
        }
        (Some(Kind::Map { flow, .. } | Kind::List { flow, .. }), None) => !flow,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the file and the value: it is read back, a second edit has nothing to do, and the entries
    /// beside it and all comments stay, but those inside of what is replaced.
    #[test]
    fn the_value_is_read_back_and_every_other_byte_stays(
        text in documents(),
        keys in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "deep", "k"]), 1..4),
        value in values(),
    ) {
        let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
        let after = match edit(&text, &keys, value.as_ref()) {
            Ok(after) => after,
            // Generated texts may have a key twice, or not be YAML; all others can be edited.
            Err(Obstacle::Unknown) => return Err(TestCaseError::fail(format!("{text:?} {keys:?} {value:?}"))),
            Err(_) => return Ok(()),
        };
        prop_assert_eq!(edit(&after, &keys, value.as_ref()).expect("edited"), after.clone());
        let root = parse(&text).expect("YAML");
        if value.is_some() && !is_on_lines(root.as_ref(), &keys) {
            prop_assert!(after.matches('#').count() >= text.matches('#').count(), "{:?} {:?}", text, after);
        }
        if let Some(Node { kind: Kind::Map { entries, .. }, .. }) = root {
            for entry in entries.iter().filter(|entry| !entry.key.is_key(&keys[0])) {
                let written = &text[entry.key.start..entry.value.end.max(entry.key.end)];
                prop_assert!(after.contains(written), "{:?} {:?}", text, after);
            }
        }
    }

    /// Of the characters that mean something.
    #[test]
    fn anything_like_yaml_is_edited_or_refused(
        text in "([-?:,\\[\\]{}#&*!|>'\"%@ab ~<\n\r\té☃]|\\&a|\\*a|- |a: |b:\n  |\n  ){0,40}",
        keys in prop::collection::vec("[ab]", 1..3),
        value in values(),
    ) {
        if let Ok(after) = edit(&text, &keys, value.as_ref()) {
            prop_assert_eq!(edit(&after, &keys, value.as_ref()).expect("edited"), after);
        }
    }
}
