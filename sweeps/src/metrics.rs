//! The one table of metrics: names, units, x-axes. What is not in it cannot be reported.

use serde::{Deserialize, Serialize};

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

/// What the step of a point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Epochs finished, from 1.
    Epoch,
    /// Optimizer steps done, from 1.
    Step,
    /// One value a trial, known before it starts.
    Constant,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name everywhere: file, store, tables.
    pub name: &'static str,
    /// Its unit as printed; empty for a plain number.
    pub unit: &'static str,
    /// What its step counts.
    pub axis: Axis,
    /// Which way is better, where one is.
    pub goal: Option<Goal>,
    /// One sentence.
    pub meaning: &'static str,
}

const fn metric(
    name: &'static str,
    unit: &'static str,
    axis: Axis,
    goal: Option<Goal>,
    meaning: &'static str,
) -> Metric {
    Metric { name, unit, axis, goal, meaning }
}

/// All metrics, in the order of tables.
pub const METRICS: &[Metric] = &[
    metric(
        "val_top1",
        "fraction",
        Axis::Epoch,
        Some(Goal::Maximize),
        "accuracy on the validation set; of the averaged weights where there are any",
    ),
    metric(
        "val_top5",
        "fraction",
        Axis::Epoch,
        Some(Goal::Maximize),
        "share whose class is among the five likeliest; absent under 6 classes",
    ),
    metric("val_loss", "nats", Axis::Epoch, Some(Goal::Minimize), "cross-entropy on the validation set"),
    metric(
        "train_loss",
        "nats",
        Axis::Epoch,
        Some(Goal::Minimize),
        "mean cross-entropy over the epoch's training batches, without weight decay",
    ),
    metric(
        "train_top1",
        "fraction",
        Axis::Epoch,
        Some(Goal::Maximize),
        "accuracy on the epoch's training batches, as they were trained on",
    ),
    metric("learning_rate", "", Axis::Epoch, None, "at the end of the epoch"),
    metric(
        "images_per_second",
        "images/s",
        Axis::Epoch,
        Some(Goal::Maximize),
        "training throughput of the epoch, without evaluation; of trials side by side, each in its own part of the time",
    ),
    metric(
        "data_wait_seconds",
        "s",
        Axis::Epoch,
        Some(Goal::Minimize),
        "time the training thread waited for data in the epoch",
    ),
    metric(
        "epoch_seconds",
        "s",
        Axis::Epoch,
        Some(Goal::Minimize),
        "duration of the epoch: training, evaluation and checkpoint",
    ),
    metric("eval_seconds", "s", Axis::Epoch, Some(Goal::Minimize), "duration of the epoch's evaluation"),
    metric("images_skipped", "images", Axis::Epoch, Some(Goal::Minimize), "broken images met so far"),
    metric(
        "images_trained",
        "images",
        Axis::Epoch,
        None,
        "images of the epoch whose gradients went into the weights, each once, by all replicas",
    ),
    metric("gradient_norm", "", Axis::Epoch, None, "mean norm of the gradient over the epoch, before clipping"),
    metric("replicas", "", Axis::Epoch, None, "mean number of replicas that trained the epoch together"),
    metric(
        "staleness_mean",
        "updates",
        Axis::Epoch,
        None,
        "mean over the epoch's gradients of the updates made since their parameters were read",
    ),
    metric("staleness_max", "updates", Axis::Epoch, None, "the most of them"),
    metric(
        "staleness_share_0",
        "fraction",
        Axis::Epoch,
        None,
        "share of the epoch's gradients that were of the newest parameters",
    ),
    metric(
        "staleness_share_1",
        "fraction",
        Axis::Epoch,
        None,
        "share of the epoch's gradients that were 1 update behind",
    ),
    metric(
        "staleness_share_2",
        "fraction",
        Axis::Epoch,
        None,
        "share of the epoch's gradients that were 2 updates behind",
    ),
    metric(
        "staleness_share_3_4",
        "fraction",
        Axis::Epoch,
        None,
        "share of the epoch's gradients that were 3 or 4 updates behind",
    ),
    metric(
        "staleness_share_5_8",
        "fraction",
        Axis::Epoch,
        None,
        "share of the epoch's gradients that were 5 to 8 updates behind",
    ),
    metric(
        "staleness_share_9_up",
        "fraction",
        Axis::Epoch,
        None,
        "share of the epoch's gradients that were 9 or more updates behind",
    ),
    metric(
        "samples_refused",
        "images",
        Axis::Epoch,
        Some(Goal::Minimize),
        "of the epoch's gradients that were refused: too stale and handed out again, or not finite and skipped",
    ),
    metric("step_loss", "nats", Axis::Step, Some(Goal::Minimize), "training loss of the batches since the last point"),
    metric(
        "mult_adds",
        "Mult-Adds",
        Axis::Constant,
        Some(Goal::Minimize),
        "multiply-accumulates of one forward pass of one image",
    ),
    metric(
        "params",
        "parameters",
        Axis::Constant,
        Some(Goal::Minimize),
        "trainable parameters, BatchNorm's scale and shift included",
    ),
];

/// The metric of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// A name of [`METRICS`].
    pub name: String,
    /// On the metric's axis.
    pub step: u64,
    /// Finite; in the metric's unit.
    pub value: f64,
}
