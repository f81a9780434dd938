//! Everything that a trial is, in one safetensors file.
//!
//! Tensors: each parameter under its name (`block01.depthwise.weight`, in the usual `[out, in, height, width]`),
//! its optimizer slots and moving average with `#mean_square`, `#momentum`, `#average` behind it, and each
//! BatchNorm's `.batch_norm.mean` and `.variance`. Where the evaluation took statistics anew, those lie beside them
//! with `#evaluated` behind their names; nothing is trained on from them. The header's one entry, `alpharho`, is
//! [`Header`] as JSON.
//!
//! A file is written under a temporary name and renamed. It is not synced: it is on its way, and what is left of it after the
//! machine went down nobody reads; the coordinator syncs what it stores. It carries a hash of its tensors, which loading
//! verifies.

use crate::member::Progress;
use crate::model::Model;
use anyhow::{Context, Result, bail, ensure};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use sweeps::trial::Trial;
use tch::{Device, Kind, Tensor};

/// The header's entry.
const ENTRY: &str = "alpharho";
/// Raised when old files cannot be read any more.
const FORMAT: u32 = 1;

/// Behind the name of a statistic that was estimated anew for an evaluation.
const EVALUATED: &str = "#evaluated";

/// What is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Of the file.
    pub format: u32,
    /// The resolved settings, seed included.
    pub trial: Trial,
    /// How far it is.
    pub progress: Progress,
    /// Hash of all tensors' names and bytes, in the order of names; hexadecimal SHA-256.
    pub tensors_sha256: String,
}

/// A file that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its size.
    pub bytes: u64,
    /// Hexadecimal SHA-256 of the whole file.
    pub sha256: String,
}

/// Writes a checkpoint.
///
/// # Errors
/// When the disk is full, or the folder cannot be written to; nothing is left under `path` then.
pub fn save(path: &Path, model: &Model, trial: &Trial, progress: &Progress) -> Result<Saved> {
    let tensors =
        named(model).into_iter().chain(evaluated(model)).map(|(name, tensor)| Ok((name, Saveable::new(&tensor)?)));
    let tensors = tensors.collect::<Result<BTreeMap<String, Saveable>>>()?;
    let mut hash = Sha256::new();
    for (name, tensor) in &tensors {
        hash.update(name.as_bytes());
        hash.update(tensor.data());
    }
    let header = Header {
        format: FORMAT,
        trial: trial.clone(),
        progress: progress.clone(),
        tensors_sha256: hex::encode(hash.finalize()),
    };
    #[expect(clippy::disallowed_types, reason = "the library asks for it; one entry has one order")]
    let entries = std::collections::HashMap::from([(ENTRY.to_owned(), serde_json::to_string(&header)?)]);
    let file = safetensors::serialize(tensors, Some(entries))?;
    write(path, &file).with_context(|| format!("cannot write the checkpoint {}", path.display()))?;
    Ok(Saved { bytes: u64::try_from(file.len())?, sha256: hex::encode(Sha256::digest(&file)) })
}

/// Reads a checkpoint of `trial` into `model` and gives how far it was.
///
/// # Errors
/// When the file is damaged, of another format, or of a trial with other settings; the model is then unusable.
pub fn load(path: &Path, model: &mut Model, trial: &Trial) -> Result<Progress> {
    let file = fs::read(path).with_context(|| format!("cannot read the checkpoint {}", path.display()))?;
    let damaged = || format!("the checkpoint {} is damaged", path.display());
    let header = read_header(&file).with_context(damaged)?;
    ensure!(
        header.format == FORMAT,
        "the checkpoint {} has format {}; this version reads {FORMAT}",
        path.display(),
        header.format
    );
    ensure!(
        header.trial.key == trial.key,
        "the checkpoint {} is of trial {}, not of {}",
        path.display(),
        header.trial.key,
        trial.key
    );
    let tensors = SafeTensors::deserialize(&file).with_context(damaged)?;
    let mut hash = Sha256::new();
    let sorted: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    for (name, view) in &sorted {
        hash.update(name.as_bytes());
        hash.update(view.data());
    }
    if hex::encode(hash.finalize()) != header.tensors_sha256 {
        bail!("{}: its tensors do not have the hash that its header tells", damaged());
    }
    if sorted.keys().any(|name| name.ends_with(EVALUATED)) {
        model.keep_evaluated();
    }
    for (name, mut target) in named(model).into_iter().chain(evaluated(model)) {
        let view = sorted.get(&name).with_context(|| format!("{}: it has no tensor {name}", damaged()))?;
        let shape: Vec<i64> = view.shape().iter().map(|side| i64::try_from(*side)).collect::<Result<_, _>>()?;
        ensure!(view.dtype() == Dtype::F32 && shape == target.size(), "{}: {name} has another shape", damaged());
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|part| f32::from_le_bytes([part[0], part[1], part[2], part[3]])).collect();
        tch::no_grad(|| target.copy_(&Tensor::from_slice(&values).view(&shape[..])));
    }
    Ok(header.progress)
}

/// What a checkpoint file says of itself.
///
/// # Errors
/// When it is not one of ours.
pub fn read_header(file: &[u8]) -> Result<Header> {
    let (_, metadata) = SafeTensors::read_metadata(file)?;
    let entry =
        metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY)).context("it has no header of ours")?;
    Ok(serde_json::from_str(entry)?)
}

/// Views of everything that is saved, by name.
fn named(model: &Model) -> Vec<(String, Tensor)> {
    let flat = model.flat();
    let slots = [
        ("", Some(&flat.weights)),
        ("#mean_square", Some(&flat.mean_square)),
        ("#momentum", Some(&flat.momentum)),
        ("#average", flat.average.as_ref()),
    ];
    let mut all = Vec::new();
    for (suffix, buffer) in slots {
        let Some(buffer) = buffer else { continue };
        for segment in &model.layout().segments {
            all.push((format!("{}{suffix}", segment.name), segment.view(buffer)));
        }
    }
    for statistic in &model.layout().statistics {
        let (mean, variance) = statistic.views(model.statistics());
        all.push((format!("{}.mean", statistic.name), mean));
        all.push((format!("{}.variance", statistic.name), variance));
    }
    all
}

/// Views of the statistics that were evaluated, by name; none where they are the running ones.
fn evaluated(model: &Model) -> Vec<(String, Tensor)> {
    let Some(flat) = model.evaluated() else { return Vec::new() };
    let names = |name: &str, part: &str| format!("{name}.{part}{EVALUATED}");
    model
        .layout()
        .statistics
        .iter()
        .flat_map(|statistic| {
            let (mean, variance) = statistic.views(flat);
            [(names(&statistic.name, "mean"), mean), (names(&statistic.name, "variance"), variance)]
        })
        .collect()
}

/// A tensor whose bytes are f32, in the order of its sizes, on the CPU.
struct Saveable {
    shape: Vec<usize>,
    values: Tensor,
}

impl Saveable {
    /// Copies what lies in another order, or elsewhere.
    fn new(tensor: &Tensor) -> Result<Self> {
        let shape = tensor.size().iter().map(|side| usize::try_from(*side)).collect::<Result<_, _>>()?;
        let values = tensor.detach().f_to_dtype_layout((Kind::Float, Device::Cpu), false, false)?.f_contiguous()?;
        Ok(Self { shape, values })
    }
}

impl View for Saveable {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The lower byte first, as the format wants it and as every processor has it that libtorch comes for.
    fn data(&self) -> Cow<'_, [u8]> {
        #[expect(unsafe_code, reason = "the bytes of a tensor, without a copy")]
        // SAFETY: contiguous f32 on the CPU, which live as long as the tensor that is borrowed, and nobody writes to.
        let bytes = unsafe { std::slice::from_raw_parts(self.values.data_ptr().cast::<u8>(), self.data_len()) };
        Cow::Borrowed(bytes)
    }

    fn data_len(&self) -> usize {
        4 * self.values.numel()
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("partial");
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // What is half written is of no use, and the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(())
}
