//! What a stream shows of a single file.

use super::decode::{decode, usual_jpeg};
use super::draw::Augmentation;
use super::jpeg::Region;
use super::render::{Plan, Renderer, Targets, image_bytes};
use super::stream::Pixels;

/// Decodes a file and shows it as a stream with these resolutions would: the same pixels whether only what is looked at is
/// decoded, or (`whole`) all of it, as it is to be kept. `look_of`: by the upright image's width and height. Photographs are
/// shrunk while they are decoded as far as the part looked at keeps `base` pixels on both sides.
///
/// # Errors
/// What is wrong with the file, for people.
pub fn show(
    file: &[u8],
    base: u32,
    resolutions: &[u32],
    whole: bool,
    look_of: impl Fn(u32, u32) -> Augmentation,
) -> Result<Vec<Pixels>, String> {
    let blank = |resolution: &u32| Pixels { resolution: *resolution, bytes: vec![0; image_bytes(*resolution)].into() };
    let mut images: Vec<Pixels> = resolutions.iter().map(blank).collect();
    let mut targets = Targets { images: &mut images, place: 0, base };
    let mut renderer = Renderer::default();
    if let Some(header) = usual_jpeg(&mut renderer, file) {
        let plan = Plan::new(&header, &targets, &look_of);
        let everything = Region::whole(&header);
        let is_whole = whole && plan.region.is_full_size();
        let region = if is_whole { &everything } else { &plan.region };
        if let Ok(shown) = renderer.jpeg(file, &header, &plan, (region, None), &mut targets) {
            return shown.map(|()| images);
        }
    }
    let image = decode(file)?;
    renderer.pixels(image.view(), &look_of(image.width, image.height), &mut targets)?;
    Ok(images)
}
