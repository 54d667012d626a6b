//! A real virtual machine, as people who write recipes have it: brought up by Vagrant, planned, applied, planned again.
//!
//! It is not part of a usual run, since it takes a machine that is emulated: `make test-vagrant`.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Instant;

use testbed::vagrant::Vagrant;
use testbed::workspace::{Ended, Workspace};

use crate::Outcome;
use crate::site::everything_of;

const IMAGE: &str =
    "source: { local: { suite: bookworm } }\nrecipes: [ site, firewall: { allow: [ { port: 22 } ] } ]\n";
const RECIPE: &str = r#"
resources:
  - group: { name: site }
  - user: { name: site, group: site, home: /srv/site, shell: /usr/sbin/nologin }
  - directory: { path: /srv/site, owner: site, group: site, mode: "0750" }
  - file: { path: /etc/site.conf, group: site, mode: "0640", content: "kernel={{ facts.arch }}\n" }
    notify: restart site
  - sysctl: { name: site, settings: { vm.swappiness: 7 } }
  - systemd_unit:
      name: site.service
      content: |
        [Service]
        User=site
        ExecStart=/bin/sleep infinity
        [Install]
        WantedBy=multi-user.target
  - service: { name: site, enabled: true, state: running }
handlers:
  restart site: { service: { name: site, state: restarted } }
"#;

fn baker(vagrant: &Vagrant, workspace: &Workspace, arguments: &[&str]) -> Result<Ended, Box<dyn Error>> {
    Ok(vagrant.within(&workspace.command(arguments)?).output()?.into())
}

/// Every file with the moment at which it was last changed in any way, every mount, package and unit that runs, but logs of
/// logins and the agent that is kept there. Digests of all of it take minutes where a processor is emulated.
const LOOK: &str = "
find / -xdev -path /var/log -prune -o -path '/home/*/.cache' -prune -o -path '/var/tmp/*' -prune \\
  -o -type d -printf '%p %M %u %g\\n' -o -printf '%p %M %u %g %s %C@\\n'
cat /proc/mounts; dpkg-query --show; ls /run
systemctl list-units --plain --no-legend --state=running,listening | grep -v 'session-\\|user@\\|user-runtime-dir' | cut -d' ' -f1";

fn everything(vagrant: &Vagrant) -> Result<BTreeSet<String>, Box<dyn Error>> {
    Ok(everything_of(&vagrant.script(LOOK)?))
}

#[test]
fn a_machine_of_vagrant_is_planned_applied_planned_again_and_destroyed() -> Outcome {
    let workspace =
        Workspace::new()?.with("images/site.yaml", IMAGE)?.with("recipes/site/recipe.yaml", RECIPE)?;
    let vagrant = Vagrant::new(&workspace.path(""))?;
    let plan = ["plan", "images/site.yaml", "--on=vagrant", "--detailed-exitcode"];
    let down = baker(&vagrant, &workspace, &plan)?;
    assert!(
        down.code == Some(1) && down.stderr.contains("the machine of `vagrant` is not running"),
        "{}",
        down.stderr
    );
    assert!(
        down.stderr.contains("`vagrant up`, in the folder of the Vagrantfile, starts it"),
        "{}",
        down.stderr
    );

    vagrant.output(&["vagrant", "up", "--provider=libvirt"])?;
    // The first login makes what a session has, and the first plan brings the agent.
    let first = baker(&vagrant, &workspace, &plan)?;
    assert_eq!(first.code, Some(2), "{}{}", first.stdout, first.stderr);
    // `vagrant up` sets the name of the machine by this, which ends by itself after half a minute without a caller.
    vagrant.script("systemctl stop systemd-hostnamed")?;
    let before = everything(&vagrant)?;
    let began = Instant::now();
    let planned = baker(&vagrant, &workspace, &plan)?;
    println!("a plan of a machine that has the agent takes {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!((planned.code, &planned.stdout), (Some(2), &first.stdout), "{}", planned.stderr);
    for line in ["create the user site", "+kernel=x86_64", "enable site.service", "start site.service"] {
        assert!(planned.stdout.contains(line), "`{line}` is not in:\n{}", planned.stdout);
    }
    let after = everything(&vagrant)?;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty(), "{changed:#?}");

    let apply = ["apply", "images/site.yaml", "--on=vagrant", "--yes"];
    let applied = baker(&vagrant, &workspace, &apply)?;
    assert_eq!(applied.code, Some(0), "{}{}", applied.stdout, applied.stderr);
    let nothing = |planned: &Ended| planned.code == Some(0) && planned.stdout.contains("Plan: 0 to change, ");
    let again = baker(&vagrant, &workspace, &plan)?;
    assert!(nothing(&again), "{}{}", again.stdout, again.stderr);
    vagrant.script("systemctl is-active site; test \"$(stat -c '%U %a' /srv/site)\" = 'site 750'")?;

    // What was applied is what the machine boots with, with a kernel of its own.
    vagrant.output(&["vagrant", "reload"])?;
    let rebooted =
        "systemctl is-active site; test \"$(sysctl -n vm.swappiness)\" = 7; nft list table inet filter";
    let rules = vagrant.script(rebooted)?;
    assert!(rules.contains("dport 22"), "{rules}");
    let last = baker(&vagrant, &workspace, &[&plan[..], &["--leave-nothing"]].concat())?;
    assert!(nothing(&last), "{}{}", last.stdout, last.stderr);
    assert_eq!(vagrant.script("find / -xdev -type f -name 'bootstrap-agent*'")?, "");

    vagrant.output(&["vagrant", "destroy", "--force"])?;
    assert_eq!(
        vagrant.output(&["virsh", "--connect", "qemu:///system", "list", "--all", "--name"])?.trim(),
        ""
    );
    Ok(())
}
