//! What a host is told: by its image, its tags and its user-data, which may have to be signed.

use std::fs;
use std::process::Command;

use testbed::binaries;
use testbed::cloud::{Cloud, USER_DATA};
use testbed::host::Disk;
use testbed::workspace::image;

use crate::Outcome;
use crate::boot::{AGENT, status_of};

fn disk(files: &[(&str, &str)]) -> std::io::Result<Disk> {
    let disk = Disk::of_image(&image("web")?)?;
    let folder = disk.tree().join("etc/bootstrap-agent");
    fs::create_dir_all(&folder)?;
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    Ok(disk)
}

fn output(command: &mut Command) -> std::io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn image_tags_and_packed_user_data_are_one_configuration() -> Outcome {
    let cloud = Cloud::prod()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("user-data");
    // The image says where the values are, a tag which environment it is, and the user-data the rest.
    let rest = USER_DATA.lines().filter(|line| !line.starts_with("environment:"));
    fs::write(&path, rest.collect::<Vec<_>>().join("\n"))?;
    let packed = Command::new("sh").args(["-ec", "gzip < \"$1\" | base64", "sh"]).arg(&path).output()?;
    let packed = String::from_utf8(packed.stdout)?;
    cloud.metadata.change(|instance| {
        instance.user_data = Some(packed.clone());
        instance.tags.insert("Stage".into(), "prod".into());
    });
    let layer = format!(
        "endpoint_url: {}\nenvironment: dev\ntags: {{ environment: Stage }}\n",
        testbed::aws::Aws::url()
    );
    let host = cloud.boot(disk(&[("10-image.yaml", &layer)])?)?;
    let status = status_of(&host)?;
    assert_eq!((&status["state"], &status["environment"]), (&"done".into(), &"prod".into()), "{status:#}");
    assert!(cloud.get("/")?.body.contains("Hello from prod"));
    let explained = host.output(&[AGENT, "explain"])?;
    assert!(explained.contains("environment") && explained.contains("tag Stage:1:1"), "{explained}");
    assert!(explained.contains("/etc/bootstrap-agent/10-image.yaml:1:15"), "{explained}");
    let doctor = host.output(&[AGENT, "doctor"])?;
    assert!(doctor.contains("ok     every value is set") && !doctor.contains("wrong"), "{doctor}");
    Ok(())
}

#[test]
fn an_image_that_trusts_keys_believes_only_what_they_signed() -> Outcome {
    let cloud = Cloud::prod()?;
    let folder = tempfile::tempdir()?;
    let (key, path) = (folder.path().join("key.pem"), folder.path().join("user-data"));
    let sign = || {
        let mut command = Command::new(binaries::agent().unwrap_or_default());
        command.arg("sign").arg("--key").arg(&key);
        command
    };
    let trusted = output(sign().args(["--generate", "--public", "deploy"]))?;
    let unsigned = cloud_user_data(&cloud);
    fs::write(&path, format!("{unsigned}version: 2\n"))?;
    let signed = output(sign().arg(&path))?;
    fs::write(&path, format!("{unsigned}version: 1\n"))?;
    let older = output(sign().arg(&path))?;

    let mut disk = disk(&[("trusted-keys", &trusted)])?;
    let cases = [
        (unsigned, "failed", "the user-data is not signed"),
        (signed.replace("role: web", "role: api"), "failed", "is not what the key `deploy` has signed"),
        (signed, "done", ""),
        (older, "failed", "the user-data has the version 1, and 2 was seen already"),
    ];
    for (user_data, state, reason) in cases {
        cloud.metadata.change(|instance| instance.user_data = Some(user_data.clone()));
        let host = cloud.boot(disk)?;
        let status = status_of(&host)?;
        assert_eq!(status["state"], state, "{status:#}");
        let message = status["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{reason}: {message}");
        assert_eq!(cloud.get("/").is_ok(), state == "done", "{reason}");
        disk = host.power_off()?;
    }
    Ok(())
}

fn cloud_user_data(cloud: &Cloud) -> String {
    let mut text = String::new();
    cloud.metadata.change(|instance| text = instance.user_data.clone().unwrap_or_default());
    text
}
