//! Texts that people wrote, and places in them: what every error about a recipe points at.

use std::fmt;
use std::sync::Arc;

/// A text with the name it is shown by, usually its path as the user gave it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The name in messages, such as `recipes/library/sshd/recipe.yaml`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A place in a [`Source`]. Lines and columns count from 1; columns count characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// The text this is a place in.
    pub source: Arc<Source>,
    /// Byte offset of the first byte.
    pub offset: usize,
    /// Length in bytes; zero where only a point is known.
    pub length: usize,
}

impl Location {
    /// The place `length` bytes long at byte `offset` of `source`.
    pub fn new(source: &Arc<Source>, offset: usize, length: usize) -> Self {
        let offset = floor_boundary(&source.text, offset);
        let length = floor_boundary(&source.text, offset + length) - offset;
        Self { source: Arc::clone(source), offset, length }
    }

    /// The place at a line and column, both from 1, as parsers that know no byte offset tell it.
    pub fn at_line(source: &Arc<Source>, line: usize, column: usize) -> Self {
        let line_start: usize =
            source.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let in_line: usize =
            source.text[line_start..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
        Self { source: Arc::clone(source), offset: line_start + in_line, length: 0 }
    }

    /// The line and the column of the first byte. They are counted only here, where somebody is told: every
    /// value of a file has a place, and few have a problem.
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = &self.source.text[..self.offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// What is written at this place.
    pub fn text(&self) -> &str {
        &self.source.text[self.offset..self.offset + self.length]
    }
}

/// The largest character boundary that is not after `offset`.
fn floor_boundary(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(formatter, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Arc::new(Source { name: "a.yaml".into(), text: "a: 1\nµb: 2\n".into() });
        let key = Location::new(&source, 5, 3);
        assert_eq!((key.line_and_column(), key.text()), ((2, 1), "µb"));
        let value = Location::new(&source, 10, 1);
        assert_eq!((value.to_string().as_str(), value.text()), ("a.yaml:2:5", "2"));
    }

    #[test]
    fn a_place_beyond_the_end_or_inside_a_character_is_moved_into_the_text() {
        let source = Arc::new(Source { name: "a".into(), text: "é".into() });
        assert_eq!(Location::new(&source, 1, 99).offset, 0);
        assert_eq!(Location::new(&source, 99, 99).offset, 2);
    }

    #[test]
    fn a_place_by_line_and_column_finds_the_same_bytes() {
        let source = Arc::new(Source { name: "a".into(), text: "µ\nabµc\n".into() });
        assert_eq!(Location::at_line(&source, 2, 4).offset, Location::new(&source, 7, 1).offset);
    }
}
