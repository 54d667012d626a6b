//! `user`: an account.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AbsolutePath, AccountName, State};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, UserRequest};
use crate::system::{Facts, PlanError};

/// An account. It has no password: log-ins are by key, or not at all.
///
/// What is not said is left to the system when the account is made, and left as it is afterwards.
/// `groups` are added to those it is in already.
///
/// ```yaml
/// - user: { name: deploy, groups: [ssh-users], shell: /bin/bash }
/// - user: { name: app, system: true, home: /srv/app, shell: /usr/sbin/nologin }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    /// Its name.
    name: AccountName,
    /// Its number; the system chooses one if not said.
    uid: Option<u32>,
    /// Its primary group; one of its own name if not said.
    group: Option<AccountName>,
    /// Other groups that it must be a member of.
    #[serde(default)]
    groups: Vec<AccountName>,
    /// Its home directory.
    home: Option<AbsolutePath>,
    /// Its login shell.
    shell: Option<AbsolutePath>,
    /// Its comment field, usually a full name.
    comment: Option<String>,
    /// Whether it gets a number of the system's range, and no home, when it is made.
    #[serde(default)]
    system: bool,
    /// Whether its home is made when it is made; so it is if not said, unless `system`.
    create_home: Option<bool>,
    /// `present`, or `absent` (its home stays).
    #[serde(default)]
    state: State,
}

impl Fields for User {
    const KIND: &'static str = "user";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if let Some(comment) = &self.comment
            && comment.contains([':', '\n'])
        {
            return Err(Problem::new("the `comment` of a user has a colon or a line end in it"));
        }
        if self.name.0 == "root" && self.state == State::Absent {
            return Err(Problem::new("`root` cannot be removed"));
        }
        Ok(Box::new(self))
    }
}

impl Resource for User {
    fn subject(&self) -> String {
        self.name.0.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::User(self.name.0.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let name = self.name.0.clone();
        let user = facts.user(&name)?.known()?;
        if self.state == State::Absent {
            return Ok(user.map(|_| Op::RemoveUser { name }).into_iter().collect());
        }
        for group in self.group.iter().chain(&self.groups) {
            if facts.group(&group.0)?.known()?.is_none() {
                return Err(PlanError::impossible_but(
                    format!("the group `{}` does not exist", group.0),
                    format!("put a `group: {{ name: {} }}` before it", group.0),
                ));
            }
        }
        let wanted = UserRequest {
            name,
            uid: self.uid,
            group: self.group.as_ref().map(|group| group.0.clone()),
            groups: None,
            home: self.home.as_ref().map(|home| home.as_path().to_owned()),
            shell: self.shell.as_ref().map(|shell| shell.as_path().to_owned()),
            comment: self.comment.clone(),
            system: self.system,
            create_home: self.create_home.unwrap_or(!self.system),
        };
        let names = |groups: &[AccountName]| groups.iter().map(|group| group.0.clone()).collect::<Vec<_>>();
        let Some(user) = user else {
            let groups = (!self.groups.is_empty()).then(|| names(&self.groups));
            return Ok(vec![Op::CreateUser(UserRequest { groups, ..wanted })]);
        };
        // Keep only what differs: the operation then says exactly what changes.
        let mut all_groups = user.groups.clone();
        all_groups.extend(names(&self.groups).into_iter().filter(|group| !user.groups.contains(group)));
        let missing = all_groups.len() > user.groups.len();
        let change = UserRequest {
            uid: wanted.uid.filter(|uid| user.uid.is_some_and(|now| now != *uid)),
            group: wanted.group.filter(|group| *group != user.group),
            groups: missing.then_some(all_groups),
            home: wanted.home.filter(|home| *home != user.home),
            shell: wanted.shell.filter(|shell| *shell != user.shell),
            comment: wanted.comment.filter(|comment| *comment != user.comment),
            name: wanted.name.clone(),
            ..UserRequest::default()
        };
        let nothing = UserRequest { name: wanted.name, ..UserRequest::default() };
        Ok(if change == nothing { Vec::new() } else { vec![Op::ModifyUser(change)] })
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_made_changed_and_gone() {
        let mut fake = Fake::debian();
        fake.group_with_id("adm", 4);
        fake.group_with_id("ssh-users", 990);
        let example = Example::resources("- user: { name: deploy, groups: [ssh-users], shell: /bin/bash }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: user deploy
          + create the user deploy (groups ssh-users, shell /bin/bash)
        Plan: 1 to change, 0 unchanged.
        ");
        let example = Example::resources(
            "- user: { name: deploy, groups: [adm], comment: Deploys, home: /srv/deploy }",
        );
        insta::assert_snapshot!(example.settles(&mut fake), @r#"
        example: user deploy
          ~ user deploy (groups ssh-users,adm, home /srv/deploy, comment "Deploys")
        Plan: 1 to change, 0 unchanged.
        "#);
        let example = Example::resources("- user: { name: deploy, state: absent }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: user deploy
          - remove the user deploy
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_system_account_gets_no_home() {
        let mut fake = Fake::debian();
        let example = Example::resources("- user: { name: app, system: true, uid: 990, home: /srv/app }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: user app
          + create the user app (uid 990, home /srv/app)
        Plan: 1 to change, 0 unchanged.
        ");
        assert!(
            matches!(&fake.performed[..], [crate::op::Op::CreateUser(user)] if !user.create_home && user.system)
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- user: { name: a, groups: [nope] }").fails(&mut fake), @"example: user a: the group `nope` does not exist; put a `group: { name: nope }` before it");
        insta::assert_snapshot!(Example::resources("- user: { name: root, state: absent }").problems(), @"example/recipe.yaml:2:11: `root` cannot be removed");
        insta::assert_snapshot!(Example::resources("- user: { name: a, comment: 'x:y' }").problems(), @"example/recipe.yaml:2:11: the `comment` of a user has a colon or a line end in it");
        insta::assert_snapshot!(Example::resources("- user: { name: 1a }").problems(), @"example/recipe.yaml:2:11: `1a` is not a name for a user or group: lower-case letters, digits, `-` and `_`, at most 32, not starting with a digit");
    }
}
