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
    let users = format!(
        "  - include: {{ users: {{ people: [ {{ name: ada, keys: ['{}'], sudo: true }} ] }} }}\n",
        person.public()?
    );
    apply(host, "ada", &format!("{users}  - include: {{ sshd: {{ port: 2222 }} }}\n"))?;
    let ssh = |port: u16, command: &str| {
        let destination = format!("ada@{}", World::address(2));
        let mut ssh = person.ssh(None, port);
        ssh.args(["-o", "BatchMode=yes", &destination, command]);
        world.within(|| ssh.output())
    };

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
