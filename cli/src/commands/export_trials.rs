//! What `export` writes of single trials: TensorBoard's event files, weights for timm, ONNX graphs.

use crate::arguments::Which;
use crate::exit::{Failure, refused};
use crate::output;
use crate::session::Session;
use anyhow::Context;
use dashboards::export::write_file;
use dashboards::origin::{Origin, file_stem};
use dashboards::results::Results;
use dashboards::selection::Selection;
use dashboards::trained::Trained;
use dashboards::view::TrialView;
use dashboards::{onnx, tensorboard, weights};
use proto::wire::{Checkpoint, CheckpointsRequest, FetchRequest};
use std::fs;
use std::path::{Path, PathBuf};
use sweeps::metrics::Point;

/// Writes what is selected of each trial that has it into folders below `out`: `tensorboard/TRIAL/events…`,
/// `weights/TRIAL.safetensors`, `onnx/TRIAL.onnx`. Gives the files' paths. One checkpoint is held in memory at a time.
pub(super) async fn export(
    session: &mut Session,
    results: &Results,
    out: &Path,
    selection: &Selection,
    which: Which,
) -> anyhow::Result<Vec<PathBuf>> {
    let [events, timm, graphs] = ["tensorboard", "weights", "onnx"].map(|name| selection.wants_of_trials(name));
    let sweep = results.view.name.as_str();
    let mut files = Vec::new();
    let mut without = Vec::new();
    for trial in &results.view.trials {
        let stem = file_stem(trial.number, trial.alpha, trial.resolution);
        let started_ms = results.extras.get(&trial.number).map_or(0, |extra| extra.started_ms);
        if events && started_ms > 0 {
            let bytes = tensorboard::write(started_ms, &points(results, trial.number));
            files.push(write(&out.join("tensorboard").join(&stem), &tensorboard::file_name(started_ms), &bytes)?);
        }
        if !timm && !graphs {
            continue;
        }
        let Some(checkpoint) = choose(session, trial, which).await? else {
            without.push(trial.number.to_string());
            continue;
        };
        let trained = Trained::read(&fetch(session, &checkpoint).await?)
            .with_context(|| format!("trial {} of {sweep}: checkpoint {}", trial.number, checkpoint.id))?;
        let origin = Origin { sweep, number: trial.number };
        if timm {
            let bytes = weights::write(&trained, origin)?;
            files.push(write(&out.join("weights"), &format!("{stem}.safetensors"), &bytes)?);
        }
        if graphs {
            let bytes = onnx::write(&trained, origin)?;
            files.push(write(&out.join("onnx"), &format!("{stem}.onnx"), &bytes)?);
        }
    }
    if !without.is_empty() {
        let trials = if without.len() == 1 { "trial" } else { "trials" };
        output::note(&format!("without a trained checkpoint, so without weights: {trials} {}", without.join(", ")));
    }
    Ok(files)
}

/// The trial's checkpoint to export; none of a trial that has none, or whose numbers are scripted.
async fn choose(session: &mut Session, trial: &TrialView, which: Which) -> anyhow::Result<Option<Checkpoint>> {
    if trial.scripted {
        return Ok(None);
    }
    let request = CheckpointsRequest { trial: trial.id };
    let kept = session.client.checkpoints(request).await.map_err(|status| refused(&status))?.into_inner().checkpoints;
    let latest = kept.iter().find(|checkpoint| checkpoint.latest).or(kept.last());
    let best = kept.iter().find(|checkpoint| checkpoint.best);
    Ok(match which {
        Which::Best => best.or(latest),
        Which::Latest => latest,
    }
    .cloned())
}

/// A checkpoint's bytes, whole.
async fn fetch(session: &mut Session, checkpoint: &Checkpoint) -> anyhow::Result<Vec<u8>> {
    let request = FetchRequest { checkpoint: checkpoint.id };
    let mut chunks = session.client.fetch(request).await.map_err(|status| refused(&status))?.into_inner();
    let mut file = Vec::with_capacity(usize::try_from(checkpoint.bytes).unwrap_or(0).min(1 << 30));
    while let Some(chunk) = chunks.message().await.map_err(|status| refused(&status))? {
        file.extend_from_slice(&chunk.data);
    }
    if dashboards::trained::sha256(&file) != checkpoint.sha256 {
        return Err(Failure::new(format!(
            "checkpoint {} came with another hash than it was stored with",
            checkpoint.id
        ))
        .hint("the file in the artifact folder is damaged; `--checkpoint latest` may take another one")
        .into());
    }
    Ok(file)
}

/// The trial's points.
fn points(results: &Results, trial: u32) -> Vec<Point> {
    // They are in the order of trials.
    let from = results.points.partition_point(|point| point.trial < trial);
    results.points[from..]
        .iter()
        .take_while(|point| point.trial == trial)
        .map(|point| Point { name: point.name.to_string(), step: point.step, value: point.value })
        .collect()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(write_file(folder, name, bytes)?)
}
