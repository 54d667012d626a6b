//! The values of an environment: fetched, put where templates see them, with every secret known.

use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use recipes::template::Scope;
use serde_json::{Map, Value as Json, json};
use zeroize::Zeroize;

use crate::config::Config;
use crate::source::declared::{Allowed, ParameterSource, SecretSource};
use crate::source::fetched::Fetched;
use crate::source::instance::Identity;
use crate::source::parameters::{Kind, Parameter};
use crate::source::plan::{self, SecretId};
use crate::source::unset;

/// What to do about a value that nobody has set.
const SET_IT: &str = "set it, or name it in `allow_empty` if that is how it shall be";

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
    /// Whether nobody said no: the network, or the services, are out of reach.
    pub is_offline: bool,
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

impl Values {
    /// Puts what was fetched where templates see it.
    ///
    /// # Errors
    /// The first value that is missing, that nobody has set, or that has no place of its own.
    pub fn assemble(config: &Config, identity: &Identity, fetched: &Fetched) -> Result<Self, FetchError> {
        let mut parameters = Map::new();
        for source in &config.parameters {
            merge(&mut parameters, of_parameters(source, fetched)?);
        }
        let mut secrets = Map::new();
        for (name, source) in &config.secrets {
            secrets.insert(name.clone(), of_secret(source, fetched)?);
        }
        let mut known = Vec::new();
        let mut marked_parameters = Json::Object(parameters);
        let masked_parameters = part(&marked_parameters, false, true, &mut Vec::new());
        let parameters = part(&marked_parameters, false, false, &mut known);
        let mut marked_secrets = Json::Object(secrets);
        let masked_secrets = part(&marked_secrets, true, true, &mut Vec::new());
        let secrets = part(&marked_secrets, true, false, &mut known);
        wipe(&mut marked_parameters);
        wipe(&mut marked_secrets);
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
        let names = config.parameters.iter().map(ParameterSource::name);
        Ok(Self {
            values: with(parameters, secrets),
            masked: with(masked_parameters, masked_secrets),
            secrets: known,
            names: names.chain(config.secrets.values().map(SecretSource::name)).collect(),
            calls: fetched.calls,
        })
    }
}

/// The part of the tree that a source of parameters brings.
fn of_parameters(source: &ParameterSource, fetched: &Fetched) -> Result<Map<String, Json>, FetchError> {
    let mut found = Map::new();
    let failed = |what: String, why: String, help: &str| FetchError {
        what,
        why,
        help: Some(help.into()),
        is_offline: false,
    };
    let mut insert = |name: &str, key: &str, parameter: &Parameter, allowed: &Allowed| {
        let what = || format!("the parameter `{name}`");
        let dotted = key.replace('/', ".");
        if let Some((_, why)) = unset::first(&parameter.json(), &|_| allowed.has(&dotted)) {
            return Err(failed(what(), format!("it {why}"), SET_IT));
        }
        parameter.leaf().insert(&mut found, key).map_err(|taken| {
            let why = format!("`{name}` is below `{taken}`, which is a parameter itself");
            failed(what(), why, "templates could not see both; rename one")
        })
    };
    match source {
        ParameterSource::Path { path, allow_empty } => {
            let folder = format!("{}/", path.trim_end_matches('/'));
            let below = fetched.parameters.iter().filter(|(name, _)| !plan::has_selector(name));
            for (name, parameter) in below {
                let Some(key) = name.strip_prefix(&folder) else { continue };
                insert(name, key, parameter, allow_empty)?;
            }
            if found.is_empty() {
                let help =
                    "check the path, the region, and that the parameters exist for this environment and role";
                return Err(failed(format!("the parameters below `{path}`"), "there are none".into(), help));
            }
        }
        ParameterSource::Name { name, key, allow_empty } => {
            let parameter = of_name(name, fetched)?;
            insert(name, &key.replace('.', "/"), parameter, allow_empty)?;
        }
    }
    Ok(found)
}

fn of_name<'a>(name: &str, fetched: &'a Fetched) -> Result<&'a Parameter, FetchError> {
    fetched.parameters.get(name).ok_or_else(|| FetchError {
        what: format!("the parameter `{name}`"),
        why: "there is none of this name".into(),
        help: Some("create it, or correct its name in the user-data".into()),
        is_offline: false,
    })
}

fn of_secret(source: &SecretSource, fetched: &Fetched) -> Result<Json, FetchError> {
    let (what, value, allowed) = match source {
        SecretSource::Secretsmanager(secret) => {
            let what = format!("the secret `{}`", secret.id);
            let id = SecretId {
                id: secret.id.clone(),
                stage: secret.stage.clone(),
                version: secret.version.clone(),
            };
            let value = fetched.secrets.get(&id).ok_or_else(|| "it was not fetched".to_owned());
            let value = value.and_then(|value| value.content.value(secret.binary));
            let value =
                value.map_err(|why| FetchError { what: what.clone(), why, help: None, is_offline: false })?;
            (what, value, &secret.allow_empty)
        }
        SecretSource::Ssm(parameter) => {
            let value = Json::from(of_name(&parameter.name, fetched)?.value.as_str());
            (format!("the parameter `{}`", parameter.name), value, &parameter.allow_empty)
        }
    };
    if let Some((path, why)) = unset::first(&value, &|path| allowed.has(path)) {
        let which = if path.is_empty() { "it".to_owned() } else { format!("its key `{path}`") };
        return Err(FetchError {
            what,
            why: format!("{which} {why}"),
            help: Some(SET_IT.into()),
            is_offline: false,
        });
    }
    Ok(value)
}

impl Parameter {
    fn json(&self) -> Json {
        match self.kind {
            Kind::List => self.value.split(',').map(|element| Json::from(element.trim())).collect(),
            Kind::String | Kind::Secret => Json::from(self.value.as_str()),
        }
    }

    fn leaf(&self) -> Leaf {
        if self.kind == Kind::Secret { Leaf::secret(&self.value) } else { Leaf::open(self.json()) }
    }
}

impl Values {
    /// What templates see.
    pub fn scope(&self) -> Scope {
        Scope::new(Map::new()).with_secrets(&self.values, &self.masked)
    }
}

/// What is no longer needed is not left in memory for whoever reads it next.
impl Drop for Values {
    fn drop(&mut self) {
        self.secrets.zeroize();
        self.values.values_mut().for_each(wipe);
    }
}

/// Overwrites every text in a tree.
fn wipe(value: &mut Json) {
    match value {
        Json::String(text) => text.zeroize(),
        Json::Array(elements) => elements.iter_mut().for_each(wipe),
        Json::Object(entries) => entries.values_mut().for_each(wipe),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
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
    use crate::source::secrets::{Content, SecretValue};

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

    fn parameter(value: &str, kind: Kind) -> Parameter {
        Parameter { value: value.into(), kind, version: 1 }
    }

    fn assembled(user_data: &str, fetched: &Fetched) -> Result<Values, String> {
        let text = format!("environment: prod\nrole: web\n{user_data}");
        let config = Config::parse("user-data", text.as_bytes()).expect("valid");
        Values::assemble(&config, &Identity::default(), fetched).map_err(|error| error.to_string())
    }

    fn fetched() -> Fetched {
        let parameters = [
            ("/acme/web/db/host", parameter("h", Kind::String)),
            ("/acme/web/db/password", parameter("p1", Kind::Secret)),
            ("/acme/web/names", parameter("a, b", Kind::List)),
            ("/acme/web/banner", parameter(" ", Kind::String)),
            ("banner:3", parameter("CHANGEME", Kind::String)),
        ];
        let id = |id: &str| SecretId { id: id.into(), stage: None, version: None };
        let secret = |text: &str| SecretValue { content: Content::Text(text.into()), version: "v".into() };
        Fetched {
            parameters: parameters.map(|(name, parameter)| (name.to_owned(), parameter)).into(),
            secrets: [(id("db"), secret(r#"{"user":"u","password":"p2","proxy":""}"#))].into(),
            calls: 2,
        }
    }

    #[test]
    fn everything_that_is_asked_for_is_where_templates_see_it() {
        let values = assembled(
            "
parameters: [ { path: /acme/web, allow_empty: [ banner ] }, { name: /acme/web/db/host, as: database.name } ]
secrets: { db: { secretsmanager: { id: db, allow_empty: [ proxy ] } }, pw: { ssm: /acme/web/db/password } }
",
            &fetched(),
        )
        .expect("all there");
        assert_eq!(
            values.values["parameters"],
            json!({ "banner": " ", "db": { "host": "h", "password": "p1" }, "names": ["a", "b"], "database": { "name": "h" } })
        );
        assert_eq!(values.masked["parameters"]["db"], json!({ "host": "h", "password": MASK }));
        assert_eq!(
            values.values["secrets"],
            json!({ "db": { "user": "u", "password": "p2", "proxy": "" }, "pw": "p1" })
        );
        assert_eq!(
            values.names,
            ["ssm:/acme/web", "ssm:/acme/web/db/host", "secretsmanager:db", "ssm:/acme/web/db/password"]
        );
    }

    #[test]
    fn what_is_missing_or_was_never_set_is_refused() {
        let error = |user_data: &str| assembled(user_data, &fetched()).err().expect("refused");
        insta::assert_snapshot!(error("parameters: [ /acme/web/ ]"), @"failed to fetch the parameter `/acme/web/banner`: it is empty");
        insta::assert_snapshot!(error("parameters: [ /acme/api/ ]"), @"failed to fetch the parameters below `/acme/api/`: there are none");
        insta::assert_snapshot!(error("parameters: [ { name: \"banner:3\" } ]"), @"failed to fetch the parameter `banner:3`: it looks as if nobody had set it");
        insta::assert_snapshot!(error("parameters: [ { name: /acme/x } ]"), @"failed to fetch the parameter `/acme/x`: there is none of this name");
        insta::assert_snapshot!(error("secrets: { db: { secretsmanager: db } }"), @"failed to fetch the secret `db`: its key `proxy` is empty");
        insta::assert_snapshot!(error("secrets: { db: { ssm: nothing } }"), @"failed to fetch the parameter `nothing`: there is none of this name");
        let clash = "parameters: [ { name: /acme/web/db/host, as: db }, { path: /acme/web/db } ]";
        assert!(assembled(clash, &fetched()).is_ok(), "the later one wins");
    }

    #[test]
    fn later_paths_win_key_by_key() {
        let mut into = json!({ "db": { "host": "common", "port": 1 } }).as_object().expect("a map").clone();
        merge(&mut into, json!({ "db": { "host": "prod" }, "x": 1 }).as_object().expect("a map").clone());
        assert_eq!(Json::Object(into), json!({ "db": { "host": "prod", "port": 1 }, "x": 1 }));
    }
}
