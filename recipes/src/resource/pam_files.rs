//! Where a host has the files and modules of PAM.

use std::path::{Path, PathBuf};

use super::pam_stack::Text;
use crate::system::{EntryKind, Facts, Known, PlanError, led_to};

/// Where the files of services are that a host decides.
pub(super) const FOLDER: &str = "/etc/pam.d";

/// Where libpam looks for files besides: those that packages bring.
const VENDOR: &str = "/usr/lib/pam.d";

/// The text of a file, by its name or path. A link is followed: on hosts with authselect the files are links.
pub(super) fn text(facts: &dyn Facts, name: &str) -> Result<Text, PlanError> {
    for folder in [FOLDER, VENDOR] {
        let mut path = Path::new(folder).join(name);
        for _ in 0..4 {
            let entry = match facts.entry(&path)? {
                Known::Yes(entry) => entry,
                Known::Unknown(_) => return Ok(Text::Unknown),
            };
            match entry.map(|entry| entry.kind) {
                Some(EntryKind::Symlink { target }) => path = led_to(&path, &target),
                Some(EntryKind::File) => {
                    return Ok(match facts.content(&path)? {
                        Known::Yes(bytes) => {
                            Text::Is(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
                        }
                        Known::Unknown(_) => Text::Unknown,
                    });
                }
                _ => break,
            }
        }
    }
    Ok(Text::Missing)
}

/// Whether a module can be loaded, by its name or path. It is not known if a package may bring it.
pub(super) fn has_module(facts: &dyn Facts, module: &str) -> Result<bool, PlanError> {
    let arch = &facts.host().arch;
    let folders = [
        format!("/usr/lib/{arch}-linux-gnu/security"),
        format!("/lib/{arch}-linux-gnu/security"),
        "/usr/lib64/security".to_owned(),
        "/lib64/security".to_owned(),
        "/usr/lib/security".to_owned(),
        "/lib/security".to_owned(),
    ];
    let places: Vec<PathBuf> = if module.starts_with('/') {
        vec![module.into()]
    } else {
        folders.iter().map(|folder| Path::new(folder).join(module)).collect()
    };
    let mut why = None;
    for place in places {
        match facts.entry(&place)? {
            Known::Yes(Some(_)) => return Ok(true),
            Known::Yes(None) => {}
            Known::Unknown(unknown) => why = why.or(Some(unknown)),
        }
    }
    why.map_or(Ok(false), |why| Err(PlanError::Unknown(why)))
}

/// That a module is there, or what to do about it.
pub(super) fn module_is_there(facts: &dyn Facts, module: &str) -> Result<(), PlanError> {
    if has_module(facts, module)? {
        return Ok(());
    }
    Err(PlanError::impossible_but(
        format!("the PAM module `{module}` is not there, so its stack would fail"),
        "put the `package` that brings it before, such as `libpam-pwquality` on Debian",
    ))
}
