//! `package_pin`: which of several versions of a package apt takes.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::contents::{Contents, plan_absent};
use super::fields::{State, attributes, is_package_word};
use super::package_manager::needs;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Facts, PackageManager, PlanError};

/// Which of several versions of packages apt takes, in `/etc/apt/preferences.d/NAME.pref`.
///
/// The version with the highest priority is taken: one that is installed has 100, those of a repository 500.
/// Below 0 a version is never installed; above 1000 it is taken even if that is a step back. It decides for
/// what is installed later and for upgrades; what is installed already stays until then. dnf has no pins: there
/// `package_hold`, and `priority` and `exclude` of a `repository`, are what comes nearest.
///
/// ```yaml
/// - package_pin: { name: kernel-from-backports, packages: ["linux-image-*"], release: n=bookworm-backports, priority: 900 }
/// - package_pin: { name: nginx, packages: [nginx, nginx-common], version: "1.22.*", priority: 1001 }
/// - package_pin: { name: vendor-only-this, packages: ["*"], origin: deb.example.com, priority: -1 }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PackagePin {
    /// The name in the name of the file: letters, digits, `-` and `_`.
    name: String,
    /// The packages; `*` and `?` stand for any characters in a name.
    #[serde(default)]
    packages: Vec<String>,
    /// The versions that it is about; `*` and `?` stand for any characters.
    version: Option<String>,
    /// Instead of `version`: the releases that it is about, such as `n=bookworm-backports` or `o=Debian,a=stable`.
    release: Option<String>,
    /// Instead of `version`: the host name of the repository that it is about.
    origin: Option<String>,
    /// The priority: a number from -32768 to 32767, and not 0.
    priority: Option<i32>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    /// None if there shall be no pin.
    pin: Option<Pin>,
}

#[derive(Debug)]
struct Pin {
    packages: Vec<String>,
    /// What versions it is about, as `apt_preferences(5)` has it: `version 1.22.*`.
    versions: String,
    priority: i32,
}

impl Fields for PackagePin {
    const KIND: &'static str = "package_pin";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        // apt passes over files with other characters in their names (apt_preferences(5)).
        let valid = self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !valid || self.name.is_empty() {
            return Err(Problem::new(format!("`{}` is not a name for a pin", self.name.escape_debug()))
                .help("letters, digits, `-` and `_` are valid"));
        }
        let versions = [("version", &self.version), ("release", &self.release), ("origin", &self.origin)];
        let versions: Vec<(&str, &String)> =
            versions.iter().filter_map(|(field, value)| Some((*field, value.as_ref()?))).collect();
        if self.state == State::Absent {
            if !versions.is_empty() || !self.packages.is_empty() || self.priority.is_some() {
                return Err(Problem::new("a pin that shall be absent has nothing but its `name`"));
            }
            return Ok(Box::new(Resolved { name: self.name, pin: None }));
        }
        if self.packages.is_empty() {
            return Err(Problem::new("a `package_pin` needs at least one of `packages`")
                .help("write `packages: [\"*\"]` for all"));
        }
        for package in &self.packages {
            // apt reads `/.../` as a regular expression and `src:` as all packages of a source; both are left out.
            if !is_package_word(package.trim_start_matches(['*', '?']), "+-.:*?") && package != "*" {
                let message = format!("`{}` is not the name of a package", package.escape_debug());
                return Err(Problem::new(message).help("`*` and `?` stand for any characters"));
            }
        }
        let [(field, value)] = versions[..] else {
            return Err(Problem::new(
                "a `package_pin` needs exactly one of `version`, `release` and `origin`",
            ));
        };
        let priority = match self.priority {
            None => return Err(Problem::new("a `package_pin` needs a `priority`")),
            // apt_preferences(5): what 0 does is not defined; apt reads a signed number of 16 bits.
            Some(0) => {
                return Err(Problem::new("the priority 0 means nothing to apt").help(
                    "-1 keeps a version from being installed, 1 lets it be installed where there is no other",
                ));
            }
            Some(priority) if i16::try_from(priority).is_err() => {
                return Err(Problem::new(format!("priority {priority} is out of range (-32768 to 32767)")));
            }
            Some(priority) => priority,
        };
        let versions = versions_text(field, value)?;
        Ok(Box::new(Resolved {
            name: self.name,
            pin: Some(Pin { packages: self.packages, versions, priority }),
        }))
    }
}

/// What follows `Pin:`. Anything that would end the line or the word is refused.
fn versions_text(field: &str, value: &str) -> Result<String, Problem> {
    let shown = value.escape_debug();
    match field {
        "version" if is_package_word(value.trim_start_matches(['*', '?']), "+-._:~^*?") || value == "*" => {}
        // The letters of apt_preferences(5), "Determination of Package Version and Distribution Properties".
        "release" => {
            let is_property = |part: &str| {
                part.trim().split_once('=').is_some_and(|(letter, value)| {
                    ["a", "n", "v", "c", "o", "l", "b"].contains(&letter)
                        && !value.is_empty()
                        && value.chars().all(|c| c.is_ascii_alphanumeric() || " -_.+~:/*?".contains(c))
                })
            };
            if !value.split(',').all(is_property) {
                return Err(Problem::new(format!("`{shown}` is not a release"))
                    .help("it is written as `n=CODENAME`, `a=SUITE`, `o=ORIGIN`, `l=LABEL`, `c=COMPONENT`, `v=VERSION` or `b=ARCHITECTURE`, several with commas"));
            }
        }
        // In quotes, without which apt takes a number for a version; an empty one is what is not from a repository.
        "origin" if value.chars().all(|c| c.is_ascii_alphanumeric() || "-._:*?".contains(c)) => {
            return Ok(format!("origin \"{value}\""));
        }
        "origin" => {
            return Err(Problem::new(format!("`{shown}` is not the name of a host"))
                .help("write it without `https://` and path, such as `deb.example.com`"));
        }
        _ => return Err(Problem::new(format!("`{shown}` is not a version"))),
    }
    Ok(format!("{field} {value}"))
}

impl Pin {
    fn text(&self) -> String {
        let Self { packages, versions, priority } = self;
        format!("Package: {}\nPin: {versions}\nPin-Priority: {priority}\n", packages.join(" "))
    }
}

impl Resolved {
    fn path(&self) -> PathBuf {
        Path::new("/etc/apt/preferences.d").join(format!("{}.pref", self.name))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.name.clone()
    }

    fn claims(&self) -> Vec<Claim> {
        let pins = self.pin.iter().flat_map(|pin| {
            pin.packages
                .iter()
                .map(|package| Claim::PackagePin { package: package.clone(), versions: pin.versions.clone() })
        });
        pins.chain([Claim::Path(self.path())]).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let Some(pin) = &self.pin else { return plan_absent(facts, &self.path()) };
        let instead = "`package_hold` keeps a package at its version, and `priority` and `exclude` of a `repository` say where packages come from; write `when: facts.os.family == \"debian\"` here";
        needs(PackageManager::Apt, facts, "a `package_pin`", instead)?;
        Contents {
            path: self.path(),
            content: Content::new(pin.text()),
            attributes: attributes(None, None, None, 0o644),
            validate: None,
        }
        .plan_with_parents(facts)
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn example(fields: &str) -> Example {
        Example::resources(&format!("- package_pin: {{ {fields} }}"))
    }

    #[test]
    fn settles_new_changed_and_gone() {
        let mut fake = Fake::debian();
        let fields = "name: a, packages: [nginx, 'libnginx-*'], version: '1.22.*', priority: 1001";
        insta::assert_snapshot!(example(fields).settles(&mut fake), @"
        example: package_pin a
          + create the directory /etc/apt (root:root 0755)
          + create the directory /etc/apt/preferences.d (root:root 0755)
          + create /etc/apt/preferences.d/a.pref (root:root 0644, 65 bytes)
              --- /dev/null
              +++ /etc/apt/preferences.d/a.pref
              @@ -0,0 +1,3 @@
              +Package: nginx libnginx-*
              +Pin: version 1.22.*
              +Pin-Priority: 1001
        Plan: 1 to change, 0 unchanged.
        ");
        fake.file("/etc/apt/preferences.d/a.pref", "Explanation: mine\r\nPackage: x");
        let fields = "name: a, packages: ['*'], release: 'o=Debian,n=bookworm-backports', priority: -1";
        insta::assert_snapshot!(example(fields).settles(&mut fake), @r"
        example: package_pin a
          ~ change /etc/apt/preferences.d/a.pref
              --- /etc/apt/preferences.d/a.pref
              +++ /etc/apt/preferences.d/a.pref
              @@ -1,2 +1,3 @@
              -Explanation: mine
              -Package: x
              \ No newline at end of file
              +Package: *
              +Pin: release o=Debian,n=bookworm-backports
              +Pin-Priority: -1
        Plan: 1 to change, 0 unchanged.
        ");
        example("name: a, packages: ['*'], origin: deb.example.com, priority: 100").settles(&mut fake);
        insta::assert_snapshot!(fake.text("/etc/apt/preferences.d/a.pref").expect("written"), @r#"
        Package: *
        Pin: origin "deb.example.com"
        Pin-Priority: 100
        "#);
        insta::assert_snapshot!(example("name: a, state: absent").settles(&mut fake), @"
        example: package_pin a
          - remove /etc/apt/preferences.d/a.pref
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn dnf_has_no_pins() {
        let pin = example("name: a, packages: ['*'], origin: a.b, priority: 100");
        insta::assert_snapshot!(pin.fails(&mut Fake::amazon()), @r#"example: package_pin a: a `package_pin` is for hosts with apt, and this is `amzn`, which has dnf; `package_hold` keeps a package at its version, and `priority` and `exclude` of a `repository` say where packages come from; write `when: facts.os.family == "debian"` here"#);
    }

    #[test]
    fn what_is_decided_twice_is_found() {
        let two = "
- package_pin: { name: one, packages: [a, b], release: n=x, priority: 1 }
- package_pin: { name: two, packages: [b, c], release: n=x, priority: 2 }
- package_pin: { name: three, packages: [b], release: n=y, priority: 3 }
- file: { path: /etc/apt/preferences.d/three.pref, content: x }
";
        insta::assert_snapshot!(Example::resources(two).problems(), @"
        example/recipe.yaml:3:5: the priority of the package `b` at `release n=x` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:5:5: the path `/etc/apt/preferences.d/three.pref` is decided twice, differently (first here: example/recipe.yaml:4:5)
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| example(fields).problems();
        let with = |fields: &str| example(&format!("name: a, packages: [a], {fields}")).problems();
        insta::assert_snapshot!(problems("name: a.pref, state: absent"), @"example/recipe.yaml:2:18: `a.pref` is not a name for a pin; letters, digits, `-` and `_` are valid");
        insta::assert_snapshot!(problems("name: a, packages: [a], state: absent"), @"example/recipe.yaml:2:18: a pin that shall be absent has nothing but its `name`");
        insta::assert_snapshot!(problems("name: a, version: '1', priority: 1"), @r#"example/recipe.yaml:2:18: a `package_pin` needs at least one of `packages`; write `packages: ["*"]` for all"#);
        insta::assert_snapshot!(problems("name: a, packages: [\"a\\nPin: x\"], version: '1', priority: 1"), @r"example/recipe.yaml:2:18: `a\nPin: x` is not the name of a package; `*` and `?` stand for any characters");
        insta::assert_snapshot!(problems("name: a, packages: [/a/], version: '1', priority: 1"), @"example/recipe.yaml:2:18: `/a/` is not the name of a package; `*` and `?` stand for any characters");
        insta::assert_snapshot!(with("priority: 1"), @"example/recipe.yaml:2:18: a `package_pin` needs exactly one of `version`, `release` and `origin`");
        insta::assert_snapshot!(with("version: '1', release: a=x, priority: 1"), @"example/recipe.yaml:2:18: a `package_pin` needs exactly one of `version`, `release` and `origin`");
        insta::assert_snapshot!(with("version: '1'"), @"example/recipe.yaml:2:18: a `package_pin` needs a `priority`");
        insta::assert_snapshot!(with("version: '1', priority: 0"), @"example/recipe.yaml:2:18: the priority 0 means nothing to apt; -1 keeps a version from being installed, 1 lets it be installed where there is no other");
        insta::assert_snapshot!(with("version: '1', priority: 40000"), @"example/recipe.yaml:2:18: priority 40000 is out of range (-32768 to 32767)");
        insta::assert_snapshot!(with("version: \"1\\nPin-Priority: 9\", priority: 1"), @r"example/recipe.yaml:2:18: `1\nPin-Priority: 9` is not a version");
        insta::assert_snapshot!(with("release: bookworm, priority: 1"), @"example/recipe.yaml:2:18: `bookworm` is not a release; it is written as `n=CODENAME`, `a=SUITE`, `o=ORIGIN`, `l=LABEL`, `c=COMPONENT`, `v=VERSION` or `b=ARCHITECTURE`, several with commas");
        insta::assert_snapshot!(with("release: \"n=x\\ny\", priority: 1"), @r"example/recipe.yaml:2:18: `n=x\ny` is not a release; it is written as `n=CODENAME`, `a=SUITE`, `o=ORIGIN`, `l=LABEL`, `c=COMPONENT`, `v=VERSION` or `b=ARCHITECTURE`, several with commas");
        insta::assert_snapshot!(with("origin: 'https://a.b/', priority: 1"), @"example/recipe.yaml:2:18: `https://a.b/` is not the name of a host; write it without `https://` and path, such as `deb.example.com`");
    }
}
