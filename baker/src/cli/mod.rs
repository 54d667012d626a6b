//! The command line: one file for each verb.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use miette::{Diagnostic, ReportHandler};
use recipes::error::Problems;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{Agent, AgentError};
use crate::failure::{Failure, failed};
use crate::image::{Architecture, Chain, Lock, Source};
use crate::manifest::SourceRecord;
use crate::platform::{Ec2, Local, Platform, Way};
use crate::secrets::Secrets;

mod apply;
mod build;
mod clean;
mod docs;
mod drift;
mod facts;
mod host;
mod library_page;
mod matrix;
mod place;
mod plan;
mod policy;
mod session_manager;
mod show;
mod subject;
mod validate;
mod vendor;

/// Everything went well.
pub const DONE: u8 = 0;
/// Something failed, and was said on standard error.
pub const FAILED: u8 = 1;
/// A plan with `--detailed-exitcode` has changes.
pub const CHANGES: u8 = 2;
/// The command line was not understood (sysexits.h, `EX_USAGE`).
pub const USAGE: u8 = 64;
/// It was told to stop (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Bakes golden images: applies recipes to a builder, proves that nothing is left to change, and seals it
#[derive(Debug, Parser)]
#[command(name = "baker", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Where runs and caches are kept [default: $`BAKER_STATE_DIR`, or baker in the user's state folder]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Validate(validate::Validate),
    Plan(plan::Plan),
    Apply(apply::Apply),
    Drift(drift::Drift),
    Build(build::Build),
    Clean(clean::Clean),
    Facts(facts::Facts),
    Policy(policy::Policy),
    Show(show::Show),
    Matrix(matrix::Matrix),
    Vendor(vendor::Vendor),
    Docs(docs::Docs),
    #[command(hide = true)]
    SessionManager(session_manager::SessionManager),
}

/// What the program is told besides its arguments.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Arguments, the program's name first.
    pub arguments: Vec<OsString>,
    /// Values of image variables.
    pub variables: BTreeMap<String, String>,
    /// Where runs and caches are kept, if not said otherwise.
    pub state: Option<PathBuf>,
    /// Where this program is: the agent may be beside it.
    pub program: Option<PathBuf>,
    /// A file of certificates that AWS is believed by.
    pub ca_bundle: Option<PathBuf>,
    /// Proxies, for package managers.
    pub proxies: Vec<(String, String)>,
    /// What must not be in an image: values of the environment, and what they are.
    pub secrets: Secrets,
    /// What git needs to get at a repository besides proxies: the home, for `.netrc`, and the agent of ssh.
    pub git: Vec<(String, String)>,
}

impl World {
    fn way(&self) -> Way {
        Way { ca_bundle: self.ca_bundle.clone(), program: self.program.clone() }
    }
}

/// Where runs and caches are.
#[derive(Debug, Clone)]
struct State(PathBuf);

impl State {
    fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    fn local(&self, world: &World, ephemeral: bool) -> Local {
        Local { cache: self.cache(), proxies: world.proxies.clone(), ephemeral }
    }
}

/// How a command tells what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Where images are baked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PlatformName {
    /// A container on this machine.
    Local,
    /// An instance on EC2, which becomes an AMI.
    Ec2,
}

impl PlatformName {
    fn name(self) -> &'static str {
        match self {
            Self::Local => Local::NAME,
            Self::Ec2 => Ec2::NAME,
        }
    }

    /// The processor of its builders.
    fn arch(self, source: &Source) -> Architecture {
        match (self, &source.ec2) {
            (Self::Ec2, Some(ec2)) => ec2.arch,
            _ => Architecture::here(),
        }
    }
}

/// Where a builder is launched.
#[derive(Debug, clap::Args)]
struct On {
    /// Where to launch the builder
    #[arg(long = "platform", value_enum, default_value = "local")]
    platform: PlatformName,
    /// The region of EC2 [default: that of `AWS_REGION` or of the profile]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Start from the AMI that the image's lock file names, and not from a newer one (EC2 only)
    #[arg(long)]
    locked: bool,
}

impl On {
    async fn ec2(&self, world: &World) -> Result<Ec2, Failure> {
        Ec2::connect(self.region.as_deref(), &world.way()).await
    }

    /// What an image starts from that is defined in a file.
    async fn start<P: Platform>(
        &self,
        platform: &P,
        definition: &Path,
        source: &Source,
    ) -> Result<(P::Origin, SourceRecord), Failure> {
        if !self.locked {
            return platform.start(source).await;
        }
        let region = platform.region().ok_or_else(|| {
            Failure::new("`--locked` is for AMIs: a local source is made of today's packages")
        })?;
        platform.start(&Lock::beside(definition)?.locked(source, region)?).await
    }
}

/// An image definition and what it is read with.
#[derive(Debug, clap::Args)]
struct ImageArguments {
    /// The image definition
    #[arg(value_name = "IMAGE.yaml")]
    image: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

/// What image definitions are read with.
#[derive(Debug, clap::Args)]
struct Reading {
    /// The value of a variable of the image; also as `BAKER_VAR_NAME` in the environment
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// A folder of recipes, looked at before those beside the image and those that baker brings
    #[arg(long = "recipes", value_name = "DIR")]
    recipes: Vec<PathBuf>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("a variable is given as NAME=VALUE".into()),
    }
}

impl ImageArguments {
    fn load(&self, world: &World, state: &State) -> Result<Chain, Problems> {
        self.reading.load(&self.image, world, state)
    }
}

impl Reading {
    fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.recipes.is_empty()
    }

    fn load(&self, image: &Path, world: &World, state: &State) -> Result<Chain, Problems> {
        let mut variables = world.variables.clone();
        variables.extend(self.variables.iter().cloned());
        Chain::load(image, &variables, &self.recipes, &state.cache())
    }

    /// Each of several images; the first that is not valid ends it.
    fn load_all(&self, images: &[PathBuf], world: &World, state: &State) -> Result<Vec<Chain>, Problems> {
        images.iter().map(|image| self.load(image, world, state)).collect()
    }
}

/// The agent: the one given, else one beside this program.
fn agent(given: Option<&Path>, world: &World, arch: Architecture) -> Result<Agent, Failure> {
    let beside = world.program.as_ref().and_then(|program| program.parent()).map(Path::to_owned);
    let found = Agent::find(given, &beside.into_iter().collect::<Vec<_>>(), arch.of_linux());
    found.map_err(|error: AgentError| Failure::because("", &error).help(error.advice()))
}

/// Runs the program and returns its exit code.
pub fn main(world: &World) -> u8 {
    let arguments = match Arguments::try_parse_from(&world.arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_help { DONE } else { USAGE };
        }
    };
    let Some(state) = arguments.state.or_else(|| world.state.clone()) else {
        return fail(
            &Failure::new("it is not known where to keep runs and caches")
                .help("name a folder with `--state`"),
        );
    };
    let state = match std::path::absolute(state) {
        Ok(path) => State(path),
        Err(error) => return fail(&Failure::because("failed to find the state folder", &error)),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::because("failed to start", &error)),
    };
    match arguments.verb {
        Verb::Docs(verb) => verb.run(&state.cache()),
        Verb::Vendor(verb) => runtime.block_on(verb.run(world)),
        Verb::Facts(verb) => runtime.block_on(verb.run(world, &state)),
        Verb::Validate(verb) => verb.run(world, &state),
        Verb::Policy(verb) => verb.run(world, &state),
        Verb::Show(verb) => verb.run(),
        Verb::Matrix(verb) => verb.run(world, &state),
        Verb::SessionManager(verb) => runtime.block_on(verb.run(world)),
        Verb::Plan(verb) => runtime.block_on(verb.run(world, &state)),
        Verb::Apply(verb) => runtime.block_on(verb.run(world, &state)),
        Verb::Drift(verb) => runtime.block_on(verb.run(world)),
        Verb::Build(verb) => runtime.block_on(verb.run(world, &state)),
        Verb::Clean(verb) => runtime.block_on(verb.run(world, &state)),
    }
}

/// Hears when this process is told to stop, from its beginning to its end. To be told twice changes nothing:
/// undoing takes seconds, and ends.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(failed("listen for signals"));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Ends when this process is told to stop, and something is to be undone.
    async fn told(&mut self) {
        self.heard().await;
        complain("interrupted: undoing what was created");
    }

    /// Ends when this process is told to stop. What comes of that is for the caller to say.
    async fn heard(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Says on standard error why nothing could be done.
fn fail(failure: &Failure) -> u8 {
    complain(&format!("error: {}", failure.message));
    if let Some(at) = &failure.at {
        complain(&format!("  --> {at}"));
    }
    if let Some(help) = &failure.help {
        complain(&format!("help: {help}"));
    }
    FAILED
}

/// Says on standard error everything that is wrong with what somebody wrote.
fn fail_with(problems: &Problems) -> u8 {
    for problem in problems.iter() {
        complain(&format!("{:?}", Shown(problem)));
    }
    let count = problems.len();
    complain(&format!("{count} {}; nothing was changed", if count == 1 { "problem" } else { "problems" }));
    FAILED
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}

/// A diagnostic as miette shows it: with the source around it and what to do.
struct Shown<'a>(&'a (dyn Diagnostic + 'static));

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        miette::MietteHandlerOpts::new().build().debug(self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A change of the interface shows in review.
    #[test]
    fn help_is_as_reviewed() {
        let mut command = Arguments::command().term_width(100);
        command.build();
        let verbs = command.get_subcommands_mut().filter(|verb| verb.get_name() != "help");
        let texts: Vec<String> = verbs.map(|verb| verb.render_long_help().to_string()).collect();
        insta::assert_snapshot!(texts.join("\n----\n\n"));
    }
}
