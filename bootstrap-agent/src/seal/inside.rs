//! What is packed inside a file: gzip, xz and zstd, tar, zip and the archives of `ar`, which packages of Debian are.
//!
//! Bytes that are packed as they are have been looked at with the file itself. bzip2 and 7-Zip are not unpacked.

use std::io::{self, BufReader, Cursor, Read, Seek};

use recipes::archive::{decompressed, is_compressed};
use zip::ZipArchive;

/// An archive in an archive in an archive is looked into, and no deeper.
const DEEPEST: u8 = 4;

/// How much is unpacked of one file. What is longer is told, not passed over.
pub(super) const MOST_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// A zip inside another archive is held in memory, for its table is at its end. A longer one is told, too.
const MOST_HELD: u64 = 64 * 1024 * 1024;

/// How many bytes tell what a file is: a tar says so at 257.
pub(super) const MAGIC: usize = 512;

/// Whether a file that begins so has something packed in it.
pub(super) fn is_packed(magic: &[u8]) -> bool {
    is_compressed(magic) || is_zip(magic) || is_tar(magic) || is_ar(magic)
}

/// How unpacking ended, other than at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything was looked at that could be unpacked.
    Whole,
    /// There is more than is unpacked.
    TooBig,
}

/// Visits each stream that is packed in a file.
///
/// # Errors
/// When `visit` fails. What is broken ends where it is broken, as it does for everybody.
pub(super) fn unpack(
    mut file: impl Read + Seek,
    visit: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<Ended> {
    let magic = first(&mut file)?;
    file.rewind()?;
    let mut unpacking = Unpacking { left: MOST_BYTES, ended: Ended::Whole, visit };
    if is_zip(&magic) {
        unpacking.zip(file, 0)?;
    } else {
        unpacking.stream(&mut file, 0)?;
    }
    Ok(unpacking.ended)
}

struct Unpacking<'a> {
    left: u64,
    ended: Ended,
    visit: &'a mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
}

impl Unpacking<'_> {
    /// What is packed in a stream, or the stream, if it is inside another.
    fn stream(&mut self, stream: &mut dyn Read, depth: u8) -> io::Result<()> {
        let Ok(magic) = first(stream) else { return Ok(()) };
        let mut whole = Cursor::new(magic.clone()).chain(stream);
        if depth >= DEEPEST || !is_packed(&magic) {
            return if depth == 0 { Ok(()) } else { self.visit(&mut whole) };
        }
        if is_compressed(&magic) {
            return match decompressed(&magic, BufReader::new(whole)) {
                Ok(mut stream) => self.stream(&mut stream, depth + 1),
                Err(_) => Ok(()),
            };
        }
        if is_tar(&magic) {
            let mut archive = tar::Archive::new(whole);
            for entry in archive.entries().into_iter().flatten() {
                let Ok(mut entry) = entry else { break };
                self.stream(&mut entry, depth + 1)?;
            }
            return Ok(());
        }
        if is_ar(&magic) {
            return self.ar(&mut whole, depth);
        }
        let mut held = Vec::new();
        if whole.take(MOST_HELD + 1).read_to_end(&mut held).is_err() {
            return Ok(());
        }
        if held.len() as u64 > MOST_HELD {
            self.ended = Ended::TooBig;
            return Ok(());
        }
        self.zip(Cursor::new(held), depth)
    }

    fn zip(&mut self, file: impl Read + Seek, depth: u8) -> io::Result<()> {
        let Ok(mut archive) = ZipArchive::new(file) else { return Ok(()) };
        for at in 0..archive.len() {
            // One that needs a password, or is packed in an older way, cannot be looked into.
            let Ok(mut entry) = archive.by_index(at) else { continue };
            self.stream(&mut entry, depth + 1)?;
        }
        Ok(())
    }

    /// `!<arch>\n`, then for each member a header of 60 bytes, of which those from 48 to 58 are its size, and the member, to an
    /// even length (ar(5)).
    fn ar(&mut self, stream: &mut dyn Read, depth: u8) -> io::Result<()> {
        let mut beginning = [0; 8];
        let mut header = [0; 60];
        if stream.read_exact(&mut beginning).is_err() {
            return Ok(());
        }
        while stream.read_exact(&mut header).is_ok() {
            let size =
                std::str::from_utf8(&header[48..58]).ok().and_then(|size| size.trim().parse::<u64>().ok());
            let Some(size) = size else { break };
            let mut member = stream.take(size + size % 2);
            self.stream(&mut member, depth + 1)?;
            if io::copy(&mut member, &mut io::sink()).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn visit(&mut self, stream: &mut dyn Read) -> io::Result<()> {
        let mut counted = Counted { stream, left: &mut self.left, is_over: false };
        (self.visit)(&mut counted)?;
        if counted.is_over {
            self.ended = Ended::TooBig;
        }
        Ok(())
    }
}

/// A stream that ends where it is broken, and when enough was read.
struct Counted<'a> {
    stream: &'a mut dyn Read,
    left: &'a mut u64,
    is_over: bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer).unwrap_or(0) as u64;
        if read > *self.left {
            self.is_over = true;
            return Ok(0);
        }
        *self.left -= read;
        Ok(usize::try_from(read).unwrap_or(0))
    }
}

fn first(stream: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(MAGIC as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_zip(magic: &[u8]) -> bool {
    magic.starts_with(b"PK\x03\x04")
}

fn is_tar(magic: &[u8]) -> bool {
    magic.get(257..262) == Some(b"ustar")
}

fn is_ar(magic: &[u8]) -> bool {
    magic.starts_with(b"!<arch>\n")
}

#[cfg(test)]
mod tests {
    use super::super::planted::{gzip, tar, zip};
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        let mut visit = |stream: &mut dyn Read| {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            texts.push(text);
            Ok(())
        };
        assert_eq!(unpack(Cursor::new(bytes), &mut visit).expect("read"), Ended::Whole);
        texts
    }

    /// As `ar` writes one.
    fn ar(name: &str, bytes: &[u8]) -> Vec<u8> {
        let header =
            format!("!<arch>\n{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len());
        let end: &[u8] = if bytes.len() % 2 == 1 { b"\n" } else { b"" };
        [header.as_bytes(), bytes, end].concat()
    }

    #[test]
    fn what_is_packed_is_found_however_it_is_packed() {
        let text = b"something";
        for packed in [
            gzip(text),
            gzip(&gzip(text)),
            gzip(&tar("app/.env", text)),
            tar("app.gz", &gzip(text)),
            zip("app/.env", text),
            zip("app.tar.gz", &gzip(&tar("x", text))),
            gzip(&tar("app.zip", &zip("x", text))),
            ar("data.tar.gz", &gzip(&tar("./etc/x", text))),
        ] {
            assert!(is_packed(&packed[..packed.len().min(MAGIC)]));
            assert_eq!(texts(&packed), ["something"]);
        }
        assert_eq!(texts(b"something"), Vec::<String>::new(), "the file itself was looked at");
    }

    #[test]
    fn what_is_broken_is_looked_at_up_to_there() {
        let packed = gzip("something ".repeat(10_000).as_bytes());
        let texts = texts(&packed[..packed.len() - 20]);
        assert!(texts.concat().starts_with("something something"), "{texts:?}");
    }
}
