//! User-data that is believed: signed by a key that the image trusts, for this environment and role, and not older
//! than what this host has seen.
//!
//! The metadata service is whoever answers at its address. Where the image has `trusted-keys`, user-data counts only
//! with a signature as its last line:
//!
//! ```text
//! # signed: KEY SIGNATURE
//! ```
//!
//! KEY is the start of the digest of the ed25519 public key, SIGNATURE is in base64 and over everything before that
//! line. Signed user-data says its environment, role and `version` itself, and no tag can change them.

use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layers::{FOLDER, Layer, Written, is_private};

/// The file with the keys that an image trusts.
pub const KEYS: &str = "trusted-keys";

/// What a signature is for, so that one for something else is none for this.
const CONTEXT: &[u8] = b"bootstrap-agent user-data 1\n";

const MARK: &str = "# signed: ";

const SEEN: &str = "var/lib/bootstrap-agent/version.json";

/// A key that an image trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trusted {
    /// What people call it.
    name: String,
    public: Vec<u8>,
    /// The environments and roles that it may sign for; all if none is named.
    environments: Vec<String>,
    roles: Vec<String>,
}

/// The highest version that was believed, for one environment and role.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    environment: String,
    role: String,
    version: u64,
}

/// Finds out whether user-data is to be believed, if the image below `root` trusts keys at all. `image` are the layers
/// of the image, which may say which environment and role it is for, and the lowest `version`. What is believed is to be
/// remembered.
///
/// # Errors
/// Why it is not.
pub fn verify(root: &Path, image: &[Layer], user_data: &Layer) -> Result<Option<Seen>, String> {
    let Some(trusted) = trusted(root)? else { return Ok(None) };
    let (key, text) = signer(&trusted, user_data)?;
    let signed = Layer { bytes: text.to_vec(), ..user_data.clone() };
    let signed = Written::read(&[signed]).map_err(|problems| problems.to_string())?;
    let image = Written::read(image).ok();
    let mut names = Vec::new();
    for (field, allowed) in [("environment", &key.environments), ("role", &key.roles)] {
        let said = word(&signed, field).ok_or_else(|| {
            format!("the signed user-data does not say its {field}, and tags are not believed")
        })?;
        if !allowed.is_empty() && !allowed.contains(&said) {
            return Err(format!("the key `{}` may not sign for the {field} `{said}`", key.name));
        }
        if let Some(own) = image.as_ref().and_then(|image| word(image, field)).filter(|own| *own != said) {
            return Err(format!(
                "the user-data is signed for the {field} `{said}`, and this image is for `{own}`"
            ));
        }
        names.push(said);
    }
    let version = version(&signed).ok_or("the signed user-data has no `version`, a whole number")?;
    let lowest = image.as_ref().and_then(self::version).unwrap_or_default();
    let path = root.join(SEEN);
    let seen: Seen =
        fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let is_same = [&seen.environment, &seen.role].into_iter().eq(names.iter());
    let lowest = if is_same { lowest.max(seen.version) } else { lowest };
    if version < lowest {
        return Err(format!("the user-data has the version {version}, and {lowest} was seen already"));
    }
    let [environment, role] = <[String; 2]>::try_from(names).unwrap_or_default();
    Ok(Some(Seen { environment, role, version }))
}

impl Seen {
    /// Remembers it, so that nothing older is believed from now on.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn remember(&self, root: &Path) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        crate::status::replace(&root.join(SEEN), &bytes, 0o600)
            .map_err(|error| format!("failed to remember the version of the user-data: {error}"))
    }
}

/// Whether tags may name the environment and the role: not where user-data is signed.
pub fn believes_tags(root: &Path) -> bool {
    !root.join(FOLDER).join(KEYS).exists()
}

/// The text with a signature as its last line.
pub fn sign(text: &[u8], key: &Ed25519KeyPair) -> Vec<u8> {
    let mut signed = strip(text).map_or(text, |(text, _)| text).to_vec();
    if !signed.ends_with(b"\n") {
        signed.push(b'\n');
    }
    let signature = key.sign(&[CONTEXT, &signed].concat());
    let public = key.public_key().as_ref();
    signed.extend(format!("{MARK}{} {}\n", id(public), base64::encode(signature)).bytes());
    signed
}

/// A line for `trusted-keys`.
pub fn trusted_line(name: &str, key: &Ed25519KeyPair) -> String {
    format!("{name} {}", base64::encode(key.public_key()))
}

/// The key that signed, and the text that it signed.
fn signer<'a, 'b>(trusted: &'a [Trusted], user_data: &'b Layer) -> Result<(&'a Trusted, &'b [u8]), String> {
    let unsigned = "the user-data is not signed, and this image believes only what a key of its `trusted-keys` has signed";
    let (text, line) = strip(&user_data.bytes).ok_or(unsigned)?;
    let (wanted, signature) = line.trim().split_once(' ').ok_or("its signature is not one")?;
    let key = trusted.iter().find(|key| id(&key.public) == wanted).ok_or_else(|| {
        format!("the user-data is signed by the key {wanted}, which this image does not trust")
    })?;
    let signature = base64::decode(signature).map_err(|_| "its signature is not base64")?;
    UnparsedPublicKey::new(&ED25519, &key.public)
        .verify(&[CONTEXT, text].concat(), &signature)
        .map_err(|_| format!("the user-data is not what the key `{}` has signed", key.name))?;
    Ok((key, text))
}

/// The text before the last line, and what that says after its mark.
fn strip(bytes: &[u8]) -> Option<(&[u8], &str)> {
    let end = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = std::str::from_utf8(&end[start..]).ok()?.strip_prefix(MARK)?;
    Some((&bytes[..start], line))
}

/// The keys that the image trusts; none if it believes everything.
fn trusted(root: &Path) -> Result<Option<Vec<Trusted>>, String> {
    let path = root.join(FOLDER).join(KEYS);
    let shown = format!("/{FOLDER}/{KEYS}");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| format!("failed to read `{shown}`: {error}"))?,
    };
    if !is_private(&path).map_err(|error| format!("failed to read `{shown}`: {error}"))? {
        return Err(format!("`{shown}`: others than root can write it"));
    }
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let key = |(number, line): (usize, &str)| {
        let wrong = |why: &str| format!("{shown}:{}: {why}", number + 1);
        let mut words = line.split_whitespace();
        let (Some(name), Some(public)) = (words.next(), words.next()) else {
            return Err(wrong("expected a name and a public key"));
        };
        let public = base64::decode(public).ok().filter(|bytes| bytes.len() == 32);
        let public = public.ok_or_else(|| wrong("expected 32 bytes in base64, an ed25519 public key"))?;
        let mut key = Trusted { name: name.into(), public, environments: Vec::new(), roles: Vec::new() };
        for word in words {
            match word.split_once('=') {
                Some(("environment", name)) => key.environments.push(name.into()),
                Some(("role", name)) => key.roles.push(name.into()),
                _ => return Err(wrong("expected `environment=NAME` or `role=NAME` after the key")),
            }
        }
        Ok(key)
    };
    lines.map(key).collect::<Result<_, _>>().map(Some)
}

/// The start of the digest of a public key.
fn id(public: &[u8]) -> String {
    recipes::op::hex(&Sha256::digest(public))[..16].to_owned()
}

fn word(written: &Written, field: &str) -> Option<String> {
    Some(written.field(field)?.as_str("a word").ok()?.to_owned())
}

fn version(written: &Written) -> Option<u64> {
    written.field("version")?.to_json().as_u64()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    const TEXT: &str = "#!/usr/local/bin/bootstrap-agent run\nenvironment: prod\nrole: web\nversion: 7\n";

    struct Image {
        root: TempDir,
        key: Ed25519KeyPair,
        layers: Vec<Layer>,
    }

    fn image(options: &str, layer: &str) -> Image {
        let root = tempfile::tempdir().expect("a folder");
        let key = Ed25519KeyPair::generate().expect("random bytes");
        fs::create_dir_all(root.path().join(FOLDER)).expect("made");
        let line = format!("# who deploys\n{} {options}\n", trusted_line("deploy", &key));
        let path = root.path().join(FOLDER).join(KEYS);
        fs::write(&path, line).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("set");
        let layers = vec![Layer { name: "image".into(), bytes: layer.into(), is_user_data: false }];
        Image { root, key, layers }
    }

    impl Image {
        fn believes(&self, bytes: &[u8]) -> Result<(), String> {
            let believed = verify(self.root.path(), &self.layers, &Layer::user_data("user-data", bytes))?;
            believed.map_or(Ok(()), |seen| seen.remember(self.root.path()))
        }

        fn signed(&self, text: &str) -> Vec<u8> {
            sign(text.as_bytes(), &self.key)
        }
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_believed() {
        let image = image("", "");
        let signed = image.signed(TEXT);
        assert_eq!(image.believes(&signed), Ok(()));
        assert_eq!(sign(&signed, &image.key), signed, "signed again it is the same");
        assert!(!believes_tags(image.root.path()));
        insta::assert_snapshot!(image.believes(TEXT.as_bytes()).expect_err("not signed"), @"the user-data is not signed, and this image believes only what a key of its `trusted-keys` has signed");
        let text = String::from_utf8(signed.clone()).expect("text");
        let changed = text.replace("prod", "test");
        insta::assert_snapshot!(image.believes(changed.as_bytes()).expect_err("changed"), @"the user-data is not what the key `deploy` has signed");
        let more = text.clone() + "health: []\n";
        insta::assert_snapshot!(image.believes(more.as_bytes()).expect_err("more"), @"the user-data is not signed, and this image believes only what a key of its `trusted-keys` has signed");
        let other = sign(TEXT.as_bytes(), &Ed25519KeyPair::generate().expect("random bytes"));
        let error = image.believes(&other).expect_err("another key");
        assert!(error.ends_with(", which this image does not trust"), "{error}");
        for position in 0..signed.len() - 1 {
            let mut damaged = signed.clone();
            damaged[position] ^= 1;
            assert!(image.believes(&damaged).is_err(), "byte {position}");
        }
    }

    #[test]
    fn it_is_for_one_environment_and_role() {
        let limited = image("environment=prod role=web role=api", "");
        assert_eq!(limited.believes(&limited.signed(TEXT)), Ok(()));
        let error = |image: &Image, text: &str| image.believes(&image.signed(text)).expect_err(text);
        insta::assert_snapshot!(error(&limited, &TEXT.replace("prod", "test")), @"the key `deploy` may not sign for the environment `test`");
        insta::assert_snapshot!(error(&limited, "version: 1\nenvironment: prod\n"), @"the signed user-data does not say its role, and tags are not believed");
        let of_api = image("", "role: api\n");
        insta::assert_snapshot!(error(&of_api, TEXT), @"the user-data is signed for the role `web`, and this image is for `api`");
    }

    #[test]
    fn an_older_one_is_not_believed_again() {
        let image = image("", "version: 5\n");
        let error = |text: &str| image.believes(&image.signed(text)).expect_err(text);
        insta::assert_snapshot!(error(&TEXT.replace('7', "4")), @"the user-data has the version 4, and 5 was seen already");
        insta::assert_snapshot!(error(&TEXT.replace("version: 7\n", "")), @"the signed user-data has no `version`, a whole number");
        assert_eq!(image.believes(&image.signed(TEXT)), Ok(()));
        assert_eq!(image.believes(&image.signed(TEXT)), Ok(()), "the same again");
        insta::assert_snapshot!(error(&TEXT.replace('7', "6")), @"the user-data has the version 6, and 7 was seen already");
        let of_another_role = TEXT.replace("web", "api").replace('7', "6");
        assert_eq!(image.believes(&image.signed(&of_another_role)), Ok(()), "each role counts for itself");
    }

    #[test]
    fn keys_that_are_none_are_named_and_an_image_without_believes_everything() {
        let image = image("region=x", "");
        insta::assert_snapshot!(image.believes(TEXT.as_bytes()).expect_err("not an option"), @"/etc/bootstrap-agent/trusted-keys:2: expected `environment=NAME` or `role=NAME` after the key");
        let path = image.root.path().join(FOLDER).join(KEYS);
        fs::write(&path, "deploy AAAA\n").expect("written");
        insta::assert_snapshot!(image.believes(TEXT.as_bytes()).expect_err("short"), @"/etc/bootstrap-agent/trusted-keys:1: expected 32 bytes in base64, an ed25519 public key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
        insta::assert_snapshot!(image.believes(TEXT.as_bytes()).expect_err("anybody's"), @"`/etc/bootstrap-agent/trusted-keys`: others than root can write it");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        assert!(image.believes(TEXT.as_bytes()).is_err(), "no key signs nothing");
        fs::remove_file(&path).expect("removed");
        assert_eq!(image.believes(TEXT.as_bytes()), Ok(()));
        assert!(believes_tags(image.root.path()));
    }
}
