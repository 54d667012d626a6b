//! `facts`: what recipes can ask of a host.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use recipes::system::linux::Linux;
use recipes::system::{Facts as _, Host, Mode};

use super::place::of_source;
use super::plan::on_builder;
use super::{DONE, Format, INTERRUPTED, On, PlatformName, Reading, State, World, agent, fail, fail_with};
use crate::bake::facts_of_builder;
use crate::failure::{Failure, failed};
use crate::image::Chain;
use crate::platform::Platform;
use crate::report::Human;

/// Show what recipes can ask of the builder of an image, or of this host
///
/// With a definition, a builder is launched from the image's source and thrown away. What differs between
/// hosts that boot from one image (`facts.live`) is there of a live host only. `baker docs facts` says
/// what each fact means.
#[derive(Debug, clap::Args)]
pub(super) struct Facts {
    /// The image definition; this host if left out
    #[arg(value_name = "IMAGE.yaml")]
    image: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    on: On,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// How to show them
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Facts {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let host = match &self.image {
            None if !self.reading.is_empty() => {
                Err(Failure::new("`--var` and `--recipes` are for an image, and none is named"))
            }
            None => Linux::open(Path::new("/"), Mode::Live)
                .map(|machine| Some(machine.host().clone()))
                .map_err(failed("look at this host")),
            Some(image) => match self.reading.load(image, world, state) {
                Ok(chain) => self.of_builder(world, state, &chain).await,
                Err(problems) => return fail_with(&problems),
            },
        };
        let host = match host {
            Ok(Some(host)) => host,
            Ok(None) => return INTERRUPTED,
            Err(failure) => return fail(&failure),
        };
        let text = match self.format {
            Format::Human => host.to_string(),
            Format::Json => serde_json::to_string(&host).unwrap_or_default(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        DONE
    }

    /// The facts of a builder; nothing if it was interrupted.
    async fn of_builder(&self, world: &World, state: &State, chain: &Chain) -> Result<Option<Host>, Failure> {
        match self.on.platform {
            PlatformName::Local => self.of_builder_on(&state.local(world, true), world, state, chain).await,
            PlatformName::Ec2 => self.of_builder_on(&self.on.ec2(world).await?, world, state, chain).await,
        }
    }

    async fn of_builder_on<P: Platform>(
        &self,
        platform: &P,
        world: &World,
        state: &State,
        chain: &Chain,
    ) -> Result<Option<Host>, Failure> {
        let start = of_source(&self.on, platform, chain).await?;
        let agent = agent(self.agent.as_deref(), world, start.arch)?;
        let mut report = Human::new(false);
        on_builder(state, chain, start, &agent, platform, &mut report, async |session| {
            facts_of_builder(session, &agent).await
        })
        .await
    }
}
