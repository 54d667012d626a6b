//! What `file`, `template`, `line`, `sysctl` and others have in common: a file with this content must be
//! there, or none.

use std::path::{Path, PathBuf};

use super::checkers::checker;
use crate::op::{Before, Content, Op, WriteFile};
use crate::system::{Attributes, EntryKind, Facts, Known, Mode, PlanError};

/// Where files with secrets are on a live host: on tmpfs, never on a disk.
pub const SECRET_FILES: &str = "/run/bootstrap-agent/files";

/// A file as it shall be.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) path: PathBuf,
    pub(super) content: Content,
    pub(super) attributes: Attributes,
    /// A command that must accept it; if none is said, that of its path; an empty one accepts everything.
    pub(super) validate: Option<Vec<String>>,
}

impl Contents {
    /// What is needed to have it. On a live host a secret one is kept on tmpfs and linked to.
    pub(super) fn plan(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        if !self.content.is_secret() || facts.host().mode == Mode::Bake {
            return self.plan_at(facts, &self.path);
        }
        if self.attributes.mode & 0o007 != 0 {
            let message =
                format!("`{}` has a secret in it, and its mode lets everybody read it", self.path.display());
            return Err(PlanError::impossible_but(
                message,
                "name a `group` that may read it, with the mode \"0440\"",
            ));
        }
        let relative = self.path.strip_prefix("/").unwrap_or(&self.path);
        let kept = Path::new(SECRET_FILES).join(relative);
        let mut ops = Vec::new();
        for directory in missing_parents(facts, &kept)? {
            // Others may pass through to a file that is theirs, and cannot look around.
            ops.push(Op::CreateDirectory { path: directory, attributes: root(0o711) });
        }
        if ops.is_empty() {
            ops = self.plan_at(facts, &kept)?;
        } else {
            ops.push(self.write(&kept, Before::Absent));
        }
        ops.extend(plan_link(facts, &self.path, &kept)?);
        Ok(ops)
    }

    /// The same, with the directories above it, as root's, where they are missing.
    pub(super) fn plan_with_parents(&self, facts: &dyn Facts) -> Result<Vec<Op>, PlanError> {
        let missing = missing_parents(facts, &self.path)?;
        if missing.is_empty() {
            return self.plan(facts);
        }
        owners_exist(facts, &self.attributes)?;
        let directories =
            missing.into_iter().map(|path| Op::CreateDirectory { path, attributes: root(0o755) });
        Ok(directories.chain([self.write(&self.path, Before::Absent)]).collect())
    }

    fn plan_at(&self, facts: &dyn Facts, path: &Path) -> Result<Vec<Op>, PlanError> {
        owners_exist(facts, &self.attributes)?;
        let validate = checker(facts, &self.path, self.validate.as_ref())?;
        let checked = Self { validate, ..self.clone() };
        let Some(entry) = facts.entry(path)?.known()? else {
            parent_exists(facts, path)?;
            return Ok(vec![checked.write(path, Before::Absent)]);
        };
        match entry.kind {
            EntryKind::File => {}
            EntryKind::Symlink { target } => return Ok(vec![checked.write(path, Before::Symlink(target))]),
            other => {
                let message = format!("`{}` is {}, not a file", path.display(), other.noun());
                return Err(PlanError::impossible(message));
            }
        }
        let before = facts.content(path)?.known()?.unwrap_or_default();
        let changed = (entry.attributes != self.attributes).then_some(entry.attributes);
        match changed {
            _ if before != self.content.bytes() => {
                let content = Content::new(before).secret_if(self.content.is_secret());
                Ok(vec![checked.write(path, Before::File { content, attributes: changed })])
            }
            Some(before) => Ok(vec![Op::SetAttributes {
                path: path.to_owned(),
                attributes: self.attributes.clone(),
                before,
            }]),
            None => Ok(Vec::new()),
        }
    }

    /// What makes it where there is nothing yet, not even its folder.
    pub(super) fn create(&self) -> Op {
        self.write(&self.path, Before::Absent)
    }

    /// The operation that puts it at a path, for who knows what is there.
    pub(super) fn write(&self, path: &Path, before: Before) -> Op {
        Op::WriteFile(WriteFile {
            path: path.to_owned(),
            content: self.content.clone(),
            attributes: self.attributes.clone(),
            validate: self.validate.clone().filter(|words| !words.is_empty()),
            before,
        })
    }
}

/// What is needed so that nothing is at a path.
pub(super) fn plan_absent(facts: &dyn Facts, path: &Path) -> Result<Vec<Op>, PlanError> {
    match facts.entry(path)?.known()? {
        None => Ok(Vec::new()),
        Some(entry) => {
            Ok(vec![Op::Remove { path: path.to_owned(), directory: entry.kind == EntryKind::Directory }])
        }
    }
}

/// What is needed so that no file is at a path. A directory there is not what somebody meant.
pub(super) fn plan_no_file(facts: &dyn Facts, path: &Path) -> Result<Vec<Op>, PlanError> {
    if let Known::Yes(Some(entry)) = facts.entry(path)?
        && entry.kind == EntryKind::Directory
    {
        let path = path.display();
        return Err(PlanError::impossible_but(
            format!("`{path}` is a directory, not a file"),
            format!("to remove it with all that is in it: `directory: {{ path: {path}, state: absent }}`"),
        ));
    }
    plan_absent(facts, path)
}

/// What is needed so that a path is a link to another.
pub(super) fn plan_link(facts: &dyn Facts, path: &Path, target: &Path) -> Result<Vec<Op>, PlanError> {
    let link = |before| Op::CreateSymlink { path: path.to_owned(), target: target.to_owned(), before };
    match facts.entry(path)?.known()?.map(|entry| entry.kind) {
        None => {
            parent_exists(facts, path)?;
            Ok(vec![link(None)])
        }
        Some(EntryKind::Symlink { target: now }) if now == target => Ok(Vec::new()),
        Some(EntryKind::Symlink { target: now }) => Ok(vec![link(Some(now))]),
        Some(EntryKind::File) => Ok(vec![link(None)]),
        Some(other) => {
            let message = format!("`{}` is {}, which a link does not replace", path.display(), other.noun());
            Err(PlanError::impossible_but(message, "remove it first"))
        }
    }
}

/// The directories above a path that do not exist, outermost first.
pub(super) fn missing_parents(facts: &dyn Facts, path: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let mut missing = Vec::new();
    for parent in path.ancestors().skip(1) {
        if let Some(entry) = facts.entry(parent)?.known()? {
            is_directory(parent, &entry.kind)?;
            break;
        }
        missing.push(parent.to_owned());
    }
    missing.reverse();
    Ok(missing)
}

pub(super) fn parent_exists(facts: &dyn Facts, path: &Path) -> Result<(), PlanError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match facts.entry(parent)?.known()? {
        Some(entry) => is_directory(parent, &entry.kind),
        None => Err(PlanError::impossible_but(
            format!("the directory `{}` does not exist", parent.display()),
            format!("put a `directory: {{ path: {} }}` before it", parent.display()),
        )),
    }
}

/// What is above a path must be a directory; where a link leads is seen when it is followed.
fn is_directory(path: &Path, kind: &EntryKind) -> Result<(), PlanError> {
    match kind {
        EntryKind::Directory | EntryKind::Symlink { .. } => Ok(()),
        other => {
            Err(PlanError::impossible(format!("`{}` is {}, not a directory", path.display(), other.noun())))
        }
    }
}

/// An owner that does not exist would be found only half way through.
pub(super) fn owners_exist(facts: &dyn Facts, attributes: &Attributes) -> Result<(), PlanError> {
    user_exists(facts, &attributes.owner)?;
    group_exists(facts, &attributes.group)
}

/// A user must exist, unless it is a number.
pub(super) fn user_exists(facts: &dyn Facts, name: &str) -> Result<(), PlanError> {
    if name.parse::<u32>().is_ok() || facts.user(name)?.known()?.is_some() {
        return Ok(());
    }
    Err(missing("user", name))
}

/// A group must exist, unless it is a number.
pub(super) fn group_exists(facts: &dyn Facts, name: &str) -> Result<(), PlanError> {
    if name.parse::<u32>().is_ok() || facts.group(name)?.known()?.is_some() {
        return Ok(());
    }
    Err(missing("group", name))
}

fn missing(noun: &str, name: &str) -> PlanError {
    PlanError::impossible_but(
        format!("the {noun} `{name}` does not exist"),
        format!("put a `{noun}: {{ name: {name} }}` before it"),
    )
}

fn root(mode: u32) -> Attributes {
    Attributes { owner: "root".into(), group: "root".into(), mode }
}
