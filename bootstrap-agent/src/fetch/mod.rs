//! What recipes fetch: over TLS, through proxies, again where that may help, and on from where it was cut off.
//!
//! ```text
//! Https::fetch   tries, waits between them, interruption
//!   answer       one try: redirects, ranges, the body
//!     connect    TLS and proxies
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use recipes::system::fetch::{Fetch, FetchError, Fetched, Part, Request};
use tokio::time::{Instant, sleep, timeout_at};

use self::answer::{Download, Failure};
use self::connect::{Connector, Proxies};

mod answer;
pub(crate) mod connect;
mod redirect;

/// After so many tries in a row that brought nothing it is given up: with the waits below that is a minute.
const TRIES: u32 = 8;

/// The wait after the first try. It doubles up to the longest, each with jitter down to half of it.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A server that wants more time than this to itself is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// However slowly it comes, after this it is given up.
const LIMIT: Duration = Duration::from_hours(1);

/// How long an interruption may go unseen.
const LOOK: Duration = Duration::from_millis(100);

/// Fetches over HTTPS.
#[derive(Debug)]
pub struct Https {
    proxies: BTreeMap<String, String>,
}

impl Https {
    /// With the variables `https_proxy` and `no_proxy`.
    pub fn new(proxies: &BTreeMap<String, String>) -> Self {
        Self { proxies: proxies.clone() }
    }
}

impl Fetch for Https {
    fn fetch(
        &self,
        request: &Request<'_>,
        part: &mut dyn Part,
        output: &mut dyn FnMut(&str),
    ) -> Result<Fetched, FetchError> {
        let connector = Connector::new(request.ca, Proxies::of(&self.proxies)?)?;
        // A boot calls this from inside of its own runtime, in which no other can run.
        thread::scope(|scope| {
            let (lines, said) = channel();
            let fetching = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(until_interrupted(request, try_often(&connector, request, part, &lines)))
            });
            said.iter().for_each(|line: String| output(&line));
            fetching.join().unwrap_or_else(|_| Err("the thread that fetches panicked".into()))
        })
    }
}

async fn until_interrupted<T>(
    request: &Request<'_>,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    let interruption = async {
        while !(request.is_interrupted)() {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        result = work => result,
        () = interruption => Err(io::Error::from(io::ErrorKind::Interrupted).into()),
    }
}

async fn try_often(
    connector: &Connector,
    request: &Request<'_>,
    part: &mut dyn Part,
    lines: &Sender<String>,
) -> Result<Fetched, FetchError> {
    let until = Instant::now() + LIMIT;
    let mut download = Download::new(connector, request.url, part);
    let mut tries = 0;
    loop {
        let before = download.length();
        let tried = timeout_at(until, download.go_on()).await;
        let Ok(tried) = tried else {
            return Err(format!("it was not there after {} minutes", LIMIT.as_secs() / 60).into());
        };
        let (why, wait) = match tried {
            Ok(()) => return Ok(download.how()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing { why, wait }) => (why, wait),
        };
        tries = if download.length() > before { 1 } else { tries + 1 };
        if tries == TRIES {
            return Err(format!("{why}; it was tried {TRIES} times").into());
        }
        let wait = wait.unwrap_or_else(|| backoff(tries));
        if wait > LONGEST_RETRY_AFTER {
            return Err(format!("{why}, and to come again in {} s only", wait.as_secs()).into());
        }
        let _ = lines.send(format!("{}: {why}; trying again in {:.1} s", request.url, wait.as_secs_f32()));
        sleep(wait).await;
    }
}

fn backoff(tries: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_WAIT);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        for (tries, longest) in [(1, 500), (2, 1000), (6, 16_000), (7, 20_000), (40, 20_000)] {
            let (wait, longest) = (backoff(tries), Duration::from_millis(longest));
            assert!(wait >= longest / 2 && wait <= longest, "{tries}: {wait:?}");
        }
    }
}
