//! Texts that nobody meant to be read: whatever is in one, the answer is a value or a problem, and it comes soon.
//!
//! [`TARGETS`] has every parser as a function of bytes that panics where something does not hold. A fuzzer
//! (`fuzz/`) calls them; the tests here replay what it has found worth keeping, and generate more.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, json};

use crate::load;
use crate::node::Node;
use crate::op::{Before, Content, Op, WriteFile};
use crate::plan::{Guards, plan};
use crate::recipe::Recipe;
use crate::resolve::{RecipeUse, Resolved, resolve};
use crate::run::{Failure, Files, converge};
use crate::source::Source;
use crate::system::accounts::Accounts;
use crate::system::fake::Fake;
use crate::system::linux::package::dpkg;
use crate::system::{Attributes, Facts};
use crate::template::{Scope, Templates, condition, render};

/// A parser: what is not so for its bytes, it panics about.
pub type Target = fn(&[u8]);

/// Every parser, by the name of its fuzz target and of its folder in `fuzz/corpus/`.
pub const TARGETS: [(&str, Target); 6] = [
    ("accounts", accounts),
    ("dpkg", packages),
    ("editors", editors),
    ("recipe", recipe),
    ("template", template),
    ("yaml", yaml),
];

/// What resources do to a file that somebody else wrote: where it is, and the resource.
const EDITORS: [(&str, &str); 20] = [
    ("/etc/edited", "line: { path: /etc/edited, match: '^a', line: \"a b\" }"),
    ("/etc/edited", "line: { path: /etc/edited, match: b, state: absent }"),
    ("/etc/edited", "block: { path: /etc/edited, name: a, content: \"b\\nc\\n\" }"),
    ("/etc/edited", "ini: { path: /etc/edited, section: a, key: b, value: c }"),
    ("/etc/edited", "ini: { path: /etc/edited, section: a, key: b, state: absent }"),
    ("/etc/edited", "json: { path: /etc/edited, key: a.b, value: [c] }"),
    ("/etc/edited", "json: { path: /etc/edited, key: a.b, state: absent }"),
    ("/etc/edited", "toml: { path: /etc/edited, key: a.b, value: { c: 1 } }"),
    ("/etc/edited", "toml: { path: /etc/edited, key: a.b, state: absent }"),
    ("/etc/fstab", "mount: { path: /a, device: tmpfs, fstype: tmpfs, options: [noexec] }"),
    ("/etc/fstab", "mount: { path: /a, state: absent }"),
    ("/etc/hosts", "hosts_entry: { address: 10.0.0.5, names: [a, b] }"),
    ("/etc/sysctl.d/a.conf", "sysctl: { name: b, settings: { net.a: 1 } }"),
    ("/etc/default/locale", "locale: { lang: C.UTF-8 }"),
    (
        "/etc/pam.d/edited",
        "pam: { file: edited, rules: [ { type: auth, module: pam_a.so, control: required, arguments: [b c] } ] }",
    ),
    (
        "/etc/pam.d/edited",
        "pam: { file: edited, rules: [ { type: auth, module: pam_a.so, having: b, control: optional, before: pam_b.so } ] }",
    ),
    (
        "/etc/pam.d/edited",
        "pam: { file: edited, rules: [ { type: auth, module: pam_a.so, state: absent } ] }",
    ),
    ("/etc/security/faillock.conf", "password_policy: { faillock: { deny: 1, audit: true, silent: false } }"),
    ("/etc/login.defs", "password_policy: { login_defs: { UMASK: \"027\" } }"),
    ("/usr/lib/systemd/system/a.service", "service: { name: a, enabled: true, state: running }"),
];

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "test.yaml".into(), text: text.into() })
}

fn scope() -> Scope {
    let values = json!({ "inputs": { "port": 22, "allow": ["a", "b"], "title": "Hi" } });
    Scope::new(Map::from_iter(values.as_object().cloned().unwrap_or_default()))
}

/// A text that is YAML, or says where it is not.
///
/// # Panics
/// When nothing is said.
pub fn yaml(bytes: &[u8]) {
    match load::parse(&source(&String::from_utf8_lossy(bytes))) {
        Ok(node) => drop(node.to_json()),
        Err(problem) => assert!(!problem.located().is_empty(), "a problem is told"),
    }
}

/// A recipe that has a plan, or says why not.
///
/// # Panics
/// When nothing is said.
pub fn recipe(bytes: &[u8]) {
    let fake = Fake::debian();
    let text = source(&String::from_utf8_lossy(bytes));
    match resolved(&text, &fake) {
        Ok(resolved) => match plan(&resolved, &fake, Guards::Skip) {
            Ok(plan) => drop(plan.to_string()),
            Err(error) => assert!(!error.to_string().is_empty(), "a failure is told"),
        },
        Err(problems) => assert!(!problems.to_string().is_empty(), "problems are told"),
    }
}

fn resolved(text: &Arc<Source>, fake: &Fake) -> Result<Resolved, crate::error::Problems> {
    let recipe = Recipe::parse(text, Ok(Templates::default()), Path::new("/nonexistent/example"))?;
    let inputs =
        crate::input::resolve(&recipe.inputs, &[], &crate::source::Location::new(text, 0, 0), "input")?;
    let facts = serde_json::to_value(fake.host()).unwrap_or_default();
    let scope = Scope::new(Map::from_iter([("facts".to_owned(), facts)]));
    resolve(&[RecipeUse { recipe: Arc::new(recipe), inputs, stage: 0, at: None }], &scope)
}

/// A text in each place where recipes have templates.
pub fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let templates = Templates::parse([("t".to_owned(), source(&text))].into());
    drop(templates.and_then(|templates| templates.render("t", &scope())));
    let node = string(&text);
    drop(render(&node, &scope()));
    drop(condition(&node, &scope()));
}

fn string(text: &str) -> Node {
    let quoted = source(&serde_json::to_string(text).unwrap_or_default());
    // What is longer than a recipe may be is not what this is about.
    load::parse(&quoted).or_else(|_| load::parse(&source("''"))).unwrap_or_else(|problem| panic!("{problem}"))
}

/// `passwd`, and after a NUL `group`.
pub fn accounts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (passwd, group) = text.split_once('\0').unwrap_or((&text, ""));
    let accounts = Accounts::parse(passwd, group);
    let _ = (accounts.uid("a"), accounts.gid("a"), accounts.user("a"), accounts.group("a"));
}

/// The database of dpkg.
///
/// # Panics
/// When a package is held that is not installed.
pub fn packages(bytes: &[u8]) {
    let found = dpkg::packages(bytes);
    assert!(found.held.iter().all(|name| found.version(name).is_some()), "what is held is there");
    dpkg::is_interrupted(bytes);
}

/// A file that a resource edits, which the first byte chooses: it cannot be edited, or that settles.
///
/// # Panics
/// When it does not settle.
pub fn editors(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    let (path, resource) = EDITORS[usize::from(*choice) % EDITORS.len()];
    let resource = source(&format!("resources: [ {resource} ]"));
    let resolved = resolved(&resource, &Fake::debian()).unwrap_or_else(|problems| panic!("{problems}"));
    let mut fake = Fake::debian();
    for directory in ["/etc/default", "/etc/systemd", "/etc/systemd/system", "/usr/lib", "/usr/lib/systemd"] {
        fake.directory(directory);
    }
    for directory in ["/etc/pam.d", "/etc/security"] {
        fake.directory(directory);
    }
    fake.file("/usr/lib/security/pam_a.so", "");
    fake.apply(&Op::WriteFile(WriteFile {
        path: path.into(),
        content: Content::new(text.to_vec()),
        attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o640 },
        validate: None,
        before: Before::Absent,
    }));
    if let Err(error) = converge(&resolved, &mut fake, Files::InTurn, &mut drop) {
        // That it did not settle is one of the other failures.
        assert!(matches!(*error.failure, Failure::Plan(_)), "{error}");
        return;
    }
    let plan = plan(&resolved, &fake, Guards::Run)
        .unwrap_or_else(|error| panic!("there is no second plan: {error}"));
    assert!(plan.is_empty(), "{plan}");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::load::MAXIMUM_BYTES;
    use crate::system::linux::package::hostile::{RPM_DATABASE, parse_rpm_database, parse_text};

    /// What a text of a megabyte may take on a slow machine with a program that is not optimised. What is not
    /// bounded takes minutes, or all memory.
    const SOON: Duration = Duration::from_secs(20);

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
        // Latin-1.
        insta::assert_snapshot!(file_problem(b"a: caf\xe9\n"), @"failed to read `recipe.yaml`: byte 6 is not UTF-8");
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
            soon(|| template(text.as_bytes()));
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
        fn any_bytes_are_a_value_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }

        /// Of the characters that mean something, and what is there twice or not closed.
        #[test]
        fn anything_like_yaml_is_yaml_or_a_problem(text in "([-?:,\\[\\]{}#&*!|>'\"%@ab ~<\n\r\té☃]|\\PC|\\&a|\\*a|- |a: |\n  ){0,60}") {
            yaml(text.as_bytes());
        }

        #[test]
        fn anything_like_a_template_renders_or_is_a_problem(
            text in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|-|inputs|\\.port|\\.allow|\\.nope| if | for x in | endif | endfor | else |set a = |\\||length|upper|default\\(value=|[()\\[\\]0-9\"'+*/%~,.= ]|\\PC|\n|é){0,30}"
        ) {
            template(text.as_bytes());
        }

        #[test]
        fn anything_is_passwd_and_group(passwd in "([:,\na-c0-9+é]|x:|:0|\\PC){0,80}", group in "([:,\na-c0-9+]|x:|:0|\\PC){0,80}") {
            accounts(format!("{passwd}\0{group}").as_bytes());
        }

        #[test]
        fn anything_is_a_database_of_packages(
            text in "(Package: |Status: |Version: |Architecture: |hold |install |ok |installed|a|\n|\n\n|:| |\r|\\PC){0,40}",
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            packages(&[text.as_bytes(), &bytes].concat());
        }

        /// Of what means something in one of the formats.
        #[test]
        fn any_file_can_be_edited_or_says_why_not(
            editor in 0..u8::try_from(EDITORS.len()).expect("a few"),
            text in "([\\[\\]{}\"'#;=:,.\\\\ \t\r]|\n|a|b|c|a b|1|/a|tmpfs|\\[a\\]|\\[Install\\]|WantedBy=|10\\.0\\.0\\.5|net\\.a|# BEGIN a|# END a|auth |session |required |\\[success=1\\] |pam_a.so |pam_b.so|@include |deny|audit|UMASK|\"\"\"|\\PC){0,40}",
        ) {
            editors(&[&[editor], text.as_bytes()].concat());
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

    /// What the fuzzer found worth keeping, and what it once broke something with.
    #[test]
    fn the_corpus_of_the_fuzzer_breaks_nothing() {
        let corpus = Path::new("../fuzz/corpus");
        for (name, target) in TARGETS {
            let texts: Vec<_> = fs::read_dir(corpus.join(name)).expect("a corpus").collect();
            assert!(!texts.is_empty(), "{name}");
            for text in texts {
                let path = text.expect("an entry").path();
                eprintln!("{}", path.display());
                soon(|| target(&fs::read(&path).expect("readable")));
            }
        }
    }
}
