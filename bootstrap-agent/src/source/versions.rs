//! Which versions the values have now: what it takes to notice new ones.
//!
//! Parameters are read without being decrypted and secrets are described, so a look takes no call of KMS and no secret
//! leaves the services. It takes as many calls as fetching does, of the same quotas (AWS Secrets Manager quotas: those
//! of `DescribeSecret` and `GetSecretValue` are one).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::aws::Account;
use super::fetched::{AT_ONCE, Fetched, pairs};
use super::parameters::{self, Want};
use super::plan::{Call, FetchPlan, NAMES, SecretId, has_selector};
use super::secrets;
use crate::values::FetchError;

/// The versions of values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of parameters, by the name that [`Fetched`] has them under.
    pub parameters: BTreeMap<String, i64>,
    /// Of secrets.
    #[serde(with = "pairs")]
    pub secrets: BTreeMap<SecretId, String>,
}

enum Answer {
    Parameters(Vec<(String, i64)>),
    Secret(SecretId, String),
}

impl Versions {
    /// The versions of what was fetched.
    pub fn of(fetched: &Fetched) -> Self {
        let parameters = fetched.parameters.iter().map(|(name, value)| (name.clone(), value.version));
        let secrets = fetched.secrets.iter().map(|(id, value)| (id.clone(), value.version.clone()));
        Self { parameters: parameters.collect(), secrets: secrets.collect() }
    }

    /// What is not what it was, is new or is gone, as the status names it.
    pub fn since(&self, earlier: &Self) -> Vec<String> {
        let parameters = changed(&earlier.parameters, &self.parameters);
        let parameters = parameters.into_iter().map(|name| format!("ssm:{name}"));
        let secrets = changed(&earlier.secrets, &self.secrets);
        parameters.chain(secrets.into_iter().map(|id| format!("secretsmanager:{}", id.id))).collect()
    }

    /// The calls of a plan that bring what is not what it was.
    pub fn calls_since(&self, earlier: &Self, plan: &FetchPlan) -> FetchPlan {
        let parameters = changed(&earlier.parameters, &self.parameters);
        let secrets = changed(&earlier.secrets, &self.secrets);
        let is_below = |path: &String| {
            parameters.iter().any(|name| name.starts_with(path.as_str()) && !has_selector(name))
        };
        let names = plan.names.iter().flatten().filter(|name| parameters.contains(name)).cloned();
        FetchPlan {
            paths: plan.paths.iter().filter(|path| is_below(path)).cloned().collect(),
            names: names.collect::<Vec<_>>().chunks(NAMES).map(<[String]>::to_vec).collect(),
            secrets: plan.secrets.iter().filter(|id| secrets.contains(id)).cloned().collect(),
        }
    }
}

/// The keys whose values are not the same in both.
fn changed<'a, K: Ord, V: PartialEq>(earlier: &'a BTreeMap<K, V>, now: &'a BTreeMap<K, V>) -> Vec<&'a K> {
    let gone = earlier.keys().filter(|key| !now.contains_key(key));
    now.iter()
        .filter(|(key, value)| earlier.get(key) != Some(value))
        .map(|(key, _)| key)
        .chain(gone)
        .collect()
}

/// Looks which versions there are, and counts the calls. What is asked for by its version is what it is.
///
/// # Errors
/// The first call that fails.
pub async fn look(plan: &FetchPlan, account: &Account) -> Result<(Versions, u32), FetchError> {
    let mut versions = Versions::default();
    let mut moving = plan.clone();
    moving.secrets.retain(|id| id.version.is_none());
    let fixed = plan.secrets.iter().filter_map(|id| Some((id.clone(), id.version.clone()?)));
    versions.secrets.extend(fixed);
    if moving.is_empty() {
        return Ok((versions, 0));
    }
    let (ssm, manager) = (parameters::client(account), secrets::client(account));
    let calls = AtomicU32::new(0);
    let numbers = |found: Vec<(String, parameters::Parameter)>| {
        Answer::Parameters(found.into_iter().map(|(name, value)| (name, value.version)).collect())
    };
    let make = async |call: Call<'_>| match call {
        Call::Path(path) => parameters::below(&ssm, path, Want::Versions, &calls).await.map(numbers),
        Call::Names(names) => parameters::named(&ssm, names, Want::Versions, &calls).await.map(numbers),
        Call::Secret(id) => {
            secrets::version(&manager, id, &calls).await.map(|version| Answer::Secret(id.clone(), version))
        }
    };
    let answers: Vec<Answer> =
        stream::iter(moving.each()).map(make).buffer_unordered(AT_ONCE).try_collect().await?;
    for answer in answers {
        match answer {
            Answer::Parameters(found) => versions.parameters.extend(found),
            Answer::Secret(id, version) => drop(versions.secrets.insert(id, version)),
        }
    }
    Ok((versions, calls.load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::signal::post::tests::{Service, account};

    fn id(id: &str) -> SecretId {
        SecretId { id: id.into(), stage: None, version: None }
    }

    fn versions(parameters: &[(&str, i64)], secrets: &[(&str, &str)]) -> Versions {
        Versions {
            parameters: parameters.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect(),
            secrets: secrets.iter().map(|(name, version)| (id(name), (*version).to_owned())).collect(),
        }
    }

    async fn looked(plan: &FetchPlan, answers: Vec<Json>) -> (Service, Result<(Versions, u32), FetchError>) {
        let service = Service::new(answers.into_iter().map(|body| (200, body.to_string())).collect()).await;
        let looked = look(plan, &account(&service.url)).await;
        (service, looked)
    }

    #[tokio::test]
    async fn a_look_decrypts_nothing() {
        let plan = FetchPlan { paths: vec!["/a/".into()], ..FetchPlan::default() };
        let parameter =
            json!({ "Name": "/a/x", "Type": "SecureString", "Value": "AQICAHh...", "Version": 7 });
        let (service, seen) = looked(&plan, vec![json!({ "Parameters": [parameter] })]).await;
        assert_eq!(seen.expect("seen"), (versions(&[("/a/x", 7)], &[]), 1));
        assert!(service.asked()[0].body.contains(r#""WithDecryption":false"#), "{:?}", service.asked());

        let plan = FetchPlan { secrets: vec![id("db")], ..FetchPlan::default() };
        let stages = json!({ "v1": ["AWSPREVIOUS"], "v2": ["AWSCURRENT"] });
        let (service, seen) = looked(&plan, vec![json!({ "VersionIdsToStages": stages })]).await;
        assert_eq!(seen.expect("seen"), (versions(&[], &[("db", "v2")]), 1));
        assert_eq!(service.asked()[0].headers["x-amz-target"], "secretsmanager.DescribeSecret");

        let (_, none) = looked(&plan, vec![json!({ "VersionIdsToStages": { "v1": ["AWSPREVIOUS"] } })]).await;
        insta::assert_snapshot!(none.expect_err("no current one"), @"failed to fetch the version of the secret `db`: none has the stage `AWSCURRENT`");
    }

    #[tokio::test]
    async fn what_is_asked_for_by_its_version_is_not_looked_at() {
        let fixed = SecretId { version: Some("v1".into()), ..id("db") };
        let plan = FetchPlan { secrets: vec![fixed.clone()], ..FetchPlan::default() };
        let (service, seen) = looked(&plan, vec![]).await;
        let (versions, calls) = seen.expect("seen");
        assert_eq!((versions.secrets[&fixed].as_str(), calls), ("v1", 0));
        assert!(service.asked().is_empty());
    }

    #[test]
    fn only_what_changed_is_fetched_again() {
        let plan = FetchPlan {
            paths: vec!["/a/".into(), "/b/".into()],
            names: vec![vec!["/c/x".into(), "/c/y:live".into()]],
            secrets: vec![id("db"), id("key")],
        };
        let earlier = versions(
            &[("/a/x", 1), ("/b/x", 1), ("/c/x", 1), ("/c/y:live", 1)],
            &[("db", "1"), ("key", "1")],
        );
        assert!(earlier.calls_since(&earlier, &plan).is_empty());
        assert_eq!(earlier.since(&earlier), Vec::<String>::new());
        let now = versions(
            &[("/a/x", 1), ("/a/y", 1), ("/c/x", 1), ("/c/y:live", 2)],
            &[("db", "1"), ("key", "2")],
        );
        assert_eq!(now.since(&earlier), ["ssm:/a/y", "ssm:/c/y:live", "ssm:/b/x", "secretsmanager:key"]);
        let calls = now.calls_since(&earlier, &plan);
        assert_eq!(calls.paths, ["/a/", "/b/"], "one has a new parameter, of the other one is gone");
        assert_eq!((calls.names, calls.secrets), (vec![vec!["/c/y:live".to_owned()]], vec![id("key")]));
    }
}
