//! Changes of one kind, of many trials, gathered to be put together.
//!
//! They may be put later than changes of other trials that came after them. Whatever else there is, is not gathered,
//! and [`Groups::put`] has to come before it.

use super::rows;
use super::signed;
use super::write::{AttemptFacts, Outcome, Write, gather_files};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use sweeps::ids::{SlotId, Token, TrialId};
use sweeps::scheduler::TrialRecord;

/// In the order in which they are put.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    started: Vec<Started<'a>>,
    facts: Vec<&'a AttemptFacts>,
    trained: BTreeMap<TrialId, u64>,
    /// The last of each trial: those before it would be written over.
    records: BTreeMap<TrialId, (&'a TrialRecord, i64)>,
    ended: Vec<Ended<'a>>,
    /// By whether the best and the latest checkpoint stay.
    kept: BTreeMap<(bool, bool), Vec<i64>>,
}

#[derive(Debug)]
struct Started<'a> {
    token: Token,
    slot: SlotId,
    host: &'a str,
    device: &'a str,
    at_ms: i64,
}

#[derive(Debug)]
struct Ended<'a> {
    token: Token,
    end_json: &'a str,
    at_ms: i64,
}

impl<'a> Groups<'a> {
    /// False: it is not of a kind that is gathered.
    pub(super) fn take(&mut self, write: &'a Write) -> bool {
        match write {
            Write::AttemptStarted { token, slot, host, device, at_ms } => {
                self.started.push(Started { token: *token, slot: *slot, host, device, at_ms: *at_ms });
            }
            Write::AttemptFacts(facts) => self.facts.push(facts),
            Write::TrainTime { trial, duration_ms } => {
                let sum = self.trained.entry(*trial).or_default();
                *sum = sum.saturating_add(*duration_ms);
            }
            Write::Trial { record, at_ms } => drop(self.records.insert(record.trial.id, (record, *at_ms))),
            Write::AttemptEnded { token, end_json, at_ms } => {
                self.ended.push(Ended { token: *token, end_json, at_ms: *at_ms });
            }
            Write::KeepCheckpoints { trial, best, latest } => {
                self.kept.entry((*best, *latest)).or_default().push(signed(trial.0));
            }
            _ => return false,
        }
        true
    }

    pub(super) async fn put(self, connection: &mut SqliteConnection, outcome: &mut Outcome) -> Result<(), sqlx::Error> {
        self.put_started(connection).await?;
        self.put_facts(connection).await?;
        let trained: Vec<(TrialId, u64)> = self.trained.iter().map(|(trial, sum)| (*trial, *sum)).collect();
        let before = "UPDATE trials SET train_ms = train_ms + column2 FROM (";
        rows::put(connection, before, &trained, ") WHERE id = column1", |mut values, (trial, sum)| {
            values.push_bind(signed(trial.0)).push_bind(signed(*sum));
        })
        .await?;
        self.put_records(connection).await?;
        let before = "UPDATE attempts SET ended_ms = column3, end_json = column4 FROM (";
        let after = ") WHERE trial = column1 AND attempt = column2";
        rows::put(connection, before, &self.ended, after, |mut values, Ended { token, end_json, at_ms }| {
            values.push_bind(signed(token.trial.0)).push_bind(token.attempt).push_bind(*at_ms).push_bind(*end_json);
        })
        .await?;
        for ((best, latest), trials) in &self.kept {
            let query = sqlx::query(
                "DELETE FROM checkpoints WHERE trial IN (SELECT value FROM json_each(?))
                 AND NOT ((best AND ?) OR (latest AND ?)) RETURNING file",
            );
            let query = query.bind(proto::convert::to_json(trials)).bind(best).bind(latest);
            gather_files(&query.fetch_all(&mut *connection).await?, outcome)?;
        }
        Ok(())
    }

    async fn put_started(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let before = "INSERT INTO attempts (trial, attempt, worker, slot, host, device, started_ms) ";
        rows::put(connection, before, &self.started, "", |mut values, Started { token, slot, host, device, at_ms }| {
            values.push_bind(signed(token.trial.0)).push_bind(token.attempt).push_bind(slot.worker.to_string());
            values.push_bind(slot.index).push_bind(*host).push_bind(*device).push_bind(*at_ms);
        })
        .await?;
        let before = "UPDATE trials SET started_ms = coalesce(started_ms, column2) FROM (";
        rows::put(connection, before, &self.started, ") WHERE id = column1", |mut values, row| {
            values.push_bind(signed(row.token.trial.0)).push_bind(row.at_ms);
        })
        .await
    }

    async fn put_facts(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let before = "UPDATE attempts SET device = column3, threads = column4, instruction_set = column5,
                      libtorch = column6, resumed_epoch = column7 FROM (";
        let after = ") WHERE trial = column1 AND attempt = column2";
        rows::put(connection, before, &self.facts, after, |mut values, facts| {
            let AttemptFacts { token, device, threads, instruction_set, libtorch, resumed_epoch } = *facts;
            values.push_bind(signed(token.trial.0)).push_bind(token.attempt).push_bind(device).push_bind(*threads);
            values.push_bind(instruction_set).push_bind(libtorch).push_bind(*resumed_epoch);
        })
        .await
    }

    async fn put_records(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let records: Vec<(&TrialRecord, i64)> = self.records.values().copied().collect();
        let before = "UPDATE trials SET state = column2, state_json = column3, attempts = column4, restarts = column5,
                      losses = column6, epochs_done = column7,
                      ended_ms = CASE WHEN column8 THEN coalesce(ended_ms, column9) END,
                      replicas_started = column10, chief_address = column11 FROM (";
        rows::put(connection, before, &records, ") WHERE id = column1", |mut values, (record, at_ms)| {
            let TrialRecord { trial, sweep: _, state, attempts, restarts, losses, epochs_done, .. } = record;
            values.push_bind(signed(trial.id.0)).push_bind(state.word()).push_bind(proto::convert::to_json(state));
            values.push_bind(*attempts).push_bind(*restarts).push_bind(*losses).push_bind(*epochs_done);
            values.push_bind(state.is_over()).push_bind(*at_ms);
            values.push_bind(record.replicas_started).push_bind(record.chief_address.as_deref());
        })
        .await
    }
}
