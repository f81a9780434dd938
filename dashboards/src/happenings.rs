//! Events as lines for people, and as JSON for programs.

use crate::format;
use proto::wire::{Event, StatusReply};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use sweeps::event::Happening;
use sweeps::metrics::Point;
use sweeps::scheduler::{AttemptEnd, StopReason, TrialState};

/// What trials are called, by id.
#[derive(Debug, Default)]
pub struct Names {
    by_id: BTreeMap<u64, Name>,
}

/// What a trial is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// Place in the sweep, from 1.
    pub number: u32,
    /// `0.75-160`.
    pub cell: String,
    /// Epochs wanted.
    pub epochs: u32,
}

impl Names {
    /// Learns the trials of a sweep.
    pub fn learn(&mut self, status: &StatusReply) {
        for trial in &status.trials {
            let cell = format!("{}-{}", format::alpha(trial.alpha), trial.resolution);
            self.by_id.insert(trial.id, Name { number: trial.number, cell, epochs: trial.epochs });
        }
    }

    /// Whether the trial is known.
    pub fn knows(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// `trial 3 (0.75-160)`.
    pub fn trial(&self, id: u64) -> String {
        match self.by_id.get(&id) {
            Some(name) => format!("trial {} ({})", name.number, name.cell),
            None => format!("trial with id {id}"),
        }
    }

    fn number(&self, id: u64) -> Option<u32> {
        self.by_id.get(&id).map(|name| name.number)
    }

    fn epochs(&self, id: u64) -> Option<u32> {
        self.by_id.get(&id).map(|name| name.epochs)
    }
}

/// What happened; an error for an event of a newer version.
pub fn read(event: &Event) -> Result<Happening, serde_json::Error> {
    serde_json::from_str(&event.json)
}

/// One line of JSON: the happening, and when and of what.
pub fn json(event: &Event, names: &Names) -> Value {
    json!({
        "sequence": event.sequence,
        "time_ms": event.time_ms,
        "sweep": event.sweep,
        "trial": event.trial.and_then(|id| names.number(id)),
        "trial_id": event.trial,
        "happening": serde_json::from_str::<Value>(&event.json).unwrap_or(Value::Null),
    })
}

/// `2026-11-23 02:07:32Z  fashion-mnist  trial 3 (0.75-160)  epoch 4/30: top-1 91.20 %, ..`, without the time.
pub fn line(event: &Event, names: &Names) -> String {
    let mut words: Vec<String> = Vec::new();
    if !event.sweep.is_empty() {
        words.push(event.sweep.clone());
    }
    if let Some(id) = event.trial {
        words.push(names.trial(id));
    }
    words.push(match read(event) {
        Ok(happening) => happened(&happening, event.trial.and_then(|id| names.epochs(id))),
        Err(_) => event.json.clone(),
    });
    words.join("  ")
}

/// What happened, in words. `epochs`: those wanted of the trial.
pub fn happened(happening: &Happening, epochs: Option<u32>) -> String {
    match happening {
        Happening::SweepSubmitted { trials, trials_new } => {
            format!("submitted: {trials} trials, {trials_new} of them new")
        }
        Happening::SweepPaused => "the sweep is paused".to_owned(),
        Happening::SweepResumed => "the sweep is resumed".to_owned(),
        Happening::SweepLimited { max_concurrent_trials: None } => {
            "as many of its trials may run as there are slots".to_owned()
        }
        Happening::SweepLimited { max_concurrent_trials: Some(limit) } => {
            format!("{limit} of its trials may run at a time")
        }
        Happening::SweepOver => "all trials are over".to_owned(),
        Happening::TrialChanged { state } => state_words(state),
        Happening::AttemptStarted { attempt, worker, host, device } => {
            format!("attempt {attempt} starts on {host}, {device} (worker {worker})")
        }
        Happening::ReplicaJoined { attempt: _, replica, worker: _, host, device } => {
            format!("replica {replica} joins on {host}, {device}")
        }
        Happening::ReplicaLeft { attempt: _, replica, host, device, reason } => {
            format!("replica {replica} leaves {host}, {device}: {reason}")
        }
        Happening::AttemptEnded { attempt, end } => format!("attempt {attempt} {}", end_words(end)),
        Happening::EpochFinished { attempt: _, epoch, points } => {
            let of = epochs.map(|epochs| format!("/{epochs}")).unwrap_or_default();
            format!("epoch {epoch}{of}: {}", measured(points))
        }
        Happening::CheckpointSaved { attempt: _, epoch, bytes, best } => {
            let best = if *best { ", the best so far" } else { "" };
            format!("checkpoint after epoch {epoch} saved, {}{best}", format::bytes(*bytes))
        }
        Happening::CheckpointDamaged { attempt: _, epoch, reason } => {
            format!("checkpoint after epoch {epoch} is not used any more: {reason}")
        }
        Happening::WorkerJoined { worker, host, devices } => {
            format!("worker {worker} on {host} joined with {}", devices.join(", "))
        }
        Happening::WorkerDisconnected { worker } => format!("worker {worker} is disconnected; its trials have a grace"),
        Happening::WorkerDraining { worker } => format!("worker {worker} finishes what it trains and takes no more"),
        Happening::WorkerLost { worker, reason } => format!("worker {worker} is lost: {reason}"),
        Happening::WorkerSetAside { worker, reason } => format!("worker {worker} is set aside for a while: {reason}"),
        Happening::LeasesHeld { reason: Some(reason) } => format!("no trial is begun: {reason}"),
        Happening::LeasesHeld { reason: None } => "trials are begun again".to_owned(),
        Happening::WorkerLeft { worker } => format!("worker {worker} left"),
        Happening::ReportRefused { reason } => format!("a worker's report was refused: {reason}"),
    }
}

fn state_words(state: &TrialState) -> String {
    match state {
        TrialState::Pending => "waits for a slot".to_owned(),
        TrialState::Running { stopping: None, .. } => "runs".to_owned(),
        TrialState::Running { stopping: Some(reason), .. } => match reason {
            StopReason::Pause => "is asked to pause".to_owned(),
            StopReason::Cancel => "is being cancelled".to_owned(),
            StopReason::Superseded => "is being stopped".to_owned(),
        },
        TrialState::Paused => "paused".to_owned(),
        TrialState::Completed => "completed".to_owned(),
        TrialState::Failed { reason } => format!("failed: {reason}"),
        TrialState::Cancelled => "cancelled".to_owned(),
    }
}

/// `crashed: signal 9`.
#[must_use]
pub fn end_words(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Completed => "is complete".to_owned(),
        AttemptEnd::Failed { reason } => format!("failed: {reason}"),
        AttemptEnd::Crashed { reason } => format!("crashed: {reason}"),
        AttemptEnd::CrashedTogether { reason, trials } => format!("crashed with {}: {reason}", others(*trials)),
        AttemptEnd::Stopped => "stopped as asked".to_owned(),
        AttemptEnd::Lost { reason } => format!("was lost: {reason}"),
    }
}

/// Those that shared its trainer: `2 others`.
pub fn others(trials: u32) -> String {
    match trials.saturating_sub(1) {
        1 => "another".to_owned(),
        others => format!("{others} others"),
    }
}

/// `top-1 91.20 %, val. loss 0.2671, train loss 0.2410, 312 images/s`: what there is of these.
pub fn measured(points: &[Point]) -> String {
    let value = |name: &str| points.iter().find(|point| point.name == name).map(|point| point.value);
    let mut words = Vec::new();
    if let Some(top1) = value("val_top1") {
        words.push(format!("top-1 {:.2} %", top1 * 100.0));
    }
    for (name, label) in [("val_loss", "val. loss"), ("train_loss", "train loss")] {
        if let Some(loss) = value(name) {
            words.push(format!("{label} {loss:.4}"));
        }
    }
    if let Some(speed) = value("images_per_second") {
        words.push(format!("{} images/s", format::rate(Some(speed))));
    }
    if words.is_empty() { "done".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::TrialStatus;
    use sweeps::ids::WorkerId;

    fn names() -> Names {
        let trial =
            TrialStatus { id: 19, number: 3, alpha: 0.75, resolution: 160, epochs: 30, ..TrialStatus::default() };
        let mut names = Names::default();
        names.learn(&StatusReply { trials: vec![trial], ..StatusReply::default() });
        names
    }

    fn event(trial: Option<u64>, happening: &Happening) -> Event {
        Event { sequence: 7, time_ms: 5, sweep: "s".into(), trial, json: serde_json::to_string(happening).unwrap() }
    }

    #[test]
    fn lines_say_what_happened_to_what() {
        let point = |name: &str, value: f64| Point { name: name.into(), step: 4, value };
        let points = vec![point("images_per_second", 312.4), point("val_top1", 0.912), point("val_loss", 0.2671)];
        for (trial, happening, expected) in [
            (
                Some(19),
                Happening::EpochFinished { attempt: 1, epoch: 4, points },
                "s  trial 3 (0.75-160)  epoch 4/30: top-1 91.20 %, val. loss 0.2671, 312 images/s",
            ),
            (
                Some(20),
                Happening::AttemptEnded { attempt: 2, end: AttemptEnd::Crashed { reason: "signal 9".into() } },
                "s  trial with id 20  attempt 2 crashed: signal 9",
            ),
            (
                Some(19),
                Happening::TrialChanged { state: TrialState::Failed { reason: "no data".into() } },
                "s  trial 3 (0.75-160)  failed: no data",
            ),
            (None, Happening::SweepOver, "s  all trials are over"),
            (None, Happening::SweepLimited { max_concurrent_trials: Some(4) }, "s  4 of its trials may run at a time"),
            (None, Happening::WorkerLeft { worker: WorkerId(10) }, "s  worker 000000000000000a left"),
        ] {
            assert_eq!(line(&event(trial, &happening), &names()), expected);
        }
    }

    #[test]
    fn an_event_of_a_newer_version_is_printed_as_it_is() {
        let event = Event { json: r#"{"kind":"moon_rose"}"#.into(), ..Event::default() };
        assert_eq!(line(&event, &names()), r#"{"kind":"moon_rose"}"#);
    }

    #[test]
    fn json_holds_number_and_id() {
        let value = json(&event(Some(19), &Happening::SweepPaused), &names());
        assert_eq!(
            value.to_string(),
            r#"{"sequence":7,"time_ms":5,"sweep":"s","trial":3,"trial_id":19,"happening":{"kind":"sweep_paused"}}"#
        );
    }
}
