//! The programs under test, and where they are.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// The root of the project: where cargo says that it runs this, since a build may be used in another checkout; else where it
/// was built.
#[expect(clippy::disallowed_methods, reason = "every program of the test bed may be run by cargo")]
pub fn project() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&package).parent().map(Path::to_owned).unwrap_or_default()
}

/// `baker`, as `make` builds it.
///
/// # Errors
/// When it is not there.
pub fn baker() -> io::Result<PathBuf> {
    there(target()?.join("release/baker"))
}

/// `bootstrap-agent`, static, as `make` builds it.
///
/// # Errors
/// When it is not there.
pub fn agent() -> io::Result<PathBuf> {
    there(target()?.join(format!("{}-unknown-linux-musl/agent/bootstrap-agent", std::env::consts::ARCH)))
}

/// `moto_server`, in the project's Python environment.
///
/// # Errors
/// When it is not there.
pub fn moto_server() -> io::Result<PathBuf> {
    there(project().join(".venv/bin/moto_server"))
}

/// `python`, in the same environment.
///
/// # Errors
/// When it is not there.
pub fn python() -> io::Result<PathBuf> {
    there(project().join(".venv/bin/python"))
}

/// Which programs are tested: another one bakes other images.
///
/// # Errors
/// When they are not there.
pub fn version() -> io::Result<String> {
    let mut hash = DefaultHasher::new();
    fs::read(baker()?)?.hash(&mut hash);
    fs::read(agent()?)?.hash(&mut hash);
    Ok(format!("{:016x}", hash.finish()))
}

/// A number for texts: others have another one.
pub fn hash(texts: &[&str]) -> u64 {
    let mut hash = DefaultHasher::new();
    texts.hash(&mut hash);
    hash.finish()
}

/// The folder that cargo builds into: this program is in it.
///
/// # Errors
/// When this program is in no such folder.
pub fn target() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let profile = program.ancestors().find(|folder| folder.join(".fingerprint").is_dir());
    let target = profile.and_then(Path::parent);
    target.map(Path::to_owned).ok_or_else(|| io::Error::other("this program is in no target folder"))
}

fn there(path: PathBuf) -> io::Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::other(format!("`{}` is not there: run `make setup build`", path.display())))
}
