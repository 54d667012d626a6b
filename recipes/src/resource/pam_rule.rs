//! One line of a PAM file as a recipe wants it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::edited::{insert_at, one_line};
use super::fields::State;
use super::pam_control::{Control, control};
use super::pam_text::{Line, Rule, Task, What, comment, is_module, is_same_control, read, rewritten};
use crate::error::Problem;
use crate::system::PlanError;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFields {
    /// The task: `auth`, `account`, `password` or `session`.
    pub(super) r#type: Task,
    /// The module, such as `pam_unix.so`, or its path; of an `include` or `substack` the name of the file.
    pub(super) module: String,
    /// An argument that tells the line from others of the module, such as `preauth`.
    having: Option<String>,
    /// What its answer does: `required`, `requisite`, `sufficient`, `optional`, or pairs such as
    /// `[success=1 default=ignore]`; `include` or `substack`. As it is if not said; a new line needs it.
    control: Option<String>,
    /// All its arguments; as they are if not said.
    arguments: Option<Vec<String>>,
    /// Arguments that it has besides those that are there. One such as `deny=3` takes the place of another `deny=`.
    #[serde(default)]
    add_arguments: Vec<String>,
    /// Arguments that it has not; `deny=` is one with any value.
    #[serde(default)]
    remove_arguments: Vec<String>,
    /// A line that this one is above: a module of the same task, one with an argument such as
    /// `pam_faillock.so authfail`, or `@include common-auth`.
    before: Option<String>,
    /// A line that this one is below, written like that. Without either, a new line goes to the end of the file.
    after: Option<String>,
    /// Whether the module may be missing on the host, so that PAM passes over the line; as it is if not said.
    optional: Option<bool>,
    /// `present` or `absent`.
    #[serde(default)]
    state: State,
}

/// Where a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Above(Anchor),
    Below(Anchor),
}

/// A line that others are above or below.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    written: String,
    include: bool,
    module: String,
    having: Option<String>,
}

/// The same, as it is known to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    fields: RuleFields,
    place: Option<Place>,
}

impl RuleFields {
    pub(super) fn check(self) -> Result<Wanted, Problem> {
        let includes = match self.control.as_deref().map(control).transpose()? {
            Some(Control::Include | Control::Substack) => true,
            Some(Control::Actions(_)) | None => false,
        };
        one_line("module", &self.module)?;
        let is_word = |text: &str| {
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "#[\\".contains(c))
        };
        let is_path = |text: &str| text.starts_with('/') || !text.contains('/');
        if !is_word(&self.module) || !is_path(&self.module) || self.module.starts_with('@') {
            return Err(Problem::new(format!("`{}` is not a module of PAM", self.module))
                .help("modules are such as `pam_unix.so`, or an absolute path"));
        }
        if self.control.is_some() && !includes && !is_module(&self.module) {
            return Err(Problem::new(format!(
                "the name of the module `{}` does not end in `.so`",
                self.module
            )));
        }
        let given = self.arguments.iter().flatten().chain(&self.add_arguments);
        for argument in given.clone().chain(&self.remove_arguments).chain(&self.having) {
            if argument.is_empty() || argument.contains(['\n', '\r', '\0', '#']) || argument.ends_with('\\') {
                return Err(Problem::new(format!(
                    "`{}` cannot be an argument of a module",
                    argument.escape_debug()
                ))
                .help("a line of PAM ends at `#`, and goes on behind a `\\` at its end"));
            }
        }
        if self.arguments.is_some() && !(self.add_arguments.is_empty() && self.remove_arguments.is_empty()) {
            return Err(Problem::new("`arguments` are all; there are none to add or to remove"));
        }
        if includes && given.clone().next().is_some() {
            return Err(Problem::new("an `include` or `substack` has no arguments"));
        }
        if let Some(having) = &self.having
            && (self.arguments.as_ref().is_some_and(|all| !all.contains(having))
                || self.remove_arguments.iter().any(|removed| is_removed(having, removed)))
        {
            return Err(Problem::new(format!("the line would not have `{having}`, which it is found by"))
                .help("give it in `arguments`"));
        }
        self.check_state()?;
        let place = match (&self.before, &self.after) {
            (None, None) => None,
            (Some(line), None) => Some(Place::Above(Anchor::of(line)?)),
            (None, Some(line)) => Some(Place::Below(Anchor::of(line)?)),
            (Some(_), Some(_)) => {
                return Err(Problem::new("a line of PAM is either `before` or `after` another, not both"));
            }
        };
        Ok(Wanted { fields: self, place })
    }

    fn check_state(&self) -> Result<(), Problem> {
        let says_nothing = self.control.is_none()
            && self.arguments.is_none()
            && self.add_arguments.is_empty()
            && self.remove_arguments.is_empty()
            && self.before.is_none()
            && self.after.is_none()
            && self.optional.is_none();
        match self.state {
            State::Absent if !says_nothing => {
                Err(Problem::new("a line of PAM that shall be absent has only `type`, `module` and `having`"))
            }
            State::Present if says_nothing => {
                Err(Problem::new("a line of PAM needs its `control`, or what changes in it"))
            }
            _ => Ok(()),
        }
    }
}

impl Anchor {
    fn of(line: &str) -> Result<Self, Problem> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (include, module, having) = match words[..] {
            ["@include", file] => (true, file, None),
            [module] => (false, module, None),
            [module, argument] => (false, module, Some(argument.to_owned())),
            _ => {
                return Err(Problem::new(format!("`{line}` does not name a line of PAM"))
                    .help("write a module, a module and one of its arguments, or `@include` and a file"));
            }
        };
        Ok(Self { written: line.to_owned(), include, module: module.to_owned(), having })
    }

    fn is(&self, line: &Line, task: Task) -> bool {
        match &line.what {
            What::Include(file) => self.include && *file == self.module,
            What::Rule(rule) => {
                !self.include && rule.task == task && rule.is_of(&self.module, self.having.as_deref())
            }
            What::Malformed(_) => false,
        }
    }
}

/// Whether an argument is meant by one to remove.
fn is_removed(argument: &str, removed: &str) -> bool {
    argument == removed || (removed.ends_with('=') && argument.starts_with(removed))
}

impl Wanted {
    pub(super) fn task(&self) -> Task {
        self.fields.r#type
    }

    pub(super) fn is_present(&self) -> bool {
        self.fields.state == State::Present
    }

    /// The module that must be on the host; none for a file, and if it may be missing.
    pub(super) fn module(&self) -> Option<&str> {
        let is_needed = self.is_present() && self.fields.optional != Some(true);
        Some(self.fields.module.as_str()).filter(|module| is_needed && is_module(module))
    }

    /// What tells it from other lines of the file.
    pub(super) fn name(&self) -> String {
        let having = self.fields.having.as_ref().map(|having| format!(" {having}")).unwrap_or_default();
        format!("{} {}{having}", self.task(), self.fields.module)
    }

    /// Makes the lines of a file such that this one is as it shall be.
    pub(super) fn edit(&self, lines: &mut Vec<String>, file: &str) -> Result<(), PlanError> {
        let (found, _) = self.look(lines);
        if !self.is_present() {
            found.iter().rev().for_each(|line| drop(lines.drain(line.lines.clone())));
            return Ok(());
        }
        match &found[..] {
            [] => {
                let rule = self.new_rule(file)?;
                return self.insert(lines, format!("{rule}\n"), file);
            }
            [line] => self.rewrite(lines, line),
            [first, second, ..] => {
                return Err(PlanError::impossible_but(
                    format!(
                        "`{}` is in `{file}` more than once, in the lines {} and {}",
                        self.name(),
                        first.lines.start + 1,
                        second.lines.start + 1
                    ),
                    "say which is meant with `having`, an argument that only it has",
                ));
            }
        }
        let (found, anchors) = self.look(lines);
        let is_in_place = |line: &Line| match &self.place {
            None => true,
            Some(Place::Above(_)) => {
                anchors.first().is_none_or(|anchor| line.lines.start < anchor.lines.start)
            }
            Some(Place::Below(_)) => {
                anchors.last().is_none_or(|anchor| line.lines.start > anchor.lines.start)
            }
        };
        match &found[..] {
            [line] if self.place.is_some() && anchors.is_empty() || !is_in_place(line) => {
                let mut taken: String = lines.drain(line.lines.clone()).collect();
                if !taken.ends_with('\n') {
                    taken.push('\n');
                }
                self.insert(lines, taken, file)
            }
            _ => Ok(()),
        }
    }

    /// The lines that are this one, and those that it is above or below.
    fn look(&self, lines: &[String]) -> (Vec<Line>, Vec<Line>) {
        let (module, having) = (self.fields.module.as_str(), self.fields.having.as_deref());
        let all = read(lines);
        let is_it = |line: &&Line| matches!(&line.what, What::Rule(rule) if rule.task == self.task() && rule.is_of(module, having));
        let found: Vec<Line> = all.iter().filter(is_it).cloned().collect();
        let anchors = match &self.place {
            Some(Place::Above(anchor) | Place::Below(anchor)) => all
                .iter()
                .filter(|line| anchor.is(line, self.task()) && !found.contains(line))
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        (found, anchors)
    }

    fn new_rule(&self, file: &str) -> Result<Rule, PlanError> {
        let Some(control) = &self.fields.control else {
            return Err(PlanError::impossible_but(
                format!("`{}` is not in `{file}`", self.name()),
                "a line that is to be added needs its `control`",
            ));
        };
        let mut arguments = self.fields.arguments.clone().unwrap_or_default();
        arguments.extend(self.fields.add_arguments.clone());
        if let Some(having) = self.fields.having.as_ref().filter(|having| !arguments.contains(having)) {
            arguments.insert(0, having.clone());
        }
        Ok(Rule {
            task: self.task(),
            optional: self.fields.optional.unwrap_or(false),
            control: control.clone(),
            module: self.fields.module.clone(),
            arguments,
        })
    }

    fn rewrite(&self, lines: &mut Vec<String>, line: &Line) {
        let What::Rule(was) = &line.what else { return };
        let mut rule = was.clone();
        if let Some(control) =
            self.fields.control.as_ref().filter(|control| !is_same_control(control, &was.control))
        {
            rule.control.clone_from(control);
        }
        rule.optional = self.fields.optional.unwrap_or(was.optional);
        if let Some(arguments) = &self.fields.arguments {
            rule.arguments.clone_from(arguments);
        }
        rule.arguments.retain(|argument| {
            !self.fields.remove_arguments.iter().any(|removed| is_removed(argument, removed))
        });
        for added in &self.fields.add_arguments {
            let key = added.split_once('=').map(|(key, _)| format!("{key}="));
            let is_same = |other: &String| key.as_ref().map_or(other == added, |key| other.starts_with(key));
            match rule.arguments.iter().position(is_same) {
                Some(at) => rule.arguments[at].clone_from(added),
                None => rule.arguments.push(added.clone()),
            }
        }
        if rule == *was {
            return;
        }
        let last = &lines[line.lines.end - 1];
        let end = &last[last.trim_end_matches(['\n', '\r']).len()..];
        let comment = comment(last).map(|comment| format!(" {comment}")).unwrap_or_default();
        let text = format!("{}{comment}{end}", rewritten(&lines[line.lines.start], &rule));
        lines.splice(line.lines.clone(), [text]);
    }

    fn insert(&self, lines: &mut Vec<String>, text: String, file: &str) -> Result<(), PlanError> {
        let (_, anchors) = self.look(lines);
        let at = match &self.place {
            None => Some(lines.len()),
            Some(Place::Above(_)) => anchors.first().map(|anchor| anchor.lines.start),
            Some(Place::Below(_)) => anchors.last().map(|anchor| anchor.lines.end),
        };
        let Some(at) = at else {
            let (Some(Place::Above(anchor) | Place::Below(anchor)), task) = (&self.place, self.task()) else {
                return Ok(());
            };
            return Err(PlanError::impossible_but(
                format!(
                    "`{file}` has no line `{}` for `{task}`, which `{}` is placed by",
                    anchor.written,
                    self.name()
                ),
                "name a line in `before` or `after` that is there",
            ));
        };
        if at.checked_sub(1).is_some_and(|before| {
            lines[before].trim_end().ends_with('\\') && comment(&lines[before]).is_none()
        }) {
            return Err(PlanError::impossible(format!(
                "`{file}` ends with `\\`, so a line behind it would be part of that one"
            )));
        }
        insert_at(lines, at, text);
        Ok(())
    }
}
