//! The rows of a table of an `SQLite` database, read without that library (its manual, "Database File Format").
//!
//! It is what reading the packages of rpm needs: one table, from first to last, and of each row only its beginning.
//! The write-ahead log is not read: who calls this makes sure that there is nothing in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::invalid;

/// Where the bytes of a database are.
pub(super) trait Source {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, at)
    }
}

impl Source for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|from| self.get(from..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

const MAGIC: &[u8] = b"SQLite format 3\0";

/// The first page begins with the header of the database.
const HEADER: usize = 100;

/// A tree of pages that is deeper than this is a loop: with two entries a page, 20 are a million pages.
const DEEPEST: u32 = 20;

/// The description of a table is a line of SQL.
const LONGEST_SCHEMA: usize = 64 * 1024;

pub(super) struct Database<'a> {
    source: &'a dyn Source,
    page_size: usize,
    /// The part of a page that is used.
    usable: usize,
    /// The number of pages, as the header says.
    pages: u32,
}

/// A row: the bytes of its record, of which those that do not fit into its page are read when they are asked for.
pub(super) struct Row<'a> {
    database: &'a Database<'a>,
    local: &'a [u8],
    overflow: u32,
    length: usize,
}

/// Where the value of a column is in the record of its row.
struct Column {
    kind: u64,
    start: usize,
    length: usize,
}

impl<'a> Database<'a> {
    pub(super) fn open(source: &'a dyn Source) -> io::Result<Self> {
        let mut header = [0; HEADER];
        source.read_exact_at(&mut header, 0)?;
        if !header.starts_with(MAGIC) {
            return Err(invalid("it is no SQLite database"));
        }
        // The size 65536 does not fit and is written as 1.
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = page_size.saturating_sub(usize::from(header[20]));
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
            return Err(invalid("the size of its pages is not valid"));
        }
        let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
        Ok(Self { source, page_size, usable, pages })
    }

    /// Reads every row of a table; none if there is no such table.
    pub(super) fn rows(
        &self,
        table: &str,
        each: &mut dyn FnMut(&Row<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut root = None;
        // The first page is the root of the table of tables: type, name, name of the table, root, SQL.
        self.walk(1, &mut |row| {
            let columns = row.columns(4)?;
            let [kind, name, _, page] = &columns[..] else { return Ok(()) };
            if row.text(kind)? == b"table" && row.text(name)? == table.as_bytes() {
                root = u32::try_from(row.integer(page)?).ok();
            }
            Ok(())
        })?;
        root.map_or(Ok(()), |root| self.walk(root, each))
    }

    fn walk(&self, root: u32, each: &mut dyn FnMut(&Row<'_>) -> io::Result<()>) -> io::Result<()> {
        // No page is in a tree twice, so there are not more visits than pages.
        let mut visits = self.pages;
        self.visit(root, DEEPEST, &mut visits, each)
    }

    fn visit(
        &self,
        number: u32,
        depth: u32,
        visits: &mut u32,
        each: &mut dyn FnMut(&Row<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let looped = || invalid("its pages lead back to themselves");
        *visits = visits.checked_sub(1).ok_or_else(looped)?;
        let depth = depth.checked_sub(1).ok_or_else(looped)?;
        let page = self.page(number)?;
        let page = page.get(..self.usable).ok_or_else(broken)?;
        let start = if number == 1 { HEADER } else { 0 };
        let kind = page[start];
        let cells = usize::from(u16_at(page, start + 3)?);
        match kind {
            // An inner page: a child before each key, and one behind the last.
            5 => {
                for index in 0..cells {
                    let cell = usize::from(u16_at(page, start + 12 + 2 * index)?);
                    self.visit(u32_at(page, cell)?, depth, visits, each)?;
                }
                self.visit(u32_at(page, start + 8)?, depth, visits, each)
            }
            // A leaf.
            13 => {
                for index in 0..cells {
                    let cell = usize::from(u16_at(page, start + 8 + 2 * index)?);
                    each(&self.row(page.get(cell..).ok_or_else(broken)?)?)?;
                }
                Ok(())
            }
            _ => Err(broken()),
        }
    }

    /// The row of a cell: the length of its record, its key, and as much of the record as a page takes.
    fn row<'b>(&'b self, cell: &'b [u8]) -> io::Result<Row<'b>> {
        let (length, after) = varint(cell)?;
        let (_, after_key) = varint(&cell[after..])?;
        let record = &cell[after + after_key..];
        let length = usize::try_from(length).map_err(|_| broken())?;
        let most = self.usable - 35;
        let local = if length <= most {
            length
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fits = least + (length - least) % (self.usable - 4);
            if fits <= most { fits } else { least }
        };
        let overflow = if local < length { u32_at(record, local)? } else { 0 };
        Ok(Row { database: self, local: record.get(..local).ok_or_else(broken)?, overflow, length })
    }

    fn page(&self, number: u32) -> io::Result<Vec<u8>> {
        let index = number.checked_sub(1).ok_or_else(broken)?;
        let mut page = vec![0; self.page_size];
        self.source.read_exact_at(&mut page, u64::from(index) * self.page_size as u64)?;
        Ok(page)
    }
}

impl Row<'_> {
    /// A column that holds bytes, and of these the first ones.
    pub(super) fn bytes(&self, column: usize, limit: usize) -> io::Result<Vec<u8>> {
        let columns = self.columns(column + 1)?;
        let column = columns.get(column).ok_or_else(broken)?;
        let end = column.start.checked_add(column.length.min(limit)).ok_or_else(broken)?;
        let mut bytes = self.beginning(end)?;
        Ok(bytes.split_off(column.start.min(bytes.len())))
    }

    /// The first columns: the record begins with the length of its header and the kind of each.
    fn columns(&self, count: usize) -> io::Result<Vec<Column>> {
        // A number takes nine bytes at most.
        let header = self.beginning(9 * (count + 1))?;
        let (length, mut at) = varint(&header)?;
        let mut start = usize::try_from(length).map_err(|_| broken())?;
        let mut columns = Vec::new();
        while columns.len() < count && at < start {
            let (kind, size) = varint(header.get(at..).ok_or_else(broken)?)?;
            at += size;
            let length = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                // Even ones are bytes, odd ones text.
                12.. => (kind - 12) / 2,
                _ => return Err(broken()),
            };
            let length = usize::try_from(length).map_err(|_| broken())?;
            columns.push(Column { kind, start, length });
            start = start.checked_add(length).ok_or_else(broken)?;
        }
        Ok(columns)
    }

    fn text(&self, column: &Column) -> io::Result<Vec<u8>> {
        if column.length > LONGEST_SCHEMA {
            return Err(broken());
        }
        let end = column.start.checked_add(column.length).ok_or_else(broken)?;
        let mut bytes = self.beginning(end)?;
        Ok(bytes.split_off(column.start.min(bytes.len())))
    }

    fn integer(&self, column: &Column) -> io::Result<i64> {
        match column.kind {
            8 => Ok(0),
            9 => Ok(1),
            1..=6 => {
                let bytes = self.text(column)?;
                let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
                let start = if negative { -1 } else { 0 };
                Ok(bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte)))
            }
            _ => Err(broken()),
        }
    }

    /// The first bytes of the record; all if it is shorter.
    fn beginning(&self, wanted: usize) -> io::Result<Vec<u8>> {
        let wanted = wanted.min(self.length);
        let mut bytes = self.local.get(..wanted.min(self.local.len())).unwrap_or_default().to_vec();
        let mut next = self.overflow;
        while bytes.len() < wanted {
            // Each begins with the number of the one behind it.
            let page = self.database.page(next)?;
            next = u32_at(&page, 0)?;
            let more = page.get(4..self.database.usable).ok_or_else(broken)?;
            bytes.extend_from_slice(&more[..more.len().min(wanted - bytes.len())]);
        }
        Ok(bytes)
    }
}

fn broken() -> io::Error {
    invalid("it is damaged")
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|found| u16::from_be_bytes(*found))
        .ok_or_else(broken)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|found| u32::from_be_bytes(*found))
        .ok_or_else(broken)
}

/// A number of one to nine bytes, seven bits in each and eight in the ninth; and how many bytes it took.
fn varint(bytes: &[u8]) -> io::Result<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        if index == 8 {
            return Ok((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(broken())
}
