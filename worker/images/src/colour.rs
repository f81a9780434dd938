//! Lines of luma and chroma → red, green and blue, with brightness and saturation in it.

use crate::draw::Augmentation;
use crate::resample::CHUNK;

/// JFIF's conversion with brightness and saturation in it: shifting luma and stretching chroma is just what they are.
pub(super) struct Mix {
    /// Bits behind the point of what is added up.
    point: u32,
    /// Added to each channel, with half a step for rounding.
    shift: i16,
    red_of_red: i16,
    green_of_blue: i16,
    green_of_red: i16,
    blue_of_blue: i16,
}

impl Mix {
    pub(super) fn of(look: &Augmentation) -> Self {
        // A saturation is at most 10. Products are of 256ths, and lose 15 bits.
        let point = if look.saturation < 9.0 { 4 } else { 3 };
        let one = f64::from(1 << point);
        let factor = |of: f64| (of * look.saturation * one * 128.0).round() as i16;
        Self {
            point,
            shift: ((look.brightness * 255.0 + 0.5) * one).round() as i16,
            red_of_red: factor(1.402),
            green_of_blue: factor(-0.344_136),
            green_of_red: factor(-0.714_136),
            blue_of_blue: factor(1.772),
        }
    }
}

/// `out`: three bytes a pixel, of fewer pixels than the lines have or as many.
pub(super) fn colour(mix: &Mix, [luma, blue, red]: [&[u8]; 3], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn fast(mix: &Mix, luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
            by_chunks([luma, blue, red], out, |luma, blue, red| avx2::mixed(mix, luma, blue, red));
        }
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { fast(mix, luma, blue, red, out) };
    }
    by_chunks([luma, blue, red], out, |luma, blue, red| mixed(mix, luma, blue, red));
}

/// Saturation leaves grey as it is.
pub(super) fn grey(mix: &Mix, luma: &[u8], out: &mut [u8]) {
    for (luma, out) in luma.iter().zip(out.as_chunks_mut::<3>().0) {
        *out = [channel(mix, base(mix, *luma), 0); 3];
    }
}

type Chunk = [u8; CHUNK];
type Mixed = [u8; 3 * CHUNK];

#[inline(always)]
fn by_chunks([luma, blue, red]: [&[u8]; 3], out: &mut [u8], mixed: impl Fn(&Chunk, &Chunk, &Chunk) -> Mixed) {
    let chunks = luma.as_chunks().0.iter().zip(blue.as_chunks().0).zip(red.as_chunks().0);
    let (whole, rest) = out.as_chunks_mut::<{ 3 * CHUNK }>();
    let mut places = whole.iter_mut();
    for ((luma, blue), red) in chunks {
        let mixed = mixed(luma, blue, red);
        match places.next() {
            Some(place) => *place = mixed,
            None => {
                rest.iter_mut().zip(mixed).for_each(|(place, byte)| *place = byte);
                return;
            }
        }
    }
}

fn mixed(mix: &Mix, luma: &Chunk, blue: &Chunk, red: &Chunk) -> Mixed {
    let mut out = [0; 3 * CHUNK];
    for (at, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let base = base(mix, luma[at]);
        let (blue, red) = (blue[at], red[at]);
        *out = [
            channel(mix, base, part(red, mix.red_of_red)),
            channel(mix, base, part(blue, mix.green_of_blue).saturating_add(part(red, mix.green_of_red))),
            channel(mix, base, part(blue, mix.blue_of_blue)),
        ];
    }
    out
}

fn base(mix: &Mix, luma: u8) -> i16 {
    (i16::from(luma) << mix.point).saturating_add(mix.shift)
}

/// What chroma adds, rounded.
fn part(chroma: u8, factor: i16) -> i16 {
    let chroma = (i32::from(chroma) - 128) << 8;
    ((chroma * i32::from(factor) + (1 << 14)) >> 15) as i16
}

fn channel(mix: &Mix, base: i16, part: i16) -> u8 {
    (base.saturating_add(part) >> mix.point).clamp(0, 255) as u8
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{CHUNK, Chunk, Mix, Mixed};
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_cvtsi32_si128, _mm256_adds_epi16, _mm256_castsi256_si128, _mm256_extracti128_si256,
        _mm256_mulhrs_epi16, _mm256_or_si256, _mm256_packus_epi16, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_sll_epi16, _mm256_sra_epi16, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
        _mm256_xor_si256,
    };

    /// As the slow way does.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn mixed(mix: &Mix, luma: &Chunk, blue: &Chunk, red: &Chunk) -> Mixed {
        let zero = _mm256_setzero_si256();
        let point = _mm_cvtsi32_si128(mix.point.cast_signed());
        let shift = _mm256_set1_epi16(mix.shift);
        let (luma, blue, red) = (bytes(luma), bytes(blue), bytes(red));
        let luma = [_mm256_unpacklo_epi8(luma, zero), _mm256_unpackhi_epi8(luma, zero)];
        // In 256ths, less 128.
        let middle = _mm256_set1_epi16(i16::MIN);
        let spread = |chroma: __m256i| {
            [_mm256_unpacklo_epi8(zero, chroma), _mm256_unpackhi_epi8(zero, chroma)]
                .map(|half| _mm256_xor_si256(half, middle))
        };
        let (blue, red) = (spread(blue), spread(red));
        let mut halves = [[zero; 2]; 3];
        for half in 0..2 {
            let base = _mm256_adds_epi16(_mm256_sll_epi16(luma[half], point), shift);
            let part = |chroma: __m256i, factor: i16| _mm256_mulhrs_epi16(chroma, _mm256_set1_epi16(factor));
            let green = _mm256_adds_epi16(part(blue[half], mix.green_of_blue), part(red[half], mix.green_of_red));
            let parts = [part(red[half], mix.red_of_red), green, part(blue[half], mix.blue_of_blue)];
            for (halves, part) in halves.iter_mut().zip(parts) {
                halves[half] = _mm256_sra_epi16(_mm256_adds_epi16(base, part), point);
            }
        }
        woven(halves.map(|[lower, upper]| _mm256_packus_epi16(lower, upper)))
    }

    fn bytes(chunk: &Chunk) -> __m256i {
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: both are 32 bytes, and any will do.
        unsafe {
            std::mem::transmute::<Chunk, __m256i>(*chunk)
        }
    }

    /// For a third of sixteen pixels' bytes, which byte of a channel comes where; none: one with its highest bit.
    const fn places(third: usize, channel: usize) -> [u8; CHUNK] {
        let mut places = [0x80; CHUNK];
        let mut at = 0;
        while at < CHUNK {
            let byte = third * 16 + at % 16;
            if byte % 3 == channel {
                places[at] = (byte / 3) as u8;
            }
            at += 1;
        }
        places
    }

    const PLACES: [[[u8; CHUNK]; 3]; 3] = {
        let mut all = [[[0; CHUNK]; 3]; 3];
        let mut third = 0;
        while third < 3 {
            all[third] = [places(third, 0), places(third, 1), places(third, 2)];
            third += 1;
        }
        all
    };

    /// Red, green, blue of the first pixel, then of the next.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn woven([red, green, blue]: [__m256i; 3]) -> Mixed {
        let mut thirds = [_mm256_setzero_si256(); 3];
        for (third, places) in thirds.iter_mut().zip(&PLACES) {
            let [of_red, of_green, of_blue] = places.map(|places| bytes(&places));
            let two = _mm256_or_si256(_mm256_shuffle_epi8(red, of_red), _mm256_shuffle_epi8(green, of_green));
            *third = _mm256_or_si256(two, _mm256_shuffle_epi8(blue, of_blue));
        }
        let [a, b, c] = thirds;
        let lower = [_mm256_castsi256_si128(a), _mm256_castsi256_si128(b), _mm256_castsi256_si128(c)];
        let upper = thirds.map(|third| _mm256_extracti128_si256::<1>(third));
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: both are 96 bytes, and any will do.
        unsafe {
            std::mem::transmute::<[[__m128i; 3]; 2], Mixed>([lower, upper])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Rect;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn look(brightness: f64, saturation: f64) -> Augmentation {
        let crop = Rect { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };
        Augmentation { crop, flip: false, brightness, saturation }
    }

    #[test]
    fn colours_are_as_defined_and_alike_with_and_without_avx2() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (brightness, saturation) in [(0.0, 1.0), (0.125, 1.5), (-0.125, 0.5), (1.0, 0.0), (-1.0, 8.9), (0.5, 10.0)]
        {
            let (mix, count) = (Mix::of(&look(brightness, saturation)), 3 * CHUNK - 5);
            let lines: [Vec<u8>; 3] =
                std::array::from_fn(|_| (0..3 * CHUNK).map(|_| random.next_u32() as u8).collect());
            let lines: [&[u8]; 3] = [&lines[0], &lines[1], &lines[2]];
            let (mut out, mut plain) = (vec![0; 3 * count], vec![0; 3 * count]);
            colour(&mix, lines, &mut out);
            by_chunks(lines, &mut plain, |luma, blue, red| mixed(&mix, luma, blue, red));
            assert_eq!(out, plain, "{brightness}, {saturation}");
            for (at, pixel) in out.as_chunks::<3>().0.iter().enumerate() {
                let [luma, blue, red] = lines.map(|line| f64::from(line[at]));
                let (luma, blue, red) =
                    (luma + brightness * 255.0, (blue - 128.0) * saturation, (red - 128.0) * saturation);
                let wanted = [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
                // Factors are off by half a 2,048th at most, of 128.
                let most = 0.5 + 0.13 + if saturation < 9.0 { 0.0 } else { 0.2 };
                for (channel, wanted) in pixel.iter().zip(wanted) {
                    let wanted = wanted.clamp(0.0, 255.0);
                    assert!(
                        (f64::from(*channel) - wanted).abs() < most,
                        "{brightness}, {saturation}: {pixel:?}, {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn grey_is_brightened_alone() {
        let mut out = [0; 9];
        grey(&Mix::of(&look(0.1, 3.0)), &[0, 100, 250], &mut out);
        assert_eq!(out, [26, 26, 26, 126, 126, 126, 255, 255, 255]);
    }
}
