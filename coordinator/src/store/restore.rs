//! What a starting coordinator reads back.

use super::{Store, StoreError, unsigned};
use crate::secret::{ExchangeKey, KEY_BYTES};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use sweeps::event::Happening;
use sweeps::ids::TrialId;
use sweeps::scheduler::{NewTrial, ReplicaLimits, SweepRecord, TrialRecord, TrialState};
use sweeps::spec::model::Sweep;

/// Events of no sweep that a start leaves.
const WORKER_EVENTS_MAX: u32 = 100_000;

/// All that the driver starts from.
#[derive(Debug)]
pub(crate) struct Restored {
    /// For the scheduler, in the order of submission.
    pub(crate) sweeps: Vec<SweepRecord>,
    /// The files of those sweeps, resolved.
    pub(crate) specs: Vec<Sweep>,
    /// Of running trials: the last epoch that the current attempt has reported.
    pub(crate) epochs: BTreeMap<TrialId, u32>,
    /// What happened to workers and when, oldest first.
    pub(crate) workers: Vec<(i64, Happening)>,
    /// The highest ever given.
    pub(crate) last_trial: u64,
    /// The highest ever given.
    pub(crate) last_event: u64,
}

impl Store {
    /// The key of the secrets that replicas share; drawn the first time it is asked for.
    pub(crate) async fn exchange_key(&mut self) -> Result<ExchangeKey, StoreError> {
        let query = sqlx::query_scalar::<_, Option<Vec<u8>>>("SELECT exchange_key FROM store");
        let found = query.fetch_one(self.connection().await?).await.map_err(self.error("reading its key"))?;
        if let Some(bytes) = found.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok()) {
            return Ok(ExchangeKey::new(bytes));
        }
        let mut bytes = [0; KEY_BYTES];
        let drawn = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        drawn.map_err(sqlx::Error::Io).map_err(self.error("drawing its key from /dev/urandom"))?;
        let query = sqlx::query("UPDATE store SET exchange_key = ?").bind(bytes.as_slice());
        query.execute(self.connection().await?).await.map_err(self.error("writing its key"))?;
        Ok(ExchangeKey::new(bytes))
    }

    /// Files that rows name.
    pub(crate) async fn artifact_files(&mut self) -> Result<BTreeSet<String>, StoreError> {
        let rows = sqlx::query_scalar("SELECT file FROM checkpoints").fetch_all(self.connection().await?).await;
        Ok(rows.map_err(self.error("reading its checkpoints"))?.into_iter().collect())
    }

    pub(crate) async fn restore(&mut self) -> Result<Restored, StoreError> {
        self.fill_in_values().await?;
        let query =
            sqlx::query("SELECT name, limits_json, asked_limit_json, paused, spec_json FROM sweeps ORDER BY rowid");
        let rows = query.fetch_all(self.connection().await?).await.map_err(self.error("reading its sweeps"))?;
        let mut sweeps = Vec::new();
        let mut specs = Vec::new();
        let mut place_of = BTreeMap::new();
        for row in rows {
            let name: String = self.get(&row, "name")?;
            let limits = self.json(&row, "limits_json", || format!("sweep {name}"))?;
            specs.push(self.json(&row, "spec_json", || format!("sweep {name}"))?);
            place_of.insert(name.clone(), sweeps.len());
            let asked = match self.get::<Option<String>>(&row, "asked_limit_json")? {
                Some(_) => Some(self.json(&row, "asked_limit_json", || format!("sweep {name}"))?),
                None => None,
            };
            let paused = self.get(&row, "paused")?;
            sweeps.push(SweepRecord { sweep: name, limits, asked, paused, trials: Vec::new() });
        }
        let query = sqlx::query(
            "SELECT id, sweep, work, mult_adds, epochs, state_json, attempts, restarts, losses, epochs_done,
             replicas_min, replicas_max, replicas_started, chief_address, stream
             FROM trials ORDER BY id",
        );
        let rows = query.fetch_all(self.connection().await?).await.map_err(self.error("reading its trials"))?;
        let mut epochs = BTreeMap::new();
        for row in rows {
            let record = self.trial_record(&row)?;
            if let TrialState::Running { attempt, .. } = record.state {
                epochs.insert(record.trial.id, self.last_epoch(record.trial.id, attempt).await?);
            }
            let place = place_of.get(&record.sweep).copied();
            let Some(place) = place else {
                return Err(self.damaged(format!("trial {} is of no sweep", record.trial.id)));
            };
            sweeps[place].trials.push(record);
        }
        let query = sqlx::query(
            "DELETE FROM events WHERE sweep = '' AND sequence <=
             (SELECT sequence FROM events WHERE sweep = '' ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
        );
        let pruned = query.bind(WORKER_EVENTS_MAX).execute(self.connection().await?).await;
        pruned.map_err(self.error("dropping old events"))?;
        let query =
            sqlx::query_as::<_, (i64, String)>("SELECT time_ms, json FROM events WHERE sweep = '' ORDER BY sequence");
        let rows = query.fetch_all(self.connection().await?).await.map_err(self.error("reading its events"))?;
        let workers =
            rows.iter().filter_map(|(at_ms, json)| Some((*at_ms, serde_json::from_str(json).ok()?))).collect();
        let last_trial = self.last_id("trials").await?;
        let last_event = self.last_id("events").await?;
        Ok(Restored { sweeps, specs, epochs, workers, last_trial, last_event })
    }

    fn trial_record(&self, row: &SqliteRow) -> Result<TrialRecord, StoreError> {
        let id = TrialId(unsigned(self.get(row, "id")?));
        let replicas = ReplicaLimits { min: self.get(row, "replicas_min")?, max: self.get(row, "replicas_max")? };
        let (work, mult_adds) = (unsigned(self.get(row, "work")?), unsigned(self.get(row, "mult_adds")?));
        let stream = self.get::<Option<i64>>(row, "stream")?.map(unsigned);
        let trial = NewTrial { id, work, mult_adds, epochs: self.get(row, "epochs")?, replicas, stream };
        Ok(TrialRecord {
            trial,
            sweep: self.get(row, "sweep")?,
            state: self.json(row, "state_json", || format!("trial {id}"))?,
            attempts: self.get(row, "attempts")?,
            restarts: self.get(row, "restarts")?,
            losses: self.get(row, "losses")?,
            epochs_done: self.get(row, "epochs_done")?,
            replicas_started: self.get(row, "replicas_started")?,
            chief_address: self.get(row, "chief_address")?,
        })
    }

    async fn last_epoch(&mut self, trial: TrialId, attempt: u32) -> Result<u32, StoreError> {
        let query = sqlx::query_scalar::<_, u32>(
            "SELECT coalesce(max(step), 0) FROM metrics WHERE trial = ? AND attempt = ?
             AND name IN (SELECT value FROM json_each(?))",
        );
        let query = query.bind(super::signed(trial.0)).bind(attempt).bind(super::read::epoch_metrics_json());
        query.fetch_one(self.connection().await?).await.map_err(self.error("reading its metrics"))
    }

    /// SQLite remembers it, also when the row is gone: ids are never given twice.
    async fn last_id(&mut self, table: &'static str) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?");
        let id = query.bind(table).fetch_one(self.connection().await?).await;
        id.map(unsigned).map_err(self.error("reading its last ids"))
    }

    pub(super) fn get<'r, T>(&self, row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        row.try_get(column).map_err(self.error("reading a column"))
    }

    fn json<T: DeserializeOwned>(
        &self,
        row: &SqliteRow,
        column: &'static str,
        of: impl FnOnce() -> String,
    ) -> Result<T, StoreError> {
        let text: String = self.get(row, column)?;
        serde_json::from_str(&text).map_err(|error| self.damaged(format!("{column} of {}: {error}", of())))
    }
}
