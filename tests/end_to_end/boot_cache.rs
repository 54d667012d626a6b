//! A host that is told to keeps its last good values, for a boot without a network and for no other.

use std::fs;

use testbed::cloud::{Cloud, PASSWORD, SECRET};
use testbed::host::Disk;
use testbed::workspace::image;

use crate::Outcome;
use crate::boot::status_of;

fn cloud() -> std::io::Result<Cloud> {
    let cloud = Cloud::prod()?;
    cloud.metadata.change(|instance| {
        let user_data = instance.user_data.take().unwrap_or_default();
        instance.user_data = Some(format!("{user_data}cache: true\nfetch_within: 5s\n"));
    });
    Ok(cloud)
}

/// A host that was up once, switched off.
fn used(cloud: &Cloud) -> Result<Disk, Box<dyn std::error::Error>> {
    let host = cloud.boot(Disk::of_image(&image("web")?)?)?;
    assert_eq!(status_of(&host)?["state"], "done");
    let disk = host.power_off()?;
    let sealed = fs::read(disk.tree().join("var/lib/bootstrap-agent/cache.sealed"))?;
    assert!(!String::from_utf8_lossy(&sealed).contains(PASSWORD));
    Ok(disk)
}

#[test]
fn a_reboot_without_aws_serves_with_the_last_good_values_and_says_so() -> Outcome {
    let cloud = cloud()?;
    let disk = used(&cloud)?;
    cloud.aws.pause()?;
    let host = cloud.boot(disk)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert!(status["cached"].is_string(), "{status:#}");
    assert_eq!(cloud.get("/")?.status, 200);
    let console = host.power_off()?.console()?;
    assert!(console.contains("with the last good values, of "), "{console}");
    Ok(())
}

#[test]
fn a_reboot_without_metadata_serves_as_well() -> Outcome {
    let cloud = cloud()?;
    let disk = used(&cloud)?;
    let folder = disk.tree().join("etc/systemd/system/bootstrap-agent.service.d");
    fs::create_dir_all(&folder)?;
    let sooner =
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/bootstrap-agent run --metadata-timeout 3s\n";
    fs::write(folder.join("sooner.conf"), sooner)?;
    cloud.metadata.answer_early(&[503; 1000]);
    let host = cloud.boot(disk)?;
    // Waits for the unit's run, if it goes on, and reads nothing itself.
    host.output(&[
        "timeout",
        "60",
        "sh",
        "-c",
        "until grep -q '\"finished\": \"' /var/lib/bootstrap-agent/status.json; do sleep 0.1; done",
    ])?;
    let status = host.run(&[crate::boot::AGENT, "status", "--format", "json"])?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert!(status["cached"].is_string(), "{status:#}");
    assert_eq!(status["instance_id"], "i-0123456789abcdef0");
    assert_eq!(cloud.get("/")?.status, 200);
    Ok(())
}

#[test]
fn where_somebody_says_no_the_last_good_values_do_not_count() -> Outcome {
    let cloud = cloud()?;
    let disk = used(&cloud)?;
    cloud.aws.delete_secret(&cloud.world, SECRET)?;
    let host = cloud.boot(disk)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "failed", "{status:#}");
    assert_eq!(status["error"]["step"], "fetch");
    assert!(cloud.get("/").is_err(), "nothing serves");
    Ok(())
}
