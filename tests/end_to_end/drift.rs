//! What has changed on a host since its image was baked: all that did, and nothing that did not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value as Json;
use testbed::workspace::Workspace;
use testbed::world::World;

use crate::Outcome;
use crate::site::{BASE, Site};

const SITE: &str = "extends: base\nrecipes: [ site ]\n";
const RECIPE: &str = "resources:
  - package: { name: cron }
  - package: { name: tree }
  - service: { name: cron, enabled: true, state: running }
  - file: { path: /etc/site, content: \"it is here\\n\" }
  - file: { path: /etc/private, mode: \"0600\", content: \"abc\\n\" }
  - file: { path: /etc/gone, content: \"still here\\n\" }
  - symlink: { path: /etc/link, target: /etc/site }
";

fn names(drift: &Json, of: &str, field: &str) -> Vec<String> {
    let all = drift[of].as_array().into_iter().flatten();
    all.map(|one| one[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_changed_since_the_bake_is_told_and_nothing_right_after_it() -> Outcome {
    let workspace = Workspace::new()?
        .with("images/base.yaml", BASE)?
        .with("images/site.yaml", SITE)?
        .with("recipes/site/recipe.yaml", RECIPE)?;
    let site = Site::of(workspace, "site")?;
    let record = site.workspace.path("output/site/record.tar");
    assert_eq!(fs::metadata(&record)?.permissions().mode() & 0o777, 0o600);
    // It is compared with what was baked, whatever has become of the definition.
    fs::remove_dir_all(site.workspace.path("recipes"))?;
    fs::remove_dir_all(site.workspace.path("images"))?;

    let target = format!("--on=ssh://deploy@{}", World::address(2));
    let drift = |more: &[&str]| {
        site.baker(&[&["drift", &target, "--image=site", "--detailed-exitcode"], more].concat())
    };
    let fresh = drift(&[])?;
    assert_eq!(fresh.code, Some(0), "{}{}", fresh.stdout, fresh.stderr);
    assert_eq!(fresh.stdout, "Drift: 0 packages, 0 files; 0 of 7 resources are to be changed back.\n");

    let changes =
        "echo edited >>/etc/site; chmod 644 /etc/private; rm /etc/gone; ln -sfn /etc/hosts /etc/link
        dpkg --remove tree; systemctl disable --now cron";
    site.host.output(&["sh", "-ec", changes])?;
    let before = site.everything()?;
    let told = drift(&["--format=json"])?;
    assert_eq!(told.code, Some(2), "{}{}", told.stdout, told.stderr);
    let json: Json = serde_json::from_str(&told.stdout)?;
    assert_eq!(names(&json, "packages", "name"), ["tree"]);
    assert_eq!(names(&json, "files", "path"), ["/etc/gone", "/etc/link", "/etc/private", "/etc/site"]);
    assert_eq!(json["files"][0]["resource"], "site: file /etc/gone");
    assert_eq!(json["files"][3]["differs"], serde_json::json!(["content"]));
    let changed =
        json["plan"]["items"].as_array().into_iter().flatten().filter(|item| item["changes"][0].is_object());
    let changed: Vec<_> = changed.filter_map(|item| item["resource"].as_str()).collect();
    assert_eq!(
        changed,
        [
            "site: package tree",
            "site: service cron.service",
            "site: file /etc/site",
            "site: file /etc/private",
            "site: file /etc/gone",
            "site: symlink /etc/link"
        ]
    );
    let after = site.everything()?;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty(), "the host was looked at, and no more: {changed:#?}");

    let told = drift(&[])?;
    for line in [
        "- tree ",
        "~ /etc/site: content (site: file /etc/site)",
        "~ /etc/private: root:root 0600 -> root:root 0644 (site: file /etc/private)",
        "- /etc/gone (site: file /etc/gone)",
        "~ /etc/link: points to /etc/site -> /etc/hosts (site: symlink /etc/link)",
        "-edited",
        "enable cron.service",
        "start cron.service",
        "Drift: 1 package, 4 files; 6 of 7 resources are to be changed back.",
    ] {
        assert!(told.stdout.contains(line), "`{line}` is not in:\n{}", told.stdout);
    }
    let told = drift(&["--format=markdown", "--leave-nothing"])?;
    assert!(
        told.stdout.starts_with(&format!("### Drift of `{}`\n\nDrift: 1 package, 4 files;", &target[5..])),
        "{}",
        told.stdout
    );
    assert_eq!(site.agents()?, "");

    // A digest of three characters would be found by trying.
    let kept = String::from_utf8_lossy(&fs::read(&record)?).into_owned();
    assert!(kept.contains("/etc/private"), "{kept}");
    assert!(!kept.contains("edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb"), "{kept}");
    Ok(())
}

#[test]
fn a_host_whose_image_is_not_known_is_an_error() -> Outcome {
    let workspace = Workspace::new()?;
    for (arguments, why) in [
        (&["drift", "--on=root:/", "--image=web"][..], "there is no record of `web`"),
        (&["drift", "--on=root:/", "--record=web.tar"], "failed to read `web.tar`"),
    ] {
        let ended = workspace.baker(arguments)?;
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    let neither = workspace.baker(&["drift", "--on=root:/"])?;
    assert_eq!(neither.code, Some(64), "{}", neither.stderr);
    Ok(())
}
