//! How far a sweep is, kept up to date by its events. Pure: what to show is decided here, how, in `display`.

use dashboards::happenings::{self, Names};
use proto::wire::{Event, StatusReply, TrialStatus};
use std::collections::BTreeMap;
use sweeps::event::Happening;
use sweeps::scheduler::{AttemptEnd, TrialState};

/// A line worth printing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Of the event.
    pub(super) time_ms: u64,
    /// What happened.
    pub(super) text: String,
    /// Shown by a progress bar already, where there are any.
    pub(super) in_bars: bool,
}

/// A trial.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    /// `trial 3 (0.75-160)`.
    pub(super) name: String,
    /// Epochs wanted.
    pub(super) epochs: u32,
    /// Epochs finished.
    pub(super) epochs_done: u32,
    /// Top-1 accuracy of the newest epoch, a fraction.
    pub(super) top1: Option<f64>,
    /// Of the newest epoch.
    pub(super) images_per_second: Option<f64>,
    state: String,
    /// Mult-Adds of an image: what an epoch costs, in units that cancel out.
    mult_adds: f64,
}

/// A sweep.
#[derive(Debug)]
pub(super) struct Track {
    trials: BTreeMap<u64, Trial>,
    names: Names,
}

impl Track {
    /// As the coordinator says it stands.
    pub(super) fn new(status: &StatusReply) -> Self {
        let mut names = Names::default();
        names.learn(status);
        let trials = status.trials.iter().map(|trial| (trial.id, known(trial, &names))).collect();
        Self { trials, names }
    }

    /// Takes an event in; what it has to say is returned.
    pub(super) fn apply(&mut self, event: &Event) -> Option<Line> {
        let happening = happenings::read(event).ok()?;
        if let Some(trial) = event.trial.and_then(|id| self.trials.get_mut(&id)) {
            update(trial, &happening);
        }
        let in_bars = match &happening {
            Happening::EpochFinished { .. } | Happening::AttemptStarted { .. } => true,
            Happening::AttemptEnded { end: AttemptEnd::Completed | AttemptEnd::Stopped, .. }
            | Happening::CheckpointSaved { .. }
            | Happening::ReplicaJoined { .. }
            | Happening::ReplicaLeft { .. }
            | Happening::SweepSubmitted { .. }
            | Happening::SweepOver => return None,
            // Said by the attempt's start and end.
            Happening::TrialChanged { state: TrialState::Running { .. } | TrialState::Pending } => return None,
            Happening::TrialChanged { .. }
            | Happening::AttemptEnded { .. }
            | Happening::CheckpointDamaged { .. }
            | Happening::SweepPaused
            | Happening::SweepResumed
            | Happening::SweepLimited { .. }
            | Happening::WorkerJoined { .. }
            | Happening::WorkerDisconnected { .. }
            | Happening::WorkerDraining { .. }
            | Happening::WorkerLost { .. }
            | Happening::WorkerSetAside { .. }
            | Happening::LeasesHeld { .. }
            | Happening::WorkerLeft { .. }
            | Happening::ReportRefused { .. } => false,
        };
        Some(Line { time_ms: event.time_ms, text: self.words(event, &happening), in_bars })
    }

    /// Trials that train now, in the sweep's order.
    pub(super) fn running(&self) -> impl Iterator<Item = (u64, &Trial)> {
        self.trials.iter().filter(|(_, trial)| trial.state == "running").map(|(id, trial)| (*id, trial))
    }

    /// How many trials are in this state.
    pub(super) fn count(&self, state: &str) -> usize {
        self.trials.values().filter(|trial| trial.state == state).count()
    }

    /// Trials in all.
    pub(super) fn total(&self) -> usize {
        self.trials.len()
    }

    /// Share of the work that is done or will not be; 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        let all: f64 = self.trials.values().map(|trial| trial.mult_adds * f64::from(trial.epochs)).sum();
        let done: f64 = self
            .trials
            .values()
            .map(|trial| {
                let over = matches!(trial.state.as_str(), "completed" | "failed" | "cancelled");
                trial.mult_adds * f64::from(if over { trial.epochs } else { trial.epochs_done })
            })
            .sum();
        if all > 0.0 { (done / all).min(1.0) } else { 1.0 }
    }

    fn words(&self, event: &Event, happening: &Happening) -> String {
        let trial = event.trial.and_then(|id| self.trials.get(&id));
        let mut words = happenings::happened(happening, trial.map(|trial| trial.epochs));
        if let (Happening::TrialChanged { state: TrialState::Completed }, Some(trial)) = (happening, trial)
            && let Some(top1) = trial.top1
        {
            words.push_str(&format!(": top-1 {:.2} % after the last epoch", top1 * 100.0));
        }
        match event.trial {
            Some(id) => format!("{}  {words}", self.names.trial(id)),
            None => words,
        }
    }
}

fn known(trial: &TrialStatus, names: &Names) -> Trial {
    Trial {
        name: names.trial(trial.id),
        epochs: trial.epochs,
        epochs_done: trial.epochs_done,
        top1: trial.last.get("val_top1").copied(),
        images_per_second: trial.last.get("images_per_second").copied(),
        state: trial.state.clone(),
        mult_adds: trial.mult_adds as f64,
    }
}

fn update(trial: &mut Trial, happening: &Happening) {
    match happening {
        Happening::EpochFinished { epoch, points, .. } => {
            let value = |name: &str| points.iter().find(|point| point.name == name).map(|point| point.value);
            trial.epochs_done = trial.epochs_done.max(*epoch);
            trial.top1 = value("val_top1").or(trial.top1);
            trial.images_per_second = value("images_per_second").or(trial.images_per_second);
        }
        Happening::TrialChanged { state } => trial.state = state.word().to_owned(),
        Happening::AttemptStarted { .. } => trial.state = "running".to_owned(),
        Happening::SweepSubmitted { .. }
        | Happening::SweepPaused
        | Happening::SweepResumed
        | Happening::SweepLimited { .. }
        | Happening::SweepOver
        | Happening::AttemptEnded { .. }
        | Happening::CheckpointSaved { .. }
        | Happening::CheckpointDamaged { .. }
        | Happening::ReplicaJoined { .. }
        | Happening::ReplicaLeft { .. }
        | Happening::WorkerJoined { .. }
        | Happening::WorkerDisconnected { .. }
        | Happening::WorkerDraining { .. }
        | Happening::WorkerLost { .. }
        | Happening::WorkerSetAside { .. }
        | Happening::LeasesHeld { .. }
        | Happening::WorkerLeft { .. }
        | Happening::ReportRefused { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweeps::ids::WorkerId;
    use sweeps::metrics::Point;

    fn status() -> StatusReply {
        let trial = |id: u64, mult_adds: u64| TrialStatus {
            id,
            number: id as u32 - 10,
            alpha: 0.75,
            resolution: 160,
            mult_adds,
            epochs: 4,
            state: "pending".into(),
            ..TrialStatus::default()
        };
        StatusReply { trials: vec![trial(11, 300), trial(12, 100)], ..StatusReply::default() }
    }

    fn event(trial: Option<u64>, happening: &Happening) -> Event {
        Event { trial, sweep: "s".into(), json: serde_json::to_string(happening).unwrap(), ..Event::default() }
    }

    fn started() -> Happening {
        Happening::AttemptStarted { attempt: 1, worker: WorkerId(1), host: "h".into(), device: "cpu".into() }
    }

    fn epoch(epoch: u32) -> Happening {
        let points = vec![Point { name: "val_top1".into(), step: 1, value: 0.5 }];
        Happening::EpochFinished { attempt: 1, epoch, points }
    }

    #[test]
    fn a_trial_runs_advances_and_completes() {
        let mut track = Track::new(&status());
        assert_eq!(track.progress(), 0.0);
        assert!(track.apply(&event(Some(11), &started())).unwrap().in_bars);
        let line = track.apply(&event(Some(11), &epoch(1))).unwrap();
        assert_eq!((line.text.as_str(), line.in_bars), ("trial 1 (0.75-160)  epoch 1/4: top-1 50.00 %", true));
        assert_eq!(track.progress(), 300.0 / 1600.0);
        let running: Vec<(u64, u32)> = track.running().map(|(id, trial)| (id, trial.epochs_done)).collect();
        assert_eq!(running, [(11, 1)]);
        let line = track.apply(&event(Some(11), &Happening::TrialChanged { state: TrialState::Completed })).unwrap();
        assert_eq!(line.text, "trial 1 (0.75-160)  completed: top-1 50.00 % after the last epoch");
        assert!(!line.in_bars);
        assert_eq!((track.running().count(), track.count("completed"), track.progress()), (0, 1, 0.75));
    }

    #[test]
    fn an_epoch_told_again_changes_nothing() {
        let mut track = Track::new(&status());
        track.apply(&event(Some(12), &epoch(3)));
        track.apply(&event(Some(12), &epoch(2)));
        assert_eq!(track.progress(), 300.0 / 1600.0);
    }

    #[test]
    fn what_others_say_already_is_not_said() {
        let mut track = Track::new(&status());
        for happening in [
            Happening::SweepOver,
            Happening::TrialChanged { state: TrialState::Pending },
            Happening::AttemptEnded { attempt: 1, end: AttemptEnd::Stopped },
        ] {
            assert_eq!(track.apply(&event(Some(11), &happening)), None, "{happening:?}");
        }
        let lost = Happening::AttemptEnded { attempt: 1, end: AttemptEnd::Lost { reason: "gone".into() } };
        let line = track.apply(&event(Some(11), &lost)).unwrap();
        assert_eq!(line.text, "trial 1 (0.75-160)  attempt 1 was lost: gone");
    }
}
