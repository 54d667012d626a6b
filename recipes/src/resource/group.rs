//! `group`: a group of accounts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AccountName, State};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// A group of accounts.
///
/// ```yaml
/// - group: { name: ssh-users, system: true }
/// - group: { name: app, gid: 990 }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Its name.
    name: AccountName,
    /// Its number; the system chooses one if not said.
    gid: Option<u32>,
    /// Whether it gets a number of the system's range when it is made.
    #[serde(default)]
    system: bool,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

impl Fields for Group {
    const KIND: &'static str = "group";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        Ok(Box::new(self))
    }
}

impl Resource for Group {
    fn subject(&self) -> String {
        self.name.0.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Group(self.name.0.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let name = self.name.0.clone();
        let group = facts.group(&name)?.known()?;
        Ok(match (self.state, group, self.gid) {
            (State::Present, None, gid) => vec![Op::CreateGroup { name, gid, system: self.system }],
            (State::Present, Some(group), Some(gid)) if group.gid.is_some_and(|now| now != gid) => {
                vec![Op::ModifyGroup { name, gid }]
            }
            (State::Absent, Some(_), _) => vec![Op::RemoveGroup { name }],
            (State::Present, Some(_), _) | (State::Absent, None, _) => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_made_renumbered_and_gone() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- group: { name: app, system: true }").settles(&mut fake), @"
        example: group app
          + create the group app
        Plan: 1 to change, 0 unchanged.
        ");
        fake.group_with_id("app", 990);
        insta::assert_snapshot!(Example::resources("- group: { name: app, gid: 991 }").settles(&mut fake), @"
        example: group app
          ~ group app: gid 991
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- group: { name: app, state: absent }").settles(&mut fake), @"
        example: group app
          - remove the group app
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn names_that_the_system_would_refuse_are_refused_before() {
        insta::assert_snapshot!(Example::resources("- group: { name: App }").problems(), @"example/recipe.yaml:2:12: `App` is not a name for a user or group: lower-case letters, digits, `-` and `_`, at most 32, not starting with a digit");
        insta::assert_snapshot!(Example::resources("- group: { name: app, gid: -1 }").problems(), @"example/recipe.yaml:2:30: expected a whole number from 0 to 4294967295, found the number `-1`");
    }
}
