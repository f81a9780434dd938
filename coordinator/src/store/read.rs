//! Answers for clients, read beside the writer; and what the driver itself looks up.

use super::{Store, StoreError, signed, unsigned, values};
use proto::wire;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, Sqlite, SqlitePool, Transaction};
use std::collections::BTreeMap;
use sweeps::ids::TrialId;
use sweeps::metrics::{Axis, METRICS};
use sweeps::scheduler::{AskedLimit, AttemptEnd, SweepLimits, TrialState};

/// Names of the metrics that have a value an epoch, as a JSON list for `json_each`.
pub(super) fn epoch_metrics_json() -> String {
    let names = METRICS.iter().filter(|metric| metric.axis == Axis::Epoch).map(|metric| metric.name);
    proto::convert::to_json(&names.collect::<Vec<_>>())
}

/// Connections that only read.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pool: SqlitePool,
}

/// Where a page of metrics begins: after this name and step.
pub(crate) type MetricsCursor = (String, i64);

/// A checkpoint as the store has it.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct CheckpointRow {
    pub(crate) id: i64,
    pub(crate) trial: i64,
    pub(crate) attempt: u32,
    pub(crate) epoch: u32,
    pub(crate) step: i64,
    pub(crate) bytes: i64,
    pub(crate) sha256: String,
    pub(crate) file: String,
    pub(crate) best: bool,
    pub(crate) latest: bool,
}

impl From<CheckpointRow> for wire::Checkpoint {
    fn from(row: CheckpointRow) -> Self {
        Self {
            id: unsigned(row.id),
            trial: unsigned(row.trial),
            attempt: row.attempt,
            epoch: row.epoch,
            step: unsigned(row.step),
            bytes: unsigned(row.bytes),
            sha256: row.sha256,
            best: row.best,
            latest: row.latest,
        }
    }
}

impl Reader {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    pub(crate) async fn sweep_names(&self) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT name FROM sweeps ORDER BY name").fetch_all(&self.pool).await
    }

    pub(crate) async fn summaries(&self) -> Result<Vec<wire::SweepSummary>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query(
            // As submitted: the clock may have been set back since.
            "SELECT name, description, scripted, paused, submitted_ms, limits_json, asked_limit_json FROM sweeps
             ORDER BY rowid",
        );
        let mut summaries = Vec::new();
        for row in rows.fetch_all(&mut *transaction).await? {
            summaries.push(summary(&mut transaction, &row).await?);
        }
        Ok(summaries)
    }

    /// A sweep and its trials, all of one moment, with these metrics, or with all of an epoch if none is named; `None`
    /// if there is no such sweep.
    pub(crate) async fn status(
        &self,
        sweep: &str,
        (metrics, metrics_last): (&[String], &[String]),
    ) -> Result<Option<wire::StatusReply>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let query = sqlx::query(
            "SELECT name, description, scripted, paused, submitted_ms, limits_json, asked_limit_json, yaml, spec_json
             FROM sweeps WHERE name = ?",
        );
        let Some(row) = query.bind(sweep).fetch_optional(&mut *transaction).await? else { return Ok(None) };
        let summary = summary(&mut transaction, &row).await?;
        let sequence: i64 =
            sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM events").fetch_one(&mut *transaction).await?;
        let metrics_last = if metrics_last.is_empty() { metrics } else { metrics_last };
        let mut trials = Vec::new();
        for row in sqlx::query(TRIALS).bind(sweep).fetch_all(&mut *transaction).await? {
            let mut trial = trial_status(&row, summary.scripted)?;
            trial.best = values::read(row.try_get("best_json")?, metrics);
            trial.last = values::read(row.try_get("last_json")?, metrics_last);
            trials.push(trial);
        }
        Ok(Some(wire::StatusReply {
            summary: Some(summary),
            yaml: row.try_get("yaml")?,
            spec_json: row.try_get("spec_json")?,
            trials,
            sequence: unsigned(sequence),
        }))
    }

    /// Events after a sequence number, at most `limit`; of all sweeps if `sweep` is empty, with those of no sweep if
    /// `workers`.
    pub(crate) async fn events(
        &self,
        sweep: &str,
        workers: bool,
        after: u64,
        limit: u32,
    ) -> Result<Vec<wire::Event>, sqlx::Error> {
        let statement = match (sweep.is_empty(), workers) {
            (true, _) => "SELECT * FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            (false, false) => "SELECT * FROM events WHERE sweep = ?3 AND sequence > ?1 ORDER BY sequence LIMIT ?2",
            (false, true) => EVENTS_WITH_WORKERS,
        };
        let mut query = sqlx::query(statement).bind(signed(after)).bind(limit);
        if !sweep.is_empty() {
            query = query.bind(sweep);
        }
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                Ok(wire::Event {
                    sequence: unsigned(row.try_get("sequence")?),
                    time_ms: unsigned(row.try_get("time_ms")?),
                    sweep: row.try_get("sweep")?,
                    trial: row.try_get::<Option<i64>, _>("trial")?.map(unsigned),
                    json: row.try_get("json")?,
                })
            })
            .collect()
    }

    /// The sequence number after which at most `last` of the same events follow.
    pub(crate) async fn before_last(&self, sweep: &str, workers: bool, last: u32) -> Result<u64, sqlx::Error> {
        let statement = match (sweep.is_empty(), workers) {
            (true, _) => "SELECT sequence FROM events ORDER BY sequence DESC LIMIT 1 OFFSET ?1",
            (false, false) => "SELECT sequence FROM events WHERE sweep = ?2 ORDER BY sequence DESC LIMIT 1 OFFSET ?1",
            (false, true) => BEFORE_LAST_WITH_WORKERS,
        };
        let mut query = sqlx::query_scalar::<_, i64>(statement).bind(last);
        if !sweep.is_empty() {
            query = query.bind(sweep);
        }
        Ok(query.fetch_optional(&self.pool).await?.map_or(0, unsigned))
    }

    /// Whether nothing is left to do in a sweep, or in all of them if `sweep` is empty.
    pub(crate) async fn is_over(&self, sweep: &str) -> Result<bool, sqlx::Error> {
        let query = if sweep.is_empty() {
            sqlx::query_scalar(
                "SELECT NOT EXISTS (SELECT 1 FROM trials WHERE state IN ('pending', 'running', 'paused'))",
            )
        } else {
            sqlx::query_scalar(
                "SELECT NOT EXISTS (SELECT 1 FROM trials WHERE sweep = ? AND state IN ('pending', 'running', 'paused'))",
            )
            .bind(sweep)
        };
        query.fetch_one(&self.pool).await
    }

    pub(crate) async fn trial_is_over(&self, trial: u64) -> Result<Option<bool>, sqlx::Error> {
        let query = sqlx::query_scalar("SELECT state NOT IN ('pending', 'running', 'paused') FROM trials WHERE id = ?");
        query.bind(signed(trial)).fetch_optional(&self.pool).await
    }

    pub(crate) async fn trial_ids(&self, sweep: &str) -> Result<Vec<u64>, sqlx::Error> {
        let query = sqlx::query_scalar::<_, i64>("SELECT id FROM trials WHERE sweep = ? ORDER BY number, id");
        Ok(query.bind(sweep).fetch_all(&self.pool).await?.into_iter().map(unsigned).collect())
    }

    /// A trial's sweep, α, ρ, and host and device of its newest attempt with its beginning.
    pub(crate) async fn trial_place(&self, trial: u64) -> Result<Option<TrialPlace>, sqlx::Error> {
        let query = sqlx::query_as(
            "SELECT t.number, t.alpha, t.resolution, a.host, a.device, a.started_ms
             FROM trials AS t LEFT JOIN attempts AS a ON a.trial = t.id AND a.attempt = t.attempts WHERE t.id = ?",
        );
        query.bind(signed(trial)).fetch_optional(&self.pool).await
    }

    /// Points of a trial after a place, at most `limit`, by name and step; only of the names in a JSON list, if any.
    pub(crate) async fn metrics(
        &self,
        trial: u64,
        names_json: Option<&str>,
        after: &MetricsCursor,
        limit: u32,
    ) -> Result<Vec<wire::MetricPoint>, sqlx::Error> {
        let query = sqlx::query_as::<_, (String, i64, u32, f64)>(
            // Of each group the value that stands beside the largest attempt, as SQLite promises.
            "SELECT name, step, max(attempt), value FROM metrics
             WHERE trial = ?1 AND (name, step) > (?2, ?3)
             AND (?4 IS NULL OR name IN (SELECT value FROM json_each(?4)))
             GROUP BY name, step ORDER BY name, step LIMIT ?5",
        );
        let query = query.bind(signed(trial)).bind(&after.0).bind(after.1).bind(names_json).bind(limit);
        let rows = query.fetch_all(&self.pool).await?;
        let point =
            |(name, step, attempt, value)| wire::MetricPoint { trial, attempt, name, step: unsigned(step), value };
        Ok(rows.into_iter().map(point).collect())
    }

    /// Lines of a trial's log after a row, at most `limit`, and the row of the last one.
    pub(crate) async fn logs(
        &self,
        trial: u64,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<wire::LogLine>, i64), sqlx::Error> {
        let query = sqlx::query_as::<_, (i64, u32, i64, String)>(
            "SELECT id, attempt, time_ms, text FROM logs WHERE trial = ? AND id > ? ORDER BY id LIMIT ?",
        );
        let rows = query.bind(signed(trial)).bind(after).bind(limit).fetch_all(&self.pool).await?;
        let last = rows.last().map_or(after, |row| row.0);
        let line = |(_, attempt, time_ms, text)| wire::LogLine { attempt, time_ms: unsigned(time_ms), text };
        Ok((rows.into_iter().map(line).collect(), last))
    }

    /// All attempts at a trial, oldest first.
    pub(crate) async fn attempts(&self, trial: u64) -> Result<Vec<wire::AttemptStatus>, sqlx::Error> {
        let query = sqlx::query("SELECT * FROM attempts WHERE trial = ? ORDER BY attempt").bind(signed(trial));
        query.fetch_all(&self.pool).await?.iter().map(attempt_status).collect()
    }

    /// All attempts at the trials of a sweep, by trial, oldest first.
    pub(crate) async fn sweep_attempts(&self, sweep: &str) -> Result<Vec<wire::AttemptStatus>, sqlx::Error> {
        let query = sqlx::query(
            "SELECT a.* FROM trials AS t JOIN attempts AS a ON a.trial = t.id WHERE t.sweep = ?
             ORDER BY a.trial, a.attempt",
        );
        query.bind(sweep).fetch_all(&self.pool).await?.iter().map(attempt_status).collect()
    }

    pub(crate) async fn checkpoints(&self, trial: u64) -> Result<Vec<CheckpointRow>, sqlx::Error> {
        let query = sqlx::query_as("SELECT * FROM checkpoints WHERE trial = ? ORDER BY id");
        query.bind(signed(trial)).fetch_all(&self.pool).await
    }

    /// Whether a checkpoint lies there.
    pub(crate) async fn has_file(&self, file: &str) -> Result<bool, sqlx::Error> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM checkpoints WHERE file = ?)");
        query.bind(file).fetch_one(&self.pool).await
    }

    pub(crate) async fn checkpoint(&self, id: u64) -> Result<Option<CheckpointRow>, sqlx::Error> {
        let query = sqlx::query_as("SELECT * FROM checkpoints WHERE id = ?");
        query.bind(signed(id)).fetch_optional(&self.pool).await
    }
}

/// What to say of a trial besides what the scheduler knows.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct TrialPlace {
    pub(crate) number: u32,
    pub(crate) alpha: f64,
    pub(crate) resolution: u32,
    pub(crate) host: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) started_ms: Option<i64>,
}

async fn summary(
    transaction: &mut Transaction<'_, Sqlite>,
    row: &SqliteRow,
) -> Result<wire::SweepSummary, sqlx::Error> {
    let name: String = row.try_get("name")?;
    // As floating point: work can be larger than 64 bits hold.
    let query = sqlx::query_as::<_, (String, i64, f64, f64)>(
        "SELECT state, count(*), sum(1.0 * work * epochs), sum(1.0 * work * epochs_done)
         FROM trials WHERE sweep = ? GROUP BY state",
    );
    let mut counts = wire::Counts::default();
    let (mut work, mut done) = (0.0, 0.0);
    for (state, count, state_work, state_done) in query.bind(&name).fetch_all(&mut **transaction).await? {
        let counter = match state.as_str() {
            "running" => &mut counts.running,
            "paused" => &mut counts.paused,
            "completed" => &mut counts.completed,
            "failed" => &mut counts.failed,
            "cancelled" => &mut counts.cancelled,
            _ => &mut counts.pending,
        };
        *counter += unsigned(count);
        work += state_work;
        done += state_done;
    }
    let limits = row.try_get::<String, _>("limits_json").map(|json| serde_json::from_str::<SweepLimits>(&json).ok())?;
    let asked = row.try_get::<Option<String>, _>("asked_limit_json")?;
    let asked = asked.and_then(|json| serde_json::from_str::<AskedLimit>(&json).ok());
    let files = limits.and_then(|limits| limits.max_concurrent_trials);
    let limit = asked.map_or(files, |asked| asked.max_concurrent_trials);
    Ok(wire::SweepSummary {
        name,
        description: row.try_get("description")?,
        scripted: row.try_get("scripted")?,
        paused: row.try_get("paused")?,
        submitted_ms: unsigned(row.try_get("submitted_ms")?),
        counts: Some(counts),
        progress: if work > 0.0 { done / work } else { 0.0 },
        max_concurrent_trials: limit,
        limit_asked: asked.is_some(),
    })
}

// Only the newest attempt can be without an end. Not `t.*`: settings are long.
const TRIALS: &str = "
    SELECT t.id, t.key, t.number, t.alpha, t.resolution, t.seed, t.parameters_json, t.mult_adds, t.params, t.epochs,
           t.epochs_done, t.state, t.state_json, t.attempts, t.best_epoch, t.best_json, t.last_json, t.train_ms,
           t.started_ms, t.ended_ms, a.host, a.device,
           coalesce(a.end_json, (SELECT end_json FROM attempts WHERE trial = t.id AND attempt = t.attempts - 1))
               AS end_json
    FROM trials AS t LEFT JOIN attempts AS a ON a.trial = t.id AND a.attempt = t.attempts
    WHERE t.sweep = ? ORDER BY t.number, t.id";

// Both halves come out of the index in order, and no more than needed of each.
const EVENTS_WITH_WORKERS: &str = "
    SELECT * FROM (SELECT * FROM events WHERE sweep = ?3 AND sequence > ?1 ORDER BY sequence LIMIT ?2)
    UNION ALL
    SELECT * FROM (SELECT * FROM events WHERE sweep = '' AND sequence > ?1 ORDER BY sequence LIMIT ?2)
    ORDER BY sequence LIMIT ?2";
const BEFORE_LAST_WITH_WORKERS: &str = "
    SELECT sequence FROM (SELECT sequence FROM events WHERE sweep = ?2 ORDER BY sequence DESC LIMIT ?1 + 1)
    UNION ALL
    SELECT sequence FROM (SELECT sequence FROM events WHERE sweep = '' ORDER BY sequence DESC LIMIT ?1 + 1)
    ORDER BY sequence DESC LIMIT 1 OFFSET ?1";

fn trial_status(row: &SqliteRow, scripted: bool) -> Result<wire::TrialStatus, sqlx::Error> {
    let state_json: String = row.try_get("state_json")?;
    let end_json: Option<String> = row.try_get("end_json")?;
    let time = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map_or(0, unsigned));
    Ok(wire::TrialStatus {
        id: unsigned(row.try_get("id")?),
        key: row.try_get("key")?,
        number: row.try_get("number")?,
        alpha: row.try_get("alpha")?,
        resolution: row.try_get("resolution")?,
        seed: unsigned(row.try_get("seed")?),
        parameters_json: row.try_get("parameters_json")?,
        mult_adds: unsigned(row.try_get("mult_adds")?),
        params: unsigned(row.try_get("params")?),
        epochs: row.try_get("epochs")?,
        epochs_done: row.try_get("epochs_done")?,
        state: row.try_get("state")?,
        reason: reason(&state_json, end_json.as_deref()),
        attempts: row.try_get("attempts")?,
        worker: row.try_get::<Option<String>, _>("host")?.unwrap_or_default(),
        device: row.try_get::<Option<String>, _>("device")?.unwrap_or_default(),
        best_epoch: row.try_get("best_epoch")?,
        best: BTreeMap::new(),
        last: BTreeMap::new(),
        started_ms: time("started_ms")?,
        ended_ms: time("ended_ms")?,
        scripted,
        train_seconds: row.try_get::<i64, _>("train_ms")? as f64 / 1000.0,
        replicas: 0,
    })
}

fn attempt_status(row: &SqliteRow) -> Result<wire::AttemptStatus, sqlx::Error> {
    Ok(wire::AttemptStatus {
        trial: unsigned(row.try_get("trial")?),
        attempt: row.try_get("attempt")?,
        // As we write it: sixteen hexadecimal digits.
        worker: u64::from_str_radix(row.try_get("worker")?, 16).unwrap_or(0),
        host: row.try_get("host")?,
        device: row.try_get("device")?,
        threads: row.try_get::<Option<u32>, _>("threads")?.unwrap_or(0),
        instruction_set: row.try_get::<Option<String>, _>("instruction_set")?.unwrap_or_default(),
        libtorch: row.try_get::<Option<String>, _>("libtorch")?.unwrap_or_default(),
        started_ms: unsigned(row.try_get("started_ms")?),
        ended_ms: row.try_get::<Option<i64>, _>("ended_ms")?.map_or(0, unsigned),
        end_json: row.try_get::<Option<String>, _>("end_json")?.unwrap_or_default(),
        resumed_epoch: row.try_get::<Option<u32>, _>("resumed_epoch")?.unwrap_or(0),
    })
}

/// Why a trial failed; else how its last ended attempt ended, if that was not as wished.
fn reason(state_json: &str, end_json: Option<&str>) -> String {
    if let Ok(TrialState::Failed { reason }) = serde_json::from_str(state_json) {
        return reason;
    }
    let end = end_json.and_then(|json| serde_json::from_str::<AttemptEnd>(json).ok());
    end.as_ref().and_then(AttemptEnd::reason).unwrap_or_default().to_owned()
}

/// A sweep that is already there.
#[derive(Debug)]
pub(crate) struct StoredSweep {
    pub(crate) fingerprint: String,
    pub(crate) spec_json: String,
    /// Keys of its trials.
    pub(crate) keys: BTreeMap<String, TrialId>,
    /// The highest place given.
    pub(crate) last_number: u32,
}

/// What a worker must be given with a lease, besides the token.
#[derive(Debug)]
pub(crate) struct GrantDetails {
    pub(crate) sweep: String,
    pub(crate) settings_json: String,
    /// Of the first attempt that got so far.
    pub(crate) threads: Option<u32>,
    /// What the trial can go on from, newest first.
    pub(crate) checkpoints: Vec<CheckpointRow>,
}

/// How many checkpoints to offer, should a file be missing.
const CHECKPOINTS_OFFERED: usize = 3;

impl Store {
    /// As the last transaction left it.
    pub(crate) async fn sweep(&mut self, name: &str) -> Result<Option<StoredSweep>, StoreError> {
        let query = sqlx::query_as::<_, (String, String)>("SELECT fingerprint, spec_json FROM sweeps WHERE name = ?");
        let row = query.bind(name).fetch_optional(self.connection().await?).await;
        let Some((fingerprint, spec_json)) = row.map_err(self.error("reading a sweep"))? else { return Ok(None) };
        let query = sqlx::query_as::<_, (String, i64, u32)>("SELECT key, id, number FROM trials WHERE sweep = ?");
        let rows = query.bind(name).fetch_all(self.connection().await?).await;
        let rows = rows.map_err(self.error("reading a sweep's trials"))?;
        let last_number = rows.iter().map(|row| row.2).max().unwrap_or(0);
        let keys = rows.into_iter().map(|(key, id, _)| (key, TrialId(unsigned(id)))).collect();
        Ok(Some(StoredSweep { fingerprint, spec_json, keys, last_number }))
    }

    /// As the last transaction left it, of those trials that there are.
    pub(crate) async fn grant_details(
        &mut self,
        trials: &[TrialId],
    ) -> Result<BTreeMap<TrialId, GrantDetails>, StoreError> {
        if trials.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids = proto::convert::to_json(&trials.iter().map(|trial| signed(trial.0)).collect::<Vec<_>>());
        let query = sqlx::query_as::<_, (i64, String, String, Option<u32>)>(
            "SELECT id, sweep, settings_json,
             (SELECT threads FROM attempts WHERE trial = id AND threads > 0 ORDER BY attempt LIMIT 1)
             FROM trials WHERE id IN (SELECT value FROM json_each(?))",
        );
        let rows = query.bind(&ids).fetch_all(self.connection().await?).await.map_err(self.error("reading trials"))?;
        let details = |(id, sweep, settings_json, threads): (i64, String, String, Option<u32>)| {
            (TrialId(unsigned(id)), GrantDetails { sweep, settings_json, threads, checkpoints: Vec::new() })
        };
        let mut details: BTreeMap<TrialId, GrantDetails> = rows.into_iter().map(details).collect();
        let query = sqlx::query_as::<_, CheckpointRow>(
            "SELECT * FROM checkpoints WHERE trial IN (SELECT value FROM json_each(?))
             AND epoch <= (SELECT epochs_done FROM trials WHERE id = trial)
             ORDER BY trial, attempt DESC, epoch DESC, step DESC, id DESC",
        );
        let checkpoints = query.bind(&ids).fetch_all(self.connection().await?).await;
        for row in checkpoints.map_err(self.error("reading checkpoints"))? {
            let of_trial = details.get_mut(&TrialId(unsigned(row.trial)));
            if let Some(of_trial) = of_trial.filter(|of_trial| of_trial.checkpoints.len() < CHECKPOINTS_OFFERED) {
                of_trial.checkpoints.push(row);
            }
        }
        Ok(details)
    }
}
