//! `grid.csv`: one row a trial, for programs.

use crate::tables::axis_value;
use crate::view::{SweepView, TrialView};

const COLUMNS: [&str; 21] = [
    "trial",
    "alpha",
    "resolution",
    "seed",
    "mult_adds",
    "params",
    "state",
    "epochs",
    "val_top1_best",
    "best_epoch",
    "val_top1_last",
    "val_top5_last",
    "val_loss_last",
    "train_loss_last",
    "images_per_second",
    "train_seconds",
    "attempts",
    "worker",
    "device",
    "pareto",
    "scripted",
];

/// The trials as comma-separated values. `epochs` are those finished; accuracies are fractions; what is not
/// known is empty. Axes other than α and ρ follow as further columns, by their dotted names.
pub(crate) fn write(view: &SweepView) -> Result<Vec<u8>, csv::Error> {
    let axes = view.other_axes();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.iter().copied().chain(axes.iter().map(String::as_str)))?;
    for trial in &view.trials {
        let fixed = record(trial);
        writer.write_record(fixed.iter().cloned().chain(axes.iter().map(|axis| axis_value(trial, axis))))?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

fn record(trial: &TrialView) -> [String; 21] {
    [
        trial.number.to_string(),
        trial.alpha.to_string(),
        trial.resolution.to_string(),
        trial.seed.to_string(),
        trial.mult_adds.to_string(),
        trial.params.to_string(),
        trial.state.clone(),
        trial.epochs_done.to_string(),
        number(trial.top1_best(), 6),
        trial.best_epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        number(trial.last("val_top1"), 6),
        number(trial.last("val_top5"), 6),
        number(trial.last("val_loss"), 6),
        number(trial.last("train_loss"), 6),
        number(trial.last("images_per_second"), 2),
        number(Some(trial.train_seconds), 3),
        trial.attempts.to_string(),
        trial.worker.clone(),
        trial.device.clone(),
        trial.pareto.to_string(),
        trial.scripted.to_string(),
    ]
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
}
