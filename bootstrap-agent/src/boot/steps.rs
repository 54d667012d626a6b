//! The steps of a boot.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recipes::bundle::Bundle;
use recipes::event::Event;
use sd_notify::NotifyState;
use tokio::time::{sleep, timeout};

use super::apply::{apply, healthy};
use super::configure::Told;
use super::error::BootError;
use super::telling::Telling;
use super::{BOOT_BUNDLE, Ended, Settings, boot_id, now, state_of_this_boot, tell_systemd};
use crate::cache::{COUNTS, Cached};
use crate::config::Config;
use crate::credentials::before;
use crate::fingerprint::Fingerprints;
use crate::lock::Locks;
use crate::report::Reporter;
use crate::signal::heartbeat::Heartbeats;
use crate::source::aws::{Account, InstanceRole};
use crate::source::fetched::{Fetched, fetch};
use crate::source::instance::Metadata;
use crate::source::plan::FetchPlan;
use crate::status::{Failure, Requests, State, Status, StatusFile, Step, VERSION};
use crate::stop::Stop;
use crate::values::Values;

/// How long all values may take if nothing else is said: with its waits, a call that is throttled takes two minutes.
pub(crate) const FETCH_LIMIT: Duration = Duration::from_mins(5);

/// What becomes of values that were good.
#[derive(Debug, Default)]
pub(super) struct Keeps {
    /// Whether they are sealed for a boot without a network.
    pub(super) seal: bool,
    /// How often new ones are looked for.
    pub(super) watch: Option<Duration>,
}

/// Everything that the boot recipes are made true with.
pub(crate) struct Ready {
    pub(crate) config: Config,
    pub(crate) bundle: Bundle,
    pub(crate) values: Values,
}

/// A boot that is under way.
pub(super) struct Boot<'a, W> {
    pub(super) settings: &'a Settings,
    pub(super) reporter: &'a mut Reporter<W>,
    pub(super) stop: &'a Stop,
    file: StatusFile,
    /// Nothing where nothing may be changed: what a run would do is only looked at.
    locks: Option<Locks>,
    pub(super) status: Status,
    pub(super) metadata: Arc<Metadata>,
    pub(super) role: InstanceRole,
    /// Who is told the result, once that is known.
    pub(super) telling: Option<Telling>,
    pub(super) beats: Option<Heartbeats>,
    /// What was good last, if the network is away.
    pub(super) cached: Option<Cached>,
    /// What is kept if this run goes well; nothing where nothing shall be kept.
    pub(super) good: Option<Cached>,
    pub(super) keeps: Keeps,
    pub(super) began: Instant,
    /// Whether this run is the one that the status file is about: not before it is known that this boot
    /// has not had it already.
    is_decided: bool,
}

impl<'a, W: Write> Boot<'a, W> {
    pub(super) fn new(
        settings: &'a Settings,
        reporter: &'a mut Reporter<W>,
        stop: &'a Stop,
        file: StatusFile,
        locks: Option<Locks>,
    ) -> Self {
        let metadata =
            Arc::new(Metadata::new(settings.metadata_endpoint.as_deref(), settings.metadata_patience));
        let status = Status {
            version: VERSION,
            state: State::Running,
            agent: env!("CARGO_PKG_VERSION").into(),
            boot_id: boot_id(),
            instance_id: None,
            environment: None,
            role: None,
            config_digest: None,
            started: now(),
            finished: None,
            steps: Vec::new(),
            fetched: Vec::new(),
            requests: Requests::default(),
            cached: None,
            watch: None,
            error: None,
        };
        Self {
            settings,
            reporter,
            stop,
            file,
            locks,
            status,
            role: InstanceRole::new(Arc::clone(&metadata)),
            metadata,
            telling: None,
            beats: None,
            cached: None,
            good: None,
            keeps: Keeps::default(),
            began: Instant::now(),
            is_decided: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<Ended, Failure> {
        let earlier = state_of_this_boot(&self.file);
        let was_up = earlier.as_ref().is_some_and(|earlier| earlier.state == State::Done);
        if !was_up {
            // What the last boot came to says nothing of this one.
            self.write_status();
        }
        let stop = self.stop;
        let result = tokio::select! {
            result = self.steps(earlier.as_ref()) => result,
            () = stop.told() => Err(BootError::new("stop", "the run was told to stop")),
        };
        if self.status.state == State::Rebooting {
            // What comes down now may tell this process to stop as well.
            return self.finish(Ok(()), was_up).await.map(|()| Ended::Rebooting);
        }
        if let Ok(true) = result {
            tell_systemd(&[NotifyState::Ready]);
            self.reporter.line("this boot has had its run already; `--force` repeats it");
            // What it came to may not have been told to the end.
            self.deliver().await;
            return Ok(Ended::Up);
        }
        let result = result.map(|_| ()).map_err(|error| error.failure(self.reporter.redactor()));
        if !self.is_decided && was_up {
            // Nothing was changed: what the earlier run came to is still so.
            return result.map(|()| Ended::Up);
        }
        self.finish(result, was_up).await.map(|()| Ended::Up)
    }

    /// The steps. `Ok(true)` if this boot has had them already.
    async fn steps(&mut self, earlier: Option<&Status>) -> Result<bool, BootError> {
        let told = self.configure().await?;
        let bundle = boot_bundle(&told.config)?;
        if !self.settings.force
            && earlier.is_some_and(|earlier| {
                earlier.state == State::Done && earlier.config_digest.as_deref() == Some(&told.digest)
            })
        {
            return Ok(true);
        }
        self.is_decided = true;
        let Ready { config, bundle, values } = self.values(told, bundle).await?;
        if let Err(error) = Fingerprints::keep(Path::new("/")) {
            self.reporter.line(&format!("each plan will have fingerprints of its own: {error}"));
        }
        self.timed("converge", async |boot| boot.converge(&bundle, &values)).await?;
        if self.status.state == State::Rebooting {
            return Ok(false);
        }
        self.timed("health", async |boot| healthy(&config, &boot.metadata.effort()).await).await?;
        Ok(false)
    }

    /// The steps before anything changes.
    pub(super) async fn look(mut self) -> Result<Ready, Failure> {
        let looked = async {
            let told = self.configure().await?;
            let bundle = boot_bundle(&told.config)?;
            self.values(told, bundle).await
        };
        let looked: Result<Ready, BootError> = looked.await;
        looked.map_err(|error| error.failure(self.reporter.redactor()))
    }

    /// Fetches the values of what this host is told to be.
    async fn values(&mut self, told: Told, bundle: Bundle) -> Result<Ready, BootError> {
        let Told { config, digest, user_data, object, tags } = told;
        self.status.environment = Some(config.environment.clone());
        self.status.role = Some(config.role.clone());
        self.status.config_digest = Some(digest.clone());

        let identity = self
            .timed("identify", async |boot| {
                if let Some(cached) = &boot.cached {
                    return Ok(cached.identity.clone());
                }
                let identity = boot.metadata.identity().await;
                identity.map_err(|error| BootError::of_metadata("identify", &error))
            })
            .await?;
        self.status.instance_id = Some(identity.instance_id.clone());
        self.write_status();
        let account = Account {
            region: config.region.clone().unwrap_or_else(|| identity.region.clone()),
            endpoint_url: config.endpoint_url.clone(),
            dual_stack: self.metadata.is_ipv6(),
            role: self.role.clone(),
        };
        self.promise(&identity.instance_id, &account);

        let splay = config.splay_of(&identity.instance_id);
        if !splay.is_zero() && self.cached.is_none() && !self.is_look() {
            self.timed("splay", async |_| {
                sleep(splay).await;
                Ok(())
            })
            .await?;
        }
        let fetched = self.timed("fetch", async |boot| boot.fetch(&config, &account, &digest).await).await?;
        let values = Values::assemble(&config, &identity, &fetched).map_err(BootError::of_fetch)?;
        self.keeps = Keeps { seal: config.cache, watch: config.watch.map(|span| span.0) };
        if config.cache || config.watch.is_some() {
            let counts = config.cache_for.map_or(COUNTS, |span| span.0);
            let mut good = Cached::new(&digest, &identity, fetched, counts);
            (good.user_data, good.object, good.tags) = (user_data, object, tags);
            self.good = Some(good);
        }
        self.reporter.hide(&values.secrets);
        self.status.fetched.clone_from(&values.names);
        self.status.requests.aws = values.calls;
        Ok(Ready { config, bundle, values })
    }

    /// Whether nothing may be changed.
    pub(super) fn is_look(&self) -> bool {
        self.locks.is_none()
    }

    /// The values, or the last good ones of the same configuration if the services are out of reach.
    async fn fetch(
        &mut self,
        config: &Config,
        account: &Account,
        digest: &str,
    ) -> Result<Fetched, BootError> {
        if let Some(cached) = &self.cached {
            return Ok(cached.fetched.clone());
        }
        let within = config.fetch_within.map_or(FETCH_LIMIT, |span| span.0);
        let error = match timeout(within, fetch(&FetchPlan::of(config), account)).await {
            Ok(Ok(fetched)) => return Ok(fetched),
            Ok(Err(error)) => BootError::of_fetch(error),
            Err(_) => {
                let why = format!("the values were not all there within {} s", within.as_secs());
                BootError { is_offline: true, ..BootError::new("fetch", why) }
            }
        };
        if !error.is_offline || !config.cache {
            return Err(error);
        }
        let why = error.message.clone();
        let cached = self.last_good(error)?;
        if cached.digest != digest {
            let message = format!("{why}; the last good values are those of another configuration");
            self.status.cached = None;
            return Err(BootError::new("fetch", message));
        }
        Ok(cached.fetched.clone())
    }

    /// Who waits for the result is written down and told that this host works on it.
    fn promise(&mut self, instance_id: &str, account: &Account) {
        if self.is_look() {
            return;
        }
        let Some(telling) = &mut self.telling else { return };
        telling.instance_id = Some(instance_id.to_owned());
        if let Err(error) = telling.keep(Path::new("/")) {
            self.reporter.line(&format!("failed to write down whom to tell: {error}"));
        }
        self.beats = Heartbeats::start(
            &telling.recipients(),
            account.clone(),
            Arc::clone(&self.metadata),
            instance_id.to_owned(),
            self.settings.environment.clone(),
        );
    }

    fn converge(&mut self, bundle: &Bundle, values: &Values) -> Result<(), BootError> {
        let Self { reporter, locks, status, file, stop, settings, .. } = self;
        let mut events = |event: Event| {
            if let Event::Committed { .. } = event {
                status.state = State::Committed;
                let _ = file.write(status);
                locks.iter_mut().for_each(Locks::committed);
                tell_systemd(&[NotifyState::Ready]);
            }
            if let Event::Rebooting { .. } = event {
                status.state = State::Rebooting;
                let _ = file.write(status);
            }
            reporter.event(&event);
        };
        let result = apply(bundle, values, &settings.environment, stop, &mut events);
        // A reboot may tell this process to stop while it is asked for; otherwise it was refused.
        if result.is_err() && status.state == State::Rebooting && !stop.is_told() {
            status.state = State::Committed;
        }
        result
    }

    /// Runs a step and remembers what it cost.
    pub(super) async fn timed<T>(
        &mut self,
        name: &'static str,
        step: impl AsyncFnOnce(&mut Self) -> Result<T, BootError>,
    ) -> Result<T, BootError> {
        tell_systemd(&[NotifyState::Status(name)]);
        let effort = self.metadata.effort();
        let ((calls, attempts), began) = (effort.so_far(), Instant::now());
        let result = step(self).await;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let so_far = effort.so_far();
        let (calls, attempts) = (so_far.0.saturating_sub(calls), so_far.1.saturating_sub(attempts));
        let step = Step { name: name.into(), milliseconds, calls, attempts };
        self.reporter.line(&format!("{name}: {step}"));
        self.status.steps.push(step);
        if self.is_decided {
            self.write_status();
        }
        result
    }

    pub(super) fn write_status(&mut self) {
        self.status.requests.metadata = self.metadata.requests();
        if self.is_look() {
            return;
        }
        if let Err(error) = self.file.write(&self.status) {
            let path = self.file.path().display().to_string();
            self.reporter.line(&format!("failed to write `{path}`: {error}"));
        }
    }
}

/// The recipes for this boot, with what its configuration brings before them.
pub(crate) fn boot_bundle(config: &Config) -> Result<Bundle, BootError> {
    Bundle::open(Path::new(BOOT_BUNDLE))
        .and_then(|bundle| before(bundle, &config.credentials))
        .map_err(|problems| BootError::new("configure", problems.to_string()))
}
