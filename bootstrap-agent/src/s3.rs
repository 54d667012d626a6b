//! Objects of S3: a large configuration is read from one, and the report of a host that failed is written to one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::aws_call::{Answer, CallError, Caller, Request, domain};
use crate::signal::query::element;
use crate::source::aws::Account;

/// No configuration is longer.
const LONGEST: usize = 8 * 1024 * 1024;

/// An object, or what the names of objects begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The key, without a slash before it.
    pub key: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an object of S3; write one such as `s3://BUCKET/KEY`");
        let (bucket, key) =
            text.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let is_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        // Others would have to be encoded, in the address and in the signature.
        let is_key = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let parts_are_names = key.split('/').all(|part| !["", ".", ".."].contains(&part));
        if bucket.is_empty() || !bucket.chars().all(is_bucket) || !key.chars().all(is_key) || !parts_are_names
        {
            return Err(wrong());
        }
        Ok(Self { bucket: bucket.into(), key: key.into() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{}/{}", self.bucket, self.key)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads an object.
///
/// # Errors
/// When there is none, or it may not be read.
pub(crate) async fn get(caller: &Caller, place: &Place) -> Result<Vec<u8>, CallError> {
    ask(caller, place, "GET", &[]).await.map(|answer| answer.body)
}

/// Writes an object.
///
/// # Errors
/// When it may not be written.
pub(crate) async fn put(caller: &Caller, place: &Place, bytes: &[u8]) -> Result<(), CallError> {
    ask(caller, place, "PUT", bytes).await.map(drop)
}

async fn ask(caller: &Caller, place: &Place, method: &'static str, body: &[u8]) -> Result<Answer, CallError> {
    let url = url(caller, place);
    let request = Request { service: "s3", method, url, headers: &[], body, longest: LONGEST };
    let answer = caller.ask(&request, |answer| element(&answer.text(), "Code")).await?;
    let text = if answer.status < 300 { String::new() } else { answer.text() };
    answer.refusal(element(&text, "Code"), element(&text, "Message"))?;
    Ok(answer)
}

/// At an endpoint of one's own, and where a dot in the bucket's name would be one of the certificate's, the bucket is
/// part of the path.
fn url(caller: &Caller, Place { bucket, key }: &Place) -> String {
    let Account { region, dual_stack, endpoint_url, .. } = &caller.account;
    if let Some(url) = endpoint_url {
        return format!("{}/{bucket}/{key}", url.trim_end_matches('/'));
    }
    let name = if *dual_stack { "s3.dualstack" } else { "s3" };
    let host = format!("{name}.{region}.{}", domain(region));
    if bucket.contains('.') {
        format!("https://{host}/{bucket}/{key}")
    } else {
        format!("https://{bucket}.{host}/{key}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::signal::post::tests::{Service, account};

    fn place() -> Place {
        "s3://acme-config/prod/web.yaml".parse().expect("an object")
    }

    #[test]
    fn an_object_has_a_bucket_and_a_key() {
        assert_eq!(place(), Place { bucket: "acme-config".into(), key: "prod/web.yaml".into() });
        assert_eq!(place().to_string(), "s3://acme-config/prod/web.yaml");
        for wrong in [
            "acme/key",
            "s3://acme",
            "s3://acme/",
            "s3://Acme/key",
            "s3://acme/a//b",
            "s3://acme/../b",
            "s3://acme/a?b",
            "s3:///key",
        ] {
            let error = wrong.parse::<Place>().expect_err(wrong);
            assert_eq!(
                error,
                format!("`{wrong}` is not an object of S3; write one such as `s3://BUCKET/KEY`")
            );
        }
    }

    #[test]
    fn a_bucket_has_its_address() {
        let url_of = |endpoint_url: Option<&str>, dual_stack, text: &str| {
            let account =
                Account { endpoint_url: endpoint_url.map(str::to_owned), dual_stack, ..account("") };
            url(&Caller::new(account, BTreeMap::new()), &text.parse().expect("an object"))
        };
        assert_eq!(url_of(None, false, "s3://acme/a/b"), "https://acme.s3.us-east-1.amazonaws.com/a/b");
        assert_eq!(url_of(None, false, "s3://a.b/c"), "https://s3.us-east-1.amazonaws.com/a.b/c");
        assert_eq!(url_of(None, true, "s3://acme/a"), "https://acme.s3.dualstack.us-east-1.amazonaws.com/a");
        assert_eq!(url_of(Some("http://10.0.0.1:5000"), false, "s3://acme/a"), "http://10.0.0.1:5000/acme/a");
    }

    #[tokio::test]
    async fn an_object_is_written_signed_and_a_refusal_is_told() {
        let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        let service = Service::new(vec![(200, String::new()), (403, denied.into())]).await;
        let caller = Caller::new(account(&service.url), BTreeMap::new());
        put(&caller, &place(), b"a report").await.expect("taken");
        let asked = service.asked();
        assert_eq!(asked[0].body, "a report");
        let authorization = &asked[0].headers["authorization"];
        assert!(authorization.contains("/us-east-1/s3/aws4_request,"), "{authorization}");
        assert!(
            authorization.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;"),
            "{authorization}"
        );
        let error = put(&caller, &place(), b"").await.expect_err("denied");
        assert_eq!((error.to_string().as_str(), error.may_pass()), ("AccessDenied: Access Denied", false));
    }
}
