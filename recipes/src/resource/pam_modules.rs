//! What the modules of PAM may answer.

use super::pam_text::Rule;

/// What a module may answer somebody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    /// It answers so whoever it is.
    always: Option<Answer>,
    /// Whether it lets in whoever is not found wanting, without a proof of who that is.
    proves_nothing: bool,
    /// Whether what it answers depends on what people cannot help: who they are, when and where.
    is_conditional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Success,
    Ignore,
    /// Some failure.
    Failure,
    /// That of `pam_deny`.
    Denied,
}

/// Whose way through a stack is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody who is not root and does everything right.
    Rightful,
    /// Somebody who can prove nothing.
    Stranger,
}

/// Modules whose answer depends on who it is, or when and where.
const CONDITIONAL: [&str; 15] = [
    "pam_access.so",
    "pam_exec.so",
    "pam_faillock.so",
    "pam_group.so",
    "pam_listfile.so",
    "pam_localuser.so",
    "pam_nologin.so",
    "pam_securetty.so",
    "pam_sepermit.so",
    "pam_shells.so",
    "pam_succeed_if.so",
    "pam_tally2.so",
    "pam_time.so",
    "pam_usertype.so",
    "pam_wheel.so",
];

/// Modules that prove nothing: they set something up, or say something.
const SETTING_UP: [&str; 18] = [
    "pam_cap.so",
    "pam_debug.so",
    "pam_echo.so",
    "pam_env.so",
    "pam_faildelay.so",
    "pam_issue.so",
    "pam_keyinit.so",
    "pam_lastlog.so",
    "pam_limits.so",
    "pam_loginuid.so",
    "pam_mail.so",
    "pam_mkhomedir.so",
    "pam_motd.so",
    "pam_namespace.so",
    "pam_selinux.so",
    "pam_systemd.so",
    "pam_umask.so",
    "pam_warn.so",
];

impl Answers {
    pub(super) fn of(rule: &Rule) -> Self {
        let name = rule.module.rsplit('/').next().unwrap_or(&rule.module);
        let has = |argument: &str| rule.arguments.iter().any(|other| other == argument);
        let always = match name {
            "pam_permit.so" => Some(Answer::Success),
            "pam_deny.so" => Some(Answer::Denied),
            // It counts a failure, and has no other answer than that or none.
            "pam_faillock.so" if has("authfail") => Some(Answer::Ignore),
            _ => None,
        };
        let is_conditional = CONDITIONAL.contains(&name);
        Self { always, is_conditional, proves_nothing: is_conditional || SETTING_UP.contains(&name) }
    }

    /// What it may answer. That of `pam_rootok` is of root, who has other ways.
    pub(super) fn to(self, who: Who, module: &str) -> &'static [Answer] {
        const ANY: &[Answer] = &[Answer::Success, Answer::Ignore, Answer::Failure];
        let is_root = module.contains("pam_rootok.so");
        match (self.always, who) {
            (Some(Answer::Ignore), _) => &[Answer::Ignore, Answer::Failure],
            (None, Who::Rightful) if self.is_conditional => ANY,
            (None, Who::Stranger) if self.proves_nothing => ANY,
            (Some(Answer::Success), _) => &[Answer::Success],
            (Some(Answer::Denied), _) => &[Answer::Denied],
            (None, Who::Rightful) if !is_root => &[Answer::Success],
            (Some(Answer::Failure) | None, _) => &[Answer::Failure],
        }
    }
}
