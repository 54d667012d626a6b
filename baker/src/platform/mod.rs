//! Where images are baked: each platform can launch a builder, seal it, and keep what came of it.

mod ec2;
mod local;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use recipes::drift::Seen;
use serde::Deserialize;

pub use ec2::{Ec2, Leftover, PluginCall, SESSION_MANAGER_PLUGIN, Way, open_session, policy};
pub use local::{
    Container, ControlGroup, GROUP_PREFIX, Local, Network, Origin as LocalOrigin, Settings, Watch,
};

use crate::bake::Order;
use crate::failure::Failure;
use crate::files::Files;
use crate::image::Source;
use crate::ledger::{Created, Ledger};
use crate::manifest::{Artifact, Manifest, SourceRecord};
use crate::report::Report;
use crate::session::{Ended, Session};

/// What a step of a platform may use.
pub struct Run<'a> {
    /// Where everything is written down before it is created.
    pub ledger: &'a mut Ledger,
    /// Where events go.
    pub report: &'a mut dyn Report,
}

/// What came of a bake, before anybody can find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<T> {
    /// What the platform knows it by.
    pub image: T,
    /// What the manifest says of it.
    pub artifact: Artifact,
    /// The installed packages, each with its version.
    pub packages: Vec<(String, String)>,
}

/// An image that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing<O> {
    /// It as what another starts from.
    pub origin: O,
    /// The same, for a manifest.
    pub record: SourceRecord,
    /// What it is found by, for people and scripts.
    pub shown: String,
}

/// What sealing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealReport {
    /// How many paths were cleaned.
    pub cleaned: usize,
    /// What must not be in an image and is.
    pub leaks: Vec<String>,
    /// What the image definition allows, and would be one otherwise.
    pub allowed: Vec<String>,
    /// What became of the free blocks of the builder's disks; nothing where it has none.
    pub erased: Vec<String>,
    /// Whose each file is.
    pub files: Option<Files>,
    /// What resources made.
    pub seen: BTreeMap<String, Seen>,
}

/// What `bootstrap-agent seal --format json` prints.
#[derive(Deserialize)]
struct SealOutput {
    cleaned: Vec<String>,
    findings: Vec<Finding>,
    allowed: Vec<Finding>,
    erased: Vec<Erased>,
    files: Option<Files>,
    seen: Option<BTreeMap<String, Seen>>,
}

#[derive(Deserialize)]
struct Erased {
    path: String,
    free: u64,
    overwritten: u64,
    found: Vec<Finding>,
}

impl fmt::Display for Erased {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MEBIBYTE: u64 = 1024 * 1024;
        let (overwritten, free) = (self.overwritten.div_ceil(MEBIBYTE), self.free / MEBIBYTE);
        write!(formatter, "{overwritten} of {free} free MiB of {} overwritten", self.path)?;
        self.found.iter().try_for_each(|found| write!(formatter, ", {} among them", found.what))
    }
}

#[derive(Deserialize)]
struct Finding {
    path: String,
    line: Option<usize>,
    what: String,
}

impl SealReport {
    /// Reads what the agent printed when it sealed a builder.
    ///
    /// # Errors
    /// When it did not come to its end.
    pub fn read(text: &str, ended: &Ended) -> Result<Self, Failure> {
        let sealed: SealOutput = serde_json::from_str(text).map_err(|error| {
            let how =
                ended.code.map_or_else(|| "it was killed".into(), |code| format!("it ended with {code}"));
            let why = format!("{error}; {how}\n{}\n{}", text.trim(), ended.error.trim());
            Failure::new(format!("failed to seal the builder: {}", why.trim()))
        })?;
        let leak = |finding: &Finding| match finding.line {
            Some(line) => format!("{} in {}:{line}", finding.what, finding.path),
            None => format!("{} in {}", finding.what, finding.path),
        };
        Ok(Self {
            cleaned: sealed.cleaned.len(),
            leaks: sealed.findings.iter().map(leak).collect(),
            allowed: sealed.allowed.iter().map(leak).collect(),
            erased: sealed.erased.iter().map(ToString::to_string).collect(),
            files: sealed.files,
            seen: sealed.seen.unwrap_or_default(),
        })
    }
}

/// A place where images are baked. A builder can only become a sealed one, and only a sealed one can be
/// kept, so a bake in a wrong order does not compile.
pub trait Platform: Undo + Sized {
    /// What a builder starts from.
    type Origin: Clone;
    /// What is known of a bake before it begins.
    type Checked;
    /// What a builder is launched from.
    type Prepared;
    /// A builder that runs.
    type Builder;
    /// A builder that was stopped and cleaned.
    type Sealed;
    /// What a sealed builder became, which nobody can find yet.
    type Image;
    /// How to talk to a builder.
    type Session: Session;

    /// The name of the platform.
    const NAME: &str;

    /// Whether a bake boots the image before it publishes it.
    const BOOTS: bool;

    /// The same place for another bake, which knows nothing of what this one made.
    #[must_use]
    fn anew(&self) -> Self;

    /// The region, where there are any.
    fn region(&self) -> Option<&str> {
        None
    }

    /// What an image with this source starts from.
    fn start(&self, source: &Source) -> impl Future<Output = Result<(Self::Origin, SourceRecord), Failure>>;

    /// The image that is there already, was made of the same things and is young enough.
    fn find(
        &self,
        order: &Order<'_, Self::Origin>,
    ) -> impl Future<Output = Result<Option<Existing<Self::Origin>>, Failure>>;

    /// The image that was just baked.
    fn existing(
        &self,
        manifest: &Manifest,
        order: &Order<'_, Self::Origin>,
    ) -> impl Future<Output = Result<Existing<Self::Origin>, Failure>>;

    /// Looks whether everything is there that a bake needs; changes nothing.
    fn preflight(
        &self,
        order: &Order<'_, Self::Origin>,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Self::Checked, String), Failure>>;

    /// Makes what the builder is launched from.
    fn prepare(
        &self,
        checked: Self::Checked,
        order: &Order<'_, Self::Origin>,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Self::Prepared, String), Failure>>;

    /// Launches the builder and waits until it is up.
    fn launch(
        &self,
        prepared: Self::Prepared,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Self::Builder, String), Failure>>;

    /// How to talk to the builder.
    fn session(&self, builder: &Self::Builder) -> Self::Session;

    /// Stops the builder, cleans it and looks for leaks. `gate` is what the agent is told of them.
    fn seal(
        &self,
        builder: Self::Builder,
        gate: Vec<u8>,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Self::Sealed, SealReport), Failure>>;

    /// Keeps what the builder became.
    fn snapshot(
        &self,
        sealed: Self::Sealed,
        order: &Order<'_, Self::Origin>,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<(Kept<Self::Image>, String), Failure>>;

    /// Launches a host from the image, to see whether it works, if the platform [`Self::BOOTS`].
    fn boot(
        &self,
        image: &Self::Image,
        order: &Order<'_, Self::Origin>,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<Self::Builder, Failure>>;

    /// Puts the image where it is looked for, as one step that happens or does not.
    fn publish(
        &self,
        image: Self::Image,
        manifest: &mut Manifest,
        order: &Order<'_, Self::Origin>,
        run: &mut Run<'_>,
    ) -> impl Future<Output = Result<String, Failure>>;
}

/// What can undo what a platform created.
pub trait Undo {
    /// Makes sure that something does not exist any more.
    fn undo(&self, created: &Created) -> impl Future<Output = Result<(), Failure>>;
}
