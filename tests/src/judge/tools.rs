//! The scanners, from where Debian and Python have them, in a folder of their own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::binaries::{self, project};
use crate::workspace::shared;
use crate::world::done;

/// The suite that they are of: what is stable has no profile of CIS for Debian 12.
const SUITE: &str = "sid";

const PACKAGES: &str = "gitleaks,lynis,openscap-common,openscap-scanner,ssg-debian";

/// Their rules grow; what is older is fetched anew.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// The scanners, ready to be seen by a host.
#[derive(Debug)]
pub struct Tools {
    folder: PathBuf,
    ssh_audit: PathBuf,
}

impl Tools {
    /// Fetches them, if they are not there.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn get() -> io::Result<Self> {
        let folder = shared("judge")?.join("tools");
        let age = fs::metadata(folder.join("ready"))
            .and_then(|ready| ready.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        if age.is_none_or(|age| age > MAX_AGE) {
            fetch(&folder)?;
        }
        // What is ours may be newer than they are.
        let ours = project().join("tests/judge");
        for name in ["inside.sh", "container.sh", "task.sh", "debian-12-kernel.sysctl"] {
            fs::copy(ours.join(name), folder.join(name))?;
        }
        let profile = fs::read_to_string(folder.join("etc/lynis/default.prf"))?;
        fs::write(folder.join("lynis/default.prf"), &profile)?;
        let profile = profile + &fs::read_to_string(ours.join("container.prf"))?;
        fs::write(folder.join("lynis/container.prf"), profile)?;
        let ssh_audit = binaries::python()?.with_file_name("ssh-audit");
        if !ssh_audit.exists() {
            let requirements = ours.join("requirements.txt");
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
            done(Command::new(binaries::python()?).args(pip).arg(requirements))?;
        }
        Ok(Self { folder, ssh_audit })
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The rules of a profile of the SCAP Security Guide.
    pub(super) fn rules(&self, profile: &str) -> io::Result<BTreeSet<String>> {
        let guide = self.folder.join("usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml");
        let text = fs::read_to_string(guide)?;
        let begin = format!("Profile id=\"xccdf_org.ssgproject.content_profile_{profile}\">");
        let profile = text.split_once(&begin).and_then(|(_, rest)| rest.split_once("Profile>"));
        let (profile, _) =
            profile.ok_or_else(|| io::Error::other("the SCAP Security Guide has no such profile"))?;
        let selected = profile.lines().filter(|line| line.contains(" selected=\"true\""));
        let names = selected.filter_map(|line| line.split_once("content_rule_")?.1.split_once('"'));
        Ok(names.map(|(name, _)| name.to_owned()).collect())
    }

    /// ssh-audit.
    pub(super) fn ssh_audit(&self) -> &Path {
        &self.ssh_audit
    }

    /// A program of theirs, with the libraries that came with it.
    pub(super) fn program(&self, name: &str) -> Command {
        let libraries = self.folder.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        let loader = fs::read_dir(&libraries).ok().and_then(|entries| {
            entries.flatten().map(|entry| entry.path()).find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-"))
            })
        });
        let mut command = Command::new(loader.unwrap_or_else(|| "ld-linux.so is missing".into()));
        command.arg("--library-path").arg(libraries).arg(self.folder.join("usr/bin").join(name));
        command
    }
}

/// Unpacks the packages, without installing them, and puts them in place at once.
fn fetch(folder: &Path) -> io::Result<()> {
    let partial = folder.with_file_name("tools.partial");
    let _ = fs::remove_dir_all(&partial);
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=extract", &format!("--include={PACKAGES}")]);
    // They are data for us: what a mirror has of a suite that moves may be a few days old.
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    done(command.arg(SUITE).arg(&partial))?;
    // Lynis finds its own files beside it.
    done(Command::new("cp").arg("-R").arg(partial.join("usr/share/lynis")).arg(partial.join("lynis")))?;
    done(Command::new("cp").arg("-R").arg(partial.join("etc/lynis/plugins")).arg(partial.join("lynis")))?;
    fs::copy(partial.join("usr/sbin/lynis"), partial.join("lynis/lynis"))?;
    fs::set_permissions(partial.join("lynis/lynis"), fs::Permissions::from_mode(0o755))?;
    fs::write(partial.join("ready"), "")?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(partial, folder)
}
