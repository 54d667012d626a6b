//! The leak scan: keys, credentials and passwords anywhere in the tree.
//!
//! A file that a package brought, unchanged, is public already and is never a leak.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use md5::{Digest, Md5};
use memchr::memmem::Finder;
use regex::bytes::Regex;
use serde::Serialize;

/// Something that must not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where, from the root.
    pub path: String,
    /// The line, from 1, if it is in the middle of a file.
    pub line: Option<usize>,
    /// What it looks like. What it is, is never told.
    pub what: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}", self.what, self.path)?;
        self.line.map_or(Ok(()), |line| write!(formatter, ":{line}"))
    }
}

/// What a leak looks like: text that is searched for, and what has to follow it there for it to be one.
/// Finding text is as fast as reading; the pattern is tried only where the text is.
const PATTERNS: &[Pattern] = &[
    // A key block needs its content: programs that handle keys contain the headers.
    Pattern {
        what: "a private key",
        texts: &["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----"],
        follows: r"\s+(?:[A-Za-z-]+: [^\n]*\n\s*)*[A-Za-z0-9+/=]{32}",
    },
    Pattern {
        what: "an AWS access key",
        texts: &["AKIA", "ASIA"],
        follows: r"[A-Z2-7]{16}(?:[^A-Za-z0-9]|$)",
    },
    Pattern {
        what: "an AWS secret key",
        texts: &[
            "secret_access_key",
            "SECRET_ACCESS_KEY",
            "secretAccessKey",
            "SecretAccessKey",
            "aws_secret_key",
        ],
        follows: r"\W{1,5}[A-Za-z0-9/+]{40}(?:[^A-Za-z0-9/+]|$)",
    },
    Pattern {
        what: "a GitHub token",
        texts: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        follows: "[A-Za-z0-9]{36}",
    },
    Pattern { what: "a GitHub token", texts: &["github_pat_"], follows: "[A-Za-z0-9_]{60}" },
    Pattern { what: "a GitLab token", texts: &["glpat-"], follows: "[A-Za-z0-9_-]{20}" },
    Pattern {
        what: "a Slack token",
        texts: &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"],
        follows: "[A-Za-z0-9-]{20}",
    },
    Pattern { what: "a Google API key", texts: &["AIza"], follows: "[A-Za-z0-9_-]{35}(?:[^A-Za-z0-9_-]|$)" },
    Pattern {
        what: "a password in a URL",
        texts: &["://"],
        follows: r#"[A-Za-z0-9._%-]{1,64}:[^\s/@:'"<>{}$*%\x00]{6,64}@[A-Za-z0-9.-]"#,
    },
];

struct Pattern {
    what: &'static str,
    texts: &'static [&'static str],
    follows: &'static str,
}

/// Keys that AWS's documentation uses.
const DUMMIES: &[&[u8]] =
    &[b"AKIAIOSFODNN7EXAMPLE", b"AKIAI44QH8DHBEXAMPLE", b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"];

/// Files whose being there is the leak, by the end of their path.
const FILES: &[(&str, &str)] = &[
    (".aws/credentials", "AWS credentials"),
    (".docker/config.json", "credentials of a registry"),
    (".git-credentials", "credentials of a repository"),
    (".netrc", "credentials of hosts"),
    (".npmrc", "credentials of a registry"),
    (".pypirc", "credentials of a registry"),
    (".ssh/authorized_keys", "a key that logs in"),
    (".kube/config", "credentials of a cluster"),
];

/// A longer file is looked through in parts, which overlap by more than anything that is searched for.
const PART: usize = 16 * 1024 * 1024;
const OVERLAP: usize = 16 * 1024;

/// Where nothing of the image is.
const ELSEWHERE: &[&str] = &["proc", "sys", "dev", "run"];

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to scan `{}`: {source}", path.display())]
pub struct ScanError {
    path: PathBuf,
    source: io::Error,
}

/// Looks at every file below a root.
///
/// # Errors
/// The first path that could not be read: what was not looked at is not known to be clean.
pub fn scan(root: &Path) -> Result<Vec<Finding>, ScanError> {
    let mut findings = Vec::new();
    let mut packaged = LazyPackaged { root, sums: None };
    // This program is full of what leaks look like.
    let ourselves = fs::metadata("/proc/self/exe").map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| ScanError { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let failed = |source| ScanError { path: path.clone(), source };
            let metadata = path.symlink_metadata().map_err(failed)?;
            let inside = path.strip_prefix(root).unwrap_or(&path);
            if metadata.is_dir() && !ELSEWHERE.iter().any(|elsewhere| inside == Path::new(elsewhere)) {
                folders.push(path);
            } else if metadata.is_file()
                && metadata.len() > 0
                && ourselves != Some((metadata.dev(), metadata.ino()))
            {
                let found = look_through(inside, File::open(&path).map_err(failed)?, PART).map_err(failed)?;
                if !found.is_empty() && !packaged.has(inside) && !packaged.has_source_of(inside) {
                    findings.extend(found);
                }
            }
        }
    }
    findings.sort();
    Ok(findings)
}

/// Looks at what is read, part by part. Of each kind of leak the first in a part is told.
fn look_through(path: &Path, mut reader: impl Read, part: usize) -> io::Result<Vec<Finding>> {
    let mut found: Vec<Finding> = Vec::new();
    let (mut bytes, mut lines_before) = (Vec::new(), 0);
    loop {
        let kept = bytes.len();
        let read = reader.by_ref().take((part - kept) as u64).read_to_end(&mut bytes)?;
        if read == 0 && !(found.is_empty() && kept == 0) {
            return Ok(found);
        }
        for mut finding in look(path, &bytes) {
            finding.line = finding.line.map(|line| line + lines_before);
            if !found.iter().any(|other| other.what == finding.what) {
                found.push(finding);
            }
        }
        if bytes.len() < part {
            return Ok(found);
        }
        let passed = part - OVERLAP.min(part / 2);
        lines_before += bytes[..passed].iter().filter(|&&byte| byte == b'\n').count();
        bytes.drain(..passed);
    }
}

fn look(path: &Path, bytes: &[u8]) -> Vec<Finding> {
    let shown = format!("/{}", path.display());
    let mut findings: Vec<Finding> = Vec::new();
    for (pattern, finders, follows) in searches() {
        let is_leak = |&at: &usize| {
            let rest = &bytes[at..];
            !DUMMIES
                .iter()
                .any(|dummy| rest[..rest.len().min(120)].windows(dummy.len()).any(|text| text == *dummy))
        };
        let places = finders.iter().flat_map(|finder| {
            let length = finder.needle().len();
            finder.find_iter(bytes).filter(move |at| follows.is_match(&bytes[at + length..])).filter(is_leak)
        });
        if let Some(at) = places.min() {
            let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
            findings.push(Finding { path: shown.clone(), line: Some(line), what: pattern.what });
        }
    }
    let known = FILES.iter().filter(|(end, _)| path.ends_with(end));
    findings.extend(known.map(|(_, what)| Finding { path: shown.clone(), line: None, what }));
    if path == Path::new("etc/shadow") {
        findings.extend(passwords(&shown, bytes));
    }
    findings
}

/// Every pattern with what searches for it, made once.
fn searches() -> &'static [(&'static Pattern, Vec<Finder<'static>>, Regex)] {
    static SEARCHES: LazyLock<Vec<(&Pattern, Vec<Finder<'static>>, Regex)>> = LazyLock::new(|| {
        let search = |pattern: &'static Pattern| {
            let finders = pattern.texts.iter().map(Finder::new).collect();
            (pattern, finders, Regex::new(&format!("^(?:{})", pattern.follows)).expect("a valid pattern"))
        };
        PATTERNS.iter().map(search).collect()
    });
    &SEARCHES
}

/// Accounts that a password opens, and those that none is needed for.
fn passwords(path: &str, shadow: &[u8]) -> Vec<Finding> {
    let text = String::from_utf8_lossy(shadow);
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(hash) = line.split(':').nth(1) else { continue };
        let what = match hash.chars().next() {
            None => "an account without a password",
            Some('!' | '*') => continue,
            Some(_) => "the password of an account",
        };
        findings.push(Finding { path: path.into(), line: Some(index + 1), what });
    }
    findings
}

/// The checksums of packages' files, read when the first is asked for.
struct LazyPackaged<'a> {
    root: &'a Path,
    sums: Option<BTreeMap<String, String>>,
}

impl LazyPackaged<'_> {
    /// Whether a package brought exactly this file.
    fn has(&mut self, path: &Path) -> bool {
        let root = self.root;
        let sums = self.sums.get_or_insert_with(|| sums(root));
        // dpkg may know a path under /lib that is under /usr/lib really.
        let name = path.to_string_lossy();
        let known = sums.get(name.as_ref()).or_else(|| sums.get(name.strip_prefix("usr/")?));
        known.is_some_and(|known| md5(&root.join(path)).is_ok_and(|sum| sum == *known))
    }

    /// Whether this is Python's byte code of a file that a package brought: the package's maintainer script
    /// compiled it here, as `FOLDER/__pycache__/NAME.TAG.pyc` of `FOLDER/NAME.py` (PEP 3147).
    fn has_source_of(&mut self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let module =
            name.strip_suffix(".pyc").and_then(|name| name.split_once('.')).map(|(module, _)| module);
        let (Some(module), Some(cache)) = (module, path.parent()) else { return false };
        let (true, Some(folder)) = (cache.ends_with("__pycache__"), cache.parent()) else { return false };
        let source = folder.join(format!("{module}.py"));
        self.has(&source)
    }
}

fn md5(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Md5::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(recipes::op::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn sums(root: &Path) -> BTreeMap<String, String> {
    let mut sums = BTreeMap::new();
    let folder = root.join("var/lib/dpkg/info");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "md5sums") {
            continue;
        }
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| line.split_once("  "));
        sums.extend(lines.map(|(sum, name)| (name.to_owned(), sum.to_owned())));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        look(Path::new(path), text.as_bytes()).iter().map(ToString::to_string).collect()
    }

    /// Built here so that scanners of this repository find no key in it.
    fn key() -> String {
        format!(
            "-----BEGIN {} KEY-----\n{}\n-----END",
            "OPENSSH PRIVATE",
            "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ".repeat(2)
        )
    }

    #[test]
    fn leaks_are_found_and_never_shown() {
        assert_eq!(found("etc/app/key", &format!("x\n{}", key())), ["a private key in /etc/app/key:2"]);
        let access = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
        assert_eq!(found("opt/env", &format!("ID={access}\n")), ["an AWS access key in /opt/env:1"]);
        let secret = format!("aws_secret_access_key = {}", "a1B2".repeat(10));
        assert_eq!(found("x", &secret), ["an AWS secret key in /x:1"]);
        assert_eq!(found("x", &format!("ghp_{}", "a".repeat(36))), ["a GitHub token in /x:1"]);
        assert_eq!(found("x", "postgres://app:sup3rsecret@db.internal/app"), ["a password in a URL in /x:1"]);
        assert_eq!(found("root/.aws/credentials", "x"), ["AWS credentials in /root/.aws/credentials"]);
        assert_eq!(
            found("home/a/.ssh/authorized_keys", "x"),
            ["a key that logs in in /home/a/.ssh/authorized_keys"]
        );
    }

    /// Wherever the border between two parts is.
    #[test]
    fn a_long_file_is_looked_through_to_its_end() {
        let text = format!("{}{}{}", "a line\n".repeat(40), key(), "\nanother line".repeat(40));
        for part in 250..600 {
            let found = look_through(Path::new("x"), text.as_bytes(), part).expect("read");
            let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(shown, ["a private key in /x:41"], "{part}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        assert!(found("usr/bin/ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\0-----END").is_empty());
        assert!(found("x", "AKIAIOSFODNN7EXAMPLE and http://user:password123@example").len() <= 1);
        assert!(found("x", "AKIAIOSFODNN7EXAMPLE").is_empty());
        assert!(found("x", "proxy=http://user:$PASSWORD@host").is_empty());
    }

    #[test]
    fn passwords_of_accounts_are_found() {
        let shadow = "root:*:1::::::\napp:!:1::::::\nbad:$y$j9T$x:1::::::\nopen::1::::::\n";
        assert_eq!(
            found("etc/shadow", shadow),
            ["the password of an account in /etc/shadow:3", "an account without a password in /etc/shadow:4"]
        );
    }

    #[test]
    fn a_file_of_a_package_is_public_until_it_is_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        let sum = recipes::op::hex(&Md5::digest(key().as_bytes()));
        put("usr/share/doc/x/key", &key());
        put("var/lib/dpkg/info/x.md5sums", &format!("{sum}  usr/share/doc/x/key\n"));
        assert_eq!(scan(folder.path()).expect("scanned"), []);
        put("usr/share/doc/x/key", &format!("{}changed", key()));
        assert_eq!(scan(folder.path()).expect("scanned").len(), 1);
        put("usr/lib/python3/__pycache__/keys.cpython-311.pyc", &key());
        assert_eq!(scan(folder.path()).expect("scanned").len(), 2, "byte code of nobody knows what");
        let sum = recipes::op::hex(&Md5::digest(b"source"));
        put("usr/lib/python3/keys.py", "source");
        put("var/lib/dpkg/info/y.md5sums", &format!("{sum}  usr/lib/python3/keys.py\n"));
        assert_eq!(scan(folder.path()).expect("scanned").len(), 1, "byte code of a package's file");
        put("run/key", &key());
        assert_eq!(scan(folder.path()).expect("scanned").len(), 1, "what is on tmpfs is not in the image");
    }
}
