//! A name of a password or token that is given a value, in whatever language: `DB_PASSWORD=...`, `"token": "..."`.

use super::search::entropy;

/// The ends of such names, in any case.
pub(super) const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "_pwd",
    "_pass",
    "secret",
    "secret_key",
    "secretkey",
    "secret-key",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "access-key",
    "accesskey",
    "auth_key",
    "encryption_key",
    "encryption-key",
    "private_key",
    "license_key",
    "signing_key",
    "secret_key_base",
];

/// What comes behind a name, to the end of the value.
pub(super) const VALUE: &str = r#"^["'\]]{0,2}[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8}["']?([^\s"'<>{}$\\%(),;`\[\]|&*\x00-\x1f\x7f-\xff]{8,200})(?:["'\s;,&\\\x00]|$)"#;

/// In the place of a value, not a value.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "xxxx",
    "your",
    "dummy",
    "redacted",
    "none",
    "test",
];

/// Letters with digits, mixed as nobody writes words, paths, or names with numbers in them: 3 bits a byte need
/// eight different characters.
pub(super) fn is_plausible(value: &[u8]) -> bool {
    const LEAST: f64 = 3.0;
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let is_name = text.split(['/', '.', ':', '_', '-', '=', '+', '#']).all(|part| {
        part.bytes().all(|byte| byte.is_ascii_alphabetic()) || part.bytes().all(|byte| byte.is_ascii_digit())
    });
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !is_name
        && !text.starts_with(['/', '.', '-', '@', '#', '!'])
        && !text.contains("://")
        && !PLACEHOLDERS.iter().any(|placeholder| text.contains(placeholder))
        && entropy(value) >= LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_from_words() {
        for value in ["hunter2correct", "Tr0ub4dor&3x", "9f86d081884c7d65", "s3cr3t-p4ssw0rd!"] {
            assert!(is_plausible(value.as_bytes()), "{value}");
        }
        for value in ["required", "/run/secrets/db2", "pam_unix.so", "changeme123", "libpam-2", "aaaa1111"] {
            assert!(!is_plausible(value.as_bytes()), "{value}");
        }
    }
}
