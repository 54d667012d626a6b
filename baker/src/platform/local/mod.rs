//! The local platform: a container with a systemd of its own, in a network of its own.
//!
//! ```text
//! control group baker-RUN
//!   ├── sleep        holds the network namespace
//!   ├── slirp4netns  gives it a way out, in user space
//!   └── systemd-nspawn ── systemd ── ...
//! ```
//!
//! Whatever becomes of baker, killing the group ends all of it, and mounts and network end with it. A
//! process that waits for baker's end does that at once; `baker clean` does it for certain.

mod archive;
mod container;
mod group;
mod network;
mod source;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use container::{Container, Settings};
pub use group::{ControlGroup, Watch};
pub use network::Network;

use super::{Existing, Kept, Platform, Run, SealReport, Undo};
use crate::bake::Order;
use crate::failure::{Failure, failed};
use crate::image::{LocalSource, Source};
use crate::ledger::Created;
use crate::manifest::{Artifact, MANIFEST, Manifest, SourceRecord};
use crate::session::LocalSession;

/// What every control group of a bake is called by, before the run.
pub const GROUP_PREFIX: &str = "baker-";

/// What a builder starts from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The packages of a distribution.
    Release(LocalSource),
    /// The archive of an image.
    Image(PathBuf),
}

/// The local platform.
#[derive(Debug, Clone)]
pub struct Local {
    /// Where sources are kept between bakes.
    pub cache: PathBuf,
    /// Variables that package managers get, such as proxies.
    pub proxies: Vec<(String, String)>,
    /// Whether what the builder writes is thrown away with it.
    pub ephemeral: bool,
}

/// A tree, and the group that its processes will be in.
pub struct Prepared {
    tree: PathBuf,
    group: ControlGroup,
    watch: Watch,
}

/// A builder that runs.
pub struct Builder {
    container: Container,
    group: ControlGroup,
    watch: Watch,
    tree: PathBuf,
}

/// A tree that is clean.
pub struct Sealed {
    tree: PathBuf,
    group: ControlGroup,
    _watch: Watch,
}

impl Local {
    /// An image that was baked here, below the folder of images; none if it is not there.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub fn image(output: &Path, name: &str) -> Result<Option<Existing<Origin>>, Failure> {
        let folder = output.join(name);
        let what = format!("read the manifest in `{}`", folder.display());
        let Some(manifest) = Manifest::read(&folder).map_err(failed(what))? else { return Ok(None) };
        let existing = Self::of_folder(&folder, &manifest)?;
        Ok(Some(existing)
            .filter(|Existing { origin, .. }| matches!(origin, Origin::Image(path) if path.is_file())))
    }

    fn of_folder(folder: &Path, manifest: &Manifest) -> Result<Existing<Origin>, Failure> {
        let file = manifest.archive.as_ref().map(|archive| archive.file.as_str()).unwrap_or_default();
        let archive = std::path::absolute(folder.join(file)).map_err(failed("find the image"))?;
        let digest = manifest.digest.clone().unwrap_or_default();
        let record = SourceRecord::Image { name: manifest.name.clone(), digest };
        Ok(Existing { origin: Origin::Image(archive), record, shown: folder.display().to_string() })
    }
}

impl Platform for Local {
    type Origin = Origin;
    type Checked = ();
    type Prepared = Prepared;
    type Builder = Builder;
    type Sealed = Sealed;
    /// The folder with the archive, under a name that nobody looks for.
    type Image = PathBuf;
    type Session = LocalSession;

    const NAME: &str = "local";
    const BOOTS: bool = false;

    fn anew(&self) -> Self {
        self.clone()
    }

    async fn start(&self, source: &Source) -> Result<(Origin, SourceRecord), Failure> {
        let Some(local) = &source.local else {
            return Err(Failure::new("the image has no source for the local platform")
                .help("such as `source: { local: { suite: bookworm } }`"));
        };
        Ok((Origin::Release(local.clone()), SourceRecord::Local(local.clone())))
    }

    async fn find(&self, order: &Order<'_, Origin>) -> Result<Option<Existing<Origin>>, Failure> {
        let folder = order.output.join(&order.image.name);
        let Ok(Some(manifest)) = Manifest::read(&folder) else { return Ok(None) };
        let is_same = manifest.input_digest == order.input_digest;
        let is_young = manifest.age(SystemTime::now()).is_some_and(|age| age < order.image.max_age);
        let is_there = manifest.archive.as_ref().is_some_and(|archive| folder.join(&archive.file).is_file());
        if is_same && is_young && is_there {
            return self.existing(&manifest, order).await.map(Some);
        }
        Ok(None)
    }

    async fn existing(
        &self,
        manifest: &Manifest,
        order: &Order<'_, Origin>,
    ) -> Result<Existing<Origin>, Failure> {
        Self::of_folder(&order.output.join(&manifest.name), manifest)
    }

    async fn preflight(&self, _: &Order<'_, Origin>, _: &mut Run<'_>) -> Result<((), String), Failure> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::new("the local platform needs root: it makes containers")
                .help("run it with sudo, or in CI as root"));
        }
        tools::find()?;
        ControlGroup::supported()?;
        Ok(((), "root, tools and control groups are there".into()))
    }

    async fn prepare(
        &self,
        (): (),
        order: &Order<'_, Origin>,
        run: &mut Run<'_>,
    ) -> Result<(Prepared, String), Failure> {
        // Undone newest first: the processes end before the tree that they are in goes.
        let tree = run.ledger.folder().join("tree");
        run.ledger.intend(Created::Path { path: tree.clone() }).map_err(failed("write the ledger"))?;
        let name = format!("{GROUP_PREFIX}{}", run.ledger.run());
        run.ledger
            .intend(Created::ControlGroup { name: name.clone() })
            .map_err(failed("write the ledger"))?;
        let group = ControlGroup::create(&name)?;
        let watch = group.watch()?;
        let came_from = source::unpack(self, &order.origin, &tree, &group, run).await?;
        Ok((Prepared { tree, group, watch }, came_from))
    }

    async fn launch(&self, prepared: Prepared, run: &mut Run<'_>) -> Result<(Builder, String), Failure> {
        let Prepared { tree, group, watch } = prepared;
        let network = Network::outbound(&group).await?;
        let settings = Settings {
            name: run.ledger.run().to_owned(),
            folder: run.ledger.folder().to_owned(),
            tree: tree.clone(),
            ephemeral: self.ephemeral,
            binds: container::builder_binds(run.ledger.folder())?,
            cache: Some(container::downloads(&self.cache)?),
            suppress_sync: true,
        };
        let container = Container::boot(&settings, network, &group).await?;
        Ok((Builder { container, group, watch, tree }, "the builder is up".into()))
    }

    fn session(&self, builder: &Builder) -> LocalSession {
        LocalSession::new(builder.container.leader(), self.proxies.clone())
    }

    async fn seal(
        &self,
        builder: Builder,
        gate: Vec<u8>,
        run: &mut Run<'_>,
    ) -> Result<(Sealed, SealReport), Failure> {
        let Builder { container, group, watch, tree } = builder;
        container.power_off().await?;
        let report = container::seal(&tree, &group, &gate, run).await?;
        Ok((Sealed { tree, group, _watch: watch }, report))
    }

    async fn snapshot(
        &self,
        sealed: Sealed,
        order: &Order<'_, Origin>,
        run: &mut Run<'_>,
    ) -> Result<(Kept<PathBuf>, String), Failure> {
        fs::create_dir_all(&order.output).map_err(failed(format!("make `{}`", order.output.display())))?;
        let folder = order.output.join(format!(".{}.{}", order.image.name, run.ledger.run()));
        let absolute = std::path::absolute(&folder).map_err(failed("find the output folder"))?;
        run.ledger.intend(Created::Path { path: absolute }).map_err(failed("write the ledger"))?;
        fs::create_dir(&folder).map_err(failed(format!("make `{}`", folder.display())))?;
        let packed = archive::pack(&sealed.tree, &folder, &sealed.group, run).await?;
        let result = format!(
            "{} packed, {} unpacked, {} packages",
            megabytes(packed.archive.bytes),
            megabytes(packed.archive.unpacked_bytes),
            packed.packages.len()
        );
        let artifact = Artifact::Archive(packed.archive, packed.sha256);
        Ok((Kept { image: folder, artifact, packages: packed.packages }, result))
    }

    async fn boot(&self, _: &PathBuf, _: &Order<'_, Origin>, _: &mut Run<'_>) -> Result<Builder, Failure> {
        Err(Failure::new("the local platform does not boot images"))
    }

    /// An older image is there until the new one is, and goes with the ledger.
    async fn publish(
        &self,
        folder: PathBuf,
        manifest: &mut Manifest,
        order: &Order<'_, Origin>,
        _: &mut Run<'_>,
    ) -> Result<String, Failure> {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let place = order.output.join(&order.image.name);
        let what = format!("put the image into `{}`", place.display());
        manifest.write(&folder).map_err(failed(format!("write {MANIFEST}")))?;
        let sync = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all()).map_err(failed(&what));
        sync(&folder.join(MANIFEST))?;
        if let Some(archive) = &manifest.archive {
            sync(&folder.join(&archive.file))?;
        }
        sync(&folder)?;
        let flags = if place.exists() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::empty() };
        renameat2(AT_FDCWD, &folder, AT_FDCWD, &place, flags).map_err(failed(&what))?;
        sync(&order.output)?;
        Ok(place.display().to_string())
    }
}

impl Undo for Local {
    async fn undo(&self, created: &Created) -> Result<(), Failure> {
        match created {
            Created::ControlGroup { name } => ControlGroup::named(name)?.end().await,
            Created::Path { path } => tools::remove(path),
            Created::Ec2 { .. } => Err(Failure::new("it is not on this machine")),
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
