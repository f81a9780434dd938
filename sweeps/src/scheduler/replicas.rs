//! Idle slots that help a running trial.
//!
//! A trial runs from its chief's lease on; the other replicas' leases hang on that one. They are not stored: after
//! a restart they are learnt again from what the workers hold. They are not trials of their own either: they
//! count in no limit, are blamed on nobody, and end, without waiting for them, with the chief's lease or when
//! somebody else needs the slot. Their slot is free at once, as the agent starts nothing there before the old
//! trainer is gone.

use super::fleet::{Place, SPEED_ONE};
use super::state::{Entry, Lease, Worker};
use super::{AttemptEnd, Command, Fact, Millis, Refusal, Scheduler, StopReason, TrialState};
use crate::ids::{SlotId, Token, TrialId, WorkerId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Bound;

/// So often may replicas of a trial fail, an epoch forgiving one, before none is tried any more in this attempt.
const FAILURES_MAX: u32 = 4;
/// A trial that is expected to end within so many heartbeats is not worth the start of another trainer.
const WORTH_JOINING_HEARTBEATS: Millis = 2;

/// A trial that may have another replica: those that have fewer than they must come first, then whoever will take
/// longest.
pub(super) type Wish = (bool, Reverse<Millis>, TrialId);

/// The replicas of an attempt besides its chief.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Where each one trains, by number.
    pub(super) slots: BTreeMap<u32, SlotId>,
    failures: u32,
    /// Workers where one failed, and until when they are left alone.
    avoid: BTreeMap<WorkerId, Millis>,
    /// One of them was told that all is done.
    done: bool,
    /// Some took part in the epoch that the chief trains now.
    shared: bool,
    /// When the trial is expected to end; where nothing was measured, a guess to compare trials by.
    ends_at: Millis,
    /// Its entries in [`Scheduler::wishes`] and [`Scheduler::surplus`].
    wish: Option<Wish>,
    is_surplus: bool,
}

impl Replicas {
    /// Whether others take part in the epoch that the chief trains now.
    pub(super) fn share_epoch(&self) -> bool {
        self.shared || !self.slots.is_empty()
    }

    /// The chief has finished an epoch; says whether others took part in it.
    pub(super) fn epoch_finished(&mut self) -> bool {
        self.failures = self.failures.saturating_sub(1);
        std::mem::replace(&mut self.shared, !self.slots.is_empty())
    }
}

impl Entry {
    /// Its replicas, the chief included.
    fn replica_count(&self) -> u32 {
        1 + u32::try_from(self.replicas.slots.len()).unwrap_or(u32::MAX - 1)
    }

    fn surplus_count(&self) -> usize {
        usize::try_from(self.replica_count().saturating_sub(self.record.trial.replicas.min)).unwrap_or(usize::MAX)
    }
}

/// A trial with replicas to spare, while they are being picked.
struct Source {
    /// The next one to go is the last.
    replicas: Vec<(Token, SlotId)>,
    /// Of all its slots that were not picked.
    speed: u64,
    left_ms: Millis,
}

impl Source {
    /// By how much the trial ends later without the next one.
    fn loss_ms(&self, scheduler: &Scheduler) -> Option<Millis> {
        let lost = scheduler.slot_speed(self.replicas.last()?.1);
        let left = self.speed.saturating_sub(lost).max(1);
        Some((self.left_ms as f64 * lost as f64 / left as f64) as Millis)
    }
}

/// Whether only processes of the same host reach it.
fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.starts_with("localhost:"),
    }
}

impl Scheduler {
    /// The replicas of a running trial besides its chief: their numbers, and where they train.
    pub fn replicas(&self, trial: TrialId) -> impl Iterator<Item = (u32, SlotId)> {
        self.trials
            .get(&trial)
            .into_iter()
            .flat_map(|entry| entry.replicas.slots.iter().map(|(&number, &slot)| (number, slot)))
    }

    pub(super) fn chief_listening(&mut self, token: Token, address: String) -> Result<(), Refusal> {
        let slot = self.current(token)?;
        if token.replica > 0 {
            return Err(Refusal::StaleToken(token));
        }
        self.renew(slot.worker);
        let Some(entry) = self.trials.get_mut(&token.trial) else { return Ok(()) };
        if entry.record.trial.replicas.max > 1 && entry.record.chief_address.as_ref() != Some(&address) {
            entry.record.chief_address = Some(address);
            self.assign_due = true;
            self.outbox.touched.insert(token.trial);
            self.refresh_replicas(token.trial);
        }
        Ok(())
    }

    /// A worker came back with a replica that nobody here remembers: it trains on if it still may.
    pub(super) fn adopt(&mut self, slot: SlotId, token: Token) {
        let usable = self.workers.get(&slot.worker).is_some_and(Worker::is_usable);
        let free = self.slot(slot).is_some_and(|slot| slot.lease.is_none());
        let Some(entry) = self.trials.get(&token.trial) else { return };
        let runs = matches!(entry.record.state,
            TrialState::Running { attempt, stopping: None, .. } if token == Token::replica(token.trial, attempt, token.replica));
        let known = (1..=entry.record.replicas_started).contains(&token.replica)
            && !entry.replicas.slots.contains_key(&token.replica);
        if usable && free && runs && known && entry.replicas.wish.is_some() {
            self.put(token, slot);
        }
    }

    /// A replica's trainer ended by itself, or was lost.
    pub(super) fn replica_ended(&mut self, token: Token, end: AttemptEnd) {
        let now = self.now;
        let again_at = now.saturating_add(self.config.lease_ms);
        let Some(entry) = self.trials.get_mut(&token.trial) else { return };
        let Some(slot) = entry.replicas.slots.get(&token.replica) else { return };
        let worker = slot.worker;
        entry.replicas.avoid.retain(|_, until| *until > now);
        let (avoid_until, reason) = match end {
            AttemptEnd::Completed => {
                entry.replicas.done = true;
                (None, "the trial is done".to_owned())
            }
            // Its worker is gone or going.
            AttemptEnd::Lost { reason } => (None, reason),
            AttemptEnd::Stopped => (Some(again_at), "it could not reach its chief any more".to_owned()),
            AttemptEnd::Crashed { reason } | AttemptEnd::CrashedTogether { reason, .. } => (Some(again_at), reason),
            // It said itself that it cannot work there.
            AttemptEnd::Failed { reason } => (Some(Millis::MAX), reason),
        };
        if let Some(until) = avoid_until {
            entry.replicas.failures += 1;
            entry.replicas.avoid.insert(worker, until);
        }
        self.take_out(token, &reason);
    }

    /// Ends a replica's lease and tells its worker.
    pub(super) fn release(&mut self, token: Token, reason: &str) {
        let Some(slot) = self.take_out(token, reason) else { return };
        let worker = slot.worker;
        if let Some(session) = self.workers.get(&worker).and_then(Worker::live_session) {
            self.outbox.actions.push(Command::Stop { worker, session, token, reason: StopReason::Superseded });
        }
    }

    /// Ends all of a trial, which goes to that state.
    pub(super) fn release_all(&mut self, trial: TrialId, state: &TrialState) {
        let reason = match state {
            TrialState::Running { .. } => "the trial is being stopped",
            TrialState::Completed => "the trial is done",
            TrialState::Pending | TrialState::Paused | TrialState::Failed { .. } | TrialState::Cancelled => {
                "the attempt is over"
            }
        };
        for token in self.replica_tokens(trial) {
            self.release(token, reason);
        }
    }

    pub(super) fn release_of_worker(&mut self, worker: WorkerId, reason: &str) {
        let Some(known) = self.workers.get(&worker) else { return };
        let tokens: Vec<Token> = known.slots.values().filter_map(|slot| slot.lease.as_ref()?.replica()).collect();
        for token in tokens {
            self.release(token, reason);
        }
    }

    /// Stops replicas that trials can do without, so many if there are.
    pub(super) fn make_room(&mut self, slots: usize) {
        for (token, _) in self.pick_surplus(slots, |_| true) {
            self.release(token, "a pending trial needs its slot");
        }
    }

    /// Gives trials the replicas that they must have.
    pub(super) fn fill_to_min(&mut self) {
        let trials: Vec<TrialId> = self.wishes.iter().take_while(|wish| !wish.0).map(|wish| wish.2).collect();
        for trial in trials {
            while self.trials.get(&trial).is_some_and(|entry| entry.replicas.wish.is_some_and(|wish| !wish.0)) {
                if !self.fleet.has_free() && self.surplus.is_empty() {
                    return;
                }
                let slot = match self.slot_for(trial) {
                    Some(slot) => slot,
                    None => {
                        let Some((other, slot)) = self.spare_slot_for(trial) else { break };
                        self.release(other, "another trial lacks replicas that it must have");
                        slot
                    }
                };
                self.begin_replica(trial, slot);
            }
        }
    }

    /// Lets slots that no pending trial may or wants to use join those that will run longest.
    pub(super) fn join_idle(&mut self) {
        self.starting.retain(|_, until| *until > self.now);
        let mut idle = self.fleet.free_count().saturating_sub(self.slots_kept());
        let worth_it_after = self.now.saturating_add(WORTH_JOINING_HEARTBEATS.saturating_mul(self.config.heartbeat_ms));
        let mut after: Option<Wish> = None;
        while idle > 0 {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(&wish) = self.wishes.range((from, Bound::Unbounded)).next() else { break };
            let (_, Reverse(ends_at), trial) = wish;
            if ends_at <= worth_it_after && self.is_measured(trial) {
                after = Some(wish);
                continue;
            }
            match self.slot_for(trial) {
                Some(slot) => {
                    idle -= 1;
                    // Its wish is gone, or behind where it was.
                    self.begin_replica(trial, slot);
                }
                None => {
                    after = Some(wish);
                    self.look_again_at(self.now.saturating_add(self.config.lease_ms.max(1)));
                }
            }
        }
        if let Some(&until) = self.starting.values().min().filter(|_| self.fleet.has_free()) {
            self.look_again_at(until);
        }
    }

    pub(super) fn look_again_at(&mut self, at: Millis) {
        self.assign_at = Some(self.assign_at.map_or(at, |planned| planned.min(at)));
    }

    /// Whether a slot is free that is not kept.
    pub(super) fn has_room(&self) -> bool {
        self.fleet.free_count() > self.slots_kept()
    }

    /// For replicas of trials that have just begun, and for trials that are on their way to another slot.
    pub(super) fn slots_kept(&self) -> usize {
        let current = self.starting.iter().filter(|&(_, until)| *until > self.now);
        let for_replicas: usize = current.map(|(&trial, _)| self.slots_needed(trial).saturating_sub(1)).sum();
        for_replicas + if self.now < self.moving_until { self.moving } else { 0 }
    }

    /// Slots that a trial must have.
    pub(super) fn slots_needed(&self, trial: TrialId) -> usize {
        let min = self.trials.get(&trial).map_or(1, |entry| entry.record.trial.replicas.min);
        usize::try_from(min.max(1)).unwrap_or(usize::MAX)
    }

    /// Replicas beyond what their trials must have, with their slots: the newest of whichever trial loses the least
    /// time; at most so many, and only where allowed.
    pub(super) fn pick_surplus(&self, count: usize, allowed: impl Fn(SlotId) -> bool) -> Vec<(Token, SlotId)> {
        let mut picked = Vec::new();
        if count == 0 {
            return picked;
        }
        let usable = |slot: SlotId| self.workers.get(&slot.worker).is_some_and(Worker::is_usable) && allowed(slot);
        let mut sources: BTreeMap<TrialId, Source> = BTreeMap::new();
        let mut order: BTreeSet<(Millis, TrialId)> = BTreeSet::new();
        for &trial in &self.surplus {
            let Some(entry) = self.trials.get(&trial) else { continue };
            let newest = entry.replicas.slots.iter().rev().filter(|&(_, &slot)| usable(slot));
            let mut replicas: Vec<(Token, SlotId)> = newest
                .take(entry.surplus_count())
                .map(|(&number, &slot)| (Token::replica(trial, entry.record.attempts, number), slot))
                .collect();
            replicas.reverse();
            let left_ms = entry.replicas.ends_at.saturating_sub(self.now);
            let source = Source { replicas, speed: self.speed_together(entry), left_ms };
            order.extend(source.loss_ms(self).map(|loss_ms| (loss_ms, trial)));
            sources.insert(trial, source);
        }
        while picked.len() < count
            && let Some((_, trial)) = order.pop_first()
            && let Some(source) = sources.get_mut(&trial)
            && let Some((token, slot)) = source.replicas.pop()
        {
            source.speed = source.speed.saturating_sub(self.slot_speed(slot));
            order.extend(source.loss_ms(self).map(|loss_ms| (loss_ms, trial)));
            picked.push((token, slot));
        }
        picked
    }

    fn workers_of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = WorkerId> + 'a {
        let from = self.hosts.range((host.to_owned(), WorkerId(0))..);
        from.take_while(move |(of, _)| of == host).map(|&(_, worker)| worker)
    }

    /// The fastest free slot for another replica of that trial.
    fn slot_for(&self, trial: TrialId) -> Option<SlotId> {
        if !self.fleet.has_free() {
            return None;
        }
        let (chief, address) = self.chief(trial)?;
        if !is_loopback(address) {
            return self.fastest_free(|slot| self.may_join(trial, slot)).map(|(_, slot)| slot);
        }
        let slots = self.workers_of(&chief.host).flat_map(|worker| {
            let slots = self.workers.get(&worker).into_iter().flat_map(|known| &known.slots);
            let free = slots.filter(|(_, slot)| matches!(slot.place, Place::Free { .. }));
            free.map(move |(&index, _)| SlotId { worker, index })
        });
        let slots = slots.filter(|&slot| self.may_join(trial, slot));
        slots.max_by_key(|&slot| (self.slot_speed(slot), Reverse(slot)))
    }

    /// A replica that another trial can spare, on a slot from which that trial's chief can be reached.
    fn spare_slot_for(&self, trial: TrialId) -> Option<(Token, SlotId)> {
        let (chief, address) = self.chief(trial)?;
        if !is_loopback(address) {
            return self.pick_surplus(1, |slot| self.may_join(trial, slot)).pop();
        }
        // One host has few slots, all others may have many.
        let slots = self.workers_of(&chief.host).flat_map(|worker| {
            let known = self.workers.get(&worker).filter(|known| known.is_usable());
            let slots = known.into_iter().flat_map(|known| &known.slots);
            slots.filter_map(move |(&index, slot)| Some((slot.lease.as_ref()?.replica()?, SlotId { worker, index })))
        });
        let mut spare =
            slots.filter(|(token, slot)| self.surplus.contains(&token.trial) && self.may_join(trial, *slot));
        spare.next()
    }

    /// Whether a replica of that trial could reach its chief from there, and has not failed there lately.
    fn may_join(&self, trial: TrialId, slot: SlotId) -> bool {
        let (Some((chief, address)), Some(entry)) = (self.chief(trial), self.trials.get(&trial)) else { return false };
        let Some(worker) = self.workers.get(&slot.worker) else { return false };
        let avoided = entry.replicas.avoid.get(&slot.worker).is_some_and(|until| *until > self.now);
        !avoided && (!is_loopback(address) || worker.host == chief.host)
    }

    /// The worker that holds the chief, if it is there, and where the chief listens.
    fn chief(&self, trial: TrialId) -> Option<(&Worker, &str)> {
        let record = self.trial(trial)?;
        let TrialState::Running { slot, .. } = record.state else { return None };
        let worker = self.workers.get(&slot.worker).filter(|worker| worker.attached)?;
        Some((worker, record.chief_address.as_deref()?))
    }

    /// Begins another replica of a running trial on a free slot.
    fn begin_replica(&mut self, trial: TrialId, slot: SlotId) {
        let Some(session) = self.workers.get(&slot.worker).and_then(Worker::live_session) else { return };
        let Some(entry) = self.trials.get_mut(&trial) else { return };
        entry.record.replicas_started += 1;
        let token = Token::replica(trial, entry.record.attempts, entry.record.replicas_started);
        self.outbox.touched.insert(trial);
        self.put(token, slot);
        self.outbox.actions.push(Command::Grant { slot, session, members: vec![token], joins: false });
    }

    /// A replica trains on that slot from now on.
    fn put(&mut self, token: Token, slot: SlotId) {
        let before = self.trials.get(&token.trial).map_or(SPEED_ONE, |entry| self.speed_together(entry));
        let Some(entry) = self.trials.get_mut(&token.trial) else { return };
        let place = self.workers.get_mut(&slot.worker).and_then(|worker| worker.slots.get_mut(&slot.index));
        let Some(place) = place else { return };
        place.lease = Some(Lease::new(self.now, [token]));
        entry.replicas.slots.insert(token.replica, slot);
        entry.replicas.shared = true;
        self.outbox.attempts.push(Fact::ReplicaJoined { token, slot });
        self.rescale(token.trial, before);
        self.refresh_slot(slot);
    }

    /// A replica trains no more; where it did.
    fn take_out(&mut self, token: Token, reason: &str) -> Option<SlotId> {
        let before = self.trials.get(&token.trial).map_or(SPEED_ONE, |entry| self.speed_together(entry));
        let slot = self.trials.get_mut(&token.trial)?.replicas.slots.remove(&token.replica)?;
        self.vacate(slot, token);
        self.outbox.attempts.push(Fact::ReplicaLeft { token, slot, reason: reason.to_owned() });
        self.rescale(token.trial, before);
        Some(slot)
    }

    fn replica_tokens(&self, trial: TrialId) -> Vec<Token> {
        let Some(entry) = self.trials.get(&trial) else { return Vec::new() };
        let attempt = entry.record.attempts;
        entry.replicas.slots.keys().rev().map(|&number| Token::replica(trial, attempt, number)).collect()
    }

    /// What a slot does, measured or not.
    pub(super) fn slot_speed(&self, slot: SlotId) -> u64 {
        self.slot(slot).and_then(|slot| slot.speed.millionths).unwrap_or_else(|| self.fleet.mean_speed())
    }

    /// What the slots of a running trial do together.
    pub(super) fn speed_together(&self, entry: &Entry) -> u64 {
        let TrialState::Running { slot, .. } = entry.record.state else { return SPEED_ONE };
        let others = entry.replicas.slots.values().map(|&slot| self.slot_speed(slot));
        others.fold(self.slot_speed(slot), u64::saturating_add).max(1)
    }

    fn is_measured(&self, trial: TrialId) -> bool {
        self.trials.get(&trial).is_some_and(|entry| self.sweeps[entry.sweep].work_per_ms.is_some())
    }

    /// What was left at the speed before takes less or more now.
    fn rescale(&mut self, trial: TrialId, before: u64) {
        let Some(entry) = self.trials.get(&trial) else { return };
        let TrialState::Running { slot, .. } = entry.record.state else { return };
        let (now, after) = (self.now, self.speed_together(entry));
        let scale = |at: Millis| {
            now.saturating_add((at.saturating_sub(now) as f64 * before as f64 / after as f64).ceil() as Millis)
        };
        let free_at = self.slot(slot).and_then(|slot| slot.lease.as_ref()?.free_at).map(scale);
        self.set_end(trial, free_at, scale(entry.replicas.ends_at));
    }

    /// When a running trial's slots will be free, all at once.
    pub(super) fn set_end(&mut self, trial: TrialId, free_at: Option<Millis>, ends_at: Millis) {
        let Some(entry) = self.trials.get_mut(&trial) else { return };
        let TrialState::Running { slot, .. } = entry.record.state else { return };
        entry.replicas.ends_at = ends_at;
        let slots: Vec<SlotId> = entry.replicas.slots.values().copied().chain([slot]).collect();
        for id in slots {
            let now = self.now;
            if let Some(lease) = self.slot_mut(id).and_then(|slot| slot.lease.as_mut()) {
                lease.estimated_at = now;
                lease.free_at = free_at;
            }
            self.refresh_slot(id);
        }
        self.refresh_replicas(trial);
    }

    /// Puts a trial where it belongs among those that wish for replicas and those that have some to spare; after
    /// every change of its state, its replicas or its expected end.
    pub(super) fn refresh_replicas(&mut self, trial: TrialId) {
        let Some(entry) = self.trials.get(&trial) else { return };
        let (wish, is_surplus) = (wish_of(trial, entry), entry.surplus_count() > 0);
        let starts = entry.record.chief_address.is_none() && matches!(entry.record.state, TrialState::Running { .. });
        if !starts {
            self.stop_keeping_slots(trial);
        }
        let Some(entry) = self.trials.get_mut(&trial) else { return };
        let replicas = &mut entry.replicas;
        if replicas.wish != wish {
            if let Some(old) = replicas.wish {
                self.wishes.remove(&old);
            }
            self.wishes.extend(wish);
            // A new one, not only another estimate.
            self.assign_due |= wish.map(|wish| wish.0) != replicas.wish.map(|wish| wish.0);
            replicas.wish = wish;
        }
        if replicas.is_surplus != is_surplus {
            replicas.is_surplus = is_surplus;
            if is_surplus {
                self.surplus.insert(trial);
            } else {
                self.surplus.remove(&trial);
            }
        }
    }

    /// The trial is about to be forgotten.
    pub(super) fn forget_replicas(&mut self, trial: TrialId) {
        let Some(entry) = self.trials.get(&trial) else { return };
        if let Some(wish) = entry.replicas.wish {
            self.wishes.remove(&wish);
        }
        self.surplus.remove(&trial);
        self.stop_keeping_slots(trial);
    }

    /// What was kept for it is there for others, also when its own slot does not become free (its worker is away or
    /// drains).
    fn stop_keeping_slots(&mut self, trial: TrialId) {
        self.assign_due |= self.starting.remove(&trial).is_some();
    }

    /// For tests: everything about replicas derived once more.
    pub(super) fn check_replicas(&self) {
        let (mut wishes, mut with_surplus) = (0, 0);
        for (&id, entry) in &self.trials {
            let (record, replicas) = (&entry.record, &entry.replicas);
            assert_eq!(replicas.wish, wish_of(id, entry), "wish of trial {id}");
            if let Some(wish) = &replicas.wish {
                wishes += 1;
                assert!(self.wishes.contains(wish), "trial {id} wishes for replicas, unheard");
            }
            assert_eq!(replicas.is_surplus, entry.surplus_count() > 0, "surplus of trial {id}");
            if replicas.is_surplus {
                with_surplus += 1;
                assert!(self.surplus.contains(&id), "trial {id} has replicas to spare, unseen");
            }
            let runs = matches!(record.state, TrialState::Running { .. });
            assert!(runs || record.chief_address.is_none(), "trial {id} does not run and has a chief");
            assert!(runs || !self.starting.contains_key(&id), "slots are kept for trial {id}, which does not run");
            if replicas.slots.is_empty() {
                continue;
            }
            assert!(
                matches!(record.state, TrialState::Running { stopping: None, .. }) && record.chief_address.is_some(),
                "trial {id} has replicas and no chief to help: {record:?}"
            );
            assert!(entry.replica_count() <= record.trial.replicas.max, "trial {id} has too many replicas");
            for (&number, &slot) in &replicas.slots {
                assert!((1..=record.replicas_started).contains(&number), "replica {number} of trial {id}");
                let token = self.slot(slot).and_then(|slot| slot.lease.as_ref()?.replica());
                assert_eq!(token, Some(Token::replica(id, record.attempts, number)), "{slot} does not train it");
            }
        }
        assert_eq!((wishes, with_surplus), (self.wishes.len(), self.surplus.len()), "wishes, and replicas to spare");
        for (host, worker) in &self.hosts {
            assert_eq!(self.workers.get(worker).map(|known| &known.host), Some(host), "host of {worker}");
        }
        let attached = self.workers.values().filter(|worker| worker.session.is_some()).count();
        assert_eq!(self.hosts.len(), attached, "workers by host");
    }
}

fn wish_of(trial: TrialId, entry: &Entry) -> Option<Wish> {
    let (record, replicas) = (&entry.record, &entry.replicas);
    let listens = matches!(record.state, TrialState::Running { stopping: None, .. }) && record.chief_address.is_some();
    let limits = record.trial.replicas;
    let count = entry.replica_count();
    let wants = listens && count < limits.max && !replicas.done && replicas.failures < FAILURES_MAX;
    wants.then_some((count >= limits.min, Reverse(replicas.ends_at), trial))
}
