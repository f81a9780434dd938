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

pub(crate) use header::Header;
pub(crate) use planes::{Plane, Planes, Region};

use header::Tables;
use image::metadata::Orientation;

/// What one thread keeps from one file to the next.
#[derive(Default)]
pub(crate) struct Decoder {
    tables: Tables,
    /// A restart interval without its stuffing.
    interval: Vec<u8>,
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

    /// The part of the file that `header` was just read of. `whole_scan`: looks at what follows the region too, so that
    /// damage there is found.
    pub(crate) fn decode(
        &mut self,
        file: &[u8],
        header: &Header,
        region: &Region,
        whole_scan: bool,
    ) -> Result<&Planes, NotOurs> {
        let mut planes = std::mem::take(&mut self.planes);
        let decoded = scan::decode(file, header, &self.tables, region, whole_scan, &mut self.interval, &mut planes);
        self.planes = planes;
        decoded.map(|()| &self.planes)
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
