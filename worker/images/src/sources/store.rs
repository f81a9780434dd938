//! Where the bytes of images are, once their set has been listed.

use super::super::dataset::Sample;
use super::super::decode::{FILE_BYTES_MAX, View, read_image};
use super::super::error::DataError;
use super::super::files::{FileBuffer, open_file};
use super::super::pack::Pack;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Files of many images that stay open; of more, each is opened whenever one of its images is read.
const OPEN_MAX: usize = 256;

/// Where pixels come from.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// A file for each image, named by the sample relative to this folder.
    Files { root: PathBuf },
    /// Image files within larger files, each in one piece.
    Shards(Arc<Shards>),
    /// Image files, all in memory.
    Encoded(Arc<Encoded>),
    /// A pack of ours.
    Pack(Arc<Pack>),
    /// Pixels, all in memory.
    Memory(Arc<Packed>),
}

impl Store {
    /// Where a sample lies, for people.
    pub(crate) fn path(&self, sample: &Sample) -> String {
        match self {
            Self::Files { root } => root.join(&sample.name).display().to_string(),
            // The sample's name begins with its file's.
            Self::Shards(shards) => match shards.file_of(sample).and_then(|file| file.path.parent()) {
                Some(folder) => folder.join(&sample.name).display().to_string(),
                None => sample.name.clone(),
            },
            // The sample's name begins with its file's.
            Self::Encoded(encoded) => match encoded.file_of(sample).and_then(|file| file.parent()) {
                Some(folder) => folder.join(&sample.name).display().to_string(),
                None => sample.name.clone(),
            },
            Self::Pack(pack) => format!("{}[{}]", pack.path.display(), sample.name),
            Self::Memory(packed) => format!("{}[{}]", packed.place.display(), sample.name),
        }
    }

    /// The files that samples are read from; none where that says nothing about whether sets overlap.
    pub(crate) fn files(&self, samples: &[Sample]) -> BTreeSet<PathBuf> {
        match self {
            Self::Files { root } => samples.iter().map(|sample| root.join(&sample.name)).collect(),
            Self::Shards(shards) => {
                let whole = |file: &Shard| fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
                shards.files.iter().map(whole).collect()
            }
            Self::Encoded(encoded) => {
                let whole = |file: &PathBuf| fs::canonicalize(file).unwrap_or_else(|_| file.clone());
                encoded.files.iter().map(whole).collect()
            }
            Self::Pack(pack) => fs::canonicalize(&pack.path).into_iter().collect(),
            Self::Memory(_) => BTreeSet::new(),
        }
    }

    /// Whether images are decoded each time they are looked at, unless they are kept.
    pub(crate) fn is_encoded(&self) -> bool {
        match self {
            Self::Files { .. } | Self::Shards(_) | Self::Encoded(_) => true,
            Self::Pack(pack) => pack.has_files(),
            Self::Memory(_) => false,
        }
    }

    /// Of image files that are kept there.
    pub(crate) fn bytes_in_memory(&self) -> u64 {
        match self {
            Self::Encoded(encoded) => encoded.images.iter().map(|image| image.len() as u64).sum(),
            Self::Files { .. } | Self::Shards(_) | Self::Pack(_) | Self::Memory(_) => 0,
        }
    }

    /// The pixels of a sample, where they need no decoding. The error says what is wrong, without the sample's name.
    pub(crate) fn view(&self, sample: &Sample) -> Result<Option<View<'_>>, String> {
        match self {
            Self::Files { .. } | Self::Shards(_) | Self::Encoded(_) => Ok(None),
            Self::Pack(pack) => pack.view(sample.slot),
            Self::Memory(packed) => packed.view(sample.slot).map(Some),
        }
    }

    /// The image file of a sample, which may lie in `buffer`. The error says what is wrong, without the sample's name.
    pub(crate) fn read<'a>(&'a self, sample: &Sample, buffer: &'a mut FileBuffer) -> Result<&'a [u8], String> {
        match self {
            Self::Files { root } => {
                buffer.path.clone_from(root);
                buffer.path.push(&sample.name);
                read_image(&buffer.path, &mut buffer.bytes)?;
            }
            Self::Shards(shards) => shards.read(sample, &mut buffer.bytes)?,
            Self::Encoded(encoded) => {
                let image = encoded.images.get(sample.slot as usize);
                return image.map(|image| &**image).ok_or_else(|| "there is no such image".to_owned());
            }
            Self::Pack(pack) => return pack.content(sample.slot),
            Self::Memory(_) => return Err("it is no image file".to_owned()),
        }
        Ok(buffer.bytes.as_slice())
    }
}

/// Many images of one size in one buffer.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The file or folder they were read from.
    pub(crate) place: PathBuf,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 1 or 3.
    pub(crate) channels: u8,
    /// `n × height × width × channels`.
    pub(crate) bytes: Vec<u8>,
}

impl Packed {
    fn image_bytes(&self) -> usize {
        self.width as usize * self.height as usize * usize::from(self.channels)
    }

    pub(crate) fn view(&self, slot: u32) -> Result<View<'_>, String> {
        let start = slot as usize * self.image_bytes();
        let bytes = self.bytes.get(start..start + self.image_bytes()).ok_or("it lies past the end of its file")?;
        Ok(View { width: self.width, height: self.height, channels: self.channels, bytes })
    }
}

/// Image files that were read from others.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(super) files: Vec<PathBuf>,
    /// By the samples' slots.
    pub(super) images: Vec<Box<[u8]>>,
}

impl Encoded {
    /// The one whose name the sample's begins with.
    fn file_of(&self, sample: &Sample) -> Option<&PathBuf> {
        let (name, _) = sample.name.rsplit_once('/')?;
        self.files.iter().find(|file| file.file_name().is_some_and(|of| of == name))
    }
}

/// Where each image lies within which file; its length is the sample's `bytes`.
#[derive(Debug)]
pub(crate) struct Shards {
    files: Vec<Shard>,
    /// By the samples' slots: which file, and where in it.
    places: Vec<(u32, u64)>,
    may_stay_open: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    open: OnceLock<File>,
}

impl Shards {
    pub(super) fn new(files: Vec<PathBuf>, places: Vec<(u32, u64)>) -> Self {
        let files = files.into_iter().map(|path| Shard { path, open: OnceLock::new() }).collect();
        Self { files, places, may_stay_open: AtomicUsize::new(OPEN_MAX) }
    }

    fn file_of(&self, sample: &Sample) -> Option<&Shard> {
        let (file, _) = self.places.get(sample.slot as usize)?;
        self.files.get(*file as usize)
    }

    fn read(&self, sample: &Sample, buffer: &mut Vec<u8>) -> Result<(), String> {
        let place = self.places.get(sample.slot as usize);
        let (Some((_, at)), Some(shard)) = (place, self.file_of(sample)) else {
            return Err("there is no such image".to_owned());
        };
        let length = usize::try_from(sample.bytes).ok().filter(|_| sample.bytes <= FILE_BYTES_MAX);
        let length = length.ok_or_else(|| format!("it is larger than the {FILE_BYTES_MAX} bytes that are read"))?;
        buffer.resize(length, 0);
        let read = match shard.open.get() {
            Some(file) => file.read_exact_at(buffer, *at),
            None => open_file(&shard.path).and_then(|file| {
                let read = file.read_exact_at(buffer, *at);
                self.keep_open(shard, file);
                read
            }),
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "its file has become shorter since it was listed".to_owned(),
            _ => error.to_string(),
        })
    }

    fn keep_open(&self, shard: &Shard, file: File) {
        let one_less = |left: usize| left.checked_sub(1);
        let may = self.may_stay_open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        if may && shard.open.set(file).is_err() {
            // Another thread was faster.
            self.may_stay_open.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A number of a sample or file, where there are not too many.
pub(super) fn number(count: usize, place: &str) -> Result<u32, DataError> {
    u32::try_from(count).map_err(|_| DataError::malformed(place, "more than 4,294,967,295 images"))
}
