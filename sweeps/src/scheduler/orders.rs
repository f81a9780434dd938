//! What people ask for: submit, limit, pause, resume, cancel, retry. Asked twice, the second time changes nothing.

use super::queue::Queue;
use super::state::{CANCELLED, FAILED, PAUSED, PENDING, RUNNING};
use super::{
    AskedLimit, Command, Fact, NewTrial, Refusal, Scheduler, StopReason, SweepLimits, TrialRecord, TrialState,
};
use crate::ids::TrialId;

impl Scheduler {
    /// Grants no leases for that reason, or grants them again.
    pub(super) fn hold(&mut self, reason: Option<String>) {
        (self.assign_due, self.joins_due) = (true, true);
        self.held = reason;
    }

    pub(super) fn submit(&mut self, name: String, limits: SweepLimits, trials: &[NewTrial]) {
        let index = match self.sweep_by_name.get(&name) {
            Some(&index) => {
                if self.sweeps[index].limits != limits {
                    // A file with another limit says what is wanted now; the same file again says nothing new.
                    let file_has_changed =
                        self.sweeps[index].limits.max_concurrent_trials != limits.max_concurrent_trials;
                    if file_has_changed && self.sweeps[index].asked.take().is_some() {
                        self.outbox.sweeps.push(Fact::SweepLimited { sweep: name.clone(), asked: None });
                    }
                    self.sweeps[index].limits = limits.clone();
                    self.outbox.sweeps.push(Fact::SweepKnown { sweep: name.clone(), limits });
                    self.refresh_slots_of_sweep(index);
                    self.refresh_turn(index);
                    self.assign_due = true;
                }
                index
            }
            None => {
                self.outbox.sweeps.push(Fact::SweepKnown { sweep: name.clone(), limits: limits.clone() });
                self.add_sweep(name.clone(), limits, false)
            }
        };
        for &trial in trials {
            if self.trials.contains_key(&trial.id) {
                continue;
            }
            self.outbox.touched.insert(trial.id);
            let record = TrialRecord {
                trial,
                sweep: name.clone(),
                state: TrialState::Pending,
                attempts: 0,
                restarts: 0,
                losses: 0,
                epochs_done: 0,
                replicas_started: 0,
                chief_address: None,
            };
            self.add_trial(index, record);
        }
    }

    /// Their slots are free at once: whoever is given one next waits until the old trainer has stopped.
    pub(super) fn clear_sweep(&mut self, name: &str) -> Result<(), Refusal> {
        let index = self.known_sweep(name)?;
        let sweep = &mut self.sweeps[index];
        sweep.queue = Queue::default();
        sweep.work_per_ms = None;
        sweep.paused = false;
        sweep.asked = None;
        for trial in std::mem::take(&mut sweep.by_state).into_iter().flatten() {
            self.waits.remove(&trial);
            self.release_all(trial, &TrialState::Cancelled);
            self.forget_replicas(trial);
            // As if it had never been.
            self.outbox
                .attempts
                .retain(|fact| !matches!(fact, Fact::ReplicaLeft { token, .. } if token.trial == trial));
            let Some(entry) = self.trials.remove(&trial) else { continue };
            let TrialState::Running { attempt, slot, .. } = entry.record.state else { continue };
            let token = crate::ids::Token::chief(trial, attempt);
            self.vacate(slot, token);
            let worker = slot.worker;
            if let Some(session) = self.workers.get(&worker).and_then(super::state::Worker::live_session) {
                self.outbox.actions.push(Command::Stop { worker, session, token, reason: StopReason::Superseded });
            }
        }
        self.refresh_turn(index);
        self.assign_due = true;
        self.outbox.sweeps.push(Fact::SweepCleared { sweep: name.to_owned() });
        Ok(())
    }

    /// More that run already go on: a limit stops nobody.
    pub(super) fn limit_sweep(&mut self, name: &str, max_concurrent_trials: Option<u32>) -> Result<(), Refusal> {
        let index = self.known_sweep(name)?;
        let sweep = &mut self.sweeps[index];
        let is_files = sweep.limits.max_concurrent_trials == max_concurrent_trials;
        let asked = (!is_files).then_some(AskedLimit { max_concurrent_trials });
        if sweep.asked != asked {
            sweep.asked = asked;
            self.outbox.sweeps.push(Fact::SweepLimited { sweep: name.to_owned(), asked });
            self.refresh_turn(index);
            self.assign_due = true;
        }
        Ok(())
    }

    /// Pending trials stay pending, under a sweep that grants none; running ones are stopped and then wait.
    pub(super) fn pause_sweep(&mut self, name: &str) -> Result<(), Refusal> {
        let index = self.known_sweep(name)?;
        self.set_sweep_paused(index, true);
        for trial in self.sweeps[index].by_state[RUNNING].clone() {
            self.stop_running(trial, StopReason::Pause);
        }
        Ok(())
    }

    /// All paused trials of it may run again, also those that were paused one by one.
    pub(super) fn resume_sweep(&mut self, name: &str) -> Result<(), Refusal> {
        let index = self.known_sweep(name)?;
        self.set_sweep_paused(index, false);
        for trial in self.sweeps[index].by_state[PAUSED].clone() {
            self.set_state(trial, TrialState::Pending);
        }
        for trial in self.sweeps[index].by_state[RUNNING].clone() {
            self.unpause_running(trial);
        }
        Ok(())
    }

    pub(super) fn cancel_sweep(&mut self, name: &str) -> Result<(), Refusal> {
        let index = self.known_sweep(name)?;
        for state in [PENDING, PAUSED] {
            for trial in self.sweeps[index].by_state[state].clone() {
                self.set_state(trial, TrialState::Cancelled);
            }
        }
        for trial in self.sweeps[index].by_state[RUNNING].clone() {
            self.stop_running(trial, StopReason::Cancel);
        }
        Ok(())
    }

    pub(super) fn retry_sweep(&mut self, name: &str) -> Result<(), Refusal> {
        let index = self.known_sweep(name)?;
        for state in [FAILED, CANCELLED] {
            for trial in self.sweeps[index].by_state[state].clone() {
                self.start_over(trial);
            }
        }
        Ok(())
    }

    pub(super) fn pause_trial(&mut self, trial: TrialId) -> Result<(), Refusal> {
        match self.known_trial(trial)? {
            TrialState::Pending => self.set_state(trial, TrialState::Paused),
            TrialState::Paused => {}
            TrialState::Running { stopping: Some(StopReason::Cancel), .. } => {
                return Err(self.wrong_state(trial, "it is being cancelled and cannot be paused"));
            }
            TrialState::Running { .. } => self.stop_running(trial, StopReason::Pause),
            TrialState::Completed | TrialState::Failed { .. } | TrialState::Cancelled => {
                return Err(self.wrong_state(trial, "it is over and cannot be paused"));
            }
        }
        Ok(())
    }

    pub(super) fn resume_trial(&mut self, trial: TrialId) -> Result<(), Refusal> {
        match self.known_trial(trial)? {
            TrialState::Paused => self.set_state(trial, TrialState::Pending),
            TrialState::Pending => {}
            TrialState::Running { stopping: Some(StopReason::Cancel), .. } => {
                return Err(self.wrong_state(trial, "it is being cancelled; retry it once that is done"));
            }
            TrialState::Running { .. } => self.unpause_running(trial),
            TrialState::Completed => return Err(self.wrong_state(trial, "nothing is left to resume")),
            TrialState::Failed { .. } | TrialState::Cancelled => {
                return Err(self.wrong_state(trial, "it is over; retry it instead"));
            }
        }
        Ok(())
    }

    pub(super) fn cancel_trial(&mut self, trial: TrialId) -> Result<(), Refusal> {
        match self.known_trial(trial)? {
            TrialState::Pending | TrialState::Paused => self.set_state(trial, TrialState::Cancelled),
            TrialState::Running { .. } => self.stop_running(trial, StopReason::Cancel),
            TrialState::Cancelled => {}
            TrialState::Completed | TrialState::Failed { .. } => {
                return Err(self.wrong_state(trial, "it is over and cannot be cancelled"));
            }
        }
        Ok(())
    }

    pub(super) fn retry_trial(&mut self, trial: TrialId) -> Result<(), Refusal> {
        match self.known_trial(trial)? {
            TrialState::Failed { .. } | TrialState::Cancelled => self.start_over(trial),
            TrialState::Running { stopping: Some(StopReason::Cancel), .. } => {
                return Err(self.wrong_state(trial, "it is being cancelled; retry it once that is done"));
            }
            TrialState::Pending | TrialState::Running { .. } => {}
            TrialState::Paused => return Err(self.wrong_state(trial, "it is paused; resume it instead")),
            TrialState::Completed => {
                return Err(self.wrong_state(trial, "it is done, and each cell is trained once"));
            }
        }
        Ok(())
    }

    /// Pending again with all its lives; attempts are counted on, so that old tokens stay stale.
    fn start_over(&mut self, trial: TrialId) {
        if let Some(entry) = self.trials.get_mut(&trial) {
            entry.record.restarts = 0;
            entry.record.losses = 0;
        }
        self.set_state(trial, TrialState::Pending);
    }

    /// Asks a running trial to stop, once for each reason; a cancel overrules a pause, never the other way.
    fn stop_running(&mut self, trial: TrialId, reason: StopReason) {
        let Some(entry) = self.trials.get(&trial) else { return };
        let TrialState::Running { attempt, slot, stopping } = entry.record.state else { return };
        if stopping == Some(reason) || stopping == Some(StopReason::Cancel) {
            return;
        }
        self.set_state(trial, TrialState::Running { attempt, slot, stopping: Some(reason) });
        self.refresh_slot(slot);
        let worker = self.workers.get(&slot.worker);
        // Without a stream it is told when it comes back.
        if let Some(session) = worker.and_then(super::state::Worker::live_session) {
            let token = crate::ids::Token::chief(trial, attempt);
            self.outbox.actions.push(Command::Stop { worker: slot.worker, session, token, reason });
        }
    }

    /// Takes a pause back. The stop may be on its way: then the trial stops, and is pending at once.
    fn unpause_running(&mut self, trial: TrialId) {
        let Some(entry) = self.trials.get(&trial) else { return };
        let TrialState::Running { attempt, slot, stopping } = entry.record.state else { return };
        if stopping == Some(StopReason::Pause) {
            self.set_state(trial, TrialState::Running { attempt, slot, stopping: None });
            self.refresh_slot(slot);
        }
    }

    /// As many of its trials may train side by side may have changed.
    fn refresh_slots_of_sweep(&mut self, index: usize) {
        for trial in self.sweeps[index].by_state[RUNNING].clone() {
            let Some(TrialState::Running { slot, .. }) = self.trial(trial).map(|record| &record.state) else {
                continue;
            };
            self.refresh_slot(*slot);
        }
    }

    fn set_sweep_paused(&mut self, index: usize, paused: bool) {
        let sweep = &mut self.sweeps[index];
        if sweep.paused == paused {
            return;
        }
        sweep.paused = paused;
        self.outbox.sweeps.push(Fact::SweepPaused { sweep: sweep.name.clone(), paused });
        self.refresh_turn(index);
    }

    fn known_sweep(&self, name: &str) -> Result<usize, Refusal> {
        self.sweep_by_name.get(name).copied().ok_or_else(|| Refusal::UnknownSweep(name.to_owned()))
    }

    fn known_trial(&self, trial: TrialId) -> Result<TrialState, Refusal> {
        self.trial(trial).map(|record| record.state.clone()).ok_or(Refusal::UnknownTrial(trial))
    }

    fn wrong_state(&self, trial: TrialId, problem: &'static str) -> Refusal {
        let state = self.trial(trial).map_or("unknown", |record| record.state.word());
        Refusal::WrongState { trial, state, problem }
    }
}
