//! What a host is told to be: by the files of its image, its tags and its user-data.
//!
//! User-data is YAML whose first line, `#!/usr/local/bin/bootstrap-agent run`, also makes it a script.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use recipes::check::Check;
use recipes::duration::Span;
use recipes::error::{Problem, Problems, did_you_mean};
use recipes::from_node::from_node;
use recipes::node::{Node, Value};
use recipes::template::render;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::layers::{Layer, Written};
use self::object::Object;
use crate::credentials::Credentials;
use crate::signal::declared::{OnFailure, Signals};
use crate::source::declared::{ParameterSource, SecretSource};

pub mod encoded;
pub mod layers;
mod multipart;
pub mod object;
#[cfg(test)]
pub(crate) mod schema;
pub mod signed;

/// The user-data, with the environment and the role in their places.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Config {
    /// Which values the host gets, such as `prod`.
    pub environment: String,
    /// What the host is, such as `web`.
    pub role: String,
    /// Parameters of SSM Parameter Store. They are `parameters` in templates; later ones win.
    #[serde(default)]
    pub parameters: Vec<ParameterSource>,
    /// Secrets, by the name that templates know them by under `secrets`.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretSource>,
    /// Credentials of systemd for single services.
    #[serde(default)]
    pub credentials: Credentials,
    /// What must be seen before the host counts as up.
    #[serde(default)]
    pub health: Vec<Check>,
    /// The region of the values; the instance's own if not said.
    #[serde(default)]
    pub region: Option<String>,
    /// The URL of the AWS services, for private endpoints.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// How long all values may take to be fetched, with waits for throttling; 5 minutes if not said.
    #[serde(default)]
    pub fetch_within: Option<Span>,
    /// Over how long the hosts of a fleet spread their start.
    #[serde(default)]
    pub splay: Option<Span>,
    /// Whether the last good values are kept, sealed, for a boot without a network.
    #[serde(default)]
    pub cache: bool,
    /// How long they count; 7 days if not said.
    #[serde(default)]
    pub cache_for: Option<Span>,
    /// An object with the rest of the configuration.
    #[serde(default)]
    pub config: Option<Object>,
    /// How new it is: where user-data is signed, an older one is not believed again.
    #[serde(default)]
    pub version: Option<u64>,
    /// Instance tags that name the environment and the role.
    #[serde(default)]
    pub tags: Tags,
    /// Whether there must be user-data.
    #[serde(default)]
    pub user_data: Needed,
    /// A file that tells the result in numbers, for a textfile collector.
    #[serde(default)]
    pub metrics: Option<PathBuf>,
    /// How often new versions of the values are looked for; never if not said.
    #[serde(default)]
    pub watch: Option<Span>,
    /// Who is told the result.
    #[serde(default)]
    pub signal: Signals,
    /// What becomes of a host that failed.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Instance tags, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tags {
    /// The one whose value is the environment.
    #[serde(default)]
    pub environment: Option<String>,
    /// The one whose value is the role.
    #[serde(default)]
    pub role: Option<String>,
}

/// Whether something has to be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Needed {
    /// It has to.
    #[default]
    Required,
    /// It may be left out.
    Optional,
}

/// The part of a configuration that says what is done with the result. It counts even where the rest is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Who is told.
    pub signal: Signals,
    /// What becomes of a host that failed.
    pub on_failure: OnFailure,
    /// A file that tells it in numbers.
    pub metrics: Option<PathBuf>,
    /// The region of the services, if it is not the instance's.
    pub region: Option<String>,
    /// The URL of the AWS services, for private endpoints.
    pub endpoint_url: Option<String>,
}

impl Config {
    /// Reads user-data that is all there is. `name` is where it came from.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Problems> {
        Self::of(&Written::read(&[Layer::user_data(name, bytes)])?)
    }

    /// What layers say together.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn of(written: &Written) -> Result<Self, Problems> {
        let rendered = render(&written.root, &written.scope()?)?;
        let config: Self = from_node(&rendered)?;
        config.check(&rendered)?;
        Ok(config)
    }

    /// What is done with the result.
    pub fn ending(&self) -> Ending {
        Ending {
            signal: self.signal.clone(),
            on_failure: self.on_failure,
            metrics: self.metrics.clone(),
            region: self.region.clone(),
            endpoint_url: self.endpoint_url.clone(),
        }
    }

    /// How long this host waits before it fetches its values: the same at each boot, and another than others wait.
    pub fn splay_of(&self, instance_id: &str) -> Duration {
        let hash = Sha256::digest(instance_id.as_bytes());
        let part = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        self.splay.map_or(Duration::ZERO, |span| span.0.mul_f64(f64::from(part) / f64::from(u32::MAX)))
    }

    fn check(&self, root: &Node) -> Result<(), Problem> {
        let place = |name: &str| match &root.value {
            Value::Map(entries) => {
                entries.iter().find(|(key, _)| key.name == name).map_or(&root.at, |(_, node)| &node.at)
            }
            _ => &root.at,
        };
        if let Some(name) = self.secrets.keys().find(|name| !is_identifier(name)) {
            return Err(Problem::new(format!("templates cannot name the secret `{name}`"))
                .at(place("secrets"))
                .help("use letters, digits and `_`"));
        }
        let wanted = self.credentials.values().flat_map(BTreeMap::values).filter_map(|path| path.secret());
        if let Some(name) = wanted.into_iter().find(|name| !self.secrets.contains_key(*name)) {
            let known: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
            return Err(Problem::new(format!("there is no secret `{name}` among `secrets`"))
                .at(place("credentials"))
                .help(did_you_mean(name, &known)));
        }
        Ok(())
    }
}

impl Ending {
    /// What can be told of it where something else is wrong: somebody may wait for the result of a boot whose
    /// user-data has a mistake.
    pub fn of_broken(layers: &[Layer]) -> Option<Self> {
        let written = Written::readable(layers)?;
        let scope = written.scope().ok()?;
        let node = |name: &str| render(written.field(name)?, &scope).ok();
        let text = |name: &str| Some(node(name)?.as_str("text").ok()?.to_owned());
        Some(Self {
            signal: node("signal").and_then(|node| from_node(&node).ok()).unwrap_or_default(),
            on_failure: node("on_failure").and_then(|node| from_node(&node).ok()).unwrap_or_default(),
            metrics: text("metrics").map(PathBuf::from),
            region: text("region"),
            endpoint_url: text("endpoint_url"),
        })
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USER_DATA: &str = r#"#!/usr/local/bin/bootstrap-agent run
environment: prod
role: web
parameters: [ "/acme/{{ environment }}/{{ role }}/" ]
secrets:
  db: { secretsmanager: "acme/{{ environment }}/db" }
health: [ { http: { url: "http://127.0.0.1/healthz", within: 60s } } ]
"#;

    fn problems_of(text: &str) -> String {
        Config::parse("user-data", text.as_bytes()).expect_err("not valid").to_string()
    }

    #[test]
    fn the_user_data_of_the_readme_is_read() {
        let config = Config::parse("user-data", USER_DATA.as_bytes()).expect("valid");
        assert_eq!(config.parameters[0].name(), "ssm:/acme/prod/web/");
        assert_eq!(config.secrets["db"].name(), "secretsmanager:acme/prod/db");
        assert_eq!(config.health[0].within().as_secs(), 60);
    }

    #[test]
    fn what_is_not_valid_is_explained() {
        let with = |line: &str| problems_of(&format!("environment: prod\nrole: web\n{line}\n"));
        insta::assert_snapshot!(problems_of("#cloud-config\nusers: []\n"), @"user-data is not for this agent: its first line is `#cloud-config`; its first line has to be `#!/usr/local/bin/bootstrap-agent run`");
        insta::assert_snapshot!(problems_of("#!/bin/sh\n"), @"user-data is not for this agent: its first line is `#!/bin/sh`; its first line has to be `#!/usr/local/bin/bootstrap-agent run`");
        insta::assert_snapshot!(problems_of(""), @"user-data:1:1: expected a mapping with `environment` and `role`, found nothing");
        insta::assert_snapshot!(problems_of("environment: prod\n"), @"user-data:1:1: the field `role` is missing");
        insta::assert_snapshot!(problems_of("environment: ../dev\nrole: web\n"), @"user-data:1:14: `environment` is `../dev`, which is not a word; use letters, digits, `-`, `_` and `.`: it becomes part of paths");
        insta::assert_snapshot!(with("paramters: []"), @"user-data:3:1: unknown field `paramters`; did you mean `parameters`? valid are `environment`, `role`, `parameters`, `secrets`, `credentials`, `health`, `region`, `endpoint_url`, `fetch_within`, `splay`, `cache`, `cache_for`, `config`, `version`, `tags`, `user_data`, `metrics`, `watch`, `signal` and `on_failure`");
        insta::assert_snapshot!(with("parameters: [ acme/web ]"), @"user-data:3:15: the path `acme/web` does not start with `/`; write `{ name: acme/web }` for one parameter");
        insta::assert_snapshot!(with("parameters: [ { path: /a, name: /b } ]"), @"user-data:3:15: write either a `path`, for everything below it, or the `name` of one parameter");
        insta::assert_snapshot!(with("parameters: [ { path: /a, as: b } ]"), @"user-data:3:15: `as` is for one parameter with a `name`");
        insta::assert_snapshot!(with("parameters: [ { name: \"arn:aws:ssm:us-east-1:111122223333:parameter/a\" } ]"), @"user-data:3:15: a parameter named by its ARN needs an `as`");
        insta::assert_snapshot!(with("parameters: [ { name: /b, allow_empty: sometimes } ]"), @"user-data:3:40: expected `true`, or a list of keys, found the string `sometimes`");
        insta::assert_snapshot!(with("secrets: { db: { secretsmanager: { id: x, stages: y } } }"), @"user-data:3:43: unknown field `stages`; did you mean `stage`? valid are `id`, `stage`, `version`, `binary` and `allow_empty`");
        insta::assert_snapshot!(with("secrets: { db: { secretsmanager: { stage: y } } }"), @"user-data:3:34: the field `id` is missing");
        insta::assert_snapshot!(with("parameters: [ \"/acme/{{ enviroment }}\" ]"), @"user-data:3:25: variable `enviroment` is not defined. Available variables: environment, role");
        insta::assert_snapshot!(with("secrets: { db: { vault: x } }"), @"user-data:3:18: `vault` is not a valid value here; valid are `secretsmanager` and `ssm`");
        insta::assert_snapshot!(with("secrets: { a-b: { secretsmanager: x } }"), @"user-data:3:10: templates cannot name the secret `a-b`; use letters, digits and `_`");
        insta::assert_snapshot!(with("health: [ { htpp: { url: x } } ]"), @"user-data:3:13: `htpp` is not a valid value here; did you mean `http`? valid are `service`, `http`, `tcp` and `command`");
        assert!(
            Config::parse("user-data", b"\xff\xfe").expect_err("binary").to_string().contains("is not text")
        );
    }

    #[test]
    fn whom_to_tell_counts_even_where_the_rest_is_wrong() {
        let text = format!(
            "{USER_DATA}signal: {{ auto_scaling: {{ hook: \"{{{{ role }}}}-launch\", heartbeat: 1m }}, instance_health: true }}\non_failure: hold 30m\n"
        );
        let config = Config::parse("user-data", text.as_bytes()).expect("valid");
        let hook = config.signal.auto_scaling.as_ref().map(|hook| hook.hook.as_str());
        assert_eq!((hook, config.signal.instance_health), (Some("web-launch"), true));
        let broken = text + "paramters: [ \"{{ nothing }}\" ]\n";
        Config::parse("user-data", broken.as_bytes()).expect_err("not valid");
        let ending = |text: &[u8]| Ending::of_broken(&[Layer::user_data("user-data", text)]);
        assert_eq!(ending(broken.as_bytes()), Some(config.ending()));
        assert_eq!(ending(b"#cloud-config\n"), None);
        assert_eq!(ending(b"signal: { nobody: 1 }"), Some(Ending::default()));
        insta::assert_snapshot!(problems_of("environment: prod\nrole: web\non_failure: reboot\n"), @"user-data:3:13: `reboot` is not valid here; valid are `stay`, `poweroff` and `hold TIME`");
        insta::assert_snapshot!(problems_of("environment: prod\nrole: web\nsignal: { auto_scaling: { name: x } }\n"), @"user-data:3:27: unknown field `name`; valid are `hook`, `group`, `heartbeat` and `brake`");
    }

    #[test]
    fn hosts_of_a_fleet_start_one_after_the_other_and_each_at_its_time() {
        let text = format!("{USER_DATA}splay: 100s\n");
        let config = Config::parse("user-data", text.as_bytes()).expect("valid");
        let mut waits: Vec<_> =
            (0..1000).map(|number| config.splay_of(&format!("i-{number}")).as_secs()).collect();
        assert_eq!(config.splay_of("i-1"), config.splay_of("i-1"));
        waits.sort_unstable();
        assert!(
            waits[999] <= 100 && (40..60).contains(&waits[500]) && waits[100] < 20,
            "they are spread evenly"
        );
        let none = Config::parse("user-data", USER_DATA.as_bytes()).expect("valid");
        assert_eq!(none.splay_of("i-1"), Duration::ZERO);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The YAML and templates in it are fuzzed in the engine.
        #[test]
        fn anything_is_user_data_or_says_why_not(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            text in "((environment|role|parameters|secrets|health|region|signal|on_failure|nope): |prod|web|/a|\\[|\\]|\\{|\\}|\\{\\{ environment \\}\\}|secretsmanager: |http: |url: |, |- |\n|\n  |#!|\"|é|\0|\\PC){0,40}",
        ) {
            for bytes in [&bytes[..], text.as_bytes(), format!("environment: a\nrole: b\n{text}").as_bytes()] {
                if let Err(problems) = Config::parse("user-data", bytes) {
                    prop_assert!(!problems.to_string().is_empty());
                    Ending::of_broken(&[Layer::user_data("user-data", bytes)]);
                }
            }
        }
    }
}
