//! `package_hold`: packages that stay at the version they have.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::PackageName;
use super::package_manager::package_manager;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PackageManager, PlanError};

/// Packages that no upgrade changes, also none that a person starts, until they are not held any more.
///
/// What is held has to be installed: put the `package` before. A `package` with a `version` changes a package
/// that is held, and so does one that shall be absent, because the recipe says so itself.
///
/// dnf 4 holds packages with its plugin versionlock, which `python3-dnf-plugin-versionlock` brings; dnf 5 by itself.
///
/// ```yaml
/// - package_hold: { names: [linux-image-cloud-amd64, docker-ce] }
/// - package_hold: { names: [nginx], held: false }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PackageHold {
    /// The packages.
    names: Vec<PackageName>,
    /// Whether they are held; `true` if not said.
    held: Option<bool>,
}

/// The settings of the plugin, which come with it (dnf-versionlock(8)).
const VERSIONLOCK: &str = "/etc/dnf/plugins/versionlock.conf";

#[derive(Debug)]
struct Resolved {
    names: Vec<String>,
    held: bool,
}

impl Fields for PackageHold {
    const KIND: &'static str = "package_hold";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.names.is_empty() {
            return Err(Problem::new("a `package_hold` needs at least one of `names`"));
        }
        let mut names: Vec<String> = self.names.into_iter().map(|name| name.0).collect();
        names.sort();
        names.dedup();
        Ok(Box::new(Resolved { names, held: self.held.unwrap_or(true) }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.names.join(", ")
    }

    fn claims(&self) -> Vec<Claim> {
        self.names.iter().map(|name| Claim::PackageHold(name.clone())).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let mut packages = Vec::new();
        let manager = package_manager(facts, "a `package_hold`")?;
        if self.held
            && manager == PackageManager::Dnf
            && facts.entry(Path::new(VERSIONLOCK))?.known()?.is_none()
            && facts.entry(Path::new("/usr/bin/dnf5"))?.known()?.is_none()
        {
            return Err(PlanError::impossible_but(
                "dnf 4 holds packages with its plugin versionlock, which is not there",
                "put a `package: { name: python3-dnf-plugin-versionlock }` before it",
            ));
        }
        for name in &self.names {
            // dpkg would remember the wish for a package that it does not have, and forget it at will.
            if self.held && facts.package(name)?.known()?.is_none() {
                return Err(PlanError::impossible_but(
                    format!("the package `{name}` is not installed, so it cannot be held"),
                    format!("put a `package: {{ name: {name} }}` before it"),
                ));
            }
            if facts.held(name)?.known()? != self.held {
                packages.push(name.clone());
            }
        }
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Op::HoldPackages { packages, held: self.held }])
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_held_and_let_go() {
        let mut fake = Fake::debian();
        Example::resources("- package: { name: a }\n- package: { name: b }").settles(&mut fake);
        insta::assert_snapshot!(Example::resources("- package_hold: { names: [b] }").settles(&mut fake), @"
        example: package_hold b
          ~ hold b
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- package_hold: { names: [b, a, a] }").settles(&mut fake), @"
        example: package_hold a, b
          ~ hold a
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- package_hold: { names: [a, c], held: false }").settles(&mut fake), @"
        example: package_hold a, c
          ~ stop holding a
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- package_hold: { names: [c], held: false }").settles(&mut fake), @"Plan: 0 to change, 1 unchanged.");
    }

    #[test]
    fn dnf_4_needs_its_plugin() {
        let mut fake = Fake::amazon();
        let example = Example::resources("- package: { name: a }\n- package_hold: { names: [a] }");
        fake.apply(&crate::op::Op::InstallPackages {
            packages: vec![crate::op::PackageRequest {
                name: "a".into(),
                version: None,
                recommends: false,
                source: None,
            }],
        });
        insta::assert_snapshot!(example.fails(&mut fake), @"example: package_hold a: dnf 4 holds packages with its plugin versionlock, which is not there; put a `package: { name: python3-dnf-plugin-versionlock }` before it");
        let mut with_dnf_5 = Fake::amazon();
        Example::resources("- package: { name: a }").settles(&mut with_dnf_5);
        with_dnf_5.file("/usr/bin/dnf5", "");
        example.settles(&mut with_dnf_5);
        fake.file("/etc/dnf/plugins/versionlock.conf", "[main]\nenabled = 1\n");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: package_hold a
          ~ hold a
        Plan: 1 to change, 1 unchanged.
        ");
    }

    #[test]
    fn what_is_held_is_installed_before() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- package_hold: { names: [a] }").fails(&mut fake), @"example: package_hold a: the package `a` is not installed, so it cannot be held; put a `package: { name: a }` before it");
        let dependency =
            "- package: { name: a }\n- package_hold: { names: [a] }\n- package_hold: { names: [brought] }";
        insta::assert_snapshot!(Example::resources(dependency).plan(&fake).expect("a plan"), @"
        example: package a
          + install a
        example: package_hold a (derived)
          ~ hold a
        example: package_hold brought (assumed)
          ? known after apply: whether installing a brings it
        Plan: 2 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 1 derived, 1 assumed.
        ");
    }

    #[test]
    fn two_that_differ_contradict_each_other() {
        let two = "- package_hold: { names: [a, b] }\n- package_hold: { names: [b, c], held: false }";
        insta::assert_snapshot!(Example::resources(two).problems(), @"example/recipe.yaml:3:5: whether the package `b` is held is decided twice, differently (first here: example/recipe.yaml:2:5)");
        let same = "- package_hold: { names: [a, b] }\n- package_hold: { names: [b, a] }";
        assert!(Example::resources(same).resolve(crate::system::Facts::host(&Fake::debian())).is_ok());
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| Example::resources(&format!("- package_hold: {fields}")).problems();
        insta::assert_snapshot!(problems("{ names: [] }"), @"example/recipe.yaml:2:19: a `package_hold` needs at least one of `names`");
        insta::assert_snapshot!(problems("{ names: a }"), @"example/recipe.yaml:2:28: expected a list, found the string `a`");
        insta::assert_snapshot!(problems("{ names: [a, --b] }"), @"example/recipe.yaml:2:28: `--b` is not the name of a package");
        insta::assert_snapshot!(problems("{ names: [a], held: maybe }"), @"example/recipe.yaml:2:39: expected `true` or `false`, found the string `maybe`");
        insta::assert_snapshot!(problems("{ held: true }"), @"example/recipe.yaml:2:19: the field `names` is missing in `package_hold`");
    }
}
