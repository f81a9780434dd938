//! JPEG as nearly all photographs are stored: baseline, 8 bits, Huffman, one scan, grey or YCbCr.
//!
//! Only the part that is looked at becomes pixels, at a half, a quarter or an eighth of its size where it is much larger
//! than what is wanted; and it stays luma and chroma, each as fine as it is stored, until it is resized. Everything else
//! (progressive, CMYK, damaged) is left to the crate `image`.

mod header;
mod huffman;
mod idct;
mod planes;
mod scan;
mod stops;

pub(crate) use header::Header;
pub(crate) use planes::{Plane, Planes, Region};
pub use stops::STOPS_BYTES_MAX;
pub(crate) use stops::Stops;

use header::Tables;
use image::metadata::Orientation;

/// What one thread keeps from one file to the next.
#[derive(Default)]
pub(crate) struct Decoder {
    tables: Tables,
    room: scan::Room,
    planes: Planes,
}

/// That a file is not such a JPEG, or damaged.
#[derive(Debug, PartialEq)]
pub(crate) struct NotOurs;

impl Decoder {
    /// Reads what stands before the pixels.
    pub(crate) fn header(&mut self, file: &[u8]) -> Result<Header, NotOurs> {
        header::read(file, &mut self.tables).ok_or(NotOurs)
    }

    /// The part of the file that `header` was just read of. A file that is not `known` is read to its end, so that damage
    /// there is found, and [`Self::stops`] are noted.
    pub(crate) fn decode(
        &mut self,
        file: &[u8],
        header: &Header,
        region: &Region,
        known: Option<&Stops>,
    ) -> Result<&Planes, NotOurs> {
        let mut planes = std::mem::take(&mut self.planes);
        let decoded = scan::decode(file, header, &self.tables, region, known, &mut self.room, &mut planes);
        self.planes = planes;
        decoded.map(|()| &self.planes)
    }

    /// What was noted of the file that was just read to its end.
    pub(crate) fn stops(&self, file: &[u8]) -> Stops {
        self.room.notes.stops(file)
    }

    /// What was decoded last, to be kept.
    pub(crate) fn take_planes(&mut self) -> Planes {
        std::mem::take(&mut self.planes)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// Whether an image becomes upright by a quarter turn.
pub(crate) fn is_on_its_side(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}
