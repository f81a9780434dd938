//! The slots that may be used, kept so that the best one for a trial is found without looking at all of them.

use super::queue::Meeting;
use super::state::{Slot, Worker};
use super::{Millis, Scheduler};
use crate::ids::SlotId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Speeds are relative, in millionths, so that sums over slots are exact: the first slot ever measured has 1.
pub(super) const SPEED_ONE: u64 = 1_000_000;

/// What is measured of a slot: a sum over its epochs in which older ones fade. Sums, not a mean of rates: an
/// epoch of a thin network, which uses a slot badly, then weighs as little as it lasted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Speed {
    /// Time that the epochs would have taken at speed 1.
    expected_ms: f64,
    measured_ms: f64,
    /// Millionths; none until something was measured.
    pub(super) millionths: Option<u64>,
}

impl Speed {
    const KEEP: f64 = 0.8;

    pub(super) fn measure(&mut self, expected_ms: f64, measured_ms: f64) {
        self.expected_ms = self.expected_ms * Self::KEEP + expected_ms;
        self.measured_ms = self.measured_ms * Self::KEEP + measured_ms;
        let speed = self.expected_ms / self.measured_ms * SPEED_ONE as f64;
        self.millionths = Some(speed.clamp(1.0, 1e15) as u64);
    }
}

/// How long something takes on a slot; at least a millisecond.
pub(super) fn duration_ms(expected_ms: f64, millionths: u64) -> Millis {
    (expected_ms * SPEED_ONE as f64 / millionths as f64).ceil().clamp(1.0, 1e15) as Millis
}

/// Whom a slot takes in beside those that it trains: trials of that sweep that are there.
pub(super) type Welcome = (usize, Meeting);

/// Where a slot stands in the [`Fleet`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its worker is away, drains or is gone.
    #[default]
    Unusable,
    Free {
        speed: Option<u64>,
    },
    Busy {
        speed: Option<u64>,
        free_at: Option<Millis>,
        /// One that is there may join those that it trains.
        welcome: Option<Welcome>,
    },
}

impl Place {
    /// Whom it takes in now: where its end is estimated.
    fn welcome(self) -> Option<Welcome> {
        match self {
            Self::Busy { free_at: Some(_), welcome, .. } => welcome,
            Self::Unusable | Self::Free { .. } | Self::Busy { free_at: None, .. } => None,
        }
    }

    /// Where a worker's slot belongs, that takes those in.
    fn of(worker: &Worker, slot: &Slot, welcome: Option<Welcome>) -> Self {
        let speed = slot.speed.millionths;
        match &slot.lease {
            _ if !worker.is_usable() => Self::Unusable,
            None => Self::Free { speed },
            Some(lease) => Self::Busy { speed, free_at: lease.free_at, welcome },
        }
    }
}

/// Slots of about the same speed: 16 classes an octave.
pub(super) type SpeedClass = u64;

pub(super) fn speed_class(millionths: u64) -> SpeedClass {
    let octave = u64::from(millionths.max(1).ilog2());
    let leading = if octave >= 4 { millionths >> (octave - 4) } else { millionths << (4 - octave) };
    octave * 16 + (leading & 15)
}

/// A busy slot whose end is estimated: when it will be free, how fast it is, which.
pub(super) type BusySlot = (Millis, u64, SlotId);

#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// Measured and free, fastest first.
    pub(super) free: BTreeSet<(Reverse<u64>, SlotId)>,
    /// Free and never measured.
    pub(super) free_unmeasured: BTreeSet<SlotId>,
    /// Busy with an estimate, by class; class 0 holds those never measured (their speed here is 0).
    pub(super) busy: BTreeMap<SpeedClass, BTreeSet<BusySlot>>,
    /// Those of `busy` that take others in, by whom and by when they will be free.
    pub(super) welcoming: BTreeSet<(Welcome, Millis, SlotId)>,
    /// All usable slots.
    pub(super) slots: u64,
    /// Those that were measured, and the sum of their speeds.
    pub(super) measured: u64,
    pub(super) measured_speed: u128,
    /// Sums over `busy` with a speed: of `free_at` × speed, and of speed.
    pub(super) busy_until: u128,
    pub(super) busy_speed: u128,
}

impl Fleet {
    /// What a slot that was never measured is taken for: the mean of the others.
    pub(super) fn mean_speed(&self) -> u64 {
        if self.measured == 0 {
            return SPEED_ONE;
        }
        u64::try_from(self.measured_speed / u128::from(self.measured)).unwrap_or(u64::MAX).max(1)
    }

    /// Of all usable slots together.
    pub(super) fn total_speed(&self) -> u128 {
        self.measured_speed + u128::from(self.slots - self.measured) * u128::from(self.mean_speed())
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty() || !self.free_unmeasured.is_empty()
    }

    pub(super) fn free_count(&self) -> usize {
        self.free.len() + self.free_unmeasured.len()
    }

    /// What busy slots have still to do, in milliseconds of a slot of speed 1.
    pub(super) fn busy_backlog_ms(&self, now: Millis) -> f64 {
        self.busy_until.saturating_sub(u128::from(now) * self.busy_speed) as f64 / SPEED_ONE as f64
    }

    pub(super) fn insert(&mut self, slot: SlotId, place: Place) {
        self.count(place, 1);
        match place {
            Place::Unusable | Place::Busy { free_at: None, .. } => {}
            Place::Free { speed: Some(speed) } => {
                self.free.insert((Reverse(speed), slot));
            }
            Place::Free { speed: None } => {
                self.free_unmeasured.insert(slot);
            }
            Place::Busy { speed, free_at: Some(free_at), welcome } => {
                let speed = speed.unwrap_or(0);
                self.welcoming.extend(welcome.map(|welcome| (welcome, free_at, slot)));
                self.busy.entry(class_or_none(speed)).or_default().insert((free_at, speed, slot));
                self.busy_until += u128::from(free_at) * u128::from(speed);
                self.busy_speed += u128::from(speed);
            }
        }
    }

    pub(super) fn remove(&mut self, slot: SlotId, place: Place) {
        self.count(place, -1);
        match place {
            Place::Unusable | Place::Busy { free_at: None, .. } => {}
            Place::Free { speed: Some(speed) } => {
                self.free.remove(&(Reverse(speed), slot));
            }
            Place::Free { speed: None } => {
                self.free_unmeasured.remove(&slot);
            }
            Place::Busy { speed, free_at: Some(free_at), welcome, .. } => {
                let speed = speed.unwrap_or(0);
                if let Some(welcome) = welcome {
                    self.welcoming.remove(&(welcome, free_at, slot));
                }
                let class = class_or_none(speed);
                if let Some(slots) = self.busy.get_mut(&class) {
                    slots.remove(&(free_at, speed, slot));
                    if slots.is_empty() {
                        self.busy.remove(&class);
                    }
                }
                self.busy_until -= u128::from(free_at) * u128::from(speed);
                self.busy_speed -= u128::from(speed);
            }
        }
    }

    /// For tests: these slots, each in its place, and nothing else.
    pub(super) fn check(&self, slots: impl Iterator<Item = (SlotId, Place)>) {
        let mut sums = Self::default();
        let (mut free, mut free_unmeasured, mut busy, mut welcoming) = (0, 0, 0, 0);
        for (id, place) in slots {
            sums.count(place, 1);
            let found = match place {
                Place::Unusable | Place::Busy { free_at: None, .. } => true,
                Place::Free { speed: Some(speed) } => {
                    free += 1;
                    self.free.contains(&(Reverse(speed), id))
                }
                Place::Free { speed: None } => {
                    free_unmeasured += 1;
                    self.free_unmeasured.contains(&id)
                }
                Place::Busy { speed, free_at: Some(free_at), welcome } => {
                    let speed = speed.unwrap_or(0);
                    busy += 1;
                    welcoming += usize::from(welcome.is_some());
                    let is_known = |welcome| self.welcoming.contains(&(welcome, free_at, id));
                    assert!(welcome.is_none_or(is_known), "{id} takes others in, unseen");
                    sums.busy_until += u128::from(free_at) * u128::from(speed);
                    sums.busy_speed += u128::from(speed);
                    let class = self.busy.get(&class_or_none(speed));
                    class.is_some_and(|slots| slots.contains(&(free_at, speed, id)))
                }
            };
            assert!(found, "{id} is not where it belongs: {place:?}");
        }
        assert_eq!((self.free.len(), self.free_unmeasured.len()), (free, free_unmeasured), "free slots");
        assert_eq!(self.busy.values().map(BTreeSet::len).sum::<usize>(), busy, "busy slots");
        assert_eq!(self.welcoming.len(), welcoming, "slots that take others in");
        assert!(self.busy.values().all(|slots| !slots.is_empty()), "a class of speeds without slots");
        let of = |fleet: &Self| (fleet.slots, fleet.measured, fleet.measured_speed, fleet.busy_until, fleet.busy_speed);
        assert_eq!(of(self), of(&sums), "sums over the fleet");
    }

    fn count(&mut self, place: Place, change: i64) {
        let speed = match place {
            Place::Unusable => return,
            Place::Free { speed } | Place::Busy { speed, .. } => speed,
        };
        self.slots = self.slots.wrapping_add_signed(change);
        if let Some(speed) = speed {
            self.measured = self.measured.wrapping_add_signed(change);
            self.measured_speed = self.measured_speed.wrapping_add_signed(i128::from(change) * i128::from(speed));
        }
    }
}

/// Class 0 is for slots never measured; measured ones start at class 1.
pub(super) fn class_or_none(speed: u64) -> SpeedClass {
    if speed == 0 { 0 } else { 1 + speed_class(speed) }
}

impl Scheduler {
    /// Where the slot belongs.
    pub(super) fn place_of(&self, id: SlotId) -> Place {
        let Some(worker) = self.workers.get(&id.worker) else { return Place::Unusable };
        let Some(slot) = worker.slots.get(&id.index) else { return Place::Unusable };
        let welcome = slot.lease.as_ref().and_then(|lease| self.welcome(worker, lease));
        Place::of(worker, slot, welcome)
    }

    /// Puts the slot where it belongs; after every change of its lease, its speed or its worker.
    pub(super) fn refresh_slot(&mut self, id: SlotId) {
        let place = self.place_of(id);
        let Some(slot) = self.workers.get_mut(&id.worker).and_then(|worker| worker.slots.get_mut(&id.index)) else {
            return;
        };
        if slot.place == place {
            return;
        }
        let before = slot.place;
        self.fleet.remove(id, before);
        // A measurement alone is no reason to assign anew: that is for slots that come, go or become free.
        let only_measured = matches!((before, place), (Place::Busy { .. }, Place::Busy { .. }));
        slot.place = place;
        self.fleet.insert(id, place);
        // But what it trains may now be seen to be better off elsewhere.
        let is_news = matches!((before, place), (Place::Busy { speed: None, .. }, Place::Busy { speed: Some(_), .. }));
        self.assign_due |= !only_measured || is_news || (self.fleet.has_free() && self.turns.is_empty());
        // And whoever waits where it begins its next epoch can join.
        if let Some((sweep, meeting)) = place.welcome().filter(|_| before.welcome() != place.welcome()) {
            let sweep = &self.sweeps[sweep];
            let is_awaited = sweep.turn.is_some() && sweep.queue.has_begun(meeting);
            self.assign_due |= is_awaited;
            self.joins_due |= is_awaited;
        }
    }

    /// The same for all slots of a worker.
    pub(super) fn refresh_slots(&mut self, worker: crate::ids::WorkerId) {
        let Some(state) = self.workers.get(&worker) else { return };
        let slots: Vec<SlotId> = state.slots.keys().map(|&index| SlotId { worker, index }).collect();
        for slot in slots {
            self.refresh_slot(slot);
        }
    }

    /// Busy slots that should be free by now are given a later estimate: the longer they are over it, the
    /// less is believed. So waiting for a slot that hangs ends.
    pub(super) fn postpone_overdue(&mut self) {
        let mut overdue = Vec::new();
        for slots in self.fleet.busy.values() {
            overdue.extend(slots.iter().take_while(|slot| slot.0 <= self.now).map(|slot| slot.2));
        }
        let now = self.now;
        for id in overdue {
            if let Some(lease) = self.slot_mut(id).and_then(|slot| slot.lease.as_mut()) {
                lease.free_at = Some(now + 1 + now.saturating_sub(lease.estimated_at) / 4);
            }
            self.refresh_slot(id);
        }
    }
}
