//! Carrying out checks: each is tried until it succeeds or its time is over.

use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use recipes::check::{Check, CommandCheck, HttpCheck, ServiceCheck, ServiceState};
use recipes::system::units::full_name;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::http::ask;
use crate::source::effort::Effort;

/// What is not up yet is looked at again after this long.
const PAUSE: Duration = Duration::from_millis(250);

/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(5);

/// A check that did not succeed in its time.
#[derive(Debug, thiserror::Error)]
#[error("not seen within {} s: {check} ({last})", within.as_secs())]
pub struct Unhealthy {
    /// What was to be seen.
    pub check: String,
    /// How long it was tried.
    pub within: Duration,
    /// What was seen last.
    pub last: String,
}

/// Carries out a check, and counts how often.
///
/// # Errors
/// What was seen last, when the time is over.
pub async fn wait_for(check: &Check, effort: &Effort) -> Result<(), Unhealthy> {
    let until = Instant::now() + check.within();
    effort.call();
    loop {
        effort.attempt();
        let last = match timeout(TRY_LIMIT, try_once(check)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(seen)) => seen,
            Err(_) => format!("no answer in {} s", TRY_LIMIT.as_secs()),
        };
        if Instant::now() + PAUSE > until {
            return Err(Unhealthy { check: check.to_string(), within: check.within(), last });
        }
        sleep(PAUSE).await;
    }
}

async fn try_once(check: &Check) -> Result<(), String> {
    match check {
        Check::Service(check) => service(check).await,
        Check::Http(check) => http(check).await,
        Check::Tcp(check) => {
            TcpStream::connect(&check.address).await.map(drop).map_err(|error| error.to_string())
        }
        Check::Command(CommandCheck { argv, .. }) => {
            let output = run(&argv.0).await?;
            if output.status.success() {
                return Ok(());
            }
            let (said, complained) = (text(&output.stdout), text(&output.stderr));
            let line = complained.lines().last().or(said.lines().last()).unwrap_or_default();
            Err(format!("it ended with {}: {line}", output.status.code().unwrap_or(-1)))
        }
    }
}

async fn service(check: &ServiceCheck) -> Result<(), String> {
    let name = full_name(&check.name);
    let words = ["systemctl", "is-active", "--", &name].map(str::to_owned);
    let state = run(&words).await?.stdout;
    let state = text(&state).trim().to_owned();
    let is_active = state == "active" || state == "reloading";
    if is_active == (check.state == ServiceState::Running) { Ok(()) } else { Err(format!("it is {state}")) }
}

async fn http(check: &HttpCheck) -> Result<(), String> {
    let answer = ask(Method::GET, &check.url, &[], TRY_LIMIT).await.map_err(|error| match error {
        crate::http::HttpError::Connect { address, source } => format!("{address}: {source}"),
        other => other.to_string(),
    })?;
    if answer.status != check.status {
        return Err(format!("it answered {}", answer.status));
    }
    match &check.contains {
        Some(text) if !self::text(&answer.body).contains(text) => {
            Err(format!("its answer does not contain `{text}`"))
        }
        _ => Ok(()),
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

async fn run(words: &[String]) -> Result<std::process::Output, String> {
    let (program, arguments) = words.split_first().ok_or("there is no command")?;
    tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("failed to run `{program}`: {error}"))
}

#[cfg(test)]
mod tests {
    use recipes::from_node::from_node;
    use recipes::load;
    use recipes::source::Source;

    use super::*;

    async fn check(text: &str) -> Result<(), String> {
        let source = std::sync::Arc::new(Source { name: "check".into(), text: text.into() });
        let check: Check = from_node(&load::parse(&source).expect("YAML")).expect("a check");
        wait_for(&check, &Effort::default()).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn checks_say_what_they_saw_last() {
        assert_eq!(check("{ command: { argv: 'true' } }").await, Ok(()));
        insta::assert_snapshot!(
            check("{ command: { argv: [sh, -c, 'echo not yet >&2; exit 3'], within: 0s } }").await.expect_err("fails"), @"not seen within 0 s: `sh -c echo not yet >&2; exit 3` succeeds (it ended with 3: not yet)");
        insta::assert_snapshot!(check("{ tcp: { address: '127.0.0.1:1', within: 0s } }").await.expect_err("fails"), @"not seen within 0 s: 127.0.0.1:1 accepts connections (Connection refused (os error 111))");
        insta::assert_snapshot!(
            check("{ http: { url: 'http://127.0.0.1:1/', within: 0s } }").await.expect_err("fails"), @"not seen within 0 s: http://127.0.0.1:1/ answers 200 (127.0.0.1:1: Connection refused (os error 111))");
    }

    #[tokio::test]
    async fn what_is_not_up_yet_is_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let later = tokio::spawn(async move {
            sleep(Duration::from_millis(300)).await;
            let listener = tokio::net::TcpListener::bind(address).await.expect("the port again");
            let _ = listener.accept().await;
        });
        assert_eq!(check(&format!("{{ tcp: {{ address: '{address}', within: 10s }} }}")).await, Ok(()));
        later.await.expect("no panic");
    }
}
