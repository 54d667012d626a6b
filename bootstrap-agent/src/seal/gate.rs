//! What the leak scan is told: secrets that the bake used, and files that may look like leaks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use aho_corasick::AhoCorasick;
use form_urlencoded::byte_serialize;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A shorter value is in every image, by chance.
const SHORTEST: usize = 6;

/// What is known before the scan.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Values that the bake used and that must not be in the image.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Files that may be in the image as they are.
    #[serde(default)]
    pub allowed: Vec<Allowed>,
    /// What resources made, by path. If it is said, whose each file is, is told.
    #[serde(default)]
    pub made: Option<BTreeMap<String, String>>,
}

/// A value that must not be in the image.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// What it is, for people.
    pub name: String,
    /// The value.
    pub value: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Secret({})", self.name)
    }
}

/// A file that looks like a leak and is none, or is meant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Where it is, from the root.
    pub path: String,
    /// Its SHA-256, in hexadecimal: another content is not allowed.
    pub sha256: String,
}

impl Gate {
    /// Reads what it is told, as JSON.
    ///
    /// # Errors
    /// When it is not valid, without quoting it.
    pub fn read(text: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(text).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            io::Error::new(io::ErrorKind::InvalidData, format!("it is not valid at {at}"))
        })
    }

    /// Whether a file is as it is allowed to be; nothing if it is not allowed at all.
    pub(super) fn allows(&self, root: &Path, path: &str) -> Option<bool> {
        let allowed = self.allowed.iter().filter(|allowed| allowed.path == path);
        allowed
            .map(|allowed| {
                sha256(&root.join(path.trim_start_matches('/'))).is_ok_and(|sum| sum == allowed.sha256)
            })
            .max()
    }
}

/// The digest of a file, in hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    super::packaged::each_part(&mut file, |part| hash.update(part))?;
    Ok(recipes::op::hex(&hash.finalize()))
}

/// The secrets of the bake, in every form that a program writes them in.
pub(super) struct Known {
    finder: AhoCorasick,
    /// What each form is of.
    names: Vec<String>,
}

impl Known {
    /// Nothing if there is no secret to look for.
    pub(super) fn new(secrets: &[Secret]) -> Option<Self> {
        let (mut forms, mut names) = (Vec::new(), Vec::new());
        for secret in secrets.iter().filter(|secret| secret.value.len() >= SHORTEST) {
            for form in forms_of(&secret.value) {
                names.push(format!("{}, a secret of the bake,", secret.name));
                forms.push(form);
            }
        }
        // No more secrets than people can name: they fit.
        (!forms.is_empty()).then(|| Self { finder: AhoCorasick::new(forms).expect("few texts"), names })
    }

    /// Where one is, and which. Of each the first.
    pub(super) fn look(&self, bytes: &[u8]) -> Vec<(usize, &str)> {
        let mut found: Vec<(usize, &str)> = Vec::new();
        for hit in self.finder.find_iter(bytes) {
            let name = self.names[hit.pattern().as_usize()].as_str();
            if !found.iter().any(|(_, other)| *other == name) {
                found.push((hit.start(), name));
            }
        }
        found
    }
}

/// As it is, in JSON, in a URL, and within base64 wherever its bytes begin there.
fn forms_of(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut forms = vec![
        value.to_owned(),
        json[1..json.len() - 1].to_owned(),
        byte_serialize(value.as_bytes()).collect(),
        percent(value),
    ];
    for skipped in 0..3 {
        // Of what comes before and behind, characters at the borders depend, too.
        let mut padded = vec![0; skipped];
        padded.extend(value.as_bytes());
        let whole = padded.len() / 3 * 3;
        let text = base64(&padded[..whole]);
        let inner = text[if skipped == 0 { 0 } else { 4 }..].to_owned();
        forms.push(inner.replace('+', "-").replace('/', "_"));
        forms.push(inner);
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

/// Everything but letters, digits and `-._~` as `%XX` (RFC 3986), a blank as well.
fn percent(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Of whole groups of three bytes (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks_exact(3) {
        let number = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[(number >> shift & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: &str) -> Known {
        Known::new(&[Secret { name: "DEPLOY_TOKEN".into(), value: value.into() }]).expect("long enough")
    }

    #[test]
    fn a_secret_of_the_bake_is_found_in_every_form() {
        let known = known("pass \"word\" & + ü/1");
        for form in [
            "x pass \"word\" & + ü/1",
            r#"{"a": "pass \"word\" & + ü/1"}"#,
            "?a=pass+%22word%22+%26+%2B+%C3%BC%2F1",
            "?a=pass%20%22word%22%20%26%20%2B%20%C3%BC%2F1",
            // echo -n X | base64, with nothing, `a` and `ab` before it.
            "cGFzcyAid29yZCIgJiArIMO8LzE=",
            "YXBhc3MgIndvcmQiICYgKyDDvC8x",
            "YWJwYXNzICJ3b3JkIiAmICsgw7wvMQ==",
        ] {
            let found = known.look(form.as_bytes());
            assert_eq!(
                found.iter().map(|(_, name)| *name).collect::<Vec<_>>(),
                ["DEPLOY_TOKEN, a secret of the bake,"],
                "{form}"
            );
        }
        assert!(known.look(b"pass \"word\" & + u/1").is_empty());
    }

    #[test]
    fn what_everything_has_in_it_is_not_looked_for() {
        assert!(Known::new(&[Secret { name: "x".into(), value: "short".into() }]).is_none());
    }

    #[test]
    fn what_is_not_valid_is_not_quoted() {
        let error = Gate::read(br#"{"secrets": [{"name": "x", "value": "s3cr3tvalue", "other": 1}]}"#)
            .expect_err("not valid");
        assert!(
            error.to_string().starts_with("it is not valid at line 1")
                && !error.to_string().contains("s3cr3t")
        );
    }
}
