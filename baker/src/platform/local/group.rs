//! A control group: everything that a run starts is in it, and ends with it (cgroups(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::failure::{Failure, failed};

/// How long killed processes may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A group of one name, in the unified hierarchy and, where a machine still has that, in systemd's own.
/// A container's systemd manages a part of each; two containers in one group would manage each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlGroup {
    /// The folder in the unified hierarchy, through which it is killed.
    unified: PathBuf,
    /// The folders in all hierarchies.
    folders: Vec<PathBuf>,
}

impl ControlGroup {
    /// Whether this machine has what groups need.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn supported() -> Result<(), Failure> {
        hierarchies().map(drop)
    }

    /// The group of a name, whether it exists or not.
    ///
    /// # Errors
    /// When this machine has no unified hierarchy.
    pub fn named(name: &str) -> Result<Self, Failure> {
        let (unified, all) = hierarchies()?;
        Ok(Self { unified: unified.join(name), folders: all.iter().map(|root| root.join(name)).collect() })
    }

    /// Makes the group.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(name: &str) -> Result<Self, Failure> {
        let group = Self::named(name)?;
        for folder in &group.folders {
            fs::create_dir_all(folder)
                .map_err(failed(format!("make the control group `{}`", folder.display())))?;
        }
        Ok(group)
    }

    /// The names of all groups that begin with a prefix.
    ///
    /// # Errors
    /// When the hierarchies cannot be read.
    pub fn with_prefix(prefix: &str) -> Result<Vec<String>, Failure> {
        let (_, all) = hierarchies()?;
        let mut names: Vec<String> = all
            .iter()
            .flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// A shell script that joins the group and becomes the program behind the first arguments.
    pub fn joining_script(&self) -> String {
        let mut script = String::from("set -e; ");
        for _ in &self.folders {
            script += "echo 0 > \"$1\"; shift; ";
        }
        script + "exec \"$@\""
    }

    /// The first arguments of that script.
    pub fn joining_arguments(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// The file that kills everything in the group when `1` is written to it.
    pub(super) fn kill_file(&self) -> PathBuf {
        self.unified.join("cgroup.kill")
    }

    /// Has everything in the group killed when this process is gone, for whatever reason, or lets go of what
    /// this returns.
    ///
    /// # Errors
    /// When the process that waits for that cannot be started.
    pub fn watch(&self) -> Result<Watch, Failure> {
        let watcher = Command::new("/bin/sh")
            // Its input ends when this process does.
            .args(["-c", "cat > /dev/null; echo 1 > \"$1\"", "sh"])
            .arg(self.kill_file())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed("watch over the builder"))?;
        Ok(Watch { _watcher: watcher })
    }

    /// Kills everything in the group, waits until it is gone, and removes the group.
    ///
    /// # Errors
    /// When something is left.
    pub async fn end(&self) -> Result<(), Failure> {
        match fs::write(self.kill_file(), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(failed(format!("kill `{}`", self.unified.display())))?,
        }
        let until = Instant::now() + END_LIMIT;
        for folder in &self.folders {
            // A folder with processes in it cannot be removed; that they are killed takes a moment.
            while let Err(error) = remove_groups(folder) {
                if Instant::now() > until {
                    return Err(Failure::because(format!("failed to end `{}`", folder.display()), &error));
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

/// Kills a group when it is let go of.
#[derive(Debug)]
pub struct Watch {
    _watcher: Child,
}

/// The root of the unified hierarchy, and the roots of all that a group is needed in.
fn hierarchies() -> Result<(PathBuf, Vec<PathBuf>), Failure> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed("read the mounts"))?;
    let (mut unified, mut named) = (None, None);
    for line in mounts.lines() {
        // proc(5): ... mount-point options [tags] - type source super-options
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let Some(point) = front.split(' ').nth(4) else { continue };
        match back.split(' ').collect::<Vec<_>>()[..] {
            ["cgroup2", ..] => unified = unified.or(Some(PathBuf::from(point))),
            ["cgroup", _, options] if options.split(',').any(|option| option == "name=systemd") => {
                named = Some(PathBuf::from(point));
            }
            _ => {}
        }
    }
    let unified = unified.ok_or_else(|| {
        Failure::new("this machine has no unified control groups (cgroup2)")
            .help("mount them: mount -t cgroup2 none /sys/fs/cgroup")
    })?;
    let all = [Some(unified.clone()), named].into_iter().flatten().collect();
    Ok((unified, all))
}

/// Removes a group and those in it, which are folders without files that count.
fn remove_groups(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
