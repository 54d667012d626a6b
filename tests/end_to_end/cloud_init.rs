//! The agent as a user-data script that cloud-init runs, alone and together with the agent's own unit.

use std::fs;

use testbed::app;
use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;

use crate::Outcome;
use crate::boot::status_of;
use crate::boot_watch::of_app;

/// An image that has cloud-init, told where it is: a container has no firmware to tell it.
const IMAGE: &str = "
extends: web
recipes: [ cloud-init ]
boot: { recipes: [ web-site ] }
";
const RECIPE: &str = r#"
resources:
  - package: { name: cloud-init }
  - file: { path: /etc/cloud/ds-identify.cfg, content: "policy: enabled\n" }
  - file:
      path: /etc/cloud/cloud.cfg.d/99-ec2.cfg
      content: |
        datasource_list: [ Ec2 ]
        datasource: { Ec2: { strict_id: false } }
        network: { config: disabled }
        # No interface comes later: it would tell udev, which no container has.
        updates: { network: { when: [ boot-new-instance ] } }
        locale: false
"#;

fn image() -> Result<(Workspace, Disk), Box<dyn std::error::Error>> {
    let workspace = Workspace::new()?
        .with("images/web-cloud.yaml", IMAGE)?
        .with("recipes/cloud-init/recipe.yaml", RECIPE)?;
    let mut whole = workspace;
    for name in ["base", "web"] {
        let text = fs::read_to_string(binaries::project().join(format!("images/{name}.yaml")))?;
        whole = whole.with(&format!("images/{name}.yaml"), &text)?;
    }
    let folder = whole.bake("web-cloud")?;
    Ok((whole, Disk::of_image(&folder)?))
}

/// cloud-init asks for a token only where firmware says that it is on EC2, which no container can.
fn without_tokens(cloud: Cloud) -> Cloud {
    cloud.metadata.change(|instance| instance.tokens_required = false);
    cloud
}

/// How often the boot was run, once cloud-init is done, and the journal.
fn runs(host: &Host) -> Result<(usize, String), Box<dyn std::error::Error>> {
    let ended = host.run(&["cloud-init", "status", "--wait", "--long"])?;
    // 2 is done as well, with warnings: of keys for an SSH server that is not there (cloud-init status(1)).
    if !matches!(ended.status.code(), Some(0 | 2)) {
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        return Err(format!(
            "{said}\n{}",
            host.output(&[
                "sh",
                "-c",
                "grep -v DEBUG /var/log/cloud-init.log; cat /var/log/cloud-init-output.log"
            ])?
        )
        .into());
    }
    // What cloud-init's scripts print is in the journal too.
    let journal = host.output(&["journalctl", "--no-pager", "--all"])?;
    let runs = journal.lines().filter(|line| line.contains("paths put in place together")).count();
    Ok((runs, journal))
}

#[test]
fn cloud_init_and_the_unit_together_are_one_run() -> Outcome {
    let (_workspace, disk) = image()?;
    let cloud = without_tokens(Cloud::prod()?);
    let host = cloud.boot(disk)?;
    let (runs, log) = runs(&host)?;
    assert_eq!(runs, 1, "{log}");
    let script = host.output(&["sh", "-c", "head -n1 /var/lib/cloud/instance/scripts/part-001"])?;
    assert_eq!(script.trim(), "#!/usr/local/bin/bootstrap-agent run", "cloud-init has the script");
    let second = ["this boot has had its run already", "another process runs the boot"];
    assert!(second.iter().any(|line| log.contains(line)), "the other start found that out: {log}");
    assert_eq!(status_of(&host)?["state"], "done");
    assert_eq!(cloud.get("/")?.status, 200);
    Ok(())
}

#[test]
fn cloud_init_alone_brings_the_host_up() -> Outcome {
    let (_workspace, disk) = image()?;
    // The unit is not enabled, and nginx does not wait for it.
    fs::remove_file(disk.tree().join("etc/systemd/system/multi-user.target.wants/bootstrap-agent.service"))?;
    fs::remove_dir_all(disk.tree().join("etc/systemd/system/nginx.service.d"))?;
    let cloud = without_tokens(Cloud::prod()?);
    let host = cloud.boot(disk)?;
    let (runs, log) = runs(&host)?;
    assert_eq!(runs, 1, "{log}");
    assert_eq!(status_of(&host)?["state"], "done", "{log}");
    assert!(!host.is_active("bootstrap-agent.service")?, "it was cloud-init");
    // nginx was running before, and takes a moment to be reloaded.
    let listens = "until { printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q prod <&3; } 3<>/dev/tcp/10.200.0.2/80; do sleep 0.1; done";
    host.output(&["timeout", "10", "bash", "-c", listens])?;
    let page = cloud.get("/")?;
    assert!(page.status == 200 && page.body.contains("Hello from prod"), "{page:?}");
    Ok(())
}

/// Together with the unit, and alone, on the next Debian.
#[test]
fn on_debian_13_as_well() -> Outcome {
    let image = "source: { local: { suite: trixie } }\nrecipes: [ cloud-init ]\nboot: { recipes: [ app ] }\n";
    let workspace = Workspace::new()?
        .with("images/app.yaml", image)?
        .with("recipes/cloud-init/recipe.yaml", RECIPE)?
        .with("recipes/app/recipe.yaml", app::RECIPE)?;
    let image = workspace.bake("app")?;
    for has_unit in [true, false] {
        let disk = Disk::of_image(&image)?;
        let units = disk.tree().join("etc/systemd/system");
        if !has_unit {
            fs::remove_file(units.join("multi-user.target.wants/bootstrap-agent.service"))?;
            for service in ["app", "other"] {
                fs::remove_dir_all(units.join(format!("{service}.service.d")))?;
            }
        }
        let cloud = without_tokens(of_app("")?);
        let host = cloud.boot(disk)?;
        let (runs, log) = runs(&host)?;
        assert_eq!(runs, 1, "{log}");
        assert_eq!(status_of(&host)?["state"], "done", "{log}");
        assert_eq!(host.is_active("bootstrap-agent.service")?, has_unit, "{log}");
        assert_eq!(host.output(&["cat", "/etc/app/app.conf", "/run/app/state"])?, "limit=10\nhealthy\n");
        let release = host.output(&["sh", "-c", ". /etc/os-release; echo $VERSION_ID"])?;
        assert_eq!(release, "13\n");
    }
    Ok(())
}
