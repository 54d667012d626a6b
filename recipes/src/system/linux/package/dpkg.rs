//! The package database of dpkg, read whole (deb822(5), dpkg-query(1)).

use std::io;
use std::path::Path;

use super::Packages;
use crate::op::Command;
use crate::system::PackageFile;
use crate::system::linux::Linux;

/// Where it is.
pub(super) const STATUS: &str = "/var/lib/dpkg/status";

/// Reads the database. A package is there under its name and under `NAME:ARCHITECTURE`.
pub(crate) fn packages(status: &[u8]) -> Packages {
    let mut packages = Packages::default();
    for paragraph in paragraphs(status) {
        let Some(name) = paragraph.package else { continue };
        let qualified = paragraph.architecture.map(|architecture| format!("{name}:{architecture}"));
        if paragraph.is_half_way() {
            packages.half_there.extend(qualified.into_iter().chain([name.to_owned()]));
            continue;
        }
        let Some(version) = paragraph.version else { continue };
        if !matches!(paragraph.state(), Some("installed" | "config-files")) {
            continue;
        }
        let is_residual = paragraph.state() == Some("config-files");
        if is_residual {
            packages.residual.extend(qualified.into_iter().chain([name.to_owned()]));
            continue;
        }
        if paragraph.wanted() == Some("hold") {
            packages.held.extend(qualified.clone().into_iter().chain([name.to_owned()]));
        }
        packages.of_architecture.extend(qualified.map(|name| (name, version.to_owned())));
        packages.installed.insert(name.to_owned(), version.to_owned());
    }
    packages
}

/// What a package's file says of itself; none if there is none.
pub(super) fn package_file(linux: &Linux, path: &Path) -> io::Result<Option<PackageFile>> {
    if linux.tree.open_file(path)?.is_none() {
        return Ok(None);
    }
    if !linux.tree.is_host() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let path = path.display().to_string();
    let said = linux.runner.read(&Command::new(["dpkg-deb", "--field", &path, "Package", "Version"]))?;
    let found = paragraphs(said.as_bytes()).next().and_then(|paragraph| {
        Some(PackageFile { name: paragraph.package?.into(), version: paragraph.version?.into() })
    });
    found.map(Some).ok_or_else(|| io::Error::other("it does not say which package it is"))
}

/// Whether dpkg was cut off: a package is neither wholly there nor wholly gone.
pub(crate) fn is_interrupted(status: &[u8]) -> bool {
    paragraphs(status).any(|paragraph| paragraph.is_half_way())
}

/// The packages that are wanted and were cut off while they were unpacked.
pub(super) fn half_installed(status: &[u8]) -> Vec<String> {
    let is_half = |paragraph: &Paragraph<'_>| {
        paragraph.state() == Some("half-installed") && matches!(paragraph.wanted(), Some("install" | "hold"))
    };
    let packages = paragraphs(status).filter(is_half).filter_map(|paragraph| paragraph.package);
    packages.map(str::to_owned).collect()
}

#[derive(Default)]
struct Paragraph<'a> {
    package: Option<&'a str>,
    status: Option<&'a str>,
    version: Option<&'a str>,
    architecture: Option<&'a str>,
}

impl Paragraph<'_> {
    /// The first word of `Status: install ok installed`: what is wanted.
    fn wanted(&self) -> Option<&str> {
        self.status.and_then(|status| status.split_whitespace().next())
    }

    fn is_half_way(&self) -> bool {
        matches!(
            self.state(),
            Some("half-installed" | "unpacked" | "half-configured" | "triggers-awaited" | "triggers-pending")
        )
    }

    /// The third word of `Status: install ok installed`.
    fn state(&self) -> Option<&str> {
        self.status.and_then(|status| status.split_whitespace().nth(2))
    }
}

fn paragraphs(status: &[u8]) -> impl Iterator<Item = Paragraph<'_>> {
    // Bytes that are not UTF-8 can only be in descriptions, which are not looked at.
    let mut lines = status.split(|&byte| byte == b'\n').peekable();
    std::iter::from_fn(move || {
        lines.peek()?;
        let mut paragraph = Paragraph::default();
        for line in lines.by_ref() {
            if line.is_empty() {
                break;
            }
            // Continuation lines start with a space; only four fields matter.
            let field = match line.first() {
                Some(b'P') => (&b"Package: "[..], &mut paragraph.package),
                Some(b'S') => (&b"Status: "[..], &mut paragraph.status),
                Some(b'V') => (&b"Version: "[..], &mut paragraph.version),
                Some(b'A') => (&b"Architecture: "[..], &mut paragraph.architecture),
                _ => continue,
            };
            if let Some(value) = line.strip_prefix(field.0) {
                *field.1 = std::str::from_utf8(value).ok().map(str::trim);
            }
        }
        Some(paragraph)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] = b"Package: nginx
Status: install ok installed
Priority: optional
Architecture: amd64
Version: 1.22.1-9+deb12u1
Description: small\n \xff Version: 9
 more

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: libc6
Architecture: i386
Status: hold ok installed
Version: 2.36
";

    #[test]
    fn only_what_is_wholly_installed_counts() {
        let packages = packages(STATUS);
        assert_eq!(packages.version("nginx").map(String::as_str), Some("1.22.1-9+deb12u1"));
        assert_eq!(packages.version("libc6:i386").map(String::as_str), Some("2.36"));
        assert_eq!(packages.version("gone"), None);
        assert_eq!(packages.installed.into_keys().collect::<Vec<_>>(), ["libc6", "nginx"]);
        assert_eq!(packages.held.into_iter().collect::<Vec<_>>(), ["libc6", "libc6:i386"]);
        assert_eq!(packages.residual.into_iter().collect::<Vec<_>>(), ["gone"]);
        assert!(!is_interrupted(STATUS));
    }

    #[test]
    fn what_is_half_unpacked_and_wanted_is_unpacked_anew() {
        let status = b"Package: a\nStatus: install reinstreq half-installed\n
Package: b\nStatus: purge ok half-installed\n
Package: c\nStatus: install ok unpacked\n";
        assert_eq!(half_installed(status), ["a"]);
        assert!(is_interrupted(status) && half_installed(STATUS).is_empty());
    }

    #[test]
    fn a_package_half_way_is_an_interruption() {
        let half = b"Package: a\nStatus: install ok half-configured\nVersion: 1\n\n";
        assert!(is_interrupted(half));
        assert!(packages(half).installed.is_empty());
        assert_eq!(packages(half).half_there.into_iter().collect::<Vec<_>>(), ["a"]);
        assert!(packages(b"").installed.is_empty());
    }
}
