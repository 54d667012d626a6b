//! The last good values, for a reboot without a network.
//!
//! They are the only copy of secrets on a disk, sealed by `systemd-creds`: with the host's TPM where it has one, else
//! with the host's own key. They count for a while, on the hardware that they were sealed on, and only if nobody said
//! no: a network that is away is not a role that was taken away.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::signal::message::seconds;
use crate::source::fetched::Fetched;
use crate::source::instance::Identity;

/// The version of the format.
const VERSION: u32 = 1;

/// What the sealed file is for; systemd-creds opens it for nothing else.
const NAME: &str = "--name=bootstrap-agent.cache";

/// How long values count if nothing else is said.
pub const COUNTS: Duration = Duration::from_hours(7 * 24);

/// Everything that a boot needs from the network.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cached {
    version: u32,
    /// When it was sealed, in seconds since 1970.
    pub sealed: u64,
    /// For how many seconds it counts.
    counts: u64,
    /// The hardware that it was sealed on, if that can be told.
    hardware: Option<String>,
    /// The digest of the configuration that the values are for.
    pub digest: String,
    /// The user-data; none if there was none.
    pub user_data: Option<Vec<u8>>,
    /// The object with the rest of the configuration.
    #[serde(default)]
    pub object: Option<Vec<u8>>,
    /// What tags said, by field.
    pub tags: Vec<(String, String)>,
    /// The instance.
    pub identity: Identity,
    /// The values.
    pub fetched: Fetched,
}

/// Where the values are kept, and what seals them.
#[derive(Debug, Clone)]
pub struct Vault {
    file: PathBuf,
    root: PathBuf,
    program: PathBuf,
}

impl Cached {
    /// What was good just now.
    pub fn new(digest: &str, identity: &Identity, fetched: Fetched, counts: Duration) -> Self {
        Self {
            version: VERSION,
            sealed: seconds(SystemTime::now()),
            counts: counts.as_secs(),
            hardware: None,
            digest: digest.into(),
            user_data: None,
            object: None,
            tags: Vec::new(),
            identity: identity.clone(),
            fetched,
        }
    }

    /// The same with other values, which are good now.
    #[must_use]
    pub fn with(&self, fetched: Fetched) -> Self {
        Self {
            version: VERSION,
            sealed: seconds(SystemTime::now()),
            counts: self.counts,
            hardware: None,
            digest: self.digest.clone(),
            user_data: self.user_data.clone(),
            object: self.object.clone(),
            tags: self.tags.clone(),
            identity: self.identity.clone(),
            fetched,
        }
    }

    /// Whether it is of the version that this program knows.
    pub fn is_known(&self) -> bool {
        self.version == VERSION
    }

    /// When it was sealed, as RFC 3339.
    pub fn time(&self) -> String {
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(self.sealed))
            .to_string()
    }
}

impl Vault {
    /// The vault below a root.
    pub fn below(root: &Path) -> Self {
        let file = root.join("var/lib/bootstrap-agent/cache.sealed");
        Self { file, root: root.to_owned(), program: "systemd-creds".into() }
    }

    /// Seals what was good, in place of what was before.
    ///
    /// # Errors
    /// When it cannot be sealed or written; nothing is written then.
    pub fn seal(&self, cached: &mut Cached) -> Result<(), String> {
        cached.hardware = self.hardware();
        let text = Zeroizing::new(serde_json::to_vec(cached).map_err(|error| error.to_string())?);
        let sealed = self.run(&["encrypt", "--with-key=auto", NAME, "-", "-"], &text)?;
        crate::status::replace(&self.file, &sealed, 0o600)
            .map_err(|error| format!("failed to write `{}`: {error}", self.file.display()))
    }

    /// What was good last.
    ///
    /// # Errors
    /// When there is nothing, or it does not count: it is too old, or was sealed on another host.
    pub fn open(&self) -> Result<Cached, String> {
        let sealed = fs::read(&self.file).map_err(|_| "none were kept")?;
        let text = Zeroizing::new(self.run(&["decrypt", NAME, "-", "-"], &sealed)?);
        // It is not quoted in an error: it holds secrets.
        let cached: Cached = serde_json::from_slice(&text).map_err(|_| "they are not of this version")?;
        if !cached.is_known() {
            return Err("they are not of this version".into());
        }
        if cached.hardware != self.hardware() {
            return Err("they were kept on another host".into());
        }
        let age = seconds(SystemTime::now()).saturating_sub(cached.sealed);
        if age > cached.counts {
            return Err(format!("those of {} are too old", cached.time()));
        }
        Ok(cached)
    }

    /// Keeps nothing.
    pub fn clear(&self) {
        let _ = fs::remove_file(&self.file);
    }

    /// What tells this host from one that a copy of its disk runs on: the id of the instance, which Nitro puts into
    /// the firmware, or the id that other hypervisors give a machine.
    fn hardware(&self) -> Option<String> {
        let read = |name: &str| {
            let text = fs::read_to_string(self.root.join("sys/class/dmi/id").join(name)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        read("board_asset_tag").filter(|tag| tag.starts_with("i-")).or_else(|| read("product_uuid"))
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let program = self.program.display();
        let failed = |why: std::io::Error| format!("failed to run `{program}`: {why}");
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // It may end without reading all of it; how it ended says why.
            scope.spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(failed)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{program} {}` failed: {}", arguments[0], said.lines().last().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::source::parameters::{Kind, Parameter};

    /// A vault whose program only turns bytes around, which is enough to see what is written and what is read.
    fn vault() -> (TempDir, Vault) {
        let root = tempfile::tempdir().expect("a folder");
        let program = root.path().join("creds");
        fs::write(&program, "#!/bin/sh\n[ \"$1\" != broken ] && tr 'a-zA-Z' 'n-za-mN-ZA-M'\n")
            .expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
        let dmi = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&dmi).expect("made");
        fs::write(dmi.join("board_asset_tag"), "i-0123456789abcdef0\n").expect("written");
        let vault = Vault { program, ..Vault::below(root.path()) };
        (root, vault)
    }

    fn cached() -> Cached {
        let password = Parameter { value: "hunter2".into(), kind: Kind::Secret, version: 3 };
        let parameters = BTreeMap::from([("/acme/password".to_owned(), password)]);
        let fetched = Fetched { parameters, ..Fetched::default() };
        Cached::new(
            "digest",
            &Identity { region: "us-east-1".into(), ..Identity::default() },
            fetched,
            COUNTS,
        )
    }

    #[test]
    fn what_was_good_comes_back_and_is_on_the_disk_only_sealed() {
        let (root, vault) = vault();
        assert_eq!(vault.open().err().as_deref(), Some("none were kept"));
        vault.seal(&mut cached()).expect("sealed");
        let file = root.path().join("var/lib/bootstrap-agent/cache.sealed");
        assert!(!String::from_utf8_lossy(&fs::read(&file).expect("there")).contains("hunter2"));
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let opened = vault.open().expect("opened");
        assert_eq!(opened.fetched.parameters["/acme/password"].value, "hunter2");
        assert_eq!((opened.digest.as_str(), opened.identity.region.as_str()), ("digest", "us-east-1"));
        vault.clear();
        assert!(vault.open().is_err());
    }

    #[test]
    fn on_other_hardware_or_after_its_time_it_does_not_count() {
        let (root, vault) = vault();
        let mut old = cached();
        old.sealed -= COUNTS.as_secs() + 10;
        vault.seal(&mut old).expect("sealed");
        assert!(vault.open().err().is_some_and(|why| why.ends_with("are too old")));
        vault.seal(&mut cached()).expect("sealed");
        fs::write(root.path().join("sys/class/dmi/id/board_asset_tag"), "i-0fedcba9876543210\n")
            .expect("written");
        assert_eq!(vault.open().err().as_deref(), Some("they were kept on another host"));
    }

    #[test]
    fn without_a_seal_nothing_is_kept() {
        let (root, vault) = vault();
        let broken = Vault { program: "/nonexistent/systemd-creds".into(), ..vault.clone() };
        let why = broken.seal(&mut cached()).expect_err("no program");
        assert!(why.starts_with("failed to run `/nonexistent/systemd-creds`: "), "{why}");
        assert!(!root.path().join("var/lib/bootstrap-agent/cache.sealed").exists());
        fs::write(&vault.program, "#!/bin/sh\necho 'no key' >&2\nexit 1\n").expect("written");
        let why = vault.seal(&mut cached()).expect_err("no key");
        assert!(why.ends_with("encrypt` failed: no key"), "{why}");
        fs::create_dir_all(root.path().join("var/lib/bootstrap-agent")).expect("made");
        fs::write(root.path().join("var/lib/bootstrap-agent/cache.sealed"), "x").expect("written");
        fs::write(&vault.program, "#!/bin/sh\ncat\n").expect("written");
        assert_eq!(
            vault.open().err().as_deref(),
            Some("they are not of this version"),
            "and its text is not quoted"
        );
    }
}
