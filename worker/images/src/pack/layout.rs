//! How a pack lies on disk: a header of 128 bytes, a record for each image of the source, the index. All numbers are
//! little-endian.
//!
//! | header | |
//! |---|---|
//! | 0 | `alphpack` |
//! | 8 | version, 4 bytes |
//! | 16, 24 | where the index begins (0: it was never finished), its length; 8 bytes each |
//! | 32 | SHA-256 of the index |
//! | 64 | SHA-256 over the source and how it was to be packed |
//! | 124 | CRC-32 of the header before it |
//!
//! A record is a frame of 32 bytes (mark, CRC-32 of the content, length, width, height, kind, CRC-32 of the frame before it),
//! the content, and zeros up to a multiple of 8. Frames are there to go on after an interruption; readers use the index.

use std::collections::BTreeSet;

pub(super) const HEADER_BYTES: u64 = 128;
pub(super) const FRAME_BYTES: u64 = 32;
const MAGIC: &[u8; 8] = b"alphpack";
const VERSION: u32 = 1;
const MARK: u32 = 0xA1FA_F4A3;
const ALIGN: u64 = 8;

/// What the file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 0: there is none yet.
    pub(super) index_at: u64,
    pub(super) index_bytes: u64,
    pub(super) index_sha256: [u8; 32],
    /// Of the source, and how it was to be packed.
    pub(super) plan: [u8; 32],
}

impl Header {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.index_at.to_le_bytes());
        bytes.extend_from_slice(&self.index_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.index_sha256);
        bytes.extend_from_slice(&self.plan);
        bytes.resize(HEADER_BYTES as usize - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The error says what is wrong, and what to do.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader(bytes);
        if reader.take(8) != Some(MAGIC) {
            return Err("it is no pack; `alpharho pack SOURCE --out FILE --format FORMAT` makes one".to_owned());
        }
        let version = reader.u32().unwrap_or(0);
        if version != VERSION {
            return Err(format!("it is a pack of version {version}, and this alpharho reads {VERSION}; pack it again"));
        }
        let header = bytes.get(..HEADER_BYTES as usize).ok_or("it is cut short; copy or pack it again")?;
        let (before, sum) = header.split_at(header.len() - 4);
        if crc32fast::hash(before).to_le_bytes() != sum {
            return Err("its header is damaged; copy or pack it again".to_owned());
        }
        let parse = |mut reader: Reader<'_>| {
            reader.take(4)?;
            let (index_at, index_bytes) = (reader.u64()?, reader.u64()?);
            Some(Self { index_at, index_bytes, index_sha256: reader.array()?, plan: reader.array()? })
        };
        parse(reader).ok_or_else(|| "it is cut short; copy or pack it again".to_owned())
    }
}

/// What an image is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file: JPEG, PNG or WebP.
    File,
    /// Pixels of a byte.
    Grey,
    /// Pixels of three bytes.
    Rgb,
    /// Nothing: the image is broken, and the content says why.
    LeftOut,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::LeftOut => 255,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::File, Self::Grey, Self::Rgb, Self::LeftOut].into_iter().find(|kind| kind.number() == number)
    }

    /// Bytes of a pixel, if it is stored as pixels.
    pub(crate) fn channels(self) -> Option<u8> {
        match self {
            Self::File | Self::LeftOut => None,
            Self::Grey => Some(1),
            Self::Rgb => Some(3),
        }
    }
}

/// What an image's content is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// Of the content, in the file.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// In pixels; 0 of files.
    pub(crate) width: u32,
    /// In pixels; 0 of files.
    pub(crate) height: u32,
    /// CRC-32 of the content.
    pub(crate) crc: u32,
}

impl Place {
    /// The frame before the content.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES as usize);
        bytes.extend_from_slice(&MARK.to_le_bytes());
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.width.to_le_bytes());
        bytes.extend_from_slice(&self.height.to_le_bytes());
        bytes.extend_from_slice(&[self.kind.number(), 0, 0, 0]);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Of a frame that ends where the content begins; none if it is not whole.
    pub(super) fn from_frame(frame: &[u8; FRAME_BYTES as usize], at: u64) -> Option<Self> {
        let (before, sum) = frame.split_at(frame.len() - 4);
        let mut reader = Reader(before);
        if crc32fast::hash(before).to_le_bytes() != sum || reader.u32()? != MARK {
            return None;
        }
        let (crc, bytes) = (reader.u32()?, reader.u64()?);
        let (width, height) = (reader.u32()?, reader.u32()?);
        Some(Self { kind: Kind::of(*reader.take(1)?.first()?)?, at, bytes, width, height, crc })
    }

    /// Where the next frame begins.
    pub(super) fn end(&self) -> Option<u64> {
        self.at.checked_add(self.bytes)?.checked_next_multiple_of(ALIGN)
    }
}

/// What is in a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// From what it was made, and how; for people.
    pub(super) about: String,
    /// By label.
    pub(super) class_names: Vec<String>,
    /// In the order of the source.
    pub(super) images: Vec<Image>,
    /// Broken images: name, and what is wrong.
    pub(super) left_out: Vec<(String, String)>,
}

/// An image of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) label: u32,
    pub(super) place: Place,
}

impl Index {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_text(&mut bytes, &self.about);
        put_count(&mut bytes, self.class_names.len());
        self.class_names.iter().for_each(|name| put_text(&mut bytes, name));
        put_count(&mut bytes, self.images.len());
        for Image { name, label, place } in &self.images {
            put_text(&mut bytes, name);
            bytes.extend_from_slice(&label.to_le_bytes());
            bytes.push(place.kind.number());
            bytes.extend_from_slice(&place.at.to_le_bytes());
            bytes.extend_from_slice(&place.bytes.to_le_bytes());
            bytes.extend_from_slice(&place.width.to_le_bytes());
            bytes.extend_from_slice(&place.height.to_le_bytes());
            bytes.extend_from_slice(&place.crc.to_le_bytes());
        }
        put_count(&mut bytes, self.left_out.len());
        for (name, reason) in &self.left_out {
            put_text(&mut bytes, name);
            put_text(&mut bytes, reason);
        }
        bytes
    }

    /// None if it is not an index, or one that fits no file in which the index begins at `end`.
    pub(super) fn from_bytes(bytes: &[u8], end: u64) -> Option<Self> {
        let mut reader = Reader(bytes);
        let about = reader.text()?;
        // Nothing is reserved by a count, which may be any.
        let mut class_names = Vec::new();
        for _ in 0..reader.u64()? {
            class_names.push(reader.text()?);
        }
        let mut images = Vec::new();
        for _ in 0..reader.u64()? {
            let (name, label, kind) = (reader.text()?, reader.u32()?, Kind::of(*reader.take(1)?.first()?)?);
            let (at, length) = (reader.u64()?, reader.u64()?);
            let (width, height, crc) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let place = Place { kind, at, bytes: length, width, height, crc };
            let pixels = u64::from(width).checked_mul(u64::from(height))?;
            let fits = match kind {
                Kind::File => true,
                Kind::LeftOut => false,
                Kind::Grey => pixels > 0 && pixels == length,
                Kind::Rgb => pixels > 0 && pixels.checked_mul(3)? == length,
            };
            let lies_within = at >= HEADER_BYTES + FRAME_BYTES && place.end()? <= end;
            if !fits || !lies_within || label as usize >= class_names.len() {
                return None;
            }
            images.push(Image { name, label, place });
        }
        let mut left_out = Vec::new();
        for _ in 0..reader.u64()? {
            left_out.push((reader.text()?, reader.text()?));
        }
        let distinct: BTreeSet<&String> = class_names.iter().collect();
        let is_whole = reader.0.is_empty() && distinct.len() == class_names.len();
        is_whole.then_some(Self { about, class_names, images, left_out })
    }
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&(count as u64).to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Takes parts off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(part)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u64()?).ok()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index() -> Index {
        let place = Place { kind: Kind::Rgb, at: 160, bytes: 12, width: 2, height: 2, crc: 7 };
        let file = Place { kind: Kind::File, at: 208, bytes: 3, width: 0, height: 0, crc: 8 };
        Index {
            about: "test".into(),
            class_names: vec!["a".into(), "b".into()],
            images: vec![
                Image { name: "a/1".into(), label: 0, place },
                Image { name: "b/1".into(), label: 1, place: file },
            ],
            left_out: vec![("b/2".into(), "the file is empty".into())],
        }
    }

    #[test]
    fn what_is_written_comes_back() {
        let bytes = index().to_bytes();
        assert_eq!(Index::from_bytes(&bytes, 216), Some(index()));
        assert_eq!(Index::from_bytes(&bytes, 208), None, "an image would lie in the index");
        let header = Header { index_at: 1, index_bytes: 2, index_sha256: [3; 32], plan: [4; 32] };
        assert_eq!(header.to_bytes().len() as u64, HEADER_BYTES);
        assert_eq!(Header::from_bytes(&header.to_bytes()), Ok(header));
        let place = index().images[0].place;
        let frame: [u8; 32] = place.frame().try_into().unwrap();
        assert_eq!(Place::from_frame(&frame, place.at), Some(place));
        for at in 0..32 {
            let mut spoilt = frame;
            spoilt[at] ^= 1;
            assert_eq!(Place::from_frame(&spoilt, place.at), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn nonsense_is_no_index(at in 0_usize..400, value: u8, cut in 0_usize..400) {
            let mut bytes = index().to_bytes();
            let length = bytes.len();
            bytes[at % length] = value;
            let _ = Index::from_bytes(&bytes, 1000);
            prop_assert!(Index::from_bytes(&index().to_bytes()[..cut % length], 1000).is_none());
        }
    }
}
