//! Changes of one kind, of many trials, gathered to be put together.
//!
//! They may be put later than changes of other trials that came after them. Whatever is not [`Grouped`] has to come after
//! [`Groups::put`].

use super::rows;
use super::signed;
use super::write::{AttemptFacts, Outcome, gather_files};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use sweeps::ids::{SlotId, Token, TrialId};
use sweeps::scheduler::TrialRecord;

/// A change that waits for others of its kind.
#[derive(Debug)]
pub(crate) enum Grouped {
    Trial {
        record: TrialRecord,
        at_ms: i64,
    },
    AttemptStarted(AttemptStarted),
    AttemptFacts(Box<AttemptFacts>),
    AttemptEnded(AttemptEnded),
    TrainTime {
        trial: TrialId,
        duration_ms: u64,
    },
    /// The trial is completed: only these kinds stay.
    KeepCheckpoints {
        trial: TrialId,
        best: bool,
        latest: bool,
    },
}

#[derive(Debug)]
pub(crate) struct AttemptStarted {
    pub(crate) token: Token,
    pub(crate) slot: SlotId,
    pub(crate) host: String,
    pub(crate) device: String,
    pub(crate) at_ms: i64,
}

#[derive(Debug)]
pub(crate) struct AttemptEnded {
    pub(crate) token: Token,
    pub(crate) end_json: String,
    pub(crate) at_ms: i64,
}

/// In the order in which they are put.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    started: Vec<&'a AttemptStarted>,
    facts: Vec<&'a AttemptFacts>,
    trained: BTreeMap<TrialId, u64>,
    /// The last of each trial: those before it would be written over.
    records: BTreeMap<TrialId, (&'a TrialRecord, i64)>,
    ended: Vec<&'a AttemptEnded>,
    /// By whether the best and the latest checkpoint stay.
    kept: BTreeMap<(bool, bool), Vec<i64>>,
}

impl<'a> Groups<'a> {
    pub(super) fn add(&mut self, change: &'a Grouped) {
        match change {
            Grouped::AttemptStarted(started) => self.started.push(started),
            Grouped::AttemptFacts(facts) => self.facts.push(facts),
            Grouped::TrainTime { trial, duration_ms } => {
                let sum = self.trained.entry(*trial).or_default();
                *sum = sum.saturating_add(*duration_ms);
            }
            Grouped::Trial { record, at_ms } => drop(self.records.insert(record.trial.id, (record, *at_ms))),
            Grouped::AttemptEnded(ended) => self.ended.push(ended),
            Grouped::KeepCheckpoints { trial, best, latest } => {
                self.kept.entry((*best, *latest)).or_default().push(signed(trial.0));
            }
        }
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
        rows::put(connection, before, &self.ended, after, |mut values, ended| {
            let AttemptEnded { token, end_json, at_ms } = *ended;
            values.push_bind(signed(token.trial.0)).push_bind(token.attempt).push_bind(*at_ms).push_bind(end_json);
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
        rows::put(connection, before, &self.started, "", |mut values, started| {
            let AttemptStarted { token, slot, host, device, at_ms } = *started;
            values.push_bind(signed(token.trial.0)).push_bind(token.attempt).push_bind(slot.worker.to_string());
            values.push_bind(slot.index).push_bind(host).push_bind(device).push_bind(*at_ms);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::PricedTrial;
    use crate::store::{NewCheckpoint, Pending, Store, SweepRow, TrialRow, Write};
    use sqlx::Row;
    use sweeps::ids::WorkerId;
    use sweeps::scheduler::{NewTrial, ReplicaLimits, TrialState};

    const TRIALS: u64 = 45;
    const ONE: ReplicaLimits = ReplicaLimits { min: 1, max: 1 };

    fn sweep() -> Write {
        let text = String::new;
        Write::Sweep(Box::new(SweepRow {
            name: "s".to_owned(),
            description: text(),
            file_name: text(),
            yaml: text(),
            spec_json: "{}".to_owned(),
            fingerprint: text(),
            limits_json: "{}".to_owned(),
            scripted: true,
            submitted_ms: 1,
        }))
    }

    fn trials() -> Write {
        let row = |id| TrialRow {
            id: TrialId(id),
            number: u32::try_from(id).unwrap(),
            trial: PricedTrial {
                key: id.to_string(),
                alpha: 1.0,
                resolution: 128,
                seed: id,
                parameters_json: "{}".to_owned(),
                settings_json: "{}".to_owned(),
                epochs: 3,
                replicas: ONE,
                stream: None,
                work: 1,
                mult_adds: 1,
                params: 1,
                checkpoint_bytes: 1,
            },
        };
        Write::Trials { sweep: "s".to_owned(), rows: (1..=TRIALS).map(row).collect() }
    }

    fn record(id: u64, state: TrialState, epochs_done: u32, at_ms: i64) -> Write {
        let record = TrialRecord {
            trial: NewTrial { id: TrialId(id), work: 1, mult_adds: 1, epochs: 3, replicas: ONE, stream: None },
            sweep: "s".to_owned(),
            state,
            attempts: 1,
            restarts: 2,
            losses: 3,
            epochs_done,
            replicas_started: 0,
            chief_address: (epochs_done == 1).then(|| "here:1".to_owned()),
        };
        Write::Grouped(Grouped::Trial { record, at_ms })
    }

    /// What a trial leads to, from its lease to its end; every third is lost once before.
    fn story(id: u64) -> Vec<Write> {
        let slot = SlotId { worker: WorkerId(id), index: 0 };
        let token = |attempt| Token { trial: TrialId(id), attempt, replica: 0, incarnation: 0 };
        let running = |attempt| TrialState::Running { attempt, slot, stopping: None };
        let started = |attempt, at_ms| {
            let (host, device) = (format!("host {id}"), "cpu".to_owned());
            Write::Grouped(Grouped::AttemptStarted(AttemptStarted { token: token(attempt), slot, host, device, at_ms }))
        };
        let ended = |attempt, end: &str, at_ms| {
            Write::Grouped(Grouped::AttemptEnded(AttemptEnded {
                token: token(attempt),
                end_json: end.to_owned(),
                at_ms,
            }))
        };
        let mut writes = vec![record(id, running(1), 0, 10), started(1, 11)];
        let mut attempt = 1;
        if id.is_multiple_of(3) {
            writes.extend([record(id, TrialState::Pending, 0, 12), ended(1, "lost", 13)]);
            writes.extend([Write::ForgetUnreported { trial: TrialId(id) }, started(2, 14)]);
            writes.push(record(id, running(2), 0, 14));
            attempt = 2;
        }
        writes.push(Write::Grouped(Grouped::AttemptFacts(Box::new(AttemptFacts {
            token: token(attempt),
            device: "cpu:0".to_owned(),
            threads: 2,
            instruction_set: "avx2".to_owned(),
            libtorch: "none".to_owned(),
            resumed_epoch: 0,
        }))));
        for epoch in 1..=3 {
            writes.push(Write::Checkpoint(Box::new(NewCheckpoint {
                token: token(attempt),
                epoch,
                step: epoch.into(),
                bytes: 5,
                sha256: format!("{id} {epoch}"),
                file: format!("{id}/{epoch}"),
                best: epoch == 2,
                at_ms: 15,
            })));
            writes.push(Write::Grouped(Grouped::TrainTime { trial: TrialId(id), duration_ms: id + u64::from(epoch) }));
            writes.push(record(id, running(attempt), epoch, 16));
        }
        writes.extend([record(id, TrialState::Completed, 3, 17), ended(attempt, "completed", 18)]);
        let (best, latest) = (id.is_multiple_of(2), id.is_multiple_of(5));
        writes.push(Write::Grouped(Grouped::KeepCheckpoints { trial: TrialId(id), best, latest }));
        writes
    }

    /// Everything in the tables, and the files whose rows are gone.
    async fn left(batches: Vec<Vec<Write>>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("a.db")).await.unwrap();
        let mut left = Vec::new();
        for writes in batches {
            left.extend(store.commit(&Pending { writes, ..Pending::default() }).await.unwrap().files);
        }
        left.sort();
        for table in ["trials", "attempts", "checkpoints"] {
            let columns = sqlx::query_scalar::<_, String>("SELECT name FROM pragma_table_info(?)").bind(table);
            let columns = columns.fetch_all(store.connection().await.unwrap()).await.unwrap();
            // Which of many checkpoints got which number is no matter.
            let columns: Vec<String> =
                columns.into_iter().filter(|name| table != "checkpoints" || name != "id").collect();
            let columns = columns.iter().map(|name| format!("quote({name})")).collect::<Vec<_>>().join("||' '||");
            let query = format!("SELECT {columns} FROM {table} ORDER BY 1");
            let rows = sqlx::query(sqlx::AssertSqlSafe(query));
            let rows = rows.fetch_all(store.connection().await.unwrap()).await.unwrap();
            left.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        left
    }

    #[tokio::test]
    async fn a_batch_leaves_what_its_changes_leave_one_by_one() {
        let setting = || vec![sweep(), trials()];
        let one_by_one = (1..=TRIALS).flat_map(story).map(|write| vec![write]);
        let expected = left(std::iter::once(setting()).chain(one_by_one).collect()).await;
        // All trials at the same time: the first change of each, then the second of each, ..
        let mut stories: Vec<_> = (1..=TRIALS).map(|id| story(id).into_iter()).collect();
        let mut mixed = Vec::new();
        while stories.iter().any(|story| story.len() > 0) {
            mixed.extend(stories.iter_mut().filter_map(Iterator::next));
        }
        let found = left(vec![setting(), mixed]).await;
        assert_eq!(found, expected);
        assert!(expected.iter().any(|row| row.contains("'completed'")), "{expected:?}");
    }
}
