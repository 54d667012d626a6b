//! A program of this machine whose input is given and whose output is heard line by line.

use std::fs::File;
use std::io;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::{Ended, Input};

/// What becomes of a program when nobody waits for it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abandoned {
    /// It is killed.
    Killed,
    /// It and those that it has started are told to stop: they have something to clean up.
    Told,
}

/// A group of processes that is told to stop, unless its first has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(first) = self.0 {
            let _ = killpg(first, Signal::SIGTERM);
        }
    }
}

/// Runs it to its end. Each line of its standard output goes to `line` as it comes. Ctrl-C is for baker, so it gets none.
pub(super) async fn run(
    mut command: Command,
    input: Input,
    abandoned: Abandoned,
    line: &mut dyn FnMut(&str),
) -> io::Result<Ended> {
    command.process_group(0).kill_on_drop(abandoned == Abandoned::Killed);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let bytes = match input {
        Input::Nothing => {
            command.stdin(Stdio::null());
            None
        }
        Input::File(path) => {
            command.stdin(File::open(path)?);
            None
        }
        Input::Bytes(bytes) => {
            command.stdin(Stdio::piped());
            Some(bytes)
        }
    };
    let mut child = command.spawn()?;
    let first = child.id().filter(|_| abandoned == Abandoned::Told).and_then(|id| i32::try_from(id).ok());
    let mut group = Group(first.map(Pid::from_raw));
    let stdin = child.stdin.take();
    let write = async {
        if let (Some(mut stdin), Some(bytes)) = (stdin, bytes) {
            // A program that does not read all of its input says why with its exit code.
            let _ = stdin.write_all(&bytes).await;
            let _ = stdin.shutdown().await;
        }
        Ok::<_, io::Error>(())
    };
    let stdout = child.stdout.take();
    let read = async {
        if let Some(stdout) = stdout {
            let mut lines = BufReader::new(stdout).lines();
            while let Some(text) = lines.next_line().await? {
                line(&text);
            }
        }
        Ok(())
    };
    let stderr = child.stderr.take();
    let complain = async {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut text).await?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let ((), (), error) = tokio::try_join!(write, read, complain)?;
    let status = child.wait().await?;
    group.0 = None;
    Ok(Ended { code: status.code(), error })
}
