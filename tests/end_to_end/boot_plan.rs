//! What a run would change on a host is seen before it does, without changing anything and without a secret in it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;

use serde_json::json;
use testbed::cloud::{Cloud, PASSWORD, SECRET};
use testbed::host::{Disk, Host};
use testbed::workspace::image;

use crate::Outcome;
use crate::boot::{AGENT, status_of};
use crate::site::{EVERYTHING, everything_of};

const FILE: &str = "/run/bootstrap-agent/files/etc/web-site/database.env";
const NEW_PASSWORD: &str = "battery-staple-correct-horse";

/// A host whose agent does not run by itself.
fn host(cloud: &Cloud) -> Result<Host, Box<dyn Error>> {
    let disk = Disk::of_image(&image("web")?)?;
    let folder = disk.tree().join("etc/systemd/system/bootstrap-agent.service.d");
    fs::create_dir(&folder)?;
    fs::write(folder.join("not.conf"), "[Unit]\nConditionPathExists=/nowhere\n")?;
    Ok(cloud.boot(disk)?)
}

/// The exit code, the plan, and what was said besides. No secret is in them.
fn plan(host: &Host, more: &[&str]) -> Result<(Option<i32>, String, String), Box<dyn Error>> {
    let before = everything(host)?;
    let output = host.run(&[&[AGENT, "plan", "--detailed-exitcode"], more].concat())?;
    let (plan, said) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    for secret in [PASSWORD, NEW_PASSWORD] {
        assert!(!plan.contains(secret) && !said.contains(secret), "{plan}{said}");
    }
    assert_eq!(before, everything(host)?, "a plan changes nothing");
    Ok((output.status.code(), plan, said))
}

/// What is on the host, and what of it is on tmpfs.
fn everything(host: &Host) -> std::io::Result<BTreeSet<String>> {
    let on_tmpfs = "find /run/bootstrap-agent -printf '%p %l %u %m %t\\n' 2>/dev/null || true";
    let seen = [host.output(&["sh", "-c", EVERYTHING])?, host.output(&["sh", "-c", on_tmpfs])?];
    Ok(everything_of(&seen.concat()))
}

/// The one line of a plan that is about the secret file.
fn line(plan: &str) -> Result<&str, String> {
    plan.lines().find(|line| line.contains(FILE) && !line.contains("link")).ok_or_else(|| plan.to_owned())
}

#[test]
fn a_host_is_planned_before_its_run_and_after_a_value_has_changed() -> Outcome {
    let cloud = Cloud::prod()?;
    let host = host(&cloud)?;
    let (code, first, said) = plan(&host, &[])?;
    assert_eq!(code, Some(2), "{first}{said}");
    let created = line(&first)?;
    assert!(
        created.contains("(root:www-data 0440, secret, ") && created.contains(", fingerprint "),
        "{created}"
    );
    for text in ["+ create /srv/www/index.html", "+<h1>Hello from prod</h1>", "> reload nginx.service"] {
        assert!(first.contains(text), "{text}: {first}");
    }
    assert!(said.contains("fetch: "), "how it went is told aside: {said}");
    assert!(!host.run(&[AGENT, "status"])?.status.success(), "and the host has had no run");

    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    let (code, nothing, said) = plan(&host, &[])?;
    assert_eq!(code, Some(0), "{nothing}{said}");
    assert!(nothing.starts_with("Plan: 0 to change, "), "{nothing}");

    let change = |password: &str| {
        let value = json!({ "username": "web", "password": password });
        cloud.aws.change_secret(&cloud.world, SECRET, &value)
    };
    let prints = |plan: &str| -> Result<(String, String), String> {
        let (_, prints) = line(plan)?.split_once("(secret), fingerprint ").ok_or_else(|| plan.to_owned())?;
        let (old, new) = prints.split_once(" -> ").ok_or_else(|| plan.to_owned())?;
        Ok((old.to_owned(), new.to_owned()))
    };
    change(NEW_PASSWORD)?;
    let (code, changed, _) = plan(&host, &[])?;
    assert_eq!(code, Some(2), "{changed}");
    let resources = changed.lines().filter(|line| line.starts_with("web-site: ")).count();
    assert!(changed.contains("Plan: 1 to change, ") && resources == 1, "{changed}");
    let (old, new) = prints(&changed)?;
    assert_ne!(old, new);
    assert_eq!(plan(&host, &[])?.1, changed, "the same is seen again");
    let (code, of_tool, _) = plan(&host, &["--format", "json"])?;
    assert!(code == Some(2) && of_tool.contains(&format!("fingerprint {old} -> {new}")), "{of_tool}");

    host.output(&[AGENT, "run", "--force"])?;
    assert_eq!(plan(&host, &[])?.0, Some(0));
    change(PASSWORD)?;
    assert_eq!(prints(&plan(&host, &[])?.1)?, (new, old), "a secret that comes back is known again");

    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    let (code, plan, said) = plan(&host, &[])?;
    assert_eq!((code, plan.as_str()), (Some(1), ""));
    assert!(said.contains("error: fetch: failed to fetch the secret `acme/prod/db`"), "{said}");
    assert!(host.run(&[AGENT, "status"])?.status.success(), "the host is up as it was");
    Ok(())
}
