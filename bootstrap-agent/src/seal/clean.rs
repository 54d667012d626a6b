//! What is only this host's, and must not be in an image.
//!
//! Sources: AWS, "Recommendations for creating shared Linux AMIs"; EC2 Image Builder, "Security best
//! practices", the clean-up script; systemd, `docs/BUILDING_IMAGES.md`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    /// It goes, with everything in it.
    Remove,
    /// What is in it goes; it stays.
    Empty,
    /// The file stays with nothing in it.
    Truncate,
    /// It goes if nothing is in it.
    RemoveEmpty,
}

use Do::{Empty, Remove, RemoveEmpty, Truncate};

/// Paths below the root, with `*` for any part of one name.
const RULES: &[(&str, Do)] = &[
    // The identity of the host. machine-id has to be there, empty: then first boot makes one.
    ("etc/machine-id", Truncate),
    ("var/lib/dbus/machine-id", Remove),
    ("var/lib/systemd/random-seed", Remove),
    ("var/lib/systemd/credential.secret", Remove),
    ("var/lib/urandom/random-seed", Remove),
    ("etc/ssh/ssh_host_*", Remove),
    ("etc/iscsi/initiatorname.iscsi", Remove),
    ("etc/nvme/hostid", Remove),
    ("etc/nvme/hostnqn", Remove),
    ("etc/udev/rules.d/70-persistent-net.rules", Remove),
    // What the network of the builder told it.
    ("etc/resolv.conf", Remove),
    ("var/lib/dhcp/*", Remove),
    ("var/lib/dhclient/*", Remove),
    ("var/lib/NetworkManager/*lease*", Remove),
    ("var/lib/systemd/network/*", Remove),
    // What cloud-init did on the builder.
    ("var/lib/cloud/*", Remove),
    ("root/.ssh/authorized_keys", RemoveEmpty),
    ("home/*/.ssh/authorized_keys", RemoveEmpty),
    ("etc/sudoers.d/90-cloud-init-users", Remove),
    ("etc/ssh/sshd_config.d/50-cloud-init.conf", Remove),
    // Package managers.
    ("var/lib/apt/lists/*", Remove),
    ("var/cache/apt/archives/*", Remove),
    ("var/cache/apt/*.bin", Remove),
    ("var/cache/dnf/*", Remove),
    ("var/cache/libdnf5/*", Remove),
    ("var/cache/yum/*", Remove),
    ("var/cache/debconf/*-old", Remove),
    ("var/lib/dpkg/*-old", Remove),
    ("var/backups/*", Remove),
    ("usr/sbin/policy-rc.d", Remove),
    // Logs and histories.
    ("var/log/journal/*", Remove),
    ("var/log/*.gz", Remove),
    ("var/log/*.1", Remove),
    ("var/log/*.old", Remove),
    ("var/log/*.xz", Remove),
    ("var/log/*/*.gz", Remove),
    ("var/log/*/*.xz", Remove),
    ("var/log/*/*.1", Remove),
    ("root/.*_history", Remove),
    ("root/.lesshst", Remove),
    ("root/.viminfo", Remove),
    ("root/.wget-hsts", Remove),
    ("root/.cache", Remove),
    ("home/*/.*_history", Remove),
    ("home/*/.lesshst", Remove),
    ("home/*/.viminfo", Remove),
    ("home/*/.wget-hsts", Remove),
    ("home/*/.cache", Remove),
    // Left over from the bake.
    ("tmp", Empty),
    ("var/tmp", Empty),
    ("run", Empty),
    ("var/crash/*", Remove),
    ("var/lib/systemd/coredump/*", Remove),
    ("var/lib/sudo/ts/*", Remove),
    ("var/mail/*", Remove),
    ("var/spool/mail/*", Remove),
    ("etc/passwd-", Remove),
    ("etc/shadow-", Remove),
    ("etc/group-", Remove),
    ("etc/gshadow-", Remove),
    ("etc/subuid-", Remove),
    ("etc/subgid-", Remove),
    ("etc/.pwd.lock", Remove),
    ("etc/.updated", Remove),
    ("var/.updated", Remove),
    ("var/cache/bootstrap-agent", Remove),
    ("var/lib/bootstrap-agent", Remove),
];

/// What could not be cleaned.
#[derive(Debug, thiserror::Error)]
#[error("failed to clean `{}`: {source}", path.display())]
pub struct CleanError {
    path: PathBuf,
    source: io::Error,
}

/// Removes what is only this host's, and returns the paths, from the root, that changed.
///
/// # Errors
/// The first path that could not be cleaned.
pub fn clean(root: &Path) -> Result<BTreeSet<String>, CleanError> {
    let mut cleaned = BTreeSet::new();
    let device = fs::metadata(root).map_err(|source| CleanError { path: root.to_owned(), source })?.dev();
    let mut cleaning = |path: &Path, action: Do| {
        let changed =
            apply(path, action, device).map_err(|source| CleanError { path: path.to_owned(), source })?;
        if changed {
            let inside = path.strip_prefix(root).unwrap_or(path);
            cleaned.insert(format!("/{}", inside.display()));
        }
        Ok(())
    };
    for (pattern, action) in RULES {
        for path in matches(root, pattern) {
            cleaning(&path, *action)?;
        }
    }
    for path in logs(&root.join("var/log")) {
        cleaning(&path, Truncate)?;
    }
    hostname(root, &mut cleaned)?;
    Ok(cleaned)
}

/// The name of the machine that baked is not the name of any host.
fn hostname(root: &Path, cleaned: &mut BTreeSet<String>) -> Result<(), CleanError> {
    const NAME: &str = "localhost\n";
    const MODE: u32 = 0o644;
    let path = root.join("etc/hostname");
    let mode = path.symlink_metadata().map(|metadata| metadata.mode() & 0o7777).unwrap_or_default();
    if mode == MODE && fs::read_to_string(&path).is_ok_and(|name| name == NAME) {
        return Ok(());
    }
    // Tools that make trees copy the machine's own file, with its mode.
    fs::write(&path, NAME)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(MODE)))
        .map_err(|source| CleanError { path, source })?;
    cleaned.insert("/etc/hostname".into());
    Ok(())
}

/// Every path that a pattern stands for. Links are not followed.
fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    for part in pattern.split('/') {
        paths = match part.split_once('*') {
            None => paths
                .into_iter()
                .map(|path| path.join(part))
                .filter(|path| path.symlink_metadata().is_ok())
                .collect(),
            Some(_) => paths.iter().flat_map(|path| children(path, part)).collect(),
        };
    }
    paths
}

fn children(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| fits(&entry.file_name().to_string_lossy(), pattern))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Whether a name fits a pattern, in which each `*` stands for any text.
fn fits(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let (first, last) = (parts.next().unwrap_or_default(), pattern.rsplit('*').next().unwrap_or_default());
    let Some(rest) = name.strip_prefix(first) else { return false };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    let middle: Vec<&str> = pattern.split('*').skip(1).collect();
    for part in middle.iter().take(middle.len().saturating_sub(1)) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Every log file that is not empty.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let mut logs = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path().symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) if metadata.is_file() && metadata.len() > 0 => logs.push(entry.path()),
                _ => {}
            }
        }
    }
    logs.sort();
    logs
}

/// Does it, on the root's own file system: what is mounted somewhere is not in the image.
fn apply(path: &Path, action: Do, device: u64) -> io::Result<bool> {
    let metadata = path.symlink_metadata()?;
    if metadata.dev() != device {
        return Ok(false);
    }
    match action {
        // A link of the distribution's, such as resolv.conf to systemd-resolved's, says nothing of the host.
        Remove if metadata.is_symlink() && path.ends_with("etc/resolv.conf") => Ok(false),
        Remove => {
            if metadata.is_dir() {
                for path in children(path, "*") {
                    apply(&path, Remove, device)?;
                }
            }
            let removed = if metadata.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            match removed {
                // Something is mounted in it.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    Ok(false)
                }
                other => other.map(|()| true),
            }
        }
        RemoveEmpty if metadata.len() > 0 => Ok(false),
        RemoveEmpty => fs::remove_file(path).map(|()| true),
        Truncate if metadata.len() == 0 => Ok(false),
        Truncate => File::options().write(true).truncate(true).open(path).map(|_| true),
        Empty => {
            let mut changed = false;
            for path in children(path, "*") {
                changed |= apply(&path, Remove, device)?;
            }
            Ok(changed)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn patterns_fit_names() {
        assert!(
            fits(".bash_history", ".*_history") && fits("ssh_host_rsa_key", "ssh_host_*") && fits("x", "*")
        );
        assert!(fits("a.lease.b", "*lease*") && fits("pkgcache.bin", "*.bin"));
        assert!(!fits("history", ".*_history") && !fits("bin", "*.bin") && !fits("abc", "*lease*"));
    }

    #[test]
    fn what_is_only_this_hosts_goes_and_everything_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        for path in [
            "etc/machine-id",
            "etc/ssh/ssh_host_rsa_key",
            "etc/resolv.conf",
            "etc/hostname",
            "etc/shadow-",
            "var/lib/apt/lists/x_Packages",
            "var/log/nginx/access.log",
            "var/log/dpkg.log.1",
            "root/.bash_history",
            "home/app/.lesshst",
            "tmp/x/y",
            "var/lib/bootstrap-agent/status.json",
            "var/cache/bootstrap-agent/downloads/2cf24dba",
            "var/lib/cloud/instance/x",
        ] {
            put(path, "x");
        }
        put("root/.ssh/authorized_keys", "");
        for path in [
            "etc/ssh/sshd_config",
            "etc/shadow",
            "var/lib/dpkg/status",
            "root/.bashrc",
            "home/app/data",
            "home/app/.ssh/authorized_keys",
        ] {
            put(path, "stays");
        }
        fs::set_permissions(root.join("etc/hostname"), fs::Permissions::from_mode(0o755)).expect("set");
        let cleaned = clean(root).expect("cleaned");
        let hostname = fs::metadata(root.join("etc/hostname")).expect("there");
        assert_eq!(hostname.mode() & 0o7777, 0o644, "the mode is not this machine's");
        assert_eq!(fs::read_to_string(root.join("etc/machine-id")).expect("there"), "");
        assert_eq!(fs::read_to_string(root.join("etc/hostname")).expect("there"), "localhost\n");
        assert_eq!(fs::read_to_string(root.join("var/log/nginx/access.log")).expect("there"), "");
        for path in [
            "etc/ssh/ssh_host_rsa_key",
            "etc/resolv.conf",
            "etc/shadow-",
            "var/log/dpkg.log.1",
            "tmp/x",
            "var/cache/bootstrap-agent",
            "home/app/.lesshst",
            "root/.ssh/authorized_keys",
        ] {
            assert!(!root.join(path).exists(), "{path}");
        }
        for path in
            ["etc/ssh/sshd_config", "etc/shadow", "var/lib/dpkg/status", "root/.bashrc", "home/app/data"]
        {
            assert_eq!(fs::read_to_string(root.join(path)).expect("there"), "stays", "{path}");
        }
        assert!(cleaned.contains("/etc/machine-id") && cleaned.contains("/var/log/nginx/access.log"));
        assert_eq!(clean(root).expect("cleaned"), BTreeSet::new(), "a second time there is nothing to do");
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("kept"), "x").expect("written");
        for (path, target) in [("tmp", "tmp"), ("var/lib/cloud", "cloud"), ("etc", "etc")] {
            let _ = target;
            fs::create_dir_all(folder.path().join(path)).expect("made");
        }
        symlink(outside.path(), folder.path().join("tmp/link")).expect("linked");
        symlink(outside.path(), folder.path().join("home")).expect("linked");
        symlink("../run/systemd/resolve/stub-resolv.conf", folder.path().join("etc/resolv.conf"))
            .expect("linked");
        clean(folder.path()).expect("cleaned");
        assert!(outside.path().join("kept").exists());
        assert!(folder.path().join("etc/resolv.conf").is_symlink(), "the distribution's link stays");
    }
}
