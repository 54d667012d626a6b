//! What recipes can ask of a host is what other programs say of it.

use std::fs;
use std::process::Command;

use serde_json::{Value as Json, json};
use testbed::binaries;
use testbed::workspace::Workspace;

use crate::Outcome;

#[test]
fn a_builder_is_what_recipes_are_checked_against_before_it_exists() -> Outcome {
    for (suite, version) in [("bookworm", "12"), ("trixie", "13")] {
        let image = format!("source: {{ local: {{ suite: {suite} }} }}\n");
        let workspace = Workspace::new()?.with("images/small.yaml", &image)?;
        let facts = workspace.baker(&["facts", "images/small.yaml", "--format", "json"])?;
        assert_eq!(facts.code, Some(0), "{}", facts.stderr);
        let expected = json!({
            "os": {
                "name": format!("Debian GNU/Linux {version} ({suite})"),
                "id": "debian",
                "family": "debian",
                "like": [],
                "version": version,
                "codename": suite,
            },
            "arch": std::env::consts::ARCH,
            "container": true,
            "systemd": true,
            "package_manager": "apt",
            "mode": "bake",
        });
        assert_eq!(serde_json::from_str::<Json>(&facts.stdout)?, expected);
        assert_eq!(workspace.left(&[])?, Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn both_programs_say_the_same_of_this_host() -> Outcome {
    let workspace = Workspace::new()?;
    let ours = workspace.baker(&["facts", "--format", "json"])?;
    assert_eq!(ours.code, Some(0), "{}", ours.stderr);
    let agent = Command::new(binaries::agent()?).args(["facts", "--format", "json"]).output()?;
    assert_eq!(ours.stdout, String::from_utf8(agent.stdout)?);
    let facts: Json = serde_json::from_str(&ours.stdout)?;
    let kernel = String::from_utf8(Command::new("uname").arg("--kernel-release").output()?.stdout)?;
    assert_eq!(facts["live"]["kernel"], kernel.trim());
    assert_eq!(facts["live"]["hostname"], fs::read_to_string("/proc/sys/kernel/hostname")?.trim());
    let human = workspace.baker(&["facts"])?;
    assert!(
        human.stdout.contains(&format!("facts.live.kernel          \"{}\"\n", kernel.trim())),
        "{}",
        human.stdout
    );
    Ok(())
}

#[test]
fn a_fact_of_one_host_is_not_baked_into_an_image() -> Outcome {
    let recipe = "resources:\n  - file: { path: /etc/small, content: \"{{ facts.live.memory }}\" }\n";
    let image = "source: { local: { suite: bookworm } }\n";
    let workspace = Workspace::new()?
        .with("recipes/small/recipe.yaml", recipe)?
        .with("images/baked.yaml", &format!("{image}recipes: [ small ]\n"))?
        .with("images/booted.yaml", &format!("{image}boot: {{ recipes: [ small ] }}\n"))?;
    let baked = workspace.baker(&["validate", "images/baked.yaml"])?;
    assert_eq!(baked.code, Some(1));
    for text in ["recipes/small/recipe.yaml:2:44", "known only on a live host", "use it in a boot recipe"] {
        assert!(baked.stderr.contains(text), "{text}: {}", baked.stderr);
    }
    assert_eq!(workspace.baker(&["validate", "images/booted.yaml"])?.code, Some(0));
    Ok(())
}
