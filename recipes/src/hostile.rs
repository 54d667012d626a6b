//! Texts that nobody meant to be read: whatever is in one, the answer is a value or a problem, and it comes soon.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, json};
use tempfile::TempDir;

use crate::load::{self, MAXIMUM_BYTES};
use crate::node::Node;
use crate::source::Source;
use crate::system::accounts::Accounts;
use crate::system::linux::package::hostile::{RPM_DATABASE, parse_rpm_database, parse_text};
use crate::template::{Scope, Templates, condition, render};

/// What a text of a megabyte may take on a slow machine with a program that is not optimised. What is not
/// bounded takes minutes, or all memory.
const SOON: Duration = Duration::from_secs(20);

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "test.yaml".into(), text: text.into() })
}

fn soon<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    result
}

/// What is wrong with a YAML text, in one line.
fn problem(text: &str) -> String {
    soon(|| load::parse(&source(text))).expect_err("this text has a problem").located()
}

/// What is wrong with a file of these bytes.
fn file_problem(bytes: &[u8]) -> String {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("recipe.yaml");
    fs::write(&path, bytes).expect("written");
    let read = load::read(&path, "recipe.yaml").and_then(|source| load::parse(&source));
    read.expect_err("this file has a problem").located()
}

fn scope() -> Scope {
    let values = json!({ "inputs": { "port": 22, "allow": ["a", "b"], "title": "Hi" } });
    Scope::new(Map::from_iter(values.as_object().expect("an object").clone()))
}

fn string(text: &str) -> Node {
    load::parse(&source(&serde_json::to_string(text).expect("JSON"))).expect("a string")
}

/// Renders a text in each place where recipes have templates.
fn render_everywhere(text: &str) -> [bool; 3] {
    let templates = Templates::parse([("t".to_owned(), source(text))].into());
    let file = templates.and_then(|templates| templates.render("t", &scope()));
    let node = string(text);
    [file.is_ok(), render(&node, &scope()).is_ok(), condition(&node, &scope()).is_ok()]
}

#[test]
fn yaml_that_grows_when_it_is_read_is_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    insta::assert_snapshot!(problem(&laughs), @"test.yaml:6:10: there are more aliases, or they stand for more, than anybody writes");
    insta::assert_snapshot!(problem("a: &a [*a]\n"), @"test.yaml:1:8: this alias is inside of what it stands for");
    let many = format!("a: &a x\nb: [{}]\n", vec!["*a"; 5000].join(", "));
    insta::assert_snapshot!(problem(&many), @"test.yaml:2:4005: there are more aliases, or they stand for more, than anybody writes");
    let nodes = format!("[{}]", vec!["1"; 300_000].join(","));
    insta::assert_snapshot!(problem(&nodes), @"test.yaml:1:500000: there are more values than anybody writes");
}

#[test]
fn yaml_that_is_nested_deeper_than_anybody_writes_is_refused() {
    insta::assert_snapshot!(problem(&"[".repeat(100_000)), @"test.yaml:1:256: this is nested deeper than anybody writes");
    insta::assert_snapshot!(problem(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), @"test.yaml:1:256: this is nested deeper than anybody writes");
    insta::assert_snapshot!(problem(&"{a: ".repeat(100_000)), @"test.yaml:1:1021: this is nested deeper than anybody writes");
    insta::assert_snapshot!(problem(&"- ".repeat(100_000)), @"test.yaml:1:65: this is nested deeper than anybody writes");
    insta::assert_snapshot!(problem(&"? ".repeat(100_000)), @"test.yaml:1:65: this is nested deeper than anybody writes");
    assert!(load::parse(&source(&format!("{}x", "- ".repeat(load::MAXIMUM_DEPTH)))).is_ok());
    assert!(load::parse(&source(&format!("{}x", "- ".repeat(load::MAXIMUM_DEPTH + 1)))).is_err());
    let steps: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    insta::assert_snapshot!(problem(&steps), @"test.yaml:33:33: this is nested deeper than anybody writes");
}

#[test]
fn files_that_are_no_text_are_refused() {
    insta::assert_snapshot!(file_problem(b"\xff\xfea\0:\0 \0b\0"), @"failed to read `recipe.yaml`: byte 0 is not UTF-8");
    insta::assert_snapshot!(file_problem(b"\xfe\xff\0a\0:\0 \0b"), @"failed to read `recipe.yaml`: byte 0 is not UTF-8");
    insta::assert_snapshot!(file_problem(b"a: \xc3\x28\n"), @"failed to read `recipe.yaml`: byte 3 is not UTF-8");
    insta::assert_snapshot!(file_problem(b"a: b\0c\n"), @"recipe.yaml:1:5: NUL is not valid in YAML");
    insta::assert_snapshot!(file_problem(&vec![b'x'; 2 * MAXIMUM_BYTES]), @"failed to read `recipe.yaml`: it is longer than 1024 KiB");
    insta::assert_snapshot!(problem("a: 1\r\nb: 2\r\na: 3\r\n"), @"test.yaml:3:1: the key `a` is already set above");
    insta::assert_snapshot!(problem("a: { b: 1, b: 2 }\n"), @"test.yaml:1:12: the key `b` is already set above");
    insta::assert_snapshot!(problem("\"a\": 1\n'a': 2\n"), @"test.yaml:2:1: the key `'a'` is already set above");
}

#[test]
fn templates_that_are_nested_deeper_than_anybody_writes_do_not_end_the_program() {
    for text in [
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{{{ {}true }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{}x{}", "{% if true %}".repeat(20_000), "{% endif %}".repeat(20_000)),
    ] {
        soon(|| render_everywhere(&text));
    }
}

#[test]
fn a_template_that_includes_itself_is_refused() {
    let texts = [("a", "{% include \"b\" %}"), ("b", "{% include \"a\" %}")];
    let sources = texts.map(|(name, text)| (name.to_owned(), source(text)));
    let rendered =
        soon(|| Templates::parse(sources.into()).and_then(|templates| templates.render("a", &scope())));
    insta::assert_snapshot!(rendered.expect_err("it has no end").located(), @r#"circular include detected for template 'a'. Include chain: `["a", "b", "a"]`"#);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_yaml_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = load::parse(&source(&String::from_utf8_lossy(&bytes)));
    }

    /// Of the characters that mean something, and what is there twice or not closed.
    #[test]
    fn anything_like_yaml_is_yaml_or_a_problem(text in "([-?:,\\[\\]{}#&*!|>'\"%@ab ~<\n\r\té☃]|\\PC|\\&a|\\*a|- |a: |\n  ){0,60}") {
        match load::parse(&source(&text)) {
            Ok(node) => drop(node.to_json()),
            Err(problem) => prop_assert!(!problem.located().is_empty()),
        }
    }

    #[test]
    fn anything_like_a_template_renders_or_is_a_problem(
        text in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|-|inputs|\\.port|\\.allow|\\.nope| if | for x in | endif | endfor | else |set a = |\\||length|upper|default\\(value=|[()\\[\\]0-9\"'+*/%~,.= ]|\\PC|\n|é){0,30}"
    ) {
        render_everywhere(&text);
    }

    #[test]
    fn anything_is_passwd_and_group(passwd in "([:,\na-c0-9+é]|x:|:0|\\PC){0,80}", group in "([:,\na-c0-9+]|x:|:0|\\PC){0,80}") {
        let accounts = Accounts::parse(&passwd, &group);
        let _ = (accounts.uid("a"), accounts.gid("a"), accounts.user("a"), accounts.group("a"));
    }

    #[test]
    fn anything_is_what_package_managers_say(
        text in "(Inst |Remv | \\(|\\)|\\[|Installing:|Removing:|Upgrading:| a noarch 1-2 r 1 k|Package: |\t|[a-c0-9.:!#*-]|\\PC|\n| ){0,60}",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        parse_text(&text);
        parse_text(&String::from_utf8_lossy(&bytes));
    }

    /// A real one, with bytes changed and its end cut off.
    #[test]
    fn a_damaged_database_of_rpm_is_read_or_a_problem(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = RPM_DATABASE.to_vec();
        for (at, byte) in changes {
            // The first 16 bytes say that it is a database: without them nothing else is looked at.
            let at = 16 + at.index(bytes.len() - 16);
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(length.index(bytes.len()));
        }
        soon(|| parse_rpm_database(&bytes));
    }
}
