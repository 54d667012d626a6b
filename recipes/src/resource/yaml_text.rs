//! YAML as text: one value is changed, and every other byte stays.
//!
//! An edit is a replacement in the text, at places that the tree of the text knows. Whatever comes out is
//! read again and compared with what was wanted; an edit that would do anything else is refused.

use std::ops::Range;

use granit_parser::ScanError;
use serde_json::Value as Json;

use super::edited::line_end;
use super::yaml_tree::{Entry, Kind, NoTree, Node, Style, parse};
use super::yaml_value::{Habits, Written, block, entry, flow, scalar};

/// Why a text cannot be edited.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It is not YAML.
    Invalid(ScanError),
    /// It has several documents, and the key may be meant in each.
    Several,
    /// Behind so many keys there is something else than a mapping.
    NoMapping { depth: usize, noun: &'static str },
    /// The key at this depth is there more than once.
    Twice { depth: usize },
    /// What is behind so many keys has an anchor, a tag, an alias or a merge key in it, so that the edit
    /// would change more, or less, than this value.
    Shared { depth: usize, noun: &'static str },
    /// It is written in a way that is not known here.
    Unknown,
}

/// The text with a value behind these keys, or with nothing there.
pub(super) fn edit(text: &str, keys: &[String], value: Option<&Json>) -> Result<String, Obstacle> {
    let before = read(text)?;
    // Where a value on lines of its own would take in a comment that follows, it is written on one line.
    for is_inline in [false, true] {
        let habits = Habits { is_inline, ..habits(text, before.as_ref()) };
        let after = Document { text, habits }.edit(before.as_ref(), keys, value)?;
        let changed = read(&after);
        if after == text
            || changed.is_ok_and(|changed| is_as_wanted(before.as_ref(), changed.as_ref(), keys, value))
        {
            return Ok(after);
        }
    }
    Err(Obstacle::Unknown)
}

fn read(text: &str) -> Result<Option<Node>, Obstacle> {
    parse(text).map_err(|error| match error {
        NoTree::Invalid(error) => Obstacle::Invalid(error),
        NoTree::Several => Obstacle::Several,
    })
}

/// Whether an edited text has the value, and everything else as it was.
fn is_as_wanted(before: Option<&Node>, after: Option<&Node>, keys: &[String], value: Option<&Json>) -> bool {
    let Some((key, below)) = keys.split_first() else {
        return after.zip(value).is_some_and(|(after, value)| after.is_same(value));
    };
    let Some(Node { kind: Kind::Map { entries: after, .. }, property: None, .. }) = after else {
        return false;
    };
    let before = match before.map(|before| &before.kind) {
        Some(Kind::Map { entries, .. }) => entries.as_slice(),
        _ => &[],
    };
    let ours = |entries: &'_ [Entry]| entries.iter().position(|entry| entry.key.is_key(key));
    let others = |at: Option<usize>| move |&(other, _): &(usize, &Entry)| Some(other) != at;
    let (was, is) = (ours(before), ours(after));
    let mut rest = after.iter().enumerate().filter(others(is));
    let mut stays = before.iter().enumerate().filter(others(was));
    stays.all(|(_, entry)| rest.next().is_some_and(|(_, other)| entry.is_unchanged(other)))
        && rest.next().is_none()
        && match (is.map(|at| &after[at].value), value) {
            (Some(found), _) => is_as_wanted(was.map(|at| &before[at].value), Some(found), below, value),
            (None, value) => value.is_none() && below.is_empty(),
        }
}

/// How a text is written, as the first of each in it tells.
fn habits(text: &str, root: Option<&Node>) -> Habits {
    let mut habits = Habits { unit: 2, indents_lists: true, is_inline: false, line_end: line_end(text) };
    let Some(root) = root else { return habits };
    let (mut unit, mut indents_lists) = (None, None);
    let mut next = vec![root];
    while let Some(node) = next.pop() {
        let Kind::Map { flow: false, entries } = &node.kind else { continue };
        for entry in entries {
            let column = indent_of(text, entry.key.start);
            let child = column.zip(indent_of(text, entry.value.start));
            match (&entry.value.kind, child) {
                (Kind::Map { flow: false, .. }, Some((outer, inner))) if inner > outer => {
                    unit = unit.or(Some(inner - outer));
                }
                (Kind::List { flow: false, .. }, Some((outer, inner))) => {
                    indents_lists = indents_lists.or(Some(inner > outer));
                }
                _ => {}
            }
        }
        next.extend(entries.iter().rev().map(|entry| &entry.value));
    }
    habits.unit = unit.unwrap_or(habits.unit);
    habits.indents_lists = indents_lists.unwrap_or(habits.indents_lists);
    habits
}

/// The spaces at the start of the line that a place is in; none if anything but a dash is between.
fn indent_of(text: &str, at: usize) -> Option<usize> {
    let before = text[line_start(text, at)..at].trim_start_matches('\u{feff}');
    let indent = before.len() - before.trim_start_matches(' ').len();
    before[indent..].trim_matches([' ', '-']).is_empty().then_some(indent)
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// Behind the end of the line that a place is in.
fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length + 1)
}

struct Document<'a> {
    text: &'a str,
    habits: Habits,
}

/// The place of a node: the entry that it is the value of, and the mapping that this one is in.
#[derive(Clone, Copy)]
struct Place<'a> {
    entry: &'a Entry,
    in_flow: bool,
}

impl Document<'_> {
    fn edit(&self, root: Option<&Node>, keys: &[String], value: Option<&Json>) -> Result<String, Obstacle> {
        let Some(mut node) = root else { return Ok(self.add_first(keys, value)) };
        let mut place: Option<Place<'_>> = None;
        for (depth, key) in keys.iter().enumerate() {
            let noun = node.property.or(matches!(node.kind, Kind::Alias(_)).then_some("an alias"));
            if let Some(noun) = noun {
                return Err(Obstacle::Shared { depth, noun });
            }
            let (entries, in_flow) = match (&node.kind, value) {
                (Kind::Map { entries, flow }, _) if !entries.is_empty() => (entries.as_slice(), *flow),
                (_, None) => return Ok(self.text.to_owned()),
                (_, Some(value)) if node.is_empty() => {
                    return self.fill(node, place, &wrapped(&keys[depth..], value));
                }
                _ => return Err(Obstacle::NoMapping { depth, noun: node.noun() }),
            };
            let is_last = depth + 1 == keys.len();
            let merged = entries.iter().any(|entry| entry.key.is_key("<<"));
            let mut same = entries.iter().enumerate().filter(|(_, entry)| entry.key.is_key(key));
            let (at, found) = match (same.next(), same.next(), value) {
                (Some(_), Some(_), _) => return Err(Obstacle::Twice { depth }),
                // What a merge key brings is not in this place, and comes back when what hides it goes.
                (found, _, value)
                    if merged && !(is_last && value.is_some()) && (found.is_none() || is_last) =>
                {
                    return Err(Obstacle::Shared { depth, noun: "a merge key" });
                }
                (Some(found), None, _) => found,
                (None, _, Some(value)) => return self.add(node, entries, &keys[depth..], value),
                (None, _, None) => return Ok(self.text.to_owned()),
            };
            if is_last {
                return self.set(node, place, (entries, at), in_flow, depth, value);
            }
            place = Some(Place { entry: found, in_flow });
            node = &found.value;
        }
        Ok(self.text.to_owned())
    }

    /// Changes or removes an entry that is there.
    fn set(
        &self,
        map: &Node,
        place: Option<Place<'_>>,
        (entries, at): (&[Entry], usize),
        in_flow: bool,
        depth: usize,
        value: Option<&Json>,
    ) -> Result<String, Obstacle> {
        let entry = &entries[at];
        if value.is_some_and(|value| entry.value.is_same(value)) {
            return Ok(self.text.to_owned());
        }
        if let Some(noun) = entry.key.shared().or_else(|| entry.value.shared()) {
            return Err(Obstacle::Shared { depth: depth + 1, noun });
        }
        match value {
            Some(value) => self.replace(Place { entry, in_flow }, value),
            None if entries.len() > 1 => self.remove(entries, at, in_flow, place.is_none()),
            None => self.empty(map, place, entry, in_flow),
        }
    }

    fn spliced(&self, range: Range<usize>, new: &str) -> String {
        format!("{}{new}{}", &self.text[..range.start], &self.text[range.end..])
    }

    /// Lines in front of the line that begins at a place, which may be the end of a last line without an end.
    fn with_lines(&self, at: usize, lines: &str) -> String {
        let is_open = at > 0 && !self.text[..at].ends_with(['\n', '\u{feff}']);
        self.spliced(at..at, &format!("{}{lines}", if is_open { self.habits.line_end } else { "" }))
    }

    /// The first entry of a text without any value.
    fn add_first(&self, keys: &[String], value: Option<&Json>) -> String {
        match (keys.split_first(), value) {
            (Some((key, below)), Some(value)) => {
                let lines = entry(key, &wrapped(below, value), 0, &self.habits);
                self.with_lines(self.text.len(), &lines)
            }
            _ => self.text.to_owned(),
        }
    }

    /// Puts a mapping in place of nothing, or of an empty one.
    fn fill(&self, node: &Node, place: Option<Place<'_>>, value: &Json) -> Result<String, Obstacle> {
        if let Some(place) = place {
            return self.replace(place, value);
        }
        let (start, end) = (line_start(self.text, node.start), next_line(self.text, node.end));
        let around = (&self.text[start..node.start], &self.text[node.end..end]);
        match (around, value) {
            ((before, after), Json::Object(members))
                if before.trim_start_matches('\u{feff}').is_empty() && after.trim().is_empty() =>
            {
                let lines = members.iter().map(|(key, value)| entry(key, value, 0, &self.habits));
                Ok(self.spliced(node.start..end, &lines.collect::<String>()))
            }
            _ if node.start < node.end => Ok(self.spliced(node.start..node.end, &flow(value))),
            // Nothing is written but `---`, and maybe comments.
            (_, Json::Object(members)) => {
                let lines = members.iter().map(|(key, value)| entry(key, value, 0, &self.habits));
                Ok(self.with_lines(self.text.len(), &lines.collect::<String>()))
            }
            _ => Err(Obstacle::Unknown),
        }
    }

    /// Behind the colon that follows a key.
    fn behind_colon(&self, key: &Node) -> Result<usize, Obstacle> {
        let rest = &self.text[key.end..];
        let space = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if rest[space..].starts_with(':') { Ok(key.end + space + 1) } else { Err(Obstacle::Unknown) }
    }

    /// The spaces in front of a key that begins its line.
    fn indent(&self, key: &Node) -> Result<usize, Obstacle> {
        let before = &self.text[line_start(self.text, key.start)..key.start];
        let before = before.trim_start_matches('\u{feff}');
        if before.bytes().all(|byte| byte == b' ') { Ok(before.len()) } else { Err(Obstacle::Unknown) }
    }

    /// Puts another value behind a key.
    fn replace(
        &self,
        Place { entry: Entry { key, value: old }, in_flow }: Place<'_>,
        value: &Json,
    ) -> Result<String, Obstacle> {
        let is_written = old.start < old.end;
        let inline = match (&old.kind, value) {
            (Kind::Scalar { style, .. }, Json::String(text)) if !in_flow => scalar(text, *style),
            _ => flow(value),
        };
        if in_flow {
            return match self.behind_colon(key) {
                Ok(_) if is_written => Ok(self.spliced(old.start..old.end, &inline)),
                Ok(colon) => Ok(self.spliced(colon..colon, &format!(" {inline}"))),
                Err(_) => Ok(self.spliced(key.end..key.end, &format!(": {inline}"))),
            };
        }
        let (colon, indent) = (self.behind_colon(key)?, self.indent(key)?);
        let line = next_line(self.text, colon);
        let is_block = match &old.kind {
            Kind::Scalar { style, .. } => *style == Style::Block,
            Kind::List { flow, .. } | Kind::Map { flow, .. } => !flow,
            Kind::Alias(_) => false,
        };
        let keeps_style = matches!(
            (&old.kind, value),
            (Kind::List { elements, .. }, Json::Array(_)) if !elements.is_empty()
        ) || matches!((&old.kind, value), (Kind::Map { entries, .. }, Json::Object(_)) if !entries.is_empty());
        let written = block(value, indent, &self.habits);
        if !is_block {
            let stays =
                keeps_style || matches!(written, Written::Inline(_)) || next_line(self.text, old.end) != line;
            return Ok(match written {
                Written::Lines { header, lines } if !stays => {
                    let rest = self.text[old.end.max(colon)..line].trim();
                    self.on_lines(colon..line, header, rest, &lines)
                }
                _ if is_written => self.spliced(old.start..old.end, &inline),
                _ => self.spliced(colon..colon, &format!(" {inline}")),
            });
        }
        let end = if self.text[..old.end].ends_with('\n') { old.end } else { next_line(self.text, old.end) };
        // A comment behind the key, or behind the `|`, stays.
        let rest = self.text[colon..line].find('#').map_or("", |at| self.text[colon + at..line].trim_end());
        Ok(match written {
            Written::Inline(_) => self.on_lines(colon..end, &inline, rest, ""),
            Written::Lines { header, lines } => self.on_lines(colon..end, header, rest, &lines),
        })
    }

    /// What is behind a colon anew: the rest of its line, and lines below it.
    fn on_lines(&self, range: Range<usize>, header: &str, comment: &str, lines: &str) -> String {
        let mut new = String::new();
        for part in [header, comment].into_iter().filter(|part| !part.is_empty()) {
            new.push(' ');
            new.push_str(part);
        }
        let is_open = range.end == self.text.len() && !self.text.ends_with('\n') && lines.is_empty();
        let end = if is_open { "" } else { self.habits.line_end };
        self.spliced(range, &format!("{new}{end}{lines}"))
    }

    /// Adds an entry behind the last one, in the way that one is written.
    fn add(&self, map: &Node, entries: &[Entry], keys: &[String], value: &Json) -> Result<String, Obstacle> {
        let (Some((key, below)), Some(last)) = (keys.split_first(), entries.last()) else {
            return Err(Obstacle::Unknown);
        };
        let value = wrapped(below, value);
        if matches!(map.kind, Kind::Map { flow: false, .. }) {
            let lines = entry(key, &value, self.indent(&last.key)?, &self.habits);
            let end = self.end_of(last)?;
            return Ok(self.with_lines(end, &lines));
        }
        let members = flow(&wrapped(std::slice::from_ref(key), &value));
        let member = &members[1..members.len() - 1];
        let end = last.value.end.max(self.behind_colon(&last.key).unwrap_or(last.key.end));
        // What is before the last key is a line end and its indent, or a space, or nothing.
        let gap = &self.text[self.text[..last.key.start].trim_end().len()..last.key.start];
        let gap = if gap.is_empty() || entries.len() == 1 && !gap.contains('\n') { " " } else { gap };
        Ok(self.spliced(end..end, &format!(",{gap}{member}")))
    }

    /// Behind the last line of an entry of a block mapping.
    fn end_of(&self, entry: &Entry) -> Result<usize, Obstacle> {
        let end = entry.value.end.max(self.behind_colon(&entry.key)?);
        Ok(if self.text[..end].ends_with('\n') { end } else { next_line(self.text, end) })
    }

    /// Removes one of several entries, with the comments that are about it.
    fn remove(&self, entries: &[Entry], at: usize, in_flow: bool, is_root: bool) -> Result<String, Obstacle> {
        let found = &entries[at];
        if in_flow {
            let range = match (at.checked_sub(1).map(|before| &entries[before]), entries.get(at + 1)) {
                (_, Some(next)) => found.key.start..next.key.start,
                (Some(before), None) => {
                    let end = |entry: &Entry| {
                        entry.value.end.max(self.behind_colon(&entry.key).unwrap_or(entry.key.end))
                    };
                    end(before)..end(found)
                }
                (None, None) => return Err(Obstacle::Unknown),
            };
            return Ok(self.spliced(range, ""));
        }
        let indent = self.indent(&found.key)?;
        // What is above the first key of a file may be about the whole file.
        let start =
            if is_root && at == 0 { found.key.start - indent } else { self.comments_above(found, indent) };
        let mut end = self.comments_below(found, indent)?;
        // A block scalar that keeps its last empty lines would take those that follow for more of them.
        let follows_kept_lines = at > 0 && entries[at - 1].value.end == start;
        while follows_kept_lines && end < self.text.len() {
            let next = next_line(self.text, end);
            if !self.text[end..next].trim().is_empty() {
                break;
            }
            end = next;
        }
        Ok(self.spliced(start..end, ""))
    }

    /// The start of the comments right above an entry, with the same indent.
    fn comments_above(&self, entry: &Entry, indent: usize) -> usize {
        let mut start = line_start(self.text, entry.key.start);
        while start > 0 {
            let above = line_start(self.text, start - 1);
            let line = &self.text[above..start];
            if line.find(|c| c != ' ') != Some(indent) || !line[indent..].starts_with('#') {
                break;
            }
            start = above;
        }
        start
    }

    /// Behind an entry and the comments below it that are indented deeper than it is.
    fn comments_below(&self, entry: &Entry, indent: usize) -> Result<usize, Obstacle> {
        let mut end = self.end_of(entry)?;
        let mut at = end;
        while at < self.text.len() {
            let next = next_line(self.text, at);
            let line = self.text[at..next].trim_end();
            at = next;
            match line.find(|c| c != ' ') {
                Some(column) if column > indent && line[column..].starts_with('#') => end = at,
                None => {}
                Some(_) => break,
            }
        }
        Ok(end)
    }

    /// Removes the only entry of a mapping. The mapping stays.
    fn empty(
        &self,
        map: &Node,
        place: Option<Place<'_>>,
        entry: &Entry,
        in_flow: bool,
    ) -> Result<String, Obstacle> {
        match place {
            _ if in_flow => Ok(self.spliced(map.start..map.end, "{}")),
            Some(place) => self.replace(place, &Json::Object(serde_json::Map::new())),
            None => {
                let indent = self.indent(&entry.key)?;
                let range = entry.key.start - indent..self.comments_below(entry, indent)?;
                Ok(self.spliced(range, &format!("{{}}{}", self.habits.line_end)))
            }
        }
    }
}

/// A value below keys.
fn wrapped(keys: &[String], value: &Json) -> Json {
    let wrap = |value, key: &String| Json::Object([(key.clone(), value)].into_iter().collect());
    keys.iter().rev().fold(value.clone(), wrap)
}
