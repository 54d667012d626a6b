//! `package`: a package of the system's package manager.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{PackageName, is_package_word};
use super::package_manager::package_manager;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, PackageRequest};
use crate::system::{Facts, Known, PackageManager, PlanError};

/// A package of the system's package manager.
///
/// Adjacent `package` resources are one transaction. Package lists are refreshed once a run, before the
/// first installation. Maintainer scripts start no services; a `service` resource does. Questions are
/// never asked and changed configuration files are kept. A lock held by another package manager is waited for.
///
/// On Debian and what descends from it apt does this, on Fedora, RHEL, Amazon Linux 2023 and their like dnf. A
/// version is written as the package manager shows it: `3.0.15-1~deb12u1` as `dpkg-query --show` does, and
/// `1:3.0.7-27.el9` as `rpm --query --queryformat '%{EVR}'` does, with its release, and its epoch if it has one. Of
/// a package that rpm has several times, as it has kernels, the one that was installed last counts. Removing a
/// package removes what depends on it, and not what it once brought.
///
/// ```yaml
/// - package: { name: nginx-light }
/// - package: { name: openssl, version: 3.0.15-1~deb12u1 }
/// - package: { name: nginx, version: "1.22.*" }
/// - package: { name: telnet, state: purged }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    /// Its name.
    name: PackageName,
    /// Exactly this version, or with `*` at the end the newest that starts so; any installed one is right if
    /// not said, and the newest is installed.
    version: Option<String>,
    /// Whether packages that it recommends come too (for dnf: its weak dependencies); `false` if not said.
    #[serde(default)]
    recommends: bool,
    /// `present`, `absent`, or `purged` with its configuration. rpm removes configuration that nobody changed, and
    /// keeps the rest as `FILE.rpmsave`, which `purged` removes.
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    Present,
    Absent,
    Purged,
}

impl Fields for Package {
    const KIND: &'static str = "package";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if let Some(version) = &self.version {
            // apt takes `NAME=1.22.*` for the newest version that starts with `1.22.`, and `*` nowhere else.
            if !is_package_word(version.strip_suffix('*').unwrap_or(version), "+-._:~^") {
                return Err(Problem::new(format!("`{}` is not a version", version.escape_debug()))
                    .help("a `*` is valid at its end only; without `version` any is right"));
            }
            if self.state != State::Present {
                return Err(Problem::new("a package that shall not be installed has no `version`"));
            }
        }
        Ok(Box::new(self))
    }
}

impl Resource for Package {
    fn subject(&self) -> String {
        self.name.0.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::Package(self.name.0.clone())]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let manager = package_manager(facts, "a `package`")?;
        // Every package of rpm has a release, so without one no version is ever right.
        if let Some(version) = &self.version
            && manager == PackageManager::Dnf
            && !version.contains(['-', '*'])
        {
            return Err(PlanError::impossible_but(
                format!("`{version}` is not a whole version for dnf, for it has no release"),
                format!("write `{version}-*` for any release, or all of it, such as `{version}-1.el9`"),
            ));
        }
        let installed = match facts.package(&self.name.0)? {
            Known::Yes(installed) => installed,
            // A dependency of another package may bring it. Wanting it again changes nothing.
            Known::Unknown(_) if self.state == State::Present => None,
            Known::Unknown(why) => return Err(PlanError::Unknown(why)),
        };
        let is_right = match (&installed, &self.version) {
            (Some(installed), Some(wanted)) => match wanted.strip_suffix('*') {
                Some(start) => installed.starts_with(start),
                None => installed == wanted,
            },
            (installed, _) => installed.is_some(),
        };
        match (self.state, is_right, installed) {
            (State::Present, true, _) | (State::Absent | State::Purged, _, None) => Ok(Vec::new()),
            (State::Present, false, _) => Ok(vec![Op::InstallPackages {
                packages: vec![PackageRequest {
                    name: self.name.0.clone(),
                    version: self.version.clone(),
                    recommends: self.recommends,
                }],
            }]),
            (State::Absent | State::Purged, _, Some(_)) => Ok(vec![Op::RemovePackages {
                packages: vec![self.name.0.clone()],
                purge: self.state == State::Purged,
            }]),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    #[test]
    fn settles_installed_at_a_version_and_gone() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- package: { name: nginx }").settles(&mut fake), @"
        example: package nginx
          + install nginx
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- package: { name: nginx, version: '1.2' }").settles(&mut fake), @"
        example: package nginx
          + install nginx 1.2
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(Example::resources("- package: { name: nginx, state: purged }").settles(&mut fake), @"
        example: package nginx
          - purge nginx
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn settles_at_any_version_that_starts_as_it_is_told() {
        let mut fake = Fake::debian();
        let example = |version: &str| {
            Example::resources(&format!("- package: {{ name: nginx, version: '{version}' }}"))
        };
        example("1.22.1-9").settles(&mut fake);
        insta::assert_snapshot!(example("1.22.*").settles(&mut fake), @"Plan: 0 to change, 1 unchanged.");
        insta::assert_snapshot!(example("1.2.*").settles(&mut fake), @"
        example: package nginx
          + install nginx 1.2.*
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_version_of_dnf_has_a_release() {
        let mut fake = Fake::amazon();
        let example = |version: &str| {
            Example::resources(&format!("- package: {{ name: nginx, version: '{version}' }}"))
        };
        insta::assert_snapshot!(example("1.22.1").fails(&mut fake), @"example: package nginx: `1.22.1` is not a whole version for dnf, for it has no release; write `1.22.1-*` for any release, or all of it, such as `1.22.1-1.el9`");
        example("1:1.22.1-1.amzn2023").settles(&mut fake);
        insta::assert_snapshot!(example("1:1.22.1-*").settles(&mut fake), @"Plan: 0 to change, 1 unchanged.");
        insta::assert_snapshot!(example("1.23.*").settles(&mut fake), @"
        example: package nginx
          + install nginx 1.23.*
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_host_without_a_package_manager_that_is_known_says_so() {
        let host = crate::system::Facts::host(&Fake::debian()).clone();
        let os = crate::system::Os { id: "arch".into(), family: "arch".into(), ..host.os.clone() };
        let mut fake = Fake::with_host(crate::system::Host { os, package_manager: None, ..host });
        insta::assert_snapshot!(Example::resources("- package: { name: a }").fails(&mut fake), @r#"example: package a: a `package` is for hosts with apt or dnf, and this is `arch`; write `when: facts.os.family == "debian"`, or what is right for it"#);
    }

    #[test]
    fn adjacent_packages_are_one_transaction() {
        let mut fake = Fake::debian();
        let example = Example::resources(
            "
- package: { name: a }
- package: { name: b, version: '2' }
- package: { name: \"{{ item }}\" }
  for_each: [c, d]
- file: { path: /etc/x, content: x }
- package: { name: e }
",
        );
        example.settles(&mut fake);
        let transactions: Vec<usize> = fake
            .performed
            .iter()
            .filter_map(|op| match op {
                Op::InstallPackages { packages } => Some(packages.len()),
                _ => None,
            })
            .collect();
        assert_eq!(transactions, [4, 1]);
    }

    #[test]
    fn names_that_mean_something_else_to_a_package_manager_are_refused() {
        let problems = |fields: &str| Example::resources(&format!("- package: {fields}")).problems();
        insta::assert_snapshot!(problems("{ name: --purge }"), @"example/recipe.yaml:2:14: `--purge` is not the name of a package");
        insta::assert_snapshot!(problems("{ name: nginx- }"), @"example/recipe.yaml:2:14: `nginx-` is not the name of a package");
        insta::assert_snapshot!(problems("{ name: a=1 }"), @"example/recipe.yaml:2:14: `a=1` is not the name of a package");
        insta::assert_snapshot!(problems("{ name: a, version: '1 b' }"), @"example/recipe.yaml:2:14: `1 b` is not a version; a `*` is valid at its end only; without `version` any is right");
        insta::assert_snapshot!(problems("{ name: a, version: '*' }"), @"example/recipe.yaml:2:14: `*` is not a version; a `*` is valid at its end only; without `version` any is right");
        insta::assert_snapshot!(problems("{ name: a, version: '1*2' }"), @"example/recipe.yaml:2:14: `1*2` is not a version; a `*` is valid at its end only; without `version` any is right");
        insta::assert_snapshot!(problems("{ name: a, version: '1', state: absent }"), @"example/recipe.yaml:2:14: a package that shall not be installed has no `version`");
        insta::assert_snapshot!(problems("{ name: [a, b] }"), @"example/recipe.yaml:2:22: expected a string, found a list");
        insta::assert_snapshot!(problems("{ name: a, state: latest }"), @"example/recipe.yaml:2:32: `latest` is not a valid value here; valid are `present`, `absent` and `purged`");
        assert!(
            Example::resources("- package: { name: g++ }")
                .resolve(&crate::system::Facts::host(&Fake::debian()).clone())
                .is_ok()
        );
    }
}
