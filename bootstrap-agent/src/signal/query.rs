//! Calls of the AWS Query protocol: forms, answered in XML.

use std::collections::BTreeMap;

pub use crate::aws_call::CallError;
use crate::aws_call::{Answer, Caller, Request};
use crate::source::aws::Account;

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
pub struct Query(Caller);

impl Query {
    /// Calls in the name of an account. `proxies` are `https_proxy` and `no_proxy`.
    pub fn new(account: Account, proxies: BTreeMap<String, String>) -> Self {
        Self(Caller::new(account, proxies))
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
        let request = Request {
            service: service.name,
            method: "POST",
            url: self.0.url(service.name),
            headers: &[("content-type", FORM)],
            body: body.as_bytes(),
            longest: LONGEST_ANSWER,
        };
        let answer = self.0.ask(&request, |answer: &Answer| element(&answer.text(), "Code")).await?;
        let text = answer.text();
        answer.refusal(element(&text, "Code"), element(&text, "Message"))?;
        Ok(text)
    }

    /// What makes calls of other protocols.
    pub(crate) fn caller(&self) -> &Caller {
        &self.0
    }
}

fn body(service: Service, action: &str, parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", action)
        .append_pair("Version", service.version)
        .extend_pairs(parameters)
        .finish()
}

/// The text of the first element of a name that has no elements in it, which is all that is looked for here.
pub fn element(xml: &str, name: &str) -> Option<String> {
    let text = elements(xml, name).next()?;
    let marks =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(marks.iter().fold(text.trim().to_owned(), |text, (mark, sign)| text.replace(mark, sign)))
}

/// What is in each of the elements of a name, which has none of that name in it.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inside, behind) = after.split_once(&close)?;
        rest = behind;
        Some(inside)
    })
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
            Query::new(account, BTreeMap::new()).0.url(AUTO_SCALING.name)
        };
        let url = |region: &str| url_of(region, false);
        assert_eq!(url_of("us-east-1", true), "https://autoscaling.us-east-1.api.aws/");
        assert_eq!(url("us-gov-west-1"), "https://autoscaling.us-gov-west-1.amazonaws.com/");
        assert_eq!(url("cn-north-1"), "https://autoscaling.cn-north-1.amazonaws.com.cn/");
        assert_eq!(url("eusc-de-east-1"), "https://autoscaling.eusc-de-east-1.amazonaws.eu/");
    }
}
