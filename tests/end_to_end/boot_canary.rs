//! A secret that is worth looking for, looked for wherever it could have got to, after boots that did all they could to
//! lose it: a check that prints it, and crashes while it is in memory.

use std::fs;
use std::process::Command;

use testbed::cloud::{Cloud, PASSWORD};
use testbed::host::{Disk, Host};
use testbed::workspace::image;

use crate::boot::{AGENT, ProcessWatch};
use crate::{NOTHING, Outcome};

/// Not healthy for as long as this, and it says the secret each time.
const HEALTH: &str = "health: [ { command: { argv: [sh, -c, \"cat /etc/web-site/database.env >&2; exit 1\"], within: 20s } } ]\nmetrics: /var/lib/agent.prom\n";

/// Crashes a program that has no secrets, and then the agent while it has them, where a core file may be as large as it
/// likes. `$1` is the agent.
const CRASH: &str = "
cd /srv; ulimit -c unlimited
sleep 300 & kill -SEGV $!; wait $!
rm -f core*
for signal in SEGV ABRT; do
  rm /var/lib/bootstrap-agent/status.json
  $1 run --force >/dev/null 2>&1 & agent=$!
  until grep -q '\"committed\"' /var/lib/bootstrap-agent/status.json 2>/dev/null; do sleep 0.05; done
  # Rust's handler looks at the first SEGV, whether a stack overflowed, and lets the next one end the process.
  while kill -$signal $agent 2>/dev/null; do sleep 0.1; done; wait $agent
done
exit 0
";

fn host(cloud: &Cloud) -> Result<Host, Box<dyn std::error::Error>> {
    cloud.metadata.change(|instance| {
        let user_data = instance.user_data.take().unwrap_or_default();
        let lines = user_data.lines().filter(|line| !line.starts_with("health:"));
        instance.user_data = Some(lines.map(|line| format!("{line}\n")).collect::<String>() + HEALTH);
    });
    Ok(cloud.boot(Disk::of_image_with_blocks(&image("web")?)?)?)
}

/// As it is, and as it would be in a header or an object of an API.
fn needles() -> std::io::Result<Vec<String>> {
    let base64 = Command::new("sh").args(["-c", "printf %s \"$1\" | base64", "sh", PASSWORD]).output()?;
    let base64 = String::from_utf8_lossy(&base64.stdout).trim().trim_end_matches('=').to_owned();
    Ok(vec![PASSWORD.to_owned(), base64])
}

#[test]
fn a_secret_is_found_nowhere_after_crashes_and_checks_that_print_it() -> Outcome {
    let cloud = Cloud::prod()?;
    let needles = needles()?;
    let watch = ProcessWatch::start();
    let host = host(&cloud)?;
    let nowhere = |what: &str, text: &str| {
        assert!(!needles.iter().any(|needle| text.contains(needle)), "{what} has the secret");
    };
    let state = host.output(&["cat", "/var/lib/bootstrap-agent/status.json"])?;
    assert!(
        state.contains("\"committed\""),
        "the run of the unit still looks whether it is healthy: {state}"
    );
    assert!(host.output(&["cat", "/etc/web-site/database.env"])?.contains(PASSWORD), "and has the secret");
    let crash = "until systemctl is-failed --quiet bootstrap-agent; do
        systemctl kill --signal=SEGV --kill-who=main bootstrap-agent || true; sleep 0.2
        done; systemctl show --property=ExecMainCode --value bootstrap-agent";
    // CLD_KILLED; with a core file it would be 3, CLD_DUMPED.
    assert_eq!(host.output(&["sh", "-c", crash])?.trim(), "2");

    let crashed = host.run(&["bash", "-c", CRASH, "bash", AGENT])?;
    let said = String::from_utf8(crashed.stderr)?;
    assert!(crashed.status.success(), "{said}");
    let dumped: Vec<&str> = said.lines().filter(|line| line.contains("core dumped")).collect();
    assert!(
        dumped.len() == 1 && dumped[0].contains("sleep"),
        "whoever has no secrets leaves a core, and the agent none: {said}"
    );
    for crash in ["Segmentation fault", "Aborted"] {
        assert!(
            said.lines().any(|line| line.contains(crash) && line.contains("run --force")),
            "{crash}: {said}"
        );
    }

    let run = host.run(&[AGENT, "run", "--force"])?;
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8([run.stdout, run.stderr].concat())?;
    assert!(said.contains("health: not seen within 20 s") && said.contains("(secret)"), "{said}");
    nowhere("what the run said", &said);
    let status = host.run(&[AGENT, "status"])?;
    let status = String::from_utf8(status.stdout)?;
    assert!(status.contains("(secret)"), "{status}");
    nowhere("the status", &status);
    nowhere("the journal", &host.output(&["journalctl", "--all", "--output=export", "--no-pager"])?);
    assert_eq!(watch.end(), NOTHING, "the secret is in no argument and no environment");

    // What was on the disk for a moment is seen as well.
    let control = "a-word-that-was-on-the-disk-for-a-moment";
    let moment = "printf %s \"$1\" >/var/lib/moment; rm /var/lib/moment";
    host.output(&["sh", "-ec", moment, "sh", control])?;
    let disk = host.power_off()?;
    nowhere("the console", &disk.console()?);
    for file in ["var/lib/bootstrap-agent/status.json", "var/lib/agent.prom"] {
        let text = fs::read_to_string(disk.tree().join(file))?;
        assert!(!text.is_empty(), "{file}");
        nowhere(file, &text);
    }
    let words = [control, PASSWORD, &needles[1]];
    assert_eq!(disk.found_on_blocks(&words.map(str::as_bytes))?, [true, false, false]);
    Ok(())
}
