//! WebDataset: tar files in which an image and its label have the same name up to the extension.

use super::super::dataset::Sample;
use super::super::error::DataError;
use super::super::files::open_file;
use super::braces::files_of;
use super::store::{Shards, Store, number};
use super::{Listing, numbered_classes};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tar::{Archive, EntryType};

const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// A number, and room for white space.
const CLS_BYTES_MAX: u64 = 64;
/// Captions and the like stand beside the label.
const JSON_BYTES_MAX: u64 = 1 << 20;
/// Of names and extended headers of one member, which may claim any length.
const HEAD_BYTES_MAX: u64 = 1 << 20;
const BLOCK: u64 = 512;
/// Behind the end a tar is filled up with zeros, by GNU tar to 10 KiB. So much is looked at.
const BEHIND_BYTES_MAX: u64 = 1 << 20;

/// Samples are named `shard.tar/key.jpg` and come as they lie in the shards.
pub(super) fn list(path: &Path, classes: u32) -> Result<Listing, DataError> {
    let files = files_of(path, "tar")?;
    let place = path.display().to_string();
    let (mut samples, mut places) = (Vec::new(), Vec::new());
    for (at, file) in files.iter().enumerate() {
        let name = file.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| DataError::malformed(file.display().to_string(), "its name is not UTF-8; rename it"))?;
        let shard = Shard { path: file, file: open_file(file).map_err(DataError::unreadable(file))?, classes };
        for (image, label) in shard.images()? {
            let slot = number(samples.len(), &place)?;
            samples.push(Sample { name: format!("{name}/{}", image.name), label, bytes: image.bytes, slot });
            places.push((number(at, &place)?, image.at));
        }
    }
    let store = Store::Shards(Arc::new(Shards::new(files, places)));
    Ok(Listing { samples, store, class_names: numbered_classes(classes), notes: Vec::new() })
}

/// A file in a tar.
struct Member {
    name: String,
    /// Where its content begins, in the shard.
    at: u64,
    bytes: u64,
}

/// What belongs to one key.
#[derive(Default)]
struct Group {
    image: Option<Member>,
    class: Option<Member>,
    json: Option<Member>,
}

struct Shard<'a> {
    path: &'a Path,
    file: File,
    classes: u32,
}

impl Shard<'_> {
    /// Images and their labels, in the order of the images.
    fn images(&self) -> Result<Vec<(Member, u32)>, DataError> {
        self.check_is_plain()?;
        let mut images = Vec::new();
        for (key, group) in self.groups()? {
            let Group { image, class, json } = group;
            let Some(image) = image else {
                let label = class.or(json).map_or(key, |label| label.name);
                let problem = "it is a label without an image; wanted is a member of the same name up to the first dot \
                               that ends in .jpg, .jpeg, .png or .webp; add the image or remove the label";
                return Err(self.wrong(&label, problem));
            };
            let label = match (class, json) {
                (Some(class), _) => self.class(&class)?,
                (None, Some(json)) => self.json_label(&json)?,
                (None, None) => {
                    let problem = format!(
                        "it is an image without a label; add {key}.cls with a whole number, or {key}.json with `label`"
                    );
                    return Err(self.wrong(&image.name, problem));
                }
            };
            images.push((image, label));
        }
        images.sort_by_key(|(image, _)| image.at);
        Ok(images)
    }

    /// Members by their keys.
    fn groups(&self) -> Result<BTreeMap<String, Group>, DataError> {
        let length = self.file.metadata().map_err(DataError::unreadable(self.path))?.len();
        let head_bytes = Cell::new(0);
        let mut archive = Archive::new(Heads { file: &self.file, read: &head_bytes });
        let mut groups = BTreeMap::<String, Group>::new();
        let mut end = 0;
        for entry in archive.entries_with_seek().map_err(|error| self.malformed(&error))? {
            let entry = entry.map_err(|error| self.malformed(&error))?;
            head_bytes.set(0);
            let (kind, at, bytes) = (entry.header().entry_type(), entry.raw_file_position(), entry.size());
            let name = entry.path_bytes().into_owned();
            // As shells name what lies in a folder: `tar cf x.tar .`.
            let name = name.strip_prefix(b"./").map(<[u8]>::to_vec).unwrap_or(name);
            let name = String::from_utf8(name).map_err(|error| {
                self.wrong(&error.to_string(), "a member's name is not UTF-8; pack it again under another")
            })?;
            if kind == EntryType::GNUSparse {
                return Err(self.wrong(&name, "it is stored with gaps; pack the shard without --sparse"));
            }
            end = at.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(BLOCK)).unwrap_or(u64::MAX);
            if end > length {
                let problem = format!(
                    "the shard is cut short: this member goes on to byte {end}, but there are {length}; copy or download the shard again"
                );
                return Err(self.wrong(&name, problem));
            }
            let Some((key, extension)) = key_and_extension(&name) else { continue };
            let is_image = IMAGES.contains(&extension.as_str());
            if !is_image && !["cls", "json"].contains(&extension.as_str()) {
                continue;
            }
            match kind {
                EntryType::Regular | EntryType::Continuous => {}
                EntryType::Link | EntryType::Symlink => {
                    let problem = "it is a link; pack the files themselves: tar --dereference --hard-dereference";
                    return Err(self.wrong(&name, problem));
                }
                _ => continue,
            }
            let key = key.to_owned();
            let group = groups.entry(key.clone()).or_default();
            let place = match extension.as_str() {
                "cls" => &mut group.class,
                "json" => &mut group.json,
                _ => &mut group.image,
            };
            if let Some(before) = place {
                let problem =
                    format!("key `{key}` occurs twice: {} has it too; each image needs a key of its own", before.name);
                return Err(self.wrong(&name, problem));
            }
            *place = Some(Member { name, at, bytes });
        }
        self.check_end(end, length)?;
        Ok(groups)
    }

    /// Members are read by position, which a compressed file has not.
    fn check_is_plain(&self) -> Result<(), DataError> {
        let mut head = [0; 6];
        let read = self.file.read_at(&mut head, 0).map_err(DataError::unreadable(self.path))?;
        let packers: [(&[u8], &str, &str); 4] = [
            (b"\x1F\x8B", "gzip", "gunzip"),
            (b"\x28\xB5\x2F\xFD", "zstd", "unzstd"),
            (b"\xFD7zXZ\0", "xz", "unxz"),
            (b"BZh", "bzip2", "bunzip2"),
        ];
        match packers.iter().find(|(magic, ..)| head[..read].starts_with(magic)) {
            Some((_, packer, command)) => {
                let problem = format!(
                    "it is compressed with {packer}; images are read by position, so unpack it: {command} {}",
                    self.path.display()
                );
                Err(DataError::malformed(self.place(), problem))
            }
            None => Ok(()),
        }
    }

    /// A tar ends with blocks of zeros: without them it is cut short, and behind them nothing is looked at.
    fn check_end(&self, end: u64, length: u64) -> Result<(), DataError> {
        let mut behind = Vec::new();
        let rest = (length - end.min(length)).min(BEHIND_BYTES_MAX);
        behind.resize(usize::try_from(rest).unwrap_or(0), 0);
        self.file.read_exact_at(&mut behind, end).map_err(DataError::unreadable(self.path))?;
        if rest < BLOCK {
            let problem =
                format!("the shard is cut short: it has no end mark behind byte {end}; copy or download it again");
            return Err(DataError::malformed(self.place(), problem));
        }
        if behind.iter().any(|byte| *byte != 0) {
            let problem = format!(
                "something follows its end at byte {end}, which tar would not see; tars are not joined with cat: name \
                 several shards, or pack them into one"
            );
            return Err(DataError::malformed(self.place(), problem));
        }
        Ok(())
    }

    /// The label of a `.cls`.
    fn class(&self, member: &Member) -> Result<u32, DataError> {
        let text = self.content(member, CLS_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&text);
        let digits = text.trim().trim_end_matches('\0');
        if digits.parse::<i64>().is_err() {
            let problem = format!("it holds `{}`, which is no whole number", digits.escape_debug());
            return Err(self.wrong(&member.name, problem));
        }
        self.in_range(digits, member)
    }

    /// The label in a `.json`.
    fn json_label(&self, member: &Member) -> Result<u32, DataError> {
        let text = self.content(member, JSON_BYTES_MAX)?;
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| self.wrong(&member.name, format!("it is no JSON: {error}")))?;
        let label = ["label", "cls"].iter().find_map(|key| value.get(key));
        match label {
            Some(Value::Number(label)) if !label.is_f64() => self.in_range(&label.to_string(), member),
            _ => {
                let problem = "it has no whole number under `label` (or `cls`), and there is no .cls beside it";
                Err(self.wrong(&member.name, problem))
            }
        }
    }

    fn in_range(&self, label: &str, member: &Member) -> Result<u32, DataError> {
        let number = label.parse().ok().filter(|number| *number < self.classes);
        let place = || self.path.join(&member.name).display().to_string();
        number.ok_or_else(|| DataError::Label { place: place(), label: label.to_owned(), classes: self.classes })
    }

    fn content(&self, member: &Member, bytes_max: u64) -> Result<Vec<u8>, DataError> {
        if member.bytes > bytes_max {
            let problem = format!("its {} bytes are more than the {bytes_max} of a label", member.bytes);
            return Err(self.wrong(&member.name, problem));
        }
        let mut content = vec![0; usize::try_from(member.bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut content, member.at).map_err(DataError::unreadable(self.path))?;
        Ok(content)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn wrong(&self, member: &str, problem: impl Into<String>) -> DataError {
        DataError::malformed(self.path.join(member).display().to_string(), problem)
    }

    fn malformed(&self, error: &io::Error) -> DataError {
        // It quotes what it found, which may be anything.
        let plain = |letter: char| if letter.is_control() { '?' } else { letter };
        let words: String = error.to_string().chars().take(80).map(plain).collect();
        DataError::malformed(self.place(), format!("{words}; is it a tar, and complete?"))
    }
}

/// A member's key: its path up to the first dot of the base name; and what follows that dot, in small letters. None of what
/// begins with a dot.
fn key_and_extension(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name.get(base..)?.find('.')?;
    (dot > base).then(|| (&name[..dot], name[dot + 1..].to_ascii_lowercase()))
}

/// The file as the library reads it, which is headers alone; with a limit between one member and the next.
struct Heads<'a> {
    file: &'a File,
    read: &'a Cell<u64>,
}

impl Read for Heads<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        if self.read.get() > HEAD_BYTES_MAX {
            return Err(io::Error::other(format!("a member's header has more than {HEAD_BYTES_MAX} bytes")));
        }
        Ok(count)
    }
}

impl Seek for Heads<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
