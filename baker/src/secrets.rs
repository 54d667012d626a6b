//! Secrets that a bake uses, for the leak gate: none of them may be in an image.

use std::fmt;

use serde_json::json;

use crate::files::Made;
use crate::image::AllowedLeak;

/// How the names of variables begin whose values somebody wants to be looked for.
pub const PREFIX: &str = "BAKER_SECRET_";

/// Variables that AWS is called with.
const OF_AWS: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Values that must not be in an image, each with what it is.
#[derive(Clone, Default)]
pub struct Secrets(Vec<(String, String)>);

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Secrets {
    /// Those among the variables of the environment: what AWS is called with, passwords of proxies, and what begins
    /// with [`PREFIX`].
    pub fn among(variables: impl Iterator<Item = (String, String)>) -> Self {
        let secrets = variables.filter_map(|(name, value)| {
            let value = match name.as_str() {
                "http_proxy" | "https_proxy" => password(&value)?.to_owned(),
                name if name.starts_with(PREFIX) || OF_AWS.contains(&name) => value,
                _ => return None,
            };
            Some((name, value))
        });
        let mut secrets: Vec<_> = secrets.filter(|(_, value)| !value.is_empty()).collect();
        secrets.sort();
        Self(secrets)
    }

    /// What the agent reads before it looks for leaks.
    pub fn gate(&self, allowed: &[AllowedLeak], made: &Made) -> Vec<u8> {
        let secrets = self.0.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        let allowed = allowed.iter().map(|allowed| json!({ "path": allowed.path, "sha256": allowed.sha256 }));
        let gate = json!({ "secrets": secrets.collect::<Vec<_>>(), "allowed": allowed.collect::<Vec<_>>(), "made": made.by_path() });
        gate.to_string().into_bytes()
    }
}

/// That of a URL: `http://USER:PASSWORD@HOST`.
fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (who, _) = rest.rsplit_once('@')?;
    who.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bake_uses_and_must_not_keep_is_known() {
        let variables = [
            ("BAKER_SECRET_DEPLOY", "one"),
            ("BAKER_VAR_version", "two"),
            ("AWS_SECRET_ACCESS_KEY", "three"),
            ("https_proxy", "http://ci:four@proxy:3128"),
            ("http_proxy", "http://proxy:3128"),
            ("AWS_SESSION_TOKEN", ""),
        ];
        let secrets = Secrets::among(variables.map(|(name, value)| (name.into(), value.into())).into_iter());
        assert_eq!(
            format!("{secrets:?}"),
            r#"["AWS_SECRET_ACCESS_KEY", "BAKER_SECRET_DEPLOY", "https_proxy"]"#
        );
        let gate = String::from_utf8(secrets.gate(&[], &Made::default())).expect("text");
        assert_eq!(
            gate,
            r#"{"secrets":[{"name":"AWS_SECRET_ACCESS_KEY","value":"three"},{"name":"BAKER_SECRET_DEPLOY","value":"one"},{"name":"https_proxy","value":"four"}],"allowed":[],"made":{}}"#
        );
    }
}
