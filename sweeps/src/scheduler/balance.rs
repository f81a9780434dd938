//! Running trials that go to another slot, because all would be done much earlier then.
//!
//! Slots that were never measured are taken for average, so a fleet of unequal ones begins with the wrong trials on the slow
//! ones; and at the end whoever is done first has nothing to do. So whatever runs and whatever waits is planned anew, on
//! paper, as if nothing had begun: longest first, each to the slot that would finish it earliest, to another than its own
//! only if that pays for the restart. If all is then done much earlier than otherwise, those that are elsewhere in that plan
//! save a checkpoint and stop. Until they have, slots are kept for them: each is to find the one that it left its own for.

use super::assign::PLANNED_MAX;
use super::fleet::SPEED_ONE;
use super::state::{Lease, Member, RUNNING, Worker};
use super::{Command, Millis, Scheduler, StopReason, TrialState};
use crate::ids::{SlotId, Token};
use std::collections::BTreeMap;

/// Trials change their slots only if all is then done in less than this share of the time: estimates are not exact.
const WORTH_MOVING: f64 = 0.9;
/// And only if so many heartbeats are won: trainers must stop and others start.
const WORTH_MOVING_HEARTBEATS: Millis = 4;

/// A slot on paper.
#[derive(Clone)]
struct Load {
    slot: SlotId,
    /// As a multiple of the first slot ever measured.
    speed: f64,
    /// Until it is free.
    ms: f64,
}

/// What is to be done.
struct Item {
    /// At speed 1.
    ms: f64,
    /// Of a trial that runs, and where in the list of loads.
    runs: Option<(Token, usize)>,
}

impl Scheduler {
    /// Whether pending trials wait until those that change their slots have stopped: where there are not slots for all.
    pub(super) fn waits_for_moves(&self) -> bool {
        let wanted = || self.moving.saturating_add(self.startable());
        self.moving > 0 && self.now < self.moving_until && self.fleet.free_count() < wanted()
    }

    /// Lets trials change their slots where that pays. Looked at once a heartbeat at most, and only while all that runs and
    /// waits is little.
    pub(super) fn balance(&mut self) {
        if self.moving > 0 || self.fleet.slots < 2 || self.fleet.busy.is_empty() {
            return;
        }
        if self.now < self.balance_at {
            self.look_again_at(self.balance_at);
            return;
        }
        self.postpone_overdue();
        self.balance_at = self.now.saturating_add(self.config.heartbeat_ms.max(1));
        let running: usize = self.sweeps.iter().map(|sweep| sweep.by_state[RUNNING].len()).sum();
        if running.saturating_add(self.pending_whose_turn_it_is()) > PLANNED_MAX {
            return;
        }
        for (slot, token) in self.worth_moving() {
            self.ask_to_move(slot, token);
        }
        if self.moving > 0 {
            self.moving_until = self.now.saturating_add(self.config.lease_ms);
        }
    }

    /// Who should go elsewhere, and from where.
    fn worth_moving(&self) -> Vec<(SlotId, Token)> {
        let (mut loads, mut items) = self.running_loads();
        if items.is_empty() {
            return Vec::new();
        }
        let waiting = self.first_pending(PLANNED_MAX).into_iter().filter_map(|(sweep, work, _)| {
            let ms = self.sweeps[sweep].expected_ms(work)?;
            Some(Item { ms, runs: None })
        });
        items.extend(waiting);
        self.add_free(&mut loads, items.len());
        items.sort_by(|one, other| other.ms.total_cmp(&one.ms));
        let restart_ms = self.config.heartbeat_ms as f64;
        let left_ms = end_where_they_are(loads.clone(), &items, restart_ms);
        let mut moves = Vec::new();
        for item in &items {
            let place = put(&mut loads, item, restart_ms);
            if let Some((token, own)) = item.runs.filter(|(_, own)| *own != place) {
                moves.push((loads[own].slot, token));
            }
        }
        let then_ms = end(&loads);
        let wanted_ms = self.config.heartbeat_ms.saturating_mul(WORTH_MOVING_HEARTBEATS) as f64;
        if then_ms < left_ms * WORTH_MOVING && left_ms - then_ms > wanted_ms { moves } else { Vec::new() }
    }

    /// The slots of trials that may go elsewhere, with what else they have to do; and those trials.
    fn running_loads(&self) -> (Vec<Load>, Vec<Item>) {
        let mut slots: BTreeMap<SlotId, &Lease> = BTreeMap::new();
        for trial in self.sweeps.iter().flat_map(|sweep| &sweep.by_state[RUNNING]) {
            let state = self.trials.get(trial).map(|entry| &entry.record.state);
            let Some(&TrialState::Running { slot, .. }) = state else { continue };
            let usable = self.workers.get(&slot.worker).is_some_and(Worker::is_usable);
            if let Some(lease) = self.slot(slot).and_then(|slot| slot.lease.as_ref()).filter(|_| usable) {
                slots.insert(slot, lease);
            }
        }
        let (mut loads, mut items) = (Vec::with_capacity(slots.len()), Vec::new());
        for (slot, lease) in slots {
            let mut load = self.empty(slot);
            let speed = load.speed;
            let not_done = self.not_done(lease, speed);
            for member in &lease.members {
                let Some(entry) = self.trials.get(&member.token.trial) else { continue };
                if !matches!(entry.record.state, TrialState::Running { stopping: None, .. }) {
                    continue;
                }
                match self.told_ms(member).map(|ms| ms * not_done) {
                    Some(ms) if entry.record.trial.replicas.max > 1 => {
                        // It ends when all slots that train it do.
                        load.ms = lease.free_at.map_or(ms / speed, |at| at.saturating_sub(self.now) as f64);
                    }
                    Some(ms) if entry.has_moved => load.ms += ms / speed,
                    Some(ms) => items.push(Item { ms, runs: Some((member.token, loads.len())) }),
                    None => {}
                }
            }
            loads.push(load);
        }
        (loads, items)
    }

    /// Of what was left by the last report, the share that is still left by now, if all goes on as fast.
    fn not_done(&self, lease: &Lease, speed: f64) -> f64 {
        let told_ms: f64 = lease.members.iter().filter_map(|member| self.told_ms(member)).sum::<f64>() / speed;
        match lease.free_at {
            Some(free_at) if told_ms > 0.0 => (free_at.saturating_sub(self.now) as f64 / told_ms).clamp(0.0, 1.0),
            _ => 1.0,
        }
    }

    /// Slots with nothing to do, the fastest ones, so many if there are.
    fn add_free(&self, loads: &mut Vec<Load>, count: usize) {
        let count = count.min(self.fleet.free_count().saturating_sub(self.slots_kept()));
        let measured = self.fleet.free.iter().map(|&(_, slot)| slot);
        let mut free: Vec<_> =
            measured.take(count).chain(self.fleet.free_unmeasured.iter().copied().take(count)).collect();
        free.sort_by_key(|&slot| std::cmp::Reverse(self.slot_speed(slot)));
        free.truncate(count);
        loads.extend(free.into_iter().map(|slot| self.empty(slot)));
    }

    /// With nothing to do.
    fn empty(&self, slot: SlotId) -> Load {
        Load { slot, speed: self.slot_speed(slot) as f64 / SPEED_ONE as f64, ms: 0.0 }
    }

    /// What a running trial had left by the last report, at speed 1; unknown where its sweep was never measured.
    fn told_ms(&self, member: &Member) -> Option<f64> {
        let entry = self.trials.get(&member.token.trial)?;
        self.sweeps[entry.sweep].expected_ms(self.work_left(member))
    }

    /// It saves a checkpoint and stops; then it is pending, as nobody has paused it.
    fn ask_to_move(&mut self, from: SlotId, token: Token) {
        let lease = self.slot_mut(from).and_then(|slot| slot.lease.as_mut());
        let Some(member) = lease.and_then(|lease| lease.members.iter_mut().find(|member| member.token == token)) else {
            return;
        };
        member.moves = true;
        self.moving += 1;
        if let Some(entry) = self.trials.get_mut(&token.trial) {
            entry.has_moved = true;
        }
        self.refresh_slot(from);
        if let Some(session) = self.workers.get(&from.worker).and_then(Worker::live_session) {
            let (worker, reason) = (from.worker, StopReason::Pause);
            self.outbox.actions.push(Command::Stop { worker, session, token, reason });
        }
    }
}

/// Gives it to the slot that would finish it earliest, its own if none does much earlier; which that is.
fn put(loads: &mut [Load], item: &Item, restart_ms: f64) -> usize {
    let own = item.runs.map(|(_, own)| own);
    let ends = loads.iter().enumerate().map(|(place, load)| {
        let restart_ms = if own.is_none_or(|own| own == place) { 0.0 } else { restart_ms };
        (load.ms + item.ms / load.speed + restart_ms, Some(place) != own, place)
    });
    let best = ends.min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let Some((ms, _, place)) = best else { return 0 };
    loads[place].ms = ms;
    place
}

/// When all of them are free if nobody moves, and what waits goes behind what runs.
fn end_where_they_are(mut loads: Vec<Load>, items: &[Item], restart_ms: f64) -> f64 {
    for item in items {
        if let Some((_, own)) = item.runs {
            loads[own].ms += item.ms / loads[own].speed;
        }
    }
    for item in items.iter().filter(|item| item.runs.is_none()) {
        put(&mut loads, item, restart_ms);
    }
    end(&loads)
}

/// When all of them are free.
fn end(loads: &[Load]) -> f64 {
    loads.iter().map(|load| load.ms).fold(0.0, f64::max)
}
