//! CIFAR's binary format: records of labels and 32 × 32 pixels, channel after channel.

use super::super::dataset::Sample;
use super::super::error::DataError;
use super::super::files::read_file;
use super::store::Packed;
use super::{Listing, Part, Store, numbered_classes, read_plain_or_gzip};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Six times the largest file of the format.
const BYTES_MAX: u64 = 1 << 30;
/// Of names of classes.
const NAMES_BYTES_MAX: u64 = 1 << 20;

/// CIFAR-10 where `classes` is 10; CIFAR-100 where it is 100 (fine labels) or 20 (coarse). Samples are named
/// `data_batch_1.bin/0`.
pub(super) fn list(path: &Path, classes: u32, part: Part) -> Result<Listing, DataError> {
    let place = path.display().to_string();
    // How many label bytes a record has, and which of them counts.
    let (label_bytes, label_at) = match classes {
        10 => (1, 0),
        100 => (2, 1),
        20 => (2, 0),
        other => {
            let problem = format!("CIFAR has 10, 100 or (coarse) 20 classes, but data.classes is {other}");
            return Err(DataError::malformed(place, problem));
        }
    };
    let record_bytes = label_bytes + 3 * PLANE;
    let files = files(path, classes, part)?;
    let (mut samples, mut pixels) = (Vec::new(), Vec::new());
    for file in &files {
        let content = read_plain_or_gzip(file, |_| Ok(BYTES_MAX))?;
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if content.len() as u64 > BYTES_MAX {
            let problem = format!("it has over {BYTES_MAX} bytes, unpacked");
            return Err(DataError::malformed(file.display().to_string(), problem));
        }
        if content.is_empty() || content.len() % record_bytes != 0 {
            let problem = format!(
                "{} bytes are not a whole number of {record_bytes}-byte records; \
                 is it complete, and is data.classes right?",
                content.len()
            );
            return Err(DataError::malformed(file.display().to_string(), problem));
        }
        pixels.reserve(content.len() / record_bytes * 3 * PLANE);
        for (number, record) in content.chunks_exact(record_bytes).enumerate() {
            let label = u32::from(record[label_at]);
            if label >= classes {
                let place = format!("{}[{number}]", file.display());
                return Err(DataError::Label { place, label: label.to_string(), classes });
            }
            let slot = u32::try_from(samples.len())
                .map_err(|_| DataError::malformed(place.clone(), "more than 4,294,967,295 images"))?;
            let name = format!("{name}/{number}");
            samples.push(Sample { name, label, bytes: 3 * PLANE as u64, slot });
            let (red, rest) = record[label_bytes..].split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            for ((red, green), blue) in red.iter().zip(green).zip(blue) {
                pixels.extend_from_slice(&[*red, *green, *blue]);
            }
        }
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let class_names = class_names(folder, classes).unwrap_or_else(|| numbered_classes(classes));
    let side = SIDE as u32;
    let packed = Packed { place: path.to_owned(), width: side, height: side, channels: 3, bytes: pixels };
    Ok(Listing { samples, store: Store::Memory(Arc::new(packed)), class_names, notes: Vec::new() })
}

fn files(path: &Path, classes: u32, part: Part) -> Result<Vec<PathBuf>, DataError> {
    if !fs::metadata(path).map_err(DataError::unreadable(path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let wanted = match (classes, part) {
        (10, Part::Train) => "data_batch_*.bin",
        (10, Part::Validation) => "test_batch.bin",
        (_, Part::Train) => "train.bin",
        (_, Part::Validation) => "test.bin",
    };
    let (head, tail) = wanted.split_once('*').unwrap_or((wanted, ""));
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(DataError::unreadable(path))? {
        let entry = entry.map_err(DataError::unreadable(path))?.path();
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == wanted || (wanted.contains('*') && name.starts_with(head) && name.ends_with(tail)) {
            found.push(entry);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(DataError::malformed(path.display().to_string(), format!("there is no {wanted} in it")));
    }
    Ok(found)
}

/// From the text file that comes with the data, if it is there and fits.
fn class_names(folder: &Path, classes: u32) -> Option<Vec<String>> {
    let file = match classes {
        10 => "batches.meta.txt",
        100 => "fine_label_names.txt",
        _ => "coarse_label_names.txt",
    };
    let text = String::from_utf8(read_file(&folder.join(file), NAMES_BYTES_MAX).ok()?).ok()?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    (names.len() == classes as usize).then_some(names)
}
