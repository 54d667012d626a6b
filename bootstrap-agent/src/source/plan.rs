//! Which calls bring the values that a configuration asks for, and what they cost of an account's quotas.
//!
//! | API | quota of an account and region | a call brings |
//! |---|---|---|
//! | `GetParameters` | 40/s, shared, unless higher throughput is bought | 10 names |
//! | `GetParametersByPath` | of the same 40/s | 10 parameters |
//! | `GetSecretValue` | 10,000/s | one secret |
//! | `BatchGetSecretValue` | 100/s | 20 secrets |
//!
//! (AWS Systems Manager and AWS Secrets Manager, endpoints and quotas.) Twenty secrets in one batch cost a hundredth of a
//! second of its quota, and one by one a five-hundredth: so secrets are asked for one by one. Parameters are
//! asked for by tens, what a path brings is not asked for by name, and nothing is asked for twice.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::declared::{ParameterSource, SecretSource};
use crate::config::Config;

/// The most names that one call takes (API reference, `GetParameters`).
pub const NAMES: usize = 10;

/// The quotas, in calls a second.
pub(super) const SSM_QUOTA: u32 = 40;
pub(super) const SECRETS_QUOTA: u32 = 10_000;

/// Calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchPlan {
    /// Paths whose parameters are read, page by page.
    pub paths: Vec<String>,
    /// Names, as many as one call takes together.
    pub names: Vec<Vec<String>>,
    /// Secrets of Secrets Manager.
    pub secrets: Vec<SecretId>,
}

/// One call of a plan, with its pages.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// For what is below a path.
    Path(&'a str),
    /// For parameters by their names.
    Names(&'a [String]),
    /// For a secret.
    Secret(&'a SecretId),
}

/// A version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretId {
    /// Its name or ARN.
    pub id: String,
    /// The stage of the version.
    pub stage: Option<String>,
    /// The id of the version.
    pub version: Option<String>,
}

impl FetchPlan {
    /// The calls for a configuration.
    pub fn of(config: &Config) -> Self {
        let mut paths: Vec<String> = Vec::new();
        let mut names = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        for source in &config.parameters {
            match source {
                ParameterSource::Path { path, .. } => paths.push(folder(path)),
                ParameterSource::Name { name, .. } => drop(names.insert(name.clone())),
            }
        }
        for source in config.secrets.values() {
            match source {
                SecretSource::Secretsmanager(secret) => drop(secrets.insert(SecretId {
                    id: secret.id.clone(),
                    stage: secret.stage.clone(),
                    version: secret.version.clone(),
                })),
                SecretSource::Ssm(parameter) => drop(names.insert(parameter.name.clone())),
            }
        }
        paths.sort();
        // What is below another path comes with that. Sorted, the outer one is before it.
        paths.dedup_by(|inner, outer| inner.starts_with(outer.as_str()));
        names.retain(|name| !paths.iter().any(|path| name.starts_with(path.as_str()) && !has_selector(name)));
        let names: Vec<String> = names.into_iter().collect();
        Self {
            paths,
            names: names.chunks(NAMES).map(<[String]>::to_vec).collect(),
            secrets: secrets.into_iter().collect(),
        }
    }

    /// Each call for itself, with single names.
    pub fn apart(&self) -> Vec<Self> {
        let path = |path: &String| Self { paths: vec![path.clone()], ..Self::default() };
        let name = |name: &String| Self { names: vec![vec![name.clone()]], ..Self::default() };
        let secret = |secret: &SecretId| Self { secrets: vec![secret.clone()], ..Self::default() };
        let names = self.names.iter().flatten().map(name);
        self.paths.iter().map(path).chain(names).chain(self.secrets.iter().map(secret)).collect()
    }

    /// The calls, one by one.
    pub fn each(&self) -> Vec<Call<'_>> {
        let paths = self.paths.iter().map(|path| Call::Path(path));
        let names = self.names.iter().map(|names| Call::Names(names));
        paths.chain(names).chain(self.secrets.iter().map(Call::Secret)).collect()
    }

    /// Whether there is nothing to fetch.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.names.is_empty() && self.secrets.is_empty()
    }

    fn to_ssm(&self) -> usize {
        self.paths.len() + self.names.len()
    }

    /// How many calls it takes, if no path has more parameters than one page.
    pub fn calls(&self) -> usize {
        self.to_ssm() + self.secrets.len()
    }

    /// How long the quotas make a fleet wait whose hosts boot at once: the slower of the two services.
    pub fn wait(&self, hosts: u32) -> Duration {
        let time = |calls: usize, quota: u32| {
            let calls = u64::try_from(calls).unwrap_or(u64::MAX).saturating_mul(u64::from(hosts));
            Duration::from_millis(calls.saturating_mul(1000) / u64::from(quota))
        };
        time(self.to_ssm(), SSM_QUOTA).max(time(self.secrets.len(), SECRETS_QUOTA))
    }

    /// What a fleet of a size means, in words.
    pub fn fleet(&self, hosts: u32) -> String {
        let line = |service: &str, calls: usize, quota: u32| {
            let calls = u64::try_from(calls).unwrap_or(u64::MAX).saturating_mul(u64::from(hosts));
            let tenths = calls.saturating_mul(10) / u64::from(quota);
            format!("  {service:<16} {calls:>8} calls at {quota:>6}/s: {:>6}.{} s", tenths / 10, tenths % 10)
        };
        let wait = self.wait(hosts);
        let advice = if wait > Duration::from_secs(10) {
            let splay = wait.as_secs().next_multiple_of(10);
            format!(
                "\nset `splay: {splay}s`, buy higher throughput for Parameter Store, or put the values into one JSON secret"
            )
        } else {
            String::new()
        };
        format!(
            "{hosts} hosts that boot at once:\n{}\n{}{advice}",
            line("SSM", self.to_ssm(), SSM_QUOTA),
            line("Secrets Manager", self.secrets.len(), SECRETS_QUOTA)
        )
    }
}

impl fmt::Display for FetchPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.paths {
            writeln!(
                formatter,
                "  ssm:GetParametersByPath          {path} (one call for each 10 parameters)"
            )?;
        }
        for names in &self.names {
            writeln!(formatter, "  ssm:GetParameters                {}", names.join(", "))?;
        }
        for SecretId { id, stage, version } in &self.secrets {
            let version = stage.as_ref().or(version.as_ref());
            let version = version.map_or_else(String::new, |version| format!("@{version}"));
            writeln!(formatter, "  secretsmanager:GetSecretValue    {id}{version}")?;
        }
        let least =
            if self.paths.is_empty() { "" } else { ", or more if a path has more than 10 parameters" };
        write!(formatter, "{} API calls for each boot{least}", self.calls())
    }
}

/// A path that is a prefix of the names below it and of no others.
fn folder(path: &str) -> String {
    format!("{}/", path.trim_end_matches('/'))
}

/// Whether a name says which version or label is meant. A name has no `:` of its own, an ARN has five.
pub fn has_selector(name: &str) -> bool {
    name.matches(':').count() == if name.starts_with("arn:") { 6 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> FetchPlan {
        let text = format!("environment: prod\nrole: web\n{text}");
        FetchPlan::of(&Config::parse("user-data", text.as_bytes()).expect("valid"))
    }

    #[test]
    fn nothing_is_asked_for_twice_and_what_can_be_is_asked_for_together() {
        let plan = plan(
            r#"
parameters:
  - /acme/prod/web/
  - /acme/prod
  - /acme/production
  - { name: /acme/prod/web/title }
  - { name: "/acme/prod/web/title:3", as: old.title }
  - { name: banner }
  - { name: banner, as: other }
secrets:
  db: { secretsmanager: acme/db }
  again: { secretsmanager: acme/db }
  old: { secretsmanager: { id: acme/db, stage: AWSPREVIOUS } }
  token: { ssm: /other/token }
"#,
        );
        insta::assert_snapshot!(plan, @"
          ssm:GetParametersByPath          /acme/prod/ (one call for each 10 parameters)
          ssm:GetParametersByPath          /acme/production/ (one call for each 10 parameters)
          ssm:GetParameters                /acme/prod/web/title:3, /other/token, banner
          secretsmanager:GetSecretValue    acme/db
          secretsmanager:GetSecretValue    acme/db@AWSPREVIOUS
        5 API calls for each boot, or more if a path has more than 10 parameters
        ");
    }

    #[test]
    fn names_go_by_tens() {
        let names: String = (0..23).map(|number| format!("  - {{ name: /n/{number:02} }}\n")).collect();
        let plan = plan(&format!("parameters:\n{names}"));
        assert_eq!(plan.names.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3]);
        assert_eq!(plan.calls(), 3);
    }

    #[test]
    fn a_fleet_knows_how_long_the_quotas_make_it_wait() {
        let by_path = plan("parameters: [ /a/, /b/ ]\nsecrets: { db: { secretsmanager: db } }");
        insta::assert_snapshot!(by_path.fleet(1000), @"
        1000 hosts that boot at once:
          SSM                  2000 calls at     40/s:     50.0 s
          Secrets Manager      1000 calls at  10000/s:      0.1 s
        set `splay: 50s`, buy higher throughput for Parameter Store, or put the values into one JSON secret
        ");
        let one_secret = plan("secrets: { all: { secretsmanager: all } }");
        assert_eq!(one_secret.wait(1000), Duration::from_millis(100));
        assert!(!one_secret.fleet(1000).contains("splay"));
        assert!(plan("").is_empty());
    }

    #[test]
    fn a_version_is_told_from_an_arn() {
        for (name, has) in [
            ("/a/b", false),
            ("/a/b:3", true),
            ("arn:aws:ssm:us-east-1:111122223333:parameter/a", false),
            ("arn:aws:ssm:us-east-1:111122223333:parameter/a:live", true),
        ] {
            assert_eq!(has_selector(name), has, "{name}");
        }
    }
}
