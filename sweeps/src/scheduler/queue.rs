//! The order of pending trials: higher priority first, then longest work, then lowest id.

use super::Scheduler;
use super::state::Entry;
use crate::ids::TrialId;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Where trials of a sweep meet: in a stream, with so many epochs done.
pub(super) type Meeting = (u64, u32);

/// The pending trials of one sweep, longest work first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeSet<(Reverse<u64>, TrialId)>,
    work: u128,
    /// Those that have epochs behind them, and share a stream: a cohort that gets as far can take them in.
    begun: BTreeSet<(Meeting, TrialId)>,
}

impl Queue {
    pub(super) fn insert(&mut self, entry: &Entry) {
        let (work, trial) = (entry.work(), entry.record.trial.id);
        if self.order.insert((Reverse(work), trial)) {
            self.work += u128::from(work);
            self.begun.extend(begun(entry));
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        let (work, trial) = (entry.work(), entry.record.trial.id);
        if self.order.remove(&(Reverse(work), trial)) {
            self.work -= u128::from(work);
            if let Some(begun) = begun(entry) {
                self.begun.remove(&begun);
            }
        }
    }

    pub(super) fn contains(&self, entry: &Entry) -> bool {
        let is_begun = begun(entry).is_none_or(|begun| self.begun.contains(&begun));
        is_begun && self.order.contains(&(Reverse(entry.work()), entry.record.trial.id))
    }

    /// Those that a cohort can take in, where it gets as far.
    pub(super) fn begun(&self) -> impl Iterator<Item = TrialId> {
        self.begun.iter().map(|&(_, trial)| trial)
    }

    pub(super) fn begun_count(&self) -> usize {
        self.begun.len()
    }

    /// Whether one of them is there.
    pub(super) fn has_begun(&self, meeting: Meeting) -> bool {
        self.begun.range((meeting, TrialId(0))..).next().is_some_and(|(found, _)| *found == meeting)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Work of all of them.
    pub(super) fn work(&self) -> u128 {
        self.work
    }

    /// Longest first: work and trial.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, TrialId)> {
        self.order.iter().map(|&(Reverse(work), trial)| (work, trial))
    }

    /// Those of at most that work, longest first.
    pub(super) fn at_most(&self, work: u64) -> impl Iterator<Item = (u64, TrialId)> {
        self.order.range((Reverse(work), TrialId(0))..).map(|&(Reverse(work), trial)| (work, trial))
    }

    pub(super) fn shortest(&self) -> Option<TrialId> {
        self.order.last().map(|&(_, trial)| trial)
    }

    /// How many come before that one.
    pub(super) fn before(&self, work: u64, trial: TrialId) -> usize {
        self.order.range(..(Reverse(work), trial)).count()
    }
}

/// The trial's entry among those that have begun.
pub(super) fn begun(entry: &Entry) -> Option<(Meeting, TrialId)> {
    let meeting = entry.meeting().filter(|_| entry.record.epochs_done > 0);
    meeting.map(|meeting| (meeting, entry.record.trial.id))
}

/// A sweep's place among the sweeps that may run a trial now, by its first trial.
pub(super) type Turn = (Reverse<u8>, Reverse<u64>, TrialId, usize);

impl Scheduler {
    /// Puts the sweep where it belongs among those whose turn it is; after every change of its queue, its running
    /// trials, its limits or its pause.
    pub(super) fn refresh_turn(&mut self, index: usize) {
        let turn = self.turn_of(index);
        let sweep = &mut self.sweeps[index];
        if sweep.turn == turn {
            return;
        }
        if let Some(old) = sweep.turn.take() {
            self.turns.remove(&old);
        }
        if let Some(new) = turn {
            self.turns.insert(new);
            (self.assign_due, self.joins_due) = (true, true);
        }
        sweep.turn = turn;
    }

    /// Where the sweep belongs; nowhere if it has nothing to run or may not.
    pub(super) fn turn_of(&self, index: usize) -> Option<Turn> {
        let sweep = &self.sweeps[index];
        let (work, trial) = sweep.queue.iter().next()?;
        (sweep.headroom() > 0).then_some((Reverse(sweep.limits.priority), Reverse(work), trial, index))
    }

    /// The first trials in order that may run now, `limit` at most, over all sweeps: sweep, work and trial.
    /// A sweep gives no more than its queue holds; its headroom is for the caller to count.
    pub(super) fn first_pending(&self, limit: usize) -> Vec<(usize, u64, TrialId)> {
        let mut heads = self.turns.clone();
        let mut queues: Vec<_> = Vec::with_capacity(heads.len());
        let mut place_of = std::collections::BTreeMap::new();
        for &(_, _, _, index) in &self.turns {
            let mut rest = self.sweeps[index].queue.iter();
            rest.next();
            place_of.insert(index, queues.len());
            queues.push(rest);
        }
        let mut first = Vec::new();
        while first.len() < limit {
            let Some((priority, Reverse(work), trial, index)) = heads.pop_first() else { break };
            first.push((index, work, trial));
            let next = place_of.get(&index).and_then(|&place| queues[place].next());
            if let Some((work, trial)) = next {
                heads.insert((priority, Reverse(work), trial, index));
            }
        }
        first
    }
}
