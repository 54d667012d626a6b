//! A service gets its secret as a credential of systemd, and nobody else can read it.

use serde_json::json;
use testbed::cloud::{PASSWORD, SECRET};
use testbed::host::Host;

use crate::boot_watch::{look, watching};
use crate::{NOTHING, Outcome};

/// What a program of a user can read, of everything that has the secret in it.
fn readable_as(host: &Host, user: &str) -> std::io::Result<Vec<String>> {
    let find = format!("grep -rlsF -- {PASSWORD} /run /etc /var /srv /tmp /proc/[0-9]*/environ");
    let found =
        host.run(&["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "sh", "-c", &find])?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect())
}

fn digest(password: &str) -> std::io::Result<String> {
    let output = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" | sha256sum", "sh", password])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_service_gets_its_secret_and_nobody_else_does() -> Outcome {
    let (cloud, host) = watching("watch: 1h\ncredentials: { app: { password: secrets.db.password } }")?;
    assert_eq!(host.output(&["cat", "/run/app/password"])?, digest(PASSWORD)?, "the service has it");
    let file = "/run/bootstrap-agent/credentials/app.service/password";
    assert_eq!(host.output(&["stat", "-L", "--format=%U:%G %a", file])?.trim(), "root:root 400");
    assert_eq!(host.output(&["stat", "-L", "--file-system", "--format=%T", file])?.trim(), "tmpfs");
    for user in ["nobody", "www-data"] {
        assert_eq!(readable_as(&host, user)?, NOTHING, "{user}");
    }
    let unit = host.output(&["systemctl", "cat", "app.service"])?;
    assert!(unit.contains(&format!("LoadCredential=password:{file}")) && !unit.contains(PASSWORD), "{unit}");

    // Rotated, the service is started anew with it.
    cloud.aws.change_secret(
        &cloud.world,
        SECRET,
        &json!({ "username": "web", "password": "another-password" }),
    )?;
    let (is_current, watch) = look(&host)?;
    assert!(is_current, "{watch:#}");
    assert_eq!(host.output(&["cat", "/run/app/password"])?, digest("another-password")?);
    Ok(())
}
