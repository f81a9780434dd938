//! Events into the model. What the status already told is not counted twice.

use super::model::{Happened, LINES_MAX, Model, Standing, Tone, Values};
use crate::happenings;
use proto::wire::Event;
use sweeps::event::Happening;
use sweeps::metrics::Point;
use sweeps::scheduler::{AttemptEnd, TrialState};

/// What an event asks for besides being folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The status must be asked for again: trials were added, or an epoch was trained a second time.
    pub status: bool,
    /// Workers came or went, or took something up.
    pub workers: bool,
    /// This trial's attempts or checkpoints changed.
    pub trial: Option<u64>,
}

impl Model {
    /// Folds an event. An event that the status already knew becomes a line and nothing else.
    pub fn event(&mut self, event: &Event) -> Wanted {
        let Ok(happening) = happenings::read(event) else {
            self.remember(event, Tone::Plain, event.json.clone());
            return Wanted::default();
        };
        let epochs = event.trial.and_then(|id| self.by_id(id)).map(|trial| trial.epochs);
        self.remember(event, tone(&happening), happenings::happened(&happening, epochs));
        if event.sequence <= self.sequence {
            return Wanted::default();
        }
        self.sequence = event.sequence;
        self.apply(event, happening)
    }

    fn apply(&mut self, event: &Event, happening: Happening) -> Wanted {
        match happening {
            Happening::SweepSubmitted { .. } => return Wanted { status: true, ..Wanted::default() },
            Happening::SweepPaused => self.paused = true,
            Happening::SweepResumed => self.paused = false,
            Happening::SweepLimited { max_concurrent_trials } => self.concurrent_max = max_concurrent_trials,
            Happening::WorkerDraining { .. }
            | Happening::WorkerJoined { .. }
            | Happening::WorkerDisconnected { .. }
            | Happening::WorkerLost { .. }
            | Happening::WorkerSetAside { .. }
            | Happening::WorkerLeft { .. }
            | Happening::ReplicaJoined { .. }
            | Happening::ReplicaLeft { .. } => return Wanted { workers: true, ..Wanted::default() },
            Happening::SweepOver | Happening::LeasesHeld { .. } | Happening::ReportRefused { .. } => {}
            Happening::CheckpointSaved { .. } | Happening::CheckpointDamaged { .. } => {
                return Wanted { trial: event.trial, ..Wanted::default() };
            }
            Happening::TrialChanged { state } => return self.trial_changed(event.trial, state),
            Happening::AttemptStarted { attempt, worker: _, host, device } => {
                let place = self.place(&host, &device);
                return self.of_trial(event.trial, |trial| {
                    trial.attempts = trial.attempts.max(attempt);
                    trial.place = place;
                });
            }
            Happening::AttemptEnded { attempt: _, end } => {
                return self.of_trial(event.trial, |trial| trial.reason = end.reason().unwrap_or_default().into());
            }
            Happening::EpochFinished { attempt: _, epoch, points } => {
                return self.epoch_finished(event.trial, epoch, &points);
            }
        }
        Wanted::default()
    }

    fn trial_changed(&mut self, id: Option<u64>, state: TrialState) -> Wanted {
        self.of_trial(id, |trial| {
            trial.standing = Standing::read(state.word());
            trial.stopping = state.stopping().is_some();
            if trial.standing == Standing::Completed {
                trial.epochs_done = trial.epochs;
            }
            if let TrialState::Failed { reason } = state {
                trial.reason = reason.into();
            }
        })
    }

    fn epoch_finished(&mut self, id: Option<u64>, epoch: u32, points: &[Point]) -> Wanted {
        let (goal, minimize) = self.goal.clone();
        let value = |name: &str| points.iter().find(|point| point.name == name).map(|point| point.value);
        let mut again = false;
        let wanted = self.of_trial(id, |trial| {
            // Of an epoch trained a second time the newest attempt counts; which was the best has to be asked.
            again = epoch <= trial.epochs_done && trial.best_epoch >= epoch;
            trial.epochs_done = trial.epochs_done.max(epoch);
            trial.last = Values::of(points.iter().map(|point| (point.name.as_str(), point.value)));
            trial.train_seconds += value("epoch_seconds").unwrap_or(0.0);
            let Some(reached) = value(&goal) else { return };
            let known = trial.best_goal;
            if known.is_nan() || (if minimize { reached < known } else { reached > known }) {
                trial.best_goal = reached;
                trial.best_epoch = epoch;
                trial.best = trial.last;
            }
        });
        Wanted { status: wanted.status || again, workers: false, trial: None }
    }

    /// Changes a trial; one that is not known has to be asked for.
    fn of_trial(&mut self, id: Option<u64>, change: impl FnOnce(&mut super::model::Trial)) -> Wanted {
        let place = id.and_then(|id| self.by_id.get(&id).copied());
        match place.and_then(|place| self.trials.get_mut(place as usize)) {
            Some(trial) => {
                change(trial);
                self.generation += 1;
                Wanted { trial: id, workers: true, status: false }
            }
            None => Wanted { status: id.is_some(), ..Wanted::default() },
        }
    }

    fn remember(&mut self, event: &Event, tone: Tone, words: String) {
        // The same history may be told again after a broken connection.
        if self.lines.back().is_some_and(|last| last.sequence >= event.sequence) {
            return;
        }
        self.generation += 1;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        let number = event.trial.and_then(|id| self.by_id(id)).map_or(0, |trial| trial.number);
        let Event { sequence, time_ms, .. } = *event;
        self.lines.push_back(Happened { sequence, time_ms, number, tone, words: words.into() });
    }
}

fn tone(happening: &Happening) -> Tone {
    match happening {
        Happening::TrialChanged { state: TrialState::Completed } | Happening::SweepOver => Tone::Good,
        Happening::TrialChanged { state: TrialState::Failed { .. } }
        | Happening::AttemptEnded { end: AttemptEnd::Failed { .. }, .. } => Tone::Bad,
        Happening::AttemptEnded {
            end: AttemptEnd::Crashed { .. } | AttemptEnd::CrashedTogether { .. } | AttemptEnd::Lost { .. },
            ..
        }
        | Happening::WorkerLost { .. }
        | Happening::WorkerDisconnected { .. }
        | Happening::WorkerSetAside { .. }
        | Happening::LeasesHeld { reason: Some(_) }
        | Happening::CheckpointDamaged { .. }
        | Happening::ReportRefused { .. }
        | Happening::SweepPaused
        | Happening::TrialChanged { state: TrialState::Paused | TrialState::Cancelled } => Tone::Warn,
        Happening::SweepSubmitted { .. }
        | Happening::SweepResumed
        | Happening::SweepLimited { .. }
        | Happening::WorkerDraining { .. }
        | Happening::ReplicaJoined { .. }
        | Happening::ReplicaLeft { .. }
        | Happening::TrialChanged { state: TrialState::Pending | TrialState::Running { .. } }
        | Happening::AttemptStarted { .. }
        | Happening::AttemptEnded { end: AttemptEnd::Completed | AttemptEnd::Stopped, .. }
        | Happening::EpochFinished { .. }
        | Happening::CheckpointSaved { .. }
        | Happening::WorkerJoined { .. }
        | Happening::LeasesHeld { reason: None }
        | Happening::WorkerLeft { .. } => Tone::Plain,
    }
}
