//! The brake of a launch loop: where the launches before this one failed as well, the group that would launch the next is
//! told later, and later each time.
//!
//! A group whose configuration is broken launches and terminates hosts for ever, as fast as they fail. Nobody but the group
//! knows what became of the others, so it is asked (`DescribeScalingActivities`).

use std::io;
use std::time::{Duration, SystemTime};

use super::message::{Outcome, Recipient, seconds};
use super::post::Post;
use super::query::{element, elements};

/// How long a host is kept if one launch before it failed; twice as long for each further one.
const FIRST: Duration = Duration::from_mins(1);

impl Post {
    /// Holds back what would end this host, if it is a failure and the launches before it failed as well. If the group
    /// cannot be asked, nothing is held back.
    pub(super) async fn brake(&self) -> io::Result<()> {
        let mut waiting = self.outbox.waiting()?;
        let wanted = |most: Option<u64>, result: &Outcome| most.filter(|_| *result != Outcome::Up);
        let Some((hook, most)) = waiting
            .iter()
            .find_map(|message| Some((message.clone(), wanted(message.brake, &message.result)?)))
        else {
            return Ok(());
        };
        let Recipient::AutoScaling { group, .. } = &hook.to else { return Ok(()) };
        let mut identity = None;
        let activities = match self.identify(&mut identity).await {
            Ok(identity) => {
                self.way(&hook, identity, async |way| way.activities(group.as_deref()).await).await
            }
            Err(_) => return Ok(()),
        };
        let failures = activities.map_or(0, |xml| failures_in_a_row(&xml));
        let wait = wait(failures, Duration::from_secs(most));
        let now = seconds(SystemTime::now());
        for message in waiting.iter_mut().filter(|message| message.to.ends_host()) {
            let held = now.saturating_sub(message.written) + wait.as_secs();
            message.held = if wait.is_zero() { message.held } else { message.held.max(held) };
            message.brake = None;
            self.outbox.keep(message)?;
        }
        Ok(())
    }
}

/// How long a host is kept after so many failures.
fn wait(failures: u32, most: Duration) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(most)
}

/// How many launches failed since the last one that did not; those under way, such as this one, do not count.
fn failures_in_a_row(xml: &str) -> u32 {
    let mut failures = 0;
    // The newest is the first (API reference, `DescribeScalingActivities`).
    for activity in elements(xml, "member") {
        let is_launch = element(activity, "Description").is_some_and(|text| text.starts_with("Launching"));
        match element(activity, "StatusCode").as_deref() {
            Some("Failed" | "Cancelled") if is_launch => failures += 1,
            Some("Successful") if is_launch => break,
            _ => {}
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activities(of: &[(&str, &str)]) -> String {
        let member = |(what, status): &(&str, &str)| {
            format!(
                "<member><StatusCode>{status}</StatusCode><Description>{what} EC2 instance: i-1</Description></member>"
            )
        };
        format!("<Activities>{}</Activities>", of.iter().map(member).collect::<String>())
    }

    #[test]
    fn launches_that_failed_in_a_row_are_counted() {
        let launch = "Launching a new";
        assert_eq!(failures_in_a_row(&activities(&[(launch, "InProgress"), (launch, "Successful")])), 0);
        let loop_of_three = [
            (launch, "InProgress"),
            ("Terminating", "Successful"),
            (launch, "Cancelled"),
            ("Terminating", "Successful"),
            (launch, "Failed"),
            (launch, "Cancelled"),
            (launch, "Successful"),
            (launch, "Failed"),
        ];
        assert_eq!(failures_in_a_row(&activities(&loop_of_three)), 3);
        assert_eq!(failures_in_a_row("<html>"), 0);
    }

    #[test]
    fn each_failure_is_kept_for_longer_up_to_what_is_said() {
        let most = Duration::from_mins(30);
        let waits = [0, 1, 2, 3, 5, 6, 40].map(|failures| wait(failures, most).as_secs() / 60);
        assert_eq!(waits, [0, 1, 2, 4, 16, 30, 30]);
    }
}
