//! A call of a service, as it was made and as it was answered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use crate::http::{Answer, Request};

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its place among the calls of clients, from 1; 0 if an instance made it.
    pub number: usize,
    /// `ec2`, `ssm`, `sts` and so on.
    pub service: String,
    /// The action, such as `RunInstances`.
    pub action: String,
    /// The region.
    pub region: String,
    /// The parameters as they were sent. Those of services that take JSON are the fields of the outermost object.
    pub parameters: BTreeMap<String, String>,
    /// Whether it was only to be tried.
    pub dry_run: bool,
    /// The instance that made it; none if it was a client from outside.
    pub instance: Option<String>,
    /// What the attempts of one call have in common (`amz-sdk-invocation-id`); empty if the client does not tell.
    pub invocation: String,
    /// When it came, since the cloud was started.
    pub at: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is under way.
    Open,
    /// The connection was cut: there was no answer.
    Cut,
    /// It was answered.
    Answered {
        /// The status.
        status: u16,
        /// The code of the error, if it was one.
        code: Option<String>,
    },
}

impl Call {
    /// A call as a request makes it.
    pub(super) fn of(request: &Request, instance: Option<String>, at: Duration) -> Self {
        let scope = Scope::of(request);
        let target = request.headers.get("x-amz-target").and_then(|target| target.rsplit('.').next());
        let parameters = match target {
            Some(_) => of_json(&request.body),
            None => form_urlencoded::parse(&request.body).into_owned().collect(),
        };
        let action = target.or_else(|| parameters.get("Action").map(String::as_str)).unwrap_or_default();
        let dry_run = parameters.get("DryRun").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Self {
            number: 0,
            service: scope.service,
            action: action.to_owned(),
            region: scope.region,
            dry_run,
            parameters,
            instance,
            invocation: request.headers.get("amz-sdk-invocation-id").cloned().unwrap_or_default(),
            at,
            outcome: Outcome::Open,
        }
    }

    /// A parameter; empty if there is none.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// Whether a parameter is true.
    pub fn says(&self, name: &str) -> bool {
        self.parameter(name).eq_ignore_ascii_case("true")
    }

    /// The code of the error that it was answered with.
    pub fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered { code, .. } => code.as_deref(),
            Outcome::Open | Outcome::Cut => None,
        }
    }

    /// Whether it was answered, and not with an error.
    pub fn succeeded(&self) -> bool {
        matches!(&self.outcome, Outcome::Answered { status: 200..300, .. })
    }

    /// What tells it from others that ask for the same.
    pub(super) fn key(&self) -> String {
        format!("{} {} {} {:?}", self.service, self.region, self.action, self.parameters)
    }
}

impl Outcome {
    /// What an answer says.
    pub(super) fn of(answer: &Answer) -> Self {
        let code = match answer.status {
            200..300 => None,
            _ => code_of(&answer.body),
        };
        Self::Answered { status: answer.status, code }
    }
}

/// The service and the region that a request is signed for (`Credential=KEY/DATE/REGION/SERVICE/aws4_request`).
struct Scope {
    service: String,
    region: String,
}

impl Scope {
    fn of(request: &Request) -> Self {
        let signed = request.headers.get("authorization").and_then(|header| {
            let scope = header.split_once("Credential=")?.1.split(',').next()?;
            let mut parts = scope.split('/').skip(2);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        });
        // Those calls of STS that bring a token of somebody else are not signed.
        let (region, service) = signed.unwrap_or_else(|| ("us-east-1".into(), "sts".into()));
        Self { service, region }
    }
}

fn of_json(body: &[u8]) -> BTreeMap<String, String> {
    let fields = serde_json::from_slice::<serde_json::Map<String, Json>>(body).unwrap_or_default();
    let text = |value: Json| match value {
        Json::String(text) => text,
        other => other.to_string(),
    };
    fields.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// The code of an error: `<Code>` of those services that speak XML, `__type` of the others.
fn code_of(body: &str) -> Option<String> {
    if let Some((_, rest)) = body.split_once("<Code>") {
        return rest.split_once("</Code>").map(|(code, _)| code.to_owned());
    }
    let body: Json = serde_json::from_str(body).ok()?;
    Some(body["__type"].as_str()?.rsplit('#').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)], body: &str) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { method: "POST".into(), path: "/".into(), headers, body: body.into() }
    }

    #[test]
    fn a_form_is_a_call_of_the_region_that_it_is_signed_for() {
        let signature = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/eu-west-1/ec2/aws4_request, \
                         SignedHeaders=host, Signature=0";
        let request = request(
            &[("authorization", signature)],
            "Action=StopInstances&InstanceId.1=i-1&DryRun=true&Note=a%20b",
        );
        let call = Call::of(&request, None, Duration::ZERO);
        assert_eq!((call.service.as_str(), call.region.as_str()), ("ec2", "eu-west-1"));
        assert_eq!((call.action.as_str(), call.dry_run), ("StopInstances", true));
        assert_eq!((call.parameter("InstanceId.1"), call.parameter("Note")), ("i-1", "a b"));
    }

    #[test]
    fn json_is_a_call_of_its_target() {
        let signature =
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/ssm/aws4_request";
        let headers = [("authorization", signature), ("x-amz-target", "AmazonSSM.PutParameter")];
        let call = Call::of(&request(&headers, r#"{"Name":"/a","Tier":1}"#), None, Duration::ZERO);
        assert_eq!((call.service.as_str(), call.action.as_str()), ("ssm", "PutParameter"));
        assert_eq!((call.parameter("Name"), call.parameter("Tier")), ("/a", "1"));
    }

    #[test]
    fn errors_are_known_by_their_codes_in_either_format() {
        assert_eq!(code_of("<Response><Errors><Error><Code>A.B</Code>"), Some("A.B".into()));
        assert_eq!(
            code_of(r#"{"__type":"com.amazonaws#ThrottlingException"}"#),
            Some("ThrottlingException".into())
        );
    }
}
