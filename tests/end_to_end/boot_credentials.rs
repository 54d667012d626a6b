//! A service gets its secret as a credential of systemd, and nobody else can read it.

use serde_json::json;
use testbed::app::RECIPE;
use testbed::cloud::{PASSWORD, SECRET};
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;

use crate::boot::status_of;
use crate::boot_watch::{look, of_app, watching};
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

/// All of it, baked and booted, on the next Debian.
#[test]
fn on_debian_13_as_well() -> Outcome {
    let image = "source: { local: { suite: trixie } }\nrecipes: []\nboot: { recipes: [ app ] }\n";
    let workspace =
        Workspace::new()?.with("images/app.yaml", image)?.with("recipes/app/recipe.yaml", RECIPE)?;
    let cloud = of_app("credentials: { app: { password: secrets.db.password } }\nwatch: 1h")?;
    let host = cloud.boot(Disk::of_image(&workspace.bake("app")?)?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    assert_eq!(host.output(&["cat", "/run/app/password"])?, digest(PASSWORD)?);
    assert_eq!(readable_as(&host, "nobody")?, NOTHING);
    assert!(look(&host)?.0, "and new values are looked for");
    assert_eq!(host.output(&["systemctl", "is-system-running"])?.trim(), "running");
    Ok(())
}
