//! A part of an image → ρ × ρ × 3 bytes. Buffers are kept from one image to the next.

use super::decode::View;
use super::draw::{Augmentation, Rect};
use super::files::FileBuffer;
use super::jpeg::{Decoder, Header, NotOurs, Planes, Region, Stops};
use super::planar::{PlanarRenderer, as_stored};
use super::stream::Pixels;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

/// One for each thread.
#[derive(Debug, Default)]
pub(super) struct Renderer {
    resizer: Resizer,
    grey: Vec<u8>,
    pub(super) jpeg: Decoder,
    planar: PlanarRenderer,
    /// The last file that was read.
    pub(super) file: FileBuffer,
}

/// Where an image goes: place `place` of each resolution's buffer.
pub(super) struct Targets<'a> {
    pub(super) images: &'a mut [Pixels],
    pub(super) place: usize,
    /// As far as a crop keeps so many pixels on both sides it is shrunk while it is decoded.
    pub(super) base: u32,
}

impl Targets<'_> {
    fn each(&mut self, mut put: impl FnMut(u32, &mut [u8]) -> Result<(), String>) -> Result<(), String> {
        for Pixels { resolution, bytes } in &mut *self.images {
            let size = image_bytes(*resolution);
            put(*resolution, bytes.get_mut(self.place * size..(self.place + 1) * size).ok_or("its batch is full")?)?;
        }
        Ok(())
    }

    fn smallest(&self) -> u32 {
        self.images.iter().map(|pixels| pixels.resolution).min().unwrap_or(1)
    }
}

/// Bytes of an image of a resolution.
pub(super) fn image_bytes(resolution: u32) -> usize {
    resolution as usize * resolution as usize * 3
}

/// How a JPEG is looked at.
#[derive(Debug)]
pub(super) struct Plan {
    look: Augmentation,
    /// As stored.
    crop: Rect,
    /// What of it must be decoded.
    pub(super) region: Region,
}

impl Plan {
    /// `look_of`: by the upright image's width and height.
    pub(super) fn new(header: &Header, targets: &Targets<'_>, look_of: impl FnOnce(u32, u32) -> Augmentation) -> Self {
        let (width, height) = header.upright();
        let look = look_of(width, height);
        let crop = as_stored(&look.crop, header.orientation, header.width, header.height);
        let region = Region::of(header, &crop, targets.base, targets.smallest());
        Self { look, crop, region }
    }
}

impl Renderer {
    /// Decodes and renders a JPEG: what the plan needs, or (`region`) more. One that is not known is read to its end.
    pub(super) fn jpeg(
        &mut self,
        file: &[u8],
        header: &Header,
        plan: &Plan,
        (region, known): (&Region, Option<&Stops>),
        targets: &mut Targets<'_>,
    ) -> Result<Result<(), String>, NotOurs> {
        let planes = self.jpeg.decode(file, header, region, known)?;
        Ok(paint(&mut self.planar, planes, header, plan, targets))
    }

    /// Renders what was decoded before.
    pub(super) fn planes(
        &mut self,
        planes: &Planes,
        header: &Header,
        plan: &Plan,
        targets: &mut Targets<'_>,
    ) -> Result<(), String> {
        paint(&mut self.planar, planes, header, plan, targets)
    }

    /// Renders pixels.
    pub(super) fn pixels(
        &mut self,
        image: View<'_>,
        look: &Augmentation,
        targets: &mut Targets<'_>,
    ) -> Result<(), String> {
        targets.each(|resolution, out| self.render(image, look, resolution, out))
    }

    /// Crops, resizes (bilinear, averaging where it shrinks), mirrors, and shifts the colours of one image.
    /// `out`: ρ × ρ × 3 bytes.
    pub(super) fn render(
        &mut self,
        image: View<'_>,
        look: &Augmentation,
        resolution: u32,
        out: &mut [u8],
    ) -> Result<(), String> {
        let side = resolution as usize;
        let shift = (look.brightness * 255.0).round() as i16;
        if image.channels == 1 {
            let mut grey = std::mem::take(&mut self.grey);
            grey.resize(side * side, 0);
            let resized = resize::<U8>(&mut self.resizer, image, &look.crop, (resolution, resolution), &mut grey);
            if resized.is_ok() {
                // Saturation leaves grey as it is.
                brighten(&mut grey, shift);
                expand(&grey, side, look.flip, out);
            }
            self.grey = grey;
            return resized;
        }
        resize::<U8x3>(&mut self.resizer, image, &look.crop, (resolution, resolution), out)?;
        if look.flip {
            flip(out, side);
        }
        if (look.saturation - 1.0).abs() > f64::EPSILON {
            distort(out, look.brightness as f32 * 255.0, look.saturation as f32);
        } else {
            brighten(out, shift);
        }
        Ok(())
    }
}

/// Resizes a part of an image to so many pixels across and down: bilinear, averaging where it shrinks. Typed, so that only
/// two of the library's many kinds of pixels are compiled.
pub(super) fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    image: View<'_>,
    part: &Rect,
    (width, height): (u32, u32),
    out: &mut [u8],
) -> Result<(), String> {
    let source = TypedImageRef::<P>::from_buffer(image.width, image.height, image.bytes).map_err(text)?;
    let mut target = TypedImage::<P>::from_buffer(width, height, out).map_err(text)?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(part.left, part.top, part.width, part.height)
        .use_alpha(false);
    resizer.resize_typed(&source, &mut target, &options).map_err(text)
}

fn paint(
    planar: &mut PlanarRenderer,
    planes: &Planes,
    header: &Header,
    plan: &Plan,
    targets: &mut Targets<'_>,
) -> Result<(), String> {
    targets.each(|resolution, out| planar.render(planes, header.orientation, &plan.crop, &plan.look, resolution, out))
}

fn text(error: impl std::error::Error) -> String {
    format!("cannot resize it: {error}")
}

fn brighten(bytes: &mut [u8], shift: i16) {
    let by = u8::try_from(shift.unsigned_abs()).unwrap_or(u8::MAX);
    match shift {
        0 => {}
        1.. => bytes.iter_mut().for_each(|byte| *byte = byte.saturating_add(by)),
        _ => bytes.iter_mut().for_each(|byte| *byte = byte.saturating_sub(by)),
    }
}

/// Repeats grey to three channels.
fn expand(grey: &[u8], side: usize, flip: bool, out: &mut [u8]) {
    for (row, out) in grey.chunks_exact(side).zip(out.chunks_exact_mut(side * 3)) {
        if flip {
            out.as_chunks_mut::<3>().0.iter_mut().zip(row.iter().rev()).for_each(|(pixel, grey)| *pixel = [*grey; 3]);
        } else {
            out.as_chunks_mut::<3>().0.iter_mut().zip(row).for_each(|(pixel, grey)| *pixel = [*grey; 3]);
        }
    }
}

fn flip(out: &mut [u8], side: usize) {
    for row in out.chunks_exact_mut(side * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// Saturation about the grey value of ITU-R BT.601, brightness added.
fn distort(out: &mut [u8], shift: f32, saturation: f32) {
    for pixel in out.as_chunks_mut::<3>().0 {
        let [red, green, blue] = pixel.map(f32::from);
        let grey = 0.299 * red + 0.587 * green + 0.114 * blue;
        let base = grey + shift + 0.5;
        // The cast cuts off at 0 and 255.
        *pixel = [red, green, blue].map(|value| ((value - grey) * saturation + base) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::super::draw::Rect;
    use super::*;

    fn look(crop: [f64; 4], flip: bool, brightness: f64, saturation: f64) -> Augmentation {
        let [left, top, width, height] = crop;
        Augmentation { crop: Rect { left, top, width, height }, flip, brightness, saturation }
    }

    fn check(channels: u8, bytes: &[u8], width: u32, look: Augmentation, resolution: u32, expected: &[u8]) {
        let height = bytes.len() as u32 / width / u32::from(channels);
        let mut out = vec![0; expected.len()];
        let image = View { width, height, channels, bytes };
        Renderer::default().render(image, &look, resolution, &mut out).unwrap();
        assert_eq!(out, expected);
    }

    #[test]
    fn grey_is_repeated_mirrored_and_brightened() {
        let whole = [0.0, 0.0, 2.0, 2.0];
        let grey = [0, 100, 200, 250];
        check(1, &grey, 2, look(whole, false, 0.0, 1.5), 2, &[0, 0, 0, 100, 100, 100, 200, 200, 200, 250, 250, 250]);
        check(1, &grey, 2, look(whole, true, 0.0, 1.0), 2, &[100, 100, 100, 0, 0, 0, 250, 250, 250, 200, 200, 200]);
        check(1, &grey, 2, look(whole, false, 0.1, 1.0), 2, &[26, 26, 26, 126, 126, 126, 226, 226, 226, 255, 255, 255]);
        check(1, &grey, 2, look(whole, false, -0.1, 1.0), 2, &[0, 0, 0, 74, 74, 74, 174, 174, 174, 224, 224, 224]);
    }

    #[test]
    fn colours_are_mirrored_and_distorted() {
        let row = [200, 100, 0, 10, 20, 30];
        let bytes: Vec<u8> = row.iter().chain(&row).copied().collect();
        let whole = [0.0, 0.0, 2.0, 2.0];
        let mirrored = [10, 20, 30, 200, 100, 0].repeat(2);
        check(3, &bytes, 2, look(whole, true, 0.0, 1.0), 2, &mirrored);
        // Grey values: 118.5 and 18.15.
        let faded = [119, 119, 119, 18, 18, 18].repeat(2);
        check(3, &bytes, 2, look(whole, false, 0.0, 0.0), 2, &faded);
        let vivid = [241, 91, 0, 6, 21, 36].repeat(2);
        check(3, &bytes, 2, look(whole, false, 0.0, 1.5), 2, &vivid);
        let bright = [226, 126, 26, 36, 46, 56].repeat(2);
        check(3, &bytes, 2, look(whole, false, 0.1, 1.0), 2, &bright);
    }

    #[test]
    fn shrinking_averages_and_crops_are_cut_out() {
        // Four columns 0, 80, 160, 240. The triangle reaches over the crop's edge into the image, as Pillow's
        // does: (80 / 4 + 160 · 3/4 + 240 · 3/4) / (7/4).
        let bytes = [0, 80, 160, 240].repeat(4);
        check(1, &bytes, 4, look([2.0, 0.0, 2.0, 2.0], false, 0.0, 1.0), 1, &[183; 3]);
        check(1, &bytes, 4, look([0.0, 0.0, 4.0, 4.0], false, 0.0, 1.0), 1, &[120; 3]);
        check(1, &bytes, 4, look([1.0, 1.0, 1.0, 1.0], false, 0.0, 1.0), 1, &[80; 3]);
    }

    #[test]
    fn a_crop_outside_is_an_error_and_not_a_panic() {
        let image = View { width: 2, height: 2, channels: 1, bytes: &[0; 4] };
        let outside = look([1.0, 1.0, 2.0, 2.0], false, 0.0, 1.0);
        assert!(Renderer::default().render(image, &outside, 2, &mut [0; 12]).is_err());
    }
}
