//! Batches: the same whatever the threads, whole, and named where they are not.

use super::*;
use std::sync::Arc;

fn dataset(folder: &TempDir) -> Arc<Dataset> {
    Arc::new(open(&settings("image_folder", folder.path(), 2)).unwrap())
}

fn options() -> StreamOptions {
    StreamOptions { batch_size: 5, resolutions: vec![16, 24], ..StreamOptions::default() }
}

fn collect(stream: Stream) -> Vec<Batch> {
    stream.map(Result::unwrap).collect()
}

#[test]
fn a_batch_is_the_same_whatever_the_threads_and_the_cache() {
    let folder = folder_of(20);
    let data = dataset(&folder);
    let expected = collect(train_stream(&data, options()));
    let count = data.train.samples.len();
    assert_eq!(expected.len(), count.div_ceil(5));
    for (threads, queue) in [(0, 0), (1, 0), (4, 1), (3, 100)] {
        let options = StreamOptions { threads, queue, ..options() };
        assert!(collect(train_stream(&data, options.clone())) == expected, "{threads} threads, queue {queue}");
        let uncached = Dataset::open_with_cache(&data.settings, &DataPlaces::default(), 0).unwrap();
        assert!(collect(train_stream(&Arc::new(uncached), options)) == expected, "uncached");
    }
    let mut seen: Vec<u32> = expected.iter().flat_map(|batch| batch.indices.clone()).collect();
    assert_eq!(seen, epoch_order(1, 0, count as u32));
    seen.sort_unstable();
    assert_eq!(seen, (0..count as u32).collect::<Vec<_>>());
    for batch in &expected {
        assert_eq!(batch.next - batch.first, batch.labels.len());
        for (label, index) in batch.labels.iter().zip(&batch.indices) {
            assert_eq!(*label, i64::from(data.train.samples[*index as usize].label));
        }
        for (pixels, side) in batch.images.iter().zip([16, 24]) {
            assert_eq!(pixels.resolution, side);
            assert_eq!(pixels.bytes.len(), batch.labels.len() * (side * side * 3) as usize);
        }
    }
    assert_ne!(collect(train_stream(&data, StreamOptions { epoch: 1, ..options() })), expected);
}

#[test]
fn pixels_do_not_depend_on_the_company() {
    let folder = folder_of(12);
    let data = dataset(&folder);
    let both = collect(train_stream(&data, options()));
    for (place, resolution) in [(0, 16), (1, 24)] {
        let alone = collect(train_stream(&data, StreamOptions { resolutions: vec![resolution], ..options() }));
        assert!(both.iter().zip(&alone).all(|(both, alone)| both.images[place] == alone.images[0]));
    }
}

#[test]
fn a_stream_begins_anywhere() {
    let folder = folder_of(20);
    let data = dataset(&folder);
    let whole = collect(train_stream(&data, options()));
    let rest = collect(train_stream(&data, StreamOptions { from_sample: whole[1].next, ..options() }));
    assert!(whole[2..] == rest[..]);
    for from_sample in [data.train.samples.len(), usize::MAX] {
        assert_eq!(collect(train_stream(&data, StreamOptions { from_sample, ..options() })), []);
    }
}

#[test]
fn evaluation_sees_each_sample_once_in_order() {
    let folder = folder_of(30);
    let data = dataset(&folder);
    let batches = collect(eval_stream(&data, options()));
    let indices: Vec<u32> = batches.iter().flat_map(|batch| batch.indices.clone()).collect();
    assert_eq!(indices, (0..data.validation.samples.len() as u32).collect::<Vec<_>>());
    let later = collect(eval_stream(&data, StreamOptions { epoch: 9, ..options() }));
    assert!(batches == later, "no chance in it");
}

#[test]
fn broken_images_are_named_left_out_and_counted_once() {
    let folder = folder_of(12);
    let mut settings = settings("image_folder", folder.path(), 2);
    settings.broken_images_max = 2;
    let data = open(&settings).unwrap();
    let whole = collect(train_stream(&Arc::new(data), options()));
    let data = open(&settings).unwrap();
    let break_sample = |index: u32| fs::write(data.train.path(index), "nonsense").unwrap();
    let (first, second) = (whole[0].indices[1], whole[2].indices[4]);
    break_sample(first);
    break_sample(second);
    let data = Arc::new(open(&settings).unwrap());
    for epoch in 0..2 {
        let left = collect(train_stream(&data, options()));
        let warnings: Vec<String> = left.iter().flat_map(|batch| batch.warnings.clone()).collect();
        let told =
            |index| format!("left out a broken image, {}: it is neither JPEG nor PNG nor WebP", data.train.path(index));
        let expected = if epoch == 0 { vec![told(first), told(second)] } else { vec![] };
        assert_eq!(warnings, expected);
        assert_eq!(data.broken_count(), 2);
        for (left, whole) in left.iter().zip(&whole) {
            assert_eq!((left.first, left.next), (whole.first, whole.next), "places in the epoch stay");
            let kept: Vec<u32> =
                whole.indices.iter().copied().filter(|index| ![first, second].contains(index)).collect();
            assert_eq!(left.indices, kept);
            assert_eq!(left.images[0].bytes.len(), kept.len() * 16 * 16 * 3);
        }
        assert_eq!(left[0].images[1].bytes[..24 * 24 * 3], whole[0].images[1].bytes[..24 * 24 * 3]);
        assert_eq!(left[0].images[0].bytes[768..], whole[0].images[0].bytes[2 * 768..]);
    }
}

#[test]
fn one_broken_image_too_many_ends_the_stream() {
    let folder = folder_of(12);
    let mut settings = settings("image_folder", folder.path(), 2);
    settings.broken_images_max = 1;
    let whole = collect(train_stream(&Arc::new(open(&settings).unwrap()), options()));
    let data = open(&settings).unwrap();
    let last = data.train.path(whole[2].indices[0]);
    fs::write(data.train.path(whole[1].indices[3]), "nonsense").unwrap();
    fs::write(&last, "").unwrap();
    for threads in [1, 3] {
        let data = Arc::new(open(&settings).unwrap());
        let mut stream = train_stream(&data, StreamOptions { threads, ..options() });
        assert!(stream.next().unwrap().is_ok());
        assert_eq!(stream.next().unwrap().unwrap().warnings.len(), 1);
        let error = stream.next().unwrap().unwrap_err().to_string();
        let expected = format!(
            "2 images are broken, and data.broken_images_max is 1; the last is {last}: the file is empty; \
             repair or remove them, or raise the limit"
        );
        assert_eq!(error, expected);
        assert!(stream.next().is_none(), "it is over");
    }
}

#[test]
fn a_dropped_stream_takes_its_threads_along() {
    let folder = folder_of(20);
    let data = dataset(&folder);
    for taken in 0..3 {
        let mut stream = train_stream(&data, StreamOptions { threads: 3, queue: 1, ..options() });
        assert_eq!(stream.by_ref().take(taken).count(), taken);
        drop(stream);
        assert_eq!(Arc::strong_count(&data), 1, "no thread holds the data any more");
    }
}

#[test]
fn no_more_batches_are_made_than_may_wait() {
    let folder = folder_of(20);
    let data = dataset(&folder);
    let mut stream = train_stream(&data, StreamOptions { batch_size: 1, threads: 2, queue: 3, ..options() });
    assert_eq!(stream.next_ticket, 5);
    assert!(stream.next().unwrap().is_ok());
    assert_eq!(stream.next_ticket, 6);
}
