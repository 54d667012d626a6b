//! `images/NAME.lock.json`: the AMI that an image's source was when it was baked last, in each region.
//!
//! `most_recent: true` and SSM parameters name another AMI every few weeks. Who wants the same one until a change of
//! this file is reviewed keeps it in version control and bakes with `--locked`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::source::{AmiSource, Ec2Source, Source};
use crate::failure::{Failure, failed};
use crate::file::write_whole;

/// The version of the format.
const VERSION: u32 = 1;

/// The lock of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    version: u32,
    /// What is locked in each region.
    ec2: BTreeMap<String, Locked>,
    /// Where it is.
    #[serde(skip)]
    path: PathBuf,
}

/// An AMI, and what it was found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    wanted: Ec2Source,
    id: String,
    name: String,
}

impl Lock {
    /// The lock beside the definition that has the source; empty if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn beside(definition: &Path) -> Result<Self, Failure> {
        let path = definition.with_extension("lock.json");
        let what = || format!("read `{}`", path.display());
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { version: VERSION, ec2: BTreeMap::new(), path });
            }
            text => text.map_err(failed(what()))?,
        };
        let lock: Self = serde_json::from_slice(&text).map_err(failed(what()))?;
        if lock.version != VERSION {
            let why = format!("`{}` has the version {}, not {VERSION}", path.display(), lock.version);
            return Err(Failure::new(why).help("bake with the version of baker that wrote it"));
        }
        Ok(Self { path, ..lock })
    }

    /// A source with the AMI in it that is locked.
    ///
    /// # Errors
    /// When none is, or what was wanted then is not what is wanted now.
    pub fn locked(&self, source: &Source, region: &str) -> Result<Source, Failure> {
        let Some(ec2) = &source.ec2 else {
            return Err(Failure::new("`--locked` is for a source on EC2, and the image has none"));
        };
        if ec2.ami.id.is_some() {
            return Ok(source.clone());
        }
        let again = "bake once without `--locked`, and keep the file that is written then";
        let path = self.path.display();
        match self.ec2.get(region) {
            None => Err(Failure::new(format!("`{path}` has no AMI for {region}")).help(again)),
            Some(locked) if locked.wanted != *ec2 => {
                Err(Failure::new(format!("`{path}` is of another source than the image has now")).help(again))
            }
            Some(locked) => {
                let ami = AmiSource { id: Some(locked.id.clone()), ..AmiSource::default() };
                Ok(Source { ec2: Some(Ec2Source { ami, ..ec2.clone() }), ..source.clone() })
            }
        }
    }

    /// Writes down what a source is in a region, if it has not been.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self, source: &Source, region: &str, id: &str, name: &str) -> Result<(), Failure> {
        let Some(ec2) = source.ec2.as_ref().filter(|ec2| ec2.ami.id.is_none()) else { return Ok(()) };
        let locked = Locked { wanted: ec2.clone(), id: id.to_owned(), name: name.to_owned() };
        if self.ec2.get(region) == Some(&locked) {
            return Ok(());
        }
        self.ec2.insert(region.to_owned(), locked);
        write_whole(&self.path, self).map_err(failed(format!("write `{}`", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Architecture;

    fn source(name: &str) -> Source {
        let ami = AmiSource {
            name: Some(name.into()),
            owner: Some("self".into()),
            most_recent: true,
            ..AmiSource::default()
        };
        Source { local: None, ec2: Some(Ec2Source { ami, release: None, arch: Architecture::X86_64 }) }
    }

    fn id(source: &Source) -> Option<String> {
        source.ec2.as_ref().and_then(|ec2| ec2.ami.id.clone())
    }

    #[test]
    fn what_was_found_is_found_again_until_something_else_is_wanted() {
        let folder = tempfile::tempdir().expect("a folder");
        let definition = folder.path().join("base.yaml");
        let lock = || Lock::beside(&definition).expect("a lock");
        let message =
            |source: &Source, region: &str| lock().locked(source, region).expect_err("not locked").message;
        assert!(
            message(&source("debian-*"), "us-east-1").ends_with("base.lock.json` has no AMI for us-east-1")
        );
        lock().keep(&source("debian-*"), "us-east-1", "ami-1", "debian-1").expect("written");
        lock().keep(&source("debian-*"), "eu-west-1", "ami-2", "debian-1").expect("written");
        let locked = lock().locked(&source("debian-*"), "us-east-1").expect("it is locked");
        assert_eq!(id(&locked).as_deref(), Some("ami-1"));
        assert!(
            message(&source("ubuntu-*"), "us-east-1")
                .ends_with("is of another source than the image has now")
        );
        lock().keep(&source("debian-*"), "us-east-1", "ami-3", "debian-2").expect("written");
        let locked = lock().locked(&source("debian-*"), "us-east-1").expect("it is locked");
        assert_eq!(id(&locked).as_deref(), Some("ami-3"));
        assert_eq!(lock().locked(&locked, "ap-south-1").map(|source| id(&source)), Ok(Some("ami-3".into())));
    }
}
