//! New values while a host is up: they are put in place, and taken back if the host is not healthy with them.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use testbed::app;
use testbed::cloud::{Cloud, PASSWORD, SECRET};
use testbed::host::{Disk, Host};
use testbed::workspace::image;

use crate::Outcome;
use crate::boot::{AGENT, status_of};

/// An account with an instance that runs the program. `more` is added to its user-data, in place of what has the same
/// fields.
pub(crate) fn of_app(more: &str) -> std::io::Result<Cloud> {
    let cloud = Cloud::prod()?;
    put(&cloud, "limit", "10")?;
    put(&cloud, "other", "o")?;
    let more = format!("{}\n{more}\n", app::HEALTH);
    cloud.metadata.change(|instance| {
        let user_data = instance.user_data.take().unwrap_or_default();
        let is_said = |field: &str| more.lines().any(|line| line.starts_with(&format!("{field}:")));
        let (mut kept, mut skips) = (String::new(), false);
        for line in user_data.lines() {
            // What is below a field goes with it.
            skips = match line.split_once(':') {
                Some((field, _)) if !line.starts_with(' ') => is_said(field),
                _ => skips,
            };
            if !skips {
                kept += &format!("{line}\n");
            }
        }
        instance.user_data = Some(kept + &more);
    });
    Ok(cloud)
}

/// An account, and a host in it that runs the program and looks for new values.
pub(crate) fn watching(more: &str) -> Result<(Cloud, Host), Box<dyn std::error::Error>> {
    let cloud = of_app(more)?;
    let disk = Disk::of_image(&image("web")?)?;
    app::put(&disk)?;
    let host = cloud.boot(disk)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    Ok((cloud, host))
}

fn put(cloud: &Cloud, name: &str, value: &str) -> std::io::Result<()> {
    cloud.aws.put_parameter(&cloud.world, &format!("/acme/prod/web/{name}"), "String", value)
}

/// Looks for new values as the timer does, and returns what `status` says of it.
pub(crate) fn look(host: &Host) -> Result<(bool, Json), Box<dyn std::error::Error>> {
    let is_current = host.run(&["systemctl", "start", "bootstrap-agent-watch.service"])?.status.success();
    let status = host.output(&[AGENT, "status", "--format", "json"])?;
    Ok((is_current, serde_json::from_str::<Json>(&status)?["watch"].clone()))
}

fn read(host: &Host, path: &str) -> std::io::Result<String> {
    host.output(&["cat", path])
}

fn processes(host: &Host) -> std::io::Result<String> {
    host.output(&["systemctl", "show", "--property=MainPID", "app.service", "other.service"])
}

#[test]
fn a_new_value_reloads_its_unit_and_a_bad_one_is_taken_back() -> Outcome {
    let (cloud, host) = watching("watch: 1h\nmetrics: /run/agent.prom")?;
    assert!(host.is_active("bootstrap-agent-watch.timer")?);
    let before = processes(&host)?;
    let count = |name: &str| Ok::<_, std::io::Error>(read(&host, name)?.lines().count());
    let (at_first, other) = (count("/run/app/loads")?, count("/run/other/loads")?);
    let loads = || Ok::<_, std::io::Error>(count("/run/app/loads")? - at_first);

    let (is_current, watch) = look(&host)?;
    assert!(is_current, "{watch:#}");
    assert_eq!((&watch["state"], &watch["requests"]), (&json!("current"), &json!(2)), "{watch:#}");
    assert_eq!(loads()?, 0, "nothing is new");

    put(&cloud, "limit", "20")?;
    let (is_current, watch) = look(&host)?;
    assert!(is_current, "{watch:#}");
    assert_eq!(watch["changed"], json!(["ssm:/acme/prod/web/limit"]));
    assert_eq!(read(&host, "/etc/app/app.conf")?, "limit=20\n");
    assert_eq!((loads()?, processes(&host)?), (1, before.clone()), "it is reloaded, not restarted");
    assert_eq!(count("/run/other/loads")?, other, "what it is not about is left");
    assert!(
        read(&host, "/run/agent.prom")?
            .contains("bootstrap_agent_current{environment=\"prod\",role=\"web\"} 1")
    );

    put(&cloud, "limit", "much")?;
    let (is_current, watch) = look(&host)?;
    assert!(!is_current, "{watch:#}");
    assert_eq!(
        (&watch["state"], &watch["error"]["step"]),
        (&json!("rolled_back"), &json!("health")),
        "{watch:#}"
    );
    assert_eq!(read(&host, "/etc/app/app.conf")?, "limit=20\n");
    assert_eq!(read(&host, "/run/app/state")?, "healthy\n");
    assert_eq!((loads()?, processes(&host)?), (3, before));
    assert!(
        read(&host, "/run/agent.prom")?
            .contains("bootstrap_agent_current{environment=\"prod\",role=\"web\"} 0")
    );
    let status = host.run(&[AGENT, "status"])?;
    assert!(status.status.success(), "the host is up");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("watch:     the values are those before the newest"), "{status}");

    let (is_current, watch) = look(&host)?;
    assert!(!is_current && watch["state"] == "rolled_back", "{watch:#}");
    assert_eq!((loads()?, &watch["requests"]), (3, &json!(2)), "what was refused is not tried again");

    put(&cloud, "limit", "CHANGEME")?;
    let (is_current, watch) = look(&host)?;
    assert!(!is_current && watch["state"] == "rolled_back", "{watch:#}");
    assert!(
        watch["error"]["message"].as_str().is_some_and(|why| why.contains("nobody had set it")),
        "{watch:#}"
    );
    assert_eq!(loads()?, 3);

    put(&cloud, "limit", "30")?;
    let (is_current, watch) = look(&host)?;
    assert!(is_current && watch["error"].is_null(), "{watch:#}");
    assert_eq!((read(&host, "/etc/app/app.conf")?.as_str(), loads()?), ("limit=30\n", 4));

    let doctor = host.output(&[AGENT, "doctor"])?;
    assert!(doctor.contains("ok     new values can be looked for"), "{doctor}");

    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    let (is_current, watch) = look(&host)?;
    assert!(!is_current && watch["state"] == "unknown", "{watch:#}");
    assert!(host.is_active("app.service")?, "and the host serves on");
    let journal = host.output(&["journalctl", "--all", "--no-pager"])?;
    assert!(!journal.contains(PASSWORD));
    let console = host.power_off()?.console()?;
    assert!(
        console.contains("bootstrap-agent: the values are those before ssm:/acme/prod/web/limit"),
        "{console}"
    );
    Ok(())
}

/// Killed at any moment, a look leaves what was or what shall be, and the next goes on with it.
#[test]
fn a_look_that_is_killed_is_gone_on_with_by_the_next() -> Outcome {
    let (cloud, host) = watching("watch: 1h")?;
    let mut killed = 0;
    for number in 0_u32..20 {
        let value = 100 + number;
        put(&cloud, "limit", &value.to_string())?;
        let limit = format!("{:.3}", 0.02 + f64::from(number) * 0.02);
        let run = host.run(&["timeout", "--signal=KILL", &limit, AGENT, "watch"])?;
        killed += u32::from(!run.status.success());
        let config = read(&host, "/etc/app/app.conf")?;
        let (old, new) = (format!("limit={}\n", value - 1), format!("limit={value}\n"));
        assert!(number == 0 || config == old || config == new, "killed after {limit} s: {config}");
        let (is_current, watch) = look(&host)?;
        assert!(is_current, "{watch:#}");
        assert_eq!(read(&host, "/etc/app/app.conf")?, new);
        let loaded = host.output(&["tail", "-n1", "/run/app/loads"])?;
        assert_eq!(loaded, "loaded\n");
    }
    assert!(killed >= 3, "{killed} looks were killed");
    Ok(())
}

#[test]
fn the_timer_looks_by_itself() -> Outcome {
    let (cloud, host) = watching("watch: 2s")?;
    put(&cloud, "limit", "20")?;
    let until = Instant::now() + Duration::from_secs(30);
    while read(&host, "/etc/app/app.conf")? != "limit=20\n" {
        assert!(Instant::now() < until, "{}", host.output(&["systemctl", "list-timers", "--all"])?);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
