//! A look, top to bottom.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recipes::bundle::Bundle;
use recipes::error::Problems;
use recipes::event::Event;
use tokio::time::timeout;

use super::kept::{Kept, Refused};
use crate::boot::apply::{apply, healthy};
use crate::boot::error::{BootError, chain};
use crate::boot::steps::{FETCH_LIMIT, boot_bundle};
use crate::boot::{now, state_of_this_boot, tell_console};
use crate::cache::{Cached, Vault};
use crate::config::Config;
use crate::config::layers::{Layer, Written};
use crate::config::object::{Object, insert};
use crate::lock::{Locks, Turn};
use crate::metrics;
use crate::report::Reporter;
use crate::signal::outbox::Outbox;
use crate::source::aws::{Account, InstanceRole};
use crate::source::effort::Effort;
use crate::source::fetched::{Fetched, fetch};
use crate::source::instance::Metadata;
use crate::source::plan::{FetchPlan, has_selector};
use crate::source::versions::{Versions, look};
use crate::status::{Failure, State, Status, StatusFile, WatchState, Watched, replace};
use crate::stop::Stop;
use crate::values::{FetchError, Values};

/// What a look is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL of the metadata service, if it is not where it always is.
    pub metadata_endpoint: Option<String>,
    /// How long the metadata service is waited for.
    pub metadata_patience: Duration,
    /// Variables that package managers get, such as proxies.
    pub environment: BTreeMap<String, String>,
}

struct Watch<'a, W> {
    settings: &'a Settings,
    reporter: &'a mut Reporter<W>,
    stop: &'a Stop,
    kept: Kept,
    file: StatusFile,
    status: Status,
    config: Config,
    /// The names of what was new.
    changed: Vec<String>,
    requests: u32,
}

/// Looks for new values once. Where this boot's run did not go well, or another goes on, there is nothing to do.
///
/// # Errors
/// Why the host does not have the newest values. The status file has it too.
pub async fn watch<W: Write>(
    settings: &Settings,
    reporter: &mut Reporter<W>,
    stop: &Stop,
) -> Result<(), Failure> {
    let root = Path::new("/");
    let failed = |message: String| Failure { step: "start".into(), message, help: None };
    let taken = Locks::take(root);
    let taken = taken.map_err(|error| failed(format!("failed to take the lock of the run: {error}")))?;
    let Turn::Ours(_locks) = taken else {
        reporter.line("another process configures this host: this look is left out");
        return Ok(());
    };
    let (kept, file) = (Kept::below(root), StatusFile::below(root));
    let up = state_of_this_boot(&file).filter(|status| status.state == State::Done);
    let (Some(status), Some(good)) = (up, kept.good()) else {
        reporter.line("this host is not up with `watch` in its configuration: there is nothing to look for");
        return Ok(());
    };
    let config = of_boot(root, &good).map_err(failed)?;
    let (changed, requests) = (Vec::new(), 0);
    let mut watch = Watch { settings, reporter, stop, kept, file, status, config, changed, requests };
    let result = tokio::select! {
        result = watch.look(good) => result,
        () = stop.told() => Err((WatchState::Unknown, told_to_stop())),
    };
    watch.finish(result)
}

/// What the boot was told: its user-data cannot be another one while the instance runs.
fn of_boot(root: &Path, good: &Cached) -> Result<Config, String> {
    let mut layers = Layer::of_image(root).map_err(|error| format!("failed to read {error}"))?;
    layers.extend(good.user_data.iter().map(|bytes| Layer::user_data("user-data", bytes)));
    let said = |problems: Problems| problems.to_string();
    let with_tags = |layers: &[Layer]| {
        let mut written = Written::read(layers).map_err(said)?;
        for (field, key) in written.tags_over(layers) {
            if let Some((_, value)) = good.tags.iter().find(|(name, _)| name == field) {
                written.set(field, value, &key);
            }
        }
        Ok::<_, String>(written)
    };
    let mut written = with_tags(&layers)?;
    if let (Some(object), Some(bytes)) = (Object::of(&written).map_err(said)?, &good.object) {
        insert(&mut layers, object.layer(bytes).map_err(|problem| problem.to_string())?);
        written = with_tags(&layers)?;
    }
    Config::of(&written).map_err(said)
}

fn told_to_stop() -> Failure {
    Failure { step: "stop".into(), message: "the look was told to stop".into(), help: None }
}

/// What a look came to, if not that the host has the newest values.
type Outcome = Result<(), (WatchState, Failure)>;

impl<W: Write> Watch<'_, W> {
    async fn look(&mut self, good: Cached) -> Outcome {
        let unknown = |error: Failure| (WatchState::Unknown, error);
        let bundle = boot_bundle(&self.config).map_err(|error| unknown(self.failure(error)))?;
        let plan = FetchPlan::of(&self.config);
        let account = self.account(&good).await.map_err(|error| unknown(self.failure(error)))?;
        let seen = self.within(look(&plan, &account)).await.map_err(|error| unknown(self.failure(error)))?;
        let (versions, calls) = seen;
        self.requests += calls;
        let before = Versions::of(&good.fetched);
        let refused = self.kept.refused();
        if let Some(refused) = refused {
            let is_same = refused.versions == versions;
            if !refused.is_undone {
                self.undo(&bundle, &good, refused.clone()).await?;
            }
            if is_same {
                return Err((WatchState::RolledBack, refused.why));
            }
        }
        self.changed = versions.since(&before);
        if self.changed.is_empty() {
            return self.accept(None);
        }
        self.reporter.line(&format!("new: {}", self.changed.join(", ")));
        let calls = versions.calls_since(&before, &plan);
        let fetched = self.within(fetch(&calls, &account)).await;
        let fetched = fetched.map_err(|error| unknown(self.failure(error)))?;
        self.requests += fetched.calls;
        let new = good.with(merged(&good.fetched, &calls, fetched));
        self.try_out(&bundle, good, new).await
    }

    /// Puts new values in place. If the host is not healthy with them, the good ones come back.
    async fn try_out(&mut self, bundle: &Bundle, good: Cached, new: Cached) -> Outcome {
        let why = match self.converge(bundle, &new).await {
            Ok(()) => return self.accept(Some(new)),
            // Told to stop, the next look goes on with it.
            Err(_) if self.stop.is_told() => return Err((WatchState::Unknown, told_to_stop())),
            Err(error) => self.failure(error),
        };
        self.reporter.line(&format!("{}: {}; going back", why.step, why.message));
        let refused = Refused { versions: Versions::of(&new.fetched), why: why.clone(), is_undone: false };
        if let Err(error) = self.kept.refuse(&refused) {
            self.reporter.line(&format!("failed to remember what was refused: {error}"));
        }
        drop(new);
        self.undo(bundle, &good, refused).await?;
        Err((WatchState::RolledBack, why))
    }

    /// Goes back to the good values.
    async fn undo(&mut self, bundle: &Bundle, good: &Cached, refused: Refused) -> Outcome {
        if let Err(error) = self.converge(bundle, good).await {
            let error = self.failure(error);
            let message = format!(
                "{}: {}; going back failed at {}: {}",
                refused.why.step, refused.why.message, error.step, error.message
            );
            return Err((WatchState::Failed, Failure { step: "undo".into(), message, help: error.help }));
        }
        let undone = Refused { is_undone: true, ..refused };
        self.kept.refuse(&undone).map_err(|error| {
            let message = format!("failed to remember that it was undone: {error}");
            (WatchState::RolledBack, Failure { step: "undo".into(), message, help: None })
        })
    }

    /// From now on these are the good values; those that there were if none.
    fn accept(&mut self, new: Option<Cached>) -> Outcome {
        let accepted = match new {
            None => self.kept.accept(),
            Some(mut new) => {
                let vault = Vault::below(Path::new("/"));
                if let Some(Err(why)) = self.config.cache.then(|| vault.seal(&mut new)) {
                    self.reporter
                        .line(&format!("the values are not kept for a boot without a network: {why}"));
                }
                self.kept.start(&new)
            }
        };
        accepted.map_err(|error| {
            let message = format!("failed to remember the new values: {error}");
            (WatchState::Unknown, Failure { step: "accept".into(), message, help: None })
        })
    }

    /// Makes the boot recipes true with values, and waits until the host is healthy.
    async fn converge(&mut self, bundle: &Bundle, cached: &Cached) -> Result<(), BootError> {
        let values = Values::assemble(&self.config, &cached.identity, &cached.fetched);
        let values = values.map_err(BootError::of_fetch)?;
        self.reporter.hide(&values.secrets);
        let Self { reporter, status, file, stop, settings, .. } = self;
        let mut events = |event: Event| {
            if let Event::Rebooting { .. } = event {
                status.state = State::Rebooting;
                let _ = file.write(status);
            }
            reporter.event(&event);
        };
        apply(bundle, &values, &settings.environment, stop, &mut events)?;
        if self.status.state == State::Rebooting {
            return Ok(());
        }
        healthy(&self.config, &Effort::default()).await
    }

    async fn account(&self, good: &Cached) -> Result<Account, BootError> {
        let Settings { metadata_endpoint, metadata_patience, .. } = self.settings;
        let metadata = Arc::new(Metadata::new(metadata_endpoint.as_deref(), *metadata_patience));
        let role = InstanceRole::new(Arc::clone(&metadata));
        // The first request also tells which of its addresses answers.
        role.credentials().await.map_err(|error| BootError::new("identify", chain(&error)))?;
        Ok(Account {
            region: self.config.region.clone().unwrap_or_else(|| good.identity.region.clone()),
            endpoint_url: self.config.endpoint_url.clone(),
            dual_stack: metadata.is_ipv6(),
            role,
        })
    }

    async fn within<T>(&self, calls: impl Future<Output = Result<T, FetchError>>) -> Result<T, BootError> {
        let within = self.config.fetch_within.map_or(FETCH_LIMIT, |span| span.0);
        let unanswered = |_| {
            let why = format!("AWS did not answer within {} s", within.as_secs());
            BootError::new("fetch", why)
        };
        timeout(within, calls).await.map_err(unanswered)?.map_err(BootError::of_fetch)
    }

    fn failure(&self, error: BootError) -> Failure {
        error.failure(self.reporter.redactor())
    }

    /// Writes down what the look came to.
    fn finish(mut self, result: Outcome) -> Result<(), Failure> {
        if self.status.state == State::Rebooting {
            return Ok(());
        }
        let (state, error) = match result {
            Ok(()) => (WatchState::Current, None),
            Err((state, error)) => (state, Some(error)),
        };
        let earlier = self.status.watch.take();
        let is_news =
            earlier.as_ref().is_none_or(|earlier| earlier.state != state) || !self.changed.is_empty();
        let (changed, since) = match earlier {
            Some(earlier) if self.changed.is_empty() => (earlier.changed, earlier.since),
            _ if self.changed.is_empty() => (Vec::new(), None),
            _ => (std::mem::take(&mut self.changed), Some(now())),
        };
        let line = line(state, &changed, error.as_ref());
        self.status.watch = Some(Watched {
            state,
            looked: now(),
            changed,
            since,
            requests: self.requests,
            error: error.clone(),
        });
        if let Err(error) = self.file.write(&self.status) {
            self.reporter.line(&format!("failed to write `{}`: {error}", self.file.path().display()));
        }
        if let Some(path) = &self.config.metrics {
            let untold = Outbox::below(Path::new("/")).waiting().map_or(0, |waiting| waiting.len());
            if let Err(error) = replace(path, metrics::text(&self.status, untold).as_bytes(), 0o644) {
                self.reporter.line(&format!("failed to write `{}`: {error}", path.display()));
            }
        }
        self.reporter.line(&line);
        if is_news && state != WatchState::Unknown {
            tell_console(&self.reporter.redactor().clean(&format!("bootstrap-agent: {line}")));
        }
        error.map_or(Ok(()), Err)
    }
}

fn line(state: WatchState, changed: &[String], error: Option<&Failure>) -> String {
    let why = error
        .map_or_else(String::new, |error| format!(": {}: {}", error.step, error.message.replace('\n', " ")));
    match state {
        WatchState::Current if changed.is_empty() => "the values are the newest".into(),
        WatchState::Current => format!("the values are the newest, with {}", changed.join(", ")),
        WatchState::RolledBack => format!("the values are those before {}{why}", changed.join(", ")),
        WatchState::Unknown => format!("it is not known whether the values are the newest{why}"),
        WatchState::Failed => format!("the values are some of both{why}"),
    }
}

/// What there is now: what was fetched again in place of what was there, and what is gone is gone.
fn merged(good: &Fetched, calls: &FetchPlan, mut new: Fetched) -> Fetched {
    let is_again = |name: &String| {
        calls.names.iter().flatten().any(|again| again == name)
            || calls.paths.iter().any(|path| name.starts_with(path.as_str()) && !has_selector(name))
    };
    for (name, parameter) in good.parameters.iter().filter(|(name, _)| !is_again(name)) {
        new.parameters.insert(name.clone(), parameter.clone());
    }
    for (id, secret) in &good.secrets {
        new.secrets.entry(id.clone()).or_insert_with(|| secret.clone());
    }
    new
}
