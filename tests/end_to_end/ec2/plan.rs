//! Plans on an AMI that is booted for them and ended, and what is left of that: nothing.

use std::fs;

use testbed::ec2::{Cloud, Effect, On, Options};

use super::{SSH, baker, command, interrupted, left, with_bodies, without_bodies, workspace_without_bodies};
use crate::Outcome;

#[test]
fn a_recipe_is_planned_on_an_ami_and_on_the_newest_of_an_image() -> Outcome {
    let (cloud, workspace) = with_bodies()?;
    let missing = baker(&cloud, &workspace, &["plan", "recipes/small", "--on=small"])?;
    assert_eq!(missing.code, Some(1), "{}", missing.stdout);
    let why = "there is no image `small` in `output`, and this account has no AMI of that name in us-east-1";
    assert!(missing.stderr.contains(why), "{}", missing.stderr);

    // That its name is taken by then does not matter to a plan.
    let image = fs::read_to_string(workspace.path("images/small.yaml"))?;
    let image = image.replace("publish:\n  ec2:\n", "publish:\n  ec2:\n    name: small-1\n");
    fs::write(workspace.path("images/small.yaml"), &image)?;
    let built = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let before = left(&cloud)?;
    fs::write(
        workspace.path("recipes/small/recipe.yaml"),
        "inputs: { text: { type: string } }\nresources:\n  - file: { path: /etc/small, content: \"it is {{ inputs.text }}\\n\" }\n",
    )?;
    // How the instances are reached is said by an image.
    let image = image.replace("recipes: [ small ]", "recipes: [ small: { text: there } ]");
    fs::write(workspace.path("images/small.yaml"), image)?;
    let target = format!("--on=ami:{}", built.stdout.trim());
    for on in [target.as_str(), "--on=small"] {
        let planned = baker(&cloud, &workspace, &["plan", "images/small.yaml", on, "--detailed-exitcode"])?;
        assert_eq!(planned.code, Some(2), "{on}: {}{}", planned.stdout, planned.stderr);
        assert!(
            planned.stdout.contains("-it is here\n") && planned.stdout.contains("+it is there\n"),
            "{}",
            planned.stdout
        );
        assert_eq!(left(&cloud)?, before, "{on}: {}", planned.stderr);
        assert_eq!(workspace.runs()?, [""; 0], "{on}: the ledger is closed");
    }
    Ok(())
}

#[test]
fn a_plan_on_an_ami_that_fails_or_is_interrupted_leaves_nothing() -> Outcome {
    let cloud = Cloud::start(&Options::default())?;
    let ami = cloud.source_ami("debian-12-amd64-20261101", None)?;
    cloud.remember()?;
    let workspace = workspace_without_bodies()?;
    let target = format!("--on=ami:{ami}");
    let plan = ["plan", "images/small.yaml", &target];

    let planned = baker(&cloud, &workspace, &plan)?;
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    assert!(planned.stdout.contains("Plan: 0 to change"), "{}", planned.stdout);
    assert_eq!(left(&cloud)?, [""; 0]);

    cloud.fault(On::action("RunInstances").nth(2), Effect::CutAfter);
    let failed = baker(&cloud, &workspace, &plan)?;
    cloud.clear_faults();
    assert_eq!(left(&cloud)?, [""; 0], "{:?}: {}", failed.code, failed.stderr);

    let slow = SSH.replace("plan\"*) echo", "plan\"*) exec sleep 600; echo");
    fs::write(workspace.path("bin/ssh"), slow)?;
    interrupted(&cloud, &workspace, &mut command(&workspace, &plan)?, 1)
}

#[test]
fn an_ami_that_is_not_there_or_not_meant_is_told() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let plan = |more: &[&str]| baker(&cloud, &workspace, &[&["plan"], more].concat());
    let missing = plan(&["images/small.yaml", "--on=ami:ami-0123456789abcdef0"])?;
    assert_eq!(missing.code, Some(1), "{}", missing.stdout);
    assert!(
        missing.stderr.contains("the AMI `ami-0123456789abcdef0` is not in us-east-1"),
        "{}",
        missing.stderr
    );
    let locked = plan(&["images/small.yaml", "--on=ami:ami-0123456789abcdef0", "--locked"])?;
    assert!(locked.stderr.contains("`--locked` is for the source of an image"), "{}", locked.stderr);
    let wrong = plan(&["images/small.yaml", "--on=ami:web"])?;
    assert_eq!(wrong.code, Some(64), "{}", wrong.stderr);
    let nowhere = plan(&["recipes/small", "--on=ec2"])?;
    assert!(nowhere.stderr.contains("there is no AMI to start from"), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("`--on ami:ID`"), "{}", nowhere.stderr);
    Ok(())
}
