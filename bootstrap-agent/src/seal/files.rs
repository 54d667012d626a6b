//! Files that are a leak by their name, and what a host's accounts must not be.

use std::path::Path;

/// The end of a path, and what the file is.
const ENDS: &[(&str, &str)] = &[
    (".aws/credentials", "AWS credentials"),
    (".docker/config.json", "credentials of a registry"),
    (".dockercfg", "credentials of a registry"),
    (".git-credentials", "credentials of a repository"),
    (".netrc", "credentials of hosts"),
    (".npmrc", "credentials of a registry"),
    (".pypirc", "credentials of a registry"),
    (".gem/credentials", "credentials of a registry"),
    (".cargo/credentials.toml", "credentials of a registry"),
    (".ssh/authorized_keys", "a key that logs in"),
    (".ssh/authorized_keys2", "a key that logs in"),
    (".kube/config", "credentials of a cluster"),
    (".pgpass", "credentials of a database"),
    (".my.cnf", "credentials of a database"),
    (".mylogin.cnf", "credentials of a database"),
    (".vault-token", "a token of Vault"),
    (".terraform.d/credentials.tfrc.json", "credentials of Terraform"),
    (".config/gcloud/credentials.db", "credentials of Google Cloud"),
    (".config/gcloud/application_default_credentials.json", "credentials of Google Cloud"),
    (".azure/msal_token_cache.json", "credentials of Azure"),
    (".config/gh/hosts.yml", "credentials of GitHub"),
    (".config/rclone/rclone.conf", "credentials of hosts"),
    (".s3cfg", "AWS credentials"),
    (".boto", "AWS credentials"),
    (".gnupg/secring.gpg", "a private key"),
    (".bash_history", "a history"),
    (".zsh_history", "a history"),
    (".sh_history", "a history"),
    (".mysql_history", "a history"),
    (".psql_history", "a history"),
    (".python_history", "a history"),
];

/// Files of keys, by what their name ends with.
const EXTENSIONS: &[&str] = &["p12", "pfx", "jks", "kdbx", "ppk"];

/// Accounts that tools make for a bake and that anybody knows how to get into.
const OF_A_BUILD: &[&str] = &["packer", "vagrant"];

/// What a file is by its name, if that is a leak.
pub(super) fn by_name(path: &Path) -> Option<&'static str> {
    let known = ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, what)| *what);
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let of_gnupg = path.parent().is_some_and(|folder| folder.ends_with(".gnupg/private-keys-v1.d"));
    known
        .or_else(|| EXTENSIONS.contains(&extension).then_some("a file of keys"))
        .or_else(|| of_gnupg.then_some("a private key"))
}

/// Whether a file, from the root, has accounts in it.
pub(super) fn has_accounts(path: &Path) -> bool {
    ["etc/passwd", "etc/shadow", "etc/gshadow"].iter().any(|known| path == Path::new(known))
}

/// What is wrong with the accounts in a file, each with its line.
pub(super) fn accounts(path: &Path, bytes: &[u8]) -> Vec<(usize, &'static str)> {
    let judge: fn(&[&str]) -> Option<&'static str> = match path.to_str() {
        Some("etc/shadow") => {
            |fields| password(fields, "an account without a password", "the password of an account")
        }
        // Nobody gets into a group without a password: that is none.
        Some("etc/gshadow") => {
            |fields| password(fields, "", "the password of a group").filter(|what| !what.is_empty())
        }
        Some("etc/passwd") => |fields| match fields {
            [name, ..] if OF_A_BUILD.contains(name) => Some("an account of a bake"),
            [name, _, "0", ..] if *name != "root" => Some("a second account with the rights of root"),
            [_, "x", ..] => None,
            _ => password(fields, "an account without a password", "the password of an account"),
        },
        _ => return Vec::new(),
    };
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains(':'));
    lines
        .filter_map(|(index, line)| Some((index + 1, judge(&line.split(':').collect::<Vec<_>>())?)))
        .collect()
}

/// An account that a password opens, or that none is needed for. What begins with `!` or `*` opens nothing.
fn password(fields: &[&str], none: &'static str, some: &'static str) -> Option<&'static str> {
    match fields.get(1)?.chars().next() {
        None => Some(none),
        Some('!' | '*') => None,
        Some(_) => Some(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_somebody_gets_into_are_told() {
        let shadow =
            b"root:*:1::::::\napp:!:1::::::\nlocked:!$y$j9T$x:1::::::\nbad:$y$j9T$x:1::::::\nopen::1::::::\n";
        assert_eq!(
            accounts(Path::new("etc/shadow"), shadow),
            [(4, "the password of an account"), (5, "an account without a password")]
        );
        let passwd = b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nvagrant:x:1000:1000::/:/bin/sh\nopen::1001:::\n";
        assert_eq!(
            accounts(Path::new("etc/passwd"), passwd),
            [
                (2, "a second account with the rights of root"),
                (3, "an account of a bake"),
                (4, "an account without a password")
            ]
        );
        assert_eq!(
            accounts(Path::new("etc/gshadow"), b"a:!::\nb::::\nc:$6$x::\n"),
            [(3, "the password of a group")]
        );
        assert!(accounts(Path::new("srv/etc/shadow"), shadow).is_empty());
    }

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(by_name(Path::new("srv/app/.aws/credentials")), Some("AWS credentials"));
        assert_eq!(by_name(Path::new("home/a/.gnupg/private-keys-v1.d/1.key")), Some("a private key"));
        assert_eq!(by_name(Path::new("etc/app/server.p12")), Some("a file of keys"));
        assert_eq!(by_name(Path::new("etc/netrc")), None);
    }
}
