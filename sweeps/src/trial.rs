//! One point of a sweep, resolved: everything that a trainer must know, and nothing of any other trial.

use crate::canonical;
use crate::spec::expand::{self, Point};
use crate::spec::model::{Checkpoint, Data, ScriptStep, Sweep, Training, Variant};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Photographs are decoded at a scale that leaves their crop at least so many pixels a side, or ρ where that is
/// more: ρ = 224, the largest of the paper's. So what a trial sees does not depend on which others share its stream.
pub const DECODED_SIDE: u32 = 224;

/// A trial with every setting decided. Its canonical JSON is what its key hashes, what the store keeps and
/// what a trainer is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Hash of the resolved parameters and the data's fingerprint: 32 hexadecimal digits.
    pub key: String,
    /// The axes' values, by parameter name: what tells this trial from its neighbours.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Which table of layers.
    pub network: Variant,
    /// α, the width multiplier.
    pub alpha: f64,
    /// ρ, the side of the input in pixels.
    pub resolution: u32,
    /// Seeds init and dropout.
    pub seed: u64,
    /// The images.
    pub data: Data,
    /// How it is trained; axes put in.
    pub training: Training,
    /// When to save, what to keep.
    pub checkpoint: Checkpoint,
    /// Name and goal of the metric that `best` means.
    pub best: crate::spec::model::MetricGoal,
    /// The script to act out instead of training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Vec<ScriptStep>>,
}

impl Trial {
    /// Whether its numbers are made up by the scripted trainer.
    #[must_use]
    pub fn is_scripted(&self) -> bool {
        self.script.is_some()
    }

    /// A number for the stream of images that it reads; equal for trials that can train side by side: of the same
    /// data, seen in the same order, in batches of the same size, decoded at the same scale. `None` where several
    /// replicas may train it: each of those has its stream for itself.
    #[must_use]
    pub fn stream(&self) -> Option<u64> {
        if self.training.replicas.max() > 1 {
            return None;
        }
        let side = self.resolution.max(DECODED_SIDE);
        let hash = canonical::hash(&json!({"data": self.data, "batch_size": self.training.batch_size, "side": side}));
        hash.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok())
    }
}

impl Sweep {
    /// The sweep's trials. A grid: axes in alphabetical order with the last one fastest, values in the order
    /// of the file, seeds innermost. Random: as drawn from `data.seed`; the same file gives the same trials, and
    /// a larger `trials` gives the same ones first.
    ///
    /// Of a sweep that [`crate::spec::parse`] accepted every point makes a trial; of one put together by hand,
    /// points without a fitting α, ρ or training are left out. Made one by one: all of them would take kilobytes each.
    pub fn expand(&self) -> impl Iterator<Item = Trial> {
        let training = json!(self.training);
        let fixed = Arc::new(Fixed::of(self));
        let trials = expand::points(self).into_iter().filter_map(move |point| self.trial(&training, point));
        trials.flat_map(move |trial| {
            let (training, fixed) = (canonical::text(&json!(trial.training)), Arc::clone(&fixed));
            let of_seed =
                move |seed: &u64| Trial { seed: *seed, key: fixed.key(&trial, &training, *seed), ..trial.clone() };
            self.seeds.iter().map(of_seed)
        })
    }

    /// The trial of a point, without seed and key.
    fn trial(&self, training: &Value, point: Point) -> Option<Trial> {
        let alpha = point.get("alpha")?.as_f64()?;
        let resolution = u32::try_from(point.get("resolution")?.as_u64()?).ok()?;
        let mut training = training.clone();
        let mut same = true;
        for (name, value) in &point {
            if let Some(path) = name.strip_prefix("training.") {
                *at(&mut training, path)? = value.clone();
                same = false;
            }
        }
        Some(Trial {
            key: String::new(),
            parameters: point,
            network: self.network,
            alpha,
            resolution,
            seed: 0,
            data: self.data.clone(),
            training: if same { self.training.clone() } else { serde_json::from_value(training).ok()? },
            checkpoint: self.checkpoint.clone(),
            best: self.metrics.first()?.clone(),
            script: self.script.clone(),
        })
    }
}

/// The place of a dotted name; made where it was left out as a default.
fn at<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, key| {
        Some(value.as_object_mut()?.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new())))
    })
}

/// Canonical JSON of what all trials of a sweep have alike, made once for all.
struct Fixed {
    data: String,
    network: String,
    script: String,
}

impl Fixed {
    fn of(sweep: &Sweep) -> Self {
        Self {
            data: canonical::text(&json!(sweep.data)),
            network: canonical::text(&json!(sweep.network)),
            script: canonical::text(&json!(sweep.script)),
        }
    }

    /// What makes a trial this one: everything that its numbers depend on, and nothing else, as one canonical
    /// JSON object. How often it is saved is not among them.
    fn key(&self, trial: &Trial, training: &str, seed: u64) -> String {
        let Self { data, network, script } = self;
        let Trial { alpha, resolution, .. } = trial;
        let alpha = canonical::text(&json!(alpha));
        canonical::digest(&format!(
            r#"{{"alpha":{alpha},"data":{data},"network":{network},"resolution":{resolution},"script":{script},"seed":{seed},"training":{training}}}"#
        ))
    }
}
