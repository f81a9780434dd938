//! The scheduler's commands, made rows, events and acts.

use super::act::After;
use super::{Driver, Running};
use crate::clock::unix_ms;
use crate::store::{AttemptEnded, AttemptStarted, Grouped, Write};
use proto::wire;
use std::collections::BTreeSet;
use sweeps::event::Happening;
use sweeps::ids::{SlotId, Token};
use sweeps::scheduler::{AttemptEnd, Command, Event, Fact, Refusal, TrialRecord, TrialState};
use sweeps::spec::model::Keep;
use tonic::Status;

impl Driver {
    /// Asks the scheduler; what follows is in the batch. A refusal may have commands too.
    pub(super) fn tell_scheduler(&mut self, event: Event) -> Result<(), Refusal> {
        let mut commands = Vec::new();
        let result = self.scheduler.handle(self.clock.now_ms(), event, &mut commands);
        self.carry_out(commands);
        result
    }

    pub(super) fn carry_out(&mut self, commands: Vec<Command>) {
        // Sweeps of which a trial has just ended.
        let mut maybe_over = BTreeSet::new();
        for command in commands {
            match command {
                Command::Remember(fact) => self.remember(fact, &mut maybe_over),
                Command::Grant { slot, session, members, joins } => {
                    self.after.push(After::Grant { session, slot, members, joins });
                }
                Command::Stop { worker: _, session, token, reason } => {
                    let reason = proto::convert::stop_word(reason).to_owned();
                    let stop = wire::Stop { token: Some(token.into()), reason };
                    let message = wire::coordinator_message::Body::Stop(stop);
                    self.after.push(After::Send { session, message });
                }
                Command::Drain { worker: _, session } => {
                    let message = wire::coordinator_message::Body::LeaveWhenDone(wire::LeaveWhenDone {});
                    self.after.push(After::Send { session, message });
                }
                Command::WorkerSetAside { worker, reason } => {
                    tracing::warn!(%worker, reason, "a worker is set aside for a while");
                    self.happened_to_worker(Happening::WorkerSetAside { worker, reason });
                }
                Command::WorkerLost { worker, reason } => {
                    self.metrics.workers_lost.inc();
                    tracing::warn!(%worker, reason, "a worker is lost");
                    if let Some(session) = self.session_of(worker) {
                        let status = Status::aborted("given up as lost; register again");
                        self.after.push(After::Close { session, status });
                    }
                    let last_seen_ms = self.guests.remove(&worker).map_or(0, |guest| guest.last_seen_ms);
                    self.history.seen_last(worker, last_seen_ms);
                    self.happened_to_worker(Happening::WorkerLost { worker, reason });
                }
            }
        }
        for sweep in maybe_over {
            let counts = self.scheduler.sweep(&sweep).map(|sweep| sweep.counts);
            if counts.is_some_and(|counts| counts.over() == counts.total()) {
                self.happened(&sweep, None, &Happening::SweepOver);
            }
        }
    }

    fn remember(&mut self, fact: Fact, maybe_over: &mut BTreeSet<String>) {
        match fact {
            Fact::SweepKnown { sweep, limits } => {
                self.show_limit(&sweep);
                let limits_json = proto::convert::to_json(&limits);
                self.pending.writes.push(Write::SweepLimits { sweep, limits_json });
            }
            Fact::SweepLimited { sweep, asked } => {
                self.show_limit(&sweep);
                let asked_json = asked.map(|asked| proto::convert::to_json(&asked));
                self.pending.writes.push(Write::AskedLimit { sweep, asked_json });
            }
            Fact::SweepPaused { sweep, paused } => {
                let happening = if paused { Happening::SweepPaused } else { Happening::SweepResumed };
                self.happened(&sweep, None, &happening);
                self.pending.writes.push(Write::SweepPaused { sweep, paused });
            }
            Fact::SweepCleared { sweep } => {
                self.replicas_changed = true;
                let scheduler = &self.scheduler;
                self.shown.retain(|trial, _| scheduler.trial(*trial).is_some());
                self.running.retain(|trial, _| scheduler.trial(*trial).is_some());
                self.unpruned.retain(|trial, _| scheduler.trial(*trial).is_some());
                self.pending.writes.push(Write::SweepCleared { sweep });
            }
            Fact::Trial(record) => self.remember_trial(record, maybe_over),
            Fact::AttemptStarted { token, slot } => self.attempt_started(token, slot),
            Fact::AttemptEnded { token, end } => self.attempt_ended(token, end),
            Fact::ReplicaJoined { token, slot } => {
                let ((host, device), Token { attempt, replica, .. }) = (self.names_of(slot), token);
                let worker = slot.worker;
                tracing::info!(%token, host, device, "a replica joins");
                self.happened_to(token, &Happening::ReplicaJoined { attempt, replica, worker, host, device });
            }
            Fact::ReplicaLeft { token, slot, reason } => {
                let ((host, device), Token { attempt, replica, .. }) = (self.names_of(slot), token);
                tracing::info!(%token, host, device, reason, "a replica leaves");
                // What it says before it hears of that is no news, and it is told to stop already.
                super::workers::remember_token(&mut self.ended, token);
                self.happened_to(token, &Happening::ReplicaLeft { attempt, replica, host, device, reason });
            }
        }
    }

    /// Tells watchers which limit holds now, if that is another one than before. Of a new sweep the file says it.
    fn show_limit(&mut self, sweep: &str) {
        let Some(view) = self.scheduler.sweep(sweep) else { return };
        let limit = view.max_concurrent_trials();
        let before = self.shown_limits.insert(sweep.to_owned(), limit);
        if before.is_some_and(|before| before != limit) {
            self.happened(sweep, None, &Happening::SweepLimited { max_concurrent_trials: limit });
        }
    }

    fn remember_trial(&mut self, record: TrialRecord, maybe_over: &mut BTreeSet<String>) {
        let id = record.trial.id;
        if record.state == TrialState::Pending && record.attempts == 0 && self.fresh.contains(&id) {
            // Just as it was put in.
            return;
        }
        let before = self.shown.get(&id).unwrap_or(&TrialState::Pending);
        if *before != record.state {
            if record.state.is_over() && !before.is_over() {
                maybe_over.insert(record.sweep.clone());
            }
            let state = record.state.clone();
            self.shown.insert(id, state.clone());
            self.happened(&record.sweep, Some(id), &Happening::TrialChanged { state });
        }
        let completed = record.state == TrialState::Completed;
        let sweep = record.sweep.clone();
        self.pending.group(Grouped::Trial { record, at_ms: unix_ms() });
        if completed {
            let keep = self.sweeps.get(&sweep).map(|sweep| sweep.keep.as_slice()).unwrap_or_default();
            let (best, latest) = (keep.contains(&Keep::Best), keep.contains(&Keep::Latest));
            self.pending.group(Grouped::KeepCheckpoints { trial: id, best, latest });
        }
    }

    fn attempt_started(&mut self, token: Token, slot: SlotId) {
        self.metrics.leases_granted.inc();
        self.running.insert(token.trial, Running::new(0));
        self.forget_speed(slot);
        let (host, device) = self.names_of(slot);
        if let Some(sweep) = self.sweep_of(token) {
            let (attempt, worker) = (token.attempt, slot.worker);
            let happening = Happening::AttemptStarted { attempt, worker, host: host.clone(), device: device.clone() };
            self.happened(&sweep, Some(token.trial), &happening);
        }
        self.pending.group(Grouped::AttemptStarted(AttemptStarted { token, slot, host, device, at_ms: unix_ms() }));
    }

    fn attempt_ended(&mut self, token: Token, end: AttemptEnd) {
        self.metrics.attempt_ended(&end);
        self.running.remove(&token.trial);
        let end_json = proto::convert::to_json(&end);
        self.pending.group(Grouped::AttemptEnded(AttemptEnded { token, end_json, at_ms: unix_ms() }));
        if end != AttemptEnd::Completed {
            self.pending.writes.push(Write::ForgetUnreported { trial: token.trial });
        }
        if let Some(sweep) = self.sweep_of(token) {
            self.happened(&sweep, Some(token.trial), &Happening::AttemptEnded { attempt: token.attempt, end });
        }
    }

    /// Of a replica.
    fn happened_to(&mut self, token: Token, happening: &Happening) {
        self.replicas_changed = true;
        if let Some(sweep) = self.sweep_of(token) {
            self.happened(&sweep, Some(token.trial), happening);
        }
    }

    pub(super) fn sweep_of(&self, token: Token) -> Option<String> {
        self.scheduler.trial(token.trial).map(|record| record.sweep.clone())
    }
}
