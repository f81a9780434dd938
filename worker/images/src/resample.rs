//! One plane of bytes → another size: bilinear, averaging where it shrinks, as Pillow and torchvision do.
//!
//! First along the rows, which in a plane by columns is a sum of columns; turned over; then along the columns, which is a
//! sum of rows. So both are sums of lines, many pixels at a time. Weights belong to the crop and not to what happens to
//! be decoded around it, so the same crop has the same pixels wherever it is cut from. Whole numbers only.

use crate::jpeg::Plane;
use crate::taps::{Span, Tap, Taps};
use crate::turn::{TILE, turn};

/// Bytes of a line that are worked on at a time. Lines are as long as a multiple of it.
pub(crate) const CHUNK: usize = 32;

/// What is kept from one plane to the next.
#[derive(Debug, Default)]
pub(crate) struct Resampler {
    across: Taps,
    down: Taps,
    narrow: Vec<u8>,
    turned: Vec<u8>,
}

/// The next multiple of [`CHUNK`].
pub(crate) fn line_bytes(resolution: usize) -> usize {
    resolution.next_multiple_of(CHUNK)
}

impl Resampler {
    /// `out`: `resolution` lines of [`line_bytes`], by rows, each backwards if `is_backwards`. None if the crop needs what was
    /// not decoded.
    pub(crate) fn resize(
        &mut self,
        plane: &Plane,
        (across, down): (Span, Span),
        resolution: usize,
        is_backwards: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.across.fill(across, resolution, plane.width);
        self.down.fill(down, resolution, plane.height);
        let rows = self.down.reach();
        let (count, line) = (rows.len(), line_bytes(rows.len()));
        let first_row = rows.start.checked_sub(plane.top)?;
        if first_row + count > plane.stride {
            return None;
        }
        let columns = Lines { bytes: plane.bytes.get(first_row..)?, first: plane.left, stride: plane.stride };
        let wide = line_bytes(resolution);
        // Turned over while they are still near.
        let narrow = room(&mut self.narrow, TILE * line);
        let turned = room(&mut self.turned, line * wide);
        for at in (0..resolution).step_by(TILE) {
            sums(&self.across, (at, is_backwards), &columns, narrow, line)?;
            turn(narrow, line, (TILE, count), turned.get_mut(at..)?, wide)?;
        }
        let turned = Lines { bytes: turned, first: rows.start, stride: wide };
        sums(&self.down, (0, false), &turned, room(out, resolution * wide), wide)
    }
}

/// So many bytes, whatever is in them.
fn room(bytes: &mut Vec<u8>, count: usize) -> &mut [u8] {
    if bytes.len() < count {
        bytes.resize(count, 0);
    }
    &mut bytes[..count]
}

/// Lines to be added up.
struct Lines<'a> {
    bytes: &'a [u8],
    /// The number of the first.
    first: usize,
    stride: usize,
}

/// Writes a line for each of the taps from one on, as far as there are any or `out` has room; if `is_backwards`, counted from
/// the last.
fn sums(
    taps: &Taps,
    (start, is_backwards): (usize, bool),
    lines: &Lines<'_>,
    out: &mut [u8],
    out_stride: usize,
) -> Option<()> {
    let fast = is_fast();
    for (number, out) in (start..taps.len()).zip(out.chunks_exact_mut(out_stride)) {
        let tap = taps.get(if is_backwards { taps.len() - 1 - number } else { number })?;
        let from = lines.bytes.get(tap.first.checked_sub(lines.first)? * lines.stride..)?;
        sum(tap, from, lines.stride, out.as_chunks_mut().0, fast)?;
    }
    Some(())
}

/// Whether the processor has what the fast way needs.
fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Adds up lines of `from`, as the taps say.
fn sum(tap: Tap<'_>, from: &[u8], stride: usize, out: &mut [[u8; CHUNK]], fast: bool) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if fast {
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: `fast` is what `is_fast` says: the processor has AVX2.
        return unsafe { avx2::sum(tap, from, stride, out) };
    }
    let _ = fast;
    for (at, out) in out.iter_mut().enumerate() {
        let mut sum = [HALF; CHUNK];
        for (line, weight) in tap.pairs.iter().flat_map(|pair| pair.to_le_bytes()).enumerate() {
            let line = line.min(tap.count - 1);
            let bytes: &[u8; CHUNK] = from.get(line * stride + at * CHUNK..)?.first_chunk()?;
            for (sum, byte) in sum.iter_mut().zip(bytes) {
                *sum += u16::from(*byte) * u16::from(weight);
            }
        }
        *out = sum.map(|sum| (sum >> 8) as u8);
    }
    Some(())
}

/// Half a step: a sum is of 256ths, and at most 255 × 256.
const HALF: u16 = 128;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{CHUNK, HALF, Tap};
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi16, _mm256_maddubs_epi16, _mm256_packs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_srai_epi16, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8, _mm256_xor_si256,
    };

    /// As the slow way does. The usual counts of lines each have a loop of their own, with all weights at hand.
    #[target_feature(enable = "avx2")]
    pub(super) fn sum(tap: Tap<'_>, from: &[u8], stride: usize, out: &mut [[u8; CHUNK]]) -> Option<()> {
        match *tap.pairs {
            [a] => few([a], tap.count, from, stride, out),
            [a, b] => few([a, b], tap.count, from, stride, out),
            [a, b, c] => few([a, b, c], tap.count, from, stride, out),
            [a, b, c, d] => few([a, b, c, d], tap.count, from, stride, out),
            _ => many(tap, from, stride, out),
        }
    }

    #[target_feature(enable = "avx2")]
    fn few<const PAIRS: usize>(
        pairs: [u16; PAIRS],
        count: usize,
        from: &[u8],
        stride: usize,
        out: &mut [[u8; CHUNK]],
    ) -> Option<()> {
        let mut lines: [[&[[u8; CHUNK]]; 2]; PAIRS] = [[&[]; 2]; PAIRS];
        let mut weights = [_mm256_setzero_si256(); PAIRS];
        for at in 0..PAIRS {
            let [one, other] = [2 * at, (2 * at + 1).min(count - 1)];
            lines[at] = [line(from, one * stride, out.len())?, line(from, other * stride, out.len())?];
            weights[at] = _mm256_set1_epi16(pairs[at].cast_signed());
        }
        for (at, out) in out.iter_mut().enumerate() {
            let mut sum = [_mm256_set1_epi16(HALF.cast_signed()); 2];
            for pair in 0..PAIRS {
                let [one, other] = lines[pair];
                sum = add(sum, &one[at], &other[at], weights[pair]);
            }
            *out = cut(sum);
        }
        Some(())
    }

    #[target_feature(enable = "avx2")]
    fn many(tap: Tap<'_>, from: &[u8], stride: usize, out: &mut [[u8; CHUNK]]) -> Option<()> {
        for (at, out) in out.iter_mut().enumerate() {
            let mut sum = [_mm256_set1_epi16(HALF.cast_signed()); 2];
            for (pair, &weights) in tap.pairs.iter().enumerate() {
                let [one, other] = [2 * pair, (2 * pair + 1).min(tap.count - 1)];
                let [one, other] = [one, other].map(|line| from.get(line * stride + at * CHUNK..)?.first_chunk());
                sum = add(sum, one?, other?, _mm256_set1_epi16(weights.cast_signed()));
            }
            *out = cut(sum);
        }
        Some(())
    }

    #[inline(always)]
    fn line(from: &[u8], at: usize, chunks: usize) -> Option<&[[u8; CHUNK]]> {
        from.get(at..)?.as_chunks().0.get(..chunks)
    }

    /// Adds two lines' bytes, each times its weight; first the lower eight of each sixteen, then the upper. The multiplication
    /// wants one factor signed: bytes less 128, which all weights together bring back.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(sum: [__m256i; 2], one: &[u8; CHUNK], other: &[u8; CHUNK], weights: __m256i) -> [__m256i; 2] {
        let middle = _mm256_set1_epi8(i8::MIN);
        let (one, other) = (_mm256_xor_si256(bytes(one), middle), _mm256_xor_si256(bytes(other), middle));
        let (lower, upper) = (_mm256_unpacklo_epi8(one, other), _mm256_unpackhi_epi8(one, other));
        [
            _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(weights, lower)),
            _mm256_add_epi16(sum[1], _mm256_maddubs_epi16(weights, upper)),
        ]
    }

    /// Without what lies behind the point.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn cut([lower, upper]: [__m256i; 2]) -> [u8; CHUNK] {
        let signed = _mm256_packs_epi16(_mm256_srai_epi16::<8>(lower), _mm256_srai_epi16::<8>(upper));
        let bytes = _mm256_xor_si256(signed, _mm256_set1_epi8(i8::MIN));
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: both are 32 bytes, and any will do.
        unsafe {
            std::mem::transmute::<__m256i, [u8; CHUNK]>(bytes)
        }
    }

    #[inline(always)]
    fn bytes(chunk: &[u8; CHUNK]) -> __m256i {
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: both are 32 bytes, and any will do.
        unsafe {
            std::mem::transmute::<[u8; CHUNK], __m256i>(*chunk)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    #[test]
    fn sums_are_alike_with_and_without_avx2() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for case in 0..200 {
            let count: usize = 1 + case % 12;
            // Among them all black and all white.
            let bytes: Vec<u8> = (0..12 * 100)
                .map(|_| match case % 5 {
                    0 => 0,
                    1 => 255,
                    _ => random.next_u32() as u8,
                })
                .collect();
            let mut pairs = vec![0x8080];
            if count > 1 {
                let mut edges: Vec<u32> = (1..count).map(|_| random.next_u32() % 256).chain([0, 256]).collect();
                edges.sort_unstable();
                let mut weights: Vec<u32> = edges.windows(2).map(|two| two[1] - two[0]).collect();
                if weights.contains(&256) {
                    continue;
                }
                weights.resize(count.next_multiple_of(2), 0);
                pairs = weights.as_chunks::<2>().0.iter().map(|[one, other]| (one + (other << 8)) as u16).collect();
            }
            let tap = Tap { first: 0, count, pairs: &pairs };
            let sums = |from: &[u8], fast: bool| {
                let mut out = [[0; CHUNK]; 3];
                sum(tap, from, 100, &mut out, fast).map(|()| out)
            };
            assert!(sums(&bytes, false).is_some());
            assert_eq!(sums(&bytes, is_fast()), sums(&bytes, false), "{count}");
            let short = &bytes[..count * 100 - 5];
            assert_eq!((sums(short, is_fast()), sums(short, false)), (None, None), "{count}");
        }
    }
}
