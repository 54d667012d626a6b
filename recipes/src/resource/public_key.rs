//! Public keys of SSH as `authorized_keys` has them (sshd(8)).

use std::fmt;
use std::str::FromStr;

use super::fields::one_line;
use crate::error::{Problem, did_you_mean};

/// A public key: its type, its bytes in base64, and a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    kind: &'static str,
    base64: String,
    comment: String,
}

/// The types that sshd takes. `ssh-dss` is none of them since OpenSSH 7.0.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// The options that sshd(8) knows, and whether each has a value.
const OPTIONS: [(&str, bool); 22] = [
    ("agent-forwarding", false),
    ("cert-authority", false),
    ("command", true),
    ("environment", true),
    ("expiry-time", true),
    ("from", true),
    ("no-agent-forwarding", false),
    ("no-port-forwarding", false),
    ("no-pty", false),
    ("no-touch-required", false),
    ("no-user-rc", false),
    ("no-X11-forwarding", false),
    ("permitlisten", true),
    ("permitopen", true),
    ("port-forwarding", false),
    ("principals", true),
    ("pty", false),
    ("restrict", false),
    ("tunnel", true),
    ("user-rc", false),
    ("verify-required", false),
    ("X11-forwarding", false),
];

impl FromStr for PublicKey {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        // The text is not repeated: what is wrong with it may be that it is secret.
        if ["PRIVATE KEY", "PuTTY-User-Key-File"].iter().any(|sign| text.contains(sign)) {
            return Err(Problem::new("this is a private key: whoever reads it can log in with it")
                .help("give the public one, `.pub`, and replace the pair if this file was shared"));
        }
        one_line("a key", text.trim())?;
        let mut words = text.split_whitespace();
        let (kind, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some(kind) = KINDS.into_iter().find(|known| *known == kind) else {
            return Err(Problem::new(format!("`{kind}` is not a type of SSH keys that sshd takes")).help(
                format!(
                    "a key starts with its type, options have a field of their own; {}",
                    did_you_mean(kind, &KINDS)
                ),
            ));
        };
        if !is_whole(kind, base64) {
            return Err(Problem::new(format!("the `{kind}` key is not whole, or is of another type"))
                .help("copy all of the line from the `.pub` file"));
        }
        let comment = words.collect::<Vec<_>>().join(" ");
        Ok(Self { kind, base64: base64.to_owned(), comment })
    }
}

impl PublicKey {
    /// Whether it is the same key, whatever the comments say.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.base64 == other.base64
    }

    /// Whether a line lets in with this key.
    pub(super) fn is_in(&self, line: &str) -> bool {
        // Options with spaces may come before it.
        let words: Vec<&str> = line.split_whitespace().collect();
        let comment = words.first().is_some_and(|first| first.starts_with('#'));
        !comment && words.windows(2).any(|pair| pair == [self.kind, self.base64.as_str()])
    }

    /// What tells it from others, short enough to read: the last of it, which is random.
    pub(super) fn short(&self) -> String {
        let tail = self.base64.get(self.base64.len().saturating_sub(12)..).unwrap_or_default();
        format!("{} ...{tail}", self.kind)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.base64)?;
        if self.comment.is_empty() { Ok(()) } else { write!(formatter, " {}", self.comment) }
    }
}

/// Whether base64 is a key of this type from its first to its last byte. It is strings with their lengths
/// in four bytes before them, the first of which is the type (RFC 4253, section 6.6).
fn is_whole(kind: &str, base64: &str) -> bool {
    let Some(bytes) = decode(base64) else { return false };
    let mut rest = bytes.as_slice();
    let mut strings = Vec::new();
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return false };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((string, after)) = after.split_at_checked(length) else { return false };
        strings.push(string);
        rest = after;
    }
    strings.len() > 1 && strings[0] == kind.as_bytes()
}

/// The bytes of base64 (RFC 4648, section 4), four characters to three bytes.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.as_bytes().chunks(4) {
        let mut bits: u32 = 0;
        for (at, c) in chunk.iter().enumerate() {
            bits |= u32::from(digit(*c)?) << (18 - 6 * at);
        }
        // Two characters make one byte, three make two.
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

/// Options as they stand before a key, with values in quotes.
pub(super) fn options(options: &[String]) -> Result<String, Problem> {
    let mut written = Vec::new();
    for option in options {
        one_line("an option of a key", option)?;
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option.as_str(), None),
        };
        // Names are compared without regard to case (sshd(8)).
        let known = OPTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        match (known, value) {
            (None, _) => {
                let names: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
                return Err(Problem::new(format!("`{name}` is not an option of a key"))
                    .help(did_you_mean(name, &names)));
            }
            (Some((_, true)), None | Some("")) => {
                return Err(Problem::new(format!("the option `{name}` needs a value: `{name}=VALUE`")));
            }
            (Some((_, false)), Some(_)) => {
                return Err(Problem::new(format!("the option `{name}` has no value")));
            }
            (Some(_), Some(value)) if value.starts_with('"') || value.ends_with('\\') => {
                return Err(Problem::new(format!(
                    "the value of `{name}` starts with a quote or ends in `\\`"
                ))
                .help("write it without quotes; those that it needs are added"));
            }
            (Some(_), Some(value)) => written.push(format!("{name}=\"{}\"", value.replace('"', "\\\""))),
            (Some(_), None) => written.push(name.to_owned()),
        }
    }
    Ok(written.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The bytes of these are counted up: nobody has private keys for them.
    const ED25519: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV";
    const ECDSA: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn a_key_is_found_in_a_line_by_itself() {
        let key: PublicKey = format!("  ssh-ed25519 {ED25519}  a  b\n").parse().expect("a key");
        assert_eq!(key.to_string(), format!("ssh-ed25519 {ED25519} a b"));
        assert!(key.is_in(&format!("restrict,command=\"a b\" ssh-ed25519 {ED25519}")));
        assert!(key.is_in(&format!("\tssh-ed25519 {ED25519} c")));
        assert!(!key.is_in(&format!("# ssh-ed25519 {ED25519}")));
        assert!(!key.is_in(&format!("ecdsa-sha2-nistp256 {ECDSA}")));
        assert!(format!("ecdsa-sha2-nistp256 {ECDSA}").parse::<PublicKey>().is_ok());
    }

    #[test]
    fn what_is_not_a_public_key_is_explained_and_not_repeated() {
        let problem = |text: &str| text.parse::<PublicKey>().expect_err("not a key").located();
        insta::assert_snapshot!(problem("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n"), @"this is a private key: whoever reads it can log in with it; give the public one, `.pub`, and replace the pair if this file was shared");
        insta::assert_snapshot!(problem(&format!("restrict ssh-ed25519 {ED25519}")), @"`restrict` is not a type of SSH keys that sshd takes; a key starts with its type, options have a field of their own; valid are `ssh-ed25519`, `sk-ssh-ed25519@openssh.com`, `ecdsa-sha2-nistp256`, `ecdsa-sha2-nistp384`, `ecdsa-sha2-nistp521`, `sk-ecdsa-sha2-nistp256@openssh.com` and `ssh-rsa`");
        insta::assert_snapshot!(problem("ssh-dss AAAA"), @"`ssh-dss` is not a type of SSH keys that sshd takes; a key starts with its type, options have a field of their own; did you mean `ssh-rsa`? valid are `ssh-ed25519`, `sk-ssh-ed25519@openssh.com`, `ecdsa-sha2-nistp256`, `ecdsa-sha2-nistp384`, `ecdsa-sha2-nistp521`, `sk-ecdsa-sha2-nistp256@openssh.com` and `ssh-rsa`");
        insta::assert_snapshot!(problem(&format!("ssh-rsa {ED25519}")), @"the `ssh-rsa` key is not whole, or is of another type; copy all of the line from the `.pub` file");
        insta::assert_snapshot!(problem(&format!("ssh-ed25519 {ED25519}\nssh-ed25519 {ED25519}")), @"a key goes into one line; it has a line end or NUL in it");
        for (kind, base64) in [("ssh-ed25519", ED25519), ("ecdsa-sha2-nistp256", ECDSA)] {
            assert!(is_whole(kind, base64));
            assert!((0..base64.len()).all(|cut| !is_whole(kind, &base64[..cut])), "{kind}");
        }
    }
}
