//! Checkpoints that are not what was saved: passed over, set aside, and told of.

use super::Driver;
use crate::store::{CheckpointRow, Write};
use sweeps::event::Happening;
use sweeps::ids::TrialId;

impl Driver {
    /// Whether a checkpoint's file is there and as long as its row says: a look only. Its hash is compared by whoever
    /// reads it, and a reader who finds another one leads to [`Self::set_aside`].
    pub(super) fn is_there(&mut self, row: &CheckpointRow) -> bool {
        let path = self.artifacts.path(&row.file);
        match std::fs::metadata(&path) {
            Ok(file) if i64::try_from(file.len()) == Ok(row.bytes) => true,
            Ok(file) => {
                self.set_aside(row, format!("{} has {} bytes, {} were saved", row.file, file.len(), row.bytes));
                false
            }
            // Its row stays: the disk that has it may only be away.
            Err(error) => {
                self.tell_damage(row, format!("{}: {error}", row.file));
                false
            }
        }
    }

    /// Nobody goes on from it any more. The file is kept under another name.
    pub(super) fn set_aside(&mut self, row: &CheckpointRow, problem: String) {
        if self.tell_damage(row, problem) {
            self.pending.writes.push(Write::SetAside { checkpoint: row.id, trial: row.trial });
        }
    }

    /// False if it was told before.
    fn tell_damage(&mut self, row: &CheckpointRow, problem: String) -> bool {
        let is_new = self.damaged.insert(row.id);
        let trial = TrialId(crate::store::unsigned(row.trial));
        if is_new && let Some(sweep) = self.scheduler.trial(trial).map(|record| record.sweep.clone()) {
            tracing::error!(%trial, epoch = row.epoch, problem, "a checkpoint is missing or damaged; it is passed over");
            let (attempt, epoch) = (row.attempt, row.epoch);
            self.happened(&sweep, Some(trial), &Happening::CheckpointDamaged { attempt, epoch, reason: problem });
        }
        is_new
    }
}
