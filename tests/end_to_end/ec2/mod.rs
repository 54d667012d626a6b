//! Bakes on EC2: what stays of them, and what does not.

mod bake;
mod connection;
mod crash;
mod credentials;
mod faults;
mod placement;
mod plan;
mod policy;
mod together;
mod web;

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::binaries;
use testbed::ec2::{self, Cloud, Options};
use testbed::workspace::{Ended, Workspace};

use crate::Outcome;

/// An image that is made in seconds, with everything that can be said of publishing.
const SMALL: &str = r#"description: a small image
source:
  ec2: { ami: { owner: "136693071363", name: "debian-12-amd64-*", most_recent: true }, release: bookworm }
builder:
  ec2:
    instance_types: [ t3.small, t3a.small ]
    ssh: { address: private, admit: [ 10.200.0.1/32 ] }
    volume: { encrypted: false, throughput: 250 }
    tags: { team: platform }
recipes: [ small ]
checks: [ { command: { argv: grep -q here /etc/small } } ]
publish:
  ec2:
    regions: [ eu-west-1 ]
    share_with: [ "111122223333" ]
    channel: /images/small/stable
    tags: { team: platform }
"#;

/// What the test cloud needs to be said of a builder: there is nobody in it to ask for one's public address.
const BUILDER: &str = "builder: { ec2: { ssh: { address: private, admit: [ 10.200.0.1/32 ] } } }\n";

/// Its recipe.
const RECIPE: &str = "resources:\n  - file: { path: /etc/small, content: \"it is here\\n\" }\n";

/// A folder with the image in it.
fn workspace() -> io::Result<Workspace> {
    Workspace::new()?.with("images/small.yaml", SMALL)?.with("recipes/small/recipe.yaml", RECIPE)
}

/// Runs baker where it reaches the cloud.
fn baker(cloud: &Cloud, workspace: &Workspace, arguments: &[&str]) -> io::Result<Ended> {
    cloud.output(&mut command(workspace, arguments)?).map(Ended::from)
}

/// The same, to be started.
fn command(workspace: &Workspace, arguments: &[&str]) -> io::Result<Command> {
    let mut command = workspace.command(arguments)?;
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", workspace.path("bin").display()));
    command.stdin(Stdio::null());
    Ok(command)
}

/// Answers as a builder would on which everything goes well.
const SSH: &str = r#"#!/bin/sh
for remote; do :; done
case "$remote" in
  "cat /proc/sys/kernel/random/boot_id") cat /proc/sys/kernel/random/boot_id; exit 0 ;;
esac
unit=$(printf '%s\n' "$remote" | sed -n 's|^d=/run/baker/||p')
cat >/dev/null
case "$remote" in
  *"bootstrap-agent apply"*) ;;
  *"bootstrap-agent plan"*) echo '{"items":[]}' ;;
  *"bootstrap-agent check"*) echo '{"check":"a command","error":null}' ;;
  *"seal --root"*) echo '{"cleaned":["/etc/machine-id"],"findings":[],"allowed":[],"erased":[]}' ;;
  *dpkg-query*) echo 'base-files 12' ;;
esac
printf '\nbaker-%s-ended 0\n' "$unit"
"#;

/// A folder with the image in it, and with the `ssh` of [`SSH`].
fn workspace_without_bodies() -> io::Result<Workspace> {
    let workspace = workspace()?.with("bin/ssh", SSH)?;
    fs::set_permissions(workspace.path("bin/ssh"), fs::Permissions::from_mode(0o755))?;
    Ok(workspace)
}

/// A cloud whose instances are hosts that run, and such a folder with the `ssh` of this machine.
fn with_bodies() -> io::Result<(Cloud, Workspace)> {
    let cloud = Cloud::start(&Options { bodies: true, ..Options::default() })?;
    cloud.source_ami("debian-12-amd64-20261101", Some(&ec2::debian()?))?;
    cloud.remember()?;
    Ok((cloud, workspace()?))
}

/// A cloud whose instances have no bodies, with what is there before a bake, and such a folder.
fn without_bodies() -> io::Result<(Cloud, Workspace)> {
    let cloud = Cloud::start(&Options::default())?;
    begin(&cloud)?;
    Ok((cloud, workspace_without_bodies()?))
}

/// Launches an instance of an image, as somebody else does, with the profile `web`, and returns its id and its address.
fn launch(cloud: &Cloud, image: &str, user_data: &str) -> Result<(String, String), Box<dyn Error>> {
    const LAUNCH: &str = "
import boto3, sys
ec2 = boto3.client('ec2', region_name='us-east-1')
launched = ec2.run_instances(ImageId=sys.argv[1], InstanceType='t3.small', MinCount=1, MaxCount=1,
    UserData=sys.argv[2], IamInstanceProfile={'Name': 'web'})['Instances'][0]['InstanceId']
instance = ec2.describe_instances(InstanceIds=[launched])['Reservations'][0]['Instances'][0]
print(launched, instance['PrivateIpAddress'])
";
    let mut command = Command::new(binaries::python()?);
    let output = cloud.output(command.args(["-c", LAUNCH, image, user_data]).stdin(Stdio::null()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (id, address) =
        text.trim().split_once(' ').ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((id.to_owned(), address.to_owned()))
}

/// Everything that is there before a bake: the source, and a group of somebody else's.
fn begin(cloud: &Cloud) -> io::Result<()> {
    cloud.source_ami("debian-12-amd64-20261101", None)?;
    let group = [("GroupName", "somebody-elses"), ("GroupDescription", "not of a bake")];
    cloud.call("us-east-1", "CreateSecurityGroup", &group)?;
    cloud.remember()
}

/// What is left, a line for each.
fn left(cloud: &Cloud) -> io::Result<Vec<String>> {
    Ok(cloud.left()?.iter().map(line).collect())
}

/// What is left that only a bake needs, a line for each.
fn temporary(cloud: &Cloud) -> io::Result<Vec<String>> {
    let left = cloud.left()?;
    Ok(left.iter().filter(|left| left.tags.contains_key("baker:temporary")).map(line).collect())
}

fn line(left: &ec2::Left) -> String {
    format!("{} {} in {}", left.kind, left.id, left.region)
}

/// Interrupts a run of baker when it has launched some instances: all is undone before it ends.
fn interrupted(cloud: &Cloud, workspace: &Workspace, baker: &mut Command, instances: usize) -> Outcome {
    let launched = || {
        let is = |call: &&ec2::Call| call.action == "RunInstances" && call.succeeded();
        cloud.calls().iter().filter(is).count()
    };
    let before = launched();
    let baker = cloud.spawn(baker.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    while launched() < before + instances {
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_secs(1));
    kill(Pid::from_raw(i32::try_from(baker.id())?), Signal::SIGINT)?;
    let ended = baker.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted: undoing what was created"), "{said}");
    assert_eq!(left(cloud)?, [""; 0], "{said}");
    assert_eq!(workspace.runs()?, [""; 0], "the ledger is closed");
    Ok(())
}
