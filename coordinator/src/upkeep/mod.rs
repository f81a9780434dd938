//! What a person does with a store besides running sweeps: look whether it is whole, and copy it. Both only read, so
//! they work while a coordinator has the store, and on a store that a coordinator refuses.

mod backup;
mod check;

pub use backup::{Backup, BackupError, backup};
pub use check::{Checked, check};

use crate::store::{MIGRATIONS, StoreError};
use sha2::{Digest, Sha256};
use sqlx::migrate::MigrateError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

const BUSY_MAX: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 1 << 20;

/// A checkpoint's row, as all schemas have it.
#[derive(Debug, sqlx::FromRow)]
struct FileRow {
    id: i64,
    trial: i64,
    epoch: u32,
    bytes: i64,
    sha256: String,
    file: String,
}

const FILES: &str = "SELECT id, trial, epoch, bytes, sha256, file FROM checkpoints ORDER BY id";

async fn open(store: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().filename(store).read_only(true).busy_timeout(BUSY_MAX);
    options.disable_statement_logging().connect().await.map_err(StoreError::of(store, "opening it"))
}

/// How many of our migrations the store has yet to go through.
async fn migrations_missing(connection: &mut SqliteConnection, store: &Path) -> Result<usize, StoreError> {
    let query = sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
    let applied = query.fetch_all(connection).await.map_err(StoreError::of(store, "reading its schema's version"))?;
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    if let Some(unknown) = applied.iter().find(|version| !known.contains(version)) {
        return Err(StoreError::Newer { path: store.to_owned(), source: MigrateError::VersionMissing(*unknown) });
    }
    Ok(known.len().saturating_sub(applied.len()))
}

/// Reads a file to its end and passes it on; its length and the hexadecimal SHA-256.
fn read_through(path: &Path, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut length, mut bytes) = (Sha256::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let count = file.read(&mut bytes)?;
        if count == 0 {
            return Ok((length, hex::encode(hash.finalize())));
        }
        length += count as u64;
        hash.update(&bytes[..count]);
        to.write_all(&bytes[..count])?;
    }
}

/// What is wrong with a checkpoint of which that was found.
fn problem_of(row: &FileRow, found: &io::Result<(u64, String)>) -> Option<String> {
    let FileRow { trial, epoch, bytes, sha256, file, .. } = row;
    let of = format!("the checkpoint of trial {trial} after epoch {epoch}, {file}");
    match found {
        Ok((length, _)) if i64::try_from(*length) != Ok(*bytes) => {
            Some(format!("{of}, has {length} bytes, {bytes} were saved"))
        }
        Ok((_, hash)) if hash != sha256 => Some(format!("{of}, has the SHA-256 {hash}, {sha256} was saved")),
        Ok(_) => None,
        Err(error) => Some(format!("{of}, cannot be read: {error}")),
    }
}
