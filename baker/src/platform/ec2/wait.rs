//! Waiting for what AWS does: a look a second, two after half a minute. The SDK's own waiters sleep up to 120 s.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

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
}

/// Looks until something is as it should be. Something that was just made may not be seen yet, so an answer that
/// it is not there counts as not yet; so does being asked to slow down.
///
/// # Errors
/// When it will never be so, or was not in time, or a look failed for another reason.
pub(super) async fn until<T, F: Future<Output = Result<Look<T>, CallError>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        let seen = match look().await {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::Never(failure)) => return Err(failure),
            Ok(Look::NotYet(seen)) => seen,
            Err(error) if error.is_not_found() => "not seen yet".into(),
            Err(error) if error.may_pass() => error.message,
            Err(error) => return Err(error.into()),
        };
        let waited = began.elapsed();
        if waited >= limit {
            return Err(Failure::new(format!("{what} took longer than {} s: {seen}", limit.as_secs())));
        }
        sleep(if waited < EAGER_FOR { EAGER } else { PATIENT }).await;
    }
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

    /// Whenever it happens, the wait is over at most 2 s later.
    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_within_two_seconds_of_what_it_waits_for() {
        for milliseconds in [0, 1, 999, 1001, 29_999, 31_500, 90_100, 299_000] {
            let happens = Duration::from_millis(milliseconds);
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
            let seen = until("it", Duration::from_mins(10), look).await.expect("it happened");
            assert!(seen.checked_sub(happens).unwrap() <= PATIENT, "{milliseconds} ms: {seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_happens_ends_the_wait_at_once_and_what_takes_too_long_in_time() {
        let never = until::<(), _>("it", Duration::from_mins(1), || async {
            Ok(Look::Never(Failure::new("it broke")))
        });
        assert_eq!(never.await.expect_err("never").message, "it broke");
        let looks = Cell::new(0);
        let late = until::<(), _>("the snapshot", Duration::from_mins(1), || async {
            looks.set(looks.get() + 1);
            Ok(Look::NotYet("34%".into()))
        });
        assert_eq!(late.await.expect_err("late").message, "the snapshot took longer than 60 s: 34%");
        assert!(looks.get() > 40);
    }
}
