//! A bundle as it is sent, a tar, or as it is kept, a folder.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use recipes::bundle::Bundle;
use recipes::error::{Problem, Problems};
use tempfile::TempDir;

/// No bundle unpacks to more.
const LARGEST: u64 = 512 * 1024 * 1024;

/// An opened bundle, with the folder that it was unpacked into.
pub struct Opened {
    /// The bundle.
    pub bundle: Bundle,
    folder: PathBuf,
    /// It is removed when the bundle is not used any more.
    _unpacked: Option<TempDir>,
}

impl Opened {
    /// The folder that it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Opens a bundle: a folder, or a tar file that is unpacked into a private folder for as long as it is used.
///
/// # Errors
/// When it cannot be read or is not whole.
pub fn open(path: &Path) -> Result<Opened, Problems> {
    if path.is_dir() {
        return Ok(Opened { bundle: Bundle::open(path)?, folder: path.to_owned(), _unpacked: None });
    }
    let failed = |error: io::Error| Problem::new(format!("failed to unpack `{}`: {error}", path.display()));
    // Whoever put it there found room, on tmpfs if it is baker; `/tmp` may be full.
    let beside = TempDir::with_prefix_in("bundle-", path.parent().unwrap_or(Path::new("/")));
    let folder = beside.or_else(|_| TempDir::with_prefix("bundle-")).map_err(failed)?;
    unpack(path, folder.path()).map_err(failed)?;
    Ok(Opened {
        bundle: Bundle::open(folder.path())?,
        folder: folder.path().to_owned(),
        _unpacked: Some(folder),
    })
}

/// Unpacks regular files only, and only into the folder.
fn unpack(path: &Path, folder: &Path) -> io::Result<()> {
    let mut unpacked = 0;
    for entry in tar::Archive::new(File::open(path)?).entries()? {
        let mut entry = entry?;
        let name: PathBuf = entry.path()?.into_owned();
        let inside = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || !entry.header().entry_type().is_file() {
            return Err(io::Error::other(format!("`{}` is not a file inside a bundle", name.display())));
        }
        unpacked += entry.size();
        if unpacked > LARGEST {
            return Err(io::Error::other("it is larger than a bundle can be"));
        }
        let target = folder.join(&name);
        fs::create_dir_all(target.parent().unwrap_or(folder))?;
        io::copy(&mut entry, &mut File::create_new(&target)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(entries: &[(&str, tar::EntryType)]) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        let mut builder = tar::Builder::new(File::create(folder.path().join("b.tar")).expect("made"));
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, io::empty()).expect("written");
        }
        builder.into_inner().expect("written");
        folder
    }

    #[test]
    fn only_files_inside_the_folder_are_unpacked() {
        for entries in [
            [("../escape", tar::EntryType::Regular)],
            [("/etc/escape", tar::EntryType::Regular)],
            [("link", tar::EntryType::Symlink)],
        ] {
            let folder = tar_of(&entries);
            let error = open(&folder.path().join("b.tar")).err().expect("refused").to_string();
            assert!(error.contains("is not a file inside a bundle"), "{error}");
            assert!(!folder.path().join("escape").exists());
        }
        let folder = tar_of(&[("bundle.json", tar::EntryType::Regular)]);
        assert!(
            open(&folder.path().join("b.tar")).err().expect("empty").to_string().contains("is not a bundle")
        );
        assert!(
            open(&folder.path().join("no.tar"))
                .err()
                .expect("missing")
                .to_string()
                .contains("failed to unpack")
        );
    }
}
