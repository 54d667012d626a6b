//! `build`: bake images.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use futures_util::future::{LocalBoxFuture, join_all};
use indicatif::MultiProgress;
use tokio::sync::{OnceCell, Semaphore, watch};

use super::{
    DONE, FAILED, Format, INTERRUPTED, Interrupts, On, PlatformName, Reading, State, World, agent, complain,
    fail, fail_with,
};
use crate::bake::{Order, bake, input_digest};
use crate::failure::{Failure, failed};
use crate::family::{Member, family};
use crate::image::{BakePlan, Chain, Lock};
use crate::ledger::Ledger;
use crate::manifest::SourceRecord;
use crate::platform::{Existing, Platform};
use crate::report::{Event, Human, Json, Report};

/// Bake images, and those they extend if they are missing or out of date
///
/// An image that was made of the same things and is young enough is left as it is. Whatever a bake
/// creates on the way is undone, whether it succeeds, fails or is interrupted. An image that fails keeps
/// only those from being baked that extend it.
#[derive(Debug, clap::Args)]
pub(super) struct Build {
    /// The image definitions
    #[arg(value_name = "IMAGE.yaml", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    on: On,
    /// The folder that images and their manifests are kept in
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// How many images are baked at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..))]
    parallel: u8,
    /// Bake the images even if they are up to date
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
        let chains = match self.reading.load_all(&self.images, world, state) {
            Ok(chains) => chains,
            Err(problems) => return fail_with(&problems),
        };
        match self.on.platform {
            PlatformName::Local => self.bake(&state.local(world, false), &chains, world, state).await,
            PlatformName::Ec2 => match self.on.ec2(world).await {
                Ok(ec2) => self.bake(&ec2, &chains, world, state).await,
                Err(failure) => fail(&failure),
            },
        }
    }

    async fn bake<P: Platform>(&self, platform: &P, chains: &[Chain], world: &World, state: &State) -> u8 {
        let (members, mut interrupts) = match (family(chains), Interrupts::listen()) {
            (Ok(members), Ok(interrupts)) => (members, interrupts),
            (Err(failure), _) | (_, Err(failure)) => return fail(&failure),
        };
        let (tell, told) = watch::channel(false);
        let bakes = Bakes {
            build: self,
            platform,
            results: members.iter().map(|_| OnceCell::new()).collect(),
            members,
            world,
            state,
            told,
            free: Semaphore::new(self.parallel.into()),
            progress: MultiProgress::new(),
        };
        let all = join_all((0..bakes.members.len()).map(|at| bakes.baked(at)));
        let results = tokio::select! {
            results = all => results,
            () = async {
                interrupts.told().await;
                let _ = tell.send(true);
                std::future::pending::<()>().await;
            } => Vec::new(),
        };
        let mut code = DONE;
        for (member, result) in bakes.members.iter().zip(results) {
            match result {
                Ok(existing) if member.wanted && self.format == Format::Human => {
                    let name =
                        if bakes.are_several() { format!("{} ", member.image.name) } else { String::new() };
                    let _ = writeln!(io::stdout(), "{name}{}", existing.shown);
                }
                Ok(_) => {}
                Err(NotBaked::Interrupted) => return INTERRUPTED,
                Err(_) => code = FAILED,
            }
        }
        code
    }
}

/// Why there is no image. Whoever watches was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotBaked {
    Failed,
    Interrupted,
}

/// What came of an image: it, as what others start from, or why it is not there.
type Baked<O> = Result<Existing<O>, NotBaked>;

/// Images that are baked together.
struct Bakes<'a, P: Platform> {
    build: &'a Build,
    platform: &'a P,
    members: Vec<Member<'a>>,
    /// What came of each member.
    results: Vec<OnceCell<Baked<P::Origin>>>,
    world: &'a World,
    state: &'a State,
    /// Whether this process was told to stop.
    told: watch::Receiver<bool>,
    /// Who may bake now.
    free: Semaphore,
    progress: MultiProgress,
}

impl<P: Platform> Bakes<'_, P> {
    /// Whether more than one image was asked for.
    fn are_several(&self) -> bool {
        self.build.images.len() > 1
    }

    /// What comes of an image. However often it is asked for, it is baked once.
    fn baked(&self, at: usize) -> LocalBoxFuture<'_, &Baked<P::Origin>> {
        Box::pin(self.results[at].get_or_init(async move || {
            let member = &self.members[at];
            let start = match member.parent {
                None => Ok(None),
                Some(parent) => match self.baked(parent).await {
                    Ok(existing) => Ok(Some((existing.origin.clone(), existing.record.clone()))),
                    Err(why) => {
                        if *why == NotBaked::Failed && self.are_several() {
                            let parent = &self.members[parent].image.name;
                            complain(&format!(
                                "{}: not baked, because `{parent}` was not",
                                member.image.name
                            ));
                        }
                        Err(*why)
                    }
                },
            };
            let _turn = self.free.acquire().await;
            if *self.told.borrow() {
                return Err(NotBaked::Interrupted);
            }
            self.bake(member, start?).await
        }))
    }

    /// Bakes an image, if it is missing or out of date.
    async fn bake(&self, member: &Member<'_>, start: Option<(P::Origin, SourceRecord)>) -> Baked<P::Origin> {
        let image = member.image;
        let mut report = self.report(&image.name);
        // Nothing that is done here changes anything, so it may end anywhere.
        let looked = tokio::select! {
            looked = self.look(member, start) => looked.map_err(|failure| self.fail(image, &failure))?,
            () = self.told() => return Err(NotBaked::Interrupted),
        };
        let (order, existing) = looked;
        if let Some(existing) = existing {
            let path = existing.shown.clone();
            report.event(&Event::UpToDate { image: image.name.clone(), path });
            return Ok(existing);
        }
        let platform = self.platform.anew();
        let ledger = begin(self.state, image).map_err(|failure| self.fail(image, &failure))?;
        match bake(&platform, &order, &self.world.secrets, ledger, &mut *report, self.told()).await {
            Ok(manifest) => {
                platform.existing(&manifest, &order).await.map_err(|failure| self.fail(image, &failure))
            }
            Err(error) if error.interrupted => Err(NotBaked::Interrupted),
            // Events have told machines already.
            Err(_) if self.build.format == Format::Json => Err(NotBaked::Failed),
            Err(error) => Err(self.fail(image, &error.failure)),
        }
    }

    /// What is to be baked, and the image if it is there.
    async fn look<'a>(
        &self,
        member: &Member<'a>,
        start: Option<(P::Origin, SourceRecord)>,
    ) -> Result<(Order<'a, P::Origin>, Option<Existing<P::Origin>>), Failure> {
        let (build, image) = (self.build, member.image);
        let (origin, source) = if let Some(start) = start {
            start
        } else {
            let start = build.on.start(self.platform, &image.path, member.source).await?;
            if let (SourceRecord::Ami { region, id, name }, false) = (&start.1, build.on.locked) {
                Lock::beside(&image.path)?.keep(member.source, region, id, name)?;
            }
            start
        };
        let arch = build.on.platform.arch(member.source);
        let agent = agent(build.agent.as_deref(), self.world, arch)?;
        let input_digest = input_digest(image, &source, &agent)?;
        let (extends, output, keep_on_failure) =
            (member.extends, build.output.clone(), build.keep_on_failure);
        let order =
            Order { image, extends, origin, source, arch, agent, input_digest, output, keep_on_failure };
        let existing = if build.force && member.wanted { None } else { self.platform.find(&order).await? };
        Ok((order, existing))
    }

    /// Ends when this process is told to stop.
    async fn told(&self) {
        let mut told = self.told.clone();
        let _ = told.wait_for(|told| *told).await;
    }

    fn report(&self, image: &str) -> Box<dyn Report> {
        match self.build.format {
            Format::Human if self.are_several() => {
                Box::new(Human::among(image, self.build.verbose, &self.progress))
            }
            Format::Human => Box::new(Human::new(self.build.verbose)),
            Format::Json => Box::new(Json::of(image)),
        }
    }

    fn fail(&self, image: &BakePlan, failure: &Failure) -> NotBaked {
        let message = if self.are_several() {
            format!("{}: {}", image.name, failure.message)
        } else {
            failure.message.clone()
        };
        fail(&Failure { message, ..failure.clone() });
        NotBaked::Failed
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
