//! Answers of the cloud itself: errors, in the words of the service that was called.

use std::collections::BTreeMap;

use serde_json::json;

use super::call::Call;
use super::fault::Effect;
use crate::http::Answer;

/// The account that everything is in: moto's.
pub(super) const ACCOUNT: &str = "123456789012";

/// What an encoded message begins with; behind it the action is told.
const ENCODED: &str = "EXAMPLE-encoded-";

/// The answer that a fault gives, if it gives one.
pub(super) fn of_fault(effect: &Effect, call: &Call) -> Option<Answer> {
    let answer = match effect {
        Effect::Throttle if speaks_json(call) => error(call, 400, "ThrottlingException", "Rate exceeded"),
        Effect::Throttle if call.service == "sts" => error(call, 400, "Throttling", "Rate exceeded"),
        Effect::Throttle => error(call, 503, "RequestLimitExceeded", "Request limit exceeded."),
        Effect::NotFound => not_found(call),
        Effect::Expired => expired(call),
        Effect::InsufficientCapacity => error(
            call,
            500,
            "InsufficientInstanceCapacity",
            &format!(
                "We currently do not have sufficient {} capacity in the Availability Zone you requested. Our system \
                 will be working on provisioning additional capacity.",
                call.parameter("InstanceType")
            ),
        ),
        Effect::Unauthorized => unauthorized(call),
        Effect::Error { status, code, message } => error(call, *status, code, message),
        _ => return None,
    };
    Some(answer)
}

/// The cloud itself is broken, or moto is.
pub(super) fn internal(call: &Call, why: &str) -> Answer {
    error(call, 500, "InternalError", why)
}

/// Credentials that are good no more, or a clock that is wrong: EC2 tells neither from the other.
pub(super) fn expired(call: &Call) -> Answer {
    let token = "The security token included in the request is expired";
    match call.service.as_str() {
        "ec2" => error(call, 400, "RequestExpired", "Request has expired."),
        "sts" => error(call, 403, "ExpiredToken", token),
        _ => error(call, 400, "ExpiredTokenException", token),
    }
}

fn unauthorized(call: &Call) -> Answer {
    let (service, action) = (&call.service, &call.action);
    let who =
        format!("User: arn:aws:iam::{ACCOUNT}:user/ci is not authorized to perform: {service}:{action}");
    let why = format!("because no identity-based policy allows the {service}:{action} action");
    if service == "ec2" {
        let resource = format!("on resource: arn:aws:ec2:{}:{ACCOUNT}:*", call.region);
        let message = format!(
            "You are not authorized to perform this operation. {who} {resource} {why}. Encoded authorization failure \
             message: {ENCODED}{action}"
        );
        return error(call, 403, "UnauthorizedOperation", &message);
    }
    let (status, code) =
        if speaks_json(call) { (400, "AccessDeniedException") } else { (403, "AccessDenied") };
    error(call, status, code, &format!("{who} {why}"))
}

/// What `DecodeAuthorizationMessage` says of a message that was encoded here.
pub(super) fn decoded(call: &Call) -> Option<Answer> {
    let action = call.parameter("EncodedMessage").strip_prefix(ENCODED)?;
    let message = json!({
        "allowed": false, "explicitDeny": false, "matchedStatements": { "items": [] },
        "context": {
            "principal": { "id": "AIDACKCEVSQ6C2EXAMPLE", "arn": format!("arn:aws:iam::{ACCOUNT}:user/ci") },
            "action": format!("ec2:{action}"),
            "resource": format!("arn:aws:ec2:{}:{ACCOUNT}:*", call.region),
        },
    });
    Some(xml(
        200,
        format!(
            "<DecodeAuthorizationMessageResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <DecodeAuthorizationMessageResult><DecodedMessage>{}</DecodedMessage>\
             </DecodeAuthorizationMessageResult></DecodeAuthorizationMessageResponse>",
            escaped(&message.to_string())
        ),
    ))
}

/// The kinds of ids: the parameter that names one, the error that says that it is not there, and what it is called.
const IDS: [(&str, &str, &str); 7] = [
    ("InstanceId", "InvalidInstanceID.NotFound", "The instance ID"),
    ("ImageId", "InvalidAMIID.NotFound", "The image id"),
    ("SnapshotId", "InvalidSnapshot.NotFound", "The snapshot"),
    ("VolumeId", "InvalidVolume.NotFound", "The volume"),
    ("GroupId", "InvalidGroup.NotFound", "The security group"),
    ("KeyName", "InvalidKeyPair.NotFound", "The key pair"),
    ("SubnetId", "InvalidSubnetID.NotFound", "The subnet ID"),
];

fn not_found(call: &Call) -> Answer {
    // Who asks by filters is told that there is nothing.
    if call.action.starts_with("Describe") && !call.parameter("Filter.1.Name").is_empty() {
        let empty = format!("<{0}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"/>", call.action);
        return xml(200, empty);
    }
    if speaks_json(call) {
        return error(call, 400, "ParameterNotFound", "");
    }
    let named = IDS.iter().find_map(|(parameter, code, what)| {
        let given = [parameter, &&*format!("{parameter}.1")].map(|name| call.parameter(name));
        let id = given.into_iter().find(|id| !id.is_empty())?;
        let quoted = if *parameter == "ImageId" { format!("'[{id}]'") } else { format!("'{id}'") };
        Some(error(call, 400, code, &format!("{what} {quoted} does not exist")))
    });
    named.unwrap_or_else(|| error(call, 400, "InvalidID", "what the call names does not exist"))
}

/// An error, in the format of the service.
fn error(call: &Call, status: u16, code: &str, message: &str) -> Answer {
    if speaks_json(call) {
        let body = json!({ "__type": code, "message": message }).to_string();
        let mut headers = BTreeMap::from([("content-type".into(), "application/x-amz-json-1.1".into())]);
        headers.insert("x-amzn-errortype".into(), code.to_owned());
        return Answer { status, headers, body };
    }
    let (code, message) = (escaped(code), escaped(message));
    let id = "7a62c49f-347e-4fc4-9331-6e8eEXAMPLE";
    xml(
        status,
        if call.service == "ec2" {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
                 <Message>{message}</Message></Error></Errors><RequestID>{id}</RequestID></Response>"
            )
        } else {
            format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>{message}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            )
        },
    )
}

fn xml(status: u16, body: String) -> Answer {
    Answer { status, headers: [("content-type".into(), "text/xml;charset=UTF-8".into())].into(), body }
}

fn speaks_json(call: &Call) -> bool {
    !["ec2", "sts", "iam"].contains(&call.service.as_str())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
