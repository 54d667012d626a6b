//! Clients of AWS services that use the instance's region and role.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use super::instance::Metadata;

/// Throttling is an answer, not an error: with full jitter up to this wait, eight tries take two minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const TRIES: u32 = 8;

/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// The settings that all clients share.
pub async fn config(metadata: Arc<Metadata>, region: &str, endpoint_url: Option<&str>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(InstanceRole(metadata))
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES).with_max_backoff(LONGEST_WAIT))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(3))
                .operation_attempt_timeout(TRY_LIMIT)
                .build(),
        );
    if let Some(url) = endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}

/// The credentials of the instance's role, fetched by a client that is patient at early boot; the SDK's
/// own gives up after four tries of a second.
#[derive(Debug)]
struct InstanceRole(Arc<Metadata>);

impl InstanceRole {
    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let role = self.0.role_credentials().await.map_err(CredentialsError::provider_error)?;
        let expires =
            humantime::parse_rfc3339(&role.expiration).map_err(CredentialsError::invalid_configuration)?;
        let token = Some(role.token);
        Ok(Credentials::new(
            role.access_key_id,
            role.secret_access_key,
            token,
            Some(expires),
            "instance role",
        ))
    }
}

impl ProvideCredentials for InstanceRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.fetch())
    }
}
