//! The sweep file as values. Each field's documentation is what a user reads.

use super::words::{auto_word, none_word};
use crate::metrics::Goal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole sweep file, every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The identity of the sweep: `[a-z0-9-]`, 1 to 64 characters.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// How parameters become trials.
    #[serde(default)]
    pub method: Method,
    /// How many trials to draw; `method: random` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<u32>,
    /// What the trade-off is between; the first is the one that `best` means.
    #[serde(default = "defaults::metrics")]
    pub metrics: Vec<MetricGoal>,
    /// Which table of layers.
    #[serde(default)]
    pub network: Variant,
    /// The axes: `alpha`, `resolution`, or any key of training by its dotted name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Repeats of each cell. Init and dropout follow this seed; the order of data follows `data.seed`.
    #[serde(default = "defaults::seeds")]
    pub seeds: Vec<u64>,
    /// The images.
    pub data: Data,
    /// How each trial is trained.
    pub training: Training,
    /// What a trial needs of a worker.
    #[serde(default)]
    pub resources: Resources,
    /// At most so many trials at a time.
    #[serde(default, with = "none_word")]
    pub max_concurrent_trials: Option<u32>,
    /// How often a trial may crash or fail by itself and be started again.
    #[serde(default = "defaults::max_restarts")]
    pub max_restarts: u32,
    /// How often in a row, without progress, a trial may lose its worker.
    #[serde(default = "defaults::max_losses")]
    pub max_losses: u32,
    /// When to save, what to keep.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// For tests of everything around training: acted out instead of training, and marked `scripted`
    /// wherever its numbers appear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Vec<ScriptStep>>,
}

/// How parameters become trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every combination of values.
    #[default]
    Grid,
    /// `trials` draws, each from its parameter's values or distribution, seeded by `data.seed`.
    Random,
}

/// A metric and which way is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricGoal {
    /// A name of the table in [`crate::metrics`].
    pub name: String,
    /// Which way is better.
    pub goal: Goal,
}

/// Which table of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Depthwise separable convolutions: the paper's Table 1.
    #[default]
    Mobilenet,
    /// The same with full convolutions: the paper's Table 4.
    ConvMobilenet,
    /// Without the five 14 × 14 × 512 blocks: the paper's Table 5.
    ShallowMobilenet,
}

/// One axis of the sweep: exactly one of the three forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    /// Each of these.
    Values(Values),
    /// Always this.
    Value(Single),
    /// Drawn; `method: random` only.
    Range(Range),
}

/// `{values: [..]}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// Numbers or words, no two alike.
    pub values: Vec<serde_json::Value>,
}

/// `{value: ..}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Single {
    /// A number or a word.
    pub value: serde_json::Value,
}

/// `{min: .., max: .., distribution: ..}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// How values are spread between them.
    #[serde(default)]
    pub distribution: Distribution,
}

/// How drawn values are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Evenly.
    #[default]
    Uniform,
    /// Evenly in the logarithm.
    LogUniform,
    /// Whole numbers, evenly, both ends included.
    IntUniform,
}

/// The images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// How they lie on the worker's disk.
    pub format: Format,
    /// A path on the worker, or a name that the worker maps (`--data imagenet=/mnt/imagenet`), with a path
    /// below it if need be: `imagenet/train`.
    pub train: String,
    /// Another such path, or `{fraction: 0.25}`: that share of `train`, chosen by a hash of each name.
    pub validation: Validation,
    /// How many classes; checked against the data.
    pub classes: u32,
    /// Orders the samples and draws their crops; the same for every trial, so that cells can be compared.
    #[serde(default = "defaults::one_seed")]
    pub seed: u64,
    /// Broken images are named, counted and skipped; one more than this fails the trial.
    #[serde(default = "defaults::broken_images_max")]
    pub broken_images_max: u32,
    /// The random crop of training images.
    #[serde(default)]
    pub crop: Crop,
    /// Mirror training images at random.
    #[serde(default = "defaults::yes")]
    pub flip: bool,
    /// Colour distortion of training images.
    #[serde(default)]
    pub color: Color,
    /// The central share of each side that evaluation looks at; (0, 1].
    #[serde(default = "defaults::evaluation_crop")]
    pub evaluation_crop: f64,
}

/// How images lie on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder per class.
    ImageFolder,
    /// A file with the columns `path,label`; paths are relative to the file.
    Csv,
    /// MNIST's format, plain or gzip; `train` names the images file, the labels lie beside it.
    Idx,
    /// CIFAR's binary format; a file, or the folder with `data_batch_*.bin` / `test_batch.bin`.
    Cifar,
    /// Tar shards of images and labels: one `.tar`, a folder of them, or braces: `train-{000..127}.tar`.
    Webdataset,
    /// A file that `alpharho pack` made of any other format.
    Pack,
    /// Columns of image files and labels, as Hugging Face data sets: a `.parquet`, a folder of them, or braces.
    Parquet,
}

impl Format {
    /// As they are written in a sweep file.
    pub const WORDS: &[&str] = &["image_folder", "csv", "idx", "cifar", "webdataset", "pack", "parquet"];
}

/// Where validation images come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Validation {
    /// A path, like `train`.
    Path(String),
    /// A share of `train`.
    Fraction(Fraction),
}

/// `{fraction: 0.25}`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// In (0, 1).
    pub fraction: f64,
}

/// The random crop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crop {
    /// Share of the image's area, from and to; (0, 1].
    pub area: [f64; 2],
    /// Width over height, from and to.
    pub aspect: [f64; 2],
}

impl Default for Crop {
    fn default() -> Self {
        Self { area: [0.25, 1.0], aspect: [0.75, 1.333] }
    }
}

/// Colour distortion: brightness is added, saturation multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Color {
    /// Largest shift either way, as a fraction of full scale; [0, 1].
    pub brightness: f64,
    /// Factor, from and to.
    pub saturation: [f64; 2],
}

impl Default for Color {
    fn default() -> Self {
        Self { brightness: 0.125, saturation: [0.5, 1.5] }
    }
}

/// How a trial is trained. Any key can be an axis by its dotted name, as `training.learning_rate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Passes over the training images.
    pub epochs: u32,
    /// Images a step.
    #[serde(default = "defaults::batch_size")]
    pub batch_size: u32,
    /// The update rule.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// At the start, after warm-up.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: f64,
    /// How it falls.
    #[serde(default)]
    pub schedule: Schedule,
    /// L2 on standard and 1 × 1 convolutions and the classifier; never on BatchNorm or biases.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// L2 on depthwise filters.
    #[serde(default)]
    pub weight_decay_depthwise: f64,
    /// Gradients longer than this are shortened to it, before weight decay is added.
    #[serde(default, with = "none_word")]
    pub gradient_clip_norm: Option<f64>,
    /// Probability, before the classifier; [0, 1).
    #[serde(default = "defaults::dropout")]
    pub dropout: f64,
    /// Share of the target spread over all classes; [0, 1).
    #[serde(default)]
    pub label_smoothing: f64,
    /// Decay of an exponential moving average of the weights, which is then evaluated and kept beside them.
    #[serde(default, with = "none_word")]
    pub weight_ema: Option<f64>,
    /// After each convolution.
    #[serde(default)]
    pub activation: Activation,
    /// Batch normalisation.
    #[serde(default)]
    pub batch_norm: BatchNorm,
    /// Standard deviation of the truncated normal that convolutions start from.
    #[serde(default = "defaults::init_std")]
    pub init_std: f64,
    /// Of activations and gradients; weights are kept in f32.
    #[serde(default)]
    pub precision: Precision,
    /// How many processes train the trial together.
    #[serde(default)]
    pub replicas: Replicas,
    /// How the gradients of several replicas come together.
    // Defaults are left out of JSON, so that keys and fingerprints made before there were any are kept.
    #[serde(default, skip_serializing_if = "Gradients::is_default")]
    pub gradients: Gradients,
}

/// RMSprop as TensorFlow defines it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// The only one.
    pub name: OptimizerName,
    /// Of the mean square; [0, 1).
    pub decay: f64,
    /// [0, 1).
    pub momentum: f64,
    /// Inside the root; > 0.
    pub epsilon: f64,
}

/// Names of update rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// TensorFlow's RMSprop.
    Rmsprop,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self { name: OptimizerName::Rmsprop, decay: 0.9, momentum: 0.9, epsilon: 1.0 }
    }
}

/// `learning_rate · decay^floor(epoch / every_epochs)`, after a linear warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The only one.
    pub name: ScheduleName,
    /// Factor; (0, 1].
    pub decay: f64,
    /// How often it is applied: a staircase.
    pub every_epochs: f64,
    /// Epochs of linear rise from 0; they count into the staircase.
    pub warmup_epochs: f64,
}

/// Names of schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// A staircase of equal factors.
    Exponential,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { name: ScheduleName::Exponential, decay: 0.94, every_epochs: 2.0, warmup_epochs: 0.0 }
    }
}

/// After each convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// min(max(x, 0), 6): the published code.
    #[default]
    Relu6,
    /// max(x, 0): the paper's words.
    Relu,
}

/// Batch normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f64,
    /// Decay of the running statistics. `auto`: 0.9997, less for short runs, so that the initial statistics weigh
    /// a thousandth after a quarter of the steps, but at least 0.9; see
    /// [`super::effective_batch_norm_decay`].
    #[serde(with = "auto_word")]
    pub decay: Option<f64>,
    /// Before each evaluation, take the statistics anew from so many training batches; 0: use the running ones.
    pub reestimate_batches: u32,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self { epsilon: 0.001, decay: None, reestimate_batches: 0 }
    }
}

/// Of activations and gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16, with f32 master weights.
    Bf16,
}

/// How many processes train one trial: the chief, and others that send it their gradients. A trial starts with
/// its chief alone; others join and leave at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Replicas {
    /// So many, as soon as there are slots: they come before pending trials.
    Exactly(u32),
    /// `min` like that; up to `max` on slots that no pending trial can use.
    Between(ReplicaRange),
}

impl Replicas {
    /// So many come before pending trials.
    #[must_use]
    pub fn min(self) -> u32 {
        match self {
            Self::Exactly(count) => count,
            Self::Between(ReplicaRange { min, .. }) => min,
        }
    }

    /// Never more than so many.
    #[must_use]
    pub fn max(self) -> u32 {
        match self {
            Self::Exactly(count) => count,
            Self::Between(ReplicaRange { max, .. }) => max,
        }
    }
}

/// `{min: 1, max: 8}`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaRange {
    /// At least 1.
    pub min: u32,
    /// At least `min`.
    pub max: u32,
}

impl Default for Replicas {
    fn default() -> Self {
        Self::Exactly(1)
    }
}

/// How the gradients of several replicas come together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gradients {
    /// Whether replicas wait for each other.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: GradientMode,
    /// Staleness is how many updates the chief has made since the parameters were read that a gradient is of. A
    /// gradient of more than this is refused, and its samples are handed out again. `async` only.
    #[serde(with = "none_word", skip_serializing_if = "is_default")]
    pub max_staleness: Option<u32>,
    /// How the learning rate follows a gradient's staleness. `async` only.
    #[serde(skip_serializing_if = "is_default")]
    pub staleness_lr: StalenessRate,
    /// λ of DC-ASGD (Zheng et al. 2017), at least 0: a stale gradient g becomes
    /// `g + λ · g² / sqrt(mean_square + epsilon) · (w_now − w_read)`; 0: it is taken as it is. `async` only.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_compensation: f64,
    /// Batches whose gradients a replica averages before it sends them; 1: each by itself.
    #[serde(skip_serializing_if = "is_one")]
    pub push_every: u32,
    /// Numbers between replicas; the chief adds up in f32.
    #[serde(skip_serializing_if = "is_default")]
    pub wire: Precision,
    /// So many replicas are not waited for in a step: backups for slow ones; below `replicas`. `sync` only.
    #[serde(skip_serializing_if = "is_default")]
    pub drop_slowest: u32,
}

impl Gradients {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Gradients {
    fn default() -> Self {
        Self {
            mode: GradientMode::Async,
            max_staleness: None,
            staleness_lr: StalenessRate::None,
            delay_compensation: 0.0,
            push_every: 1,
            wire: Precision::F32,
            drop_slowest: 0,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(value: &u32) -> bool {
    *value == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether replicas wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientMode {
    /// Each gradient is applied when it arrives.
    #[default]
    Async,
    /// The gradients of all replicas are averaged for each step.
    Sync,
}

/// How the learning rate follows a gradient's staleness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StalenessRate {
    /// Not at all.
    #[default]
    None,
    /// Divided by the staleness, where that is above 1 (Zhang et al. 2016).
    Inverse,
}

/// What a trial needs of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Slots a replica takes; 1.
    pub slots: u32,
    /// 0 to 100; sweeps of higher priority go first.
    pub priority: u8,
    /// Several trials on one slot.
    pub packing: Packing,
}

impl Default for Resources {
    fn default() -> Self {
        Self { slots: 1, priority: 50, packing: Packing::default() }
    }
}

/// Several trials on one slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packing {
    /// Trials that train side by side over one stream of images, at most. `auto`: 16, and 1 of scripted ones.
    #[serde(with = "auto_word")]
    pub max_trials_per_slot: Option<u32>,
}

/// When to save, what to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// After every so many epochs.
    pub every_epochs: u32,
    /// Also within an epoch, when so many minutes have passed since the last.
    pub every_minutes: f64,
    /// Which ones stay.
    pub keep: Vec<Keep>,
}

/// A kind of checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Of the epoch whose first metric is best.
    Best,
    /// The newest: what a trial resumes from. Always kept while the trial is not over.
    Latest,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every_epochs: 1, every_minutes: 10.0, keep: vec![Keep::Best, Keep::Latest] }
    }
}

/// One act of the scripted trainer. The whole script is acted out once an epoch, after which the epoch's
/// made-up metrics are reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptStep {
    /// What to do.
    #[serde(rename = "do")]
    pub act: Act,
    /// Only where all of these hold; always, if absent.
    #[serde(default, skip_serializing_if = "When::is_always")]
    pub when: When,
    /// For `sleep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// For `report`: the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For `report`: its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// For `fail`: the reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What the scripted trainer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Wait `ms`.
    Sleep,
    /// Report `name` = `value`.
    Report,
    /// Save a checkpoint.
    Checkpoint,
    /// Abort the process.
    Crash,
    /// Stop doing anything, for ever.
    Hang,
    /// End the trial with `message`.
    Fail,
}

/// When a step of a script applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// In this epoch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// In this attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// In trials of this α.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// In trials of this ρ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<u32>,
}

impl When {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }
}

/// Values of absent keys, where a type's own default does not say it.
mod defaults {
    use super::{Goal, MetricGoal};

    pub(super) fn metrics() -> Vec<MetricGoal> {
        vec![
            MetricGoal { name: "val_top1".into(), goal: Goal::Maximize },
            MetricGoal { name: "mult_adds".into(), goal: Goal::Minimize },
        ]
    }
    pub(super) fn seeds() -> Vec<u64> {
        vec![1]
    }
    pub(super) fn one_seed() -> u64 {
        1
    }
    pub(super) fn max_restarts() -> u32 {
        5
    }
    pub(super) fn max_losses() -> u32 {
        100
    }
    pub(super) fn broken_images_max() -> u32 {
        10
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn evaluation_crop() -> f64 {
        0.875
    }
    pub(super) fn batch_size() -> u32 {
        32
    }
    pub(super) fn learning_rate() -> f64 {
        0.045
    }
    pub(super) fn weight_decay() -> f64 {
        0.00004
    }
    pub(super) fn dropout() -> f64 {
        0.001
    }
    pub(super) fn init_std() -> f64 {
        0.09
    }
}
