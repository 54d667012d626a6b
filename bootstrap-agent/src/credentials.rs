//! Secrets for single services, as credentials of systemd: each service gets its own, and nobody else can read them.
//!
//! They become a recipe before all others of the boot: files that only root can read, on tmpfs, and for each service a
//! drop-in in `/run` with `LoadCredential=`. So they are put in place with all other files or not at all, and a service
//! that runs is restarted when one of its own has changed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use recipes::bundle::Bundle;
use recipes::error::Problems;
use recipes::recipe::Recipe;
use recipes::system::units::full_name;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value as Json, json};

/// Credentials by their names, of units by theirs.
pub type Credentials = BTreeMap<Unit, BTreeMap<Name, Path>>;

/// Where the files are that systemd reads.
const FOLDER: &str = "/run/bootstrap-agent/credentials";

/// A unit that has credentials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(String);

/// The name of a credential, which is that of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// Where its value is in what templates see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<String>);

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // systemd.unit(5). An instance of a template has a folder of drop-ins of its own.
        let valid = text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
        let unit = full_name(text);
        if text.is_empty() || text.starts_with(['-', '.']) || !valid || !unit.ends_with(".service") {
            return Err(format!("`{text}` is not the name of a service"));
        }
        Ok(Self(unit))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if text.is_empty() || text.len() > 255 || text.starts_with('.') || !valid {
            return Err(format!(
                "`{text}` is not the name of a credential; use letters, digits, `-`, `_` and `.`"
            ));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_source = matches!(parts[0].as_str(), "secrets" | "parameters") && parts.len() > 1;
        let is_word = |part: &String| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        if !is_source || !parts.iter().all(is_word) {
            return Err(format!(
                "`{text}` does not say which value; write one such as `secrets.db.password` or `parameters.key`"
            ));
        }
        Ok(Self(parts))
    }
}

impl Path {
    /// The secret that it is in, if it is in one.
    pub fn secret(&self) -> Option<&str> {
        (self.0[0] == "secrets").then(|| self.0[1].as_str())
    }
}

impl fmt::Display for Path {
    /// As a template finds it, whatever is in the names.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, rest) =
            self.0.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        write!(formatter, "{{{{ {first}")?;
        rest.iter().try_for_each(|part| write!(formatter, "[\"{part}\"]"))?;
        formatter.write_str(" }}")
    }
}

macro_rules! from_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

from_text!(Unit, Name, Path);

/// The boot recipes with credentials before them.
///
/// # Errors
/// When there is no recipe in what was made of them, which would be a bug.
pub fn before(bundle: Bundle, credentials: &Credentials) -> Result<Bundle, Problems> {
    if credentials.is_empty() {
        return Ok(bundle);
    }
    Ok(bundle.with_first(Recipe::of_text("credentials", recipe(credentials).to_string())?))
}

/// YAML is JSON and more.
fn recipe(credentials: &Credentials) -> Json {
    let mut resources = vec![json!({ "directory": { "path": FOLDER, "mode": "0700" } })];
    let mut handlers = serde_json::Map::new();
    for (Unit(unit), credentials) in credentials {
        let (folder, restart) = (format!("{FOLDER}/{unit}"), format!("restart {unit}"));
        resources.push(json!({ "directory": { "path": folder, "mode": "0700" } }));
        let mut drop_in = String::from("[Service]\n");
        for (Name(name), path) in credentials {
            let file = format!("{folder}/{name}");
            drop_in += &format!("LoadCredential={name}:{file}\n");
            let content = path.to_string();
            resources.push(
                json!({ "file": { "path": file, "content": content, "mode": "0400" }, "notify": restart }),
            );
        }
        let drop_ins = format!("/run/systemd/system/{unit}.d");
        resources.push(json!({ "directory": { "path": drop_ins } }));
        let path = format!("{drop_ins}/20-bootstrap-agent-credentials.conf");
        resources.push(json!({ "file": { "path": path, "content": drop_in }, "notify": restart }));
        handlers.insert(restart, json!({ "service": { "name": unit, "state": "restarted" } }));
    }
    json!({ "resources": resources, "handlers": handlers })
}

#[cfg(test)]
mod tests {
    use recipes::plan::{Guards, plan};
    use recipes::resolve::{RecipeUse, resolve};
    use recipes::system::Mode;
    use recipes::system::linux::Linux;

    use super::*;
    use crate::config::Config;
    use crate::source::fetched::Fetched;
    use crate::source::instance::Identity;
    use crate::source::plan::SecretId;
    use crate::source::secrets::{Content, SecretValue};
    use crate::values::Values;

    fn config(credentials: &str) -> Result<Config, String> {
        let text = format!(
            "environment: prod\nrole: web\nsecrets: {{ db: {{ secretsmanager: db }} }}\ncredentials: {credentials}\n"
        );
        Config::parse("user-data", text.as_bytes()).map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_is_not_a_unit_a_name_or_a_value_is_explained() {
        let error = |text: &str| config(text).expect_err(text);
        insta::assert_snapshot!(error("{ a/b: { x: secrets.db } }"), @"user-data:4:16: `a/b` is not the name of a service");
        insta::assert_snapshot!(error("{ a.socket: { x: secrets.db } }"), @"user-data:4:16: `a.socket` is not the name of a service");
        insta::assert_snapshot!(error("{ app: { ../x: secrets.db } }"), @"user-data:4:23: `../x` is not the name of a credential; use letters, digits, `-`, `_` and `.`");
        insta::assert_snapshot!(error("{ app: { x: hunter2 } }"), @"user-data:4:21: `hunter2` does not say which value; write one such as `secrets.db.password` or `parameters.key`");
        insta::assert_snapshot!(error("{ app: { x: \"secrets.db['y']\" } }"), @"user-data:4:21: `secrets.db['y']` does not say which value; write one such as `secrets.db.password` or `parameters.key`");
        insta::assert_snapshot!(error("{ app: { x: secrets.dbs.password } }"), @"user-data:4:14: there is no secret `dbs` among `secrets`; did you mean `db`? valid is `db`");
    }

    #[test]
    fn each_service_gets_its_own() {
        let config =
            config("{ app: { password: secrets.db.pass-word, user: secrets.db.user } }").expect("valid");
        let id = SecretId { id: "db".into(), stage: None, version: None };
        let text = Content::Text(r#"{"pass-word":"hunter2","user":"u"}"#.into());
        let secret = SecretValue { content: text, version: "v".into() };
        let fetched = Fetched { secrets: [(id, secret)].into(), ..Fetched::default() };
        let values = Values::assemble(&config, &Identity::default(), &fetched).expect("all there");
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("etc")).expect("made");
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
        std::fs::write(root.path().join("etc/group"), "root:x:0:\n").expect("written");
        let machine = Linux::open(root.path(), Mode::Live).expect("a root");
        let made = Recipe::of_text("credentials", recipe(&config.credentials).to_string()).expect("valid");
        let used = RecipeUse { recipe: made, inputs: serde_json::Map::new(), stage: 0, at: None };
        let resolved = resolve(&[used], &values.scope()).expect("resolved");
        let plan = plan(&resolved, &machine, Guards::Skip).expect("planned").to_string();
        assert!(!plan.contains("hunter2"));
        insta::assert_snapshot!(plan, @"
        credentials: directory /run/bootstrap-agent/credentials
          + create the directory /run (root:root 0755)
          + create the directory /run/bootstrap-agent (root:root 0755)
          + create the directory /run/bootstrap-agent/credentials (root:root 0700)
        credentials: directory /run/bootstrap-agent/credentials/app.service (derived)
          + create the directory /run/bootstrap-agent/credentials/app.service (root:root 0700)
        credentials: file /run/bootstrap-agent/credentials/app.service/password (derived)
          + create the directory /run/bootstrap-agent/files (root:root 0711)
          + create the directory /run/bootstrap-agent/files/run (root:root 0711)
          + create the directory /run/bootstrap-agent/files/run/bootstrap-agent (root:root 0711)
          + create the directory /run/bootstrap-agent/files/run/bootstrap-agent/credentials (root:root 0711)
          + create the directory /run/bootstrap-agent/files/run/bootstrap-agent/credentials/app.service (root:root 0711)
          + create /run/bootstrap-agent/files/run/bootstrap-agent/credentials/app.service/password (root:root 0400, secret, 7 bytes)
          + link /run/bootstrap-agent/credentials/app.service/password -> /run/bootstrap-agent/files/run/bootstrap-agent/credentials/app.service/password
        credentials: file /run/bootstrap-agent/credentials/app.service/user (derived)
          + create /run/bootstrap-agent/files/run/bootstrap-agent/credentials/app.service/user (root:root 0400, secret, 1 bytes)
          + link /run/bootstrap-agent/credentials/app.service/user -> /run/bootstrap-agent/files/run/bootstrap-agent/credentials/app.service/user
        credentials: directory /run/systemd/system/app.service.d (derived)
          + create the directory /run/systemd (root:root 0755)
          + create the directory /run/systemd/system (root:root 0755)
          + create the directory /run/systemd/system/app.service.d (root:root 0755)
        credentials: file /run/systemd/system/app.service.d/20-bootstrap-agent-credentials.conf (derived)
          + create /run/systemd/system/app.service.d/20-bootstrap-agent-credentials.conf (root:root 0644, 158 bytes)
              --- /dev/null
              +++ /run/systemd/system/app.service.d/20-bootstrap-agent-credentials.conf
              @@ -0,0 +1,3 @@
              +[Service]
              +LoadCredential=password:/run/bootstrap-agent/credentials/app.service/password
              +LoadCredential=user:/run/bootstrap-agent/credentials/app.service/user
        Plan: 6 to change, 0 unchanged.
        Of these 1 observed, 5 derived, 0 assumed.
        ");
    }
}
