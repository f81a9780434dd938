//! Luma and chroma of a part of an image → ρ × ρ × 3 bytes.

use crate::colour::{Mix, colour, grey};
use crate::draw::{Augmentation, Rect};
use crate::jpeg::{Planes, is_on_its_side};
use crate::resample::{Resampler, line_bytes};
use crate::taps::Span;
use image::metadata::Orientation;

/// One for each thread.
#[derive(Debug, Default)]
pub(crate) struct PlanarRenderer {
    resampler: Resampler,
    /// Each ρ × ρ: luma, chroma.
    small: [Vec<u8>; 3],
    row: Vec<u8>,
}

/// How stored pixels become upright ones: sides swapped, then mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    swap: bool,
    mirror_x: bool,
    mirror_y: bool,
}

impl Turn {
    fn of(orientation: Orientation) -> Self {
        let (mirror_x, mirror_y) = match orientation {
            Orientation::NoTransforms | Orientation::Rotate90FlipH => (false, false),
            Orientation::FlipHorizontal | Orientation::Rotate270 => (true, false),
            Orientation::FlipVertical | Orientation::Rotate90 => (false, true),
            Orientation::Rotate180 | Orientation::Rotate270FlipH => (true, true),
        };
        Self { swap: is_on_its_side(orientation), mirror_x, mirror_y }
    }
}

/// A crop of an upright image as it lies in the stored one of `width` × `height`.
pub(crate) fn as_stored(crop: &Rect, orientation: Orientation, width: u32, height: u32) -> Rect {
    let Turn { swap, mirror_x, mirror_y } = Turn::of(orientation);
    let Rect { left, top, width: across, height: down } = *crop;
    let (left, top, across, down) = if swap { (top, left, down, across) } else { (left, top, across, down) };
    Rect {
        left: if mirror_x { f64::from(width) - left - across } else { left },
        top: if mirror_y { f64::from(height) - top - down } else { top },
        width: across,
        height: down,
    }
}

impl PlanarRenderer {
    /// As [`crate::render::Renderer::render`]; `crop` as stored.
    pub(crate) fn render(
        &mut self,
        planes: &Planes,
        orientation: Orientation,
        crop: &Rect,
        look: &Augmentation,
        resolution: u32,
        out: &mut [u8],
    ) -> Result<(), String> {
        let side = resolution as usize;
        let Turn { swap, mirror_x, mirror_y } = Turn::of(orientation);
        let is_backwards = !swap && mirror_x != look.flip;
        for (plane, small) in planes.0.iter().zip(&mut self.small) {
            let (across, down) = (f64::from(plane.pixel.0), f64::from(plane.pixel.1));
            let across = Span { start: crop.left / across, size: crop.width / across };
            let down = Span { start: crop.top / down, size: crop.height / down };
            let resized = self.resampler.resize(plane, (across, down), side, is_backwards, small);
            resized.ok_or("it was decoded in too small a part")?;
        }
        let mix = Mix::of(look);
        let line = line_bytes(side);
        let [luma, blue, red] = &self.small;
        self.row.resize(side * 3, 0);
        for row in 0..side {
            let range = row * line..(row + 1) * line;
            let at = if mirror_y { side - 1 - row } else { row };
            let target = if swap { &mut self.row[..] } else { &mut out[at * side * 3..][..side * 3] };
            match planes.0.len() {
                3 => colour(&mix, [&luma[range.clone()], &blue[range.clone()], &red[range]], target),
                _ => grey(&mix, &luma[range], target),
            }
            if swap {
                let column = if look.flip { side - 1 - at } else { at };
                let pixels = out.as_chunks_mut::<3>().0;
                for (x, pixel) in self.row.as_chunks::<3>().0.iter().enumerate() {
                    let row = if mirror_x { side - 1 - x } else { x };
                    pixels[row * side + column] = *pixel;
                }
            }
        }
        Ok(())
    }
}
