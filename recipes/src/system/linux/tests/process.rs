//! Running programs.

use std::time::Duration;

use super::super::process::Runner;
use super::chain;
use crate::op::{Command, Content, Input};

fn shell(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

#[test]
fn a_program_gets_no_environment_of_ours_and_no_input() {
    let mut command = shell("env | sort; cat; pwd");
    command.environment.insert("X".into(), "y".into());
    let text = Runner::default().read(&command).expect("it ends with 0");
    assert!(text.contains("X=y\n") && text.contains("LC_ALL=C.UTF-8\n") && text.ends_with("/\n"), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
}

#[test]
fn a_text_is_its_input_and_a_script_is_in_no_file() {
    let secret = |text: &str| Content::new(text).secret_if(true);
    let reads = Command { input: Input::Text(secret("a\nb\n")), ..shell("cat") };
    assert_eq!(Runner::default().read(&reads).expect("it ends with 0"), "a\nb\n");
    // The programs of a script do not read the script, and cannot change it.
    let text = secret("echo one\ncat\n(echo x > /dev/stdin) 2> /dev/null || echo sealed\necho \"$0\"");
    let script = Command {
        input: Input::Script { name: "s".into(), text },
        ..Command::new(["sh", "-eu", "/dev/stdin"])
    };
    let printed = Runner::default().read(&script).expect("it ends with 0");
    assert_eq!(printed, "one\nsealed\n/dev/stdin\n");
}

#[test]
fn what_a_sensitive_program_prints_is_in_no_event_and_no_error() {
    let mut lines = Vec::new();
    let command = Command { sensitive: true, ..shell("echo hunter2; exit 3") };
    let error = Runner::default().run(&command, &mut |line| lines.push(line.to_owned()));
    let error = error.expect_err("it fails");
    assert!(lines.is_empty());
    assert_eq!(chain(&error), "`sh -c echo hunter2; exit 3` ended with 3\n  (what it printed is sensitive)");
    let command = Command { success_codes: vec![0, 3], ..command };
    Runner::default().run(&command, &mut |_| {}).expect("3 is a success here");
    let command = Command { success_codes: vec![3], ..shell("true") };
    assert!(Runner::default().run(&command, &mut |_| {}).is_err(), "0 is none here");
}

#[test]
fn what_a_failing_program_printed_last_is_in_the_error() {
    let mut lines = Vec::new();
    let script = "for i in $(seq 30); do echo line $i; done; echo oops >&2; exit 3";
    let error =
        Runner::default().run(&shell(script), &mut |line| lines.push(line.to_owned())).expect_err("it fails");
    assert_eq!(lines.len(), 31);
    let text = chain(&error);
    assert!(text.contains("ended with 3") && text.ends_with("oops") && !text.contains("line 5\n"), "{text}");
}

#[test]
fn a_program_that_takes_too_long_is_stopped_with_its_children() {
    let command = Command { timeout: Duration::from_millis(200), ..shell("sleep 1000 & sleep 1000") };
    let error = Runner::default().run(&command, &mut |_| {}).expect_err("it is stopped");
    assert!(error.to_string().contains("was stopped after 0 s"), "{error}");
}

#[test]
fn a_child_that_keeps_the_output_open_is_not_waited_for() {
    Runner::default().run(&shell("sleep 5 & echo done"), &mut |_| {}).expect("it ends with 0");
}

#[test]
fn signals_missing_programs_and_progress_bars_are_told_apart() {
    assert!(
        Runner::default()
            .run(&shell("kill -9 $$"), &mut |_| {})
            .expect_err("killed")
            .to_string()
            .contains("killed by signal 9")
    );
    let error =
        Runner::default().run(&Command::new(["/nonexistent/program"]), &mut |_| {}).expect_err("missing");
    assert_eq!(chain(&error), "failed to run `/nonexistent/program`: No such file or directory (os error 2)");
    assert_eq!(Runner::default().read(&shell("printf '10%%\\r50%%\\r100%%\\n'")).expect("ended"), "100%\n");
    assert!(Runner::default().succeeds(&shell("true")).expect("ran"));
    assert!(!Runner::default().succeeds(&shell("false")).expect("ran"));
}

#[test]
fn an_interruption_ends_the_program_and_lets_no_other_begin() {
    let runner = Runner::default();
    let interrupter = runner.interrupter().clone();
    let script = "echo started; exec sleep 1000";
    let error = runner.run(&shell(script), &mut |_| interrupter.interrupt()).expect_err("it is interrupted");
    assert!(error.to_string().contains("killed by signal 15"), "{error}");
    assert!(runner.run(&shell("sleep 1000"), &mut |_| {}).is_err());
}
