//! The file that a pack is written to until it is whole.

use super::layout::{FRAME_BYTES, HEADER_BYTES, Header, Index, Kind, Place};
use super::read::content_hash;
use crate::error::DataError;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

/// Records are only ever added, in the order of the source. However it ends, what is whole of it is gone on from.
pub(super) struct Partial {
    path: PathBuf,
    out: BufWriter<File>,
    /// Where the next record goes.
    at: u64,
    plan: [u8; 32],
}

/// An image, as it is to be stored.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) content: Vec<u8>,
}

impl Record {
    pub(super) fn left_out(reason: String) -> Self {
        Self { kind: Kind::LeftOut, width: 0, height: 0, content: reason.into_bytes() }
    }
}

impl Partial {
    /// Opens `OUT.partial` and finds the records that are whole; begins it where there is none. Another plan's is refused,
    /// or given up by `force`.
    pub(super) fn open(out: &Path, plan: [u8; 32], force: bool) -> Result<(Self, Vec<Place>), DataError> {
        let mut path = out.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let place = || path.display().to_string();
        let unwritable = || DataError::unwritable(&path);
        if fs::metadata(&path).is_ok_and(|facts| !facts.is_file()) {
            return Err(DataError::malformed(place(), "it is not a file; move it out of the way"));
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(unwritable())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataError::malformed(place(), "another `alpharho pack` is writing it; wait for its end"));
            }
            Err(TryLockError::Error(error)) => return Err(unwritable()(error)),
        }
        let length = file.metadata().map_err(unwritable())?.len();
        let mut head = vec![0; usize::try_from(length.min(HEADER_BYTES)).unwrap_or(0)];
        file.read_exact_at(&mut head, 0).map_err(unwritable())?;
        let (mut places, mut at) = (Vec::new(), HEADER_BYTES);
        if Header::from_bytes(&head).is_ok_and(|header| header.plan == plan) {
            (places, at) = whole_records(&file, length);
        } else if length > 0 && !force && head.len() as u64 == HEADER_BYTES {
            let problem = "it was begun from another source, or with other options; go on with those, delete it, or give \
                           it up with --force";
            return Err(DataError::malformed(place(), problem));
        }
        let mut partial = Self { path, out: BufWriter::with_capacity(BUFFER_BYTES, file), at, plan };
        partial.begin().map_err(DataError::unwritable(&partial.path))?;
        Ok((partial, places))
    }

    fn begin(&mut self) -> std::io::Result<()> {
        let file = self.out.get_mut();
        // What follows the last whole record was being written when it ended.
        file.set_len(self.at)?;
        let header = Header { index_at: 0, index_bytes: 0, index_sha256: [0; 32], plan: self.plan };
        file.write_all_at(&header.to_bytes(), 0)?;
        file.seek(SeekFrom::Start(self.at)).map(drop)
    }

    /// Adds a record. Where its content is.
    pub(super) fn add(&mut self, record: &Record) -> Result<Place, DataError> {
        let Record { kind, width, height, content } = record;
        let crc = crc32fast::hash(content);
        let (at, bytes) = (self.at + FRAME_BYTES, content.len() as u64);
        let place = Place { kind: *kind, at, bytes, width: *width, height: *height, crc };
        let end = place.end().unwrap_or(u64::MAX);
        let zeros = [0; 8];
        let padding = usize::try_from(end - at - bytes).unwrap_or(0).min(zeros.len());
        let parts = [&place.frame()[..], content, &zeros[..padding]];
        let written = parts.iter().try_for_each(|part| self.out.write_all(part));
        written.map_err(DataError::unwritable(&self.path))?;
        self.at = end;
        Ok(place)
    }

    /// The content of an earlier record, as text.
    pub(super) fn text(&self, place: &Place) -> Result<String, DataError> {
        let mut text = vec![0; usize::try_from(place.bytes).unwrap_or(0)];
        self.out.get_ref().read_exact_at(&mut text, place.at).map_err(DataError::unwritable(&self.path))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Hands everything to the system: what was added is in the file, whatever becomes of this process.
    pub(super) fn flush(&mut self) -> Result<(), DataError> {
        self.out.flush().map_err(DataError::unwritable(&self.path))
    }

    /// Adds the index and gives the file its name; after that it is whole, even if the power goes.
    pub(super) fn finish(mut self, index: &Index, out: &Path) -> Result<(), DataError> {
        let bytes = index.to_bytes();
        let header = Header {
            index_at: self.at,
            index_bytes: bytes.len() as u64,
            index_sha256: Sha256::digest(&bytes).into(),
            plan: self.plan,
        };
        let mut write = || {
            self.out.write_all(&bytes)?;
            self.out.flush()?;
            let file = self.out.get_ref();
            // In this order, so that a header never names an index that is not there.
            file.sync_data()?;
            file.write_all_at(&header.to_bytes(), 0)?;
            file.sync_all()
        };
        write().map_err(DataError::unwritable(&self.path))?;
        fs::rename(&self.path, out).map_err(DataError::unwritable(out))?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(DataError::unwritable(folder))
    }
}

/// The records of a file up to the first that is not whole, and where they end.
fn whole_records(file: &File, length: u64) -> (Vec<Place>, u64) {
    let (mut places, mut at) = (Vec::new(), HEADER_BYTES);
    let mut frame = [0; FRAME_BYTES as usize];
    while file.read_exact_at(&mut frame, at).is_ok() {
        let place = Place::from_frame(&frame, at + FRAME_BYTES);
        let Some((place, end)) = place.and_then(|place| Some((place, place.end()?))) else { break };
        if end > length || content_hash(file, place.at, place.bytes).ok() != Some(place.crc) {
            break;
        }
        places.push(place);
        at = end;
    }
    (places, at)
}
