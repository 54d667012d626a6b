//! The recipes that ship with baker, in the program itself, so that it works without a checkout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use recipes::op::hex;
use sha2::{Digest, Sha256};

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
