//! `plan`: what a bake would change.

use std::io::{self, Write};
use std::path::PathBuf;

use recipes::bundle::{self, Contents};
use recipes::plan::Plan as Changes;
use recipes::resolve::RecipeUse;
use recipes::system::Mode;

use super::build::begin;
use super::{
    CHANGES, DONE, Format, INTERRUPTED, ImageArguments, Interrupts, On, PlatformName, State, World, agent,
    fail, fail_with,
};
use crate::agent::Agent;
use crate::bake::{Order, plan_on_builder, undo};
use crate::failure::Failure;
use crate::image::Chain;
use crate::platform::{Platform, Run};
use crate::report::{Human, Report};

/// Show what a bake would change, and change nothing
///
/// A builder is launched from the image's source and thrown away. The recipes of the images it extends
/// are part of the plan.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    image: ImageArguments,
    /// Only resources with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// No resource with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    skip_tags: Vec<String>,
    #[command(flatten)]
    on: On,
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
    format: Format,
}

impl Plan {
    pub(super) async fn run(self, world: &World, state: &State) -> u8 {
        let chain = match self.image.load(world, state) {
            Ok(chain) => chain,
            Err(problems) => return fail_with(&problems),
        };
        let mut report = Human::new(self.verbose);
        let result = match self.on.platform {
            PlatformName::Local => {
                self.plan(world, state, &chain, &state.local(world, true), &mut report).await
            }
            PlatformName::Ec2 => match self.on.ec2(world).await {
                Ok(ec2) => self.plan(world, state, &chain, &ec2, &mut report).await,
                Err(failure) => Err(failure),
            },
        };
        let plan = match result {
            Ok(Some(plan)) => plan,
            Ok(None) => return INTERRUPTED,
            Err(failure) => return fail(&failure),
        };
        let text = match self.format {
            Format::Human => plan.to_string(),
            Format::Json => serde_json::to_string(&plan).unwrap_or_default(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        if self.detailed_exitcode && !plan.is_empty() { CHANGES } else { DONE }
    }

    /// The plan; nothing if it was interrupted.
    async fn plan<P: Platform>(
        &self,
        world: &World,
        state: &State,
        chain: &Chain,
        platform: &P,
        report: &mut dyn Report,
    ) -> Result<Option<Changes>, Failure> {
        let arch = self.on.platform.arch(&chain.source);
        let agent = agent(self.agent.as_deref(), world, arch)?;
        let uses: Vec<RecipeUse> = chain.images.iter().flat_map(|image| image.recipes.clone()).collect();
        let contents = Contents { mode: Mode::Bake, uses: &uses, checks: &[], services: &[] };
        let bundle = bundle::pack(&contents)?;
        let option =
            |name: &str, tags: &[String]| (!tags.is_empty()).then(|| format!("--{name}={}", tags.join(",")));
        let selection = [option("tags", &self.tags), option("skip-tags", &self.skip_tags)];
        let selection: Vec<String> = selection.into_iter().flatten().collect();
        on_builder(state, chain, &self.on, &agent, platform, report, async |session| {
            plan_on_builder(session, &agent, &bundle, &selection).await
        })
        .await
    }
}

/// Launches a builder from an image's source, looks at it, and undoes everything; nothing if it was
/// interrupted.
pub(super) async fn on_builder<P: Platform, T>(
    state: &State,
    chain: &Chain,
    on: &On,
    agent: &Agent,
    platform: &P,
    report: &mut dyn Report,
    look: impl AsyncFnOnce(&P::Session) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let image = chain.image().ok_or_else(|| Failure::new("there is no image"))?;
    let first = chain.images.first().unwrap_or(image);
    let (origin, source) = on.start(platform, &first.path, &chain.source).await?;
    let arch = on.platform.arch(&chain.source);
    let (input_digest, output) = (String::new(), PathBuf::new());
    let agent = agent.clone();
    let order = Order { image, origin, source, arch, agent, input_digest, output, keep_on_failure: false };
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
