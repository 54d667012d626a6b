//! What stands for a secret in a plan: whether it changes can be seen, and what it is cannot be found out.
//!
//! A digest alone would not do: a password that somebody guesses could be compared with it. So it is keyed (HMAC-SHA-256),
//! and the key is random, of this boot, on tmpfs and for root alone.

use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::rand;
use recipes::op::hex;
use zeroize::Zeroizing;

use crate::status::replace;

const FILE: &str = "run/bootstrap-agent/fingerprint.key";

/// As long as what it is used with (RFC 2104, section 3).
const KEY_LENGTH: usize = 32;

/// Twelve digits tell the secrets of a host apart.
const DIGITS: usize = 12;

/// Makes the fingerprints of a boot.
#[derive(Debug)]
pub(crate) struct Fingerprints(Key);

impl Fingerprints {
    /// Keeps a key below a root, so that all plans of this boot have the same fingerprints.
    pub(crate) fn keep(root: &Path) -> io::Result<()> {
        let path = root.join(FILE);
        if read(&path).is_some() {
            return Ok(());
        }
        replace(&path, random()?.as_ref(), 0o600)
    }

    /// Those of this boot; if no key is kept, those of this process alone.
    pub(crate) fn of_boot(root: &Path) -> io::Result<Self> {
        let key = read(&root.join(FILE)).map_or_else(random, Ok)?;
        Ok(Self(Key::new(HMAC_SHA256, key.as_ref())))
    }

    /// The fingerprint of a secret.
    pub(crate) fn of(&self, secret: &[u8]) -> String {
        let mut digits = hex(sign(&self.0, secret).as_ref());
        digits.truncate(DIGITS);
        digits
    }
}

type Bytes = Zeroizing<[u8; KEY_LENGTH]>;

fn read(path: &Path) -> Option<Bytes> {
    let bytes = Zeroizing::new(fs::read(path).ok()?);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

fn random() -> io::Result<Bytes> {
    let mut key = Bytes::default();
    rand::fill(key.as_mut()).map_err(|_| io::Error::other("there are no random bytes"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn fingerprints_are_those_of_a_boot_and_its_key_is_for_root_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let of =
            |secret: &str| Fingerprints::of_boot(root.path()).expect("random bytes").of(secret.as_bytes());
        assert_ne!(of("hunter2"), of("hunter2"), "without a key each process has its own");
        Fingerprints::keep(root.path()).expect("written");
        let before = of("hunter2");
        assert_eq!((before.len(), before.as_str()), (12, of("hunter2").as_str()));
        assert_ne!(before, of("hunter3"));
        Fingerprints::keep(root.path()).expect("kept");
        assert_eq!(before, of("hunter2"), "the key is not made twice");
        let path = root.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "cut off").expect("written");
        Fingerprints::keep(root.path()).expect("made anew");
        assert_ne!(before, of("hunter2"));
    }
}
