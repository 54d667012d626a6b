//! What looks for new values know of those before: the good ones, to go back to, and those that were not.
//!
//! Both are on tmpfs, for root alone, and are gone with the boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cache::Cached;
use crate::source::versions::Versions;
use crate::status::{Failure, replace};

/// Where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    good: PathBuf,
    refused: PathBuf,
}

/// Values with which the host was not healthy. They are not tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Refused {
    /// Which ones.
    pub(super) versions: Versions,
    /// Why.
    pub(super) why: Failure,
    /// Whether the host has gone back to the good ones.
    pub(super) is_undone: bool,
}

impl Kept {
    /// Those below a root.
    pub(crate) fn below(root: &Path) -> Self {
        let folder = root.join("run/bootstrap-agent");
        Self { good: folder.join("good.json"), refused: folder.join("refused.json") }
    }

    /// Keeps what is good from now on.
    pub(crate) fn start(&self, good: &Cached) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec(good)?);
        replace(&self.good, &text, 0o600)?;
        self.accept()
    }

    /// What is good; none if nothing is kept.
    pub(super) fn good(&self) -> Option<Cached> {
        let text = Zeroizing::new(fs::read(&self.good).ok()?);
        serde_json::from_slice::<Cached>(&text).ok().filter(Cached::is_known)
    }

    /// Remembers what was not good.
    pub(super) fn refuse(&self, refused: &Refused) -> io::Result<()> {
        replace(&self.refused, &serde_json::to_vec(refused)?, 0o600)
    }

    /// What was not good; none if it is of no importance any more.
    pub(super) fn refused(&self) -> Option<Refused> {
        serde_json::from_slice(&fs::read(&self.refused).ok()?).ok()
    }

    /// Forgets what was not good.
    pub(super) fn accept(&self) -> io::Result<()> {
        match fs::remove_file(&self.refused) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::source::fetched::Fetched;
    use crate::source::instance::Identity;

    #[test]
    fn what_is_good_is_for_root_alone_and_what_was_refused_goes_with_it() {
        let root = tempfile::tempdir().expect("a folder");
        let kept = Kept::below(root.path());
        assert!(kept.good().is_none() && kept.refused().is_none());
        let why = Failure { step: "health".into(), message: "no".into(), help: None };
        let refused = Refused { versions: Versions::default(), why, is_undone: true };
        let good = Cached::new("digest", &Identity::default(), Fetched::default(), Duration::MAX);
        kept.start(&good).expect("written");
        kept.refuse(&refused).expect("written");
        assert_eq!(kept.refused(), Some(refused));
        assert_eq!(kept.good().expect("kept").digest, "digest");
        let mode = fs::metadata(&kept.good).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        kept.start(&good).expect("written");
        assert!(kept.refused().is_none(), "with other good values they may be good as well");
    }
}
