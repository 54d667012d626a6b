//! No moment at which another user can read a secret, and no write of one that leaves tmpfs: looked at all the time, while
//! every call that matters is slowed down. cloud-init's `write_files` is looked at the same way.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use testbed::app;
use testbed::binaries;
use testbed::cloud::PASSWORD;
use testbed::host::{Disk, Host};
use testbed::race::Reader;
use testbed::workspace::Workspace;

use crate::Outcome;
use crate::boot_watch::of_app;
use crate::hostile_hosts::AGENT;

const IMAGE: &str =
    "source: { local: { suite: bookworm } }\nrecipes: [ packages: { install: [cloud-init, strace] } ]\n";

/// After each of these there is time to look: the wait is in microseconds.
const SLOWLY: &str = "inject=openat,open,write,fchmod,chmod,fchmodat,fchown,chown,fchownat,rename,renameat,symlinkat,mkdirat,close:delay_exit=2000";

/// What a program wrote a secret into, and what another user could read it from meanwhile.
struct Seen {
    read: BTreeSet<PathBuf>,
    written: BTreeSet<String>,
}

fn watched(host: &Host, folders: &[&str], argv: &[&str]) -> Result<Seen, Box<dyn std::error::Error>> {
    // With the path of each file, and enough of what is written to find the secret in it.
    let strace =
        ["strace", "-f", "-y", "-qq", "-s", "65536", "-o", "/srv/trace", "-e", "trace=all", "-e", SLOWLY];
    let reader = Reader::start(host, folders, PASSWORD)?;
    host.output(&[&strace[..], argv].concat())?;
    assert!(reader.looks() > 100, "it looked {} times", reader.looks());
    let read = reader.end()?;
    let trace = fs::read(host.disk().tree().join("srv/trace"))?;
    let trace = String::from_utf8_lossy(&trace).into_owned();
    let writes = trace.lines().filter(|line| line.contains(PASSWORD) && is_write(line));
    let to = |line: &str| Some(line.split_once('<')?.1.split_once(">,")?.0.to_owned());
    Ok(Seen { read, written: writes.filter_map(to).collect() })
}

fn is_write(line: &str) -> bool {
    ["write(", "pwrite64(", "writev(", "sendto(", "sendmsg("].iter().any(|call| line.contains(call))
}

fn is_on_tmpfs(host: &Host, path: &str) -> std::io::Result<bool> {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    Ok(host.output(&["stat", "--file-system", "--format=%T", folder])?.trim() == "tmpfs")
}

#[test]
fn a_secret_is_at_no_moment_for_others_and_never_on_a_disk() -> Outcome {
    let cloud = of_app("credentials: { app: { password: secrets.db.password } }\nwatch: 1h")?;
    let workspace = Workspace::new()?.with("images/race.yaml", IMAGE)?;
    let disk = Disk::of_image(&workspace.bake("race")?)?;
    app::put(&disk)?;
    let host = cloud.boot(disk)?;
    let folders = [
        "/run/bootstrap-agent",
        "/run/credentials",
        "/run/systemd",
        "/etc/app",
        "/etc/systemd",
        "/var/lib/bootstrap-agent",
        "/tmp",
    ];
    let agent = watched(&host, &folders, &[AGENT, "run"])?;
    assert!(agent.read.is_empty(), "others could read {:?}", agent.read);
    assert!(!agent.written.is_empty(), "the secret was written");
    for path in &agent.written {
        assert!(path.starts_with("/memfd:") || is_on_tmpfs(&host, path)?, "it was written to {path}");
    }

    // The very code of cloud-init that writes the files of user-data.
    let script = format!(
        "from cloudinit.config import cc_write_files\ncc_write_files.write_files('probe', [{{'path': '/etc/probe/secret', 'content': '{PASSWORD}', 'permissions': '0600'}}], 'root:root')\n"
    );
    fs::write(host.disk().tree().join("srv/probe.py"), script)?;
    let probe = || watched(&host, &["/etc/probe"], &["python3", "/srv/probe.py"]);
    let mut cloud_init = probe()?;
    // Who looks may be kept from the processor at that very moment.
    for _ in 0..10 {
        if !cloud_init.read.is_empty() {
            break;
        }
        host.output(&["rm", "-r", "/etc/probe"])?;
        cloud_init = probe()?;
    }
    let mode = host.output(&["stat", "--format=%U %a", "/etc/probe/secret"])?;
    assert_eq!(mode.trim(), "root 600", "in the end nobody else can read it");
    let is_read = !cloud_init.read.is_empty();
    let mut is_on_disk = false;
    for path in &cloud_init.written {
        is_on_disk |= !is_on_tmpfs(&host, path)?;
    }

    let word = |is: bool| if is { "yes" } else { "no" };
    let table = format!(
        "| | read by another user meanwhile | written to a disk |\n|---|---|---|\n| `bootstrap-agent run` | no | no |\n| cloud-init, `write_files` with `permissions: '0600'` | {} | {} |\n",
        word(is_read),
        word(is_on_disk)
    );
    println!("{table}");
    let documented = fs::read_to_string(binaries::project().join("docs/boot.md"))?;
    assert!(documented.contains(&table), "docs/boot.md does not have this table:\n{table}");
    Ok(())
}
