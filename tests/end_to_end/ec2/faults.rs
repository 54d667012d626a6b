//! What goes wrong in the cloud, and what a user is told.

use std::time::Duration;

use testbed::ec2::{self, Cloud, Effect, On, Options, Times};

use super::{SMALL, SSH, baker, command, interrupted, left, temporary, with_bodies, without_bodies};
use crate::Outcome;

/// A bake that fails at something, tells this, and leaves nothing.
fn fails(effects: Vec<(On, Effect)>, said: &[&str]) -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    for (on, effect) in effects {
        cloud.fault(on, effect);
    }
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for text in said {
        assert!(ended.stderr.contains(text), "`{text}` is not in:\n{}", ended.stderr);
    }
    assert_eq!(left(&cloud)?, [""; 0], "{}", ended.stderr);
    assert_eq!(workspace.runs()?, [""; 0], "the ledger is closed");
    Ok(())
}

/// A bake that comes to its end in spite of something.
fn succeeds(effects: Vec<(On, Effect)>, options: &Options) -> Result<Cloud, Box<dyn std::error::Error>> {
    let (cloud, workspace) = without_bodies()?;
    cloud.set_times(options.times)?;
    for (on, effect) in effects {
        cloud.fault(on, effect);
    }
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(temporary(&cloud)?, [""; 0]);
    Ok(cloud)
}

#[test]
fn throttling_late_answers_and_lost_ones_are_no_failure() -> Outcome {
    let waits = |call: &ec2::Call| call.parameter("Filter.1.Name").ends_with("-id");
    let cloud = succeeds(
        vec![
            (On::action("RunInstances").times(2), Effect::Throttle),
            (On::action("DescribeInstances").when(waits), Effect::NotFound),
            (On::action("CreateSnapshot"), Effect::CutAfter),
            (On::action("DescribeSnapshots").when(waits), Effect::NotFound),
            (On::action("RegisterImage"), Effect::CutAfter),
            (On::action("CopyImage"), Effect::CutAfter),
            (On::action("CreateSecurityGroup"), Effect::CutAfter),
            (On::action("DescribeInstances").when(waits).nth(2), Effect::Stale),
        ],
        &Options {
            times: Times { running: Duration::from_secs(3), ..Times::default() },
            ..Options::default()
        },
    )?;
    let count = |kind: &str| cloud.left().map(|left| left.iter().filter(|left| left.kind == kind).count());
    assert_eq!((count("image")?, count("snapshot")?), (2, 2), "one in each region, whatever was lost");
    Ok(())
}

#[test]
fn the_next_type_or_zone_is_tried_where_there_is_no_capacity() -> Outcome {
    let no_capacity = |call: &ec2::Call| call.parameter("InstanceType") == "t3.small";
    let on = On::action("RunInstances").when(no_capacity).always();
    let cloud = succeeds(vec![(on, Effect::InsufficientCapacity)], &Options::default())?;
    let launches: Vec<_> =
        cloud.calls().into_iter().filter(|call| call.action == "RunInstances" && call.succeeded()).collect();
    assert!(launches.iter().all(|call| call.parameter("InstanceType") == "t3a.small"));
    fails(
        vec![(On::action("RunInstances").always(), Effect::InsufficientCapacity)],
        &["there is no room for the builder:", "t3.small in us-east-1", "list more `instance_types`"],
    )
}

#[test]
fn a_missing_permission_is_named_before_anything_is_made() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    cloud.fault(On::dry_run("RunInstances"), Effect::Unauthorized);
    cloud.fault(On::dry_run("CopyImage"), Effect::Unauthorized);
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for text in
        ["2 things would keep this bake from its end", "ec2:RunInstances", "\"Action\": \"ec2:CopyImage\""]
    {
        assert!(ended.stderr.contains(text), "`{text}` is not in:\n{}", ended.stderr);
    }
    let made = cloud.calls().into_iter().filter(|call| !call.dry_run && call.action.starts_with("Create"));
    assert_eq!(made.count(), 0);
    Ok(())
}

#[test]
fn what_fails_in_the_cloud_is_told_and_undone() -> Outcome {
    fails(vec![(On::action("CreateSnapshot"), Effect::Fails)], &["the snapshot `snap-", "failed:"])?;
    fails(vec![(On::action("RegisterImage"), Effect::Fails)], &["the AMI `ami-", "failed:"])?;
    fails(vec![(On::action("CopyImage"), Effect::Fails)], &["in eu-west-1 failed:"])?;
    fails(
        vec![(On::action("StopInstances").and_retries(), Effect::Unauthorized)],
        &["ec2:StopInstances failed for `i-", "(UnauthorizedOperation)"],
    )
}

#[test]
fn credentials_that_expire_in_the_middle_are_told() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    cloud.fault(On::action("CreateSnapshot"), Effect::Expired);
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the credentials have expired"), "{}", ended.stderr);
    assert_eq!(left(&cloud)?, [""; 0], "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_clock_that_is_wrong_is_told() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    cloud.set_clock_ahead(20 * 60);
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("this machine's clock is wrong"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_disk_without_room_is_told_and_undone() -> Outcome {
    const LARGE: &str = "resources:
  - command: { argv: [ dd, if=/dev/zero, of=/srv/large, bs=1M, count=100 ], creates: /srv/large }
";
    let (cloud, workspace) = with_bodies()?;
    let workspace = workspace.with("recipes/small/recipe.yaml", LARGE)?;
    cloud.fault(On::action("RunInstances"), Effect::DiskFull(50));
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert_eq!(left(&cloud)?, [""; 0], "{}", ended.stderr);
    Ok(())
}

/// Between something and what baker does next there are at most 2 s, whatever the wait.
#[test]
fn no_wait_oversleeps() -> Outcome {
    let seconds = Duration::from_millis;
    let times = Times {
        running: seconds(3300),
        status: Duration::ZERO,
        stopped: seconds(4200),
        terminated: seconds(3700),
        snapshot: seconds(5400),
        image: seconds(3900),
        copy: seconds(4600),
    };
    let cloud = succeeds(Vec::new(), &Options { times, ..Options::default() })?;
    let calls = cloud.calls();
    let at =
        |action: &str| calls.iter().find(|call| call.action == action && call.succeeded() && !call.dry_run);
    for (from, takes, next) in [
        ("StopInstances", times.stopped, "CreateSnapshot"),
        ("CreateSnapshot", times.snapshot, "RegisterImage"),
        ("CopyImage", times.copy, "ModifyImageAttribute"),
    ] {
        let (from, next) = (at(from).ok_or(from)?, at(next).ok_or(next)?);
        let slept = next.at.saturating_sub(from.at + takes);
        assert!(slept <= Duration::from_secs(2), "{} to {}: {slept:?}", from.action, next.action);
    }
    Ok(())
}

#[test]
fn a_builder_that_dies_is_told_at_once() -> Outcome {
    let (cloud, workspace) = with_bodies()?;
    cloud.fault(On::action("RunInstances"), Effect::Dies(Duration::from_secs(1)));
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("before it could be used"), "{}", ended.stderr);
    assert_eq!(left(&cloud)?, [""; 0], "{}", ended.stderr);
    Ok(())
}

/// Ctrl-C while recipes are applied: everything of all bakes is undone before baker ends.
#[test]
fn interrupted_bakes_leave_nothing() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let workspace = workspace.with("images/other.yaml", &SMALL.replace("/images/small", "/images/other"))?;
    let slow = SSH.replace("apply\"*) ;;", "apply\"*) exec sleep 600 ;;");
    let workspace = workspace.with("bin/ssh", &slow)?;
    let arguments = ["build", "images/small.yaml", "images/other.yaml", "--parallel=2", "--platform=ec2"];
    interrupted(&cloud, &workspace, &mut command(&workspace, &arguments)?, 2)
}
