//! The connection to a builder that runs: it can be lost, and another host can answer.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testbed::ec2::Cloud;
use testbed::workspace::{Ended, Workspace};

use super::{BUILDER, baker, command, launch, left, with_bodies};
use crate::Outcome;

/// A recipe that takes its time, and counts how often it was begun.
const SLOW: &str = "resources:
  - command:
      argv: [ sh, -c, 'echo begun >> /etc/count; : > /run/begun; sleep 10; echo \"it is here\" > /etc/small' ]
      creates: /etc/small
";

/// What an instance of an image is listening on, once its own server of SSH has its keys.
const LISTENS: &str = "for try in $(seq 300); do
    ports=$(ss --no-header --listening --tcp --numeric --processes | sed -n 's/.*:\\([0-9]*\\) .*\"sshd\".*/\\1/p' | sort -u)
    [ -z \"$ports\" ] || break
    sleep 0.2
done
echo $ports";

/// A bake that is under way on a builder.
struct Bake {
    cloud: Cloud,
    workspace: Workspace,
    child: Child,
    instance: String,
}

impl Bake {
    /// One whose recipe has begun.
    fn begin() -> io::Result<Self> {
        let (cloud, workspace) = with_bodies()?;
        let workspace = workspace.with("recipes/small/recipe.yaml", SLOW)?;
        let mut baker = command(&workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
        let child = cloud.spawn(baker.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let until = Instant::now() + Duration::from_mins(2);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(200));
            let instance = cloud.left()?.into_iter().find(|left| left.kind == "instance");
            let Some(instance) = instance.map(|left| left.id) else { continue };
            let begun = cloud.run(&instance, &["test", "-e", "/run/begun"]);
            if begun.is_ok_and(|output| output.status.success()) {
                return Ok(Self { cloud, workspace, child, instance });
            }
        }
        Err(io::Error::other("the recipe did not begin"))
    }

    /// Ends every connection from this machine.
    fn cut(&self) -> io::Result<()> {
        let runs = self.workspace.path("state/runs");
        let killed =
            Command::new("pkill").args(["-KILL", "-f", &format!("^ssh -F {}", runs.display())]).status()?;
        if killed.success() { Ok(()) } else { Err(io::Error::other("there was no connection")) }
    }

    fn end(self) -> io::Result<(Cloud, Workspace, Ended)> {
        let ended = Ended::from(self.child.wait_with_output()?);
        Ok((self.cloud, self.workspace, ended))
    }
}

#[test]
fn what_runs_goes_on_without_its_connection_and_is_started_once() -> Outcome {
    let bake = Bake::begin()?;
    for _ in 0..3 {
        bake.cut()?;
        thread::sleep(Duration::from_secs(2));
    }
    let (cloud, _workspace, ended) = bake.end()?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let tree = cloud.image_tree(ended.stdout.trim())?;
    assert_eq!(tree.read("/etc/small")?, "it is here\n");
    assert_eq!(tree.read("/etc/count")?, "begun\n");
    Ok(())
}

#[test]
fn a_host_with_another_key_is_not_talked_to() -> Outcome {
    let bake = Bake::begin()?;
    let other = "rm /run/baker/ssh/host_key*; ssh-keygen -q -t ed25519 -N '' -f /run/baker/ssh/host_key; \
                 systemctl restart baker-sshd";
    let output = bake.cloud.run(&bake.instance, &["sh", "-ec", other])?;
    // Its sessions end with the server.
    assert!(output.status.success(), "{output:?}");
    let (cloud, workspace, ended) = bake.end()?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the host that answers is not the builder"), "{}", ended.stderr);
    assert_eq!(left(&cloud)?, [""; 0], "{}", ended.stderr);
    assert_eq!(workspace.runs()?, [""; 0], "the ledger is closed");
    Ok(())
}

/// The second image moves the server of the first, whose firewall is loaded and lets in the old port only.
#[test]
fn the_images_own_server_moves_while_it_is_baked() -> Outcome {
    let (cloud, workspace) = with_bodies()?;
    cloud.instance_profile("web")?;
    let source = "source: { ec2: { ami: { owner: \"136693071363\", name: \"debian-12-amd64-*\", most_recent: true }, release: bookworm } }\n";
    let first = format!("{source}{BUILDER}recipes: [ sshd, firewall: {{ allow: [ {{ port: 22 }} ] }} ]\n");
    let second = "extends: first
recipes: [ sshd: { port: 2222 }, firewall: { allow: [ { port: 2222 } ] }, small ]
checks: [ tcp: { address: '127.0.0.1:2222' }, command: { argv: [ sh, -c, '! ss -Htln | grep -q \":22 \"' ] } ]
";
    let workspace = workspace.with("images/first.yaml", &first)?.with("images/moved.yaml", second)?;
    let built = baker(&cloud, &workspace, &["build", "images/moved.yaml", "--platform=ec2"])?;
    assert_eq!(built.code, Some(0), "{}", built.stderr);

    let ami = built.stdout.trim();
    let tree = cloud.image_tree(ami)?;
    assert_eq!(tree.read("/etc/small")?, "it is here\n");
    assert!(tree.read("/etc/ssh/sshd_config")?.starts_with("Port 2222\n"));
    let (instance, _) = launch(&cloud, ami, "")?;
    cloud.wait_until_booted(&instance)?;
    let listens = cloud.run(&instance, &["bash", "-c", LISTENS])?;
    assert_eq!(String::from_utf8_lossy(&listens.stdout), "2222\n", "{listens:?}");
    Ok(())
}
