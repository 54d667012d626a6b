//! Looks at everything that a boot needs from outside, one by one, and says what is missing of each.
//!
//! A boot ends with the first thing that is wrong. Who has to put it right wants to know all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use tokio::time::timeout;

use recipes::error::Problems;

use crate::aws_call::Caller;
use crate::boot::configure::account;
use crate::boot::error::chain;
use crate::config::Config;
use crate::config::encoded::decode;
use crate::config::layers::{Layer, Written};
use crate::config::object::{Object, insert};
use crate::s3;
use crate::signal::outbox::Outbox;
use crate::source::aws::{Account, InstanceRole};
use crate::source::fetched::fetch;
use crate::source::instance::{Identity, Metadata};
use crate::source::plan::FetchPlan;
use crate::source::versions::look;
use crate::values::{FetchError, Values};

/// A clock that is off by more makes signatures invalid (AWS Signature Version 4).
const MOST_SKEW: u64 = 300;

/// How long one call may take, with its waits: a person waits for all of them.
const CALL_LIMIT: Duration = Duration::from_mins(1);

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What is wrong with it, if anything.
    pub wrong: Option<String>,
    /// What to do about it, if anybody knows.
    pub help: Option<String>,
}

impl Finding {
    fn good(what: impl Into<String>) -> Self {
        Self { what: what.into(), wrong: None, help: None }
    }

    fn bad(what: impl Into<String>, wrong: impl Into<String>, help: Option<String>) -> Self {
        Self { what: what.into(), wrong: Some(wrong.into()), help }
    }
}

/// Looks at everything. `image` are the layers of the image, `outbox` what this host has still to tell, `proxies` are
/// `https_proxy` and `no_proxy`.
pub async fn examine(
    metadata: Arc<Metadata>,
    image: &[Layer],
    user_data: Option<Layer>,
    outbox: &Outbox,
    proxies: &BTreeMap<String, String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let user_data = match user_data {
        Some(layer) => Some(layer),
        None => of_metadata(&metadata, &mut found).await,
    };
    let identity = match metadata.identity().await {
        Ok(identity) => {
            let what = format!("instance {} in {}", identity.instance_id, identity.availability_zone);
            found.push(Finding::good(what));
            Some(identity)
        }
        Err(error) => {
            let help = error.advice().map(str::to_owned);
            found.push(Finding::bad("instance identity", chain(&error), help));
            None
        }
    };
    found.extend(clock(&metadata));
    let role = InstanceRole::new(Arc::clone(&metadata));
    if identity.is_some() {
        match metadata.role_credentials().await {
            Ok(credentials) => {
                found.push(Finding::good(format!("role credentials until {}", credentials.expiration)));
            }
            Err(error) => {
                let help = error.advice().map(str::to_owned);
                found.push(Finding::bad("role credentials", chain(&error), help));
            }
        }
    }
    let layers: Vec<Layer> = image.iter().cloned().chain(user_data).collect();
    match configured(&metadata, layers, identity.as_ref(), &role, proxies).await {
        Ok(config) => {
            found.push(Finding::good(format!("configuration of {}/{}", config.environment, config.role)));
            if let Some(identity) = identity {
                let account = Account {
                    region: config.region.clone().unwrap_or_else(|| identity.region.clone()),
                    endpoint_url: config.endpoint_url.clone(),
                    dual_stack: metadata.is_ipv6(),
                    role,
                };
                values(&config, &account, &mut found, |fetched| {
                    Values::assemble(&config, &identity, fetched).map(drop)
                })
                .await;
            }
        }
        Err(why) => found.push(Finding::bad("configuration", why, None)),
    }
    for message in outbox.waiting().unwrap_or_default() {
        let why = message.last_error.unwrap_or_else(|| "it was not tried yet".into());
        found.push(Finding::bad(format!("telling {}", message.to.key()), why, None));
    }
    found
}

fn unanswered() -> FetchError {
    let why = format!("there was no answer in {} s", CALL_LIMIT.as_secs());
    FetchError { what: "a value".into(), why, help: None, is_offline: true }
}

async fn of_metadata(metadata: &Metadata, found: &mut Vec<Finding>) -> Option<Layer> {
    let (wrong, help) = match metadata.user_data().await {
        Ok(Some(bytes)) => match decode(bytes) {
            Ok(bytes) => {
                found.push(Finding::good(format!("user-data, {} bytes", bytes.len())));
                return Some(Layer { name: "user-data".into(), bytes, is_user_data: true });
            }
            Err(why) => (why, None),
        },
        Ok(None) => ("the instance was launched without user-data".into(), None),
        Err(error) => (chain(&error), error.advice().map(str::to_owned)),
    };
    found.push(Finding::bad("user-data", wrong, help));
    None
}

async fn configured(
    metadata: &Metadata,
    mut layers: Vec<Layer>,
    identity: Option<&Identity>,
    role: &InstanceRole,
    proxies: &BTreeMap<String, String>,
) -> Result<Config, String> {
    let said = |problems: Problems| problems.to_string();
    let mut written = with_tags(metadata, &layers).await?;
    if let Some(object) = Object::of(&written).map_err(said)? {
        let identity = identity.ok_or_else(|| format!("{} is not fetched without a region", object.s3))?;
        let account = account(&written, identity, metadata.is_ipv6(), role.clone());
        let bytes = s3::get(&Caller::new(account, proxies.clone()), &object.s3).await;
        let bytes = bytes.map_err(|error| format!("failed to fetch {}: {error}", object.s3))?;
        insert(&mut layers, object.layer(&bytes).map_err(|problem| problem.to_string())?);
        written = with_tags(metadata, &layers).await?;
    }
    Config::of(&written).map_err(said)
}

async fn with_tags(metadata: &Metadata, layers: &[Layer]) -> Result<Written, String> {
    let mut written = Written::read(layers).map_err(|problems| problems.to_string())?;
    for (field, key) in written.tags_over(layers) {
        match metadata.tag(&key).await {
            Ok(Some(value)) => written.set(field, &value, &key),
            Ok(None) => return Err(format!("the instance has no tag `{key}`, which names its {field}")),
            Err(error) => return Err(chain(&error)),
        }
    }
    Ok(written)
}

/// Makes each call for itself, so that one that fails hides no other.
async fn values(
    config: &Config,
    account: &Account,
    found: &mut Vec<Finding>,
    assemble: impl FnOnce(&crate::source::fetched::Fetched) -> Result<(), FetchError>,
) {
    let plan = FetchPlan::of(config);
    let mut all = crate::source::fetched::Fetched::default();
    let mut is_whole = true;
    for call in plan.apart() {
        let what = call.to_string();
        let what = what.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let answered = timeout(CALL_LIMIT, fetch(&call, account)).await;
        match answered.unwrap_or_else(|_| Err(unanswered())) {
            Ok(fetched) => {
                all.parameters.extend(fetched.parameters);
                all.secrets.extend(fetched.secrets);
                found.push(Finding::good(what));
            }
            Err(error) => {
                is_whole = false;
                found.push(Finding::bad(what, error.why, error.help));
            }
        }
    }
    if is_whole {
        found.push(match assemble(&all) {
            Ok(()) => Finding::good("every value is set"),
            Err(error) => Finding::bad(error.what, error.why, error.help),
        });
    }
    if is_whole && config.watch.is_some() {
        // It may make calls that fetching does not.
        let looked = timeout(CALL_LIMIT, look(&plan, account)).await;
        found.push(match looked.unwrap_or_else(|_| Err(unanswered())) {
            Ok(_) => Finding::good("new values can be looked for"),
            Err(error) => Finding::bad(error.what, error.why, error.help),
        });
    }
}

/// This host's clock, compared with the one of the metadata service.
fn clock(metadata: &Metadata) -> Option<Finding> {
    let theirs = metadata.date()?;
    let theirs = DateTime::from_str(&theirs, Format::HttpDate).ok()?.secs();
    let ours = i64::try_from(crate::signal::message::seconds(SystemTime::now())).ok()?;
    let skew = theirs.abs_diff(ours);
    Some(if skew <= MOST_SKEW {
        Finding::good("clock")
    } else {
        let help = Some("start a time service: signatures of calls are refused otherwise".into());
        Finding::bad("clock", format!("it is off by {skew} s"), help)
    })
}

/// What was found, for people.
pub fn human(found: &[Finding]) -> String {
    let mut lines = Vec::new();
    for Finding { what, wrong, help } in found {
        match wrong {
            None => lines.push(format!("ok     {what}")),
            Some(wrong) => lines.push(format!("wrong  {what}: {wrong}")),
        }
        lines.extend(help.iter().map(|help| format!("       help: {help}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::signal::message::{Outcome, Recipient, of_test};
    use crate::signal::post::tests::Service;

    async fn examined(service: &Service, user_data: &str, prepare: impl FnOnce(&Outbox)) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::below(folder.path());
        prepare(&outbox);
        let metadata = Arc::new(Metadata::new(Some(&service.url), Duration::from_secs(1)));
        let user_data = format!("environment: prod\nrole: web\nendpoint_url: {}\n{user_data}", service.url);
        let layer = Layer::user_data("user-data", user_data.as_bytes());
        human(&examine(metadata, &[], Some(layer), &outbox, &BTreeMap::new()).await)
    }

    #[tokio::test]
    async fn everything_that_is_wrong_is_found_at_once() {
        let denied = json!({ "__type": "AccessDeniedException", "Message": "no" }).to_string();
        let missing =
            json!({ "__type": "ResourceNotFoundException", "Message": "no such secret" }).to_string();
        let parameters = json!({ "Parameters": [] }).to_string();
        let service = Service::new(vec![(400, denied), (200, parameters), (400, missing)]).await;
        let user_data = "parameters: [ /acme/, { name: x } ]\nsecrets: { db: { secretsmanager: acme/db } }\n";
        let text = examined(&service, user_data, |outbox| {
            let message = of_test(Recipient::InstanceHealth, Outcome::Up);
            outbox.put(&message).expect("written");
        })
        .await;
        insta::assert_snapshot!(text, @"
        ok     instance i-0123456789abcdef0 in us-east-1a
        ok     role credentials until 2036-11-22T16:00:00Z
        ok     configuration of prod/web
        wrong  ssm:GetParametersByPath /acme/ (one call for each 10 parameters): AccessDeniedException: no
               help: allow `ssm:GetParametersByPath` in the policy of the instance's role, and `kms:Decrypt` for its key
        wrong  ssm:GetParameters x: there is none of this name
               help: create it, or correct its name, version or label in the user-data
        wrong  secretsmanager:GetSecretValue acme/db: ResourceNotFoundException: no such secret
               help: create it, or correct its name, stage or version in the user-data
        wrong  telling instance_health: it was not tried yet
        ");
    }

    #[tokio::test]
    async fn a_clock_that_is_off_is_found() {
        let mut service = Service::new(vec![]).await;
        service.date("Fri, 26 Nov 2038 10:00:00 GMT");
        let text = examined(&service, "", |_| {}).await;
        assert!(
            text.contains("wrong  clock: it is off by ") && text.contains("start a time service"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn where_nothing_is_wrong_that_is_said() {
        let secret = json!({ "Name": "db", "VersionId": "v", "SecretString": "hunter2" }).to_string();
        let service = Service::new(vec![(200, secret)]).await;
        let text = examined(&service, "secrets: { db: { secretsmanager: db } }\n", |_| {}).await;
        insta::assert_snapshot!(text, @"
        ok     instance i-0123456789abcdef0 in us-east-1a
        ok     role credentials until 2036-11-22T16:00:00Z
        ok     configuration of prod/web
        ok     secretsmanager:GetSecretValue db
        ok     every value is set
        ");
        assert!(!text.contains("hunter2"));
    }

    #[tokio::test]
    async fn without_metadata_what_can_be_seen_is_seen() {
        let metadata = Arc::new(Metadata::new(Some("http://127.0.0.1:1"), Duration::from_millis(50)));
        let folder = tempfile::tempdir().expect("a folder");
        let text =
            human(&examine(metadata, &[], None, &Outbox::below(folder.path()), &BTreeMap::new()).await);
        assert!(text.contains("wrong  user-data: the instance metadata service did not tell"), "{text}");
        assert!(text.contains("wrong  instance identity: "), "{text}");
    }
}
