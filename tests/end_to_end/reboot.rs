//! A host that reboots during the run of its boot, once, and comes up.

use testbed::cloud::Cloud;
use testbed::host::Disk;
use testbed::workspace::Workspace;

use crate::Outcome;
use crate::boot::status_of;

const RECIPE: &str = "resources:
  - command: { argv: [sh, -ec, 'cat /proc/sys/kernel/random/boot_id > /srv/first-boot; touch /run/reboot-required'], creates: /srv/first-boot }
  - reboot: { if_exists: /run/reboot-required }
  - file: { path: /srv/after, content: x }
    notify: [reboot, note]
handlers:
  reboot: { reboot: {} }
  note: { command: { argv: [sh, -ec, 'cat /proc/sys/kernel/random/boot_id > /srv/last-boot'] } }
";

/// Twice: for what the first resource asks for, and for what the file notifies. Each run goes on where the one
/// before it ended.
#[test]
fn a_host_reboots_once_for_each_reason_and_comes_up() -> Outcome {
    let workspace = Workspace::new()?.with("recipes/reboots/recipe.yaml", RECIPE)?.with(
        "images/reboots.yaml",
        "source: { local: { suite: bookworm } }\nrecipes: []\nboot: { recipes: [ reboots ] }\n",
    )?;
    let image = workspace.bake("reboots")?;
    let cloud = Cloud::prod()?;
    cloud.metadata.change(|instance| instance.user_data = Some("environment: prod\nrole: web\n".into()));
    let host = cloud.boot(Disk::of_image(&image)?)?;
    let status = status_of(&host)?;
    assert_eq!(status["state"], "done", "{status:#}");
    let boot = host.output(&["cat", "/proc/sys/kernel/random/boot_id"])?;
    assert_ne!(host.output(&["cat", "/srv/first-boot"])?, boot);
    assert_eq!(
        host.output(&["cat", "/srv/last-boot"])?,
        boot,
        "what was notified is done after the last one"
    );
    let boots = host.output(&["journalctl", "--list-boots", "--quiet", "--no-pager"])?;
    assert_eq!(boots.lines().count(), 3, "{boots}");
    assert!(!host.run(&["test", "-e", "/var/lib/bootstrap-agent/reboots.json"])?.status.success());
    Ok(())
}
