//! What the lines of a file in `/etc/pam.d` are (pam.conf(5)).

use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;

/// The four tasks, each of which has a stack of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    /// Whether somebody is who they say.
    Auth,
    /// Whether they may come in now.
    Account,
    /// What a new password is.
    Password,
    /// What is done before and after.
    Session,
}

impl Task {
    pub(super) const ALL: [Self; 4] = [Self::Auth, Self::Account, Self::Password, Self::Session];

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| word.eq_ignore_ascii_case(&task.to_string()))
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auth => "auth",
            Self::Account => "account",
            Self::Password => "password",
            Self::Session => "session",
        })
    }
}

/// A line that says something, with those that it goes on in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) lines: Range<usize>,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// `@include FILE`: the lines of a file, for every task.
    Include(String),
    Rule(Rule),
    /// A line that makes its stack fail: of which task, if that can be told.
    Malformed(Option<Task>),
}

/// A module in the stack of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) task: Task,
    /// Whether the module may be missing: a `-` before the task.
    pub(super) optional: bool,
    /// One word, or several in brackets.
    pub(super) control: String,
    pub(super) module: String,
    pub(super) arguments: Vec<String>,
}

impl Rule {
    /// Whether it is of this module, which may be written with its folder or without, and has the argument.
    pub(super) fn is_of(&self, module: &str, having: Option<&str>) -> bool {
        let is_module = self.module == module
            || (!module.contains('/') && self.module.rsplit('/').next() == Some(module));
        is_module && having.is_none_or(|argument| self.arguments.iter().any(|other| other == argument))
    }
}

/// As it is written where nothing says how it is spaced.
impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dash = if self.optional { "-" } else { "" };
        write!(formatter, "{dash}{}\t{}\t{}", self.task, self.control, self.module)?;
        self.arguments.iter().try_for_each(|argument| write!(formatter, " {}", quoted(argument)))
    }
}

/// An argument as it is written: with spaces in it, it is in brackets.
fn quoted(argument: &str) -> String {
    if argument.starts_with('[') || argument.contains(char::is_whitespace) {
        return format!("[{}]", argument.replace(']', "\\]"));
    }
    argument.to_owned()
}

/// What a file says, from its top.
pub(super) fn read(lines: &[String]) -> Vec<Line> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let start = at;
        let mut text = String::new();
        loop {
            let line = before_comment(&lines[at]);
            at += 1;
            let Some(line) = line.strip_suffix('\\').filter(|_| at < lines.len()) else {
                text += line;
                break;
            };
            text += &format!("{line} ");
        }
        let words = words(&text);
        if let Some(what) = what(&words) {
            found.push(Line { lines: start..at, what });
        }
    }
    found
}

/// A line without the comment behind it, in which a `\` means nothing.
fn before_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// The comment behind a line, with the `#`.
pub(super) fn comment(line: &str) -> Option<&str> {
    line.find('#').map(|at| line[at..].trim_end())
}

fn what(words: &[Word]) -> Option<What> {
    let [first, rest @ ..] = words else { return None };
    if first.text.eq_ignore_ascii_case("@include") {
        return Some(rest.first().map_or(What::Malformed(None), |file| What::Include(file.text.clone())));
    }
    let (optional, task) = match first.text.strip_prefix('-') {
        Some(task) => (true, Task::of(task)),
        None => (false, Task::of(&first.text)),
    };
    let ([control, module, arguments @ ..], Some(task)) = (rest, task) else {
        return Some(What::Malformed(task));
    };
    Some(What::Rule(Rule {
        task,
        optional,
        control: if control.bracketed { format!("[{}]", control.text) } else { control.text.clone() },
        module: module.text.clone(),
        arguments: arguments.iter().map(|word| word.text.clone()).collect(),
    }))
}

struct Word {
    text: String,
    bracketed: bool,
    /// Where it is, with its brackets.
    at: Range<usize>,
}

/// Words between blanks. One that starts with `[` goes on to the `]` that has no `\` before it.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let Some(start) = rest.find(|c: char| !c.is_whitespace()) else { return words };
        let rest = &rest[start..];
        let (word, bracketed, length) = if let Some(inside) = rest.strip_prefix('[') {
            let is_end = |&(at, c): &(usize, char)| c == ']' && !inside[..at].ends_with('\\');
            let end = inside.char_indices().find(is_end).map_or(inside.len(), |(at, _)| at);
            (inside[..end].replace("\\]", "]"), true, (end + 2).min(rest.len()))
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (rest[..end].to_owned(), false, end)
        };
        words.push(Word { text: word, bracketed, at: at + start..at + start + length });
        at += start + length;
    }
}

/// Whether a name is that of a module, and not of a file with lines.
pub(super) fn is_module(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end == "so")
}

/// Whether two controls are the same: blanks and cases of letters mean nothing in them.
pub(super) fn is_same_control(one: &str, other: &str) -> bool {
    let normal = |text: &str| {
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let words: Vec<String> =
            inside.unwrap_or(text).split_whitespace().map(str::to_ascii_lowercase).collect();
        (inside.is_some(), words)
    };
    normal(one) == normal(other)
}

/// A rule in the place of one that is written in `before`, spaced as that one is.
pub(super) fn rewritten(before: &str, rule: &Rule) -> String {
    let text = before_comment(before);
    let words = words(text);
    let between = |first: usize| match (words.get(first), words.get(first + 1)) {
        (Some(one), Some(other)) if one.at.end < other.at.start => &text[one.at.end..other.at.start],
        _ => "\t",
    };
    let indent = &before[..before.len() - before.trim_start().len()];
    let dash = if rule.optional { "-" } else { "" };
    let (task, control, module) = (rule.task, &rule.control, &rule.module);
    let arguments: String = rule.arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
    format!("{indent}{dash}{task}{}{control}{}{module}{arguments}", between(0), between(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::edited::lines_of;

    fn rules(text: &str) -> Vec<String> {
        let show = |line: Line| match line.what {
            What::Rule(rule) => format!("{:?} {rule}", line.lines).replace('\t', " "),
            other => format!("{:?} {other:?}", line.lines),
        };
        read(&lines_of(text)).into_iter().map(show).collect()
    }

    #[test]
    fn a_line_is_a_task_a_control_a_module_and_arguments() {
        assert_eq!(
            rules(
                "# Comment.\n\nauth\trequired pam_unix.so nullok # why\n-Session  [success=1  default=ignore] /lib/pam_a.so [a b\\]c] d\n@include common-auth\n"
            ),
            [
                "2..3 auth required pam_unix.so nullok",
                "3..4 -session [success=1  default=ignore] /lib/pam_a.so [a b\\]c] d",
                "4..5 Include(\"common-auth\")",
            ]
        );
    }

    #[test]
    fn a_line_may_go_on_in_the_next_and_a_comment_does_not() {
        assert_eq!(
            rules("auth required \\\n  pam_a.so \\\n  b\n# c \\\nauth optional pam_b.so \\"),
            ["0..3 auth required pam_a.so b", "4..5 auth optional pam_b.so \\"]
        );
    }

    #[test]
    fn what_cannot_be_read_makes_its_stack_fail() {
        assert_eq!(
            rules("auth required\nauht required pam_a.so\n@include\npassword"),
            [
                "0..1 Malformed(Some(Auth))",
                "1..2 Malformed(None)",
                "2..3 Malformed(None)",
                "3..4 Malformed(Some(Password))"
            ]
        );
    }

    #[test]
    fn controls_are_compared_by_what_they_say() {
        assert!(is_same_control("[success=1  default=ignore]", "[success=1 Default=ignore]"));
        assert!(!is_same_control("[required]", "required"));
    }
}
