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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) size: f64,
}

/// The next multiple of [`CHUNK`].
pub(crate) fn line_bytes(resolution: usize) -> usize {
    resolution.next_multiple_of(CHUNK)
}

impl Resampler {
    /// `out`: `resolution` lines of [`line_bytes`], by rows. None if the crop needs what was not decoded.
    pub(crate) fn resize(
        &mut self,
        plane: &Plane,
        across: Span,
        down: Span,
        resolution: usize,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.across.fill(across, resolution, plane.width);
        self.down.fill(down, resolution, plane.height);
        let rows = self.down.reach();
        let (count, line) = (rows.len(), line_bytes(rows.len()));
        self.narrow.resize(resolution.next_multiple_of(8) * line, 0);
        let first_row = rows.start.checked_sub(plane.top)?;
        if first_row + count > plane.stride {
            return None;
        }
        let columns = Lines { bytes: plane.bytes.get(first_row..)?, first: plane.left, stride: plane.stride };
        sums(&self.across, &columns, count, &mut self.narrow, line)?;
        let wide = line_bytes(resolution);
        self.turned.resize(count.next_multiple_of(8) * wide, 0);
        turn(&self.narrow, line, (resolution, count), &mut self.turned, wide)?;
        out.resize(resolution * wide, 0);
        let turned = Lines { bytes: &self.turned, first: rows.start, stride: wide };
        sums(&self.down, &turned, resolution, out, wide)
    }
}

/// For each target pixel along an axis, which source pixels it is made of.
#[derive(Debug, Default)]
struct Taps {
    /// First source pixel of the component, how many, and where their weights begin.
    of: Vec<(usize, usize, usize)>,
    /// In 65,536ths.
    weights: Vec<u16>,
    exact: Vec<f64>,
}

impl Taps {
    fn fill(&mut self, span: Span, resolution: usize, limit: usize) {
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
            self.exact.clear();
            self.exact.extend((from..=to).map(|at| (1.0 - (at as f64 + 0.5 - centre).abs() / reach).max(0.0)));
            let sum: f64 = self.exact.iter().sum();
            let begin = self.weights.len();
            if sum <= 0.0 {
                self.weights.push(u16::MAX);
                self.of.push(((from + origin) as usize, 1, begin));
                continue;
            }
            // None of no weight at the ends.
            let is_none = |weight: &f64| weight / sum * 65_536.0 < 0.5;
            let skip = self.exact.iter().take_while(|weight| is_none(weight)).count();
            let trail = self.exact.iter().rev().take_while(|weight| is_none(weight)).count();
            let used = &self.exact[skip..self.exact.len() - trail];
            let (mut left, mut most) = (65_536, (begin, 0));
            for weight in used {
                let weight = ((weight / sum * 65_536.0 + 0.5) as i64).min(65_535) as u16;
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

/// Writes a line for each of the taps, `length` bytes and up to the next multiple of [`CHUNK`].
fn sums(taps: &Taps, lines: &Lines<'_>, length: usize, out: &mut [u8], out_stride: usize) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn fast(taps: &Taps, lines: &Lines<'_>, length: usize, out: &mut [u8], out_stride: usize) -> Option<()> {
            sums_plain(taps, lines, length, out, out_stride)
        }
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { fast(taps, lines, length, out, out_stride) };
    }
    sums_plain(taps, lines, length, out, out_stride)
}

#[inline(always)]
fn sums_plain(taps: &Taps, lines: &Lines<'_>, length: usize, out: &mut [u8], out_stride: usize) -> Option<()> {
    for (&(first, count, at), out) in taps.of.iter().zip(out.chunks_exact_mut(out_stride)) {
        let weights = taps.weights.get(at..at + count)?;
        let start = first.checked_sub(lines.first)? * lines.stride;
        // Half of what is cut off from each product, and half a step.
        let round = 128 + (count / 2).min(1 << 12) as u16;
        let mut chunk = 0;
        while chunk < length {
            let mut sum = [0_u16; CHUNK];
            let mut at = start + chunk;
            for &weight in weights {
                let line = lines.bytes.get(at..)?.first_chunk::<CHUNK>()?;
                // By index: iterators would not be inlined where AVX2 is on.
                let mut at_byte = 0;
                while at_byte < CHUNK {
                    let product = (u32::from(u16::from(line[at_byte]) << 8) * u32::from(weight)) >> 16;
                    sum[at_byte] = sum[at_byte].wrapping_add(product as u16);
                    at_byte += 1;
                }
                at += lines.stride;
            }
            let out = out.get_mut(chunk..)?.first_chunk_mut::<CHUNK>()?;
            let mut at_byte = 0;
            while at_byte < CHUNK {
                out[at_byte] = (sum[at_byte].saturating_add(round) >> 8) as u8;
                at_byte += 1;
            }
            chunk += CHUNK;
        }
    }
    Some(())
}

/// Lines of `from` become columns of `to`: `(lines, length)`, both rounded up to eights.
fn turn(
    from: &[u8],
    from_stride: usize,
    (lines, length): (usize, usize),
    to: &mut [u8],
    to_stride: usize,
) -> Option<()> {
    for at in (0..length).step_by(8) {
        for line in (0..lines).step_by(8) {
            let mut tile = [0_u64; 8];
            for (row, tile) in tile.iter_mut().enumerate() {
                *tile = u64::from_le_bytes(*from.get((line + row) * from_stride + at..)?.first_chunk()?);
            }
            for (row, tile) in turn_tile(tile).into_iter().enumerate() {
                *to.get_mut((at + row) * to_stride + line..)?.first_chunk_mut()? = tile.to_le_bytes();
            }
        }
    }
    Some(())
}

/// Eight times eight bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_tile(tile: [u64; 8]) -> [u64; 8] {
    use std::arch::x86_64::{
        _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_unpackhi_epi16, _mm_unpackhi_epi32, _mm_unpackhi_epi64,
        _mm_unpacklo_epi8, _mm_unpacklo_epi16, _mm_unpacklo_epi32,
    };
    #[expect(unsafe_code, reason = "SSE2")]
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        let [a, b, c, d, e, f, g, h] = tile;
        let (a, b) = (_mm_cvtsi64_si128(a.cast_signed()), _mm_cvtsi64_si128(b.cast_signed()));
        let (c, d) = (_mm_cvtsi64_si128(c.cast_signed()), _mm_cvtsi64_si128(d.cast_signed()));
        let (e, f) = (_mm_cvtsi64_si128(e.cast_signed()), _mm_cvtsi64_si128(f.cast_signed()));
        let (g, h) = (_mm_cvtsi64_si128(g.cast_signed()), _mm_cvtsi64_si128(h.cast_signed()));
        let (ab, cd, ef, gh) =
            (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d), _mm_unpacklo_epi8(e, f), _mm_unpacklo_epi8(g, h));
        let (low, low_4) = (_mm_unpacklo_epi16(ab, cd), _mm_unpackhi_epi16(ab, cd));
        let (high, high_4) = (_mm_unpacklo_epi16(ef, gh), _mm_unpackhi_epi16(ef, gh));
        let pairs = [
            _mm_unpacklo_epi32(low, high),
            _mm_unpackhi_epi32(low, high),
            _mm_unpacklo_epi32(low_4, high_4),
            _mm_unpackhi_epi32(low_4, high_4),
        ];
        let mut turned = [0; 8];
        for (at, pair) in pairs.into_iter().enumerate() {
            turned[2 * at] = _mm_cvtsi128_si64(pair).cast_unsigned();
            turned[2 * at + 1] = _mm_cvtsi128_si64(_mm_unpackhi_epi64(pair, pair)).cast_unsigned();
        }
        turned
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn turn_tile(tile: [u64; 8]) -> [u64; 8] {
    let lines = tile.map(u64::to_le_bytes);
    std::array::from_fn(|column| u64::from_le_bytes(std::array::from_fn(|line| lines[line][column])))
}
