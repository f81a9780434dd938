//! Buffers on their way in parts: each is packed, sent and unpacked while it is in a core's cache, where a whole buffer
//! would go through memory at each of these steps.

use crate::rmsprop::norm_of;
use crate::values::{SquareSum, Values, wire_bytes, write_wire};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use sweeps::spec::model::Precision;

/// Bytes of a part: well within a core's second cache, and large beside what a message costs.
pub(crate) const PART_BYTES: usize = 1 << 18;
/// The largest part that is taken, with room for what a message says beside it.
pub(crate) const PART_BYTES_MAX: usize = 4 * PART_BYTES;

/// A buffer in parts, without copying it.
pub(crate) fn cut(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send + 'static {
    std::iter::from_fn(move || {
        let len = PART_BYTES.min(bytes.len());
        (len > 0).then(|| bytes.split_to(len))
    })
}

/// Buffers that were used and will be again: memory that is new each time costs more than what is written into it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// An empty one, with the memory of one that is not used any more where there is such.
    pub(crate) fn take(&self) -> Buffer {
        let mut bytes = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.clear();
        Buffer { bytes, home: self.clone() }
    }

    /// Frees the memory of one that nobody uses: who used it has left.
    pub(crate) fn shrink(&self) {
        drop(self.free.lock().unwrap_or_else(PoisonError::into_inner).pop());
    }
}

/// One of [`Buffers`], to which it goes back.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffer {
    /// Writes floats into it as they travel, in place of what was there.
    pub(crate) fn write(&mut self, values: &[f32], precision: Precision) {
        self.bytes.clear();
        self.bytes.reserve_exact(values.len() * wire_bytes(precision));
        write_wire(values, precision, &mut self.bytes);
    }

    /// To be sent; it goes back when the last part is sent.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.capacity() > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            self.home.free.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        }
    }
}

/// More came than there are parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Floats that come in parts.
#[derive(Debug)]
pub(crate) struct Incoming {
    buffer: Buffer,
    len_max: usize,
    precision: Precision,
    squares: SquareSum,
    measured: usize,
}

impl Incoming {
    /// At most so many; memory is taken when the first of them come.
    pub(crate) fn new(buffer: Buffer, values_max: usize, precision: Precision) -> Self {
        let len_max = values_max * wire_bytes(precision);
        Self { buffer, len_max, precision, squares: SquareSum::default(), measured: 0 }
    }

    /// Takes the next bytes.
    pub(crate) fn add(&mut self, part: &[u8]) -> Result<(), TooLong> {
        let bytes = &mut self.buffer.bytes;
        if part.len() > self.len_max - bytes.len() {
            return Err(TooLong);
        }
        bytes.reserve_exact(self.len_max - bytes.len());
        bytes.extend_from_slice(part);
        Ok(())
    }

    /// Takes the next bytes, and measures them while they are warm.
    pub(crate) fn add_measured(&mut self, part: &[u8]) -> Result<(), TooLong> {
        self.add(part)?;
        let whole = self.bytes().len() - self.bytes().len() % wire_bytes(self.precision);
        if let Some(values) = Values::from_wire(&self.buffer.bytes[self.measured..whole], self.precision) {
            self.squares.add(values);
        }
        self.measured = whole;
        Ok(())
    }

    /// The norm of what was measured.
    pub(crate) fn norm(&self) -> f64 {
        norm_of(self.squares)
    }

    /// All that has come.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref()
    }

    /// What it came into, for other use.
    pub(crate) fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rmsprop::norm;
    use crate::values::to_wire;

    #[test]
    fn parts_come_together_and_have_the_same_norm() {
        let values: Vec<f32> = (0..3 * PART_BYTES / 4 + 37).map(|at| (at as f32).sin()).collect();
        for precision in [Precision::F32, Precision::Bf16] {
            let bytes = Bytes::from(to_wire(&values, precision));
            let parts: Vec<Bytes> = cut(bytes.clone()).collect();
            assert!(parts.iter().all(|part| part.len() <= PART_BYTES) && parts.concat() == bytes);
            let expected = norm(Values::from_wire(&bytes, precision).unwrap());
            // Of any size: what is measured does not depend on where it was cut.
            for len in [PART_BYTES, 1000, 7] {
                let mut incoming = Incoming::new(Buffers::default().take(), values.len(), precision);
                bytes.chunks(len).for_each(|part| incoming.add_measured(part).unwrap());
                assert_eq!((incoming.bytes(), incoming.norm().to_bits()), (&bytes[..], expected.to_bits()));
                assert_eq!(incoming.add(&[0]), Err(TooLong));
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let buffers = Buffers::default();
        let values = [1.0; 100];
        let mut buffer = buffers.take();
        buffer.write(&values, Precision::F32);
        let (place, sent) = (buffer.as_ref().as_ptr(), buffer.into_bytes());
        let part = sent.slice(40..80);
        drop(sent);
        assert_eq!(buffers.take().bytes.capacity(), 0, "a part of it is still on its way");
        drop(part);
        let mut again = buffers.take();
        again.write(&values[..50], Precision::F32);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (place, 200));
        drop(again);
        buffers.shrink();
        assert_eq!(buffers.take().bytes.capacity(), 0);
    }

    #[test]
    fn nothing_in_parts_is_no_part() {
        assert_eq!(cut(Bytes::new()).count(), 0);
        let nothing = Incoming::new(Buffers::default().take(), 9, Precision::F32);
        assert_eq!((nothing.bytes().len(), nothing.norm()), (0, 0.0));
    }
}
