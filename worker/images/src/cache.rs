//! Decoded images kept in memory, as far as a budget of bytes reaches.

use super::decode::Decoded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may still be kept; shared by the sets of a data set.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One place an image. Nothing is ever thrown out: with each image wanted once an epoch, what came first is
/// as good to keep as anything else.
#[derive(Debug)]
pub(super) struct Cache(Vec<OnceLock<Decoded>>);

impl Cache {
    pub(super) fn new(count: usize) -> Self {
        Self(std::iter::repeat_with(OnceLock::new).take(count).collect())
    }

    pub(super) fn get(&self, index: usize) -> Option<&Decoded> {
        self.0.get(index)?.get()
    }

    /// Keeps the image if the budget allows, else gives it back.
    pub(super) fn keep(&self, index: usize, image: Decoded, budget: &Budget) -> Result<(), Decoded> {
        let bytes = image.bytes.len() as u64;
        match self.0.get(index) {
            Some(place) if budget.take(bytes) => place.set(image).inspect_err(|_| budget.give(bytes)),
            _ => Err(image),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> Decoded {
        Decoded { width: bytes as u32, height: 1, channels: 1, bytes: vec![7; bytes].into() }
    }

    #[test]
    fn keeps_what_the_budget_allows() {
        let (cache, budget) = (Cache::new(3), Budget::new(10));
        assert!(cache.keep(0, image(6), &budget).is_ok());
        assert_eq!(cache.keep(1, image(6), &budget).unwrap_err().bytes.len(), 6);
        assert!(cache.keep(0, image(4), &budget).is_err(), "it is there already");
        assert!(cache.keep(2, image(4), &budget).is_ok(), "what was refused was given back");
        assert_eq!(cache.get(0).unwrap().bytes.len(), 6);
        assert!(cache.get(1).is_none() && cache.get(9).is_none());
    }
}
