//! Hosts that resist: a run stops there and says why, leaves nothing half done, and goes on when it can.

use std::error::Error;
use std::io;

use recipes::event::Event;
use testbed::apt;
use testbed::host::{Disk, Host};
use testbed::workspace::Workspace;
use testbed::world::World;

use crate::{NOTHING, Outcome};

/// Something that stands in a resource's way.
struct Obstacle {
    name: &'static str,
    /// What puts it there. `/srv/NAME` is an empty directory for it.
    arrange: &'static str,
    /// The resource that it is in the way of.
    resource: &'static str,
    /// What the run ends with.
    says: &'static str,
    /// What must be so after that, as it was before.
    stays: &'static str,
    /// What takes it away.
    remove: &'static str,
}

const OBSTACLES: &[Obstacle] = &[
    Obstacle {
        name: "read-only",
        arrange: "mount -t tmpfs -o ro tmpfs /srv/read-only",
        resource: "file: { path: /srv/read-only/a, content: new }",
        says: "failed to create /srv/read-only/a: failed to write `/srv/read-only/a`: Read-only file system (os error 30)",
        stays: "! test -e /srv/read-only/a",
        remove: "mount -o remount,rw /srv/read-only",
    },
    Obstacle {
        name: "full-disk",
        arrange: "mount -t tmpfs -o size=64k tmpfs /srv/full-disk; echo old > /srv/full-disk/a; cat /dev/zero > /srv/full-disk/fill || true",
        resource: "file: { path: /srv/full-disk/a, content: \"{% for i in [1,2,3,4,5,6,7,8,9,10] %}a line that is one of several{% endfor %}\" }",
        says: "failed to change /srv/full-disk/a: failed to write `/srv/full-disk/a`: No space left on device (os error 28)",
        stays: "grep -qx old /srv/full-disk/a",
        remove: "rm /srv/full-disk/fill",
    },
    Obstacle {
        name: "no-inodes",
        // One for the root, one for the file.
        arrange: "mount -t tmpfs -o nr_inodes=2 tmpfs /srv/no-inodes; echo old > /srv/no-inodes/a",
        resource: "line: { path: /srv/no-inodes/a, line: new }",
        says: "failed to change /srv/no-inodes/a: failed to write `/srv/no-inodes/a`: No space left on device (os error 28)",
        stays: "grep -qx old /srv/no-inodes/a",
        remove: "mount -o remount,nr_inodes=100 /srv/no-inodes",
    },
    Obstacle {
        name: "immutable-file",
        arrange: "echo old > /srv/immutable-file/a; chattr +i /srv/immutable-file/a",
        resource: "file: { path: /srv/immutable-file/a, content: new }",
        says: "failed to change /srv/immutable-file/a: failed to write `/srv/immutable-file/a`: Operation not permitted (os error 1)",
        stays: "grep -qx old /srv/immutable-file/a",
        remove: "chattr -i /srv/immutable-file/a",
    },
    Obstacle {
        name: "immutable-directory",
        arrange: "chattr +i /srv/immutable-directory",
        resource: "symlink: { path: /srv/immutable-directory/a, target: b }",
        says: "",
        stays: "! test -L /srv/immutable-directory/a",
        remove: "chattr -i /srv/immutable-directory",
    },
    Obstacle {
        name: "busy-file",
        arrange: "echo old > /srv/busy-file/a; mount --bind /srv/busy-file/a /srv/busy-file/a",
        resource: "file: { path: /srv/busy-file/a, content: new }",
        says: "",
        stays: "grep -qx old /srv/busy-file/a",
        remove: "umount /srv/busy-file/a",
    },
    Obstacle {
        name: "busy-link",
        arrange: "echo old > /srv/busy-link/a; mount --bind /srv/busy-link/a /srv/busy-link/a",
        resource: "symlink: { path: /srv/busy-link/a, target: b }",
        says: "",
        stays: "grep -qx old /srv/busy-link/a",
        remove: "umount /srv/busy-link/a",
    },
    Obstacle {
        name: "busy-directory",
        arrange: "mkdir /srv/busy-directory/a; mount -t tmpfs tmpfs /srv/busy-directory/a; touch /srv/busy-directory/a/b",
        resource: "absent: { path: /srv/busy-directory/a, recursive: true }",
        says: "",
        stays: "test -e /srv/busy-directory/a/b",
        remove: "umount /srv/busy-directory/a",
    },
    Obstacle {
        name: "bind-mount",
        arrange: "mkdir -p /srv/bind-mount/a/b /srv/elsewhere; touch /srv/elsewhere/kept; mount --bind /srv/elsewhere /srv/bind-mount/a/b",
        resource: "directory: { path: /srv/bind-mount/a, state: absent }",
        says: "",
        stays: "test -e /srv/elsewhere/kept",
        remove: "umount /srv/bind-mount/a/b",
    },
    Obstacle {
        name: "dangling",
        arrange: "ln -s nowhere /srv/dangling/link",
        resource: "file: { path: /srv/dangling/link/a, content: new }",
        says: "",
        stays: "! test -e /srv/dangling/nowhere",
        remove: "mkdir /srv/dangling/nowhere",
    },
    Obstacle {
        name: "loop",
        arrange: "ln -s b /srv/loop/a; ln -s a /srv/loop/b",
        resource: "directory: { path: /srv/loop/a/c/d }",
        says: "",
        stays: "test -L /srv/loop/a",
        remove: "rm /srv/loop/b; mkdir /srv/loop/b",
    },
    Obstacle {
        name: "directory-for-file",
        arrange: "mkdir /srv/directory-for-file/a",
        resource: "file: { path: /srv/directory-for-file/a, content: new }",
        says: "",
        stays: "test -d /srv/directory-for-file/a",
        remove: "rmdir /srv/directory-for-file/a",
    },
    Obstacle {
        name: "file-for-directory",
        arrange: "echo old > /srv/file-for-directory/a",
        resource: "directory: { path: /srv/file-for-directory/a/b }",
        says: "",
        stays: "grep -qx old /srv/file-for-directory/a",
        remove: "rm /srv/file-for-directory/a",
    },
    Obstacle {
        name: "no-owner",
        arrange: "true",
        resource: "file: { path: /srv/no-owner/a, content: new, owner: latecomer }",
        says: "",
        stays: "! test -e /srv/no-owner/a",
        remove: "useradd --system latecomer",
    },
    Obstacle {
        name: "read-only-accounts",
        arrange: "mount --bind /etc /etc; mount -o remount,bind,ro /etc",
        resource: "user: { name: probe, system: true }",
        says: "",
        stays: "! getent passwd probe",
        remove: "umount /etc",
    },
    Obstacle {
        name: "read-only-state",
        arrange: "mkdir -p /var/lib/bootstrap-agent; mount -t tmpfs -o ro tmpfs /var/lib/bootstrap-agent",
        resource: "file: { path: /srv/read-only-state/a, content: new }\n    notify: told",
        says: "",
        stays: "! test -e /srv/read-only-state/a",
        remove: "umount /var/lib/bootstrap-agent",
    },
    Obstacle {
        name: "no-mirror",
        arrange: "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] http://127.0.0.1:9/ ./' > /etc/apt/sources.list",
        resource: "package: { name: probe-late }",
        says: "",
        stays: "! dpkg-query --status probe-late",
        remove: "echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list",
    },
];

/// A host with what puts obstacles in the way, and a repository of its own that it does not use yet.
pub(crate) fn host(world: &World, number: u8) -> Result<Host, Box<dyn Error>> {
    let workspace = Workspace::new()?.with(
        "images/probe.yaml",
        "source: { local: { suite: bookworm } }\nrecipes: [ packages: { install: [e2fsprogs, strace] } ]\n",
    )?;
    let disk = Disk::of_image(&workspace.bake("probe")?)?;
    apt::repository(&disk.tree().join("srv/repository"), &[("probe-late", "1.0")])?;
    Ok(Host::boot(disk, world.place(number)?)?)
}

fn shell(host: &Host, script: &str) -> io::Result<String> {
    host.output(&["sh", "-ec", script])
}

/// Files of runs that are not in place, anywhere on the host.
pub(crate) fn staged(host: &Host) -> io::Result<Vec<String>> {
    let found = shell(host, "find /etc /srv /run /usr /var -name '*.staged' 2>/dev/null || true")?;
    Ok(found.lines().map(str::to_owned).collect())
}

#[test]
fn a_run_stops_at_an_obstacle_says_why_and_goes_on_when_it_is_gone() -> Outcome {
    let world = World::new()?;
    let host = host(&world, 2)?;
    for Obstacle { name, arrange, resource, says, stays, remove } in OBSTACLES {
        let recipe = format!(
            "resources:
  - file: {{ path: /srv/done/{name}-before, content: x }}
  - {resource}
  - file: {{ path: /srv/done/{name}-after, content: x }}
handlers:
  told: {{ command: {{ argv: [touch, /srv/done/{name}-told] }} }}
"
        );
        shell(&host, &format!("mkdir -p /srv/done /srv/{name}; {arrange}"))?;
        let bundle = host.put(name, &recipe)?;
        let failed = host.apply(&[], &bundle)?;
        eprintln!("{name}: {:?} {:?}\n{}", failed.code, failed.failure(), failed.stderr);
        let _ = (says, Event::RunFailed { resource: None, error: String::new(), at: None, help: None });
        if failed.failure().is_none() {
            eprintln!("!!!!! {name} did not fail");
        }
        let st = staged(&host)?;
        if !st.is_empty() {
            eprintln!("!!!!! staged {st:?}");
        }
        if let Err(e) = shell(&host, stays) {
            eprintln!("!!!!! stays {e}");
        }
        eprintln!("tried {:?}", failed.tried());
        shell(&host, remove)?;
        let finished = host.apply(&[], &bundle)?;
        if finished.code != Some(0) {
            eprintln!("!!!!! not finished {} {}", finished.stderr, finished.code.unwrap_or(-1));
        }
        eprintln!("changed {:?}", finished.changed());
        assert_eq!(staged(&host)?, NOTHING);
    }
    Ok(())
}
