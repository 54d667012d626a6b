//! Parameters of SSM Parameter Store, by path and by name.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_ssm::config::{BehaviorVersion, Region};
use aws_sdk_ssm::types::ParameterType;
use aws_sdk_ssm::{Client, Config};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::aws::{self, Account};
use crate::values::{FetchError, permission_help};

/// The most that one call returns (API reference, `GetParametersByPath`).
const PAGE: i32 = 10;

/// A client for an account.
pub fn client(account: &Account) -> Client {
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(account.region.clone()))
        .credentials_provider(account.role.clone())
        .retry_config(aws::retries())
        .timeout_config(aws::timeouts())
        .interceptor(account.role.effort());
    config.set_endpoint_url(account.endpoint_url.clone());
    // A name of one's own is what it is.
    if account.endpoint_url.is_none() {
        config.set_use_dual_stack(Some(account.dual_stack));
    }
    Client::from_conf(config.build())
}

/// What a call is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The values.
    Values,
    /// Their versions only: what is encrypted stays so.
    Versions,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// The text.
    pub value: String,
    /// What it is.
    pub kind: Kind,
    /// Its version.
    pub version: i64,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Text that anybody may see.
    String,
    /// Texts with commas between them.
    List,
    /// Text that nobody may see.
    Secret,
}

impl Drop for Parameter {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Parameter {
    fn of(parameter: &aws_sdk_ssm::types::Parameter) -> Option<Self> {
        let kind = match parameter.r#type() {
            Some(ParameterType::SecureString) => Kind::Secret,
            Some(ParameterType::StringList) => Kind::List,
            _ => Kind::String,
        };
        Some(Self { value: parameter.value()?.to_owned(), kind, version: parameter.version() })
    }
}

/// Fetches everything below a path, by full name. `calls` counts the requests.
///
/// # Errors
/// When a call fails.
pub async fn below(
    client: &Client,
    path: &str,
    want: Want,
    calls: &AtomicU32,
) -> Result<Vec<(String, Parameter)>, FetchError> {
    let mut found = Vec::new();
    let mut next = None;
    loop {
        calls.fetch_add(1, Ordering::Relaxed);
        let request = client
            .get_parameters_by_path()
            .path(path)
            .recursive(true)
            .with_decryption(want == Want::Values)
            .max_results(PAGE)
            .set_next_token(next);
        let page = aws::patiently(async || request.clone().send().await).await;
        let page = page.map_err(|error| FetchError {
            what: format!("the parameters below `{path}`"),
            why: aws::why(&error),
            help: permission_help(&error, "ssm:GetParametersByPath"),
            is_offline: aws::is_offline(&error),
        })?;
        for parameter in page.parameters() {
            let Some(name) = parameter.name() else { continue };
            found.extend(Parameter::of(parameter).map(|value| (name.to_owned(), value)));
        }
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// Fetches parameters by name, ten at most, by the names that they were asked for with.
///
/// # Errors
/// When the call fails, or one of them is not there: the service says that within an answer that is good.
pub async fn named(
    client: &Client,
    names: &[String],
    want: Want,
    calls: &AtomicU32,
) -> Result<Vec<(String, Parameter)>, FetchError> {
    calls.fetch_add(1, Ordering::Relaxed);
    let request = client.get_parameters().set_names(Some(names.to_vec()));
    let request = request.with_decryption(want == Want::Values);
    let answer = aws::patiently(async || request.clone().send().await).await;
    let answer = answer.map_err(|error| FetchError {
        what: format!("the parameters {}", listed(names)),
        why: aws::why(&error),
        help: permission_help(&error, "ssm:GetParameters"),
        is_offline: aws::is_offline(&error),
    })?;
    let missing = |names: &[String]| FetchError {
        what: format!("the parameters {}", listed(names)),
        why: "there is none of this name".into(),
        help: Some("create it, or correct its name, version or label in the user-data".into()),
        is_offline: false,
    };
    if !answer.invalid_parameters().is_empty() {
        return Err(missing(answer.invalid_parameters()));
    }
    let value_of = |asked: &String| {
        let found = answer.parameters().iter().find(|parameter| is_asked_for(asked, parameter));
        let value = found.and_then(Parameter::of).ok_or_else(|| missing(std::slice::from_ref(asked)))?;
        Ok((asked.clone(), value))
    };
    names.iter().map(value_of).collect()
}

/// Whether a parameter is the one that was asked for by a name or an ARN, with or without a version or label.
fn is_asked_for(asked: &str, parameter: &aws_sdk_ssm::types::Parameter) -> bool {
    let selector = parameter.selector().unwrap_or_default();
    let is = |name: &str| {
        let rest = asked.strip_prefix(name);
        rest.is_some_and(|rest| rest == selector || rest.strip_prefix(':') == Some(selector))
    };
    parameter.name().is_some_and(is) || parameter.arn().is_some_and(is)
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_what_it_was_asked_for_with() {
        let parameter = |selector: Option<&str>| {
            aws_sdk_ssm::types::Parameter::builder()
                .name("/a/b")
                .arn("arn:aws:ssm:us-east-1:111122223333:parameter/a/b")
                .set_selector(selector.map(str::to_owned))
                .build()
        };
        let arn = "arn:aws:ssm:us-east-1:111122223333:parameter/a/b";
        for (asked, selector, is) in [
            ("/a/b", None, true),
            ("/a/b:3", Some(":3"), true),
            ("/a/b:live", Some("live"), true),
            (arn, None, true),
            ("/a/b", Some(":3"), false),
            ("/a/bc", None, false),
        ] {
            assert_eq!(is_asked_for(asked, &parameter(selector)), is, "{asked}");
        }
    }
}
