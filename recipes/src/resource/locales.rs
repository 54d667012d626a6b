//! Which locales of glibc a host has, and which Debian generates.

use std::collections::BTreeSet;
use std::path::Path;

use super::edit::{Found, Lines, existing, plan_edit};
use super::near::near;
use crate::op::Op;
use crate::system::{Facts, PlanError};

/// The locales that glibc has without any file, or always comes with (C.UTF-8 since 2.35).
const BUILT_IN: [&str; 3] = ["C", "POSIX", "C.UTF-8"];

/// Where locales are, as folders or together in one file.
const FOLDER: &str = "/usr/lib/locale";
const ARCHIVE: &str = "/usr/lib/locale/locale-archive";

/// Which locales locale-gen(8) makes, and which it can make.
const GENERATED: &str = "/etc/locale.gen";
const SUPPORTED: &str = "/usr/share/i18n/SUPPORTED";

/// What glibc calls a locale: `de_DE.UTF-8` is `de_DE.utf8` (`_nl_normalize_codeset`). None if it needs
/// no files.
pub(super) fn stored_name(locale: &str) -> Option<String> {
    if BUILT_IN.contains(&locale) {
        return None;
    }
    let (name, modifier) = locale.split_once('@').map_or((locale, None), |(name, rest)| (name, Some(rest)));
    let mut stored = String::from(name);
    if let Some((language, codeset)) = name.split_once('.') {
        let codeset: String =
            codeset.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        let only_digits = codeset.chars().all(|c| c.is_ascii_digit());
        stored = format!("{language}.{}{codeset}", if only_digits { "iso" } else { "" });
    }
    Some(modifier.map_or(stored.clone(), |modifier| format!("{stored}@{modifier}")))
}

/// Those of the locales that the host does not have.
pub(super) fn missing<'a>(
    facts: &dyn Facts,
    locales: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<&'a str>, PlanError> {
    let mut there: Option<BTreeSet<String>> = None;
    let mut missing = Vec::new();
    for locale in locales {
        let Some(name) = stored_name(locale) else { continue };
        if there.is_none() {
            let archive = facts.content(Path::new(ARCHIVE))?.known()?.unwrap_or_default();
            let folders = facts.names(Path::new(FOLDER))?.known()?;
            there = Some(archived(&archive).unwrap_or_default().into_iter().chain(folders).collect());
        }
        if !there.as_ref().is_some_and(|there| there.contains(&name)) {
            missing.push(locale);
        }
    }
    Ok(missing)
}

/// The names in a locale archive. Its format is `struct locarhead` and `struct namehashent` in glibc's
/// `locale/locarchive.h`: numbers of 32 bits, and a table of names in which free places have no record.
fn archived(bytes: &[u8]) -> Option<Vec<String>> {
    const MAGIC: u32 = 0xde02_0109;
    let number = |at: usize| {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let place = |at: usize| usize::try_from(number(at)?).ok();
    if number(0)? != MAGIC {
        return None;
    }
    let (table, size) = (place(8)?, place(16)?);
    let mut names = Vec::new();
    for entry in 0..size {
        let at = table.checked_add(entry.checked_mul(12)?)?;
        let (name, record) = (place(at + 4)?, place(at + 8)?);
        if record != 0 {
            let name = bytes.get(name..)?.split(|&byte| byte == 0).next()?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Some(names)
}

/// What is needed so that locale-gen(8) makes these locales whenever it runs. A host that cannot make any
/// is right if none is missing: the package `locales-all` brings them made.
pub(super) fn plan_generated(
    facts: &dyn Facts,
    locales: &[&str],
    missing: &[&str],
) -> Result<Vec<Op>, PlanError> {
    let Some(supported) = existing(facts, Path::new(SUPPORTED))? else {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        return Err(PlanError::impossible_but(
            format!("the host cannot generate the locale `{}`", missing.join("`, `")),
            "put a `package: { name: locales }` before it",
        ));
    };
    let entry = |locale: &str| {
        let mut entries = supported.text.lines().map(words);
        entries.find(|words| words.first() == Some(&locale)).map(|words| words.join(" ")).ok_or_else(|| {
            let all = supported.text.lines().filter_map(|line| line.split_whitespace().next());
            let advice = near(locale, all).unwrap_or_else(|| format!("`{SUPPORTED}` has all names"));
            PlanError::impossible_but(format!("there is no locale `{locale}`"), advice)
        })
    };
    let wanted = locales.iter().map(|locale| entry(locale)).collect::<Result<Vec<String>, _>>()?;
    plan_edit(facts, Path::new(GENERATED), |before| {
        let mut lines = Lines::of(before);
        let missing = |wanted: &&String| !before.lines().any(|line| words(line).join(" ") == **wanted);
        for wanted in wanted.iter().filter(missing) {
            // The file lists every locale; those that are not made are comments.
            let there = lines.keep_one(Some(wanted), |line| match line.trim_start().strip_prefix('#') {
                Some(comment) if words(comment).join(" ") == *wanted => Found::Differs,
                _ => Found::Other,
            });
            if !there {
                lines.insert(None, wanted);
            }
        }
        lines.text()
    })
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stored_as_glibc_normalises_them() {
        let stored = |name| stored_name(name).expect("a name");
        assert_eq!(stored("de_DE.UTF-8"), "de_DE.utf8");
        assert_eq!(stored("de_DE.ISO-8859-15@euro"), "de_DE.iso885915@euro");
        assert_eq!(stored("de_DE"), "de_DE");
        assert_eq!(stored("x.8859-1"), "x.iso88591");
        assert_eq!(stored_name("C.UTF-8"), None);
    }

    #[test]
    fn the_names_in_an_archive_are_those_that_have_a_record() {
        // Two places in the table, the second without a record.
        let words = [0xde02_0109_u32, 0, 20, 1, 2, 7, 44, 99, 8, 51, 0];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(b"de_DE.utf8\0en_US.utf8\0");
        bytes[28..32].copy_from_slice(&99_u32.to_ne_bytes());
        assert_eq!(archived(&bytes), Some(vec!["de_DE.utf8".to_owned()]));
        for end in 0..44 {
            assert_eq!(archived(&bytes[..end]), None, "cut off at {end}");
        }
        assert_eq!(archived(b"something else, of some length"), None);
    }
}
