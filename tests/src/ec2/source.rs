//! Disks that instances start from, as a distribution's own images have them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::disks;
use crate::binaries;
use crate::world::done;

/// What Debian's image for EC2 has of what a bake or a boot could need.
const PACKAGES: &str = "ca-certificates,cloud-init,dbus,iproute2,netbase,openssh-server,procps,python3,sudo,systemd,\
                        systemd-sysv,udev";

/// Its default user, and that it is on EC2. The network is made from outside, as it is for every container.
const CLOUD_INIT: &str = "\
datasource_list: [ Ec2 ]
datasource: { Ec2: { timeout: 5, max_wait: 20 } }
network: { config: disabled }
locale: false
system_info:
  default_user:
    name: admin
    gecos: Debian
    groups: [ adm, sudo ]
    sudo: [ \"ALL=(ALL) NOPASSWD:ALL\" ]
    shell: /bin/bash
    lock_passwd: true
";

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// A disk that is older is made anew: its packages have aged.
const MAX_AGE: Duration = Duration::from_hours(24);

/// A disk with Debian 12 on it: systemd, cloud-init, OpenSSH, sudo and Python, and the user `admin`. It is made once for
/// all tests, which takes about a minute.
///
/// # Errors
/// When it cannot be made.
pub fn debian() -> io::Result<PathBuf> {
    let folder = binaries::target()?.join("testbed/disks");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
    let disk = folder.join(format!("debian-12-{:016x}.ext4", binaries::hash(&[PACKAGES, CLOUD_INIT, HOSTS])));
    let age = fs::metadata(&disk).and_then(|metadata| metadata.modified()).ok();
    if age.and_then(|age| age.elapsed().ok()).is_some_and(|age| age < MAX_AGE) {
        return Ok(disk);
    }
    let work = TempDir::with_prefix_in("tree-", &folder)?;
    let tree = work.path().join("tree");
    // Its own mounts are in a namespace of their own, so nothing stays mounted if it is cut off.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "--", "mmdebstrap", "--variant=minbase"]);
    command.arg(format!("--include={PACKAGES}")).arg("bookworm").arg(&tree);
    done(command.env("TMPDIR", work.path()))?;
    finish(&tree)?;
    disks::make(&tree, &disk)?;
    Ok(disk)
}

/// What is not in packages.
fn finish(tree: &Path) -> io::Result<()> {
    fs::write(tree.join("etc/hosts"), HOSTS)?;
    fs::write(tree.join("etc/cloud/cloud.cfg.d/01_debian_cloud.cfg"), CLOUD_INIT)?;
    fs::write(tree.join("etc/machine-id"), "")?;
    for file in ["etc/hostname", "etc/resolv.conf"] {
        let _ = fs::remove_file(tree.join(file));
    }
    // Each host makes keys of its own.
    for entry in fs::read_dir(tree.join("etc/ssh"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
