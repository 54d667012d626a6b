//! `pam_profile`: what Debian's `common-` files of PAM are made of.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::edited::lines_of;
use super::pam_files::{FOLDER, module_is_there};
use super::pam_profile_text::{Profile, STACKS, Saved, is_as_saved, saved};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Command, Op};
use crate::system::{Facts, PlanError};

/// Profiles of which Debian's pam-auth-update makes `common-auth` and the other `common-` files in `/etc/pam.d`.
///
/// A profile is a file in `/usr/share/pam-configs`. Packages bring them, such as `mkhomedir`, and one of your own is
/// written with `file`. Whether a profile is enabled, and as it is now, is read from `/var/lib/pam`; pam-auth-update is
/// run once for a resource if something changes. It passes over files in which lines were added between its own,
/// which is an error here.
///
/// ```yaml
/// - file:
///     path: /usr/share/pam-configs/faillock
///     content: |
///       Name: Lock an account after failures
///       Default: no
///       Priority: 1024
///       Auth-Type: Primary
///       Auth:
///         [default=die] pam_faillock.so authfail
/// - pam_profile: { names: [faillock, mkhomedir] }
/// - pam_profile: { names: [capability], enabled: false }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PamProfile {
    /// The profiles: names of files in `/usr/share/pam-configs`.
    names: Vec<String>,
    /// Whether they are part of the files; `true` if not said.
    enabled: Option<bool>,
}

/// Where profiles are.
const PROFILES: &str = "/usr/share/pam-configs";

/// What pam-auth-update made of them when it last ran, a file for each stack.
const SAVED: &str = "/var/lib/pam";

#[derive(Debug)]
struct Resolved {
    names: Vec<String>,
    enabled: bool,
}

impl Fields for PamProfile {
    const KIND: &'static str = "pam_profile";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.names.is_empty() {
            return Err(Problem::new("a `pam_profile` needs at least one of `names`"));
        }
        for name in &self.names {
            // What ends in `~` is passed over, and what starts with `-` is an option.
            let is_part = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(is_part) {
                return Err(Problem::new(format!(
                    "`{}` is not the name of a profile of PAM",
                    name.escape_debug()
                ))
                .help(format!("it is the name of a file in `{PROFILES}`, such as `mkhomedir`")));
            }
        }
        let mut names = self.names;
        names.sort();
        names.dedup();
        Ok(Box::new(Resolved { names, enabled: self.enabled.unwrap_or(true) }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.names.join(", ")
    }

    fn claims(&self) -> Vec<Claim> {
        self.names.iter().map(|name| Claim::Setting { of: "pam-auth-update", key: name.clone() }).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let saved = STACKS
            .iter()
            .map(|stack| Ok(saved(&text(facts, &format!("{SAVED}/{stack}"))?.unwrap_or_default())))
            .collect::<Result<Vec<_>, PlanError>>()?;
        let mut changing = Vec::new();
        for name in &self.names {
            if !self.is_true(facts, name, &saved)? {
                changing.push(name.as_str());
            }
        }
        if changing.is_empty() {
            return Ok(Vec::new());
        }
        for (stack, saved) in STACKS.iter().zip(&saved) {
            let path = format!("{FOLDER}/common-{stack}");
            let Some(current) = text(facts, &path)? else {
                return Err(PlanError::impossible_but(
                    format!("`{path}` does not exist: this host has no pam-auth-update"),
                    "it is Debian's, of the package libpam-runtime; elsewhere use `pam`",
                ));
            };
            if !is_as_saved(&lines_of(&current), stack, saved) {
                return Err(PlanError::impossible_but(
                    format!("pam-auth-update does not change `{path}`: it has other lines between its own"),
                    "put lines of your own above or below them, or make a profile of them",
                ));
            }
        }
        let option = if self.enabled { "--enable" } else { "--disable" };
        let mut command =
            Command::new(["pam-auth-update", "--package", option].iter().chain(&changing).copied());
        command.environment.insert("DEBIAN_FRONTEND".into(), "noninteractive".into());
        Ok(vec![Op::Run(command)])
    }
}

impl Resolved {
    /// Whether a profile is in all stacks that it is about, as it is now; or in none.
    fn is_true(&self, facts: &dyn Facts, name: &str, saved: &[Saved]) -> Result<bool, PlanError> {
        if !self.enabled {
            return Ok(saved.iter().all(|saved| !saved.has(name)));
        }
        let Some(text) = text(facts, &format!("{PROFILES}/{name}"))? else {
            return Err(PlanError::impossible_but(
                format!("there is no profile `{name}` in `{PROFILES}`"),
                "put the `package` or the `file` that brings it before",
            ));
        };
        let profile = Profile::parse(&text);
        profile.modules().iter().try_for_each(|module| module_is_there(facts, module))?;
        let is_in = |(stack, saved): (&&str, &Saved)| saved.is_as(name, &profile.lines(stack));
        Ok(STACKS.iter().zip(saved).all(is_in))
    }
}

/// The text of a file; none if there is none.
fn text(facts: &dyn Facts, path: &str) -> Result<Option<String>, PlanError> {
    let bytes = facts.content(Path::new(path))?.known()?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use crate::op::{Before, Content, Op, WriteFile};
    use crate::system::Attributes;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const FILE: &str = "# here are the per-package modules (the \"Primary\" block)
# here's the fallback if no module succeeds
# and here are more per-package modules (the \"Additional\" block)
# end of pam-auth-update config
";

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        for folder in ["/etc/pam.d", "/var/lib", "/var/lib/pam", "/usr/share", "/usr/share/pam-configs"] {
            fake.directory(folder);
        }
        for stack in ["auth", "account", "password", "session", "session-noninteractive"] {
            fake.file(&format!("/etc/pam.d/common-{stack}"), FILE);
            fake.file(&format!("/var/lib/pam/{stack}"), "");
        }
        let profile =
            "Name: A\nDefault: no\nPriority: 0\nAuth-Type: Additional\nAuth:\n\toptional\tpam_a.so\n";
        fake.file("/usr/share/pam-configs/a", profile);
        fake.file("/usr/lib/x86_64-linux-gnu/security/pam_a.so", "");
        fake
    }

    fn saves(text: &str) -> Vec<Op> {
        vec![Op::WriteFile(WriteFile {
            path: "/var/lib/pam/auth".into(),
            content: Content::new(text),
            attributes: Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 },
            validate: None,
            before: Before::Absent,
        })]
    }

    fn profile(fields: &str) -> Example {
        Example::resources(&format!("- pam_profile: {{ {fields} }}"))
    }

    #[test]
    fn settles_enabled_and_disabled() {
        let mut fake = debian();
        fake.command_makes(
            &["pam-auth-update", "--package", "--enable", "a"],
            saves("Module: a\noptional\tpam_a.so\n"),
        );
        fake.command_makes(&["pam-auth-update", "--package", "--disable", "a"], saves(""));
        insta::assert_snapshot!(profile("names: [a]").settles(&mut fake), @"
        example: pam_profile a
          > run pam-auth-update --package --enable a
        Plan: 1 to change, 0 unchanged.
        ");
        insta::assert_snapshot!(profile("names: [a], enabled: false").settles(&mut fake), @"
        example: pam_profile a
          > run pam-auth-update --package --disable a
        Plan: 1 to change, 0 unchanged.
        ");
        profile("names: [gone], enabled: false").settles(&mut fake);
    }

    #[test]
    fn a_profile_that_changed_is_taken_over() {
        let mut fake = debian();
        fake.file("/var/lib/pam/auth", "Module: a\nrequired\tpam_a.so\n");
        fake.command_makes(
            &["pam-auth-update", "--package", "--enable", "a"],
            saves("Module: a\noptional\tpam_a.so\n"),
        );
        profile("names: [a, a]").settles(&mut fake);
        assert_eq!(fake.performed.len(), 1);
    }

    #[test]
    fn what_cannot_be_had_is_explained() {
        let mut fake = debian();
        insta::assert_snapshot!(profile("names: [b]").fails(&mut fake), @"example: pam_profile b: there is no profile `b` in `/usr/share/pam-configs`; put the `package` or the `file` that brings it before");
        fake.file(
            "/usr/share/pam-configs/b",
            "Name: B\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore] pam_b.so\n",
        );
        insta::assert_snapshot!(profile("names: [b]").fails(&mut fake), @"example: pam_profile b: the PAM module `pam_b.so` is not there, so its stack would fail; put the `package` that brings it before, such as `libpam-pwquality` on Debian");
        let package = Example::resources("- package: { name: libpam-b }\n- pam_profile: { names: [b] }");
        insta::assert_snapshot!(package.plan(&fake).expect("a plan"), @"
        example: package libpam-b
          + install libpam-b
        example: pam_profile b (assumed)
          ? known after apply: whether installing libpam-b brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
        fake.file("/etc/pam.d/common-auth", &FILE.replace("# end", "auth optional pam_c.so\n# end"));
        insta::assert_snapshot!(profile("names: [a]").fails(&mut fake), @"example: pam_profile a: pam-auth-update does not change `/etc/pam.d/common-auth`: it has other lines between its own; put lines of your own above or below them, or make a profile of them");
        let mut fedora = Fake::amazon();
        fedora.file("/usr/share/pam-configs/c", "Name: C\n");
        fedora.file(
            "/usr/share/pam-configs/d",
            "Name: C\nAuth-Type: Primary\nAuth:\n\trequired /lib/pam_d.so\n",
        );
        fedora.file("/lib/pam_d.so", "");
        insta::assert_snapshot!(profile("names: [c, d]").fails(&mut fedora), @"example: pam_profile c, d: `/etc/pam.d/common-auth` does not exist: this host has no pam-auth-update; it is Debian's, of the package libpam-runtime; elsewhere use `pam`");
    }

    #[test]
    fn wrong_fields_are_explained() {
        insta::assert_snapshot!(profile("names: []").problems(), @"example/recipe.yaml:2:18: a `pam_profile` needs at least one of `names`");
        insta::assert_snapshot!(profile("names: [--force]").problems(), @"example/recipe.yaml:2:18: `--force` is not the name of a profile of PAM; it is the name of a file in `/usr/share/pam-configs`, such as `mkhomedir`");
        insta::assert_snapshot!(Example::resources("- pam_profile: { names: [a] }\n- pam_profile: { names: [b, a], enabled: false }").problems(), @"example/recipe.yaml:3:5: `a` of pam-auth-update is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
