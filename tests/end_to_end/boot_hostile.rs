//! Hosts that a boot cannot work on, and accounts that refuse it: it fails, says why, leaves nothing half done, and goes
//! on when it can.

use testbed::app;
use testbed::cloud::PASSWORD;

use crate::boot_watch::of_app;
use crate::hostile_hosts::{AGENT, host, shell, staged};
use crate::{NOTHING, Outcome};

struct Trouble {
    name: &'static str,
    arrange: &'static str,
    /// What the boot says.
    says: &'static str,
    remove: &'static str,
}

const TROUBLES: [Trouble; 4] = [
    Trouble {
        name: "a full disk for what the agent remembers",
        arrange: "mkdir -p /var/lib/bootstrap-agent; mount -t tmpfs -o size=16k tmpfs /var/lib/bootstrap-agent; cat /dev/zero > /var/lib/bootstrap-agent/fill || true",
        says: "No space left on device",
        remove: "umount /var/lib/bootstrap-agent",
    },
    Trouble {
        name: "a full disk for configuration",
        arrange: "mkdir -p /etc/app; mount -t tmpfs -o size=4k,nr_inodes=2 tmpfs /etc/app; cat /dev/zero > /etc/app/fill || true",
        says: "No space left on device",
        remove: "umount /etc/app",
    },
    Trouble {
        name: "a full tmpfs for secrets",
        arrange: "mkdir -p /run/bootstrap-agent/files; mount -t tmpfs -o nr_inodes=1 tmpfs /run/bootstrap-agent/files",
        says: "No space left on device",
        remove: "umount /run/bootstrap-agent/files",
    },
    Trouble {
        name: "disks that are read-only",
        // What has files open there already stays as it is.
        arrange: "for folder in /etc /usr /var; do mount --bind $folder $folder; mount -o remount,bind,ro $folder; done",
        says: "Read-only file system",
        remove: "umount --lazy /etc /usr /var",
    },
];

#[test]
fn a_boot_that_cannot_write_fails_says_so_and_goes_on_when_it_can() -> Outcome {
    let cloud = of_app("credentials: { app: { password: secrets.db.password } }")?;
    let host = host(&cloud.world)?;
    app::put(host.disk())?;
    for Trouble { name, arrange, says, remove } in TROUBLES {
        shell(&host, &format!("systemctl stop app 2>/dev/null || true; rm -rf /var/lib/bootstrap-agent/* /run/bootstrap-agent /etc/app; {arrange}"))
            .map_err(|error| format!("{name}: {error}"))?;
        let run = host.run(&[AGENT, "run"])?;
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert_eq!(run.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(says) && !said.contains(PASSWORD), "{name}: {said}");
        assert!(!host.is_active("app.service")?, "{name}: nothing serves");
        assert_eq!(staged(&host)?, NOTHING, "{name}");
        shell(&host, remove).map_err(|error| format!("{name}: {error}"))?;
        let run = host.run(&[AGENT, "run"])?;
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        assert!(host.is_active("app.service")?, "{name}");
    }
    Ok(())
}

#[test]
fn a_role_that_is_taken_away_is_said_and_nothing_serves() -> Outcome {
    let cloud = of_app("")?;
    let host = host(&cloud.world)?;
    app::put(host.disk())?;
    cloud.metadata.change(|instance| instance.role = None);
    let run = host.run(&[AGENT, "run", "--metadata-timeout", "3s"])?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("role"), "{said}");
    assert!(!host.is_active("app.service")?);
    assert!(!host.run(&["test", "-e", "/etc/app/app.conf"])?.status.success());
    cloud.metadata.change(|instance| instance.role = Some("web".into()));
    host.output(&[AGENT, "run"])?;
    assert!(host.is_active("app.service")?);
    Ok(())
}
