//! A thousand hosts that boot at once, against the quotas of one account, in virtual time: the calls and waits are those
//! of real hosts, and only the network between them and AWS is made up.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_ssm::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_ssm::config::{HttpClient, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value as Json, json};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use super::aws::{Account, retries};
use super::fetched::fetch_through;
use super::plan::{FetchPlan, SECRETS_QUOTA, SSM_QUOTA};
use super::{parameters, secrets};
use crate::boot::steps::FETCH_LIMIT;
use crate::config::Config;
use crate::signal::post::tests::account;

const HOSTS: u32 = 1000;

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(20);

/// AWS with its quotas: buckets that hold what may be asked for in a second.
#[derive(Debug, Clone, Default)]
struct Region(Arc<Mutex<HashMap<&'static str, Bucket>>>, Arc<AtomicU32>, Arc<AtomicU32>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Region {
    /// Whether a call may be made now.
    fn takes(&self, service: &'static str, rate: u32) -> bool {
        let (rate, now) = (f64::from(rate), Instant::now());
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(service).or_insert(Bucket { tokens: rate, at: now });
        bucket.tokens = (bucket.tokens + (now - bucket.at).as_secs_f64() * rate).min(rate);
        bucket.at = now;
        let takes = bucket.tokens >= 1.0;
        if takes {
            bucket.tokens -= 1.0;
        }
        takes
    }

    fn answer(&self, target: &str, body: &Json) -> (u16, Json) {
        self.1.fetch_add(1, Ordering::Relaxed);
        let takes = if target.starts_with("AmazonSSM") {
            self.takes("ssm", SSM_QUOTA)
        } else {
            self.takes("secretsmanager", SECRETS_QUOTA)
        };
        if !takes {
            self.2.fetch_add(1, Ordering::Relaxed);
            return (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }));
        }
        let parameter = |name: String| json!({ "Name": name, "Type": "String", "Value": "v", "Version": 1 });
        let answer = match target {
            "AmazonSSM.GetParametersByPath" => {
                let (first, next) =
                    if body["NextToken"].is_null() { (0, Json::from("2")) } else { (10, Json::Null) };
                let names = (first..first + 10).map(|number| parameter(name(number)));
                json!({ "Parameters": names.collect::<Vec<_>>(), "NextToken": next })
            }
            "AmazonSSM.GetParameter" => {
                json!({ "Parameter": parameter(body["Name"].as_str().unwrap_or_default().into()) })
            }
            _ => json!({ "Name": body["SecretId"], "VersionId": "1", "SecretString": "s" }),
        };
        (200, answer)
    }
}

impl HttpConnector for Region {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let region = self.clone();
        HttpConnectorFuture::new(async move {
            sleep(LATENCY).await;
            let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
            let body = request.body().bytes().unwrap_or_default();
            let (status, answer) = region.answer(&target, &serde_json::from_slice(body).unwrap_or_default());
            let status = status.try_into().expect("a status");
            Ok(HttpResponse::new(status, SdkBody::from(answer.to_string())))
        })
    }
}

impl HttpClient for Region {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn name(number: u32) -> String {
    format!("/acme/prod/web/{number:02}")
}

/// What a host of a fleet does.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// What the user-data says of values.
    values: &'static str,
    fetches: Fetches,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fetches {
    /// Each value with a call of its own, one after the other, as scripts do it.
    Apart,
    /// As the agent plans it.
    Planned,
}

const PATH: &str =
    "parameters: [ /acme/prod/web/ ]\nsecrets: { a: { secretsmanager: a }, b: { secretsmanager: b } }\n";
const SPLAY: &str = "parameters: [ /acme/prod/web/ ]\nsecrets: { a: { secretsmanager: a }, b: { secretsmanager: b } }\nsplay: 60s\n";
const SECRET: &str = "secrets: { all: { secretsmanager: all } }\n";

const WAYS: [Way; 4] = [
    Way { name: "one call for each value, the SDK's retries", values: PATH, fetches: Fetches::Apart },
    Way { name: "the agent", values: PATH, fetches: Fetches::Planned },
    Way { name: "the agent, `splay: 60s`", values: SPLAY, fetches: Fetches::Planned },
    Way { name: "the agent, all in one JSON secret", values: SECRET, fetches: Fetches::Planned },
];

/// One host: how many values it got, if it got them all, and when.
async fn host(way: Way, number: u32, region: Region, account: Account) -> (Option<usize>, Duration) {
    let began = Instant::now();
    let config =
        Config::parse("user-data", format!("environment: prod\nrole: web\n{}", way.values).as_bytes());
    let config = config.expect("valid");
    sleep(config.splay_of(&format!("i-{number:017x}"))).await;
    let credentials = Credentials::new("key", "secret", None, None, "herd");
    let retry = if way.fetches == Fetches::Apart { RetryConfig::standard() } else { retries() };
    // Hosts share no budget of retries, which clients of one process do.
    let partition = RetryPartition::new(format!("host {number}"));
    let ssm = parameters::client(&account).config().to_builder().http_client(region.clone());
    let ssm = ssm.credentials_provider(credentials.clone()).retry_config(retry.clone());
    let ssm = aws_sdk_ssm::Client::from_conf(ssm.retry_partition(partition.clone()).build());
    let manager = secrets::client(&account).config().to_builder().http_client(region);
    let manager = manager.credentials_provider(credentials).retry_config(retry);
    let manager = aws_sdk_secretsmanager::Client::from_conf(manager.retry_partition(partition).build());
    let plan = FetchPlan::of(&config);
    let fetching = async {
        match way.fetches {
            Fetches::Planned => {
                let fetched = fetch_through(&plan, &ssm, &manager).await.ok()?;
                Some(fetched.parameters.len() + fetched.secrets.len())
            }
            Fetches::Apart => one_by_one(&ssm, &manager).await,
        }
    };
    let values = timeout(FETCH_LIMIT, fetching).await.ok().flatten();
    (values, began.elapsed())
}

/// What a script does that asks for each value by its name.
async fn one_by_one(ssm: &aws_sdk_ssm::Client, manager: &aws_sdk_secretsmanager::Client) -> Option<usize> {
    for number in 0..20 {
        ssm.get_parameter().name(name(number)).with_decryption(true).send().await.ok()?;
    }
    for id in ["a", "b"] {
        manager.get_secret_value().secret_id(id).send().await.ok()?;
    }
    Some(22)
}

/// What became of a fleet.
struct Outcome {
    requests: u32,
    throttled: u32,
    failed: usize,
    /// When each host that has its values had them.
    had: Vec<Duration>,
}

async fn fleet(way: Way) -> Outcome {
    let region = Region::default();
    let account = account("http://127.0.0.1:9");
    let all = LocalSet::new();
    let hosts: Vec<_> = (0..HOSTS)
        .map(|number| all.spawn_local(host(way, number, region.clone(), account.clone())))
        .collect();
    let mut outcome = Outcome { requests: 0, throttled: 0, failed: 0, had: Vec::new() };
    all.await;
    for host in hosts {
        match host.await.expect("no panic") {
            (Some(values), time) => {
                assert_eq!(values, if way.values == SECRET { 1 } else { 22 }, "{}", way.name);
                outcome.had.push(time);
            }
            (None, _) => outcome.failed += 1,
        }
    }
    outcome.had.sort_unstable();
    outcome.requests = region.1.load(Ordering::Relaxed);
    outcome.throttled = region.2.load(Ordering::Relaxed);
    outcome
}

impl Outcome {
    /// When so many of a hundred of all hosts had their values; none if they never had.
    fn at(&self, percent: usize) -> Option<Duration> {
        let number = usize::try_from(HOSTS).unwrap_or_default() * percent / 100;
        self.had.get(number.saturating_sub(1)).copied()
    }
}

fn row(way: Way, outcome: &Outcome) -> String {
    let time = |time: Option<Duration>| match time {
        None => "never".to_owned(),
        Some(time) if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
    };
    let Outcome { requests, throttled, failed, .. } = outcome;
    let [half, most, all] = [50, 99, 100].map(|percent| time(outcome.at(percent)));
    format!("| {} | {requests} | {throttled} | {half} | {most} | {all} | {failed} |\n", way.name)
}

/// The table in `docs/fleets.md` is what this prints.
#[tokio::test(start_paused = true)]
async fn a_fleet_that_boots_at_once_gets_its_values_and_no_host_is_lost() {
    fastrand::seed(7);
    let mut table = String::from(
        "| each host | requests | throttled | p50 | p99 | all | without |\n|---|---|---|---|---|---|---|\n",
    );
    let mut outcomes = Vec::new();
    for way in WAYS {
        let outcome = fleet(way).await;
        let _ = write!(table, "{}", row(way, &outcome));
        outcomes.push(outcome);
    }
    println!("{table}");
    let [naive, agent, splayed, secret] = &outcomes[..] else { panic!("four") };
    assert!(naive.failed > 0, "a script loses hosts");
    for outcome in [agent, splayed, secret] {
        assert_eq!(outcome.failed, 0, "the agent loses none");
        assert!(naive.at(99).is_none_or(|naive| outcome.at(99).is_some_and(|time| time < naive)));
    }
    assert!(splayed.throttled < agent.throttled);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleets.md");
    let documented = std::fs::read_to_string(path).unwrap_or_default();
    assert!(documented.contains(&table), "docs/fleets.md does not have this table:\n{table}");
}
