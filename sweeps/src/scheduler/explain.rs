//! Why a pending trial does not run: the first reason that would have to go away.

use super::queue::Turn;
use super::{Millis, Refusal, Scheduler, TrialState, Waiting};
use crate::ids::{SlotId, TrialId};
use std::cmp::Reverse;

impl Scheduler {
    /// Why a trial does not run. Counts the trials before it: for a person's question, not for every event.
    ///
    /// # Errors
    /// When there is no such trial.
    pub fn explain(&self, _now: Millis, trial: TrialId) -> Result<Waiting, Refusal> {
        let entry = self.trials.get(&trial).ok_or(Refusal::UnknownTrial(trial))?;
        let sweep = &self.sweeps[entry.sweep];
        match entry.record.state {
            TrialState::Pending if !sweep.paused => {}
            TrialState::Pending | TrialState::Paused => return Ok(Waiting::Paused),
            TrialState::Running { .. } | TrialState::Completed | TrialState::Failed { .. } | TrialState::Cancelled => {
                return Ok(Waiting::NotWaiting);
            }
        }
        if let Some(reason) = &self.held {
            return Ok(Waiting::Held { reason: reason.clone() });
        }
        if self.workers.is_empty() {
            return Ok(Waiting::NoWorkers);
        }
        if self.fleet.slots == 0 {
            return Ok(Waiting::NoUsableWorkers);
        }
        if let (0, Some(limit)) = (sweep.headroom(), sweep.max_concurrent_trials()) {
            return Ok(Waiting::ConcurrencyLimit { limit });
        }
        if self.fleet.has_free()
            && let Some((&trial, _)) = self.starting.first_key_value()
            && !self.has_room()
        {
            return Ok(Waiting::SlotsForReplicas { trial });
        }
        if self.fleet.has_free() && self.waits_for_moves() {
            return Ok(Waiting::SlotsForMoves { trials: self.moving as u64 });
        }
        if let Some(&slot) = self.waits.get(&trial) {
            return Ok(Waiting::BetterSlotSoon { slot });
        }
        if self.fleet.has_free()
            && let Some(slot) = self.soonest_of_the_fastest()
        {
            return Ok(Waiting::BetterSlotSoon { slot });
        }
        let turn = (Reverse(sweep.limits.priority), Reverse(entry.work()), trial, entry.sweep);
        Ok(Waiting::NoFreeSlot { ahead: self.ahead(turn), slots: self.fleet.slots })
    }

    /// How many trials go before that one.
    fn ahead(&self, turn: Turn) -> u64 {
        let (priority, Reverse(work), trial, _) = turn;
        let of_sweep = |&(other, _, _, index): &Turn| {
            let queue = &self.sweeps[index].queue;
            match other.cmp(&priority) {
                std::cmp::Ordering::Less => queue.len(),
                std::cmp::Ordering::Equal => queue.before(work, trial),
                std::cmp::Ordering::Greater => 0,
            }
        };
        self.turns.iter().map(|turn| of_sweep(turn) as u64).sum()
    }

    fn soonest_of_the_fastest(&self) -> Option<SlotId> {
        let (_, slots) = self.fleet.busy.last_key_value()?;
        slots.first().map(|slot| slot.2)
    }
}
