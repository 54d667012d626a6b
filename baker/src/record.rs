//! `record.tar`: what `baker drift` compares a host with. It has what the agent needs for that, the record of the image and the
//! recipes that it was made of, and is for its owner only.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use recipes::drift::{RECORD, Record};

use crate::bake::tar_of;
use crate::failure::{Failure, failed};
use crate::file::write_bytes_whole;
use crate::manifest::{MANIFEST, Manifest};
use crate::platform::{Ec2, Local, Platform};

/// The end of the file's name, beside the manifest.
const FILE: &str = "record.tar";

/// The bytes of the file.
///
/// # Errors
/// When it cannot be packed.
pub fn pack(record: &Record, mut bundle: BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Failure> {
    let text = serde_json::to_vec_pretty(record).map_err(failed("describe the image"))?;
    bundle.insert(RECORD.to_owned(), text);
    tar_of(&bundle)
}

/// Writes the file beside a manifest, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(manifest: &Path, bytes: &[u8]) -> io::Result<()> {
    write_bytes_whole(&beside(manifest), bytes, 0o600)
}

/// Where the record of an image is that was baked: on the platform that is named, or on the only one.
///
/// # Errors
/// When there is none, or nobody has said which.
pub fn find(output: &Path, image: &str, platform: Option<&str>) -> Result<PathBuf, Failure> {
    let place = |platform: &str| beside(&Manifest::place(output, image, platform));
    let places: Vec<PathBuf> = match platform {
        Some(platform) => vec![place(platform)],
        None => vec![place(Local::NAME), place(Ec2::NAME)],
    };
    let there: Vec<&PathBuf> = places.iter().filter(|path| path.is_file()).collect();
    match there.as_slice() {
        [path] => Ok((*path).clone()),
        [] => {
            let shown: Vec<String> = places.iter().map(|path| format!("`{}`", path.display())).collect();
            Err(Failure::new(format!("there is no record of `{image}`: neither {}", shown.join(" nor ")))
                .help("a bake makes it: `baker build --force` bakes again; `--record` names one that was kept elsewhere"))
        }
        _ => Err(Failure::new(format!("`{image}` was baked in a container and on EC2"))
            .help("say with `--platform` which of them the host is from")),
    }
}

fn beside(manifest: &Path) -> PathBuf {
    match manifest.file_name() {
        Some(name) if name == MANIFEST => manifest.with_file_name(FILE),
        _ => manifest.with_extension(FILE),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_record_is_beside_its_manifest_and_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path();
        let message = |platform| find(output, "web", platform).expect_err("none or two").message;
        assert!(message(None).contains("web/record.tar` nor"), "{}", message(None));
        write(&output.join("web/manifest.json"), b"x").expect("written");
        let mode = fs::metadata(output.join("web/record.tar")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(find(output, "web", None), Ok(output.join("web/record.tar")));
        write(&output.join("web.ec2.json"), b"x").expect("written");
        assert_eq!(message(None), "`web` was baked in a container and on EC2");
        assert_eq!(find(output, "web", Some("ec2")), Ok(output.join("web.ec2.record.tar")));
    }
}
