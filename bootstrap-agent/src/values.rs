//! The values of an environment: fetched, put where templates see them, with every secret known.

use std::collections::BTreeMap;

use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use futures_util::future::try_join_all;
use recipes::template::Scope;
use serde_json::{Map, Value as Json, json};

use crate::config::{Config, SecretSource};
use crate::source::aws::Account;
use crate::source::instance::Identity;
use crate::source::{parameters, secrets};

/// Everything that templates see at boot, besides facts and inputs.
pub struct Values {
    values: Map<String, Json>,
    masked: Map<String, Json>,
    /// Every secret value, for the redactor.
    pub secrets: Vec<String>,
    /// The names of what was fetched, for the status.
    pub names: Vec<String>,
    /// How many requests it took.
    pub calls: u32,
}

/// A value that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("failed to fetch {what}: {why}")]
pub struct FetchError {
    /// What it was, such as "the secret `acme/prod/db`".
    pub what: String,
    /// Why, with all causes.
    pub why: String,
    /// What to do about it, if anybody knows.
    pub help: Option<String>,
}

/// What a secret is replaced by where it could be seen.
pub use recipes::template::MASK;

/// A fetched value before it is in its place in the tree of values.
pub struct Leaf(Json);

/// The key under which a secret is marked until values and mask are parted.
const SECRET: &str = "\u{0}secret";

impl Leaf {
    /// A value that anybody may see.
    pub fn open(value: Json) -> Self {
        Self(value)
    }

    /// A value that nobody may see.
    pub fn secret(value: &str) -> Self {
        Self(json!({ SECRET: value }))
    }

    /// Puts it under `a/b/c` as `a.b.c`.
    ///
    /// # Errors
    /// The part of the path that is a value itself.
    pub fn insert(self, into: &mut Map<String, Json>, path: &str) -> Result<(), String> {
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some(last) = parts.pop() else { return Ok(()) };
        let mut map = into;
        let mut seen = String::new();
        for part in parts {
            seen = if seen.is_empty() { part.into() } else { format!("{seen}/{part}") };
            let next = map.entry(part).or_insert_with(|| json!({}));
            map = match next {
                Json::Object(entries) if !entries.contains_key(SECRET) => entries,
                _ => return Err(seen),
            };
        }
        match map.get(last) {
            Some(Json::Object(entries)) if !entries.contains_key(SECRET) => Err(path.into()),
            _ => {
                map.insert(last.into(), self.0);
                Ok(())
            }
        }
    }
}

/// Fetches everything that a configuration asks for.
///
/// # Errors
/// The first value that could not be had.
pub async fn fetch(config: &Config, identity: &Identity, account: &Account) -> Result<Values, FetchError> {
    let mut calls = 0;
    let mut names = Vec::new();
    let mut found = Map::new();
    let mut secret_values = BTreeMap::new();
    if !config.parameters.is_empty() || !config.secrets.is_empty() {
        let (ssm, manager) = (parameters::client(account), secrets::client(account));
        let of_parameters = try_join_all(config.parameters.iter().map(async |path| {
            let mut calls = 0;
            let found = parameters::fetch(&ssm, path, &mut calls).await?;
            Ok((path.clone(), found, calls))
        }));
        let of_secrets = try_join_all(config.secrets.iter().map(async |(name, source)| {
            let SecretSource::Secretsmanager(id) = source;
            let mut calls = 0;
            let value = secrets::fetch(&manager, id, &mut calls).await?;
            Ok((name.clone(), id.clone(), value, calls))
        }));
        let (of_parameters, of_secrets) = futures_util::future::try_join(of_parameters, of_secrets).await?;
        for (path, parameters, used) in of_parameters {
            calls += used;
            names.push(format!("ssm:{path}"));
            merge(&mut found, parameters);
        }
        for (name, id, value, used) in of_secrets {
            calls += used;
            names.push(format!("secretsmanager:{id}"));
            secret_values.insert(name, value);
        }
    }
    Ok(assemble(config, identity, found, secret_values, names, calls))
}

fn assemble(
    config: &Config,
    identity: &Identity,
    parameters: Map<String, Json>,
    secrets: BTreeMap<String, Json>,
    names: Vec<String>,
    calls: u32,
) -> Values {
    let mut known = Vec::new();
    let parameters = Json::Object(parameters);
    let masked_parameters = part(&parameters, false, true, &mut Vec::new());
    let parameters = part(&parameters, false, false, &mut known);
    let secrets: Json = secrets.into_iter().collect::<Map<_, _>>().into();
    let masked_secrets = part(&secrets, true, true, &mut Vec::new());
    let secrets = part(&secrets, true, false, &mut known);
    let open = Map::from_iter([
        ("environment".to_owned(), Json::from(config.environment.as_str())),
        ("role".to_owned(), Json::from(config.role.as_str())),
        ("instance".to_owned(), serde_json::to_value(identity).unwrap_or_default()),
    ]);
    let with = |parameters: Json, secrets: Json| {
        let mut values = open.clone();
        values.insert("parameters".into(), parameters);
        values.insert("secrets".into(), secrets);
        values
    };
    Values {
        values: with(parameters, secrets),
        masked: with(masked_parameters, masked_secrets),
        secrets: known,
        names,
        calls,
    }
}

impl Values {
    /// What templates see.
    pub fn scope(&self) -> Scope {
        Scope::new(Map::new()).with_secrets(&self.values, &self.masked)
    }
}

/// A tree of values without the marks of secrets, as it is or under the mask.
fn part(value: &Json, secret: bool, mask: bool, known: &mut Vec<String>) -> Json {
    match value {
        Json::Object(entries) => match entries.get(SECRET) {
            Some(value) => part(value, true, mask, known),
            None => {
                entries.iter().map(|(key, value)| (key.clone(), part(value, secret, mask, known))).collect()
            }
        },
        Json::Array(elements) => elements.iter().map(|value| part(value, secret, mask, known)).collect(),
        leaf if secret => {
            known.push(leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned));
            if mask { Json::from(MASK) } else { leaf.clone() }
        }
        leaf => leaf.clone(),
    }
}

/// Later paths win, key by key.
fn merge(into: &mut Map<String, Json>, from: Map<String, Json>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Json::Object(into)), Json::Object(from))
                if !into.contains_key(SECRET) && !from.contains_key(SECRET) =>
            {
                merge(into, from);
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Advice for a call that the role may not make.
pub fn permission_help<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>, action: &str) -> Option<String> {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code)?;
    match code {
        "AccessDeniedException" | "AccessDenied" => Some(format!(
            "allow `{action}` in the policy of the instance's role, and `kms:Decrypt` for its key"
        )),
        "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidClientTokenId" => {
            Some("the credentials of the instance's role are not valid: has the role been replaced?".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_become_levels_and_a_value_has_nothing_below_it() {
        let mut map = Map::new();
        Leaf::open(Json::from("h")).insert(&mut map, "db/host").expect("free");
        Leaf::secret("p").insert(&mut map, "db/password").expect("free");
        Leaf::open(Json::from("t")).insert(&mut map, "title").expect("free");
        assert_eq!(Leaf::open(Json::from("x")).insert(&mut map, "title/sub"), Err("title".into()));
        assert_eq!(
            Leaf::open(Json::from("x")).insert(&mut map, "db/password/old"),
            Err("db/password".into())
        );
        assert_eq!(Leaf::open(Json::from("x")).insert(&mut map, "db"), Err("db".into()));
        let mut known = Vec::new();
        let tree = Json::Object(map);
        assert_eq!(
            part(&tree, false, false, &mut known),
            json!({ "db": { "host": "h", "password": "p" }, "title": "t" })
        );
        assert_eq!(known, ["p"]);
        assert_eq!(part(&tree, false, true, &mut known)["db"], json!({ "host": "h", "password": MASK }));
    }

    #[test]
    fn later_paths_win_key_by_key() {
        let mut into = json!({ "db": { "host": "common", "port": 1 } }).as_object().expect("a map").clone();
        merge(&mut into, json!({ "db": { "host": "prod" }, "x": 1 }).as_object().expect("a map").clone());
        assert_eq!(Json::Object(into), json!({ "db": { "host": "prod", "port": 1 }, "x": 1 }));
    }
}
