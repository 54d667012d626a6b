//! Files that are there whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// Writes a value as JSON for people to read. Whoever reads the file sees the old one or the new one.
///
/// # Errors
/// When it cannot be written; the old one is still there then.
pub(crate) fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let partial = path.with_extension("json.part");
    fs::write(&partial, text)?;
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, path)
}
