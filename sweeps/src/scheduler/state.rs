//! What the scheduler remembers, and the one door through which a trial changes its state.

use super::fleet::{Place, Speed};
use super::queue::{Meeting, Queue, Turn};
use super::replicas::Replicas;
use super::trust::Trust;
use super::{AskedLimit, Command, Fact, Millis, Scheduler, SweepLimits, TrialRecord, TrialState};
use crate::ids::{SlotId, Token, TrialId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// A trial and what is known of it beyond its record. The rest is forgotten by a restart, at no harm.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: TrialRecord,
    /// Place in [`Scheduler::sweeps`].
    pub(super) sweep: usize,
    /// Where its last attempt crashed: somebody else is tried first.
    pub(super) avoid: Option<WorkerId>,
    /// At most so many trials train side by side with it, itself included: halved when a shared trainer dies.
    pub(super) company_max: u32,
    /// It has changed its slot, and finished no epoch since.
    pub(super) has_moved: bool,
    /// Of the current attempt.
    pub(super) replicas: Replicas,
}

impl Entry {
    /// What training on one image costs × epochs left.
    pub(super) fn work(&self) -> u64 {
        let trial = &self.record.trial;
        let epochs_left = trial.epochs.saturating_sub(self.record.epochs_done);
        trial.work.saturating_mul(u64::from(epochs_left))
    }

    /// Where it is in its stream, if it shares one.
    pub(super) fn meeting(&self) -> Option<Meeting> {
        self.record.trial.stream.map(|stream| (stream, self.record.epochs_done))
    }
}

#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) name: String,
    /// Its file's.
    pub(super) limits: SweepLimits,
    /// What a person asked for, in place of the file's `max_concurrent_trials`.
    pub(super) asked: Option<AskedLimit>,
    pub(super) paused: bool,
    /// Its pending trials.
    pub(super) queue: Queue,
    /// Work per millisecond of a slot of speed 1; unknown until an epoch has been measured. The number of images
    /// is the same for all trials of a sweep, so it hides in here.
    pub(super) work_per_ms: Option<f64>,
    /// Its trials by [`state_index`].
    pub(super) by_state: [BTreeSet<TrialId>; STATES],
    /// Its entry in [`Scheduler::turns`].
    pub(super) turn: Option<Turn>,
}

impl Sweep {
    /// The limit that holds now.
    pub(super) fn max_concurrent_trials(&self) -> Option<u32> {
        self.asked.map_or(self.limits.max_concurrent_trials, |asked| asked.max_concurrent_trials)
    }

    /// How many more trials it may run now.
    pub(super) fn headroom(&self) -> usize {
        if self.paused {
            return 0;
        }
        match self.max_concurrent_trials() {
            None => usize::MAX,
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(self.by_state[RUNNING].len()),
        }
    }

    /// How long work takes on a slot of speed 1, as far as that is known.
    pub(super) fn expected_ms(&self, work: u64) -> Option<f64> {
        self.work_per_ms.map(|work_per_ms| work as f64 / work_per_ms)
    }
}

pub(super) const STATES: usize = 6;
pub(super) const PENDING: usize = 0;
pub(super) const RUNNING: usize = 1;
pub(super) const PAUSED: usize = 2;
pub(super) const COMPLETED: usize = 3;
pub(super) const FAILED: usize = 4;
pub(super) const CANCELLED: usize = 5;

pub(super) fn state_index(state: &TrialState) -> usize {
    match state {
        TrialState::Pending => PENDING,
        TrialState::Running { .. } => RUNNING,
        TrialState::Paused => PAUSED,
        TrialState::Completed => COMPLETED,
        TrialState::Failed { .. } => FAILED,
        TrialState::Cancelled => CANCELLED,
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) host: String,
    /// `None`: held leases before a restart and has not come back yet.
    pub(super) session: Option<u64>,
    pub(super) attached: bool,
    /// For good: a worker is one start of one agent.
    pub(super) draining: bool,
    /// Its entry in [`Scheduler::deadlines`].
    pub(super) deadline: Millis,
    pub(super) trust: Trust,
    pub(super) slots: BTreeMap<u32, Box<Slot>>,
}

impl Worker {
    /// Whether its slots may be given leases.
    pub(super) fn is_usable(&self) -> bool {
        self.attached && !self.draining && self.trust.aside.is_none()
    }

    /// The session that commands must reach; none while there is no stream.
    pub(super) fn live_session(&self) -> Option<u64> {
        self.session.filter(|_| self.attached)
    }
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) device: String,
    pub(super) speed: Speed,
    pub(super) lease: Option<Lease>,
    /// Its entry in [`Scheduler::fleet`].
    pub(super) place: Place,
}

impl Slot {
    /// Those as well, from now on.
    pub(super) fn train(&mut self, now: Millis, tokens: impl IntoIterator<Item = Token>) {
        match &mut self.lease {
            Some(lease) => lease.members.extend(tokens.into_iter().map(Member::new)),
            free => *free = Some(Lease::new(now, tokens)),
        }
    }
}

/// What a slot trains: trials side by side, or one replica of a trial.
#[derive(Debug)]
pub(super) struct Lease {
    /// At least one.
    pub(super) members: Vec<Member>,
    /// When the estimate was made.
    pub(super) estimated_at: Millis,
    /// When the slot will be free again, as far as that can be told.
    pub(super) free_at: Option<Millis>,
}

/// One of those that a slot trains.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) token: Token,
    /// The last epoch that this attempt has reported; 0 if none.
    pub(super) epoch: u32,
    /// Of the work of the epoch after it, what is done, as reported last.
    pub(super) begun: u64,
    /// It was asked to move to another slot.
    pub(super) moves: bool,
}

impl Lease {
    pub(super) fn new(now: Millis, tokens: impl IntoIterator<Item = Token>) -> Self {
        let members = tokens.into_iter().map(Member::new).collect();
        Self { members, estimated_at: now, free_at: None }
    }

    /// Of a replica that is not its trial's chief: it has its slot for itself.
    pub(super) fn replica(&self) -> Option<Token> {
        self.members.first().map(|member| member.token).filter(|token| token.replica > 0)
    }

    pub(super) fn is_replica(&self) -> bool {
        self.replica().is_some()
    }

    pub(super) fn member(&self, token: Token) -> Option<&Member> {
        self.members.iter().find(|member| member.token == token)
    }
}

impl Member {
    pub(super) fn new(token: Token) -> Self {
        Self { token, epoch: 0, begun: 0, moves: false }
    }
}

/// What one event leads to, sorted so that facts come first and a trial is told once.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) sweeps: Vec<Fact>,
    pub(super) touched: BTreeSet<TrialId>,
    pub(super) attempts: Vec<Fact>,
    pub(super) actions: Vec<Command>,
}

impl Scheduler {
    /// Appends what has gathered: sweeps, trials, attempts (a row is there before others refer to it), then
    /// everything that is not a fact.
    pub(super) fn flush(&mut self, commands: &mut Vec<Command>) {
        let Outbox { sweeps, touched, attempts, actions } = std::mem::take(&mut self.outbox);
        commands.extend(sweeps.into_iter().map(Command::Remember));
        for trial in touched {
            if let Some(entry) = self.trials.get(&trial) {
                commands.push(Command::Remember(Fact::Trial(entry.record.clone())));
            }
        }
        commands.extend(attempts.into_iter().map(Command::Remember));
        commands.extend(actions);
    }

    pub(super) fn add_sweep(&mut self, name: String, limits: SweepLimits, paused: bool) -> usize {
        let index = self.sweeps.len();
        self.sweep_by_name.insert(name.clone(), index);
        self.sweeps.push(Sweep {
            name,
            limits,
            asked: None,
            paused,
            queue: Queue::default(),
            work_per_ms: None,
            by_state: Default::default(),
            turn: None,
        });
        index
    }

    /// Puts a trial that is not known yet into every index. A known one is left alone.
    pub(super) fn add_trial(&mut self, sweep: usize, record: TrialRecord) {
        let id = record.trial.id;
        if self.trials.contains_key(&id) {
            return;
        }
        let replicas = Replicas::default();
        let entry = Box::new(Entry { record, sweep, avoid: None, company_max: u32::MAX, has_moved: false, replicas });
        self.sweeps[sweep].by_state[state_index(&entry.record.state)].insert(id);
        if entry.record.state == TrialState::Pending {
            self.sweeps[sweep].queue.insert(&entry);
            (self.assign_due, self.joins_due) = (true, true);
        }
        self.trials.insert(id, entry);
        self.refresh_turn(sweep);
        self.refresh_replicas(id);
    }

    /// A trial as the store gave it back. Its worker, if it has one, is expected.
    pub(super) fn restore_trial(&mut self, sweep: usize, record: TrialRecord) {
        let running = match record.state {
            TrialState::Running { attempt, slot, .. } => Some((Token::chief(record.trial.id, attempt), slot)),
            TrialState::Pending
            | TrialState::Paused
            | TrialState::Completed
            | TrialState::Failed { .. }
            | TrialState::Cancelled => None,
        };
        if self.trials.contains_key(&record.trial.id) {
            return;
        }
        if let Some((token, slot)) = running {
            let deadline = self.now.saturating_add(self.config.lease_ms);
            let worker = self.workers.entry(slot.worker).or_insert_with(|| Worker {
                host: String::new(),
                session: None,
                attached: false,
                draining: false,
                deadline,
                trust: Trust::default(),
                slots: BTreeMap::new(),
            });
            self.deadlines.insert((worker.deadline, slot.worker));
            worker.slots.entry(slot.index).or_default().train(self.now, [token]);
        }
        self.add_trial(sweep, record);
    }

    /// The one door: every change of a trial's state passes here, and all indexes follow.
    pub(super) fn set_state(&mut self, trial: TrialId, state: TrialState) {
        if !matches!(state, TrialState::Running { stopping: None, .. }) {
            self.release_all(trial, &state);
        }
        let Some(entry) = self.trials.get_mut(&trial) else { return };
        let sweep = &mut self.sweeps[entry.sweep];
        if entry.record.state == TrialState::Pending {
            sweep.queue.remove(entry);
        }
        sweep.by_state[state_index(&entry.record.state)].remove(&trial);
        sweep.by_state[state_index(&state)].insert(trial);
        entry.record.state = state;
        if !matches!(entry.record.state, TrialState::Running { .. }) {
            entry.record.chief_address = None;
        }
        if entry.record.state == TrialState::Pending {
            sweep.queue.insert(entry);
            (self.assign_due, self.joins_due) = (true, true);
        }
        self.outbox.touched.insert(trial);
        let index = entry.sweep;
        self.refresh_turn(index);
        self.refresh_replicas(trial);
    }

    pub(super) fn slot(&self, slot: SlotId) -> Option<&Slot> {
        self.workers.get(&slot.worker)?.slots.get(&slot.index).map(Box::as_ref)
    }

    pub(super) fn slot_mut(&mut self, slot: SlotId) -> Option<&mut Slot> {
        self.workers.get_mut(&slot.worker)?.slots.get_mut(&slot.index).map(Box::as_mut)
    }
}
