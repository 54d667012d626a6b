//! The agent as a user-data script that cloud-init runs, alone and together with the agent's own unit.

use std::fs;

use testbed::binaries;
use testbed::cloud::Cloud;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;

use crate::Outcome;
use crate::boot::status_of;

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
fn cloud() -> std::io::Result<Cloud> {
    let cloud = Cloud::prod()?;
    cloud.metadata.change(|instance| instance.tokens_required = false);
    Ok(cloud)
}

/// How often the boot was run, once cloud-init is done, and the journal.
fn runs(host: &Host) -> Result<(usize, String), Box<dyn std::error::Error>> {
    let ended = host.run(&["cloud-init", "status", "--wait", "--long"])?;
    if !ended.status.success() {
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
    let cloud = cloud()?;
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
    let cloud = cloud()?;
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
