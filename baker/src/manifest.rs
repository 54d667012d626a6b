//! `manifest.json`: what an image is, what it was made of, and what its bake came to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::bake::Step;
use crate::file::write_whole;
use crate::files::{Files, beside};
use crate::image::LocalSource;
use crate::record;

/// The version of the format.
pub const VERSION: u32 = 1;

/// The name of the file in an image's folder.
pub const MANIFEST: &str = "manifest.json";

/// What an image is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// `sha256:` and the digest of its archive, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `sha256:` and the digest of everything that went into it.
    pub input_digest: String,
    /// When it was baked, as RFC 3339.
    pub created: String,
    /// The run that baked it.
    pub run: String,
    /// Where it was baked.
    pub platform: String,
    /// The version of baker.
    pub baker: String,
    /// The SHA-256 of the agent that is in it.
    pub agent: String,
    /// What it started from.
    pub source: SourceRecord,
    /// The values of its variables.
    pub variables: Json,
    /// What was applied, with all inputs.
    pub recipes: Json,
    /// What will be applied at first boot, with all inputs; nothing if it has no boot of ours.
    pub boot: Json,
    /// How many resources were made true, and how many already were.
    pub resources: ResourceCounts,
    /// What was seen on the builder.
    pub checks: Vec<String>,
    /// Its archive, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// Its AMIs, that of the region of the bake first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amis: Vec<Ami>,
    /// The installed packages.
    pub packages: Vec<Package>,
    /// How long each step took.
    pub timings: Vec<Timing>,
    /// Whose each file is. It is in a file of its own.
    #[serde(skip)]
    pub files: Option<Files>,
    /// What a host of it can be compared with. It is in a file of its own.
    #[serde(skip)]
    pub record: Option<Vec<u8>>,
}

/// What an image started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceRecord {
    /// The packages of a distribution.
    Local(LocalSource),
    /// An AMI, whoever made it.
    Ami {
        /// The region that it is in.
        region: String,
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Another image.
    Image {
        /// Its name.
        name: String,
        /// Its digest.
        digest: String,
    },
}

/// How resources came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceCounts {
    /// Made true.
    pub changed: usize,
    /// True already.
    pub unchanged: usize,
}

/// The archive of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The name of the file beside the manifest.
    pub file: String,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// How much the tree takes when it is unpacked, in bytes.
    pub unpacked_bytes: u64,
}

/// An Amazon machine image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ami {
    /// The region that it is in.
    pub region: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The snapshots that it is made of, that of its root volume first.
    pub snapshots: Vec<String>,
}

/// What an image is as a thing that can be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    /// A tree in an archive, with the archive's SHA-256.
    Archive(Archive, String),
    /// An AMI.
    Ami(Ami),
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The step.
    pub step: Step,
    /// How long it took.
    pub milliseconds: u64,
}

/// The one part of a manifest that every version has.
#[derive(Deserialize)]
struct Format {
    version: u32,
}

impl Manifest {
    /// Reads the manifest in an image's folder; none if there is no image.
    ///
    /// # Errors
    /// When it cannot be read or is of another version.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(folder.join(MANIFEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let Format { version } = serde_json::from_slice(&bytes)?;
        if version != VERSION {
            let why = format!("it has the version {version}, and this program knows {VERSION}");
            return Err(io::Error::other(why));
        }
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Where the manifest of an image is, below the folder that images are kept in: an AMI has no folder of its own.
    pub fn place(output: &Path, image: &str, platform: &str) -> PathBuf {
        match platform {
            "local" => output.join(image).join(MANIFEST),
            platform => output.join(format!("{image}.{platform}.json")),
        }
    }

    /// Writes the manifest into an image's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        self.write_as(&folder.join(MANIFEST))
    }

    /// Writes the manifest as a file of its own, whole or not at all, with whose the files are and the record beside it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_as(&self, path: &Path) -> io::Result<()> {
        if let Some(files) = &self.files {
            files.write(&beside(path))?;
        }
        if let Some(bytes) = &self.record {
            record::write(path, bytes)?;
        }
        write_whole(path, self)
    }

    /// How old the image is.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(humantime::parse_rfc3339(&self.created).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest as the first release wrote it.
    const FIRST: &str = r#"{"version":1,"name":"web","description":"d","digest":"sha256:a","input_digest":"sha256:b","created":"2026-11-22T10:00:00Z","run":"r","platform":"local","baker":"0.1.0","agent":"c","source":{"local":{"suite":"bookworm","include":[]}},"variables":{},"recipes":[],"boot":null,"resources":{"changed":1,"unchanged":2},"checks":["x"],"archive":{"file":"rootfs.tar.zst","bytes":1,"unpacked_bytes":2},"packages":[{"name":"nginx","version":"1"}],"timings":[{"step":"launch","milliseconds":3}]}"#;

    #[test]
    fn a_manifest_of_the_first_release_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Manifest::read(folder.path()).expect("readable"), None);
        fs::write(folder.path().join(MANIFEST), FIRST).expect("written");
        let manifest = Manifest::read(folder.path()).expect("readable").expect("there");
        assert_eq!(serde_json::to_string(&manifest).expect("JSON"), FIRST);
        let now = humantime::parse_rfc3339("2026-11-22T11:00:00Z").expect("a time");
        assert_eq!(manifest.age(now), Some(Duration::from_hours(1)));
        fs::write(folder.path().join(MANIFEST), r#"{"version":2}"#).expect("written");
        assert!(Manifest::read(folder.path()).is_err());
    }
}
