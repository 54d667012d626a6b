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

use std::path::{Path, PathBuf};

pub use container::{Container, Settings};
pub use group::{ControlGroup, Watch};
pub use network::Network;

use super::{Origin, Platform, Run, SealReport, Snapshot};
use crate::failure::{Failure, failed};
use crate::ledger::Created;
use crate::session::LocalSession;

/// What every control group of a bake is called by, before the run.
pub const GROUP_PREFIX: &str = "baker-";

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

impl Platform for Local {
    type Prepared = Prepared;
    type Builder = Builder;
    type Sealed = Sealed;
    type Session = LocalSession;

    async fn preflight(&self) -> Result<String, Failure> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::new("the local platform needs root: it makes containers")
                .help("run it with sudo, or in CI as root"));
        }
        tools::find()?;
        ControlGroup::supported()?;
        Ok("root, tools and control groups are there".into())
    }

    async fn prepare(&self, origin: &Origin, run: &mut Run<'_>) -> Result<(Prepared, String), Failure> {
        // Undone newest first: the processes end before the tree that they are in goes.
        let tree = run.ledger.folder().join("tree");
        run.ledger.intend(Created::Path { path: tree.clone() }).map_err(failed("write the ledger"))?;
        let name = format!("{GROUP_PREFIX}{}", run.ledger.run());
        run.ledger
            .intend(Created::ControlGroup { name: name.clone() })
            .map_err(failed("write the ledger"))?;
        let group = ControlGroup::create(&name)?;
        let watch = group.watch()?;
        let came_from = source::unpack(self, origin, &tree, &group, run).await?;
        Ok((Prepared { tree, group, watch }, came_from))
    }

    async fn launch(&self, prepared: Prepared, run: &mut Run<'_>) -> Result<Builder, Failure> {
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
        Ok(Builder { container, group, watch, tree })
    }

    fn session(&self, builder: &Builder) -> LocalSession {
        LocalSession::new(builder.container.leader(), self.proxies.clone())
    }

    async fn seal(&self, builder: Builder, run: &mut Run<'_>) -> Result<(Sealed, SealReport), Failure> {
        let Builder { container, group, watch, tree } = builder;
        container.power_off().await?;
        let report = container::seal(&tree, &group, run).await?;
        Ok((Sealed { tree, group, _watch: watch }, report))
    }

    async fn snapshot(&self, sealed: Sealed, folder: &Path, run: &mut Run<'_>) -> Result<Snapshot, Failure> {
        archive::pack(&sealed.tree, folder, &sealed.group, run).await
    }

    async fn undo(&self, created: &Created) -> Result<(), Failure> {
        match created {
            Created::ControlGroup { name } => ControlGroup::named(name)?.end().await,
            Created::Path { path } => tools::remove(path),
        }
    }
}
