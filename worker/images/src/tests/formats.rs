//! The same photographs in every format.

use super::*;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use sweeps::spec::model::Format;

/// A photograph of sorts; no two numbers give the same.
pub(super) fn photograph(number: u32) -> Vec<u8> {
    let (width, height) = (60 + number % 7 * 30, 50 + number % 5 * 40);
    let wave = |place: u32, length: u32| ((f64::from(place) / f64::from(length)).sin() * 90.0 + 128.0) as u8;
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([wave(x, 5 + number), wave(y, 9), wave(x + y, 13)]));
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, 88).encode_image(&image).unwrap();
    file
}

/// Photographs of two classes, and among them two PNGs, as `cats/0.jpg`.
pub(super) fn photographs(count: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        let class = ["cats", "dogs"][(number % 2) as usize];
        write(folder.path().join(format!("photos/{class}/{number:03}.jpg")), photograph(number));
    }
    for (number, class) in [(900, "cats"), (901, "dogs")] {
        write_png(folder.path().join(format!("photos/{class}/{number}.png")), number);
    }
    folder
}

pub(super) fn options(format: Format) -> PackOptions {
    let form = PackForm::Files { quality: 90 };
    PackOptions { format, classes: Some(2), size: None, form, threads: 2, broken_max: 10, force: false }
}

pub(super) fn pack_into(source: &Path, out: &Path, options: &PackOptions) -> Result<PackOutcome, DataError> {
    pack(source, out, options, &mut |_| ControlFlow::Continue(()))
}

/// The files of an image folder, in its order, with their labels.
fn files_of(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut all = Vec::new();
    for (label, class) in (0..).zip(["cats", "dogs"]) {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder.join(class)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        all.extend(files.into_iter().map(|file| (file, label)));
    }
    all
}

fn rows_of(folder: &Path) -> Vec<(Vec<u8>, i64)> {
    files_of(folder).into_iter().map(|(file, label)| (fs::read(file).unwrap(), i64::from(label))).collect()
}

/// A tar of what an image folder holds.
fn tar_of(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (file, label) in files_of(folder) {
        let name = file.strip_prefix(folder).unwrap().to_str().unwrap();
        builder.append_path_with_name(&file, name).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        let key = &name[..name.find('.').unwrap()];
        builder.append_data(&mut header, format!("{key}.cls"), label.to_string().as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Two epochs, and an evaluation.
fn batches(format: &str, train: &Path, validation: &Path, cache_bytes: u64) -> Vec<Batch> {
    let settings = with_validation(settings(format, train, 2), validation);
    let data = Dataset::open_with_cache(&settings, &DataPlaces::default(), cache_bytes).unwrap();
    let data = Arc::new(data);
    let options = |epoch| StreamOptions { epoch, resolutions: vec![32, 17], ..StreamOptions::default() };
    let streams = [train_stream(&data, options(0)), train_stream(&data, options(1)), eval_stream(&data, options(0))];
    streams.into_iter().flatten().map(Result::unwrap).collect()
}

#[test]
fn the_same_files_give_the_same_bits_in_every_format() {
    let (train, validation) = (photographs(40), photographs(8));
    let at = |folder: &TempDir, name: &str| folder.path().join(name);
    for folder in [&train, &validation] {
        write(at(folder, "s.tar"), tar_of(&at(folder, "photos")));
        super::tables::table(&at(folder, "t.parquet"), &rows_of(&at(folder, "photos")));
        pack_into(&at(folder, "photos"), &at(folder, "x.pack"), &options(Format::ImageFolder)).unwrap();
        pack_into(&at(folder, "s.tar"), &at(folder, "tar.pack"), &options(Format::Webdataset)).unwrap();
    }
    // Kept in memory or not.
    for cache_bytes in [CACHE_BYTES, 0] {
        let expected = batches("image_folder", &at(&train, "photos"), &at(&validation, "photos"), cache_bytes);
        for (format, name) in
            [("webdataset", "s.tar"), ("parquet", "t.parquet"), ("pack", "x.pack"), ("pack", "tar.pack")]
        {
            assert!(batches(format, &at(&train, name), &at(&validation, name), cache_bytes) == expected, "{name}");
        }
    }
}

#[test]
fn a_split_by_names_is_the_one_of_the_source() {
    let folder = photographs(40);
    let at = |name: &str| folder.path().join(name);
    pack_into(&at("photos"), &at("x.pack"), &options(Format::ImageFolder)).unwrap();
    let source = open(&settings("image_folder", at("photos"), 2)).unwrap();
    let packed = open(&settings("pack", at("x.pack"), 2)).unwrap();
    for (source, packed) in [(&source.train, &packed.train), (&source.validation, &packed.validation)] {
        let names = |set: &Set| set.samples.iter().map(|of| (of.name.clone(), of.label, of.bytes)).collect::<Vec<_>>();
        assert_eq!(names(source), names(packed));
    }
    assert_eq!(packed.class_names, ["cats", "dogs"]);
    assert_ne!(source.fingerprint, packed.fingerprint);
    assert_eq!(packed.validation.path(0), format!("{}[{}]", at("x.pack").display(), packed.validation.samples[0].name));
}

#[test]
fn it_is_said_how_far_memory_reaches() {
    let folder = photographs(10);
    let settings = settings("image_folder", folder.path().join("photos"), 2);
    let note = |bytes: u64| {
        let dataset = Dataset::open_with(&settings, &DataPlaces::default(), bytes, 0).unwrap();
        dataset.memory_note().unwrap()
    };
    let all = note(1 << 30);
    assert!(all.starts_with("all 12 images are kept in memory once they are decoded: "), "{all}");
    assert!(all.ends_with(" KiB each, 0.0 of 1.0 GiB"), "{all}");
    let some = note(64 << 10);
    assert!(some.starts_with("about ") && some.contains(" of 12 images are kept"), "{some}");
    assert!(note(0).starts_with("about 0 of 12 images"), "{}", note(0));
}
