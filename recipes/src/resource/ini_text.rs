//! What the lines of a file with sections are.

use std::ops::Range;

use super::edited::is_comment;

/// A key with its value, which may go on in further lines.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) section: Option<String>,
    pub(super) key: String,
    /// What is between the key and its value; none for a key alone, such as `skip-networking`.
    pub(super) separator: Option<String>,
    pub(super) value: String,
    pub(super) lines: Range<usize>,
}

/// The entries of a file, and the lines in which sections begin.
pub(super) fn read(lines: &[String]) -> (Vec<Entry>, Vec<(String, usize)>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut headers: Vec<(String, usize)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        // A byte order mark may be before the first section.
        let text = line.trim().trim_start_matches('\u{feff}');
        let goes_on = entries.last().is_some_and(|last| {
            // Behind a `\` (systemd.syntax(7)), or deeper and no key of its own (Python's configparser).
            let before = &lines[last.lines.end - 1];
            let deeper = indent(line).len() > indent(&lines[last.lines.start]).len();
            let is_more = deeper && !text.is_empty() && !text.contains('=') && !is_comment(text);
            last.lines.end == at && (before.trim_end().ends_with('\\') || is_more)
        });
        if let Some(last) = entries.last_mut().filter(|_| goes_on) {
            last.lines.end = at + 1;
        } else if text.is_empty() || is_comment(text) {
        } else if let Some(name) = section_name(text) {
            headers.push((name.to_owned(), at));
        } else {
            let (key, rest) = text.split_once('=').map_or((text, None), |(key, rest)| (key, Some(rest)));
            let separator = rest.map(|rest| {
                let before = &key[key.trim_end().len()..];
                let after = &rest[..rest.len() - rest.trim_start().len()];
                format!("{before}={}", if rest.is_empty() { before } else { after })
            });
            entries.push(Entry {
                section: headers.last().map(|(name, _)| name.clone()),
                key: key.trim_end().to_owned(),
                separator,
                value: rest.unwrap_or_default().trim_start().to_owned(),
                lines: at..at + 1,
            });
        }
    }
    (entries, headers)
}

/// The name in `[name]`, behind which there may be a comment.
fn section_name(text: &str) -> Option<&str> {
    let (name, behind) = text.strip_prefix('[')?.split_once(']')?;
    let behind = behind.trim_start();
    (behind.is_empty() || is_comment(behind)).then_some(name.trim())
}

/// How keys are separated from values: as in this section, or else in the file.
pub(super) fn separator_of(entries: &[Entry], section: Option<&str>) -> String {
    let of_section = entries.iter().rev().filter(|entry| entry.section.as_deref() == section);
    let separator = of_section.chain(entries.iter().rev()).find_map(|entry| entry.separator.clone());
    separator.unwrap_or_else(|| " = ".into())
}

/// What is before the first character of a line.
pub(super) fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}
