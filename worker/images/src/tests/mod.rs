//! Whole data sets, made on the spot.

mod decoding;
mod files;
mod formats;
mod packed;
mod packs;
mod partly;
mod real;
mod shards;
mod streams;
mod tables;

use super::*;
use image::{GrayImage, Luma};
use proto::link::DataPlaces;
use serde_json::json;
use std::fs;
use std::path::Path;
use sweeps::spec::model::{Data, Validation};
use tempfile::TempDir;

/// Settings with every default, and a quarter held out.
pub(super) fn settings(format: &str, train: impl AsRef<Path>, classes: u32) -> Data {
    let train = train.as_ref().to_str().unwrap();
    let value = json!({"format": format, "train": train, "validation": {"fraction": 0.25}, "classes": classes});
    serde_json::from_value(value).unwrap()
}

fn with_validation(mut settings: Data, validation: impl AsRef<Path>) -> Data {
    settings.validation = Validation::Path(validation.as_ref().to_str().unwrap().to_owned());
    settings
}

fn open(settings: &Data) -> Result<Dataset, DataError> {
    Dataset::open(settings, &DataPlaces::default())
}

/// The sentence that opening fails with, the temporary folder's name taken out.
fn refusal(folder: &TempDir, settings: &Data) -> String {
    let error = open(settings).expect_err("it must be refused").to_string();
    error.replace(folder.path().to_str().unwrap(), "HERE")
}

fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A small grey PNG; no two numbers give the same image.
fn write_png(path: impl AsRef<Path>, number: u32) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (width, height) = (20 + number % 7, 16 + number % 5);
    let pixel = |x: u32, y: u32| Luma([(x * 7 + y * 11 + number * 13) as u8]);
    GrayImage::from_fn(width, height, pixel).save(path).unwrap();
}

/// Two classes of PNGs, `cats` and `dogs`, so many of each.
fn folder_of(count: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        write_png(folder.path().join(format!("cats/{number}.png")), number);
        write_png(folder.path().join(format!("dogs/{number}.png")), 1000 + number);
    }
    folder
}
