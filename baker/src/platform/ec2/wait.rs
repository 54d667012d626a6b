//! Waiting for what AWS does: a look a second, every other second after half a minute. The SDK's own waiters sleep up
//! to 120 s. All waits of a process look at the same moments, so that their looks can be one call.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Ec2;
use super::call::CallError;
use crate::failure::Failure;

/// The time between looks at first.
const EAGER: Duration = Duration::from_secs(1);

/// The time between looks later.
const PATIENT: Duration = Duration::from_secs(2);

/// When looks become rarer.
const EAGER_FOR: Duration = Duration::from_secs(30);

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<T> {
    /// It is as it should be.
    Done(T),
    /// It is on its way; how far, for people.
    NotYet(String),
    /// It will never be.
    Never(Failure),
    /// The call that was to make it so was refused for good.
    Refused(CallError),
}

/// Why a wait ended without what it was for.
#[derive(Debug)]
enum Unmet {
    /// It will never be, or was not in time.
    Never(Failure),
    /// A call failed.
    Refused(CallError),
}

impl Ec2 {
    /// Looks until something is as it should be. Something that was just made may not be seen yet, so an answer that
    /// it is not there counts as not yet; so does being asked to slow down.
    ///
    /// # Errors
    /// When it will never be so, or was not in time, or a look failed for another reason.
    pub(super) async fn until<T, F: Future<Output = Result<Look<T>, CallError>>>(
        &self,
        what: &str,
        limit: Duration,
        look: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        match until(what, limit, self.shared.began, look).await {
            Ok(value) => Ok(value),
            Err(Unmet::Never(failure)) => Err(failure),
            Err(Unmet::Refused(error)) => Err(self.explained(error).await),
        }
    }
}

async fn until<T, F: Future<Output = Result<Look<T>, CallError>>>(
    what: &str,
    limit: Duration,
    moments: Instant,
    mut look: impl FnMut() -> F,
) -> Result<T, Unmet> {
    let began = Instant::now();
    loop {
        let seen = match look().await {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::Never(failure)) => return Err(Unmet::Never(failure)),
            Ok(Look::NotYet(seen)) => seen,
            Err(error) if error.is_not_found() => "not seen yet".into(),
            Err(error) if error.may_pass() => error.message,
            Ok(Look::Refused(error)) | Err(error) => return Err(Unmet::Refused(error)),
        };
        let waited = began.elapsed();
        if waited >= limit {
            let late = format!("{what} took longer than {} s: {seen}", limit.as_secs());
            return Err(Unmet::Never(Failure::new(late)));
        }
        let between = if waited < EAGER_FOR { EAGER } else { PATIENT };
        sleep_until(next(moments, between, Instant::now())).await;
    }
}

/// The first of the moments behind `now`.
fn next(moments: Instant, between: Duration, now: Instant) -> Instant {
    let passed = now.duration_since(moments).as_millis() / between.as_millis();
    moments + between * u32::try_from(passed + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn not_found() -> CallError {
        CallError {
            action: "ec2:DescribeInstances",
            about: "i-1".into(),
            code: Some("InvalidInstanceID.NotFound".into()),
            message: "no".into(),
            request: None,
        }
    }

    fn message<T: std::fmt::Debug>(result: Result<T, Unmet>) -> String {
        match result.expect_err("unmet") {
            Unmet::Never(failure) => failure.message,
            Unmet::Refused(error) => error.message,
        }
    }

    /// Whenever it happens, the wait is over at most 2 s later.
    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_within_two_seconds_of_what_it_waits_for() {
        for milliseconds in [0, 1, 999, 1001, 29_999, 31_500, 90_100, 299_000] {
            let happens = Duration::from_millis(milliseconds);
            let moments = Instant::now();
            tokio::time::advance(Duration::from_millis(milliseconds % 700)).await;
            let began = Instant::now();
            let look = || async {
                if began.elapsed() >= happens {
                    return Ok(Look::Done(began.elapsed()));
                }
                if began.elapsed().as_secs().is_multiple_of(2) {
                    Err(not_found())
                } else {
                    Ok(Look::NotYet("x".into()))
                }
            };
            let seen = until("it", Duration::from_mins(10), moments, look).await.expect("it happened");
            assert!(seen.checked_sub(happens).unwrap() <= PATIENT, "{milliseconds} ms: {seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_happens_ends_the_wait_at_once_and_what_takes_too_long_in_time() {
        let never = until::<(), _>("it", Duration::from_mins(1), Instant::now(), || async {
            Ok(Look::Never(Failure::new("it broke")))
        });
        assert_eq!(message(never.await), "it broke");
        let looks = Cell::new(0);
        let late = until::<(), _>("the snapshot", Duration::from_mins(1), Instant::now(), || async {
            looks.set(looks.get() + 1);
            Ok(Look::NotYet("34%".into()))
        });
        assert_eq!(message(late.await), "the snapshot took longer than 60 s: 34%");
        assert!(looks.get() > 40);
    }
}
