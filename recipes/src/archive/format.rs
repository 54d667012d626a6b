//! How an archive is compressed, and reading it within bounds.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::{ArchiveError, MOST_BYTES, ReadSeek};

/// What `zstd --ultra` and `xz -9` need is less (64 MiB); what a file asks for beyond it is not allocated.
const MOST_WINDOW: u64 = 128 * 1024 * 1024;

/// What an archive turned out to be.
pub(super) enum Format {
    /// A tar, without its compression.
    Tar(Bounded<Box<dyn Read>>),
    Zip(Box<dyn ReadSeek>),
}

/// Looks at how a file begins.
pub(super) fn open(mut file: Box<dyn ReadSeek>) -> Result<Format, ArchiveError> {
    let magic = first(&mut file, 6)?;
    file.seek(SeekFrom::Start(0))?;
    if magic.starts_with(b"PK\x03\x04") || magic.starts_with(b"PK\x05\x06") {
        return Ok(Format::Zip(file));
    }
    let file = BufReader::new(file);
    let mut stream: Box<dyn Read> =
        if is_compressed(&magic) { decompressed(&magic, file)? } else { Box::new(file) };
    // POSIX.1-1988 and GNU put `ustar` there (tar(5)); without it any file would be taken for a tar.
    let header = first(&mut stream, 512)?;
    if header.get(257..262) != Some(b"ustar") {
        return Err(ArchiveError::UnknownFormat);
    }
    Ok(Format::Tar(Bounded::new(Box::new(Cursor::new(header).chain(stream)))))
}

/// Whether a file that begins so is compressed in a way that [`decompressed`] knows.
pub fn is_compressed(magic: &[u8]) -> bool {
    matches!(magic, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]) || magic.starts_with(b"\xfd7zXZ\0")
}

/// What is in a file that is compressed (gzip, xz or zstd), as its first bytes tell.
///
/// # Errors
/// When it is not, or its first frame cannot be read.
pub fn decompressed<'a>(magic: &[u8], file: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(Zstd::new(file)?),
        _ => {
            let kibibytes = u32::try_from(MOST_WINDOW / 1024).unwrap_or(u32::MAX);
            Box::new(XzReader::new_mem_limit(file, true, kibibytes))
        }
    })
}

/// The first bytes of a stream, fewer if it has no more.
fn first(stream: &mut dyn Read, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A stream that fails instead of going on for longer than it may.
pub(super) struct Bounded<R> {
    stream: R,
    read: u64,
    limit: Limit,
}

/// Up to where a stream may be read; it moves as its entries are known.
#[derive(Clone)]
pub(super) struct Limit(Rc<Cell<u64>>);

impl Limit {
    pub(super) fn set(&self, limit: u64) {
        self.0.set(limit.min(MOST_BYTES));
    }
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, read: 0, limit: Limit(Rc::new(Cell::new(MOST_BYTES))) }
    }

    pub(super) fn limit(&self) -> Limit {
        self.limit.clone()
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.read += read as u64;
        if self.read > self.limit.0.get() {
            return Err(io::Error::other(match self.limit.0.get() {
                MOST_BYTES => ArchiveError::TooBig.to_string(),
                _ => "an entry is longer than its header says, or a name longer than 1 MiB".into(),
            }));
        }
        Ok(read)
    }
}

/// All frames of a file; the decoder ends behind the first.
struct Zstd<R: BufRead>(Option<StreamingDecoder<R, FrameDecoder>>);

impl<R: BufRead> Zstd<R> {
    fn new(file: R) -> io::Result<Self> {
        let decoder =
            StreamingDecoder::new_with_max_window_size(file, MOST_WINDOW).map_err(io::Error::other)?;
        Ok(Self(Some(decoder)))
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut decoder) = self.0.take() {
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                self.0 = Some(decoder);
                return Ok(read);
            }
            let frame = &decoder.decoder;
            if let (Some(written), Some(found)) =
                (frame.get_checksum_from_data(), frame.get_calculated_checksum())
                && written != found
            {
                return Err(io::Error::other("the checksum of a frame is wrong"));
            }
            let mut file = decoder.into_inner();
            if !file.fill_buf()?.is_empty() {
                *self = Self::new(file)?;
            }
        }
        Ok(0)
    }
}
