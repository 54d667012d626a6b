//! Walking through an archive from its first entry to its last.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::EntryType;
use zip::ZipArchive;

use super::entry::{Kind, Seen, mode_of, path_of, target_of};
use super::format::{Bounded, Format, open};
use super::{ArchiveError, Item, ItemKind, MOST_BYTES, ReadSeek};

/// Between two entries of a tar are their headers and, where they are long, their names.
const MOST_HEADER: u64 = 1024 * 1024;

/// A link is not longer than a path may be (`PATH_MAX`, limits.h).
const LONGEST_LINK: u64 = 4096;

/// Why a walk ended early.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// Because of the archive.
    Archive(ArchiveError),
    /// Because the visitor said so.
    Visitor(E),
}

impl<E> From<ArchiveError> for Stop<E> {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl<E> From<io::Error> for Stop<E> {
    fn from(error: io::Error) -> Self {
        Self::Archive(error.into())
    }
}

/// Visits everything in an archive that is wanted, with the directories above it. All names are checked, also
/// of what is not wanted.
pub(crate) fn walk<E>(
    file: Box<dyn ReadSeek>,
    strip: usize,
    is_wanted: &dyn Fn(&Path) -> bool,
    visit: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let mut walk = Walk { strip, is_wanted, visit, seen: Seen::default() };
    match open(file)? {
        Format::Tar(stream) => walk.tar(stream),
        Format::Zip(file) => walk.zip(file),
    }
}

struct Walk<'a, E> {
    strip: usize,
    is_wanted: &'a dyn Fn(&Path) -> bool,
    visit: &'a mut dyn FnMut(Item<'_>) -> Result<(), E>,
    seen: Seen,
}

impl<E> Walk<'_, E> {
    fn tar(&mut self, stream: Bounded<Box<dyn Read>>) -> Result<(), Stop<E>> {
        let limit = stream.limit();
        limit.set(MOST_HEADER);
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.size() > MOST_BYTES {
                return Err(ArchiveError::TooBig.into());
            }
            limit.set(entry.raw_file_position() + entry.size() + MOST_HEADER);
            let name = entry.path_bytes().into_owned();
            let mode = entry.header().mode()?;
            let Some(path) = path_of(&name, self.strip)? else { continue };
            let refused = |why| ArchiveError::Entry { name: path.display().to_string(), why };
            match entry.header().entry_type() {
                EntryType::Directory => self.item(path, mode, Kind::Directory, ItemKind::Directory)?,
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    self.item(path, mode, Kind::File, ItemKind::File(&mut entry))?;
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                    self.link(path, &target)?;
                }
                EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = path_of(&target, self.strip)?.filter(|target| self.seen.is_file(target));
                    let target = target.ok_or_else(|| refused("a hard link to no file before it"))?;
                    self.item(path, mode, Kind::File, ItemKind::HardLink(target))?;
                }
                // Such a header is about the archive, not about something in it.
                EntryType::XGlobalHeader => {}
                _ if (self.is_wanted)(&path) => {
                    return Err(refused("which is no file, directory or link").into());
                }
                _ => {}
            }
        }
        // Behind the last entry are only zeros, and what tells whether the whole was read as it was packed.
        limit.set(u64::MAX);
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        Ok(())
    }

    fn zip(&mut self, file: Box<dyn ReadSeek>) -> Result<(), Stop<E>> {
        let failed = |error: zip::result::ZipError| Stop::from(io::Error::other(error));
        let mut archive = ZipArchive::new(file).map_err(failed)?;
        let mut size = 0_u64;
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).map_err(failed)?;
            let name = entry.name_raw().to_owned();
            let Some(path) = path_of(&name, self.strip)? else { continue };
            size = size.saturating_add(entry.size());
            if size > MOST_BYTES {
                return Err(ArchiveError::TooBig.into());
            }
            let (is_directory, is_link, mode) = (entry.is_dir(), entry.is_symlink(), entry.unix_mode());
            if is_directory {
                self.item(path, mode.unwrap_or(0o755), Kind::Directory, ItemKind::Directory)?;
            } else if is_link {
                let mut target = Vec::new();
                entry.by_ref().take(LONGEST_LINK).read_to_end(&mut target)?;
                self.link(path, &target)?;
            } else {
                let length = entry.size();
                let mut stream = Bounded::new(&mut entry);
                stream.limit().set(length);
                self.item(path, mode.unwrap_or(0o644), Kind::File, ItemKind::File(&mut stream))?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: PathBuf, target: &[u8]) -> Result<(), Stop<E>> {
        // What is not wanted may lead anywhere.
        let target = if (self.is_wanted)(&path) { target_of(&path, target)? } else { PathBuf::new() };
        self.item(path, 0o777, Kind::Link, ItemKind::Symlink(target))
    }

    fn item(&mut self, path: PathBuf, mode: u32, kind: Kind, item: ItemKind<'_>) -> Result<(), Stop<E>> {
        let parents = self.seen.add(&path, kind)?;
        for parent in parents.into_iter().filter(|parent| (self.is_wanted)(parent)) {
            let item = Item { path: parent, mode: 0o755, kind: ItemKind::Parent };
            (self.visit)(item).map_err(Stop::Visitor)?;
        }
        if !(self.is_wanted)(&path) {
            return Ok(());
        }
        let mode = if kind == Kind::Link { mode } else { mode_of(mode, kind) };
        (self.visit)(Item { path, mode, kind: item }).map_err(Stop::Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Cursor;

    use proptest::prelude::*;
    use tar::EntryType::{Block, Char, Directory, Fifo, GNULongName, Link, Regular, Symlink};

    use super::*;
    use crate::archive::samples;

    /// What a visitor sees, a line each, or why the archive is refused.
    fn seen(bytes: Vec<u8>, strip: usize) -> String {
        let mut lines = String::new();
        let walked = walk::<io::Error>(Box::new(Cursor::new(bytes)), strip, &|_| true, &mut |item| {
            let what = match item.kind {
                ItemKind::Parent => "parent".into(),
                ItemKind::Directory => "directory".into(),
                ItemKind::Symlink(target) => format!("-> {}", target.display()),
                ItemKind::HardLink(target) => format!("= {}", target.display()),
                ItemKind::File(content) => {
                    let mut text = String::new();
                    content.read_to_string(&mut text)?;
                    format!("{text:?}")
                }
            };
            lines.push_str(&format!("{} {:04o} {what}\n", item.path.display(), item.mode));
            Ok(())
        });
        match walked {
            Ok(()) => lines,
            Err(Stop::Archive(error)) => error.to_string(),
            Err(Stop::Visitor(error)) => error.to_string(),
        }
    }

    #[test]
    fn all_formats_are_read() {
        let app = "app 0755 parent\napp/a 0644 \"hello\\n\"\n";
        let tar = samples::tar(&[(Regular, "app/a", "hello\n")]);
        assert_eq!(seen(tar.clone(), 0), app);
        assert_eq!(seen(samples::gzip(&tar), 0), app);
        assert_eq!(seen(samples::xz(), 0), app);
        assert_eq!(seen(samples::zstd(), 0), app);
        assert_eq!(seen([samples::gzip(&tar[..700]), samples::gzip(&tar[700..])].concat(), 0), app);
        assert_eq!(seen(samples::zip(), 0), "app 0755 parent\napp/a 0755 \"hello\\n\"\napp/b 0777 -> a\n");
        assert_eq!(seen(samples::zstd(), 1), "a 0644 \"hello\\n\"\n");
        assert_eq!(seen(b"hello".to_vec(), 0), "is no tar (plain, gzip, xz or zstd) and no zip");
        assert_eq!(seen(samples::gzip(b"hello"), 0), "is no tar (plain, gzip, xz or zstd) and no zip");
    }

    #[test]
    fn links_and_directories_are_told_as_they_are() {
        let entries = [
            (Directory, "./", ""),
            (Regular, "./v1/bin/a", "x"),
            (Directory, "./v1/bin/", ""),
            (Symlink, "./v1/b", "bin/a"),
            (Link, "./v1/c", "./v1/bin/a"),
        ];
        insta::assert_snapshot!(seen(samples::tar(&entries), 1), @"
        bin 0755 parent
        bin/a 0644 \"x\"
        bin 0755 directory
        b 0777 -> bin/a
        c 0644 = bin/a
        ");
    }

    #[test]
    fn what_may_not_be_unpacked_is_refused() {
        let refused = |entries: &[_]| seen(samples::tar(entries), 0);
        insta::assert_snapshot!(refused(&[(Regular, "/etc/passwd", "")]), @"has `/etc/passwd` in it, whose name starts with `/`");
        insta::assert_snapshot!(refused(&[(Regular, "a/../../b", "")]), @"has `a/../../b` in it, whose name leads up by `..`");
        insta::assert_snapshot!(refused(&[(Regular, "a", ""), (Regular, "./a", "")]), @"has `a` in it, more than once");
        insta::assert_snapshot!(refused(&[(Symlink, "a", "b"), (Regular, "a/c", "")]), @"has `a/c` in it, below what is no directory in it");
        insta::assert_snapshot!(refused(&[(Symlink, "a", "/etc")]), @"has `a` in it, a link that may lead out of the folder");
        insta::assert_snapshot!(refused(&[(Symlink, "a", "b/../..")]), @"has `a` in it, a link that may lead out of the folder");
        insta::assert_snapshot!(refused(&[(Link, "a", "/etc/shadow")]), @"has `/etc/shadow` in it, whose name starts with `/`");
        insta::assert_snapshot!(refused(&[(Link, "a", "b")]), @"has `a` in it, a hard link to no file before it");
        for kind in [Block, Char, Fifo] {
            assert_eq!(refused(&[(kind, "a", "")]), "has `a` in it, which is no file, directory or link");
        }
    }

    #[test]
    fn what_is_broken_or_grows_without_end_is_refused() {
        let tar = samples::tar(&[(Regular, "a", &"x".repeat(10_000))]);
        let packed = samples::gzip(&tar);
        insta::assert_snapshot!(seen(packed[..packed.len() - 9].to_vec(), 0), @"cannot be read: incomplete deflate stream");
        let whole = samples::tar(&[(Regular, "app/a", "hello\n")]);
        for packed in [samples::gzip(&whole), samples::xz(), samples::zstd()] {
            let right = seen(packed.clone(), 0);
            for at in 0..packed.len() {
                let mut wrong = packed.clone();
                wrong[at] ^= 1;
                let said = seen(wrong, 0);
                // Only an error has no line end.
                assert!(said == right || !said.ends_with('\n'), "{at}: {said}");
            }
        }
        // A header that promises what is not there, and a name that would fill the memory.
        let mut long = samples::tar(&[(GNULongName, "././@LongLink", "")]);
        let mut header = tar::Header::from_byte_slice(&long[..512]).clone();
        header.set_size(1 << 31);
        header.set_cksum();
        long.splice(..512, header.as_bytes().iter().copied());
        long.extend(vec![b'a'; 2 << 20]);
        insta::assert_snapshot!(seen(long, 0), @"cannot be read: an entry is longer than its header says, or a name longer than 1 MiB");
        let mut size = tar;
        let mut header = tar::Header::from_byte_slice(&size[..512]).clone();
        header.set_size(5 << 30);
        header.set_cksum();
        size.splice(..512, header.as_bytes().iter().copied());
        insta::assert_snapshot!(seen(size, 0), @"is more than 4 GiB when it is unpacked");
    }

    proptest! {
        /// Whatever the bytes, nobody is told of a path that leads out, and nothing panics.
        #[test]
        fn any_bytes_are_an_archive_or_refused(
            at in 0..1600_usize,
            new in proptest::collection::vec(any::<u8>(), 0..40),
            which in 0..4,
        ) {
            let tar = samples::tar(&[(Regular, "d/a", "x"), (Symlink, "d/b", "a"), (Link, "d/c", "d/a")]);
            let mut bytes = match which {
                0 => tar,
                1 => samples::xz(),
                2 => samples::zstd(),
                _ => samples::zip(),
            };
            let at = at.min(bytes.len());
            let end = (at + new.len()).min(bytes.len());
            bytes.splice(at..end, new);
            let walked = walk::<Infallible>(Box::new(Cursor::new(bytes)), 0, &|_| true, &mut |item| {
                let is_below = item.path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
                assert!(is_below, "{:?}", item.path);
                assert_eq!(item.mode & if matches!(item.kind, ItemKind::Symlink(_)) { 0 } else { 0o7022 }, 0);
                Ok(())
            });
            drop(walked);
        }
    }
}
