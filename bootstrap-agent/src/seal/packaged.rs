//! Which files are as a package brought them: public, and never a leak.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::owners::source_of;

/// The checksums of packages' files, read when the first is asked for.
pub(super) struct Packaged<'a> {
    root: &'a Path,
    sums: OnceLock<HashMap<String, String>>,
}

impl<'a> Packaged<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, sums: OnceLock::new() }
    }

    /// Whether a package brought exactly this file, or what it was compiled from.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.brought(path) || source_of(path).is_some_and(|source| self.brought(&source))
    }

    fn brought(&self, path: &Path) -> bool {
        let sums = self.sums.get_or_init(|| sums(self.root));
        // dpkg may know a path under /lib that is under /usr/lib really.
        let name = path.to_string_lossy();
        let known = sums.get(name.as_ref()).or_else(|| sums.get(name.strip_prefix("usr/")?));
        known.is_some_and(|known| sum(&self.root.join(path), known.len()).is_ok_and(|sum| sum == *known))
    }
}

/// The checksum of a file, of the kind that has so many hexadecimal digits: dpkg's are MD5, rpm's SHA-256.
fn sum(path: &Path, digits: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    if digits == 32 {
        each_part(&mut file, |part| md5.update(part))?;
        return Ok(recipes::op::hex(&md5.finalize()));
    }
    each_part(&mut file, |part| sha256.update(part))?;
    Ok(recipes::op::hex(&sha256.finalize()))
}

/// Everything in a file, part by part.
pub(super) fn each_part(file: &mut dyn Read, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => visit(&buffer[..count]),
        }
    }
}

fn sums(root: &Path) -> HashMap<String, String> {
    let mut sums = HashMap::new();
    for entry in fs::read_dir(root.join("var/lib/dpkg/info")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "md5sums") {
            continue;
        }
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| line.split_once("  "));
        sums.extend(lines.map(|(sum, name)| (name.to_owned(), sum.to_owned())));
    }
    // Those that may be configured are in the database itself: ` /etc/x SUM`, below `Conffiles:`.
    let status = fs::read(root.join("var/lib/dpkg/status")).unwrap_or_default();
    for line in String::from_utf8_lossy(&status).lines() {
        let mut words = line.strip_prefix(" /").unwrap_or_default().split(' ');
        if let (Some(name), Some(sum), None | Some("obsolete")) = (words.next(), words.next(), words.next()) {
            sums.insert(name.to_owned(), sum.to_owned());
        }
    }
    if root == Path::new("/") {
        sums.extend(of_rpm("FILEDIGESTS"));
    }
    sums
}

/// What rpm says of each file, by its path from the root, where there is an rpm: `what` is one of its tags. It is asked on the host itself
/// only: programs of a tree are not run.
pub(super) fn of_rpm(what: &str) -> HashMap<String, String> {
    let asked = Command::new("rpm")
        .args(["--query", "--all", "--queryformat", &format!("[%{{{what}}} %{{FILENAMES}}\\n]")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = asked.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| line.split_once(" /"));
    lines
        .filter(|(said, _)| !said.is_empty())
        .map(|(said, path)| (path.to_owned(), said.to_owned()))
        .collect()
}
