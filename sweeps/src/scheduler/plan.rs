//! A plan on paper: each trial in turn is given to the slot that would finish it earliest.

use super::Millis;
use super::fleet::{BusySlot, Fleet, SpeedClass, class_or_none, duration_ms};
use crate::ids::{SlotId, WorkerId};
use std::cmp::Reverse;
use std::collections::btree_set::Iter;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

/// A busy slot is worth waiting for only if it finishes the trial in less than this share of the time that the
/// best free slot would take: estimates are not exact, and a slot at work is worth more than one that waits.
const WORTH_WAITING: f64 = 0.95;

/// What a trial takes at speed 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) ms: f64,
    /// Otherwise a guess, to compare trials of one sweep with each other.
    pub(super) is_measured: bool,
}

/// To whom a trial falls.
pub(super) enum Choice {
    Free(SlotId),
    /// To one beside those that it trains, or that were given to it before.
    Joined(SlotId),
    Busy(SlotId),
}

/// What a trial may be given besides busy slots.
pub(super) struct Allowed<'a> {
    /// Free ones.
    pub(super) free: bool,
    /// Those that were free, to be beside what was given to them.
    pub(super) join: &'a dyn Fn(SlotId) -> bool,
    /// Busy ones, to be beside what they train.
    pub(super) beside: &'a [BusySlot],
}

/// The fleet, and what was given to it so far. The fleet itself is not copied: what changed lies beside it.
pub(super) struct Plan<'a> {
    now: Millis,
    mean_speed: u64,
    /// Fastest first, with the speed to reckon with.
    free: BTreeSet<(Reverse<u64>, SlotId)>,
    /// By class: what the fleet has, soonest free first, from the first that nothing was given to.
    busy: BTreeMap<SpeedClass, Peekable<Iter<'a, BusySlot>>>,
    /// By class: slots that were given something, with their new ends.
    given: BTreeMap<SpeedClass, BTreeSet<BusySlot>>,
    /// Of `busy`, those that count as free, or were given something.
    passed: BTreeSet<SlotId>,
    /// Where those that were given something are in `given`.
    given_to: BTreeMap<SlotId, (SpeedClass, BusySlot)>,
}

/// In `given`: slots that were free.
const WAS_FREE: SpeedClass = SpeedClass::MAX;
/// In `given`: slots whose end is a guess. Nobody waits for them whose own time is measured.
const GUESSED: SpeedClass = SpeedClass::MAX - 1;

impl<'a> Plan<'a> {
    /// Slots that are free beyond `free_max` are left out. `offered` are busy now, but will be free for whoever wants
    /// them.
    pub(super) fn new(fleet: &'a Fleet, now: Millis, free_max: usize, offered: &[(u64, SlotId)]) -> Self {
        let mean_speed = fleet.mean_speed();
        let mut free: BTreeSet<_> = fleet.free.iter().take(free_max).copied().collect();
        free.extend(fleet.free_unmeasured.iter().take(free_max).map(|&slot| (Reverse(mean_speed), slot)));
        free.extend(offered.iter().map(|&(speed, slot)| (Reverse(speed), slot)));
        let busy = fleet.busy.iter().map(|(&class, slots)| (class, slots.iter().peekable())).collect();
        let passed = offered.iter().map(|&(_, slot)| slot).collect();
        Self { now, mean_speed, free, busy, given: BTreeMap::new(), passed, given_to: BTreeMap::new() }
    }

    /// The slots that nothing was given to, fastest first.
    pub(super) fn into_free(self) -> Vec<SlotId> {
        self.free.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Whether a slot is free, and none of another worker.
    pub(super) fn is_free_only_on(&self, worker: WorkerId) -> bool {
        !self.free.is_empty() && self.free.iter().all(|(_, slot)| slot.worker == worker)
    }

    /// Gives a trial to the slot that would finish it earliest; `None` if it can begin nowhere.
    pub(super) fn assign(
        &mut self,
        expected: Expected,
        avoid: Option<WorkerId>,
        allowed: &Allowed<'_>,
    ) -> Option<Choice> {
        // Somebody else than where it crashed, if somebody else is free.
        let elsewhere = self.free.iter().find(|(_, slot)| Some(slot.worker) != avoid).copied();
        let free = elsewhere.or(self.free.first().copied()).filter(|_| allowed.free);
        let avoid = avoid.filter(|_| elsewhere.is_some());
        let free = free.map(|(Reverse(speed), slot)| {
            let ms = duration_ms(expected.ms, speed);
            (self.now.saturating_add(ms), speed, slot)
        });
        let joined = self.best_joined(expected, avoid, allowed.join);
        let joined = joined.into_iter().chain(self.best_beside(expected, allowed.beside)).min();
        let busy = self.best_busy(expected, avoid);
        let Some(begins) = free.map(|(end, ..)| end).into_iter().chain(joined.map(|(end, ..)| end)).min() else {
            // Whoever would join those that train there is to know that it will come.
            if let Some((end, class, slot)) = busy.filter(|(_, class, _)| expected.is_measured && *class < GUESSED) {
                self.give(class, slot, end, true);
            }
            return None;
        };
        let begins_ms = begins.saturating_sub(self.now);
        if let Some((end, class, busy)) = busy
            && joined.is_none_or(|joined| joined.2.2 != busy.2)
            && (end.saturating_sub(self.now) as f64) < begins_ms as f64 * WORTH_WAITING
        {
            self.give(class, busy, end, expected.is_measured);
            return Some(Choice::Busy(busy.2));
        }
        match (free, joined) {
            (free, Some((end, class, slot))) if free.is_none_or(|(free, ..)| end < free) => {
                self.give(class, slot, end, expected.is_measured);
                Some(Choice::Joined(slot.2))
            }
            (Some((end, speed, slot)), _) => {
                self.free.remove(&(Reverse(speed), slot));
                let class = if expected.is_measured { WAS_FREE } else { GUESSED };
                self.given.entry(class).or_default().insert((end, speed, slot));
                Some(Choice::Free(slot))
            }
            (None, _) => None,
        }
    }

    /// Of the slots that were free and may take it beside what they were given, the one that would finish it earliest.
    fn best_joined(
        &self,
        expected: Expected,
        avoid: Option<WorkerId>,
        may_join: &dyn Fn(SlotId) -> bool,
    ) -> Option<(Millis, SpeedClass, BusySlot)> {
        let were_free = [WAS_FREE, GUESSED].into_iter().flat_map(|class| {
            let slots = self.given.get(&class).into_iter().flatten();
            slots.map(move |&slot| (slot.0.saturating_add(duration_ms(expected.ms, slot.1)), class, slot))
        });
        // To ask whether it may takes longest.
        let mut soonest: Vec<_> = were_free.filter(|(.., slot)| Some(slot.2.worker) != avoid).collect();
        soonest.sort_unstable();
        soonest.into_iter().find(|(.., slot)| may_join(slot.2))
    }

    /// Of the busy slots that take it in, the one that would finish it earliest.
    fn best_beside(&self, expected: Expected, beside: &[BusySlot]) -> Option<(Millis, SpeedClass, BusySlot)> {
        let ends = beside.iter().map(|slot| {
            let (class, slot) = self.given_to.get(&slot.2).copied().unwrap_or((class_or_none(slot.1), *slot));
            (slot.0.saturating_add(self.takes_ms(expected, slot)), class, slot)
        });
        ends.min()
    }

    fn takes_ms(&self, expected: Expected, slot: BusySlot) -> Millis {
        duration_ms(expected.ms, if slot.1 == 0 { self.mean_speed } else { slot.1 })
    }

    /// The busy slot that would finish it earliest: when, and which. Within a class, whose speeds are nearly the
    /// same, that is the first to be free.
    fn best_busy(&mut self, expected: Expected, avoid: Option<WorkerId>) -> Option<(Millis, SpeedClass, BusySlot)> {
        let mean_speed = self.mean_speed;
        let mut best: Option<(Millis, SpeedClass, BusySlot)> = None;
        let mut consider = |class: SpeedClass, slot: BusySlot| {
            let speed = if slot.1 == 0 { mean_speed } else { slot.1 };
            let end = slot.0.saturating_add(duration_ms(expected.ms, speed));
            if Some(slot.2.worker) != avoid && best.is_none_or(|(best_end, _, _)| end < best_end) {
                best = Some((end, class, slot));
            }
        };
        for (&class, slots) in &mut self.busy {
            while slots.next_if(|slot| self.passed.contains(&slot.2)).is_some() {}
            if let Some(&&slot) = slots.peek() {
                consider(class, slot);
            }
        }
        for (&class, slots) in &self.given {
            // Slots that were free have all speeds, but are few.
            let slots = slots.iter().take(if class < GUESSED { 1 } else { usize::MAX });
            if class != GUESSED || !expected.is_measured {
                slots.for_each(|&slot| consider(class, slot));
            }
        }
        best
    }

    /// Moves the slot's end, on paper.
    fn give(&mut self, class: SpeedClass, slot: BusySlot, end: Millis, is_measured: bool) {
        let was_given = self.given.get_mut(&class).is_some_and(|given| given.remove(&slot));
        if !was_given {
            self.passed.insert(slot.2);
        }
        let class = if is_measured { class } else { GUESSED };
        let slot = (end, slot.1, slot.2);
        self.given.entry(class).or_default().insert(slot);
        self.given_to.insert(slot.2, (class, slot));
    }
}
