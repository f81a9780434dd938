//! Everything that one batch must remember, in one transaction.

use super::access::{put_owner, put_token};
use super::groups::{Grouped, Groups};
use super::values::Best;
use super::{Store, StoreError, connect, rows, signed};
use crate::driver::PricedTrial;
use crate::tokens::TokenRow;
use sqlx::{Connection, Row, SqliteConnection};
use sweeps::ids::{Token, TrialId, WorkerId};
use sweeps::scheduler::TrialState;

/// Lines of a trial's log that pruning leaves.
pub(crate) const LOG_LINES_MAX: u32 = 20_000;

/// What a batch has gathered. Carried out in the order: `writes`, points, best epochs, logs, events.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) writes: Vec<Write>,
    pub(crate) points: Vec<PointRow>,
    pub(crate) best: Best,
    pub(crate) logs: Vec<LogRow>,
    pub(crate) events: Vec<EventRow>,
}

impl Pending {
    pub(crate) fn group(&mut self, change: Grouped) {
        self.writes.push(Write::Grouped(change));
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { writes, points, best, logs, events } = self;
        writes.is_empty() && points.is_empty() && best.is_empty() && logs.is_empty() && events.is_empty()
    }
}

/// What a transaction has found out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Ids of the checkpoints of the batch, in order.
    pub(crate) checkpoints: Vec<u64>,
    /// Files whose rows are gone.
    pub(crate) files: Vec<String>,
    /// Files whose rows are gone because they are damaged.
    pub(crate) aside: Vec<String>,
}

/// One change of rows.
#[derive(Debug)]
pub(crate) enum Write {
    Sweep(Box<SweepRow>),
    Trials {
        sweep: String,
        rows: Vec<TrialRow>,
    },
    SweepLimits {
        sweep: String,
        limits_json: String,
    },
    /// `None`: the file's limit holds.
    AskedLimit {
        sweep: String,
        asked_json: Option<String>,
    },
    SweepPaused {
        sweep: String,
        paused: bool,
    },
    /// All trials of a sweep, and all that belongs to them.
    SweepCleared {
        sweep: String,
    },
    /// Put together with others of its kind.
    Grouped(Grouped),
    Checkpoint(Box<NewCheckpoint>),
    /// Nobody goes on from it any more.
    SetAside {
        checkpoint: i64,
        trial: i64,
    },
    /// Of its log only the newest lines stay.
    PruneLog {
        trial: TrialId,
    },
    /// An attempt is over: what it saved after epochs that it never reported is not to go on from.
    ForgetUnreported {
        trial: TrialId,
    },
    Token(Box<TokenRow>),
    /// It was replaced.
    TokenEnds {
        id: String,
        ends_ms: i64,
    },
    /// All of a name.
    TokensRevoked {
        name: String,
    },
    /// Whose a worker is; it has just registered.
    WorkerOwner {
        worker: WorkerId,
        name: String,
        at_ms: i64,
    },
}

#[derive(Debug)]
pub(crate) struct SweepRow {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) file_name: String,
    pub(crate) yaml: String,
    pub(crate) spec_json: String,
    pub(crate) fingerprint: String,
    pub(crate) limits_json: String,
    pub(crate) scripted: bool,
    pub(crate) submitted_ms: i64,
}

#[derive(Debug)]
pub(crate) struct TrialRow {
    pub(crate) id: TrialId,
    pub(crate) number: u32,
    pub(crate) trial: PricedTrial,
}

/// What a trainer says of itself when it runs.
#[derive(Debug)]
pub(crate) struct AttemptFacts {
    pub(crate) token: Token,
    pub(crate) device: String,
    pub(crate) threads: u32,
    pub(crate) instruction_set: String,
    pub(crate) libtorch: String,
    pub(crate) resumed_epoch: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct NewCheckpoint {
    pub(crate) token: Token,
    pub(crate) epoch: u32,
    pub(crate) step: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) file: String,
    pub(crate) best: bool,
    pub(crate) at_ms: i64,
}

#[derive(Debug)]
pub(crate) struct PointRow {
    pub(crate) trial: TrialId,
    pub(crate) attempt: u32,
    pub(crate) name: String,
    pub(crate) step: u64,
    pub(crate) value: f64,
}

#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) trial: TrialId,
    pub(crate) attempt: u32,
    pub(crate) at_ms: i64,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) sequence: u64,
    pub(crate) at_ms: i64,
    /// Empty: of no sweep.
    pub(crate) sweep: String,
    pub(crate) trial: Option<TrialId>,
    pub(crate) json: String,
}

impl Store {
    /// Puts a batch on disk: all of it, or nothing. After an error it may be tried again as it is.
    pub(crate) async fn commit(&mut self, pending: &Pending) -> Result<Outcome, sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path).await?,
        };
        match transaction(&mut connection, pending).await {
            Ok(outcome) => {
                self.connection = Some(connection);
                Ok(outcome)
            }
            Err(error) => {
                // Closing rolls back whatever state the connection is in.
                drop(connection.close().await);
                Err(error)
            }
        }
    }

    /// The writing connection, to read what the last transaction has left.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path).await.map_err(self.error("opening it again"))?,
        };
        Ok(self.connection.insert(connection))
    }
}

async fn transaction(connection: &mut SqliteConnection, pending: &Pending) -> Result<Outcome, sqlx::Error> {
    let mut outcome = Outcome::default();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut groups = Groups::default();
    for write in &pending.writes {
        if !matches!(write, Write::Grouped(_)) {
            std::mem::take(&mut groups).put(connection, &mut outcome).await?;
        }
        apply(connection, write, &mut groups, &mut outcome).await?;
    }
    groups.put(connection, &mut outcome).await?;
    let before = "INSERT INTO metrics (trial, name, step, attempt, value) ";
    let after = " ON CONFLICT DO UPDATE SET value = excluded.value";
    rows::put(connection, before, &pending.points, after, |mut values, point| {
        values.push_bind(signed(point.trial.0)).push_bind(&point.name).push_bind(signed(point.step));
        values.push_bind(point.attempt).push_bind(point.value);
    })
    .await?;
    super::values::put(connection, &pending.best).await?;
    let before = "INSERT INTO logs (trial, attempt, time_ms, text) ";
    rows::put(connection, before, &pending.logs, "", |mut values, line| {
        values.push_bind(signed(line.trial.0)).push_bind(line.attempt).push_bind(line.at_ms).push_bind(&line.text);
    })
    .await?;
    let before = "INSERT INTO events (sequence, time_ms, sweep, trial, json) ";
    rows::put(connection, before, &pending.events, "", |mut values, event| {
        values.push_bind(signed(event.sequence)).push_bind(event.at_ms).push_bind(&event.sweep);
        values.push_bind(event.trial.map(|trial| signed(trial.0))).push_bind(&event.json);
    })
    .await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(outcome)
}

async fn apply<'a>(
    connection: &mut SqliteConnection,
    write: &'a Write,
    groups: &mut Groups<'a>,
    outcome: &mut Outcome,
) -> Result<(), sqlx::Error> {
    match write {
        Write::Sweep(row) => put_sweep(connection, row).await,
        Write::Trials { sweep, rows } => put_trials(connection, sweep, rows).await,
        Write::SweepLimits { sweep, limits_json } => {
            let query = sqlx::query("UPDATE sweeps SET limits_json = ? WHERE name = ?").bind(limits_json).bind(sweep);
            query.execute(connection).await.map(drop)
        }
        Write::AskedLimit { sweep, asked_json } => {
            let query = sqlx::query("UPDATE sweeps SET asked_limit_json = ? WHERE name = ?");
            query.bind(asked_json).bind(sweep).execute(connection).await.map(drop)
        }
        Write::SweepPaused { sweep, paused } => {
            let query = sqlx::query("UPDATE sweeps SET paused = ? WHERE name = ?").bind(paused).bind(sweep);
            query.execute(connection).await.map(drop)
        }
        Write::SweepCleared { sweep } => clear_sweep(connection, sweep, outcome).await,
        Write::Grouped(change) => {
            groups.add(change);
            Ok(())
        }
        Write::Checkpoint(checkpoint) => put_checkpoint(connection, checkpoint, outcome).await,
        Write::Token(row) => put_token(connection, row).await,
        Write::TokenEnds { id, ends_ms } => {
            let query = sqlx::query("UPDATE tokens SET ends_ms = ? WHERE id = ?").bind(ends_ms).bind(id);
            query.execute(connection).await.map(drop)
        }
        Write::TokensRevoked { name } => {
            sqlx::query("DELETE FROM tokens WHERE name = ?").bind(name).execute(connection).await.map(drop)
        }
        Write::WorkerOwner { worker, name, at_ms } => put_owner(connection, *worker, name, *at_ms).await,
        Write::SetAside { checkpoint, trial } => {
            let query = sqlx::query_scalar("DELETE FROM checkpoints WHERE id = ? RETURNING file").bind(checkpoint);
            outcome.aside.extend(query.fetch_optional(&mut *connection).await?);
            mark_latest(connection, *trial).await
        }
        Write::PruneLog { trial } => {
            let query = sqlx::query(
                "DELETE FROM logs WHERE trial = ?1
                 AND id <= (SELECT id FROM logs WHERE trial = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            );
            query.bind(signed(trial.0)).bind(LOG_LINES_MAX).execute(connection).await.map(drop)
        }
        Write::ForgetUnreported { trial } => {
            let query = sqlx::query(
                "DELETE FROM checkpoints WHERE trial = ?1
                 AND epoch > (SELECT epochs_done FROM trials WHERE id = ?1) RETURNING file",
            );
            let gone = query.bind(signed(trial.0)).fetch_all(connection).await?;
            gather_files(&gone, outcome)
        }
    }
}

pub(super) fn gather_files(rows: &[sqlx::sqlite::SqliteRow], outcome: &mut Outcome) -> Result<(), sqlx::Error> {
    for row in rows {
        outcome.files.push(row.try_get("file")?);
    }
    Ok(())
}

async fn put_sweep(connection: &mut SqliteConnection, row: &SweepRow) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO sweeps (name, description, file_name, yaml, spec_json, fingerprint, limits_json, scripted, submitted_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET description = excluded.description, file_name = excluded.file_name,
         yaml = excluded.yaml, spec_json = excluded.spec_json, fingerprint = excluded.fingerprint,
         limits_json = excluded.limits_json, scripted = excluded.scripted",
    );
    let query = query.bind(&row.name).bind(&row.description).bind(&row.file_name).bind(&row.yaml).bind(&row.spec_json);
    let query = query.bind(&row.fingerprint).bind(&row.limits_json).bind(row.scripted).bind(row.submitted_ms);
    query.execute(connection).await.map(drop)
}

async fn put_trials(connection: &mut SqliteConnection, sweep: &str, rows: &[TrialRow]) -> Result<(), sqlx::Error> {
    let pending = TrialState::Pending;
    let state_json = proto::convert::to_json(&pending);
    let before = "INSERT INTO trials (id, sweep, key, number, alpha, resolution, seed, parameters_json, settings_json,
                  work, mult_adds, params, epochs, replicas_min, replicas_max, stream, state, state_json) ";
    rows::put(connection, before, rows, "", |mut values, TrialRow { id, number, trial }| {
        values.push_bind(signed(id.0)).push_bind(sweep).push_bind(&trial.key).push_bind(*number);
        values.push_bind(trial.alpha).push_bind(trial.resolution).push_bind(signed(trial.seed));
        values.push_bind(&trial.parameters_json).push_bind(&trial.settings_json);
        values.push_bind(signed(trial.work)).push_bind(signed(trial.mult_adds)).push_bind(signed(trial.params));
        values.push_bind(trial.epochs);
        values.push_bind(trial.replicas.min).push_bind(trial.replicas.max);
        values.push_bind(trial.stream.map(signed)).push_bind(pending.word()).push_bind(&state_json);
    })
    .await
}

async fn clear_sweep(connection: &mut SqliteConnection, sweep: &str, outcome: &mut Outcome) -> Result<(), sqlx::Error> {
    const OF_SWEEP: [&str; 5] = [
        "DELETE FROM metrics WHERE trial IN (SELECT id FROM trials WHERE sweep = ?)",
        "DELETE FROM logs WHERE trial IN (SELECT id FROM trials WHERE sweep = ?)",
        "DELETE FROM attempts WHERE trial IN (SELECT id FROM trials WHERE sweep = ?)",
        "DELETE FROM events WHERE sweep = ?",
        "DELETE FROM trials WHERE sweep = ?",
    ];
    let gone =
        sqlx::query("DELETE FROM checkpoints WHERE trial IN (SELECT id FROM trials WHERE sweep = ?) RETURNING file");
    gather_files(&gone.bind(sweep).fetch_all(&mut *connection).await?, outcome)?;
    for statement in OF_SWEEP {
        sqlx::query(statement).bind(sweep).execute(&mut *connection).await?;
    }
    let query = sqlx::query("UPDATE sweeps SET paused = 0, asked_limit_json = NULL WHERE name = ?");
    query.bind(sweep).execute(connection).await.map(drop)
}

/// Puts it in, decides which are best and latest, and removes those that are neither. The newest one that can be
/// gone on from, which is of an epoch that was reported, always stays.
async fn put_checkpoint(
    connection: &mut SqliteConnection,
    checkpoint: &NewCheckpoint,
    outcome: &mut Outcome,
) -> Result<(), sqlx::Error> {
    let NewCheckpoint { token, epoch, step, bytes, sha256, file, best, at_ms } = checkpoint;
    let trial = signed(token.trial.0);
    // A copy that was long on its way does not take the place of a better one that came after it.
    let query = sqlx::query_scalar::<_, bool>(
        "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE trial = ? AND best AND (attempt, epoch, step) > (?, ?, ?))",
    );
    let query = query.bind(trial).bind(token.attempt).bind(epoch).bind(signed(*step));
    let best = &(*best && !query.fetch_one(&mut *connection).await?);
    if *best {
        let query = sqlx::query("UPDATE checkpoints SET best = 0 WHERE trial = ?");
        query.bind(trial).execute(&mut *connection).await?;
    }
    let query = sqlx::query_scalar::<_, i64>(
        "INSERT INTO checkpoints (trial, attempt, epoch, step, bytes, sha256, file, best, latest, saved_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)
         ON CONFLICT (trial, sha256) DO UPDATE SET attempt = excluded.attempt, best = best OR excluded.best
         RETURNING id",
    );
    let query = query.bind(trial).bind(token.attempt).bind(epoch).bind(signed(*step)).bind(signed(*bytes)).bind(sha256);
    let id = query.bind(file).bind(best).bind(at_ms).fetch_one(&mut *connection).await?;
    outcome.checkpoints.push(super::unsigned(id));
    mark_latest(connection, trial).await?;
    let query = sqlx::query(
        "DELETE FROM checkpoints WHERE trial = ?1 AND NOT latest AND NOT best AND id <> coalesce(
             (SELECT id FROM checkpoints WHERE trial = ?1 AND epoch <= (SELECT epochs_done FROM trials WHERE id = ?1)
              ORDER BY attempt DESC, epoch DESC, step DESC, id DESC LIMIT 1), 0)
         RETURNING file",
    );
    gather_files(&query.bind(trial).fetch_all(connection).await?, outcome)
}

async fn mark_latest(connection: &mut SqliteConnection, trial: i64) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "UPDATE checkpoints SET latest = id = (SELECT id FROM checkpoints WHERE trial = ?1
             ORDER BY attempt DESC, epoch DESC, step DESC, id DESC LIMIT 1)
         WHERE trial = ?1",
    );
    query.bind(trial).execute(connection).await.map(drop)
}
