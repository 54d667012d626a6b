//! Requests to AWS that are signed here: those that a boot makes once or never, for which a crate of the SDK for each
//! service would cost more of the program than everything that is told through them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{DATE, RETRY_AFTER};
use hyper::{HeaderMap, Uri};
use tokio::time::timeout;

use crate::boot::error::chain;
use crate::fetch::connect::{Connector, Proxies, plainly};
use crate::signal::message::seconds;
use crate::source::aws::Account;

/// How long a call may take, its connection included.
const LIMIT: Duration = Duration::from_secs(10);

/// What is asked of a service.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The service's name, as signatures have it.
    pub(crate) service: &'static str,
    /// `GET`, `POST` or `PUT`.
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: &'a [u8],
    /// The longest answer that is taken.
    pub(crate) longest: usize,
}

/// What a service answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Asks in the name of an account.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) account: Account,
    proxies: BTreeMap<String, String>,
    /// How many seconds the services are ahead of this host's clock.
    skew: AtomicI64,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The service refused it.
    #[error("{code}: {message}")]
    Refused {
        /// The service's code, such as `ValidationError`.
        code: String,
        /// What it says.
        message: String,
        /// Whether it may be taken later.
        may_pass: bool,
        /// How long it wants not to be asked.
        wait: Option<Duration>,
    },
    /// It was not reached, or did not answer as it should.
    #[error("{0}")]
    Failed(String),
}

impl CallError {
    /// Whether the call may succeed later, with nobody changing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { may_pass, .. } => *may_pass,
            Self::Failed(_) => true,
        }
    }

    /// How long the service wants not to be asked.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            Self::Failed(_) => None,
        }
    }
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the call was refused, and whether it may be taken later: `code` and `message` are what the service says.
    /// Throttling has the status 400 as well.
    pub(crate) fn refusal(&self, code: Option<String>, message: Option<String>) -> Result<(), CallError> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let code = code.unwrap_or_else(|| format!("status {}", self.status));
        let passes = [
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "RequestTimeout",
            "SlowDown",
            "Unavailable",
        ];
        let contended = ["ResourceContention", "ScalingActivityInProgress"];
        let may_pass = self.status >= 500
            || self.status == 429
            || passes.contains(&code.as_str())
            || contended.contains(&code.trim_end_matches("Fault"));
        let wait = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let message = message.unwrap_or_default();
        Err(CallError::Refused { code, message, may_pass, wait: wait.map(Duration::from_secs) })
    }
}

impl Caller {
    /// Calls in the name of an account. `proxies` are `https_proxy` and `no_proxy`.
    pub(crate) fn new(account: Account, proxies: BTreeMap<String, String>) -> Self {
        Self { account, proxies, skew: AtomicI64::new(0) }
    }

    /// Where a service is.
    pub(crate) fn url(&self, service: &str) -> String {
        if let Some(url) = &self.account.endpoint_url {
            return format!("{}/", url.trim_end_matches('/'));
        }
        let Account { region, dual_stack, .. } = &self.account;
        let domain = match (domain(region), dual_stack) {
            ("amazonaws.com", true) => "api.aws",
            ("amazonaws.com.cn", true) => "api.amazonwebservices.com.cn",
            (domain, _) => domain,
        };
        format!("https://{service}.{region}.{domain}/")
    }

    /// Asks once, or twice if `code`, which finds the service's code in an answer, says that this host's clock is wrong.
    pub(crate) async fn ask(
        &self,
        request: &Request<'_>,
        code: impl Fn(&Answer) -> Option<String>,
    ) -> Result<Answer, CallError> {
        self.account.role.effort().call();
        let answer = self.try_once(request).await?;
        let is_of_clock = answer.status >= 300 && code(&answer).is_some_and(|code| of_the_clock(&code));
        match (is_of_clock, date(&answer.headers)) {
            (true, Some(theirs)) => {
                self.skew.store(theirs - now(), Ordering::Relaxed);
                self.try_once(request).await
            }
            _ => Ok(answer),
        }
    }

    async fn try_once(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        self.account.role.effort().attempt();
        let failed = |why: String| CallError::Failed(format!("{}: {why}", request.url));
        let uri: Uri = request.url.parse().map_err(|_| failed("it is not a URL".into()))?;
        let signed = self.signed(&uri, request).await?;
        let answered = async {
            let response = if uri.scheme_str() == Some("http") {
                plainly(signed).await.map_err(|error| chain(&error))?
            } else {
                let proxies = Proxies::of(&self.proxies).map_err(|error| error.to_string())?;
                let connector = Connector::new(None, proxies).map_err(|error| error.to_string())?;
                connector.ask(&uri, signed).await.map_err(|error| chain(&error))?
            };
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, request.longest).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_vec() })
        };
        match timeout(LIMIT, answered).await {
            Err(_) => Err(failed(format!("no answer in {} s", LIMIT.as_secs()))),
            Ok(answer) => answer.map_err(failed),
        }
    }

    async fn signed(
        &self,
        uri: &Uri,
        request: &Request<'_>,
    ) -> Result<hyper::Request<Full<Bytes>>, CallError> {
        let failed = |error: &(dyn std::error::Error + 'static)| CallError::Failed(chain(error));
        let credentials = self.account.role.credentials().await.map_err(|error| failed(&error))?;
        let identity = credentials.into();
        let time = now().saturating_add(self.skew.load(Ordering::Relaxed));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time).unwrap_or_default());
        let mut settings = SigningSettings::default();
        if request.service == "s3" {
            // Its paths are what they are, and it wants the digest of what is sent (API reference of S3, signatures).
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.account.region)
            .name(request.service)
            .time(time)
            .settings(settings)
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let mut built = hyper::Request::builder().method(request.method).uri(uri.clone());
        for (name, value) in request.headers {
            built = built.header(*name, *value);
        }
        let mut built =
            built.body(Full::new(Bytes::copy_from_slice(request.body))).map_err(|error| failed(&error))?;
        let url = uri.to_string();
        let headers = request.headers.iter().copied();
        let signable = SignableRequest::new(request.method, &url, headers, SignableBody::Bytes(request.body));
        let signable = signable.map_err(|error| failed(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| failed(&error))?.into_parts();
        instructions.apply_to_request_http1x(&mut built);
        Ok(built)
    }
}

/// The domain of a region's services (`aws-partitions` of the SDKs).
pub(crate) fn domain(region: &str) -> &'static str {
    let domains = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
    ];
    domains
        .into_iter()
        .find(|(start, _)| region.starts_with(start))
        .map_or("amazonaws.com", |(_, domain)| domain)
}

/// Whether a refusal is about the time in a signature.
fn of_the_clock(code: &str) -> bool {
    ["RequestTimeTooSkewed", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException"]
        .contains(&code)
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let date = DateTime::from_str(headers.get(DATE)?.to_str().ok()?, Format::HttpDate).ok()?;
    Some(date.secs())
}

fn now() -> i64 {
    i64::try_from(seconds(SystemTime::now())).unwrap_or(i64::MAX)
}
