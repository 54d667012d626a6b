//! The agent's binary: found, and checked before anything is launched.

use std::fs;
use std::path::{Path, PathBuf};

use recipes::bundle::SCHEMA;
use recipes::op::hex;
use sha2::{Digest, Sha256};

/// A binary that can be uploaded.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
}

/// Why a binary cannot be uploaded.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is none.
    #[error("there is no agent: none of {} exists", list(.0))]
    Missing(Vec<PathBuf>),
    /// It cannot be read.
    #[error("failed to read the agent `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not for the builder.
    #[error("the agent `{}` cannot be used: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl AgentError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        let build = "cargo build --profile agent --target x86_64-unknown-linux-musl -p bootstrap-agent";
        match self {
            Self::Missing(_) => format!("build one with `{build}`, or name one with `--agent`"),
            _ => format!("build one of this release with `{build}`"),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

impl Agent {
    /// The given binary, else `bootstrap-agent-ARCH` or `bootstrap-agent` in one of the folders.
    ///
    /// # Errors
    /// When there is none, or it is not static, of another architecture, or of another release.
    pub fn find(given: Option<&Path>, folders: &[PathBuf], arch: &str) -> Result<Self, AgentError> {
        let candidates: Vec<PathBuf> = match given {
            Some(path) => vec![path.to_owned()],
            None => folders
                .iter()
                .flat_map(|folder| {
                    [folder.join(format!("bootstrap-agent-{arch}")), folder.join("bootstrap-agent")]
                })
                .collect(),
        };
        let Some(path) = candidates.iter().find(|path| path.is_file()) else {
            return Err(AgentError::Missing(candidates));
        };
        let bytes = fs::read(path).map_err(|source| AgentError::Unreadable { path: path.clone(), source })?;
        check(&bytes, arch).map_err(|why| AgentError::Unfit { path: path.clone(), why })?;
        Ok(Self { path: path.clone(), sha256: hex(&Sha256::digest(&bytes)) })
    }
}

/// Looks into the binary without running it: it may be for another architecture. See elf(5).
fn check(bytes: &[u8], arch: &str) -> Result<(), String> {
    let number = |offset: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(offset..offset + length)?;
        bytes
            .iter()
            .rev()
            .try_fold(0_usize, |number, byte| number.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err("it is not a 64-bit Linux program".into());
    }
    let machine = match number(18, 2) {
        Some(62) => "x86_64",
        Some(183) => "aarch64",
        _ => "another processor",
    };
    if machine != arch {
        return Err(format!("it is for {machine}, and the builder is {arch}"));
    }
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return Err("it is cut off".into());
    };
    // PT_INTERP: a program that needs a loader needs the libraries of the host.
    if (0..count).any(|index| number(table + index * size, 4) == Some(3)) {
        return Err("it is not static".into());
    }
    let marker = |schema: &str| format!("bootstrap-agent bundle schema {schema};");
    let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    if contains(&marker(&SCHEMA.to_string())) {
        return Ok(());
    }
    if contains("bootstrap-agent bundle schema ") {
        return Err("it is of another release: it knows another version of bundles".into());
    }
    Err("it is not a bootstrap-agent".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of an ELF file with one program header.
    fn elf(machine: u16, header: u32, text: &str) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes.extend_from_slice(&header.to_le_bytes());
        bytes.resize(200, 0);
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    #[test]
    fn what_does_not_fit_the_builder_is_refused_before_anything_is_launched() {
        let marker = "bootstrap-agent bundle schema 1;";
        assert_eq!(check(&elf(62, 1, marker), "x86_64"), Ok(()));
        assert_eq!(check(&elf(183, 1, marker), "aarch64"), Ok(()));
        let why = |bytes: &[u8]| check(bytes, "x86_64").expect_err("refused");
        assert_eq!(why(&elf(183, 1, marker)), "it is for aarch64, and the builder is x86_64");
        assert_eq!(why(&elf(62, 3, marker)), "it is not static");
        assert_eq!(
            why(&elf(62, 1, "bootstrap-agent bundle schema 9;")),
            "it is of another release: it knows another version of bundles"
        );
        assert_eq!(why(&elf(62, 1, "something else")), "it is not a bootstrap-agent");
        assert_eq!(why(b"#!/bin/sh\n"), "it is not a 64-bit Linux program");
        assert_eq!(why(&elf(62, 1, marker)[..40]), "it is cut off");
    }

    #[test]
    fn all_places_that_were_looked_at_are_named() {
        let error = Agent::find(None, &["/nonexistent".into()], "x86_64").expect_err("none");
        assert_eq!(
            error.to_string(),
            "there is no agent: none of `/nonexistent/bootstrap-agent-x86_64`, `/nonexistent/bootstrap-agent` exists"
        );
        assert!(Agent::find(Some(Path::new("/nonexistent/a")), &[], "x86_64").is_err());
    }
}
