//! Calls of the AWS Query protocol, signed and over the HTTP client that the agent has anyway.
//!
//! A boot makes one or two of them. The SDK's crate for each of the three services would cost more of the
//! program than everything that is told through them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Request, Uri};
use tokio::time::timeout;

use crate::boot::error::chain;
use crate::fetch::connect::{Connector, Proxies, plainly};
use crate::source::aws::Account;

/// How long a call may take, its connection included.
const LIMIT: Duration = Duration::from_secs(10);

/// No answer to these calls is longer.
const LONGEST_ANSWER: usize = 256 * 1024;

const FORM: &str = "application/x-www-form-urlencoded";

/// A service that speaks the protocol.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// The name in its address, and in signatures.
    name: &'static str,
    /// The version of its interface.
    version: &'static str,
}

/// EC2 Auto Scaling.
pub const AUTO_SCALING: Service = Service { name: "autoscaling", version: "2011-01-01" };
/// `CloudFormation`.
pub const CLOUDFORMATION: Service = Service { name: "cloudformation", version: "2010-05-15" };
/// EC2.
pub const EC2: Service = Service { name: "ec2", version: "2016-11-15" };

/// Makes calls.
#[derive(Debug)]
pub struct Query {
    account: Account,
    proxies: BTreeMap<String, String>,
    /// How many seconds the service is ahead of this host's clock.
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

impl Query {
    /// Calls in the name of an account. `proxies` are `https_proxy` and `no_proxy`.
    pub fn new(account: Account, proxies: BTreeMap<String, String>) -> Self {
        Self { account, proxies, skew: AtomicI64::new(0) }
    }

    /// Makes a call, and returns the XML of its answer.
    ///
    /// # Errors
    /// When it is refused or fails. It is tried once, or twice if this host's clock is wrong.
    pub async fn call(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, CallError> {
        let body = body(service, action, parameters);
        let first = self.try_call(service, &body).await;
        let Ok(Answer { status, headers, body: text }) = &first else {
            return first.map(|answer| answer.body);
        };
        let refusal = refusal(*status, headers, text);
        let Err(CallError::Refused { code, .. }) = &refusal else { return refusal.map(|()| text.clone()) };
        match (of_the_clock(code), date(headers)) {
            (true, Some(theirs)) => {
                self.skew.store(theirs - seconds(SystemTime::now()), Ordering::Relaxed);
                let Answer { status, headers, body: text } = self.try_call(service, &body).await?;
                self::refusal(status, &headers, &text).map(|()| text)
            }
            _ => refusal.map(|()| text.clone()),
        }
    }

    async fn try_call(&self, service: Service, body: &str) -> Result<Answer, CallError> {
        let url = self.url(service);
        let failed = |why: String| CallError::Failed(format!("{url}: {why}"));
        let uri: Uri = url.parse().map_err(|_| failed("it is not a URL".into()))?;
        let request = self.signed(service, &uri, body).await?;
        let answered = async {
            let response = if uri.scheme_str() == Some("http") {
                plainly(request).await.map_err(|error| chain(&error))?
            } else {
                let proxies = Proxies::of(&self.proxies).map_err(|error| error.to_string())?;
                let connector = Connector::new(None, proxies).map_err(|error| error.to_string())?;
                connector.ask(&uri, request).await.map_err(|error| chain(&error))?
            };
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        match timeout(LIMIT, answered).await {
            Err(_) => Err(failed(format!("no answer in {} s", LIMIT.as_secs()))),
            Ok(answer) => answer.map_err(failed),
        }
    }

    fn url(&self, service: Service) -> String {
        if let Some(url) = &self.account.endpoint_url {
            return format!("{}/", url.trim_end_matches('/'));
        }
        let Account { region, dual_stack, .. } = &self.account;
        let domain = match (domain(region), dual_stack) {
            ("amazonaws.com", true) => "api.aws",
            ("amazonaws.com.cn", true) => "api.amazonwebservices.com.cn",
            (domain, _) => domain,
        };
        format!("https://{}.{region}.{domain}/", service.name)
    }

    async fn signed(
        &self,
        service: Service,
        uri: &Uri,
        body: &str,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let failed = |error: &(dyn std::error::Error + 'static)| CallError::Failed(chain(error));
        let credentials = self.account.role.credentials().await.map_err(|error| failed(&error))?;
        let identity = credentials.into();
        let skew = self.skew.load(Ordering::Relaxed);
        let now = SystemTime::UNIX_EPOCH
            + Duration::from_secs(
                u64::try_from(seconds(SystemTime::now()).saturating_add(skew)).unwrap_or_default(),
            );
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.account.region)
            .name(service.name)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let mut request = Request::post(uri.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(FORM))
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|error| failed(&error))?;
        let url = uri.to_string();
        let headers = [("content-type", FORM)].into_iter();
        let signable = SignableRequest::new("POST", &url, headers, SignableBody::Bytes(body.as_bytes()));
        let signable = signable.map_err(|error| failed(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| failed(&error))?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn body(service: Service, action: &str, parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", action)
        .append_pair("Version", service.version)
        .extend_pairs(parameters)
        .finish()
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

/// Whether a call was refused, and whether it may be taken later. Throttling has the status 400 as well.
fn refusal(status: u16, headers: &HeaderMap, text: &str) -> Result<(), CallError> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let code = element(text, "Code").unwrap_or_else(|| format!("status {status}"));
    let passes =
        ["Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout", "Unavailable"];
    let contended = ["ResourceContention", "ScalingActivityInProgress"];
    let may_pass = status >= 500
        || status == 429
        || passes.contains(&code.as_str())
        || contended.contains(&code.trim_end_matches("Fault"));
    let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let message = element(text, "Message").unwrap_or_default();
    Err(CallError::Refused { code, message, may_pass, wait: wait.map(Duration::from_secs) })
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

fn seconds(time: SystemTime) -> i64 {
    i64::try_from(super::message::seconds(time)).unwrap_or(i64::MAX)
}

/// The text of the first element of a name that has no elements in it, which is all that is looked for here.
pub fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let marks =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(marks.iter().fold(text.trim().to_owned(), |text, (mark, sign)| text.replace(mark, sign)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::post::tests::{Service as Stand, account};

    const TAKEN: &str =
        "<CompleteLifecycleActionResponse><CompleteLifecycleActionResult/></CompleteLifecycleActionResponse>";

    async fn call(stand: &Stand) -> Result<String, CallError> {
        let query = Query::new(account(&stand.url), BTreeMap::new());
        query.call(AUTO_SCALING, "CompleteLifecycleAction", &[("Hook", "a b&c")]).await
    }

    #[tokio::test]
    async fn a_call_is_a_signed_form() {
        let stand = Stand::new(vec![(200, TAKEN.into())]).await;
        assert_eq!(call(&stand).await.expect("taken"), TAKEN);
        let asked = stand.asked();
        assert_eq!(asked[0].body, "Action=CompleteLifecycleAction&Version=2011-01-01&Hook=a+b%26c");
        let header = |name: &str| asked[0].headers.get(name).cloned().unwrap_or_default();
        let authorization = header("authorization");
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/"),
            "{authorization}"
        );
        assert!(authorization.contains("/us-east-1/autoscaling/aws4_request,"), "{authorization}");
        assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"));
        assert_eq!(header("x-amz-security-token"), "example-session-token");
        assert_eq!(header("content-type"), FORM);
    }

    #[tokio::test]
    async fn refusals_are_told_apart_by_their_code_not_their_status() {
        let refused = |code: &str| {
            format!(
                "<ErrorResponse><Error><Code>{code}</Code><Message>it says &quot;no&quot;</Message></Error></ErrorResponse>"
            )
        };
        for (status, code, may_pass) in [
            (400, "Throttling", true),
            (400, "RequestLimitExceeded", true),
            (400, "ResourceContentionFault", true),
            (500, "InternalFailure", true),
            (400, "ValidationError", false),
            (403, "AccessDenied", false),
        ] {
            let stand = Stand::new(vec![(status, refused(code))]).await;
            let error = call(&stand).await.expect_err(code);
            assert_eq!(error.to_string(), format!("{code}: it says \"no\""));
            assert_eq!(error.may_pass(), may_pass, "{code}");
        }
        let stand = Stand::new(vec![(502, "<html>".into())]).await;
        let error = call(&stand).await.expect_err("a proxy in between");
        assert!(error.may_pass());
        assert_eq!(error.to_string(), "status 502: ");
    }

    #[tokio::test]
    async fn a_clock_that_is_years_off_is_found_and_allowed_for() {
        let skewed = "<ErrorResponse><Error><Code>RequestTimeTooSkewed</Code></Error></ErrorResponse>";
        let mut stand =
            Stand::new(vec![(403, skewed.into()), (200, TAKEN.into()), (200, TAKEN.into())]).await;
        stand.date("Fri, 26 Nov 2038 10:00:00 GMT");
        let query = Query::new(account(&stand.url), BTreeMap::new());
        query.call(AUTO_SCALING, "A", &[]).await.expect("taken");
        query.call(AUTO_SCALING, "A", &[]).await.expect("taken");
        let dates: Vec<_> =
            stand.asked().iter().map(|asked| asked.headers["x-amz-date"][..4].to_owned()).collect();
        assert_eq!(dates[1..], ["2038", "2038"], "and it is remembered");
        assert_ne!(dates[0], "2038");
    }

    #[tokio::test]
    async fn nobody_there_is_no_refusal() {
        let stand = Stand::new(vec![]).await;
        let nobody = Some("http://127.0.0.1:1".to_owned());
        let query = Query::new(Account { endpoint_url: nobody, ..account(&stand.url) }, BTreeMap::new());
        let error = query.call(EC2, "CreateTags", &[]).await.expect_err("nobody");
        assert!(error.may_pass() && error.to_string().starts_with("http://127.0.0.1:1/: "), "{error}");
    }

    #[test]
    fn each_partition_has_its_domain() {
        let url_of = |region: &str, dual_stack| {
            let account = Account { region: region.into(), endpoint_url: None, dual_stack, ..account("") };
            Query::new(account, BTreeMap::new()).url(AUTO_SCALING)
        };
        let url = |region: &str| url_of(region, false);
        assert_eq!(url_of("us-east-1", true), "https://autoscaling.us-east-1.api.aws/");
        assert_eq!(url("us-gov-west-1"), "https://autoscaling.us-gov-west-1.amazonaws.com/");
        assert_eq!(url("cn-north-1"), "https://autoscaling.cn-north-1.amazonaws.com.cn/");
        assert_eq!(url("eusc-de-east-1"), "https://autoscaling.eusc-de-east-1.amazonaws.eu/");
    }
}
