//! What a host is: facts that do not change during a run.

use std::collections::BTreeMap;
use std::path::Path;

use super::reading;
use super::tree::Tree;
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
    let exists = |path: &str| {
        let path = Path::new(path);
        tree.is_host()
            .then(|| tree.entry(path).map_err(reading(path)))
            .transpose()
            .map(|entry| entry.flatten().is_some())
    };
    Ok(Host {
        os: os(&String::from_utf8_lossy(&text)),
        arch: std::env::consts::ARCH.into(),
        // systemd(1) in a container leaves its kind here; engines without it leave a marker.
        container: exists("/run/systemd/container")?
            || exists("/.dockerenv")?
            || exists("/run/.containerenv")?,
        // sd_booted(3)
        systemd: exists("/run/systemd/system")?,
        mode,
    })
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
        id: id.into(),
        family: family.into(),
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
        let ubuntu = os("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nUBUNTU_CODENAME=noble\n");
        assert_eq!((ubuntu.family.as_str(), ubuntu.codename.as_str()), ("debian", ""));
        assert_eq!(os("ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n").family, "fedora");
        assert_eq!(os("").id, "");
    }
}
