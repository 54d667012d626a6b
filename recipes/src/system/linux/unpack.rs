//! Unpacking: what a plan found to differ is written, as the archive is read.

use std::io;
use std::path::Path;

use super::tree::Tree;
use super::{Linux, failed};
use crate::archive::{Item, ItemKind, ReadSeek, Stop, walk};
use crate::op::{Archive, Unpack, Unpacking, staged_path};
use crate::system::{Attributes, Facts, Known, PerformError};

/// Writes everything that the operation names. Nothing outside of its folder is reached, whatever links are
/// in the folder.
pub(super) fn perform(linux: &Linux, unpack: &Unpack) -> Result<(), PerformError> {
    let attributes = Attributes { owner: unpack.owner.clone(), group: unpack.group.clone(), mode: 0 };
    let (uid, gid) = linux.owners(&attributes)?;
    let what = || format!("unpack `{}`", unpack.archive);
    let folder = linux.tree.folder(&unpack.path).map_err(failed(what()))?;
    let file = match &unpack.archive {
        Archive::Content { content, .. } => Box::new(content.reader()) as Box<dyn ReadSeek>,
        Archive::File(path) => match linux.open(path)? {
            Known::Yes(Some(file)) => file,
            _ => return Err(failed(what())(io::ErrorKind::NotFound.into())),
        },
    };
    let is_wanted = |path: &Path| unpack.changes.contains_key(path);
    let walked = walk(file, unpack.strip_components, &is_wanted, &mut |item| {
        if linux.runner.interrupter().is_interrupted() {
            return Err(failed("go on")(io::ErrorKind::Interrupted.into()));
        }
        let path = unpack.path.join(&item.path);
        let step = unpack.changes.get(&item.path).copied().unwrap_or(Unpacking::Replace);
        put(&folder, item, step, uid, gid).map_err(failed(format!("unpack `{}`", path.display())))
    });
    walked.map_err(|stop| match stop {
        Stop::Archive(error) => failed(what())(io::Error::other(error)),
        Stop::Visitor(error) => error,
    })
}

fn put(folder: &Tree, item: Item<'_>, step: Unpacking, uid: u32, gid: u32) -> io::Result<()> {
    // The folder is the root of its tree.
    let path = &Path::new("/").join(&item.path);
    let mode = item.mode;
    if step == Unpacking::SetAttributes && !matches!(item.kind, ItemKind::Parent) {
        return folder.set_attributes(path, uid, gid, mode);
    }
    let staged = staged_path(path);
    match item.kind {
        ItemKind::Parent if step != Unpacking::Create => return Ok(()),
        ItemKind::Parent => return folder.create_directory(path, uid, gid, mode),
        ItemKind::Directory => {
            // It may have been made already, for what is in it and came first.
            return match folder.create_directory(path, uid, gid, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    folder.set_attributes(path, uid, gid, mode)
                }
                other => other,
            };
        }
        ItemKind::File(content) => folder.create(&staged, content, uid, gid, mode).map(drop)?,
        ItemKind::HardLink(target) => {
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            let target = folder.open_file(&Path::new("/").join(target))?.ok_or_else(missing)?;
            folder.create(&staged, target, uid, gid, mode).map(drop)?;
        }
        ItemKind::Symlink(target) => {
            folder.create_symlink(&staged, &target)?;
            folder.set_attributes(&staged, uid, gid, mode)?;
        }
    }
    folder.rename(&staged, path)
}
