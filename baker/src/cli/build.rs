//! `build`: bake an image.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use super::{
    DONE, FAILED, Format, INTERRUPTED, ImageArguments, Interrupts, On, PlatformName, State, World, agent,
    fail, fail_with,
};
use crate::bake::{BakeError, Order, bake, input_digest};
use crate::failure::{Failure, failed};
use crate::image::{BakePlan, Chain};
use crate::ledger::Ledger;
use crate::platform::{Existing, Platform};
use crate::report::{Event, Human, Json, Report};

/// Bake an image, and those it extends if they are missing or out of date
///
/// An image that was made of the same things and is young enough is left as it is. Whatever a bake
/// creates on the way is undone, whether it succeeds, fails or is interrupted.
#[derive(Debug, clap::Args)]
pub(super) struct Build {
    #[command(flatten)]
    image: ImageArguments,
    #[command(flatten)]
    on: On,
    /// The folder that images and their manifests are kept in
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Bake the image even if it is up to date
    #[arg(long)]
    force: bool,
    /// Keep the builder on which something failed, and say how to connect to it; it ends itself when its time is
    /// over (EC2 only)
    #[arg(long)]
    keep_on_failure: bool,
    /// Show what programs print
    #[arg(long, short)]
    verbose: bool,
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Build {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let chain = match self.image.load(world, state) {
            Ok(chain) => chain,
            Err(problems) => return fail_with(&problems),
        };
        match self.on.platform {
            PlatformName::Local => self.bake(&state.local(world, false), &chain, world, state).await,
            PlatformName::Ec2 => match self.on.ec2().await {
                Ok(ec2) => self.bake(&ec2, &chain, world, state).await,
                Err(failure) => fail(&failure),
            },
        }
    }

    /// Bakes every image of a chain that is missing or out of date.
    async fn bake<P: Platform>(&self, platform: &P, chain: &Chain, world: &World, state: &State) -> u8 {
        let arch = self.on.platform.arch(&chain.source);
        let agent = match agent(self.agent.as_deref(), world, arch) {
            Ok(agent) => agent,
            Err(failure) => return fail(&failure),
        };
        let mut interrupts = match Interrupts::listen() {
            Ok(interrupts) => interrupts,
            Err(failure) => return fail(&failure),
        };
        let mut report: Box<dyn Report> = match self.format {
            Format::Human => Box::new(Human::new(self.verbose)),
            Format::Json => Box::new(Json),
        };
        let (mut origin, mut source) = match platform.start(&chain.source).await {
            Ok(start) => start,
            Err(failure) => return fail(&failure),
        };
        let mut shown = String::new();
        let last = chain.images.len().saturating_sub(1);
        for (number, image) in chain.images.iter().enumerate() {
            let input_digest = match input_digest(image, &source, &agent) {
                Ok(digest) => digest,
                Err(failure) => return fail(&failure),
            };
            let output = self.output.clone();
            let order = Order {
                image,
                origin,
                source,
                arch,
                agent: &agent,
                input_digest,
                output,
                keep_on_failure: self.keep_on_failure,
            };
            let existing = if self.force && number == last { Ok(None) } else { platform.find(&order).await };
            let existing = match existing {
                Ok(Some(existing)) => {
                    let path = existing.shown.clone();
                    report.event(&Event::UpToDate { image: image.name.clone(), path });
                    existing
                }
                Ok(None) => match self.bake_one(platform, &order, state, &mut *report, &mut interrupts).await
                {
                    Ok(existing) => existing,
                    Err(code) => return code,
                },
                Err(failure) => return fail(&failure),
            };
            (origin, source, shown) = (existing.origin, existing.record, existing.shown);
        }
        if self.format == Format::Human {
            let _ = writeln!(io::stdout(), "{shown}");
        }
        DONE
    }

    async fn bake_one<P: Platform>(
        &self,
        platform: &P,
        order: &Order<'_, P::Origin>,
        state: &State,
        report: &mut dyn Report,
        interrupts: &mut Interrupts,
    ) -> Result<Existing<P::Origin>, u8> {
        let ledger = begin(state, order.image).map_err(|failure| fail(&failure))?;
        let manifest = bake(platform, order, ledger, report, interrupts.told()).await;
        let manifest = manifest.map_err(|error| self.ended(&error))?;
        platform.existing(&manifest, order).await.map_err(|failure| fail(&failure))
    }

    fn ended(&self, error: &BakeError) -> u8 {
        // Events have told machines already.
        if self.format == Format::Human && !error.interrupted {
            fail(&error.failure);
        }
        if error.interrupted { INTERRUPTED } else { FAILED }
    }
}

/// The ledger of a new run. Its name sorts by time and names the image; it is a host name, too.
pub(super) fn begin(state: &State, image: &BakePlan) -> Result<Ledger, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let runs = state.runs();
    // Trees with setuid programs are below: others must not reach them.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&runs);
    made.map_err(failed(format!("make `{}`", runs.display())))?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let now: String = now.chars().filter(char::is_ascii_digit).collect();
    let unique: String = std::iter::repeat_with(|| fastrand::char('a'..='z')).take(4).collect();
    let name: String = image.name.chars().take(30).collect();
    let run = format!("{now}-{name}-{unique}");
    Ledger::begin(&runs, &run).map_err(failed("begin the run"))
}
