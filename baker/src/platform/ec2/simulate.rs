//! What of a bake cannot be tried before its time, as far as IAM's simulation tells whether it is allowed.

use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, PolicyEvaluationDecisionType};
use futures_util::future::try_join_all;

use super::call::{CallError, call};
use super::preflight::Wanted;
use super::{Ec2, tags};
use crate::failure::Failure;

/// Actions on one kind of resource.
struct Group {
    resource: String,
    actions: Vec<&'static str>,
}

impl Ec2 {
    /// Whether the caller may do what has no dry run; what could not be found out is said.
    pub(super) async fn may_go_on(&self, wanted: &Wanted<'_>) -> Result<Option<String>, Failure> {
        let Some(principal) = principal(&self.caller) else { return Ok(None) };
        let client = aws_sdk_iam::Client::new(&self.sdk);
        let groups = self.groups(wanted);
        let tag = format!("aws:ResourceTag/{}", tags::RUN);
        let known = [(tag.as_str(), "run"), ("aws:RequestedRegion", &self.region)];
        let answers = groups.iter().map(async |group| {
            let context = known.iter().map(|(key, value)| {
                let entry = ContextEntry::builder().context_key_name(*key).context_key_values(*value);
                entry.context_key_type(ContextKeyTypeEnum::String).build()
            });
            let request = client
                .simulate_principal_policy()
                .policy_source_arn(&principal)
                .set_action_names(Some(group.actions.iter().map(|&name| name.to_owned()).collect()))
                .resource_arns(&group.resource)
                .set_context_entries(Some(context.collect()))
                .into_paginator()
                .items()
                .send();
            let about = format!("`{principal}`");
            call("iam:SimulatePrincipalPolicy", &about, request.collect::<Result<Vec<_>, _>>()).await
        });
        let results = match try_join_all(answers).await {
            Ok(results) => results,
            Err(CallError { message, .. }) => {
                return Ok(Some(format!(
                    "what has no dry run was not looked at, IAM does not simulate it: {}",
                    message.trim()
                )));
            }
        };
        // What depends on something that the simulation does not know may be allowed.
        let denied = results.iter().flatten().filter(|result| {
            *result.eval_decision() != PolicyEvaluationDecisionType::Allowed
                && result.missing_context_values().is_empty()
        });
        let mut denied: Vec<String> =
            denied.map(|result| format!("\"{}\"", result.eval_action_name())).collect();
        denied.sort();
        denied.dedup();
        if denied.is_empty() {
            return Ok(None);
        }
        let actions = denied.join(", ");
        Err(Failure::new(format!(
            "IAM's simulation says that `{principal}` may not do {}",
            actions.replace('"', "")
        ))
        .help(format!(
            "its policy needs {{ \"Effect\": \"Allow\", \"Action\": [{actions}], \"Resource\": \"*\" }}; \
                 `baker policy` prints a whole one"
        )))
    }

    fn groups(&self, wanted: &Wanted<'_>) -> Vec<Group> {
        let (builder, publish) = (&wanted.image.builder.ec2, &wanted.image.publish.ec2);
        let mut fields = self.caller.split(':').skip(1);
        let partition = fields.next().unwrap_or("aws");
        let account = fields.nth(2).unwrap_or_default();
        let region = &self.region;
        let of_ec2 = |account: &str, name: &str, actions: &[&'static str]| Group {
            resource: format!("arn:{partition}:ec2:{region}:{account}:{name}-00000000000000000"),
            actions: actions.into(),
        };
        let mut image = vec!["ec2:RegisterImage", "ec2:DeregisterImage", "ec2:DeleteTags"];
        if !publish.share_with.is_empty() {
            image.push("ec2:ModifyImageAttribute");
        }
        let mut instance = vec!["ec2:TerminateInstances"];
        if !builder.quiesce {
            instance.push("ec2:StopInstances");
        }
        let mut groups = vec![
            of_ec2(account, "instance/i", &instance),
            of_ec2(account, "volume/vol", &["ec2:CreateSnapshot", "ec2:DeleteVolume"]),
            of_ec2("", "snapshot/snap", &["ec2:CreateSnapshot", "ec2:DeleteSnapshot", "ec2:DeleteTags"]),
            of_ec2("", "image/ami", &image),
        ];
        if builder.security_groups.is_empty() {
            let mut group = vec!["ec2:DeleteSecurityGroup"];
            if !builder.ssh.session_manager {
                group.push("ec2:AuthorizeSecurityGroupIngress");
            }
            groups.push(of_ec2(account, "security-group/sg", &group));
        }
        if let Some(channel) = &publish.channel {
            let name = channel.trim_start_matches('/');
            groups.push(Group {
                resource: format!("arn:{partition}:ssm:{region}:{account}:parameter/{name}"),
                actions: vec!["ssm:PutParameter"],
            });
        }
        groups
    }
}

/// Whose policies hold for a caller: a role for a session of it. Of others, such as the root user, there is nothing to
/// simulate.
fn principal(caller: &str) -> Option<String> {
    let fields: Vec<&str> = caller.splitn(6, ':').collect();
    let [_, partition, _, _, account, name] = fields.as_slice() else { return None };
    match name.split('/').collect::<Vec<_>>().as_slice() {
        // The path of a role is not in the ARN of its sessions.
        ["assumed-role", role, _] => Some(format!("arn:{partition}:iam::{account}:role/{role}")),
        ["user", ..] => Some(format!("arn:{partition}:iam::{account}:{name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::principal;

    #[test]
    fn a_session_is_of_a_role_and_the_root_user_of_nobody() {
        let of = |caller: &str| principal(caller);
        assert_eq!(
            of("arn:aws:sts::111122223333:assumed-role/bake/ci-42").as_deref(),
            Some("arn:aws:iam::111122223333:role/bake")
        );
        assert_eq!(
            of("arn:aws-cn:iam::111122223333:user/team/anna").as_deref(),
            Some("arn:aws-cn:iam::111122223333:user/team/anna")
        );
        assert_eq!(of("arn:aws:iam::111122223333:root"), None);
        assert_eq!(of(""), None);
    }
}
