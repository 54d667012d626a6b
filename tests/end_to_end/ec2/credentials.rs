//! Who bakes, and where: found as the AWS CLI finds it, and never guessed.

use std::process::Command;

use testbed::ec2::Cloud;
use testbed::workspace::{Ended, Workspace};

use super::{command, without_bodies};
use crate::Outcome;

/// Runs baker with some variables of the cloud's client taken away and others added.
fn baker_with(
    cloud: &Cloud,
    workspace: &Workspace,
    without: &[&str],
    with: &[(&str, &str)],
) -> std::io::Result<Ended> {
    let bake = command(workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    let mut command = Command::new("env");
    for name in without {
        command.arg(format!("--unset={name}"));
    }
    command.args(with.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(bake.get_program()).args(bake.get_args()).current_dir(workspace.path(""));
    for (name, value) in bake.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    cloud.output(&mut command).map(Ended::from)
}

const KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// As a CI engine does it: its own token is exchanged for a role, and no key is stored.
#[test]
fn a_bake_with_web_identity_needs_no_keys() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let workspace = workspace.with("token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZXBvIn0.")?;
    let token = workspace.path("token").display().to_string();
    let role = "arn:aws:iam::123456789012:role/bake";
    let variables = [("AWS_ROLE_ARN", role), ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str())];
    let built = baker_with(&cloud, &workspace, &KEYS, &variables)?;
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert!(cloud.calls().iter().any(|call| call.action == "AssumeRoleWithWebIdentity"));
    let owner = cloud.left()?.into_iter().find_map(|left| left.tags.get("baker:owner").cloned());
    assert!(owner.is_some_and(|owner| owner.starts_with("arn:aws:sts::123456789012:assumed-role/bake/")));
    Ok(())
}

#[test]
fn without_credentials_or_a_region_nothing_is_tried() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let ended = baker_with(&cloud, &workspace, &KEYS, &[])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("baker finds credentials as the AWS CLI does"), "{}", ended.stderr);
    let ended = baker_with(&cloud, &workspace, &["AWS_REGION", "AWS_DEFAULT_REGION"], &[])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("it is not known in which region to bake"), "{}", ended.stderr);
    assert_eq!(cloud.calls().len(), 0);
    Ok(())
}
