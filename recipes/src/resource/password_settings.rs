//! The settings of `password_policy`, by the files that they are in, each with what it may be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::Problem;

/// A setting as it shall be in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// This text behind the key.
    Is(String),
    /// The key alone, or no line with it.
    Flag(bool),
}

/// A setting that is a text, whether one is valid, and what that is in words.
type Text = (&'static str, fn(&str) -> bool, &'static str);

/// The settings of a file, and what they may be.
pub(super) trait OfFile: Serialize {
    /// Numbers, from and to.
    const RANGES: &'static [(&'static str, i64, i64)];
    /// What is on or off by a value: how that is written.
    const SWITCHES: &'static [&'static str] = &[];
    const ON_OFF: [&'static str; 2] = ["1", "0"];
    /// Texts.
    const TEXTS: &'static [Text] = &[];
}

/// Those that are given, in the order of the manual.
pub(super) fn settings<T: OfFile>(of: T) -> Result<Vec<Setting>, Problem> {
    let Ok(Json::Object(all)) = serde_json::to_value(of) else { return Ok(Vec::new()) };
    all.into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| Ok(Setting { value: checked::<T>(&key, &value)?, key }))
        .collect()
}

fn checked<T: OfFile>(key: &str, value: &Json) -> Result<Value, Problem> {
    match value {
        Json::Bool(on) if T::SWITCHES.contains(&key) => Ok(Value::Is(T::ON_OFF[usize::from(!on)].to_owned())),
        Json::Bool(on) => Ok(Value::Flag(*on)),
        Json::Number(number) => {
            let (_, least, most) =
                T::RANGES.iter().find(|(name, ..)| *name == key).copied().unwrap_or(("", 0, i64::MAX));
            match number.as_i64() {
                Some(number) if (least..=most).contains(&number) => Ok(Value::Is(number.to_string())),
                _ => Err(Problem::new(format!("`{key}` is {number}, which is not from {least} to {most}"))),
            }
        }
        other => {
            let text = other.as_str().unwrap_or_default();
            match T::TEXTS.iter().find(|(name, ..)| *name == key) {
                Some((_, is_valid, valid)) if !is_valid(text) => {
                    let text = text.escape_debug();
                    Err(Problem::new(format!("`{text}` is not valid for `{key}`, which is {valid}")))
                }
                _ => Ok(Value::Is(text.to_owned())),
            }
        }
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

fn are_words(text: &str) -> bool {
    !text.trim().is_empty() && text.trim() == text && !text.contains(|c: char| c.is_control() || c == '#')
}

fn is_account(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_octal(text: &str) -> bool {
    (3..=4).contains(&text.len()) && text.chars().all(|c| ('0'..='7').contains(&c))
}

/// What a new password must be like.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pwquality {
    /// How long it must be, from 6, if no credit is given.
    minlen: Option<i64>,
    /// How many characters must not be in the old one.
    difok: Option<i64>,
    /// Digits: below 0 how many it must have, above 0 how many count twice.
    dcredit: Option<i64>,
    /// Upper-case letters, in the same way.
    ucredit: Option<i64>,
    /// Lower-case letters, in the same way.
    lcredit: Option<i64>,
    /// Other characters, in the same way.
    ocredit: Option<i64>,
    /// Of how many of the four classes it must have characters.
    minclass: Option<i64>,
    /// How many times a character may be repeated; 0 for any.
    maxrepeat: Option<i64>,
    /// How long a sequence such as `12345` may be; 0 for any.
    maxsequence: Option<i64>,
    /// How many characters of one class may follow each other; 0 for any.
    maxclassrepeat: Option<i64>,
    /// Whether it must have no words of the user's full name in it.
    gecoscheck: Option<bool>,
    /// Whether it must not be in the dictionary.
    dictcheck: Option<bool>,
    /// Whether it must not have the user's name in it.
    usercheck: Option<bool>,
    /// How long a part of the user's name it may have in it; 0 for any.
    usersubstr: Option<i64>,
    /// Whether a password that is not good is refused and not only warned about.
    enforcing: Option<bool>,
    /// Words that it must not have in it, with blanks between.
    badwords: Option<String>,
    /// The dictionary.
    dictpath: Option<String>,
    /// How often the user may try.
    retry: Option<i64>,
    /// Whether root is refused a password as well.
    enforce_for_root: Option<bool>,
    /// Whether users that are not in `/etc/passwd` are left alone.
    local_users_only: Option<bool>,
}

impl OfFile for Pwquality {
    const RANGES: &'static [(&'static str, i64, i64)] = &[
        // The library takes 6 where less is set.
        ("minlen", 6, 512),
        ("difok", 0, 512),
        ("dcredit", -512, 512),
        ("ucredit", -512, 512),
        ("lcredit", -512, 512),
        ("ocredit", -512, 512),
        ("minclass", 0, 4),
        ("maxrepeat", 0, 512),
        ("maxsequence", 0, 512),
        ("maxclassrepeat", 0, 512),
        ("usersubstr", 0, 512),
        ("retry", 1, 100),
    ];
    const SWITCHES: &'static [&'static str] = &["gecoscheck", "dictcheck", "usercheck", "enforcing"];
    const TEXTS: &'static [Text] =
        &[("badwords", are_words, "words with blanks between"), ("dictpath", is_path, "an absolute path")];
}

/// When an account is locked after failures.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Faillock {
    /// The folder that failures are counted in.
    dir: Option<String>,
    /// Whether names of users that do not exist are logged.
    audit: Option<bool>,
    /// Whether nobody is told that an account is locked.
    silent: Option<bool>,
    /// Whether that is not logged either.
    no_log_info: Option<bool>,
    /// Whether users that are not in `/etc/passwd` are left alone.
    local_users_only: Option<bool>,
    /// Whether there is no delay after a failure.
    nodelay: Option<bool>,
    /// After how many failures it is locked; 0 for never.
    deny: Option<i64>,
    /// Within how many seconds.
    fail_interval: Option<i64>,
    /// After how many seconds it is open again; 0 for when somebody opens it.
    unlock_time: Option<i64>,
    /// Whether root is locked as well.
    even_deny_root: Option<bool>,
    /// The seconds for root.
    root_unlock_time: Option<i64>,
    /// A group whose members are treated like root.
    admin_group: Option<String>,
}

/// The longest that `pam_faillock` takes: a week.
const WEEK: i64 = 7 * 24 * 60 * 60;

impl OfFile for Faillock {
    const RANGES: &'static [(&'static str, i64, i64)] = &[
        ("deny", 0, 65_535),
        ("fail_interval", 1, WEEK),
        ("unlock_time", 0, WEEK),
        ("root_unlock_time", 0, WEEK),
    ];
    const TEXTS: &'static [Text] =
        &[("dir", is_path, "an absolute path"), ("admin_group", is_account, "the name of a group")];
}

/// Which old passwords are refused.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pwhistory {
    /// Whether more is logged.
    debug: Option<bool>,
    /// Whether root is refused one as well.
    enforce_for_root: Option<bool>,
    /// How many of a user are remembered.
    remember: Option<i64>,
    /// How often the user may try.
    retry: Option<i64>,
    /// The file that they are in.
    file: Option<String>,
}

impl OfFile for Pwhistory {
    // pam_pwhistory takes 400 where more is set.
    const RANGES: &'static [(&'static str, i64, i64)] = &[("remember", 0, 400), ("retry", 1, 100)];
    const TEXTS: &'static [Text] = &[("file", is_path, "an absolute path")];
}

/// How long passwords last and how they are kept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct LoginDefs {
    /// After how many days a password has to be changed; -1 for never.
    pass_max_days: Option<i64>,
    /// For how many days it cannot be changed again.
    pass_min_days: Option<i64>,
    /// How many days before its end there are warnings.
    pass_warn_age: Option<i64>,
    /// The mask of new files, as octal digits in a string.
    umask: Option<String>,
    /// The mode of new home directories, in the same way.
    home_mode: Option<String>,
    /// How passwords are hashed: `YESCRYPT`, `SHA512`, `SHA256` or `BCRYPT`.
    encrypt_method: Option<String>,
    /// How much work yescrypt is.
    yescrypt_cost_factor: Option<i64>,
    /// How much work SHA-256 and SHA-512 are at least.
    sha_crypt_min_rounds: Option<i64>,
    /// How much work they are at most.
    sha_crypt_max_rounds: Option<i64>,
    /// How often a password may be tried at a login.
    login_retries: Option<i64>,
    /// After how many seconds a login is given up.
    login_timeout: Option<i64>,
    /// How many seconds there are between tries.
    fail_delay: Option<i64>,
    /// Whether failures are logged.
    faillog_enab: Option<bool>,
    /// Whether names that do not exist are logged; people type passwords there.
    log_unkfail_enab: Option<bool>,
    /// Whether logins are logged.
    log_ok_logins: Option<bool>,
}

impl OfFile for LoginDefs {
    const RANGES: &'static [(&'static str, i64, i64)] = &[
        ("PASS_MAX_DAYS", -1, 99_999),
        ("PASS_MIN_DAYS", -1, 99_999),
        ("PASS_WARN_AGE", -1, 99_999),
        // crypt(5).
        ("YESCRYPT_COST_FACTOR", 1, 11),
        ("SHA_CRYPT_MIN_ROUNDS", 1000, 999_999_999),
        ("SHA_CRYPT_MAX_ROUNDS", 1000, 999_999_999),
        ("LOGIN_RETRIES", 1, 100),
        ("LOGIN_TIMEOUT", 1, 3600),
        ("FAIL_DELAY", 0, 3600),
    ];
    const SWITCHES: &'static [&'static str] = &["FAILLOG_ENAB", "LOG_UNKFAIL_ENAB", "LOG_OK_LOGINS"];
    const ON_OFF: [&'static str; 2] = ["yes", "no"];
    const TEXTS: &'static [Text] = &[
        ("UMASK", is_octal, "octal digits such as \"027\""),
        ("HOME_MODE", is_octal, "octal digits such as \"0700\""),
        (
            "ENCRYPT_METHOD",
            |text| ["YESCRYPT", "SHA512", "SHA256", "BCRYPT"].contains(&text),
            "`YESCRYPT`, `SHA512`, `SHA256` or `BCRYPT`",
        ),
    ];
}
