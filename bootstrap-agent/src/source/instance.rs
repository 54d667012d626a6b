//! The instance metadata service, version 2 only.
//!
//! Patient with what early boot really does (refused, time-outs, 401, 5xx), precise when it is final.
//! A boot needs five requests: a token, the user-data, the identity document, and two for credentials.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::effort::Effort;
use crate::http::{Answer, HttpError, ask};

/// Where the service is on every instance, and on those that have it for IPv6 as well (`HttpProtocolIpv6`).
const ENDPOINTS: [&str; 2] = ["http://169.254.169.254", "http://[fd00:ec2::254]"];

const TOKEN: &str = "/latest/api/token";

/// How long a token is good for: the longest there is, so that one is enough.
const TOKEN_SECONDS: &str = "21600";

/// One answer takes milliseconds; the SDKs wait as long.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The first wait between two tries, doubled for each further one, with full jitter.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// User-data that is not there is asked for again after this long.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// How long a role may take to appear after the instance did.
const ROLE_PATIENCE: Duration = Duration::from_secs(30);

/// A client of the service.
#[derive(Debug)]
pub struct Metadata {
    endpoints: Vec<String>,
    /// Which of them is asked: another one if it cannot be reached.
    chosen: AtomicUsize,
    /// Whether that one has answered, and is asked from then on.
    has_answered: AtomicBool,
    /// In milliseconds.
    patience: AtomicU64,
    token: Mutex<Option<String>>,
    /// The date of its last answer.
    date: Mutex<Option<String>>,
    requests: AtomicU32,
    effort: Effort,
}

/// What the instance is (the identity document). Written by this program, its fields have the names that templates see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Identity {
    /// `i-0123456789abcdef0`
    #[serde(alias = "instance_id")]
    pub instance_id: String,
    /// `us-east-1`
    pub region: String,
    /// `us-east-1a`
    #[serde(alias = "availability_zone")]
    pub availability_zone: String,
    /// `m7g.large`
    #[serde(alias = "instance_type")]
    pub instance_type: String,
    /// `ami-0123456789abcdef0`
    #[serde(alias = "image_id")]
    pub image_id: String,
    /// `111122223333`
    #[serde(alias = "account_id")]
    pub account_id: String,
    /// `10.0.1.23`
    #[serde(alias = "private_ip")]
    pub private_ip: String,
}

/// Credentials of the instance's role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoleCredentials {
    /// The id of the access key.
    pub access_key_id: String,
    /// The secret of the access key.
    pub secret_access_key: String,
    /// The session token.
    pub token: String,
    /// When they end, as RFC 3339.
    pub expiration: String,
}

/// Why the service did not tell.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It refuses to tell anybody anything.
    #[error("the instance metadata service is disabled (403 for `{0}`)")]
    Disabled(String),
    /// It answers the token request never, although it can be reached.
    #[error("the instance metadata service accepts connections and sends no token")]
    NoToken,
    /// The instance has no role.
    #[error("the instance has no role: there was none after {} s", .0.as_secs())]
    NoRole(Duration),
    /// It could not be reached, or kept failing, until patience ran out.
    #[error("the instance metadata service did not tell `{path}` within {} s", patience.as_secs())]
    Unreachable {
        /// What was asked for.
        path: String,
        /// How long it was tried.
        patience: Duration,
        /// The last error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered with something else than it should.
    #[error("the instance metadata service answered `{path}` with something unexpected")]
    Unexpected {
        /// What was asked for.
        path: String,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MetadataError {
    /// Whether nobody said no: the service is out of reach.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What to do about it, if anybody knows.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Disabled(_) => Some("set `HttpEndpoint` to `enabled` in the instance's metadata options"),
            Self::NoToken => {
                Some("the hop limit is too low: set `HttpPutResponseHopLimit` to 2 in the metadata options")
            }
            Self::NoRole(_) => Some("give the instance an instance profile with a role"),
            _ => None,
        }
    }
}

impl Metadata {
    /// A client that keeps trying for as long as `patience`. The service is at `endpoint`, or where it is on every
    /// instance.
    pub fn new(endpoint: Option<&str>, patience: Duration) -> Self {
        let endpoints = endpoint.map_or(ENDPOINTS.to_vec(), |endpoint| vec![endpoint]);
        Self {
            endpoints: endpoints.iter().map(|endpoint| endpoint.trim_end_matches('/').to_owned()).collect(),
            chosen: AtomicUsize::new(0),
            has_answered: AtomicBool::new(false),
            patience: AtomicU64::new(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)),
            token: Mutex::new(None),
            date: Mutex::new(None),
            requests: AtomicU32::new(0),
            effort: Effort::default(),
        }
    }

    /// Whether it is only to be had over IPv6: so are other services then.
    pub fn is_ipv6(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed) && self.endpoint().contains('[')
    }

    fn endpoint(&self) -> &str {
        self.endpoints.get(self.chosen.load(Ordering::Relaxed)).map_or("", String::as_str)
    }

    /// Has another address asked from now on; whether there is one that has not been tried since the first.
    fn choose_another(&self) -> bool {
        if self.has_answered.load(Ordering::Relaxed) {
            return false;
        }
        let next = (self.chosen.load(Ordering::Relaxed) + 1) % self.endpoints.len();
        self.chosen.store(next, Ordering::Relaxed);
        next != 0
    }

    /// From now on it keeps trying for no longer than this.
    pub fn hurry(&self, patience: Duration) {
        self.patience.fetch_min(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }

    /// The date of its last answer, as HTTP has it.
    pub fn date(&self) -> Option<String> {
        self.date.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// How many requests were made so far.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What has been asked for, of this service and in the name of the role that it tells of.
    pub fn effort(&self) -> Effort {
        self.effort.clone()
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.effort.attempt();
    }

    /// The user-data that the instance was launched with; none if there was none.
    ///
    /// # Errors
    /// When the service does not tell.
    pub async fn user_data(&self) -> Result<Option<Vec<u8>>, MetadataError> {
        const PATH: &str = "/latest/user-data";
        if let Some(data) = self.get(PATH).await? {
            return Ok(Some(data));
        }
        // A service that is not complete yet says the same as one that has none, and a host must not come up
        // without what it was told.
        sleep(ASKED_AGAIN.min(self.patience())).await;
        self.get(PATH).await
    }

    /// What the instance is.
    ///
    /// # Errors
    /// When the service does not tell.
    pub async fn identity(&self) -> Result<Identity, MetadataError> {
        let path = "/latest/dynamic/instance-identity/document";
        let document = self.get(path).await?.unwrap_or_default();
        serde_json::from_slice(&document)
            .map_err(|error| MetadataError::Unexpected { path: path.into(), source: error.into() })
    }

    /// The value of one of the instance's tags; none if it has no such tag, or tells none (`InstanceMetadataTags`).
    ///
    /// # Errors
    /// When the service does not tell.
    pub async fn tag(&self, key: &str) -> Result<Option<String>, MetadataError> {
        let value = self.get(&format!("/latest/meta-data/tags/instance/{key}")).await?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Credentials of the instance's role. A role may appear a moment later than the instance.
    ///
    /// # Errors
    /// When the instance has no role, or the service does not tell.
    pub async fn role_credentials(&self) -> Result<RoleCredentials, MetadataError> {
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let patience = ROLE_PATIENCE.min(self.patience());
        let until = Instant::now() + patience;
        let mut wait = Wait::new();
        loop {
            if let Some(role) = self.get(ROLES).await? {
                let role = String::from_utf8_lossy(&role);
                let path = format!("{ROLES}{}", role.lines().next().unwrap_or_default().trim());
                if let Some(document) = self.get(&path).await? {
                    // The document is not quoted in an error: it holds a secret.
                    return serde_json::from_slice(&document).map_err(|_| MetadataError::Unexpected {
                        path,
                        source: "it is not a document of credentials".into(),
                    });
                }
            }
            let pause = wait.next(None);
            if Instant::now() + pause > until {
                return Err(MetadataError::NoRole(patience));
            }
            sleep(pause).await;
        }
    }

    /// What is at a path; none where there is nothing.
    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, MetadataError> {
        self.effort.call();
        let patience = self.patience();
        let until = Instant::now() + patience;
        let mut wait = Wait::new();
        let mut silent_tokens = 0;
        loop {
            let (why, asked_for): (Box<dyn std::error::Error + Send + Sync>, _) =
                match self.try_get(path).await {
                    Ok(answer) => match answer.status {
                        200 => {
                            let date = answer.headers.get("date").and_then(|date| date.to_str().ok());
                            let mut last =
                                self.date.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            *last = date.map(str::to_owned);
                            return Ok(Some(answer.body));
                        }
                        404 => return Ok(None),
                        403 => return Err(MetadataError::Disabled(path.into())),
                        status => {
                            if status == 401 {
                                self.set_token(None);
                            }
                            (format!("the answer was {status}").into(), retry_after(&answer))
                        }
                    },
                    Err(TryError::NoToken(answer)) if answer.status == 403 => {
                        return Err(MetadataError::Disabled(TOKEN.into()));
                    }
                    Err(TryError::NoToken(answer)) => (
                        format!("the answer to the request for a token was {}", answer.status).into(),
                        retry_after(&answer),
                    ),
                    Err(TryError::Token(HttpError::AnswerTimeout(address))) => {
                        // The answer to the token request is the one that a hop limit drops.
                        silent_tokens += 1;
                        if silent_tokens >= 3 {
                            return Err(MetadataError::NoToken);
                        }
                        (HttpError::AnswerTimeout(address).into(), None)
                    }
                    Err(TryError::Token(error) | TryError::Get(error)) => {
                        let is_unreachable =
                            matches!(error, HttpError::Connect { .. } | HttpError::ConnectTimeout(_));
                        if is_unreachable && self.choose_another() {
                            continue;
                        }
                        (error.into(), None)
                    }
                };
            self.pause(&mut wait, asked_for, until, path, patience, why).await?;
        }
    }

    async fn pause(
        &self,
        wait: &mut Wait,
        asked_for: Option<Duration>,
        until: Instant,
        path: &str,
        patience: Duration,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Result<(), MetadataError> {
        let pause = wait.next(asked_for);
        if Instant::now() + pause > until {
            return Err(MetadataError::Unreachable { path: path.into(), patience, source });
        }
        sleep(pause).await;
        Ok(())
    }

    async fn try_get(&self, path: &str) -> Result<Answer, TryError> {
        let token = if let Some(token) = self.token() {
            token
        } else {
            let url = format!("{}{TOKEN}", self.endpoint());
            let headers = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)];
            self.count();
            let answer = ask(Method::PUT, &url, &headers, ANSWER_LIMIT).await.map_err(TryError::Token)?;
            let token = String::from_utf8_lossy(&answer.body).trim().to_owned();
            // What is no token would not even fit into a header.
            if answer.status != 200 || token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())
            {
                return Err(TryError::NoToken(answer));
            }
            self.has_answered.store(true, Ordering::Relaxed);
            self.effort.call();
            self.set_token(Some(token.clone()));
            token
        };
        self.count();
        let url = format!("{}{path}", self.endpoint());
        ask(Method::GET, &url, &[("x-aws-ec2-metadata-token", &token)], ANSWER_LIMIT)
            .await
            .map_err(TryError::Get)
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_token(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = token;
    }
}

enum TryError {
    Token(HttpError),
    /// An answer that is no token.
    NoToken(Answer),
    Get(HttpError),
}

/// Waits between tries: doubled each time, with full jitter, so that a thousand hosts do not ask at once.
struct Wait(Duration);

impl Wait {
    fn new() -> Self {
        Self(FIRST_WAIT)
    }

    fn next(&mut self, asked_for: Option<Duration>) -> Duration {
        let wait = self.0.mul_f64(fastrand::f64());
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        asked_for.unwrap_or(wait)
    }
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
