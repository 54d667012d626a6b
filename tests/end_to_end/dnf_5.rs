//! A host whose package manager is dnf 5, which of Debian's releases only the one that is never finished has.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use baker::bake::AGENT;
use tempfile::TempDir;
use testbed::binaries;
use testbed::host::{Disk, Host};
use testbed::world::World;

use crate::Outcome;
use crate::dnf::MAKE_REPOSITORY;

/// Where rpm has its database there, and a family that has dnf.
const DISGUISE: &str = "mkdir -p /etc/rpm; echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros
sh -e /srv/make-repository
printf 'ID=fedora\\nVERSION_ID=44\\n' > /usr/lib/os-release
";

const FIRST: &str = r#"resources:
  - repository: { name: probe, uris: ["file:/srv/repository"], signed_by: /srv/repository/key.asc }
  - command: { argv: [rpm, --install, /srv/repository/probe-upgraded-1.0.rpm, /srv/repository/probe-purged-1.0.rpm], unless: rpm --query probe-upgraded }
  - package: { name: probe-application }
  - package: { name: probe-held, version: 1.0-1 }
  - package: { name: probe-strong }
  - package: { name: probe-purged, state: purged }
  - package_hold: { names: [probe-held] }
  - package_upgrade: {}
"#;

const LATER: &str = r#"resources:
  - package: { name: probe-held, version: "2.*" }
  - package_hold: { names: [probe-held] }
  - package: { name: probe-library, state: absent }
"#;

const AT_LAST: &str = r"resources:
  - package_hold: { names: [probe-held], held: false }
  - package: { name: probe-boot }
";

/// A tree of what Debian has today, with dnf 5 and the agent.
fn disk() -> Result<Disk, Box<dyn Error>> {
    let image = TempDir::new()?;
    let include = "dnf5,rpm,createrepo-c,gpg,gpg-agent,file,systemd-sysv,dbus,udev,iproute2,procps";
    let made = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .arg(format!("--include={include}"))
        .args(["sid".as_ref(), image.path().join("rootfs.tar.zst").as_os_str()])
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let disk = Disk::of_image(image.path())?;
    let agent = disk.tree().join(AGENT.trim_start_matches('/'));
    fs::copy(binaries::agent()?, &agent)?;
    fs::set_permissions(agent, fs::Permissions::from_mode(0o755))?;
    fs::write(disk.tree().join("srv/make-repository"), MAKE_REPOSITORY)?;
    Ok(disk)
}

#[test]
#[ignore = "it needs Debian sid, which is another one every day"]
fn packages_of_dnf_5_converge_and_rpm_sees_it() -> Outcome {
    let world = World::new()?;
    let host = Host::boot(disk()?, world.place(2)?)?;
    let shell = |script: &str| host.output(&["sh", "-ec", script]);
    shell(DISGUISE)?;
    let applied = |name: &str, recipe: &str| -> Outcome {
        let bundle = host.put(name, recipe)?;
        let run = host.apply(&[], &bundle)?;
        assert_eq!(run.code, Some(0), "{name}: {run:?}");
        let again = host.apply(&[], &bundle)?;
        assert!(again.changed().is_empty(), "{name}: {again:?}");
        Ok(())
    };
    applied("first", FIRST)?;
    shell(
        "test \"$(rpm --query --queryformat '%{EVR} ' probe-application probe-library probe-upgraded probe-held)\" = '1.0-1 3:1.0-1 2.0-1 1.0-1 '",
    )?;
    shell(
        "dnf5 --cacheonly versionlock list | grep -qx 'evr = 1.0-1'; test -z \"$(rpm --query --all probe-weak probe-purged)\"; ! ls /etc/probe | grep purged",
    )?;
    applied("later", LATER)?;
    shell(
        "test \"$(rpm --query --all --queryformat '%{NAME}-%{VERSION} ' 'probe-[alhs]*' | xargs -n1 | sort | xargs)\" = 'probe-held-2.0 probe-strong-1.0'",
    )?;
    shell("test \"$(dnf5 --cacheonly versionlock list | grep evr)\" = 'evr = 2.0-1'")?;
    let bundle = host.put("planned", AT_LAST)?;
    let planned = host.output(&[AGENT, "plan", &bundle])?;
    assert!(
        planned.contains("+ install probe-boot 1.0-1 (with 1 more: probe-boot-library 1.0-1)\n"),
        "{planned}"
    );
    applied("at-last", AT_LAST)?;
    shell("rpm --query probe-boot probe-boot-library; test -z \"$(dnf5 --cacheonly versionlock list)\"")?;
    Ok(())
}
