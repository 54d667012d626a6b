//! `limits`: what a session of a user may use.

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{PartName, State};
use super::part::Part;
use super::{Claim, Context, Fields, Resource};
use crate::error::{Problem, did_you_mean};

/// What the sessions of users may use, in a file of its own in `/etc/security/limits.d`.
///
/// They hold from the next log-in on. A service of systemd has no session: its limits are in its unit, such
/// as `LimitNOFILE` in a `systemd_unit` with a `drop_in`. Groups and `*` do not include root.
///
/// ```yaml
/// - limits:
///     name: app
///     entries:
///       - { domain: app, type: soft, item: nofile, value: 65536 }
///       - { domain: "@ops", type: "-", item: core, value: unlimited }
/// - limits: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// The name of the file, without `.conf`: letters, digits, `-` and `_`. Of two files that set a limit
    /// the later name wins.
    name: PartName,
    /// Its lines, as data.
    #[serde(default)]
    entries: Vec<Entry>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// A line of the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Whose: a user, `@group`, a range of numbers such as `1000:` or `@100:200`, or `*` for all.
    domain: String,
    /// `hard`, which root alone raises; `soft`, which the user may raise up to it; or `-` for both.
    r#type: Type,
    /// What is limited, as limits.conf(5) calls it, such as `nofile`.
    item: String,
    /// How much: a number, or `unlimited`.
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum Type {
    #[serde(rename = "soft")]
    Soft,
    #[serde(rename = "hard")]
    Hard,
    #[serde(rename = "-")]
    Both,
}

/// The items of limits.conf(5).
const ITEMS: [&str; 20] = [
    "core",
    "data",
    "fsize",
    "memlock",
    "nofile",
    "rss",
    "stack",
    "cpu",
    "nproc",
    "as",
    "maxlogins",
    "maxsyslogins",
    "nonewprivs",
    "priority",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "chroot",
];

impl Fields for Limits {
    const KIND: &'static str = "limits";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.entries.is_empty() && self.state == State::Present {
            return Err(Problem::new("a `limits` needs `entries`"));
        }
        let mut text = String::new();
        let mut decides: Vec<Claim> = Vec::new();
        for entry in &self.entries {
            text += &entry.line()?;
            for claim in entry.claims() {
                if decides.contains(&claim) {
                    return Err(Problem::new(format!("{claim} is set by two of the `entries`")));
                }
                decides.push(claim);
            }
        }
        let part = Part { decides, ..Part::new("/etc/security/limits.d", &format!("{}.conf", self.name.0)) };
        Ok(Box::new(part.with(self.state, (!text.is_empty()).then_some(text))?))
    }
}

impl Entry {
    fn line(&self) -> Result<String, Problem> {
        let Self { domain, item, value, .. } = self;
        if !matches(r"^(\*|%|[@%]?[A-Za-z_][A-Za-z0-9_.-]*|@?[0-9]+:[0-9]*|@?:[0-9]+|%:[0-9]+)$", domain) {
            return Err(Problem::new(format!("`{domain}` is not a domain of limits.conf(5)")).help(
                "it is a user, `@group`, a range of numbers such as `1000:` or `@100:200`, or `*` for all",
            ));
        }
        if !ITEMS.contains(&item.as_str()) {
            let problem = Problem::new(format!("`{item}` is not an item of limits.conf(5)"));
            return Err(problem.help(did_you_mean(item, &ITEMS)));
        }
        if domain.starts_with('%') && !["maxlogins", "maxsyslogins"].contains(&item.as_str()) {
            return Err(Problem::new(format!("`%` is for `maxlogins`, not for `{item}`"))
                .help("members of a group are written `@group`"));
        }
        let (pattern, valid) = match item.as_str() {
            "nonewprivs" => ("^[01]$", "0 or 1"),
            "chroot" => (r"^/\S*$", "an absolute path"),
            "nice" => ("^(-?1?[0-9]|-20)$", "a number from -20 to 19"),
            "priority" => ("^-?[0-9]+$", "a number"),
            _ => ("^([0-9]+|-1|unlimited|infinity)$", "a number or `unlimited`"),
        };
        if !matches(pattern, value) {
            return Err(Problem::new(format!("`{value}` is not a value of `{item}`, which is {valid}")));
        }
        let kind = match self.r#type {
            Type::Soft => "soft",
            Type::Hard => "hard",
            Type::Both => "-",
        };
        Ok(format!("{domain} {kind} {item} {value}\n"))
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |kind: &str| Claim::Setting {
            of: "limits.conf",
            key: format!("{} {kind} {}", self.domain, self.item),
        };
        match self.r#type {
            Type::Soft => vec![claim("soft")],
            Type::Hard => vec![claim("hard")],
            Type::Both => vec![claim("soft"), claim("hard")],
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn limits(entries: &str) -> Example {
        Example::resources(&format!("- limits: {{ name: app, entries: [{entries}] }}"))
    }

    #[test]
    fn settles_made_changed_and_gone() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(limits("{ domain: app, type: soft, item: nofile, value: 65536 }, { domain: '*', type: '-', item: core, value: unlimited }").settles(&mut fake), @"
        example: limits /etc/security/limits.d/app.conf
          + create the directory /etc/security (root:root 0755)
          + create the directory /etc/security/limits.d (root:root 0755)
          + create /etc/security/limits.d/app.conf (root:root 0644, 41 bytes)
              --- /dev/null
              +++ /etc/security/limits.d/app.conf
              @@ -0,0 +1,2 @@
              +app soft nofile 65536
              +* - core unlimited
        Plan: 1 to change, 0 unchanged.
        ");
        fake.file("/etc/security/limits.d/other.conf", "* soft nofile 1\n");
        insta::assert_snapshot!(limits("{ domain: '@1000:', type: hard, item: nice, value: -20 }").settles(&mut fake), @"
        example: limits /etc/security/limits.d/app.conf
          ~ change /etc/security/limits.d/app.conf
              --- /etc/security/limits.d/app.conf
              +++ /etc/security/limits.d/app.conf
              @@ -1,2 +1 @@
              -app soft nofile 65536
              -* - core unlimited
              +@1000: hard nice -20
        Plan: 1 to change, 0 unchanged.
        ");
        let absent = Example::resources("- limits: { name: app, state: absent }");
        insta::assert_snapshot!(absent.settles(&mut fake), @"
        example: limits /etc/security/limits.d/app.conf
          - remove /etc/security/limits.d/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
        absent.settles(&mut fake);
    }

    #[test]
    fn what_a_package_may_bring_is_shown_with_a_question_mark() {
        let example = Example::resources(
            "- package: { name: app }\n- limits: { name: app, entries: [{ domain: a, type: soft, item: core, value: 0 }] }",
        );
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package app
          + install app
        example: limits /etc/security/limits.d/app.conf (assumed)
          ? create the directory /etc/security (root:root 0755), unless installing app brings it
          ? create the directory /etc/security/limits.d (root:root 0755), unless installing app brings it
          ? create /etc/security/limits.d/app.conf (root:root 0644, 14 bytes), unless installing app brings it
              --- /dev/null
              +++ /etc/security/limits.d/app.conf
              @@ -0,0 +1 @@
              +a soft core 0
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn domains_and_values_are_those_of_the_manual() {
        for (domain, item, value) in [
            ("root", "as", "-1"),
            ("%", "maxlogins", "3"),
            ("%ops", "maxlogins", "3"),
            ("%:100", "maxlogins", "3"),
            (":100", "cpu", "infinity"),
            ("@100:200", "nproc", "5"),
            ("a.b-c", "nonewprivs", "1"),
            ("a", "chroot", "/srv"),
            ("a", "nice", "19"),
            ("a", "priority", "-5"),
        ] {
            let entry = format!("{{ domain: '{domain}', type: hard, item: {item}, value: '{value}' }}");
            limits(&entry).settles(&mut Fake::debian());
        }
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |entries: &str| limits(entries).problems();
        let value = |item: &str, value: &str| {
            problems(&format!("{{ domain: a, type: soft, item: {item}, value: \"{value}\" }}"))
        };
        insta::assert_snapshot!(problems(""), @"example/recipe.yaml:2:13: a `limits` needs `entries`");
        insta::assert_snapshot!(problems("{ domain: 'a b', type: soft, item: core, value: 0 }"), @"example/recipe.yaml:2:13: `a b` is not a domain of limits.conf(5); it is a user, `@group`, a range of numbers such as `1000:` or `@100:200`, or `*` for all");
        insta::assert_snapshot!(problems("{ domain: a, type: both, item: core, value: 0 }"), @"example/recipe.yaml:2:55: `both` is not a valid value here; valid are `soft`, `hard` and `-`");
        insta::assert_snapshot!(problems("{ domain: '%ops', type: soft, item: core, value: 0 }"), @"example/recipe.yaml:2:13: `%` is for `maxlogins`, not for `core`; members of a group are written `@group`");
        insta::assert_snapshot!(value("nofiles", "1"), @"example/recipe.yaml:2:13: `nofiles` is not an item of limits.conf(5); did you mean `nofile`? valid are `core`, `data`, `fsize`, `memlock`, `nofile`, `rss`, `stack`, `cpu`, `nproc`, `as`, `maxlogins`, `maxsyslogins`, `nonewprivs`, `priority`, `locks`, `sigpending`, `msgqueue`, `nice`, `rtprio` and `chroot`");
        insta::assert_snapshot!(value("nofile", "many"), @"example/recipe.yaml:2:13: `many` is not a value of `nofile`, which is a number or `unlimited`");
        insta::assert_snapshot!(value("nofile", "1\\n* hard core 0"), @"
        example/recipe.yaml:2:13: `1
        * hard core 0` is not a value of `nofile`, which is a number or `unlimited`
        ");
        insta::assert_snapshot!(value("nice", "20"), @"example/recipe.yaml:2:13: `20` is not a value of `nice`, which is a number from -20 to 19");
        insta::assert_snapshot!(value("nonewprivs", "2"), @"example/recipe.yaml:2:13: `2` is not a value of `nonewprivs`, which is 0 or 1");
        insta::assert_snapshot!(value("chroot", "srv"), @"example/recipe.yaml:2:13: `srv` is not a value of `chroot`, which is an absolute path");
        insta::assert_snapshot!(problems("{ domain: a, type: soft, item: core, value: 0 }, { domain: a, type: '-', item: core, value: 1 }"), @"example/recipe.yaml:2:13: `a soft core` of limits.conf is set by two of the `entries`");
        insta::assert_snapshot!(Example::resources("- limits: { name: a, entries: [{ domain: a, type: soft, item: core, value: 0 }] }\n- limits: { name: b, entries: [{ domain: a, type: soft, item: core, value: 1 }] }").problems(), @"example/recipe.yaml:3:5: `a soft core` of limits.conf is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
