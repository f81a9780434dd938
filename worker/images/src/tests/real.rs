//! The data that `cargo xtask setup` fetches, where it is there.

use super::*;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of the fetched data; says so where it is missing.
fn fetched(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.alpharho/data").join(path);
    if path.exists() {
        return Some(path);
    }
    // Not by eprintln, which the test harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {} is not there; `cargo xtask setup` fetches it", path.display());
    None
}

#[test]
fn fashion_mnist_opens() {
    let Some(train) = fetched("fashion-mnist/train-images-idx3-ubyte.gz") else { return };
    let validation = train.with_file_name("t10k-images-idx3-ubyte.gz");
    let data = open(&with_validation(settings("idx", train, 10), validation)).unwrap();
    assert_eq!((data.train.samples.len(), data.validation.samples.len()), (60_000, 10_000));
    for label in 0..10 {
        assert_eq!(data.train.samples.iter().filter(|sample| sample.label == label).count(), 6_000);
    }
    let labels: Vec<u32> = data.train.samples.iter().take(6).map(|sample| sample.label).collect();
    assert_eq!(labels, [9, 0, 0, 3, 0, 2], "as published");
    let options = StreamOptions { resolutions: vec![32, 20], ..StreamOptions::default() };
    let batch = eval_stream(&Arc::new(data), options).next().unwrap().unwrap();
    assert_eq!((batch.labels.len(), batch.images[1].bytes.len()), (32, 32 * 20 * 20 * 3));
}

#[test]
fn elpv_opens() {
    let Some(manifest) = fetched("elpv/defect.csv") else { return };
    let data = open(&settings("csv", manifest, 2)).unwrap();
    let (train, validation) = (data.train.samples.len(), data.validation.samples.len());
    assert_eq!(train + validation, 2_624);
    assert!((590..720).contains(&validation), "{validation} of a quarter");
    let options = StreamOptions { resolutions: vec![128], batch_size: 16, ..StreamOptions::default() };
    let batch = train_stream(&Arc::new(data), options).next().unwrap().unwrap();
    assert_eq!((batch.labels.len(), batch.warnings.len()), (16, 0));
}
