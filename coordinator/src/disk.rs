//! Room on the disks of the store and of the checkpoints. What is left when it gets little is for what runs.

use rustix::fs::statvfs;
use std::path::{Path, PathBuf};

/// Unless told otherwise this share of a disk is kept free, within bounds.
const SHARE: u64 = 50;
const RESERVE_MIN: u64 = 64 << 20;
const RESERVE_MAX: u64 = 1 << 30;

/// A folder's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Bytes that we may still use, and all there are.
    free: u64,
    size: u64,
}

/// How much is to be kept free, and whether there is less.
#[derive(Debug)]
pub(crate) struct Room {
    folders: Vec<PathBuf>,
    reserve: Option<u64>,
    is_low: bool,
}

impl Room {
    /// Of the disks of these folders; `reserve` bytes are kept free.
    pub(crate) fn new(folders: Vec<PathBuf>, reserve: Option<u64>) -> Self {
        Self { folders, reserve, is_low: false }
    }

    /// Why nothing new is to be begun; none if there is room. Once there was little, a quarter more than the reserve
    /// must be free, so that it does not change its mind all the time.
    pub(crate) fn look(&mut self) -> Option<String> {
        let disks: Vec<Disk> = self.folders.iter().filter_map(|folder| look_at(folder)).collect();
        self.judge(&disks)
    }

    fn judge(&mut self, disks: &[Disk]) -> Option<String> {
        let short = disks.iter().find(|disk| {
            let reserve = self.reserve_of(disk);
            disk.free < if self.is_low { reserve.saturating_add(reserve / 4) } else { reserve }
        });
        self.is_low = short.is_some();
        let disk = short?;
        Some(format!(
            "little room on the disk of {}: {} are free, {} are kept; it goes on by itself when there is room",
            disk.folder.display(),
            mebibytes(disk.free),
            mebibytes(self.reserve_of(disk))
        ))
    }

    /// Why so many bytes more in a folder are too many; none if there is room for them. A disk that does not tell how
    /// much is free is believed to be large.
    pub(crate) fn refuse(&self, folder: &Path, bytes: u64) -> Option<String> {
        let disk = look_at(folder)?;
        let reserve = self.reserve_of(&disk);
        (disk.free < reserve.saturating_add(bytes)).then(|| {
            format!(
                "{} are needed on the disk of {}, where {} are free and {} are kept",
                mebibytes(bytes),
                folder.display(),
                mebibytes(disk.free),
                mebibytes(reserve)
            )
        })
    }

    fn reserve_of(&self, disk: &Disk) -> u64 {
        self.reserve.unwrap_or_else(|| (disk.size / SHARE).clamp(RESERVE_MIN, RESERVE_MAX))
    }
}

fn look_at(folder: &Path) -> Option<Disk> {
    let told = statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Some(Disk { folder: folder.to_owned(), free: bytes(told.f_bavail), size: bytes(told.f_blocks) })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk(free: u64, size: u64) -> Disk {
        Disk { folder: "/data/runs".into(), free: free * MIB, size: size * MIB }
    }

    #[test]
    fn little_room_is_told_and_forgotten_when_there_is_more() {
        let mut room = Room::new(Vec::new(), Some(100 * MIB));
        // Free, and whether that is little, one after the other.
        for (free, low) in
            [(200, false), (100, false), (99, true), (110, true), (124, true), (125, false), (100, false)]
        {
            let told = room.judge(&[disk(5000, 9000), disk(free, 9000)]);
            assert_eq!(told.is_some(), low, "{free}");
        }
        let told = room.judge(&[disk(3, 9000)]).unwrap();
        assert!(told.starts_with("little room on the disk of /data/runs: 3 MiB are free, 100 MiB are kept"), "{told}");
    }

    #[test]
    fn what_is_kept_follows_from_the_size_of_the_disk() {
        let room = Room::new(Vec::new(), None);
        for (size, kept) in [(100, 64), (10_000, 200), (1_000_000, 1024)] {
            assert_eq!(room.reserve_of(&disk(0, size)), kept * MIB, "{size}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(Vec::new(), Some(0));
        assert_eq!(room.refuse(folder.path(), 1), None);
        let told = room.refuse(folder.path(), u64::MAX / 2).unwrap();
        assert!(
            told.contains("are needed on the disk of") && told.contains("MiB are free and 0 MiB are kept"),
            "{told}"
        );
        assert_eq!(room.refuse(Path::new("/nowhere/at/all"), u64::MAX), None);
    }
}
