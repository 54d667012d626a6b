//! Programs that only look.

use std::time::Duration;

use super::*;
use crate::op::{Confirm, Input, LoadFirewall};

#[test]
fn what_a_command_prints_is_without_its_complaints_and_is_asked_for_once() {
    let host = TempDir::new().expect("a folder");
    let log = host.path().join("log");
    let machine = Linux::open(Path::new("/"), Mode::Bake).expect("a host");
    let shell = |script: &str| Command::new(["sh", "-c", script]);
    let noisy = shell("echo one; echo complaint >&2; echo two");
    assert_eq!(machine.output(&noisy).expect("it runs"), Known::Yes("one\ntwo\n".into()));
    let error = machine.output(&shell("echo one; echo complaint >&2; exit 3")).expect_err("it fails");
    assert_eq!(
        chain(&error),
        "failed to read what `sh -c echo one; echo complaint >&2; exit 3` prints: it ended with 3\ncomplaint"
    );
    let sensitive = Command { sensitive: true, ..shell("echo complaint >&2; exit 3") };
    let error = machine.output(&sensitive).expect_err("it fails");
    assert_eq!(
        chain(&error),
        "failed to read what `sh -c echo complaint >&2; exit 3` prints: it ended with 3"
    );
    let writes = shell(&format!("echo x > {}; echo done", log.display()));
    assert_eq!(machine.output(&writes).expect("it runs"), Known::Yes("done\n".into()));
    if machine.runner.output_held(&shell("true")).expect("it runs").is_some() {
        assert!(!log.exists(), "it cannot write");
    }
}

#[test]
fn a_firewall_that_nobody_would_take_back_is_not_loaded() {
    let mut machine = Linux::open(Path::new("/"), Mode::Live).expect("this host");
    machine.host.systemd = false;
    let confirm = Confirm { within: Duration::from_secs(1), session: false, tcp: Vec::new(), command: None };
    let wanted = LoadFirewall { table: "none".into(), ruleset: Content::new(""), flushes: false, confirm };
    let error = perform(&mut machine, &Op::LoadFirewall(wanted)).expect_err("refused");
    assert_eq!(
        error,
        "cannot load a firewall: systemd does not run this host, so nothing would take it back if it locked this run out"
    );
}

#[test]
fn commands_that_read_different_secrets_have_answers_of_their_own() {
    let machine = Linux::open(Path::new("/"), Mode::Bake).expect("this host");
    let answer = |secret: &str| {
        let input = Input::Text(Content::new(secret).secret_if(true));
        machine.output(&Command { input, ..Command::new(["cat"]) }).expect("it runs")
    };
    assert_eq!([answer("one"), answer("two")], ["one\n", "two\n"].map(|text| Known::Yes(text.to_owned())));
}
