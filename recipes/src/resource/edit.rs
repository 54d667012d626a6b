//! What kinds have in common that decide lines of a file which something else owns.

use std::path::Path;

use super::contents::Contents;
use super::edited::{insert_at, lines_of};
use crate::op::{Content, Op};
use crate::system::{Attributes, EntryKind, Facts, PlanError};

/// A text file as it is.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) text: String,
    pub(super) attributes: Attributes,
}

/// Reads a file that is to be edited; none if nothing is there.
pub(super) fn existing(facts: &dyn Facts, path: &Path) -> Result<Option<Existing>, PlanError> {
    let Some(entry) = facts.entry(path)?.known()? else { return Ok(None) };
    if entry.kind != EntryKind::File {
        let message = format!("`{}` is {}, not a file", path.display(), entry.kind.noun());
        return Err(PlanError::impossible(message));
    }
    let bytes = facts.content(path)?.known()?.unwrap_or_default();
    let text = String::from_utf8(bytes)
        .map_err(|_| PlanError::impossible(format!("`{}` is not a text file", path.display())))?;
    Ok(Some(Existing { text, attributes: entry.attributes }))
}

/// What is needed so that a file which every host has is as `edit` makes it. One that is not there is made
/// as root's, with mode 0644, if it then has anything in it.
pub(super) fn plan_edit(
    facts: &dyn Facts,
    path: &Path,
    edit: impl FnOnce(&str) -> String,
) -> Result<Vec<Op>, PlanError> {
    let before = existing(facts, path)?;
    let text = edit(before.as_ref().map_or("", |before| before.text.as_str()));
    if before.is_none() && text.is_empty() {
        return Ok(Vec::new());
    }
    let attributes = before.map_or_else(default_attributes, |before| before.attributes);
    Contents { path: path.to_owned(), content: Content::new(text), attributes, validate: None }.plan(facts)
}

/// Those of a file that is made: root's, and everybody may read it.
pub(super) fn default_attributes() -> Attributes {
    Attributes { owner: "root".into(), group: "root".into(), mode: 0o644 }
}

/// What a line is to the one that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A line about something else.
    Other,
    /// The one that is wanted, however it is spaced.
    AsWanted,
    /// One that the wanted one takes the place of.
    Differs,
}

/// The lines of a file, each with its end.
#[derive(Debug)]
pub(super) struct Lines(Vec<String>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(lines_of(text))
    }

    /// Leaves one of the lines that `find` finds, as it is wanted, or none. Says whether it is there; all
    /// other lines, and the end of the one that is replaced, stay as they are.
    pub(super) fn keep_one(&mut self, wanted: Option<&str>, find: impl Fn(&str) -> Found) -> bool {
        let mut there = false;
        for line in std::mem::take(&mut self.0) {
            let text = line.trim_end_matches(['\n', '\r']);
            match (find(text), wanted) {
                (Found::Other, _) => self.0.push(line),
                (Found::AsWanted, Some(_)) if !there => {
                    self.0.push(line);
                    there = true;
                }
                (Found::Differs, Some(wanted)) if !there => {
                    self.0.push(format!("{wanted}{}", &line[text.len()..]));
                    there = true;
                }
                _ => {}
            }
        }
        there
    }

    /// Changes lines: those that `edit` returns a text for get it, and those that it returns an empty one
    /// for go.
    pub(super) fn rewrite(&mut self, edit: impl Fn(&str) -> Option<String>) {
        for line in std::mem::take(&mut self.0) {
            let text = line.trim_end_matches(['\n', '\r']);
            match edit(text) {
                None => self.0.push(line),
                Some(edited) if edited.is_empty() => {}
                Some(edited) => self.0.push(format!("{edited}{}", &line[text.len()..])),
            }
        }
    }

    /// Adds a line at a place, or at the end.
    pub(super) fn insert(&mut self, at: Option<usize>, line: &str) {
        let at = at.unwrap_or(self.0.len());
        insert_at(&mut self.0, at, format!("{line}\n"));
    }

    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        &self.0
    }

    pub(super) fn text(&self) -> String {
        self.0.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, wanted: Option<&str>) -> (bool, String) {
        let mut lines = Lines::of(text);
        let there = lines.keep_one(wanted, |line| match line.split_once('=') {
            Some(("a", value)) if wanted == Some(&format!("a={}", value.trim())) => Found::AsWanted,
            Some(("a", _)) => Found::Differs,
            _ => Found::Other,
        });
        (there, lines.text())
    }

    #[test]
    fn one_line_is_kept_and_the_others_stay() {
        assert_eq!(kept("b\na=1\nc\na=2", Some("a=3")), (true, "b\na=3\nc\n".into()));
        assert_eq!(kept("a= 3\r\nb\r\n", Some("a=3")), (true, "a= 3\r\nb\r\n".into()));
        assert_eq!(kept("a=1\r\nb", Some("a=3")), (true, "a=3\r\nb".into()));
        assert_eq!(kept("a=1\nb\na=2\n", None), (false, "b\n".into()));
        assert_eq!(kept("", Some("a=3")), (false, String::new()));
    }

    #[test]
    fn a_line_is_added_where_it_is_told_even_behind_one_without_an_end() {
        let mut lines = Lines::of("a\nb");
        lines.insert(None, "c");
        lines.insert(Some(1), "d");
        lines.insert(Some(0), "e");
        assert_eq!(lines.text(), "e\na\nd\nb\nc\n");
    }
}
