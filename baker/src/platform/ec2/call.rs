//! Calls of AWS, and what their errors mean to people.

use std::error::Error;
use std::future::Future;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::error::metadata::ErrorMetadata;

use crate::failure::Failure;

/// Why a call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallError {
    /// The call, such as `ec2:RunInstances`.
    pub(super) action: &'static str,
    /// What it was about, and where.
    pub(super) about: String,
    /// The code that AWS gave; none if there was no answer.
    pub(super) code: Option<String>,
    /// What AWS, or whatever is on the way there, said.
    pub(super) message: String,
    /// AWS's number of the call.
    pub(super) request: Option<String>,
}

/// Makes a call. `about` is what it is about, for people.
pub(super) fn call<'a, T, E, R>(
    action: &'static str,
    about: &'a str,
    work: impl Future<Output = Result<T, SdkError<E, R>>> + 'a,
) -> impl Future<Output = Result<T, CallError>> + 'a
where
    T: 'a,
    R: 'a,
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    // The futures of the SDK are tens of kilobytes.
    let work = Box::pin(work);
    async move {
        work.await.map_err(|error| {
            let meta: Option<ErrorMetadata> = error.as_service_error().map(|error| error.meta().clone());
            let code = meta.as_ref().and_then(|meta| meta.code().map(str::to_owned));
            let message = meta.as_ref().and_then(|meta| meta.message().map(str::to_owned));
            let request = meta.as_ref().and_then(|meta| meta.extra("aws_request_id").map(str::to_owned));
            let message = message.unwrap_or_else(|| match &code {
                Some(_) => "AWS says no more".into(),
                None => causes(&error),
            });
            CallError { action, about: about.to_owned(), code, message, request }
        })
    }
}

/// An error with what led to it, each cause once.
fn causes<E: Error + 'static, R: std::fmt::Debug>(error: &SdkError<E, R>) -> String {
    let mut next: Option<&dyn Error> = match error {
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map(|error| error as &dyn Error),
        SdkError::ServiceError(error) => Some(error.err()),
        _ => None,
    };
    let mut texts: Vec<String> = Vec::new();
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    if texts.is_empty() {
        texts.push(match error {
            SdkError::TimeoutError(_) => "there was no answer in time".into(),
            SdkError::ResponseError(_) => "the connection ended before the answer".into(),
            other => format!("{other:?}").chars().take(300).collect(),
        });
    }
    texts.join(": ")
}

impl CallError {
    /// What was asked for by its id was not in the answer.
    pub(super) fn not_there(action: &'static str, about: String) -> Self {
        Self {
            action,
            about,
            code: Some("NotFound".into()),
            message: "it is not there".into(),
            request: None,
        }
    }

    /// Whether AWS gave this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether what it is about is not there: `InvalidAMIID.NotFound`, `InvalidGroup.NotFound` and so on.
    pub(super) fn is_not_found(&self) -> bool {
        let unavailable = ["InvalidAMIID.Unavailable", "ParameterNotFound"];
        self.code.as_deref().is_some_and(|code| code.ends_with("NotFound") || unavailable.contains(&code))
    }

    /// Whether it may have happened although there was no answer.
    pub(super) fn is_unknown(&self) -> bool {
        self.code
            .as_deref()
            .is_none_or(|code| ["InternalError", "InternalFailure", "Unavailable"].contains(&code))
    }

    /// Whether it will do later.
    pub(super) fn is_throttled(&self) -> bool {
        let codes = [
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "SnapshotCreationPerVolumeRateExceeded",
        ];
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether asking again may be answered otherwise.
    pub(super) fn may_pass(&self) -> bool {
        self.is_throttled() || self.is_unknown()
    }

    /// Whether another instance type or zone may do.
    pub(super) fn is_no_capacity(&self) -> bool {
        let codes = [
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientFreeAddressesInSubnet",
            "InstanceLimitExceeded",
            "VcpuLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "SpotMaxPriceTooLow",
            "Unsupported",
        ];
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// What to do about it.
    fn advice(&self) -> Option<String> {
        let code = self.code.as_deref()?;
        Some(match code {
            "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => format!(
                "the policy of whoever calls needs {{ \"Effect\": \"Allow\", \"Action\": \"{}\", \"Resource\": \"*\" }}; \
                 docs/ec2.md has a whole policy",
                self.action
            ),
            "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
                "the credentials have expired, or this machine's clock is wrong: log in again, \
                 or give the bake credentials that can be renewed (a profile with a role, SSO, web identity)"
                    .into()
            }
            "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
                "the credentials are not valid, or this machine's clock is wrong; `aws sts get-caller-identity` tells whose they are"
                    .into()
            }
            "OptInRequired" | "UnauthorizedOperation.Region" => {
                "the region or the AMI has to be subscribed to first".into()
            }
            _ if self.is_no_capacity() => {
                "list more `instance_types`, or subnets in more zones, under `builder: ec2:`".into()
            }
            _ if self.is_throttled() => "the account makes too many calls at once: try later".into(),
            _ => return None,
        })
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let advice = error.advice();
        let code = error.code.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
        let request =
            error.request.as_ref().map_or_else(String::new, |request| format!(", request {request}"));
        let message = error.message.trim().trim_end_matches('.');
        let failure =
            Failure::new(format!("{} failed for {}: {message}{code}{request}", error.action, error.about));
        match advice {
            Some(advice) => failure.help(advice),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Option<&str>) -> CallError {
        CallError {
            action: "ec2:RunInstances",
            about: "the builder in us-east-1".into(),
            code: code.map(str::to_owned),
            message: "No.".into(),
            request: Some("r-1".into()),
        }
    }

    #[test]
    fn an_error_names_call_resource_code_and_what_to_do() {
        let failure = Failure::from(error(Some("UnauthorizedOperation")));
        assert_eq!(
            failure.message,
            "ec2:RunInstances failed for the builder in us-east-1: No (UnauthorizedOperation), request r-1"
        );
        assert!(failure.help.is_some_and(|help| help.contains("\"Action\": \"ec2:RunInstances\"")));
        let lost = error(None);
        assert!(lost.is_unknown() && !lost.is_not_found());
        assert!(error(Some("InvalidAMIID.NotFound")).is_not_found());
        assert!(error(Some("InsufficientInstanceCapacity")).is_no_capacity());
        assert!(error(Some("RequestLimitExceeded")).is_throttled());
    }
}
