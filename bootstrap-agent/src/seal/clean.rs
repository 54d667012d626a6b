//! Removing what is only this host's, and looking afterwards whether it is gone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::major;

use super::leftovers::{Do, EDITED, RULES, is_copy_of_an_editor, is_core, is_named_core, is_rotated};

/// What a running host wrote in the meantime is removed once more, so often.
const ROUNDS: usize = 3;

/// Where nothing of the image is.
pub(super) const ELSEWHERE: &[&str] = &["proc", "sys", "dev", "run"];

/// What could not be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// A path that could not be removed or emptied.
    #[error("failed to clean `{}`: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there again as often as it is removed.
    #[error("what is only this host's is still there: {}; see what writes it, and stop that", .0.join(", "))]
    Left(Vec<String>),
}

/// Removes what is only this host's, looks whether it is gone, and returns the paths, from the root, that changed.
///
/// # Errors
/// The first path that could not be cleaned, or what is still there.
pub fn clean(root: &Path) -> Result<BTreeSet<String>, CleanError> {
    let failed = |path: &Path, source| CleanError::Path { path: path.to_owned(), source };
    let tree = Tree { root, disk: fs::metadata(root).map_err(|source| failed(root, source))?.dev() };
    let shown = |path: &Path| format!("/{}", path.strip_prefix(root).unwrap_or(path).display());
    let mut cleaned = BTreeSet::new();
    for _ in 0..ROUNDS {
        for (path, action) in tree.due() {
            tree.apply(&path, action).map_err(|source| failed(&path, source))?;
            cleaned.insert(shown(&path));
        }
        if tree.due().is_empty() {
            return Ok(cleaned);
        }
    }
    // A line in a log, of a service that was just told to stop, says nothing of the host.
    let left = tree.due().into_iter().filter(|(path, _)| !path.starts_with(root.join("var/log")));
    match left.map(|(path, _)| shown(&path)).collect::<Vec<_>>() {
        left if left.is_empty() => Ok(cleaned),
        left => Err(CleanError::Left(left)),
    }
}

struct Tree<'a> {
    root: &'a Path,
    /// The device that the root is on.
    disk: u64,
}

impl Tree<'_> {
    /// Everything that is to be done, in order.
    fn due(&self) -> Vec<(PathBuf, Do)> {
        let homes = self.homes();
        let rules = RULES.iter().flat_map(|(pattern, action)| {
            let patterns = match pattern.strip_prefix('~') {
                None => vec![(*pattern).to_owned()],
                Some(rest) => homes.iter().map(|home| format!("{home}{rest}")).collect(),
            };
            let paths = patterns.into_iter().flat_map(|pattern| self.matches(&pattern));
            paths.map(|path| (path, *action))
        });
        let mut due: Vec<(PathBuf, Do)> = rules.chain(self.strays()).collect();
        if self.root.join("etc").is_dir() {
            let identity = self.root.join("etc/machine-id");
            // Where it is missing, and cannot be made at boot, a host has another one at every boot.
            if identity.symlink_metadata().is_err() {
                due.push((identity, Do::Be("", 0o444)));
            }
            due.push((self.root.join("etc/hostname"), Do::Be("localhost\n", 0o644)));
        }
        due.retain(|(path, action)| self.is_due(path, *action));
        due.sort_by(|(one, _), (other, _)| one.cmp(other));
        due.dedup_by(|(later, _), (path, _)| later.starts_with(&*path));
        due
    }

    /// The homes of people and of accounts, from the root.
    fn homes(&self) -> BTreeSet<String> {
        let accounts = fs::read(self.root.join("etc/passwd")).unwrap_or_default();
        let accounts = String::from_utf8_lossy(&accounts).into_owned();
        let homes = accounts.lines().filter_map(|line| line.split(':').nth(5));
        let homes = homes.map(|home| home.trim_matches('/').to_owned()).filter(|home| !home.is_empty());
        homes.chain(["root".to_owned(), "home/*".to_owned()]).collect()
    }

    /// Logs, cores, and copies of editors, wherever they are.
    fn strays(&self) -> Vec<(PathBuf, Do)> {
        let mut strays = Vec::new();
        let mut folders = vec![self.root.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in children(&folder, "*") {
                let inside = path.strip_prefix(self.root).unwrap_or(&path);
                let Ok(metadata) = path.symlink_metadata() else { continue };
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if metadata.is_dir() {
                    if !ELSEWHERE.iter().any(|elsewhere| inside == Path::new(elsewhere)) {
                        folders.push(path);
                    }
                } else if inside.starts_with("var/log") && metadata.is_file() {
                    let action = if is_rotated(&name) { Do::Remove } else { Do::Truncate };
                    strays.push((path, action));
                } else if EDITED.iter().any(|edited| inside.starts_with(edited))
                    && is_copy_of_an_editor(&name)
                    || is_named_core(&name) && metadata.is_file() && is_core(&beginning(&path))
                {
                    strays.push((path, Do::Remove));
                }
            }
        }
        strays
    }

    /// Every path that a pattern stands for. Links are not followed.
    fn matches(&self, pattern: &str) -> Vec<PathBuf> {
        let mut paths = vec![self.root.to_owned()];
        for part in pattern.split('/') {
            paths = paths.iter().flat_map(|path| children(path, part)).collect();
        }
        paths
    }

    /// Whether something is in the image: on the disk of the root, or of another one, such as the partition that
    /// the firmware reads. What has no disk, such as a tmpfs, is not.
    fn has(&self, metadata: &fs::Metadata) -> bool {
        metadata.dev() == self.disk || major(metadata.dev()) != 0
    }

    /// Whether there is something to do.
    fn is_due(&self, path: &Path, action: Do) -> bool {
        let Ok(metadata) = path.symlink_metadata() else { return matches!(action, Do::Be(..)) };
        if !self.has(&metadata) {
            return false;
        }
        let holds_some = || children(path, "*").iter().any(|child| self.is_due(child, Do::Remove));
        match action {
            // A link of the distribution's, such as resolv.conf to systemd-resolved's, says nothing of the host.
            Do::Remove if metadata.is_symlink() => !path.ends_with("etc/resolv.conf"),
            // A folder in which something is mounted stays.
            Do::Remove => !metadata.is_dir() || children(path, "*").is_empty() || holds_some(),
            Do::Empty => metadata.is_dir() && holds_some(),
            Do::Truncate => metadata.is_file() && metadata.len() > 0,
            Do::RemoveEmpty => metadata.is_file() && metadata.len() == 0,
            Do::Be(text, mode) => {
                metadata.mode() & 0o7777 != mode
                    || fs::read_to_string(path).map_or(true, |found| found != text)
            }
        }
    }

    fn apply(&self, path: &Path, action: Do) -> io::Result<()> {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(_) if matches!(action, Do::Be(..)) => return put(path, action),
            // It went with what it was in, or whoever had it removed it.
            Err(_) => return Ok(()),
        };
        if !self.has(&metadata) {
            return Ok(());
        }
        match action {
            Do::Remove if metadata.is_dir() => {
                self.apply(path, Do::Empty)?;
                match fs::remove_dir(path) {
                    // Something is mounted in it.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                        ) =>
                    {
                        Ok(())
                    }
                    other => other,
                }
            }
            Do::Remove | Do::RemoveEmpty => fs::remove_file(path),
            Do::Truncate => File::options().write(true).truncate(true).open(path).map(|_| ()),
            Do::Empty => children(path, "*").iter().try_for_each(|child| self.apply(child, Do::Remove)),
            Do::Be(..) => put(path, action),
        }
    }
}

/// Writes a file with its mode.
fn put(path: &Path, action: Do) -> io::Result<()> {
    let Do::Be(text, mode) = action else { return Ok(()) };
    // Tools that make trees copy the machine's own file, with its mode.
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// How a file begins.
fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be read is found by the leak scan, which says so.
    let _ = File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes));
    bytes
}

fn children(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Vec::new();
    }
    if !pattern.contains('*') {
        let path = folder.join(pattern);
        return if path.symlink_metadata().is_ok() { vec![path] } else { Vec::new() };
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

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    /// Of each kind on the list one, or more: what is in a tree, and is not afterwards.
    const GOES: &[&str] = &[
        "var/lib/dbus/machine-id",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
        "boot/efi/loader/random-seed",
        "etc/iscsi/initiatorname.iscsi",
        "etc/nvme/hostid",
        "etc/udev/rules.d/70-persistent-net.rules",
        "etc/resolv.conf",
        "var/lib/dhcp/dhclient.eth0.leases",
        "var/lib/NetworkManager/internal-1-eth0.lease",
        "var/lib/systemd/network/lease",
        "var/lib/cloud/instance/user-data.txt",
        "var/log/cloud-init-output.log",
        "etc/sudoers.d/90-cloud-init-users",
        "etc/ssh/sshd_config.d/50-cloud-init.conf",
        "etc/netplan/50-cloud-init.yaml",
        "root/.ssh/known_hosts",
        "home/app/.ssh/known_hosts.old",
        "var/lib/apt/lists/x_Packages",
        "var/cache/apt/archives/x.deb",
        "var/cache/apt/pkgcache.bin",
        "var/cache/dnf/x/repodata/x.xml",
        "var/cache/yum/x",
        "var/log/journal/0123/system.journal",
        "var/log/dpkg.log.1",
        "var/log/apt/eipp.log.xz",
        "var/log/sudo.log-20261126",
        "var/log/amazon/ssm/amazon-ssm-agent.log",
        "var/lib/amazon/ssm/Vault/Store/RegistrationKey",
        "var/lib/puppet/ssl/private_keys/x.pem",
        "etc/chef/client.pem",
        "etc/docker/key.json",
        "root/.bash_history",
        "root/.python_history",
        "home/app/.lesshst",
        "home/app/.local/share/fish/fish_history",
        "srv/jenkins/.bash_history",
        "srv/jenkins/.cache/pip/x",
        "tmp/x/y",
        "var/tmp/.hidden",
        "var/crash/x.crash",
        "var/lib/systemd/coredump/core.x.zst",
        "var/mail/root",
        "var/lib/sudo/ts/ada",
        "etc/passwd-",
        "etc/shadow-",
        "etc/.updated",
        "etc/app.conf~",
        "etc/.app.conf.swp",
        "opt/app/#settings#",
        "usr/sbin/policy-rc.d",
        "var/lib/bootstrap-agent/status.json",
        "var/cache/bootstrap-agent/downloads/2cf24dba",
    ];

    const STAYS: &[&str] = &[
        "etc/ssh/sshd_config",
        "etc/shadow",
        "var/lib/dpkg/status",
        "root/.bashrc",
        "home/app/data",
        "home/app/.ssh/authorized_keys",
        "opt/app/core",
        "usr/share/x/backup~",
    ];

    #[test]
    fn what_is_only_this_hosts_goes_and_everything_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        GOES.iter().for_each(|path| put(root, path, b"x"));
        STAYS.iter().for_each(|path| put(root, path, b"stays"));
        put(root, "etc/passwd", b"root:x:0:0::/root:/bin/sh\njenkins:x:9:9::/srv/jenkins:/bin/sh\n");
        put(root, "etc/machine-id", b"0123");
        put(root, "etc/hostname", b"builder");
        put(root, "var/log/nginx/access.log", b"x");
        put(root, "root/.ssh/authorized_keys", b"");
        put(root, "srv/app/core.77", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0");
        fs::set_permissions(root.join("etc/hostname"), fs::Permissions::from_mode(0o755)).expect("set");
        let cleaned = clean(root).expect("cleaned");
        let hostname = fs::metadata(root.join("etc/hostname")).expect("there");
        assert_eq!(hostname.mode() & 0o7777, 0o644, "the mode is not this machine's");
        for (path, text) in
            [("etc/machine-id", ""), ("etc/hostname", "localhost\n"), ("var/log/nginx/access.log", "")]
        {
            assert_eq!(fs::read_to_string(root.join(path)).expect("there"), text, "{path}");
        }
        for path in GOES.iter().chain(&["root/.ssh/authorized_keys", "srv/app/core.77"]) {
            assert!(root.join(path).symlink_metadata().is_err(), "{path}");
        }
        for path in STAYS {
            assert_eq!(fs::read_to_string(root.join(path)).expect("there"), "stays", "{path}");
        }
        assert!(cleaned.contains("/etc/machine-id") && cleaned.contains("/var/log/nginx/access.log"));
        assert_eq!(clean(root).expect("cleaned"), BTreeSet::new(), "a second time there is nothing to do");
    }

    #[test]
    fn a_host_without_an_identity_gets_an_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), "etc/fstab", b"");
        clean(folder.path()).expect("cleaned");
        assert_eq!(fs::read(folder.path().join("etc/machine-id")).expect("there"), b"");
    }

    #[test]
    fn what_cannot_be_removed_is_told() {
        let left = CleanError::Left(vec!["/var/log/x.log".into()]);
        assert_eq!(
            left.to_string(),
            "what is only this host's is still there: /var/log/x.log; see what writes it, and stop that"
        );
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
