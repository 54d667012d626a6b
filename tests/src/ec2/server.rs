//! moto, in a process of its own, with what is on top of it.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::binaries;
use crate::http::{Answer, Request, exchange};

/// How long it may take to come up.
const LIMIT: Duration = Duration::from_mins(1);

/// The process. It ends with its standard input, so with this process at the latest.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let (socket, log) = (folder.join("moto.socket"), File::create(folder.join("moto.log"))?);
        let process = Command::new(binaries::python()?)
            .arg("-B")
            .arg(binaries::project().join("tests/src/ec2/moto/server.py"))
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Self { process, socket };
        let until = Instant::now() + LIMIT;
        while UnixStream::connect(&server.socket).is_err() {
            if server.process.try_wait()?.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(folder.join("moto.log"))?;
                return Err(io::Error::other(format!("moto does not answer: {log}")));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Has a request of a client answered.
    pub(super) fn forward(&self, request: &Request) -> io::Result<Answer> {
        exchange(UnixStream::connect(&self.socket)?, request)
    }

    /// Asks what is on top of moto.
    pub(super) fn ask(&self, verb: &str, body: &Json) -> io::Result<Json> {
        let request = Request {
            method: "POST".into(),
            path: format!("/cloud/{verb}"),
            headers: [("host".into(), "cloud".into())].into(),
            body: body.to_string().into_bytes(),
        };
        let answer = self.forward(&request)?;
        match answer.status {
            200 => serde_json::from_str(&answer.body).map_err(io::Error::other),
            status => Err(io::Error::other(format!("`{verb}` of {body}: {status}: {}", answer.body))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
