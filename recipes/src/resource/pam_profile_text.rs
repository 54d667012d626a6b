//! The files that pam-auth-update reads and writes: profiles, what it made of them, and its part of a stack.

use super::pam_text::{Line, What, is_module, read};

/// The stacks that it makes, by the names of their files.
pub(super) const STACKS: [&str; 5] = ["auth", "account", "password", "session", "session-noninteractive"];

/// A profile: its fields, of which those of a stack have lines.
#[derive(Debug)]
pub(super) struct Profile(Vec<(String, String)>);

impl Profile {
    pub(super) fn parse(text: &str) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let field = line.split_once(':').filter(|(name, rest)| {
                !name.is_empty() && !name.contains(char::is_whitespace) && rest.starts_with([' ', '\t'])
                    || rest.is_empty() && !name.contains(char::is_whitespace)
            });
            match (field, fields.last_mut()) {
                (Some((name, value)), _) => {
                    // What the first profiles called `Auth-Final` is `Auth`.
                    let name = name.strip_suffix("-Final").unwrap_or(name);
                    fields.push((name.to_owned(), value.trim().to_owned()));
                }
                (None, Some((_, value))) => {
                    let longer = format!("{value}\n{}", line.trim());
                    longer.trim().clone_into(value);
                }
                (None, None) => {}
            }
        }
        Self(fields)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// What may be saved for it in a stack: its lines, or those that it has as the first of a stack; nothing if it
    /// is not about that.
    pub(super) fn lines(&self, stack: &str) -> Vec<&str> {
        if stack == "session-noninteractive" && self.field("Session-Interactive-Only").is_some() {
            return Vec::new();
        }
        let stack = stack.strip_suffix("-noninteractive").unwrap_or(stack);
        let (first, rest) = stack.split_at(1);
        let name = format!("{}{rest}", first.to_ascii_uppercase());
        if self.field(&format!("{name}-Type")).is_none() {
            return Vec::new();
        }
        let initial = self.field(&format!("{name}-Initial"));
        self.field(&name).into_iter().chain(initial).filter(|lines| !lines.is_empty()).collect()
    }

    /// The modules that it names.
    pub(super) fn modules(&self) -> Vec<&str> {
        let lines = STACKS.iter().flat_map(|stack| self.lines(stack)).flat_map(str::lines);
        let words = lines.filter_map(|line| {
            let behind = if line.starts_with('[') {
                line.split_once(']')?.1
            } else {
                line.split_once(char::is_whitespace)?.1
            };
            behind.split_whitespace().next()
        });
        words.filter(|word| is_module(word)).collect()
    }
}

/// What pam-auth-update made of a stack: profiles, each with its lines.
#[derive(Debug)]
pub(super) struct Saved(Vec<(String, Vec<String>)>);

pub(super) fn saved(text: &str) -> Saved {
    let mut profiles: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("Module: "), profiles.last_mut()) {
            (Some(name), _) => profiles.push((name.to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    Saved(profiles)
}

impl Saved {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Whether a profile is there with one of these texts; with none, whether it is not there.
    pub(super) fn is_as(&self, name: &str, texts: &[&str]) -> bool {
        let normal = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_text =
            |lines: &[String], text: &str| lines.iter().map(|line| normal(line)).eq(text.lines().map(normal));
        let mut there = self.0.iter().filter(|(other, _)| other == name).peekable();
        if there.peek().is_none() {
            return texts.is_empty();
        }
        there.all(|(_, lines)| texts.iter().any(|text| is_text(lines, text)))
    }
}

/// Whether the part of a file that pam-auth-update makes has the lines that it made, if with other arguments; only
/// then does it change the file.
pub(super) fn is_as_saved(lines: &[String], stack: &str, saved: &Saved) -> bool {
    let starts = |prefix: &str| lines.iter().position(|line| line.starts_with(prefix));
    let marks = [
        "# here are the per-package modules (the \"Primary\" block)",
        "# here's the fallback if no module succeeds",
        "# and here are more per-package modules (the \"Additional\" block)",
        "# end of pam-auth-update config",
    ];
    let [Some(primary), Some(fallback), Some(additional), Some(end)] = marks.map(starts) else {
        return false;
    };
    let task = stack.strip_suffix("-noninteractive").unwrap_or(stack);
    let made = saved.0.iter().flat_map(|(_, lines)| lines).map(|line| format!("{task} {line}\n"));
    let made: Vec<String> = made.collect();
    let mut made = read(&made).into_iter().filter_map(what_it_is);
    // A line that was made may be gone: that is kept, too. A comment between the others is a line that was added.
    (primary + 1..fallback).chain(additional + 1..end).all(|at| {
        let current = read(&lines[at..=at]).pop().and_then(what_it_is);
        current.is_some_and(|current| made.any(|made| made == current))
    })
}

/// Control and module, without how far it jumps.
fn what_it_is(line: Line) -> Option<(String, String)> {
    let What::Rule(rule) = line.what else { return None };
    let control: String =
        rule.control.chars().filter(|c| !c.is_ascii_digit() && !c.is_whitespace()).collect();
    Some((control.replace("=end", "="), rule.module))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::edited::lines_of;

    const UNIX: &str = "Name: Unix authentication
Default: yes
Priority: 256
Auth-Type: Primary
Auth-Final:
\t[success=end default=ignore]\tpam_unix.so nullok try_first_pass
Auth-Initial:
\t[success=end default=ignore]\tpam_unix.so nullok
Session-Type: Additional
Session-Interactive-Only: yes
Session:
\trequired\tpam_unix.so
\toptional\tpam_a.so x
";

    #[test]
    fn a_profile_has_lines_for_the_stacks_that_it_is_about() {
        let profile = Profile::parse(UNIX);
        let auth = [
            "[success=end default=ignore]\tpam_unix.so nullok try_first_pass",
            "[success=end default=ignore]\tpam_unix.so nullok",
        ];
        assert_eq!(profile.lines("auth"), auth);
        assert_eq!(profile.lines("session"), ["required\tpam_unix.so\noptional\tpam_a.so x"]);
        assert!(profile.lines("session-noninteractive").is_empty() && profile.lines("password").is_empty());
        assert_eq!(profile.modules(), ["pam_unix.so", "pam_unix.so", "pam_unix.so", "pam_a.so"]);
    }

    #[test]
    fn what_was_made_is_compared_with_the_profile() {
        let saved = saved(
            "Module: unix\n[success=end default=ignore]\tpam_unix.so nullok\nModule: b\noptional pam_b.so\n",
        );
        let profile = Profile::parse(UNIX);
        assert!(saved.is_as("unix", &profile.lines("auth")) && saved.has("b"));
        assert!(!saved.is_as("unix", &profile.lines("session")) && !saved.is_as("b", &[]));
        assert!(saved.is_as("c", &[]) && !saved.is_as("c", &["optional pam_b.so"]));
    }

    #[test]
    fn only_lines_between_its_own_stop_it() {
        let made = saved(
            "Module: unix\n[success=end default=ignore]\tpam_unix.so nullok\nModule: a\noptional pam_cap.so\n",
        );
        let file = "# Above.
auth required pam_env.so
# here are the per-package modules (the \"Primary\" block)
auth\t[success=1 default=ignore]\tpam_unix.so other
# here's the fallback if no module succeeds
auth\trequisite\t\t\tpam_deny.so
# and here are more per-package modules (the \"Additional\" block)
auth\toptional\t\t\tpam_cap.so
# end of pam-auth-update config
auth optional pam_group.so
";
        let is = |text: &str| is_as_saved(&lines_of(text), "auth", &made);
        assert!(is(file) && is(&file.replace("auth\toptional\t\t\tpam_cap.so\n", "")));
        assert!(!is(&file.replace("# here's", "auth optional pam_a.so\n# here's")));
        assert!(!is(&file.replace("# here's", "# Why.\n# here's")));
        assert!(!is(&file.replace("# end", "# the end")));
    }
}
