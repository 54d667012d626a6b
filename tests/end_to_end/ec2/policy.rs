//! The policy that baker prints, and the calls that it makes.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use testbed::workspace::Workspace;

use super::{baker, without_bodies};
use crate::Outcome;

/// The actions that a policy allows.
fn allowed(workspace: &Workspace) -> Result<BTreeSet<String>, Box<dyn std::error::Error>> {
    let ended = workspace.baker(&["policy", "images/small.yaml"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let policy: Json = serde_json::from_str(&ended.stdout)?;
    let mut actions = BTreeSet::new();
    for statement in policy["Statement"].as_array().ok_or("no statements")? {
        match &statement["Action"] {
            Json::String(action) => drop(actions.insert(action.clone())),
            Json::Array(list) => actions.extend(list.iter().filter_map(Json::as_str).map(str::to_owned)),
            other => return Err(format!("{other} is no action").into()),
        }
    }
    Ok(actions)
}

#[test]
fn the_policy_allows_what_a_bake_does_and_no_more() -> Outcome {
    let (cloud, workspace) = without_bodies()?;
    let built = baker(&cloud, &workspace, &["build", "images/small.yaml", "--platform=ec2"])?;
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let made: BTreeSet<String> =
        cloud.calls().iter().map(|call| format!("{}:{}", call.service, call.action)).collect();
    let allowed = allowed(&workspace)?;
    let missing: Vec<_> = made.difference(&allowed).collect();
    assert!(missing.is_empty(), "made, and not allowed: {missing:?}");
    // Allowed for what this bake had no need of: tags are part of other calls; the rest is for a bake that fails, and for
    // cleaning in every region.
    let unused: Vec<_> = allowed.difference(&made).map(String::as_str).collect();
    assert_eq!(
        unused,
        [
            "ec2:CreateTags",
            "ec2:DeleteSnapshot",
            "ec2:DeregisterImage",
            "ec2:DescribeRegions",
            "sts:DecodeAuthorizationMessage",
        ]
    );
    Ok(())
}
