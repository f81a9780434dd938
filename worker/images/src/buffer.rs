//! Buffers of pixels that go back to their stream when they are dropped, to be filled again: a batch takes megabytes, and
//! memory that is new costs as much as a tenth of decoding.

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::ops::{Deref, DerefMut};

/// Bytes; dropped, they go back to the stream that lent them, if that is still there.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Option<Sender<Vec<u8>>>,
}

/// Where buffers of about the same size wait. There are never more of them than were lent at a time.
#[derive(Debug)]
pub(super) struct Shelf {
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Shelf {
    pub(super) fn new() -> Self {
        let (home, free) = unbounded();
        Self { free, home }
    }

    /// So many bytes, whatever is in them.
    pub(super) fn lend(&self, count: usize) -> Buffer {
        let mut bytes = self.free.try_recv().unwrap_or_default();
        bytes.resize(count, 0);
        Buffer { bytes, home: Some(self.home.clone()) }
    }
}

impl Buffer {
    /// Forgets all but the first bytes.
    pub(super) fn truncate(&mut self, count: usize) {
        self.bytes.truncate(count);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // A stream that has ended wants nothing back.
            let _ = home.send(std::mem::take(&mut self.bytes));
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        self.bytes.clone().into()
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Buffer {}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_is_lent_again() {
        let shelf = Shelf::new();
        let mut first = shelf.lend(100);
        first[99] = 7;
        let place = first.as_ptr();
        let second = shelf.lend(100);
        assert_ne!(second.as_ptr(), place, "the first is still in use");
        drop(first);
        let again = shelf.lend(100);
        assert_eq!((again.as_ptr(), again.len()), (place, 100));
        let copy = again.clone();
        drop((again, copy));
        assert_eq!(shelf.free.len(), 1, "a copy is nobody's");
        drop(shelf);
        drop(second);
    }
}
