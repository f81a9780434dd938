//! Once every image was seen, nothing more is taken from the allocator for an image: only a few things for a batch.

use images::{Dataset, STOPS_BYTES_MAX, StreamOptions, train_stream};
use proto::link::DataPlaces;
use serde_json::{from_value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const IMAGES: usize = 256;
const BATCH: usize = 32;

/// The system's allocator, with a count of what is taken.
struct Counted;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTED: Counted = Counted;

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: the system's allocator does everything.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: it came from there.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: it came from there.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[test]
fn nothing_is_allocated_for_an_image_in_the_steady_state() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..IMAGES as u32 {
        let class = folder.path().join(["cats", "dogs"][number as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        let pixel = |x: u32, y: u32| image::Rgb([x as u8, (3 * y) as u8, (number + x * y / 16) as u8]);
        image::RgbImage::from_fn(120, 90, pixel).save(class.join(format!("{number}.jpg"))).unwrap();
    }
    let settings =
        json!({"format": "image_folder", "train": folder.path(), "validation": {"fraction": 0.05}, "classes": 2});
    for cache_bytes in [IMAGES as u64 * STOPS_BYTES_MAX, 1 << 30] {
        let dataset =
            Dataset::open_with_cache(&from_value(settings.clone()).unwrap(), &DataPlaces::default(), cache_bytes);
        let dataset = Arc::new(dataset.unwrap());
        let mut taken = Vec::new();
        for epoch in 0..3 {
            let options = StreamOptions {
                epoch,
                batch_size: BATCH,
                resolutions: vec![64, 48],
                threads: 1,
                ..StreamOptions::default()
            };
            let before = TAKEN.load(Ordering::Relaxed);
            let seen: usize = train_stream(&dataset, options).map(|batch| batch.unwrap().labels.len()).sum();
            assert_eq!(seen, dataset.train.samples.len());
            taken.push(TAKEN.load(Ordering::Relaxed) - before);
        }
        // What a stream takes to begin, and for each batch its labels, indices and lists; an image's would be twice as many.
        assert!(taken[2] < IMAGES / 2, "{taken:?} allocations for {IMAGES} images, {cache_bytes} bytes kept");
    }
}
