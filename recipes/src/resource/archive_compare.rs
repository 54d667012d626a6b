//! What an archive has and a host has not.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::archive::{Item, ItemKind, ReadSeek, Stop, walk};
use crate::op::{Unpack, Unpacking};
use crate::system::{EntryKind, Facts, FactsError, PlanError};

/// Finds what has to be unpacked, into a folder that may not be there yet.
pub(super) fn compare(
    facts: &dyn Facts,
    mut unpack: Unpack,
    is_wanted: &dyn Fn(&Path) -> bool,
    is_there: bool,
    file: Box<dyn ReadSeek>,
) -> Result<Unpack, PlanError> {
    // What is below a directory that is not there needs no look.
    let mut absent: BTreeSet<PathBuf> = BTreeSet::new();
    let walked = walk(file, unpack.strip_components, is_wanted, &mut |mut item| {
        let is_new = !is_there || item.path.parent().is_some_and(|parent| absent.contains(parent));
        let step = if is_new { Some(Unpacking::Create) } else { step(facts, &unpack, &mut item)? };
        if step == Some(Unpacking::Create) && matches!(item.kind, ItemKind::Parent | ItemKind::Directory) {
            absent.insert(item.path.clone());
        }
        match (step, &item.kind) {
            (Some(step), _) => drop(unpack.changes.insert(item.path, step)),
            (None, ItemKind::Parent) => {}
            (None, _) => unpack.unchanged += 1,
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(unpack),
        Err(Stop::Visitor(error)) => Err(error),
        Err(Stop::Archive(error)) => {
            Err(PlanError::impossible_but(format!("`{}` {error}", unpack.archive), error.help()))
        }
    }
}

/// What is to be done at a path whose folder is there; none if it is as in the archive.
fn step(facts: &dyn Facts, unpack: &Unpack, item: &mut Item<'_>) -> Result<Option<Unpacking>, PlanError> {
    let path = unpack.path.join(&item.path);
    let Some(entry) = facts.entry(&path)?.known()? else { return Ok(Some(Unpacking::Create)) };
    let is_directory = matches!(item.kind, ItemKind::Parent | ItemKind::Directory);
    if is_directory != (entry.kind == EntryKind::Directory) || entry.kind == EntryKind::Other {
        let (wanted, found) = (if is_directory { "a directory" } else { "a file" }, entry.kind.noun());
        return Err(PlanError::impossible_but(
            format!("`{}` is {found}, and `{}` has {wanted} there", path.display(), unpack.archive),
            "remove it before, or name it in `exclude`",
        ));
    }
    let has = |wanted: &mut dyn Read, name: &str| match facts.open(&path)?.known()? {
        Some(mut found) => is_same((wanted, name), (&mut found, &path.display().to_string())),
        None => Ok(false),
    };
    let is_same = match (&mut item.kind, &entry.kind) {
        (ItemKind::Parent, _) => return Ok(None),
        (ItemKind::Directory, _) => true,
        (ItemKind::File(content), EntryKind::File) => has(content, &unpack.archive.to_string())?,
        (ItemKind::Symlink(target), EntryKind::Symlink { target: found }) => {
            return Ok((target != found).then_some(Unpacking::Replace));
        }
        (ItemKind::HardLink(target), EntryKind::File) => {
            let step = unpack.changes.get(target);
            let is_as_wanted = step.is_none_or(|step| *step == Unpacking::SetAttributes);
            let target = unpack.path.join(target);
            match facts.open(&target)?.known()? {
                Some(mut file) if is_as_wanted => has(&mut file, &target.display().to_string())?,
                _ => false,
            }
        }
        _ => false,
    };
    let is_owned = entry.attributes.owner == unpack.owner && entry.attributes.group == unpack.group;
    Ok(match is_same {
        false => Some(Unpacking::Replace),
        true if is_owned && entry.attributes.mode == item.mode => None,
        true => Some(Unpacking::SetAttributes),
    })
}

/// What is read at once.
const PIECE: usize = 64 * 1024;

/// Whether two streams, each with its name, have the same bytes.
fn is_same(
    (one, one_name): (&mut dyn Read, &str),
    (other, other_name): (&mut dyn Read, &str),
) -> Result<bool, PlanError> {
    let (mut here, mut there) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        read_piece(one, one_name, &mut here)?;
        read_piece(other, other_name, &mut there)?;
        if here != there || here.is_empty() {
            return Ok(here == there);
        }
    }
}

fn read_piece(stream: &mut dyn Read, name: &str, piece: &mut Vec<u8>) -> Result<(), FactsError> {
    piece.clear();
    let read: io::Result<usize> = stream.take(PIECE as u64).read_to_end(piece);
    read.map(drop).map_err(|source| FactsError { what: format!("`{name}`"), source })
}
