//! What is only this host's, and must not be in an image: the list.
//!
//! Sources: AWS, "Recommendations for creating shared Linux AMIs"; EC2 Image Builder, "Security best
//! practices", the clean-up script; systemd, `docs/BUILDING_IMAGES.md`. Of Image Builder's list two are left: `locale.conf`
//! and `aliases.db` are what recipes and packages made of the image, and nothing makes them again.

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Do {
    /// It goes, with everything in it.
    Remove,
    /// What is in it goes; it stays.
    Empty,
    /// The file stays with nothing in it.
    Truncate,
    /// It goes if nothing is in it.
    RemoveEmpty,
    /// A file with this text and mode.
    Be(&'static str, u32),
}

use Do::{Empty, Remove, RemoveEmpty, Truncate};

/// Paths below the root, with `*` for any part of one name, and `~` for the home of each account.
pub(super) const RULES: &[(&str, Do)] = &[
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
    ("boot/loader/random-seed", Remove),
    ("boot/efi/loader/random-seed", Remove),
    ("efi/loader/random-seed", Remove),
    ("etc/udev/rules.d/70-persistent-net.rules", Remove),
    ("etc/udev/rules.d/70-persistent-cd.rules", Remove),
    // What the network of the builder told it.
    ("etc/resolv.conf", Remove),
    ("var/lib/dhcp/*", Remove),
    ("var/lib/dhclient/*", Remove),
    ("var/lib/NetworkManager/*lease*", Remove),
    ("var/lib/systemd/network/*", Remove),
    // What cloud-init did on the builder.
    ("var/lib/cloud/*", Remove),
    ("~/.ssh/authorized_keys", RemoveEmpty),
    ("etc/sudoers.d/90-cloud-init-users", Remove),
    ("etc/netplan/50-cloud-init.yaml", Remove),
    ("etc/network/interfaces.d/50-cloud-init*", Remove),
    ("etc/systemd/network/10-cloud-init-*", Remove),
    ("etc/NetworkManager/system-connections/cloud-init-*", Remove),
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
    ("var/log/cloud-init.log", Remove),
    ("var/log/cloud-init-output.log", Remove),
    ("var/log/amazon", Empty),
    ("var/log/sa", Empty),
    ("var/log/sysstat", Empty),
    ("var/lib/rsyslog/*", Remove),
    ("~/.*_history", Remove),
    ("~/.histfile", Remove),
    ("~/.zhistory", Remove),
    ("~/.local/share/fish/fish_history", Remove),
    ("~/.local/share/mc/history", Remove),
    ("~/.lesshst", Remove),
    ("~/.viminfo", Remove),
    ("~/.vim/.netrwhist", Remove),
    ("~/.wget-hsts", Remove),
    ("~/.cache", Remove),
    ("~/.ssh/known_hosts*", Remove),
    ("~/.sudo_as_admin_successful", Remove),
    // Agents, which are somebody else on every host.
    ("var/lib/amazon/ssm", Empty),
    ("opt/aws/amazon-cloudwatch-agent/logs", Empty),
    ("opt/aws/amazon-cloudwatch-agent/var", Empty),
    ("var/lib/ecs/data", Empty),
    ("var/lib/puppet/ssl", Empty),
    ("etc/puppetlabs/puppet/ssl", Empty),
    ("etc/chef/client.pem", Remove),
    ("var/lib/chef", Empty),
    ("etc/salt/minion_id", Remove),
    ("etc/salt/pki/minion", Empty),
    ("etc/docker/key.json", Remove),
    ("var/lib/docker/engine-id", Remove),
    ("var/lib/docker/swarm", Empty),
    ("var/lib/consul/node-id", Remove),
    ("var/lib/kubelet/pki", Empty),
    // Left over from the bake.
    ("tmp", Empty),
    ("var/tmp", Empty),
    ("run", Empty),
    ("var/crash/*", Remove),
    ("var/lib/systemd/coredump/*", Remove),
    ("var/lib/sudo/ts/*", Remove),
    ("var/lib/apport/coredump/*", Remove),
    ("var/spool/abrt/*", Remove),
    ("var/lib/postfix/master.lock", Remove),
    ("var/lib/misc/postfix.aliasesdb-stamp", Remove),
    ("var/spool/postfix/pid/*", Remove),
    ("var/lib/sudo/lectured/*", Remove),
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

/// Where a log is that was put aside: by number, by date, or packed.
pub(super) fn is_rotated(name: &str) -> bool {
    let digits = |text: &str, count: std::ops::RangeInclusive<usize>| {
        count.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let packed = [".gz", ".xz", ".zst", ".bz2", ".old"].iter().any(|end| name.ends_with(end));
    let numbered = name.rsplit_once('.').is_some_and(|(_, end)| digits(end, 1..=3));
    packed || numbered || name.rsplit_once('-').is_some_and(|(_, end)| digits(end, 8..=10))
}

/// Whether a file may be one that a crash left, by its name. [`is_core`] tells.
pub(super) fn is_named_core(name: &str) -> bool {
    ["core", "vgcore"].contains(&name.split('.').next().unwrap_or_default())
        || name.rsplit('.').next() == Some("core")
}

/// Whether a file that begins so has the memory of a program in it: `ET_CORE` as ELF's `e_type`, in either byte order.
pub(super) fn is_core(magic: &[u8]) -> bool {
    magic.starts_with(b"\x7fELF") && matches!(magic.get(16..18), Some([4, 0] | [0, 4]))
}

/// Where people and recipes edit files: an editor's copy there is its only trace in its name.
pub(super) const EDITED: &[&str] = &["etc", "root", "home", "opt", "srv", "usr/local"];

/// Whether an editor left a file, as its name alone says: `file~`, `#file#`, `.#file`, `.file.swp`.
pub(super) fn is_copy_of_an_editor(name: &str) -> bool {
    let autosave = name.len() > 2 && name.starts_with('#') && name.ends_with('#');
    let swap = name.starts_with('.') && [".swp", ".swo", ".swn"].iter().any(|end| name.ends_with(end));
    autosave || swap || name.ends_with('~') || name.starts_with(".#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_was_put_aside() {
        assert!(
            ["syslog.1", "dpkg.log.2.gz", "sudo.log-20261126", "x.old"].iter().all(|name| is_rotated(name))
        );
        assert!(["syslog", "app-v2", "nginx", "postgresql-15-main.log"].iter().all(|name| !is_rotated(name)));
        assert!(["hosts~", "#hosts#", ".hosts.swp", ".#hosts"].iter().all(|name| is_copy_of_an_editor(name)));
        assert!(["hosts", "#", "##", ".swp.d"].iter().all(|name| !is_copy_of_an_editor(name)));
    }

    #[test]
    fn cores_are_told_from_programs_of_that_name() {
        let elf = |kind: [u8; 2]| [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".as_slice(), &kind].concat();
        assert!(is_named_core("core.1234") && is_core(&elf([4, 0])) && is_core(&elf([0, 4])));
        assert!(!is_named_core("score") && !is_core(&elf([3, 0])) && !is_core(b"core"));
    }
}
