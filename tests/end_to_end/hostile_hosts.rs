//! Hosts that resist: a run stops there and says why, leaves nothing half done, and goes on when it can.

use std::error::Error;
use std::fs;
use std::io;
use std::thread;

pub(crate) use baker::bake::AGENT;
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
        says: "failed to create /srv/read-only/a (root:root 0644, 3 bytes): failed to write `/srv/read-only/a`: Read-only file system (os error 30)",
        stays: "! test -e /srv/read-only/a",
        remove: "mount -o remount,rw /srv/read-only",
    },
    Obstacle {
        name: "full-disk",
        arrange: "mount -t tmpfs -o size=64k tmpfs /srv/full-disk; echo old > /srv/full-disk/a; cat /dev/zero > /srv/full-disk/fill || true",
        resource: "file: { path: /srv/full-disk/a, content: new }",
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
        says: "failed to link /srv/immutable-directory/a -> b: failed to link `/srv/immutable-directory/a`: Operation not permitted (os error 1)",
        stays: "! test -L /srv/immutable-directory/a",
        remove: "chattr -i /srv/immutable-directory",
    },
    Obstacle {
        name: "busy-file",
        arrange: "echo old > /srv/busy-file/a; mount --bind /srv/busy-file/a /srv/busy-file/a",
        resource: "file: { path: /srv/busy-file/a, content: new }",
        says: "failed to change /srv/busy-file/a: failed to write `/srv/busy-file/a`: Resource busy (os error 16)",
        stays: "grep -qx old /srv/busy-file/a",
        remove: "umount /srv/busy-file/a",
    },
    Obstacle {
        name: "busy-link",
        arrange: "echo old > /srv/busy-link/a; mount --bind /srv/busy-link/a /srv/busy-link/a",
        resource: "symlink: { path: /srv/busy-link/a, target: b }",
        says: "failed to link /srv/busy-link/a -> b: failed to link `/srv/busy-link/a`: Resource busy (os error 16)",
        stays: "grep -qx old /srv/busy-link/a",
        remove: "umount /srv/busy-link/a",
    },
    Obstacle {
        name: "busy-directory",
        arrange: "mkdir /srv/busy-directory/a; mount -t tmpfs tmpfs /srv/busy-directory/a; touch /srv/busy-directory/a/b",
        resource: "absent: { path: /srv/busy-directory/a, recursive: true }",
        says: "failed to remove /srv/busy-directory/a and everything in it: failed to remove `/srv/busy-directory/a`: Resource busy (os error 16)",
        stays: "test -e /srv/busy-directory/a/b",
        remove: "umount /srv/busy-directory/a",
    },
    Obstacle {
        name: "bind-mount",
        arrange: "mkdir -p /srv/bind-mount/a/b /srv/elsewhere; touch /srv/elsewhere/kept; mount --bind /srv/elsewhere /srv/bind-mount/a/b",
        resource: "directory: { path: /srv/bind-mount/a, state: absent }",
        says: "failed to remove /srv/bind-mount/a and everything in it: failed to remove `/srv/bind-mount/a`: Resource busy (os error 16)",
        stays: "test -e /srv/elsewhere/kept",
        remove: "umount /srv/bind-mount/a/b",
    },
    Obstacle {
        name: "dangling",
        arrange: "ln -s nowhere /srv/dangling/link",
        resource: "file: { path: /srv/dangling/link/a, content: new }",
        says: "failed to create /srv/dangling/link/a (root:root 0644, 3 bytes): failed to write `/srv/dangling/link/a`: No such file or directory (os error 2)",
        stays: "! test -e /srv/dangling/nowhere",
        remove: "mkdir /srv/dangling/nowhere",
    },
    Obstacle {
        name: "loop",
        arrange: "ln -s b /srv/loop/a; ln -s a /srv/loop/b",
        resource: "directory: { path: /srv/loop/a/c/d }",
        says: "failed to read `/srv/loop/a/c/d`: Symbolic link loop (os error 40)",
        stays: "test -L /srv/loop/a",
        remove: "rm /srv/loop/b; mkdir /srv/loop/b",
    },
    Obstacle {
        name: "directory-for-file",
        arrange: "mkdir /srv/directory-for-file/a",
        resource: "file: { path: /srv/directory-for-file/a, content: new }",
        says: "`/srv/directory-for-file/a` is a directory, not a file",
        stays: "test -d /srv/directory-for-file/a",
        remove: "rmdir /srv/directory-for-file/a",
    },
    Obstacle {
        name: "file-for-directory",
        arrange: "echo old > /srv/file-for-directory/a",
        resource: "directory: { path: /srv/file-for-directory/a/b }",
        says: "`/srv/file-for-directory/a` is a file, not a directory",
        stays: "grep -qx old /srv/file-for-directory/a",
        remove: "rm /srv/file-for-directory/a",
    },
    Obstacle {
        name: "no-owner",
        arrange: "true",
        resource: "file: { path: /srv/no-owner/a, content: new, owner: latecomer }",
        says: "the user `latecomer` does not exist; put a `user: { name: latecomer }` before it",
        stays: "! test -e /srv/no-owner/a",
        remove: "useradd --system latecomer",
    },
    Obstacle {
        name: "read-only-accounts",
        arrange: "mount --bind /etc /etc; mount -o remount,bind,ro /etc",
        resource: "user: { name: probe, system: true }",
        says: "failed to create the user probe: `useradd --system --no-create-home --user-group probe` ended with 1\n  useradd: cannot lock /etc/passwd; try again later.",
        stays: "! getent passwd probe",
        remove: "umount /etc",
    },
    Obstacle {
        name: "read-only-state",
        arrange: "mkdir -p /var/lib/bootstrap-agent; mount -t tmpfs -o ro tmpfs /var/lib/bootstrap-agent",
        resource: "file: { path: /srv/read-only-state/a, content: new }\n    notify: told",
        says: "the run cannot go on: failed to write `/var/lib/bootstrap-agent/handlers.json`: Read-only file system (os error 30)",
        stays: "! test -e /srv/read-only-state/a",
        remove: "umount /var/lib/bootstrap-agent",
    },
    Obstacle {
        name: "no-mirror",
        arrange: "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] http://127.0.0.1:9/ ./' > /etc/apt/sources.list",
        resource: "package: { name: probe-late }",
        says: "E: Failed to fetch http://127.0.0.1:9/./InRelease  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)",
        stays: "! dpkg-query --status probe-late",
        remove: "echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list",
    },
];

/// A host with what puts obstacles in the way, and a repository of its own that it does not use yet.
pub(crate) fn host(world: &World) -> Result<Host, Box<dyn Error>> {
    let workspace = Workspace::new()?.with(
        "images/probe.yaml",
        "source: { local: { suite: bookworm } }\nrecipes: [ packages: { install: [e2fsprogs, strace] } ]\n",
    )?;
    let disk = Disk::of_image(&workspace.bake("probe")?)?;
    let repository = disk.tree().join("srv/repository");
    apt::repository(&repository, &[("probe-late", "1.0")])?;
    // Nobody has its key here: it is trusted without a signature, and must not have one.
    fs::remove_file(repository.join("InRelease"))?;
    Ok(Host::boot(disk, world.place(2)?)?)
}

pub(crate) fn shell(host: &Host, script: &str) -> io::Result<String> {
    host.output(&["sh", "-ec", script])
}

/// Files of runs that are not in place, anywhere on the host.
pub(crate) fn staged(host: &Host) -> io::Result<Vec<String>> {
    let found = shell(host, "find /etc /srv /run /usr /var -name '*.staged'")?;
    Ok(found.lines().map(str::to_owned).collect())
}

#[test]
fn a_run_stops_at_an_obstacle_says_why_and_goes_on_when_it_is_gone() -> Outcome {
    let world = World::new()?;
    let host = host(&world)?;
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
        assert_eq!(failed.code, Some(1), "{name}: {failed:?}");
        let failure = failed.failure().unwrap_or_default();
        assert!(failure.contains(says), "{name}: {failure}");
        // What the run itself needs, rather than a resource, is at no place in a recipe.
        let place = "probe/recipe.yaml:3:5: probe: ";
        assert!(failure.starts_with(place) || failure.starts_with("the run cannot go on: "), "{failure}");
        assert!(failed.stderr.contains("× "), "{name}: people are told, too: {}", failed.stderr);
        let reached = format!("probe: file /srv/done/{name}-before");
        assert!(failed.changed().contains(reached.as_str()), "{name}: {failed:?}");
        shell(&host, stays).map_err(|error| format!("{name}: {error}"))?;
        let after = format!("test -e /srv/done/{name}-before; ! test -e /srv/done/{name}-after");
        shell(&host, &after).map_err(|error| format!("{name}: what comes after it is not tried: {error}"))?;
        assert_eq!(staged(&host)?, NOTHING, "{name}");

        shell(&host, remove)?;
        let finished = host.apply(&[], &bundle)?;
        assert_eq!(finished.code, Some(0), "{name}: {}", finished.stderr);
        assert!(!finished.changed().contains(reached.as_str()), "{name}: it goes on from there");
        shell(&host, &format!("test -e /srv/done/{name}-after"))?;
        let again = host.apply(&[], &bundle)?;
        assert!(again.changed().is_empty(), "{name}: {again:?}");
        assert_eq!(staged(&host)?, NOTHING, "{name}");
    }
    // The handler was notified by the one run that could not remember it, and so by the next.
    shell(&host, "test -e /srv/done/read-only-state-told")?;

    a_second_run_is_refused(&host)
}

fn a_second_run_is_refused(host: &Host) -> Outcome {
    let wait = "touch /srv/first-runs; until test -e /srv/first-may-end; do sleep 0.05; done";
    let first = host.put(
        "first",
        &format!(
            "resources: [ {{ command: {{ argv: [sh, -c, \"{wait}\"], creates: /srv/first-may-end }} }} ]"
        ),
    )?;
    let second = host.put("second", "resources: [ { file: { path: /srv/done/second, content: x } } ]")?;
    thread::scope(|scope| {
        let running = scope.spawn(|| host.apply(&[], &first));
        shell(host, "timeout 60 sh -c 'until test -e /srv/first-runs; do sleep 0.05; done'")?;
        let process = shell(host, "cat /run/bootstrap-agent/apply.lock")?;
        let refused = host.apply(&[], &second)?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert_eq!(
            refused.failure(),
            Some(format!(
                "the run cannot go on: another run is changing this host (process {process}); wait for it to end"
            ))
        );
        shell(host, "test ! -e /srv/done/second; touch /srv/first-may-end")?;
        let first = running.join().map_err(|_| "the first run panicked")??;
        assert_eq!(first.code, Some(0), "{first:?}");
        assert_eq!(host.apply(&[], &second)?.code, Some(0));
        Ok(())
    })
}
