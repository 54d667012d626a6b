//! Those who wait for a host hear what its boot came to, once, whatever happens to it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use testbed::cloud::{Cloud, PASSWORD, SECRET};
use testbed::front::Front;
use testbed::host::{Disk, Host};
use testbed::workspace::image;

use crate::Outcome;
use crate::boot::{AGENT, status_of};

const SIGNAL: &str = "signal: { auto_scaling: { hook: launch, heartbeat: 1s }, instance_health: true, cloudformation: {}, tag: { key: bootstrap } }";

/// An account in which somebody waits for the host, told by its user-data with `more` in it.
fn cloud(more: &str) -> std::io::Result<(Cloud, Front)> {
    let cloud = Cloud::prod()?;
    let front = Front::start(&cloud.world)?;
    cloud.metadata.change(|instance| {
        let user_data = instance.user_data.take().unwrap_or_default();
        let lines = user_data.lines().filter(|line| !line.starts_with("endpoint_url:"));
        let user_data = lines.collect::<Vec<_>>().join("\n");
        instance.user_data = Some(format!("{user_data}\nendpoint_url: {}\n{SIGNAL}\n{more}\n", Front::url()));
        for (key, value) in [
            ("aws:autoscaling:groupName", "web-group"),
            ("aws:cloudformation:stack-name", "web-stack"),
            ("aws:cloudformation:logical-id", "WebGroup"),
        ] {
            instance.tags.insert(key.into(), value.into());
        }
    });
    Ok((cloud, front))
}

fn disk() -> std::io::Result<Disk> {
    Disk::of_image(&image("web")?)
}

fn eventually(seconds: u64, mut seen: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if seen() {
            return true;
        }
        sleep(Duration::from_millis(100));
    }
    seen()
}

fn waiting(host: &Host) -> std::io::Result<String> {
    host.output(&["sh", "-c", "cat /var/lib/bootstrap-agent/outbox/* 2>/dev/null; true"])
}

#[test]
fn a_host_that_is_up_says_so_once() -> Outcome {
    let (cloud, front) = cloud("on_failure: poweroff")?;
    let host = cloud.boot(disk()?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    let up = ["CompleteLifecycleAction CONTINUE", "SignalResource SUCCESS", "CreateTags up"];
    assert!(eventually(20, || front.results().len() >= 3), "{:?}", front.results());
    assert_eq!(front.results(), up);
    let mut told = front.told();
    told.retain(|call| call["Action"] != "RecordLifecycleActionHeartbeat");
    let [hook, stack, tag] = &told[..] else { panic!("three were told") };
    assert_eq!(
        (hook["AutoScalingGroupName"].as_str(), hook["LifecycleHookName"].as_str()),
        ("web-group", "launch")
    );
    assert_eq!((stack["StackName"].as_str(), stack["LogicalResourceId"].as_str()), ("web-stack", "WebGroup"));
    assert_eq!(
        (tag["ResourceId.1"].as_str(), tag["Tag.1.Key"].as_str()),
        ("i-0123456789abcdef0", "bootstrap")
    );
    host.output(&[AGENT, "run", "--force"])?;
    assert_eq!(front.results(), up, "another run of the same boot says nothing new");
    assert_eq!(waiting(&host)?, "");
    // What is told after a reboot is about another boot.
    let host = cloud.boot(host.power_off()?)?;
    assert_eq!(status_of(&host)?["state"], "done");
    assert!(eventually(20, || front.results().len() >= 6), "{:?}", front.results());
    assert_eq!(front.results()[3..], up);
    Ok(())
}

#[test]
fn a_host_that_failed_says_so_even_if_nobody_listens_at_first() -> Outcome {
    let (cloud, front) = cloud("")?;
    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    front.refuse(Some((503, "ServiceUnavailable")));
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["state"], "failed");
    assert_eq!(front.results(), crate::NOTHING);
    let left = waiting(&host)?;
    assert!(left.contains("ServiceUnavailable") && !left.contains(PASSWORD), "{left}");
    assert!(host.is_active("bootstrap-agent-outbox.service")?, "another process goes on with it");
    front.refuse(None);
    let failed = [
        "CompleteLifecycleAction ABANDON",
        "SignalResource FAILURE",
        "SetInstanceHealth Unhealthy",
        "CreateTags failed at fetch",
    ];
    assert!(eventually(60, || front.results().len() >= 4), "{:?}", front.results());
    assert_eq!(front.results(), failed);
    assert!(eventually(10, || waiting(&host).is_ok_and(|left| left.is_empty())));
    // Brought up after all, it says that as well.
    cloud.aws.put_secret(
        &cloud.world,
        SECRET,
        &serde_json::json!({ "username": "web", "password": PASSWORD }),
    )?;
    host.output(&["systemctl", "restart", "bootstrap-agent.service"])?;
    assert_eq!(status_of(&host)?["state"], "done");
    assert!(eventually(20, || front.results().len() >= 7), "{:?}", front.results());
    assert_eq!(
        front.results()[4..],
        ["CompleteLifecycleAction CONTINUE", "SignalResource SUCCESS", "CreateTags up"]
    );
    Ok(())
}

#[test]
fn user_data_with_a_mistake_in_it_still_says_whom_to_tell() -> Outcome {
    let (cloud, front) = cloud("paramters: []")?;
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["error"]["step"], "configure");
    assert!(eventually(20, || front.results().len() >= 4), "{:?}", front.results());
    assert_eq!(front.results()[0], "CompleteLifecycleAction ABANDON");
    Ok(())
}

#[test]
fn for_a_host_whose_agent_is_killed_systemd_says_so() -> Outcome {
    let (cloud, front) = cloud("")?;
    cloud.metadata.change(|instance| {
        let never = "health: [ { tcp: { address: \"127.0.0.1:9\", within: 300s } } ]";
        let user_data = instance.user_data.take().unwrap_or_default();
        let lines = user_data.lines().map(|line| if line.starts_with("health:") { never } else { line });
        instance.user_data = Some(lines.collect::<Vec<_>>().join("\n"));
    });
    let host = cloud.boot(disk()?)?;
    assert!(eventually(20, || front.beats() >= 2), "it says that it still works");
    host.output(&["systemctl", "kill", "--signal=KILL", "bootstrap-agent.service"])?;
    assert!(eventually(30, || front.results().len() >= 4), "{:?}", front.results());
    assert_eq!(front.results()[0], "CompleteLifecycleAction ABANDON");
    assert_eq!(front.results()[3], "CreateTags failed after converge");
    let beats = front.beats();
    sleep(Duration::from_secs(3));
    assert_eq!(front.beats(), beats, "and no more that it works");
    let status: Json = serde_json::from_slice(&host.run(&[AGENT, "status", "--format", "json"])?.stdout)?;
    assert_eq!(status["state"], "failed");
    Ok(())
}

#[test]
fn a_host_that_is_held_is_told_on_and_powered_off_when_its_time_is_over() -> Outcome {
    let (cloud, front) = cloud("on_failure: hold 8s")?;
    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["state"], "failed");
    assert!(eventually(5, || front.beats() > 0));
    assert!(!front.results().contains(&"CompleteLifecycleAction ABANDON".into()), "{:?}", front.results());
    assert_eq!(front.results()[0], "CreateTags failed at fetch", "the tag is told at once");
    assert!(eventually(30, || front.results().contains(&"CompleteLifecycleAction ABANDON".into())));
    let leader = format!("/proc/{}", host.leader());
    let is_off = eventually(30, || !std::path::Path::new(&leader).exists());
    let journal = || host.output(&["journalctl", "--unit=bootstrap-agent-outbox", "--no-pager"]);
    assert!(is_off, "the power is off: {journal:?}", journal = journal());
    Ok(())
}

#[test]
fn a_host_that_failed_leaves_a_report_without_secrets() -> Outcome {
    let (cloud, front) = cloud("on_failure: hold 1h")?;
    cloud.metadata.change(|instance| {
        let user_data = instance.user_data.take().unwrap_or_default();
        let never = "health: [ { tcp: { address: \"127.0.0.1:9\", within: 1s } } ]";
        let lines = user_data.lines().map(|line| {
            if line.starts_with("health:") {
                never.to_owned()
            } else {
                line.replace("tag: {", "report: { ssm: /acme/reports }, tag: {")
            }
        });
        instance.user_data = Some(lines.collect::<Vec<_>>().join("\n"));
    });
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["state"], "failed");
    let report = || cloud.aws.parameter(&cloud.world, "/acme/reports/i-0123456789abcdef0");
    assert!(eventually(20, || report().is_ok()), "{}", waiting(&host)?);
    let report = report()?;
    for part in
        ["\"state\": \"failed\"", "\"step\": \"health\"", "web-site: template /etc/web-site/database.env"]
    {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains(PASSWORD), "{report}");
    assert!(!front.results().contains(&"CompleteLifecycleAction ABANDON".into()), "and the host is held");
    Ok(())
}

#[test]
fn where_the_launches_before_failed_as_well_the_group_is_told_later() -> Outcome {
    let (cloud, front) = cloud("")?;
    front.launches_failed(3);
    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    cloud.metadata.change(|instance| {
        let user_data = instance.user_data.take().unwrap_or_default();
        instance.user_data = Some(user_data.replace("hook: launch,", "hook: launch, brake: 10s,"));
    });
    let host = cloud.boot(disk()?)?;
    assert_eq!(status_of(&host)?["state"], "failed");
    assert!(eventually(10, || front.results() == ["CreateTags failed at fetch"]), "{:?}", front.results());
    assert!(eventually(5, || front.beats() > 0), "the hook is kept alive");
    assert!(eventually(30, || front.results().contains(&"CompleteLifecycleAction ABANDON".into())));
    Ok(())
}
