//! What goes wrong, by script: which calls, and what becomes of them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::call::Call;

/// Which calls something happens at. Without more it is the next one that matches, and no other.
#[derive(Clone)]
pub struct On {
    action: Option<String>,
    dry_run: Option<bool>,
    number: Option<usize>,
    condition: Option<Arc<Condition>>,
    /// How many that match are let through before.
    skip: usize,
    times: usize,
    retries: bool,
}

/// What happens.
#[derive(Clone)]
pub enum Effect {
    /// Too many calls: `RequestLimitExceeded`, `ThrottlingException` of services that speak JSON.
    Throttle,
    /// What the call names is not to be seen yet: `InvalidInstanceID.NotFound` and its like.
    NotFound,
    /// The answer is the one that the same call had before.
    Stale,
    /// The connection is cut, and nothing happened.
    CutBefore,
    /// The connection is cut when the call has taken effect.
    CutAfter,
    /// The credentials have expired: `RequestExpired`, `ExpiredToken`, `ExpiredTokenException`.
    Expired,
    /// `InsufficientInstanceCapacity`.
    InsufficientCapacity,
    /// `UnauthorizedOperation`, with a message that is encoded.
    Unauthorized,
    /// Another error.
    Error {
        /// The status.
        status: u16,
        /// The code.
        code: String,
        /// The message.
        message: String,
    },
    /// The answer comes that much later.
    Slow(Duration),
    /// What the call makes will fail: a snapshot comes to `error`, an image to `failed`.
    Fails,
    /// The instance that the call launches dies that long after.
    Dies(Duration),
    /// The disk of the instance that the call launches has no more room than that, in megabytes.
    DiskFull(u64),
    /// Something is done right before the call takes effect.
    Before(Arc<Hook>),
    /// Something is done right after the call was answered.
    After(Arc<Hook>),
}

/// What is done at a call.
pub type Hook = dyn Fn(&Call) + Send + Sync;

/// Whether a call is meant.
pub type Condition = dyn Fn(&Call) -> bool + Send + Sync;

impl On {
    /// Any call of a client, dry runs as well.
    pub fn any() -> Self {
        Self { action: None, dry_run: None, number: None, condition: None, skip: 0, times: 1, retries: false }
    }

    /// A call of an action that is no dry run.
    pub fn action(name: &str) -> Self {
        Self { action: Some(name.into()), dry_run: Some(false), ..Self::any() }
    }

    /// A dry run of an action.
    pub fn dry_run(name: &str) -> Self {
        Self { action: Some(name.into()), dry_run: Some(true), ..Self::any() }
    }

    /// The call of a number, from 1, of all that clients make.
    pub fn call(number: usize) -> Self {
        Self { number: Some(number), ..Self::any() }
    }

    /// Only from the n-th on that matches, from 1.
    #[must_use]
    pub fn nth(self, n: usize) -> Self {
        Self { skip: n.saturating_sub(1), ..self }
    }

    /// So many of them in turn.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// All of them.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// And every further attempt of the client at the same call.
    #[must_use]
    pub fn and_retries(self) -> Self {
        Self { retries: true, ..self }
    }

    /// Only calls for which this is so.
    #[must_use]
    pub fn when(self, condition: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self { condition: Some(Arc::new(condition)), ..self }
    }

    fn matches(&self, call: &Call) -> bool {
        call.instance.is_none()
            && self.action.as_ref().is_none_or(|action| *action == call.action)
            && self.dry_run.is_none_or(|dry_run| dry_run == call.dry_run)
            && self.number.is_none_or(|number| number == call.number)
            && self.condition.as_ref().is_none_or(|condition| condition(call))
    }
}

impl Effect {
    /// Something that is done right before the call takes effect.
    pub fn before(hook: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(hook))
    }

    /// Something that is done right after the call was answered.
    pub fn after(hook: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(hook))
    }

    /// Another error, with status 400.
    pub fn error(code: &str, message: &str) -> Self {
        Self::Error { status: 400, code: code.into(), message: message.into() }
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Throttle => "Throttle",
            Self::NotFound => "NotFound",
            Self::Stale => "Stale",
            Self::CutBefore => "CutBefore",
            Self::CutAfter => "CutAfter",
            Self::Expired => "Expired",
            Self::InsufficientCapacity => "InsufficientCapacity",
            Self::Unauthorized => "Unauthorized",
            Self::Error { code, .. } => return write!(formatter, "Error({code})"),
            Self::Slow(_) => "Slow",
            Self::Fails => "Fails",
            Self::Dies(_) => "Dies",
            Self::DiskFull(_) => "DiskFull",
            Self::Before(_) => "Before",
            Self::After(_) => "After",
        };
        formatter.write_str(name)
    }
}

/// The script.
#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Armed>>);

struct Armed {
    on: On,
    effect: Effect,
    seen: usize,
    /// The calls that it happened at, of clients that tell which attempts belong together.
    happened: BTreeSet<String>,
}

impl Faults {
    pub(super) fn add(&self, on: On, effect: Effect) {
        let armed = Armed { on, effect, seen: 0, happened: BTreeSet::new() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(armed);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What happens at a call, which is counted by this.
    pub(super) fn at(&self, call: &Call) -> Vec<Effect> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let happening =
            faults.iter_mut().filter_map(|armed| armed.happens_at(call).then(|| armed.effect.clone()));
        happening.collect()
    }
}

impl Armed {
    fn happens_at(&mut self, call: &Call) -> bool {
        if self.on.retries && self.happened.contains(&call.invocation) {
            return true;
        }
        if !self.on.matches(call) {
            return false;
        }
        self.seen += 1;
        let happens = self.seen > self.on.skip && self.seen - self.on.skip <= self.on.times;
        if happens && !call.invocation.is_empty() {
            self.happened.insert(call.invocation.clone());
        }
        happens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::call::Outcome;

    fn call(number: usize, action: &str, invocation: &str) -> Call {
        Call {
            number,
            service: "ec2".into(),
            action: action.into(),
            region: "us-east-1".into(),
            parameters: [("InstanceId.1".to_owned(), "i-1".to_owned())].into(),
            dry_run: false,
            instance: None,
            invocation: invocation.into(),
            at: Duration::ZERO,
            outcome: Outcome::Open,
        }
    }

    fn happens(on: On, calls: &[Call]) -> Vec<bool> {
        let faults = Faults::default();
        faults.add(on, Effect::Throttle);
        calls.iter().map(|call| !faults.at(call).is_empty()).collect()
    }

    #[test]
    fn a_fault_happens_at_the_calls_that_are_meant_and_at_no_other() {
        let calls = ["A", "B", "A", "A", "A"].map(|action| call(0, action, ""));
        assert_eq!(happens(On::action("A"), &calls), [true, false, false, false, false]);
        assert_eq!(happens(On::action("A").nth(2).times(2), &calls), [false, false, true, true, false]);
        assert_eq!(happens(On::any().always(), &calls), [true; 5]);
        assert_eq!(happens(On::dry_run("A").always(), &calls), [false; 5]);
        assert_eq!(
            happens(On::any().when(|call| call.action == "B"), &calls),
            [false, true, false, false, false]
        );
    }

    #[test]
    fn a_fault_of_one_call_can_happen_at_its_retries() {
        let calls = [call(1, "A", "x"), call(2, "A", "y"), call(3, "A", "y"), call(4, "A", "z")];
        assert_eq!(happens(On::call(2), &calls), [false, true, false, false]);
        assert_eq!(happens(On::call(2).and_retries(), &calls), [false, true, true, false]);
    }

    #[test]
    fn calls_of_instances_are_nobodys_fault() {
        let own = Call { instance: Some("i-1".into()), ..call(0, "A", "") };
        assert_eq!(happens(On::any().always(), &[own]), [false]);
    }
}
