//! What `systemd_unit` and `journald` have in common: settings of systemd's files (systemd.syntax(7)).

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fields::one_line;
use crate::error::{Problem, did_you_mean};

/// The settings of one section. A key with a list of values is set once for each of them.
pub(super) type Settings = Ordered<Values>;

/// Sections and their settings.
pub(super) type Sections = Ordered<Settings>;

/// A mapping in the order in which it is written: systemd reads a file from its top, and so do people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ordered<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OrderedVisitor<T> {
            type Value = Ordered<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Ordered<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(OrderedVisitor(PhantomData))
    }
}

/// One value of a setting or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValuesVisitor { lists: true })
    }
}

/// A value that is not a list.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = deserializer.deserialize_any(ValuesVisitor { lists: false })?;
        Ok(Self(values.0.concat()))
    }
}

struct ValuesVisitor {
    lists: bool,
}

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Values;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, a whole number, `true` or `false`")?;
        if self.lists { formatter.write_str(", or a list of them") } else { Ok(()) }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
        one_line("a value", text).map_err(|problem| E::custom(problem.message()))?;
        if text.ends_with('\\') {
            return Err(E::custom("a value ends in `\\`, which would take in the line after it"));
        }
        Ok(Values(vec![text.to_owned()]))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Values, E> {
        Ok(Values(vec![number.to_string()]))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Values, E> {
        Ok(Values(vec![if value { "yes" } else { "no" }.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Values, A::Error> {
        if !self.lists {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        let mut values = Vec::new();
        while let Some(Scalar(value)) = access.next_element()? {
            values.push(value);
        }
        if values.is_empty() {
            return Err(de::Error::custom("a setting has a value; to reset it write `\"\"`"));
        }
        Ok(Values(values))
    }
}

/// A section as it is written in a file.
pub(super) fn section(name: &str, settings: &Settings) -> Result<String, Problem> {
    use fmt::Write;
    if settings.0.is_empty() {
        return Err(Problem::new(format!("the section `{name}` has no settings")));
    }
    let mut text = format!("[{name}]\n");
    for (key, values) in &settings.0 {
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Problem::new(format!("`{key}` is not the name of a setting"))
                .help("names of settings are letters and digits, such as `ExecStart`"));
        }
        for value in &values.0 {
            let _ = writeln!(text, "{key}={value}");
        }
    }
    Ok(text)
}

/// A whole file as it is written.
pub(super) fn text(sections: &Sections) -> Result<String, Problem> {
    let texts: Vec<String> =
        sections.0.iter().map(|(name, settings)| section(name, settings)).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}

/// Whether a text has only settings, and only in sections that are known: systemd passes over the rest, and
/// says so only in the journal.
pub(super) fn check(text: &str, name: &str, known: &[&str]) -> Result<(), Problem> {
    let mut in_section = false;
    let mut continued = false;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        // A comment within a continued line neither ends it nor belongs to it (systemd.syntax(7)).
        if line.is_empty() || line.starts_with(['#', ';']) {
            continued = continued && !line.is_empty();
            continue;
        }
        if !continued {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                if !known.contains(&section) && !section.starts_with("X-") {
                    let message = format!("`{name}` has no section `{section}`");
                    return Err(Problem::new(message).help(did_you_mean(section, known)));
                }
                in_section = true;
            } else if !in_section {
                let message = format!("line {} of `{name}` is in no section: `{line}`", number + 1);
                return Err(Problem::new(message).help("a unit file starts with `[Unit]` or another section"));
            } else if line.split_once('=').is_none_or(|(key, _)| key.trim().is_empty()) {
                let message = format!("line {} of `{name}` is not a setting: `{line}`", number + 1);
                return Err(Problem::new(message).help("settings are written `Key=value`"));
            }
        }
        continued = line.ends_with('\\');
    }
    if in_section { Ok(()) } else { Err(Problem::new(format!("`{name}` has no section"))) }
}
