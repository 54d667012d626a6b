//! Archives: what is in a tar or zip, read once from start to end and never held in memory.
//!
//! A plan walks through an archive and compares it with what is on the host; the operation that it plans
//! walks through it again and writes only what the plan found to differ. So a plan can say what changes,
//! and an archive of any size needs a few buffers: as one operation for each file, with its content, it
//! would be in memory as a whole.

use std::io::{self, Read, Seek};
use std::path::PathBuf;

mod entry;
mod format;
mod walk;

pub use format::{decompressed, is_compressed};
pub(crate) use walk::{Stop, walk};

/// An archive for which this is not enough is not what somebody meant to unpack: a bomb, or a disk image.
pub(crate) const MOST_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// The tree of the Linux kernel has some 90 thousand files.
pub(crate) const MOST_ENTRIES: usize = 200_000;

/// What an archive is read from.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// Something in an archive.
pub(crate) struct Item<'a> {
    /// Where it goes, below the folder that the archive is unpacked into.
    pub(crate) path: PathBuf,
    /// Permission bits, without those that an archive does not decide.
    pub(crate) mode: u32,
    pub(crate) kind: ItemKind<'a>,
}

pub(crate) enum ItemKind<'a> {
    /// A directory that the archive has no entry for, but something in.
    Parent,
    Directory,
    File(&'a mut dyn Read),
    Symlink(PathBuf),
    /// Another name of a file that came before.
    HardLink(PathBuf),
}

/// Why an archive is not unpacked, as what comes after its name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("is no tar (plain, gzip, xz or zstd) and no zip")]
    UnknownFormat,
    #[error("has `{name}` in it, {why}")]
    Entry { name: String, why: &'static str },
    #[error("is more than {} GiB when it is unpacked", MOST_BYTES >> 30)]
    TooBig,
    #[error("has more than {MOST_ENTRIES} entries")]
    TooMany,
}

impl ArchiveError {
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Entry { .. } => "pack it anew without it; a link or device can be named in `exclude`",
            Self::Read(_) | Self::UnknownFormat => "see that it is whole, and what it is",
            Self::TooBig | Self::TooMany => "unpack it with a `command`, if it is what you mean",
        }
    }
}

/// Archives for tests.
#[cfg(test)]
pub(crate) mod samples {
    use std::io::Write;

    use tar::{Builder, EntryType, Header};

    /// A tar with these entries: what each is, its name, and its content or where it points.
    pub(crate) fn tar(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, name, content) in entries {
            let mut header = Header::new_ustar();
            let bytes = header.as_mut_bytes();
            // The builder refuses the names that the tests are about.
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            let is_file = matches!(kind, EntryType::Regular);
            if !is_file {
                bytes[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(if is_file { content.len() as u64 } else { 0 });
            header.set_cksum();
            let content = if is_file { content.as_bytes() } else { &[] };
            builder.append(&header, content).expect("in memory");
        }
        builder.into_inner().expect("in memory")
    }

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    /// The file `app/a` with `hello` and a line end in it, packed by tar and xz.
    pub(crate) fn xz() -> Vec<u8> {
        from_hex(
            "fd377a585a000004e6d6b446020021011c00000010cf58cce027ff00645d00309c2c5e61006a7a22d1784544bc23d890049629fc03ba37050e68f97b61d268171bff46cec805f004333a53484c82c70298ca8c7124d458e11cadce5dbccbcd782da24ca7c900253bb5e531f794ddb210e7905dc89e5a8bcbd3f689891280c38453000000ca5cbbffce35a77e00018001805000003e716061b1c467fb020000000004595a",
        )
    }

    /// The same, packed by tar and zstd with a checksum.
    pub(crate) fn zstd() -> Vec<u8> {
        from_hex(
            "28b52ffd6400271d0200b2820910a0ab03a43df188aafe07ff2c8040115303744e31b7ab64ab7dc338aed73be988a4a74829030b20b0d91df68537d22900cf60a4f333edd1011c306880ed14e009032925",
        )
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// The same as a zip, with a link `app/b` to it.
    pub(crate) fn zip() -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file("app/a", options.unix_permissions(0o4755)).expect("in memory");
        writer.write_all(b"hello\n").expect("in memory");
        writer.add_symlink("app/b", "a", options).expect("in memory");
        writer.finish().expect("in memory").into_inner()
    }
}
