//! A bake that fails, loses an answer or is killed at each of its calls, and `baker clean` after it: nothing is left.
//!
//! The instances have no bodies, and `ssh` is a script that says what the agent would, so hundreds of bakes take
//! minutes. Ten are repeated with hosts that run.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::ec2::{self, Cloud, Effect, On, Options};
use testbed::workspace::Workspace;

use super::{baker, begin, command, left, without_bodies, workspace, workspace_without_bodies};
use crate::Outcome;

/// How many clouds there are at once. They wait more than they work.
const CLOUDS: usize = 6;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// It is refused.
    Fails,
    /// It takes effect, and its answer is lost.
    AnswerLost,
    /// baker is killed while it is under way; it takes effect.
    KilledDuring,
    /// baker is killed when it was answered.
    KilledAfter,
}

impl Happens {
    const ALL: [Self; 4] = [Self::Fails, Self::AnswerLost, Self::KilledDuring, Self::KilledAfter];
}

/// Bakes, with something happening at a call, and returns the exit code.
fn bake(
    cloud: &Cloud,
    workspace: &Workspace,
    case: Option<(On, Happens)>,
) -> io::Result<(Option<i32>, String)> {
    let pid = Arc::new(AtomicI32::new(0));
    if let Some((on, happens)) = case {
        let kills = Arc::clone(&pid);
        let kills = move |_: &_| {
            let _ = kill(Pid::from_raw(kills.load(Ordering::SeqCst)), Signal::SIGKILL);
        };
        let effect = match happens {
            Happens::Fails => Effect::error("OperationNotPermitted", "not today"),
            Happens::AnswerLost => Effect::CutAfter,
            Happens::KilledDuring => Effect::before(kills),
            Happens::KilledAfter => Effect::after(kills),
        };
        cloud.fault(on, effect);
    }
    let mut command = command(workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    let child = cloud.spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    pid.store(i32::try_from(child.id()).map_err(io::Error::other)?, Ordering::SeqCst);
    let output = child.wait_with_output()?;
    cloud.clear_faults();
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// What of a bake that ended somewhere is not as it should be after a clean-up; nothing if all is well.
fn wrong(
    cloud: &Cloud,
    workspace: &Workspace,
    (on, happens): (On, Happens),
    keeps_ledger: bool,
) -> io::Result<Vec<String>> {
    let (code, said) = bake(cloud, workspace, Some((on, happens)))?;
    let mut wrong = Vec::new();
    let killed = matches!(happens, Happens::KilledDuring | Happens::KilledAfter);
    // Behind the last call of all the kill may come too late.
    let ended_before = happens == Happens::KilledAfter && code == Some(0);
    if killed != code.is_none() && !ended_before {
        wrong.push(format!("it ended with {code:?}: {said}"));
    }
    if !killed {
        // It undid everything itself, or said what it could not.
        let temporary = cloud.left()?.into_iter().filter(|left| left.tags.contains_key("baker:temporary"));
        let unsaid = temporary.filter(|left| code == Some(0) || !said.contains(&left.id));
        wrong.extend(unsaid.map(|left| format!("before the clean-up: {left:?}: {said}")));
    }
    let arguments: &[&str] = if keeps_ledger {
        &["clean"]
    } else {
        let _ = fs::remove_dir_all(workspace.path("state/runs"));
        &["clean", "--region=us-east-1", "--region=eu-west-1", "--all-of=arn:aws:sts::123456789012:user/moto"]
    };
    let cleaned = baker(cloud, workspace, arguments)?;
    if cleaned.code != Some(0) {
        wrong.push(format!("clean ended with {:?}: {}{}", cleaned.code, cleaned.stdout, cleaned.stderr));
    }
    if !workspace.runs()?.is_empty() {
        wrong.push("a ledger is left".into());
    }
    let all = cloud.left()?;
    let published = all.iter().filter(|left| left.kind == "image").count();
    let whole = all.iter().all(|left| {
        ["image", "snapshot", "parameter"].contains(&left.kind.as_str())
            && !left.tags.contains_key("baker:temporary")
    });
    // From the moment at which it is kept, an image is one that was baked.
    if !(all.is_empty() || whole && published > 0) {
        wrong.extend(left(cloud)?.iter().map(|line| format!("left: {line}: {said}")));
    }
    wrong.extend(cloud.lost()?.into_iter().map(|lost| format!("somebody else's is gone: {lost:?}")));
    Ok(wrong)
}

#[test]
fn whatever_becomes_of_a_bake_at_any_call_nothing_is_left_of_it() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let (code, said) = bake(&cloud, &workspace, None)?;
    assert_eq!(code, Some(0), "{said}");
    let calls = cloud.calls().len();
    drop((cloud, workspace));

    let cases: VecDeque<_> =
        (1..=calls).flat_map(|call| Happens::ALL.map(|happens| (call, happens))).collect();
    let count = cases.len();
    let cases = Mutex::new(cases);
    let problems = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..CLOUDS {
            scope.spawn(|| {
                let cloud = Cloud::start(&Options::default()).expect("a cloud");
                loop {
                    let Some(case) = cases.lock().expect("no panic").pop_front() else { return };
                    let (number, happens) = case;
                    let found = begin(&cloud).and_then(|()| {
                        let workspace = workspace_without_bodies()?;
                        // Every other time the ledger is lost.
                        wrong(&cloud, &workspace, (On::call(number), happens), number.is_multiple_of(2))
                    });
                    let found = found.unwrap_or_else(|error| vec![error.to_string()]);
                    if !found.is_empty() {
                        problems.lock().expect("no panic").insert((number, format!("{happens:?}")), found);
                    }
                    cloud.reset().expect("the cloud is empty again");
                }
            });
        }
    });
    let problems = problems.into_inner()?;
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(count >= 3 * calls);
    println!("crash matrix: {count} cases");
    Ok(())
}

#[test]
fn nothing_is_left_of_hosts_that_run_either() -> Outcome {
    let cloud = Cloud::start(&Options { bodies: true, ..Options::default() })?;
    let second = |action: &str| On::action(action).nth(2);
    let cases = [
        (On::action("RunInstances"), Happens::AnswerLost),
        (On::action("RunInstances"), Happens::KilledDuring),
        (On::action("RunInstances"), Happens::KilledAfter),
        (On::action("DescribeInstances").nth(3), Happens::KilledAfter),
        (On::action("StopInstances"), Happens::KilledDuring),
        (On::action("CreateSnapshot"), Happens::Fails),
        (On::action("CreateSnapshot"), Happens::KilledDuring),
        (On::action("RegisterImage"), Happens::KilledAfter),
        (second("RunInstances"), Happens::KilledDuring),
        (On::action("CopyImage"), Happens::KilledAfter),
    ];
    let mut problems = Vec::new();
    for (number, (on, happens)) in cases.into_iter().enumerate() {
        cloud.source_ami("debian-12-amd64-20261101", Some(&ec2::debian()?))?;
        cloud.remember()?;
        let found = wrong(&cloud, &workspace()?, (on, happens), number.is_multiple_of(2))?;
        problems.extend(found.into_iter().map(|problem| format!("case {number}: {problem}")));
        cloud.reset()?;
    }
    assert!(problems.is_empty(), "{problems:#?}");
    Ok(())
}
