//! Whether a store is whole: the database, and the checkpoints that it names.

use super::{FILES, FileRow, migrations_missing, open, problem_of, read_through};
use crate::store::StoreError;
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Problems of the database that are named; more are only worse.
const NAMED_MAX: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Sweeps in it.
    pub sweeps: u64,
    /// Their trials.
    pub trials: u64,
    /// Their checkpoints.
    pub checkpoints: u64,
    /// Bytes of these, as they were saved.
    pub checkpoint_bytes: u64,
    /// What is damaged or missing.
    pub problems: Vec<String>,
    /// What a person may want to know besides.
    pub notes: Vec<String>,
}

/// Looks at all of it: the database's own structure, references between rows, and the checkpoints' lengths; with
/// `hashes` all bytes of these too.
///
/// # Errors
/// When the file is no store, or one of a newer version.
pub async fn check(store: &Path, artifacts: &Path, hashes: bool) -> Result<Checked, StoreError> {
    let mut connection = open(store).await?;
    let missing = migrations_missing(&mut connection, store).await?;
    let problem = |action| StoreError::of(store, action);
    let mut checked = Checked::default();
    if missing > 0 {
        let note = "the store is of an older version; a coordinator brings it up to date when it opens it";
        checked.notes.push(note.to_owned());
    }
    let structure = sqlx::query_scalar::<_, String>("PRAGMA integrity_check(100)").fetch_all(&mut connection).await;
    match structure {
        Ok(lines) => checked.problems.extend(lines.into_iter().filter(|line| line != "ok")),
        Err(error) => checked.problems.push(format!("the database cannot be read through: {error}")),
    }
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await;
    for row in broken.map_err(problem("checking its references"))?.iter().take(NAMED_MAX) {
        let (table, parent): (String, String) = (get(row, "table", store)?, get(row, "parent", store)?);
        checked.problems.push(format!("a row of {table} refers to one of {parent} that is not there"));
    }
    checked.sweeps = count(&mut connection, "SELECT count(*) FROM sweeps", store).await?;
    checked.trials = count(&mut connection, "SELECT count(*) FROM trials", store).await?;
    let rows = sqlx::query_as::<_, FileRow>(FILES).fetch_all(&mut connection).await;
    let rows = rows.map_err(problem("reading its checkpoints"))?;
    for row in &rows {
        checked.checkpoints += 1;
        checked.checkpoint_bytes += u64::try_from(row.bytes).unwrap_or(0);
        if let Some(problem) = problem_of(row, &look_at(&artifacts.join(&row.file), row, hashes))
            // A coordinator may just have replaced it by a newer one.
            && is_named(&mut connection, row.id, store).await?
        {
            checked.problems.push(problem);
        }
    }
    let named = rows.iter().map(|row| row.file.as_str()).collect();
    checked.notes.extend(unnamed(artifacts, &named));
    Ok(checked)
}

/// Length and hash; without `hashes` the hash is believed.
fn look_at(path: &Path, row: &FileRow, hashes: bool) -> io::Result<(u64, String)> {
    if hashes {
        return read_through(path, &mut io::sink());
    }
    Ok((std::fs::metadata(path)?.len(), row.sha256.clone()))
}

async fn is_named(connection: &mut SqliteConnection, id: i64, store: &Path) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM checkpoints WHERE id = ?)").bind(id);
    query.fetch_one(connection).await.map_err(StoreError::of(store, "reading its checkpoints"))
}

async fn count(connection: &mut SqliteConnection, query: &'static str, store: &Path) -> Result<u64, StoreError> {
    let counted = sqlx::query_scalar::<_, i64>(query).fetch_one(connection).await;
    Ok(u64::try_from(counted.map_err(StoreError::of(store, "counting its rows"))?).unwrap_or(0))
}

fn get(row: &sqlx::sqlite::SqliteRow, column: &str, store: &Path) -> Result<String, StoreError> {
    row.try_get(column).map_err(StoreError::of(store, "reading a column"))
}

/// Files in the two levels of folders where checkpoints lie that no row names.
fn unnamed(artifacts: &Path, named: &BTreeSet<&str>) -> Vec<String> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let (mut aside, mut strange) = (0_u64, 0_u64);
    let folders = entries(artifacts).into_iter().filter(|path| path.is_dir());
    for file in folders.flat_map(|sweep| entries(&sweep)).flat_map(|trial| entries(&trial)) {
        let name = file.strip_prefix(artifacts).ok().and_then(Path::to_str).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("damaged") => aside += 1,
            Some("safetensors") if !named.contains(name) => strange += 1,
            _ => {}
        }
    }
    let mut notes = Vec::new();
    if aside > 0 {
        notes.push(format!("{aside} damaged checkpoints were set aside in {} (*.damaged)", artifacts.display()));
    }
    if strange > 0 {
        let of = artifacts.display();
        notes.push(format!("{strange} checkpoints in {of} belong to another store, or are being saved now"));
    }
    notes
}
