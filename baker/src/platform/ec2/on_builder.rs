//! What is done on a builder besides what the agent does there.

use crate::failure::{Failure, failed};
use crate::session::{Input, Session, SshSession};

/// Has everything that was written on the volumes of a builder, and nothing be written any more. A builder that nobody
/// ends thaws by itself.
pub(super) async fn freeze(session: &SshSession) -> Result<(), Failure> {
    let script = r#"
set -- $(findmnt --noheadings --raw --list --real --types ext2,ext3,ext4,xfs,btrfs --output MAJ:MIN,TARGET | sort --unique --key=1,1 | cut -d ' ' -f 2)
systemd-run --quiet --no-block --unit=baker-thaw sh -c 'sleep 600; for m; do fsfreeze --unfreeze "$m"; done' sh "$@"
sync
for m; do fsfreeze --freeze "$m"; done"#;
    let ended = session.run(&["sh", "-euc", script], Input::Nothing, &mut |_| {}).await;
    match ended.map_err(failed("freeze the file systems of the builder"))? {
        ended if ended.code == Some(0) => Ok(()),
        ended => {
            let why = ended.error.trim();
            Err(Failure::new(format!("failed to freeze the file systems of the builder: {why}"))
                .help("leave out `quiesce` and `spot`: what is stopped needs no freezing"))
        }
    }
}

/// The packages that are installed on a builder.
pub(super) async fn packages(session: &SshSession) -> Result<Vec<(String, String)>, Failure> {
    let list = "if command -v dpkg-query >/dev/null; then dpkg-query --show --showformat='${db:Status-Abbrev}${Package} ${Version}\\n' | sed -n 's/^ii //p'; \
                else rpm --query --all --queryformat '%{NAME} %{EVR}\\n' | sort; fi";
    let mut packages = Vec::new();
    let mut line = |line: &str| {
        packages.extend(line.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned())));
    };
    let ended = session.run(&["sh", "-c", list], Input::Nothing, &mut line).await;
    match ended.map_err(failed("list the packages"))? {
        ended if ended.code == Some(0) => Ok(packages),
        ended => Err(Failure::new(format!("failed to list the packages: {}", ended.error.trim()))),
    }
}
