//! Carries out a plan of calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use serde::{Deserialize, Serialize};

use super::aws::Account;
use super::parameters::{self, Parameter, Want};
use super::plan::{Call, FetchPlan, SecretId};
use super::secrets::{self, SecretValue};
use crate::values::FetchError;

/// How many calls are under way at once: enough to hide their latency, few enough to spare the quotas.
pub(super) const AT_ONCE: usize = 8;

/// What was fetched.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Fetched {
    /// Parameters, by full name, or by the name that they were asked for with.
    pub parameters: BTreeMap<String, Parameter>,
    /// Secrets.
    #[serde(with = "pairs")]
    pub secrets: BTreeMap<SecretId, SecretValue>,
    /// How many calls it took.
    pub calls: u32,
}

/// A map as JSON has none: by more than a name.
pub(super) mod pairs {
    use super::{BTreeMap, Deserialize, SecretId, Serialize};

    pub(in crate::source) fn serialize<V: Serialize, S: serde::Serializer>(
        secrets: &BTreeMap<SecretId, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        secrets.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(in crate::source) fn deserialize<'de, V: Deserialize<'de>, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<SecretId, V>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

enum Answer {
    Parameters(Vec<(String, Parameter)>),
    Secret(SecretId, SecretValue),
}

/// Makes the calls.
///
/// # Errors
/// The first value that could not be had.
pub async fn fetch(plan: &FetchPlan, account: &Account) -> Result<Fetched, FetchError> {
    if plan.is_empty() {
        return Ok(Fetched::default());
    }
    fetch_through(plan, &parameters::client(account), &secrets::client(account)).await
}

/// Makes the calls through clients.
///
/// # Errors
/// The first value that could not be had.
pub(super) async fn fetch_through(
    plan: &FetchPlan,
    ssm: &aws_sdk_ssm::Client,
    manager: &aws_sdk_secretsmanager::Client,
) -> Result<Fetched, FetchError> {
    let mut fetched = Fetched::default();
    let calls = AtomicU32::new(0);
    let make = async |call: Call<'_>| match call {
        Call::Path(path) => parameters::below(ssm, path, Want::Values, &calls).await.map(Answer::Parameters),
        Call::Names(names) => {
            parameters::named(ssm, names, Want::Values, &calls).await.map(Answer::Parameters)
        }
        Call::Secret(id) => {
            secrets::fetch(manager, id, &calls).await.map(|value| Answer::Secret(id.clone(), value))
        }
    };
    let answers: Vec<Answer> =
        stream::iter(plan.each()).map(make).buffer_unordered(AT_ONCE).try_collect().await?;
    for answer in answers {
        match answer {
            Answer::Parameters(parameters) => fetched.parameters.extend(parameters),
            Answer::Secret(id, value) => drop(fetched.secrets.insert(id, value)),
        }
    }
    fetched.calls = calls.load(Ordering::Relaxed);
    Ok(fetched)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::signal::post::tests::{Service, account};
    use crate::source::parameters::Kind;
    use crate::source::secrets::Content;

    fn names(names: &[&str]) -> FetchPlan {
        FetchPlan { names: vec![names.iter().map(ToString::to_string).collect()], ..FetchPlan::default() }
    }

    fn secret(id: &str) -> FetchPlan {
        let id = SecretId { id: id.into(), stage: Some("AWSPREVIOUS".into()), version: None };
        FetchPlan { secrets: vec![id], ..FetchPlan::default() }
    }

    async fn fetched(plan: &FetchPlan, answers: Vec<(u16, Json)>) -> (Service, Result<Fetched, FetchError>) {
        let service =
            Service::new(answers.into_iter().map(|(status, body)| (status, body.to_string())).collect())
                .await;
        let fetched = fetch(plan, &account(&service.url)).await;
        (service, fetched)
    }

    fn parameter(name: &str, value: &str) -> Json {
        json!({ "Name": name, "Type": "SecureString", "Value": value, "Version": 4 })
    }

    #[tokio::test]
    async fn a_path_is_read_page_by_page() {
        let plan = FetchPlan { paths: vec!["/a/".into()], ..FetchPlan::default() };
        let pages = vec![
            (200, json!({ "Parameters": [parameter("/a/x", "1")], "NextToken": "more" })),
            (200, json!({ "Parameters": [parameter("/a/y", "2")] })),
        ];
        let (service, fetched) = fetched(&plan, pages).await;
        let fetched = fetched.expect("both pages");
        assert_eq!(fetched.parameters.keys().collect::<Vec<_>>(), ["/a/x", "/a/y"]);
        assert_eq!((fetched.parameters["/a/x"].kind, fetched.parameters["/a/x"].version), (Kind::Secret, 4));
        assert_eq!(fetched.calls, 2);
        assert!(service.asked()[1].body.contains(r#""NextToken":"more""#));
        assert_eq!(service.asked()[0].headers["x-amz-target"], "AmazonSSM.GetParametersByPath");
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_a_failure_within_an_answer_that_is_good() {
        let answer = json!({ "Parameters": [parameter("/a/x", "1")], "InvalidParameters": ["/a/y"] });
        let (_, result) = fetched(&names(&["/a/x", "/a/y"]), vec![(200, answer)]).await;
        let error = result.err().expect("one is missing");
        assert_eq!(error.to_string(), "failed to fetch the parameters `/a/y`: there is none of this name");
        let (_, result) = fetched(&names(&["/a/x"]), vec![(200, json!({ "Parameters": [] }))]).await;
        assert!(result.is_err(), "nor may it be passed over in silence");
    }

    #[tokio::test]
    async fn throttling_is_waited_for_whatever_its_status() {
        let throttled = json!({ "__type": "ThrottlingException", "message": "Rate exceeded" });
        let answer = json!({ "Parameters": [parameter("/a/x", "1")] });
        let service = Service::new(vec![(400, throttled.to_string()), (200, answer.to_string())]).await;
        let account = account(&service.url);
        let result = fetch(&names(&["/a/x"]), &account).await;
        assert_eq!(result.expect("the second try").parameters["/a/x"].value, "1");
        assert_eq!(service.asked().len(), 2);
        // With the three of the metadata service that credentials take.
        assert_eq!(account.role.effort().so_far(), (4, 5));
    }

    #[tokio::test]
    async fn a_clock_that_is_ten_years_off_is_found_and_allowed_for() {
        for code in ["InvalidSignatureException", "RequestTimeTooSkewed"] {
            let skewed =
                json!({ "__type": code, "message": "Signature expired: 20261122T100000Z is now earlier" });
            let answer = json!({ "Parameters": [parameter("/a/x", "1")] });
            let answers = vec![(400, skewed.to_string()), (200, answer.to_string())];
            let mut service = Service::new(answers).await;
            service.date("Fri, 26 Nov 2036 10:00:00 GMT");
            let fetched = fetch(&names(&["/a/x"]), &account(&service.url)).await;
            assert!(fetched.is_ok(), "{code}: {:?}", fetched.err().map(|error| error.to_string()));
            let asked = service.asked();
            let dates: Vec<_> = asked.iter().map(|asked| &asked.headers["x-amz-date"][..4]).collect();
            assert_eq!(dates[1], "2036", "{code}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_somebody_who_says_no() {
        let (_, denied) =
            fetched(&secret("db"), vec![(400, json!({ "__type": "AccessDeniedException" }))]).await;
        assert!(!denied.err().expect("denied").is_offline);
        let service = Service::new(vec![]).await;
        let nobody = Account { endpoint_url: Some("http://127.0.0.1:1".into()), ..account(&service.url) };
        let manager = aws_sdk_secretsmanager::Client::from_conf(
            secrets::client(&nobody)
                .config()
                .to_builder()
                .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
                .build(),
        );
        let id = SecretId { id: "db".into(), stage: None, version: None };
        let error = secrets::fetch(&manager, &id, &AtomicU32::new(0)).await.err().expect("nobody");
        assert!(error.is_offline, "{error}");
    }

    #[tokio::test]
    async fn a_version_of_a_secret_may_be_bytes() {
        let answer = json!({ "Name": "cert", "VersionId": "v1", "SecretBinary": "AP8=" });
        let (service, result) = fetched(&secret("cert"), vec![(200, answer)]).await;
        let value = result.expect("there").secrets.into_values().next().expect("one");
        assert!(value.content == Content::Binary(vec![0, 255]) && value.version == "v1");
        assert!(service.asked()[0].body.contains(r#""VersionStage":"AWSPREVIOUS""#));
        let (_, result) = fetched(&secret("cert"), vec![(200, json!({ "Name": "cert" }))]).await;
        assert_eq!(
            result.err().expect("nothing").to_string(),
            "failed to fetch the secret `cert`: it has no value"
        );
    }

    #[tokio::test]
    async fn who_may_not_is_told_what_to_allow() {
        let denied = json!({ "__type": "AccessDeniedException", "Message": "no" });
        let (_, result) = fetched(&secret("db"), vec![(400, denied.clone())]).await;
        let error = result.err().expect("denied");
        assert_eq!(error.to_string(), "failed to fetch the secret `db`: AccessDeniedException: no");
        assert!(error.help.is_some_and(|help| help.contains("secretsmanager:GetSecretValue")));
        let (_, result) = fetched(&names(&["/a"]), vec![(400, denied)]).await;
        assert!(
            result.err().and_then(|error| error.help).is_some_and(|help| help.contains("ssm:GetParameters`"))
        );
    }
}
