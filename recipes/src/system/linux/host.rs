//! What a host is: facts that do not change during a run.

use std::collections::BTreeMap;
use std::path::Path;

use super::tree::Tree;
use super::{live, reading};
use crate::system::{FactsError, Host, Mode, Os};

/// Looks at a tree, and at the running system if the tree is its root.
pub(super) fn detect(tree: &Tree, mode: Mode) -> Result<Host, FactsError> {
    let read = |path: &str| {
        let path = Path::new(path);
        tree.read(path).map_err(reading(path))
    };
    // /etc/os-release is a link on every distribution (os-release(5)).
    let text = match read("/usr/lib/os-release")? {
        Some(text) => text,
        None => read("/etc/os-release")?.unwrap_or_default(),
    };
    let exists = |path: &str| exists(tree, path);
    // Of a tree that is not booted nothing is known that only a kernel tells.
    let is_booted = tree.is_host();
    let container = is_booted && live::container(&|path| live::text(tree, path), &exists)?.is_some();
    let os = os(&String::from_utf8_lossy(&text));
    Ok(Host {
        package_manager: os.package_manager(),
        os,
        arch: std::env::consts::ARCH.into(),
        container,
        // sd_booted(3)
        systemd: is_booted && exists("/run/systemd/system")?,
        mode,
        live: (is_booted && mode == Mode::Live).then(|| live::detect(tree)).transpose()?,
    })
}

/// Whether anything is at a path.
pub(super) fn exists(tree: &Tree, path: &str) -> Result<bool, FactsError> {
    let path = Path::new(path);
    tree.entry(path).map_err(reading(path)).map(|entry| entry.is_some())
}

fn os(text: &str) -> Os {
    let values: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
        .collect();
    let value = |key: &str| values.get(key).copied().unwrap_or_default();
    let id = value("ID");
    let family = match (id, value("ID_LIKE").split_whitespace().next()) {
        ("debian", _) | (_, None) => id,
        _ if value("ID_LIKE").split_whitespace().any(|like| like == "debian") => "debian",
        (_, Some(like)) => like,
    };
    Os {
        name: value("PRETTY_NAME").into(),
        id: id.into(),
        family: family.into(),
        like: value("ID_LIKE").split_whitespace().map(str::to_owned).collect(),
        version: value("VERSION_ID").into(),
        codename: value("VERSION_CODENAME").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_os_release() {
        let debian = os(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
        );
        assert_eq!(
            (debian.id.as_str(), debian.family.as_str(), debian.version.as_str()),
            ("debian", "debian", "12")
        );
        assert_eq!((debian.name.as_str(), debian.like.len()), ("Debian GNU/Linux 12 (bookworm)", 0));
        let ubuntu = os("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nUBUNTU_CODENAME=noble\n");
        assert_eq!((ubuntu.family.as_str(), ubuntu.codename.as_str()), ("debian", ""));
        assert_eq!(os("ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n").family, "fedora");
        assert_eq!(os("ID=rocky\nID_LIKE=\"rhel centos fedora\"\n").like, ["rhel", "centos", "fedora"]);
        assert_eq!(os("").id, "");
    }
}
