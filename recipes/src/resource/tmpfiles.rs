//! `tmpfiles`: files and directories that every boot makes, and cleans up.

use std::path::PathBuf;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::directory::plan_directory;
use super::fields::{AccountName, Mode, PartName, State, attributes, one_line};
use super::part::Part;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Attributes, Facts, PlanError};

/// What systemd-tmpfiles makes at every boot and cleans up now and then, in a file of its own in
/// `/etc/tmpfiles.d`.
///
/// Directories (`d` and `D`) are also made at once, so that what comes after can use them. All else is done
/// at the next boot, or by a handler that runs `systemd-tmpfiles --create`. In paths and arguments `%`
/// starts a specifier, as tmpfiles.d(5) says. When the file goes, what it made stays.
///
/// ```yaml
/// - tmpfiles:
///     name: app
///     entries:
///       - { type: d, path: /run/app, mode: "0750", group: adm }
///       - { type: e, path: /var/tmp/app, age: 10d }
///       - { type: L+, path: /run/current, argument: /srv/app/current }
/// - tmpfiles: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tmpfiles {
    /// The name of the file, without `.conf`: letters, digits, `-` and `_`.
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
    /// What is done: a letter of tmpfiles.d(5), such as `d` for a directory, and `+!-=~^` behind it.
    r#type: String,
    /// With what. It starts with `/` or a specifier.
    path: String,
    /// Permission bits; `"0755"` for directories and `"0644"` for files if not said.
    mode: Option<Mode>,
    /// Its owner; `root` if not said.
    user: Option<AccountName>,
    /// Its group; `root` if not said.
    group: Option<AccountName>,
    /// How old what is in it may become before it goes, such as `10d`; any age if not said.
    age: Option<String>,
    /// The target of a link, the text of a file, or whatever the type has.
    argument: Option<String>,
}

#[derive(Debug)]
struct Resolved {
    part: Part,
    directories: Vec<(PathBuf, Attributes)>,
}

/// The types of tmpfiles.d(5).
const TYPES: &str = "fwdDevqQpLcbCxXrRzZtThHaA";

impl Fields for Tmpfiles {
    const KIND: &'static str = "tmpfiles";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        if self.entries.is_empty() && self.state == State::Present {
            return Err(Problem::new("a `tmpfiles` needs `entries`"));
        }
        let lines: Vec<String> = self.entries.iter().map(Entry::line).collect::<Result<_, _>>()?;
        for (at, entry) in self.entries.iter().enumerate() {
            let same = |other: &Entry| other.path == entry.path && other.makes() && entry.makes();
            if self.entries[..at].iter().any(same) {
                return Err(Problem::new(format!("`{}` is made by two of the `entries`", entry.path)));
            }
        }
        let names = |name: fn(&Entry) -> Option<&AccountName>| {
            self.entries.iter().filter_map(name).map(|name| name.0.clone()).collect()
        };
        let part = Part {
            users: names(|entry| entry.user.as_ref()),
            groups: names(|entry| entry.group.as_ref()),
            ..Part::new("/etc/tmpfiles.d", &format!("{}.conf", self.name.0))
        };
        let text = (!lines.is_empty()).then(|| lines.concat());
        let directories = self.entries.iter().filter_map(Entry::directory).collect();
        Ok(Box::new(Resolved { part: part.with(self.state, text)?, directories }))
    }
}

impl Entry {
    fn letter(&self) -> char {
        self.r#type.chars().next().unwrap_or_default()
    }

    /// Whether it makes something at its path, rather than change what is there.
    fn makes(&self) -> bool {
        "fdDvqQpLcbC".contains(self.letter())
    }

    fn line(&self) -> Result<String, Problem> {
        let (letter, kind) = (self.letter(), &self.r#type);
        let wrong = |message: String| Err(Problem::new(message));
        if !TYPES.contains(letter) || !kind.chars().skip(1).all(|c| "+!-=~^".contains(c)) {
            return wrong(format!("`{kind}` is not a type of tmpfiles.d(5), such as `d`, `f+` or `L!`"));
        }
        if !self.path.starts_with(['/', '%']) {
            return wrong(format!("the path `{}` does not start with `/` or a specifier", self.path));
        }
        one_line("`path`", &self.path)?;
        if self.path.contains(['"', '\'', '\\']) || self.path.split('/').any(|part| part == "..") {
            return wrong(format!("the path `{}` has a quote, a backslash or `..` in it", self.path));
        }
        // What tmpfiles.d(5) ignores was meant to do something.
        if "xrRLta".contains(letter) && (self.mode.is_some() || self.user.is_some() || self.group.is_some()) {
            return wrong(format!("an entry of type `{kind}` has no `mode`, `user` or `group`"));
        }
        if let Some(age) = &self.age {
            if !"dDevqQCxX".contains(letter) {
                return wrong(format!("an entry of type `{kind}` has no `age`"));
            }
            if !is_age(age) {
                return Err(Problem::new(format!("`{age}` is not an age"))
                    .help("write one such as `10d` or `1h30m`; units are us, ms, s, m, h, d and w"));
            }
        }
        match &self.argument {
            Some(_) if !"fwLcbCtTaAhH".contains(letter) => {
                return wrong(format!("an entry of type `{kind}` has no `argument`"));
            }
            None if "wcbtTaAhH".contains(letter) => {
                return wrong(format!("an entry of type `{kind}` needs an `argument`"));
            }
            Some(argument) if argument.is_empty() || argument.starts_with(char::is_whitespace) => {
                return Err(Problem::new("`argument` is empty, or starts with a space or tab")
                    .help("write such a space as `\\x20`"));
            }
            Some(argument) => one_line("`argument`", argument)?,
            None => {}
        }
        if letter == 'e'
            && self.age.is_none()
            && self.mode.is_none()
            && self.user.is_none()
            && self.group.is_none()
        {
            return wrong(format!("an entry of type `{kind}` needs `mode`, `user`, `group` or `age`"));
        }
        let path = if self.path.contains(char::is_whitespace) {
            format!("\"{}\"", self.path)
        } else {
            self.path.clone()
        };
        let name = |name: &Option<AccountName>| name.as_ref().map_or("-".to_owned(), |name| name.0.clone());
        let fields = [
            kind.clone(),
            path,
            self.mode.map_or("-".to_owned(), |mode| format!("{:04o}", mode.0)),
            name(&self.user),
            name(&self.group),
            self.age.clone().unwrap_or("-".to_owned()),
            self.argument.clone().unwrap_or("-".to_owned()),
        ];
        Ok(format!("{}\n", fields.join(" ")))
    }

    /// The directory that it makes, if its path is the same on every host. One with `!` is for the boot only.
    fn directory(&self) -> Option<(PathBuf, Attributes)> {
        if !"dD".contains(self.letter()) || self.path.contains('%') || self.r#type.contains('!') {
            return None;
        }
        let name = |name: &Option<AccountName>| name.as_ref().map(|name| name.0.clone());
        let attributes = attributes(name(&self.user), name(&self.group), self.mode, 0o755);
        Some((PathBuf::from(&self.path).components().collect(), attributes))
    }
}

/// A span as tmpfiles.d(5) has it: numbers with units, and which times count before a colon.
fn is_age(text: &str) -> bool {
    let age = Regex::new(r"^~?([abcmABCM]+:)?([0-9]+(us|ms|s|min|m|h|d|w)?)+$");
    age.is_ok_and(|age| age.is_match(text))
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.part.subject()
    }

    fn claims(&self) -> Vec<Claim> {
        let directories = self.directories.iter().map(|(path, _)| Claim::Path(path.clone()));
        self.part.claims().into_iter().chain(directories).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let mut ops = self.part.plan(facts)?;
        for (path, attributes) in &self.directories {
            for op in plan_directory(facts, path, attributes)? {
                // Two of them may have a parent in common.
                if !ops.contains(&op) {
                    ops.push(op);
                }
            }
        }
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::is_age;
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn tmpfiles(entries: &str) -> Example {
        Example::resources(&format!("- tmpfiles: {{ name: app, entries: [{entries}] }}"))
    }

    #[test]
    fn settles_with_its_directories_changed_and_gone() {
        let mut fake = Fake::debian();
        fake.directory("/etc/tmpfiles.d");
        fake.group_with_id("adm", 4);
        let two = "{ type: d, path: /run/app/a/, group: adm, mode: \"0750\", age: 10d }, { type: D, path: '/run/app/b c' }, { type: L+, path: /run/x, argument: /srv/my app }, { type: 'd!', path: /run/later }, { type: d, path: '%t/y' }";
        insta::assert_snapshot!(tmpfiles(two).settles(&mut fake), @r#"
        example: tmpfiles /etc/tmpfiles.d/app.conf
          + create /etc/tmpfiles.d/app.conf (root:root 0644, 129 bytes)
              --- /dev/null
              +++ /etc/tmpfiles.d/app.conf
              @@ -0,0 +1,5 @@
              +d /run/app/a/ 0750 - adm 10d -
              +D "/run/app/b c" - - - - -
              +L+ /run/x - - - - /srv/my app
              +d! /run/later - - - - -
              +d %t/y - - - - -
          + create the directory /run/app (root:root 0755)
          + create the directory /run/app/a (root:adm 0750)
          + create the directory /run/app/b c (root:root 0755)
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(tmpfiles("{ type: d, path: /run/app/a }").settles(&mut fake), @r#"
        example: tmpfiles /etc/tmpfiles.d/app.conf
          ~ change /etc/tmpfiles.d/app.conf
              --- /etc/tmpfiles.d/app.conf
              +++ /etc/tmpfiles.d/app.conf
              @@ -1,5 +1 @@
              -d /run/app/a/ 0750 - adm 10d -
              -D "/run/app/b c" - - - - -
              -L+ /run/x - - - - /srv/my app
              -d! /run/later - - - - -
              -d %t/y - - - - -
              +d /run/app/a - - - - -
          ~ /run/app/a: root:adm 0750 -> root:root 0755
        Plan: 1 to change, 0 unchanged.
        "#);
        let absent = Example::resources("- tmpfiles: { name: app, state: absent }");
        insta::assert_snapshot!(absent.settles(&mut fake), @"
        example: tmpfiles /etc/tmpfiles.d/app.conf
          - remove /etc/tmpfiles.d/app.conf
        Plan: 1 to change, 0 unchanged.
        ");
        absent.settles(&mut fake);
    }

    #[test]
    fn what_it_makes_for_whom_must_be_possible() {
        insta::assert_snapshot!(tmpfiles("{ type: f, path: /run/a, user: app }").fails(&mut Fake::debian()), @"example: tmpfiles /etc/tmpfiles.d/app.conf: the user `app` does not exist; put a `user: { name: app }` before it");
        let mut fake = Fake::debian();
        fake.file("/run/a", "");
        insta::assert_snapshot!(tmpfiles("{ type: d, path: /run/a }").fails(&mut fake), @"example: tmpfiles /etc/tmpfiles.d/app.conf: `/run/a` is a file, not a directory");
        let example = Example::resources(
            "- package: { name: app }\n- tmpfiles: { name: app, entries: [{ type: d, path: /run/a, user: app }] }",
        );
        insta::assert_snapshot!(example.plan(&Fake::debian()).expect("a plan"), @"
        example: package app
          + install app
        example: tmpfiles /etc/tmpfiles.d/app.conf (assumed)
          ? known after apply: whether installing app brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn ages_are_what_systemd_reads() {
        for valid in ["10d", "0", "1h30m", "~3w", "bmA:1h", "90"] {
            assert!(is_age(valid), "{valid}");
        }
        for wrong in ["", "d", "10 d", "10y", "-1d", "x:1h", ":1h", "1d:"] {
            assert!(!is_age(wrong), "{wrong}");
        }
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |entries: &str| tmpfiles(entries).problems();
        insta::assert_snapshot!(problems(""), @"example/recipe.yaml:2:15: a `tmpfiles` needs `entries`");
        insta::assert_snapshot!(problems("{ type: y, path: /a }"), @"example/recipe.yaml:2:15: `y` is not a type of tmpfiles.d(5), such as `d`, `f+` or `L!`");
        insta::assert_snapshot!(problems("{ type: d, path: a }"), @"example/recipe.yaml:2:15: the path `a` does not start with `/` or a specifier");
        insta::assert_snapshot!(problems("{ type: d, path: \"/a\\nb\" }"), @"example/recipe.yaml:2:15: `path` goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("{ type: d, path: '/a\"b' }"), @r#"example/recipe.yaml:2:15: the path `/a"b` has a quote, a backslash or `..` in it"#);
        insta::assert_snapshot!(problems("{ type: d, path: /a, mode: 755 }"), @r#"example/recipe.yaml:2:65: a mode is a string: the number 755 is 0o1363 in octal; write "0755""#);
        insta::assert_snapshot!(problems("{ type: L, path: /a, user: root }"), @"example/recipe.yaml:2:15: an entry of type `L` has no `mode`, `user` or `group`");
        insta::assert_snapshot!(problems("{ type: f, path: /a, age: 10d }"), @"example/recipe.yaml:2:15: an entry of type `f` has no `age`");
        insta::assert_snapshot!(problems("{ type: d, path: /a, age: 10y }"), @"example/recipe.yaml:2:15: `10y` is not an age; write one such as `10d` or `1h30m`; units are us, ms, s, m, h, d and w");
        insta::assert_snapshot!(problems("{ type: d, path: /a, argument: b }"), @"example/recipe.yaml:2:15: an entry of type `d` has no `argument`");
        insta::assert_snapshot!(problems("{ type: w, path: /a }"), @"example/recipe.yaml:2:15: an entry of type `w` needs an `argument`");
        insta::assert_snapshot!(problems("{ type: w, path: /a, argument: ' b' }"), @r#"example/recipe.yaml:2:15: `argument` is empty, or starts with a space or tab; write such a space as `\x20`"#);
        insta::assert_snapshot!(problems("{ type: w, path: /a, argument: \"b\\nd /etc\" }"), @"example/recipe.yaml:2:15: `argument` goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("{ type: e, path: /a }"), @"example/recipe.yaml:2:15: an entry of type `e` needs `mode`, `user`, `group` or `age`");
        insta::assert_snapshot!(problems("{ type: d, path: /a }, { type: L, path: /a }"), @"example/recipe.yaml:2:15: `/a` is made by two of the `entries`");
        insta::assert_snapshot!(problems("{ type: d, path: /a, owner: app }"), @"example/recipe.yaml:2:59: unknown field `owner` in `tmpfiles`; valid are `type`, `path`, `mode`, `user`, `group`, `age` and `argument`");
        insta::assert_snapshot!(Example::resources("- tmpfiles: { name: a, entries: [{ type: d, path: /run/a }] }\n- directory: { path: /run/a, mode: \"0700\" }").problems(), @"example/recipe.yaml:3:5: the path `/run/a` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
