//! What a sweep will take, before anything runs: its trials with their size, cost and memory.

mod render;

use crate::network::{Cost, Network, NetworkError};
use crate::spec::model::{Precision, Sweep, Training, Variant};
use crate::trial::Trial;
use serde::Serialize;
use std::collections::BTreeMap;

pub use render::{PlanFormat, UnknownFormat};

/// Copies of a layer's output that a training step keeps: before BatchNorm, after it, and the gradient.
const ACTIVATION_COPIES: u64 = 3;
/// Copies of the parameters in memory: weights, gradient, mean square, momentum.
const PARAMETER_COPIES: u64 = 4;
/// Copies of the parameters in a checkpoint: weights, mean square, momentum.
const CHECKPOINT_COPIES: u64 = 3;

/// The trials of a sweep and what they cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The sweep's name.
    pub sweep: String,
    /// Its table of layers.
    pub network: Variant,
    /// Outputs of the classifier.
    pub classes: u32,
    /// Whether results would be made up by a script.
    pub scripted: bool,
    /// Names of the axes besides α and ρ.
    pub axes: Vec<String>,
    /// One a trial, in order.
    pub rows: Vec<PlanRow>,
    /// Σ Mult-Adds × epochs over all trials: forward passes of one image each.
    pub mult_adds_epochs: f64,
    /// Bytes of the checkpoints that stay when all trials are done: parameters × 3 copies (weights, mean square,
    /// momentum; 4 with `weight_ema`) × 4 bytes × kinds kept.
    pub checkpoint_bytes: u64,
    /// What a reader should know besides, one sentence each.
    pub notes: Vec<String>,
}

/// A trial to come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanRow {
    /// From 1, in the order of the sweep.
    pub trial: usize,
    /// α.
    pub alpha: f64,
    /// ρ in pixels.
    pub resolution: u32,
    /// Multiply-accumulates of one forward pass of one image.
    pub mult_adds: u64,
    /// Parameters, BatchNorm's scale and shift included.
    pub params: u64,
    /// The same without BatchNorm: the paper's way of counting.
    pub params_without_batch_norm: u64,
    /// Values of the other axes, by name.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Of init and dropout.
    pub seed: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// Share of the sweep's compute, by Mult-Adds × epochs; a fraction.
    pub compute_share: f64,
    /// Estimate of what training keeps in memory, without libtorch itself and the data's queue:
    /// batch × bytes of all layers' outputs × 3 (before and after BatchNorm, and the gradient; half in bf16)
    /// + parameters × 4 copies (weights, gradient, mean square, momentum; 5 with `weight_ema`) × 4 bytes.
    pub memory_bytes: u64,
}

impl Plan {
    /// Counts a sweep.
    ///
    /// # Errors
    /// When a trial's layers do not make a network; not for sweeps that [`crate::spec::parse`] accepted.
    pub fn new(sweep: &Sweep) -> Result<Self, NetworkError> {
        let classes = sweep.data.classes;
        let mut costs: BTreeMap<(u64, u32), Cost> = BTreeMap::new();
        let mut rows = Vec::new();
        let (mut saved, kept) = (0, sweep.checkpoint.keep.len() as u64);
        for (index, trial) in sweep.expand().enumerate() {
            let cell = (trial.alpha.to_bits(), trial.resolution);
            let cost = match costs.get(&cell) {
                Some(cost) => *cost,
                None => {
                    let cost = Network::new(trial.network, trial.alpha, trial.resolution, classes)?.cost();
                    costs.insert(cell, cost);
                    cost
                }
            };
            saved += checkpoint_bytes(cost.params, &trial.training) * kept;
            rows.push(row(index + 1, &trial, cost));
        }
        let mult_adds_epochs: f64 = rows.iter().map(work).sum();
        for row in &mut rows {
            row.compute_share = work(row) / mult_adds_epochs;
        }
        let axes = sweep.parameters.keys().filter(|name| name.starts_with("training.")).cloned().collect();
        let mut plan = Self {
            sweep: sweep.name.clone(),
            network: sweep.network,
            classes,
            scripted: sweep.script.is_some(),
            axes,
            rows,
            mult_adds_epochs,
            checkpoint_bytes: saved,
            notes: Vec::new(),
        };
        plan.notes = render::notes(&plan, sweep);
        Ok(plan)
    }
}

/// Bytes of one checkpoint of a network with so many parameters, about.
#[must_use]
pub fn checkpoint_bytes(params: u64, training: &Training) -> u64 {
    params * 4 * (CHECKPOINT_COPIES + averaged(training))
}

fn row(trial: usize, of: &Trial, cost: Cost) -> PlanRow {
    let mut parameters = of.parameters.clone();
    parameters.retain(|name, _| name.starts_with("training."));
    PlanRow {
        trial,
        alpha: of.alpha,
        resolution: of.resolution,
        mult_adds: cost.mult_adds,
        params: cost.params,
        params_without_batch_norm: cost.params_without_batch_norm,
        parameters,
        seed: of.seed,
        epochs: of.training.epochs,
        compute_share: 0.0,
        memory_bytes: memory_bytes(of, cost),
    }
}

/// Estimate of what training keeps in memory, as [`PlanRow::memory_bytes`] has it.
#[must_use]
pub fn memory_bytes(of: &Trial, cost: Cost) -> u64 {
    let activations = u64::from(of.training.batch_size) * cost.activation_bytes * ACTIVATION_COPIES
        / match of.training.precision {
            Precision::F32 => 1,
            Precision::Bf16 => 2,
        };
    activations + cost.params * 4 * (PARAMETER_COPIES + averaged(&of.training))
}

/// One more copy of the parameters where their average is kept.
fn averaged(training: &Training) -> u64 {
    u64::from(training.weight_ema.is_some())
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
fn work(row: &PlanRow) -> f64 {
    row.mult_adds as f64 * f64::from(row.epochs)
}
