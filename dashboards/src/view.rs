//! What is known of a sweep, in the form that tables and plots want.

use crate::pareto;
use proto::wire::{StatusReply, TrialStatus};
use serde::Serialize;
use std::collections::BTreeMap;
use sweeps::spec::model::Sweep;

/// A sweep and its trials.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SweepView {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The data it trains on, in a few words; empty if the settings could not be read.
    pub data: String,
    /// Numbers made up by the scripted trainer.
    pub scripted: bool,
    /// A person paused it.
    pub paused: bool,
    /// Share of the work that is done; 0 to 1.
    pub progress: f64,
    /// In the sweep's order.
    pub trials: Vec<TrialView>,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialView {
    /// The store's id.
    pub id: u64,
    /// Place in the sweep, from 1.
    pub number: u32,
    /// α, the width multiplier.
    pub alpha: f64,
    /// ρ, in pixels.
    pub resolution: u32,
    /// Of init and dropout.
    pub seed: u64,
    /// All axes' values, by name.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Multiply-accumulates of one forward pass of one image.
    pub mult_adds: u64,
    /// Trainable parameters.
    pub params: u64,
    /// `pending`, `running`, `paused`, `completed`, `failed`, `cancelled`.
    pub state: String,
    /// Why it failed, or how its last attempt ended if it was not as wished.
    pub reason: String,
    /// Epochs wanted.
    pub epochs: u32,
    /// Epochs finished.
    pub epochs_done: u32,
    /// The epoch that `best` means; `None` before the first.
    pub best_epoch: Option<u32>,
    /// Metrics of the best epoch.
    pub best: BTreeMap<String, f64>,
    /// Metrics of the last epoch.
    pub last: BTreeMap<String, f64>,
    /// Seconds in epochs, over all attempts.
    pub train_seconds: f64,
    /// Attempts begun.
    pub attempts: u32,
    /// Replicas that train it now, its chief included; 0: it does not run.
    pub replicas: u32,
    /// Host of the newest attempt.
    pub worker: String,
    /// Device of the newest attempt.
    pub device: String,
    /// No finished trial is at least as accurate and cheaper, nor as cheap and more accurate; by the mean of
    /// the cell's seeds.
    pub pareto: bool,
    /// Its numbers are made up by the scripted trainer.
    pub scripted: bool,
}

impl TrialView {
    /// Whether all its epochs are done.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.state == "completed"
    }

    /// Whether nothing more will happen to it by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "cancelled")
    }

    /// Top-1 accuracy of the best epoch, as a fraction.
    #[must_use]
    pub fn top1_best(&self) -> Option<f64> {
        self.best.get("val_top1").copied()
    }

    /// A metric of the last epoch.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<f64> {
        self.last.get(name).copied()
    }
}

/// All trials that differ in their seed alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// α.
    pub alpha: f64,
    /// ρ, in pixels.
    pub resolution: u32,
    /// Of one image.
    pub mult_adds: u64,
    /// Trainable parameters.
    pub params: u64,
    /// The trials' numbers in the sweep.
    pub numbers: Vec<u32>,
    /// Best top-1 accuracies of the seeds that have one, as fractions.
    pub accuracies: Vec<f64>,
    /// Seeds in the sweep.
    pub seeds: usize,
    /// All of them are completed.
    pub completed: bool,
    /// On the front; see [`TrialView::pareto`].
    pub pareto: bool,
}

impl Cell {
    /// Mean accuracy over the seeds that have one.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        if self.accuracies.is_empty() {
            return None;
        }
        Some(self.accuracies.iter().sum::<f64>() / self.accuracies.len() as f64)
    }

    /// Smallest and largest accuracy, where there are two or more.
    #[must_use]
    pub fn spread(&self) -> Option<(f64, f64)> {
        if self.accuracies.len() < 2 {
            return None;
        }
        let least = self.accuracies.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.accuracies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some((least, most))
    }
}

impl SweepView {
    /// From the coordinator's answer.
    #[must_use]
    pub fn new(reply: &StatusReply) -> Self {
        let summary = reply.summary.clone().unwrap_or_default();
        let spec: Option<Sweep> = serde_json::from_str(&reply.spec_json).ok();
        let mut trials: Vec<TrialView> = reply.trials.iter().map(trial).collect();
        trials.sort_by_key(|trial| trial.number);
        let mut view = Self {
            name: summary.name,
            description: summary.description,
            data: spec.as_ref().map(data_words).unwrap_or_default(),
            scripted: summary.scripted || trials.iter().any(|trial| trial.scripted),
            paused: summary.paused,
            progress: summary.progress,
            trials,
        };
        view.mark_front();
        view
    }

    /// The cells, in the order of their first trials.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell> {
        self.grouped().into_iter().map(|members| cell(&members)).collect()
    }

    /// Whether all trials are over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.trials.iter().all(TrialView::is_over)
    }

    /// How many trials are in this state.
    #[must_use]
    pub fn count(&self, state: &str) -> usize {
        self.trials.iter().filter(|trial| trial.state == state).count()
    }

    /// `16 of 16 trials completed`, and what else there is.
    #[must_use]
    pub fn standing(&self) -> String {
        let mut words = format!("{} of {} trials completed", self.count("completed"), self.trials.len());
        for state in ["running", "pending", "paused", "failed", "cancelled"] {
            let count = self.count(state);
            if count > 0 {
                words.push_str(&format!(", {count} {state}"));
            }
        }
        words
    }

    /// Names of axes other than α and ρ.
    #[must_use]
    pub fn other_axes(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for trial in &self.trials {
            for name in trial.parameters.keys() {
                if name != "alpha" && name != "resolution" && name != "seed" && !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        names.sort();
        names
    }

    /// `30 epochs`, or `10 to 30 epochs`.
    #[must_use]
    pub fn epochs_words(&self) -> String {
        let least = self.trials.iter().map(|trial| trial.epochs).min().unwrap_or(0);
        let most = self.trials.iter().map(|trial| trial.epochs).max().unwrap_or(0);
        match (least, most) {
            (1, 1) => "1 epoch".to_owned(),
            (least, most) if least == most => format!("{most} epochs"),
            (least, most) => format!("{least} to {most} epochs"),
        }
    }

    fn grouped(&self) -> Vec<Vec<&TrialView>> {
        let mut keys: Vec<String> = Vec::new();
        let mut groups: BTreeMap<String, Vec<&TrialView>> = BTreeMap::new();
        for trial in &self.trials {
            let key = cell_key(trial);
            if !groups.contains_key(&key) {
                keys.push(key.clone());
            }
            groups.entry(key).or_default().push(trial);
        }
        keys.iter().filter_map(|key| groups.remove(key)).collect()
    }

    fn mark_front(&mut self) {
        let groups = self.grouped();
        let cells: Vec<Cell> = groups.iter().map(|members| cell(members)).collect();
        let points: Vec<Option<(f64, f64)>> = cells
            .iter()
            .map(|cell| if cell.completed { Some((cell.mult_adds as f64, cell.mean()?)) } else { None })
            .collect();
        let mut on_front = Vec::new();
        for place in pareto::front(&points) {
            on_front.extend(groups[place].iter().map(|trial| trial.number));
        }
        for trial in &mut self.trials {
            trial.pareto = on_front.contains(&trial.number);
        }
    }
}

fn cell_key(trial: &TrialView) -> String {
    let mut parameters = trial.parameters.clone();
    parameters.remove("seed");
    format!("{} {} {}", trial.alpha, trial.resolution, proto::convert::to_json(&parameters))
}

fn cell(members: &[&TrialView]) -> Cell {
    Cell {
        alpha: members.first().map_or(0.0, |trial| trial.alpha),
        resolution: members.first().map_or(0, |trial| trial.resolution),
        mult_adds: members.first().map_or(0, |trial| trial.mult_adds),
        params: members.first().map_or(0, |trial| trial.params),
        numbers: members.iter().map(|trial| trial.number).collect(),
        accuracies: members.iter().filter_map(|trial| trial.top1_best()).collect(),
        seeds: members.len(),
        completed: members.iter().all(|trial| trial.is_completed()),
        pareto: members.iter().all(|trial| trial.pareto),
    }
}

fn trial(status: &TrialStatus) -> TrialView {
    TrialView {
        id: status.id,
        number: status.number,
        alpha: status.alpha,
        resolution: status.resolution,
        seed: status.seed,
        parameters: serde_json::from_str(&status.parameters_json).unwrap_or_default(),
        mult_adds: status.mult_adds,
        params: status.params,
        state: status.state.clone(),
        reason: status.reason.clone(),
        epochs: status.epochs,
        epochs_done: status.epochs_done,
        best_epoch: (status.best_epoch > 0).then_some(status.best_epoch),
        best: sorted(&status.best),
        last: sorted(&status.last),
        train_seconds: status.train_seconds,
        attempts: status.attempts,
        replicas: status.replicas,
        worker: status.worker.clone(),
        device: status.device.clone(),
        pareto: false,
        scripted: status.scripted,
    }
}

fn sorted<'a>(map: impl IntoIterator<Item = (&'a String, &'a f64)>) -> BTreeMap<String, f64> {
    map.into_iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| (name.clone(), *value)).collect()
}

fn data_words(spec: &Sweep) -> String {
    let format = match spec.data.format {
        sweeps::spec::model::Format::ImageFolder => "image folder",
        sweeps::spec::model::Format::Csv => "CSV manifest",
        sweeps::spec::model::Format::Idx => "IDX",
        sweeps::spec::model::Format::Cifar => "CIFAR",
        sweeps::spec::model::Format::Webdataset => "WebDataset",
        sweeps::spec::model::Format::Pack => "pack",
        sweeps::spec::model::Format::Parquet => "Parquet",
    };
    format!("{} ({format}, {} classes)", spec.data.train, spec.data.classes)
}
