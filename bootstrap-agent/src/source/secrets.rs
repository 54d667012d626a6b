//! Secrets of Secrets Manager.

use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::error::DisplayErrorContext;
use aws_sdk_secretsmanager::{Client, Config};
use serde_json::Value as Json;

use super::aws::{self, Account};
use crate::values::{FetchError, permission_help};

/// A client for an account.
pub fn client(account: &Account) -> Client {
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(account.region.clone()))
        .credentials_provider(account.role.clone())
        .retry_config(aws::retries())
        .timeout_config(aws::timeouts());
    config.set_endpoint_url(account.endpoint_url.clone());
    Client::from_conf(config.build())
}

/// Fetches a secret's current value. JSON objects become mappings, everything else text.
///
/// # Errors
/// When the call fails, or the secret or one of its values is empty.
pub async fn fetch(client: &Client, id: &str, calls: &mut u32) -> Result<Json, FetchError> {
    let failed =
        |why: String, help: Option<String>| FetchError { what: format!("the secret `{id}`"), why, help };
    *calls += 1;
    let answer = client.get_secret_value().secret_id(id).send().await.map_err(|error| {
        let help = permission_help(&error, "secretsmanager:GetSecretValue").or_else(|| {
            let missing =
                error.as_service_error().is_some_and(aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError::is_resource_not_found_exception);
            missing.then(|| "create it, or correct its name in the user-data".into())
        });
        failed(DisplayErrorContext(&error).to_string(), help)
    })?;
    let Some(text) = answer.secret_string() else {
        return Err(failed("it is binary, and only text is supported".into(), None));
    };
    let value = match serde_json::from_str(text) {
        Ok(value @ Json::Object(_)) => value,
        _ => Json::from(text),
    };
    if let Some(empty) = empty_part(&value) {
        return Err(failed(
            format!("{empty} is empty"),
            Some("a service must not start with an empty secret".into()),
        ));
    }
    Ok(value)
}

fn empty_part(value: &Json) -> Option<String> {
    let is_empty =
        |value: &Json| value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
    match value {
        Json::Object(entries) if entries.is_empty() => Some("it".into()),
        Json::Object(entries) => {
            entries.iter().find(|(_, value)| is_empty(value)).map(|(key, _)| format!("its key `{key}`"))
        }
        value => is_empty(value).then(|| "it".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_empty_is_found() {
        assert_eq!(empty_part(&json!({ "a": "x", "b": " " })).as_deref(), Some("its key `b`"));
        assert_eq!(empty_part(&json!({})).as_deref(), Some("it"));
        assert_eq!(empty_part(&json!("")).as_deref(), Some("it"));
        assert_eq!(empty_part(&json!({ "a": 0 })), None);
    }
}
