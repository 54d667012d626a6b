//! What each recipient is told, in its own words, and which refusals mean that there is nothing to tell.

use serde_json::{Value as Json, json};

use super::declared::Report;
use super::message::{Message, Outcome, Recipient};
use super::query::{AUTO_SCALING, CLOUDFORMATION, CallError, EC2, Query, element};
use crate::aws_call::{Answer, Request};
use crate::s3::{self, Place};
use crate::source::instance::Metadata;

/// The longest value that a tag can have (EC2 user guide, tag restrictions).
const LONGEST_TAG: usize = 256;

/// The longest value of a parameter that costs nothing (SSM quotas, standard parameters).
const LONGEST_PARAMETER: usize = 4096;

/// No answer to a report is longer.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Where a recipient's message goes to.
pub(super) struct Way<'a> {
    pub(super) query: &'a Query,
    pub(super) metadata: &'a Metadata,
    pub(super) instance_id: &'a str,
}

impl Way<'_> {
    /// Tells a recipient, and returns what it made of it.
    pub(super) async fn tell(&self, message: &Message) -> Result<String, CallError> {
        let is_up = message.result == Outcome::Up;
        match &message.to {
            Recipient::AutoScaling { hook, group, .. } => {
                let result = if is_up { "CONTINUE" } else { "ABANDON" };
                let group = self.group(group.as_deref()).await?;
                let parameters = [
                    ("AutoScalingGroupName", group.as_str()),
                    ("LifecycleHookName", hook),
                    ("InstanceId", self.instance_id),
                    ("LifecycleActionResult", result),
                ];
                let told = self.query.call(AUTO_SCALING, "CompleteLifecycleAction", &parameters).await;
                or_nothing_to_tell(told, "No active Lifecycle Action", result)
            }
            Recipient::InstanceHealth => {
                let parameters = [("InstanceId", self.instance_id), ("HealthStatus", "Unhealthy")];
                let told = self.query.call(AUTO_SCALING, "SetInstanceHealth", &parameters).await;
                // An instance whose launch was abandoned, or that no group has, has no health.
                or_nothing_to_tell(told, "No managed instance found", "Unhealthy")
            }
            Recipient::Cloudformation { stack, resource } => {
                let result = if is_up { "SUCCESS" } else { "FAILURE" };
                let stack = self.named_or_tagged(stack.as_deref(), "aws:cloudformation:stack-name").await?;
                let resource =
                    self.named_or_tagged(resource.as_deref(), "aws:cloudformation:logical-id").await?;
                let parameters = [
                    ("StackName", stack.as_str()),
                    ("LogicalResourceId", resource.as_str()),
                    ("UniqueId", self.instance_id),
                    ("Status", result),
                ];
                let told = self.query.call(CLOUDFORMATION, "SignalResource", &parameters).await;
                or_nothing_to_tell(told, "cannot be signaled", result)
            }
            Recipient::Tag { key } => {
                let value = tag_value(&message.result);
                let parameters =
                    [("ResourceId.1", self.instance_id), ("Tag.1.Key", key), ("Tag.1.Value", value.as_str())];
                self.query.call(EC2, "CreateTags", &parameters).await.map(|_| value)
            }
            Recipient::Report { place } => self.leave(place, message.report.as_deref().unwrap_or("?")).await,
            // Who sends does that: it is the last thing there is to do.
            Recipient::PowerOff => Ok("poweroff".into()),
        }
    }

    /// Leaves a report, and returns where.
    async fn leave(&self, place: &Report, report: &str) -> Result<String, CallError> {
        let caller = self.query.caller();
        match place {
            Report::S3(place) => {
                let key = format!("{}/{}.txt", place.key, self.instance_id);
                let place = Place { bucket: place.bucket.clone(), key };
                s3::put(caller, &place, report.as_bytes()).await.map(|()| place.to_string())
            }
            Report::Ssm(path) => {
                let name = format!("{path}/{}", self.instance_id);
                let value = end_of(report, LONGEST_PARAMETER);
                let body = json!({ "Name": name, "Type": "String", "Value": value, "Overwrite": true });
                let body = body.to_string();
                let headers = [
                    ("content-type", "application/x-amz-json-1.1"),
                    ("x-amz-target", "AmazonSSM.PutParameter"),
                ];
                let request = Request {
                    service: "ssm",
                    method: "POST",
                    url: caller.url("ssm"),
                    headers: &headers,
                    body: body.as_bytes(),
                    longest: LONGEST_ANSWER,
                };
                let said = |answer: &Answer, name: &str| {
                    let answer: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
                    let text = answer[name].as_str()?;
                    Some(text.rsplit('#').next().unwrap_or(text).to_owned())
                };
                let answer = caller.ask(&request, |answer| said(answer, "__type")).await?;
                answer.refusal(said(&answer, "__type"), said(&answer, "message")).map(|()| name)
            }
        }
    }

    /// What the group did lately, as XML.
    pub(super) async fn activities(&self, group: Option<&str>) -> Result<String, CallError> {
        let group = self.group(group).await?;
        let parameters = [("AutoScalingGroupName", group.as_str()), ("MaxRecords", "30")];
        self.query.call(AUTO_SCALING, "DescribeScalingActivities", &parameters).await
    }

    /// Tells a hook that the host still works. That there is no action to keep alive is fine.
    pub(super) async fn heartbeat(&self, hook: &str, group: Option<&str>) -> Result<(), CallError> {
        let group = self.group(group).await?;
        let parameters = [
            ("AutoScalingGroupName", group.as_str()),
            ("LifecycleHookName", hook),
            ("InstanceId", self.instance_id),
        ];
        let told = self.query.call(AUTO_SCALING, "RecordLifecycleActionHeartbeat", &parameters).await;
        or_nothing_to_tell(told, "No active Lifecycle Action", "").map(drop)
    }

    /// The Auto Scaling group: the one that is named, that of the instance's tags, or what the service says.
    async fn group(&self, named: Option<&str>) -> Result<String, CallError> {
        if let Ok(group) = self.named_or_tagged(named, "aws:autoscaling:groupName").await {
            return Ok(group);
        }
        let parameters = [("InstanceIds.member.1", self.instance_id)];
        let answer = self.query.call(AUTO_SCALING, "DescribeAutoScalingInstances", &parameters).await?;
        element(&answer, "AutoScalingGroupName").ok_or_else(|| CallError::Refused {
            code: "NoGroup".into(),
            message: format!("no Auto Scaling group has {}", self.instance_id),
            may_pass: false,
            wait: None,
        })
    }

    async fn named_or_tagged(&self, named: Option<&str>, key: &str) -> Result<String, CallError> {
        if let Some(named) = named {
            return Ok(named.to_owned());
        }
        let tag = self.metadata.tag(key).await;
        let tag = tag.map_err(|error| CallError::Failed(crate::boot::error::chain(&error)))?;
        tag.ok_or_else(|| CallError::Refused {
            code: "NoTag".into(),
            message: format!(
                "the instance metadata service tells no tag `{key}`; name it in the user-data, or set \
                 `InstanceMetadataTags` to `enabled`"
            ),
            may_pass: false,
            wait: None,
        })
    }
}

/// The end of a text, which says what went wrong, in so many bytes.
fn end_of(text: &str, bytes: usize) -> &str {
    let from = (text.len().saturating_sub(bytes)..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or_default()..]
}

/// A refusal that says there is nobody who waits for the message is as good as an answer.
fn or_nothing_to_tell(
    told: Result<String, CallError>,
    nobody_waits: &str,
    word: &str,
) -> Result<String, CallError> {
    match told {
        Ok(_) => Ok(word.into()),
        Err(CallError::Refused { code, message, .. })
            if code == "ValidationError" && message.contains(nobody_waits) =>
        {
            Ok(format!("nobody waits for it: {message}"))
        }
        Err(error) => Err(error),
    }
}

fn tag_value(result: &Outcome) -> String {
    match result {
        Outcome::Up => "up".into(),
        // A run that was cut off was not at a step but after one.
        Outcome::Failed { step } if step.starts_with("after ") => format!("failed {step}"),
        Outcome::Failed { step } => format!("failed at {step}").chars().take(LONGEST_TAG).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_report_the_end_is_left() {
        assert_eq!(end_of("abc", 10), "abc");
        assert_eq!(end_of("abc", 2), "bc");
        assert_eq!(end_of("aéb", 2), "b");
    }

    #[test]
    fn a_tag_says_the_step() {
        assert_eq!(tag_value(&Outcome::Up), "up");
        assert_eq!(tag_value(&Outcome::Failed { step: "fetch".into() }), "failed at fetch");
        assert_eq!(tag_value(&Outcome::Failed { step: "after fetch".into() }), "failed after fetch");
    }
}
