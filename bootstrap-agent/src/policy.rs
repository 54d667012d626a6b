//! The least that the role of a host has to be allowed, as an IAM policy.

use serde_json::{Value as Json, json};

use crate::config::Config;
use crate::config::object::Object;
use crate::signal::declared::{AutoScaling, CloudFormation, Report, Tag};
use crate::source::plan::{FetchPlan, has_selector};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Place {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// The region; `*` for any.
    pub region: String,
    /// The account; `*` for any.
    pub account: String,
    /// The customer-managed keys that values are encrypted with. The keys that AWS manages need no permission.
    pub keys: Vec<String>,
}

/// The policy for a configuration.
pub fn policy(config: &Config, place: &Place) -> Json {
    let plan = FetchPlan::of(config);
    let mut statements = Vec::new();
    let mut allow = |sid: &str, actions: &[&str], resources: Vec<String>, condition: Option<Json>| {
        let mut statement =
            json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources });
        if let (Some(condition), Some(entries)) = (condition, statement.as_object_mut()) {
            entries.insert("Condition".into(), condition);
        }
        statements.push(statement);
    };
    let arn = |service: &str, rest: &str| {
        let Place { partition, region, account, .. } = place;
        format!("arn:{partition}:{service}:{region}:{account}:{rest}")
    };
    if !plan.paths.is_empty() {
        let below = |path: &String| {
            let path = path.trim_matches('/');
            [arn("ssm", &format!("parameter/{path}")), arn("ssm", &format!("parameter/{path}/*"))]
        };
        allow("Parameters", &["ssm:GetParametersByPath"], plan.paths.iter().flat_map(below).collect(), None);
    }
    if !plan.names.is_empty() {
        let named = |name: &String| {
            let bare = if has_selector(name) {
                name.rsplit_once(':').map_or(name.as_str(), |(bare, _)| bare)
            } else {
                name
            };
            if bare.starts_with("arn:") {
                return bare.to_owned();
            }
            arn("ssm", &format!("parameter/{}", bare.trim_start_matches('/')))
        };
        let mut names: Vec<String> = plan.names.iter().flatten().map(named).collect();
        names.dedup();
        allow("NamedParameters", &["ssm:GetParameters"], names, None);
    }
    if !plan.secrets.is_empty() {
        // The service adds a hyphen and six characters to the name of a secret in its ARN.
        let secret = |id: &str| {
            if id.starts_with("arn:") {
                id.to_owned()
            } else {
                arn("secretsmanager", &format!("secret:{id}-??????"))
            }
        };
        let mut secrets: Vec<String> = plan.secrets.iter().map(|secret_id| secret(&secret_id.id)).collect();
        secrets.dedup();
        let mut actions = vec!["secretsmanager:GetSecretValue"];
        if config.watch.is_some() {
            actions.push("secretsmanager:DescribeSecret");
        }
        allow("Secrets", &actions, secrets, None);
    }
    if !place.keys.is_empty() {
        let via =
            |service: &str| format!("{service}.{}.{}", place.region, crate::aws_call::domain(&place.region));
        let services = [
            (!plan.paths.is_empty() || !plan.names.is_empty()).then(|| via("ssm")),
            (!plan.secrets.is_empty()).then(|| via("secretsmanager")),
        ];
        let services: Vec<String> = services.into_iter().flatten().collect();
        let condition = json!({ "StringLike": { "kms:ViaService": services } });
        allow("Keys", &["kms:Decrypt"], place.keys.clone(), Some(condition));
    }
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".into());
    let group = config.signal.auto_scaling.as_ref().map(|hook| any(&hook.group));
    let groups =
        |group: &str| vec![arn("autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{group}"))];
    if let Some(AutoScaling { group, brake, .. }) = &config.signal.auto_scaling {
        let actions = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"];
        allow("Lifecycle", &actions, groups(&any(group)), None);
        if brake.is_some() {
            allow("Brake", &["autoscaling:DescribeScalingActivities"], vec!["*".into()], None);
        }
        if group.is_none() {
            allow("FindGroup", &["autoscaling:DescribeAutoScalingInstances"], vec!["*".into()], None);
        }
    }
    if config.signal.instance_health {
        allow("Health", &["autoscaling:SetInstanceHealth"], groups(group.as_deref().unwrap_or("*")), None);
    }
    if let Some(CloudFormation { stack, .. }) = &config.signal.cloudformation {
        let stack = arn("cloudformation", &format!("stack/{}/*", any(stack)));
        allow("Stack", &["cloudformation:SignalResource"], vec![stack], None);
    }
    if let Some(Tag { key }) = &config.signal.tag {
        let condition = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": [key] } });
        allow("Tag", &["ec2:CreateTags"], vec![arn("ec2", "instance/*")], Some(condition));
    }
    let objects = |key: &str| format!("arn:{}:s3:::{key}", place.partition);
    match &config.signal.report {
        Some(Report::Ssm(path)) => {
            let parameters = arn("ssm", &format!("parameter{path}/*"));
            allow("Report", &["ssm:PutParameter"], vec![parameters], None);
        }
        Some(Report::S3(place)) => {
            let reports = objects(&format!("{}/{}/*", place.bucket, place.key));
            allow("Report", &["s3:PutObject"], vec![reports], None);
        }
        None => {}
    }
    if let Some(Object { s3, .. }) = &config.config {
        let object = objects(&format!("{}/{}", s3.bucket, s3.key));
        allow("Config", &["s3:GetObject"], vec![object], None);
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, keys: &[&str]) -> String {
        let text = format!("environment: prod\nrole: web\n{text}");
        let config = Config::parse("user-data", text.as_bytes()).expect("valid");
        let place = Place {
            partition: "aws".into(),
            region: "us-east-1".into(),
            account: "111122223333".into(),
            keys: keys.iter().map(ToString::to_string).collect(),
        };
        let policy = policy(&config, &place);
        let statements = policy["Statement"].as_array().expect("a list");
        statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn only_what_is_asked_for_is_allowed() {
        let text = "
parameters: [ \"/acme/{{ environment }}/\", { name: \"/acme/limits:3\" }, { name: \"arn:aws:ssm:us-east-1:444455556666:parameter/x\", as: x } ]
secrets: { db: { secretsmanager: acme/db }, old: { secretsmanager: { id: acme/db, stage: AWSPREVIOUS } } }
";
        insta::assert_snapshot!(shown(text, &["arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"]), @r#"
        {"Sid":"Parameters","Effect":"Allow","Action":["ssm:GetParametersByPath"],"Resource":["arn:aws:ssm:us-east-1:111122223333:parameter/acme/prod","arn:aws:ssm:us-east-1:111122223333:parameter/acme/prod/*"]}
        {"Sid":"NamedParameters","Effect":"Allow","Action":["ssm:GetParameters"],"Resource":["arn:aws:ssm:us-east-1:111122223333:parameter/acme/limits","arn:aws:ssm:us-east-1:444455556666:parameter/x"]}
        {"Sid":"Secrets","Effect":"Allow","Action":["secretsmanager:GetSecretValue"],"Resource":["arn:aws:secretsmanager:us-east-1:111122223333:secret:acme/db-??????"]}
        {"Sid":"Keys","Effect":"Allow","Action":["kms:Decrypt"],"Resource":["arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"],"Condition":{"StringLike":{"kms:ViaService":["ssm.us-east-1.amazonaws.com","secretsmanager.us-east-1.amazonaws.com"]}}}
        "#);
    }

    #[test]
    fn who_is_told_is_in_it() {
        let text = "signal: { auto_scaling: { hook: launch }, instance_health: true, cloudformation: { stack: web, resource: Group }, tag: { key: bootstrap } }";
        insta::assert_snapshot!(shown(text, &[]), @r#"
        {"Sid":"Lifecycle","Effect":"Allow","Action":["autoscaling:CompleteLifecycleAction","autoscaling:RecordLifecycleActionHeartbeat"],"Resource":["arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:*:autoScalingGroupName/*"]}
        {"Sid":"FindGroup","Effect":"Allow","Action":["autoscaling:DescribeAutoScalingInstances"],"Resource":["*"]}
        {"Sid":"Health","Effect":"Allow","Action":["autoscaling:SetInstanceHealth"],"Resource":["arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:*:autoScalingGroupName/*"]}
        {"Sid":"Stack","Effect":"Allow","Action":["cloudformation:SignalResource"],"Resource":["arn:aws:cloudformation:us-east-1:111122223333:stack/web/*"]}
        {"Sid":"Tag","Effect":"Allow","Action":["ec2:CreateTags"],"Resource":["arn:aws:ec2:us-east-1:111122223333:instance/*"],"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["bootstrap"]}}}
        "#);
        assert_eq!(shown("", &[]), "", "nothing for a host that asks for nothing");
    }
}
