//! Every image that ships is baked, its checks and the leak gate included, and boots by the configuration beside it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use recipes::op::Content;
use tempfile::TempDir;
use testbed::applied::write_bundle;
use testbed::binaries;
use testbed::host::Disk;
use testbed::workspace::{image, image_of};

use super::vendors::{PROGRAM, archive_of, package};
use crate::Outcome;

/// Those that others start from, and web hosts of them.
const PLAIN: &[&str] = &["base", "web"];

const HARDENED: &[&str] = &["hardened", "hardened-web", "jumpbox"];

const OF_CONTAINERS: &[&str] = &["docker-host", "ci-runner", "swarm-manager", "swarm-worker"];

/// Images of what vendors publish, and the file that their recipe looks for before it fetches.
const OF_VENDORS: &[(&str, &str)] =
    &[("ecs-host", "amazon-ecs-init.deb"), ("elasticsearch", "elasticsearch.archive")];

/// They are planned by other tests, and cannot be baked here.
const ON_EC2: &[&str] = &["base-amazon-linux", "base-arm64", "base-ubuntu"];

/// What the environment of each of them has.
const VALUES: &str = "
parameters:
  /acme/prod/web/title: Hello
  /acme/prod/web/greeting: Good day
  /acme/prod/web/db/host: db.prod.internal
  /acme/prod/swarm/managers: [ '10.0.0.5:2377', '10.0.0.6:2377' ]
secrets:
  acme/prod/db: { username: web, password: example-of-a-password }
  acme/prod/swarm-manager: { token: example-of-a-token }
  acme/prod/swarm-worker: { token: example-of-a-token }
";

#[test]
fn every_shipped_image_is_among_these() -> Outcome {
    let entries = fs::read_dir(binaries::project().join("images"))?.flatten();
    let shipped = entries
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".yaml").map(str::to_owned));
    let named = [PLAIN, HARDENED, OF_CONTAINERS, ON_EC2].concat();
    let named = named.into_iter().chain(OF_VENDORS.iter().map(|(name, _)| *name));
    assert_eq!(shipped.collect::<BTreeSet<_>>(), named.map(str::to_owned).collect());
    Ok(())
}

#[test]
fn plain_images_are_baked_and_boot() -> Outcome {
    PLAIN.iter().try_for_each(|name| boots(name, &image(name)?))
}

#[test]
fn hardened_images_are_baked_and_boot() -> Outcome {
    HARDENED.iter().try_for_each(|name| boots(name, &image(name)?))
}

#[test]
fn images_of_containers_are_baked_and_boot() -> Outcome {
    OF_CONTAINERS.iter().try_for_each(|name| boots(name, &image(name)?))
}

#[test]
fn images_of_vendors_are_baked_and_boot() -> Outcome {
    OF_VENDORS.iter().try_for_each(|(name, file)| boots(name, &with_stand_in(name, file)?))
}

/// What a boot would do on the image: nothing is missing, and nothing that it waits for is unknown.
fn boots(name: &str, image: &Path) -> Outcome {
    let disk = Disk::of_image(image)?;
    let folder = TempDir::with_prefix("boots-")?;
    let values = folder.path().join("values.yaml");
    fs::write(&values, VALUES)?;
    let mut command = Command::new(binaries::agent()?);
    command.arg("simulate").arg(binaries::project().join(format!("images/boot/{name}.yaml")));
    command.arg("--values").arg(&values).arg("--root").arg(disk.tree());
    // Those without boot recipes are for images that have them.
    if !disk.tree().join("usr/lib/bootstrap-agent/boot").exists() {
        write_bundle(&folder.path().join("bundle"), "nothing", "resources: []\n", &[])?;
        command.arg("--bundle").arg(folder.path().join("bundle"));
    }
    let ended = command.output()?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{name}: {said}");
    assert!(said.contains("\nhealth: "), "{name}: {said}");
    assert!(!said.contains("example-of-a"), "{name}: {said}");
    Ok(())
}

/// An image whose vendor's archive only has the layout of one, and is there before it would be fetched.
fn with_stand_in(name: &str, file: &str) -> Result<PathBuf, Box<dyn Error>> {
    let archive = match name {
        "elasticsearch" => archive_of(&[("elasticsearch-8.0.0/bin/elasticsearch", PROGRAM)])?,
        _ => package("amazon-ecs-init", "ecs")?,
    };
    let folder = TempDir::with_prefix("vendor-")?;
    let images = folder.path().join("images");
    let stand_in = folder.path().join("recipes/stand-in");
    fs::create_dir(&images)?;
    fs::create_dir_all(stand_in.join("files"))?;
    fs::write(stand_in.join("files").join(file), &archive)?;
    // Two resources of an image may not decide the same file; a command decides nothing.
    let recipe = format!(
        "resources:\n  - directory: {{ path: /opt/stand-in }}\n  - file: {{ path: /opt/stand-in/{file}, source: {file} }}\n  - command: {{ argv: cp --recursive /opt/stand-in /opt/vendor, creates: /opt/vendor }}\n"
    );
    fs::write(stand_in.join("recipe.yaml"), recipe)?;
    for each in ["base", "docker-host", name] {
        let file = format!("{each}.yaml");
        let mut text = fs::read_to_string(binaries::project().join("images").join(&file))?;
        if each == name {
            text = text.replacen("\nrecipes:\n", "\nrecipes:\n  - stand-in\n", 1);
        }
        fs::write(images.join(file), text)?;
    }
    let digest = format!("sha256={}", Content::new(&archive[..]).sha256());
    let arguments = ["--var", "url=https://127.0.0.1:1/none", "--var", &digest];
    Ok(image_of(folder.path(), name, &arguments)?)
}
