//! `password_policy`: what passwords must be like, how long they last, and when an account is locked.

use schemars::JsonSchema;
use serde::Deserialize;

use super::edit::{Found, Lines};
use super::edited::EditedFile;
use super::fields::{AbsolutePath, State};
use super::password_settings::{Faillock, LoginDefs, Pwhistory, Pwquality, Setting, Value, settings};
use super::{Claim, Context, Fields, Resource};
use crate::error::Problem;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// What passwords must be like, how often they change, and when an account is locked.
///
/// Settings have the names of the files that they are in: `pwquality.conf`, `faillock.conf` and `pwhistory.conf` in
/// `/etc/security`, and `/etc/login.defs`. Only those that are given change; comments, other settings and their
/// order stay.
///
/// The first three files are read by the modules of PAM of these names, and say nothing to a host whose stacks
/// do not call them: `pam_pwquality.so` in `password` (on Debian the package libpam-pwquality puts it there),
/// `pam_faillock.so` in `auth` and `account`, `pam_pwhistory.so` in `password`. Put them there with `pam` or
/// `pam_profile`. What is in `login.defs` holds for accounts and passwords that are made from then on; that of an
/// account is changed by chage(1).
///
/// ```yaml
/// - password_policy:
///     pwquality: { minlen: 15, minclass: 4, dcredit: -1, maxrepeat: 3, enforce_for_root: true }
///     faillock: { deny: 3, fail_interval: 900, unlock_time: 900 }
///     login_defs: { PASS_MAX_DAYS: 365, PASS_WARN_AGE: 7, UMASK: "027", ENCRYPT_METHOD: YESCRYPT }
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordPolicy {
    /// What a new password must be like, as pwquality.conf(5) has it.
    pwquality: Option<Pwquality>,
    /// When an account is locked after failures, as faillock.conf(5) has it.
    faillock: Option<Faillock>,
    /// Which old passwords are refused, as pwhistory.conf(5) has it, which PAM reads from 1.5.3 on: not on Debian 12.
    pwhistory: Option<Pwhistory>,
    /// How long passwords last and how they are kept, as login.defs(5) has it.
    login_defs: Option<LoginDefs>,
}

/// A file of settings.
#[derive(Debug)]
struct File {
    path: AbsolutePath,
    /// How a setting is written.
    style: Style,
    /// What to do where the file is missing.
    help: &'static str,
    settings: Vec<Setting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `key = value`.
    Equals,
    /// `KEY value`.
    Blank,
}

#[derive(Debug)]
struct Resolved {
    files: Vec<File>,
}

impl Fields for PasswordPolicy {
    const KIND: &'static str = "password_policy";

    fn build(self, _context: &Context<'_>) -> Result<Box<dyn Resource>, Problem> {
        let mut files = Vec::new();
        let mut add = |path: &str, style, help, settings: Option<Vec<Setting>>| {
            if let Some(settings) = settings {
                files.push(File { path: AbsolutePath::of(path), style, help, settings });
            }
        };
        let quality = "put a `package: { name: libpam-pwquality }` before it";
        let history =
            "PAM reads it from 1.5.3 on; give `remember=24` as an argument of `pam_pwhistory.so` with `pam`";
        let package = "put the `package` that brings it before";
        add(
            "/etc/security/pwquality.conf",
            Style::Equals,
            quality,
            self.pwquality.map(settings).transpose()?,
        );
        add("/etc/security/faillock.conf", Style::Equals, package, self.faillock.map(settings).transpose()?);
        add(
            "/etc/security/pwhistory.conf",
            Style::Equals,
            history,
            self.pwhistory.map(settings).transpose()?,
        );
        add("/etc/login.defs", Style::Blank, package, self.login_defs.map(settings).transpose()?);
        if files.is_empty() || files.iter().any(|file| file.settings.is_empty()) {
            return Err(Problem::new(
                "a `password_policy` has settings of at least one file, and of each that it names",
            ));
        }
        Ok(Box::new(Resolved { files }))
    }
}

impl Resource for Resolved {
    fn subject(&self) -> String {
        let paths: Vec<String> = self.files.iter().map(|file| file.path.to_string()).collect();
        paths.join(", ")
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |file: &File, setting: &Setting| Claim::Key {
            path: file.path.as_path().to_owned(),
            keys: vec![setting.key.clone()],
        };
        self.files
            .iter()
            .flat_map(|file| file.settings.iter().map(move |setting| claim(file, setting)))
            .collect()
    }

    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let plans = self.files.iter().map(|file| file.plan(facts));
        Ok(plans.collect::<Result<Vec<_>, _>>()?.concat())
    }
}

impl File {
    fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if facts.entry(self.path.as_path())?.known()?.is_none() {
            return Err(PlanError::impossible_but(
                format!("`{}` does not exist, so nothing reads it", self.path),
                self.help,
            ));
        }
        let file =
            EditedFile { path: self.path.clone(), create: false, validate: None, state: State::Present };
        file.plan(facts, |before| {
            Ok(self.settings.iter().fold(before.to_owned(), |text, setting| self.edit(&text, setting)))
        })
    }

    /// The text with one line for a setting, or with none.
    fn edit(&self, before: &str, setting: &Setting) -> String {
        let key = setting.key.as_str();
        let wanted = match (&setting.value, self.style) {
            (Value::Is(value), Style::Equals) => Some(format!("{key} = {value}")),
            (Value::Is(value), Style::Blank) => Some(format!("{key}\t{value}")),
            (Value::Flag(true), _) => Some(key.to_owned()),
            (Value::Flag(false), _) => None,
        };
        let find = |line: &str| match (self.value(line, key), &setting.value) {
            (None, _) => Found::Other,
            (Some(there), Value::Is(value)) if there == value => Found::AsWanted,
            (Some(""), Value::Flag(true)) => Found::AsWanted,
            (Some(_), _) => Found::Differs,
        };
        let mut lines = Lines::of(before);
        let there = lines.keep_one(wanted.as_deref(), find);
        if let Some(wanted) = wanted.filter(|_| !there) {
            // Below the comment that shows what it is if it is not set, as the files of the packages have it.
            let shows = |line: &String| {
                line.strip_prefix('#')
                    .is_some_and(|line| self.style == Style::Equals && self.value(line, key).is_some())
            };
            let place = lines.all().iter().position(shows).map(|at| at + 1);
            lines.insert(place, &wanted);
        }
        lines.text()
    }

    /// The value of a key in a line, if the line sets it.
    fn value<'a>(&self, line: &'a str, key: &str) -> Option<&'a str> {
        let rest = line.trim().strip_prefix(key)?;
        let value = rest.trim_start();
        match self.style {
            Style::Equals => match value.strip_prefix('=') {
                Some(value) => Some(value.trim_start()),
                None => value.is_empty().then_some(value),
            },
            Style::Blank => (value.is_empty() || value.len() < rest.len()).then_some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::system::fake::Fake;
    use crate::testing::Example;

    const PWQUALITY: &str = "# Configuration for systemwide password quality limits
#
# Minimum acceptable size for the new password (plus one if
# credits are not disabled). See minlen in the manual.
# minlen = 8
#
# dcredit = 0
 ucredit=1
maxrepeat = 3
local_users_only
enforce_for_root = yes
";
    const DEFS: &str = "#
#\tPASS_MAX_DAYS\tMaximum number of days a password may be used.
PASS_MAX_DAYS\t99999
PASS_MIN_DAYS\t0
UMASK\t\t022
PASS_MAX_DAYS 5
";

    fn debian() -> Fake {
        let mut fake = Fake::debian();
        fake.directory("/etc/security");
        fake.file("/etc/security/pwquality.conf", PWQUALITY);
        fake.file("/etc/security/faillock.conf", "# audit\n# deny = 3\n# unlock_time = 600\n");
        fake.file("/etc/security/pwhistory.conf", "# remember = 10");
        fake.file("/etc/login.defs", DEFS);
        fake
    }

    fn policy(fields: &str) -> Example {
        Example::resources(&format!("- password_policy: {{ {fields} }}"))
    }

    #[test]
    fn settles_with_what_is_given_and_the_rest_as_it_was() {
        let mut fake = debian();
        let all = "pwquality: { minlen: 15, dcredit: -1, ucredit: -1, maxrepeat: 3, dictcheck: true, badwords: a b, enforce_for_root: true, local_users_only: false }, \
                   faillock: { deny: 3, unlock_time: 900, even_deny_root: true, audit: true }, pwhistory: { remember: 24 }, \
                   login_defs: { PASS_MAX_DAYS: 365, UMASK: '027', ENCRYPT_METHOD: YESCRYPT, LOG_OK_LOGINS: true, FAILLOG_ENAB: false }";
        insta::assert_snapshot!(policy(all).settles(&mut fake), @r"
        example: password_policy /etc/security/pwquality.conf, /etc/security/faillock.conf, /etc/security/pwhistory.conf, /etc/login.defs
          ~ change /etc/security/pwquality.conf
              --- /etc/security/pwquality.conf
              +++ /etc/security/pwquality.conf
              @@ -3,9 +3,12 @@
               # Minimum acceptable size for the new password (plus one if
               # credits are not disabled). See minlen in the manual.
               # minlen = 8
              +minlen = 15
               #
               # dcredit = 0
              - ucredit=1
              +dcredit = -1
              +ucredit = -1
               maxrepeat = 3
              -local_users_only
              -enforce_for_root = yes
              +enforce_for_root
              +dictcheck = 1
              +badwords = a b
          ~ change /etc/security/faillock.conf
              --- /etc/security/faillock.conf
              +++ /etc/security/faillock.conf
              @@ -1,3 +1,7 @@
               # audit
              +audit
               # deny = 3
              +deny = 3
               # unlock_time = 600
              +unlock_time = 900
              +even_deny_root
          ~ change /etc/security/pwhistory.conf
              --- /etc/security/pwhistory.conf
              +++ /etc/security/pwhistory.conf
              @@ -1 +1,2 @@
              -# remember = 10
              \ No newline at end of file
              +# remember = 10
              +remember = 24
          ~ change /etc/login.defs
              --- /etc/login.defs
              +++ /etc/login.defs
              @@ -1,6 +1,8 @@
               #
               #	PASS_MAX_DAYS	Maximum number of days a password may be used.
              -PASS_MAX_DAYS	99999
              +PASS_MAX_DAYS	365
               PASS_MIN_DAYS	0
              -UMASK		022
              -PASS_MAX_DAYS 5
              +UMASK	027
              +ENCRYPT_METHOD	YESCRYPT
              +FAILLOG_ENAB	no
              +LOG_OK_LOGINS	yes
        Plan: 1 to change, 0 unchanged.
        ");
    }

    #[test]
    fn a_file_that_is_not_there_is_read_by_nothing() {
        let mut fake = Fake::debian();
        insta::assert_snapshot!(policy("pwquality: { minlen: 15 }").fails(&mut fake), @"example: password_policy /etc/security/pwquality.conf: `/etc/security/pwquality.conf` does not exist, so nothing reads it; put a `package: { name: libpam-pwquality }` before it");
        insta::assert_snapshot!(policy("faillock: { deny: 3 }").fails(&mut fake), @"example: password_policy /etc/security/faillock.conf: `/etc/security/faillock.conf` does not exist, so nothing reads it; put the `package` that brings it before");
        insta::assert_snapshot!(policy("pwhistory: { remember: 5 }").fails(&mut fake), @"example: password_policy /etc/security/pwhistory.conf: `/etc/security/pwhistory.conf` does not exist, so nothing reads it; PAM reads it from 1.5.3 on; give `remember=24` as an argument of `pam_pwhistory.so` with `pam`");
        let brought =
            "- package: { name: libpam-pwquality }\n- password_policy: { pwquality: { minlen: 15 } }";
        insta::assert_snapshot!(Example::resources(brought).plan(&fake).expect("a plan"), @"
        example: package libpam-pwquality
          + install libpam-pwquality
        example: password_policy /etc/security/pwquality.conf (assumed)
          ? known after apply: whether installing libpam-pwquality brings it
        Plan: 1 to change, 1 known after apply, 0 unchanged.
        Of these 1 observed, 0 derived, 1 assumed.
        ");
    }

    #[test]
    fn wrong_fields_are_explained() {
        insta::assert_snapshot!(Example::resources("- password_policy: {}").problems(), @"example/recipe.yaml:2:22: a `password_policy` has settings of at least one file, and of each that it names");
        insta::assert_snapshot!(policy("faillock: {}").problems(), @"example/recipe.yaml:2:22: a `password_policy` has settings of at least one file, and of each that it names");
        insta::assert_snapshot!(policy("pwquality: { minlen: 5 }").problems(), @"example/recipe.yaml:2:22: `minlen` is 5, which is not from 6 to 512");
        insta::assert_snapshot!(policy("pwquality: { minlenght: 15 }").problems(), @"example/recipe.yaml:2:37: unknown field `minlenght` in `password_policy`; valid are `minlen`, `difok`, `dcredit`, `ucredit`, `lcredit`, `ocredit`, `minclass`, `maxrepeat`, `maxsequence`, `maxclassrepeat`, `gecoscheck`, `dictcheck`, `usercheck`, `usersubstr`, `enforcing`, `badwords`, `dictpath`, `retry`, `enforce_for_root` and `local_users_only`");
        insta::assert_snapshot!(policy("pwquality: { minlen: '15' }").problems(), @"example/recipe.yaml:2:45: expected a whole number, found the string `15`");
        insta::assert_snapshot!(policy("pwquality: { dictpath: words }").problems(), @"example/recipe.yaml:2:22: `words` is not valid for `dictpath`, which is an absolute path");
        insta::assert_snapshot!(policy("pwquality: { badwords: \"a\\nb\" }").problems(), @r"example/recipe.yaml:2:22: `a\nb` is not valid for `badwords`, which is words with blanks between");
        insta::assert_snapshot!(policy("faillock: { admin_group: 'a b' }").problems(), @"example/recipe.yaml:2:22: `a b` is not valid for `admin_group`, which is the name of a group");
        insta::assert_snapshot!(policy("login_defs: { UMASK: '9' }").problems(), @r#"example/recipe.yaml:2:22: `9` is not valid for `UMASK`, which is octal digits such as "027""#);
        insta::assert_snapshot!(policy("login_defs: { HOME_MODE: '9' }").problems(), @r#"example/recipe.yaml:2:22: `9` is not valid for `HOME_MODE`, which is octal digits such as "0700""#);
        insta::assert_snapshot!(policy("login_defs: { ENCRYPT_METHOD: MD5 }").problems(), @"example/recipe.yaml:2:22: `MD5` is not valid for `ENCRYPT_METHOD`, which is `YESCRYPT`, `SHA512`, `SHA256` or `BCRYPT`");
        insta::assert_snapshot!(Example::resources("- password_policy: { faillock: { deny: 3 } }\n- password_policy: { faillock: { deny: 4 } }\n- ini: { path: /etc/security/faillock.conf, key: deny, value: 5 }").problems(), @"
        example/recipe.yaml:3:5: the key `deny` of `/etc/security/faillock.conf` is decided twice, differently (first here: example/recipe.yaml:2:5)
        example/recipe.yaml:4:5: the key `deny` of `/etc/security/faillock.conf` is decided twice, differently (first here: example/recipe.yaml:2:5)
        ");
    }
}
