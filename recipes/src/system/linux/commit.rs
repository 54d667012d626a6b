//! Putting files in place: one at once, or many together with a journal.
//!
//! A file is staged beside its place under a name of its own, with owner and mode before content, checked,
//! and renamed. A commit stages everything, writes the journal, and only then renames; a run that is cut
//! off before the journal is on the disk leaves the old files, one that is cut off after it is rolled
//! forward by the next.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tree::Tree;
use super::{Linux, failed};
use crate::op::{Command, Op, WriteFile, staged_path};
use crate::system::{EntryKind, PerformError};

/// Where the journal is while a commit is under way.
const JOURNAL: &str = "/var/lib/bootstrap-agent/commit.json";

/// The version of the journal's format.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    version: u32,
    moves: Vec<Move>,
}

/// A staged path that is to take the place of another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    from: PathBuf,
    to: PathBuf,
}

/// Writes a file beside its place, ready to be renamed.
pub(super) fn stage(
    linux: &Linux,
    write: &WriteFile,
    output: &mut dyn FnMut(&str),
) -> Result<PathBuf, PerformError> {
    let staged = staged_path(&write.path);
    let (uid, gid) = linux.owners(&write.attributes)?;
    linux
        .tree
        .create(&staged, write.content.bytes(), uid, gid, write.attributes.mode)
        .map_err(failed(format!("write `{}`", write.path.display())))?;
    validate(linux, write.validate.as_deref(), &staged, &write.path, output)?;
    Ok(staged)
}

/// Has a program look at a staged file, if there is one to ask. What it does not accept goes.
pub(super) fn validate(
    linux: &Linux,
    words: Option<&[String]>,
    staged: &Path,
    path: &Path,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let Some(words) = words else { return Ok(()) };
    accepted(linux, words, staged, output).map_err(|source| {
        let _ = linux.tree.remove(staged, &EntryKind::File);
        PerformError::Invalid { path: path.to_owned(), source: Box::new(source) }
    })
}

/// Makes a link beside its place, ready to be renamed.
pub(super) fn stage_link(tree: &Tree, path: &Path, target: &Path) -> Result<PathBuf, PerformError> {
    let staged = staged_path(path);
    tree.create_symlink(&staged, target).map_err(failed(format!("link `{}`", path.display())))?;
    Ok(staged)
}

/// Puts what was staged in its place. If it cannot be there, it is not left beside it either.
pub(super) fn put(tree: &Tree, staged: &Path, path: &Path) -> io::Result<()> {
    tree.rename(staged, path).inspect_err(|_| drop(tree.remove(staged, &EntryKind::File)))
}

fn accepted(
    linux: &Linux,
    words: &[String],
    staged: &Path,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    linux.needs_booted_root("run a `validate`")?;
    let file = linux.tree.outside(staged);
    let argv = words.iter().map(|word| word.replace("{file}", &file.to_string_lossy()));
    linux.runner.run(&Command::new(argv), output)
}

/// Performs operations on files so that all of them are done or none is.
pub(super) fn commit(
    linux: &mut Linux,
    ops: &[Op],
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    let mut moves: Vec<Move> = Vec::new();
    let staged = stage_all(linux, ops, &mut moves, output);
    let journal = Journal { version: VERSION, moves };
    if let Err(error) = staged.and_then(|()| write_journal(&linux.tree, &journal)) {
        for step in &journal.moves {
            let _ = linux.tree.remove(&step.from, &EntryKind::File);
        }
        return Err(error);
    }
    finish(&linux.tree, &journal)?;
    let writes_units = journal.moves.iter().any(|step| super::units::is_unit_path(&step.to));
    if writes_units && linux.host.systemd {
        super::units::reload_systemd(&linux.runner, output)?;
    }
    for op in ops {
        if let Op::SetAttributes { path, attributes, .. } = op {
            let (uid, gid) = linux.owners(attributes)?;
            let what = format!("set owner and mode of `{}`", path.display());
            linux.tree.set_attributes(path, uid, gid, attributes.mode).map_err(failed(what))?;
        }
    }
    Ok(())
}

fn stage_all(
    linux: &mut Linux,
    ops: &[Op],
    moves: &mut Vec<Move>,
    output: &mut dyn FnMut(&str),
) -> Result<(), PerformError> {
    for op in ops {
        match op {
            Op::CreateDirectory { .. } => linux.do_perform(op, output)?,
            Op::WriteFile(write) => {
                let from = stage(linux, write, output)?;
                // A path that is written twice is moved once, with what was written last.
                moves.retain(|step| step.from != from);
                moves.push(Move { from: from.clone(), to: write.path.clone() });
                sync_file(&linux.tree, &from)?;
            }
            Op::Download(download) => {
                // What is to be believed may be one of the files that are put in place together.
                let is_ca = |step: &&Move| download.ca_file.as_ref() == Some(&step.to);
                let ca_file = moves.iter().find(is_ca).map(|step| step.from.clone());
                let from = super::download::stage(linux, download, ca_file.as_deref(), output)?;
                moves.retain(|step| step.from != from);
                moves.push(Move { from: from.clone(), to: download.path.clone() });
                sync_file(&linux.tree, &from)?;
            }
            Op::CreateSymlink { path, target, .. } => {
                let from = stage_link(&linux.tree, path, target)?;
                moves.retain(|step| step.from != from);
                moves.push(Move { from, to: path.clone() });
            }
            Op::SetAttributes { .. } => {}
            other => {
                return Err(PerformError::Unsupported(format!("{other:?} is not an operation on files")));
            }
        }
    }
    Ok(())
}

fn sync_file(tree: &Tree, path: &Path) -> Result<(), PerformError> {
    tree.sync_file(path).map_err(failed(format!("synchronise `{}`", path.display())))
}

fn write_journal(tree: &Tree, journal: &Journal) -> Result<(), PerformError> {
    let path = Path::new(JOURNAL);
    let bytes = serde_json::to_vec(journal).unwrap_or_default();
    super::state::write_durably(tree, path, &bytes)
}

/// Finishes a commit that an earlier run began, if there is one.
pub(super) fn roll_forward(tree: &Tree) -> Result<(), PerformError> {
    let path = Path::new(JOURNAL);
    let what = format!("read `{JOURNAL}`");
    let Some(bytes) = tree.read(path).map_err(failed(what))? else { return Ok(()) };
    match serde_json::from_slice::<Journal>(&bytes) {
        Ok(journal) if journal.version == VERSION => finish(tree, &journal),
        _ => Err(PerformError::Unsupported(format!(
            "`{JOURNAL}` was left by a version of this program that wrote it differently; \
             finish its moves by hand and remove it"
        ))),
    }
}

fn finish(tree: &Tree, journal: &Journal) -> Result<(), PerformError> {
    for Move { from, to } in &journal.moves {
        let what = || format!("put `{}` in place", to.display());
        // What is not there any more was moved before the cut, or was on a tmpfs and is made anew.
        if tree.entry(from).map_err(failed(what()))?.is_some() {
            tree.rename(from, to).map_err(failed(what()))?;
        }
    }
    for Move { to, .. } in &journal.moves {
        tree.sync_directory_of(to)
            .map_err(failed(format!("synchronise the folder of `{}`", to.display())))?;
    }
    tree.remove(Path::new(JOURNAL), &EntryKind::File).map_err(failed(format!("remove `{JOURNAL}`")))
}
