//! Which trial goes to which slot: longest work first, to the slot that would finish it earliest.
//!
//! With few trials pending, all of them are planned: each in turn is given, on paper, to the slot that would
//! finish it earliest, be it free now or busy and free later. What falls to a free slot is granted; what falls
//! to a busy one waits for it, so that the last worker does not finish alone. With many pending, planning them
//! all for each slot that becomes free would cost too much and change nothing: the slot takes the longest trial
//! that it would finish before all work is expected to be done.
//!
//! Waiting rests on estimates alone. Where there are none, a free slot is used at once; an estimate that has
//! passed is believed less and less; and every heartbeat all is planned anew.

use super::Scheduler;
use super::fleet::{BusySlot, Fleet, SpeedClass, duration_ms};
use crate::ids::{SlotId, TrialId, WorkerId};
use std::cmp::Reverse;
use std::collections::btree_set::Iter;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

/// So many pending trials are planned one by one.
const PLANNED_MAX: usize = 256;

/// A busy slot is worth waiting for only if it finishes the trial in less than this share of the time that the
/// best free slot would take: estimates are not exact, and a slot at work is worth more than one that waits.
const WORTH_WAITING: f64 = 0.95;

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
        if !self.fleet.has_free() || self.turns.is_empty() {
            return;
        }
        self.postpone_overdue();
        // Grants make sweeps reach their limits; what is then left may be few enough to be planned.
        while self.fleet.has_free() && self.pending_whose_turn_it_is() > PLANNED_MAX {
            if !self.grant_what_fits() {
                break;
            }
        }
        if self.pending_whose_turn_it_is() <= PLANNED_MAX {
            self.grant_as_planned();
        }
        if self.fleet.has_free() && !self.turns.is_empty() {
            self.assign_at = Some(self.now.saturating_add(self.config.heartbeat_ms.max(1)));
        }
        self.assign_due = false;
    }

    fn pending_whose_turn_it_is(&self) -> usize {
        self.turns.iter().map(|turn| self.sweeps[turn.3].queue.len()).sum()
    }

    /// The plan for few trials.
    fn grant_as_planned(&mut self) {
        let mut headroom: BTreeMap<usize, usize> = BTreeMap::new();
        let mut grants = Vec::new();
        let mut waits = BTreeMap::new();
        let mut plan = Plan::new(&self.fleet, self.now);
        for (sweep, work, trial) in self.first_pending(PLANNED_MAX) {
            if plan.free.is_empty() {
                break;
            }
            let headroom = headroom.entry(sweep).or_insert_with(|| self.sweeps[sweep].headroom());
            if *headroom == 0 {
                continue;
            }
            let avoid = self.trials.get(&trial).and_then(|entry| entry.avoid);
            match plan.assign(self.sweeps[sweep].expected_ms(work), avoid) {
                Some(Choice::Free(slot)) => {
                    *headroom -= 1;
                    grants.push((trial, slot));
                }
                Some(Choice::Busy(slot)) => {
                    waits.insert(trial, slot);
                }
                None => break,
            }
        }
        for (trial, slot) in grants {
            self.grant(trial, slot);
        }
        self.waits = waits;
    }

    /// One grant for many trials: the fastest free slot takes the longest trial that it would finish in time.
    /// False if there is none, which is then true of slower slots too.
    fn grant_what_fits(&mut self) -> bool {
        let Some((speed, slot)) = self.fastest_free(None) else { return false };
        let end_ms = self.expected_end_ms();
        let mut choice = None;
        for &(_, _, _, index) in self.turns.iter().take(LOOK_AHEAD) {
            let sweep = &self.sweeps[index];
            // The most work that the slot does until then.
            let work_max = match sweep.work_per_ms {
                None => u64::MAX,
                Some(work_per_ms) => (end_ms * work_per_ms * speed as f64 / super::fleet::SPEED_ONE as f64) as u64,
            };
            let welcome = |trial: &TrialId| self.trials.get(trial).is_none_or(|entry| entry.avoid != Some(slot.worker));
            let mut fitting = sweep.queue.at_most(work_max).map(|(_, trial)| trial).take(LOOK_AHEAD);
            let first = fitting.next();
            choice = first.filter(welcome).or_else(|| fitting.find(welcome)).or(first);
            if choice.is_some() {
                break;
            }
        }
        let Some(trial) = choice else { return false };
        let avoids = self.trials.get(&trial).and_then(|entry| entry.avoid) == Some(slot.worker);
        let elsewhere = if avoids { self.fastest_free(Some(slot.worker)) } else { None };
        self.grant(trial, elsewhere.map_or(slot, |(_, slot)| slot));
        true
    }

    /// In how long all sweeps whose turn it is could be done: all work by all slots, but at least the longest
    /// trial on a slot of mean speed. Infinite while nothing is measured.
    fn expected_end_ms(&self) -> f64 {
        let speed_one = super::fleet::SPEED_ONE as f64;
        let mut backlog_ms = self.fleet.busy_backlog_ms(self.now);
        let mut longest_ms: f64 = 0.0;
        for &(_, Reverse(work), _, index) in &self.turns {
            let sweep = &self.sweeps[index];
            let Some(work_per_ms) = sweep.work_per_ms else { return f64::INFINITY };
            backlog_ms += sweep.queue.work() as f64 / work_per_ms;
            longest_ms = longest_ms.max(work as f64 / work_per_ms);
        }
        let together_ms = backlog_ms * speed_one / self.fleet.total_speed().max(1) as f64;
        // A little more, so that rounding does not shut the longest trial out.
        1.001 * together_ms.max(longest_ms * speed_one / self.fleet.mean_speed() as f64)
    }

    /// The fastest free slot, not of that worker, with its speed.
    fn fastest_free(&self, avoid: Option<WorkerId>) -> Option<(u64, SlotId)> {
        let allowed = |slot: &SlotId| Some(slot.worker) != avoid;
        let measured = self.fleet.free.iter().map(|&(Reverse(speed), slot)| (speed, slot)).find(|(_, s)| allowed(s));
        let unmeasured = self.fleet.free_unmeasured.iter().copied().find(allowed);
        let unmeasured = unmeasured.map(|slot| (self.fleet.mean_speed(), slot));
        match (measured, unmeasured) {
            (Some(one), Some(other)) if other.0 > one.0 => Some(other),
            (one, other) => one.or(other),
        }
    }
}

enum Choice {
    Free(SlotId),
    Busy(SlotId),
}

/// A plan on paper: the fleet, and what was given to it so far. The fleet itself is not copied: what changed
/// lies beside it.
struct Plan<'a> {
    now: u64,
    mean_speed: u64,
    /// Fastest first, with the speed to reckon with.
    free: BTreeSet<(Reverse<u64>, SlotId)>,
    /// By class: what the fleet has, soonest free first, from the first that nothing was given to.
    busy: BTreeMap<SpeedClass, Peekable<Iter<'a, BusySlot>>>,
    /// By class: slots that were given something, with their new ends.
    given: BTreeMap<SpeedClass, BTreeSet<BusySlot>>,
}

/// Classes of `given` for slots that were free.
const WAS_FREE: SpeedClass = SpeedClass::MAX;

impl<'a> Plan<'a> {
    fn new(fleet: &'a Fleet, now: u64) -> Self {
        let mean_speed = fleet.mean_speed();
        // A plan gives something to each free slot it uses: more than it has trials are of no use.
        let mut free: BTreeSet<_> = fleet.free.iter().take(PLANNED_MAX * 2).copied().collect();
        free.extend(fleet.free_unmeasured.iter().take(PLANNED_MAX * 2).map(|&slot| (Reverse(mean_speed), slot)));
        let busy = fleet.busy.iter().map(|(&class, slots)| (class, slots.iter().peekable())).collect();
        Self { now, mean_speed, free, busy, given: BTreeMap::new() }
    }

    /// Gives a trial to the slot that would finish it earliest; `None` if no slot is free.
    fn assign(&mut self, expected_ms: Option<f64>, avoid: Option<WorkerId>) -> Option<Choice> {
        let fastest = *self.free.first()?;
        // Somebody else than where it crashed, if somebody else is free.
        let elsewhere = self.free.iter().find(|(_, slot)| Some(slot.worker) != avoid).copied();
        let avoid = avoid.filter(|_| elsewhere.is_some());
        let (Reverse(speed), slot) = elsewhere.unwrap_or(fastest);
        let Some(expected_ms) = expected_ms else {
            self.free.remove(&(Reverse(speed), slot));
            return Some(Choice::Free(slot));
        };
        let free_ms = duration_ms(expected_ms, speed);
        if let Some((end, class, chosen)) = self.best_busy(expected_ms, avoid)
            && (end.saturating_sub(self.now) as f64) < free_ms as f64 * WORTH_WAITING
        {
            self.give(class, chosen, end);
            return Some(Choice::Busy(chosen.2));
        }
        self.free.remove(&(Reverse(speed), slot));
        let end = self.now.saturating_add(free_ms);
        self.given.entry(WAS_FREE).or_default().insert((end, speed, slot));
        Some(Choice::Free(slot))
    }

    /// The busy slot that would finish it earliest: when, and which. Within a class, whose speeds are nearly the
    /// same, that is the first to be free.
    fn best_busy(&mut self, expected_ms: f64, avoid: Option<WorkerId>) -> Option<(u64, SpeedClass, BusySlot)> {
        let mean_speed = self.mean_speed;
        let mut best: Option<(u64, SpeedClass, BusySlot)> = None;
        let mut consider = |class: SpeedClass, slot: BusySlot| {
            let speed = if slot.1 == 0 { mean_speed } else { slot.1 };
            let end = slot.0.saturating_add(duration_ms(expected_ms, speed));
            if best.is_none_or(|(best_end, _, _)| end < best_end) {
                best = Some((end, class, slot));
            }
        };
        for (&class, slots) in &mut self.busy {
            if let Some(&&slot) = slots.peek()
                && Some(slot.2.worker) != avoid
            {
                consider(class, slot);
            }
        }
        for (&class, slots) in &self.given {
            // Slots that were free have all speeds, but are few.
            let few = if class == WAS_FREE { usize::MAX } else { 1 };
            for &slot in slots.iter().take(few).filter(|slot| Some(slot.2.worker) != avoid) {
                consider(class, slot);
            }
        }
        best
    }

    /// Moves the slot's end, on paper.
    fn give(&mut self, class: SpeedClass, slot: BusySlot, end: u64) {
        let given = self.given.entry(class).or_default();
        if !given.remove(&slot)
            && let Some(slots) = self.busy.get_mut(&class)
        {
            slots.next();
        }
        given.insert((end, slot.1, slot.2));
    }
}
