//! How baker talks to a builder.

mod host;
mod local;
mod program;
mod ssh;

use std::future::Future;
use std::io;
use std::path::PathBuf;

pub use host::{HostSession, Place};
pub use local::LocalSession;
pub use ssh::{Keys, Proxy, Reach, SshSession};

/// What a program on the builder reads as its input.
#[derive(Debug, Clone)]
pub enum Input {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
    /// What is in a file of this machine.
    File(PathBuf),
}

/// How a program on the builder ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it wrote on standard error.
    pub error: String,
}

/// A way to run programs on a builder, as root.
pub trait Session {
    /// Runs a program to its end. Each line of its standard output goes to `line` as it comes.
    fn run(
        &self,
        argv: &[&str],
        input: Input,
        line: &mut dyn FnMut(&str),
    ) -> impl Future<Output = io::Result<Ended>>;

    /// The command by which somebody connects as baker does, if the builder outlives baker.
    fn way_in(&self) -> Option<String> {
        None
    }
}
