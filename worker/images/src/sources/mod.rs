//! How images lie on disk, format by format; and the checks that all formats share.

mod braces;
mod cifar;
mod csv;
mod folder;
mod idx;
mod pack;
mod parquet;
mod split;
mod store;
mod webdataset;

pub(super) use parquet::Rows;
pub(super) use store::Store;

use super::dataset::{ENCODED_BYTES_MAX, Sample, Set};
use super::error::DataError;
use super::files::open_file;
use flate2::bufread::MultiGzDecoder;
use proto::link::DataPlaces;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use sweeps::spec::model::{Data, Format, Validation};

/// What opening finds.
pub(super) struct Found {
    pub(super) train: Set,
    pub(super) validation: Set,
    pub(super) class_names: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) fingerprint: String,
}

/// What one path of the settings names.
pub(super) struct Listing {
    pub(super) samples: Vec<Sample>,
    pub(super) store: Store,
    /// By label.
    pub(super) class_names: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Lists, checks and splits.
pub(super) fn find(settings: &Data, places: &DataPlaces, encoded_bytes: u64) -> Result<Found, DataError> {
    let list = |path: &Path, known: Option<&[String]>, bytes_max: u64| match settings.format {
        Format::Parquet => parquet::list(path, Some(settings.classes), known, bytes_max),
        format => list(format, Some(settings.classes), path, known).map(|(listing, _)| listing),
    };
    let path = places.find(&settings.train);
    let listing = list(&path, None, encoded_bytes)?;
    let Listing { samples, store, class_names, mut notes } = listing;
    let place = path.display().to_string();
    if samples.is_empty() {
        return Err(DataError::NoImages { place, hint: String::new() });
    }
    let (train, validation, validation_place) = match &settings.validation {
        Validation::Fraction(share) => {
            let (held_out, kept) =
                samples.into_iter().partition(|sample| split::is_validation(&sample.name, share.fraction));
            (Set::new(kept, store.clone()), Set::new(held_out, store), place.clone())
        }
        Validation::Path(other) => {
            let other = places.find(other);
            check_separate(settings.format, &path, &other)?;
            let listing = list(&other, Some(&class_names), encoded_bytes.saturating_sub(store.bytes_in_memory()))?;
            notes.extend(listing.notes);
            (Set::new(samples, store), Set::new(listing.samples, listing.store), other.display().to_string())
        }
    };
    check_sets(&train, &validation, &class_names, (&place, &validation_place), &mut notes)?;
    if matches!(settings.validation, Validation::Path(_)) {
        check_overlap(&train, &validation, &validation_place)?;
    }
    let sets = [&train, &validation].map(|set| (set.samples.as_slice(), set.store()));
    let fingerprint = fingerprint(&class_names, &sets);
    Ok(Found { train, validation, class_names, notes, fingerprint })
}

/// Lists one path. `known`: the classes of the training set, when this is the validation set. `classes` may be missing
/// where the data names its classes. Of some formats the images come in rows, one after the other.
pub(super) fn list(
    format: Format,
    classes: Option<u32>,
    path: &Path,
    known: Option<&[String]>,
) -> Result<(Listing, Option<Rows>), DataError> {
    let side = if known.is_some() { Part::Validation } else { Part::Train };
    let listing = match format {
        Format::ImageFolder => folder::list(path, classes, known),
        Format::Csv => csv::list(path, classes, known),
        Format::Idx => idx::list(path, counted(path, classes)?),
        Format::Cifar => cifar::list(path, counted(path, classes)?, side),
        Format::Webdataset => webdataset::list(path, counted(path, classes)?),
        Format::Pack => pack::list(path, classes, known),
        Format::Parquet => {
            let (listing, rows) = parquet::stream(path, classes, known, ENCODED_BYTES_MAX)?;
            return Ok((listing, Some(rows)));
        }
    };
    Ok((listing?, None))
}

/// How many classes, of data that does not name them.
fn counted(path: &Path, classes: Option<u32>) -> Result<u32, DataError> {
    let problem = "it does not name its classes; say how many there are: --classes N";
    classes.ok_or_else(|| DataError::malformed(path.display().to_string(), problem))
}

/// Which files of a folder are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Validation,
}

/// One folder inside the other, or the same file twice, would validate with training images.
fn check_separate(format: Format, train: &Path, validation: &Path) -> Result<(), DataError> {
    // A path that is not there is reported when it is listed.
    let (Ok(train), Ok(validation)) = (fs::canonicalize(train), fs::canonicalize(validation)) else { return Ok(()) };
    let same = match format {
        Format::ImageFolder => train.starts_with(&validation) || validation.starts_with(&train),
        Format::Csv | Format::Idx => train == validation,
        // Shards of one folder may be named one by one.
        Format::Webdataset | Format::Pack | Format::Parquet => train == validation,
        Format::Cifar => train == validation && train.is_file(),
    };
    if same {
        let name = train.display().to_string();
        return Err(DataError::Overlap { place: validation.display().to_string(), name });
    }
    Ok(())
}

fn check_sets(
    train: &Set,
    validation: &Set,
    class_names: &[String],
    (train_place, validation_place): (&str, &str),
    notes: &mut Vec<String>,
) -> Result<(), DataError> {
    if train.samples.len().max(validation.samples.len()) > u32::MAX as usize {
        return Err(DataError::malformed(train_place, "more than 4,294,967,295 images"));
    }
    for (set, place, which) in [(train, train_place, "training"), (validation, validation_place, "validation")] {
        if set.samples.is_empty() {
            let hint = format!(" left for {which}; change data.validation.fraction");
            return Err(DataError::NoImages { place: place.to_owned(), hint });
        }
    }
    let (trained, validated) = (train.labels(), validation.labels());
    for (label, class) in (0_u32..).zip(class_names) {
        if !trained.contains(&label) {
            return Err(DataError::EmptyClass { class: class.clone(), place: train_place.to_owned() });
        }
        if !validated.contains(&label) {
            notes.push(format!("class `{class}` has no validation images in {validation_place}"));
        }
    }
    Ok(())
}

fn check_overlap(train: &Set, validation: &Set, place: &str) -> Result<(), DataError> {
    if let (Store::Pack(train), Store::Pack(validation)) = (train.store(), validation.store())
        && train.index_sha256 == validation.index_sha256
    {
        // A copy.
        return Err(DataError::Overlap { place: place.to_owned(), name: train.path.display().to_string() });
    }
    // `a/./b` and `a/b` are one file.
    let plain = |path: PathBuf| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    let trained: BTreeSet<PathBuf> = train.files().into_iter().map(plain).collect();
    match validation.files().into_iter().map(plain).find(|path| trained.contains(path)) {
        Some(path) => Err(DataError::Overlap { place: place.to_owned(), name: path.display().to_string() }),
        None => Ok(()),
    }
}

/// Hexadecimal SHA-256 over what there is to know without decoding; see [`super::Dataset::fingerprint`].
pub(super) fn fingerprint(class_names: &[String], sets: &[(&[Sample], &Store)]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // Lengths first, so that no two lists are written alike.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"alpharho data 1");
    part(&(class_names.len() as u64).to_le_bytes());
    class_names.iter().for_each(|name| part(name.as_bytes()));
    for (samples, store) in sets {
        part(&(samples.len() as u64).to_le_bytes());
        for sample in *samples {
            part(sample.name.as_bytes());
            part(&sample.bytes.to_le_bytes());
            part(&sample.label.to_le_bytes());
        }
        match store {
            Store::Memory(packed) => part(&Sha256::digest(&packed.bytes)),
            Store::Pack(pack) => part(&pack.index_sha256),
            Store::Files { .. } | Store::Shards(_) | Store::Encoded(_) => {}
        }
    }
    hex::encode(hash.finalize())
}

/// Refuses another number of classes than the settings say.
fn check_class_count(place: &Path, expected: Option<u32>, names: &[String]) -> Result<(), DataError> {
    let Some(expected) = expected.filter(|expected| names.len() != *expected as usize) else { return Ok(()) };
    let mut listed = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 10 {
        listed.push_str(", …");
    }
    let place = place.display().to_string();
    Err(DataError::Classes { expected, found: names.len(), place, names: listed })
}

/// Bytes by which it is decided how much of a file is read.
const HEAD_BYTES: u64 = 16;

/// Reads a file, unpacked if it is gzip, whatever its name. By its first bytes `length_of` says how long it should be:
/// no more than that, and one byte, is read or unpacked, however much there is.
fn read_plain_or_gzip(
    path: &Path,
    length_of: impl FnOnce(&[u8]) -> Result<u64, DataError>,
) -> Result<Vec<u8>, DataError> {
    let unreadable = || DataError::unreadable(path);
    let file = BufReader::new(open_file(path).map_err(unreadable())?);
    let mut content = Vec::new();
    let mut reader = plain_or_gzip(file).map_err(unreadable())?;
    reader.by_ref().take(HEAD_BYTES).read_to_end(&mut content).map_err(unreadable())?;
    let length = length_of(&content)?;
    let left = length.saturating_add(1).saturating_sub(content.len() as u64);
    reader.take(left).read_to_end(&mut content).map_err(unreadable())?;
    Ok(content)
}

fn plain_or_gzip(mut file: BufReader<File>) -> std::io::Result<Box<dyn Read>> {
    let is_packed = file.fill_buf()?.starts_with(&[0x1F, 0x8B]);
    Ok(if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// `0`, `1`, .. for data that names no classes.
fn numbered_classes(classes: u32) -> Vec<String> {
    (0..classes).map(|label| label.to_string()).collect()
}
