//! One coordinator a store: a file beside it that is locked for as long as the process lives, however it ends,
//! and that says where the coordinator listens.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use thiserror::Error;

/// How long a locked file may be without an address: its coordinator is starting.
const STARTING_TRIES: u32 = 40;
const STARTING_PAUSE: Duration = Duration::from_millis(50);
const TAKING_TRIES: u32 = 5;
const TAKING_PAUSE: Duration = Duration::from_millis(20);

/// Why the store could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// By a process that lives.
    #[error("another coordinator, {address}, has the store {store}; use it (--coordinator {address}), or stop it first",
        store = store.display())]
    Held {
        /// The store.
        store: PathBuf,
        /// Where the other one listens; `which is starting` if that is not known yet.
        address: String,
    },
    /// The file system.
    #[error("the lock file {file} cannot be used: {source}", file = file.display())]
    File {
        /// The lock file.
        file: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// Holds a store until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
    path: PathBuf,
}

impl StoreLock {
    pub(crate) fn take(store: &Path) -> Result<Self, LockError> {
        let path = lock_path(store);
        let problem = |source| LockError::File { file: path.clone(), source };
        if let Some(folder) = store.parent() {
            std::fs::create_dir_all(folder).map_err(problem)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(problem)?;
        let mut tries = 0;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            tries += 1;
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(problem(error.into()));
            }
            // Somebody who asks whether it is held ([`find_running`]) holds it for a moment too.
            if tries == TAKING_TRIES {
                let address = find_running(store).unwrap_or_else(|| "which is starting".to_owned());
                return Err(LockError::Held { store: store.to_owned(), address });
            }
            sleep(TAKING_PAUSE);
        }
        // What a process that was killed left there.
        file.set_len(0).map_err(problem)?;
        Ok(Self { file, path })
    }

    pub(crate) fn write_address(&mut self, address: &str) -> Result<(), LockError> {
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(address.as_bytes()))
            .map_err(|source| LockError::File { file: self.path.clone(), source })
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // The file itself stays: removing it would race with whoever opens it now.
        let _ = self.file.set_len(0);
    }
}

/// Where the coordinator of this store listens, as `http://127.0.0.1:7070`; `None` if nobody holds the store. Waits
/// up to two seconds for one that is just starting.
#[must_use]
pub fn find_running(store: &Path) -> Option<String> {
    let mut file = File::open(lock_path(store)).ok()?;
    for _ in 0..STARTING_TRIES {
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            // Given back with the file.
            return None;
        }
        let mut address = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut address).ok()?;
        if !address.is_empty() {
            return Some(address);
        }
        sleep(STARTING_PAUSE);
    }
    None
}

fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_held_by_one_and_tells_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("runs/a.db");
        assert_eq!(find_running(&store), None);
        let mut lock = StoreLock::take(&store).unwrap();
        lock.write_address("http://127.0.0.1:7070").unwrap();
        assert_eq!(find_running(&store).as_deref(), Some("http://127.0.0.1:7070"));
        let refused = StoreLock::take(&store).unwrap_err().to_string();
        assert!(refused.contains("another coordinator, http://127.0.0.1:7070, has the store"), "{refused}");
        drop(lock);
        assert_eq!(find_running(&store), None);
        // What is left of a killed process is not believed.
        std::fs::write(lock_path(&store), "http://127.0.0.1:1").unwrap();
        assert_eq!(find_running(&store), None);
        drop(StoreLock::take(&store).unwrap());
    }
}
