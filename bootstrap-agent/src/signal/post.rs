//! Sends what is in the outbox.
//!
//! Each pass tries everything that is due once. A run makes passes for a few seconds after its end; what is left
//! is the matter of `bootstrap-agent deliver`, which systemd starts, now and at the next boot.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::message::{Message, Recipient};
use super::outbox::Outbox;
use super::query::Query;
use super::recipients::Way;
use crate::boot::error::chain;
use crate::source::aws::{Account, InstanceRole};
use crate::source::instance::{Identity, Metadata};

/// The wait after the first pass, doubled after each further one up to the longest, with full jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// No wait is shorter.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// How soon a heartbeat that failed is tried again: a hook may end 30 s after the last one.
const HEARTBEAT_AGAIN: Duration = Duration::from_secs(5);

/// How long a host that is to be powered off stays on for those who have not been told yet.
const POWER_OFF_PATIENCE: Duration = Duration::from_mins(5);

/// How long the metadata service is waited for in one pass: there is another.
const METADATA_PATIENCE: Duration = Duration::from_secs(5);

/// After this long no lifecycle action is waited for any more, however often it was kept alive (API reference,
/// `PutLifecycleHook`: 48 hours).
const GIVEN_UP: Duration = Duration::from_hours(48);

/// Sends messages.
pub struct Post {
    /// Where they are.
    pub outbox: Outbox,
    /// Who knows which instance this is.
    pub metadata: Arc<Metadata>,
    /// In whose name they are sent.
    pub role: InstanceRole,
    /// `https_proxy` and `no_proxy`.
    pub proxies: BTreeMap<String, String>,
    /// This boot.
    pub boot_id: String,
    /// What turns this host off.
    pub power_off: Box<dyn Fn() -> io::Result<()> + Sync + Send>,
}

/// What a pass came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Who was told, and what they made of it.
    pub told: Vec<String>,
    /// Who could not be told, and why.
    pub failed: Vec<String>,
    /// Whether some of those who could not be told may be told in a moment.
    pub may_pass: bool,
    /// How long the services want not to be asked.
    pub wait: Option<Duration>,
}

impl Post {
    /// Tries everything that is due, for as long as it may help, up to a limit. Returns what the last pass came
    /// to, with everybody who was told.
    ///
    /// # Errors
    /// When the outbox cannot be read or written.
    pub async fn deliver(&self, limit: Duration) -> io::Result<Pass> {
        let began = Instant::now();
        self.brake().await?;
        let mut told = Vec::new();
        let mut wait = FIRST_WAIT;
        loop {
            let mut pass = self.pass(began).await?;
            told.append(&mut pass.told);
            let pause = pass.wait.unwrap_or_else(|| wait.mul_f64(fastrand::f64()));
            wait = (wait * 2).min(LONGEST_WAIT);
            if !pass.may_pass || began.elapsed() + pause > limit {
                pass.told = told;
                return Ok(pass);
            }
            sleep(pause).await;
        }
    }

    /// Delivers until nothing is left, and keeps lifecycle actions alive whose result is held back. `say` gets a
    /// line for whatever happens.
    ///
    /// # Errors
    /// When the outbox cannot be read or written, or somebody could not be told in two days.
    pub async fn deliver_all(&self, mut say: impl FnMut(&str)) -> io::Result<()> {
        let began = Instant::now();
        self.brake().await?;
        let mut wait = FIRST_WAIT;
        let mut said = Vec::new();
        let mut beat: Option<Instant> = None;
        loop {
            let pass = self.pass(began).await?;
            pass.told.iter().for_each(|line| say(line));
            pass.failed.iter().filter(|line| !said.contains(*line)).for_each(|line| say(line));
            let waiting = self.outbox.waiting()?;
            if waiting.is_empty() {
                return Ok(());
            }
            if began.elapsed() > GIVEN_UP {
                return Err(io::Error::other("those who are still to be told have stopped waiting"));
            }
            if beat.is_none_or(|beat| beat <= Instant::now()) {
                beat = match self.heartbeat(&waiting).await {
                    Ok(interval) => interval.map(|interval| Instant::now() + interval),
                    Err(why) => {
                        say(&why);
                        Some(Instant::now() + HEARTBEAT_AGAIN)
                    }
                };
            }
            let again = if pass.failed.is_empty() {
                wait = FIRST_WAIT;
                LONGEST_WAIT
            } else {
                wait = (wait * 2).min(LONGEST_WAIT);
                let soon = if pass.may_pass { wait.mul_f64(fastrand::f64()) } else { LONGEST_WAIT };
                pass.wait.unwrap_or(soon)
            };
            let now = SystemTime::now();
            let held = waiting.iter().map(|message| message.wait(now)).filter(|wait| !wait.is_zero()).min();
            let beat = beat.map(|beat| beat.saturating_duration_since(Instant::now()));
            let pause = [Some(again), held, beat].into_iter().flatten().min().unwrap_or(again);
            said = pass.failed;
            sleep(pause.max(SHORTEST_WAIT)).await;
        }
    }

    /// Tries everything that is due once. `began` is since when it has been tried.
    async fn pass(&self, began: Instant) -> io::Result<Pass> {
        let _sender = loop {
            match self.outbox.sender()? {
                Some(sender) => break sender,
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        let mut pass = Pass::default();
        let mut due = self.outbox.waiting()?;
        for stale in due.extract_if(.., |message| !self.is_of_this_host(message, None)) {
            self.outbox.withdraw(stale.to.key())?;
        }
        due.retain(|message| message.wait(SystemTime::now()).is_zero());
        // The power goes last.
        due.sort_by_key(|message| message.to == Recipient::PowerOff);
        let mut identity = None;
        for mut message in due {
            let told = if message.to == Recipient::PowerOff {
                if !pass.failed.is_empty() && began.elapsed() < POWER_OFF_PATIENCE {
                    continue;
                }
                // Otherwise a host that comes back would power off again.
                self.outbox.withdraw(message.to.key())?;
                (self.power_off)()
                    .map(|()| "poweroff".to_owned())
                    .map_err(|error| Untold::of(error.to_string()))
            } else {
                match self.identify(&mut identity).await {
                    Ok(identity) if !self.is_of_this_host(&message, Some(identity)) => {
                        self.outbox.withdraw(message.to.key())?;
                        continue;
                    }
                    Ok(identity) => self.tell(&message, identity).await,
                    Err(why) => Err(Untold::of(why)),
                }
            };
            match told {
                Ok(answer) => {
                    pass.told.push(format!("{}: {answer}", message.to.key()));
                    message.answer = Some(answer);
                    message.last_error = None;
                    self.outbox.delivered(&message)?;
                }
                Err(Untold { why, may_pass, wait }) => {
                    pass.failed.push(format!("{} is not told yet: {why}", message.to.key()));
                    pass.may_pass |= may_pass;
                    pass.wait = pass.wait.max(wait);
                    message.tries += 1;
                    message.last_error = Some(why);
                    self.outbox.keep(&message)?;
                }
            }
        }
        Ok(pass)
    }

    pub(super) async fn identify<'a>(&self, known: &'a mut Option<Identity>) -> Result<&'a Identity, String> {
        if known.is_none() {
            self.metadata.hurry(METADATA_PATIENCE);
            *known = Some(self.metadata.identity().await.map_err(|error| chain(&error))?);
        }
        known.as_ref().ok_or_else(|| "the instance is not known".into())
    }

    /// What a disk brought along from another instance is not this host's to tell, nor is its power.
    fn is_of_this_host(&self, message: &Message, identity: Option<&Identity>) -> bool {
        let is_of_this_boot = message.boot_id == self.boot_id;
        match (&message.to, &message.instance_id, identity) {
            (Recipient::PowerOff, _, _) | (_, None, _) => is_of_this_boot,
            (_, Some(theirs), Some(ours)) => *theirs == ours.instance_id,
            (_, Some(_), None) => true,
        }
    }

    async fn tell(&self, message: &Message, identity: &Identity) -> Result<String, Untold> {
        let told = self.way(message, identity, async |way| way.tell(message).await).await;
        told.map_err(|error| Untold {
            may_pass: error.may_pass(),
            wait: error.wait(),
            why: error.to_string(),
        })
    }

    /// Does something on the way that a message takes.
    pub(super) async fn way<T>(
        &self,
        message: &Message,
        identity: &Identity,
        walk: impl AsyncFnOnce(Way<'_>) -> T,
    ) -> T {
        let account = Account {
            region: message.region.clone().unwrap_or_else(|| identity.region.clone()),
            endpoint_url: message.endpoint_url.clone(),
            dual_stack: self.metadata.is_ipv6(),
            role: self.role.clone(),
        };
        let query = Query::new(account, self.proxies.clone());
        walk(Way { query: &query, metadata: &self.metadata, instance_id: &identity.instance_id }).await
    }

    /// Keeps a lifecycle action alive whose result is held back. Returns how soon it has to be done again.
    async fn heartbeat(&self, waiting: &[Message]) -> Result<Option<Duration>, String> {
        let held = waiting.iter().find_map(|message| match &message.to {
            Recipient::AutoScaling { hook, group, heartbeat }
                if !message.wait(SystemTime::now()).is_zero() =>
            {
                Some((message, hook, group, *heartbeat))
            }
            _ => None,
        });
        let Some((message, hook, group, heartbeat)) = held else { return Ok(None) };
        let mut identity = None;
        let identity = self.identify(&mut identity).await?;
        let beat = self.way(message, identity, async |way| way.heartbeat(hook, group.as_deref()).await).await;
        beat.map_err(|error| format!("the heartbeat failed: {error}"))?;
        Ok(Some(Duration::from_secs(heartbeat)))
    }
}

/// Why somebody was not told.
struct Untold {
    why: String,
    may_pass: bool,
    wait: Option<Duration>,
}

impl Untold {
    fn of(why: String) -> Self {
        Self { why, may_pass: true, wait: None }
    }
}

#[cfg(test)]
pub(crate) mod tests;
