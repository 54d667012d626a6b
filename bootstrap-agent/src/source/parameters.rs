//! Parameters of SSM Parameter Store, by path.

use aws_sdk_ssm::config::{BehaviorVersion, Region};
use aws_sdk_ssm::types::ParameterType;
use aws_sdk_ssm::{Client, Config};
use serde_json::{Map, Value as Json};

use super::aws::{self, Account};
use crate::values::{FetchError, Leaf};

/// The most that one call returns (API reference, `GetParametersByPath`).
const PAGE: i32 = 10;

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

/// Fetches everything below a path. `calls` counts the requests.
///
/// # Errors
/// When the call fails, or there is nothing below the path: a host whose configuration is missing must
/// not come up as if it had none.
pub async fn fetch(client: &Client, path: &str, calls: &mut u32) -> Result<Map<String, Json>, FetchError> {
    let failed = |why: String, help: Option<String>| FetchError {
        what: format!("the parameters below `{path}`"),
        why,
        help,
    };
    let mut found = Map::new();
    let mut next = None;
    loop {
        *calls += 1;
        let page = client
            .get_parameters_by_path()
            .path(path)
            .recursive(true)
            .with_decryption(true)
            .max_results(PAGE)
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| {
                let help = crate::values::permission_help(&error, "ssm:GetParametersByPath");
                failed(aws::why(&error), help)
            })?;
        for parameter in page.parameters() {
            let (Some(name), Some(value)) = (parameter.name(), parameter.value()) else { continue };
            let key = name.strip_prefix(path).unwrap_or(name).trim_matches('/');
            let leaf = match parameter.r#type() {
                Some(ParameterType::SecureString) => Leaf::secret(value),
                Some(ParameterType::StringList) => {
                    Leaf::open(value.split(',').map(|element| Json::from(element.trim())).collect())
                }
                _ => Leaf::open(Json::from(value)),
            };
            leaf.insert(&mut found, key).map_err(|taken| {
                let why = format!("`{name}` is below `{taken}`, which is a parameter itself");
                failed(why, Some("templates could not see both; rename one".into()))
            })?;
        }
        next = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    if found.is_empty() {
        let help = "check the path, the region, and that the parameters exist for this environment and role";
        return Err(failed("there are none".into(), Some(help.into())));
    }
    Ok(found)
}
