//! Secrets of Secrets Manager.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_sdk_secretsmanager::{Client, Config};
use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zeroize::Zeroize;

use super::aws::{self, Account};
use super::declared::Binary;
use super::plan::SecretId;
use crate::values::{FetchError, permission_help};

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

/// A secret's value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue {
    /// What it is.
    pub content: Content,
    /// The id of its version.
    pub version: String,
}

/// What is in a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Text, which may be JSON.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Drop for Content {
    fn drop(&mut self) {
        match self {
            Self::Text(text) => text.zeroize(),
            Self::Binary(bytes) => bytes.zeroize(),
        }
    }
}

/// Fetches a version of a secret. `calls` counts the requests.
///
/// # Errors
/// When the call fails, or there is no value in the answer.
pub async fn fetch(client: &Client, wanted: &SecretId, calls: &AtomicU32) -> Result<SecretValue, FetchError> {
    let what = || format!("the secret `{}`", wanted.id);
    calls.fetch_add(1, Ordering::Relaxed);
    let request = client
        .get_secret_value()
        .secret_id(&wanted.id)
        .set_version_stage(wanted.stage.clone())
        .set_version_id(wanted.version.clone());
    let answer = aws::patiently(async || request.clone().send().await).await.map_err(|error| {
        let help = permission_help(&error, "secretsmanager:GetSecretValue").or_else(|| {
            let missing =
                error.as_service_error().is_some_and(GetSecretValueError::is_resource_not_found_exception);
            missing.then(|| "create it, or correct its name, stage or version in the user-data".into())
        });
        FetchError { is_offline: aws::is_offline(&error), ..failed(what(), aws::why(&error), help) }
    })?;
    let text = answer.secret_string().map(|text| Content::Text(text.to_owned()));
    let bytes = || answer.secret_binary().map(|bytes| Content::Binary(bytes.as_ref().to_vec()));
    let content = text.or_else(bytes).ok_or_else(|| failed(what(), "it has no value".into(), None))?;
    Ok(SecretValue { content, version: answer.version_id().unwrap_or_default().to_owned() })
}

/// Asks which version of a secret is the one that is wanted, and for nothing that is secret.
///
/// # Errors
/// When the call fails, or no version has the stage.
pub async fn version(client: &Client, wanted: &SecretId, calls: &AtomicU32) -> Result<String, FetchError> {
    let what = || format!("the version of the secret `{}`", wanted.id);
    calls.fetch_add(1, Ordering::Relaxed);
    let request = client.describe_secret().secret_id(&wanted.id);
    let answer = aws::patiently(async || request.clone().send().await).await;
    let answer = answer.map_err(|error| FetchError {
        is_offline: aws::is_offline(&error),
        ..failed(what(), aws::why(&error), permission_help(&error, "secretsmanager:DescribeSecret"))
    })?;
    let stage = wanted.stage.as_deref().unwrap_or("AWSCURRENT");
    let versions = answer.version_ids_to_stages().into_iter().flatten();
    let mut of_stage = versions.filter(|(_, stages)| stages.iter().any(|of| of == stage));
    let version = of_stage.next().map(|(version, _)| version.clone());
    version.ok_or_else(|| failed(what(), format!("none has the stage `{stage}`"), None))
}

fn failed(what: String, why: String, help: Option<String>) -> FetchError {
    FetchError { what, why, help, is_offline: false }
}

impl Content {
    /// What templates see: a JSON object is a mapping, everything else text.
    ///
    /// # Errors
    /// When bytes that shall be text are not.
    pub fn value(&self, binary: Binary) -> Result<Json, String> {
        match (self, binary) {
            (Self::Text(text), _) => Ok(match serde_json::from_str(text) {
                Ok(value @ Json::Object(_)) => value,
                _ => Json::from(text.as_str()),
            }),
            (Self::Binary(bytes), Binary::Base64) => Ok(Json::from(base64::encode(bytes))),
            (Self::Binary(bytes), Binary::Text) => String::from_utf8(bytes.clone())
                .map(Json::from)
                .map_err(|_| "its bytes are not text in UTF-8".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_a_mapping_text_or_bytes() {
        let value = |content: Content, binary| content.value(binary);
        let text = |text: &str| Content::Text(text.into());
        assert_eq!(value(text(r#"{"a":1}"#), Binary::Base64), Ok(json!({ "a": 1 })));
        assert_eq!(value(text("[1]"), Binary::Base64), Ok(json!("[1]")));
        let bytes = |bytes: &[u8]| Content::Binary(bytes.to_vec());
        assert_eq!(value(bytes(b"\x00\xff"), Binary::Base64), Ok(json!("AP8=")));
        assert_eq!(value(bytes(b"-----BEGIN"), Binary::Text), Ok(json!("-----BEGIN")));
        assert!(value(bytes(b"\x00\xff"), Binary::Text).is_err());
    }
}
