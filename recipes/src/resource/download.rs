//! `download`: a file with exactly the content that is behind an address.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checkers::{Validate, checker};
use super::contents::{owners_exist, parent_exists};
use super::fields::{AbsolutePath, Mode, Sha256Sum, State, attributes};
use super::file::AbsentFile;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Download as Fetching, Op};
use crate::system::{EntryKind, Facts, Known, PlanError};
use crate::url::HttpsUrl;

/// A file with exactly the content that is behind an `https://` address.
///
/// What is on the host is compared by its `sha256`, so nothing is fetched that is there already. It is fetched
/// into a file beside its place that only root can read, compared, checked with `validate`, and moved into place.
/// A part that was cut off is gone on from, in the next run as well. Connections that fail and the answers 408,
/// 429 and 5xx are tried again, and `Retry-After` is obeyed. Redirects are followed, ten at most, and to
/// `https://` only. `https_proxy` and `no_proxy` are those that package managers get. A builder keeps what it
/// fetched by its `sha256` in `/var/cache/bootstrap-agent/downloads` until the image is sealed.
///
/// The host has to trust who signed the server's certificate: install `ca-certificates` before, or name a
/// `ca_file`. An address with a user, a password or a secret in it is an error; plans and events do not show the
/// query of one.
///
/// ```yaml
/// - download:
///     url: https://releases.example.com/tool-1.4.2.tar.gz
///     sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
///     path: /opt/tool-1.4.2.tar.gz
/// - download: { path: /opt/tool-1.4.1.tar.gz, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Download {
    /// Where it is fetched from; required where `state` is `present`.
    url: Option<HttpsUrl>,
    /// The SHA-256 that it has; required where `state` is `present`.
    sha256: Option<Sha256Sum>,
    /// Where it is put.
    path: AbsolutePath,
    /// Its owner; `root` if not said.
    owner: Option<String>,
    /// Its group; `root` if not said.
    group: Option<String>,
    /// Its permission bits; `"0644"` if not said.
    mode: Option<Mode>,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// A file of the host with the certificates, in PEM, that the server is believed by, instead of those that the
    /// host trusts.
    ca_file: Option<AbsolutePath>,
    /// How many bytes it may have; 2147483648, which is 2 GiB, if not said.
    max_bytes: Option<u64>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// What is fetched is on the disk twice for a moment; who needs more says so.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

#[derive(Debug)]
struct Present(Fetching);

impl Fields for Download {
    const KIND: &'static str = "download";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.state == State::Absent {
            return match (self.url, self.sha256) {
                (None, None) => Ok(Box::new(AbsentFile { path: self.path })),
                _ => Err(Problem::new("a download that shall be absent has no `url` or `sha256`")),
            };
        }
        let Some(url) = self.url else {
            return Err(Problem::new("a `download` needs the `url` that it is fetched from"));
        };
        let Some(sha256) = self.sha256 else {
            return Err(Problem::new("a `download` needs the `sha256` of what is fetched").help(
                "have `sha256sum` print that of a file you trust: without it a host runs whatever is there one day",
            ));
        };
        if self.max_bytes == Some(0) {
            return Err(Problem::new("`max_bytes` is 0, so nothing could be fetched"));
        }
        Ok(Box::new(Present(Fetching {
            url,
            sha256: sha256.0,
            path: self.path.as_path().to_owned(),
            attributes: attributes(self.owner, self.group, self.mode, 0o644),
            validate: self.validate.map(|validate| validate.0),
            ca_file: self.ca_file.map(|path| path.as_path().to_owned()),
            max_bytes: self.max_bytes.unwrap_or(MAX_BYTES),
            replaces: false,
        })))
    }
}

impl Resource for Present {
    fn subject(&self) -> String {
        self.0.path.display().to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Path(self.0.path.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let Fetching { path, attributes, sha256, .. } = &self.0;
        owners_exist(facts, attributes)?;
        let Some(entry) = facts.entry(path)?.known()? else {
            parent_exists(facts, path)?;
            return self.fetch(facts, false);
        };
        match entry.kind {
            EntryKind::File => {}
            EntryKind::Symlink { .. } => return self.fetch(facts, true),
            other => {
                let message = format!("`{}` is {}, not a file", path.display(), other.noun());
                return Err(PlanError::impossible(message));
            }
        }
        if facts.sha256(path)?.known()?.as_ref() != Some(sha256) {
            return self.fetch(facts, true);
        }
        if entry.attributes == *attributes {
            return Ok(Vec::new());
        }
        let (path, attributes) = (path.clone(), attributes.clone());
        Ok(vec![Op::SetAttributes { path, attributes, before: entry.attributes }])
    }
}

impl Present {
    fn fetch(&self, facts: &dyn Facts, replaces: bool) -> Result<Vec<Op>, PlanError> {
        if let Some(ca_file) = &self.0.ca_file {
            ca_file_exists(facts, ca_file)?;
        }
        let validate = checker(facts, &self.0.path, self.0.validate.as_ref())?;
        Ok(vec![Op::Download(Fetching { validate, replaces, ..self.0.clone() })])
    }
}

/// Certificates that are not there would be found only when a server is asked.
pub(super) fn ca_file_exists(facts: &dyn Facts, path: &Path) -> Result<(), PlanError> {
    match facts.entry(path)? {
        Known::Yes(Some(entry)) if entry.kind != EntryKind::File => Err(PlanError::impossible(format!(
            "the `ca_file` `{}` is {}, not a file",
            path.display(),
            entry.kind.noun()
        ))),
        Known::Yes(Some(_)) => Ok(()),
        Known::Yes(None) => Err(PlanError::impossible_but(
            format!("the `ca_file` `{}` does not exist", path.display()),
            format!("put a `file: {{ path: {} }}` before it", path.display()),
        )),
        Known::Unknown(why) => Err(PlanError::Unknown(why)),
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn example(more: &str) -> Example {
        Example::resources(&format!(
            "- download: {{ url: \"https://a.b/c?token=hidden\", sha256: {HELLO}, path: /srv/tool{more} }}"
        ))
    }

    fn served() -> Fake {
        let mut fake = Fake::debian();
        fake.serves("https://a.b/c?token=hidden", "hello");
        fake
    }

    #[test]
    fn settles_from_nothing_from_drift_and_to_absence() {
        let mut fake = served();
        insta::assert_snapshot!(example("").settles(&mut fake), @"
        example: download /srv/tool
          + create /srv/tool by https://a.b/c?... (root:root 0644, sha256 2cf24dba5fb0a30e...)
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/srv/tool").as_deref(), Some("hello"));
        fake.file("/srv/tool", "changed");
        insta::assert_snapshot!(example("").settles(&mut fake), @"
        example: download /srv/tool
          ~ replace /srv/tool by https://a.b/c?... (root:root 0644, sha256 2cf24dba5fb0a30e...)
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(example(", mode: \"0755\"").settles(&mut fake), @"
        example: download /srv/tool
          ~ /srv/tool: root:root 0644 -> root:root 0755
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- download: { path: /srv/tool, state: absent }").settles(&mut fake), @"
        example: download /srv/tool
          - remove /srv/tool
        Plan: 1 to change, 0 unchanged.
        ");
        assert_eq!(fake.text("/srv/tool"), None);
    }

    #[test]
    fn a_file_that_is_right_already_is_not_fetched_whoever_put_it_there() {
        let mut fake = Fake::debian();
        fake.file("/srv/tool", "hello");
        insta::assert_snapshot!(example("").settles(&mut fake), @"Plan: 0 to change, 1 unchanged.");
    }

    #[test]
    fn what_comes_later_sees_the_file() {
        let resources = format!(
            "
- download: {{ url: https://a.b/c, sha256: {HELLO}, path: /srv/tool }}
- command: {{ argv: [build], creates: /srv/tool }}
- download: {{ url: https://a.b/c, sha256: {HELLO}, path: /srv/tool/a }}
"
        );
        insta::assert_snapshot!(Example::resources(&resources).plan(&Fake::debian()).expect_err("it is a file").to_string(), @"example: download /srv/tool/a: `/srv/tool` is a file, not a directory");
    }

    #[test]
    fn what_is_not_as_it_shall_be_is_not_put_in_place() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(example("").fails(&mut fake), @"example: download /srv/tool: failed to create /srv/tool by https://a.b/c?... (root:root 0644, sha256 2cf24dba5fb0a30e...): failed to fetch `https://a.b/c?...`: the server answered 404 Not Found");
        fake.serves("https://a.b/c?token=hidden", "hello, world");
        insta::assert_snapshot!(example("").fails(&mut fake), @"example: download /srv/tool: failed to create /srv/tool by https://a.b/c?... (root:root 0644, sha256 2cf24dba5fb0a30e...): `https://a.b/c?...` is not what it shall be: 12 bytes with the sha256 09ca7e4eaa6e8ae9c7d261167129184883644d07dfba7cbfbc4c8a2e08360d5b, expected 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824; if it is a new release on purpose, write its sha256 into the recipe");
        assert_eq!(fake.text("/srv/tool"), None);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut fake = served();
        fake.directory("/srv/tool");
        fake.symlink("/etc/ca.pem", "/etc/other.pem");
        insta::assert_snapshot!(example("").fails(&mut fake), @"example: download /srv/tool: `/srv/tool` is a directory, not a file");
        insta::assert_snapshot!(example("/a/b").fails(&mut fake), @"example: download /srv/tool/a/b: the directory `/srv/tool/a` does not exist; put a `directory: { path: /srv/tool/a }` before it");
        insta::assert_snapshot!(example("/a, owner: app").fails(&mut fake), @"example: download /srv/tool/a: the user `app` does not exist; put a `user: { name: app }` before it");
        insta::assert_snapshot!(example("/a, ca_file: /etc/none.pem").fails(&mut fake), @"example: download /srv/tool/a: the `ca_file` `/etc/none.pem` does not exist; put a `file: { path: /etc/none.pem }` before it");
        insta::assert_snapshot!(example("/a, ca_file: /etc/ca.pem").fails(&mut fake), @"example: download /srv/tool/a: the `ca_file` `/etc/ca.pem` is a symbolic link, not a file");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems =
            |fields: &str| Example::resources(&format!("- download: {{ path: /a, {fields} }}")).problems();
        let url = |url: &str| problems(&format!("sha256: {HELLO}, url: \"{url}\""));
        insta::assert_snapshot!(url("http://a.b/c?d"), @"example/recipe.yaml:2:15: `http://a.b/c?...` is not an `https://` address; without TLS anybody on the way sees what this host fetches");
        insta::assert_snapshot!(url("https://me:hunter2@a.b/"), @"example/recipe.yaml:2:15: an address with a user or password in it is not fetched from: plans and logs would show it");
        insta::assert_snapshot!(url("https://a.b/c d"), @"example/recipe.yaml:2:15: `https://a.b/c d` has the character ` ` in it, which an address has as `%` and two digits");
        insta::assert_snapshot!(url("https://a.b/c#d"), @"example/recipe.yaml:2:15: `https://a.b/c#d` has a `#` in it; no server is told what comes after that");
        for host in ["", "/x", ":1", "-a", "a:0", "a:70000", "a:x", "[::1", "[a]", "[::1]x"] {
            assert!(url(&format!("https://{host}")).ends_with("has no valid host in it"), "{host}");
        }
        for valid in ["https://a", "https://[::1]:8443/x", "https://a-b.c:443?x"] {
            assert!(crate::url::HttpsUrl::parse(valid).is_ok(), "{valid}");
        }
        insta::assert_snapshot!(problems("url: https://a.b/c"), @"example/recipe.yaml:2:15: a `download` needs the `sha256` of what is fetched; have `sha256sum` print that of a file you trust: without it a host runs whatever is there one day");
        insta::assert_snapshot!(problems("url: https://a.b/c, sha256: abc"), @"example/recipe.yaml:2:15: `abc` is not a SHA-256: that is 64 hexadecimal digits, as `sha256sum` prints them");
        insta::assert_snapshot!(problems(&format!("sha256: {HELLO}")), @"example/recipe.yaml:2:15: a `download` needs the `url` that it is fetched from");
        insta::assert_snapshot!(problems("url: https://a.b/c, state: absent"), @"example/recipe.yaml:2:15: a download that shall be absent has no `url` or `sha256`");
        insta::assert_snapshot!(problems(&format!("url: https://a.b/c, sha256: {HELLO}, max_bytes: 0")), @"example/recipe.yaml:2:15: `max_bytes` is 0, so nothing could be fetched");
        let leaky = Example::resources(&format!(
            "- download: {{ path: /a, sha256: {HELLO}, url: \"https://a.b/?t={{{{ secrets.password }}}}\" }}"
        ));
        insta::assert_snapshot!(leaky.secret("hunter2").problems(), @"example/recipe.yaml:2:106: a secret may not be used in `url` of a `download`; it would be seen in plans and process lists; write it to a `file` or `template`");
    }
}
