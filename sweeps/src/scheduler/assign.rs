//! Which trial goes to which slot: longest work first, to the slot that would finish it earliest.
//!
//! With few trials pending, all of them are planned: each in turn is given, on paper, to the slot that would
//! finish it earliest, be it free now or busy and free later. What falls to a free slot is granted; what falls
//! to a busy one waits for it, so that the last worker does not finish alone. With many pending, planning them
//! all for each slot that becomes free would cost too much and change nothing: the slot takes the longest trial
//! that it would finish before all work is expected to be done.
//!
//! Waiting rests on estimates alone. Where there are none, no slot stays free: of a sweep that was never
//! measured only the relative sizes are known, which say who goes where, but nobody waits. An estimate that
//! has passed is believed less and less; and every heartbeat all is planned anew.
//!
//! Slots of replicas beyond what their trials must have count as free here, as many as pending trials could use. And what
//! falls to a busy slot whose cohort takes it in joins that cohort instead of waiting, unless one of higher priority waits.

use super::Scheduler;
use super::fleet::SPEED_ONE;
use super::plan::{Allowed, Choice, Expected, Plan};
use super::queue::Turn;
use super::state::Lease;
use crate::ids::{SlotId, TrialId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// So many pending trials are planned one by one.
pub(super) const PLANNED_MAX: usize = 256;

/// So many sweeps and trials are looked at for one slot when many are pending.
const LOOK_AHEAD: usize = 8;

impl Scheduler {
    /// Grants what can be granted, if anything changed since the last time.
    pub(super) fn assign(&mut self) {
        if !std::mem::take(&mut self.assign_due) {
            return;
        }
        self.assign_at = None;
        self.waits.clear();
        if self.held.is_some() {
            return;
        }
        self.fill_to_min();
        let waits = self.waits_for_moves();
        if waits {
            self.look_again_at(self.moving_until);
        }
        let joins = !waits && self.has_others_to_join();
        if !waits && !self.turns.is_empty() && (joins || self.fleet.has_free() || !self.surplus.is_empty()) {
            self.postpone_overdue();
            if self.pending_whose_turn_it_is() > PLANNED_MAX {
                self.make_room(self.startable().saturating_sub(self.fleet.free_count()));
            }
            // Grants make sweeps reach their limits; what is then left may be few enough to be planned.
            while self.has_room() && self.pending_whose_turn_it_is() > PLANNED_MAX {
                if !self.grant_what_fits() {
                    break;
                }
            }
            if self.pending_whose_turn_it_is() <= PLANNED_MAX {
                self.grant_as_planned();
            }
            let again_at = self.now.saturating_add(self.config.heartbeat_ms.max(1));
            if joins && self.has_others_to_join() {
                self.joins_at = again_at;
                self.look_again_at(again_at);
            }
            if !self.turns.is_empty() && (self.fleet.has_free() || !self.surplus.is_empty()) {
                self.look_again_at(again_at);
            }
        }
        self.join_idle();
        self.balance();
        (self.assign_due, self.joins_due) = (false, false);
    }

    /// Whether a pending trial may join others, where few are pending: looked at when something has changed, and once a
    /// heartbeat where that was of no use.
    fn has_others_to_join(&mut self) -> bool {
        let may = self.joins_due && self.pending_whose_turn_it_is() <= PLANNED_MAX;
        if may && self.now < self.joins_at {
            self.look_again_at(self.joins_at);
            return false;
        }
        may && self.may_join_others()
    }

    /// How many pending trials could begin, were there slots.
    pub(super) fn startable(&self) -> usize {
        let of_sweep = |turn: &Turn| self.sweeps[turn.3].queue.len().min(self.sweeps[turn.3].headroom());
        self.turns.iter().map(of_sweep).sum()
    }

    pub(super) fn pending_whose_turn_it_is(&self) -> usize {
        self.turns.iter().map(|turn| self.sweeps[turn.3].queue.len()).sum()
    }

    /// The plan for few trials.
    fn grant_as_planned(&mut self) {
        let mut headroom: BTreeMap<usize, usize> = BTreeMap::new();
        let mut grants: BTreeMap<SlotId, Vec<TrialId>> = BTreeMap::new();
        let mut waits = BTreeMap::new();
        let mut without_estimate = Vec::new();
        let mut waiting_priority = None;
        let wanted = self.startable().saturating_sub(self.fleet.free_count());
        let offered = self.pick_surplus(wanted.min(PLANNED_MAX), |_| true);
        let mut room = (self.fleet.free_count() + offered.len()).saturating_sub(self.slots_kept());
        let as_free: Vec<_> = offered.iter().map(|&(_, slot)| (self.slot_speed(slot), slot)).collect();
        let mut plan = Plan::new(&self.fleet, self.now, PLANNED_MAX, &as_free);
        let mut queue: VecDeque<_> = self.first_pending(PLANNED_MAX).into_iter().collect();
        let has_others = self.workers.values().filter(|worker| worker.is_usable()).take(2).count() == 2;
        let mut later = if has_others { queue.len() } else { 0 };
        while let Some((sweep, work, trial)) = queue.pop_front() {
            let avoid = self.trials.get(&trial).and_then(|entry| entry.avoid);
            if later > 0 && avoid.is_some_and(|worker| plan.is_free_only_on(worker)) {
                // Others first where it has just failed: either they fail there too, or it finds another place.
                later -= 1;
                queue.push_back((sweep, work, trial));
                continue;
            }
            later = later.saturating_sub(1);
            let headroom = headroom.entry(sweep).or_insert_with(|| self.sweeps[sweep].headroom());
            if *headroom == 0 {
                continue;
            }
            let expected = self.expected(sweep, work);
            let join = |slot: SlotId| {
                let is_new = self.slot(slot).is_some_and(|slot| slot.lease.as_ref().is_none_or(Lease::is_replica));
                is_new && grants.get(&slot).is_some_and(|cohort| self.may_join_cohort(cohort, trial))
            };
            let priority = self.sweeps[sweep].limits.priority;
            let comes_before = expected.is_measured && waiting_priority.is_none_or(|waiting| waiting <= priority);
            let granted = |slot: SlotId| grants.get(&slot).map_or(&[][..], Vec::as_slice);
            let beside: Vec<_> = comes_before.then(|| self.cohorts_for(trial, granted)).into_iter().flatten().collect();
            let choice = plan.assign(expected, avoid, &Allowed { free: room > 0, join: &join, beside: &beside });
            if matches!(choice, None | Some(Choice::Busy(_))) {
                waiting_priority = waiting_priority.max(Some(priority));
            }
            match choice {
                // Another may find company.
                None => {}
                Some(Choice::Free(slot)) => {
                    *headroom -= 1;
                    room = room.saturating_sub(self.slots_needed(trial));
                    grants.entry(slot).or_default().push(trial);
                }
                Some(Choice::Joined(slot)) => {
                    *headroom -= 1;
                    grants.entry(slot).or_default().push(trial);
                }
                Some(Choice::Busy(slot)) if expected.is_measured => {
                    waits.insert(trial, slot);
                }
                Some(Choice::Busy(_)) => without_estimate.push((trial, sweep)),
            }
        }
        // Slots so slow that the plan has no use for them take the least of what must not wait.
        without_estimate.retain(|(_, sweep)| headroom.get(sweep).is_some_and(|&headroom| headroom > 0));
        let mut idle = plan.into_free();
        idle.truncate(room);
        let least = without_estimate.split_off(without_estimate.len().saturating_sub(idle.len()));
        for ((trial, sweep), slot) in least.into_iter().zip(idle) {
            if let Some(headroom) = headroom.get_mut(&sweep).filter(|headroom| **headroom > 0) {
                *headroom -= 1;
                grants.entry(slot).or_default().push(trial);
            }
        }
        for (slot, cohort) in grants {
            if let Some(&(token, _)) = offered.iter().find(|&&(_, offered)| offered == slot) {
                self.release(token, "a pending trial needs its slot");
            }
            self.grant(&cohort, slot);
        }
        // Where no slot is left, that alone is the reason.
        if self.fleet.has_free() || !self.surplus.is_empty() {
            self.waits = waits;
        }
    }

    /// How long work of that sweep takes at speed 1; where nothing was measured, a guess that is good for
    /// comparing trials of the sweep, and for nothing else.
    fn expected(&self, sweep: usize, work: u64) -> Expected {
        match self.sweeps[sweep].expected_ms(work) {
            Some(ms) => Expected { ms, is_measured: true },
            None => Expected { ms: work as f64 / self.last_work_per_ms, is_measured: false },
        }
    }

    /// One grant for many trials: the fastest free slot takes the longest trial that it would finish in time.
    /// False if there is none, which is then true of slower slots too.
    fn grant_what_fits(&mut self) -> bool {
        let Some((speed, slot)) = self.fastest_free(|_| true) else { return false };
        let end_ms = self.expected_end_ms();
        let mut choice = None;
        for &(_, _, _, index) in self.turns.iter().take(LOOK_AHEAD) {
            let sweep = &self.sweeps[index];
            // The most work that the slot does until then.
            let work_per_ms = sweep.work_per_ms.unwrap_or(self.last_work_per_ms);
            let work_max = (end_ms * work_per_ms * speed as f64 / SPEED_ONE as f64) as u64;
            let welcome = |trial: &TrialId| self.trials.get(trial).is_none_or(|entry| entry.avoid != Some(slot.worker));
            let mut fitting = sweep.queue.at_most(work_max).map(|(_, trial)| trial).take(LOOK_AHEAD);
            let first = fitting.next();
            let found = first.filter(welcome).or_else(|| fitting.find(welcome)).or(first);
            choice = found.map(|trial| (trial, work_max));
            if choice.is_none() && sweep.work_per_ms.is_none() {
                choice = sweep.queue.shortest().map(|trial| (trial, work_max));
            }
            if choice.is_some() {
                break;
            }
        }
        let Some((trial, work_max)) = choice else { return false };
        let avoids = self.trials.get(&trial).and_then(|entry| entry.avoid) == Some(slot.worker);
        let elsewhere = if avoids { self.fastest_free(|other| other.worker != slot.worker) } else { None };
        let cohort = self.cohort_around(trial, work_max);
        self.grant(&cohort, elsewhere.map_or(slot, |(_, slot)| slot));
        true
    }

    /// In how long all sweeps whose turn it is could be done: all work by all slots, but at least the longest
    /// trial on a slot of mean speed.
    fn expected_end_ms(&self) -> f64 {
        let mut backlog_ms = self.fleet.busy_backlog_ms(self.now);
        let mut longest_ms: f64 = 0.0;
        for &(_, Reverse(work), _, index) in &self.turns {
            let sweep = &self.sweeps[index];
            let work_per_ms = sweep.work_per_ms.unwrap_or(self.last_work_per_ms);
            backlog_ms += sweep.queue.work() as f64 / work_per_ms;
            longest_ms = longest_ms.max(work as f64 / work_per_ms);
        }
        let together_ms = backlog_ms * SPEED_ONE as f64 / self.fleet.total_speed().max(1) as f64;
        // A little more, so that rounding does not shut the longest trial out.
        1.001 * together_ms.max(longest_ms * SPEED_ONE as f64 / self.fleet.mean_speed() as f64)
    }

    /// The fastest free slot that is allowed, with its speed.
    pub(super) fn fastest_free(&self, allowed: impl Fn(SlotId) -> bool) -> Option<(u64, SlotId)> {
        let measured = self.fleet.free.iter().map(|&(Reverse(speed), slot)| (speed, slot)).find(|&(_, s)| allowed(s));
        let unmeasured = self.fleet.free_unmeasured.iter().copied().find(|&slot| allowed(slot));
        let unmeasured = unmeasured.map(|slot| (self.fleet.mean_speed(), slot));
        match (measured, unmeasured) {
            (Some(one), Some(other)) if other.0 > one.0 => Some(other),
            (one, other) => one.or(other),
        }
    }
}
