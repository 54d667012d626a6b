//! Types of fields that several kinds have. What is read into one of these is valid.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::error::Problem;
use crate::system::Attributes;

/// A path from the root, without `..` and without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// One that the engine knows.
    pub(super) fn of(path: &str) -> Self {
        Self(path.into())
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let path = Path::new(&text);
        if !path.is_absolute() {
            return Err(de::Error::custom(format!("the path `{text}` does not start with `/`")));
        }
        if path.components().any(|part| part == Component::ParentDir) || text.contains('\0') {
            return Err(de::Error::custom(format!("the path `{text}` has `..` or NUL in it")));
        }
        Ok(Self(path.components().collect()))
    }
}

/// Permission bits, written as octal digits in a string: `"0644"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModeVisitor;
        impl Visitor<'_> for ModeVisitor {
            type Value = Mode;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mode as a string of octal digits, such as \"0644\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Mode, E> {
                match u32::from_str_radix(text, 8) {
                    Ok(mode) if mode <= 0o7777 && (3..=4).contains(&text.len()) => Ok(Mode(mode)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Mode, E> {
                Err(E::custom(format!(
                    "a mode is a string: the number {number} is {number:#o} in octal; write \"0{number}\""
                )))
            }
        }
        deserializer.deserialize_any(ModeVisitor)
    }
}

/// The name of a user or group, as useradd(8) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountName(pub(super) String);

impl<'de> Deserialize<'de> for AccountName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // Debian's NAME_REGEX, and the 32 characters that utmp has.
        let valid = name.len() <= 32
            && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
        if !valid {
            return Err(de::Error::custom(format!(
                "`{name}` is not a name for a user or group: lower-case letters, digits, `-` and `_`, \
                 at most 32, not starting with a digit"
            )));
        }
        Ok(Self(name))
    }
}

/// The name of a package, with `:ARCHITECTURE` behind it if it is of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageName(pub(super) String);

impl<'de> Deserialize<'de> for PackageName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // What starts with `-` is an option to the package manager, and `/`, `=` and a trailing `-` or `+`
        // mean something to it as well.
        let valid = is_package_word(&name, "+-._:") && (!name.ends_with(['-', '+']) || name.ends_with("++"));
        if !valid {
            return Err(de::Error::custom(format!("`{name}` is not the name of a package")));
        }
        Ok(Self(name))
    }
}

/// The SHA-256 of a file, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sha256Sum(pub(super) String);

impl<'de> Deserialize<'de> for Sha256Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        if digits.len() != 64 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(de::Error::custom(format!(
                "`{}` is not a SHA-256: that is 64 hexadecimal digits, as `sha256sum` prints them",
                digits.escape_debug()
            )));
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }
}

/// The name of a host: labels of letters, digits and `-`, separated by dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // RFC 1123, 2.1, and the lengths of RFC 1035, 2.3.4, less the dot at the end.
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(de::Error::custom(format!(
                "`{}` is not the name of a host: letters, digits and `-`, at most 63 between dots, \
                 not starting or ending with `-`",
                name.escape_debug()
            )));
        }
        Ok(Self(name))
    }
}

/// The name of a file in a folder such as `/etc/cron.d`, without what ends it. There are no dots in it:
/// cron(8) and sudoers(5) pass over files whose names have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartName(pub(super) String);

impl<'de> Deserialize<'de> for PartName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            return Err(de::Error::custom(format!(
                "`{name}` is not a name for a file of settings: letters, digits, `-` and `_`, without a dot"
            )));
        }
        Ok(Self(name))
    }
}

/// One text or whole number, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneOrMore(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMoreVisitor;
        impl<'de> Visitor<'de> for OneOrMoreVisitor {
            type Value = OneOrMore;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a whole number, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![number.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = access.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }
        deserializer.deserialize_any(OneOrMoreVisitor)
    }
}

/// Whether a text starts with a letter or digit and has only those and the extra characters.
pub(super) fn is_package_word(text: &str, extra: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// Whether something shall be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It shall.
    #[default]
    Present,
    /// It shall not.
    Absent,
}

/// A text goes into one line of a file: what ends the line would begin another that nobody decided.
pub(super) fn one_line(what: &str, text: &str) -> Result<(), Problem> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Problem::new(format!("{what} goes into one line; it has a line end or NUL in it")));
    }
    Ok(())
}

/// Whether a directory is one that every host needs. Removing one of these is never what somebody means.
pub(super) fn is_needed(path: &Path) -> bool {
    const NEEDED: [&str; 21] = [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib64",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/sys",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/lib64",
        "/usr/sbin",
        "/usr/share",
        "/var",
        "/var/lib",
    ];
    NEEDED.iter().any(|needed| path == Path::new(needed))
}

/// Owner, group and mode as they shall be: what is not said is root's, so that two hosts cannot differ.
pub(super) fn attributes(
    owner: Option<String>,
    group: Option<String>,
    mode: Option<Mode>,
    default_mode: u32,
) -> Attributes {
    Attributes {
        owner: owner.unwrap_or_else(|| "root".into()),
        group: group.unwrap_or_else(|| "root".into()),
        mode: mode.map_or(default_mode, |mode| mode.0),
    }
}
