//! `vendor.yaml`, as it is written: where recipes of others come from.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use recipes::error::{Problem, Problems};
use recipes::from_node::from_node;
use recipes::load;
use recipes::node::Node;
use recipes::source::Location;
use serde::{Deserialize, Serialize};

use super::DECLARED;
use super::lock::LOCK;

/// A source by its name.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    /// The name of its folder below `vendor/`.
    pub(super) name: String,
    /// What is wanted of it.
    pub(super) source: Source,
    /// Where it is written.
    pub(super) at: Location,
}

/// What is wanted of a source; also a part of the lock, which thereby knows what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// Where it is.
    pub(super) from: Place,
    /// The names of the recipes that are wanted; all if not said.
    pub(super) recipes: Option<Vec<String>>,
}

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Place {
    /// A git repository.
    Git {
        /// Its address.
        url: String,
        /// What is taken of it.
        reference: Reference,
        /// The folder in it whose folders are recipes; empty for its root.
        path: String,
    },
    /// A folder on this machine.
    Folder {
        /// Its path, as seen from the folder of `vendor.yaml`.
        path: PathBuf,
    },
}

/// What is taken of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reference {
    /// The newest commit of a branch, when it is fetched for the first time or updated.
    Branch(String),
    /// The commit of a tag.
    Tag(String),
    /// This commit.
    Commit(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git { url, .. } => formatter.write_str(url),
            Self::Folder { path } => write!(formatter, "{}", path.display()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(formatter, "the branch `{name}`"),
            Self::Tag(name) => write!(formatter, "the tag `{name}`"),
            Self::Commit(id) => write!(formatter, "the commit {id}"),
        }
    }
}

/// The fields of a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    git: Option<String>,
    branch: Option<String>,
    tag: Option<String>,
    commit: Option<String>,
    path: Option<String>,
    recipes: Option<Vec<String>>,
}

impl Declared {
    /// Reads the file in a folder of recipes; none if there is none.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its place.
    pub(super) fn load(recipes: &Path, shown: &str) -> Result<Option<Vec<Self>>, Problems> {
        let path = recipes.join(DECLARED);
        if !path.exists() {
            return Ok(None);
        }
        let root = load::parse(&load::read(&path, &format!("{shown}/{DECLARED}"))?)?;
        let entries = root.as_map("a mapping from the name of a source to where it is")?;
        let mut problems = Problems::new();
        let mut declared = Vec::new();
        for (key, node) in entries {
            // The lock is beside the folders of the sources.
            if !is_name(&key.name) || key.name == LOCK {
                let problem = Problem::new(format!("`{}` cannot be the name of a source", key.name));
                problems.push(problem.at(&key.at).help(NAMES));
                continue;
            }
            if let Some(source) = problems.keep(source(node)) {
                declared.push(Self { name: key.name.clone(), source, at: key.at.clone() });
            }
        }
        problems.unless_any(Some(declared))
    }
}

fn source(node: &Node) -> Result<Source, Problem> {
    let written: Written = from_node(node)?;
    let wrong = |message: String| Problem::new(message).at(&node.at);
    let references = [
        written.branch.map(Reference::Branch),
        written.tag.map(Reference::Tag),
        written.commit.map(Reference::Commit),
    ];
    let references: Vec<Reference> = references.into_iter().flatten().collect();
    let from = match (written.git, references.as_slice(), written.path) {
        (Some(url), [reference], path) => {
            address(&url).map_err(|problem| problem.at(&node.at))?;
            check_reference(reference).map_err(|problem| problem.at(&node.at))?;
            let path = path.unwrap_or_default();
            if !Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(wrong(format!("`{path}` is not a folder inside the repository"))
                    .help("leave `path` out if the recipes are at its root"));
            }
            Place::Git { url, reference: reference.clone(), path: path.trim_end_matches('/').into() }
        }
        (Some(_), ..) => {
            return Err(wrong("a repository needs one of `branch`, `tag` and `commit`".into())
                .help("such as `{ git: \"https://git.example.com/recipes.git\", tag: v1.0 }`"));
        }
        (None, [], Some(path)) => Place::Folder { path: path.into() },
        (None, [], None) => {
            return Err(wrong("a source needs `git` or `path`".into()));
        }
        (None, ..) => return Err(wrong("`branch`, `tag` and `commit` are of a `git` repository".into())),
    };
    if let Some(name) = written.recipes.iter().flatten().find(|name| !is_name(name)) {
        return Err(wrong(format!("`{name}` cannot be the name of a recipe")).help(NAMES));
    }
    Ok(Source { from, recipes: written.recipes })
}

/// What a name has.
pub(super) const NAMES: &str =
    "a name has letters, digits, `-`, `_` and `.`, and begins with a letter, a digit or `_`";

/// Whether something is a name for a folder of ours. No name may lead elsewhere.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Only transports that keep what they carry as it was, and no password in a file that is committed.
fn address(url: &str) -> Result<(), Problem> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if url.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Problem::new("the address of the repository has a space or a control character in it"));
    }
    if user.contains(':') || (scheme == Some("https") && !user.is_empty()) {
        return Err(Problem::new("the address of the repository has a password or a user in it")
            .help("put them into `~/.netrc`, or use ssh with an agent: this file is no place for them"));
    }
    match scheme {
        Some("https" | "ssh" | "file") if !authority.starts_with('-') => Ok(()),
        // git@host:path, as ssh has it (git-clone(1)).
        None if !url.starts_with('-')
            && url.split_once(':').is_some_and(|(host, path)| {
                let valid = |c: char| c.is_ascii_alphanumeric() || "@.-_".contains(c);
                !host.is_empty() && host.chars().all(valid) && !path.is_empty() && !path.starts_with(':')
            }) =>
        {
            Ok(())
        }
        _ => Err(Problem::new(format!("`{url}` is not an address that recipes are fetched from")).help(
            "use `https://`, `ssh://`, `file://` or `user@host:path`; others can be changed on their way",
        )),
    }
}

/// What git-check-ref-format(1) allows, and a whole commit.
fn check_reference(reference: &Reference) -> Result<(), Problem> {
    match reference {
        Reference::Commit(id) if is_commit(id) => Ok(()),
        Reference::Commit(id) => Err(Problem::new(format!("`{id}` is not a whole commit"))
            .help("write all of its 40 hexadecimal digits, in lower case: `git rev-parse` prints them")),
        Reference::Branch(name) | Reference::Tag(name) => {
            let is_valid = !name.is_empty()
                && !name.contains("..")
                && !name.contains("@{")
                && !name.contains("//")
                && !name.starts_with(['-', '/', '.'])
                && !name.ends_with(['/', '.'])
                && !name.chars().any(|c| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c));
            if is_valid {
                Ok(())
            } else {
                Err(Problem::new(format!("`{name}` cannot be {}", kind(reference))))
            }
        }
    }
}

/// Whether something is a whole commit.
pub(super) fn is_commit(id: &str) -> bool {
    id.len() == 40 && id.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

fn kind(reference: &Reference) -> &'static str {
    match reference {
        Reference::Branch(_) => "a branch",
        Reference::Tag(_) => "a tag",
        Reference::Commit(_) => "a commit",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(text: &str) -> Result<Option<Vec<Declared>>, Problems> {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(DECLARED), text).expect("written");
        Declared::load(folder.path(), "recipes")
    }

    #[test]
    fn sources_are_repositories_and_folders() {
        let text = "
acme: { git: 'https://git.example.com/acme.git', tag: v1.2.0, path: linux/recipes/, recipes: [ntp] }
other: { git: 'git@git.example.com:other.git', branch: main }
mine: { path: ../../mine }
";
        let declared = load(text).expect("valid").expect("there");
        let names: Vec<&str> = declared.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["acme", "other", "mine"]);
        let Place::Git { reference, path, .. } = &declared[0].source.from else { panic!("a repository") };
        assert_eq!((reference, path.as_str()), (&Reference::Tag("v1.2.0".into()), "linux/recipes"));
        assert_eq!(declared[2].source.from, Place::Folder { path: "../../mine".into() });
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Declared::load(folder.path(), "recipes").expect("readable").is_none());
    }

    #[test]
    fn what_is_not_valid_is_explained() {
        let problems = |text: &str| load(text).expect_err("not valid").to_string();
        insta::assert_snapshot!(problems("a: {}"), @"recipes/vendor.yaml:1:4: a source needs `git` or `path`");
        insta::assert_snapshot!(problems("../a: { path: b }"), @"recipes/vendor.yaml:1:1: `../a` cannot be the name of a source; a name has letters, digits, `-`, `_` and `.`, and begins with a letter, a digit or `_`");
        assert!(problems("lock.json: { path: b }").contains("`lock.json` cannot be the name of a source"));
        insta::assert_snapshot!(problems("a: { path: b, recipes: [../c] }"), @"recipes/vendor.yaml:1:4: `../c` cannot be the name of a recipe; a name has letters, digits, `-`, `_` and `.`, and begins with a letter, a digit or `_`");
        insta::assert_snapshot!(problems("a: { path: b, tag: c }"), @"recipes/vendor.yaml:1:4: `branch`, `tag` and `commit` are of a `git` repository");
        insta::assert_snapshot!(problems("a: { git: 'https://h/r' }"), @r#"recipes/vendor.yaml:1:4: a repository needs one of `branch`, `tag` and `commit`; such as `{ git: "https://git.example.com/recipes.git", tag: v1.0 }`"#);
        insta::assert_snapshot!(problems("a: { git: 'https://h/r', tag: v1, commit: abc }"), @r#"recipes/vendor.yaml:1:4: a repository needs one of `branch`, `tag` and `commit`; such as `{ git: "https://git.example.com/recipes.git", tag: v1.0 }`"#);
        insta::assert_snapshot!(problems("a: { git: 'https://h/r', commit: abc }"), @"recipes/vendor.yaml:1:4: `abc` is not a whole commit; write all of its 40 hexadecimal digits, in lower case: `git rev-parse` prints them");
        insta::assert_snapshot!(problems("a: { git: 'https://h/r', tag: --upload-pack=x }"), @"recipes/vendor.yaml:1:4: `--upload-pack=x` cannot be a tag");
        insta::assert_snapshot!(problems("a: { git: 'https://h/r', tag: v1, path: ../x }"), @"recipes/vendor.yaml:1:4: `../x` is not a folder inside the repository; leave `path` out if the recipes are at its root");
        insta::assert_snapshot!(problems("a: { git: 'https://me:hunter2@h/r', tag: v1 }"), @"recipes/vendor.yaml:1:4: the address of the repository has a password or a user in it; put them into `~/.netrc`, or use ssh with an agent: this file is no place for them");
        insta::assert_snapshot!(problems("a: { gti: x }"), @"recipes/vendor.yaml:1:6: unknown field `gti`; did you mean `git`? valid are `git`, `branch`, `tag`, `commit`, `path` and `recipes`");
    }

    #[test]
    fn only_addresses_that_cannot_be_changed_on_their_way() {
        for url in ["https://h/r.git", "ssh://git@h:22/r", "file:///srv/r.git", "git@h:a/r.git", "h:r"] {
            assert_eq!(address(url), Ok(()), "{url}");
        }
        for url in [
            "http://h/r",
            "git://h/r",
            "ext::sh -c id",
            "ext::id",
            "-oProxyCommand=id:x",
            "ssh://-oProxyCommand=id/r",
            "ssh://me:hunter2@h/r",
            "https://token@h/r",
            "../r",
            "",
        ] {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
