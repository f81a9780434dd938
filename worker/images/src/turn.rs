//! Lines of bytes become columns.

/// Bytes that are turned over at a time, across and down: lines are as long as a multiple of it, and as many.
pub(super) const TILE: usize = 32;

/// Lines of `from` become columns of `to`: `(lines, length)`, both rounded up to multiples of [`TILE`].
pub(super) fn turn(
    from: &[u8],
    from_stride: usize,
    (lines, length): (usize, usize),
    to: &mut [u8],
    to_stride: usize,
) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    let fast = is_x86_feature_detected!("avx2");
    for at in (0..length).step_by(TILE) {
        for line in (0..lines).step_by(TILE / 2) {
            let from = from.get(line * from_stride + at..)?;
            let to = to.get_mut(at * to_stride + line..)?;
            #[cfg(target_arch = "x86_64")]
            if fast {
                #[expect(unsafe_code, reason = "AVX2")]
                // SAFETY: the processor was asked for AVX2.
                unsafe {
                    avx2::turn_half(from, from_stride, to, to_stride)?;
                }
                continue;
            }
            turn_half(from, from_stride, to, to_stride)?;
        }
    }
    Some(())
}

/// Half of a tile's lines; turned, half of each of its columns.
fn turn_half(from: &[u8], from_stride: usize, to: &mut [u8], to_stride: usize) -> Option<()> {
    for line in 0..TILE / 2 {
        let from: &[u8; TILE] = from.get(line * from_stride..)?.first_chunk()?;
        for (column, byte) in from.iter().enumerate() {
            *to.get_mut(column * to_stride + line)? = *byte;
        }
    }
    Some(())
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::TILE;
    use std::arch::x86_64::{
        _mm_storeu_si128, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_setzero_si256,
        _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
    };

    const LINES: usize = TILE / 2;

    #[target_feature(enable = "avx2")]
    pub(super) fn turn_half(from: &[u8], from_stride: usize, to: &mut [u8], to_stride: usize) -> Option<()> {
        let from = from.get(..(LINES - 1).checked_mul(from_stride)?.checked_add(TILE)?)?;
        let to = to.get_mut(..(TILE - 1).checked_mul(to_stride)?.checked_add(LINES)?)?;
        let mut lines = [_mm256_setzero_si256(); LINES];
        for (at, line) in lines.iter_mut().enumerate() {
            #[expect(unsafe_code, reason = "checks for each line take longer than turning it")]
            // SAFETY: `from` ends with the last line's 32 bytes.
            unsafe {
                *line = _mm256_loadu_si256(from.as_ptr().add(at * from_stride).cast());
            }
        }
        // A byte's place is four bits of its line, one that stays, and four within its sixteen. Each time those eight go
        // round by one.
        for _ in 0..4 {
            let before = lines;
            for at in 0..LINES / 2 {
                lines[2 * at] = _mm256_unpacklo_epi8(before[at], before[at + LINES / 2]);
                lines[2 * at + 1] = _mm256_unpackhi_epi8(before[at], before[at + LINES / 2]);
            }
        }
        for (at, line) in lines.into_iter().enumerate() {
            #[expect(unsafe_code, reason = "checks for each line take longer than turning it")]
            // SAFETY: `to` ends with the last line's 16 bytes.
            unsafe {
                let upper = to.as_mut_ptr().add((at + LINES) * to_stride).cast();
                _mm_storeu_si128(to.as_mut_ptr().add(at * to_stride).cast(), _mm256_castsi256_si128(line));
                _mm_storeu_si128(upper, _mm256_extracti128_si256::<1>(line));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_columns() {
        let from: Vec<u8> = (0..64 * 96).map(|at| (at % 251) as u8).collect();
        let mut to = vec![0; 96 * 64];
        turn(&from, 96, (64, 96), &mut to, 64).unwrap();
        for (at, byte) in from.iter().enumerate() {
            assert_eq!(to[at % 96 * 64 + at / 96], *byte, "{at}");
        }
        let mut plain = vec![0; 96 * 64];
        for (at, line) in [(0, 0), (32, 16), (64, 48)] {
            turn_half(&from[line * 96 + at..], 96, &mut plain[at * 64 + line..], 64).unwrap();
            for column in at..at + 32 {
                assert_eq!(to[column * 64 + line..][..16], plain[column * 64 + line..][..16]);
            }
        }
        assert_eq!(turn(&from, 96, (64, 97), &mut to, 64), None);
    }
}
