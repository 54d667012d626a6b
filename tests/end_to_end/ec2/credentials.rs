//! Who bakes, and where: found as the AWS CLI finds it, and never guessed.

use std::process::Command;

use testbed::ec2::Cloud;
use testbed::https::{Authority, Proxy, Reply, Server};
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

/// Between this machine and AWS there may be a proxy, and one that signs certificates itself.
#[test]
fn aws_is_called_through_the_proxy_and_believed_by_the_bundle_that_are_named() -> Outcome {
    const DENIED: &[u8] =
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
    let authority = Authority::new()?;
    let workspace = Workspace::new()?.with("ca.pem", &authority.pem)?;
    let clean = |bundle: &str, server: &Server, proxy: &Proxy| -> std::io::Result<Ended> {
        let mut command = workspace.command(&["clean", "--region=us-east-1", "--dry-run"])?;
        command.env("AWS_ENDPOINT_URL", format!("https://{}", server.address));
        command
            .env("AWS_CA_BUNDLE", workspace.path(bundle))
            .env("HTTPS_PROXY", format!("http://{}", proxy.address));
        command.env_remove("NO_PROXY").env_remove("no_proxy");
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "key");
        command.output().map(Ended::from)
    };
    let forbidden = Reply::new("HTTP/1.1 403 Forbidden\r\nContent-Type: text/xml", DENIED);
    let (server, proxy) = (authority.serve(vec![forbidden])?, Proxy::start()?);
    let ended = clean("ca.pem", &server, &proxy)?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("sts:GetCallerIdentity failed for these credentials: not you"),
        "{}",
        ended.stderr
    );
    assert_eq!((proxy.asked()[0].method.as_str(), server.asked().len()), ("CONNECT", 1));

    let stranger = Authority::new()?.serve(Vec::new())?;
    let ended = clean("ca.pem", &stranger, &proxy)?;
    assert!(ended.stderr.contains("invalid peer certificate"), "{}", ended.stderr);
    assert_eq!(stranger.asked().len(), 0);
    let ended = clean("missing.pem", &server, &proxy)?;
    assert!(
        ended.stderr.contains("missing.pem`, which AWS_CA_BUNDLE names: No such file"),
        "{}",
        ended.stderr
    );
    Ok(())
}
