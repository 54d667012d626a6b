//! Each recipe of the library, converged in a container, with its service seen working.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use baker::image::Chain;
use baker::report::Event;
use recipes::event::{Event as AgentEvent, Outcome as Came};
use recipes::plan::{Basis, Plan};
use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::{Disk, Host};
use testbed::workspace::{Workspace, image};
use testbed::world::World;

use crate::Outcome;
use crate::boot::{AGENT, status_of};

mod agreement;
mod cases;
mod hosts;
mod images;
mod logs;
mod nat;
mod ssh;
mod vendors;

use cases::GROUPS;

/// What is applied at boot, and what only hosts show, is seen working there (`hosts.rs`, `images.rs`, `nat.rs`, `vendors.rs`).
const AT_BOOT: &[&str] = &[
    "bootstrap-agent",
    "cloudwatch-agent",
    "consul-agent",
    "consul-templates",
    "docker-swarm-manager",
    "docker-swarm-worker",
    "ecs-host",
    "elasticsearch",
    "fluent-bit",
    "jumpbox",
    "kibana",
    "kubernetes-join",
    "kubernetes-node",
    "mesos-agent",
    "mesos-master",
    "nat",
    "ssm-agent",
    "swarm-member",
    "users",
    "vendor-service",
    "web-site",
];

#[test]
fn every_recipe_has_a_case() -> Outcome {
    let there: BTreeSet<String> = fs::read_dir(binaries::project().join("recipes/library"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let cases = GROUPS.iter().flat_map(|(_, cases)| cases.iter().map(|case| case.recipe));
    let cases = cases.chain(AT_BOOT.iter().copied());
    assert_eq!(there, cases.map(str::to_owned).collect());
    Ok(())
}

/// Bakes the recipes of a group in one container, and looks. What was planned before, and is more than assumed, is what is done.
fn converges(group: &str) -> Outcome {
    let (_, cases) = GROUPS.iter().find(|(name, _)| *name == group).ok_or("there is no such group")?;
    let wanted: Vec<&str> = cases.iter().map(|case| case.wanted).collect();
    let checks = cases
        .iter()
        .flat_map(|case| case.checks)
        .map(|check| format!("  - command: {{ argv: {}, within: 15s }}\n", serde_json::json!(check)));
    let definition = format!(
        "source: {{ local: {{ suite: bookworm }} }}\nrecipes: [ {} ]\nchecks:\n{}",
        wanted.join(", "),
        checks.collect::<String>()
    );
    let workspace = Workspace::new()?.with("images/one.yaml", &definition)?;
    let planned = workspace.baker(&["plan", "images/one.yaml", "--format=json"])?;
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    let plan: Plan = serde_json::from_str(&planned.stdout)?;
    let mut done = BTreeMap::new();
    let mut bake = workspace.start("one")?;
    let failed = bake.until(|event| {
        if let Event::Agent { agent: AgentEvent::ResourceFinished { resource, outcome }, .. } = event {
            done.insert(resource.clone(), *outcome == Came::Changed);
        }
        matches!(event, Event::BakeFailed { .. })
    })?;
    let (status, said) = bake.wait()?;
    assert!(status.success(), "{failed:#?}{said}");
    assert_eq!(agreement::wrong(&plan, &done), Vec::<String>::new());
    let known = plan.items.iter().filter(|item| item.basis != Basis::Assumed);
    assert!(known.count() > 5);
    Ok(())
}

#[test]
fn the_recipes_of_every_host_take_effect() -> Outcome {
    converges("plain")
}

#[test]
fn exceptions_leave_out_what_they_name_and_nothing_else() -> Outcome {
    converges("levels")
}

#[test]
fn services_are_as_they_are_told_and_work() -> Outcome {
    converges("services")
}

/// On a host of an image, all of its recipes are true, on whatever it has become by sealing and booting.
#[test]
fn a_host_of_an_image_needs_no_change() -> Outcome {
    let cache = tempfile::tempdir()?;
    let definition = binaries::project().join("images/web.yaml");
    let chain = Chain::load(&definition, &BTreeMap::new(), &[], cache.path())
        .map_err(|problems| problems.to_string())?;
    assert_eq!(chain.images.len(), 2);
    for plan in &chain.images {
        let cloud = Cloud::prod()?;
        let host = cloud.boot(Disk::of_image(&image(&plan.name)?)?)?;
        status_of(&host)?;
        let folder = host.disk().tree().join("root/bundle");
        for (path, bytes) in plan.bundle()? {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().ok_or("no folder")?)?;
            fs::write(path, bytes)?;
        }
        let planned = host.run(&[AGENT, "plan", "--detailed-exitcode", "/root/bundle"])?;
        let text = String::from_utf8_lossy(&planned.stdout).into_owned();
        assert_eq!(planned.status.code(), Some(0), "{}: {text}", plan.name);
        let applied = host.output(&[AGENT, "apply", "--format", "json", "/root/bundle"])?;
        let applied = applied.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let finished: Vec<_> = applied.filter(|event| event["event"] == "resource_finished").collect();
        assert!(
            finished.len() > 5 && finished.iter().all(|event| event["outcome"] == "unchanged"),
            "{finished:?}"
        );
    }
    Ok(())
}

#[test]
fn ssh_lets_in_members_with_a_key_and_nobody_else() -> Outcome {
    let world = World::new()?;
    let host = Host::boot(Disk::of_image(&image("base")?)?, world.place(2)?)?;
    let keys = tempfile::tempdir()?;
    let key = keys.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    assert!(made.success());
    let public = fs::read_to_string(key.with_extension("pub"))?;
    for (user, groups) in [("member", "ssh-users"), ("other", "games")] {
        host.output(&["useradd", "--create-home", "--shell", "/bin/bash", "--groups", groups, user])?;
        let add = format!(
            "install -d -m 700 -o {user} ~{user}/.ssh; echo '{}' > ~{user}/.ssh/authorized_keys",
            public.trim()
        );
        host.output(&["bash", "-ec", &add])?;
    }
    host.output(&[
        "bash",
        "-ec",
        &format!("install -d -m 700 /root/.ssh; echo '{}' > /root/.ssh/authorized_keys", public.trim()),
    ])?;
    let host_key = host.output(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])?;
    let known = keys.path().join("known_hosts");
    fs::write(&known, format!("{} {host_key}", World::address(2)))?;
    let login = |user: &str, options: &[&str]| {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .args(options)
            .arg(format!("{user}@{}", World::address(2)))
            .arg("id -un");
        world.within(|| command.output())
    };
    let with_key = ["-i", &key.display().to_string()];
    let member = login("member", &with_key)?;
    assert_eq!(
        String::from_utf8_lossy(&member.stdout),
        "member\n",
        "{}",
        String::from_utf8_lossy(&member.stderr)
    );
    for (user, options) in
        [("other", &with_key[..]), ("root", &with_key), ("member", &["-o", "PubkeyAuthentication=no"])]
    {
        let refused = login(user, options)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("Permission denied (publickey)"), "{user}: {said}");
    }
    Ok(())
}
