//! Data sets: folders, manifests, IDX and CIFAR files, packed or not, tar shards, packs, Parquet; opened, then read to the last
//! pixel.

use super::files;
use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use ::images::{Dataset, PackForm, PackOptions, StreamOptions, eval_stream, pack, train_stream};
use flate2::write::GzEncoder;
use proto::link::DataPlaces;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;
use sweeps::spec::model::{Data, Format};
use tempfile::TempDir;

const BYTES_MAX: usize = 256 << 10;
/// Of image files that are read into memory.
const ENCODED_BYTES_MAX: u64 = 16 << 20;
const WORDS: &[&[u8]] = &[
    b"ustar  \0",
    b"ustar\x0000",
    b"././@LongLink",
    b"30 path=a.jpg\n",
    b"99999999999 size=99999999999\n",
    b"77777777777\0",
    b"alphpack",
    b"PAR1",
    b"huggingface",
    b"path,label\n",
    b"\n",
    b"\r\n",
    b"\"",
    b",",
    b"0.jpg,1\n",
    b"../",
    b"/etc/passwd",
    b"\xFF\xFE",
    b"\xEF\xBB\xBF",
    b"\0",
    b"\0\0\x08\x03",
    b"\0\0\x08\x01",
    b"\x1F\x8B\x08\0",
    b"\xFF\xFF\xFF\xFF",
    b"\x1F\x8B",
    b"99999999999999999999",
    b"-1",
];
/// Names of files and folders, some of which nobody should have.
const NAMES: &[&[u8]] = &[
    b"cats/x.png",
    b"cats/deep/er/x.jpg",
    b"\xFF.png",
    b"birds/1.webp",
    b".hidden/a.png",
    b"cats",
    b"cats/0.png/y.png",
    b"x.txt",
];

/// What is in them.
const CONTENTS: &[&[u8]] = &[b"LINK ..", b"LINK /dev/zero", b"LINK nowhere", b"LINK 0.jpg", b"", b"x"];

/// How images lie.
#[derive(Clone)]
struct Made {
    format: &'static str,
    classes: u32,
    /// Of [`Data::train`], within the folder.
    train: &'static str,
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

struct DataSets {
    good: Vec<Made>,
    folder: std::io::Result<TempDir>,
}

pub(super) fn open() -> Box<dyn Target> {
    let images: Vec<Vec<u8>> = ["jpg", "png", "webp"].iter().flat_map(|ending| files("fuzz/corpus", ending)).collect();
    let named = |name: &str, bytes: &[u8]| (name.as_bytes().to_vec(), bytes.to_vec());
    let some = images.iter().cycle().take(12);
    let in_folders =
        some.clone().enumerate().map(|(at, image)| named(&format!("{}/{at}.png", ["cats", "dogs"][at % 2]), image));
    let mut listed: Vec<_> = some.enumerate().map(|(at, image)| named(&format!("{at}.jpg"), image)).collect();
    let rows: String = (0..12).map(|at| format!("{at}.jpg,{}\n", at % 3)).collect();
    listed.insert(0, named("m.csv", format!("path,label\n{rows}").as_bytes()));
    let mut pixels = vec![0, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 3];
    pixels.extend(0..240_u8);
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, 40];
    labels.extend((0..40).map(|at| at % 4));
    let records: Vec<u8> =
        (0..40_u8).flat_map(|at| std::iter::once(at % 10).chain(std::iter::repeat_n(at, 3072))).collect();
    let meta = named("batches.meta.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
    let good = vec![
        Made { format: "image_folder", classes: 2, train: "", files: in_folders.collect() },
        Made { format: "csv", classes: 3, train: "m.csv", files: listed },
        Made {
            format: "idx",
            classes: 4,
            train: "images",
            files: vec![named("images", &pixels), named("labels", &labels)],
        },
        Made {
            format: "idx",
            classes: 4,
            train: "images.gz",
            files: vec![named("images.gz", &gzip(&pixels)), named("labels.gz", &gzip(&labels))],
        },
        Made { format: "cifar", classes: 10, train: "", files: vec![named("data_batch_1.bin", &gzip(&records)), meta] },
    ];
    let mut good = good;
    good.push(Made { format: "webdataset", classes: 3, train: "s.tar", files: vec![named("s.tar", &tar(&images))] });
    good.push(Made {
        format: "webdataset",
        classes: 3,
        train: "s-{0..1}.tar",
        files: vec![named("s-0.tar", &tar(&images[..images.len() / 2])), named("s-1.tar", &tar(&images))],
    });
    for form in [PackForm::Files { quality: 80 }, PackForm::Raw] {
        good.push(Made {
            format: "pack",
            classes: 3,
            train: "x.pack",
            files: vec![named("x.pack", &pack_of(&images, form))],
        });
    }
    for table in files("worker/images/fixtures", "parquet") {
        good.push(Made { format: "parquet", classes: 3, train: "x.parquet", files: vec![named("x.parquet", &table)] });
    }
    Box::new(DataSets { good, folder: tempfile::tempdir() })
}

/// A shard of images, each with its label.
fn tar(images: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (at, image) in images.iter().enumerate() {
        let label = (at % 3).to_string();
        for (name, content) in [(format!("{at}.jpg"), &image[..]), (format!("{at}.cls"), label.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            // Into memory, which does not fail.
            let _ = builder.append_data(&mut header, name, content);
        }
    }
    builder.into_inner().unwrap_or_default()
}

/// A pack of the same; empty where there is no room on the disk.
fn pack_of(images: &[Vec<u8>], form: PackForm) -> Vec<u8> {
    let Ok(folder) = tempfile::tempdir() else { return Vec::new() };
    let (source, out) = (folder.path().join("s.tar"), folder.path().join("x.pack"));
    let options = PackOptions {
        format: Format::Webdataset,
        classes: Some(3),
        size: Some(24),
        form,
        threads: 1,
        broken_max: 1000,
        force: false,
    };
    let _ = std::fs::write(&source, tar(images));
    let _ = pack(&source, &out, &options, &mut |_| ControlFlow::Continue(()));
    std::fs::read(&out).unwrap_or_default()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Into memory, which does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// Which of the good sets, as its number; then name and content of each file, with their lengths.
fn put(block: &[u8], case: &mut Vec<u8>) {
    case.extend((block.len() as u32).to_le_bytes());
    case.extend_from_slice(block);
}

pub(super) fn take_block<'a>(case: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = case.split_first_chunk::<4>()?;
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (block, rest) = rest.split_at(length);
    *case = rest;
    Some(block)
}

impl Target for DataSets {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let which = dice.below(self.good.len());
        let Made { mut files, .. } = self.good[which].clone();
        // Mostly what lists the others.
        for _ in 0..dice.below(3) {
            let at = if dice.one_in(3) { dice.below(files.len()) } else { 0 };
            let other = dice.pick(&self.good).files[0].1.clone();
            let is_packed = files[at].1.starts_with(&[0x1F, 0x8B]);
            let file = &mut files[at].1;
            if is_packed && !dice.one_in(3) {
                let mut content = Vec::new();
                let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&file[..]), &mut content);
                spoil(&mut content, &other, WORDS, BYTES_MAX, dice);
                if dice.one_in(20) {
                    // Unpacks to much more than it is.
                    content.resize(content.len() + (dice.below(48) << 20), 0);
                }
                *file = gzip(&content);
            } else if self.good[which].format != "image_folder" && at == 0 || is_packed {
                spoil(file, &other, WORDS, BYTES_MAX, dice);
            } else {
                file.truncate(dice.below(file.len() + 1));
            }
        }
        for (_, file) in &mut files {
            if dice.one_in(2) {
                mend(file);
            }
        }
        if dice.one_in(4) {
            let name = dice.pick(NAMES).to_vec();
            // A link, where it begins so.
            let content = dice.pick(CONTENTS);
            files.push((name, content.to_vec()));
        }
        if dice.one_in(6) {
            drop(files.remove(dice.below(files.len())));
        }
        let mut case = vec![which as u8];
        for (name, content) in &files {
            put(name, &mut case);
            put(content, &mut case);
        }
        case
    }

    fn take(&mut self, mut case: &[u8]) -> Result<bool, String> {
        let Some(which) = case.split_off_first() else { return Ok(false) };
        let Made { format, classes, train, .. } = &self.good[usize::from(*which) % self.good.len()];
        let folder = self.folder.as_ref().map_err(ToString::to_string)?.path();
        let here = folder.join("here");
        let _ = std::fs::remove_dir_all(&here);
        std::fs::create_dir(&here).map_err(|error| error.to_string())?;
        while let (Some(name), Some(content)) = (take_block(&mut case), take_block(&mut case)) {
            write(&here, name, content);
        }
        let place = here.join(train);
        let settings = json!({"format": format, "train": place, "validation": {"fraction": 0.3}, "classes": classes});
        let settings: Data = serde_json::from_value(settings).map_err(|error| error.to_string())?;
        let opened = Dataset::open_with(&settings, &DataPlaces::default(), 1 << 20, ENCODED_BYTES_MAX);
        let result = match opened {
            Ok(dataset) => read_all(&Arc::new(dataset)),
            Err(error) if error.to_string().is_empty() => Err("it was refused without a word".to_owned()),
            Err(_) => Ok(false),
        };
        let _ = std::fs::remove_dir_all(&here);
        result
    }
}

/// Gives packs and tars the checksums of what they hold now: else nothing behind them is ever looked at.
fn mend(file: &mut [u8]) {
    if file.starts_with(b"alphpack") {
        let number = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
        let (Some(from), Some(length)) = (number(16), number(24)) else { return };
        let Some(index) = from.checked_add(length).and_then(|to| file.get(from..to)) else { return };
        let hash = Sha256::digest(index);
        let Some((header, sum)) = file.get_mut(..128).and_then(|header| header.split_at_mut_checked(124)) else {
            return;
        };
        header[32..64].copy_from_slice(&hash);
        let mut crc = flate2::Crc::new();
        crc.update(header);
        sum.copy_from_slice(&crc.sum().to_le_bytes());
        return;
    }
    let mut at = 0;
    while let Some(head) = file.get_mut(at..at + 512) {
        if head.get(257..262).is_none_or(|magic| magic != b"ustar") {
            return;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(head);
        header.set_cksum();
        head.copy_from_slice(header.as_bytes());
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
        let Some(next) = size.and_then(|size| size.checked_next_multiple_of(512)?.checked_add(at + 512)) else {
            return;
        };
        at = next;
    }
}

/// Puts a file there, or a link; nothing outside.
fn write(folder: &Path, name: &[u8], content: &[u8]) {
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    if name.as_os_str().is_empty() || !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return;
    }
    let path = folder.join(name);
    // Some names cannot be: then there is no such file.
    let _ = path.parent().map(std::fs::create_dir_all);
    let _ = match content.strip_prefix(b"LINK ") {
        Some(target) => std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path),
        None => std::fs::write(&path, content),
    };
}

fn read_all(dataset: &Arc<Dataset>) -> Result<bool, String> {
    let options =
        || StreamOptions { batch_size: 7, resolutions: vec![16], threads: 1, queue: 1, ..StreamOptions::default() };
    for stream in [train_stream(dataset, options()), eval_stream(dataset, options())] {
        for batch in stream {
            let Ok(batch) = batch else { return Ok(false) };
            let wanted = batch.labels.len() * 16 * 16 * 3;
            if batch.images[0].bytes.len() != wanted || batch.indices.len() != batch.labels.len() {
                return Err(format!("{} images have {} bytes", batch.labels.len(), batch.images[0].bytes.len()));
            }
            let classes = i64::from(dataset.settings.classes);
            if batch.labels.iter().any(|label| !(0..classes).contains(label)) {
                return Err(format!("labels {:?} of {classes} classes", batch.labels));
            }
        }
    }
    Ok(true)
}
