//! The database: one writing connection, others that only read.
//!
//! `write` puts what the driver has gathered on disk in one transaction; `restore` gives a starting scheduler its
//! state back; `read` answers questions of clients.

mod access;
mod groups;
mod read;
mod restore;
mod rows;
mod values;
mod write;

pub(crate) use groups::{AttemptEnded, AttemptStarted, Grouped};
pub(crate) use read::{CheckpointRow, GrantDetails, Reader, StoredSweep, TrialPlace};
pub(crate) use write::{
    AttemptFacts, EventRow, LogRow, NewCheckpoint, Outcome, Pending, PointRow, SweepRow, TrialRow, Write,
};

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Connections that only read.
const READERS: u32 = 4;
/// That stay prepared: some kinds of rows, of eight sizes each.
const STATEMENTS: usize = 256;
/// How long to wait for another process that has the file locked, as a backup does.
const BUSY_MAX: Duration = Duration::from_secs(1);

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database refuses, for a reason that time does not mend.
    #[error("the store {path} cannot be used: {action}: {source}", path = path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
    /// Its schema is not one that this program knows.
    #[error(
        "the store {path} was written by a newer alpharho ({source}); use that version, or another file with --store",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which migration is unknown.
        source: MigrateError,
    },
    /// Its schema could not be brought up to date.
    #[error("the schema of the store {path} could not be brought up to date: {source}", path = path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: MigrateError,
    },
    /// A row that this program would not have written.
    #[error(
        "the store {path} is damaged: {problem}; put a backup in its place (`alpharho store backup` makes them), or use \
         another file with --store. `alpharho store check` says what is wrong",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which row, and what is wrong with it.
        problem: String,
    },
}

impl StoreError {
    /// What SQLite said of that file. What cannot be a store of ours, or is one no more, is damaged.
    pub(crate) fn of(path: &Path, action: &'static str) -> impl FnOnce(sqlx::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| {
            if is_damage(&source) {
                Self::Damaged { path, problem: format!("{action}: {source}") }
            } else {
                Self::Database { path, action, source }
            }
        }
    }
}

/// Whether SQLite says that the file is none of its own, or is broken.
fn is_damage(error: &sqlx::Error) -> bool {
    /// Primary result codes: CORRUPT, NOTADB.
    const DAMAGE: [i64; 2] = [11, 26];
    error
        .as_database_error()
        .and_then(|error| error.code()?.parse::<i64>().ok())
        .is_some_and(|code| DAMAGE.contains(&(code & 0xff)))
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    id: String,
    /// `None` after a failure: the next transaction begins on a fresh connection.
    connection: Option<SqliteConnection>,
    reader: Reader,
}

impl Store {
    /// Opens or makes the file and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let problem = |action| StoreError::of(path, action);
        make_private(path).map_err(sqlx::Error::Io).map_err(problem("making it"))?;
        let mut connection = connect(path).await.map_err(problem("opening it"))?;
        MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(|source| match source {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                StoreError::Newer { path: path.to_owned(), source }
            }
            MigrateError::Execute(source) if is_damage(&source) => StoreError::of(path, "reading its schema")(source),
            source => StoreError::Migration { path: path.to_owned(), source },
        })?;
        let id = sqlx::query_scalar("SELECT id FROM store").fetch_one(&mut connection);
        let id: String = id.await.map_err(problem("reading its id"))?;
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_with(
            SqliteConnectOptions::new()
                .filename(path)
                .read_only(true)
                .busy_timeout(BUSY_MAX)
                .disable_statement_logging(),
        );
        let readers = readers.await.map_err(problem("opening it to read"))?;
        Ok(Self { path: path.to_owned(), id, connection: Some(connection), reader: Reader::new(readers) })
    }

    /// Drawn when the file was made.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    fn error(&self, action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError + use<> {
        StoreError::of(&self.path, action)
    }

    fn damaged(&self, problem: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), problem }
    }
}

/// It holds the key of the secrets that replicas share: where there is no file yet, one that is its owner's alone.
pub(crate) fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_MAX)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
        .connect()
        .await
}

/// Whether a failed transaction may succeed later: a full disk, a locked file, an input or output error. Anything
/// else is a mistake of ours or a damaged file, and waiting would only hide it.
pub(crate) fn may_mend(error: &sqlx::Error) -> bool {
    /// Primary result codes of SQLite: BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL.
    const MENDING: [i64; 9] = [5, 6, 7, 8, 9, 10, 13, 14, 15];
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            error.code().and_then(|code| code.parse::<i64>().ok()).is_some_and(|code| MENDING.contains(&(code & 0xff)))
        }
        _ => false,
    }
}

/// SQLite's whole numbers are signed; ours that are not fit, or (seeds, which may be any 64 bits) come back the same.
pub(crate) fn signed(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

/// The other way.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Executor;
    use sweeps::ids::TrialId;

    fn lines(count: usize) -> Pending {
        let line =
            |number| LogRow { trial: TrialId(1), attempt: 1, at_ms: 0, text: format!("{number} {}", "x".repeat(500)) };
        Pending { logs: (0..count).map(line).collect(), ..Pending::default() }
    }

    #[tokio::test]
    async fn a_full_disk_is_waited_for_and_the_same_batch_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("a.db")).await.unwrap();
        store.connection().await.unwrap().execute("PRAGMA max_page_count = 40").await.unwrap();
        let batch = lines(1000);
        let error = store.commit(&batch).await.unwrap_err();
        assert!(may_mend(&error), "{error}");
        assert!(error.to_string().contains("full"), "{error}");
        // Room again: the limit was of that connection.
        store.commit(&batch).await.unwrap();
        let (stored, _) = store.reader().logs(1, 0, 10_000).await.unwrap();
        let texts: Vec<&String> = stored.iter().map(|line| &line.text).collect();
        assert_eq!(texts, batch.logs.iter().map(|line| &line.text).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn of_a_log_the_newest_lines_stay_and_other_trials_keep_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("a.db")).await.unwrap();
        let kept = usize::try_from(write::LOG_LINES_MAX).unwrap();
        let mut batch = lines(kept + 500);
        let of_another = LogRow { trial: TrialId(2), attempt: 1, at_ms: 0, text: "another's".to_owned() };
        batch.logs.insert(0, of_another);
        store.commit(&batch).await.unwrap();
        for _ in 0..2 {
            let prune = Pending { writes: vec![Write::PruneLog { trial: TrialId(1) }], ..Pending::default() };
            store.commit(&prune).await.unwrap();
            let (stored, _) = store.reader().logs(1, 0, 100_000).await.unwrap();
            assert_eq!(stored.len(), kept);
            assert!(stored[0].text.starts_with("500 "), "{}", stored[0].text);
        }
        assert_eq!(store.reader().logs(2, 0, 10).await.unwrap().0.len(), 1);
    }

    #[tokio::test]
    async fn our_own_mistakes_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("a.db")).await.unwrap();
        let row = EventRow { sequence: 1, at_ms: 0, sweep: String::new(), trial: None, json: String::new() };
        let event = || EventRow { json: "{}".to_owned(), sweep: String::new(), ..row };
        let twice = Pending { events: vec![event(), event()], ..Pending::default() };
        let error = store.commit(&twice).await.unwrap_err();
        assert!(!may_mend(&error), "{error}");
        assert!(store.reader().events("", false, 0, 10).await.unwrap().is_empty(), "all of a batch or nothing");
    }

    #[tokio::test]
    async fn files_that_are_no_store_of_ours_are_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::write(&path, "not a database, but long enough to look at; ".repeat(50)).unwrap();
        let refused = Store::open(&path).await.unwrap_err().to_string();
        assert!(refused.contains("a.db is damaged") && refused.contains("not a database"), "{refused}");
        assert!(refused.contains("put a backup in its place"), "{refused}");

        let path = folder.path().join("b.db");
        let mut store = Store::open(&path).await.unwrap();
        let id = store.id().to_owned();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (29991231000000, 'later', 1, x'00', 0)";
        store.connection().await.unwrap().execute(newer).await.unwrap();
        drop(store);
        let refused = Store::open(&path).await.unwrap_err().to_string();
        assert!(refused.contains("written by a newer alpharho") && refused.contains("--store"), "{refused}");
        assert_eq!(id.len(), 32);
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
