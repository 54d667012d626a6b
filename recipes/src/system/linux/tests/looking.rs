//! Programs that only look.

use super::*;

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
