//! A program of this machine whose input is given and whose output is heard line by line.

use std::fs::File;
use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::{Ended, Input};

/// Runs it to its end. Each line of its standard output goes to `line` as it comes.
pub(super) async fn run(mut command: Command, input: Input, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
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
    Ok(Ended { code: status.code(), error })
}
