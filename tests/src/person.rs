//! Somebody who logs in to hosts over SSH.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::world::{Place, done};

/// A person with a key.
#[derive(Debug)]
pub struct Person {
    keys: TempDir,
}

impl Person {
    /// Somebody new.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> io::Result<Self> {
        let person = Self { keys: TempDir::with_prefix("person-")? };
        done(
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(person.path("key")),
        )?;
        Ok(person)
    }

    /// The public key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn public(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.path("key.pub"))?.trim().to_owned())
    }

    /// A file of theirs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.keys.path().join(name)
    }

    /// A client of SSH that believes any host, without its destination. It is at a host's place, or where it is run.
    pub fn ssh(&self, at: Option<&Place>, port: u16) -> Command {
        let mut command = match at {
            Some(place) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", place.namespace())).args(["--", "timeout"]);
                command
            }
            None => Command::new("timeout"),
        };
        command
            .args([
                "60",
                "ssh",
                "-F",
                "none",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "ConnectTimeout=10", "-p", &port.to_string(), "-i"])
            .arg(self.path("key"));
        command
    }
}

/// What a program said, on both its outputs.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
