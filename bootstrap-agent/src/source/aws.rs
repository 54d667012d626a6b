//! What clients of AWS services have in common: the instance's region and role, and patience.
//!
//! The clients are made without `aws-config`: its chain of profiles, SSO and containers is nothing that an
//! instance has, and would be a tenth of the program.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::effort::Effort;
use super::instance::{Metadata, MetadataError};

/// Throttling is an answer, not an error: with full jitter up to this wait, eight tries take two minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const TRIES: u32 = 8;

/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Credentials that expire sooner are fetched again: a boot with all its retries takes less.
const EXPIRES_SOON: Duration = Duration::from_mins(5);

/// Where AWS services are, and as whom they are asked.
#[derive(Debug, Clone)]
pub struct Account {
    /// The region.
    pub region: String,
    /// The URL of all services, if not the public ones.
    pub endpoint_url: Option<String>,
    /// Whether they are asked for by names that have IPv6 addresses as well.
    pub dual_stack: bool,
    /// The credentials of the instance's role.
    pub role: InstanceRole,
}

/// How often a call is tried, and how long between.
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(TRIES).with_max_backoff(LONGEST_WAIT)
}

/// How long a call may take.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_LIMIT).operation_attempt_timeout(TRY_LIMIT).build()
}

/// The credentials of the instance's role, fetched once for all clients by one that is patient at early boot;
/// the SDK's own gives up after four tries of a second.
#[derive(Debug, Clone)]
pub struct InstanceRole {
    metadata: Arc<Metadata>,
    fetched: Arc<Mutex<Option<Credentials>>>,
}

impl InstanceRole {
    /// The role of the instance that a metadata service is about.
    pub fn new(metadata: Arc<Metadata>) -> Self {
        Self { metadata, fetched: Arc::default() }
    }

    /// What has been asked for in its name, and for it.
    pub fn effort(&self) -> Effort {
        self.metadata.effort()
    }

    /// What was fetched before, if it will do; SDK clients ask again shortly before it expires.
    ///
    /// # Errors
    /// When the instance has no role, or nobody tells.
    pub async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let mut fetched = self.fetched.lock().await;
        let lasts = |credentials: &&Credentials| {
            let soon = SystemTime::now() + EXPIRES_SOON;
            credentials.expiry().is_some_and(|expiry| expiry > soon)
        };
        if let Some(credentials) = fetched.as_ref().filter(lasts) {
            return Ok(credentials.clone());
        }
        Ok(fetched.insert(self.fetch().await?).clone())
    }

    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let role = self.metadata.role_credentials().await.map_err(CredentialsError::provider_error)?;
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
        future::ProvideCredentials::new(self.credentials())
    }
}

/// How often a call that is throttled through all its tries is begun anew: a fleet that boots at once shares one quota,
/// and a host whose turn has not come has done nothing wrong. Together that is longer than a boot waits for its values.
const ROUNDS: u32 = 8;

/// Makes a call, and waits for as long as the service only says that it is too much.
pub async fn patiently<T, E, R>(
    mut call: impl AsyncFnMut() -> Result<T, SdkError<E, R>>,
) -> Result<T, SdkError<E, R>>
where
    E: ProvideErrorMetadata,
{
    for _ in 1..ROUNDS {
        match call().await {
            Err(error) if is_throttled(&error) => sleep(LONGEST_WAIT.mul_f64(fastrand::f64())).await,
            other => return other,
        }
    }
    call().await
}

/// Whether a call failed because there were too many.
fn is_throttled<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code.is_some_and(|code| {
        ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"]
            .contains(&code)
    })
}

/// Whether a call failed because nobody was reached, and not because somebody said no.
pub fn is_offline<E, R>(error: &SdkError<E, R>) -> bool
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if !matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)) {
        return false;
    }
    // That there is no role looks like that as well.
    let first = std::error::Error::source(error);
    let mut causes = std::iter::successors(first, |error| error.source());
    !causes.any(|cause| cause.downcast_ref::<MetadataError>().is_some_and(|error| !error.is_offline()))
}

/// Why a call failed, with all causes: the code and the message of the service, never the answer itself, in
/// which a value could be.
pub fn why<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or("an error without a code");
            let message = context.err().message().unwrap_or_default();
            format!("{code}: {message}").trim_end_matches([':', ' ']).to_owned()
        }
        SdkError::ResponseError(_) => "the answer was not one of the service".into(),
        other => crate::boot::error::chain(other),
    }
}
