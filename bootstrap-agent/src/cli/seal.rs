//! `seal`: make this host ready to become an image.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use recipes::drift::seen;
use recipes::system::Mode;
use recipes::system::linux::Linux;

use super::{DONE, FAILED, complain};
use crate::report::Format;
use crate::seal::blocks::{self, Erased};
use crate::seal::gate::Gate;
use crate::seal::owners::owners;
use crate::seal::{clean, quiet, scan};

/// Make a host ready to become an image: remove what is its own, and look for leaks
///
/// Logs, caches, identities, host keys and histories are removed, so the root has to be named. If it is that of this
/// host, its timers and logs are stopped first, and what is free on its disks is overwritten at last. A private
/// key, a credential or a password that is found in a file makes this fail.
#[derive(Debug, clap::Args)]
pub(super) struct Seal {
    /// The root of the host
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Read from standard input, as JSON, which secrets must not be there, which files may, and what resources made: `{"secrets":
    /// [{"name", "value"}], "allowed": [{"path", "sha256"}], "made": {"PATH": "RESOURCE"}}`
    #[arg(long)]
    gate: bool,
    /// How to tell what is found
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Seal {
    pub(super) fn run(self) -> u8 {
        match self.seal() {
            Ok(code) => code,
            Err(error) => {
                complain(&format!("error: {error}"));
                FAILED
            }
        }
    }

    fn seal(self) -> Result<u8, Box<dyn std::error::Error>> {
        let gate = if self.gate { read_gate()? } else { Gate::default() };
        quiet::quiet(&self.root);
        let cleaned = clean::clean(&self.root)?;
        let scanned = scan::scan(&self.root, &gate)?;
        let erased = blocks::erase(&self.root, &gate)?;
        let files = gate.made.as_ref().map(|made| owners(&self.root, made));
        let seen = files
            .as_ref()
            .map(|files| seen(&Linux::open(&self.root, Mode::Bake)?, &files.made()))
            .transpose()?;
        let (findings, allowed) = (&scanned.findings, &scanned.allowed);
        let text = match self.format {
            Format::Json => serde_json::json!({
                "cleaned": cleaned, "findings": findings, "allowed": allowed, "erased": erased, "files": files, "seen": seen
            })
            .to_string(),
            Format::Human => {
                let mut lines: Vec<String> = cleaned.iter().map(|path| format!("cleaned: {path}")).collect();
                lines.extend(erased.iter().map(shown));
                lines.extend(allowed.iter().map(|finding| format!("allowed: {finding}")));
                lines.extend(findings.iter().map(|finding| format!("leak: {finding}")));
                lines.push(format!("{} paths cleaned, {} leaks found.", cleaned.len(), findings.len()));
                lines.join("\n")
            }
        };
        let _ = writeln!(io::stdout(), "{text}");
        Ok(if findings.is_empty() { DONE } else { FAILED })
    }
}

fn read_gate() -> io::Result<Gate> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    Gate::read(&text)
        .map_err(|error| io::Error::other(format!("failed to read the gate from standard input: {error}")))
}

fn shown(erased: &Erased) -> String {
    let Erased { path, free, overwritten, found } = erased;
    let found: String = found.iter().map(|finding| format!(", {} in them", finding.what)).collect();
    format!("overwritten: {overwritten} of {free} free bytes in {path}{found}")
}
