//! `sysusers`: accounts of services, declared in a file.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AbsolutePath, AccountName, PartName, State, one_line};
use super::part::Part;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, UserRequest};
use crate::system::{Facts, PlanError};

/// Accounts of services, declared in a file of their own in `/etc/sysusers.d`.
///
/// Systemd-sysusers makes from the file what is missing when `/etc` starts empty. Here the accounts are made
/// at once, as it would make them: each user with a group of its name, without password and home. An account
/// that is there stays as it is; one with another number is an error. When the file goes, the accounts
/// stay. For one account on one host a `user` is enough.
///
/// ```yaml
/// - sysusers:
///     name: app
///     users: [ { name: app, id: 990, comment: The application, home: /srv/app, groups: [app-data] } ]
///     groups: [ { name: app-data } ]
/// - sysusers: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sysusers {
    /// The name of the file, without `.conf`: letters, digits, `-` and `_`.
    name: PartName,
    /// The users.
    #[serde(default)]
    users: Vec<User>,
    /// Groups besides those of the users' names.
    #[serde(default)]
    groups: Vec<Group>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct User {
    /// Its name.
    name: AccountName,
    /// Its number, and that of its group; the system chooses one if not said.
    id: Option<u32>,
    /// Its comment field.
    comment: Option<String>,
    /// Its home directory, which is not made; `/` if not said.
    home: Option<AbsolutePath>,
    /// Its login shell; `/usr/sbin/nologin` if not said.
    shell: Option<AbsolutePath>,
    /// Other groups that it must be a member of; those that are missing are made.
    #[serde(default)]
    groups: Vec<AccountName>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Group {
    /// Its name.
    name: AccountName,
    /// Its number; the system chooses one if not said.
    id: Option<u32>,
}

#[derive(Debug)]
struct Resolved {
    part: Part,
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Fields for Sysusers {
    const KIND: &'static str = "sysusers";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let nothing = self.users.is_empty() && self.groups.is_empty();
        if nothing && self.state == State::Present {
            return Err(Problem::new("a `sysusers` needs `users` or `groups`"));
        }
        let mut text = String::new();
        for Group { name, id } in &self.groups {
            check_name(name)?;
            text += &format!("g {} {}\n", name.0, number(*id)?);
        }
        for user in &self.users {
            text += &user.lines()?;
        }
        let text = (!nothing).then_some(text);
        let part = Part::new("/etc/sysusers.d", &format!("{}.conf", self.name.0)).with(self.state, text)?;
        Ok(Box::new(Resolved { part, users: self.users, groups: self.groups }))
    }
}

impl User {
    fn lines(&self) -> Result<String, Problem> {
        check_name(&self.name)?;
        let comment = match &self.comment {
            None => "-".to_owned(),
            Some(comment) => {
                one_line("`comment`", comment)?;
                if comment.contains([':', '"', '\\']) {
                    return Err(Problem::new("`comment` has a colon, a quote or a backslash in it"));
                }
                format!("\"{}\"", comment.replace('%', "%%"))
            }
        };
        let path = |path: &Option<AbsolutePath>| match path.as_ref().map(ToString::to_string) {
            None => Ok("-".to_owned()),
            Some(path) if path.contains([':', '"', '\'', '\\', '%', ' ', '\t', '\n']) => Err(Problem::new(
                format!("the path `{path}` has a space, a colon, a quote, a backslash or `%` in it"),
            )),
            Some(path) => Ok(path),
        };
        let (name, id) = (&self.name.0, number(self.id)?);
        let mut lines = format!("u {name} {id} {comment} {} {}\n", path(&self.home)?, path(&self.shell)?);
        for group in &self.groups {
            check_name(group)?;
            lines += &format!("m {name} {}\n", group.0);
        }
        Ok(lines)
    }

    fn request(&self) -> UserRequest {
        let path = |path: &Option<AbsolutePath>, default: &str| {
            Some(path.as_ref().map_or(Path::new(default), AbsolutePath::as_path).to_owned())
        };
        UserRequest {
            name: self.name.0.clone(),
            uid: self.id,
            group: Some(self.name.0.clone()),
            groups: (!self.groups.is_empty())
                .then(|| self.groups.iter().map(|name| name.0.clone()).collect()),
            // The defaults of sysusers.d(5).
            home: path(&self.home, "/"),
            shell: path(&self.shell, "/usr/sbin/nologin"),
            comment: self.comment.clone(),
            system: true,
            create_home: false,
        }
    }
}

/// Sysusers.d(5) has names one character shorter than useradd(8).
fn check_name(name: &AccountName) -> Result<(), Problem> {
    if name.0.len() > 31 {
        return Err(Problem::new(format!("`{}` is longer than the 31 characters of sysusers.d(5)", name.0)));
    }
    Ok(())
}

fn number(id: Option<u32>) -> Result<String, Problem> {
    match id {
        None => Ok("-".to_owned()),
        // Sysusers.d(5): these stand for no number.
        Some(id @ (65535 | u32::MAX)) => Err(Problem::new(format!("{id} is not a number for an account"))),
        Some(id) => Ok(id.to_string()),
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.part.subject()
    }

    fn claims(&self) -> Vec<Claim> {
        let users = self
            .users
            .iter()
            .flat_map(|user| [Claim::User(user.name.0.clone()), Claim::Group(user.name.0.clone())]);
        let groups = self.groups.iter().map(|group| Claim::Group(group.name.0.clone()));
        self.part.claims().into_iter().chain(users).chain(groups).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let mut ops = self.part.plan(facts)?;
        let mut seen = BTreeSet::new();
        let own = self.users.iter().map(|user| (&user.name, user.id));
        let others = self.users.iter().flat_map(|user| user.groups.iter().map(|name| (name, None)));
        let groups = self.groups.iter().map(|group| (&group.name, group.id)).chain(own).chain(others);
        for (name, gid) in groups.filter(|(name, _)| seen.insert(name.0.clone())) {
            match facts.group(&name.0)?.known()? {
                Some(group) => same_number("group", &name.0, gid, group.gid)?,
                None => ops.push(Op::CreateGroup { name: name.0.clone(), gid, system: true }),
            }
        }
        for user in &self.users {
            let wanted = user.request();
            let Some(now) = facts.user(&user.name.0)?.known()? else {
                ops.push(Op::CreateUser(wanted));
                continue;
            };
            same_number("user", &user.name.0, user.id, now.uid)?;
            let missing: Vec<String> =
                wanted.groups.into_iter().flatten().filter(|name| !now.groups.contains(name)).collect();
            if !missing.is_empty() {
                let groups = Some(now.groups.into_iter().chain(missing).collect());
                ops.push(Op::ModifyUser(UserRequest { name: wanted.name, groups, ..UserRequest::default() }));
            }
        }
        Ok(ops)
    }
}

fn same_number(noun: &str, name: &str, wanted: Option<u32>, now: Option<u32>) -> Result<(), PlanError> {
    match (wanted, now) {
        (Some(wanted), Some(now)) if wanted != now => Err(PlanError::impossible_but(
            format!(
                "the {noun} `{name}` has the number {now}, not {wanted}, and systemd-sysusers would leave it"
            ),
            "leave `id` out, or give the account its number before",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/sysusers.d");
        fake
    }

    fn sysusers(fields: &str) -> Example {
        Example::resources(&format!("- sysusers: {{ name: app, {fields} }}"))
    }

    #[test]
    fn settles_with_its_accounts_changed_and_gone() {
        let mut fake = debian();
        fake.group_with_id("adm", 4);
        insta::assert_snapshot!(sysusers("users: [{ name: app, id: 990, comment: 100% app, home: /srv/app, groups: [adm, data, more] }], groups: [{ name: data, id: 991 }]").settles(&mut fake), @r#"
        example: sysusers /etc/sysusers.d/app.conf
          + create /etc/sysusers.d/app.conf (root:root 0644, 76 bytes)
              --- /dev/null
              +++ /etc/sysusers.d/app.conf
              @@ -0,0 +1,5 @@
              +g data 991
              +u app 990 "100%% app" /srv/app -
              +m app adm
              +m app data
              +m app more
          + create the group data (991)
          + create the group app (990)
          + create the group more
          + create the user app (uid 990, group app, groups adm,data,more, home /srv/app, shell /usr/sbin/nologin, comment "100% app")
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(sysusers("users: [{ name: app, groups: [extra] }]").settles(&mut fake), @r#"
        example: sysusers /etc/sysusers.d/app.conf
          ~ change /etc/sysusers.d/app.conf
              --- /etc/sysusers.d/app.conf
              +++ /etc/sysusers.d/app.conf
              @@ -1,5 +1,2 @@
              -g data 991
              -u app 990 "100%% app" /srv/app -
              -m app adm
              -m app data
              -m app more
              +u app - - - -
              +m app extra
          + create the group extra
          ~ user app (groups adm,data,more,extra)
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(sysusers("state: absent").settles(&mut fake), @"
        example: sysusers /etc/sysusers.d/app.conf
          - remove /etc/sysusers.d/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
        sysusers("state: absent").settles(&mut fake);
    }

    #[test]
    fn an_account_with_another_number_is_an_error() {
        let mut fake = debian();
        fake.group_with_id("data", 500);
        insta::assert_snapshot!(sysusers("groups: [{ name: data, id: 991 }]").fails(&mut fake), @"example: sysusers /etc/sysusers.d/app.conf: the group `data` has the number 500, not 991, and systemd-sysusers would leave it; leave `id` out, or give the account its number before");
        insta::assert_snapshot!(sysusers("users: [{ name: root, id: 7 }]").fails(&mut debian()), @"example: sysusers /etc/sysusers.d/app.conf: the group `root` has the number 0, not 7, and systemd-sysusers would leave it; leave `id` out, or give the account its number before");
        sysusers("groups: [{ name: data }]").settles(&mut fake);
    }

    #[test]
    fn accounts_that_a_package_may_bring_are_unknown() {
        let example =
            Example::resources("- package: { name: app }\n- sysusers: { name: app, users: [{ name: app }] }");
        insta::assert_snapshot!(example.plan(&debian()).expect("a plan"), @"
        example: package app
          + install app
        example: sysusers /etc/sysusers.d/app.conf (assumed)
          ? create /etc/sysusers.d/app.conf (root:root 0644, 14 bytes), unless installing app brings it
              --- /dev/null
              +++ /etc/sysusers.d/app.conf
              @@ -0,0 +1 @@
              +u app - - - -
          ? create the group app, unless installing app brings it
          ? create the user app (group app, home /, shell /usr/sbin/nologin), unless installing app brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| sysusers(fields).problems();
        insta::assert_snapshot!(problems("users: []"), @"example/recipe.yaml:2:15: a `sysusers` needs `users` or `groups`");
        insta::assert_snapshot!(problems("users: [{ name: a, id: 65535 }]"), @"example/recipe.yaml:2:15: 65535 is not a number for an account");
        insta::assert_snapshot!(problems("users: [{ name: a, comment: 'b:c' }]"), @"example/recipe.yaml:2:15: `comment` has a colon, a quote or a backslash in it");
        insta::assert_snapshot!(problems("users: [{ name: a, comment: \"b\\nu c\" }]"), @"example/recipe.yaml:2:15: `comment` goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("users: [{ name: a, home: '/srv/a b' }]"), @"example/recipe.yaml:2:15: the path `/srv/a b` has a space, a colon, a quote, a backslash or `%` in it");
        insta::assert_snapshot!(problems("users: [{ name: A }]"), @"example/recipe.yaml:2:36: `A` is not a name for a user or group: lower-case letters, digits, `-` and `_`, at most 32, not starting with a digit");
        insta::assert_snapshot!(problems("groups: [{ name: abcdefghijklmnopqrstuvwxyz123456 }]"), @"example/recipe.yaml:2:15: `abcdefghijklmnopqrstuvwxyz123456` is longer than the 31 characters of sysusers.d(5)");
        insta::assert_snapshot!(problems("groups: [{ name: a }], state: absent"), @"example/recipe.yaml:2:15: what shall be absent has only its `name` and `state: absent`");
        insta::assert_snapshot!(Example::resources("- sysusers: { name: a, users: [{ name: a, id: 5 }] }\n- user: { name: a, uid: 6 }").problems(), @"example/recipe.yaml:3:5: the user `a` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
