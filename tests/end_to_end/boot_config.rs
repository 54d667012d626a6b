//! What a host is told: by its image, its tags and its user-data, which may have to be signed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use testbed::binaries;
use testbed::cloud::{Cloud, USER_DATA};
use testbed::host::Disk;
use testbed::workspace::image;
use testbed::world::GATEWAY;

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

/// What validates user-data in editors: a text for each file that is not as the schema says.
const VALIDATE: &str = r#"
import json, jsonschema, sys, yaml
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
for name in sys.argv[2:]:
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(open(name))))
    print("\n".join(error.message for error in errors) or "valid")
"#;

#[test]
fn an_editor_knows_what_is_user_data() -> Outcome {
    let folder = tempfile::tempdir()?;
    let schema = folder.path().join("schema.json");
    let printed = output(Command::new(binaries::agent()?).args(["user-data", "schema"]))?;
    fs::write(&schema, printed)?;
    let said = |text: &str| {
        let path = folder.path().join("user-data.yaml");
        fs::write(&path, text)?;
        output(Command::new(binaries::python()?).arg("-c").arg(VALIDATE).arg(&schema).arg(path))
    };
    assert_eq!(said(USER_DATA)?, "valid\n");
    let all = "environment: prod
role: web
parameters: [ /a/, { name: /b, as: c, allow_empty: true }, { path: /d/, allow_empty: [ e ] } ]
secrets: { f: { secretsmanager: g }, h: { secretsmanager: { id: i, stage: AWSPREVIOUS, binary: text } }, j: { ssm: k } }
credentials: { app.service: { password: secrets.f.password } }
health: [ { service: { name: l, state: running, within: 1m } }, { command: { argv: [ m ] } }, { command: { argv: m n } } ]
signal: { auto_scaling: { hook: o, heartbeat: 1m }, cloudformation: {}, tag: { key: p }, instance_health: true }
on_failure: hold 30m
tags: { environment: q }
watch: 15m
";
    assert_eq!(said(all)?, "valid\n");
    for (wrong, why) in [
        ("paramters: []", "'paramters'"),
        ("secrets: { db: { vault: x } }", "'vault'"),
        ("health: [ { http: { ulr: x } } ]", "'ulr'"),
        ("on_failure: reboot", "'reboot' does not match"),
        ("credentials: { app: { password: hunter2 } }", "'hunter2' does not match"),
        ("cache: maybe", "'maybe' is not of type 'boolean'"),
    ] {
        let said = said(&format!("environment: prod\nrole: web\n{wrong}\n"))?;
        assert!(said.contains(why), "{wrong}: {said}");
    }
    Ok(())
}

#[test]
fn a_large_configuration_is_an_object_of_s3_and_no_other_than_the_one_that_is_meant() -> Outcome {
    let cloud = Cloud::prod()?;
    let (rest, endpoint) = (cloud_user_data(&cloud), testbed::aws::Aws::url());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("object");
    fs::write(&path, &rest)?;
    let sum = output(Command::new("sha256sum").arg(&path))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    cloud.aws.put_object(&cloud.world, "acme-config", "prod/web.yaml", &rest)?;
    let user_data = format!(
        "#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\nrole: web\nendpoint_url: {endpoint}\nconfig: {{ s3: \"s3://acme-config/{{{{ environment }}}}/web.yaml\", sha256: {sum} }}\n"
    );
    cloud.metadata.change(|instance| instance.user_data = Some(user_data.clone()));
    let host = cloud.boot(disk(&[])?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert!(cloud.get("/")?.body.contains("Hello from prod"));

    cloud.aws.put_object(&cloud.world, "acme-config", "prod/web.yaml", &format!("{rest}\n# another\n"))?;
    let host = cloud.boot(host.power_off()?)?;
    let status = status_of(&host)?;
    assert_eq!((&status["state"], &status["error"]["step"]), (&"failed".into(), &"configure".into()));
    let message = status["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("s3://acme-config/prod/web.yaml is not what the user-data names"), "{message}");
    Ok(())
}

/// The proxy of an organisation: it remembers whom it was asked for, and refuses.
#[test]
fn aws_is_reached_through_a_proxy_and_the_metadata_service_is_not() -> Outcome {
    let cloud = Cloud::prod()?;
    let user_data = cloud_user_data(&cloud);
    let lines = user_data.lines().filter(|line| !line.starts_with("endpoint_url:"));
    let user_data = lines.collect::<Vec<_>>().join("\n") + "\nfetch_within: 5s\n";
    cloud.metadata.change(|instance| instance.user_data = Some(user_data.clone()));
    let listener = cloud.world.within(|| TcpListener::bind((GATEWAY, 3128)))?;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).is_ok() {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            let _ = (&stream).write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let disk = disk(&[])?;
    let drop_in = disk.tree().join("etc/systemd/system/bootstrap-agent.service.d");
    fs::create_dir_all(&drop_in)?;
    let proxy = format!("http://{GATEWAY}:3128");
    let variables =
        format!("Environment=https_proxy={proxy} http_proxy={proxy} HTTPS_PROXY={proxy} HTTP_PROXY={proxy}");
    fs::write(drop_in.join("proxy.conf"), format!("[Service]\n{variables}\n"))?;
    let host = cloud.boot(disk)?;
    let status = host.run(&[AGENT, "status", "--format", "json"])?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status["error"]["step"], "fetch", "the metadata service was reached: {status:#}");
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for service in ["ssm", "secretsmanager"] {
        let line = format!("CONNECT {service}.us-east-1.amazonaws.com:443 HTTP/1.1\r\n");
        assert!(asked.contains(&line), "{asked:?}");
    }
    assert!(asked.iter().all(|line| line.starts_with("CONNECT ")), "{asked:?}");
    Ok(())
}
