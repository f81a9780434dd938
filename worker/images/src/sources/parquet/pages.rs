//! Pages, looked at before the library unpacks them: it takes as much memory as a page says that it needs.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A header has a few numbers; and a least and a greatest value, which for images may be images.
const HEADER_BYTES_MAX: usize = 1 << 20;
const HEADER_BYTES_USUAL: usize = 4 << 10;
/// Of a dictionary's values; each takes ten times as much in memory at most.
const VALUE_BYTES_MIN: usize = 4;
/// Thrift's structs within structs.
const DEPTH_MAX: u32 = 16;
const INDEX_PAGE: i64 = 1;

pub(super) struct GuardedPages {
    inner: Box<dyn PageReader>,
    file: File,
    /// Of the next header.
    at: u64,
    /// Of the column's part of the file.
    end: u64,
    bytes_max: u64,
    has_dictionary: bool,
}

impl GuardedPages {
    pub(super) fn new(inner: Box<dyn PageReader>, file: File, (at, length): (u64, u64), bytes_max: u64) -> Self {
        Self { inner, file, at, end: at.saturating_add(length), bytes_max, has_dictionary: false }
    }

    fn check_next(&mut self) -> Result<()> {
        while self.at < self.end {
            let header = self.header(HEADER_BYTES_USUAL).or_else(|| self.header(HEADER_BYTES_MAX));
            let header = header.ok_or_else(|| problem("a page's header makes no sense"))?;
            let (Ok(packed), Ok(unpacked)) = (u64::try_from(header.packed), u64::try_from(header.unpacked)) else {
                return Err(problem("a page says that it has less than no bytes"));
            };
            if unpacked > self.bytes_max {
                let words =
                    format!("a page says that it has {unpacked} bytes, and at most {} are read", self.bytes_max);
                return Err(ParquetError::General(words));
            }
            self.at = self.at.saturating_add(header.length).saturating_add(packed);
            // The library passes over these itself.
            if header.kind != INDEX_PAGE {
                break;
            }
        }
        Ok(())
    }

    fn header(&self, bytes_max: usize) -> Option<Header> {
        let length = usize::try_from(self.end - self.at).ok()?.min(bytes_max);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.at).ok()?;
        Header::read(&bytes)
    }
}

fn problem(words: &str) -> ParquetError {
    ParquetError::General(words.to_owned())
}

impl PageReader for GuardedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.check_next()?;
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            let plain = [Encoding::PLAIN, Encoding::PLAIN_DICTIONARY, Encoding::RLE_DICTIONARY];
            let known = plain.contains(&page.encoding()) || page.encoding() == Encoding::DELTA_BINARY_PACKED;
            if !known {
                let words = format!("its pages are encoded as {}, which is not read", page.encoding());
                return Err(ParquetError::General(words));
            }
            self.has_dictionary |= matches!(page, Page::DictionaryPage { .. });
            // The library would panic over it.
            let refers = [Encoding::PLAIN_DICTIONARY, Encoding::RLE_DICTIONARY].contains(&page.encoding());
            if refers && !self.has_dictionary {
                return Err(problem("a page refers to a dictionary that is not there"));
            }
            if let Page::DictionaryPage { buf, num_values, .. } = page
                && (*num_values as usize).saturating_mul(VALUE_BYTES_MIN) > buf.len()
            {
                return Err(problem("a dictionary says that it has more values than bytes"));
            }
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(problem("pages are not skipped"))
    }
}

impl Iterator for GuardedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// The first three fields of a page's header, and its length.
#[derive(Debug, Default, PartialEq)]
struct Header {
    kind: i64,
    unpacked: i64,
    packed: i64,
    length: u64,
}

impl Header {
    /// None if it is none, or does not end within the bytes.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut thrift = Thrift(bytes);
        let (mut header, mut field) = (Self { kind: -1, unpacked: -1, packed: -1, length: 0 }, 0);
        while let Some(kind) = thrift.field(&mut field)? {
            match (field, kind) {
                (1, 5) => header.kind = thrift.zigzag()?,
                (2, 5) => header.unpacked = thrift.zigzag()?,
                (3, 5) => header.packed = thrift.zigzag()?,
                _ => thrift.skip(kind, 0)?,
            }
        }
        header.length = (bytes.len() - thrift.0.len()) as u64;
        Some(header)
    }
}

/// Thrift's compact protocol, as far as it must be known to pass over values.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let number = self.varint()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// The next field's type; its number follows the one before. `Some(None)`: the struct ends.
    fn field(&mut self, number: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *number = match head >> 4 {
            0 => self.zigzag()?,
            delta => number.checked_add(i64::from(delta))?,
        };
        Some(Some(head & 0x0F))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match kind {
            // True and false, whose value is the type.
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => self.varint().and_then(|length| self.advance(length)),
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                (0..count).try_for_each(|_| match head & 0x0F {
                    // In a list they take a byte.
                    1 | 2 => self.advance(1),
                    kind => self.skip(kind, depth + 1),
                })
            }
            12 => {
                let mut number = 0;
                while let Some(kind) = self.field(&mut number)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_fields_are_read_and_others_passed_over() {
        // type 0, 1000 unpacked, 300 packed, a struct {1: 7, 5: {3: binary, 4: true}}, a list of two bools; then content.
        let bytes = [
            0x15, 0, 0x15, 0xD0, 0x0F, 0x15, 0xD8, 0x04, 0x2C, 0x15, 14, 0x4C, 0x38, 2, b'a', b'b', 0x11, 0, 0, 0x19,
            0x21, 1, 2, 0, 99,
        ];
        let expected = Header { kind: 0, unpacked: 1000, packed: 300, length: 24 };
        assert_eq!(Header::read(&bytes), Some(expected));
        for cut in 0..24 {
            assert_eq!(Header::read(&bytes[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn nonsense_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::read(&bytes);
        }
    }
}
