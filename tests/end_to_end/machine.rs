//! Images on a virtual machine, where auditing, process accounting, `AppArmor`, the clock and containers run.
//!
//! It is not part of a usual run, since the machine is emulated: `make test-machine`.

use std::fs;

use tempfile::TempDir;
use testbed::binaries::project;
use testbed::host::Disk;
use testbed::judge::{Tools, judge_on_machine};
use testbed::machine::Machine;
use testbed::workspace::{Workspace, image};
use testbed::world::World;

use crate::Outcome;
use crate::hardened::is_as_good_as_the_page_says;

#[test]
fn scanners_find_the_hardened_image_on_a_machine_as_good_as_the_page_says() -> Outcome {
    let verdict = judge_on_machine(&image("hardened")?, &Tools::get()?)?;
    println!("{verdict}");
    is_as_good_as_the_page_says(&verdict, "machine", (93, 975, 965))?;
    for rule in ["service_auditd_enabled", "service_timesyncd_enabled"] {
        let result = verdict.profiles["cis_level2_server"].get(rule).map(String::as_str);
        assert_eq!(result, Some("pass"), "{rule}");
    }
    // Lynis has nothing to say of process accounting and of auditing.
    let missed = verdict.suggestions.iter().filter(|(test, _)| ["ACCT-9622", "ACCT-9628"].contains(&&**test));
    assert_eq!(missed.count(), 0, "{:#?}", verdict.suggestions);
    Ok(())
}

/// Where hosts are containers themselves, Docker runs none.
#[test]
fn containers_of_a_docker_host_cannot_become_more_than_they_are() -> Outcome {
    let of = |name: &str| fs::read_to_string(project().join("images").join(name));
    // What an AMI has, and what is in the container.
    let base = of("base.yaml")?;
    let with_kernel = base.replace(
        "suite: bookworm }",
        "suite: bookworm, include: [linux-image-cloud-amd64, busybox-static] }",
    );
    assert_ne!(base, with_kernel);
    let workspace = Workspace::new()?
        .with("images/base.yaml", &with_kernel)?
        .with("images/docker-host.yaml", &of("docker-host.yaml")?)?;
    let disk = Disk::of_image(&workspace.bake("docker-host")?)?;
    let task = TempDir::with_prefix("task-")?;
    fs::copy(project().join("tests/machine/containers.sh"), task.path().join("task.sh"))?;
    let world = World::new()?;
    let said = Machine::boot(&disk, task.path(), &world, 22)?.until("end")?;
    println!("{said}");
    for line in [
        "privileges: NoNewPrivs: 1",
        "host reaches a container: yes",
        "container reaches another: no",
        "container reaches itself: yes",
        "log: local 10m",
        "outlives the daemon: true",
    ] {
        assert!(said.lines().any(|said| said.starts_with(line)), "`{line}` is not in:\n{said}");
    }
    Ok(())
}
