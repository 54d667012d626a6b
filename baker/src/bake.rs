//! The life of a bake, top to bottom.
//!
//! ```text
//! preflight ─▶ source ─▶ launch ─▶ upload ─▶ apply ─▶ prove ─▶ check ─▶ seal ─▶ snapshot ─▶ boot ─▶ publish
//!     └───────────┴─────────┴─────────┴────────┴────────┴────────┴───────┴─────────┴─────────┴───────┴─▶ undo
//! ```
//!
//! Whatever happens, the ledger is undone: after a failure, after Ctrl-C, and after a kill by `baker clean`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use recipes::drift::{Record, Seen};
use recipes::event::{Event as AgentEvent, Outcome};
use recipes::op::hex;
use recipes::plan::Plan;
use recipes::system::Host;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::failure::{Failure, failed};
use crate::files::{Files, Made, beside};
use crate::image::{Architecture, BakePlan, bundle_of, recorded};
use crate::ledger::Ledger;
use crate::manifest::{Artifact, Manifest, Package, ResourceCounts, SourceRecord, Timing, VERSION};
use crate::platform::{Kept, Platform, Run, SealReport, Undo};
use crate::record;
use crate::report::{Event, Report};
use crate::secrets::Secrets;
use crate::session::{Ended, Input, Session};

/// Where the agent is in every image.
pub const AGENT: &str = "/usr/local/bin/bootstrap-agent";

/// Where the boot bundle is in an image.
const BOOT_BUNDLE: &str = "/usr/lib/bootstrap-agent/boot";

/// Where the bundle of the bake is on the builder. It is on tmpfs, so it is never in the image.
const BUNDLE: &str = "/run/bootstrap-agent/bundle.tar";

/// The steps of a bake, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Is everything there that a bake needs?
    Preflight,
    /// Make what the builder starts from.
    Source,
    /// Launch the builder.
    Launch,
    /// Send the agent and the bundle.
    Upload,
    /// Apply the recipes.
    Apply,
    /// Plan again: nothing may be left to change.
    Prove,
    /// Carry out the image's checks.
    Check,
    /// Stop the builder, clean it, look for leaks.
    Seal,
    /// Keep what it became.
    Snapshot,
    /// Launch a host from it and carry out the checks there.
    Boot,
    /// Put the image where it is looked for.
    Publish,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 11] = [
        Self::Preflight,
        Self::Source,
        Self::Launch,
        Self::Upload,
        Self::Apply,
        Self::Prove,
        Self::Check,
        Self::Seal,
        Self::Snapshot,
        Self::Boot,
        Self::Publish,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Preflight => "preflight",
            Self::Source => "source",
            Self::Launch => "launch",
            Self::Upload => "upload",
            Self::Apply => "apply",
            Self::Prove => "prove",
            Self::Check => "check",
            Self::Seal => "seal",
            Self::Snapshot => "snapshot",
            Self::Boot => "boot",
            Self::Publish => "publish",
        })
    }
}

/// What is baked, from what, and where it goes.
#[derive(Debug)]
pub struct Order<'a, O> {
    /// The image.
    pub image: &'a BakePlan,
    /// Those that it extends, the first one first.
    pub extends: &'a [BakePlan],
    /// What the builder starts from.
    pub origin: O,
    /// The same, for the manifest.
    pub source: SourceRecord,
    /// The processor of the builder.
    pub arch: Architecture,
    /// The agent that goes into it.
    pub agent: Agent,
    /// `sha256:` and the digest of everything that goes into it.
    pub input_digest: String,
    /// The folder that images and their manifests are kept in.
    pub output: PathBuf,
    /// Whether a builder on which something failed stays, for somebody to look at.
    pub keep_on_failure: bool,
}

/// How a bake ended without an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakeError {
    /// The step it ended in.
    pub step: Option<Step>,
    /// Why.
    pub failure: Failure,
    /// Whether somebody wanted it to end.
    pub interrupted: bool,
}

/// Bakes an image, and undoes whatever it created on the way.
///
/// # Errors
/// Why there is no image. An older one of the same name is still there.
pub async fn bake<P: Platform>(
    platform: &P,
    order: &Order<'_, P::Origin>,
    secrets: &Secrets,
    mut ledger: Ledger,
    report: &mut dyn Report,
    interrupted: impl Future<Output = ()>,
) -> Result<Manifest, BakeError> {
    report.event(&Event::BakeStarted { image: order.image.name.clone(), run: ledger.run().to_owned() });
    let mut bake = Bake { platform, order, secrets, step: None, timings: Vec::new(), way_in: None };
    let result = tokio::select! {
        // What was told before this bake began, while another of the chain was undone, comes first.
        biased;
        () = interrupted => Err((Failure::new("it was interrupted"), true)),
        result = bake.steps(&mut ledger, report) => result.map_err(|failure| (failure, false)),
    };
    let step = bake.step;
    let undone = match (&result, bake.way_in.filter(|_| order.keep_on_failure)) {
        (Err((_, false)), Some(way_in)) => {
            report.event(&Event::Kept { run: ledger.run().to_owned(), way_in });
            Ok(())
        }
        _ => undo(platform, ledger, report).await,
    };
    let result = result.map_err(|(failure, interrupted)| BakeError { step, failure, interrupted });
    let result = match (result, undone) {
        (Ok(_), Err(failure)) => Err(BakeError { step: None, failure, interrupted: false }),
        (result, _) => result,
    };
    match &result {
        Ok(manifest) => report.event(&Event::BakeFinished {
            image: manifest.name.clone(),
            path: order.output.join(&manifest.name).display().to_string(),
            digest: manifest.digest.clone(),
            amis: manifest.amis.clone(),
        }),
        Err(error) => report.event(&Event::BakeFailed {
            image: order.image.name.clone(),
            step: error.step,
            error: error.failure.message.clone(),
            at: error.failure.at.clone(),
            help: error.failure.help.clone(),
        }),
    }
    result
}

/// Undoes everything in a ledger, newest first. One thing that cannot be undone does not keep the others.
///
/// # Errors
/// How much is left; the ledger is kept for it.
pub async fn undo<P: Undo>(platform: &P, mut ledger: Ledger, report: &mut dyn Report) -> Result<(), Failure> {
    let mut left = 0;
    for (number, created) in ledger.remaining() {
        let error = platform.undo(&created).await.err().map(|failure| failure.message);
        left += usize::from(error.is_some());
        if error.is_none() {
            ledger.undone(number).map_err(failed("write the ledger"))?;
        }
        report.event(&Event::Undone { created: created.to_string(), error });
    }
    if left > 0 {
        let run = ledger.run().to_owned();
        return Err(Failure::new(format!("{left} things that the run `{run}` created are left behind"))
            .help("`baker clean` tries again"));
    }
    ledger.close().map_err(failed("close the ledger"))
}

struct Bake<'a, P: Platform> {
    platform: &'a P,
    order: &'a Order<'a, P::Origin>,
    secrets: &'a Secrets,
    step: Option<Step>,
    timings: Vec<Timing>,
    /// How somebody connects to the builder, if that is possible.
    way_in: Option<String>,
}

impl<P: Platform> Bake<'_, P> {
    async fn steps(&mut self, ledger: &mut Ledger, report: &mut dyn Report) -> Result<Manifest, Failure> {
        let (platform, order) = (self.platform, self.order);
        let mut run = Run { ledger, report };

        let checked =
            self.step(Step::Preflight, &mut run, async |run| platform.preflight(order, run).await).await?;
        let prepared = self
            .step(Step::Source, &mut run, async |run| platform.prepare(checked, order, run).await)
            .await?;
        let builder =
            self.step(Step::Launch, &mut run, async |run| platform.launch(prepared, run).await).await?;
        let session = platform.session(&builder);
        self.way_in = session.way_in();
        self.step(Step::Upload, &mut run, async |_| upload(&session, &order.agent, order.image).await)
            .await?;
        let mut made = Made::starting_from(self.parents()?.as_ref());
        let resources = self
            .step(Step::Apply, &mut run, async |run| {
                let argv = [AGENT, "apply", "--format=json", BUNDLE];
                apply(&session, &argv, Input::Nothing, &mut made.hearing(run.report)).await
            })
            .await?;
        self.step(Step::Prove, &mut run, async |_| prove(&session).await).await?;
        self.step(Step::Check, &mut run, async |run| check(&session, order.image, run).await).await?;
        let gate = self.secrets.gate(&order.image.allow_leaks, &made);
        let (sealed, files, seen) = self
            .step(Step::Seal, &mut run, async |run| {
                let (sealed, report) = platform.seal(builder, gate, run).await?;
                let result = no_leaks(&report)?;
                let files = report.files.map(|files| made.found(files));
                Ok(((sealed, files, report.seen), result))
            })
            .await?;
        let kept = self
            .step(Step::Snapshot, &mut run, async |run| platform.snapshot(sealed, order, run).await)
            .await?;
        // The builder is off from here on.
        self.way_in = None;
        let record = Some(self.record(run.ledger.run(), &kept, seen)?);
        let mut manifest = Manifest { files, record, ..self.manifest(run.ledger.run(), &kept, resources) };
        let image = kept.image;
        if P::BOOTS {
            let mut way_in = None;
            let booted = self.step(Step::Boot, &mut run, async |run| {
                let session = platform.session(&platform.boot(&image, order, run).await?);
                way_in = session.way_in();
                boot(&session, order, run).await
            });
            let booted = booted.await;
            self.way_in = way_in;
            booted?;
        }
        self.step(Step::Publish, &mut run, async |run| {
            Ok(((), platform.publish(image, &mut manifest, order, run).await?))
        })
        .await?;
        Ok(manifest)
    }

    /// Whose the files are of the image that this one starts from, if that is known here.
    fn parents(&self) -> Result<Option<Files>, Failure> {
        let Some(parent) = &self.order.image.parent else { return Ok(None) };
        let path = beside(&Manifest::place(&self.order.output, parent, P::NAME));
        Files::read(&path).map_err(failed(format!("read `{}`", path.display())))
    }

    /// Carries out a step, tells of it, and remembers how long it took.
    async fn step<T>(
        &mut self,
        step: Step,
        run: &mut Run<'_>,
        work: impl AsyncFnOnce(&mut Run<'_>) -> Result<(T, String), Failure>,
    ) -> Result<T, Failure> {
        self.step = Some(step);
        let image = self.order.image.name.clone();
        run.report.event(&Event::StepStarted { image: image.clone(), step });
        let began = Instant::now();
        let (value, result) = work(run).await?;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.timings.push(Timing { step, milliseconds });
        run.report.event(&Event::StepFinished { image, step, milliseconds, result });
        Ok(value)
    }

    fn manifest(&self, run: &str, kept: &Kept<P::Image>, resources: ResourceCounts) -> Manifest {
        let Order { image, .. } = self.order;
        let (archive, digest, amis) = match &kept.artifact {
            Artifact::Archive(archive, sha256) => {
                (Some(archive.clone()), Some(format!("sha256:{sha256}")), Vec::new())
            }
            Artifact::Ami(ami) => (None, None, vec![ami.clone()]),
        };
        let packages = kept.packages.iter();
        let packages =
            packages.map(|(name, version)| Package { name: name.clone(), version: version.clone() });
        Manifest {
            version: VERSION,
            name: image.name.clone(),
            description: image.description.clone(),
            digest,
            input_digest: self.order.input_digest.clone(),
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            run: run.to_owned(),
            platform: P::NAME.into(),
            baker: env!("CARGO_PKG_VERSION").into(),
            agent: self.order.agent.sha256.clone(),
            source: self.order.source.clone(),
            variables: image.variables.clone().into(),
            recipes: recorded(&image.recipes, &image.vendored),
            boot: image.boot.as_deref().map(|boot| recorded(boot, &image.vendored)).unwrap_or_default(),
            resources,
            checks: image.checks.iter().map(ToString::to_string).collect(),
            archive,
            amis,
            packages: packages.collect(),
            timings: self.timings.clone(),
            files: None,
            record: None,
        }
    }

    /// What a host of the image can be compared with.
    fn record(
        &self,
        run: &str,
        kept: &Kept<P::Image>,
        files: BTreeMap<String, Seen>,
    ) -> Result<Vec<u8>, Failure> {
        let (image, run) = (self.order.image.name.clone(), run.to_owned());
        let packages = kept.packages.iter().cloned().collect();
        let record = Record { version: recipes::drift::VERSION, image, run, packages, files };
        record::pack(&record, bundle_of(self.order.extends.iter().chain([self.order.image]))?)
    }
}

/// Sends the agent, the bundle, and what stays in the image for its boot.
async fn upload(session: &impl Session, agent: &Agent, image: &BakePlan) -> Result<((), String), Failure> {
    let size = send(session, agent, &image.bundle()?).await?;
    if let Some(boot) = image.boot_bundle()? {
        let unpack =
            "rm -rf \"$1\"; mkdir -p -m 0755 \"$1\"; tar --extract --no-same-owner --directory \"$1\"";
        let boot = Input::Bytes(tar_of(&boot)?);
        expect_done(session, &["sh", "-ec", unpack, "sh", BOOT_BUNDLE], boot, "send the boot recipes")
            .await?;
    }
    Ok(((), format!("agent and bundle ({} KiB)", size.div_ceil(1024))))
}

/// Sends the agent and a bundle, each whole or not at all, and returns how long the bundle is.
async fn send(
    session: &impl Session,
    agent: &Agent,
    bundle: &BTreeMap<String, Vec<u8>>,
) -> Result<usize, Failure> {
    send_agent(session, agent).await?;
    let bundle = tar_of(bundle)?;
    let size = bundle.len();
    expect_done(session, &["sh", "-ec", PUT, "sh", BUNDLE, "0600"], Input::Bytes(bundle), "send the bundle")
        .await?;
    Ok(size)
}

/// What puts its input into a file with a mode, whole or not at all.
const PUT: &str = "umask 077; mkdir -p \"$(dirname \"$1\")\"; cat > \"$1.part\"; chmod \"$2\" \"$1.part\"; mv \"$1.part\" \"$1\"";

async fn send_agent(session: &impl Session, agent: &Agent) -> Result<(), Failure> {
    let input = Input::File(agent.path.clone());
    expect_done(session, &["sh", "-ec", PUT, "sh", AGENT, "0755"], input, "send the agent").await
}

/// What applying a bundle would change on a builder. `options` are those of the agent's `plan`; what it prints is a
/// [`Plan`], or an [`ExactPlan`](recipes::difference::ExactPlan) with `--exact`.
///
/// # Errors
/// When it cannot be sent or planned.
pub async fn plan_on_builder<P: DeserializeOwned>(
    session: &impl Session,
    agent: &Agent,
    bundle: &BTreeMap<String, Vec<u8>>,
    options: &[String],
) -> Result<P, Failure> {
    send(session, agent, bundle).await?;
    let mut argv = vec![AGENT, "plan", "--format=json"];
    argv.extend(options.iter().map(String::as_str));
    argv.push(BUNDLE);
    read_seen(session, &argv, Input::Nothing, "plan").await
}

/// What recipes can ask of a builder.
///
/// # Errors
/// When the agent cannot be sent, or does not tell.
pub async fn facts_of_builder(session: &impl Session, agent: &Agent) -> Result<Host, Failure> {
    send_agent(session, agent).await?;
    let argv = [AGENT, "facts", "--mode=bake", "--format=json"];
    read_seen(session, &argv, Input::Nothing, "read facts").await
}

/// What the agent prints that looks at a host, run as `argv` says; `what` is that it does.
pub(crate) async fn read_seen<P: DeserializeOwned>(
    session: &impl Session,
    argv: &[&str],
    input: Input,
    what: &str,
) -> Result<P, Failure> {
    let mut text = String::new();
    let ended = session.run(argv, input, &mut |line| text += line).await.map_err(failed(what))?;
    match serde_json::from_str(&text) {
        Ok(seen) if ended.code == Some(0) => Ok(seen),
        _ => Err(lost(what, &ended)),
    }
}

async fn expect_done(session: &impl Session, argv: &[&str], input: Input, what: &str) -> Result<(), Failure> {
    let ended = session.run(argv, input, &mut |_| {}).await.map_err(failed(what))?;
    match ended.code {
        Some(0) => Ok(()),
        _ => Err(lost(what, &ended)),
    }
}

/// A program on the builder ended as it should not have.
fn lost(what: &str, ended: &Ended) -> Failure {
    let how = ended.code.map_or_else(|| "it was killed".into(), |code| format!("it ended with {code}"));
    let error = ended.error.trim();
    let error = if error.is_empty() { String::new() } else { format!("\n{error}") };
    Failure::new(format!("failed to {what}: {how}{error}"))
}

/// Has the agent apply a bundle, as `argv` says, and tells what it does.
pub(crate) async fn apply(
    session: &impl Session,
    argv: &[&str],
    input: Input,
    report: &mut dyn Report,
) -> Result<(ResourceCounts, String), Failure> {
    let mut counts = ResourceCounts::default();
    let mut failure = None;
    let mut line = |text: &str| {
        let Ok(agent) = serde_json::from_str::<AgentEvent>(text) else {
            report.event(&Event::Output { line: text.to_owned() });
            return;
        };
        match &agent {
            AgentEvent::ResourceFinished { outcome: Outcome::Changed, .. } => counts.changed += 1,
            AgentEvent::ResourceFinished { outcome: Outcome::Unchanged, .. } => counts.unchanged += 1,
            AgentEvent::RunFailed { resource, error, at, help } => {
                let resource = resource.as_ref().map_or_else(String::new, |resource| format!("{resource}: "));
                failure = Some(Failure {
                    message: format!("{resource}{error}"),
                    at: at.clone(),
                    help: help.clone(),
                });
            }
            _ => {}
        }
        report.event(&Event::Agent { agent });
    };
    let ended = session.run(argv, input, &mut line).await.map_err(failed("apply the recipes"))?;
    match (ended.code, failure) {
        (Some(0), _) => Ok((counts, format!("{} changed, {} unchanged", counts.changed, counts.unchanged))),
        (_, Some(failure)) => Err(failure),
        (_, None) => Err(lost("apply the recipes", &ended)),
    }
}

/// A second plan has to be empty: what is in the image is what the recipes say.
async fn prove(session: &impl Session) -> Result<((), String), Failure> {
    let argv = [AGENT, "plan", "--format=json", BUNDLE];
    let plan: Plan = read_seen(session, &argv, Input::Nothing, "plan").await?;
    if plan.is_empty() {
        return Ok(((), format!("a second plan is empty ({} resources)", plan.items.len())));
    }
    Err(Failure::new(format!("after the recipes were applied a second plan is not empty:\n{plan}"))
        .help("a later resource undoes what an earlier one did, or a command does not say when it is done"))
}

/// What `bootstrap-agent check --format json` prints, a line for each check.
#[derive(Deserialize)]
struct Tried {
    check: String,
    error: Option<String>,
}

async fn check(session: &impl Session, image: &BakePlan, run: &mut Run<'_>) -> Result<((), String), Failure> {
    let (mut seen, mut wrong) = (0, Vec::new());
    let report = &mut *run.report;
    let mut line = |text: &str| {
        if let Ok(Tried { check, error }) = serde_json::from_str(text) {
            seen += 1;
            wrong.extend(error.clone());
            report.event(&Event::Checked { check, error });
        }
    };
    let argv = [AGENT, "check", "--format=json", BUNDLE];
    let ended =
        session.run(&argv, Input::Nothing, &mut line).await.map_err(failed("carry out the checks"))?;
    if !wrong.is_empty() {
        return Err(
            Failure::new(wrong.join("\n")).help("the builder was as the recipes say, and did not work")
        );
    }
    if ended.code != Some(0) || seen != image.checks.len() {
        return Err(lost("carry out the checks", &ended));
    }
    Ok(((), format!("{seen} checks passed")))
}

fn no_leaks(report: &SealReport) -> Result<String, Failure> {
    if report.leaks.is_empty() {
        let allowed = match report.allowed.len() {
            0 => String::new(),
            count => format!(" but {count} that the image allows"),
        };
        let erased: String = report.erased.iter().map(|erased| format!("; {erased}")).collect();
        return Ok(format!("{} paths cleaned, no leak found{allowed}{erased}", report.cleaned));
    }
    let leaks: String = report.leaks.iter().map(|leak| format!("\n  {leak}")).collect();
    Err(Failure::new(format!("this must not be in an image:{leaks}"))
        .help("remove it in a recipe, or bring it at boot from Secrets Manager; what is no leak is named in `allow_leaks`"))
}

/// The image as a host of its own: nothing is left to change, and its checks pass there too. An image that is
/// configured at boot does not serve before that, so its checks need user-data to boot with.
async fn boot<O>(
    session: &impl Session,
    order: &Order<'_, O>,
    run: &mut Run<'_>,
) -> Result<((), String), Failure> {
    let image = order.image;
    send(session, &order.agent, &image.bundle()?).await?;
    if image.boot.is_some() {
        if image.test.is_none() {
            let ((), proved) = prove(session).await?;
            return Ok(((), format!("{proved}; its checks need `test: {{ user_data: FILE }}`")));
        }
        // Whoever started the run of this boot, this waits for it and ends as it does.
        expect_done(session, &[AGENT, "run"], Input::Nothing, "boot the image with its test user-data")
            .await?;
        let ((), checked) = check(session, image, run).await?;
        return Ok(((), format!("it came up with its test user-data, {checked}")));
    }
    let ((), proved) = prove(session).await?;
    let ((), checked) = check(session, image, run).await?;
    Ok(((), format!("{proved}, {checked}")))
}

/// The files of a bundle as a tar. The same files are the same bytes.
pub(crate) fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Failure> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        builder.append_data(&mut header, path, bytes.as_slice()).map_err(failed("pack the bundle"))?;
    }
    builder.into_inner().map_err(failed("pack the bundle"))
}

/// The digest of everything that goes into an image.
///
/// # Errors
/// When a file of a recipe cannot be read.
pub fn input_digest(image: &BakePlan, source: &SourceRecord, agent: &Agent) -> Result<String, Failure> {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(image.name.as_bytes());
    add(&serde_json::to_vec(source).map_err(failed("describe the source"))?);
    add(agent.sha256.as_bytes());
    let boot = image.boot_bundle()?.unwrap_or_default();
    for (path, bytes) in image.bundle()?.iter().chain(&boot) {
        add(path.as_bytes());
        add(bytes);
    }
    Ok(format!("sha256:{}", hex(&hash.finalize())))
}
