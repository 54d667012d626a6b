//! The recipes that ship with baker, in the program itself, so that it works without a checkout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use include_dir::{Dir, include_dir};
use recipes::op::hex;
use recipes::recipe::Recipe;
use sha2::{Digest, Sha256};

use crate::failure::{Failure, failed};

static LIBRARY: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../recipes/library");

/// The name that the library is shown by in messages.
pub(crate) const SHOWN: &str = "recipes/library";

/// Unpacks the library below a folder, once for each version of it, and returns where.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn unpack(below: &Path) -> io::Result<PathBuf> {
    let mut files = Vec::new();
    collect(&LIBRARY, &mut files);
    files.sort_by_key(|(path, _)| path.to_owned());
    let mut hash = Sha256::new();
    for (path, bytes) in &files {
        hash.update(path.to_string_lossy().as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    let folder = below.join(format!("library-{}", &hex(&hash.finalize())[..16]));
    if folder.is_dir() {
        return Ok(folder);
    }
    // Whoever comes first wins; a folder that was cut off has another name.
    let partial = below.join(format!("library-{}.partial", std::process::id()));
    for (path, bytes) in files {
        let target = partial.join(path);
        fs::create_dir_all(target.parent().unwrap_or(&partial))?;
        fs::write(target, bytes)?;
    }
    match fs::rename(&partial, &folder) {
        Err(_) if folder.is_dir() => fs::remove_dir_all(&partial)?,
        other => other?,
    }
    Ok(folder)
}

/// All recipes of the library, by name, unpacked below a folder.
///
/// # Errors
/// When it cannot be written, or a recipe is not valid.
pub(crate) fn recipes(below: &Path) -> Result<Vec<Arc<Recipe>>, Failure> {
    let folder = unpack(below).map_err(failed("unpack the library of recipes"))?;
    let mut names: Vec<_> = LIBRARY.dirs().filter_map(|recipe| recipe.path().file_name()).collect();
    names.sort_unstable();
    let load = |name: &std::ffi::OsStr| {
        let shown = format!("{SHOWN}/{}", name.to_string_lossy());
        Recipe::load(&folder.join(name), &shown).map_err(|problems| Failure::new(problems.to_string()))
    };
    names.into_iter().map(load).collect()
}

fn collect(folder: &'static Dir<'static>, files: &mut Vec<(&'static Path, &'static [u8])>) {
    files.extend(folder.files().map(|file| (file.path(), file.contents())));
    folder.dirs().for_each(|folder| collect(folder, files));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_unpacked_whole_and_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = unpack(folder.path()).expect("unpacked");
        assert!(library.join("nginx/recipe.yaml").is_file());
        assert!(library.join("sshd/templates/sshd_config.tera").is_file());
        assert_eq!(unpack(folder.path()).expect("unpacked"), library);
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
    }
}
