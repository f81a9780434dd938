//! MNIST's format: big-endian headers, one file of images, one of labels.

use super::super::dataset::Sample;
use super::super::error::DataError;
use super::store::Packed;
use super::{Listing, Store, numbered_classes, read_plain_or_gzip};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
/// All of a set's pixels are kept in memory.
const BYTES_MAX: u64 = 4 << 30;

/// Samples are named by their number from 0.
pub(super) fn list(path: &Path, classes: u32) -> Result<Listing, DataError> {
    let images_path = plain_or_gz(path);
    let labels_path = labels_beside(&images_path)?;
    let place = images_path.display().to_string();
    let mut pixels = None;
    let mut images = read_plain_or_gzip(&images_path, |head| {
        let [magic, count, height, width] = header(head, &images_path)?;
        if magic != IMAGES_MAGIC {
            let problem = format!("it begins with {magic:#010x} where IDX images begin with {IMAGES_MAGIC:#010x}");
            return Err(DataError::malformed(&place, problem));
        }
        let image_bytes = u64::from(height) * u64::from(width);
        if image_bytes == 0 || height > 65_535 || width > 65_535 {
            return Err(DataError::malformed(&place, format!("its images are {width} × {height} pixels")));
        }
        pixels = Some((count, height, width, image_bytes));
        announced(&place, 16, u128::from(count) * u128::from(image_bytes))
    })?;
    let Some((count, height, width, image_bytes)) = pixels else {
        return Err(DataError::malformed(place, "it has no header"));
    };
    check_length(&place, images.len(), 16, u128::from(count) * u128::from(image_bytes))?;
    images.drain(..16);

    let labels_place = labels_path.display().to_string();
    let mut labels_count = 0;
    let labels = read_plain_or_gzip(&labels_path, |head| {
        let [magic, count] = header(head, &labels_path)?;
        if magic != LABELS_MAGIC {
            let problem = format!("it begins with {magic:#010x} where IDX labels begin with {LABELS_MAGIC:#010x}");
            return Err(DataError::malformed(&labels_place, problem));
        }
        labels_count = count;
        announced(&labels_place, 8, u128::from(count))
    })?;
    check_length(&labels_place, labels.len(), 8, u128::from(labels_count))?;
    if labels_count != count {
        let problem = format!("it has {labels_count} labels for the {count} images of {place}");
        return Err(DataError::malformed(labels_place, problem));
    }
    let mut samples = Vec::with_capacity(count as usize);
    for (slot, &label) in (0_u32..).zip(&labels[8..]) {
        let label = u32::from(label);
        if label >= classes {
            return Err(DataError::Label {
                place: format!("{labels_place}[{slot}]"),
                label: label.to_string(),
                classes,
            });
        }
        samples.push(Sample { name: slot.to_string(), label, bytes: image_bytes, slot });
    }
    let packed = Packed { place: images_path, width, height, channels: 1, bytes: images };
    let store = Store::Memory(Arc::new(packed));
    Ok(Listing { samples, store, class_names: numbered_classes(classes), notes: Vec::new() })
}

/// The file as named; else with `.gz`, else without.
fn plain_or_gz(path: &Path) -> PathBuf {
    if path.exists() {
        return path.to_owned();
    }
    let name = path.display().to_string();
    let other = PathBuf::from(name.strip_suffix(".gz").map_or_else(|| format!("{name}.gz"), str::to_owned));
    if other.exists() { other } else { path.to_owned() }
}

fn labels_beside(images: &Path) -> Result<PathBuf, DataError> {
    let name = images.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if images.is_dir() || !name.contains("images") {
        let problem = "data.train must name the file of images, such as train-images-idx3-ubyte.gz; \
                       the labels lie beside it under the same name with `labels-idx1`";
        return Err(DataError::malformed(images.display().to_string(), problem));
    }
    Ok(plain_or_gz(&images.with_file_name(name.replacen("images", "labels", 1).replacen("idx3", "idx1", 1))))
}

fn header<const N: usize>(bytes: &[u8], path: &Path) -> Result<[u32; N], DataError> {
    let mut numbers = [0; N];
    for (number, four) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
    }
    if bytes.len() < N * 4 {
        let problem = format!("{} bytes are too few for an IDX header", bytes.len());
        return Err(DataError::malformed(path.display().to_string(), problem));
    }
    Ok(numbers)
}

/// The file's length, as its header has it.
fn announced(place: &str, header: u64, content: u128) -> Result<u64, DataError> {
    match u64::try_from(content + u128::from(header)) {
        Ok(bytes) if bytes <= BYTES_MAX => Ok(bytes),
        _ => {
            let problem = format!("its header announces {content} bytes of content; at most {BYTES_MAX} are read");
            Err(DataError::malformed(place, problem))
        }
    }
}

fn check_length(place: &str, bytes: usize, header: usize, content: u128) -> Result<(), DataError> {
    let wanted = content + header as u128;
    if bytes as u128 == wanted {
        return Ok(());
    }
    let found = if bytes as u128 > wanted { "more".to_owned() } else { bytes.to_string() };
    let problem = format!("its header announces {wanted} bytes, but there are {found}; is the file complete?");
    Err(DataError::malformed(place, problem))
}
