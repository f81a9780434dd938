//! What an exported network says of itself, in any format.

use crate::trained::{Statistics, Trained};
use sweeps::spec::model::{Activation, Variant};

/// Where a network comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The sweep's name.
    pub sweep: &'a str,
    /// The trial's place in it, from 1.
    pub number: u32,
}

/// The name of a trial's files, without an ending: `trial-04-1-128` is trial 4, α 1, ρ 128.
#[must_use]
pub fn file_stem(number: u32, alpha: f64, resolution: u32) -> String {
    format!("trial-{number:02}-{alpha}-{resolution}")
}

/// Keys and values for the metadata of a file.
#[must_use]
pub fn describe(trained: &Trained, origin: Origin<'_>) -> Vec<(String, String)> {
    let trial = &trained.trial;
    let network = match trial.network {
        Variant::Mobilenet => "mobilenet",
        Variant::ConvMobilenet => "conv_mobilenet",
        Variant::ShallowMobilenet => "shallow_mobilenet",
    };
    let activation = match trial.training.activation {
        Activation::Relu6 => "relu6",
        Activation::Relu => "relu",
    };
    let weights = if trained.averaged { "moving average" } else { "as trained" };
    let statistics = match trained.statistics {
        Statistics::Running => "running",
        Statistics::Reestimated => "estimated anew for the evaluation",
        Statistics::RunningNotEvaluated => {
            "running; the evaluation took statistics anew, which this checkpoint does not hold"
        }
    };
    [
        ("producer", format!("alpharho {}", env!("CARGO_PKG_VERSION"))),
        ("sweep", origin.sweep.to_owned()),
        ("trial", origin.number.to_string()),
        ("trial_key", trial.key.clone()),
        ("network", network.to_owned()),
        ("alpha", trial.alpha.to_string()),
        ("resolution", trial.resolution.to_string()),
        ("classes", trial.data.classes.to_string()),
        (
            "normalisation",
            "red, green, blue; byte / 127.5 - 1, so from -1 to 1; [n, 3, resolution, resolution]".to_owned(),
        ),
        ("activation", activation.to_owned()),
        ("batch_norm_epsilon_in_training", trial.training.batch_norm.epsilon.to_string()),
        ("weights", weights.to_owned()),
        ("batch_norm_statistics", statistics.to_owned()),
        ("epoch", trained.epoch.to_string()),
        ("checkpoint_sha256", trained.sha256.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
