//! What a module's answer does to its stack: the control field of pam.conf(5).

use crate::error::{Problem, did_you_mean};

/// What becomes of a stack after a module has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Ignore,
    Bad,
    Die,
    Ok,
    Done,
    Reset,
    Jump(usize),
}

/// The control field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    /// The lines of a file are in its place.
    Include,
    /// The same, and what ends the stack of the file does not end this one.
    Substack,
    Actions(Actions),
}

/// What each answer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actions {
    named: Vec<(String, Action)>,
    default: Action,
}

impl Actions {
    pub(super) fn of(&self, answer: &str) -> Action {
        let named = self.named.iter().find(|(name, _)| name == answer);
        named.map_or(self.default, |(_, action)| *action)
    }

    /// What the answers do that mean a failure.
    pub(super) fn of_failures(&self) -> impl Iterator<Item = Action> {
        let fails = |name: &str| !["success", "new_authtok_reqd", "ignore"].contains(&name);
        let named = self.named.iter().filter(move |(name, _)| fails(name)).map(|(_, action)| *action);
        named.chain([self.default])
    }

    /// How far it jumps at most.
    pub(super) fn furthest(&self) -> usize {
        let all = self.named.iter().map(|(_, action)| *action).chain([self.default]);
        all.filter_map(|action| if let Action::Jump(by) = action { Some(by) } else { None })
            .max()
            .unwrap_or(0)
    }
}

/// What modules answer.
const ANSWERS: [&str; 33] = [
    "success",
    "open_err",
    "symbol_err",
    "service_err",
    "system_err",
    "buf_err",
    "perm_denied",
    "auth_err",
    "cred_insufficient",
    "authinfo_unavail",
    "user_unknown",
    "maxtries",
    "new_authtok_reqd",
    "acct_expired",
    "session_err",
    "cred_unavail",
    "cred_expired",
    "cred_err",
    "no_module_data",
    "conv_err",
    "authtok_err",
    "authtok_recover_err",
    "authtok_recovery_err",
    "authtok_lock_busy",
    "authtok_disable_aging",
    "try_again",
    "ignore",
    "abort",
    "authtok_expired",
    "module_unknown",
    "bad_item",
    "conv_again",
    "incomplete",
];

const KEYWORDS: [(&str, &str); 4] = [
    ("required", "success=ok new_authtok_reqd=ok ignore=ignore default=bad"),
    ("requisite", "success=ok new_authtok_reqd=ok ignore=ignore default=die"),
    ("sufficient", "success=done new_authtok_reqd=done default=ignore"),
    ("optional", "success=ok new_authtok_reqd=ok default=ignore"),
];

/// Reads a control field.
pub(super) fn control(text: &str) -> Result<Control, Problem> {
    let lower = text.to_ascii_lowercase();
    if let Some(pairs) = lower.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return actions(pairs).map(Control::Actions);
    }
    match (lower.as_str(), KEYWORDS.iter().find(|(keyword, _)| *keyword == lower)) {
        ("include", _) => Ok(Control::Include),
        ("substack", _) => Ok(Control::Substack),
        (_, Some((_, pairs))) => actions(pairs).map(Control::Actions),
        _ => {
            let words = ["required", "requisite", "sufficient", "optional", "include", "substack"];
            Err(Problem::new(format!("`{text}` is not a control of PAM")).help(format!(
                "{}, or pairs such as `[success=1 default=ignore]`",
                did_you_mean(text, &words)
            )))
        }
    }
}

fn actions(pairs: &str) -> Result<Actions, Problem> {
    let mut actions = Actions { named: Vec::new(), default: Action::Bad };
    for pair in pairs.split_whitespace() {
        let Some((answer, action)) = pair.split_once('=') else {
            return Err(Problem::new(format!("`{pair}` is not an answer of a module with an action"))
                .help("pairs are such as `success=1` or `default=ignore`"));
        };
        let action = match action {
            "ignore" => Action::Ignore,
            "bad" => Action::Bad,
            "die" => Action::Die,
            "ok" => Action::Ok,
            "done" => Action::Done,
            "reset" => Action::Reset,
            _ => match action.parse() {
                Ok(by) if by > 0 => Action::Jump(by),
                _ => {
                    return Err(Problem::new(format!("`{action}` is not an action of PAM")).help(
                        "it is `ignore`, `bad`, `die`, `ok`, `done`, `reset`, or how many lines are skipped",
                    ));
                }
            },
        };
        match answer {
            "default" => actions.default = action,
            _ if ANSWERS.contains(&answer) => actions.named.push((answer.to_owned(), action)),
            _ => {
                return Err(Problem::new(format!("`{answer}` is not an answer of a module"))
                    .help(did_you_mean(answer, &ANSWERS)));
            }
        }
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_stands_for_its_pairs() {
        let same = |one: &str, other: &str| {
            assert_eq!(control(one).expect("a control"), control(other).expect("a control"));
        };
        same("Required", "[success=ok new_authtok_reqd=ok ignore=ignore default=bad]");
        same("sufficient", "[SUCCESS=done new_authtok_reqd=done  default=ignore]");
        assert_eq!(control("include").expect("a control"), Control::Include);
        assert_eq!(control("substack").expect("a control"), Control::Substack);
    }

    #[test]
    fn what_is_not_named_is_bad_unless_there_is_a_default() {
        let Ok(Control::Actions(actions)) = control("[success=2 user_unknown=ignore]") else {
            panic!("pairs")
        };
        assert_eq!(actions.of("success"), Action::Jump(2));
        assert_eq!(actions.of("auth_err"), Action::Bad);
        assert_eq!(actions.of_failures().collect::<Vec<_>>(), [Action::Ignore, Action::Bad]);
        assert_eq!(actions.furthest(), 2);
    }
}
