//! Luma and chroma of a part of an image.

use super::header::{Component, Header};
use crate::draw::Rect;

/// Blank bytes behind a plane, so that one can read on in strides.
pub(crate) const SLACK: usize = 64;

/// Luma, and two of chroma unless it is grey.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Planes(pub(crate) Vec<Plane>);

/// One of them, by columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plane {
    /// Column after column, then [`SLACK`].
    pub(crate) bytes: Vec<u8>,
    /// From one column to the next.
    pub(crate) stride: usize,
    /// Where it begins within the component, in its pixels.
    pub(crate) left: usize,
    /// Where it begins within the component, in its pixels.
    pub(crate) top: usize,
    /// Of the whole component, in its pixels.
    pub(crate) width: usize,
    /// Of the whole component, in its pixels.
    pub(crate) height: usize,
    /// Pixels of the image that one of its pixels stands for, across and down.
    pub(crate) pixel: (u32, u32),
}

/// What is wanted of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// MCUs across and down: from, and up to.
    pub(super) across: std::ops::Range<u32>,
    pub(super) down: std::ops::Range<u32>,
    /// Pixels across a block: 8, 4, 2 or 1.
    pub(super) side: u32,
}

impl Region {
    /// Everything, as large as it is.
    pub(crate) fn whole(header: &Header) -> Self {
        let (across, down) = header.mcus();
        Self { across: 0..across, down: 0..down, side: 8 }
    }

    /// Everything, with a pixel a block.
    pub(crate) fn coarse(header: &Header) -> Self {
        Self { side: 1, ..Self::whole(header) }
    }

    /// What a crop (in pixels as stored) needs to be resized to sides of `smallest` and more. By how much it is shrunk
    /// before depends on the crop and on `base` alone: as far as both its sides keep `base` pixels.
    pub(crate) fn of(header: &Header, crop: &Rect, base: u32, smallest: u32) -> Self {
        let side = side(crop, base);
        let (mcu_across, mcu_down) = header.mcu();
        let shrink = f64::from(8 / side);
        let range = |start: f64, size: f64, blocks: u32, mcus: u32| {
            // A filter reaches as far as a target pixel, or a pixel of the coarsest component; and one for rounding.
            let coarsest = f64::from(blocks) * shrink;
            let margin = (size / f64::from(smallest.max(1))).max(coarsest) + 2.0 * coarsest;
            let mcu = f64::from(8 * blocks);
            let from = ((start - margin) / mcu).floor().max(0.0) as u32;
            let to = ((start + size + margin) / mcu).ceil() as u32;
            from.min(mcus.saturating_sub(1))..to.clamp(1, mcus)
        };
        let (across, down) = header.mcus();
        Self {
            across: range(crop.left, crop.width, mcu_across, across),
            down: range(crop.top, crop.height, mcu_down, down),
            side,
        }
    }

    /// Whether it is as large as stored.
    pub(crate) fn is_full_size(&self) -> bool {
        self.side == 8
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self, header: &Header) -> u64 {
        let blocks: u64 = header.components.iter().flatten().map(|of| u64::from(of.across) * u64::from(of.down)).sum();
        let mcus = u64::from(self.across.end - self.across.start) * u64::from(self.down.end - self.down.start);
        mcus * blocks * u64::from(self.side * self.side)
    }
}

/// Pixels across a block.
fn side(crop: &Rect, base: u32) -> u32 {
    let least = crop.width.min(crop.height);
    [8, 4, 2].into_iter().find(|shrink| least >= f64::from(base) * f64::from(*shrink)).map_or(8, |shrink| 8 / shrink)
}

impl Plane {
    /// Room for a component's part of a region; what was in it is of no interest.
    pub(super) fn prepare(&mut self, header: &Header, component: &Component, region: &Region) {
        let (shrink_across, shrink_down) = header.shrink(component);
        let shrink = 8 / region.side;
        self.pixel = (shrink_across * shrink, shrink_down * shrink);
        let (across, down) = (component.across * region.side, component.down * region.side);
        let pixels = |mcus: u32, of_each: u32| mcus as usize * of_each as usize;
        self.left = pixels(region.across.start, across);
        self.top = pixels(region.down.start, down);
        self.width = header.width.div_ceil(shrink_across).div_ceil(shrink) as usize;
        self.height = header.height.div_ceil(shrink_down).div_ceil(shrink) as usize;
        self.stride = pixels(region.down.end - region.down.start, down);
        let columns = pixels(region.across.end - region.across.start, across);
        self.bytes.resize(columns * self.stride + SLACK, 0);
    }
}
