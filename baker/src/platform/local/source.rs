//! What a builder starts from: a tree of a distribution's packages, or the archive of an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recipes::op::hex;
use sha2::{Digest, Sha256};

use super::group::ControlGroup;
use super::{Local, Origin, tools};
use crate::failure::{Failure, failed};
use crate::image::LocalSource;
use crate::ledger::Created;
use crate::platform::Run;

/// What every builder needs: to boot, to be told what to do, to fetch packages, and to have a network.
const NEEDED: [&str; 6] = ["ca-certificates", "dbus", "iproute2", "systemd", "systemd-sysv", "udev"];

/// What an installer writes, and packages do not bring: without it a host does not know its own name.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// A tree that is older is made anew: its packages have aged.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Unpacks what a builder starts from, and says in a few words what that was.
pub(super) async fn unpack(
    local: &Local,
    origin: &Origin,
    tree: &Path,
    group: &ControlGroup,
    run: &mut Run<'_>,
) -> Result<String, Failure> {
    let (archive, came_from) = match origin {
        Origin::Image(archive) => (archive.clone(), format!("the image in {}", archive.display())),
        Origin::Release(source) => {
            let (archive, cached) = release(local, source, group, run).await?;
            let how = if cached { "cached" } else { "made of its packages" };
            (archive, format!("{} ({how})", source.suite.codename()))
        }
    };
    fs::create_dir(tree).map_err(failed(format!("make `{}`", tree.display())))?;
    let mut command = tools::command(group, "tar");
    command.args([
        "--extract",
        "--numeric-owner",
        "--same-owner",
        "--preserve-permissions",
        "--xattrs",
        "--xattrs-include=*",
    ]);
    command.arg("--directory").arg(tree).arg("--file").arg(&archive);
    tools::run(command, &format!("unpack `{}`", archive.display()), run).await?;
    Ok(came_from)
}

/// The archive of a release's tree, made if there is none that is young enough.
async fn release(
    local: &Local,
    source: &LocalSource,
    group: &ControlGroup,
    run: &mut Run<'_>,
) -> Result<(PathBuf, bool), Failure> {
    let mut include: Vec<&str> = NEEDED.to_vec();
    include.extend(source.include.iter().map(String::as_str));
    include.sort_unstable();
    include.dedup();
    let include = include.join(",");
    let suite = source.suite.codename();
    let key = hex(&Sha256::digest(format!("{suite} minbase {include} {HOSTS}")));
    let archive = local.cache.join(format!("{suite}-{}.tar", &key[..16]));
    let age = fs::metadata(&archive)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age < MAX_AGE) {
        return Ok((archive, true));
    }
    fs::create_dir_all(&local.cache).map_err(failed(format!("make `{}`", local.cache.display())))?;
    let partial = local.cache.join(format!("{}.partial.tar", run.ledger.run()));
    run.ledger.intend(Created::Path { path: partial.clone() }).map_err(failed("write the ledger"))?;
    // Its own mounts are in a namespace of their own, so nothing stays mounted if it is cut off. The mirror
    // is the tool's default: what it is called is the distribution's business.
    let mut command = tools::command(group, "unshare");
    command.args(["--mount", "--propagation=private", "--", "mmdebstrap", "--variant=minbase"]);
    command.arg(format!("--include={include}"));
    command.arg(format!("--customize-hook=printf '{HOSTS}' > \"$1/etc/hosts\""));
    command.arg(suite).arg(&partial);
    command.env("TMPDIR", run.ledger.folder());
    for (name, value) in &local.proxies {
        command.env(name, value);
    }
    tools::run(command, &format!("make a tree of {suite}"), run).await?;
    fs::rename(&partial, &archive).map_err(failed(format!("keep `{}`", archive.display())))?;
    Ok((archive, false))
}
