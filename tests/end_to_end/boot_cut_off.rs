//! Boots that are killed at each of their system calls: one more run finishes what was begun, and everybody who waits
//! for the result hears it once.

use std::collections::BTreeMap;
use std::error::Error;

use testbed::app;
use testbed::front::Front;
use testbed::host::Host;

use crate::boot_watch::of_app;
use crate::hostile_hosts::{AGENT, host, shell, staged};
use crate::{NOTHING, Outcome};

/// Every call by which a boot changes a host, waits for others, asks or tells anybody, or starts a program; and of how
/// many of them one is enough, because those around it are of the same step.
const CALLS: [(&str, usize); 16] = [
    ("flock", 1),
    ("mkdir", 1),
    ("mkdirat", 4),
    ("connect", 2),
    ("recvfrom", 10),
    ("writev", 4),
    ("write", 14),
    ("fchown", 3),
    ("fchmod", 3),
    ("fsync", 6),
    ("rename", 1),
    ("renameat", 1),
    ("symlinkat", 1),
    ("unlink", 1),
    ("syncfs", 1),
    ("clone", 4),
];

const UP: [&str; 2] = ["CompleteLifecycleAction CONTINUE", "CreateTags up"];

/// The host as if it had never been configured, in the same boot of its kernel.
const NEW: &str = "
systemctl stop app other 2>/dev/null || true
rm -rf /var/lib/bootstrap-agent /run/bootstrap-agent /etc/app /usr/local/bin/app-load
rm -rf /etc/systemd/system/app.service /etc/systemd/system/other.service /run/systemd/system/app.service.d
systemctl daemon-reload
";

/// What a boot makes: what each file is, with its owner, mode and content.
const LOOK: &str = "
for path in /etc/app/app.conf /etc/app/other.conf /usr/local/bin/app-load /etc/systemd/system/app.service \\
  /etc/systemd/system/other.service /run/bootstrap-agent/credentials/app.service/password \\
  /run/systemd/system/app.service.d/20-bootstrap-agent-credentials.conf; do
  echo \"$path $(stat -L -c '%F %U %G %a' $path 2>/dev/null) $(test -f $path && sha256sum < $path)\"
done
";

fn look(host: &Host) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let seen = shell(host, LOOK)?;
    let lines = seen.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(path, state)| (path.to_owned(), state.trim().to_owned())).collect())
}

#[test]
fn a_boot_that_is_killed_at_any_call_is_finished_by_the_next_and_told_once() -> Outcome {
    let cloud = of_app(&format!(
        "endpoint_url: {}\nsignal: {{ auto_scaling: {{ hook: launch, group: web }}, tag: {{ key: bootstrap }} }}\ncredentials: {{ app: {{ password: secrets.db.password }} }}\nwatch: 1h",
        Front::url()
    ))?;
    let front = Front::start(&cloud.world)?;
    let host = host(&cloud.world)?;
    app::put(host.disk())?;
    shell(&host, NEW)?;
    host.output(&[AGENT, "run"])?;
    let whole = look(&host)?;
    assert!(whole.values().all(|state| state.starts_with("regular file root root ")), "{whole:#?}");
    let (mut killed, mut told_twice) = (0, 0);
    for (call, step) in CALLS {
        for number in (1..).step_by(step) {
            let case = format!("killed at {call} {number}");
            shell(&host, NEW)?;
            let before = front.results().len();
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let trace = format!("trace={call}");
            let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, AGENT, "run"];
            let run = host.run(&strace)?;
            if run.status.code() == Some(0) {
                assert!(number > 1, "there is no {call} in a boot");
                break;
            }
            let said = String::from_utf8_lossy(&run.stderr);
            assert!(!said.contains("error:"), "{case}: it was killed: {said}");
            killed += 1;
            for (path, state) in look(&host)? {
                assert!(state.is_empty() || state == whole[&path], "{case}: {path} is part of it: {state}");
            }
            let heard = front.results().len() - before;
            let output = host.run(&[AGENT, "run"])?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{case}: {said}");
            assert_eq!(look(&host)?, whole, "{case}");
            assert_eq!(staged(&host)?, NOTHING, "{case}");
            shell(&host, "systemctl is-active --quiet app && grep -qx healthy /run/app/state")
                .map_err(|error| format!("{case}: {error}"))?;
            let mut told = front.results()[before..].to_vec();
            let times = told.len();
            told.sort();
            told.dedup();
            assert_eq!(told, UP, "{case}");
            // Killed between an answer and its record, one is told again.
            assert!(times == 2 || (times == 3 && heard > 0), "{case}: told {times} times, {heard} at first");
            told_twice += usize::from(times == 3);
        }
    }
    println!("{killed} boots were killed, {told_twice} told a result twice");
    // Fewer would mean that the calls above are not those of a boot any more.
    assert!(killed > 50, "{killed} boots were killed");
    assert!(told_twice * 5 < killed, "{told_twice} of {killed} told a result twice");
    Ok(())
}
