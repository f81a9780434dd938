//! Decoded images kept in memory, as far as a budget of bytes reaches.

use super::decode::Decoded;
use super::jpeg::{Header, Planes};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may still be kept; shared by the sets of a data set.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    pub(super) fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    pub(super) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn give(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An image in memory.
#[derive(Debug)]
pub(super) enum Picture {
    /// Upright.
    Pixels(Decoded),
    /// As stored.
    Planes(Box<Header>, Planes),
}

/// One place an image. Nothing is ever thrown out: with each image wanted once an epoch, what came first is
/// as good to keep as anything else.
#[derive(Debug)]
pub(super) struct Cache(Vec<OnceLock<Picture>>);

impl Cache {
    pub(super) fn new(count: usize) -> Self {
        Self(std::iter::repeat_with(OnceLock::new).take(count).collect())
    }

    pub(super) fn get(&self, index: usize) -> Option<&Picture> {
        self.0.get(index)?.get()
    }

    /// Keeps an image for which `bytes` of the budget were taken; what is there already stays.
    pub(super) fn keep(&self, index: usize, image: Picture, bytes: u64, budget: &Budget) {
        if self.0.get(index).is_none_or(|place| place.set(image).is_err()) {
            budget.give(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> Picture {
        Picture::Pixels(Decoded { width: bytes as u32, height: 1, channels: 1, bytes: vec![7; bytes].into() })
    }

    #[test]
    fn keeps_what_the_budget_allows() {
        let (cache, budget) = (Cache::new(3), Budget::new(10));
        assert!(budget.take(6));
        cache.keep(0, image(6), 6, &budget);
        assert!(!budget.take(6));
        assert!(budget.take(4));
        cache.keep(0, image(4), 4, &budget);
        assert!(matches!(cache.get(0), Some(Picture::Pixels(image)) if image.bytes.len() == 6), "it was there already");
        assert!(budget.take(4), "what was not kept was given back");
        cache.keep(9, image(4), 4, &budget);
        assert!(budget.take(4), "and what has no place");
        assert!(cache.get(1).is_none() && cache.get(9).is_none());
    }
}
