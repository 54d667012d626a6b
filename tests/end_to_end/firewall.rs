//! A firewall that is loaded on a running host: it comes into force, stays as it is told, and locks nobody out.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use baker::image::Chain;
use tempfile::TempDir;
use testbed::host::{Disk, Host};
use testbed::workspace::{Workspace, image};
use testbed::world::{GATEWAY, METADATA, World};

use crate::Outcome;
use crate::boot::AGENT;

/// Puts a bundle with a `firewall` of these fields on a host, and returns where it is there.
fn bundle(host: &Host, name: &str, fields: &str) -> Result<String, Box<dyn Error>> {
    let workspace = Workspace::new()?
        .with("recipes/guard/recipe.yaml", &format!("resources:\n  - firewall: {{ {fields} }}\n"))?
        .with(
            "images/guard.yaml",
            "source: { local: { suite: bookworm } }\nboot: { recipes: [ guard ] }\n",
        )?;
    let cache = tempfile::tempdir()?;
    let chain = Chain::load(&workspace.path("images/guard.yaml"), &BTreeMap::new(), &[], cache.path())
        .map_err(|problems| problems.to_string())?;
    let plan = chain.images.last().ok_or("no image")?;
    let there = format!("/root/{name}");
    for (path, bytes) in plan.boot_bundle()?.ok_or("no bundle")? {
        let path = host.disk().tree().join(there.trim_start_matches('/')).join(path);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, bytes)?;
    }
    Ok(there)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What is in force, and whether anything of a load is left.
fn rules(host: &Host) -> Result<String, Box<dyn Error>> {
    let rules = host.output(&["nft", "list", "ruleset"])?;
    assert!(!rules.contains("bootstrap_agent"), "{rules}");
    let left = "ls -A /run/bootstrap-agent/firewall; systemctl list-units --all --plain --no-legend 'bootstrap-agent-firewall-*'";
    assert_eq!(host.output(&["sh", "-c", left])?, "");
    Ok(rules)
}

const OPEN: &str = "allow: [ { port: [22, 8080] } ], log_drops: never";

#[test]
fn rules_that_do_not_prove_themselves_are_taken_back() -> Outcome {
    let world = World::new()?;
    let host = Host::boot(Disk::of_image(&image("base")?)?, world.place(2)?)?;
    // A table of somebody else stays.
    host.output(&["nft", "add", "table", "ip", "others"])?;
    let open = bundle(&host, "open", OPEN)?;
    let apply = |bundle: &str| host.run(&[AGENT, "apply", "--format", "json", bundle]);
    assert!(apply(&open)?.status.success());
    let in_force = rules(&host)?;
    assert!(in_force.contains("8080") && in_force.contains("table ip others"), "{in_force}");
    // A rule that somebody removed by hand comes back; a second run has nothing to do.
    host.output(&["nft", "flush", "chain", "inet", "filter", "input"])?;
    assert!(apply(&open)?.status.success());
    assert_eq!(rules(&host)?, in_force);
    let plan = host.run(&[AGENT, "plan", "--detailed-exitcode", &open])?;
    assert_eq!(plan.status.code(), Some(0), "{}", said(&plan));

    let unproven = format!("{}, confirm: {{ within: 2s, command: 'false' }}", OPEN.replace("8080", "9090"));
    let failed = apply(&bundle(&host, "unproven", &unproven)?)?;
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    let why = "the new rules were taken back, and the old ones are in force again:";
    assert!(said(&failed).contains(why), "{}", said(&failed));
    assert!(said(&failed).contains("`false` does not succeed within 2s"), "{}", said(&failed));
    assert_eq!(rules(&host)?, in_force);
    assert!(host.disk().read("/etc/nftables.conf")?.contains("8080"), "no boot loads them either");

    // What cannot be reached is no proof, what can be is.
    let reaching = |target: &str| format!("{OPEN}, ping: false, confirm: {{ within: 2s, tcp: '{target}' }}");
    assert!(!apply(&bundle(&host, "closed", &reaching("127.0.0.1:1"))?)?.status.success());
    assert_eq!(rules(&host)?, in_force);
    let reached = apply(&bundle(&host, "reached", &reaching("127.0.0.1:22"))?)?;
    assert!(reached.status.success(), "{}", said(&reached));
    assert!(!rules(&host)?.contains("echo-request"));
    assert!(apply(&open)?.status.success());

    // A run that is killed takes nothing back; the timer does.
    let endless = format!("{}, confirm: {{ within: 2s, command: sleep 60 }}", OPEN.replace("8080", "9090"));
    let endless = bundle(&host, "endless", &endless)?;
    let killed =
        "\"$0\" apply \"$1\" & until nft list ruleset | grep -q 9090; do sleep 0.1; done; kill -9 $!";
    host.output(&["timeout", "60", "sh", "-c", killed, AGENT, &endless])?;
    let back = "while nft list ruleset | grep -q 9090; do sleep 0.1; done; while test -e /run/bootstrap-agent/firewall/filter.saved.nft; do sleep 0.1; done; sleep 0.2";
    host.output(&["timeout", "60", "sh", "-c", back])?;
    assert_eq!(rules(&host)?, in_force);
    Ok(())
}

#[test]
fn what_goes_out_who_asks_for_metadata_and_how_often_somebody_comes_in_is_as_it_is_said() -> Outcome {
    let world = World::new()?;
    let host = Host::boot(Disk::of_image(&image("base")?)?, world.place(2)?)?;
    let listen = |address: &str, port: u16| world.within(|| TcpListener::bind((address, port)));
    let _servers = (listen(GATEWAY, 7777)?, listen(GATEWAY, 7778)?, listen(METADATA, 80)?);
    let reaches = |user: &str, address: &str| {
        let script = format!("exec 3<>/dev/tcp/{address}");
        let words = ["runuser", "-u", user, "--", "timeout", "3", "bash", "-c", &script];
        Ok::<_, std::io::Error>(host.run(&words)?.status.success())
    };
    assert!(reaches("nobody", "10.200.0.1/7778")?);
    let fields = "allow: [ { port: 22, rate: 3/minute } ], outgoing: [ { port: [80, 7777] } ], metadata_users: [root, games]";
    let guard = host.put("guard", &format!("resources:\n  - include: {{ firewall: {{ {fields} }} }}\n"))?;
    let applied = host.apply(&[], &guard)?;
    assert_eq!(applied.code, Some(0), "{:?}", applied.failure());
    assert!(reaches("nobody", "10.200.0.1/7777")? && !reaches("root", "10.200.0.1/7778")?);
    for (user, may) in [("root", true), ("games", true), ("nobody", false)] {
        assert_eq!(reaches(user, "169.254.169.254/80")?, may, "{user}");
    }
    // Five at once are let in, and then three in a minute.
    let address = format!("{}:22", World::address(2)).parse()?;
    let comes_in =
        |_| world.within(|| TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok());
    let let_in = (0..9).map(comes_in).filter(|is_in| *is_in).count();
    assert!((1..=6).contains(&let_in), "{let_in}");
    Ok(())
}

/// Somebody who is logged in to a host over SSH.
struct Login<'a> {
    world: &'a World,
    keys: TempDir,
}

impl<'a> Login<'a> {
    /// As root, at a server of its own on port 2222: that of the image lets nobody in as root.
    fn new(world: &'a World, host: &Host) -> Result<Self, Box<dyn Error>> {
        let keys = tempfile::tempdir()?;
        let login = Self { world, keys };
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(login.key())
            .status()?;
        assert!(made.success());
        let public = fs::read_to_string(login.key().with_extension("pub"))?;
        let start = "install -d -m 700 /root/.ssh; echo \"$0\" > /root/.ssh/authorized_keys; \
                     /usr/sbin/sshd -f /dev/null -p 2222 -o PermitRootLogin=yes -o UsePAM=no -o PidFile=none";
        host.output(&["sh", "-ec", start, public.trim()])?;
        Ok(login)
    }

    fn key(&self) -> PathBuf {
        self.keys.path().join("key")
    }

    fn run(&self, command: &str) -> std::io::Result<Output> {
        let mut ssh = Command::new("timeout");
        ssh.args(["60", "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10", "-p", "2222", "-i"])
            .arg(self.key())
            .arg(format!("root@{}", World::address(2)))
            .arg(command);
        self.world.within(|| ssh.output())
    }
}

#[test]
fn the_connection_that_a_run_came_in_by_is_not_cut() -> Outcome {
    let world = World::new()?;
    let host = Host::boot(Disk::of_image(&image("base")?)?, world.place(2)?)?;
    let open = bundle(&host, "open", "allow: [ { port: 2222 } ]")?;
    assert!(host.run(&[AGENT, "apply", &open])?.status.success());
    let login = Login::new(&world, &host)?;
    let more = bundle(&host, "more", "allow: [ { port: 2222 }, { port: 80 } ]")?;
    let proven = login.run(&format!("{AGENT} apply --format json {more}"))?;
    assert!(proven.status.success(), "{}", said(&proven));
    assert!(said(&proven).contains("unless this line is received"), "{}", said(&proven));
    let in_force = rules(&host)?;
    // This cuts connections that exist already, which the rules of a `firewall` alone never do.
    let chain = "chain early { type filter hook input priority -10; tcp dport 2222 drop; }";
    let cutting = format!("rules: {{ table: ['{chain}'] }}, confirm: {{ within: 3s }}");
    let cutting = bundle(&host, "cutting", &cutting)?;
    let failed = login.run(&format!("{AGENT} apply --format json {cutting}"))?;
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert!(said(&failed).contains("no packets of the connection"), "{}", said(&failed));
    assert_eq!(rules(&host)?, in_force);
    // And it is as open as before.
    assert!(login.run("true")?.status.success());
    Ok(())
}
