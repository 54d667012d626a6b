//! Several images at once.

use std::io;

use testbed::ec2::{Call, Effect, On, Options, Times};
use testbed::workspace::Workspace;

use super::{SMALL, baker, temporary, without_bodies};
use crate::Outcome;

/// Three images that extend a fourth, and one that has nothing to do with them.
fn family(workspace: Workspace) -> io::Result<Workspace> {
    let child = "extends: small\ndescription: a child\nrecipes: [ small ]\n\
                 checks: [ { command: { argv: grep -q here /etc/small } } ]\n";
    let workspace = workspace.with("images/one.yaml", child)?.with("images/two.yaml", child)?;
    let workspace = workspace.with("images/grandchild.yaml", &child.replace("small\nd", "one\nd"))?;
    workspace.with("images/other.yaml", &SMALL.replace("/images/small", "/images/other"))
}

/// How many ids a look was about.
fn asked(call: &Call) -> usize {
    call.parameters.keys().filter(|name| name.starts_with("Filter.1.Value.")).count()
}

#[test]
fn images_are_baked_at_once_each_behind_the_one_it_extends_and_their_looks_are_one_call() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let workspace = family(workspace)?;
    let seconds = std::time::Duration::from_secs;
    cloud.set_times(Times { running: seconds(2), snapshot: seconds(3), ..Options::default().times })?;
    let images = ["one", "two", "grandchild", "other"].map(|name| format!("images/{name}.yaml"));
    let mut arguments = vec!["build", "--platform=ec2", "--parallel=4"];
    arguments.extend(images.iter().map(String::as_str));
    let ended = baker(&cloud, &workspace, &arguments)?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<_> = ended.stdout.lines().filter_map(|line| line.split_once(" ami-")).collect();
    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["one", "two", "grandchild", "other"], "{}", ended.stdout);
    let registered = |name: &str| {
        let is = |call: &&Call| call.action == "RegisterImage" && call.parameter("Name").starts_with(name);
        cloud.calls().iter().filter(is).map(|call| call.at).collect::<Vec<_>>()
    };
    assert_eq!(registered("small-").len(), 1, "what two extend is baked once");
    assert!(
        registered("small-")[0] < registered("one-")[0]
            && registered("one-")[0] < registered("grandchild-")[0]
    );
    let shared = |action: &str| cloud.calls().iter().any(|call| call.action == action && asked(call) > 1);
    for action in ["DescribeInstances", "DescribeSnapshots"] {
        assert!(shared(action), "no {action} was for more than one bake");
    }
    assert_eq!(temporary(&cloud)?, [""; 0]);
    assert_eq!(workspace.runs()?, [""; 0], "the ledgers are closed");
    Ok(())
}

#[test]
fn one_that_fails_stops_only_those_that_extend_it() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let workspace = family(workspace)?;
    let is_one = |call: &Call| call.parameter("Name").starts_with("one-");
    cloud.fault(
        On::action("RegisterImage").when(is_one).always(),
        Effect::error("InvalidParameterValue", "no"),
    );
    let images = ["two", "grandchild", "other"].map(|name| format!("images/{name}.yaml"));
    let mut arguments = vec!["build", "--platform=ec2", "--parallel=2"];
    arguments.extend(images.iter().map(String::as_str));
    let ended = baker(&cloud, &workspace, &arguments)?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for text in ["error: one: ec2:RegisterImage failed", "grandchild: not baked, because `one` was not"] {
        assert!(ended.stderr.contains(text), "`{text}` is not in:\n{}", ended.stderr);
    }
    let names: Vec<_> = ended.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["two", "other"], "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(temporary(&cloud)?, [""; 0]);
    Ok(())
}

#[test]
fn a_matrix_has_a_job_for_each_image_and_tells_which_can_run_at_once() -> Outcome {
    let workspace = family(super::workspace()?)?;
    let ended = workspace.baker(&["matrix", "images/grandchild.yaml", "images/two.yaml"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(
        ended.stdout.trim(),
        r#"{"include":[{"name":"small","image":"images/small.yaml","extends":null,"level":0},{"name":"one","image":"images/one.yaml","extends":"small","level":1},{"name":"grandchild","image":"images/grandchild.yaml","extends":"one","level":2},{"name":"two","image":"images/two.yaml","extends":"small","level":1}]}"#
    );
    let ended = workspace.baker(&["matrix", "images/grandchild.yaml", "--level=1"])?;
    assert_eq!(
        ended.stdout.trim(),
        r#"{"include":[{"name":"one","image":"images/one.yaml","extends":"small","level":1}]}"#
    );
    Ok(())
}
