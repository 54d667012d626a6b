//! `sign`: user-data that an image with `trusted-keys` believes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::{DONE, FAILED, complain};
use crate::config::Config;
use crate::config::signed::{sign, trusted_line};

/// Sign user-data, for images that believe only signed ones
///
/// The key is an ed25519 private key in PEM (PKCS #8), such as `openssl genpkey -algorithm ed25519` makes. Put the line
/// that `--public` prints into `/etc/bootstrap-agent/trusted-keys` of the image.
#[derive(Debug, clap::Args)]
pub(super) struct Sign {
    /// The user-data
    #[arg(value_name = "FILE", required_unless_present = "public")]
    file: Option<PathBuf>,
    /// The file with the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Make the key, if the file is not there
    #[arg(long)]
    generate: bool,
    /// Print the line for `trusted-keys` under this name, instead of signing
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    public: Option<String>,
}

impl Sign {
    pub(super) fn run(self) -> u8 {
        match self.signed() {
            Ok(bytes) => {
                let _ = io::stdout().write_all(&bytes);
                DONE
            }
            Err(why) => {
                complain(&format!("error: {why}"));
                FAILED
            }
        }
    }

    fn signed(&self) -> Result<Vec<u8>, String> {
        if self.generate && !self.key.exists() {
            generate(&self.key)?;
        }
        let key = read(&self.key)?;
        if let Some(name) = &self.public {
            return Ok(format!("{}\n", trusted_line(name, &key)).into_bytes());
        }
        let path = self.file.clone().unwrap_or_default();
        let name = path.display().to_string();
        let text = fs::read(&path).map_err(|error| format!("failed to read `{name}`: {error}"))?;
        // What no host could read is not worth a signature.
        let config = Config::parse(&name, &text).map_err(|problems| problems.to_string())?;
        if config.version.is_none() {
            return Err(format!("{name} has no `version`: without one, an older one could be played back"));
        }
        Ok(sign(&text, &key))
    }
}

fn read(path: &Path) -> Result<Ed25519KeyPair, String> {
    let wrong = |why: String| format!("`{}` is not an ed25519 private key in PEM: {why}", path.display());
    let pem = fs::read(path).map_err(|error| format!("failed to read `{}`: {error}", path.display()))?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| wrong(error.to_string()))?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        .map_err(|error| wrong(error.to_string()))
}

fn generate(path: &Path) -> Result<(), String> {
    let key = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let key = key.map_err(|_| "failed to make a key")?;
    let text = aws_smithy_types::base64::encode(key.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(pem.as_bytes()))
        .map_err(|error| format!("failed to write `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn verb(folder: &Path) -> Sign {
        Sign {
            file: Some(folder.join("user-data")),
            key: folder.join("key.pem"),
            generate: false,
            public: None,
        }
    }

    #[test]
    fn what_is_signed_is_valid_and_the_key_stays_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let public =
            Sign { file: None, generate: true, public: Some("deploy".into()), ..verb(folder.path()) };
        let line = String::from_utf8(public.signed().expect("a new key")).expect("text");
        assert!(line.starts_with("deploy ") && line.len() == "deploy ".len() + 45, "{line}");
        assert_eq!(public.signed().expect("the same key"), line.as_bytes());
        let mode = fs::metadata(folder.path().join("key.pem")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join("user-data"), "environment: prod\nrole: web\nversion: 1")
            .expect("written");
        let signed = String::from_utf8(verb(folder.path()).signed().expect("signed")).expect("text");
        assert!(signed.starts_with("environment: prod\nrole: web\nversion: 1\n# signed: "), "{signed}");
        Config::parse("user-data", signed.as_bytes()).expect("valid");
    }

    #[test]
    fn what_no_host_could_use_is_not_signed() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = |verb: &Sign| {
            verb.signed().expect_err("not signed").replace(&folder.path().display().to_string(), "")
        };
        insta::assert_snapshot!(error(&verb(folder.path())), @"failed to read `/key.pem`: No such file or directory (os error 2)");
        fs::write(
            folder.path().join("key.pem"),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .expect("written");
        assert!(error(&verb(folder.path())).starts_with("`/key.pem` is not an ed25519 private key in PEM: "));
        fs::remove_file(folder.path().join("key.pem")).expect("removed");
        let new = Sign { generate: true, ..verb(folder.path()) };
        fs::write(folder.path().join("user-data"), "environment: prod\nrole: web\n").expect("written");
        insta::assert_snapshot!(error(&new), @"/user-data has no `version`: without one, an older one could be played back");
        fs::write(folder.path().join("user-data"), "environment: prod\n").expect("written");
        insta::assert_snapshot!(error(&new), @"/user-data:1:1: the field `role` is missing");
    }
}
