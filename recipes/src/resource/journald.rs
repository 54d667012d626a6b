//! `journald`: settings of systemd's journal.

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{PartName, State};
use super::part::Part;
use super::sections::{Settings, section};
use super::{Claim, Context, Fields, Resource};
use crate::error::{Problem, did_you_mean};

/// Settings of systemd's journal, in a drop-in of its own in `/etc/systemd/journald.conf.d`.
///
/// Journald passes over names and values that it does not know, so they are checked here. It reads them
/// when it starts: notify a handler `service: { name: systemd-journald, state: restarted }`.
///
/// ```yaml
/// - journald:
///     name: 10-size
///     settings: { Storage: persistent, SystemMaxUse: 500M, MaxRetentionSec: 2week }
/// - journald: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Journald {
    /// The name of the file, without `.conf`: letters, digits, `-` and `_`. Of two files with a setting the
    /// later name wins.
    name: PartName,
    /// Names of journald.conf(5) and their values; `""` is what systemd has by default.
    settings: Option<Settings>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// What a setting may be.
#[derive(Debug, Clone, Copy)]
enum Type {
    Boolean,
    /// A boolean, or a size from which on it holds.
    Threshold,
    Number,
    Size,
    Span,
    Level,
    Path,
    OneOf(&'static [&'static str]),
}

/// The settings of journald.conf(5) in systemd 252, which Debian 12 has; later ones have these too.
const SETTINGS: [(&str, Type); 30] = [
    ("Storage", Type::OneOf(&["volatile", "persistent", "auto", "none"])),
    ("Compress", Type::Threshold),
    ("Seal", Type::Boolean),
    ("SplitMode", Type::OneOf(&["uid", "none"])),
    ("RateLimitIntervalSec", Type::Span),
    ("RateLimitBurst", Type::Number),
    ("SystemMaxUse", Type::Size),
    ("SystemKeepFree", Type::Size),
    ("SystemMaxFileSize", Type::Size),
    ("SystemMaxFiles", Type::Number),
    ("RuntimeMaxUse", Type::Size),
    ("RuntimeKeepFree", Type::Size),
    ("RuntimeMaxFileSize", Type::Size),
    ("RuntimeMaxFiles", Type::Number),
    ("MaxFileSec", Type::Span),
    ("MaxRetentionSec", Type::Span),
    ("SyncIntervalSec", Type::Span),
    ("ForwardToSyslog", Type::Boolean),
    ("ForwardToKMsg", Type::Boolean),
    ("ForwardToConsole", Type::Boolean),
    ("ForwardToWall", Type::Boolean),
    ("MaxLevelStore", Type::Level),
    ("MaxLevelSyslog", Type::Level),
    ("MaxLevelKMsg", Type::Level),
    ("MaxLevelConsole", Type::Level),
    ("MaxLevelWall", Type::Level),
    ("ReadKMsg", Type::Boolean),
    ("Audit", Type::Boolean),
    ("TTYPath", Type::Path),
    ("LineMax", Type::Size),
];

impl Fields for Journald {
    const KIND: &'static str = "journald";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let (text, decides) = match &self.settings {
            None if self.state == State::Present => {
                return Err(Problem::new("a `journald` needs `settings`"));
            }
            None => (None, Vec::new()),
            Some(settings) => {
                let claim = |key: &String| Claim::Setting { of: "journald", key: key.clone() };
                settings.0.iter().try_for_each(|(key, values)| check(key, &values.0))?;
                let decides = settings.0.iter().map(|(key, _)| claim(key)).collect();
                (Some(section("Journal", settings)?), decides)
            }
        };
        let part =
            Part { decides, ..Part::new("/etc/systemd/journald.conf.d", &format!("{}.conf", self.name.0)) };
        Ok(Box::new(part.with(self.state, text)?))
    }
}

fn check(key: &str, values: &[String]) -> Result<(), Problem> {
    let Some((_, kind)) = SETTINGS.iter().find(|(known, _)| *known == key) else {
        let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        let problem = Problem::new(format!("`{key}` is not a setting of journald.conf(5)"));
        return Err(problem.help(did_you_mean(key, &names)));
    };
    let [value] = values else {
        return Err(Problem::new(format!("`{key}` has one value, not a list")));
    };
    if value.is_empty() || kind.takes(value) {
        return Ok(());
    }
    Err(Problem::new(format!("`{value}` is not valid for `{key}`, which is {}", kind.noun())))
}

impl Type {
    fn takes(self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.contains(&value),
            Self::Threshold => Self::Boolean.takes(value) || Self::Size.takes(value),
            _ => Regex::new(self.pattern()).is_ok_and(|pattern| pattern.is_match(value)),
        }
    }

    /// See systemd.syntax(7), systemd.time(7) and journald.conf(5).
    fn pattern(self) -> &'static str {
        match self {
            Self::Boolean => "^(yes|no|true|false|on|off|1|0)$",
            Self::Number => "^[0-9]+$",
            Self::Size => r"^[0-9]+(\.[0-9]+)?[KMGTPE]?$",
            Self::Span => {
                "^(infinity|([0-9]+ *(usec|us|msec|ms|seconds?|sec|s|minutes?|min|m|hours?|hr|h|days?|d|weeks?|w|months?|M|years?|y)? *)+)$"
            }
            Self::Level => "^(emerg|alert|crit|err|warning|notice|info|debug|[0-7])$",
            Self::Path => r"^/\S+$",
            Self::Threshold | Self::OneOf(_) => "",
        }
    }

    fn noun(self) -> String {
        match self {
            Self::Boolean => "`yes` or `no`".into(),
            Self::Threshold => "`yes`, `no`, or a size such as `512`".into(),
            Self::Number => "a whole number".into(),
            Self::Size => "a size such as `500M`".into(),
            Self::Span => "a span such as `30s` or `2week`".into(),
            Self::Level => {
                "one of `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info` and `debug`".into()
            }
            Self::Path => "an absolute path".into(),
            Self::OneOf(values) => format!("one of `{}`", values.join("`, `")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn journald(settings: &str) -> Example {
        Example::resources(&format!("- journald: {{ name: a, settings: {{ {settings} }} }}"))
    }

    #[test]
    fn settles_made_changed_and_gone() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(journald("SystemMaxUse: 500M, Storage: persistent, Seal: false, MaxRetentionSec: 2week").settles(&mut fake), @"
        example: journald /etc/systemd/journald.conf.d/a.conf
          + create the directory /etc/systemd (root:root 0755)
          + create the directory /etc/systemd/journald.conf.d (root:root 0755)
          + create /etc/systemd/journald.conf.d/a.conf (root:root 0644, 77 bytes)
              --- /dev/null
              +++ /etc/systemd/journald.conf.d/a.conf
              @@ -0,0 +1,5 @@
              +[Journal]
              +SystemMaxUse=500M
              +Storage=persistent
              +Seal=no
              +MaxRetentionSec=2week
        Plan: 1 to change, 0 unchanged.
        ");
        fake.file("/etc/systemd/journald.conf.d/b.conf", "[Journal]\nSeal=yes\n");
        insta::assert_snapshot!(journald("SystemMaxUse: ''").settles(&mut fake), @"
        example: journald /etc/systemd/journald.conf.d/a.conf
          ~ change /etc/systemd/journald.conf.d/a.conf
              --- /etc/systemd/journald.conf.d/a.conf
              +++ /etc/systemd/journald.conf.d/a.conf
              @@ -1,5 +1,2 @@
               [Journal]
              -SystemMaxUse=500M
              -Storage=persistent
              -Seal=no
              -MaxRetentionSec=2week
              +SystemMaxUse=
        Plan: 1 to change, 0 unchanged.
        ");
        let absent = Example::resources("- journald: { name: a, state: absent }");
        insta::assert_snapshot!(absent.settles(&mut fake), @"
        example: journald /etc/systemd/journald.conf.d/a.conf
          - remove /etc/systemd/journald.conf.d/a.conf
        Plan: 1 to change, 0 unchanged.
        ");
        absent.settles(&mut fake);
    }

    #[test]
    fn what_a_package_may_bring_is_shown_with_a_question_mark() {
        let example =
            Example::resources("- package: { name: app }\n- journald: { name: a, settings: { Seal: true } }");
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package app
          + install app
        example: journald /etc/systemd/journald.conf.d/a.conf (assumed)
          ? create the directory /etc/systemd (root:root 0755), unless installing app brings it
          ? create the directory /etc/systemd/journald.conf.d (root:root 0755), unless installing app brings it
          ? create /etc/systemd/journald.conf.d/a.conf (root:root 0644, 19 bytes), unless installing app brings it
              --- /dev/null
              +++ /etc/systemd/journald.conf.d/a.conf
              @@ -0,0 +1,2 @@
              +[Journal]
              +Seal=yes
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn values_are_those_of_the_manual() {
        let all = "Compress: 512, Audit: true, SplitMode: none, RateLimitIntervalSec: 30s, RateLimitBurst: 1000, \
                   SystemKeepFree: 1.5G, SystemMaxFiles: 100, MaxFileSec: 1h 30min, MaxLevelWall: emerg, \
                   MaxLevelStore: 7, TTYPath: /dev/tty12, LineMax: 48K, SyncIntervalSec: 0";
        let quoted = all.replace("1.5G", "'1.5G'");
        journald(&quoted).settles(&mut Fake::debian());
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |settings: &str| journald(settings).problems();
        insta::assert_snapshot!(Example::resources("- journald: { name: a }").problems(), @"example/recipe.yaml:2:15: a `journald` needs `settings`");
        insta::assert_snapshot!(Example::resources("- journald: { name: a, settings: {} }").problems(), @"example/recipe.yaml:2:15: the section `Journal` has no settings");
        insta::assert_snapshot!(Example::resources("- journald: { name: a.conf, settings: { Seal: true } }").problems(), @"example/recipe.yaml:2:15: `a.conf` is not a name for a file of settings: letters, digits, `-` and `_`, without a dot");
        insta::assert_snapshot!(Example::resources("- journald: { name: a, settings: { Seal: true }, state: absent }").problems(), @"example/recipe.yaml:2:15: what shall be absent has only its `name` and `state: absent`");
        insta::assert_snapshot!(problems("SystemMaxUsage: 1G"), @"example/recipe.yaml:2:15: `SystemMaxUsage` is not a setting of journald.conf(5); did you mean `SystemMaxUse`? valid are `Storage`, `Compress`, `Seal`, `SplitMode`, `RateLimitIntervalSec`, `RateLimitBurst`, `SystemMaxUse`, `SystemKeepFree`, `SystemMaxFileSize`, `SystemMaxFiles`, `RuntimeMaxUse`, `RuntimeKeepFree`, `RuntimeMaxFileSize`, `RuntimeMaxFiles`, `MaxFileSec`, `MaxRetentionSec`, `SyncIntervalSec`, `ForwardToSyslog`, `ForwardToKMsg`, `ForwardToConsole`, `ForwardToWall`, `MaxLevelStore`, `MaxLevelSyslog`, `MaxLevelKMsg`, `MaxLevelConsole`, `MaxLevelWall`, `ReadKMsg`, `Audit`, `TTYPath` and `LineMax`");
        insta::assert_snapshot!(problems("Storage: disk"), @"example/recipe.yaml:2:15: `disk` is not valid for `Storage`, which is one of `volatile`, `persistent`, `auto`, `none`");
        insta::assert_snapshot!(problems("Seal: maybe"), @"example/recipe.yaml:2:15: `maybe` is not valid for `Seal`, which is `yes` or `no`");
        insta::assert_snapshot!(problems("Compress: small"), @"example/recipe.yaml:2:15: `small` is not valid for `Compress`, which is `yes`, `no`, or a size such as `512`");
        insta::assert_snapshot!(problems("SystemMaxUse: 10%"), @"example/recipe.yaml:2:15: `10%` is not valid for `SystemMaxUse`, which is a size such as `500M`");
        insta::assert_snapshot!(problems("SystemMaxFiles: 1G"), @"example/recipe.yaml:2:15: `1G` is not valid for `SystemMaxFiles`, which is a whole number");
        insta::assert_snapshot!(problems("MaxFileSec: 2 fortnights"), @"example/recipe.yaml:2:15: `2 fortnights` is not valid for `MaxFileSec`, which is a span such as `30s` or `2week`");
        insta::assert_snapshot!(problems("MaxLevelStore: warn"), @"example/recipe.yaml:2:15: `warn` is not valid for `MaxLevelStore`, which is one of `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info` and `debug`");
        insta::assert_snapshot!(problems("TTYPath: tty1"), @"example/recipe.yaml:2:15: `tty1` is not valid for `TTYPath`, which is an absolute path");
        insta::assert_snapshot!(problems("Storage: [auto, none]"), @"example/recipe.yaml:2:15: `Storage` has one value, not a list");
        insta::assert_snapshot!(problems("Storage: \"auto\\nSeal=no\""), @"example/recipe.yaml:2:47: a value goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(Example::resources("- journald: { name: a, settings: { Seal: true } }\n- journald: { name: b, settings: { Seal: false } }").problems(), @"example/recipe.yaml:3:5: `Seal` of journald is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
