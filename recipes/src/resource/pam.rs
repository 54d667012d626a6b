//! `pam`: who is let in, and what is asked of them, by the modules of PAM.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::edited::{EditedFile, lines_of};
use super::fields::{AbsolutePath, State};
use super::pam_files::{FOLDER, module_is_there, text};
use super::pam_rule::{RuleFields, Wanted};
use super::pam_stack::{Stack, Text};
use super::pam_text::Task;
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, Known, PlanError};

/// Lines of a file of PAM in `/etc/pam.d`, which something else owns.
///
/// A line is found by its task (`type`), its module, and, where there are several of that module, one of
/// their arguments (`having`). Other lines, comments and the order of lines stay. A line that is there moves only if
/// it is on the wrong side of the one that `before` or `after` names.
///
/// All lines of one resource change together, and what would lock people out is refused before anything changes:
/// a module that is not on the host, a file without lines for a task that had some, a jump past the end, a stack
/// in which nobody gets through who does everything right, and one that lets in whoever can prove nothing. The
/// stacks of all services that include the file are looked at as well. Jumps such as `success=1` count lines, so
/// put a line and the jumps over it into one resource. Only `other` may deny everybody: it is for services
/// without a file; for a service that nobody shall use write its whole file with `file`.
///
/// On Debian the `common-` files are made by pam-auth-update, which stops to change them when there are other lines
/// between its own. To stay with it, write a profile with `file` and use `pam_profile`; arguments that change
/// are kept by it. What `pam_pwquality`, `pam_faillock` and `pam_pwhistory` demand is set with `password_policy`.
///
/// ```yaml
/// - pam:
///     file: su                          # only members of a group may use su
///     rules:
///       - type: auth
///         control: required
///         module: pam_wheel.so
///         arguments: [use_uid, group=sugroup]
///         before: "@include common-auth"
/// - pam:
///     file: common-auth                 # lock an account after failures
///     rules:
///       - { type: auth, control: required, module: pam_faillock.so, having: preauth, before: pam_unix.so }
///       - { type: auth, module: pam_unix.so, control: "[success=1 default=ignore]", remove_arguments: [nullok] }
///       - { type: auth, control: "[default=die]", module: pam_faillock.so, having: authfail, after: pam_unix.so }
///       - { type: auth, control: sufficient, module: pam_faillock.so, having: authsucc, after: pam_faillock.so authfail }
/// - pam: { file: login, rules: [ { type: session, module: pam_lastlog.so, state: absent } ] }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pam {
    /// The name of the file, which is that of the service, such as `su` or `common-auth`.
    file: String,
    /// The lines.
    rules: Vec<RuleFields>,
}

#[derive(Debug)]
struct Resolved {
    name: String,
    file: EditedFile,
    rules: Vec<Wanted>,
}

impl Fields for Pam {
    const KIND: &'static str = "pam";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if self.file.is_empty() || self.file.starts_with('.') || !self.file.chars().all(is_part) {
            return Err(Problem::new(format!(
                "`{}` is not the name of a file of PAM",
                self.file.escape_debug()
            ))
            .help("it is the name in `/etc/pam.d`, such as `su` or `common-auth`"));
        }
        if self.rules.is_empty() {
            return Err(Problem::new("a `pam` needs `rules`"));
        }
        let rules: Vec<Wanted> = self.rules.into_iter().map(RuleFields::check).collect::<Result<_, _>>()?;
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.name() == rule.name()) {
                return Err(Problem::new(format!(
                    "the line `{}` is decided by two of the `rules`",
                    rule.name()
                ))
                .help("tell the lines of a module apart with `having`"));
            }
        }
        let any_present = rules.iter().any(Wanted::is_present);
        let file = EditedFile {
            path: AbsolutePath::of(&format!("{FOLDER}/{}", self.file)),
            create: false,
            validate: None,
            state: if any_present { State::Present } else { State::Absent },
        };
        Ok(Box::new(Resolved { name: self.file, file, rules }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        self.file.path.to_string()
    }

    fn claims(&self) -> Vec<Claim> {
        let path = self.file.path.as_path();
        self.rules.iter().map(|rule| Claim::Line { path: path.to_owned(), line: rule.name() }).collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let path = self.file.path.as_path();
        if self.file.state == State::Present && facts.entry(path)?.known()?.is_none() {
            return Err(PlanError::impossible_but(
                format!("`{}` does not exist, so it has no lines to add to", self.file.path),
                "put the `package` that brings it before, or write the whole file with `file`",
            ));
        }
        self.file.plan(facts, |before| {
            let modules = self.rules.iter().filter_map(Wanted::module);
            modules.into_iter().try_for_each(|module| module_is_there(facts, module))?;
            let mut lines = lines_of(before);
            let path = self.file.path.to_string();
            self.rules.iter().try_for_each(|rule| rule.edit(&mut lines, &path))?;
            let after = lines.concat();
            if after != before {
                self.is_safe(facts, before, &after)?;
            }
            Ok(after)
        })
    }
}

impl Resolved {
    /// That no stack which the file is part of locks out whom it let in, or lets in whom it kept out.
    fn is_safe(&self, facts: &dyn Facts, before: &str, after: &str) -> Result<(), PlanError> {
        let mut names = match facts.names(self.folder())? {
            Known::Yes(names) => names,
            Known::Unknown(_) => Vec::new(),
        };
        names.retain(|name| *name != self.name);
        names.insert(0, self.name.clone());
        let mut texts = BTreeMap::new();
        for name in &names {
            texts.insert(name.clone(), text(facts, name)?);
        }
        let look = |ours: &str, name: &str| match texts.get(name) {
            _ if name == self.name => Text::Is(ours.to_owned()),
            Some(Text::Is(text)) => Text::Is(text.clone()),
            Some(Text::Missing) => Text::Missing,
            Some(Text::Unknown) => Text::Unknown,
            // It is where packages have theirs, or in no folder of PAM.
            None => text(facts, name).unwrap_or(Text::Unknown),
        };
        let tasks = Task::ALL.into_iter().filter(|task| self.rules.iter().any(|rule| rule.task() == *task));
        for task in tasks {
            for name in &names {
                let after = Stack::of(name, task, &|name| look(after, name));
                if *name != self.name && !after.includes.contains(&self.name) {
                    continue;
                }
                let before = Stack::of(name, task, &|name| look(before, name));
                compare(&format!("{FOLDER}/{name}"), task, &before, &after, name == "other")?;
            }
        }
        Ok(())
    }

    fn folder(&self) -> &std::path::Path {
        self.file.path.as_path().parent().unwrap_or(self.file.path.as_path())
    }
}

/// Whether a stack is not worse than it was.
fn compare(path: &str, task: Task, before: &Stack, after: &Stack, may_deny: bool) -> Result<(), PlanError> {
    let together = "jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`";
    if after.is_empty() && !before.is_empty() {
        return Err(PlanError::impossible_but(
            format!("`{path}` would have no line for `{task}`"),
            "PAM would then ask the modules of `other`",
        ));
    }
    if let Some(line) = after.jump_past_the_end().filter(|_| before.jump_past_the_end().is_none()) {
        let message = format!("`{line}` would jump past the end of `{path}`, where PAM fails");
        return Err(PlanError::impossible_but(message, together));
    }
    if before.lets_in() && !after.lets_in() && !may_deny {
        let message =
            format!("`{path}` would let nobody in: no way through its lines for `{task}` ends in success");
        return Err(PlanError::impossible_but(message, together));
    }
    if task == Task::Auth && after.is_open() && !before.is_open() {
        let message = format!(
            "`{path}` would let everybody in: its lines for `auth` end in success when nothing is proved"
        );
        return Err(PlanError::impossible_but(message, together));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const AUTH: &str = "# Managed.

# here are the per-package modules (the \"Primary\" block)
auth\t[success=1 default=ignore]\tpam_unix.so nullok # why
# here's the fallback if no module succeeds
auth\trequisite\t\t\tpam_deny.so
auth\trequired\t\t\tpam_permit.so
# and here are more per-package modules (the \"Additional\" block)
auth\toptional\t\t\tpam_cap.so
# end of pam-auth-update config
";
    const SU: &str = "auth       sufficient pam_rootok.so
# auth       required   pam_wheel.so
session       required   pam_env.so readenv=1
session       required   pam_env.so readenv=1 envfile=/etc/default/locale
@include common-auth
";

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        let modules = [
            "unix",
            "deny",
            "permit",
            "cap",
            "faillock",
            "wheel",
            "rootok",
            "env",
            "umask",
            "pwquality",
            "pwhistory",
        ];
        for module in modules {
            fake.file(&format!("/usr/lib/x86_64-linux-gnu/security/pam_{module}.so"), "");
        }
        fake.directory("/etc/pam.d");
        fake.file("/etc/pam.d/common-auth", AUTH);
        fake.file("/etc/pam.d/su", SU);
        fake.file("/etc/pam.d/other", "@include common-auth\n");
        fake
    }

    fn pam(file: &str, rules: &str) -> Example {
        Example::resources(&format!("- pam: {{ file: {file}, rules: [{rules}] }}"))
    }

    fn edited(file: &str, rules: &str) -> String {
        let mut fake = debian();
        pam(file, rules).settles(&mut fake);
        fake.text(&format!("/etc/pam.d/{file}")).expect("the file")
    }

    fn refused(file: &str, rules: &str) -> String {
        pam(file, rules).fails(&mut debian())
    }

    const FAILLOCK: &str = "
{ type: auth, control: required, module: pam_faillock.so, having: preauth, add_arguments: [silent], before: pam_unix.so },
{ type: auth, module: pam_unix.so, remove_arguments: [nullok] },
{ type: auth, control: '[default=die]', module: pam_faillock.so, having: authfail, after: pam_unix.so },
{ type: auth, control: sufficient, module: pam_faillock.so, having: authsucc, after: pam_faillock.so authfail }";

    #[test]
    fn settles_with_all_lines_that_lock_an_account_at_once() {
        let mut fake = debian();
        insta::assert_snapshot!(pam("common-auth", &FAILLOCK.replace('\n', " ")).settles(&mut fake), @r#"
        example: pam /etc/pam.d/common-auth
          ~ change /etc/pam.d/common-auth
              --- /etc/pam.d/common-auth
              +++ /etc/pam.d/common-auth
              @@ -1,7 +1,10 @@
               # Managed.
               
               # here are the per-package modules (the "Primary" block)
              -auth	[success=1 default=ignore]	pam_unix.so nullok # why
              +auth	required	pam_faillock.so preauth silent
              +auth	[success=1 default=ignore]	pam_unix.so # why
              +auth	[default=die]	pam_faillock.so authfail
              +auth	sufficient	pam_faillock.so authsucc
               # here's the fallback if no module succeeds
               auth	requisite			pam_deny.so
               auth	required			pam_permit.so
        Plan: 1 to change, 0 unchanged.
        "#);
    }

    #[test]
    fn only_members_of_a_group_may_use_su() {
        let wheel = "{ type: auth, control: required, module: pam_wheel.so, arguments: [use_uid, group=sugroup], before: '@include common-auth' }";
        assert_eq!(
            edited("su", wheel),
            SU.replace("@include", "auth\trequired\tpam_wheel.so use_uid group=sugroup\n@include")
        );
    }

    #[test]
    fn arguments_are_set_added_and_removed_and_the_spacing_stays() {
        let unix = |fields: &str| {
            let text = edited("common-auth", &format!("{{ type: auth, module: pam_unix.so, {fields} }}"));
            text.lines().nth(3).expect("the line").to_owned()
        };
        let line =
            |arguments: &str| format!("auth\t[success=1 default=ignore]\tpam_unix.so {arguments}# why");
        assert_eq!(unix("arguments: []"), line(""));
        assert_eq!(unix("arguments: [yescrypt, rounds=11]"), line("yescrypt rounds=11 "));
        assert_eq!(unix("add_arguments: [nullok, a=1]"), line("nullok a=1 "));
        assert_eq!(unix("remove_arguments: [nullok, b=], add_arguments: [c d]"), line("[c d] "));
        assert_eq!(unix("control: '[success=1 default=bad]'"), line("nullok ").replace("ignore", "bad"));
        assert_eq!(unix("control: '[success=1  DEFAULT=ignore]'"), line("nullok "), "it says the same");
        assert_eq!(unix("optional: true"), format!("-{}", line("nullok ")));
        let env = "{ type: session, module: pam_env.so, having: envfile=/etc/default/locale, remove_arguments: [readenv=] }";
        assert_eq!(edited("su", env), SU.replace("readenv=1 envfile", "envfile"));
    }

    #[test]
    fn a_line_goes_where_it_is_told_and_moves_if_it_is_on_the_wrong_side() {
        let umask = "{ type: session, control: optional, module: pam_umask.so";
        assert_eq!(edited("su", &format!("{umask} }}")), format!("{SU}session\toptional\tpam_umask.so\n"));
        assert_eq!(
            edited("su", &format!("{umask}, after: pam_env.so readenv=1 }}")),
            SU.replace("@include", "session\toptional\tpam_umask.so\n@include")
        );
        let moved = "{ type: auth, module: pam_cap.so, before: pam_deny.so }";
        let without = AUTH.replace("auth\toptional\t\t\tpam_cap.so\n", "");
        let expected = without.replace("auth\trequisite", "auth\toptional\t\t\tpam_cap.so\nauth\trequisite");
        // It would be where the jump goes to.
        insta::assert_snapshot!(refused("common-auth", moved), @"example: pam /etc/pam.d/common-auth: `/etc/pam.d/common-auth` would let nobody in: no way through its lines for `auth` ends in success; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
        let both =
            format!("{moved}, {{ type: auth, module: pam_unix.so, control: '[success=2 default=ignore]' }}");
        assert_eq!(edited("common-auth", &both), expected.replace("success=1", "success=2"));
        let stays = "{ type: auth, module: pam_cap.so, after: pam_unix.so }";
        assert_eq!(edited("common-auth", stays), AUTH);
    }

    #[test]
    fn lines_go() {
        let env = "{ type: session, module: pam_env.so, having: envfile=/etc/default/locale, state: absent }";
        assert_eq!(
            edited("su", env),
            SU.replace("session       required   pam_env.so readenv=1 envfile=/etc/default/locale\n", "")
        );
        assert_eq!(edited("su", "{ type: auth, module: pam_cap.so, state: absent }"), SU, "it is not there");
        let gone = "- pam: { file: gone, rules: [ { type: auth, module: pam_cap.so, state: absent } ] }";
        Example::resources(gone).settles(&mut debian());
    }

    #[test]
    fn what_would_lock_everybody_out_is_refused() {
        let rule = |fields: &str| format!("{{ type: auth, {fields} }}");
        let deny = rule("control: requisite, module: pam_deny.so, before: pam_unix.so, having: x");
        insta::assert_snapshot!(refused("common-auth", &deny), @"example: pam /etc/pam.d/common-auth: `/etc/pam.d/common-auth` would let nobody in: no way through its lines for `auth` ends in success; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
        let counted =
            rule("control: '[default=die]', module: pam_faillock.so, having: authfail, after: pam_unix.so");
        insta::assert_snapshot!(refused("common-auth", &counted), @"example: pam /etc/pam.d/common-auth: `/etc/pam.d/common-auth` would let nobody in: no way through its lines for `auth` ends in success; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
        let far = rule("module: pam_unix.so, control: '[success=9 default=ignore]'");
        insta::assert_snapshot!(refused("common-auth", &far), @"example: pam /etc/pam.d/common-auth: `auth [success=9 default=ignore] pam_unix.so nullok` would jump past the end of `/etc/pam.d/common-auth`, where PAM fails; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
        let open = rule("module: pam_deny.so, state: absent");
        insta::assert_snapshot!(refused("common-auth", &open), @"example: pam /etc/pam.d/common-auth: `/etc/pam.d/common-auth` would let everybody in: its lines for `auth` end in success when nothing is proved; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
        let missing = rule("module: pam_none.so, control: required");
        insta::assert_snapshot!(refused("common-auth", &missing), @"example: pam /etc/pam.d/common-auth: the PAM module `pam_none.so` is not there, so its stack would fail; put the `package` that brings it before, such as `libpam-pwquality` on Debian");
        let session = "{ type: session, module: pam_env.so, having: readenv=1, state: absent }";
        insta::assert_snapshot!(refused("su", session), @"example: pam /etc/pam.d/su: `/etc/pam.d/su` would have no line for `session`; PAM would then ask the modules of `other`");
        insta::assert_snapshot!(refused("gone", &far), @"example: pam /etc/pam.d/gone: `/etc/pam.d/gone` does not exist, so it has no lines to add to; put the `package` that brings it before, or write the whole file with `file`");
        // `other` is for services without a file, and may deny everybody.
        let other = rule("module: pam_deny.so, control: required, before: '@include common-auth'");
        assert!(edited("other", &other).starts_with("auth\trequired\tpam_deny.so\n"));
        assert!(
            edited("su", &rule("module: pam_none.so, control: optional, optional: true"))
                .ends_with("-auth\toptional\tpam_none.so\n")
        );
    }

    #[test]
    fn the_services_that_include_a_file_are_looked_at() {
        let mut fake = debian();
        fake.file("/etc/pam.d/part", "auth\toptional\tpam_env.so\nauth\trequired\tpam_unix.so\n");
        let web = "auth\t[success=3 default=bad]\tpam_unix.so\nauth\tinclude\tpart\nauth\trequisite\tpam_deny.so\nauth\trequired\tpam_permit.so\n";
        fake.file("/etc/pam.d/web", web);
        let umask = "{ type: auth, control: optional, module: pam_umask.so, before: pam_unix.so }";
        insta::assert_snapshot!(pam("part", umask).fails(&mut fake), @"example: pam /etc/pam.d/part: `/etc/pam.d/web` would let nobody in: no way through its lines for `auth` ends in success; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
        fake.file("/etc/pam.d/web", &web.replace("include", "substack").replace("=3", "=2"));
        pam("part", umask).settles(&mut fake);
    }

    #[test]
    fn files_that_packages_bring_and_links_are_followed() {
        let mut fake = debian();
        fake.directory("/etc/authselect");
        fake.file("/etc/authselect/system-auth", AUTH);
        fake.symlink("/etc/pam.d/system-auth", "/etc/authselect/system-auth");
        fake.directory("/usr/lib/pam.d");
        fake.file("/usr/lib/pam.d/vendor", "auth\tinclude\tsystem-auth\n");
        fake.file("/etc/pam.d/web", "auth\tinclude\tvendor\n");
        let before = "{ type: auth, control: required, module: pam_env.so, before: vendor }";
        pam("web", before).settles(&mut fake);
        assert_eq!(
            fake.text("/etc/pam.d/web").as_deref(),
            Some("auth\trequired\tpam_env.so\nauth\tinclude\tvendor\n")
        );
        insta::assert_snapshot!(pam("system-auth", before).fails(&mut fake), @"example: pam /etc/pam.d/system-auth: `/etc/pam.d/system-auth` is a symbolic link, not a file");
        insta::assert_snapshot!(pam("web", "{ type: auth, control: required, module: pam_deny.so }").fails(&mut fake), @"example: pam /etc/pam.d/web: `/etc/pam.d/web` would let nobody in: no way through its lines for `auth` ends in success; jumps such as `success=1` count the lines below them; give all lines that belong together in one `pam`");
    }

    #[test]
    fn what_a_package_may_bring_is_not_known() {
        let example = Example::resources(
            "- package: { name: libpam-pwquality }\n- pam: { file: su, rules: [ { type: password, control: requisite, module: pam_none.so } ] }",
        );
        insta::assert_snapshot!(example.plan(&debian()).expect("a plan"), @"
        example: package libpam-pwquality
          + install libpam-pwquality
        example: pam /etc/pam.d/su (assumed)
          ? known after apply: whether installing libpam-pwquality brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn what_is_not_clear_is_an_error() {
        insta::assert_snapshot!(refused("su", "{ type: session, module: pam_env.so, control: optional }"), @"example: pam /etc/pam.d/su: `session pam_env.so` is in `/etc/pam.d/su` more than once, in the lines 3 and 4; say which is meant with `having`, an argument that only it has");
        insta::assert_snapshot!(refused("su", "{ type: session, module: pam_umask.so, add_arguments: [a] }"), @"example: pam /etc/pam.d/su: `session pam_umask.so` is not in `/etc/pam.d/su`; a line that is to be added needs its `control`");
        insta::assert_snapshot!(refused("su", "{ type: session, module: pam_umask.so, control: optional, before: pam_unix.so }"), @"example: pam /etc/pam.d/su: `/etc/pam.d/su` has no line `pam_unix.so` for `session`, which `session pam_umask.so` is placed by; name a line in `before` or `after` that is there");
        let mut fake = debian();
        fake.file("/etc/pam.d/su", "session required pam_env.so \\");
        insta::assert_snapshot!(pam("su", "{ type: session, module: pam_umask.so, control: optional }").fails(&mut fake), @r"example: pam /etc/pam.d/su: `/etc/pam.d/su` ends with `\`, so a line behind it would be part of that one");
    }

    #[test]
    fn wrong_fields_are_explained() {
        let problems = |file: &str, rule: &str| pam(file, rule).problems();
        let rule = |fields: &str| problems("su", &format!("{{ type: auth, module: pam_a.so, {fields} }}"));
        insta::assert_snapshot!(problems("../su", ""), @"example/recipe.yaml:2:10: `../su` is not the name of a file of PAM; it is the name in `/etc/pam.d`, such as `su` or `common-auth`");
        insta::assert_snapshot!(problems("su", ""), @"example/recipe.yaml:2:10: a `pam` needs `rules`");
        insta::assert_snapshot!(problems("su", "{ type: aut, module: pam_a.so, control: required }"), @"example/recipe.yaml:2:38: `aut` is not a valid value here; did you mean `auth`? valid are `auth`, `account`, `password` and `session`");
        insta::assert_snapshot!(problems("su", "{ type: auth, module: a b, control: required }"), @"example/recipe.yaml:2:10: `a b` is not a module of PAM; modules are such as `pam_unix.so`, or an absolute path");
        insta::assert_snapshot!(problems("su", "{ type: auth, module: pam_a, control: required }"), @"example/recipe.yaml:2:10: the name of the module `pam_a` does not end in `.so`");
        insta::assert_snapshot!(rule("control: must"), @"example/recipe.yaml:2:10: `must` is not a control of PAM; valid are `required`, `requisite`, `sufficient`, `optional`, `include` and `substack`, or pairs such as `[success=1 default=ignore]`");
        insta::assert_snapshot!(rule("control: '[success]'"), @"example/recipe.yaml:2:10: `success` is not an answer of a module with an action; pairs are such as `success=1` or `default=ignore`");
        insta::assert_snapshot!(rule("control: '[success=0]'"), @"example/recipe.yaml:2:10: `0` is not an action of PAM; it is `ignore`, `bad`, `die`, `ok`, `done`, `reset`, or how many lines are skipped");
        insta::assert_snapshot!(rule("control: '[sucess=ok]'"), @"example/recipe.yaml:2:10: `sucess` is not an answer of a module; did you mean `success`?");
        insta::assert_snapshot!(rule("arguments: ['a#b']"), @r"example/recipe.yaml:2:10: `a#b` cannot be an argument of a module; a line of PAM ends at `#`, and goes on behind a `\` at its end");
        insta::assert_snapshot!(rule("arguments: [a], add_arguments: [b]"), @"example/recipe.yaml:2:10: `arguments` are all; there are none to add or to remove");
        insta::assert_snapshot!(problems("su", "{ type: auth, control: include, module: common-auth, arguments: [a] }"), @"example/recipe.yaml:2:10: an `include` or `substack` has no arguments");
        insta::assert_snapshot!(rule("having: a, arguments: [b]"), @"example/recipe.yaml:2:10: the line would not have `a`, which it is found by; give it in `arguments`");
        insta::assert_snapshot!(rule("control: optional, before: pam_a.so, after: pam_b.so"), @"example/recipe.yaml:2:10: a line of PAM is either `before` or `after` another, not both");
        insta::assert_snapshot!(rule("control: optional, before: a b c"), @"example/recipe.yaml:2:10: `a b c` does not name a line of PAM; write a module, a module and one of its arguments, or `@include` and a file");
        insta::assert_snapshot!(rule("state: absent, control: optional"), @"example/recipe.yaml:2:10: a line of PAM that shall be absent has only `type`, `module` and `having`");
        insta::assert_snapshot!(rule("state: present"), @"example/recipe.yaml:2:10: a line of PAM needs its `control`, or what changes in it");
        insta::assert_snapshot!(problems("su", "{ type: auth, module: pam_a.so, state: absent }, { type: auth, module: pam_a.so, control: optional }"), @"example/recipe.yaml:2:10: the line `auth pam_a.so` is decided by two of the `rules`; tell the lines of a module apart with `having`");
        let twice = "- pam: { file: su, rules: [ { type: auth, module: pam_a.so, state: absent } ] }\n- pam: { file: su, rules: [ { type: auth, module: pam_a.so, control: optional } ] }\n- file: { path: /etc/pam.d/su, content: x }";
        insta::assert_snapshot!(Example::resources(twice).problems(), @"
        example/recipe.yaml:3:5: the line `auth pam_a.so` of `/etc/pam.d/su` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:2:5: the line `auth pam_a.so` of `/etc/pam.d/su` is set, but the whole file is decided elsewhere (here: example/recipe.yaml:4:5); put it where the file is decided
        ");
    }
}
