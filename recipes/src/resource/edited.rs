//! What kinds have in common that decide a part of a file: it is read, edited and written back.

use regex::Regex;

use super::contents::Contents;
use super::edit::{Existing, default_attributes, existing};
use super::fields::{AbsolutePath, State};
use crate::error::Problem;
use crate::op::{Content, Op};
use crate::system::{Facts, PlanError};

/// A text file of which a resource decides a part. Its owner and mode stay.
#[derive(Debug)]
pub(super) struct EditedFile {
    pub(super) path: AbsolutePath,
    /// Whether one that is not there is made, as root's, with mode 0644.
    pub(super) create: bool,
    pub(super) validate: Option<Vec<String>>,
    /// Whether the part shall be there. In a file that is not there no part is.
    pub(super) state: State,
}

impl EditedFile {
    /// What is needed so that the file is as `edit` makes it.
    pub(super) fn plan(
        &self,
        facts: &dyn Facts,
        edit: impl FnOnce(&str) -> Result<String, PlanError>,
    ) -> Result<Vec<Op>, PlanError> {
        let path = self.path.as_path();
        let before = match existing(facts, path)? {
            Some(before) => before,
            None if self.state == State::Absent => return Ok(Vec::new()),
            None if self.create => Existing { text: String::new(), attributes: default_attributes() },
            None => {
                return Err(PlanError::impossible_but(
                    format!("`{}` does not exist", self.path),
                    "install what brings it before, or write `create: true`",
                ));
            }
        };
        let contents = Contents {
            path: path.to_owned(),
            content: Content::new(edit(&before.text)?),
            attributes: before.attributes,
            validate: self.validate.clone(),
        };
        contents.plan(facts)
    }

    /// The file is such that the part cannot be had in it: "is not valid JSON".
    pub(super) fn impossible(&self, what: &str) -> PlanError {
        PlanError::impossible(format!("`{}` {what}", self.path))
    }
}

/// Where new lines go.
#[derive(Debug)]
pub(super) enum Insert {
    AtEnd,
    After(Regex),
    Before(Regex),
}

impl Insert {
    /// Of the fields `insert_after` and `insert_before`, of which a resource has one at most.
    pub(super) fn from_fields(
        kind: &str,
        insert_after: Option<&str>,
        insert_before: Option<&str>,
    ) -> Result<Self, Problem> {
        match (insert_after, insert_before) {
            (None, None) => Ok(Self::AtEnd),
            (Some(text), None) => Ok(Self::After(regex("insert_after", text)?)),
            (None, Some(text)) => Ok(Self::Before(regex("insert_before", text)?)),
            (Some(_), Some(_)) => Err(Problem::new(format!(
                "a `{kind}` has either `insert_after` or `insert_before`, not both"
            ))),
        }
    }

    /// The index at which new lines go; the end where no line matches.
    pub(super) fn place(&self, lines: &[String]) -> usize {
        let place = match self {
            Self::AtEnd => None,
            Self::After(after) => {
                lines.iter().rposition(|line| after.is_match(line.trim_end())).map(|at| at + 1)
            }
            Self::Before(before) => lines.iter().position(|line| before.is_match(line.trim_end())),
        };
        place.unwrap_or(lines.len())
    }
}

/// Reads a regular expression of a field.
pub(super) fn regex(field: &str, text: &str) -> Result<Regex, Problem> {
    Regex::new(text).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Problem::new(format!("`{field}` is not a valid regular expression: {why}"))
    })
}

/// The lines of a text, each with its end.
pub(super) fn lines_of(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// How lines of a text end, as its first one tells. One that ends with a carriage return alone, and is the
/// last, counts as well: with the line end that is put behind it, it would tell so afterwards.
pub(super) fn line_end(text: &str) -> &'static str {
    match text.split_inclusive('\n').next() {
        Some(first) if first.trim_end_matches('\n').ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// Puts whole lines before the line with this index. The line before them may be the last of the file,
/// without an end.
pub(super) fn insert_at(lines: &mut Vec<String>, at: usize, new: String) {
    let end = if new.ends_with("\r\n") { "\r\n" } else { "\n" };
    if let Some(last) = at.checked_sub(1).and_then(|last| lines.get_mut(last))
        && !last.ends_with('\n')
    {
        last.push_str(end);
    }
    lines.insert(at, new);
}

/// The first of the comments right above a line, which are about it.
pub(super) fn comments_above(lines: &[String], at: usize) -> usize {
    at - lines[..at].iter().rev().take_while(|line| is_comment(line.trim())).count()
}

/// Whether a line, without its indent, is a comment of an INI or TOML file.
pub(super) fn is_comment(text: &str) -> bool {
    text.starts_with(['#', ';'])
}

/// A text that becomes part of one line of a file.
pub(super) fn one_line(field: &str, text: &str) -> Result<(), Problem> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Problem::new(format!("`{field}` is one line; it has a line end or NUL in it")));
    }
    if text.trim() != text {
        return Err(Problem::new(format!("`{field}` (`{text}`) starts or ends with a space")));
    }
    Ok(())
}
