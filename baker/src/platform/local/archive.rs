//! A sealed tree as an archive.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use recipes::op::hex;
use recipes::system::Mode;
use recipes::system::linux::Linux;
use sha2::{Digest, Sha256};

use super::group::ControlGroup;
use super::tools;
use crate::failure::{Failure, failed};
use crate::manifest::Archive;
use crate::platform::Run;

/// The name of the archive in an image's folder.
const ARCHIVE: &str = "rootfs.tar.zst";

/// A packed tree.
pub(super) struct Packed {
    /// The archive.
    pub(super) archive: Archive,
    /// Its SHA-256.
    pub(super) sha256: String,
    /// The installed packages, each with its version.
    pub(super) packages: Vec<(String, String)>,
}

/// Packs a tree into a folder.
pub(super) async fn pack(
    tree: &Path,
    folder: &Path,
    group: &ControlGroup,
    run: &mut Run<'_>,
) -> Result<Packed, Failure> {
    let archive = folder.join(ARCHIVE);
    let mut command = tools::command(group, "tar");
    // Sorted and with numbers only: the same tree is the same archive wherever it is packed.
    command.args([
        "--create",
        "--sort=name",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--one-file-system",
    ]);
    command.args(["--format=posix", "--pax-option=delete=atime,delete=ctime"]);
    command.args(["--use-compress-program", "zstd -3 --threads=0 --quiet"]);
    command.arg("--directory").arg(tree).arg("--file").arg(&archive).arg(".");
    tools::run(command, &format!("pack `{}`", archive.display()), run).await?;
    let (tree, of_archive) = (tree.to_owned(), archive.clone());
    let read = tokio::task::spawn_blocking(move || -> Result<_, Failure> {
        let what = format!("read `{}`", of_archive.display());
        let (sha256, bytes) = digest(&of_archive).map_err(failed(what))?;
        let unpacked_bytes = size(&tree).map_err(failed(format!("read `{}`", tree.display())))?;
        let packages = Linux::open(&tree, Mode::Bake).and_then(|machine| machine.installed_packages());
        let packages = packages.map_err(failed("read the packages of the image"))?;
        Ok((sha256, bytes, unpacked_bytes, packages.into_iter().collect()))
    });
    let (sha256, bytes, unpacked_bytes, packages) = read.await.map_err(failed("read the image"))??;
    let archive = Archive { file: ARCHIVE.into(), bytes, unpacked_bytes };
    Ok(Packed { archive, sha256, packages })
}

/// The SHA-256 of a file, and how long it is.
pub(crate) fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex(&hash.finalize()), bytes));
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

/// How much the files of a tree take on the disk.
fn size(tree: &Path) -> io::Result<u64> {
    let mut blocks = 0;
    let mut folders: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.path().symlink_metadata()?;
            blocks += metadata.blocks();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    // stat(2): a block is 512 bytes, whatever the file system's blocks are.
    Ok(blocks * 512)
}
