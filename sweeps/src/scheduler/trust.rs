//! Workers on which everything fails: a broken disk or library, a GPU that is gone. They are set aside for a while, so
//! that they do not burn through the attempts of trial after trial.
//!
//! That several trials in a row end there before a single epoch may as well be the trials' own fault. It is the
//! worker's only if another worker has finished an epoch meanwhile; else the trials are counted, and end.

use super::{Command, Millis, Scheduler, TrialState};
use crate::ids::{TrialId, WorkerId};
use std::collections::BTreeSet;

/// So many different trials in a row.
const TRIALS: usize = 3;
/// How long it is set aside, in heartbeats: at first, and at most, doubling each time.
const ASIDE_HEARTBEATS: Millis = 12;
const ASIDE_HEARTBEATS_MAX: Millis = 720;

/// What is thought of a worker.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Trials that ended there before they finished an epoch, since anything did.
    failed: BTreeSet<TrialId>,
    /// When the first of them did.
    since: Millis,
    /// When anything finished an epoch there last.
    worked_at: Option<Millis>,
    /// How often it was set aside since.
    times: u32,
    /// Until when it is set aside, and why: its entry in [`Scheduler::set_aside`].
    pub(super) aside: Option<(Millis, String)>,
}

impl Trust {
    /// Something has failed there, and nothing worked since.
    pub(super) fn is_suspect(&self) -> bool {
        !self.failed.is_empty()
    }
}

impl Scheduler {
    /// An epoch was finished there.
    pub(super) fn worked(&mut self, worker: WorkerId) {
        let now = self.now;
        let Some(known) = self.workers.get_mut(&worker) else { return };
        let was_suspect = known.trust.is_suspect();
        known.trust.failed.clear();
        known.trust.times = 0;
        known.trust.worked_at = Some(now);
        if was_suspect {
            self.refresh_slots(worker);
        }
        // Something that it had begun before: good enough.
        self.take_back(worker);
    }

    /// A trial ended there by itself, badly, before it had finished an epoch.
    pub(super) fn failed_there(&mut self, worker: WorkerId, trial: TrialId, reason: &str) {
        let now = self.now;
        let Some(known) = self.workers.get_mut(&worker) else { return };
        let trust = &mut known.trust;
        if trust.failed.is_empty() {
            trust.since = now;
        }
        trust.failed.insert(trial);
        let (may_be_its_own, since) = (trust.aside.is_some() || trust.failed.len() < TRIALS, trust.since);
        self.refresh_slots(worker);
        if may_be_its_own {
            return;
        }
        let works = |(&other, known): (&WorkerId, &super::state::Worker)| {
            other != worker && known.attached && known.trust.worked_at.is_some_and(|at| at >= since)
        };
        if !self.workers.iter().any(works) {
            return;
        }
        let Some(known) = self.workers.get_mut(&worker) else { return };
        let heartbeats = (ASIDE_HEARTBEATS << known.trust.times.min(16)).min(ASIDE_HEARTBEATS_MAX);
        let until = now.saturating_add(heartbeats.saturating_mul(self.config.heartbeat_ms.max(1)));
        known.trust.times = known.trust.times.saturating_add(1);
        let reason = format!(
            "{} trials in a row ended there before they had finished an epoch, and other workers work; the last one: \
             {reason}",
            known.trust.failed.len()
        );
        known.trust.aside = Some((until, reason.clone()));
        // Once it may work again, one more that fails is enough.
        let failed = std::mem::take(&mut known.trust.failed);
        known.trust.failed = failed.iter().copied().take(TRIALS - 1).collect();
        self.set_aside.insert((until, worker));
        self.forgive(&failed);
        self.release_of_worker(worker, "its worker is set aside");
        self.refresh_slots(worker);
        self.outbox.actions.push(Command::WorkerSetAside { worker, reason });
    }

    /// They are not to blame: what is not over yet has one crash less.
    fn forgive(&mut self, trials: &BTreeSet<TrialId>) {
        for trial in trials {
            let Some(entry) = self.trials.get_mut(trial) else { continue };
            if entry.record.state == TrialState::Pending && entry.record.restarts > 0 {
                entry.record.restarts -= 1;
                self.outbox.touched.insert(*trial);
            }
        }
    }

    /// Those whose time is over are tried again.
    pub(super) fn end_set_aside(&mut self) {
        while let Some(&(until, worker)) = self.set_aside.first()
            && until <= self.now
        {
            self.take_back(worker);
        }
    }

    fn take_back(&mut self, worker: WorkerId) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        if let Some((until, _)) = known.trust.aside.take() {
            self.set_aside.remove(&(until, worker));
            self.refresh_slots(worker);
        }
    }
}
