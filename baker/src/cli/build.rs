//! `build`: bake an image.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{
    DONE, FAILED, Format, INTERRUPTED, ImageArguments, Interrupts, PlatformName, State, World, agent, fail,
    fail_with,
};
use crate::agent::Agent;
use crate::bake::{BakeError, Order, bake, input_digest};
use crate::failure::{Failure, failed};
use crate::image::{BakePlan, Chain};
use crate::ledger::Ledger;
use crate::manifest::{Manifest, SourceRecord};
use crate::platform::Origin;
use crate::report::{Event, Human, Json, Report};

/// Bake an image, and those it extends if they are missing or out of date
///
/// An image that was made of the same things and is young enough is left as it is. Whatever a bake
/// creates on the way is undone, whether it succeeds, fails or is interrupted.
#[derive(Debug, clap::Args)]
pub(super) struct Build {
    #[command(flatten)]
    image: ImageArguments,
    /// Where to bake it
    #[arg(long, value_enum, default_value = "local")]
    platform: PlatformName,
    /// The folder that images are kept in
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Bake the image even if it is up to date
    #[arg(long)]
    force: bool,
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
        let agent = match agent(self.agent.as_deref(), world) {
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
        let platform = match self.platform {
            PlatformName::Local => state.local(world, false),
        };
        let mut before: Option<(Manifest, PathBuf)> = None;
        let last = chain.images.len().saturating_sub(1);
        for (number, image) in chain.images.iter().enumerate() {
            let order = match self.order(image, &chain, before.as_ref(), &agent) {
                Ok(order) => order,
                Err(failure) => return fail(&failure),
            };
            let folder = order.output.join(&image.name);
            let forced = self.force && number == last;
            if let Some(manifest) = up_to_date(&folder, &order, image).filter(|_| !forced) {
                let path = folder.display().to_string();
                report.event(&Event::UpToDate { image: image.name.clone(), path });
                before = Some((manifest, folder));
                continue;
            }
            let ledger = match begin(state, image) {
                Ok(ledger) => ledger,
                Err(failure) => return fail(&failure),
            };
            match bake(&platform, &order, ledger, &mut *report, interrupts.told()).await {
                Ok(manifest) => before = Some((manifest, folder)),
                Err(error) => return self.ended(&error),
            }
        }
        if let (Some((_, folder)), Format::Human) = (&before, self.format) {
            let _ = writeln!(io::stdout(), "{}", folder.display());
        }
        DONE
    }

    fn order<'a>(
        &self,
        image: &'a BakePlan,
        chain: &Chain,
        before: Option<&(Manifest, PathBuf)>,
        agent: &'a Agent,
    ) -> Result<Order<'a>, Failure> {
        let (origin, source) = match before {
            None => (Origin::Release(chain.source.clone()), SourceRecord::Local(chain.source.clone())),
            Some((manifest, folder)) => {
                let archive = std::path::absolute(folder.join(&manifest.archive.file));
                let source =
                    SourceRecord::Image { name: manifest.name.clone(), digest: manifest.digest.clone() };
                (Origin::Image(archive.map_err(failed("find the image it extends"))?), source)
            }
        };
        let input_digest = input_digest(image, &source, agent)?;
        let output = self.output.clone();
        Ok(Order { image, origin, source, agent, input_digest, platform_name: "local", output })
    }

    fn ended(&self, error: &BakeError) -> u8 {
        // Events have told machines already.
        if self.format == Format::Human && !error.interrupted {
            fail(&error.failure);
        }
        if error.interrupted { INTERRUPTED } else { FAILED }
    }
}

/// The image that is there already, if it was made of the same things and is young enough.
fn up_to_date(folder: &Path, order: &Order<'_>, image: &BakePlan) -> Option<Manifest> {
    let manifest = Manifest::read(folder).ok().flatten()?;
    let is_same = manifest.input_digest == order.input_digest;
    let is_young = manifest.age(SystemTime::now()).is_some_and(|age| age < image.max_age);
    let is_there = folder.join(&manifest.archive.file).is_file();
    (is_same && is_young && is_there).then_some(manifest)
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
