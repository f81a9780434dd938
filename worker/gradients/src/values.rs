//! Floats as they lie in memory and as they travel: f32 or bf16, little-endian.

use std::ops::Range;
use sweeps::spec::model::Precision;

/// Some floats. Bytes of the wire are read where they lie: they need not be aligned.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// In memory.
    F32(&'a [f32]),
    /// From the wire.
    F32Bytes(&'a [[u8; 4]]),
    /// From the wire, the upper half of each.
    Bf16Bytes(&'a [[u8; 2]]),
}

/// Floats that are written at a time.
const BLOCK: usize = 1024;
/// Lanes of a sum: enough to fill the widest vectors, and always as many, so that sums are the same everywhere.
const LANES: usize = 16;

impl<'a> Values<'a> {
    /// Floats from the wire; none if the bytes are not a whole number of them.
    #[must_use]
    pub fn from_wire(bytes: &'a [u8], wire: Precision) -> Option<Self> {
        match wire {
            Precision::F32 => match bytes.as_chunks::<4>() {
                (values, []) => Some(Self::F32Bytes(values)),
                _ => None,
            },
            Precision::Bf16 => match bytes.as_chunks::<2>() {
                (values, []) => Some(Self::Bf16Bytes(values)),
                _ => None,
            },
        }
    }

    /// How many.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F32Bytes(values) => values.len(),
            Self::Bf16Bytes(values) => values.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub(crate) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::F32Bytes(values) => Self::F32Bytes(&values[range]),
            Self::Bf16Bytes(values) => Self::Bf16Bytes(&values[range]),
        }
    }

    /// Copies them into memory of the same length.
    pub fn copy_to(self, target: &mut [f32]) {
        self.into_each(target, |target, value| *target = value);
    }

    /// Adds `factor` times them to `target`.
    pub fn add_to(self, target: &mut [f32], factor: f32) {
        self.into_each(target, |target, value| *target += factor * value);
    }

    fn into_each(self, target: &mut [f32], write: impl Fn(&mut f32, f32)) {
        match self {
            Self::F32(values) => target.iter_mut().zip(values).for_each(|(target, value)| write(target, *value)),
            Self::F32Bytes(values) => {
                target.iter_mut().zip(values).for_each(|(target, value)| write(target, f32::from_le_bytes(*value)));
            }
            Self::Bf16Bytes(values) => {
                target.iter_mut().zip(values).for_each(|(target, value)| write(target, from_bf16(value)));
            }
        }
    }
}

/// A sum of squares, in an order that is the same everywhere, however the values come in parts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SquareSum {
    lanes: [f64; LANES],
    added: usize,
}

impl SquareSum {
    /// Takes the next values in.
    pub(crate) fn add(&mut self, values: Values<'_>) {
        match values {
            Values::F32(values) => self.add_each(values, |value| *value),
            Values::F32Bytes(values) => self.add_each(values, |value| f32::from_le_bytes(*value)),
            Values::Bf16Bytes(values) => self.add_each(values, from_bf16),
        }
    }

    fn add_each<T>(&mut self, values: &[T], value: impl Fn(&T) -> f32) {
        let square = |item| {
            let value = f64::from(value(item));
            value * value
        };
        let mut lanes = self.lanes;
        // The lanes that the part before did not reach.
        let next = self.added % LANES;
        let (begun, values_left) = values.split_at(((LANES - next) % LANES).min(values.len()));
        for (lane, item) in lanes.iter_mut().skip(next).zip(begun) {
            *lane += square(item);
        }
        let (chunks, rest) = values_left.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, item) in lanes.iter_mut().zip(chunk) {
                *lane += square(item);
            }
        }
        for (lane, item) in lanes.iter_mut().zip(rest) {
            *lane += square(item);
        }
        self.lanes = lanes;
        self.added += values.len();
    }

    pub(crate) fn total(self) -> f64 {
        self.lanes.iter().sum()
    }
}

/// Bytes that each float takes on the wire.
#[must_use]
pub fn wire_bytes(wire: Precision) -> usize {
    match wire {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    }
}

/// Floats as they travel, in memory of their own.
#[must_use]
pub fn to_wire(values: &[f32], wire: Precision) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * wire_bytes(wire));
    write_wire(values, wire, &mut bytes);
    bytes
}

/// Appends floats as they travel. To bf16 they are rounded to the nearest, ties to even; not-a-number stays one.
pub(crate) fn write_wire(values: &[f32], wire: Precision, bytes: &mut Vec<u8>) {
    match wire {
        Precision::F32 => write_each(values, bytes, |value| value.to_le_bytes()),
        Precision::Bf16 => write_each(values, bytes, to_bf16),
    }
}

/// Whole blocks at a time: a float at a time would check for room each time.
fn write_each<const LEN: usize>(values: &[f32], bytes: &mut Vec<u8>, write: impl Fn(f32) -> [u8; LEN]) {
    let mut block = [[0_u8; LEN]; BLOCK];
    for values in values.chunks(BLOCK) {
        for (target, value) in block.iter_mut().zip(values) {
            *target = write(*value);
        }
        bytes.extend_from_slice(block[..values.len()].as_flattened());
    }
}

pub(crate) fn from_bf16(bytes: &[u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)
}

fn to_bf16(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    // Adding half a unit of the last place kept, less one where that place is even; a NaN must not be carried
    // into an infinity.
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let half = if value.is_nan() { (bits >> 16) | 0x40 } else { rounded };
    let [low, high, _, _] = half.to_le_bytes();
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_come_back() {
        let values: Vec<f32> = (0..3000_u16).map(|at| f32::from(at).sin() * 1e3).collect();
        let bytes = to_wire(&values, Precision::F32);
        let mut back = vec![0.0; values.len()];
        Values::from_wire(&bytes, Precision::F32).unwrap().copy_to(&mut back);
        assert_eq!(back, values);
        let bytes = to_wire(&values, Precision::Bf16);
        assert_eq!(bytes.len(), 2 * values.len());
        Values::from_wire(&bytes, Precision::Bf16).unwrap().copy_to(&mut back);
        for (value, back) in values.iter().zip(&back) {
            assert!((value - back).abs() <= value.abs() / 256.0, "{value} came back as {back}");
        }
    }

    #[test]
    fn halves_are_rounded_to_even() {
        let check = |bits: u32, expected: u32| {
            let [low, high] = to_bf16(f32::from_bits(bits));
            assert_eq!(u32::from(u16::from_le_bytes([low, high])), expected, "{bits:08x}");
        };
        check(0x3f80_0000, 0x3f80);
        check(0x3f80_8000, 0x3f80);
        check(0x3f81_8000, 0x3f82);
        check(0x3f80_8001, 0x3f81);
        check(0x7f80_0000, 0x7f80);
        check(0x7f80_0001, 0x7fc0);
        check(0xffff_ffff, 0xffff);
        check(0x7f7f_ffff, 0x7f80);
    }

    #[test]
    fn ragged_bytes_are_no_floats() {
        assert!(Values::from_wire(&[0; 6], Precision::F32).is_none());
        assert!(Values::from_wire(&[0; 3], Precision::Bf16).is_none());
        assert_eq!(Values::from_wire(&[0; 6], Precision::Bf16).unwrap().len(), 3);
    }
}
