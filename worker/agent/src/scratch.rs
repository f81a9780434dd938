//! The agent's folder for checkpoints on their way. It is locked for as long as the agent lives, however it ends, so
//! that the next agent can remove what one that was killed has left.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How often a folder is tried that somebody else looks at in this moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// How the folders of agents begin that were not told another name; the agent's id follows.
const USUAL: &str = "worker-";

/// A folder that is removed with this.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    _lock: Option<File>,
}

impl Scratch {
    /// Makes the folder, or takes one that was left; removes those beside it that were left.
    ///
    /// # Errors
    /// When it cannot be made, or another agent uses it.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        let lock = lock(folder)?;
        for left in leases(folder) {
            remove(&left);
        }
        remove_left(folder);
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.folder);
        // A trainer of one that was killed may have been writing still when this agent began.
        remove_left(&self.folder);
    }
}

/// `None` where the file system knows no locks: then nobody can tell that a folder was left, and none is removed.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    for _ in 0..TRIES {
        std::fs::create_dir_all(folder)?;
        let file = match File::open(folder) {
            Ok(file) => file,
            // Removed just now, by one that took it for left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_still(folder, &file) => return Ok(Some(file)),
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => sleep(PAUSE),
            Err(_) => return Ok(None),
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another worker uses it; give each worker its own with --folder"))
}

fn is_still(folder: &Path, file: &File) -> bool {
    let numbers = |data: &std::fs::Metadata| (data.dev(), data.ino());
    matches!((std::fs::metadata(folder), file.metadata()), (Ok(named), Ok(held)) if numbers(&named) == numbers(&held))
}

/// Folders of leases, which nobody has now.
fn leases(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("slot-")).map(|entry| entry.path())
}

/// Removes what lies beside a folder of the usual name and was left.
fn remove_left(own: &Path) {
    let is_usual = own.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(USUAL));
    let Some(beside) = own.parent().filter(|_| is_usual) else { return };
    for entry in std::fs::read_dir(beside).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let id = name.to_str().and_then(|name| name.strip_prefix(USUAL));
        let is_usual = id.is_some_and(|id| id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if !is_usual || path == own {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            tracing::info!("removed {}, which a worker that was killed has left", path.display());
            remove(&path);
        }
    }
}

fn remove(folder: &Path) {
    // What cannot be removed now may be by the next one.
    let _ = std::fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_agents_have_left_goes_and_what_is_used_stays() {
        let home = tempfile::tempdir().unwrap();
        let runs = home.path().join("runs");
        let path = |name: &str| runs.join(name);
        let used = Scratch::take(&path("worker-0123456789abcdef")).unwrap();
        for left in ["worker-00000000000000ff/slot-0/trial-1-attempt-1", "worker-notes", "mobilenet"] {
            std::fs::create_dir_all(path(left)).unwrap();
        }
        let mine = path("worker-fedcba9876543210");
        let own = Scratch::take(&mine).unwrap();
        std::fs::create_dir_all(mine.join("slot-0/trial-7-attempt-1")).unwrap();
        let mut names: Vec<String> =
            std::fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["mobilenet", "worker-0123456789abcdef", "worker-fedcba9876543210", "worker-notes"]);
        let refused = Scratch::take(&mine).unwrap_err().to_string();
        assert!(refused.contains("another worker uses it"), "{refused}");
        drop((used, own));
        assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_that_was_told_is_taken_over_but_what_lies_beside_it_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let told = home.path().join("scratch");
        std::fs::create_dir_all(told.join("slot-1/trial-1-attempt-1")).unwrap();
        std::fs::create_dir_all(home.path().join("worker-00000000000000ff")).unwrap();
        let scratch = Scratch::take(&told).unwrap();
        assert_eq!(std::fs::read_dir(&told).unwrap().count(), 0);
        assert!(home.path().join("worker-00000000000000ff").exists());
        drop(scratch);
        assert!(!told.exists());
    }
}
