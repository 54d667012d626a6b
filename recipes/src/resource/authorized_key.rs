//! `authorized_key`: keys that let in as a user.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::Contents;
use super::fields::{AccountName, State};
use super::public_key::{PublicKey, options};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Attributes, EntryKind, Facts, PlanError, User};

/// Keys that let in as a user by SSH, in `~/.ssh/authorized_keys`.
///
/// A key is found by itself, whatever options and comment it has: one that is there becomes this line, and
/// further lines with it go, because sshd takes the first. Other lines stay, unless `exclusive`. Folder
/// and file become the user's, with the modes 0700 and 0600. An image that lets somebody in is refused, so it
/// is for boot recipes.
///
/// ```yaml
/// - authorized_key:
///     user: root
///     key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci
///     options: [restrict, from=10.0.0.0/8, command=/usr/bin/deploy]
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizedKey {
    /// Who is let in.
    user: AccountName,
    /// A public key: its type, the key, and a comment or none, as in the `.pub` file of ssh-keygen.
    key: Option<String>,
    /// Several of them.
    keys: Option<Vec<String>>,
    /// What sshd(8) lets the keys do, such as `restrict` or `from=10.0.0.0/8`, without quotes; anything if
    /// not said.
    #[serde(default)]
    options: Vec<String>,
    /// Whether no other key is left in the file; `false` if not said.
    #[serde(default)]
    exclusive: bool,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    user: String,
    keys: Vec<PublicKey>,
    options: String,
    exclusive: bool,
    state: State,
}

impl Fields for AuthorizedKey {
    const KIND: &'static str = "authorized_key";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let keys = match (self.key, self.keys) {
            (Some(key), None) => vec![key],
            (None, Some(keys)) if !keys.is_empty() => keys,
            (Some(_), Some(_)) => {
                return Err(Problem::new("an `authorized_key` has either `key` or `keys`, not both"));
            }
            _ => return Err(Problem::new("an `authorized_key` needs `key` or `keys`")),
        };
        if self.state == State::Absent && (self.exclusive || !self.options.is_empty()) {
            return Err(Problem::new("a key that shall be absent has no `options` and is not `exclusive`"));
        }
        let keys: Vec<PublicKey> = keys.iter().map(|key| key.parse()).collect::<Result<_, _>>()?;
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.is(key)) {
                return Err(Problem::new(format!("the key `{}` is listed twice", key.short())));
            }
        }
        Ok(Box::new(Resolved {
            user: self.user.0,
            keys,
            options: options(&self.options)?,
            exclusive: self.exclusive,
            state: self.state,
        }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(PublicKey::short).collect();
        format!("{}: {}", self.user, keys.join(", "))
    }

    fn claims(&self) -> Vec<Claim> {
        if self.exclusive {
            return vec![Claim::AuthorizedKeys(self.user.clone())];
        }
        let claim = |key: &PublicKey| Claim::AuthorizedKey { user: self.user.clone(), key: key.short() };
        self.keys.iter().map(claim).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let Some(user) = facts.user(&self.user)?.known()? else {
            if self.state == State::Absent {
                return Ok(Vec::new());
            }
            return Err(PlanError::impossible_but(
                format!("the user `{}` does not exist", self.user),
                format!("put a `user: {{ name: {} }}` before it", self.user),
            ));
        };
        let folder = user.home.join(".ssh");
        let path = folder.join("authorized_keys");
        let Some(mut ops) = self.plan_folder(facts, &user, &folder)? else {
            return Ok(match self.state {
                State::Absent => Vec::new(),
                State::Present => vec![
                    Op::CreateDirectory { path: folder, attributes: self.owned(&user, 0o700) },
                    self.contents(path, &user, "").create(),
                ],
            });
        };
        let before = match facts.entry(&path)?.known()?.map(|entry| entry.kind) {
            None => String::new(),
            Some(EntryKind::File) => {
                let bytes = facts.content(&path)?.known()?.unwrap_or_default();
                String::from_utf8(bytes)
                    .map_err(|_| PlanError::impossible(format!("`{}` is not a text file", path.display())))?
            }
            Some(other) => return Err(not_a(&path, &other, "file")),
        };
        if self.state == State::Absent {
            // Whose the folder is matters only to keys that are there.
            let same = self.edit(&before) == before;
            return if same { Ok(Vec::new()) } else { self.contents(path, &user, &before).plan(facts) };
        }
        ops.extend(self.contents(path, &user, &before).plan(facts)?);
        Ok(ops)
    }
}

impl Resolved {
    /// What makes the folder the user's; nothing if there is no folder yet.
    fn plan_folder(
        &self,
        facts: &dyn Facts,
        user: &User,
        folder: &Path,
    ) -> Result<Option<Vec<Op>>, PlanError> {
        let Some(entry) = facts.entry(folder)?.known()? else {
            if self.state == State::Present && facts.entry(&user.home)?.known()?.is_none() {
                return Err(PlanError::impossible_but(
                    format!("`{}` has no home: `{}` does not exist", self.user, user.home.display()),
                    format!(
                        "put a `directory: {{ path: {}, owner: {} }}` before it",
                        user.home.display(),
                        self.user
                    ),
                ));
            }
            return Ok(None);
        };
        // The user may have made a link of it, to a file that root alone may write.
        if entry.kind != EntryKind::Directory {
            return Err(not_a(folder, &entry.kind, "directory"));
        }
        let attributes = self.owned(user, 0o700);
        Ok(Some(if entry.attributes == attributes {
            Vec::new()
        } else {
            vec![Op::SetAttributes { path: folder.to_owned(), attributes, before: entry.attributes }]
        }))
    }

    fn owned(&self, user: &User, mode: u32) -> Attributes {
        Attributes { owner: self.user.clone(), group: user.group.clone(), mode }
    }

    fn contents(&self, path: PathBuf, user: &User, before: &str) -> Contents {
        let content = Content::new(self.edit(before));
        Contents { path, content, attributes: self.owned(user, 0o600), validate: None }
    }

    /// The text with each key there once, or not at all.
    fn edit(&self, before: &str) -> String {
        let line = |key: &PublicKey| match self.options.as_str() {
            "" => key.to_string(),
            options => format!("{options} {key}"),
        };
        let mut lines: Vec<String> = Vec::new();
        let mut done = vec![false; self.keys.len()];
        let kept = if self.exclusive { "" } else { before };
        for old in kept.split_inclusive('\n') {
            let text = old.trim_end_matches(['\n', '\r']);
            match self.keys.iter().position(|key| key.is_in(text)) {
                None => lines.push(old.to_owned()),
                Some(at) if self.state == State::Present && !done[at] => {
                    lines.push(format!("{}{}", line(&self.keys[at]), &old[text.len()..]));
                    done[at] = true;
                }
                Some(_) => {}
            }
        }
        if self.state == State::Present {
            let missing = self.keys.iter().zip(done).filter(|(_, done)| !done);
            for (key, _) in missing {
                // The line before it may be the last, without an end.
                if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
                    last.push('\n');
                }
                lines.push(format!("{}\n", line(key)));
            }
        }
        lines.concat()
    }
}

fn not_a(path: &Path, kind: &EntryKind, noun: &str) -> PlanError {
    PlanError::impossible_but(
        format!("`{}` is {}, not a {noun}", path.display(), kind.noun()),
        "remove it first",
    )
}

#[cfg(test)]
mod tests {
    use crate::op::{Op, UserRequest};
    use crate::system::fake::Fake;
    use crate::system::{Attributes, Facts};
    use crate::testing::Example;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICUwO0ZRXGdyfYiTnqm0v8rV4Ov2AQwXIi04Q05ZZG96";
    const FILE: &str = "/home/deploy/.ssh/authorized_keys";

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.apply(&Op::CreateUser(UserRequest {
            name: "deploy".into(),
            create_home: true,
            ..UserRequest::default()
        }));
        fake
    }

    fn with_keys(text: &str) -> Fake {
        let mut fake = debian();
        let deploy = |mode| Attributes { owner: "deploy".into(), group: "deploy".into(), mode };
        fake.apply(&Op::CreateDirectory { path: "/home/deploy/.ssh".into(), attributes: deploy(0o700) });
        fake.file(FILE, text);
        fake
    }

    fn key(fields: &str) -> Example {
        Example::resources(&format!("- authorized_key: {{ user: deploy, {fields} }}"))
    }

    fn edited(before: &str, fields: &str) -> String {
        let mut fake = with_keys(before);
        key(fields).settles(&mut fake);
        fake.text(FILE).expect("the file").replace(A, "A").replace(B, "B")
    }

    #[test]
    fn settles_from_nothing_changed_and_gone() {
        let mut fake = debian();
        insta::assert_snapshot!(key(&format!("key: {A} ci")).settles(&mut fake), @"
        example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV
          + create the directory /home/deploy/.ssh (deploy:deploy 0700)
          + create /home/deploy/.ssh/authorized_keys (deploy:deploy 0600, 84 bytes)
              --- /dev/null
              +++ /home/deploy/.ssh/authorized_keys
              @@ -0,0 +1 @@
              +ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(key(&format!("key: {A} ci, options: [restrict, from=10.0.0.0/8]")).settles(&mut fake), @r#"
        example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV
          ~ change /home/deploy/.ssh/authorized_keys
              --- /home/deploy/.ssh/authorized_keys
              +++ /home/deploy/.ssh/authorized_keys
              @@ -1 +1 @@
              -ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci
              +restrict,from="10.0.0.0/8" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(key(&format!("key: {A}, state: absent")).settles(&mut fake), @r#"
        example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV
          ~ change /home/deploy/.ssh/authorized_keys
              --- /home/deploy/.ssh/authorized_keys
              +++ /home/deploy/.ssh/authorized_keys
              @@ -1 +0,0 @@
              -restrict,from="10.0.0.0/8" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAALFiEsN0JNWGNueYSPmqWwu8bR3Ofy/QgTHik0P0pV ci
        Plan: 1 to change, 0 unchanged.
        "#);
        key(&format!("key: {A}, state: absent")).settles(&mut debian());
    }

    #[test]
    fn settles_among_the_lines_of_others() {
        assert_eq!(edited("# mine\nB x\n", &format!("key: {A}")), "# mine\nB x\nA\n");
        assert_eq!(edited("", &format!("keys: [{A}, {B} b]")), "A\nB b\n");
        assert_eq!(edited("B", &format!("key: {A}")), "B\nA\n");
        let before = format!("# {A}\r\nrestrict,command=\"a b\" {A} old\r\n{B} b\r\n{A}\r\n");
        assert_eq!(edited(&before, &format!("key: {A} new")), "# A\r\nA new\r\nB b\r\n");
        assert_eq!(edited(&before, &format!("key: {A}, state: absent")), "# A\r\nB b\r\n");
        assert_eq!(edited(&format!("{A}\n{B}"), &format!("key: {A}, state: absent")), "B");
        assert_eq!(edited(&before, &format!("key: {B}, exclusive: true")), "B\n");
    }

    #[test]
    fn values_of_options_get_their_quotes() {
        let text =
            edited("", &format!("key: {A}, options: ['command=/bin/a \"b c\"', 'environment=X=1', no-pty]"));
        assert_eq!(text, "command=\"/bin/a \\\"b c\\\"\",environment=\"X=1\",no-pty A\n");
    }

    #[test]
    fn folder_and_file_become_the_users() {
        let mut fake = with_keys(&format!("{A}\n"));
        fake.directory("/home/deploy/.ssh");
        insta::assert_snapshot!(key(&format!("key: {A}")).settles(&mut fake), @"
        example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV
          ~ /home/deploy/.ssh: root:root 0755 -> deploy:deploy 0700
          ~ /home/deploy/.ssh/authorized_keys: root:root 0644 -> deploy:deploy 0600
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let example = key(&format!("key: {A}"));
        let mut fake = debian();
        fake.symlink("/home/deploy/.ssh", "/root/.ssh");
        insta::assert_snapshot!(example.fails(&mut fake), @"example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV: `/home/deploy/.ssh` is a symbolic link, not a directory; remove it first");
        let mut fake = with_keys("");
        fake.symlink(FILE, "/etc/shadow");
        insta::assert_snapshot!(example.fails(&mut fake), @"example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV: `/home/deploy/.ssh/authorized_keys` is a symbolic link, not a file; remove it first");
        let mut fake = debian();
        fake.apply(&Op::Remove { path: "/home/deploy".into(), directory: true });
        insta::assert_snapshot!(example.fails(&mut fake), @"example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV: `deploy` has no home: `/home/deploy` does not exist; put a `directory: { path: /home/deploy, owner: deploy }` before it");
        key(&format!("key: {A}, state: absent")).settles(&mut fake);
        insta::assert_snapshot!(example.fails(&mut Fake::debian()), @"example: authorized_key deploy: ssh-ed25519 .../QgTHik0P0pV: the user `deploy` does not exist; put a `user: { name: deploy }` before it");
        key(&format!("key: {A}, state: absent")).settles(&mut Fake::debian());
    }

    #[test]
    fn a_user_that_a_package_may_bring_is_unknown() {
        let example = Example::resources(&format!(
            "- package: {{ name: app }}\n- authorized_key: {{ user: app, key: {A} }}"
        ));
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package app
          + install app
        example: authorized_key app: ssh-ed25519 .../QgTHik0P0pV (assumed)
          ? known after apply: whether installing app brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn two_that_contradict_each_other_are_found() {
        let both = |one: &str, other: &str| {
            Example::resources(&format!(
                "- authorized_key: {{ user: deploy, {one} }}\n- authorized_key: {{ user: deploy, {other} }}"
            ))
        };
        let a = format!("key: {A}");
        insta::assert_snapshot!(both(&a, &format!("{a}, options: [restrict]")).problems(), @"example/recipe.yaml:3:5: the key `ssh-ed25519 .../QgTHik0P0pV` of `deploy` is decided twice, differently (first here: example/recipe.yaml:2:5)");
        insta::assert_snapshot!(both(&a, &format!("key: {B}, exclusive: true")).problems(), @"example/recipe.yaml:2:5: the key `ssh-ed25519 .../QgTHik0P0pV` of `deploy` is set, but the set of keys of `deploy` is decided elsewhere (here: example/recipe.yaml:3:5); put it among the keys there");
        insta::assert_snapshot!(both(&format!("{a}, exclusive: true"), &format!("key: {B}, exclusive: true")).problems(), @"example/recipe.yaml:3:5: the set of keys of `deploy` is decided twice, differently (first here: example/recipe.yaml:2:5)");
        both(&a, &format!("key: {B}")).resolve(Fake::debian().host()).expect("two keys");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| key(fields).problems();
        insta::assert_snapshot!(problems("state: present"), @"example/recipe.yaml:2:21: an `authorized_key` needs `key` or `keys`");
        insta::assert_snapshot!(problems(&format!("key: {A}, keys: [{B}]")), @"example/recipe.yaml:2:21: an `authorized_key` has either `key` or `keys`, not both");
        insta::assert_snapshot!(problems(&format!("keys: [{A}, {A} again]")), @"example/recipe.yaml:2:21: the key `ssh-ed25519 .../QgTHik0P0pV` is listed twice");
        insta::assert_snapshot!(problems(&format!("key: {A}, state: absent, exclusive: true")), @"example/recipe.yaml:2:21: a key that shall be absent has no `options` and is not `exclusive`");
        insta::assert_snapshot!(problems(&format!("key: {A}, options: [restricted]")), @"example/recipe.yaml:2:21: `restricted` is not an option of a key; did you mean `restrict`? valid are `agent-forwarding`, `cert-authority`, `command`, `environment`, `expiry-time`, `from`, `no-agent-forwarding`, `no-port-forwarding`, `no-pty`, `no-touch-required`, `no-user-rc`, `no-X11-forwarding`, `permitlisten`, `permitopen`, `port-forwarding`, `principals`, `pty`, `restrict`, `tunnel`, `user-rc`, `verify-required` and `X11-forwarding`");
        insta::assert_snapshot!(problems(&format!("key: {A}, options: [from]")), @"example/recipe.yaml:2:21: the option `from` needs a value: `from=VALUE`");
        insta::assert_snapshot!(problems(&format!("key: {A}, options: [no-pty=1]")), @"example/recipe.yaml:2:21: the option `no-pty` has no value");
        insta::assert_snapshot!(problems(&format!("key: {A}, options: ['from=\"10.0.0.1\"']")), @r#"example/recipe.yaml:2:21: the value of `from` starts with a quote or ends in `\`; write it without quotes; those that it needs are added"#);
        insta::assert_snapshot!(problems(&format!("key: {A}, options: [\"command=a\\nb\"]")), @"example/recipe.yaml:2:21: an option of a key goes into one line; it has a line end or NUL in it");
    }
}
