//! An image, from its definition to the archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use baker::bake::Step;
use baker::manifest::Manifest;
use baker::report::Event;
use serde_json::json;
use testbed::host::Disk;
use testbed::workspace::{Workspace, image};

use crate::{NOTHING, Outcome};

const SOURCE: &str = "source: { local: { suite: bookworm } }\n";

#[test]
fn the_manifest_says_what_the_image_is_and_what_it_was_made_of() -> Outcome {
    let folder = image("web")?;
    let manifest = Manifest::read(&folder)?.ok_or("there is no manifest")?;
    assert_eq!(manifest.name, "web");
    let packed = manifest.archive.ok_or("it has no archive")?;
    let archive = folder.join(&packed.file);
    let sum = Command::new("sha256sum").arg(&archive).output()?;
    let sum = String::from_utf8(sum.stdout)?;
    let digest = format!("sha256:{}", sum.split_whitespace().next().unwrap_or_default());
    assert_eq!(manifest.digest, Some(digest));
    assert_eq!(packed.bytes, fs::metadata(&archive)?.len());
    assert!(packed.unpacked_bytes > packed.bytes);
    let base = Manifest::read(&image("base")?)?.ok_or("there is no manifest")?;
    assert_eq!(serde_json::to_value(&manifest.source)?["image"]["digest"], json!(base.digest));
    // The agent's own recipe comes first, since others look at all that there is.
    assert_eq!(manifest.recipes[0]["recipe"], "bootstrap-agent");
    assert_eq!(manifest.recipes[1]["recipe"], "firewall");
    assert_eq!(manifest.recipes[1]["inputs"]["allow"][1]["port"], 80);
    assert_eq!(manifest.boot[0]["recipe"], "web-site");
    assert_eq!(manifest.checks.len(), 2);
    let nginx = manifest.packages.iter().find(|package| package.name == "nginx-light");
    assert!(nginx.is_some_and(|package| package.version.starts_with("1.22")), "{nginx:?}");
    let steps: Vec<Step> = manifest.timings.iter().map(|timing| timing.step).collect();
    // It is written before it is published, and a container boots no image.
    assert_eq!(steps, Step::ALL[..Step::ALL.len() - 2]);
    Ok(())
}

#[test]
fn an_image_has_nothing_of_the_builder_and_nothing_of_this_machine() -> Outcome {
    let disk = Disk::of_image(&image("web")?)?;
    let there = |path: &str| disk.tree().join(path).symlink_metadata().is_ok();
    assert_eq!(disk.read("/etc/machine-id")?, "");
    assert_eq!(disk.read("/etc/hostname")?, "localhost\n");
    for path in
        ["etc/resolv.conf", "etc/ssh/ssh_host_ed25519_key", "root/.bash_history", "usr/sbin/policy-rc.d"]
    {
        assert!(!there(path), "{path}");
    }
    for path in ["run", "tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt/archives", "var/log/journal"] {
        let entries = fs::read_dir(disk.tree().join(path)).into_iter().flatten().flatten();
        // A package brings /run/lock.
        let names: Vec<_> = entries.map(|entry| entry.file_name()).filter(|name| name != "lock").collect();
        assert!(names.is_empty(), "{path}: {names:?}");
    }
    assert!(there("usr/local/bin/bootstrap-agent") && there("usr/lib/bootstrap-agent/boot/bundle.json"));
    let names = no_trace_of_this_machine(&disk)?;
    println!("looked for {names} names of this machine");
    Ok(())
}

#[test]
fn every_file_of_an_image_is_somebodys_or_listed() -> Outcome {
    let folder = image("web")?;
    let output = folder.parent().ok_or("no folder")?.display().to_string();
    let workspace = Workspace::new()?;
    let shown = workspace.baker(&["show", "web", "--output", &output])?;
    assert!(
        shown.code == Some(0) && shown.stdout.contains("recipes: bootstrap-agent, firewall, nginx"),
        "{shown:?}"
    );
    let files = workspace.baker(&["show", "web", "--files", "--output", &output])?;
    let lines: Vec<(&str, &str)> = files.stdout.lines().filter_map(|line| line.split_once('\t')).collect();
    for (path, owner) in [
        ("/usr/sbin/nginx", "package nginx"),
        ("/usr/local/bin/bootstrap-agent", "baker: the agent"),
        ("/etc/nginx/nginx.conf", "nginx: template /etc/nginx/nginx.conf"),
        // Of the image that it extends.
        ("/etc/ssh/sshd_config", "sshd: template /etc/ssh/sshd_config"),
        ("/etc/ld.so.cache", "nobody"),
    ] {
        assert!(
            lines.contains(&(path, owner)),
            "{path}: {:?}",
            lines.iter().find(|(other, _)| *other == path)
        );
    }
    let disk = Disk::of_image(&folder)?;
    for (path, _) in &lines {
        assert!(disk.tree().join(&path[1..]).symlink_metadata().is_ok(), "{path}");
    }
    let nobody = workspace.baker(&["show", "web", "--files", "--nobody", "--output", &output])?;
    println!("{}", nobody.stdout);
    let count = nobody.stdout.lines().count() - 1;
    // What ran leaves caches, databases of accounts, and links.
    assert!(count > 10 && count * 20 < lines.len(), "{count} of {}", lines.len());
    let missing = workspace.baker(&["show", "none", "--files"])?;
    assert!(missing.code == Some(1) && missing.stderr.contains("none.ec2.files.json"), "{}", missing.stderr);
    Ok(())
}

/// Its package sources are the distribution's own; no source, proxy or name server of this machine is in it.
/// Returns for how many names it looked.
fn no_trace_of_this_machine(disk: &Disk) -> Result<usize, Box<dyn std::error::Error>> {
    let mut sources = String::new();
    for path in ["etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf", "etc/apt/apt.conf.d"] {
        let path = disk.tree().join(path);
        let files = if path.is_dir() {
            fs::read_dir(&path)?.flatten().map(|entry| entry.path()).collect()
        } else {
            vec![path]
        };
        for file in files.into_iter().filter(|file| file.is_file()) {
            sources += &fs::read_to_string(&file)?;
        }
    }
    let hosts: BTreeSet<&str> = hosts(&sources);
    assert!(!hosts.is_empty() && hosts.iter().all(|host| host.ends_with(".debian.org")), "{hosts:?}");
    assert!(!sources.to_lowercase().contains("proxy"), "{sources}");

    // What this machine uses, wherever it says so.
    let mut ours = String::new();
    for (program, arguments) in [("apt-config", ["dump"]), ("env", ["-0"])] {
        ours += &String::from_utf8_lossy(&Command::new(program).args(arguments).output()?.stdout)
            .replace('\0', "\n");
    }
    let listed =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    for file in listed
        .chain([Path::new("/etc/apt/sources.list").into(), Path::new("/root/.config/pip/pip.conf").into()])
    {
        ours += &fs::read_to_string(file).unwrap_or_default();
    }
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = resolver.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::trim);
    let private: BTreeSet<&str> = self::hosts(&ours)
        .into_iter()
        .chain(servers)
        .filter(|host| !host.ends_with(".debian.org") && !host.starts_with("127.") && host.len() > 3)
        .collect();
    for host in &private {
        let found = Command::new("grep")
            .args(["-rIlF", "--", host])
            .arg(disk.tree().join("etc"))
            .arg(disk.tree().join("var"))
            .output()?;
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{host}");
    }
    Ok(private.len())
}

/// The hosts of all URLs in a text.
fn hosts(text: &str) -> BTreeSet<&str> {
    let urls = text.split("://").skip(1);
    urls.filter_map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || "-._".contains(c))).next())
        .filter(|host| host.contains('.'))
        .collect()
}

#[test]
fn what_was_baked_of_the_same_things_is_not_baked_again_unless_forced() -> Outcome {
    let workspace = small("file: { path: /etc/small, content: one }")?;
    let folder = workspace.bake("small")?;
    let first = Manifest::read(&folder)?.ok_or("there is no manifest")?;
    let again = workspace.baker(&["build", "images/small.yaml"])?;
    assert!(again.stderr.contains("small: up to date in"), "{}", again.stderr);
    assert_eq!(Manifest::read(&folder)?.ok_or("there is no manifest")?.run, first.run);
    let forced = workspace.baker(&["build", "images/small.yaml", "--force"])?;
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    let second = Manifest::read(&folder)?.ok_or("there is no manifest")?;
    assert_ne!(second.run, first.run);
    assert_eq!(second.input_digest, first.input_digest);
    let changed = workspace
        .with("recipes/small/recipe.yaml", "resources: [ { file: { path: /etc/small, content: two } } ]\n")?;
    let folder = changed.bake("small")?;
    assert_ne!(Manifest::read(&folder)?.ok_or("there is no manifest")?.input_digest, first.input_digest);
    assert_eq!(Disk::of_image(&folder)?.read("/etc/small")?, "two");
    Ok(())
}

fn small(resource: &str) -> std::io::Result<Workspace> {
    Workspace::new()?
        .with("images/small.yaml", &format!("{SOURCE}recipes: [ small ]\n"))?
        .with("recipes/small/recipe.yaml", &format!("resources:\n  - {resource}\n"))
}

/// Bakes something that must fail, and returns what baker said.
fn fails(workspace: &Workspace, step: Step) -> Result<String, Box<dyn std::error::Error>> {
    let mut bake = workspace.start("small")?;
    let mut run = String::new();
    let failed = bake.until(|event| {
        if let Event::BakeStarted { run: name, .. } = event {
            run.clone_from(name);
        }
        matches!(event, Event::BakeFailed { .. } | Event::BakeFinished { .. })
    })?;
    let (status, _) = bake.wait()?;
    assert_eq!(status.code(), Some(1), "{failed:?}");
    assert!(!workspace.path("output/small").exists(), "there is no image");
    assert_eq!(workspace.left(&[run])?, NOTHING);
    let Some(Event::BakeFailed { step: at_step, error, at, help, .. }) = failed else {
        return Err(format!("it did not fail: {failed:?}").into());
    };
    assert_eq!(at_step, Some(step), "{error}");
    Ok(format!("{}: {error}; {}", at.unwrap_or_default(), help.unwrap_or_default()))
}

#[test]
fn a_recipe_that_cannot_be_applied_names_its_line_and_the_reason() -> Outcome {
    let said = fails(
        &small("command: { argv: sh -c 'echo no such luck >&2; exit 7', creates: /etc/small }")?,
        Step::Apply,
    )?;
    for text in ["recipes/small/recipe.yaml:2:5", "ended with 7", "no such luck"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_valid_is_never_put_in_place() -> Outcome {
    let said = fails(
        &small("file: { path: /etc/passwd2, content: x, validate: 'grep -q root {file}' }")?,
        Step::Apply,
    )?;
    assert!(
        said.contains("recipe.yaml:2:5") && said.contains("the new `/etc/passwd2` is not valid"),
        "{said}"
    );
    Ok(())
}

#[test]
fn what_is_never_done_does_not_become_an_image() -> Outcome {
    let said = fails(&small("command: { argv: touch /etc/small }")?, Step::Apply)?;
    assert!(said.contains("did not settle") && said.contains("`creates`, `unless` or `onlyif`"), "{said}");
    let said = fails(
        &small("file: { path: /etc/small, content: x }")?.with(
            "images/small.yaml",
            &format!("{SOURCE}recipes: [ small ]\nchecks: [ {{ tcp: {{ address: '127.0.0.1:9', within: 1s }} }} ]\n"),
        )?,
        Step::Check,
    )?;
    assert!(said.contains("127.0.0.1:9"), "{said}");
    Ok(())
}

#[test]
fn a_key_in_the_image_stops_the_bake_and_is_not_shown() -> Outcome {
    let key = "aGVsbG8gdGhpcyBpcyBub3QgYSBrZXkgYnV0IGl0IGxvb2tzIGxpa2Ugb25lCg==";
    let content =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\\n{key}\\n-----END OPENSSH PRIVATE KEY-----\\n");
    let said = fails(&small(&format!("file: {{ path: /srv/deploy, content: \"{content}\" }}"))?, Step::Seal)?;
    assert!(
        said.contains("a private key in srv/deploy") || said.contains("a private key in /srv/deploy"),
        "{said}"
    );
    assert!(!said.contains(key), "{said}");
    Ok(())
}

#[test]
fn plan_shows_what_a_bake_would_change_and_leaves_nothing() -> Outcome {
    let workspace = small("file: { path: /etc/motd, content: \"hello\\n\" }")?;
    let plan = workspace.baker(&["plan", "images/small.yaml", "--on", "local", "--detailed-exitcode"])?;
    assert_eq!(plan.code, Some(2), "{}", plan.stderr);
    assert!(
        plan.stdout.contains("/etc/motd") && plan.stdout.contains("Plan: 1 to change, 0 unchanged."),
        "{}",
        plan.stdout
    );
    assert_eq!(workspace.left(&[])?, NOTHING);
    let json = workspace.baker(&["plan", "images/small.yaml", "--format", "json"])?;
    assert_eq!(json.code, Some(0), "{}", json.stderr);
    let plan: recipes::plan::Plan = serde_json::from_str(&json.stdout)?;
    assert_eq!(plan.items.len(), 1);
    Ok(())
}

/// What was planned is what is changed: no more, no less.
#[test]
fn a_bake_changes_what_its_plan_said() -> Outcome {
    let workspace =
        Workspace::new()?.with("images/small.yaml", &format!("{SOURCE}recipes: [ logrotate ]\n"))?;
    let json = workspace.baker(&["plan", "images/small.yaml", "--format", "json"])?;
    assert_eq!(json.code, Some(0), "{}", json.stderr);
    let plan: recipes::plan::Plan = serde_json::from_str(&json.stdout)?;
    let planned: BTreeSet<String> =
        plan.items.into_iter().filter(|item| !item.changes.is_empty()).map(|item| item.resource).collect();
    let mut bake = workspace.start("small")?;
    let mut changed = BTreeSet::new();
    bake.until(|event| {
        if let Event::Agent { agent: recipes::event::Event::ResourceFinished { resource, outcome } } = event
            && *outcome == recipes::event::Outcome::Changed
        {
            changed.insert(resource.clone());
        }
        matches!(event, Event::BakeFinished { .. } | Event::BakeFailed { .. })
    })?;
    assert!(bake.wait()?.0.success());
    assert_eq!(planned, changed);
    assert!(!changed.is_empty());
    Ok(())
}
