//! `package_upgrade`: no package is older than the newest one there is.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, Upgrades};
use crate::system::{Facts, Mode, PlanError};

/// Every installed package at the newest version that the repositories have, when an image is baked.
///
/// One transaction upgrades all. Packages that an upgrade newly needs are installed, and what is held or pinned
/// stays. apt removes none; dnf removes what a newer package says that it replaces. The package lists are refreshed
/// before, so a dry run, which refreshes nothing, shows it as known after apply. On a live host it is an error,
/// because its services would go on with the old code.
///
/// ```yaml
/// - package_upgrade: {}
///   when: facts.mode == "bake"
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PackageUpgrade {
    /// Whether only packages are upgraded whose newest version is from a repository of security updates, or for
    /// which dnf knows of a security advisory; `false` if not said.
    #[serde(default)]
    security: bool,
}

impl Fields for PackageUpgrade {
    const KIND: &'static str = "package_upgrade";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        Ok(Box::new(self))
    }
}

impl Resource for PackageUpgrade {
    fn subject(&self) -> String {
        if self.security { "security updates" } else { "all" }.into()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::PackageUpgrade]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if facts.host().mode == Mode::Live {
            return Err(PlanError::impossible_but(
                "a live host is not upgraded by a recipe: its services would go on with the old code",
                "bake a new image, and write `when: facts.mode == \"bake\"`",
            ));
        }
        let which = if self.security { Upgrades::Security } else { Upgrades::All };
        let packages = facts.upgradable(which)?.known()?;
        Ok(if packages.is_empty() { Vec::new() } else { vec![Op::UpgradePackages { packages, which }] })
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Upgrades;
    use crate::plan::{Guards, plan};
    use crate::system::Facts;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn builder() -> Fake {
        let mut fake = Fake::builder();
        fake.can_upgrade("openssl", Upgrades::Security);
        fake.can_upgrade("vim", Upgrades::All);
        fake
    }

    /// What the run did, and that a further one and the proof of a bake find nothing to do.
    fn settled(fields: &str, fake: &mut Fake) -> String {
        let example = Example::resources(&format!("- package_upgrade: {fields}"));
        example.converge(fake).expect("it converges");
        let performed = fake.performed.len();
        example.converge(fake).expect("it converges again");
        assert_eq!(fake.performed.len(), performed, "the second run does nothing");
        let resolved = example.resolve(fake.host()).expect("valid");
        assert!(plan(&resolved, fake, Guards::Run).expect("a plan").is_empty());
        fake.performed.iter().map(|op| crate::change::Change::from(op).to_string()).collect()
    }

    #[test]
    fn settles_with_security_updates_and_with_all() {
        let mut fake = builder();
        insta::assert_snapshot!(settled("{ security: true }", &mut fake), @"~ upgrade openssl");
        fake.performed.clear();
        insta::assert_snapshot!(settled("{}", &mut fake), @"~ upgrade vim");
        fake.performed.clear();
        assert_eq!(settled("{}", &mut fake), "", "nothing is left");
        insta::assert_snapshot!(settled("{}", &mut builder()), @"~ upgrade openssl, vim");
    }

    #[test]
    fn a_dry_run_cannot_know() {
        let example = Example::resources("- package_upgrade: {}");
        insta::assert_snapshot!(example.plan(&builder()).expect("a plan"), @"
        example: package_upgrade all (assumed)
          ? known after apply: whether the repositories have newer packages
        Plan: 0 to change, 1 known after apply, 0 unchanged.
        Of these 0 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn a_live_host_is_left_alone() {
        insta::assert_snapshot!(Example::resources("- package_upgrade: {}").fails(&mut Fake::debian()), @r#"example: package_upgrade all: a live host is not upgraded by a recipe: its services would go on with the old code; bake a new image, and write `when: facts.mode == "bake"`"#);
    }

    #[test]
    fn wrong_fields_are_explained() {
        insta::assert_snapshot!(Example::resources("- package_upgrade: { security: 'x' }").problems(), @"example/recipe.yaml:2:34: expected `true` or `false`, found the string `x`");
        insta::assert_snapshot!(Example::resources("- package_upgrade: { only: security }").problems(), @"example/recipe.yaml:2:24: unknown field `only` in `package_upgrade`; valid is `security`");
        let two = "- package_upgrade: {}\n- package_upgrade: { security: true }";
        insta::assert_snapshot!(Example::resources(two).problems(), @"example/recipe.yaml:3:5: which packages are upgraded is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
