//! `plan`: what apply, or this host's run, would do.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use recipes::change::Fingerprint;
use recipes::difference::ExactPlan;
use recipes::plan::{Guards, Plan as Planned, plan_with_transaction};
use recipes::resolve::Resolved;
use recipes::run::RunError;
use recipes::system::linux::Linux;
use recipes::system::{Facts, Machine, Mode};
use serde::Serialize;

use super::run::keep_memory_private;
use super::{CHANGES, DONE, FAILED, Tags, World, complain, fail, fail_at, fail_by, fail_with};
use crate::boot::error::{BootError, chain};
use crate::boot::{Settings, look};
use crate::config::Config;
use crate::exact;
use crate::fingerprint::Fingerprints;
use crate::redact::Redactor;
use crate::report::{Format, Reporter};
use crate::source::plan::FetchPlan;
use crate::status::Failure;
use crate::stop::Stop;
use crate::unpack::{self, Opened};

/// How long the metadata service is waited for: a person waits, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Show what apply or this host's run would do, or which calls a boot makes
///
/// With a BUNDLE, that is what applying it would do. Without one, it is what `run` would change: user-data and values are
/// read and fetched as `run` does it, and nothing is changed. A secret is shown by its fingerprint, which says whether it
/// changes and not what it is.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// The bundle: a tar file, or a folder; this host's boot if left out
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// Show the calls that fetch the values of a host with this user-data
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    user_data: Option<PathBuf>,
    /// How long the quotas make a fleet of this size wait that boots at once
    #[arg(long, value_name = "HOSTS", requires = "user_data")]
    fleet: Option<u32>,
    #[command(flatten)]
    tags: Tags,
    /// The root of the host
    #[arg(long, value_name = "DIR", default_value = "/", requires = "bundle")]
    root: PathBuf,
    /// Apply it to a copy of this host that is thrown away, and show what that makes of it
    #[arg(long, requires = "bundle", conflicts_with = "root")]
    exact: bool,
    /// End with 2 if there is something to change
    #[arg(long)]
    detailed_exitcode: bool,
    /// How to show it
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl Plan {
    pub(super) fn run(self, world: &World) -> u8 {
        match (&self.bundle, &self.user_data) {
            (Some(bundle), _) => self.of_bundle(bundle, world),
            (None, Some(user_data)) => self.calls(user_data),
            (None, None) => self.of_boot(world),
        }
    }

    fn of_bundle(&self, bundle: &Path, world: &World) -> u8 {
        let opened = match unpack::open(bundle) {
            Ok(opened) => opened,
            Err(problems) => return fail_with(&problems),
        };
        if self.exact {
            return self.exact(&opened, world);
        }
        let machine = Linux::open(&self.root, opened.bundle.manifest.mode);
        let machine = match machine {
            Ok(machine) => machine,
            Err(error) => return fail_by(&error),
        };
        let resolved = match self.tags.resolve(&opened.bundle, machine.host()) {
            Ok(resolved) => resolved,
            Err(problems) => return fail_with(&problems),
        };
        match planned(&resolved, &machine, None) {
            Ok(plan) => self.show(&plan, plan.is_empty(), &Redactor::default()),
            Err(error) => fail(&error),
        }
    }

    /// What a run would change on this host.
    fn of_boot(&self, world: &World) -> u8 {
        keep_memory_private();
        let settings = Settings {
            file: None,
            metadata_endpoint: world.metadata_endpoint.clone(),
            metadata_patience: PATIENCE,
            force: false,
            is_in_journal: false,
            environment: world.proxies.clone(),
        };
        // What is planned is told on standard output, and how it went on standard error.
        let mut reporter = Reporter::new(Format::Human, io::stderr());
        let stop = Stop::default();
        match self.boot(&settings, &mut reporter, &stop) {
            Ok(plan) => self.show(&plan, plan.is_empty(), reporter.redactor()),
            Err(failure) => fail_at(&failure, &stop),
        }
    }

    fn boot<W: Write>(
        &self,
        settings: &Settings,
        reporter: &mut Reporter<W>,
        stop: &Stop,
    ) -> Result<Planned, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let nothing = Redactor::default();
        let failed = |error: io::Error| BootError::new("start", error.to_string()).failure(&nothing);
        let ready = runtime.map_err(failed)?.block_on(look(settings, reporter, stop))?;
        let redactor = reporter.redactor();
        let failed = |step: &'static str, why: String| BootError::new(step, why).failure(redactor);
        let machine = Linux::open(Path::new("/"), Mode::Live)
            .map_err(|error| failed("plan", chain(&error)))?
            .with_environment(settings.environment.clone());
        let mut resolved = ready
            .bundle
            .resolve(machine.host(), &ready.values.scope())
            .map_err(|problems| failed("render", problems.to_string()))?;
        self.tags.select(&mut resolved).map_err(|problem| failed("render", problem.to_string()))?;
        let fingerprints = Fingerprints::of_boot(Path::new("/"));
        let fingerprints = fingerprints.map_err(|error| failed("plan", error.to_string()))?;
        let planned = planned(&resolved, &machine, Some(&|secret: &[u8]| fingerprints.of(secret)));
        planned.map_err(|error| BootError { step: "plan", ..BootError::of_run(&error) }.failure(redactor))
    }

    fn show<P: fmt::Display + Serialize>(&self, plan: &P, is_empty: bool, redactor: &Redactor) -> u8 {
        let text = match self.format {
            Format::Human => plan.to_string(),
            Format::Json => serde_json::to_string(plan).unwrap_or_default(),
        };
        let _ = writeln!(io::stdout(), "{}", redactor.clean(&text));
        if self.detailed_exitcode && !is_empty { CHANGES } else { DONE }
    }

    /// What comes of applying it to a copy, which a process of its own does.
    fn exact(&self, opened: &Opened, world: &World) -> u8 {
        let mut arguments = vec!["apply-to-copy".to_owned()];
        arguments.extend(self.tags.options());
        arguments.push(format!("--parent={}", std::process::id()));
        arguments.push(opened.folder().display().to_string());
        let active = Linux::open(Path::new("/"), Mode::Live).and_then(|host| host.active_units().cloned());
        let active = match active {
            Ok(active) => active,
            Err(error) => return fail_by(&error),
        };
        let ended = match exact::start(&arguments, &active, &world.proxies) {
            Ok(ended) => ended,
            Err(error) => {
                complain(&format!("error: this host has no place for an exact plan: {error}"));
                complain("help: it needs root, and a kernel with namespaces and overlayfs");
                return FAILED;
            }
        };
        match serde_json::from_str::<ExactPlan>(&ended.output) {
            Ok(plan) if ended.code == Some(0) => self.show(&plan, plan.plan.is_empty(), &Redactor::default()),
            // It has said why.
            _ if ended.code.is_some() => FAILED,
            _ => {
                complain("error: what made the exact plan was killed");
                FAILED
            }
        }
    }

    /// The calls that a host makes for its values.
    fn calls(&self, path: &Path) -> u8 {
        let name = path.display().to_string();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                complain(&format!("error: failed to read `{name}`: {error}"));
                return FAILED;
            }
        };
        let config = match Config::parse(&name, &bytes) {
            Ok(config) => config,
            Err(problems) => return fail_with(&problems),
        };
        let plan = FetchPlan::of(&config);
        let fleet = self.fleet.map(|hosts| format!("\n{}", plan.fleet(hosts))).unwrap_or_default();
        let text = match self.format {
            Format::Human => format!("{plan}{fleet}"),
            Format::Json => serde_json::json!({
                "paths": plan.paths,
                "names": plan.names,
                "secrets": plan.secrets.iter().map(|secret| &secret.id).collect::<Vec<_>>(),
                "calls": plan.calls(),
                "wait_seconds": self.fleet.map(|hosts| plan.wait(hosts).as_secs_f64()),
            })
            .to_string(),
        };
        let _ = writeln!(io::stdout(), "{text}");
        DONE
    }
}

/// The plan of all that is resolved, and of what an earlier run has notified.
pub(super) fn planned(
    resolved: &Resolved,
    machine: &Linux,
    secrets: Option<&Fingerprint<'_>>,
) -> Result<Planned, RunError> {
    let pending = machine.pending_handlers().map_err(RunError::state)?;
    plan_with_transaction(resolved, machine, Guards::Run, &pending, secrets)
}
