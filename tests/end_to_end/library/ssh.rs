//! sshd as others see it: its profiles, and a change of its port by somebody who came in by it.

use testbed::host::Host;
use testbed::judge::{Tools, ssh_audit};
use testbed::person::{Person, said};
use testbed::world::World;

use super::hosts::apply;
use crate::Outcome;
use crate::boot::AGENT;

/// On a host at the second place, whose sshd listens at port 2222.
pub(super) fn sshd_is_as_its_profile_says_and_outlives_a_change_of_its_port(
    world: &World,
    host: &Host,
) -> Outcome {
    let person = Person::new()?;
    let key = person.public()?;
    // The key in the safe opens from where it is said only.
    let users = |from: &str| {
        format!(
            "  - include: {{ users: {{ people: [ {{ name: ada, keys: ['{key}'], sudo: true }} ], break_glass: {{ key: '{key}', from: [{from}] }} }} }}\n"
        )
    };
    apply(host, "ada", &(users("10.200.0.1") + "  - include: { sshd: { port: 2222 } }\n"))?;
    let ssh_as = |user: &str, port: u16, command: &str| {
        let destination = format!("{user}@{}", World::address(2));
        let mut ssh = person.ssh(None, port);
        ssh.args(["-o", "BatchMode=yes", &destination, command]);
        world.within(|| ssh.output())
    };
    let ssh = |port: u16, command: &str| ssh_as("ada", port, command);
    let glass = || ssh_as("break-glass", 2222, "sudo --non-interactive id --user");
    let broken = glass()?;
    assert_eq!(String::from_utf8_lossy(&broken.stdout), "0\n", "{}", said(&broken));
    apply(host, "elsewhere", &users("192.0.2.0/24"))?;
    assert!(said(&glass()?).contains("Permission denied"));

    // Who came in by a port has it moved, and hears how that ended.
    let moves =
        host.put("moves", "resources:\n  - include: { sshd: { port: 22, profile: post-quantum } }\n")?;
    let moved = ssh(2222, &format!("sudo {AGENT} apply {moves} && echo it is done"))?;
    assert!(moved.status.success() && said(&moved).contains("it is done"), "{}", said(&moved));
    let again = ssh(22, &format!("sudo {AGENT} plan --detailed-exitcode {moves}"))?;
    assert!(again.status.success(), "{}", said(&again));
    assert!(said(&ssh(2222, "true")?).contains("Connection refused"));

    let tools = Tools::get()?;
    let audit = ssh_audit(world, host, &tools)?;
    assert_eq!((audit.failures, audit.warnings), (Vec::new(), Vec::new()));
    apply(host, "guide", "  - include: { sshd: { port: 22, profile: guide } }\n")?;
    let audit = ssh_audit(world, host, &tools)?;
    assert!(audit.policy && audit.failures.is_empty(), "{audit:?}");
    Ok(())
}
