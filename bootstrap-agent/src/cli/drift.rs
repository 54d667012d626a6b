//! `drift`: what has changed on this host since its image was baked.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use recipes::difference::differing;
use recipes::drift::{Drift as Drifted, RECORD, Record, drifted};
use recipes::error::{Problem, Problems};
use recipes::system::linux::Linux;
use recipes::system::{Facts, FactsError};

use super::plan::planned;
use super::{BundleArgument, CHANGES, DONE, Tags, fail, fail_by, fail_with};
use crate::report::Format;
use crate::unpack;

/// Show what has changed on a host since its image was baked
///
/// The BUNDLE is the `record.tar` that the bake has kept: the image's packages, what its resources made, and its recipes. Nothing
/// is changed.
#[derive(Debug, clap::Args)]
pub(super) struct Drift {
    #[command(flatten)]
    bundle: BundleArgument,
    #[command(flatten)]
    tags: Tags,
    /// The root of the host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// End with 2 if something has changed
    #[arg(long)]
    detailed_exitcode: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Drift {
    pub(super) fn run(self) -> u8 {
        let opened = match unpack::open(&self.bundle.bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        let record = match read(&opened.folder().join(RECORD)) {
            Ok(record) => record,
            Err(problem) => return fail_with(&Problems::from(problem)),
        };
        let machine = match Linux::open(&self.root, opened.bundle.manifest.mode) {
            Ok(machine) => machine,
            Err(error) => return fail_by(&error),
        };
        let resolved = match self.tags.resolve(&opened.bundle, machine.host()) {
            Ok(resolved) => resolved,
            Err(problems) => return fail_with(&problems),
        };
        let plan = match planned(&resolved, &machine, None) {
            Ok(plan) => plan,
            Err(error) => return fail(&error),
        };
        let drift = match compared(&machine, &record) {
            Ok(drift) => Drifted { plan, ..drift },
            Err(error) => return fail_by(&error),
        };
        let text = match self.format {
            Format::Human => drift.to_string(),
            Format::Json => serde_json::to_string(&drift).unwrap_or_default(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        if self.detailed_exitcode && !drift.is_empty() { CHANGES } else { DONE }
    }
}

/// What differs from the record.
fn compared(machine: &Linux, record: &Record) -> Result<Drifted, FactsError> {
    let packages = differing(&record.packages, &machine.installed_packages()?);
    Ok(Drifted { packages, files: drifted(machine, record)?, ..Drifted::default() })
}

fn read(path: &Path) -> Result<Record, Problem> {
    let failed = |why: String| Problem::new(format!("failed to read the record of the image: {why}"));
    let bytes = fs::read(path).map_err(|error| {
        failed(error.to_string()).help("it is in the `record.tar` that a bake leaves beside the manifest")
    })?;
    Record::read(&bytes).map_err(failed)
}
