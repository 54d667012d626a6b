//! Values that somebody gives, in place of those that a host would fetch.
//!
//! ```yaml
//! instance: { instance_id: i-0123456789abcdef0, region: us-east-1 }   # each may be left out
//! tags: { Stage: prod }
//! parameters:
//!   /acme/prod/web/title: Hello
//!   /acme/prod/web/hosts: [ a, b ]                                    # a StringList
//!   /acme/prod/web/key: { secret: hunter2 }                           # a SecureString
//! secrets:
//!   acme/prod/db: { username: web, password: hunter2 }                # or text
//!   acme/prod/db@AWSPREVIOUS: { username: web, password: old }
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use recipes::error::{Problem, Problems};
use recipes::from_node::from_node;
use recipes::load;
use recipes::node::{Node, Value};
use serde::Deserialize;
use serde_json::Value as Json;

use super::fetched::Fetched;
use super::instance::Identity;
use super::parameters::{Kind, Parameter};
use super::plan::{FetchPlan, SecretId};
use super::secrets::{Content, SecretValue};

/// Values that somebody gives.
pub struct Given {
    /// The instance.
    pub identity: Identity,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    parameters: BTreeMap<String, Parameter>,
    secrets: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Instance {
    instance_id: String,
    region: String,
    availability_zone: String,
    instance_type: String,
    image_id: String,
    account_id: String,
    private_ip: String,
}

/// The ids of AWS's documentation.
impl Default for Instance {
    fn default() -> Self {
        Self {
            instance_id: "i-0123456789abcdef0".into(),
            region: "us-east-1".into(),
            availability_zone: "us-east-1a".into(),
            instance_type: "m7i.large".into(),
            image_id: "ami-0123456789abcdef0".into(),
            account_id: "111122223333".into(),
            private_ip: "10.0.0.1".into(),
        }
    }
}

impl Given {
    /// Reads a file of values.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let root = load::parse(&load::read(path, &path.display().to_string())?)?;
        Self::of(&root)
    }

    fn of(root: &Node) -> Result<Self, Problems> {
        let mut given = Self {
            identity: identity(Instance::default()),
            tags: BTreeMap::new(),
            parameters: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        for (key, node) in root.as_map("a mapping with `parameters` and `secrets`")? {
            match key.name.as_str() {
                "instance" => given.identity = identity(from_node(node)?),
                "tags" => given.tags = from_node(node)?,
                "parameters" => {
                    for (name, node) in node.as_map("parameters by their full names")? {
                        given.parameters.insert(name.name.clone(), parameter(node)?);
                    }
                }
                "secrets" => {
                    for (id, node) in node.as_map("secrets by their ids")? {
                        let text = match &node.value {
                            Value::String(text) => text.clone(),
                            Value::Map(_) => node.to_json().to_string(),
                            _ => return Err(node.mismatch("text or a mapping").into()),
                        };
                        given.secrets.insert(id.name.clone(), text);
                    }
                }
                other => {
                    let valid = "valid are `instance`, `tags`, `parameters` and `secrets`";
                    return Err(Problem::new(format!("unknown field `{other}`"))
                        .at(&key.at)
                        .help(valid)
                        .into());
                }
            }
        }
        Ok(given)
    }

    /// What a host would have fetched. What is missing is missing there, too.
    pub fn fetched(&self, plan: &FetchPlan) -> Fetched {
        let names = plan.names.iter().flatten();
        let named = names.filter_map(|name| Some((name.clone(), self.parameters.get(name)?.clone())));
        let below = |name: &String| plan.paths.iter().any(|path| name.starts_with(path.as_str()));
        let by_path = self.parameters.iter().filter(|(name, _)| below(name));
        let secret = |id: &SecretId| {
            let version = id.stage.as_ref().or(id.version.as_ref());
            let name = version.map_or_else(|| id.id.clone(), |version| format!("{}@{version}", id.id));
            let content = Content::Text(self.secrets.get(&name)?.clone());
            Some((id.clone(), SecretValue { content, version: String::new() }))
        };
        Fetched {
            parameters: by_path.map(|(name, value)| (name.clone(), value.clone())).chain(named).collect(),
            secrets: plan.secrets.iter().filter_map(secret).collect(),
            calls: 0,
        }
    }
}

fn identity(instance: Instance) -> Identity {
    Identity {
        instance_id: instance.instance_id,
        region: instance.region,
        availability_zone: instance.availability_zone,
        instance_type: instance.instance_type,
        image_id: instance.image_id,
        account_id: instance.account_id,
        private_ip: instance.private_ip,
    }
}

fn parameter(node: &Node) -> Result<Parameter, Problem> {
    let wrong = || node.mismatch("text, a list of texts, or `{ secret: TEXT }`");
    let (value, kind) = match node.to_json() {
        Json::String(text) => (text, Kind::String),
        Json::Number(number) => (number.to_string(), Kind::String),
        Json::Bool(value) => (value.to_string(), Kind::String),
        Json::Array(elements) => {
            let texts: Option<Vec<&str>> = elements.iter().map(Json::as_str).collect();
            (texts.ok_or_else(wrong)?.join(","), Kind::List)
        }
        Json::Object(entries) if entries.len() == 1 => {
            let secret = entries.get("secret").and_then(Json::as_str);
            (secret.ok_or_else(wrong)?.to_owned(), Kind::Secret)
        }
        Json::Object(_) | Json::Null => return Err(wrong()),
    };
    Ok(Parameter { value, kind, version: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::values::Values;

    fn given(text: &str) -> Result<Given, String> {
        let source =
            std::sync::Arc::new(recipes::source::Source { name: "values.yaml".into(), text: text.into() });
        let node = load::parse(&source).map_err(|problem| problem.located())?;
        Given::of(&node).map_err(|problems| problems.to_string())
    }

    #[test]
    fn values_that_are_given_are_as_those_that_are_fetched() {
        let given = given(
            "
instance: { region: eu-west-1 }
parameters: { /acme/web/title: Hello, /acme/web/hosts: [ a, b ], /acme/web/key: { secret: hunter2 }, /other/x: 1, \"/other/y:3\": old }
secrets: { acme/db: { password: p }, acme/db@AWSPREVIOUS: text }
",
        )
        .expect("valid");
        let text = "environment: prod\nrole: web\nparameters: [ /acme/web/, { name: \"/other/y:3\", as: y } ]\nsecrets: { db: { secretsmanager: acme/db }, old: { secretsmanager: { id: acme/db, stage: AWSPREVIOUS } } }\n";
        let config = Config::parse("user-data", text.as_bytes()).expect("valid");
        let fetched = given.fetched(&FetchPlan::of(&config));
        assert_eq!(
            fetched.parameters.keys().collect::<Vec<_>>(),
            ["/acme/web/hosts", "/acme/web/key", "/acme/web/title", "/other/y:3"]
        );
        let values = Values::assemble(&config, &given.identity, &fetched).expect("all there");
        assert_eq!(given.identity.region, "eu-west-1");
        assert!(
            values.secrets.contains(&"hunter2".to_owned()) && values.secrets.contains(&"text".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_a_value_is_said_at_its_place() {
        let error = |text: &str| given(text).err().expect(text);
        insta::assert_snapshot!(error("parameter: {}"), @"values.yaml:1:1: unknown field `parameter`; valid are `instance`, `tags`, `parameters` and `secrets`");
        insta::assert_snapshot!(error("parameters: { /a: { b: c } }"), @"values.yaml:1:19: expected text, a list of texts, or `{ secret: TEXT }`, found a mapping of 1");
        insta::assert_snapshot!(error("secrets: { a: [ 1 ] }"), @"values.yaml:1:15: expected text or a mapping, found a list of 1");
        insta::assert_snapshot!(error("instance: { id: x }"), @"values.yaml:1:13: unknown field `id`; valid are `instance_id`, `region`, `availability_zone`, `instance_type`, `image_id`, `account_id` and `private_ip`");
    }
}
