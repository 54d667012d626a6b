//! A package of Debian, read from its file (deb(5)): what it asks for, what it brings, and what its scripts say.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use tar::EntryType;

use super::invalid;
use crate::archive::{decompressed, is_compressed};
use crate::system::{Attributes, Entry, EntryKind, PackageArchive};

/// Files that recipes read are small; of others a plan only has to know that they are there.
const MOST_CONTENT: u64 = 1024 * 1024;

/// What of a file tells whether it is text: there is no byte of zero in it, as `grep` has it.
const SAMPLE: u64 = 512;

/// The folders of files that recipes read, or that say what systemd will do.
const READ: &[&str] = &[
    "/etc",
    "/lib/systemd",
    "/usr/lib/modprobe.d",
    "/usr/lib/sysctl.d",
    "/usr/lib/systemd",
    "/usr/lib/sysusers.d",
    "/usr/lib/tmpfiles.d",
    "/usr/share/pam-configs",
];

/// The scripts that run when a package is installed (deb-postinst(5) and others).
const SCRIPTS: &[&str] = &["config", "preinst", "postinst"];

/// Texts that are looked for in packages.
pub(super) struct LookedFor<'a> {
    texts: Vec<&'a str>,
    finder: AhoCorasick,
}

impl<'a> LookedFor<'a> {
    pub(super) fn new(texts: &'a BTreeSet<String>) -> io::Result<Self> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let finder = AhoCorasick::new(&texts).map_err(io::Error::other)?;
        Ok(Self { texts, finder })
    }

    /// Notes those of them that are in this.
    fn note(&self, bytes: &[u8], found: &mut BTreeSet<String>) {
        for found_here in self.finder.find_overlapping_iter(bytes) {
            let text = self.texts[found_here.pattern().as_usize()];
            if !found.contains(text) {
                found.insert(text.to_owned());
            }
        }
    }
}

/// Reads a package.
pub(super) fn read(file: impl Read, looked_for: &LookedFor<'_>) -> io::Result<PackageArchive> {
    let mut file = BufReader::new(file);
    let mut archive = PackageArchive::default();
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if magic != *b"!<arch>\n" {
        return Err(invalid("is no package of Debian"));
    }
    // A header of 60 bytes, of which the first 16 are the name and those from 48 to 58 the size; then the member, to an even
    // length (ar(5)).
    let mut header = [0; 60];
    while file.read_exact(&mut header).is_ok() {
        let field =
            |range| header.get(range).and_then(|field| std::str::from_utf8(field).ok()).map(str::trim);
        let size = field(48..58).and_then(|size| size.parse::<u64>().ok());
        let (Some(name), Some(size)) = (field(0..16), size) else { return Err(invalid("is broken")) };
        let mut member = file.by_ref().take(size + size % 2);
        match name.trim_end_matches('/').split_once(".tar") {
            Some(("control", _)) => control(tar_in(&mut member)?, &mut archive)?,
            Some(("data", _)) => data(tar_in(&mut member)?, &mut archive, looked_for)?,
            _ => {}
        }
        io::copy(&mut member, &mut io::sink())?;
    }
    looked_for.note(archive.scripts.as_bytes(), &mut archive.texts);
    Ok(archive)
}

type Tar<'a> = tar::Archive<Box<dyn Read + 'a>>;

fn tar_in(member: &mut dyn Read) -> io::Result<Tar<'_>> {
    let mut magic = Vec::new();
    member.take(6).read_to_end(&mut magic)?;
    let whole = BufReader::new(Cursor::new(magic.clone()).chain(member));
    Ok(tar::Archive::new(if is_compressed(&magic) { decompressed(&magic, whole)? } else { Box::new(whole) }))
}

fn control(mut tar: Tar<'_>, archive: &mut PackageArchive) -> io::Result<()> {
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = place(&entry.path()?);
        let name = name.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let mut text = Vec::new();
        if name == "control" || name == "conffiles" || SCRIPTS.contains(&name.as_str()) {
            entry.read_to_end(&mut text)?;
        }
        let text = String::from_utf8_lossy(&text);
        match name.as_str() {
            "control" => relations(&text, archive),
            // A line may begin with `remove-on-upgrade`.
            "conffiles" => {
                let paths = text.lines().filter(|line| line.starts_with('/'));
                archive.conffiles.extend(paths.map(PathBuf::from));
            }
            _ => archive.scripts += &text,
        }
    }
    Ok(())
}

/// The names of other packages in a control file, without versions and architectures (deb-control(5)).
fn relations(control: &str, archive: &mut PackageArchive) {
    let names = |value: &str| -> Vec<String> {
        let words = value.split('|').filter_map(|one| one.split_whitespace().next());
        words.map(|name| name.split(':').next().unwrap_or(name).to_owned()).collect()
    };
    let each = |value: &str| value.split(',').map(names).collect::<Vec<_>>();
    // What a field says may go on in lines that begin with a space.
    let unfolded = control.replace("\n ", " ");
    for (field, value) in unfolded.lines().filter_map(|line| line.split_once(':')) {
        match field {
            "Depends" | "Pre-Depends" => archive.depends.extend(each(value)),
            "Recommends" => archive.recommends.extend(each(value)),
            "Provides" => archive.provides.extend(each(value).concat()),
            _ => {}
        }
    }
}

fn data(mut tar: Tar<'_>, archive: &mut PackageArchive, looked_for: &LookedFor<'_>) -> io::Result<()> {
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = place(&entry.path()?);
        let mut content = None;
        let kind = match entry.header().entry_type() {
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| invalid("has a link that leads nowhere"))?;
                EntryKind::Symlink { target: target.into_owned() }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::Link => {
                if entry.header().entry_type() != EntryType::Link && entry.size() <= MOST_CONTENT {
                    let mut bytes = Vec::new();
                    entry.by_ref().take(SAMPLE).read_to_end(&mut bytes)?;
                    // What the scripts of packages run or read, is a script as well, or they name it.
                    let is_read = READ.iter().any(|folder| path.starts_with(folder))
                        || bytes.starts_with(b"#!")
                        || path.to_str().is_some_and(|path| archive.scripts.contains(path));
                    let is_text = !(looked_for.texts.is_empty() || bytes.contains(&0));
                    if is_read || is_text {
                        entry.read_to_end(&mut bytes)?;
                        looked_for.note(&bytes, &mut archive.texts);
                        content = is_read.then_some(bytes);
                    }
                }
                EntryKind::File
            }
            _ => EntryKind::Other,
        };
        let header = entry.header();
        let name = |name: Result<Option<&str>, _>, number: u64| match name {
            Ok(Some(name)) if !name.is_empty() => name.to_owned(),
            _ if number == 0 => "root".to_owned(),
            _ => number.to_string(),
        };
        let attributes = Attributes {
            owner: name(header.username(), header.uid()?),
            group: name(header.groupname(), header.gid()?),
            mode: if matches!(kind, EntryKind::Symlink { .. }) { 0o777 } else { header.mode()? & 0o7777 },
        };
        archive.entries.insert(path, (Entry { kind, attributes }, content));
    }
    Ok(())
}

/// Where `./etc/x` goes.
fn place(path: &Path) -> PathBuf {
    Path::new("/").join(path.strip_prefix(".").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::samples::{gzip, tar};

    /// An archive of ar with these members.
    fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, member) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, member.len()).bytes(),
            );
            bytes.extend(member);
            bytes.extend(vec![b'\n'; member.len() % 2]);
        }
        bytes
    }

    fn package() -> Vec<u8> {
        let control = "Package: site\nDepends: libc6 (>= 2.36), adduser:any |\n passwd\nRecommends: logrotate\nProvides: web (= 1)\nDescription: a\n Depends: b\n";
        let file = EntryType::Regular;
        ar(&[
            ("debian-binary", b"2.0\n".to_vec()),
            (
                "control.tar.gz",
                gzip(&tar(&[
                    (file, "./control", control),
                    (file, "./conffiles", "/etc/site.conf\nremove-on-upgrade /etc/old\n"),
                    (file, "./postinst", "adduser site\n. /usr/share/site/functions\n"),
                    (file, "./prerm", "deluser site\n"),
                ])),
            ),
            (
                "data.tar",
                tar(&[
                    (EntryType::Directory, "./", ""),
                    (EntryType::Directory, "./etc/", ""),
                    (file, "./etc/site.conf", "a = 1\n"),
                    (file, "./usr/bin/site", "program"),
                    (file, "./usr/bin/site-setup", "#!/bin/sh\ntouch /etc/made\n"),
                    (file, "./usr/share/site/functions", "a() { b; }\n"),
                    (file, "./usr/share/site/other", "text"),
                    (EntryType::Symlink, "./usr/bin/s", "site"),
                    (EntryType::Link, "./usr/bin/other", "./usr/bin/site"),
                ]),
            ),
        ])
    }

    fn read(file: &[u8]) -> io::Result<PackageArchive> {
        let texts =
            ["a = 1", "touch", "adduser site", "program", "nowhere", "text"].map(str::to_owned).into();
        super::read(file, &LookedFor::new(&texts)?)
    }

    #[test]
    fn a_package_says_what_it_wants_has_and_runs() {
        let archive = read(&package()[..]).expect("a package");
        assert_eq!(archive.depends, [vec!["libc6"], vec!["adduser", "passwd"]]);
        assert_eq!(archive.recommends, [["logrotate"]]);
        assert_eq!(archive.provides.into_iter().collect::<Vec<_>>(), ["web"]);
        assert_eq!(archive.scripts, "adduser site\n. /usr/share/site/functions\n");
        assert_eq!(archive.conffiles.into_iter().collect::<Vec<_>>(), [Path::new("/etc/site.conf")]);
        let texts: Vec<String> = archive.texts.into_iter().collect();
        assert_eq!(texts, ["a = 1", "adduser site", "program", "text", "touch"]);
        let entries: Vec<String> = archive
            .entries
            .iter()
            .map(|(path, (entry, content))| {
                let content = content.as_deref().map(String::from_utf8_lossy);
                format!("{} {:?} {} {content:?}", path.display(), entry.kind, entry.attributes)
            })
            .collect();
        insta::assert_snapshot!(entries.join("\n"), @r##"
        / Directory root:root 0755 None
        /etc Directory root:root 0755 None
        /etc/site.conf File root:root 0644 Some("a = 1\n")
        /usr/bin/other File root:root 0644 None
        /usr/bin/s Symlink { target: "site" } root:root 0777 None
        /usr/bin/site File root:root 0644 None
        /usr/bin/site-setup File root:root 0644 Some("#!/bin/sh\ntouch /etc/made\n")
        /usr/share/site/functions File root:root 0644 Some("a() { b; }\n")
        /usr/share/site/other File root:root 0644 None
        "##);
    }

    #[test]
    fn what_is_no_package_or_ends_too_early_is_an_error() {
        let package = package();
        assert!(read(&b"!<arch>"[..]).is_err());
        assert!(read(&b"PK\x03\x04    "[..]).is_err());
        assert!(read(&package[..200]).is_err());
    }
}
