//! A copy of a store as it is in one moment, while it is in use.

use super::{FILES, FileRow, migrations_missing, open, problem_of, read_through};
use crate::store::{StoreError, make_private};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What the copy of the database is called, and the folder of checkpoints beside it.
const DATABASE: &str = "alpharho.db";
const ARTIFACTS: &str = "artifacts";
/// Checkpoints come and go while they are copied: then the database is copied anew.
const TRIES: u32 = 10;

/// A copy that was made.
#[derive(Debug)]
pub struct Backup {
    /// The database.
    pub store: PathBuf,
    /// Checkpoints that are beside it.
    pub checkpoints: u64,
    /// Bytes of these.
    pub checkpoint_bytes: u64,
    /// Checkpoints that are damaged or missing, and not in the copy.
    pub problems: Vec<String>,
}

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is something already.
    #[error("the folder {folder} is not empty; a backup is made in a folder of its own", folder = folder.display())]
    NotEmpty {
        /// Where the copy was to be.
        folder: PathBuf,
    },
    /// The copy cannot be written.
    #[error("the backup {file} cannot be written: {source}; is the disk full?", file = file.display())]
    Write {
        /// Which part of it.
        file: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The coordinator replaces checkpoints faster than they can be copied.
    #[error("checkpoints were replaced faster than they could be copied; pause the sweep, or leave checkpoints out")]
    TooFast,
}

/// Copies the database, as it is in one moment, and the checkpoints that it names if `checkpoints`, into a folder that
/// is not there yet. The copy is a store: `--store FOLDER/alpharho.db`.
///
/// # Errors
/// When the store cannot be read, or the copy not be written.
pub async fn backup(store: &Path, artifacts: &Path, to: &Path, checkpoints: bool) -> Result<Backup, BackupError> {
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::NotEmpty { folder: to.to_owned() });
    }
    let copies = to.join(ARTIFACTS);
    std::fs::create_dir_all(&copies).map_err(cannot(&copies))?;
    let database = to.join(DATABASE);
    let part = to.join("alpharho.db.part");
    for _ in 0..TRIES {
        let rows = copy_database(store, &part).await?;
        let rows = if checkpoints { rows } else { Vec::new() };
        let mut problems = Vec::new();
        for row in &rows {
            problems.extend(copy(row, artifacts, &copies)?);
        }
        // Is what could not be copied still wanted, or was it replaced meanwhile?
        if !problems.is_empty() && !same(&rows, &names(store).await?) {
            continue;
        }
        remove_others(&copies, &rows).map_err(cannot(&copies))?;
        std::fs::rename(&part, &database).map_err(cannot(&database))?;
        for folder in [&copies, to] {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot(folder))?;
        }
        let count = rows.len().saturating_sub(problems.len()) as u64;
        let checkpoint_bytes = rows.iter().map(|row| u64::try_from(row.bytes).unwrap_or(0)).sum();
        return Ok(Backup { store: database, checkpoints: count, checkpoint_bytes, problems });
    }
    Err(BackupError::TooFast)
}

fn cannot(file: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let file = file.to_owned();
    move |source| BackupError::Write { file, source }
}

/// The rows of checkpoints in the copy.
async fn copy_database(store: &Path, part: &Path) -> Result<Vec<FileRow>, BackupError> {
    match std::fs::remove_file(part) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(part)(error)),
    }
    let mut connection = open(store).await?;
    migrations_missing(&mut connection, store).await?;
    // It holds the key of secrets, and hashes of tokens.
    make_private(part).map_err(cannot(part))?;
    let copied = sqlx::query("VACUUM INTO ?").bind(part.display().to_string()).execute(&mut connection).await;
    copied.map_err(StoreError::of(store, "copying it"))?;
    File::open(part).and_then(|file| file.sync_all()).map_err(cannot(part))?;
    names(part).await
}

async fn names(store: &Path) -> Result<Vec<FileRow>, BackupError> {
    let mut connection = open(store).await?;
    let rows = sqlx::query_as(FILES).fetch_all(&mut connection).await;
    Ok(rows.map_err(StoreError::of(store, "reading its checkpoints"))?)
}

fn same(one: &[FileRow], other: &[FileRow]) -> bool {
    let ids = |rows: &[FileRow]| rows.iter().map(|row| row.id).collect::<BTreeSet<_>>();
    ids(one) == ids(other)
}

/// Copies one, unless it is there already; what is wrong with it, if anything is.
fn copy(row: &FileRow, artifacts: &Path, copies: &Path) -> Result<Option<String>, BackupError> {
    let to = copies.join(&row.file);
    if to.exists() {
        return Ok(None);
    }
    let folder = to.parent().unwrap_or(copies);
    std::fs::create_dir_all(folder).map_err(cannot(folder))?;
    let part = to.with_extension("part");
    let mut file = File::create(&part).map_err(cannot(&part))?;
    let found = read_through(&artifacts.join(&row.file), &mut file);
    if let Some(problem) = problem_of(row, &found) {
        std::fs::remove_file(&part).map_err(cannot(&part))?;
        return Ok(Some(problem));
    }
    file.sync_all().and_then(|()| std::fs::rename(&part, &to)).map_err(cannot(&to))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot(folder))?;
    Ok(None)
}

/// What an earlier try has copied and the last one does not name.
fn remove_others(copies: &Path, rows: &[FileRow]) -> io::Result<()> {
    let wanted: BTreeSet<PathBuf> = rows.iter().map(|row| copies.join(&row.file)).collect();
    let mut folders = vec![copies.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !wanted.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}
