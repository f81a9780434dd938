//! One point of a sweep, resolved: everything that a trainer must know, and nothing of any other trial.

use crate::spec::model::{Checkpoint, Data, ScriptStep, Training, Variant};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
}
