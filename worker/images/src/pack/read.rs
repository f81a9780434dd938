//! Opening, looking into, and checking a pack.

use super::layout::{FRAME_BYTES, HEADER_BYTES, Header, Image, Index, Kind, Place};
use crate::dataset::Sample;
use crate::decode::View;
use crate::error::DataError;
use crate::files::open_file;
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A pack, mapped into memory.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) path: PathBuf,
    map: Mmap,
    /// By the samples' slots.
    places: Vec<Place>,
    /// Whose content was once compared with its hash.
    checked: Vec<AtomicBool>,
    /// Of the index; says what all of the content is.
    pub(crate) index_sha256: [u8; 32],
}

impl Pack {
    /// The pack, its samples and the names of its classes.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Sample>, Vec<String>), DataError> {
        let (file, header, index) = open(path)?;
        let map = map(&file).map_err(DataError::unreadable(path))?;
        // As long as it was when its header was read: what the index names lies within.
        if (map.len() as u64) < header.index_at {
            return Err(DataError::malformed(
                path.display().to_string(),
                "it is being changed; wait, or copy it again",
            ));
        }
        let (mut samples, mut places) =
            (Vec::with_capacity(index.images.len()), Vec::with_capacity(index.images.len()));
        for (slot, Image { name, label, place }) in (0..).zip(index.images) {
            samples.push(Sample { name, label, bytes: place.bytes, slot });
            places.push(place);
        }
        let checked = std::iter::repeat_with(AtomicBool::default).take(places.len()).collect();
        let index_sha256 = header.index_sha256;
        Ok((Self { path: path.to_owned(), map, places, checked, index_sha256 }, samples, index.class_names))
    }

    /// Whether there are files in it, which must be decoded.
    pub(crate) fn has_files(&self) -> bool {
        self.places.iter().any(|place| place.kind == Kind::File)
    }

    /// The pixels of an image that is stored as such.
    pub(crate) fn view(&self, slot: u32) -> Result<Option<View<'_>>, String> {
        let place = self.place(slot)?;
        let Some(channels) = place.kind.channels() else { return Ok(None) };
        Ok(Some(View { width: place.width, height: place.height, channels, bytes: self.content(slot)? }))
    }

    /// An image's content. The first time it is compared with its hash.
    pub(crate) fn content(&self, slot: u32) -> Result<&[u8], String> {
        let place = self.place(slot)?;
        let range = usize::try_from(place.at).ok().zip(usize::try_from(place.at + place.bytes).ok());
        let content = range.and_then(|(from, to)| self.map.get(from..to)).ok_or("it lies past the end of its pack")?;
        let Some(checked) = self.checked.get(slot as usize) else { return Ok(content) };
        if !checked.load(Ordering::Relaxed) {
            if crc32fast::hash(content) != place.crc {
                return Err("it is damaged: its hash is not the one in the pack's index".to_owned());
            }
            checked.store(true, Ordering::Relaxed);
        }
        Ok(content)
    }

    fn place(&self, slot: u32) -> Result<&Place, String> {
        self.places.get(slot as usize).ok_or_else(|| "there is no such image".to_owned())
    }
}

#[expect(unsafe_code, reason = "a mapping is what makes packs fast; memmap2 leaves it to us to know who writes")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is only read, and only as bytes, for which any value will do. What remains is that others change
    // the file meanwhile, which nothing on Unix prevents. Packs are written under another name and renamed when they are
    // whole, so that we never change one that may be mapped. Whoever writes into one all the same gives us other pixels, or
    // a refused hash; whoever makes it shorter ends this process with SIGBUS at the next look behind the new end: a trainer,
    // whose trial is then tried again and told that the pack is cut short.
    unsafe { Mmap::map(file) }
}

/// Opens a finished pack, and reads header and index.
fn open(path: &Path) -> Result<(File, Header, Index), DataError> {
    let place = || path.display().to_string();
    let malformed = |problem: &str| DataError::malformed(place(), problem);
    let file = open_file(path).map_err(DataError::unreadable(path))?;
    let length = file.metadata().map_err(DataError::unreadable(path))?.len();
    let mut head = vec![0; usize::try_from(length.min(HEADER_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut head, 0).map_err(DataError::unreadable(path))?;
    let header = Header::from_bytes(&head).map_err(|problem| malformed(&problem))?;
    if header.index_at == 0 {
        return Err(malformed("it was never finished; the `alpharho pack` command that began it goes on"));
    }
    if header.index_at.checked_add(header.index_bytes) != Some(length) {
        let wanted = header.index_at.saturating_add(header.index_bytes);
        return Err(malformed(&format!("it has {length} bytes where its header says {wanted}; copy or pack it again")));
    }
    let mut index = vec![0; usize::try_from(header.index_bytes).unwrap_or(0)];
    file.read_exact_at(&mut index, header.index_at).map_err(DataError::unreadable(path))?;
    if Sha256::digest(&index)[..] != header.index_sha256 {
        return Err(malformed("its index is damaged: its hash is not the one in the header; copy or pack it again"));
    }
    let index = Index::from_bytes(&index, header.index_at);
    let index = index.ok_or_else(|| malformed("its index makes no sense; pack it again"))?;
    Ok((file, header, index))
}

/// What is in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackSummary {
    /// From what it was made, and how.
    pub about: String,
    /// By label.
    pub class_names: Vec<String>,
    /// Of each class.
    pub class_images: Vec<u64>,
    /// All.
    pub images: u64,
    /// Of these, how many are stored as pixels.
    pub raw: u64,
    /// Of the whole file.
    pub bytes: u64,
    /// Broken images of the source: name, and what was wrong.
    pub left_out: Vec<(String, String)>,
    /// Of the index, in hexadecimal: packs that agree in it hold the same.
    pub sha256: String,
}

/// Says what is in a pack; its content is not looked at.
///
/// # Errors
/// It is no pack, or its header or index is damaged.
pub fn show_pack(path: &Path) -> Result<PackSummary, DataError> {
    let (_, header, index) = open(path)?;
    let mut class_images = vec![0; index.class_names.len()];
    for image in &index.images {
        class_images[image.label as usize] += 1;
    }
    let raw = index.images.iter().filter(|image| image.place.kind != Kind::File).count();
    Ok(PackSummary {
        about: index.about,
        class_names: index.class_names,
        class_images,
        images: index.images.len() as u64,
        raw: raw as u64,
        bytes: header.index_at + header.index_bytes,
        left_out: index.left_out,
        sha256: hex::encode(header.index_sha256),
    })
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackCheck {
    /// All that were looked at.
    pub images: u64,
    /// Their content.
    pub bytes: u64,
    /// Name, and what is wrong.
    pub damaged: Vec<(String, String)>,
    /// Whether `watch` broke it off.
    pub stopped: bool,
}

/// Compares all of a pack with its hashes. `watch` hears how many images of how many were looked at.
///
/// # Errors
/// It is no pack, or its header or index is damaged.
pub fn check_pack(path: &Path, watch: &mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> Result<PackCheck, DataError> {
    let (file, _, index) = open(path)?;
    let total = index.images.len() as u64;
    let mut check = PackCheck { images: 0, bytes: 0, damaged: Vec::new(), stopped: false };
    for Image { name, place, .. } in index.images {
        // Read and not mapped: what cannot be read is then an error like others.
        match content_hash(&file, place.at, place.bytes) {
            Ok(hash) if hash == place.crc => {
                let mut frame = [0; FRAME_BYTES as usize];
                let read = file.read_exact_at(&mut frame, place.at - FRAME_BYTES);
                if read.is_err() || Place::from_frame(&frame, place.at) != Some(place) {
                    check.damaged.push((name, "the frame before it is damaged, which readers do not look at".into()));
                }
            }
            Ok(_) => check.damaged.push((name, "its hash is not the one in the index".into())),
            Err(error) => check.damaged.push((name, format!("it cannot be read: {error}"))),
        }
        check.images += 1;
        check.bytes += place.bytes;
        if watch(check.images, total).is_break() {
            check.stopped = check.images < total;
            break;
        }
    }
    Ok(check)
}

/// CRC-32 of a part of a file.
pub(super) fn content_hash(file: &File, mut at: u64, bytes: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = [0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let part = &mut buffer[..usize::try_from(left).unwrap_or(usize::MAX).min(64 << 10)];
        file.read_exact_at(part, at)?;
        hasher.update(part);
        at += part.len() as u64;
        left -= part.len() as u64;
    }
    Ok(hasher.finalize())
}
