//! `check`: carry out a bundle's checks.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{BundleArgument, DONE, FAILED, complain, fail_with};
use crate::health::wait_for;
use crate::report::Format;
use crate::source::effort::Effort;
use crate::unpack;

/// Carry out the checks of a bundle on this host
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    bundle: BundleArgument,
    /// How to tell what is seen
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// What came of one check; as JSON, one object a line.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    check: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Check {
    pub(super) fn run(self) -> u8 {
        let opened = match unpack::open(&self.bundle.bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(&format!("error: failed to start: {error}"));
                return FAILED;
            }
        };
        let mut code = DONE;
        for check in &opened.bundle.manifest.checks {
            let error =
                runtime.block_on(wait_for(check, &Effort::default())).err().map(|error| error.to_string());
            let seen = Seen { check: check.to_string(), ok: error.is_none(), error };
            if !seen.ok {
                code = FAILED;
            }
            let text = match self.format {
                Format::Json => serde_json::to_string(&seen).unwrap_or_default(),
                Format::Human => match &seen.error {
                    None => format!("ok: {}", seen.check),
                    Some(error) => format!("failed: {error}"),
                },
            };
            let _ = writeln!(io::stdout(), "{text}");
        }
        code
    }
}
