//! An allocator that counts: the largest piece asked for at once, and the most in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Nobody gets more at once: what asks for it ends, and is found.
const PIECE_MAX: usize = 4 << 30;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counted;

fn taken(bytes: usize) {
    let used = USED.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    if used > MOST.load(Relaxed) {
        MOST.fetch_max(used, Relaxed);
    }
    if bytes > LARGEST.load(Relaxed) {
        LARGEST.fetch_max(bytes, Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe to write; all work is the system's")]
// SAFETY: every call goes to the system's allocator with what it was called with; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > PIECE_MAX {
            return std::ptr::null_mut();
        }
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > PIECE_MAX {
            return std::ptr::null_mut();
        }
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > PIECE_MAX {
            return std::ptr::null_mut();
        }
        USED.fetch_sub(layout.size(), Relaxed);
        taken(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// The largest piece, in bytes.
    pub largest: usize,
    /// The most in use at a time, beyond what was in use before, in bytes.
    pub most: usize,
}

/// Does some work and tells what all threads took meanwhile.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let before = USED.load(Relaxed);
    MOST.store(before, Relaxed);
    LARGEST.store(0, Relaxed);
    let result = work();
    (result, Took { largest: LARGEST.load(Relaxed), most: MOST.load(Relaxed).saturating_sub(before) })
}
