//! Our own logits, to hold exported networks against:
//!
//!     logits CHECKPOINT IMAGES OUT
//!
//! CHECKPOINT is a trial's, as the artifact folder holds it. IMAGES is a safetensors file whose `images` are u8,
//! `[n, ρ, ρ, 3]`. OUT becomes one with `logits`, f32, `[n, classes]`: computed on the CPU by the code that evaluates,
//! from the weights and statistics that were evaluated, in the trial's precision.

use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use sweeps::network::Network;
use tch::{Device, Kind, Tensor};
use trainer::checkpoint;
use trainer::evaluation;
use trainer::model::{Mode, Model};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, images, out] = &arguments[..] else { bail!("usage: logits CHECKPOINT IMAGES OUT") };
    let file = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let trial = checkpoint::read_header(&file).with_context(|| from.display().to_string())?.trial;
    let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes)?;
    let mut model = Model::new(network, &trial.training, trial.seed, Device::Cpu)?;
    checkpoint::load(from, &mut model, &trial)?;
    evaluation::take_evaluated(&mut model);

    let tensors = Tensor::read_safetensors(images).with_context(|| format!("cannot read {}", images.display()))?;
    let batch = tensors.into_iter().find(|(name, _)| name == "images");
    let (_, batch) = batch.with_context(|| format!("{} has no tensor `images`", images.display()))?;
    let side = i64::from(trial.resolution);
    ensure!(
        batch.kind() == Kind::Uint8 && batch.size().get(1..) == Some(&[side, side, 3]),
        "images are {:?} {:?}; this trial takes u8 [n, {side}, {side}, 3]",
        batch.kind(),
        batch.size()
    );
    let logits = model.logits(&batch, Mode::Evaluate)?;
    Tensor::write_safetensors(&[("logits", logits)], out).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(())
}
