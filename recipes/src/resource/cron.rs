//! `cron`: a command that is run at certain times.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{AccountName, PartName, State, one_line};
use super::part::{Folder, Part};
use super::{Context, Fields, Resource};
use crate::error::{Problem, did_you_mean};

/// A command that cron runs at certain times, in a file of its own in `/etc/cron.d`.
///
/// The command is written as a shell reads it: a `%`, which cron would make a line end of, is escaped. Cron
/// gives it no other `PATH` than `/usr/bin:/bin`, and mails what it prints to its user, unless `environment`
/// says otherwise. It passes over a file whose user does not exist, so that is an error.
///
/// ```yaml
/// - cron:
///     name: backup
///     schedule: "30 2 * * mon-fri"
///     user: root
///     command: /usr/local/bin/backup --day $(date +%F)
///     environment: { MAILTO: "" }
/// - cron: { name: old, state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cron {
    /// The name of the file: letters, digits, `-` and `_`. Cron passes over names with dots.
    name: PartName,
    /// When: minute, hour, day of the month, month and day of the week, or one of `@reboot`, `@hourly`,
    /// `@daily`, `@weekly`, `@monthly` and `@yearly`.
    schedule: Option<String>,
    /// Who runs it; `root` if not said.
    user: Option<AccountName>,
    /// What is run, in one line, by `/bin/sh`.
    command: Option<String>,
    /// Variables that it gets, `PATH`, `SHELL` and `MAILTO` among them.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// The longest command that cron reads, with the NUL at its end (`MAX_COMMAND` in its `cron.h`).
const MAX_COMMAND: usize = 1000;

/// What stands for a schedule (crontab(5)).
const WORDS: [&str; 8] =
    ["@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// The parts of a schedule with their lowest and highest numbers (crontab(5)). Names count from the lowest,
/// those of days from Sunday, which is 0 and 7.
const PARTS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    ("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("day of the week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

impl Fields for Cron {
    const KIND: &'static str = "cron";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let user = self.user.map_or_else(|| "root".to_owned(), |user| user.0);
        let text = match (&self.schedule, &self.command) {
            (Some(schedule), Some(run)) => {
                let schedule = check_schedule(schedule)?;
                Some(format!("{}{schedule} {user} {}\n", variables(&self.environment)?, command(run)?))
            }
            (None, None) if self.state == State::Absent => None,
            _ => return Err(Problem::new("a `cron` needs `schedule` and `command`")),
        };
        let part =
            Part { folder: Folder::Of("cron"), users: vec![user], ..Part::new("/etc/cron.d", &self.name.0) };
        Ok(Box::new(part.with(self.state, text)?))
    }
}

fn command(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    one_line("`command`", text)?;
    if text.is_empty() {
        return Err(Problem::new("`command` is empty"));
    }
    // Cron takes two backslashes for one that is escaped, and the `%` behind them for a line end again.
    if text.contains("\\%") {
        return Err(Problem::new("`command` has a backslash before `%`")
            .help("write the `%` alone; it is escaped for cron"));
    }
    let escaped = text.replace('%', "\\%");
    if escaped.len() >= MAX_COMMAND {
        let message = format!("`command` is {} bytes long; cron reads {}", escaped.len(), MAX_COMMAND - 1);
        return Err(Problem::new(message).help("put it into a script"));
    }
    Ok(escaped)
}

fn variables(environment: &BTreeMap<String, String>) -> Result<String, Problem> {
    let mut text = String::new();
    for (name, value) in environment {
        let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid || name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(Problem::new(format!("`{name}` is not the name of a variable")));
        }
        if name == "LOGNAME" {
            return Err(Problem::new("`LOGNAME` is the user's name, and cron lets nobody change it"));
        }
        one_line(&format!("the value of `{name}`"), value)?;
        let quote = if value.contains('"') { '\'' } else { '"' };
        if value.contains(quote) {
            return Err(Problem::new(format!("the value of `{name}` has both kinds of quotes in it"))
                .help("cron cannot read that; set it in the command"));
        }
        text += &format!("{name}={quote}{value}{quote}\n");
    }
    Ok(text)
}

/// A schedule that cron understands; a file with one that it does not is passed over as a whole.
fn check_schedule(text: &str) -> Result<String, Problem> {
    if text.starts_with('@') {
        if !WORDS.contains(&text) {
            return Err(Problem::new(format!("`{text}` is not a schedule")).help(did_you_mean(text, &WORDS)));
        }
        return Ok(text.to_owned());
    }
    one_line("`schedule`", text)?;
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != PARTS.len() {
        return Err(Problem::new(format!("the schedule `{text}` has {} parts, not 5", parts.len())).help(
            "they are minute, hour, day of the month, month and day of the week, such as `*/5 * * * *`",
        ));
    }
    for (part, (noun, low, high, names)) in parts.iter().zip(PARTS) {
        if !part.split(',').all(|range| is_range(range, low, high, names)) {
            return Err(Problem::new(format!("`{part}` is not valid for the {noun} of a schedule"))
                .help(format!("it is `*`, a number from {low} to {high}, a range `A-B`, `*/N` or `A-B/N`, or several with commas")));
        }
    }
    Ok(parts.join(" "))
}

fn is_range(text: &str, low: u32, high: u32, names: &[&str]) -> bool {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + low);
        named.or_else(|| digits(text))
    };
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let step_is_valid = step.is_none_or(|step| digits(step).is_some_and(|step| (1..=high).contains(&step)));
    let range_is_valid = match range.split_once('-') {
        Some((from, to)) => match (number(from), number(to)) {
            (Some(from), Some(to)) => low <= from && from <= to && to <= high,
            _ => false,
        },
        // Cron has no steps from a single number on.
        None => range == "*" || step.is_none() && number(range).is_some_and(|at| (low..=high).contains(&at)),
    };
    range_is_valid && step_is_valid
}

/// A number, without the sign that Rust would take.
fn digits(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::{check_schedule, command};
    use crate::system::fake::Fake;
    use crate::testing::Example;

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/cron.d");
        fake
    }

    fn cron(fields: &str) -> Example {
        Example::resources(&format!("- cron: {{ name: job, {fields} }}"))
    }

    #[test]
    fn settles_made_changed_and_gone() {
        let mut fake = debian();
        insta::assert_snapshot!(cron("schedule: '*/5 * * * *', command: 'date +%F > /tmp/x', environment: { MAILTO: '', A: 'b \"c\"' }").settles(&mut fake), @r#"
        example: cron /etc/cron.d/job
          + create /etc/cron.d/job (root:root 0644, 56 bytes)
              --- /dev/null
              +++ /etc/cron.d/job
              @@ -0,0 +1,3 @@
              +A='b "c"'
              +MAILTO=""
              +*/5 * * * * root date +\%F > /tmp/x
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(cron("schedule: '@daily', command: /bin/true").settles(&mut fake), @r#"
        example: cron /etc/cron.d/job
          ~ change /etc/cron.d/job
              --- /etc/cron.d/job
              +++ /etc/cron.d/job
              @@ -1,3 +1 @@
              -A='b "c"'
              -MAILTO=""
              -*/5 * * * * root date +\%F > /tmp/x
              +@daily root /bin/true
        Plan: 1 to change, 0 unchanged.
        "#);
        insta::assert_snapshot!(cron("state: absent").settles(&mut fake), @"
        example: cron /etc/cron.d/job
          - remove /etc/cron.d/job
        Plan: 1 to change, 0 unchanged.
        ");
        cron("state: absent").settles(&mut fake);
    }

    #[test]
    fn without_its_user_or_cron_it_is_an_error_and_with_them_coming_it_is_unknown() {
        let job = "schedule: '@daily', command: /bin/true";
        insta::assert_snapshot!(cron(&format!("{job}, user: app")).fails(&mut debian()), @"example: cron /etc/cron.d/job: the user `app` does not exist; put a `user: { name: app }` before it");
        insta::assert_snapshot!(cron(job).fails(&mut Fake::debian()), @"example: cron /etc/cron.d/job: the directory `/etc/cron.d` does not exist; put a `package: { name: cron }` before it");
        let example = Example::resources(&format!(
            "- package: {{ name: app }}\n- cron: {{ name: job, user: app, {job} }}"
        ));
        insta::assert_snapshot!(example.plan(&debian()).expect("a plan"), @"
        example: package app
          + install app
        example: cron /etc/cron.d/job (assumed)
          ? known after apply: whether installing app brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn a_directory_in_its_place_is_left() {
        let mut fake = debian();
        fake.directory("/etc/cron.d/job");
        insta::assert_snapshot!(cron("state: absent").fails(&mut fake), @"example: cron /etc/cron.d/job: `/etc/cron.d/job` is a directory, not a file; to remove it with all that is in it: `directory: { path: /etc/cron.d/job, state: absent }`");
    }

    #[test]
    fn schedules_are_what_cron_reads() {
        for valid in
            ["* * * * *", "0-59/15 0,12 1,15 jan,MAR-may 7", "*/5 8-18 * 1-12/3 mon-fri", "  1  2 3 4 5 "]
        {
            assert!(check_schedule(valid).is_ok(), "{valid}");
        }
        for wrong in [
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5/10 * * * *",
            "5-1 * * * *",
            "+5 * * * *",
            "1, * * * *",
            "mon * * * *",
            "* * * * fri-mon",
            "-1 * * * *",
            "* * L * *",
            "* * * * */mon",
        ] {
            assert!(check_schedule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |fields: &str| cron(fields).problems();
        let with = |schedule: &str| problems(&format!("command: a, schedule: '{schedule}'"));
        insta::assert_snapshot!(problems("schedule: '@daily'"), @"example/recipe.yaml:2:11: a `cron` needs `schedule` and `command`");
        insta::assert_snapshot!(problems("schedule: '@daily', command: a, state: absent"), @"example/recipe.yaml:2:11: what shall be absent has only its `name` and `state: absent`");
        insta::assert_snapshot!(with("@dayly"), @"example/recipe.yaml:2:11: `@dayly` is not a schedule; did you mean `@daily`? valid are `@reboot`, `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly`");
        insta::assert_snapshot!(with("5 4 * *"), @"example/recipe.yaml:2:11: the schedule `5 4 * *` has 4 parts, not 5; they are minute, hour, day of the month, month and day of the week, such as `*/5 * * * *`");
        insta::assert_snapshot!(with("5 24 * * *"), @"example/recipe.yaml:2:11: `24` is not valid for the hour of a schedule; it is `*`, a number from 0 to 23, a range `A-B`, `*/N` or `A-B/N`, or several with commas");
        insta::assert_snapshot!(problems("schedule: \"* * *\\n* *\", command: a"), @"example/recipe.yaml:2:11: `schedule` goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("schedule: '@daily', command: ''"), @"example/recipe.yaml:2:11: `command` is empty");
        insta::assert_snapshot!(problems("schedule: '@daily', command: \"a\\n* * * * * root b\""), @"example/recipe.yaml:2:11: `command` goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("schedule: '@daily', command: 'date +\\%F'"), @"example/recipe.yaml:2:11: `command` has a backslash before `%`; write the `%` alone; it is escaped for cron");
        insta::assert_snapshot!(problems("schedule: '@daily', command: a, environment: { 'A B': c }"), @"example/recipe.yaml:2:11: `A B` is not the name of a variable");
        insta::assert_snapshot!(problems("schedule: '@daily', command: a, environment: { LOGNAME: c }"), @"example/recipe.yaml:2:11: `LOGNAME` is the user's name, and cron lets nobody change it");
        insta::assert_snapshot!(problems("schedule: '@daily', command: a, environment: { A: \"b\\nc\" }"), @"example/recipe.yaml:2:11: the value of `A` goes into one line; it has a line end or NUL in it");
        insta::assert_snapshot!(problems("schedule: '@daily', command: a, environment: { A: \"'\\\"\" }"), @"example/recipe.yaml:2:11: the value of `A` has both kinds of quotes in it; cron cannot read that; set it in the command");
        insta::assert_snapshot!(command(&"%".repeat(600)).expect_err("too long"), @"`command` is 1200 bytes long; cron reads 999");
        insta::assert_snapshot!(Example::resources("- cron: { name: a.b, schedule: '@daily', command: a }").problems(), @"example/recipe.yaml:2:11: `a.b` is not a name for a file of settings: letters, digits, `-` and `_`, without a dot");
        insta::assert_snapshot!(Example::resources("- cron: { name: a, state: absent }\n- cron: { name: a, schedule: '@daily', command: a }").problems(), @"example/recipe.yaml:3:5: the path `/etc/cron.d/a` is decided twice, differently (first here: example/recipe.yaml:2:5)");
    }
}
