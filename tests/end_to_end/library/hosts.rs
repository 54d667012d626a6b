//! Recipes that only hosts can show at work, several of them together.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use testbed::host::{Disk, Host};
use testbed::person::{Person, said};
use testbed::workspace::Workspace;
use testbed::world::World;

use super::agreement;
use super::ssh::sshd_is_as_its_profile_says_and_outlives_a_change_of_its_port;
use super::vendors::programs_of_vendors_are_what_their_digests_say;
use crate::Outcome;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What all of them are booted from.
const IMAGE: &str = "source: { local: { suite: bookworm } }
recipes:
  - packages: { install: [ca-certificates, conntrack, curl, ebtables, ethtool, iproute2, kmod, nftables, oathtool, procps, python3, socat, sudo] }
  - jumpbox: { port: 2222, destinations: ['10.200.0.3:8000'] }
  - docker: { live_restore: false }
  - keepalived: { addresses: [10.200.0.99/32], interface: eth0 }
";

/// The secret of a code by the clock, as anybody's telephone would have it.
const SECRET: &str = "JBSWY3DPEHPK3PXP";

/// Applies what is written to a host, as a plan says, and again, when there is nothing left to do.
pub(super) fn apply(host: &Host, name: &str, resources: &str) -> Result<()> {
    let bundle = host.put(name, &format!("resources:\n{resources}"))?;
    let plan = agreement::plan(host, &bundle)?;
    for run in 0..2 {
        let applied = host.apply(&[], &bundle)?;
        assert_eq!(applied.code, Some(0), "{name}: {:?} {}", applied.failure(), applied.stderr);
        if run == 0 {
            let done = agreement::done(&applied.events);
            assert_eq!(agreement::wrong(&plan, &done), Vec::<String>::new(), "{name}");
        }
    }
    Ok(())
}

/// The network of a host is its own, so it may set what is of the network, which systemd-nspawn does not know.
pub(super) fn own_network(host: &Host) -> Result<()> {
    let mount = "mount -t proc proc /mnt; mount --bind /mnt/sys/net /proc/sys/net; umount /mnt";
    host.output(&["sh", "-ec", mount])?;
    Ok(())
}

#[test]
fn roles_of_several_hosts_work_together() -> Outcome {
    let workspace = Workspace::new()?.with("images/one.yaml", IMAGE)?;
    let image = workspace.bake("one")?;
    let world = World::new()?;
    world.let_hosts_meet()?;
    let boot = |number: u8| -> Result<Host> {
        let host = Host::boot(Disk::of_image(&image)?, world.place(number)?)?;
        own_network(&host)?;
        Ok(host)
    };
    let (one, two) = (boot(2)?, boot(3)?);
    people_go_on_by_the_jumpbox_with_a_key_and_a_code(&world, &one, &two)?;
    an_address_moves_to_the_host_that_is_left(&one, &two)?;
    a_swarm_is_made_and_joined(&one, &two)?;
    programs_of_vendors_are_what_their_digests_say(&two)?;
    sshd_is_as_its_profile_says_and_outlives_a_change_of_its_port(&world, &one)
}

fn people_go_on_by_the_jumpbox_with_a_key_and_a_code(world: &World, jumpbox: &Host, other: &Host) -> Outcome {
    let person = Person::new()?;
    let users = format!(
        "  - include: {{ users: {{ people: [ {{ name: ada, keys: ['{}'] }} ], gone: [bob] }} }}\n",
        person.public()?
    );
    jumpbox.output(&["useradd", "--create-home", "bob"])?;
    apply(jumpbox, "users", &users)?;
    assert!(!jumpbox.run(&["id", "bob"])?.status.success(), "who is gone has no account");
    let secret = format!(
        "printf '%s\\n\" DISALLOW_REUSE\\n\" TOTP_AUTH\\n' {SECRET} > /etc/jumpbox/ada; chmod 400 /etc/jumpbox/ada"
    );
    jumpbox.output(&["sh", "-ec", &secret])?;
    let serve = "cd /run; echo here > page; systemd-run --quiet --unit=page --working-directory=/run python3 -m http.server 8000; for n in $(seq 50); do ss -Htln | grep -q :8000 && exit; sleep 0.1; done; exit 1";
    other.output(&["sh", "-c", serve])?;

    let code = jumpbox.output(&["oathtool", "--totp", "--base32", SECRET])?;
    let page = ask_through(&person, world, code.trim())?;
    assert!(said(&page).contains("here"), "{}", said(&page));
    // A wrong code is refused, and so is one that was used.
    for answer in ["000000", code.trim()] {
        let refused = ask_through(&person, world, answer)?;
        assert!(said(&refused).contains("Permission denied"), "{answer}: {}", said(&refused));
    }
    // Nowhere else, and no shell here.
    let settings = jumpbox.output(&["sshd", "-T"])?;
    for line in
        ["permitopen 10.200.0.3:8000", "forcecommand /usr/sbin/nologin", "permittty no", "gatewayports no"]
    {
        assert!(settings.lines().any(|each| each == line), "{line}: {settings}");
    }
    Ok(())
}

fn an_address_moves_to_the_host_that_is_left(one: &Host, two: &Host) -> Outcome {
    let keepalived = |priority: u8, peer: &str| {
        format!(
            "  - include: {{ keepalived: {{ interface: eth0, priority: {priority}, addresses: [10.200.0.99/32], peers: [{peer}] }} }}\n"
        )
    };
    apply(one, "first", &keepalived(150, "10.200.0.3"))?;
    apply(two, "second", &keepalived(100, "10.200.0.2"))?;
    let has = "for n in $(seq 150); do ip -oneline address show dev eth0 | grep -q 10.200.0.99 && exit; sleep 0.1; done; exit 1";
    one.output(&["sh", "-c", has])?;
    let has_not = "for n in $(seq 150); do ip -oneline address show dev eth0 | grep -q 10.200.0.99 || exit 0; sleep 0.1; done; exit 1";
    two.output(&["sh", "-c", has_not])?;
    one.output(&["systemctl", "stop", "keepalived"])?;
    two.output(&["sh", "-c", has])?;
    two.output(&["systemctl", "stop", "keepalived"])?;
    Ok(())
}

fn a_swarm_is_made_and_joined(one: &Host, two: &Host) -> Outcome {
    for host in [one, two] {
        host.output(&["systemctl", "restart", "docker"])?;
        let information =
            host.output(&["docker", "info", "--format", "{{.LoggingDriver}} {{.LiveRestoreEnabled}}"])?;
        assert_eq!(information, "local false\n");
    }
    let manager = "  - include: { docker-swarm-manager: { init: true, advertise: 10.200.0.2, token: not-looked-at } }\n";
    apply(one, "manager", manager)?;
    let token = one.output(&["docker", "swarm", "join-token", "--quiet", "worker"])?;
    let worker = format!(
        "  - include: {{ docker-swarm-worker: {{ managers: ['10.200.0.2:2377'], token: {}, advertise: 10.200.0.3 }} }}\n",
        token.trim()
    );
    apply(two, "worker", &worker)?;
    let nodes = one.output(&["docker", "node", "ls", "--format", "{{.Availability}} {{.ManagerStatus}}."])?;
    let mut nodes: Vec<&str> = nodes.lines().collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["Active .", "Drain Leader."]);
    // The token is not in what was told.
    let told = two.output(&["journalctl", "--no-pager", "--boot"])?;
    assert!(!told.contains(token.trim()));
    Ok(())
}

/// Asks for a page through the jumpbox, with an answer to what it asks for.
fn ask_through(person: &Person, world: &World, answer: &str) -> Result<Output> {
    let (ask, request) = (person.path("ask"), person.path("request"));
    fs::write(&ask, format!("#!/bin/sh\necho {answer}\n"))?;
    fs::set_permissions(&ask, fs::Permissions::from_mode(0o700))?;
    fs::write(&request, "GET /page HTTP/1.0\r\n\r\n")?;
    let mut command = person.ssh(None, 2222);
    command.args(["-o", "NumberOfPasswordPrompts=1", "-W", "10.200.0.3:8000", "ada@10.200.0.2"]);
    command.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force").stdin(fs::File::open(&request)?);
    Ok(world.within(|| command.output())?)
}
