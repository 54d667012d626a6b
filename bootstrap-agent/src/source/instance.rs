//! The instance metadata service, version 2 only.
//!
//! Patient with what early boot really does (refused, time-outs, 401, 5xx), precise when it is final.
//! A boot needs five requests: a token, the user-data, the identity document, and two for credentials.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::http::{Answer, HttpError, ask};

/// Where the service is on every instance.
pub const ENDPOINT: &str = "http://169.254.169.254";

/// How long a token is good for: the longest there is, so that one is enough.
const TOKEN_SECONDS: &str = "21600";

/// One answer takes milliseconds; the SDKs wait as long.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The first wait between two tries, doubled for each further one, with full jitter.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long a role may take to appear after the instance did.
const ROLE_PATIENCE: Duration = Duration::from_secs(30);

/// A client of the service.
#[derive(Debug)]
pub struct Metadata {
    endpoint: String,
    /// In milliseconds.
    patience: AtomicU64,
    token: Mutex<Option<String>>,
    requests: AtomicU32,
}

/// What the instance is (the identity document).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Identity {
    /// `i-0123456789abcdef0`
    pub instance_id: String,
    /// `us-east-1`
    pub region: String,
    /// `us-east-1a`
    pub availability_zone: String,
    /// `m7g.large`
    pub instance_type: String,
    /// `ami-0123456789abcdef0`
    pub image_id: String,
    /// `111122223333`
    pub account_id: String,
    /// `10.0.1.23`
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
    /// A client that keeps trying for as long as `patience`.
    pub fn new(endpoint: &str, patience: Duration) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            patience: AtomicU64::new(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)),
            token: Mutex::new(None),
            requests: AtomicU32::new(0),
        }
    }

    /// From now on it keeps trying for no longer than this.
    pub fn hurry(&self, patience: Duration) {
        self.patience.fetch_min(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }

    /// How many requests were made so far.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The user-data that the instance was launched with; none if there was none.
    ///
    /// # Errors
    /// When the service does not tell.
    pub async fn user_data(&self) -> Result<Option<Vec<u8>>, MetadataError> {
        self.get("/latest/user-data").await
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
        let patience = self.patience();
        let until = Instant::now() + patience;
        let mut wait = Wait::new();
        let mut silent_tokens = 0;
        loop {
            let last: Box<dyn std::error::Error + Send + Sync> = match self.try_get(path).await {
                Ok(answer) => match answer.status {
                    200 => return Ok(Some(answer.body)),
                    404 => return Ok(None),
                    403 => return Err(MetadataError::Disabled(path.into())),
                    status => {
                        if status == 401 {
                            self.set_token(None);
                        }
                        let asked_for = retry_after(&answer);
                        self.pause(
                            &mut wait,
                            asked_for,
                            until,
                            path,
                            patience,
                            format!("the answer was {status}").into(),
                        )
                        .await?;
                        continue;
                    }
                },
                Err(TryError::Token(HttpError::AnswerTimeout(address))) => {
                    // The answer to the token request is the one that a hop limit drops.
                    silent_tokens += 1;
                    if silent_tokens >= 3 {
                        return Err(MetadataError::NoToken);
                    }
                    HttpError::AnswerTimeout(address).into()
                }
                Err(TryError::Token(error) | TryError::Get(error)) => error.into(),
            };
            self.pause(&mut wait, None, until, path, patience, last).await?;
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
            let url = format!("{}/latest/api/token", self.endpoint);
            let headers = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)];
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = ask(Method::PUT, &url, &headers, ANSWER_LIMIT).await.map_err(TryError::Token)?;
            if answer.status != 200 {
                return Ok(answer);
            }
            let token = String::from_utf8_lossy(&answer.body).trim().to_owned();
            self.set_token(Some(token.clone()));
            token
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let url = format!("{}{path}", self.endpoint);
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
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A service that gives scripted answers, one a request, and records what it was asked.
    struct Scripted {
        endpoint: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    const TOKEN: (u16, &str) = (200, "the-token");
    /// Accepts the connection and never answers.
    const SILENCE: (u16, &str) = (0, "");

    impl Scripted {
        async fn new(answers: &[(u16, &'static str)]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (record, mut answers) = (Arc::clone(&asked), VecDeque::from(answers.to_vec()));
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut buffer = vec![0; 2048];
                    let count = stream.read(&mut buffer).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    let line = request.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
                    let with_token = request.contains("x-aws-ec2-metadata-token: the-token");
                    record.lock().expect("not poisoned").push(if with_token {
                        format!("{line} +token")
                    } else {
                        line
                    });
                    let (status, body) = answers.pop_front().unwrap_or((500, "no more answers"));
                    if (status, body) == SILENCE {
                        tokio::spawn(async move {
                            sleep(Duration::from_mins(10)).await;
                            drop(stream);
                        });
                        continue;
                    }
                    let length = body.len();
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            Self { endpoint, asked }
        }

        fn metadata(&self) -> Metadata {
            Metadata::new(&self.endpoint, Duration::from_secs(5))
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().expect("not poisoned").clone()
        }
    }

    #[tokio::test]
    async fn one_token_is_enough_for_a_boot_of_five_requests() {
        let document = r#"{"instanceId":"i-1","region":"us-east-1","availabilityZone":"us-east-1a","instanceType":"m7g.large","imageId":"ami-1","accountId":"111122223333","privateIp":"10.0.0.1","extra":null}"#;
        let credentials = r#"{"Code":"Success","AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}"#;
        let service = Scripted::new(&[
            TOKEN,
            (200, "#!user-data"),
            (200, document),
            (200, "web-role\n"),
            (200, credentials),
        ])
        .await;
        let metadata = service.metadata();
        assert_eq!(metadata.user_data().await.expect("told").as_deref(), Some(&b"#!user-data"[..]));
        assert_eq!(metadata.identity().await.expect("told").region, "us-east-1");
        assert_eq!(metadata.role_credentials().await.expect("told").token, "t");
        assert_eq!(
            service.asked(),
            [
                "PUT /latest/api/token",
                "GET /latest/user-data +token",
                "GET /latest/dynamic/instance-identity/document +token",
                "GET /latest/meta-data/iam/security-credentials/ +token",
                "GET /latest/meta-data/iam/security-credentials/web-role +token",
            ]
        );
        assert_eq!(metadata.requests(), 5);
    }

    #[tokio::test]
    async fn early_boot_is_waited_for() {
        let service = Scripted::new(&[(503, ""), TOKEN, (401, ""), TOKEN, (500, ""), (200, "data")]).await;
        assert_eq!(service.metadata().user_data().await.expect("told").as_deref(), Some(&b"data"[..]));
        let none = Scripted::new(&[TOKEN, (404, "")]).await;
        assert_eq!(none.metadata().user_data().await.expect("told"), None);
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_yet_is_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let metadata = Metadata::new(&format!("http://{address}"), Duration::from_millis(300));
        let error = metadata.user_data().await.expect_err("nobody is there");
        assert!(matches!(error, MetadataError::Unreachable { .. }), "{error}");
        assert!(metadata.requests() > 1, "it was tried again");
    }

    #[tokio::test]
    async fn a_role_may_appear_later_than_the_instance() {
        let credentials =
            r#"{"AccessKeyId":"a","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}"#;
        let service =
            Scripted::new(&[TOKEN, (404, ""), (200, "role"), (404, ""), (200, "role"), (200, credentials)])
                .await;
        assert_eq!(service.metadata().role_credentials().await.expect("told").access_key_id, "a");
        let broken = Scripted::new(&[TOKEN, (200, "role"), (200, "secret nonsense")]).await;
        let error = broken.metadata().role_credentials().await.err().expect("not credentials");
        assert!(!format!("{error:?}").contains("secret nonsense"));
    }

    #[tokio::test]
    async fn what_is_final_is_said_at_once() {
        let service = Scripted::new(&[(403, "")]).await;
        let error = service.metadata().user_data().await.expect_err("disabled");
        assert!(matches!(error, MetadataError::Disabled(_)));
        assert!(error.advice().is_some_and(|advice| advice.contains("HttpEndpoint")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_never_comes_is_the_hop_limit() {
        let service = Scripted::new(&[SILENCE, SILENCE, SILENCE]).await;
        let metadata = Metadata::new(&service.endpoint, Duration::from_mins(1));
        let error = metadata.user_data().await.expect_err("no token");
        assert!(matches!(error, MetadataError::NoToken), "{error}");
        assert!(error.advice().is_some_and(|advice| advice.contains("HttpPutResponseHopLimit")));
    }
}
