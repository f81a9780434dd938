//! One plane of bytes → another size: bilinear, averaging where it shrinks, as Pillow and torchvision do.
//!
//! First along the rows, which in a plane by columns is a sum of columns; turned over; then along the columns, which is a
//! sum of rows. So both are sums of lines, many pixels at a time. Weights belong to the crop and not to what happens to
//! be decoded around it, so the same crop has the same pixels wherever it is cut from. Whole numbers only.

use crate::jpeg::Plane;

/// Bytes of a line that are added up at a time. Lines are as long as a multiple of it.
const CHUNK: usize = 32;

/// What is kept from one plane to the next.
#[derive(Debug, Default)]
pub(crate) struct Resampler {
    across: Taps,
    down: Taps,
    narrow: Vec<u8>,
    turned: Vec<u8>,
}

/// A range of a component, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) size: f64,
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
        let narrow = room(&mut self.narrow, resolution.next_multiple_of(TILE) * line);
        let first_row = rows.start.checked_sub(plane.top)?;
        if first_row + count > plane.stride {
            return None;
        }
        let columns = Lines { bytes: plane.bytes.get(first_row..)?, first: plane.left, stride: plane.stride };
        sums(&self.across, is_backwards, &columns, narrow, line)?;
        let wide = line_bytes(resolution);
        let turned = room(&mut self.turned, count.next_multiple_of(TILE) * wide);
        turn(narrow, line, (resolution, count), turned, wide)?;
        let turned = Lines { bytes: turned, first: rows.start, stride: wide };
        sums(&self.down, false, &turned, room(out, resolution * wide), wide)
    }
}

/// So many bytes, whatever is in them.
fn room(bytes: &mut Vec<u8>, count: usize) -> &mut [u8] {
    if bytes.len() < count {
        bytes.resize(count, 0);
    }
    &mut bytes[..count]
}

/// For each target pixel along an axis, which source pixels it is made of.
#[derive(Debug, Default)]
struct Taps {
    /// First source pixel of the component, how many, and where their weights begin.
    of: Vec<(usize, usize, usize)>,
    /// In 65,536ths.
    weights: Vec<u16>,
    exact: Vec<[f64; 4]>,
    /// What they were made for: those of one plane of chroma are the other's too.
    made_for: Option<(Span, usize, usize)>,
}

impl Taps {
    fn fill(&mut self, span: Span, resolution: usize, limit: usize) {
        let wanted = Some((span, resolution, limit));
        if self.made_for == wanted {
            return;
        }
        self.made_for = None;
        self.of.clear();
        self.weights.clear();
        // Whole pixels are set aside, so that no rounding depends on them.
        let origin = floor(span.start);
        let fraction = span.start - origin as f64;
        let scale = span.size / resolution as f64;
        let reach = scale.max(1.0);
        for target in 0..resolution {
            let centre = fraction + (target as f64 + 0.5) * scale;
            let last = limit as i64 - origin - 1;
            let from = floor(centre - reach + 0.5).clamp(-origin, last);
            let to = (floor(centre + reach + 0.5) - 1).clamp(from, last);
            // By fours, because divisions are slow one by one.
            let count = (to - from + 1) as usize;
            self.exact.resize(count.div_ceil(4), [0.0; 4]);
            let mut middle = from as f64 + 0.5;
            for weights in &mut self.exact {
                for (ahead, weight) in [0.0, 1.0, 2.0, 3.0].into_iter().zip(weights) {
                    let inside = 1.0 - (middle + ahead - centre).abs() / reach;
                    *weight = if inside > 0.0 { inside } else { 0.0 };
                }
                middle += 4.0;
            }
            self.exact.as_flattened_mut()[count..].fill(0.0);
            let sum: f64 = self.exact.as_flattened().iter().sum();
            let begin = self.weights.len();
            if sum <= 0.0 {
                self.weights.push(u16::MAX);
                self.of.push(((from + origin) as usize, 1, begin));
                continue;
            }
            for weights in &mut self.exact {
                *weights = weights.map(|weight| weight / sum * 65_536.0);
            }
            let exact = self.exact.as_flattened();
            // None of no weight at the ends.
            let skip = exact.iter().take_while(|weight| **weight < 0.5).count();
            let trail = exact.iter().rev().take_while(|weight| **weight < 0.5).count();
            let used = &exact[skip..exact.len() - trail];
            let (mut left, mut most) = (65_536, (begin, 0));
            for weight in used {
                let weight = ((weight + 0.5) as i64).min(65_535) as u16;
                left -= i64::from(weight);
                if weight > most.1 {
                    most = (self.weights.len(), weight);
                }
                self.weights.push(weight);
            }
            // What rounding has left over goes to the heaviest.
            left += i64::from(most.1);
            self.weights[most.0] = left.clamp(0, 65_535) as u16;
            self.of.push(((from + origin) as usize + skip, used.len(), begin));
        }
        self.made_for = wanted;
    }

    /// Source pixels from the first to the last.
    fn reach(&self) -> std::ops::Range<usize> {
        let from = self.of.iter().map(|(first, ..)| *first).min().unwrap_or(0);
        let to = self.of.iter().map(|(first, count, _)| first + count).max().unwrap_or(0);
        from..to
    }
}

/// Without the call that processors before SSE4.1 need.
fn floor(value: f64) -> i64 {
    let cut = value as i64;
    cut - i64::from(cut as f64 > value)
}

/// Lines to be added up.
struct Lines<'a> {
    bytes: &'a [u8],
    /// The number of the first.
    first: usize,
    stride: usize,
}

/// Writes a line for each of the taps, the last first if `is_backwards`.
fn sums(taps: &Taps, is_backwards: bool, lines: &Lines<'_>, out: &mut [u8], out_stride: usize) -> Option<()> {
    let fast = is_fast();
    for (number, out) in out.chunks_exact_mut(out_stride).take(taps.of.len()).enumerate() {
        let number = if is_backwards { taps.of.len() - 1 - number } else { number };
        let &(first, count, at) = taps.of.get(number)?;
        let weights = taps.weights.get(at..at + count)?;
        let from = lines.bytes.get(first.checked_sub(lines.first)? * lines.stride..)?;
        // Half of what is cut off from each product, and half a step.
        let round = 128 + (count / 2).min(1 << 12) as u16;
        sum(weights, round, from, lines.stride, out.as_chunks_mut().0, fast)?;
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

/// Adds up lines of `from`, one for each weight.
fn sum(weights: &[u16], round: u16, from: &[u8], stride: usize, out: &mut [[u8; CHUNK]], fast: bool) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if fast {
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: `fast` is what `is_fast` says: the processor has AVX2.
        return unsafe { avx2::sum(weights, round, from, stride, out) };
    }
    let _ = fast;
    for (at, out) in out.iter_mut().enumerate() {
        let mut sum = [0_u16; CHUNK];
        for (line, &weight) in weights.iter().enumerate() {
            let bytes: &[u8; CHUNK] = from.get(line * stride + at * CHUNK..)?.first_chunk()?;
            for (sum, byte) in sum.iter_mut().zip(bytes) {
                *sum = sum.wrapping_add(((u32::from(*byte) * u32::from(weight)) >> 8) as u16);
            }
        }
        *out = sum.map(|sum| (sum.saturating_add(round) >> 8) as u8);
    }
    Some(())
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::CHUNK;
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi16, _mm256_adds_epu16, _mm256_mulhi_epu16, _mm256_packus_epi16, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_srli_epi16, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
    };

    /// As the slow way does. The usual counts of lines each have a loop of their own, with all weights at hand.
    #[target_feature(enable = "avx2")]
    pub(super) fn sum(weights: &[u16], round: u16, from: &[u8], stride: usize, out: &mut [[u8; CHUNK]]) -> Option<()> {
        match *weights {
            [a] => few([a], round, from, stride, out),
            [a, b] => few([a, b], round, from, stride, out),
            [a, b, c] => few([a, b, c], round, from, stride, out),
            [a, b, c, d] => few([a, b, c, d], round, from, stride, out),
            [a, b, c, d, e] => few([a, b, c, d, e], round, from, stride, out),
            [a, b, c, d, e, f] => few([a, b, c, d, e, f], round, from, stride, out),
            _ => many(weights, round, from, stride, out),
        }
    }

    #[target_feature(enable = "avx2")]
    fn few<const COUNT: usize>(
        weights: [u16; COUNT],
        round: u16,
        from: &[u8],
        stride: usize,
        out: &mut [[u8; CHUNK]],
    ) -> Option<()> {
        let mut lines: [&[[u8; CHUNK]]; COUNT] = [&[]; COUNT];
        for (at, line) in lines.iter_mut().enumerate() {
            *line = from.get(at * stride..)?.as_chunks().0.get(..out.len())?;
        }
        let mut wide = [_mm256_setzero_si256(); COUNT];
        for line in 0..COUNT {
            wide[line] = _mm256_set1_epi16(weights[line].cast_signed());
        }
        for (at, out) in out.iter_mut().enumerate() {
            // Weights that are known before the loop would be made 32 bits wide there, and all products with them.
            let weights = std::hint::black_box(&wide);
            let mut sum = [_mm256_setzero_si256(); 2];
            for line in 0..COUNT {
                sum = add(sum, &lines[line][at], weights[line]);
            }
            *out = rounded(sum, round);
        }
        Some(())
    }

    #[target_feature(enable = "avx2")]
    fn many(weights: &[u16], round: u16, from: &[u8], stride: usize, out: &mut [[u8; CHUNK]]) -> Option<()> {
        for (at, out) in out.iter_mut().enumerate() {
            let mut sum = [_mm256_setzero_si256(); 2];
            for (line, &weight) in weights.iter().enumerate() {
                sum = add(
                    sum,
                    from.get(line * stride + at * CHUNK..)?.first_chunk()?,
                    _mm256_set1_epi16(weight.cast_signed()),
                );
            }
            *out = rounded(sum, round);
        }
        Some(())
    }

    /// Adds bytes, each times a weight; first the lower eight of each sixteen, then the upper.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(sum: [__m256i; 2], bytes: &[u8; CHUNK], weight: __m256i) -> [__m256i; 2] {
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: both are 32 bytes, and any will do.
        let bytes = unsafe { std::mem::transmute::<[u8; CHUNK], __m256i>(*bytes) };
        let zero = _mm256_setzero_si256();
        let (lower, upper) = (_mm256_unpacklo_epi8(zero, bytes), _mm256_unpackhi_epi8(zero, bytes));
        [
            _mm256_add_epi16(sum[0], _mm256_mulhi_epu16(lower, weight)),
            _mm256_add_epi16(sum[1], _mm256_mulhi_epu16(upper, weight)),
        ]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn rounded([lower, upper]: [__m256i; 2], round: u16) -> [u8; CHUNK] {
        let round = _mm256_set1_epi16(round.cast_signed());
        let (lower, upper) = (_mm256_adds_epu16(lower, round), _mm256_adds_epu16(upper, round));
        let bytes = _mm256_packus_epi16(_mm256_srli_epi16::<8>(lower), _mm256_srli_epi16::<8>(upper));
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: both are 32 bytes, and any will do.
        unsafe {
            std::mem::transmute::<__m256i, [u8; CHUNK]>(bytes)
        }
    }
}

/// Lines of `from` become columns of `to`: `(lines, length)`, both rounded up to multiples of [`TILE`].
fn turn(
    from: &[u8],
    from_stride: usize,
    (lines, length): (usize, usize),
    to: &mut [u8],
    to_stride: usize,
) -> Option<()> {
    for at in (0..length).step_by(TILE) {
        for line in (0..lines).step_by(TILE) {
            let mut tile = Tile::default();
            for (row, tile) in tile.iter_mut().enumerate() {
                *tile = *from.get((line + row) * from_stride + at..)?.first_chunk()?;
            }
            for (row, tile) in turn_tile(tile).into_iter().enumerate() {
                *to.get_mut((at + row) * to_stride + line..)?.first_chunk_mut()? = tile;
            }
        }
    }
    Some(())
}

/// Bytes that are turned over at a time, across and down.
const TILE: usize = 16;

type Tile = [[u8; TILE]; TILE];

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_tile(tile: Tile) -> Tile {
    use std::arch::x86_64::{__m128i, _mm_unpackhi_epi8, _mm_unpacklo_epi8};
    #[expect(unsafe_code, reason = "SSE2")]
    // SAFETY: every x86-64 processor has SSE2; and a register is 16 bytes, of which any will do.
    unsafe {
        let mut lines = std::mem::transmute::<Tile, [__m128i; TILE]>(tile);
        // A byte's place is four bits of its line and four within it. Each time these eight go round by one.
        for _ in 0..4 {
            let before = lines;
            for at in 0..TILE / 2 {
                lines[2 * at] = _mm_unpacklo_epi8(before[at], before[at + TILE / 2]);
                lines[2 * at + 1] = _mm_unpackhi_epi8(before[at], before[at + TILE / 2]);
            }
        }
        std::mem::transmute::<[__m128i; TILE], Tile>(lines)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn turn_tile(tile: Tile) -> Tile {
    std::array::from_fn(|column| std::array::from_fn(|line| tile[line][column]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    #[test]
    fn sums_are_alike_with_and_without_avx2() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let bytes: Vec<u8> = (0..12 * 100).map(|_| random.next_u32() as u8).collect();
        for count in 1..10 {
            let weights: Vec<u16> = (0..count).map(|_| (random.next_u32() % (65_536 / count)) as u16).collect();
            let sums = |from: &[u8], fast: bool| {
                let mut out = [[0; CHUNK]; 3];
                sum(&weights, 130, from, 100, &mut out, fast).map(|()| out)
            };
            assert!(sums(&bytes, false).is_some());
            assert_eq!(sums(&bytes, is_fast()), sums(&bytes, false), "{count}");
            let short = &bytes[..count as usize * 100 - 5];
            assert_eq!((sums(short, is_fast()), sums(short, false)), (None, None), "{count}");
        }
    }

    #[test]
    fn lines_become_columns() {
        let from: Vec<u8> = (0..32 * 48).map(|at| (at % 251) as u8).collect();
        let mut to = vec![0; 48 * 32];
        turn(&from, 48, (32, 48), &mut to, 32).unwrap();
        for (at, byte) in from.iter().enumerate() {
            assert_eq!(to[at % 48 * 32 + at / 48], *byte, "{at}");
        }
    }
}
