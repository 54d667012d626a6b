//! `package`: a package of the system's package manager.

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AbsolutePath, PackageName, is_package_word};
use super::package_manager::{needs, package_manager};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Op, PackageRequest};
use crate::system::{Facts, Known, PackageFile, PackageManager, PlanError};

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
/// - package: { name: vendor-agent, source: /opt/vendor-agent_2.1_amd64.deb }   # a `download` before put it there
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    /// Its name.
    name: PackageName,
    /// Exactly this version, or with `*` at the end the newest that starts so; any installed one is right if
    /// not said, and the newest is installed.
    version: Option<String>,
    /// A `.deb` file of the host (with dnf: an `.rpm`) that it is installed from, with what it needs from the
    /// repositories; the version is that of the file, older or newer than what is installed.
    source: Option<AbsolutePath>,
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
        if let Some(source) = &self.source {
            if manager_of(source).is_none() {
                // apt and dnf take it for the name of a package otherwise.
                return Err(Problem::new(format!(
                    "`{source}` is not a package: its name ends with neither `.deb` nor `.rpm`"
                )));
            }
            if self.version.is_some() || self.state != State::Present {
                return Err(Problem::new(
                    "a package from a `source` has no `version`, which is the file's, and no `state`",
                ));
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
        if let Some(source) = &self.source {
            let instead =
                "write `when`, or put a `repository` before it that has the package, and leave `source` out";
            let wanted = manager_of(source).unwrap_or(manager);
            needs(wanted, facts, &format!("the file `{source}`"), instead)?;
            return self.plan_from(facts, source, installed.as_ref());
        }
        let is_right = match (&installed, &self.version) {
            (Some(installed), Some(wanted)) => match wanted.strip_suffix('*') {
                Some(start) => installed.starts_with(start),
                None => installed == wanted,
            },
            (installed, _) => installed.is_some(),
        };
        match (self.state, is_right, installed) {
            (State::Present, true, _) => Ok(Vec::new()),
            (State::Absent, _, None) if !self.is_half_there(facts)? => Ok(Vec::new()),
            (State::Purged, _, None)
                if !facts.is_residual(&self.name.0)?.known()? && !self.is_half_there(facts)? =>
            {
                Ok(Vec::new())
            }
            (State::Present, false, _) => Ok(vec![Op::InstallPackages {
                packages: vec![PackageRequest {
                    name: self.name.0.clone(),
                    version: self.version.clone(),
                    recommends: self.recommends,
                    source: None,
                }],
            }]),
            (State::Absent | State::Purged, _, _) => Ok(vec![Op::RemovePackages {
                packages: vec![self.name.0.clone()],
                purge: self.state == State::Purged,
            }]),
        }
    }
}

/// Whose packages a file is one of, by its name.
fn manager_of(source: &AbsolutePath) -> Option<PackageManager> {
    match source.as_path().extension()?.to_str()? {
        "deb" => Some(PackageManager::Apt),
        "rpm" => Some(PackageManager::Dnf),
        _ => None,
    }
}

impl Package {
    /// Whether a removal was cut off.
    fn is_half_there(&self, facts: &dyn Facts) -> Result<bool, PlanError> {
        facts.is_half_there(&self.name.0)?.known()
    }

    fn plan_from(
        &self,
        facts: &dyn Facts,
        source: &AbsolutePath,
        installed: Option<&String>,
    ) -> Result<Vec<Op>, PlanError> {
        let Some(PackageFile { name, version }) = facts.package_file(source.as_path())?.known()? else {
            return Err(PlanError::impossible_but(
                format!("there is no file `{source}`"),
                format!("put a `download: {{ path: {source} }}` before it"),
            ));
        };
        // The architecture is behind a colon, or with dnf behind a dot.
        let rest = self.name.0.strip_prefix(name.as_str());
        if rest.is_none_or(|rest| !rest.is_empty() && !rest.starts_with([':', '.'])) {
            return Err(PlanError::impossible(format!("`{source}` is the package `{name}`")));
        }
        if installed == Some(&version) {
            return Ok(Vec::new());
        }
        Ok(vec![Op::InstallPackages {
            packages: vec![PackageRequest {
                name: self.name.0.clone(),
                version: Some(version),
                recommends: self.recommends,
                source: Some(source.as_path().to_owned()),
            }],
        }])
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
    fn settles_purged_when_only_its_configuration_is_left() {
        let mut fake = Fake::debian();
        Example::resources("- package: { name: nginx }").settles(&mut fake);
        Example::resources("- package: { name: nginx, state: absent }").settles(&mut fake);
        insta::assert_snapshot!(Example::resources("- package: { name: nginx, state: purged }").settles(&mut fake), @"
        example: package nginx
          - purge nginx
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
    fn settles_at_the_version_of_a_file() {
        let mut fake = Fake::debian();
        let example = Example::resources("- package: { name: agent, source: /srv/agent.deb }");
        insta::assert_snapshot!(example.fails(&mut fake), @"example: package agent: there is no file `/srv/agent.deb`; put a `download: { path: /srv/agent.deb }` before it");
        fake.file("/srv/agent.deb", "Package: agent\nVersion: 2.1\n");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: package agent
          + install agent 2.1 from /srv/agent.deb
        Plan: 1 to change, 0 unchanged.
        ");
        fake.file("/srv/agent.deb", "Package: other\nVersion: 2.1\n");
        insta::assert_snapshot!(example.fails(&mut fake), @"example: package agent: `/srv/agent.deb` is the package `other`");
    }

    #[test]
    fn a_file_that_is_yet_to_be_fetched_has_a_version_that_nobody_knows() {
        let mut fake = Fake::debian();
        let sum = "aecee5c9ffb3c22c7832866a2ab721fc462eb65ea5a12b25a2e6f0c9efc0a1b0";
        let text = format!(
            "
- download: {{ url: https://a.b/c, sha256: {sum}, path: /srv/agent.deb }}
- package: {{ name: agent, source: /srv/agent.deb }}
- package: {{ name: jq }}
"
        );
        let example = Example::resources(&text);
        fake.serves("https://a.b/c", "Package: agent\nVersion: 2.1\n");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: download /srv/agent.deb
          + create /srv/agent.deb by https://a.b/c (root:root 0644, sha256 aecee5c9ffb3c22c...)
        example: package agent (assumed)
          ? known after apply: whether what is put at `/srv/agent.deb` has it
        example: package jq (assumed)
          + install jq
        Plan: 2 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 2 assumed.
        ");
        let installed = |op: &Op| matches!(op, Op::InstallPackages { packages } if packages.len() == 2);
        assert!(fake.performed.iter().any(installed), "they are one transaction");
    }

    #[test]
    fn a_file_is_for_hosts_with_its_package_manager() {
        let mut fake = Fake::amazon();
        fake.file("/srv/agent.deb", "Package: agent\nVersion: 2.1\n");
        let example = Example::resources("- package: { name: agent, source: /srv/agent.deb }");
        insta::assert_snapshot!(example.fails(&mut fake), @"example: package agent: the file `/srv/agent.deb` is for hosts with apt, and this is `amzn`, which has dnf; write `when`, or put a `repository` before it that has the package, and leave `source` out");
        fake.file("/srv/agent.rpm", "Package: agent\nVersion: 2.1-1\n");
        let example = Example::resources("- package: { name: agent.x86_64, source: /srv/agent.rpm }");
        insta::assert_snapshot!(example.settles(&mut fake), @"
        example: package agent.x86_64
          + install agent.x86_64 2.1-1 from /srv/agent.rpm
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn rpm_leaves_no_configuration_that_is_to_be_purged() {
        let mut fake = Fake::amazon();
        Example::resources("- package: { name: nginx }").settles(&mut fake);
        Example::resources("- package: { name: nginx, state: absent }").settles(&mut fake);
        insta::assert_snapshot!(Example::resources("- package: { name: nginx, state: purged }").settles(&mut fake), @"Plan: 0 to change, 1 unchanged.");
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
        insta::assert_snapshot!(problems("{ name: a, source: /a.tar }"), @"example/recipe.yaml:2:14: `/a.tar` is not a package: its name ends with neither `.deb` nor `.rpm`");
        insta::assert_snapshot!(problems("{ name: a, source: /a.deb, version: '1' }"), @"example/recipe.yaml:2:14: a package from a `source` has no `version`, which is the file's, and no `state`");
        insta::assert_snapshot!(problems("{ name: [a, b] }"), @"example/recipe.yaml:2:22: expected a string, found a list");
        insta::assert_snapshot!(problems("{ name: a, state: latest }"), @"example/recipe.yaml:2:32: `latest` is not a valid value here; valid are `present`, `absent` and `purged`");
        assert!(
            Example::resources("- package: { name: g++ }")
                .resolve(&crate::system::Facts::host(&Fake::debian()).clone())
                .is_ok()
        );
    }
}
