//! `seal`: make this host ready to become an image.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{DONE, FAILED, complain};
use crate::report::Format;
use crate::seal::{clean, quiet, scan};

/// Make a host ready to become an image: remove what is its own, and look for leaks
///
/// Logs, caches, identities, host keys and histories are removed, so the root has to be named. If it is that of this
/// host, its timers and logs are stopped first. A private
/// key, a credential or a password that is found afterwards makes this fail.
#[derive(Debug, clap::Args)]
pub(super) struct Seal {
    /// The root of the host
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// How to tell what is found
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Seal {
    pub(super) fn run(self) -> u8 {
        quiet::quiet(&self.root);
        let cleaned = match clean::clean(&self.root) {
            Ok(cleaned) => cleaned,
            Err(error) => {
                complain(&format!("error: {error}"));
                return FAILED;
            }
        };
        let findings = match scan::scan(&self.root) {
            Ok(findings) => findings,
            Err(error) => {
                complain(&format!("error: {error}"));
                return FAILED;
            }
        };
        let text = match self.format {
            Format::Json => serde_json::json!({ "cleaned": cleaned, "findings": findings }).to_string(),
            Format::Human => {
                let mut lines: Vec<String> = cleaned.iter().map(|path| format!("cleaned: {path}")).collect();
                lines.extend(findings.iter().map(|finding| format!("leak: {finding}")));
                lines.push(format!("{} paths cleaned, {} leaks found.", cleaned.len(), findings.len()));
                lines.join("\n")
            }
        };
        let _ = writeln!(io::stdout(), "{text}");
        if findings.is_empty() { DONE } else { FAILED }
    }
}
