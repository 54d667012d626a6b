//! Secrets of Secrets Manager.

use aws_sdk_secretsmanager::config::{BehaviorVersion, Region};
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
        failed(aws::why(&error), help)
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
    empty_path(value).map(|path| match path.as_str() {
        "" => "it".into(),
        path => format!("its key `{path}`"),
    })
}

/// The path, with dots, of the first value that is empty.
fn empty_path(value: &Json) -> Option<String> {
    let below = |key: &str, value: &Json| {
        empty_path(value).map(|path| if path.is_empty() { key.to_owned() } else { format!("{key}.{path}") })
    };
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            entries.iter().find_map(|(key, value)| below(key, value))
        }
        Json::Array(elements) if !elements.is_empty() => {
            elements.iter().enumerate().find_map(|(index, value)| below(&index.to_string(), value))
        }
        Json::Object(_) | Json::Array(_) | Json::Null => Some(String::new()),
        Json::String(text) => text.trim().is_empty().then(String::new),
        Json::Bool(_) | Json::Number(_) => None,
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
        let nested = json!({ "db": { "hosts": ["a", ""] } });
        assert_eq!(empty_part(&nested).as_deref(), Some("its key `db.hosts.1`"));
        assert_eq!(empty_part(&json!("")).as_deref(), Some("it"));
        assert_eq!(empty_part(&json!({ "a": 0 })), None);
    }
}
