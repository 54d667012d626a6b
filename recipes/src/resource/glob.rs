//! Paths by pattern: `*`, `?` and `**`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer};

use super::fields::AbsolutePath;
use crate::system::{Entry, EntryKind, Facts, PlanError};

/// A path from the root whose names may have wildcards: `*` is any characters of a name, `?` one
/// character, and `**` alone any number of folders, at the end everything below. A leading dot is no
/// exception. Symbolic links are found, and never followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A name without wildcards.
    Literal(String),
    /// A name with `*` or `?`.
    Pattern(String),
    /// `**`.
    AnyDepth,
}

impl Part {
    fn new(text: &str) -> Self {
        match text {
            "**" => Self::AnyDepth,
            _ if text.contains(['*', '?']) => Self::Pattern(text.into()),
            _ => Self::Literal(text.into()),
        }
    }

    fn accepts(&self, name: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Pattern(pattern) => {
                matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
            }
            Self::AnyDepth => true,
        }
    }
}

/// A pattern below a folder, such as `**/*.key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelativeGlob(Vec<Part>);

impl RelativeGlob {
    /// `**`: everything below.
    pub(super) fn everything() -> Self {
        Self(vec![Part::AnyDepth])
    }
}

impl<'de> Deserialize<'de> for RelativeGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with('/') {
            return Err(de::Error::custom(format!("the pattern `{text}` is below the path, without `/`")));
        }
        parts(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = AbsolutePath::deserialize(deserializer)?.to_string();
        if path == "/" {
            return Ok(Self { parts: Vec::new() });
        }
        parts(&path).map(|parts| Self { parts }).map_err(de::Error::custom)
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    // Shells know more than these; a pattern that means something else here is not guessed at.
    if text.contains(['[', ']', '{', '}', '\\', '\0']) {
        return Err(format!(
            "the pattern `{text}` has brackets or `\\` in it; wildcards are `*`, `?` and `**`"
        ));
    }
    let names = text.strip_prefix('/').unwrap_or(text);
    let parts: Vec<&str> = names.split('/').collect();
    if let Some(part) = parts.iter().find(|part| part.contains("**") && **part != "**") {
        return Err(format!("`{part}` has `**` in it, which stands alone between slashes"));
    }
    if parts.iter().any(|part| ["", ".", ".."].contains(part)) {
        return Err(format!("the pattern `{text}` has an empty name, `.` or `..` in it"));
    }
    Ok(parts.into_iter().map(Part::new).collect())
}

impl Glob {
    /// A pattern below a folder, in whose path nothing is a wildcard.
    pub(super) fn below(folder: &Path, pattern: &RelativeGlob) -> Self {
        let names = folder.iter().skip(1).map(|name| Part::Literal(name.to_string_lossy().into_owned()));
        Self { parts: names.chain(pattern.0.iter().cloned()).collect() }
    }

    /// The path, if there are no wildcards in it.
    pub(super) fn literal(&self) -> Option<PathBuf> {
        let prefix = self.prefix();
        (prefix.components().count() == self.parts.len() + 1).then_some(prefix)
    }

    /// The path up to the first wildcard.
    pub(super) fn prefix(&self) -> PathBuf {
        let literals = self.parts.iter().map_while(|part| match part {
            Part::Literal(name) => Some(name),
            Part::Pattern(_) | Part::AnyDepth => None,
        });
        Path::new("/").join(literals.collect::<PathBuf>())
    }

    /// Whether all of a folder matches, as with `/srv/*` and `/srv/**`.
    pub(super) fn is_all_of(&self, folder: &Path) -> bool {
        let depth = folder.components().count() - 1;
        self.prefix() == folder
            && self.parts[depth..].iter().all(|part| part.accepts("a") && part.accepts("zz"))
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &Path) -> bool {
        self.places_at(path).contains(&self.parts.len())
    }

    /// Whether something in this folder may match.
    pub(super) fn goes_below(&self, folder: &Path) -> bool {
        self.places_at(folder).iter().any(|&place| place < self.parts.len())
    }

    fn places_at(&self, path: &Path) -> Vec<usize> {
        let start = self.with_passed_over(vec![0]);
        path.iter().skip(1).fold(start, |places, name| self.after(&places, &name.to_string_lossy()))
    }

    /// What matches on a host, a folder before what is in it.
    pub(super) fn find(&self, facts: &dyn Facts) -> Result<Vec<(PathBuf, Entry)>, PlanError> {
        let mut found = Vec::new();
        self.search(facts, Path::new("/"), &self.with_passed_over(vec![0]), &mut found)?;
        Ok(found)
    }

    fn search(
        &self,
        facts: &dyn Facts,
        folder: &Path,
        places: &[usize],
        found: &mut Vec<(PathBuf, Entry)>,
    ) -> Result<(), PlanError> {
        for name in self.candidates(facts, folder, places)? {
            let places = self.after(places, &name);
            let path = folder.join(&name);
            if places.is_empty() {
                continue;
            }
            let Some(entry) = facts.entry(&path)?.known()? else {
                if name.contains(char::REPLACEMENT_CHARACTER) {
                    let message = format!("the name `{}` is not UTF-8", path.display());
                    return Err(PlanError::impossible(message));
                }
                continue;
            };
            let is_whole = places.contains(&self.parts.len());
            let goes_on = places.iter().any(|&place| place < self.parts.len());
            match &entry.kind {
                EntryKind::Directory if goes_on => {
                    if is_whole {
                        found.push((path.clone(), entry));
                    }
                    self.search(facts, &path, &places, found)?;
                }
                // What a wildcard finds is passed over; what was written out is a mistake.
                EntryKind::Symlink { target } if !is_whole && self.prefix().starts_with(&path) => {
                    return Err(PlanError::impossible_but(
                        format!(
                            "`{}` is a link to `{}`, which is not followed",
                            path.display(),
                            target.display()
                        ),
                        "write the path without the link",
                    ));
                }
                _ if is_whole => found.push((path, entry)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names in a folder that may match. Those without wildcards need no look at the others.
    fn candidates(
        &self,
        facts: &dyn Facts,
        folder: &Path,
        places: &[usize],
    ) -> Result<Vec<String>, PlanError> {
        match places {
            [place] if let Some(Part::Literal(name)) = self.parts.get(*place) => Ok(vec![name.clone()]),
            _ => facts.names(folder)?.known(),
        }
    }

    /// Where in the pattern one is behind this name, coming from these places.
    fn after(&self, places: &[usize], name: &str) -> Vec<usize> {
        let mut after = Vec::new();
        for &place in places {
            match self.parts.get(place) {
                Some(Part::AnyDepth) => after.extend([place, place + 1]),
                Some(part) if part.accepts(name) => after.push(place + 1),
                _ => {}
            }
        }
        self.with_passed_over(after)
    }

    /// The places with those behind each `**`, which may stand for no folder at all, unless it is the last.
    fn with_passed_over(&self, mut places: Vec<usize>) -> Vec<usize> {
        let mut at = 0;
        while let Some(&place) = places.get(at) {
            if self.parts.get(place) == Some(&Part::AnyDepth) && place + 1 < self.parts.len() {
                places.push(place + 1);
            }
            at += 1;
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(text) | Part::Pattern(text) => write!(formatter, "/{text}"),
            Part::AnyDepth => formatter.write_str("/**"),
        })
    }
}

/// Whether a name is like a pattern with `*` and `?`. The last `*` alone is ever tried again, so this takes
/// no more steps than the product of the lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut of_name, mut star) = (0, 0, None);
    while of_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of_name));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == name[of_name] => {
                at += 1;
                of_name += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, of_name) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|&wanted| wanted == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::system::fake::Fake;

    fn glob(text: &str) -> Glob {
        Glob { parts: parts(text).expect("a pattern") }
    }

    #[test]
    fn wildcards_match_names_and_folders() {
        let matches = |pattern: &str, path: &str| glob(pattern).matches(Path::new(path));
        assert!(matches("/a/*.d", "/a/.d") && matches("/a/*.d", "/a/b.d") && !matches("/a/*.d", "/a/b/c.d"));
        assert!(matches("/a/?", "/a/é") && !matches("/a/?", "/a") && !matches("/a/?", "/a/bc"));
        assert!(matches("/a/**", "/a/b/c") && !matches("/a/**", "/a"), "the folder itself is not below");
        assert!(matches("/a/**/b", "/a/b") && matches("/a/**/b", "/a/c/d/b") && !matches("/a/**/b", "/a/c"));
        assert!(matches("/a/**/**/b", "/a/b") && matches("/a/**/**", "/a/b"));
    }

    #[test]
    fn links_are_found_and_not_followed() {
        let mut fake = Fake::debian();
        fake.directory("/srv/a");
        fake.symlink("/srv/a/link", "/etc");
        fake.file("/etc/x", "");
        let found = |pattern: &str| {
            let found = glob(pattern).find(&fake).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(found("/srv/**"), Ok(vec!["/srv/a".into(), "/srv/a/link".into()]));
        assert_eq!(found("/srv/*/*/x"), Ok(Vec::new()));
        assert_eq!(
            found("/srv/a/link/*"),
            Err("`/srv/a/link` is a link to `/etc`, which is not followed".into())
        );
        assert_eq!(found("/none/*"), Ok(Vec::new()));
    }

    #[test]
    fn all_of_a_folder_is_told_from_a_part_of_it() {
        let is_all = |pattern: &str| glob(pattern).is_all_of(Path::new("/a"));
        assert!(is_all("/a/*") && is_all("/a/**/*") && is_all("/a/?*"));
        assert!(!is_all("/a/a*") && !is_all("/a/?") && !is_all("/a/*/b") && !is_all("/a/b/*"));
    }

    /// The same as a regular expression, which somebody else has tested.
    fn reference(pattern: &str) -> Regex {
        let mut text = String::from("^");
        let last = pattern.matches('/').count();
        for (at, part) in pattern.split('/').enumerate().skip(1) {
            match part {
                "**" if at == last => text.push_str("(/[^/]+)+"),
                "**" => text.push_str("(/[^/]+)*"),
                _ => text.push_str(&format!("/{}", part.replace('*', "[^/]*").replace('?', "[^/]"))),
            }
        }
        Regex::new(&format!("{text}$")).expect("a regular expression")
    }

    proptest! {
        #[test]
        fn patterns_match_as_regular_expressions_do(
            pattern in "(/([ab]|[ab*?]{1,4}|\\*\\*)){1,4}",
            paths in prop::collection::btree_set("(/[ab]{1,3}){1,4}", 1..12),
        ) {
            prop_assume!(pattern.split('/').all(|part| part == "**" || !part.contains("**")));
            let (glob, reference) = (glob(&pattern), reference(&pattern));
            prop_assert_eq!(glob.to_string(), pattern);
            let mut fake = Fake::debian();
            for path in &paths {
                prop_assert_eq!(glob.matches(Path::new(path)), reference.is_match(path), "{}", path);
                for folder in Path::new(path).ancestors() {
                    fake.directory(&folder.display().to_string());
                }
            }
            // A walk finds just what matches, and nothing twice.
            let all = paths.iter().flat_map(|path| Path::new(path).ancestors());
            let mut expected: Vec<PathBuf> =
                all.filter(|path| glob.matches(path)).map(Path::to_owned).collect();
            // What every host has is there too.
            expected.extend(["/etc", "/usr", "/var", "/run", "/srv", "/home", "/etc/sysctl.d"].iter().map(PathBuf::from).filter(|path| glob.matches(path)));
            expected.sort();
            expected.dedup();
            let mut found: Vec<PathBuf> =
                glob.find(&fake).expect("found").into_iter().map(|(path, _)| path).collect();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
