//! One recipe with every kind of resource in it, baked, and seen to be true with other tools than ours.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;

use recipes::resource::KINDS;
use serde_json::Value as Json;
use testbed::apt;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;
use testbed::world::World;

use self::cases::{CASES, Case, HANDLERS};
use self::fetching::FETCHING;
use crate::boot::AGENT;
use crate::{NOTHING, Outcome};

mod cases;
mod fetching;

/// What the recipe's own repository has.
const PACKAGES: &[apt::Package<'_>] = &[
    ("probe-pinned", "1.0"),
    ("probe-pinned", "2.0"),
    ("probe-upgraded", "1.0"),
    ("probe-upgraded", "2.0"),
    ("probe-purged", "1.0"),
];

/// What a shell must find on a host that was booted from the image, had the recipe applied, and was booted again.
const ON_HOST: &[&str] = &[
    // No unit was left out because it waits for itself.
    "test -z \"$(systemctl --failed --quiet --plain)\"; systemctl is-active systemd-tmpfiles-setup systemd-journal-flush",
    "test $(uname -n) = probe-host",
    "nft list table inet filter | grep 'ip saddr @office_v4 tcp dport 22 limit rate 60/minute.* accept comment \"probe\"'",
    "ssh-keygen -lf /home/probe/.ssh/authorized_keys | grep -q '^256 SHA256:.* ci (ED25519)$'",
    "test \"$(stat -c '%U %G %a' /home/probe/.ssh /home/probe/.ssh/authorized_keys | xargs)\" = 'probe probe 700 probe probe 600'",
    "test \"$(findmnt --noheadings --output SIZE /srv/scratch | xargs)\" = 1M",
    "test \"$(stat -c '%U %G %a' /run/probe)\" = 'probe probers 750'; test \"$(readlink /run/probe/link)\" = /srv/probe/file",
    "test \"$(cat /run/probe/file)\" = 'text with spaces'",
    "systemctl is-active probe cron; ! systemctl is-active apt-daily.timer",
    "test \"$(cat /tmp/by-cron)\" = \"$(date +%Y) hello\"",
    "test $(date +%z) = +0545; test \"$(su - probe -c 'echo $LC_TIME; echo $PROBE' | xargs)\" = 'en_GB.UTF-8 block'",
    "journalctl --output cat MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6 | grep '^System Journal' | tail -n1 | grep 'max 30.*M'",
];

#[test]
fn every_kind_has_a_case() {
    let kinds: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(kinds, cases().map(|case| case.kind).collect());
    for Case { kind, resources, checks } in cases() {
        assert!(
            resources.contains(&format!("\n- {kind}: ")) || resources.contains(&format!("\n- {kind}:\n")),
            "{kind}"
        );
        assert!(!checks.is_empty() || ["assert", "reboot"].contains(kind), "{kind}");
    }
}

fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(FETCHING)
}

fn recipe() -> String {
    let resources: String = cases().map(|case| case.resources).collect();
    format!("inputs: {{ repository: {{ type: list }} }}\nresources:{resources}{HANDLERS}")
}

/// The recipe is in the image twice: baked, and to be applied at boot.
fn workspace(suite: &str) -> io::Result<Workspace> {
    let workspace = Workspace::new()?
        .with("recipes/all-kinds/recipe.yaml", &recipe())?
        .with("recipes/all-kinds/templates/probe.tera", "{{ facts.os.id }} {{ facts.os.codename }}\n")?;
    let files = apt::repository(&workspace.path("recipes/all-kinds/files"), PACKAGES)?;
    let recipes = format!("[ all-kinds: {{ repository: {} }} ]", serde_json::json!(files));
    let checks = cases().flat_map(|case| case.checks).map(|check| {
        let argv = serde_json::json!(["sh", "-ec", check]);
        format!("  - command: {{ argv: {argv}, within: 10s }}\n")
    });
    let checks: String = checks.collect();
    workspace.with(
        "images/kinds.yaml",
        &format!(
            "source: {{ local: {{ suite: {suite} }} }}\nrecipes: {recipes}\nboot: {{ recipes: {recipes} }}\nchecks:\n{checks}"
        ),
    )
}

/// A bake proves by itself that a second plan is empty.
fn every_kind_converges_and_other_tools_see_it(suite: &str) -> Outcome {
    let workspace = workspace(suite)?;
    let image = workspace.bake("kinds")?;
    let world = World::new()?;
    let disk = Disk::of_image(&image)?;
    // It would wait for metadata, and there is none in this world: here the test applies the recipe.
    let unit = disk.tree().join("etc/systemd/system/bootstrap-agent.service");
    fs::write(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")?;
    let host = Host::boot(disk, world.place(2)?)?;
    // All else was in the image, and the host has made of it what it shall be.
    assert_eq!(
        applied(&host)?,
        ["all-kinds: authorized_key probe: ssh-ed25519 .../QgTHik0P0pV", "all-kinds: hostname probe-host"]
    );
    assert_eq!(applied(&host)?, NOTHING);
    let host = Host::boot(host.power_off()?, world.place(3)?)?;
    for check in ON_HOST {
        host.output(&["sh", "-ec", check])?;
    }
    assert_eq!(applied(&host)?, NOTHING);
    Ok(())
}

/// What applying the recipe to the host changes.
fn applied(host: &Host) -> Result<Vec<String>, Box<dyn Error>> {
    let said = host.output(&[AGENT, "apply", "--format", "json", "/usr/lib/bootstrap-agent/boot"])?;
    let events = said.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let finished: Vec<Json> = events.filter(|event| event["event"] == "resource_finished").collect();
    assert!(finished.len() > KINDS.len(), "{said}");
    let changed = finished.iter().filter(|event| event["outcome"] == "changed");
    Ok(changed.map(|event| event["resource"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn every_kind_converges_on_bookworm_and_other_tools_see_it() -> Outcome {
    every_kind_converges_and_other_tools_see_it("bookworm")
}

#[test]
fn every_kind_converges_on_trixie_and_other_tools_see_it() -> Outcome {
    every_kind_converges_and_other_tools_see_it("trixie")
}

/// Nothing but its refusal can be seen of an `assert`.
#[test]
fn nothing_is_applied_if_what_is_asserted_does_not_hold() -> Outcome {
    let workspace = Workspace::new()?
        .with("images/kinds.yaml", "source: { local: { suite: bookworm } }\nrecipes: [ refused ]\n")?
        .with(
            "recipes/refused/recipe.yaml",
            "resources:
  - file: { path: /etc/probe, content: x }
  - assert: { that: facts.mode == \"live\", message: only for hosts }
",
        )?;
    let build = workspace.baker(&["build", "images/kinds.yaml"])?;
    assert_ne!(build.code, Some(0), "{}", build.stderr);
    assert!(build.stderr.contains("only for hosts"), "{}", build.stderr);
    assert!(build.stderr.contains("nothing was changed"), "{}", build.stderr);
    Ok(())
}
