//! `plan`: what a bake would change.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use recipes::difference::ExactPlan;
use recipes::plan::Plan as Changes;
use schemars::JsonSchema;
use serde::Serialize;

use super::build::begin;
use super::host::look_at;
use super::place::{Baked, Place, Start, baked, of_source, place, without_volumes};
use super::subject::Subject;
use super::{CHANGES, DONE, INTERRUPTED, Interrupts, On, PlatformName, State, World, agent, fail, fail_with};
use crate::agent::Agent;
use crate::bake::{Order, plan_on_builder, undo};
use crate::failure::Failure;
use crate::image::{BakePlan, Chain, PublishSettings};
use crate::platform::{Platform, Run};
use crate::report::{Human, Report, markdown};
use crate::saved::SavedPlan;
use crate::target::Target;

/// Show what a bake would change, and change nothing
///
/// A builder is launched from the image's source and thrown away; or, with `--on`, from an AMI or an image that was baked; or
/// the plan is of a host that is there already, such as a machine of Vagrant. The recipes of the images it extends are part of
/// the plan. A recipe alone is planned on Debian 12 if no place is named.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Plan {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    on: On,
    /// Where to plan: `local` or `ec2`, as with `--platform`; `ami:ID`, or the name of an image that was baked, which are booted
    /// and ended; or a host that is there: `ssh://[USER@]HOST[:PORT]`, `vagrant[:NAME]`, or a tree, `root:PATH`
    #[arg(long = "on", value_name = "TARGET", value_parser = place, conflicts_with = "platform")]
    target: Option<Place>,
    /// The folder that images are kept in
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// Apply the recipes to a copy of the host that is thrown away, and show what that makes of it
    ///
    /// What is written there goes to memory. Packages are really installed and commands really run; units are not started.
    #[arg(long)]
    exact: bool,
    /// Keep the plan in a file: `baker apply FILE` applies it as it is, or not at all if the host has changed
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "exact")]
    save: Option<PathBuf>,
    /// Remove the agent from the host afterwards, which else stays in the user's cache there for the next time
    #[arg(long, requires = "target")]
    leave_nothing: bool,
    /// The agent's binary; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// End with 2 if there is something to change
    #[arg(long)]
    detailed_exitcode: bool,
    /// Show what programs print
    #[arg(long, short)]
    verbose: bool,
    /// How to show the plan
    #[arg(long, value_enum, default_value = "human")]
    format: PlanFormat,
}

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PlanFormat {
    /// For people.
    Human,
    /// One JSON object, of which `baker docs plan` prints the schema.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

/// What a plan came to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Planned {
    /// By reading the host.
    Fast(Changes),
    /// By applying the recipes to a copy of it.
    Exact(ExactPlan),
}

impl Planned {
    fn is_empty(&self) -> bool {
        match self {
            Self::Fast(plan) => plan.is_empty(),
            Self::Exact(exact) => exact.plan.is_empty(),
        }
    }
}

impl Planned {
    fn markdown(&self, chain: &Chain) -> String {
        let title = chain.image().map_or("", |image| &image.name);
        match self {
            Self::Fast(plan) => markdown(title, plan, None),
            Self::Exact(exact) => markdown(title, &exact.plan, Some(&exact.of_copy())),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fast(plan) if plan.bases().assumed > 0 => {
                write!(formatter, "{plan} `--exact` finds out what is assumed.")
            }
            Self::Fast(plan) => plan.fmt(formatter),
            Self::Exact(exact) => exact.fmt(formatter),
        }
    }
}

/// Which resources of the recipes.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// Only resources with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// No resource with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    skip_tags: Vec<String>,
}

impl Selection {
    /// As options of the agent.
    pub(super) fn options(&self) -> Vec<String> {
        let option =
            |name: &str, tags: &[String]| (!tags.is_empty()).then(|| format!("--{name}={}", tags.join(",")));
        let options = [option("tags", &self.tags), option("skip-tags", &self.skip_tags)];
        options.into_iter().flatten().collect()
    }
}

impl Plan {
    pub(super) async fn run(mut self, world: &World, state: &State) -> u8 {
        let place = self.target.take().unwrap_or(Place::Builder(self.on.platform));
        if self.save.is_some() && !matches!(place, Place::Host(_)) {
            return fail(&Failure::new("`--save` is for a host that is there: a builder is thrown away"));
        }
        if let Place::Builder(platform) = place {
            self.on.platform = platform;
        } else if self.on.locked {
            return fail(&Failure::new("`--locked` is for the source of an image, and `--on` names another"));
        }
        let chain = match self.subject.load(world, state) {
            Ok(chain) => chain,
            Err(problems) => return fail_with(&problems),
        };
        let result = match &place {
            Place::Host(target) => self.on_host(target, world, &chain).await,
            place => Box::pin(self.on_builder(place, world, state, &chain)).await,
        };
        let plan = match result {
            Ok(Some(plan)) => plan,
            Ok(None) => return INTERRUPTED,
            Err(failure) => return fail(&failure),
        };
        let text = match self.format {
            PlanFormat::Human => plan.to_string(),
            PlanFormat::Json => serde_json::to_string(&plan).unwrap_or_default(),
            PlanFormat::Markdown => plan.markdown(&chain),
        };
        let _ = writeln!(io::stdout(), "{text}");
        if self.detailed_exitcode && !plan.is_empty() { CHANGES } else { DONE }
    }

    /// Saves a plan, if that is wanted.
    fn kept(
        &self,
        target: &Target,
        bundle: &BTreeMap<String, Vec<u8>>,
        plan: Changes,
    ) -> Result<Planned, Failure> {
        if let Some(path) = &self.save {
            let (target, options) = (target.to_string(), self.selection.options());
            SavedPlan { target, options, plan: plan.clone(), bundle: bundle.clone() }.save(path)?;
        }
        Ok(Planned::Fast(plan))
    }

    /// Options of the agent's `plan`.
    fn options(&self) -> Vec<String> {
        let exact = self.exact.then(|| "--exact".to_owned());
        self.selection.options().into_iter().chain(exact).collect()
    }

    /// The plan of a host that is there; nothing if it was interrupted.
    async fn on_host(
        &self,
        target: &Target,
        world: &World,
        chain: &Chain,
    ) -> Result<Option<Planned>, Failure> {
        if self.exact && matches!(target, Target::Root(_)) {
            return Err(Failure::new("`--exact` is for a host that runs: nothing is executed in a tree"));
        }
        let (bundle, options) = (chain.bundle()?, self.options());
        look_at(target, self.agent.as_deref(), world, self.leave_nothing, async |host| {
            if self.exact {
                return host.plan(&bundle, &options).await.map(Planned::Exact);
            }
            host.plan(&bundle, &options).await.and_then(|plan| self.kept(target, &bundle, plan))
        })
        .await
    }

    /// The plan of a builder; nothing if it was interrupted.
    async fn on_builder(
        &self,
        place: &Place,
        world: &World,
        state: &State,
        chain: &Chain,
    ) -> Result<Option<Planned>, Failure> {
        let local = state.local(world, true);
        match place {
            Place::Image(name) => match baked(name, &self.output, &self.on, world).await? {
                Baked::Local(start) => self.plan(world, state, chain, &local, start).await,
                Baked::Ec2(ec2, start) => {
                    self.plan(world, state, &without_volumes(chain), &*ec2, start).await
                }
            },
            Place::Ami(id) => {
                let ec2 = self.on.ec2(world).await?;
                let (origin, source, arch) = ec2.ami(id).await?;
                let start = Start { origin, source, arch };
                self.plan(world, state, &without_volumes(chain), &ec2, start).await
            }
            _ if self.on.platform == PlatformName::Ec2 => {
                let ec2 = self.on.ec2(world).await?;
                self.plan(world, state, chain, &ec2, of_source(&self.on, &ec2, chain).await?).await
            }
            _ => self.plan(world, state, chain, &local, of_source(&self.on, &local, chain).await?).await,
        }
    }

    /// The plan of a builder that starts from something; nothing if it was interrupted.
    async fn plan<P: Platform>(
        &self,
        world: &World,
        state: &State,
        chain: &Chain,
        platform: &P,
        start: Start<P::Origin>,
    ) -> Result<Option<Planned>, Failure> {
        let agent = agent(self.agent.as_deref(), world, start.arch)?;
        let mut report = Human::new(self.verbose);
        let (bundle, options) = (chain.bundle()?, self.options());
        on_builder(state, chain, start, &agent, platform, &mut report, async |session| {
            if self.exact {
                return plan_on_builder(session, &agent, &bundle, &options).await.map(Planned::Exact);
            }
            plan_on_builder(session, &agent, &bundle, &options).await.map(Planned::Fast)
        })
        .await
    }
}

/// Launches a builder, looks at it, and undoes everything; nothing if it was interrupted.
pub(super) async fn on_builder<P: Platform, T>(
    state: &State,
    chain: &Chain,
    start: Start<P::Origin>,
    agent: &Agent,
    platform: &P,
    report: &mut dyn Report,
    look: impl AsyncFnOnce(&P::Session) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let image = chain.image().ok_or_else(|| Failure::new("there is no image"))?;
    // Nothing is published, so it does not matter what would be in the way of that, such as a name that is taken.
    let image = &BakePlan { publish: PublishSettings::default(), ..image.clone() };
    let Start { origin, source, arch } = start;
    let (input_digest, output) = (String::new(), PathBuf::new());
    let agent = agent.clone();
    let extends = &chain.images[..0];
    let order =
        Order { image, extends, origin, source, arch, agent, input_digest, output, keep_on_failure: false };
    let mut ledger = begin(state, image)?;
    let result = tokio::select! {
        result = async {
            let mut run = Run { ledger: &mut ledger, report: &mut *report };
            let (checked, _) = platform.preflight(&order, &mut run).await?;
            let (prepared, _) = platform.prepare(checked, &order, &mut run).await?;
            let (builder, _) = platform.launch(prepared, &mut run).await?;
            look(&platform.session(&builder)).await
        } => result.map(Some),
        () = interrupts.told() => Ok(None),
    };
    let undone = undo(platform, ledger, report).await;
    let seen = result?;
    undone.map(|()| seen)
}
