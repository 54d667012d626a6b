//! The permissions that a bake needs, and no more.

use serde_json::{Value as Json, json};

use super::session_manager::DOCUMENT;
use crate::image::{Address, AmiSource, BakePlan};

/// Calls that look, and can be narrowed to nothing (Service Authorization Reference, "Amazon EC2": no resource types).
const LOOK: &[&str] = &[
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeRegions",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "iam:SimulatePrincipalPolicy",
    "servicequotas:GetServiceQuota",
    "sts:DecodeAuthorizationMessage",
    "sts:GetCallerIdentity",
];

/// Calls that change what a bake made, and nothing else.
const CHANGE: &[&str] = &[
    "ec2:DeleteSnapshot",
    "ec2:DeleteTags",
    "ec2:DeleteVolume",
    "ec2:DeregisterImage",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
];

/// What KMS is asked for by EBS in the name of whoever launches (EBS, "Permissions to use KMS keys for EBS").
const KEY: &[&str] = &[
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];

/// The least policy with which an image can be baked, published, and what it left be cleaned. `source` is that of the
/// first image of its chain.
pub fn policy(image: &BakePlan, source: &AmiSource) -> Json {
    let (builder, publish) = (&image.builder.ec2, &image.publish.ec2);
    let temporary_group = builder.security_groups.is_empty();
    let mut look = LOOK.to_vec();
    let asks_for_network = builder.ssh.address == Address::Private && !builder.ssh.session_manager;
    if temporary_group && builder.ssh.admit.is_empty() && asks_for_network {
        look.push("ec2:DescribeVpcs");
    }
    let mut make = vec!["ec2:CreateSnapshot", "ec2:RegisterImage", "ec2:RunInstances"];
    let mut change = CHANGE.to_vec();
    if temporary_group {
        make.push("ec2:CreateSecurityGroup");
        change.push("ec2:DeleteSecurityGroup");
        if !builder.ssh.session_manager {
            change.push("ec2:AuthorizeSecurityGroupIngress");
        }
    }
    if !publish.regions.is_empty() {
        make.push("ec2:CopyImage");
    }
    if !publish.share_with.is_empty() {
        change.push("ec2:ModifyImageAttribute");
    }
    look.sort_unstable();
    make.sort_unstable();
    change.sort_unstable();
    let calls: Vec<&str> = make.iter().filter_map(|action| action.strip_prefix("ec2:")).collect();
    let mut statements = vec![
        json!({ "Sid": "Look", "Effect": "Allow", "Action": look, "Resource": "*" }),
        json!({ "Sid": "Make", "Effect": "Allow", "Action": make, "Resource": "*" }),
        json!({
            "Sid": "TagWhatIsMade", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*",
            "Condition": { "StringEquals": { "ec2:CreateAction": calls } },
        }),
        json!({
            "Sid": "ChangeWhatBakerMade", "Effect": "Allow", "Action": change, "Resource": "*",
            "Condition": { "Null": { "aws:ResourceTag/baker:run": "false" } },
        }),
    ];
    let parameter = |name: &str| format!("arn:*:ssm:*:*:parameter/{}", name.trim_start_matches('/'));
    let read: Vec<String> =
        source.parameter.iter().chain(&publish.channel).map(|name| parameter(name)).collect();
    if !read.is_empty() {
        statements.push(json!({
            "Sid": "ReadParameters", "Effect": "Allow", "Action": "ssm:GetParameter", "Resource": read,
        }));
    }
    if let Some(channel) = &publish.channel {
        statements.push(json!({
            "Sid": "PointTheChannel", "Effect": "Allow", "Action": "ssm:PutParameter", "Resource": parameter(channel),
        }));
    }
    let test_profile = image.test.as_ref().and_then(|test| test.instance_profile.as_ref());
    if builder.instance_profile.is_some() || test_profile.is_some() {
        statements.push(json!({
            "Sid": "GiveTheInstanceItsRole", "Effect": "Allow", "Action": "iam:PassRole", "Resource": "*",
            "Condition": { "StringLike": { "iam:PassedToService": "ec2.amazonaws.com*" } },
        }));
    }
    if builder.ssh.session_manager {
        statements.push(json!({
            "Sid": "ReachTheBuilder", "Effect": "Allow", "Action": "ssm:StartSession",
            "Resource": ["arn:*:ec2:*:*:instance/*", format!("arn:*:ssm:*:*:document/{DOCUMENT}")],
        }));
    }
    if builder.spot {
        statements.push(json!({
            "Sid": "UseSpotForTheFirstTime", "Effect": "Allow", "Action": "iam:CreateServiceLinkedRole",
            "Resource": "arn:*:iam::*:role/aws-service-role/spot.amazonaws.com/*",
            "Condition": { "StringEquals": { "iam:AWSServiceName": "spot.amazonaws.com" } },
        }));
    }
    let volumes = builder.volumes.values().chain(builder.scratch_volumes.values()).chain([&builder.volume]);
    if volumes.into_iter().any(|volume| volume.kms_key.is_some()) || !publish.kms_keys.is_empty() {
        statements.push(json!({
            "Sid": "UseKeys", "Effect": "Allow", "Action": KEY, "Resource": "*",
            "Condition": { "StringLike": { "kms:ViaService": "ec2.*" } },
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}
