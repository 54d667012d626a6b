//! The programs of this machine that the platform uses, and how they are run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::group::ControlGroup;
use crate::failure::{Failure, failed};
use crate::platform::Run;
use crate::report::Event;

/// Each program and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
    ("nsenter", "util-linux"),
    ("slirp4netns", "slirp4netns"),
    ("systemd-nspawn", "systemd-container"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
    ("zstd", "zstd"),
];

/// Where programs are looked for. Whose shell baker is started from changes nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks whether all programs are there.
pub(super) fn find() -> Result<(), Failure> {
    let there = |program: &str| PATH.split(':').any(|folder| Path::new(folder).join(program).is_file());
    let missing: Vec<_> = NEEDED.iter().filter(|(program, _)| !there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(Failure::new(format!("programs are missing: {}", programs.join(", ")))
        .help(format!("apt-get install {}", packages.join(" "))))
}

/// A program that will run in a control group, with none of this process's environment.
pub(super) fn command(group: &ControlGroup, program: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    // The shell joins the group before it becomes the program, so no child of it is ever outside.
    command.args(["-c", &group.joining_script(), "sh"]).args(group.joining_arguments()).arg(program);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
    // Ctrl-C is for baker, which ends what it started in order.
    command.process_group(0).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program to its end; what it prints is reported.
pub(super) async fn run(mut command: Command, what: &str, run: &mut Run<'_>) -> Result<(), Failure> {
    let (reader, writer) = io::pipe().map_err(failed(what))?;
    let second = writer.try_clone().map_err(failed(what))?;
    let mut child = command.stdout(writer).stderr(second).spawn().map_err(failed(what))?;
    drop(command);
    let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(failed(what))?;
    let last = forward(reader, run).await;
    finish(&mut child, what, &last).await
}

/// Reports every line, and keeps the last few for an error.
async fn forward(reader: impl AsyncRead + Unpin, run: &mut Run<'_>) -> Vec<String> {
    const KEPT: usize = 5;
    let mut lines = BufReader::new(reader).lines();
    let mut last: Vec<String> = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if last.len() == KEPT {
            last.remove(0);
        }
        last.push(line.clone());
        run.report.event(&Event::Output { line });
    }
    last
}

async fn finish(child: &mut Child, what: &str, last: &[String]) -> Result<(), Failure> {
    let status = child.wait().await.map_err(failed(what))?;
    if status.success() {
        return Ok(());
    }
    let tail: String = last.iter().map(|line| format!("\n  {line}")).collect();
    Err(Failure::new(format!("failed to {what}: {status}{tail}")))
}

/// Removes a file, or a folder with everything in it, unless something is mounted there.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    let what = format!("remove `{}`", path.display());
    if let Some(mount) = mounted_below(path).map_err(failed(&what))? {
        return Err(Failure::new(format!("failed to {what}: `{}` is a mount point", mount.display()))
            .help("unmount it, then run `baker clean`"));
    }
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(failed(what))
}

/// A mount point at or below a path (proc(5), mountinfo: the fifth field).
fn mounted_below(path: &Path) -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.into_iter().find(|point| point.starts_with(path)))
}
