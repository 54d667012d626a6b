//! `facts`: what recipes can ask of this host.

use std::io::{self, Write};
use std::path::PathBuf;

use recipes::system::linux::Linux;
use recipes::system::{Facts as _, Mode};

use super::{DONE, fail_by};
use crate::report::Format;

/// Show what recipes can ask of this host
///
/// Facts are read from files; no program is run. `baker docs facts` says what each of them means.
#[derive(Debug, clap::Args)]
pub(super) struct Facts {
    /// The root of the host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// What a run would be for: there are more facts of a live host than at a bake
    #[arg(long, value_enum, default_value = "live")]
    mode: RunMode,
    /// How to show them
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// What a run is for, as it is written in arguments.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RunMode {
    /// The host becomes an image.
    Bake,
    /// The host is to serve as it is.
    Live,
}

impl From<RunMode> for Mode {
    fn from(mode: RunMode) -> Self {
        match mode {
            RunMode::Bake => Self::Bake,
            RunMode::Live => Self::Live,
        }
    }
}

impl Facts {
    pub(super) fn run(self) -> u8 {
        let machine = match Linux::open(&self.root, self.mode.into()) {
            Ok(machine) => machine,
            Err(error) => return fail_by(&error),
        };
        let text = match self.format {
            Format::Human => machine.host().to_string(),
            Format::Json => serde_json::to_string(machine.host()).unwrap_or_default(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        DONE
    }
}
