//! All that is exported of a sweep, gathered once: so that every file of an export is of the same moment.

use crate::view::SweepView;
use proto::wire;
use std::collections::BTreeMap;
use std::sync::Arc;
use sweeps::metrics::METRICS;
use sweeps::spec::model::Sweep;

/// A sweep with its points, attempts and checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The sweep and its trials.
    pub view: SweepView,
    /// The resolved sweep; `None` if it is of a version that this program cannot read.
    pub spec: Option<Sweep>,
    /// The sweep file as submitted.
    pub yaml: String,
    /// Version of the coordinator that told all this.
    pub version: String,
    /// Unix time; 0 if unknown.
    pub submitted_ms: u64,
    /// What is known of a trial besides its view, by its number.
    pub extras: BTreeMap<u32, Extra>,
    /// By trial, then by metric in the order of the table of metrics, then by step; the newest attempt of each step.
    pub points: Vec<Point>,
    /// By trial, then attempt. Empty if the coordinator did not tell.
    pub attempts: Vec<Attempt>,
    /// By trial, then age.
    pub checkpoints: Vec<Checkpoint>,
}

/// More of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Hash of its resolved parameters and the data's fingerprint.
    pub key: String,
    /// Unix time; 0 if it has not started.
    pub started_ms: u64,
    /// Unix time; 0 if it is not over.
    pub ended_ms: u64,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The trial's number in the sweep.
    pub trial: u32,
    /// From 1.
    pub attempt: u32,
    /// Of the table of metrics.
    pub name: Arc<str>,
    /// On the metric's axis.
    pub step: u64,
    /// In the metric's unit.
    pub value: f64,
}

/// One try at a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The trial's number in the sweep.
    pub trial: u32,
    /// From 1.
    pub attempt: u32,
    /// Host.
    pub host: String,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// CPU threads; 0 if its trainer never ran.
    pub threads: u32,
    /// `avx512`, `avx2`; empty if its trainer never ran.
    pub instruction_set: String,
    /// Version; empty if its trainer never ran.
    pub libtorch: String,
    /// Epochs that it took over from a checkpoint.
    pub resumed_epoch: u32,
    /// Unix time.
    pub started_ms: u64,
    /// Unix time; 0 if it is not over.
    pub ended_ms: u64,
    /// `completed`, `lost: its worker ..`; empty while it runs.
    pub end: String,
}

/// A saved state of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The trial's number in the sweep.
    pub trial: u32,
    /// Epochs finished.
    pub epoch: u32,
    /// Size.
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
    /// Of the best epoch.
    pub best: bool,
}

impl Results {
    /// From the coordinator's answers: the sweep, all its points, its version.
    #[must_use]
    pub fn new(reply: &wire::StatusReply, points: Vec<wire::MetricPoint>, version: &str) -> Self {
        let view = SweepView::new(reply);
        let extra = |trial: &wire::TrialStatus| Extra {
            key: trial.key.clone(),
            started_ms: trial.started_ms,
            ended_ms: trial.ended_ms,
        };
        let mut results = Self {
            spec: serde_json::from_str(&reply.spec_json).ok(),
            yaml: reply.yaml.clone(),
            version: version.to_owned(),
            submitted_ms: reply.summary.as_ref().map_or(0, |summary| summary.submitted_ms),
            extras: reply.trials.iter().map(|trial| (trial.number, extra(trial))).collect(),
            view,
            ..Self::default()
        };
        results.points = results.sorted(points);
        results
    }

    /// The number in the sweep of the store's trial.
    #[must_use]
    pub fn number(&self, id: u64) -> Option<u32> {
        self.view.trials.iter().find(|trial| trial.id == id).map(|trial| trial.number)
    }

    /// Adds the checkpoints of a trial, oldest first.
    pub fn add_checkpoints(&mut self, trial: u32, checkpoints: &[wire::Checkpoint]) {
        self.checkpoints.extend(checkpoints.iter().map(|checkpoint| Checkpoint {
            trial,
            epoch: checkpoint.epoch,
            bytes: checkpoint.bytes,
            sha256: checkpoint.sha256.clone(),
            best: checkpoint.best,
        }));
    }

    /// Adds what the coordinator tells of attempts.
    pub fn add_attempts(&mut self, attempts: &[wire::AttemptStatus]) {
        let numbers: BTreeMap<u64, u32> = self.view.trials.iter().map(|trial| (trial.id, trial.number)).collect();
        self.attempts.extend(attempts.iter().filter_map(|attempt| {
            Some(Attempt {
                trial: *numbers.get(&attempt.trial)?,
                attempt: attempt.attempt,
                host: attempt.host.clone(),
                device: attempt.device.clone(),
                threads: attempt.threads,
                instruction_set: attempt.instruction_set.clone(),
                libtorch: attempt.libtorch.clone(),
                resumed_epoch: attempt.resumed_epoch,
                started_ms: attempt.started_ms,
                ended_ms: attempt.ended_ms,
                end: end_words(&attempt.end_json),
            })
        }));
        self.attempts.sort_by_key(|attempt| (attempt.trial, attempt.attempt));
    }

    /// The values of a metric of a trial, by step.
    #[must_use]
    pub fn series(&self, trial: u32, name: &str) -> Vec<(u64, f64)> {
        let from = self.points.partition_point(|point| point.trial < trial);
        self.points[from..]
            .iter()
            .take_while(|point| point.trial == trial)
            .filter(|point| &*point.name == name)
            .map(|point| (point.step, point.value))
            .collect()
    }

    /// The attempts at a trial.
    pub fn attempts_at(&self, trial: u32) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.trial == trial)
    }

    /// Whether some trial has a value of this metric.
    #[must_use]
    pub fn has_metric(&self, name: &str) -> bool {
        self.points.iter().any(|point| &*point.name == name)
    }

    fn sorted(&self, points: Vec<wire::MetricPoint>) -> Vec<Point> {
        let numbers: BTreeMap<u64, u32> = self.view.trials.iter().map(|trial| (trial.id, trial.number)).collect();
        // A million points share a dozen names.
        let mut names: BTreeMap<String, Arc<str>> = BTreeMap::new();
        let mut sorted: Vec<Point> = points
            .into_iter()
            .filter(|point| point.value.is_finite())
            .filter_map(|point| {
                let name = names.entry(point.name).or_insert_with_key(|name| Arc::from(name.as_str())).clone();
                let trial = *numbers.get(&point.trial)?;
                Some(Point { trial, attempt: point.attempt, name, step: point.step, value: point.value })
            })
            .collect();
        let order = |name: &str| METRICS.iter().position(|metric| metric.name == name).unwrap_or(METRICS.len());
        let orders: BTreeMap<Arc<str>, usize> = names.into_values().map(|name| (name.clone(), order(&name))).collect();
        sorted.sort_by_cached_key(|point| {
            (point.trial, orders.get(&point.name).copied().unwrap_or(usize::MAX), point.name.clone(), point.step)
        });
        sorted
    }
}

/// `completed`, `lost: its worker ..`, of an end as JSON; empty while there is none.
fn end_words(json: &str) -> String {
    use sweeps::scheduler::AttemptEnd;
    match serde_json::from_str(json) {
        Ok(AttemptEnd::Completed) => "completed".to_owned(),
        Ok(AttemptEnd::Stopped) => "stopped".to_owned(),
        Ok(AttemptEnd::Failed { reason }) => format!("failed: {reason}"),
        Ok(AttemptEnd::Crashed { reason }) => format!("crashed: {reason}"),
        Ok(AttemptEnd::CrashedTogether { reason, trials }) => {
            format!("crashed with {}: {reason}", crate::happenings::others(trials))
        }
        Ok(AttemptEnd::Lost { reason }) => format!("lost: {reason}"),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_of_the_sweeps_trials_in_order() {
        let trial = |id, number| wire::TrialStatus { id, number, ..wire::TrialStatus::default() };
        let reply = wire::StatusReply { trials: vec![trial(7, 1), trial(9, 2)], ..wire::StatusReply::default() };
        let attempt = |trial, attempt, end: &str| wire::AttemptStatus {
            trial,
            attempt,
            end_json: end.to_owned(),
            ..wire::AttemptStatus::default()
        };
        let mut results = Results::new(&reply, Vec::new(), "");
        results.add_attempts(&[
            attempt(9, 1, r#"{"end":"completed"}"#),
            attempt(7, 1, r#"{"end":"lost","reason":"gone"}"#),
            attempt(7, 2, ""),
            attempt(8, 1, ""),
        ]);
        let told: Vec<(u32, u32, &str)> =
            results.attempts.iter().map(|attempt| (attempt.trial, attempt.attempt, attempt.end.as_str())).collect();
        assert_eq!(told, [(1, 1, "lost: gone"), (1, 2, ""), (2, 1, "completed")]);
    }
}
