//! What is drawn at random: the order of samples and how each is distorted. Pure functions of
//! (seed, epoch, sample).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sweeps::spec::model::Data;

/// Part of an image, in source pixels from the top left. Each number is a multiple of 1/256, so that sums
/// are exact and the right edge never lies outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// From the left edge.
    pub left: f64,
    /// From the top edge.
    pub top: f64,
    /// At least 1.
    pub width: f64,
    /// At least 1.
    pub height: f64,
}

/// How an image is distorted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// The part that is looked at; it is stretched to ρ × ρ.
    pub crop: Rect,
    /// Mirrored left to right.
    pub flip: bool,
    /// Added to each channel; full scale is 1.
    pub brightness: f64,
    /// Multiplies the distance of each channel from the pixel's grey value.
    pub saturation: f64,
}

/// The samples in the order of an epoch (from 0): each of `0..count` once. Fisher–Yates by ChaCha8, written
/// out so that no library's update can change it.
#[must_use]
pub fn epoch_order(seed: u64, epoch: u32, count: u32) -> Vec<u32> {
    let mut random = generator(*b"order   ", seed, epoch, 0);
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, below(&mut random, last + 1));
    }
    order
}

/// How sample `index` of `width` × `height` pixels is distorted in an epoch (from 0).
///
/// The crop is torchvision's `RandomResizedCrop`: ten tries at an area drawn evenly and an aspect drawn
/// evenly in its logarithm, then the largest central part of an allowed aspect. Sides are not rounded to
/// whole pixels, which matters on small images. What does not depend on the image's size is drawn first.
#[must_use]
pub fn augmentation(seed: u64, epoch: u32, index: u32, width: u32, height: u32, data: &Data) -> Augmentation {
    let mut random = generator(*b"augment ", seed, epoch, index);
    let mirrored = unit(&mut random) < 0.5;
    let brightness = between(&mut random, -data.color.brightness, data.color.brightness);
    let saturation = between(&mut random, data.color.saturation[0], data.color.saturation[1]);
    let crop = random_crop(&mut random, f64::from(width), f64::from(height), data);
    Augmentation { crop, flip: data.flip && mirrored, brightness, saturation }
}

/// How evaluation looks at an image: the central `share` of each side, undistorted.
#[must_use]
pub fn evaluation(width: u32, height: u32, share: f64) -> Augmentation {
    let (width, height) = (f64::from(width), f64::from(height));
    let crop = centre(width, height, (width * share).max(1.0), (height * share).max(1.0));
    Augmentation { crop, flip: false, brightness: 0.0, saturation: 1.0 }
}

fn random_crop(random: &mut ChaCha8Rng, width: f64, height: f64, data: &Data) -> Rect {
    let [area_min, area_max] = data.crop.area;
    let [aspect_min, aspect_max] = data.crop.aspect;
    for _ in 0..10 {
        let area = between(random, area_min, area_max) * width * height;
        let aspect = between(random, aspect_min.ln(), aspect_max.ln()).exp();
        let crop_width = quantum((area * aspect).sqrt());
        let crop_height = quantum((area / aspect).sqrt());
        let (x, y) = (unit(random), unit(random));
        if (1.0..=width).contains(&crop_width) && (1.0..=height).contains(&crop_height) {
            let left = quantum(x * (width - crop_width));
            let top = quantum(y * (height - crop_height));
            return Rect { left, top, width: crop_width, height: crop_height };
        }
    }
    let aspect = width / height;
    if aspect < aspect_min {
        centre(width, height, width, width / aspect_min)
    } else if aspect > aspect_max {
        centre(width, height, height * aspect_max, height)
    } else {
        centre(width, height, width, height)
    }
}

fn centre(width: f64, height: f64, crop_width: f64, crop_height: f64) -> Rect {
    let crop_width = quantum(crop_width).clamp(1.0, width);
    let crop_height = quantum(crop_height).clamp(1.0, height);
    let left = quantum((width - crop_width) / 2.0);
    let top = quantum((height - crop_height) / 2.0);
    Rect { left, top, width: crop_width, height: crop_height }
}

/// The nearest multiple of 1/256. Of a number from 0 to a multiple of 1/256 it stays within.
fn quantum(pixels: f64) -> f64 {
    (pixels * 256.0).round() / 256.0
}

/// A generator of its own for each purpose, seed, epoch and sample.
fn generator(purpose: [u8; 8], seed: u64, epoch: u32, index: u32) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&purpose);
    key[8..16].copy_from_slice(&seed.to_le_bytes());
    key[16..20].copy_from_slice(&epoch.to_le_bytes());
    key[24..28].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Evenly in [0, 1).
fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn between(random: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(random)
}

/// Evenly in `0..bound`, without bias: Lemire's method.
fn below(random: &mut ChaCha8Rng, bound: usize) -> usize {
    let bound = bound as u64;
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(random.next_u64()) * u128::from(bound);
        if product as u64 >= threshold {
            return (product >> 64) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> Data {
        crate::tests::settings("image_folder", "nowhere", 2)
    }

    #[test]
    fn an_order_is_a_permutation_and_known() {
        let order = epoch_order(1, 0, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(order, epoch_order(1, 1, 1000));
        assert_ne!(order, epoch_order(2, 0, 1000));
        // Known answers: a change here would break resuming of every stored checkpoint.
        assert_eq!(epoch_order(1, 0, 8), [5, 0, 1, 7, 6, 4, 2, 3]);
        assert_eq!(epoch_order(1, 0, 0), Vec::<u32>::new());
        assert_eq!(epoch_order(1, 0, 1), [0]);
    }

    #[test]
    fn draws_are_pure_and_differ_by_seed_epoch_and_sample() {
        let data = settings();
        let draw = |seed, epoch, index| augmentation(seed, epoch, index, 300, 200, &data);
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)] {
            assert_ne!(draw(1, 2, 3), other);
        }
        let mut unmirrored = settings();
        unmirrored.flip = false;
        let plain = augmentation(1, 2, 3, 300, 200, &unmirrored);
        assert_eq!(plain.crop, draw(1, 2, 3).crop, "a setting must not move the crop");
        assert!(!plain.flip);
    }

    #[test]
    fn draws_are_spread_as_asked() {
        let data = settings();
        let draws: Vec<Augmentation> = (0..4000).map(|index| augmentation(7, 0, index, 256, 256, &data)).collect();
        let mean = |of: &dyn Fn(&Augmentation) -> f64| draws.iter().map(of).sum::<f64>() / draws.len() as f64;
        assert!((mean(&|draw| f64::from(u8::from(draw.flip))) - 0.5).abs() < 0.03);
        assert!(mean(&|draw| draw.brightness).abs() < 0.005);
        assert!((mean(&|draw| draw.saturation) - 1.0).abs() < 0.02);
        // Large areas of an extreme aspect do not fit and are drawn again, so the mean lies under 0.625.
        let area = mean(&|draw| draw.crop.width * draw.crop.height / 65536.0);
        assert!((0.55..0.63).contains(&area), "{area}");
        assert!(mean(&|draw| (draw.crop.width / draw.crop.height).ln()).abs() < 0.02);
    }

    #[test]
    fn an_image_no_crop_fits_in_is_cropped_centrally() {
        let data = settings();
        let wide = augmentation(1, 0, 0, 1000, 10, &data);
        assert_eq!(wide.crop.height, 10.0);
        assert!((wide.crop.width - 13.33).abs() < 0.01, "{wide:?}");
        assert!((wide.crop.left - (1000.0 - wide.crop.width) / 2.0).abs() < 0.01);
    }

    #[test]
    fn evaluation_looks_at_the_centre() {
        let look = evaluation(32, 16, 0.875);
        assert_eq!(look.crop, Rect { left: 2.0, top: 1.0, width: 28.0, height: 14.0 });
        assert_eq!(evaluation(1, 1, 0.5).crop, Rect { left: 0.0, top: 0.0, width: 1.0, height: 1.0 });
    }

    proptest! {
        #[test]
        fn a_crop_lies_within_its_image_and_bounds(
            seed: u64, epoch in 0_u32..1000, index: u32, width in 1_u32..5000, height in 1_u32..5000,
            area_min in 0.01..1.0_f64, aspect_min in 0.3..1.0_f64,
        ) {
            let mut data = settings();
            data.crop.area = [area_min, 1.0];
            data.crop.aspect = [aspect_min, 1.0 / aspect_min];
            let look = augmentation(seed, epoch, index, width, height, &data);
            let Rect { left, top, width: w, height: h } = look.crop;
            prop_assert!(left >= 0.0 && top >= 0.0 && w >= 1.0 && h >= 1.0);
            prop_assert!(left + w <= f64::from(width) && top + h <= f64::from(height));
            prop_assert!(look.brightness.abs() <= 0.125);
            prop_assert!((0.5..=1.5).contains(&look.saturation));
            if width >= 64 && height >= 64 {
                let slack = 1.02;
                prop_assert!(w / h <= slack / aspect_min && w / h >= aspect_min / slack);
            }
        }
    }
}
