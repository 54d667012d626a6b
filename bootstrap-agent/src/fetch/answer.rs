//! One try at a download: a request, the redirects that it leads through, and as much of the body as comes.

use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE,
    LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode, Uri};
use recipes::system::fetch::{FetchError, Fetched, Part};
use recipes::url::HttpsUrl;
use tokio::time::timeout;

use super::connect::{Connector, distrust};
use super::redirect;
use crate::boot::error::chain;

/// How long a server may take until it begins to answer, the connection included.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// How long it may say nothing in between.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

/// More redirects than this are a circle.
const REDIRECTS: usize = 10;

const AGENT: &str = concat!("bootstrap-agent/", env!("CARGO_PKG_VERSION"));

/// A download, over however many tries.
pub(super) struct Download<'a> {
    connector: &'a Connector,
    url: &'a HttpsUrl,
    part: &'a mut dyn Part,
    /// What tells the version of the file that the part is of (RFC 9110, 13.1.5).
    validator: Option<HeaderValue>,
    how: Fetched,
}

/// Why a try did not bring all of it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another would not either.
    Final(FetchError),
    /// Another may, after a while.
    Passing {
        /// What happened.
        why: String,
        /// How long the server wants not to be asked.
        wait: Option<Duration>,
    },
}

impl Failure {
    fn last(why: impl Into<String>) -> Self {
        Self::Final(why.into().into())
    }

    fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), wait: None }
    }
}

impl<'a> Download<'a> {
    pub(super) fn new(connector: &'a Connector, url: &'a HttpsUrl, part: &'a mut dyn Part) -> Self {
        Self { connector, url, part, validator: None, how: Fetched::AtOnce }
    }

    pub(super) fn length(&self) -> u64 {
        self.part.length()
    }

    pub(super) fn how(&self) -> Fetched {
        self.how
    }

    /// Fetches what the part lacks, in one try.
    pub(super) async fn go_on(&mut self) -> Result<(), Failure> {
        let from = self.part.length();
        let answer = self.answer(from).await?;
        let status = answer.status();
        match status {
            StatusCode::OK => {
                // All of it, because that is what was asked for, because the server does not give parts, or
                // because the file is another one now.
                if from > 0 {
                    self.part.restart().map_err(|error| Failure::Final(error.into()))?;
                }
                self.how = Fetched::AtOnce;
            }
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                let start = answer.headers().get(CONTENT_RANGE).and_then(start_of_range);
                if start != Some(from) {
                    self.part.restart().map_err(|error| Failure::Final(error.into()))?;
                    return Err(Failure::passing("the answer is not the part that was asked for"));
                }
                self.how = Fetched::InParts;
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
                self.part.restart().map_err(|error| Failure::Final(error.into()))?;
                return Err(Failure::passing("the server has less than what is here already"));
            }
            _ => return Err(refusal(status, answer.headers())),
        }
        self.validator = validator(answer.headers());
        self.check_length(answer.headers())?;
        self.body(answer.into_body()).await
    }

    /// The answer at the end of all redirects.
    async fn answer(&self, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.ask(&url, from).await?;
            let leads_on = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = answer.headers().get(LOCATION).filter(|_| leads_on) else {
                return Ok(answer);
            };
            let location = String::from_utf8_lossy(location.as_bytes());
            url = redirect::target(&url, &location).map_err(Failure::last)?;
        }
        Err(Failure::last(format!("it redirects more than {REDIRECTS} times")))
    }

    async fn ask(&self, url: &HttpsUrl, from: u64) -> Result<Response<Incoming>, Failure> {
        let uri: Uri = url.as_str().parse().map_err(|error| Failure::last(format!("{url}: {error}")))?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        // The sum is of the file as it is, whatever it could be sent as.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if from > 0 {
            let range = format!("bytes={from}-").parse();
            headers.insert(RANGE, range.map_err(|error| Failure::last(format!("{error}")))?);
            if let Some(validator) = &self.validator {
                headers.insert(IF_RANGE, validator.clone());
            }
        }
        match timeout(ANSWER_LIMIT, self.connector.ask(&uri, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(match distrust(&error) {
                Some(why) => Failure::last(format!(
                    "the certificate of `{}` is not to be believed: {why}; if a private authority signed it, \
                     name its certificate as `ca_file`",
                    uri.host().unwrap_or_default()
                )),
                None => Failure::passing(chain(&error)),
            }),
            Err(_) => Err(Failure::passing(format!("there was no answer in {} s", ANSWER_LIMIT.as_secs()))),
        }
    }

    /// Does not begin with what would not fit.
    fn check_length(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let limit = self.part.limit();
        match length.map(|length| length.saturating_add(self.part.length())) {
            Some(length) if length > limit => Err(Failure::last(format!(
                "it has {length} bytes, more than {limit}; `max_bytes` can allow more"
            ))),
            _ => Ok(()),
        }
    }

    async fn body(&mut self, mut body: Incoming) -> Result<(), Failure> {
        loop {
            match timeout(SILENCE_LIMIT, body.frame()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.part.append(bytes).map_err(|error| Failure::Final(error.into()))?;
                    }
                }
                Ok(Some(Err(_))) => {
                    return Err(Failure::passing(format!(
                        "it was cut off after {} bytes",
                        self.part.length()
                    )));
                }
                Err(_) => {
                    let silence = SILENCE_LIMIT.as_secs();
                    return Err(Failure::passing(format!("nothing came for {silence} s")));
                }
            }
        }
    }
}

/// Too many requests, and what is wrong on the server's side, may pass; all else is what it wants to say.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let why = format!("the server answered {status}");
    if !(status.is_server_error() || matches!(status.as_u16(), 408 | 429)) {
        return Failure::last(why);
    }
    let wait = headers.get(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
    Failure::Passing { why, wait }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = SystemTime::try_from(DateTime::from_str(text, Format::HttpDate).ok()?).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The first byte of `bytes 5-9/10` (RFC 9110, 14.4).
fn start_of_range(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// A weak tag does not tell bytes apart.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = |value: &&HeaderValue| !value.as_bytes().starts_with(b"W/");
    let named = |name: HeaderName| headers.get(name);
    named(ETAG).filter(strong).or_else(|| named(LAST_MODIFIED)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |text: &'static str| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!((wait("soon"), wait("-1"), wait("")), (None, None, None));
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        for status in [408, 429, 500, 502, 503, 504] {
            let failure = refusal(StatusCode::from_u16(status).expect("valid"), &HeaderMap::new());
            assert!(matches!(failure, Failure::Passing { wait: None, .. }), "{status}");
        }
        for status in [206, 304, 401, 403, 404, 410, 416] {
            let failure = refusal(StatusCode::from_u16(status).expect("valid"), &HeaderMap::new());
            assert!(matches!(failure, Failure::Final(_)), "{status}");
        }
    }

    #[test]
    fn a_part_is_known_by_where_it_starts_and_what_it_is_of() {
        let start = |text: &'static str| start_of_range(&HeaderValue::from_static(text));
        assert_eq!((start("bytes 5-9/10"), start("bytes 5-9/*")), (Some(5), Some(5)));
        assert_eq!((start("bytes */10"), start("lines 5-9/10"), start("")), (None, None, None));
        let of = |headers: &[(HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            validator(&headers.collect()).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(of(&[(ETAG, "\"a\""), (LAST_MODIFIED, "b")]).as_deref(), Some("\"a\""));
        assert_eq!(of(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, "b")]).as_deref(), Some("b"));
        assert_eq!(of(&[(ETAG, "W/\"a\"")]), None);
    }
}
