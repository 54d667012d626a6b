//! Where and from what a builder is launched: the locked AMI, Spot capacity, further volumes, without an inbound port.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use testbed::ec2::{Call, Cloud, Effect, On};

use super::{SMALL, baker, left, temporary, with_bodies, without_bodies};
use crate::Outcome;

/// What a definition says of the builder, with more.
fn with_builder(more: &str) -> String {
    SMALL.replace(
        "    tags: { team: platform }\nrecipes",
        &format!("    tags: {{ team: platform }}\n{more}recipes"),
    )
}

#[test]
fn a_locked_source_is_the_same_ami_when_there_is_a_newer_one() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let build = ["build", "images/small.yaml", "--platform=ec2"];
    let locked = ["build", "images/small.yaml", "--platform=ec2", "--locked", "--force"];
    let ended = baker(&cloud, &workspace, &locked)?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("`images/small.lock.json` has no AMI for us-east-1"), "{}", ended.stderr);
    let ended = baker(&cloud, &workspace, &build)?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lock = fs::read_to_string(workspace.path("images/small.lock.json"))?;
    assert!(lock.contains("\"name\": \"debian-12-amd64-20261101\""), "{lock}");

    cloud.source_ami("debian-12-amd64-20261201", None)?;
    let launched = |cloud: &Cloud| {
        let is = |call: &&Call| call.action == "RunInstances" && call.succeeded();
        let images: Vec<_> =
            cloud.calls().iter().filter(is).map(|call| call.parameter("ImageId").to_owned()).collect();
        images
    };
    let before = launched(&cloud);
    let ended = baker(&cloud, &workspace, &locked)?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(launched(&cloud)[before.len()], before[0], "the builder is of the locked AMI");
    assert_eq!(fs::read_to_string(workspace.path("images/small.lock.json"))?, lock);

    let ended = baker(&cloud, &workspace, &build)?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lock = fs::read_to_string(workspace.path("images/small.lock.json"))?;
    assert!(lock.contains("\"name\": \"debian-12-amd64-20261201\""), "{lock}");
    Ok(())
}

#[test]
fn spot_capacity_comes_first_and_on_demand_where_there_is_none() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let workspace = workspace.with("images/small.yaml", &with_builder("    spot: true\n"))?;
    let spot = |call: &Call| call.parameter("InstanceMarketOptions.MarketType") == "spot";
    cloud.fault(On::action("RunInstances").when(spot).always(), Effect::InsufficientCapacity);
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let launches: Vec<Call> =
        cloud.calls().into_iter().filter(|call| call.action == "RunInstances" && !call.dry_run).collect();
    let first_on_demand = launches.iter().position(|call| !spot(call)).ok_or("only Spot")?;
    assert!(
        first_on_demand > 1 && launches[..first_on_demand].iter().all(spot),
        "every type, then On-Demand"
    );
    let specified = launches[0].parameters.values().any(|value| value == "spot-instances-request");
    assert!(specified, "the request has the tags, too");
    assert!(cloud.calls().iter().any(|call| call.action == "StopInstances"), "what is On-Demand is stopped");
    assert_eq!(temporary(&cloud)?, [""; 0]);
    Ok(())
}

/// Everything of a launch at once, on a host that runs: Spot, so it is frozen and not stopped; a volume that is a part of
/// the image and one that is not; and a way in through Session Manager, whose plugin is stood in for.
#[test]
fn a_builder_on_spot_with_volumes_is_reached_without_an_inbound_port() -> Outcome {
    const PLUGIN: &str = r#"#!/usr/bin/env python3
import json, os, re, socket, sys, threading
if sys.argv[1:] == ["--version"]:
    sys.exit()
open(os.path.join(os.path.dirname(sys.argv[0]), "arguments"), "a").write(json.dumps(sys.argv[1:]) + "\n")
session = json.loads(os.environ[sys.argv[1]])
assert session["TokenValue"] == "the-token-of-the-session" and sys.argv[3] == "StartSession"
host, port = re.fullmatch(r"wss://(.*):(\d+)", session["StreamUrl"]).groups()
peer = socket.create_connection((host, int(port)))
def inward():
    while data := peer.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=inward, daemon=True).start()
while data := os.read(0, 65536):
    peer.sendall(data)
peer.shutdown(socket.SHUT_WR)
threading.Event().wait(30)
"#;
    let (cloud, workspace) = with_bodies()?;
    let definition = with_builder(
        "    spot: true\n    volumes: { /dev/sdf: { size: 2 } }\n    scratch_volumes: { /dev/sdg: { size: 3 } }\n",
    );
    let definition = definition
        .replace("ssh: { address: private, admit: [ 10.200.0.1/32 ] }", "ssh: { session_manager: true }");
    let workspace =
        workspace.with("images/small.yaml", &definition)?.with("bin/session-manager-plugin", PLUGIN)?;
    fs::set_permissions(workspace.path("bin/session-manager-plugin"), fs::Permissions::from_mode(0o755))?;
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let called = |action: &str| cloud.calls().iter().any(|call| call.action == action && !call.dry_run);
    assert!(!called("AuthorizeSecurityGroupIngress"), "the group admits nobody");
    assert!(!called("StopInstances"), "Spot instances that are launched once cannot be stopped");
    let arguments = fs::read_to_string(workspace.path("bin/arguments"))?;
    assert!(arguments.contains("AWS-StartSSHSession") && !arguments.contains("the-token"), "{arguments}");

    let registered =
        cloud.calls().into_iter().find(|call| call.action == "RegisterImage").ok_or("no image")?;
    let devices: Vec<_> = registered
        .parameters
        .iter()
        .filter(|(name, _)| name.ends_with(".DeviceName"))
        .map(|(_, device)| device.as_str())
        .collect();
    assert_eq!(devices, ["/dev/xvda", "/dev/sdf"]);
    let tree = cloud.image_tree(ended.stdout.trim())?;
    assert_eq!(tree.read("/etc/small")?, "it is here\n", "what was frozen is whole");
    let kinds = |kind: &str| cloud.left().map(|left| left.iter().filter(|left| left.kind == kind).count());
    assert_eq!((kinds("image")?, kinds("snapshot")?, kinds("instance")?, kinds("volume")?), (2, 4, 0, 0));
    Ok(())
}

#[test]
fn a_full_quota_and_what_iam_would_refuse_are_named_before_anything_is_made() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    cloud.quota("L-1216C47A", 1)?;
    cloud.deny("ec2:RegisterImage")?;
    cloud.deny("ssm:PutParameter")?;
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for text in [
        "2 things would keep this bake from its end",
        "the quota of running On-Demand Standard instances in us-east-1 is full: 0 of 1 vCPUs are used",
        "IAM's simulation says that `arn:aws:iam::123456789012:user/moto` may not do ec2:RegisterImage, ssm:PutParameter",
        "\"Action\": [\"ec2:RegisterImage\", \"ssm:PutParameter\"]",
    ] {
        assert!(ended.stderr.contains(text), "`{text}` is not in:\n{}", ended.stderr);
    }
    assert_eq!(left(&cloud)?, [""; 0]);
    cloud.quota("L-1216C47A", 64)?;
    cloud.fault(On::action("SimulatePrincipalPolicy").always(), Effect::error("AccessDenied", "not you"));
    let ended = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("IAM does not simulate it: not you"),
        "what was not looked at is said: {}",
        ended.stderr
    );
    Ok(())
}
