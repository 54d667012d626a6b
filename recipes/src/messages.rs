//! Every message of the engine is in a test: an author has seen what a user will see. Those that no test beside
//! their code has are here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::Regex;
use tempfile::TempDir;

use crate::bundle::{Bundle, Contents, MANIFEST, pack};
use crate::op::{Before, Command, Content, Op, WriteFile};
use crate::resolve::RecipeUse;
use crate::system::fake::Fake;
use crate::system::linux::Linux;
use crate::system::{Attributes, Facts, Machine, Mode, PlanError, Why};
use crate::testing::Example;

/// What no user can see, since parts of the engine would have to misuse each other. Being named here is their test.
const INTERNAL: [&str; 3] =
    ["a value was read before its key", "is not an operation on accounts", "is not an operation on files"];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| rust_files(folder));
    files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).chain(below).collect()
}

/// A text as it is said: without what is only there to write it as a literal, and blanks as one.
fn said(literal: &str) -> String {
    let text = literal.replace("\\\n", "").replace("\\\"", "\"").replace("\\n", " ").replace("\\\\", "\\");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_message_is_in_a_test() {
    let sources = Path::new("src");
    let library = fs::read_to_string(sources.join("lib.rs")).expect("read");
    let is_test = |path: &Path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        path.components().any(|part| part.as_os_str() == "tests")
            || name == "tests"
            || library.contains(&format!("test)]\nmod {name};"))
            || ["hostile", "fake"].contains(&&*name)
    };
    let (mut code, mut tests) = (Vec::new(), String::new());
    for path in rust_files(sources) {
        let text = fs::read_to_string(&path).expect("read");
        let cut =
            if is_test(&path) { 0 } else { text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()) };
        tests += &said(&text[cut..]);
        code.push((path, text[..cut].to_owned()));
    }
    for path in rust_files(&sources.join("../../tests/end_to_end")) {
        tests += &said(&fs::read_to_string(path).expect("read"));
    }
    let message = r#"(?:Problem::new|Self::new|impossible|impossible_but|Unsupported|mismatch|custom|#\[error|\.help|wrong)\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\.|\\\n)*)"|message =\s*(?:format!\(\s*)?"((?:[^"\\]|\\.|\\\n)*)""#;
    let message = Regex::new(message).expect("a pattern");
    let value = Regex::new(r"\{[^{}]*\}").expect("a pattern");
    let mut messages = 0;
    let mut missing = Vec::new();
    for (path, text) in &code {
        for found in message.captures_iter(text) {
            let literal = found.get(1).or_else(|| found.get(2)).map_or("", |literal| literal.as_str());
            let text = said(&literal.replace("{{", "\u{1}").replace("}}", "\u{2}"));
            // The longest part that is the same whatever it is about.
            let part = value.split(&text).map(str::trim).max_by_key(|part| part.len()).unwrap_or_default();
            let part = part.replace('\u{1}', "{").replace('\u{2}', "}");
            messages += 1;
            if !tests.contains(&part) {
                missing.push(format!("{}: {part}", path.display()));
            }
        }
    }
    for internal in INTERNAL {
        assert!(code.iter().any(|(_, text)| text.contains(internal)), "there is no `{internal}` any more");
    }
    assert!(messages > 300, "{messages} messages were found");
    assert!(missing.is_empty(), "no test has seen:\n{}", missing.join("\n"));
}

fn problems(resources: &str) -> String {
    Example::resources(resources).problems()
}

#[test]
fn what_is_written_wrong() {
    insta::assert_snapshot!(problems("- service: { name: a, state: { running: 1, stopped: 2 } }"), @"example/recipe.yaml:2:32: expected exactly one key, found a mapping of 2");
    insta::assert_snapshot!(problems("- service: { name: a, state: 1 }"), @"example/recipe.yaml:2:32: expected a string or a mapping with one key, found the number `1`");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: x }\n  notify: nobody"), @"example/recipe.yaml:3:13: there is no handler `nobody`; no name is valid here");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: x }\n  for_each: 1"), @"example/recipe.yaml:3:15: expected a list or a mapping, found the number `1`");
    insta::assert_snapshot!(problems("- file: { path: /etc/a, content: x, state: absent }"), @"example/recipe.yaml:2:11: a file that shall be absent has no `content` or `source`");
    insta::assert_snapshot!(problems("- mount: { path: /a, device: \"\", fstype: ext4 }"), @"example/recipe.yaml:2:12: `device` is empty");
    insta::assert_snapshot!(problems("- sysctl: { name: a, settings: { net.a: \"1\\n2\" } }"), @"example/recipe.yaml:2:13: the value of `net.a` has a line end in it");
    let long =
        format!("- cron: {{ name: a, schedule: \"@daily\", user: root, command: {} }}", "x".repeat(2000));
    insta::assert_snapshot!(problems(&long), @"example/recipe.yaml:2:11: `command` is 2000 bytes long; cron reads 999; put it into a script");
    let repository = "- repository: { name: a, uris: [\"https://a\"], suites: [a], components: [b], architectures: [a b], key: k }";
    insta::assert_snapshot!(problems(repository), @"example/recipe.yaml:2:17: `a b` is not valid in `architectures` of a `repository`; an example is `amd64`");
    let named =
        Example::resources("- file: { path: /etc/a, content: x }\n  name: \"{{ secrets.password }}\"");
    insta::assert_snapshot!(named.secret("hunter2").problems(), @"example/recipe.yaml:3:11: a secret may not be used in the `name` of a resource; names are shown in plans, events and logs");
}

#[test]
fn files_of_a_recipe_that_cannot_be_had() {
    let example = Example::resources("- file: { path: /etc/a, source: folder }").file("folder/a", "x");
    insta::assert_snapshot!(example.problems(), @"example/recipe.yaml:2:11: failed to read `files/folder` of the recipe: Is a directory (os error 21)");
    let example = Example::resources("- systemd_unit: { name: a.service, source: a.service }");
    example.put("files/a.service", b"\xff");
    insta::assert_snapshot!(example.problems(), @"example/recipe.yaml:2:19: `files/a.service` is not text");
    let recipe = example.load().expect("valid");
    drop(example);
    let uses = [RecipeUse { recipe, inputs: serde_json::Map::new(), stage: 0, at: None }];
    let contents = Contents { mode: Mode::Bake, uses: &uses, checks: &[], services: &[] };
    insta::assert_snapshot!(pack(&contents).expect_err("it is gone"), @"failed to read the recipe `example`: No such file or directory (os error 2)");
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join(MANIFEST), "{\"schema\":1}").expect("written");
    let error = Bundle::open(folder.path()).expect_err("not whole").to_string();
    assert!(error.ends_with("` is not a bundle: missing field `mode` at line 1 column 12"), "{error}");
}

#[test]
fn what_is_on_a_host_and_cannot_be_edited() {
    let mut fake = Fake::debian();
    for path in ["/etc/binary", "/home/a/.ssh/authorized_keys"] {
        for folder in ["/home/a", "/home/a/.ssh"] {
            fake.directory(folder);
        }
        fake.apply(&Op::WriteFile(WriteFile {
            path: path.into(),
            content: Content::new(b"\xff".to_vec()),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
            validate: None,
            before: Before::Absent,
        }));
    }
    insta::assert_snapshot!(Example::resources("- line: { path: /etc/binary, line: a }").fails(&mut fake), @"example: line /etc/binary: a: `/etc/binary` is not a text file");
    let request =
        crate::op::UserRequest { name: "a".into(), home: Some("/home/a".into()), ..Default::default() };
    fake.apply(&Op::CreateUser(request));
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    let keys = Example::resources(&format!("- authorized_key: {{ user: a, key: {key} }}"));
    assert!(keys.fails(&mut fake).ends_with(": `/home/a/.ssh/authorized_keys` is not a text file"));
    let open =
        Example::resources("- file: { path: /etc/a, content: \"{{ secrets.password }}\", mode: \"0644\" }");
    insta::assert_snapshot!(open.secret("hunter2").fails(&mut Fake::debian()), @r#"example: file /etc/a: `/etc/a` has a secret in it, and its mode lets everybody read it; name a `group` that may read it, with the mode "0440""#);
    let unknown = PlanError::Unknown(Why("installing nginx brings it".into()));
    assert_eq!(unknown.to_string(), "it is not known whether installing nginx brings it");
}

#[test]
fn what_cannot_be_done_in_a_tree() {
    let tree = TempDir::new().expect("a folder");
    fs::create_dir_all(tree.path().join("etc")).expect("made");
    fs::create_dir_all(tree.path().join("srv/app")).expect("made");
    for (path, text) in [
        ("etc/os-release", "ID=debian\n"),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        fs::write(tree.path().join(path), text).expect("written");
    }
    fs::write(tree.path().join("srv/app").join(std::ffi::OsStr::from_bytes(b"\xff")), "").expect("written");
    let mut machine = Linux::open(tree.path(), Mode::Live).expect("a tree");
    let permissions = Example::resources("- permissions: { path: /srv, match: '**', file_mode: \"0600\" }");
    let resolved = permissions.resolve(machine.host()).expect("valid");
    let error = resolved.resources().next().expect("one").resource.plan(&machine).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "the name `/srv/app/\u{fffd}` is not UTF-8");
    let run = machine.perform(&Op::Run(Command::new(["true"])), &mut |_| {}).expect_err("a tree").to_string();
    assert!(run.starts_with("cannot run a command in `"), "{run}");
    assert!(run.ends_with("`: programs run only on a host itself, with the root `/`"), "{run}");
}
