//! The order of pending trials: higher priority first, then longest work, then lowest id.

use super::Scheduler;
use crate::ids::TrialId;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// The pending trials of one sweep, longest work first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeSet<(Reverse<u64>, TrialId)>,
    work: u128,
}

impl Queue {
    pub(super) fn insert(&mut self, work: u64, trial: TrialId) {
        if self.order.insert((Reverse(work), trial)) {
            self.work += u128::from(work);
        }
    }

    pub(super) fn remove(&mut self, work: u64, trial: TrialId) {
        if self.order.remove(&(Reverse(work), trial)) {
            self.work -= u128::from(work);
        }
    }

    pub(super) fn contains(&self, work: u64, trial: TrialId) -> bool {
        self.order.contains(&(Reverse(work), trial))
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
            self.assign_due = true;
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
