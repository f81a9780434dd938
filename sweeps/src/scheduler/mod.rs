//! Who trains what, when: a pure state machine. Events and the time go in, commands come out.

mod api;

pub use api::{
    AttemptEnd, Command, Config, Event, Fact, Millis, NewTrial, Refusal, SlotOffer, StopReason, SweepLimits,
    SweepRecord, TrialRecord, TrialState, Waiting,
};

use crate::ids::TrialId;

/// The state of all sweeps, trials, workers and leases.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
}

impl Scheduler {
    /// Nothing known.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// As the store remembers it. Running trials keep their leases: their workers, not yet attached, have a
    /// whole lease from `now` to come back.
    #[must_use]
    pub fn restore(config: Config, now: Millis, sweeps: Vec<SweepRecord>) -> Self {
        let _ = (now, sweeps);
        Self::new(config)
    }

    /// Takes one event; appends what is to be done. A refused event has changed nothing, and may still have
    /// commands (a stop for a worker that is not current).
    ///
    /// # Errors
    /// When the event is not current or names something unknown.
    pub fn handle(&mut self, now: Millis, event: Event, commands: &mut Vec<Command>) -> Result<(), Refusal> {
        let _ = (now, event, commands, self.config);
        Ok(())
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Millis> {
        None
    }

    /// Ends what has run out by `now`.
    pub fn handle_timeout(&mut self, now: Millis, commands: &mut Vec<Command>) {
        let _ = (now, commands);
    }

    /// What is known of a trial.
    #[must_use]
    pub fn trial(&self, trial: TrialId) -> Option<&TrialRecord> {
        let _ = trial;
        None
    }

    /// Why a trial does not run.
    ///
    /// # Errors
    /// When there is no such trial.
    pub fn explain(&self, now: Millis, trial: TrialId) -> Result<Waiting, Refusal> {
        let _ = now;
        Err(Refusal::UnknownTrial(trial))
    }
}
