//! Images a second of one loader thread, for `cargo xtask bench input`: read, decoded, cropped, resized, mirrored.
//!
//! `input PATH RESOLUTIONS SECONDS [FORMAT]`: a line of JSON with images a second of this process's processor time. Nothing is
//! kept in memory but the ways into files, as with more images than fit. The first epoch, which finds those, stands beside the
//! others.
//!
//! `input FOLDER decode SECONDS`: photographs a second that the crate `image` (zune-jpeg) decodes, whole, out of memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what is wrong here is to be seen at once")]

use images::{Dataset, STOPS_BYTES_MAX, StreamOptions, train_stream};
use proto::link::DataPlaces;
use serde_json::{from_value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, resolutions, seconds, format) = match &arguments[..] {
        [folder, resolutions, seconds] => (folder, resolutions, seconds, "image_folder"),
        [path, resolutions, seconds, format] => (path, resolutions, seconds, format.as_str()),
        _ => panic!("input PATH RESOLUTIONS SECONDS [FORMAT]"),
    };
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap());
    if resolutions == "decode" {
        return decode_whole(Path::new(folder), end);
    }
    let resolutions: Vec<u32> = resolutions.split(',').map(|text| text.parse().unwrap()).collect();
    // No colours are distorted, because the peers do not either; one image is held out.
    let settings = json!({"format": format, "train": folder, "validation": {"fraction": 0.002}, "classes": 5,
        "color": {"brightness": 0.0, "saturation": [1.0, 1.0]}});
    let settings = from_value(settings).unwrap();
    let open = |bytes| Dataset::open_with_cache(&settings, &DataPlaces::default(), bytes).unwrap();
    let blank = open(0);
    let count = blank.train.samples.len() + blank.validation.samples.len();
    let dataset = Arc::new(open(count as u64 * STOPS_BYTES_MAX));
    let (mut first_epoch, mut all, mut all_seconds) = (0.0, 0.0, 0.0);
    for epoch in 0.. {
        let begun = processor_seconds();
        let options = StreamOptions { epoch, resolutions: resolutions.clone(), threads: 1, ..StreamOptions::default() };
        let images: usize = train_stream(&dataset, options).map(|batch| batch.unwrap().labels.len()).sum();
        let seconds = processor_seconds() - begun;
        if epoch == 0 {
            first_epoch = images as f64 / seconds;
            continue;
        }
        all += images as f64;
        all_seconds += seconds;
        if Instant::now() >= end {
            break;
        }
    }
    println!("{}", json!({"per_second": all / all_seconds, "first_epoch_per_second": first_epoch}));
}

fn decode_whole(folder: &Path, end: Instant) {
    let classes = fs::read_dir(folder).unwrap().map(|class| class.unwrap().path()).filter(|class| class.is_dir());
    let files =
        classes.flat_map(|class| fs::read_dir(class).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()));
    let files: Vec<Vec<u8>> = files.collect();
    let (begun, mut count) = (processor_seconds(), 0.0);
    for file in files.iter().cycle() {
        std::hint::black_box(images::decode(file).unwrap());
        count += 1.0;
        if Instant::now() >= end {
            break;
        }
    }
    println!("{}", json!({"per_second": count / (processor_seconds() - begun)}));
}

/// Processor time of this process so far: what others do on this machine does not count.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
