//! Exact plans: recipes applied for real to a copy of a host, of which the host notices nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use baker::image::Chain;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;
use testbed::world::World;

use crate::Outcome;
use crate::boot::AGENT;

const BASE: &str = "source: { local: { suite: bookworm, include: [nftables, procps] } }
recipes: [ before ]
";

/// What is on the host before, and a package that is not installed yet.
const BEFORE: &str = r##"resources:
  - file: { path: /etc/noted, content: "it was there\n" }
  - file: { path: /srv/gone, content: x }
  - for_each: [ "", /DEBIAN, /usr, /usr/share, /usr/share/probe ]
    directory: { path: "/srv/probe{{ item }}" }
  - file:
      path: /srv/probe/DEBIAN/control
      content: "Package: probe\nVersion: 1.0\nArchitecture: all\nMaintainer: Probe <probe@example.org>\nDescription: probe\n"
  - file:
      path: /srv/probe/DEBIAN/postinst
      mode: "0755"
      content: "#!/bin/sh\nset -e\ngroupadd --system probe\necho made >/etc/probe-made\n"
  - file: { path: /srv/probe/usr/share/probe/a, content: a }
  - command: { argv: "dpkg-deb --build --root-owner-group /srv/probe /srv/probe.deb", creates: /srv/probe.deb }
"##;

/// A chain in which each depends on what those before it really do.
const SITE: &str = r#"resources:
  - package: { name: probe, source: /srv/probe.deb }
  - user: { name: site, system: true }
  - directory: { path: /srv/site, owner: site, group: probe }
  - command: { argv: [sh, -c, "id -u site >/srv/site/number"], creates: /srv/site/number }
  - line: { path: /srv/site/number, line: more }
  - line: { path: /etc/probe-made, line: more }
  - file: { path: /etc/noted, content: "it is here\n" }
    notify: restart the site
  - absent: { path: /srv/gone }
  - systemd_unit:
      name: site.service
      content: "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
  - service: { name: site, enabled: true, state: running }
handlers:
  restart the site: { service: { name: site, state: restarted } }
"#;

/// A command that tries everything that a host could notice.
const HOSTILE: &str = r"resources:
  - command:
      argv:
        - sh
        - -c
        - |
          hostname elsewhere; echo 1 >/proc/sys/vm/swappiness; echo h >/proc/sysrq-trigger
          mount -t tmpfs none /mnt; touch /mnt/x /run/x /tmp/x /dev/x /var/tmp/x /home/x; mknod /dev/sda b 8 0
          nft add table inet x; ip link add dummy0 type dummy
          sleep infinity & kill -9 -1
      creates: /srv/tried
      success_codes: [0, 1, 137]
";

const SLOW: &str = r#"resources:
  - command: { argv: [sh, -c, "touch /srv/begun; sleep 12345"], creates: /srv/done }
"#;

struct Planned {
    host: Host,
    bundle: &'static str,
}

/// A host, with the bundle of recipes on it.
fn host(world: &World, recipe: &str) -> Result<Planned, Box<dyn Error>> {
    let workspace = Workspace::new()?
        .with("images/base.yaml", BASE)?
        .with("recipes/before/recipe.yaml", BEFORE)?
        .with("images/site.yaml", "extends: base\nrecipes: [ site ]\n")?
        .with("recipes/site/recipe.yaml", recipe)?;
    let image = workspace.bake("base")?;
    let host = Host::boot(Disk::of_image(&image)?, world.place(2)?)?;
    let (definition, cache) = (workspace.path("images/site.yaml"), workspace.path("cache"));
    let chain =
        Chain::load(&definition, &BTreeMap::new(), &[], &cache).map_err(|problems| problems.to_string())?;
    let tree = host.disk().tree();
    let image = chain.images.last().ok_or("no image")?;
    for (path, bytes) in image.bundle()? {
        let path = tree.join("root/bundle").join(path);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, bytes)?;
    }
    host.run(&["systemctl", "is-system-running", "--wait"])?;
    // There is no way out, and so nothing to be brought up to date.
    fs::write(tree.join("etc/apt/sources.list"), "")?;
    fs::remove_dir_all(tree.join("etc/apt/sources.list.d"))?;
    fs::copy(testbed::binaries::agent()?, tree.join(AGENT.trim_start_matches('/')))?;
    Ok(Planned { host, bundle: "/root/bundle" })
}

impl Planned {
    /// Every file with its checksum, owner and mode, and everything that runs, is mounted, listens or is loaded.
    fn everything(&self) -> Result<BTreeSet<String>, Box<dyn Error>> {
        let look = "find / -xdev \\( -path /var/log -o -path /var/lib/systemd \\) -prune -o -type f -exec sha256sum {} +
                    find / -xdev -path /var/log -prune -o -printf '%p %M %u %g %T@\\n'
                    ls -la /run /tmp /dev | grep -v '\\.$' | awk '{ print $1, $3, $9 }'
                    cat /proc/mounts; hostname; cat /proc/sys/vm/swappiness; dpkg-query --show; nft list ruleset
                    ss --tcp --udp --numeric --listening --no-header
                    ps -e -o comm= | grep -v '^\\(sh\\|ps\\|awk\\|find\\|grep\\|kworker.*\\)$'
                    systemctl list-units --plain --no-legend --state=running | cut -d' ' -f1; ls /proc/sys/fs/binfmt_misc";
        let seen = self.host.output(&["sh", "-c", look])?;
        // What the last of a boot leaves: units of sessions, and a file of agetty in `/run`.
        let is_of_boot = |line: &str| {
            line.contains("run-u") || line.ends_with("agetty.reload") || line.starts_with("/run ")
        };
        Ok(seen.lines().filter(|line| !is_of_boot(line)).map(str::to_owned).collect())
    }

    fn expect_nothing_changed(&self, before: &BTreeSet<String>) -> Outcome {
        let after = self.everything()?;
        let changed: Vec<_> = before.symmetric_difference(&after).collect();
        assert!(changed.is_empty(), "{changed:#?}");
        Ok(())
    }
}

#[test]
fn an_exact_plan_tells_what_applying_makes_and_the_host_notices_nothing() -> Outcome {
    let world = World::new()?;
    let planned = host(&world, SITE)?;
    let before = planned.everything()?;
    let exact = planned.host.run(&[AGENT, "plan", "--exact", "--detailed-exitcode", planned.bundle])?;
    let told = String::from_utf8_lossy(&exact.stdout).into_owned();
    assert_eq!(exact.status.code(), Some(2), "{told}{}", String::from_utf8_lossy(&exact.stderr));
    planned.expect_nothing_changed(&before)?;
    for line in [
        "Packages\n  + probe 1.0\n",
        "Users\n  + site ",
        "Groups\n  + probe ",
        "\n  + site ",
        "Units\n  + site.service wanted by multi-user.target",
        "  + /etc/probe-made",
        "  + /srv/site/number",
        "  ~ /etc/noted",
        "  - /srv/gone",
        " more files are of packages.",
        "Not done in the copy, which only has the host's files:\n  start site.service",
        "restart site.service",
    ] {
        assert!(told.contains(line), "`{line}` is not in:\n{told}");
    }
    // What was applied for real is what the exact plan told.
    let applied = planned.host.output(&[AGENT, "apply", planned.bundle])?;
    let fast = planned.host.run(&[AGENT, "plan", "--detailed-exitcode", planned.bundle])?;
    assert_eq!(fast.status.code(), Some(0), "{applied}");
    let exact = planned.host.run(&[AGENT, "plan", "--exact", "--detailed-exitcode", planned.bundle])?;
    let told = String::from_utf8_lossy(&exact.stdout).into_owned();
    assert_eq!(exact.status.code(), Some(0), "{told}");
    assert!(told.contains("Applied to a copy of the host it makes no difference."), "{told}");
    Ok(())
}

#[test]
fn the_host_notices_nothing_of_what_tries_to_reach_it_or_is_killed() -> Outcome {
    let world = World::new()?;
    let planned = host(&world, HOSTILE)?;
    let before = planned.everything()?;
    let exact = planned.host.run(&[AGENT, "plan", "--exact", planned.bundle])?;
    let said = String::from_utf8_lossy(&exact.stderr).into_owned();
    assert_eq!(exact.status.code(), Some(1), "{said}");
    assert!(said.contains("in a copy of this host, in which no service runs"), "{said}");
    assert!(said.contains("did not settle"), "{said}");
    planned.expect_nothing_changed(&before)?;
    Ok(())
}

#[test]
fn an_exact_plan_that_is_killed_leaves_no_process_no_mount_and_no_file() -> Outcome {
    let world = World::new()?;
    let planned = host(&world, SLOW)?;
    let before = planned.everything()?;
    let found =
        |pattern: &str| planned.host.run(&["pgrep", "--full", pattern]).map(|ran| ran.status.success());
    thread::scope(|scope| {
        let run = scope.spawn(|| planned.host.run(&[AGENT, "plan", "--exact", planned.bundle]));
        let until = Instant::now() + Duration::from_mins(1);
        while !found("sleep 12345")? && Instant::now() < until {
            thread::sleep(Duration::from_millis(100));
        }
        planned.host.output(&["pkill", "--signal", "KILL", "--full", "plan --exact"])?;
        let ended = run.join().map_err(|_| "it panicked")??;
        assert!(!ended.status.success());
        while found("apply-to-copy|sleep 12345")? {
            assert!(Instant::now() < until, "it is still there");
            thread::sleep(Duration::from_millis(100));
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    planned.expect_nothing_changed(&before)?;
    let mounts = planned.host.run(&["sh", "-c", "cat /proc/[0-9]*/mountinfo | grep layer-"])?;
    assert_eq!(String::from_utf8_lossy(&mounts.stdout), "");
    Ok(())
}

#[test]
fn what_a_copy_fetches_comes_over_the_network_of_the_host() -> Outcome {
    let definition =
        "source: { local: { suite: bookworm, include: [nftables, procps] } }\nrecipes: [ site ]\n";
    let recipe = "resources:\n  - package: { name: ncat }\n  - line: { path: /usr/share/doc/ncat/copyright, line: more }\n";
    let workspace =
        Workspace::new()?.with("images/site.yaml", definition)?.with("recipes/site/recipe.yaml", recipe)?;
    let fast = workspace.baker(&["plan", "images/site.yaml"])?;
    let assumed = "? known after apply: whether installing ncat brings it";
    assert!(fast.stdout.contains(assumed), "{}{}", fast.stdout, fast.stderr);
    let last = "Of these 1 observed, 0 derived, 1 assumed. `--exact` finds out what is assumed.\n";
    assert!(fast.stdout.ends_with(last), "{}", fast.stdout);
    let exact = workspace.baker(&["plan", "images/site.yaml", "--exact", "--detailed-exitcode"])?;
    assert_eq!(exact.code, Some(2), "{}", exact.stderr);
    for line in ["\n  + ncat ", "~ change /usr/share/doc/ncat/copyright", "\n  + liblua"] {
        assert!(exact.stdout.contains(line), "`{line}` is not in:\n{}", exact.stdout);
    }
    Ok(())
}
