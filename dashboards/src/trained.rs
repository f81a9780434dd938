//! A trained network as a checkpoint holds it: what exports of weights begin with.

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use sweeps::network::{Network, NetworkError};
use sweeps::trial::Trial;
use thiserror::Error;

/// The checkpoint header's entry of ours.
const ENTRY: &str = "alpharho";
/// The format that is read here; `worker/trainer/src/checkpoint.rs` writes it.
const FORMAT: u32 = 1;
/// Behind a parameter's name: its moving average, which is evaluated where there is one.
const AVERAGE: &str = "#average";
/// Behind a statistic's name: as it was estimated anew for the evaluation.
const EVALUATED: &str = "#evaluated";

/// Why a checkpoint cannot be exported.
#[derive(Debug, Error)]
pub enum TrainedError {
    /// Not a safetensors file.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(#[from] safetensors::SafeTensorError),
    /// Its header.
    #[error("the checkpoint's header cannot be read: {0}; was it saved by this program?")]
    Header(String),
    /// Of another version.
    #[error("the checkpoint has format {0}; this version reads {FORMAT}")]
    Format(u32),
    /// A tensor.
    #[error("the checkpoint's tensor {name} {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The trial's network.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Values of one parameter or statistic.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// `[out, in, height, width]`, `[out, in]` or `[channels]`.
    pub shape: Vec<usize>,
    /// In that order, the last dimension fastest.
    pub values: Vec<f32>,
}

/// Where BatchNorm's means and variances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The running ones, and those were evaluated.
    Running,
    /// Estimated anew for the evaluation, and those were evaluated.
    Reestimated,
    /// The running ones, though others were evaluated: the checkpoint does not hold those.
    RunningNotEvaluated,
}

/// A trial's network with the weights that were evaluated.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The settings.
    pub trial: Trial,
    /// The layers.
    pub network: Network,
    /// Epochs finished when it was saved.
    pub epoch: u32,
    /// Optimizer steps done when it was saved.
    pub step: u64,
    /// The weights are the moving average.
    pub averaged: bool,
    /// Which statistics these are.
    pub statistics: Statistics,
    /// Hexadecimal SHA-256 of the checkpoint file.
    pub sha256: String,
    values: BTreeMap<String, Values>,
}

#[derive(Deserialize)]
struct Header {
    format: u32,
    trial: Trial,
    progress: Progress,
}

#[derive(Deserialize)]
struct Progress {
    epochs_done: u32,
    step: u64,
}

impl Trained {
    /// Reads a checkpoint's file: its moving averages where it has them, else its weights; statistics as they
    /// were evaluated, where it has them.
    ///
    /// # Errors
    /// When the file is damaged, is not a checkpoint of this version, or lacks a tensor of its network.
    pub fn read(file: &[u8]) -> Result<Self, TrainedError> {
        let (_, metadata) = SafeTensors::read_metadata(file)?;
        let entry = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY));
        let entry = entry.ok_or_else(|| TrainedError::Header(format!("it has no entry {ENTRY:?}")))?;
        let header: Header = serde_json::from_str(entry).map_err(|error| TrainedError::Header(error.to_string()))?;
        if header.format != FORMAT {
            return Err(TrainedError::Format(header.format));
        }
        let tensors = SafeTensors::deserialize(file)?;
        let mut all = BTreeMap::new();
        for (name, view) in tensors.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(TrainedError::Tensor { name, problem: format!("is {:?}, not f32", view.dtype()) });
            }
            let values =
                view.data().chunks_exact(4).map(|part| f32::from_le_bytes([part[0], part[1], part[2], part[3]]));
            all.insert(name, Values { shape: view.shape().to_vec(), values: values.collect() });
        }
        let trial = header.trial;
        let averaged = all.keys().any(|name| name.ends_with(AVERAGE));
        let statistics = if all.keys().any(|name| name.ends_with(EVALUATED)) {
            Statistics::Reestimated
        } else if trial.training.batch_norm.reestimate_batches > 0 {
            Statistics::RunningNotEvaluated
        } else {
            Statistics::Running
        };
        Ok(Self {
            network: Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes)?,
            trial,
            epoch: header.progress.epochs_done,
            step: header.progress.step,
            averaged,
            statistics,
            sha256: sha256(file),
            values: evaluated(all),
        })
    }

    /// The values of that name: `block01.depthwise.weight`, `block01.depthwise.batch_norm.mean`.
    ///
    /// # Errors
    /// When there are none, or their shape is not `shape`.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<&Values, TrainedError> {
        let wrong = |problem: String| TrainedError::Tensor { name: name.to_owned(), problem };
        let values = self.values.get(name).ok_or_else(|| wrong("is missing".to_owned()))?;
        if values.shape != shape {
            return Err(wrong(format!("has shape {:?}, and its network asks for {shape:?}", values.shape)));
        }
        Ok(values)
    }
}

/// Hexadecimal SHA-256, as checkpoints are stored with.
#[must_use]
pub fn sha256(file: &[u8]) -> String {
    hex::encode(Sha256::digest(file))
}

/// Of all tensors those that were evaluated, under their plain names.
fn evaluated(all: BTreeMap<String, Values>) -> BTreeMap<String, Values> {
    let mut chosen = BTreeMap::new();
    for (name, values) in all {
        match name.split_once('#') {
            // `x` sorts before `x#average`, so that what was evaluated takes its place.
            None => {
                chosen.insert(name, values);
            }
            Some((plain, _)) if name.ends_with(AVERAGE) || name.ends_with(EVALUATED) => {
                chosen.insert(plain.to_owned(), values);
            }
            Some(_) => {}
        }
    }
    chosen
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
    use serde_json::json;

    /// A checkpoint with made-up values, as the trainer writes it: each parameter with its optimizer slots.
    /// `training` is a sweep file's, without the epochs.
    pub(crate) fn checkpoint(
        network: &str,
        alpha: f64,
        resolution: u32,
        mut training: serde_json::Value,
        extra: &[&str],
    ) -> Vec<u8> {
        training["epochs"] = json!(2);
        let trial: Trial = serde_json::from_value(json!({
            "key": "0123456789abcdef0123456789abcdef", "parameters": {}, "network": network, "alpha": alpha,
            "resolution": resolution, "seed": 1, "training": training, "checkpoint": {},
            "data": {"format": "cifar", "classes": 10, "train": "train", "validation": "test"},
            "best": {"name": "val_top1", "goal": "maximize"},
        }))
        .unwrap();
        let network = Network::new(trial.network, alpha, resolution, 10).unwrap();
        let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
        for (layer, input, output) in network.with_shapes() {
            use sweeps::network::{Connection, Operation};
            let [within, channels] = [input.channels, output.channels].map(|count| usize::try_from(count).unwrap());
            let mut parameters = Vec::new();
            match layer.operation {
                Operation::Convolution(convolution) => {
                    let within = if convolution.connection == Connection::Depthwise { 1 } else { within };
                    let kernel = usize::try_from(convolution.kernel).unwrap();
                    parameters.push(("weight", vec![channels, within, kernel, kernel]));
                    parameters.push(("batch_norm.scale", vec![channels]));
                    parameters.push(("batch_norm.shift", vec![channels]));
                    for part in ["mean", "variance"] {
                        tensors.push((format!("{}.batch_norm.{part}", layer.name), vec![channels]));
                        if extra.contains(&EVALUATED) {
                            tensors.push((format!("{}.batch_norm.{part}{EVALUATED}", layer.name), vec![channels]));
                        }
                    }
                }
                Operation::Dense { .. } => {
                    parameters.push(("weight", vec![channels, within]));
                    parameters.push(("bias", vec![channels]));
                }
                _ => {}
            }
            for (part, shape) in parameters {
                for slot in ["", "#mean_square", "#momentum", AVERAGE] {
                    if slot != AVERAGE || extra.contains(&AVERAGE) {
                        tensors.push((format!("{}.{part}{slot}", layer.name), shape.clone()));
                    }
                }
            }
        }
        let values: Vec<Vec<u8>> = tensors.iter().map(|(name, shape)| made_up(name, shape)).collect();
        let views = tensors
            .iter()
            .zip(&values)
            .map(|((name, shape), bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        let header = json!({"format": 1, "trial": trial, "progress": {"epochs_done": 2, "step": 124}});
        #[expect(clippy::disallowed_types, reason = "the library asks for it; one entry has one order")]
        let entries = std::collections::HashMap::from([(ENTRY.to_owned(), header.to_string())]);
        safetensors::serialize(views, Some(entries)).unwrap()
    }

    /// The value of a made-up tensor at its first place tells its kind.
    fn made_up(name: &str, shape: &[usize]) -> Vec<u8> {
        let first = match name {
            name if name.ends_with(AVERAGE) => 3.0,
            name if name.ends_with(EVALUATED) => 4.0,
            name if name.contains('#') => 5.0,
            name if name.ends_with("variance") => 0.5,
            _ => 1.0,
        };
        let count = shape.iter().product::<usize>();
        let rest = (1..count).map(|place| f32::from(u8::try_from(place % 7).unwrap()) / 100.0);
        std::iter::once(first).chain(rest).flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn what_was_evaluated_is_read() {
        let check = |extra: &[&str], training: serde_json::Value, weight: f32, mean: f32, statistics: Statistics| {
            let trained = Trained::read(&checkpoint("mobilenet", 0.25, 32, training, extra)).unwrap();
            let first = |name: &str, shape: &[usize]| trained.values(name, shape).unwrap().values[0];
            assert_eq!(first("conv1.weight", &[8, 3, 3, 3]), weight, "{extra:?}");
            assert_eq!(first("conv1.batch_norm.mean", &[8]), mean, "{extra:?}");
            assert_eq!((trained.statistics, trained.averaged), (statistics, weight == 3.0), "{extra:?}");
            assert_eq!((trained.epoch, trained.step), (2, 124));
        };
        let anew = json!({"batch_norm": {"reestimate_batches": 4}});
        check(&[], json!({}), 1.0, 1.0, Statistics::Running);
        check(&[AVERAGE], json!({"weight_ema": 0.9}), 3.0, 1.0, Statistics::Running);
        check(&[EVALUATED], anew.clone(), 1.0, 4.0, Statistics::Reestimated);
        check(&[AVERAGE, EVALUATED], anew.clone(), 3.0, 4.0, Statistics::Reestimated);
        check(&[], anew, 1.0, 1.0, Statistics::RunningNotEvaluated);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let good = checkpoint("mobilenet", 0.25, 32, json!({}), &[]);
        assert!(matches!(Trained::read(&good[..1000]), Err(TrainedError::Damaged(_))));
        assert!(matches!(Trained::read(b"no safetensors"), Err(TrainedError::Damaged(_))));
        let foreign = safetensors::serialize(Vec::<(&str, TensorView<'_>)>::new(), None).unwrap();
        assert!(matches!(Trained::read(&foreign), Err(TrainedError::Header(_))));
        // The header is JSON within JSON.
        let version = br#"{\"format\":1"#;
        let place = good.windows(version.len()).position(|part| part == version).unwrap();
        let mut newer = good.clone();
        newer[place + version.len() - 1] = b'9';
        assert!(matches!(Trained::read(&newer), Err(TrainedError::Format(9))));
        let trained = Trained::read(&good).unwrap();
        let error = trained.values("conv1.weight", &[9, 3, 3, 3]).unwrap_err().to_string();
        assert!(error.contains("has shape [8, 3, 3, 3], and its network asks for [9, 3, 3, 3]"), "{error}");
        assert!(trained.values("conv2.weight", &[]).unwrap_err().to_string().contains("is missing"));
    }
}
