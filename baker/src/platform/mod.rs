//! Where images are baked: each platform can launch a builder, seal it, and keep what came of it.

mod local;

use std::future::Future;
use std::path::{Path, PathBuf};

pub use local::{Container, ControlGroup, GROUP_PREFIX, Local, Network, Settings, Watch};

use crate::failure::Failure;
use crate::image::LocalSource;
use crate::ledger::{Created, Ledger};
use crate::report::Report;
use crate::session::Session;

/// What a builder starts from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The packages of a distribution.
    Release(LocalSource),
    /// The archive of an image.
    Image(PathBuf),
}

/// What a step of a platform may use.
pub struct Run<'a> {
    /// Where everything is written down before it is created.
    pub ledger: &'a mut Ledger,
    /// Where events go.
    pub report: &'a mut dyn Report,
}

/// What came of a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The archive.
    pub archive: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// How long it is.
    pub bytes: u64,
    /// How much the tree takes, unpacked.
    pub unpacked_bytes: u64,
    /// The installed packages, each with its version.
    pub packages: Vec<(String, String)>,
}

/// What sealing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealReport {
    /// How many paths were cleaned.
    pub cleaned: usize,
    /// What must not be in an image and is.
    pub leaks: Vec<String>,
}

/// A place where images are baked. A builder can only become a sealed one, and only a sealed one can be
/// kept, so a bake in a wrong order does not compile.
pub trait Platform {
    /// What a builder is launched from.
    type Prepared;
    /// A builder that runs.
    type Builder;
    /// A builder that was stopped and cleaned.
    type Sealed;
    /// How to talk to a builder.
    type Session: Session;

    /// Looks whether everything is there that a bake needs; changes nothing.
    fn preflight(&self) -> impl Future<Output = Result<String, Failure>>;

    /// Makes what the builder is launched from.
    fn prepare(
        &self,
        origin: &Origin,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Self::Prepared, String), Failure>>;

    /// Launches the builder and waits until it is up.
    fn launch(
        &self,
        prepared: Self::Prepared,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<Self::Builder, Failure>>;

    /// How to talk to the builder.
    fn session(&self, builder: &Self::Builder) -> Self::Session;

    /// Stops the builder and cleans it.
    fn seal(
        &self,
        builder: Self::Builder,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Self::Sealed, SealReport), Failure>>;

    /// Keeps what the builder became, in a folder.
    fn snapshot(
        &self,
        sealed: Self::Sealed,
        folder: &Path,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<Snapshot, Failure>>;

    /// Makes sure that something does not exist any more.
    fn undo(&self, created: &Created) -> impl Future<Output = Result<(), Failure>>;
}
