//! Whether the stack of a PAM service lets people in: its lines are walked through as libpam walks through them
//! (`libpam/pam_dispatch.c`), with every answer that the modules may give.

use std::collections::BTreeSet;

use super::edited::lines_of;
use super::pam_control::{Action, Actions, Control, control};
use super::pam_modules::{Answer, Answers, Who};
use super::pam_text::{Task, What, read};

/// How deep files include others at most (`PAM_SUBSTACK_MAX_LEVEL` of libpam).
const MAXIMUM_LEVEL: usize = 16;

/// No stack has so many lines. Without an end, files that include themselves would have 2 to the power of that level.
const MOST_LINES: usize = 1000;

/// The text of a file of `/etc/pam.d`.
pub(super) enum Text {
    Is(String),
    /// There is none.
    Missing,
    /// Nobody can know it before the plan is performed.
    Unknown,
}

/// The modules that are asked for one task of a service, in their order.
#[derive(Debug)]
pub(super) struct Stack {
    handlers: Vec<Handler>,
    /// What `pam_deny` answers for the task.
    denial: &'static str,
    /// Whether a file is part of it that is not known yet.
    pub(super) uncertain: bool,
    /// The files that it is made of, besides the first.
    pub(super) includes: BTreeSet<String>,
}

#[derive(Debug)]
struct Handler {
    level: usize,
    does: Does,
    /// The line, for messages.
    line: String,
}

#[derive(Debug)]
enum Does {
    /// It stands before the lines of a substack.
    EntersSubstack,
    /// It cannot be read or is not there, and fails whatever happens.
    MustFail,
    Module(Actions, Answers),
}

impl Stack {
    /// That of a file for a task.
    pub(super) fn of(name: &str, task: Task, text: &dyn Fn(&str) -> Text) -> Self {
        let denial = match task {
            Task::Auth | Task::Account => "auth_err",
            Task::Password => "authtok_err",
            Task::Session => "session_err",
        };
        let mut stack = Self { handlers: Vec::new(), denial, uncertain: false, includes: BTreeSet::new() };
        stack.take_in(name, task, text, 0, 0);
        stack
    }

    fn take_in(&mut self, name: &str, task: Task, text: &dyn Fn(&str) -> Text, depth: usize, level: usize) {
        let text_of = match text(name) {
            Text::Is(content) if depth < MAXIMUM_LEVEL && self.handlers.len() < MOST_LINES => content,
            Text::Unknown => {
                self.uncertain = true;
                return;
            }
            Text::Is(_) | Text::Missing => {
                self.push(level, Does::MustFail, name);
                return;
            }
        };
        for line in read(&lines_of(&text_of)) {
            match line.what {
                What::Include(file) => {
                    self.take_in(&file, task, text, depth + 1, level);
                    self.includes.insert(file);
                }
                // A task that cannot be read is taken for the one that must not be open to all.
                What::Malformed(of) if of.unwrap_or(Task::Auth) == task => {
                    self.push(level, Does::MustFail, "a line that cannot be read");
                }
                What::Rule(rule) if rule.task == task => match control(&rule.control) {
                    Ok(Control::Include) => {
                        self.take_in(&rule.module, task, text, depth + 1, level);
                        self.includes.insert(rule.module);
                    }
                    Ok(Control::Substack) => {
                        self.push(level, Does::EntersSubstack, &rule.module);
                        self.take_in(&rule.module, task, text, depth + 1, level + 1);
                        self.includes.insert(rule.module);
                    }
                    Ok(Control::Actions(actions)) => {
                        self.push(level, Does::Module(actions, Answers::of(&rule)), &rule.to_string());
                    }
                    Err(_) => self.push(level, Does::MustFail, &rule.to_string()),
                },
                What::Malformed(_) | What::Rule(_) => {}
            }
        }
    }

    fn push(&mut self, level: usize, does: Does, line: &str) {
        self.handlers.push(Handler { level, does, line: line.replace('\t', " ") });
    }

    /// Whether nobody is asked anything: libpam then asks the stack of `other`.
    pub(super) fn is_empty(&self) -> bool {
        self.handlers.is_empty() && !self.uncertain
    }

    /// Whether somebody who does everything right gets through.
    pub(super) fn lets_in(&self) -> bool {
        self.uncertain || self.is_empty() || self.can_succeed(Who::Rightful)
    }

    /// Whether somebody gets through who can prove nothing.
    pub(super) fn is_open(&self) -> bool {
        !self.uncertain && self.can_succeed(Who::Stranger)
    }

    /// A line that jumps past the end, where libpam fails.
    pub(super) fn jump_past_the_end(&self) -> Option<&str> {
        if self.uncertain {
            return None;
        }
        let jumps_too_far = |&at: &usize| match &self.handlers[at].does {
            Does::Module(actions, _) => (1..=actions.furthest()).any(|by| self.jump(at, by).is_none()),
            _ => false,
        };
        (0..self.handlers.len()).find(jumps_too_far).map(|at| self.handlers[at].line.as_str())
    }

    /// Where one is after a jump; none past the end of the stack. The lines of a substack are one.
    fn jump(&self, at: usize, mut by: usize) -> Option<usize> {
        let level = self.handlers[at].level;
        let is_at_least = |at: usize, level| self.handlers.get(at).is_some_and(|next| next.level >= level);
        let mut at = at;
        while by > 0 && is_at_least(at + 1, level) {
            at += 1;
            while is_at_least(at + 1, level + 1) {
                at += 1;
            }
            by -= 1;
        }
        (by == 0).then_some(at + 1)
    }

    fn can_succeed(&self, who: Who) -> bool {
        let mut walks = vec![Walk::default()];
        let mut seen = BTreeSet::new();
        while let Some(walk) = walks.pop() {
            if !seen.insert(walk.clone()) {
                continue;
            }
            let Some(handler) = self.handlers.get(walk.at) else {
                if walk.state == State::Positive {
                    return true;
                }
                continue;
            };
            let walk = walk.at_level(handler.level);
            match &handler.does {
                Does::EntersSubstack => walks.push(Walk { at: walk.at + 1, ..walk }),
                Does::MustFail => walks.push(self.after(&walk, handler.level, Action::Bad, false)),
                Does::Module(actions, answers) => {
                    for answer in answers.to(who, &handler.line) {
                        let is_success = *answer == Answer::Success;
                        let mut go =
                            |action| walks.push(self.after(&walk, handler.level, action, is_success));
                        match answer {
                            Answer::Success => go(actions.of("success")),
                            Answer::Ignore => go(actions.of("ignore")),
                            Answer::Failure => actions.of_failures().for_each(go),
                            Answer::Denied => go(actions.of(self.denial)),
                        }
                    }
                }
            }
        }
        false
    }

    /// What a walk is after a module has answered.
    fn after(&self, walk: &Walk, level: usize, action: Action, is_success: bool) -> Walk {
        let mut next = Walk { at: walk.at + 1, ..walk.clone() };
        match action {
            Action::Ignore => {}
            Action::Reset => next.state = walk.entered.get(level).copied().unwrap_or_default(),
            Action::Ok | Action::Done => {
                if matches!(walk.state, State::Undecided | State::Positive) {
                    next.state = if is_success { State::Positive } else { State::PositiveButFailed };
                }
                if action == Action::Done && walk.state != State::Negative {
                    next.at = self.end_of(walk.at, level);
                }
            }
            Action::Bad | Action::Die => {
                next.state = State::Negative;
                if action == Action::Die {
                    next.at = self.end_of(walk.at, level);
                }
            }
            Action::Jump(by) => match self.jump(walk.at, by) {
                Some(at) => next.at = at,
                None => next = Walk { at: self.end_of(walk.at, level), state: State::Negative, ..next },
            },
        }
        next
    }

    /// The first line behind those of this stack or substack.
    fn end_of(&self, at: usize, level: usize) -> usize {
        let behind = self.handlers[at + 1..].iter().position(|next| next.level < level);
        behind.map_or(self.handlers.len(), |by| at + 1 + by)
    }
}

/// What libpam has of a stack so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum State {
    #[default]
    Undecided,
    Positive,
    /// An answer counts that is not success, such as that a password has to be changed.
    PositiveButFailed,
    Negative,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Walk {
    at: usize,
    state: State,
    /// What the state was where each substack was entered.
    entered: Vec<State>,
}

impl Walk {
    fn at_level(mut self, level: usize) -> Self {
        self.entered.truncate(level + 1);
        while self.entered.len() <= level {
            let state = if self.entered.is_empty() { State::Undecided } else { self.state };
            self.entered.push(state);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so
auth optional pam_cap.so
";

    fn stack(text: &str) -> Stack {
        Stack::of("a", Task::Auth, &|name| match name {
            "a" => Text::Is(text.to_owned()),
            "common-auth" => Text::Is(DEBIAN.to_owned()),
            "unknown" => Text::Unknown,
            "again" => Text::Is("auth include again\n".repeat(3)),
            _ => Text::Missing,
        })
    }

    fn is(text: &str) -> (bool, bool) {
        let stack = stack(text);
        (stack.lets_in(), stack.is_open())
    }

    const GOOD: (bool, bool) = (true, false);
    const CLOSED: (bool, bool) = (false, false);
    const OPEN: (bool, bool) = (true, true);

    #[test]
    fn the_stacks_of_distributions_let_in_who_has_the_password() {
        assert_eq!(is(DEBIAN), GOOD);
        assert_eq!(is("auth sufficient pam_rootok.so\n@include common-auth\n"), GOOD);
        let fedora = "auth required pam_env.so
auth required pam_faildelay.so delay=2000000
auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular
auth [default=1 ignore=ignore success=ok] pam_localuser.so
auth sufficient pam_unix.so nullok
auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular
auth sufficient pam_sss.so forward_pass
auth required pam_deny.so
";
        assert_eq!(is(fedora), GOOD);
        let hardened = "auth required pam_faillock.so preauth
auth [success=1 default=ignore] pam_unix.so
auth [default=die] pam_faillock.so authfail
auth sufficient pam_faillock.so authsucc
auth requisite pam_deny.so
auth required pam_permit.so
";
        assert_eq!(is(hardened), GOOD);
    }

    #[test]
    fn a_jump_that_lands_on_what_denies_lets_nobody_in() {
        let counted =
            DEBIAN.replace("auth requisite", "auth [default=die] pam_faillock.so authfail\nauth requisite");
        assert_eq!(is(&counted), CLOSED);
        assert_eq!(is(&counted.replace("success=1", "success=2")), GOOD);
        assert_eq!(is("auth requisite pam_deny.so\n@include common-auth\n"), CLOSED);
        assert_eq!(is("auth sufficient pam_rootok.so\nauth required pam_deny.so\n"), CLOSED, "but for root");
    }

    #[test]
    fn a_jump_past_the_end_fails_and_one_to_the_end_does_not() {
        let far = stack(
            "auth required pam_unix.so\nauth [success=2 default=bad] pam_a.so\nauth required pam_b.so\n",
        );
        assert_eq!(far.jump_past_the_end(), Some("auth [success=2 default=bad] pam_a.so"));
        assert!(!far.lets_in());
        let near = stack(
            "auth required pam_unix.so\nauth [success=1 default=bad] pam_a.so\nauth required pam_b.so\n",
        );
        assert_eq!((near.jump_past_the_end(), near.lets_in()), (None, true));
        assert_eq!(
            is("auth [success=1 default=bad] pam_unix.so\nauth required pam_deny.so\n"),
            CLOSED,
            "nothing says yes"
        );
    }

    #[test]
    fn what_asks_for_no_proof_is_open() {
        assert_eq!(is("auth required pam_permit.so\n"), OPEN);
        assert_eq!(is("auth required pam_env.so\nauth sufficient pam_unix.so\n"), OPEN);
        assert_eq!(is("auth required pam_env.so\nauth required pam_unix.so\n"), GOOD);
        assert_eq!(is(&DEBIAN.replace("default=ignore", "default=1")), OPEN);
    }

    #[test]
    fn what_cannot_be_read_or_is_not_there_fails() {
        assert_eq!(is("auth required\n@include common-auth\n"), CLOSED);
        assert_eq!(is("auht required pam_unix.so\n@include common-auth\n"), CLOSED);
        assert_eq!(is("auth must pam_unix.so\n@include common-auth\n"), CLOSED);
        assert_eq!(is("auth include gone\n@include common-auth\n"), CLOSED);
        assert_eq!(is("auth include again\n@include common-auth\n"), CLOSED);
        assert!(stack("@include unknown\nauth required pam_deny.so\n").lets_in(), "nobody can know");
        assert!(stack("session required pam_deny.so\n").is_empty());
    }

    #[test]
    fn what_ends_a_substack_ends_only_that() {
        let requisite = "auth substack common-auth\nauth required pam_deny.so\n";
        assert_eq!(is(requisite), CLOSED);
        assert_eq!(is(&requisite.replace("substack", "include")), CLOSED);
        let done = "auth [success=done default=die] pam_unix.so\n";
        let with = |control: &str| {
            Stack::of("a", Task::Auth, &|name| {
                Text::Is(match name {
                    "a" => format!("auth {control} b\nauth required pam_deny.so\n"),
                    _ => done.to_owned(),
                })
            })
        };
        assert!(with("include").lets_in(), "it ends the whole");
        assert!(!with("substack").lets_in());
        assert_eq!(with("substack").includes.into_iter().collect::<Vec<_>>(), ["b"]);
        // The lines of a substack are one to jump over.
        assert_eq!(
            is(
                "auth [success=1 default=bad] pam_unix.so\nauth substack common-auth\nauth required pam_permit.so\n"
            ),
            GOOD
        );
        let reset = "auth required pam_unix.so\nauth [default=reset] pam_deny.so\n";
        assert_eq!(is(reset), CLOSED, "all is forgotten");
        assert_eq!(is("auth required pam_a.so\nauth [success=ok default=reset] pam_wheel.so\n"), GOOD);
    }

    /// Stacks of modules with one answer each, and what libpam 1.7 made of them (1.5 counts a substack as two lines to jump over).
    #[test]
    fn it_comes_to_what_libpam_comes_to() {
        for case in include_str!("pam_stacks.txt").split("\n\n") {
            let (outcome, lines) = case.split_once('\n').expect("an outcome");
            let text = |name: &str| {
                let of_file =
                    |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(|line| format!("{line}\n"));
                Text::Is(lines.lines().filter_map(of_file).collect())
            };
            let stack = Stack::of("a", Task::Auth, &text);
            for who in [Who::Rightful, Who::Stranger] {
                assert_eq!(stack.can_succeed(who), outcome == "success", "{case}");
            }
        }
    }
}
