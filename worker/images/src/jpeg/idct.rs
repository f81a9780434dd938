//! From the coefficients of a block to its pixels, by columns: pixels of a column lie side by side.
//!
//! Arai, Agui and Nakajima's transform in floating point (Pennebaker and Mitchell, JPEG, 1993, 4.3.5); its scale
//! factors are in the quantization steps. The same sums in the same order with and without AVX2, so the same bits.

use super::header::ZIGZAG;
use std::f64::consts::PI;

/// Factors of the transform, by row and by column.
const SCALES: [f64; 8] = [1.0, 1.387039845, 1.306562965, 1.175875602, 1.0, 0.785694958, 0.541196100, 0.275899379];
const ROOT_2: f32 = std::f32::consts::SQRT_2;
const C_1_847: f32 = 1.847_759;
const C_1_082: f32 = 1.082_392_2;
const C_2_613: f32 = 2.613_126;
/// Grey is in the middle; half more, so that cutting off rounds.
const MIDDLE: f32 = 128.5;

/// The coefficients of a block.
#[repr(align(32))]
pub(super) struct Block {
    /// All but the first by row, then room for what lies beyond the end.
    pub(super) rest: [i16; 256],
    /// The first, times its step.
    first: f32,
}

/// Where a coefficient lies within a block, by its place in the file; all that are beyond the end at one place.
const PLACES: [u8; 256] = {
    let mut places = [64; 256];
    let mut at = 0;
    while at < 64 {
        places[at] = ZIGZAG[at];
        at += 1;
    }
    places
};

impl Block {
    pub(super) const BLANK: Self = Self { rest: [0; 256], first: 0.0 };

    /// Only a first coefficient.
    #[inline(always)]
    pub(super) fn begin(&mut self, first: f32) {
        self.rest[..64].fill(0);
        self.first = first;
    }

    /// Puts a coefficient at its place in the file, of 256; from 64 on nowhere.
    #[inline(always)]
    pub(super) fn put(&mut self, at: usize, value: i16) {
        self.rest[usize::from(PLACES[at & 255])] = value;
    }

    /// A coefficient but the first, by row, times its step.
    fn at(&self, at: usize, steps: &Steps) -> f32 {
        if at == 0 { self.first } else { f32::from(self.rest[at]) * steps.0[at] }
    }
}

/// Steps by row, with the factors of the transform.
#[derive(Clone)]
#[repr(align(32))]
pub(super) struct Steps(pub(super) [f32; 64]);

/// Steps of the transform to `side` × `side` pixels; `quantization` is in the order of the file.
pub(super) fn steps(quantization: &[u16; 64], side: usize) -> Steps {
    let mut steps = [0.0; 64];
    for (quantization, at) in quantization.iter().zip(ZIGZAG) {
        let (row, column) = (usize::from(at) / 8, usize::from(at) % 8);
        let factor = if side == 8 {
            SCALES[row] * SCALES[column] / 8.0
        } else {
            let half = |frequency: usize| if frequency == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            half(row) * half(column) / 4.0
        };
        steps[usize::from(at)] = (f64::from(*quantization) * factor) as f32;
    }
    Steps(steps)
}

macro_rules! one_dimension {
    ($v:ident, $add:path, $sub:path, $times:path) => {{
        let [v0, v1, v2, v3, v4, v5, v6, v7] = $v;
        let (t10, t11) = ($add(v0, v4), $sub(v0, v4));
        let t13 = $add(v2, v6);
        let t12 = $sub($times($sub(v2, v6), ROOT_2), t13);
        let (e0, e3, e1, e2) = ($add(t10, t13), $sub(t10, t13), $add(t11, t12), $sub(t11, t12));
        let (z13, z10, z11, z12) = ($add(v5, v3), $sub(v5, v3), $add(v1, v7), $sub(v1, v7));
        let o7 = $add(z11, z13);
        let t11 = $times($sub(z11, z13), ROOT_2);
        let z5 = $times($add(z10, z12), C_1_847);
        let t10 = $sub(z5, $times(z12, C_1_082));
        let t12 = $sub(z5, $times(z10, C_2_613));
        let o6 = $sub(t12, o7);
        let o5 = $sub(t11, o6);
        let o4 = $sub(t10, o5);
        [$add(e0, o7), $add(e1, o6), $add(e2, o5), $add(e3, o4), $sub(e3, o4), $sub(e2, o5), $sub(e1, o6), $sub(e0, o7)]
    }};
}

/// The columns of a block.
pub(super) type Columns = [[u8; 8]; 8];

/// All 8 × 8 pixels.
#[inline(always)]
pub(super) fn whole(block: &Block, steps: &Steps, fast: bool) -> Columns {
    #[cfg(target_arch = "x86_64")]
    if fast {
        #[expect(unsafe_code, reason = "AVX2")]
        // SAFETY: `fast` is what `is_fast` says: the processor has AVX2.
        return unsafe { avx2::whole(block, steps) };
    }
    let _ = fast;
    plain(block, steps)
}

/// Whether the processor has what the fast way needs.
pub(super) fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

type Eight = [f32; 8];

fn add(a: Eight, b: Eight) -> Eight {
    std::array::from_fn(|at| a[at] + b[at])
}

fn sub(a: Eight, b: Eight) -> Eight {
    std::array::from_fn(|at| a[at] - b[at])
}

fn times(a: Eight, by: f32) -> Eight {
    a.map(|value| value * by)
}

fn plain(block: &Block, steps: &Steps) -> Columns {
    let rows: [Eight; 8] = std::array::from_fn(|row| std::array::from_fn(|column| block.at(row * 8 + column, steps)));
    let rows = one_dimension!(rows, add, sub, times);
    let turned: [Eight; 8] = std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]));
    one_dimension!(turned, add, sub, times).map(|column| column.map(|value| (value + MIDDLE) as u8))
}

/// `side` × `side` pixels, 4, 2 or 1, from as many coefficients: columns of `side` bytes.
pub(super) fn small(block: &Block, steps: &Steps, side: usize) -> Columns {
    let mut wave = [[0.0_f32; 4]; 4];
    for (place, wave) in wave.iter_mut().enumerate().take(side) {
        for (frequency, value) in wave.iter_mut().enumerate().take(side) {
            *value = ((2 * place + 1) as f64 * frequency as f64 * PI / (2 * side) as f64).cos() as f32;
        }
    }
    let mut half = [[0.0_f32; 4]; 4];
    for (y, line) in half.iter_mut().enumerate().take(side) {
        for (column, value) in line.iter_mut().enumerate().take(side) {
            *value = (0..side).map(|row| block.at(row * 8 + column, steps) * wave[y][row]).sum();
        }
    }
    let mut columns = Columns::default();
    for (x, column) in columns.iter_mut().enumerate().take(side) {
        for (y, pixel) in column.iter_mut().enumerate().take(side) {
            let value: f32 = (0..side).map(|column| half[y][column] * wave[x][column]).sum();
            *pixel = (value + MIDDLE) as u8;
        }
    }
    columns
}

/// A block of a single value, whatever its side.
pub(super) fn flat(block: &Block) -> Columns {
    [[(block.first + MIDDLE) as u8; 8]; 8]
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Block, C_1_082, C_1_847, C_2_613, Columns, MIDDLE, ROOT_2, Steps};
    use std::arch::x86_64::{
        __m256, __m256i, _mm_setr_epi16, _mm256_add_ps, _mm256_blend_ps, _mm256_cvtepi16_epi32, _mm256_cvtepi32_ps,
        _mm256_cvttps_epi32, _mm256_extract_epi64, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32,
        _mm256_packus_epi16, _mm256_permute2f128_ps, _mm256_permutevar8x32_epi32, _mm256_set1_ps, _mm256_setr_epi32,
        _mm256_setr_ps, _mm256_shuffle_ps, _mm256_sub_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    #[target_feature(enable = "avx2")]
    fn times(a: __m256, by: f32) -> __m256 {
        _mm256_mul_ps(a, _mm256_set1_ps(by))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn whole(block: &Block, steps: &Steps) -> Columns {
        let (rest, steps) = (block.rest.as_chunks::<8>().0, steps.0.as_chunks::<8>().0);
        let load = |at: usize| {
            let [a, b, c, d, e, f, g, h] = rest[at];
            let row = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_setr_epi16(a, b, c, d, e, f, g, h)));
            let [a, b, c, d, e, f, g, h] = steps[at];
            _mm256_mul_ps(row, _mm256_setr_ps(a, b, c, d, e, f, g, h))
        };
        let first = _mm256_blend_ps::<1>(load(0), _mm256_set1_ps(block.first));
        let rows = [first, load(1), load(2), load(3), load(4), load(5), load(6), load(7)];
        let rows = one_dimension!(rows, _mm256_add_ps, _mm256_sub_ps, times);
        let turned = turn(rows);
        let columns = one_dimension!(turned, _mm256_add_ps, _mm256_sub_ps, times);
        let bytes = |value: __m256| {
            let shifted = _mm256_add_ps(value, _mm256_set1_ps(MIDDLE));
            _mm256_cvttps_epi32(_mm256_min_ps(shifted, _mm256_set1_ps(255.0)))
        };
        let [a, b, c, d, e, f, g, h] = columns;
        let first = pack([bytes(a), bytes(b), bytes(c), bytes(d)]);
        let second = pack([bytes(e), bytes(f), bytes(g), bytes(h)]);
        let [a, b, c, d] = first;
        let [e, f, g, h] = second;
        [a, b, c, d, e, f, g, h]
    }

    /// Four times eight numbers as bytes; what is under 0 becomes 0.
    #[target_feature(enable = "avx2")]
    fn pack([a, b, c, d]: [__m256i; 4]) -> [[u8; 8]; 4] {
        let all = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let all = _mm256_permutevar8x32_epi32(all, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        [
            _mm256_extract_epi64::<0>(all).to_le_bytes(),
            _mm256_extract_epi64::<1>(all).to_le_bytes(),
            _mm256_extract_epi64::<2>(all).to_le_bytes(),
            _mm256_extract_epi64::<3>(all).to_le_bytes(),
        ]
    }

    /// Rows to columns.
    #[target_feature(enable = "avx2")]
    fn turn([a, b, c, d, e, f, g, h]: [__m256; 8]) -> [__m256; 8] {
        let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ef, ef_high) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
        let (gh, gh_high) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
        let low = [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xEE>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
        ];
        let high = [
            _mm256_shuffle_ps::<0x44>(ef, gh),
            _mm256_shuffle_ps::<0xEE>(ef, gh),
            _mm256_shuffle_ps::<0x44>(ef_high, gh_high),
            _mm256_shuffle_ps::<0xEE>(ef_high, gh_high),
        ];
        [
            _mm256_permute2f128_ps::<0x20>(low[0], high[0]),
            _mm256_permute2f128_ps::<0x20>(low[1], high[1]),
            _mm256_permute2f128_ps::<0x20>(low[2], high[2]),
            _mm256_permute2f128_ps::<0x20>(low[3], high[3]),
            _mm256_permute2f128_ps::<0x31>(low[0], high[0]),
            _mm256_permute2f128_ps::<0x31>(low[1], high[1]),
            _mm256_permute2f128_ps::<0x31>(low[2], high[2]),
            _mm256_permute2f128_ps::<0x31>(low[3], high[3]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// The definition (ITU-T T.81, A.3.3), of the first `side` × `side` coefficients.
    fn defined(coefficients: &[i16; 64], side: usize, x: usize, y: usize) -> f64 {
        let mut sum = 0.0;
        for row in 0..side {
            for column in 0..side {
                let half = |frequency: usize| if frequency == 0 { 0.5_f64.sqrt() } else { 1.0 };
                let wave = |at: usize, frequency: usize| {
                    ((2 * at + 1) as f64 * frequency as f64 * PI / (2 * side) as f64).cos()
                };
                let value = f64::from(coefficients[row * 8 + column]);
                sum += half(row) * half(column) * value * wave(x, column) * wave(y, row) / 4.0;
            }
        }
        (sum + 128.0).clamp(0.0, 255.0)
    }

    #[test]
    fn pixels_are_as_defined_and_alike_with_and_without_avx2() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for case in 0..200 {
            let mut coefficients = [0_i16; 64];
            for (at, value) in coefficients.iter_mut().enumerate() {
                if random.next_u32().is_multiple_of(1 + at as u32 / 4) {
                    *value = (random.next_u32() % 301) as i16 - 150;
                }
            }
            if case % 10 == 0 {
                coefficients[1..].fill(0);
            }
            for side in [8, 4, 2, 1] {
                let steps = steps(&[1; 64], side);
                let mut block = Block::BLANK;
                block.begin(f32::from(coefficients[0]) * steps.0[0]);
                for (at, place) in ZIGZAG.into_iter().enumerate() {
                    block.put(at, coefficients[usize::from(place)]);
                }
                let columns = if side == 8 { plain(&block, &steps) } else { small(&block, &steps, side) };
                for (x, column) in columns.iter().enumerate().take(side) {
                    for (y, pixel) in column.iter().enumerate().take(side) {
                        let wanted = defined(&coefficients, side, x, y);
                        assert!((f64::from(*pixel) - wanted).abs() < 0.502, "{case}, {side}: {pixel}, {wanted}");
                    }
                }
                if side == 8 {
                    assert_eq!(whole(&block, &steps, is_fast()), columns);
                }
                if case % 10 == 0 {
                    assert_eq!(flat(&block)[0][0], columns[0][0], "{side}");
                }
            }
        }
    }
}
