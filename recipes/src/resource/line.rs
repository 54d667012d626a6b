//! `line`: one line in a file that something else owns.

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::checkers::Validate;
use super::edit::{Found, Lines};
use super::edited::{EditedFile, Insert, regex};
use super::fields::{AbsolutePath, State};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// One line in a file that something else owns, such as a package.
///
/// With `match`, the first line that matches becomes this line and further ones that match go, so that
/// the setting is there once; without a match the line is added. Owner and mode of the file stay.
/// A `match` that does not match `line` is an error, because the line would be added again and again.
///
/// ```yaml
/// - line: { path: /etc/login.defs, match: '^UMASK\s', line: "UMASK 027" }
/// - line: { path: /etc/securetty, match: '^ttyS', state: absent }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The file.
    path: AbsolutePath,
    /// The line, without its end.
    line: Option<String>,
    /// A regular expression that finds the line to replace, or the lines to remove.
    r#match: Option<String>,
    /// A regular expression: a new line goes after the last line that matches it, not to the end.
    insert_after: Option<String>,
    /// A regular expression: a new line goes before the first line that matches it, not to the end.
    insert_before: Option<String>,
    /// Whether a file that is not there is made, as root's, with mode 0644.
    #[serde(default)]
    create: bool,
    /// A command that must accept the new file, as `{file}`, before it is put in place; `false` for none. If
    /// not said, a file that is well known is checked by the program that reads it.
    validate: Option<Validate>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

#[derive(Debug)]
struct Resolved {
    file: EditedFile,
    line: Option<String>,
    pattern: Option<Regex>,
    insert: Insert,
}

impl Fields for Line {
    const KIND: &'static str = "line";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let pattern = self.r#match.map(|text| regex("match", &text)).transpose()?;
        if let Some(line) = &self.line {
            if line.contains('\n') {
                return Err(Problem::new("`line` is one line; it has a line end in it"));
            }
            if let (State::Present, Some(pattern)) = (self.state, &pattern)
                && !pattern.is_match(line)
            {
                return Err(Problem::new(format!("`match` (`{pattern}`) does not match `line` (`{line}`)"))
                    .help("after the first run nothing would match, and the line would be added again"));
            }
        }
        match (self.state, &self.line, &pattern) {
            (State::Present, None, _) => return Err(Problem::new("a `line` needs its `line`")),
            (State::Absent, None, None) => {
                return Err(Problem::new("a line that shall be absent needs `line` or `match`"));
            }
            _ => {}
        }
        let insert =
            Insert::from_fields(Self::KIND, self.insert_after.as_deref(), self.insert_before.as_deref())?;
        let file = EditedFile {
            path: self.path,
            create: self.create,
            validate: self.validate.map(|validate| validate.0),
            state: self.state,
        };
        Ok(Box::new(Resolved { file, line: self.line, pattern, insert }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        let what = self.line.as_deref().or(self.pattern.as_ref().map(Regex::as_str)).unwrap_or_default();
        format!("{}: {what}", self.file.path)
    }

    fn claims(&self) -> Vec<Claim> {
        let what = self.pattern.as_ref().map(Regex::as_str).or(self.line.as_deref()).unwrap_or_default();
        vec![Claim::Line { path: self.file.path.as_path().to_owned(), line: what.to_owned() }]
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        self.file.plan(facts, |before| Ok(self.edit(before)))
    }

    fn is_verbatim(&self) -> bool {
        true
    }
}

impl Resolved {
    /// The text with the line as it shall be. Line ends of other lines stay as they are.
    fn edit(&self, before: &str) -> String {
        let wanted = match (self.file.state, &self.line) {
            (State::Present, line) => line.as_deref(),
            (State::Absent, _) => None,
        };
        let found = |text: &str| match &self.pattern {
            Some(pattern) => pattern.is_match(text),
            None => self.line.as_deref() == Some(text),
        };
        let mut lines = Lines::of(before);
        let there = lines.keep_one(wanted, |text| if found(text) { Found::Differs } else { Found::Other });
        if let Some(wanted) = wanted.filter(|_| !there) {
            lines.insert(Some(self.insert.place(lines.all())), wanted);
        }
        lines.text()
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::system::fake::Fake;
    use crate::testing::{self, Example};

    const DEFS: &str = "# UMASK is the mask\nUMASK\t022\nPASS_MAX_DAYS 99999\nUMASK 077";

    fn edited(text: &str, fields: &str) -> String {
        testing::edited("line", text, fields)
    }

    #[test]
    fn settles_as_one_line_whatever_was_there() {
        assert_eq!(
            edited(DEFS, "match: '^UMASK\\s', line: 'UMASK 027'"),
            "# UMASK is the mask\nUMASK 027\nPASS_MAX_DAYS 99999\n"
        );
        assert_eq!(edited("a", "line: b"), "a\nb\n");
        assert_eq!(edited("", "line: b"), "b\n");
        assert_eq!(edited("a\r\nb\r\n", "match: '^a', line: a1"), "a1\r\nb\r\n");
        assert_eq!(
            edited(DEFS, "match: '^UMASK\\s', state: absent"),
            "# UMASK is the mask\nPASS_MAX_DAYS 99999\n"
        );
        assert_eq!(edited("x\ny\n", "line: x, state: absent"), "y\n");
    }

    #[test]
    fn a_new_line_goes_where_it_is_told() {
        assert_eq!(edited("a\nb\na\nc\n", "line: x, insert_after: '^a'"), "a\nb\na\nx\nc\n");
        assert_eq!(edited("a\nb\n", "line: x, insert_before: '^b'"), "a\nx\nb\n");
        assert_eq!(edited("a\n", "line: x, insert_before: '^nothing'"), "a\nx\n");
    }

    #[test]
    fn owner_and_mode_of_the_file_stay() {
        let mut fake = Fake::debian();
        fake.file("/etc/defs", "a\n");
        Example::resources("- line: { path: /etc/defs, line: b }").settles(&mut fake);
        assert!(matches!(&fake.performed[..], [Op::WriteFile(write)] if write.attributes.mode == 0o644));
    }

    #[test]
    fn a_file_that_is_not_there_is_made_only_if_told() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(Example::resources("- line: { path: /etc/new, line: x }").fails(&mut fake), @"example: line /etc/new: x: `/etc/new` does not exist; install what brings it before, or write `create: true`");
        insta::assert_snapshot!(Example::resources("- line: { path: /etc/new, line: x, create: true }").settles(&mut fake), @"
        example: line /etc/new: x
          + create /etc/new (root:root 0644, 2 bytes)
              --- /dev/null
              +++ /etc/new
              @@ -0,0 +1 @@
              +x
        Plan: 1 to change, 0 unchanged.
        ");
        Example::resources("- line: { path: /etc/none, line: x, state: absent }").settles(&mut fake);
    }

    #[test]
    fn what_could_never_settle_is_an_error_before_anything_runs() {
        let problems =
            |fields: &str| Example::resources(&format!("- line: {{ path: /etc/a, {fields} }}")).problems();
        insta::assert_snapshot!(problems("match: '^UMASK 022', line: UMASK 027"), @"example/recipe.yaml:2:11: `match` (`^UMASK 022`) does not match `line` (`UMASK 027`); after the first run nothing would match, and the line would be added again");
        insta::assert_snapshot!(problems("line: \"a\\nb\""), @"example/recipe.yaml:2:11: `line` is one line; it has a line end in it");
        insta::assert_snapshot!(problems("match: x"), @"example/recipe.yaml:2:11: a `line` needs its `line`");
        insta::assert_snapshot!(problems("state: absent"), @"example/recipe.yaml:2:11: a line that shall be absent needs `line` or `match`");
        insta::assert_snapshot!(problems("line: x, match: '('"), @"example/recipe.yaml:2:11: `match` is not a valid regular expression: unclosed group");
        insta::assert_snapshot!(problems("line: x, insert_after: a, insert_before: b"), @"example/recipe.yaml:2:11: a `line` has either `insert_after` or `insert_before`, not both");
    }
}
