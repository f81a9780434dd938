//! Who trains what, when: a pure state machine. Events and the time go in, commands come out.
//!
//! Where things are: `api` what goes in and out; `state` what is remembered, and the one door through which
//! a trial changes its state; `queue` the order of pending trials; `fleet` the slots that may be used, free
//! and busy; `assign` and `plan` which trial goes to which slot; `leases` workers that come, live, go silent and leave;
//! `attempts` how an attempt ends and what follows; `orders` what people ask for; `explain` why a trial waits;
//! `cohorts` which trials train side by side; `balance` who goes to another slot; `replicas` idle slots that help
//! running trials; `trust` workers on which everything fails; `status` what watchers read; `fold` facts to records; `invariants` the whole state derived once more.

mod api;
mod assign;
mod attempts;
mod balance;
mod cohorts;
mod explain;
mod fleet;
mod fold;
mod invariants;
mod leases;
mod orders;
mod plan;
mod queue;
mod replicas;
mod state;
mod status;
mod trust;

pub use api::{
    AskedLimit, AttemptEnd, Command, Config, Event, Fact, Millis, NewTrial, Refusal, ReplicaLimits, SlotOffer,
    StopReason, SweepLimits, SweepRecord, TrialRecord, TrialState, Waiting,
};
pub use fold::fold;
pub use status::{SlotView, StateCounts, SweepView, WorkerState, WorkerView};

use crate::ids::{SlotId, Token, TrialId, WorkerId};
use fleet::Fleet;
use queue::Turn;
use replicas::Wish;
use state::{Entry, Outbox, Sweep, Worker};
use std::collections::{BTreeMap, BTreeSet};

/// The state of all sweeps, trials, workers and leases.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    /// The latest time seen: a caller's clock that stumbles does not turn leases back.
    now: Millis,
    sweeps: Vec<Sweep>,
    sweep_by_name: BTreeMap<String, usize>,
    /// Boxed, as the slots of a worker: nodes of a map are half empty, and a coordinator may hold 100,000 trials.
    trials: BTreeMap<TrialId, Box<Entry>>,
    /// Workers that hold a lease or may be given one. Lost ones and those that left are forgotten.
    workers: BTreeMap<WorkerId, Worker>,
    /// The workers of each host.
    hosts: BTreeSet<(String, WorkerId)>,
    /// When each worker's leases end, soonest first.
    deadlines: BTreeSet<(Millis, WorkerId)>,
    /// When each worker that is set aside is tried again, soonest first.
    set_aside: BTreeSet<(Millis, WorkerId)>,
    /// Why no lease is granted at the moment, if none is.
    held: Option<String>,
    /// Sweeps that have a trial to run and may run it, the next one first.
    turns: BTreeSet<Turn>,
    /// The slots of attached workers that do not drain.
    fleet: Fleet,
    /// Running trials that may have more replicas, the next one first.
    wishes: BTreeSet<Wish>,
    /// Trials with more replicas than they must have: a pending trial may take their slots.
    surplus: BTreeSet<TrialId>,
    /// Trials that need replicas and whose chief does not listen yet: slots are kept for them, until then.
    starting: BTreeMap<TrialId, Millis>,
    /// Trials for which the last assignment preferred a busy slot to a free one.
    waits: BTreeMap<TrialId, SlotId>,
    /// Trials that were asked to leave their slot for another one, and have not stopped yet.
    moving: usize,
    /// How long others wait for them at most.
    moving_until: Millis,
    /// Whether others should is not looked at before.
    balance_at: Millis,
    /// Work per millisecond at speed 1 in the sweep measured last: the guess for those that never were.
    last_work_per_ms: f64,
    /// Something changed that could let a pending trial run.
    assign_due: bool,
    /// Something changed that could let a pending trial join a cohort.
    joins_due: bool,
    /// Not before, because none did when that was looked at last.
    joins_at: Millis,
    /// When to look again whether waiting for better slots is still right.
    assign_at: Option<Millis>,
    outbox: Outbox,
}

impl Scheduler {
    /// Nothing known.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: 0,
            sweeps: Vec::new(),
            sweep_by_name: BTreeMap::new(),
            trials: BTreeMap::new(),
            workers: BTreeMap::new(),
            hosts: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            held: None,
            turns: BTreeSet::new(),
            fleet: Fleet::default(),
            wishes: BTreeSet::new(),
            surplus: BTreeSet::new(),
            starting: BTreeMap::new(),
            waits: BTreeMap::new(),
            moving: 0,
            moving_until: 0,
            balance_at: 0,
            last_work_per_ms: 1.0,
            assign_due: false,
            joins_due: false,
            joins_at: 0,
            assign_at: None,
            outbox: Outbox::default(),
        }
    }

    /// As the store remembers it. Running trials keep their leases: their workers, not yet attached, have a
    /// whole lease from `now` to come back.
    #[must_use]
    pub fn restore(config: Config, now: Millis, sweeps: Vec<SweepRecord>) -> Self {
        let mut scheduler = Self::new(config);
        scheduler.now = now;
        for record in sweeps {
            let sweep = scheduler.add_sweep(record.sweep, record.limits, record.paused);
            scheduler.sweeps[sweep].asked = record.asked;
            for trial in record.trials {
                scheduler.restore_trial(sweep, trial);
            }
        }
        scheduler
    }

    /// Takes one event; appends what is to be done: facts first, then all else. A refused event has changed
    /// nothing, and may still have commands (a stop for a worker that is not current).
    ///
    /// # Errors
    /// When the event is not current or names something unknown.
    pub fn handle(&mut self, now: Millis, event: Event, commands: &mut Vec<Command>) -> Result<(), Refusal> {
        self.now = self.now.max(now);
        let result = self.take(event);
        if result.is_ok() {
            self.assign();
        }
        self.flush(commands);
        result
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        let lease_end = self.deadlines.first().map(|&(at, _)| at);
        let trusted = self.set_aside.first().map(|&(at, _)| at);
        [lease_end, trusted, self.assign_at].into_iter().flatten().min()
    }

    /// Ends what has run out by `now`. Harmless when nothing has.
    pub fn handle_timeout(&mut self, now: Millis, commands: &mut Vec<Command>) {
        self.now = self.now.max(now);
        self.end_leases();
        self.end_set_aside();
        if self.assign_at.is_some_and(|at| at <= self.now) {
            (self.assign_due, self.joins_due) = (true, true);
        }
        self.assign();
        self.flush(commands);
    }

    /// What is known of a trial.
    #[must_use]
    pub fn trial(&self, trial: TrialId) -> Option<&TrialRecord> {
        self.trials.get(&trial).map(|entry| &entry.record)
    }

    /// Where the trainer of that token runs: of a chief or another replica; nowhere if it is not current.
    #[must_use]
    pub fn slot_of(&self, token: Token) -> Option<SlotId> {
        self.current(token).ok()
    }

    fn take(&mut self, event: Event) -> Result<(), Refusal> {
        match event {
            Event::SweepSubmitted { sweep, limits, trials } => {
                self.submit(sweep, limits, &trials);
                Ok(())
            }
            Event::SweepCleared { sweep } => self.clear_sweep(&sweep),
            Event::WorkerJoined { worker, session, host, slots, holding } => {
                self.join(worker, session, host, slots, &holding)
            }
            Event::Heartbeat { worker, session } => self.heartbeat(worker, session),
            Event::WorkerDisconnected { worker, session } => self.disconnect(worker, session),
            Event::WorkerDraining { worker, session } => self.drain(worker, session),
            Event::WorkerDrainAsked { worker } => self.ask_to_drain(worker),
            Event::WorkerLeft { worker, session } => self.leave(worker, session),
            Event::EpochFinished { token, epoch, duration_ms } => self.epoch_finished(token, epoch, duration_ms),
            Event::Progress { token, epoch, share, duration_ms } => self.progressed(token, epoch, share, duration_ms),
            Event::ChiefListening { token, address } => self.chief_listening(token, address),
            Event::AttemptEnded { token, end } => self.attempt_ended(token, end),
            Event::LeasesHeld { reason } => {
                self.hold(reason);
                Ok(())
            }
            Event::SweepLimited { sweep, max_concurrent_trials } => self.limit_sweep(&sweep, max_concurrent_trials),
            Event::SweepPaused { sweep } => self.pause_sweep(&sweep),
            Event::SweepResumed { sweep } => self.resume_sweep(&sweep),
            Event::SweepCancelled { sweep } => self.cancel_sweep(&sweep),
            Event::SweepRetried { sweep } => self.retry_sweep(&sweep),
            Event::TrialPaused { trial } => self.pause_trial(trial),
            Event::TrialResumed { trial } => self.resume_trial(trial),
            Event::TrialCancelled { trial } => self.cancel_trial(trial),
            Event::TrialRetried { trial } => self.retry_trial(trial),
        }
    }
}
