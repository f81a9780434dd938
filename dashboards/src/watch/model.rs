//! What is known of a sweep: small enough for ten thousand trials, and never more than the newest points of one.

use crate::paper;
use proto::wire::{StatusReply, TrialStatus, WorkerStatus};
use std::collections::{BTreeMap, VecDeque};
use sweeps::metrics::Goal;
use sweeps::spec::model::Sweep;

/// Lines of what happened that are kept.
pub(super) const LINES_MAX: usize = 2_000;

/// What is measured of a trial and shown of every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Validation top-1, a fraction.
    Top1,
    /// Validation top-5, a fraction.
    Top5,
    /// Validation loss.
    Loss,
    /// Training throughput.
    ImagesPerSecond,
}

/// All measures, with the names of their metrics.
pub const MEASURES: [(Measure, &str); 4] = [
    (Measure::Top1, "val_top1"),
    (Measure::Top5, "val_top5"),
    (Measure::Loss, "val_loss"),
    (Measure::ImagesPerSecond, "images_per_second"),
];

/// A value a measure; not a number where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Values([f64; MEASURES.len()]);

impl Default for Values {
    fn default() -> Self {
        Self([f64::NAN; MEASURES.len()])
    }
}

impl Values {
    /// Of named metrics.
    pub(super) fn of<'a>(named: impl Iterator<Item = (&'a str, f64)>) -> Self {
        let mut values = Self::default();
        for (name, value) in named {
            if let Some(place) = MEASURES.iter().position(|(_, known)| *known == name) {
                values.0[place] = value;
            }
        }
        values
    }

    /// The value, if there is one.
    #[must_use]
    pub fn get(&self, measure: Measure) -> Option<f64> {
        let value = self.0[measure as usize];
        value.is_finite().then_some(value)
    }
}

/// Where a trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Trains.
    Running,
    /// Waits for a slot.
    Pending,
    /// Waits for a person.
    Paused,
    /// All epochs done.
    Completed,
    /// Over without a result.
    Failed,
    /// Over, as asked.
    Cancelled,
}

/// All of them, in the order of the legend.
pub const STANDINGS: [Standing; 6] = [
    Standing::Running,
    Standing::Pending,
    Standing::Paused,
    Standing::Completed,
    Standing::Failed,
    Standing::Cancelled,
];

impl Standing {
    /// From the contract's word.
    #[must_use]
    pub fn read(word: &str) -> Self {
        STANDINGS.into_iter().find(|standing| standing.word() == word).unwrap_or(Self::Pending)
    }

    /// The word shown to people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Running | Self::Pending | Self::Paused => false,
        }
    }
}

/// The value of a further axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// Anything else, as JSON writes it.
    Text(Box<str>),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(value) if *value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) => {
                write!(f, "{value:.3e}")
            }
            Self::Number(value) => write!(f, "{}", (value * 1e6).round() / 1e6),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The store's id.
    pub id: u64,
    /// Place in the sweep, from 1.
    pub number: u32,
    /// α.
    pub alpha: f64,
    /// ρ, in pixels.
    pub resolution: u32,
    /// Of init and dropout.
    pub seed: u64,
    /// Of one image.
    pub mult_adds: u64,
    /// Trainable parameters.
    pub params: u64,
    /// Epochs wanted.
    pub epochs: u32,
    /// Epochs finished.
    pub epochs_done: u32,
    /// 0 before the first.
    pub best_epoch: u32,
    /// Of the sweep's first metric; not a number before the first epoch.
    pub(super) best_goal: f64,
    /// Of the best epoch.
    pub best: Values,
    /// Of the last epoch.
    pub last: Values,
    /// Where it stands.
    pub standing: Standing,
    /// Asked to stop and not stopped yet.
    pub stopping: bool,
    /// Attempts begun.
    pub attempts: u32,
    /// Where its newest attempt was, in [`Model::places`].
    pub(super) place: u32,
    /// Why it failed, or how its last attempt ended if not as wished.
    pub reason: Box<str>,
    /// Values of the further axes, in the order of [`Model::axes`].
    pub settings: Box<[Setting]>,
    /// Trials that differ in their seed alone have the same.
    pub(super) configuration: u32,
    /// In epochs, over all attempts.
    pub train_seconds: f64,
}

/// All trials of one (α, ρ).
#[derive(Clone, Debug)]
pub struct Cell {
    /// α.
    pub alpha: f64,
    /// ρ, in pixels.
    pub resolution: u32,
    /// Of one image.
    pub mult_adds: u64,
    /// Trainable parameters.
    pub params: u64,
    /// Places in [`Model::trials`], by configuration.
    pub members: Vec<u32>,
}

/// A line of what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Its sequence number.
    pub sequence: u64,
    /// Unix time.
    pub time_ms: u64,
    /// The trial's place in the sweep; 0: of no trial.
    pub number: u32,
    /// How it is to be taken.
    pub tone: Tone,
    /// In words.
    pub words: Box<str>,
}

/// How something is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Progress, comings and goings.
    Plain,
    /// An end as wished.
    Good,
    /// To be looked at.
    Warn,
    /// A failure.
    Bad,
}

/// What is known of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Numbers made up by the scripted trainer.
    pub scripted: bool,
    /// A person paused it.
    pub paused: bool,
    /// What it trains on, in a few words.
    pub data: String,
    /// It is about the paper's data set.
    pub imagenet: bool,
    /// Trials at a time.
    pub concurrent_max: Option<u32>,
    /// Which metric is the best one's, and whether less is better.
    pub(super) goal: (String, bool),
    /// Names of axes besides α, ρ and the seed.
    pub axes: Vec<String>,
    /// In the sweep's order.
    pub trials: Vec<Trial>,
    /// Largest α first, then largest ρ.
    pub cells: Vec<Cell>,
    /// Some cells have several seeds.
    pub seeds: bool,
    /// What happened, oldest first.
    pub lines: VecDeque<Happened>,
    /// As last told.
    pub workers: Vec<WorkerStatus>,
    /// The newest event that is part of this.
    pub sequence: u64,
    /// Raised whenever something changes.
    pub generation: u64,
    pub(super) places: Vec<(String, String)>,
    pub(super) by_id: BTreeMap<u64, u32>,
}

impl Model {
    /// Takes the coordinator's answer: it knows all up to its sequence number.
    pub fn status(&mut self, reply: StatusReply) {
        let StatusReply { summary, yaml: _, spec_json, trials, sequence } = reply;
        let summary = summary.unwrap_or_default();
        self.name = summary.name;
        self.scripted = summary.scripted;
        self.paused = summary.paused;
        self.concurrent_max = summary.max_concurrent_trials;
        self.sequence = self.sequence.max(sequence);
        self.generation += 1;
        self.goal = ("val_top1".to_owned(), false);
        if let Ok(spec) = serde_json::from_str::<Sweep>(&spec_json) {
            if let Some(metric) = spec.metrics.first() {
                self.goal = (metric.name.clone(), metric.goal == Goal::Minimize);
            }
            self.imagenet = paper::is_imagenet(&spec);
            self.data = format!("{}, {} classes", spec.data.train, spec.data.classes);
        }
        self.places.clear();
        self.take_trials(trials);
        self.gather_cells();
    }

    fn take_trials(&mut self, statuses: Vec<TrialStatus>) {
        let mut axes: Vec<String> = Vec::new();
        let mut configurations: BTreeMap<String, u32> = BTreeMap::new();
        let mut trials: Vec<(Trial, Parameters)> = Vec::with_capacity(statuses.len());
        for status in statuses {
            let mut parameters: Parameters = serde_json::from_str(&status.parameters_json).unwrap_or_default();
            for known in ["alpha", "resolution", "seed"] {
                parameters.remove(known);
            }
            for name in parameters.keys() {
                if !axes.contains(name) {
                    axes.push(name.clone());
                }
            }
            let next = configurations.len() as u32;
            let key = if parameters.is_empty() { String::new() } else { proto::convert::to_json(&parameters) };
            let configuration = *configurations.entry(key).or_insert(next);
            let place = self.place(&status.worker, &status.device);
            trials.push((self.trial(status, configuration, place), parameters));
        }
        axes.sort();
        self.trials = trials
            .into_iter()
            .map(|(trial, parameters)| {
                let settings = axes.iter().map(|axis| setting(parameters.get(axis))).collect();
                Trial { settings, ..trial }
            })
            .collect();
        self.trials.sort_by_key(|trial| trial.number);
        self.trials.shrink_to_fit();
        self.by_id = self.trials.iter().enumerate().map(|(place, trial)| (trial.id, place as u32)).collect();
        self.axes = axes;
    }

    fn trial(&self, status: TrialStatus, configuration: u32, place: u32) -> Trial {
        let values = |map: &BTreeMap<String, f64>| Values::of(map.iter().map(|(name, value)| (name.as_str(), *value)));
        Trial {
            id: status.id,
            number: status.number,
            alpha: status.alpha,
            resolution: status.resolution,
            seed: status.seed,
            mult_adds: status.mult_adds,
            params: status.params,
            epochs: status.epochs,
            epochs_done: status.epochs_done,
            best_epoch: status.best_epoch,
            best_goal: status.best.get(&self.goal.0).copied().unwrap_or(f64::NAN),
            best: values(&status.best),
            last: values(&status.last),
            standing: Standing::read(&status.state),
            stopping: false,
            attempts: status.attempts,
            place,
            reason: status.reason.into(),
            settings: Box::default(),
            configuration,
            train_seconds: status.train_seconds,
        }
    }

    fn gather_cells(&mut self) {
        let mut cells: Vec<Cell> = Vec::new();
        let mut known: BTreeMap<(u64, u32), usize> = BTreeMap::new();
        for (place, trial) in self.trials.iter().enumerate() {
            let cell = *known.entry((trial.alpha.to_bits(), trial.resolution)).or_insert_with(|| {
                cells.push(Cell {
                    alpha: trial.alpha,
                    resolution: trial.resolution,
                    mult_adds: trial.mult_adds,
                    params: trial.params,
                    members: Vec::new(),
                });
                cells.len() - 1
            });
            cells[cell].members.push(place as u32);
        }
        self.seeds = false;
        for cell in &mut cells {
            cell.members.sort_by_key(|place| (self.trials[*place as usize].configuration, *place));
            cell.members.shrink_to_fit();
            let configuration = |place: &u32| self.trials[*place as usize].configuration;
            self.seeds |= cell.members.windows(2).any(|pair| configuration(&pair[0]) == configuration(&pair[1]));
        }
        cells.sort_by(|a, b| b.alpha.total_cmp(&a.alpha).then(b.resolution.cmp(&a.resolution)));
        self.cells = cells;
    }

    pub(super) fn place(&mut self, host: &str, device: &str) -> u32 {
        let found = self.places.iter().position(|(known, on)| known == host && on == device);
        found.unwrap_or_else(|| {
            self.places.push((host.to_owned(), device.to_owned()));
            self.places.len() - 1
        }) as u32
    }

    /// Host and device of a trial's newest attempt.
    #[must_use]
    pub fn host_and_device(&self, trial: &Trial) -> (&str, &str) {
        self.places.get(trial.place as usize).map_or(("", ""), |(host, device)| (host, device))
    }

    /// The trial of an id.
    #[must_use]
    pub fn by_id(&self, id: u64) -> Option<&Trial> {
        self.trials.get(*self.by_id.get(&id)? as usize)
    }

    /// The metrics that a status must have of the best epoch: the measures, and what decides which epoch is the best.
    #[must_use]
    pub fn metrics(&self) -> Vec<String> {
        let of_best = MEASURES.iter().filter(|(measure, _)| *measure != Measure::ImagesPerSecond);
        let mut names: Vec<String> = of_best.map(|(_, name)| (*name).to_owned()).collect();
        if !self.goal.0.is_empty() && !names.contains(&self.goal.0) {
            names.push(self.goal.0.clone());
        }
        names
    }

    /// How many trials stand so.
    #[must_use]
    pub fn count(&self, standing: Standing) -> usize {
        self.trials.iter().filter(|trial| trial.standing == standing).count()
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.trials.iter().all(|trial| trial.standing.is_over())
    }

    /// Share of the work (Mult-Adds × epochs) that is done.
    #[must_use]
    pub fn progress(&self) -> f64 {
        let (mut work, mut done) = (0.0, 0.0);
        for trial in &self.trials {
            work += trial.mult_adds as f64 * f64::from(trial.epochs);
            done += trial.mult_adds as f64 * f64::from(trial.epochs_done.min(trial.epochs));
        }
        if work > 0.0 { done / work } else { 0.0 }
    }

    /// The distinct α, largest first, and the distinct ρ, largest first.
    #[must_use]
    pub fn sides(&self) -> (Vec<f64>, Vec<u32>) {
        let mut alphas: Vec<f64> = self.cells.iter().map(|cell| cell.alpha).collect();
        alphas.dedup();
        let mut resolutions: Vec<u32> = self.cells.iter().map(|cell| cell.resolution).collect();
        resolutions.sort_unstable_by(|a, b| b.cmp(a));
        resolutions.dedup();
        (alphas, resolutions)
    }

    /// Whether cells have more trials than seeds: there are further axes to choose among.
    #[must_use]
    pub fn has_choices(&self) -> bool {
        !self.axes.is_empty()
    }
}

type Parameters = BTreeMap<String, serde_json::Value>;

fn setting(value: Option<&serde_json::Value>) -> Setting {
    match value {
        Some(serde_json::Value::Number(number)) => Setting::Number(number.as_f64().unwrap_or(f64::NAN)),
        Some(serde_json::Value::String(text)) => Setting::Text(text.as_str().into()),
        Some(other) => Setting::Text(other.to_string().into()),
        None => Setting::Text("–".into()),
    }
}
