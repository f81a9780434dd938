//! `trials`: a row for each trial.

use super::{axis_columns, axis_values};
use crate::exactness;
use crate::results::{Attempt, Results};
use crate::tables::has_seeds;
use crate::tabular::{Column, Kind, Style, Tabular, Value};
use crate::view::TrialView;

/// Every trial with all that is known of it.
#[must_use]
pub fn trials(results: &Results) -> Tabular {
    let axes = axis_columns(results);
    let mut columns = vec![
        Column::new("trial", "trial", Kind::Count, Style::Plain),
        Column::new("alpha", "α", Kind::Number, Style::Plain),
        Column::new("resolution", "ρ", Kind::Count, Style::Plain),
        if has_seeds(&results.view) {
            Column::new("seed", "seed", Kind::Count, Style::Plain)
        } else {
            Column::hidden("seed", Kind::Count)
        },
    ];
    columns.extend(axes.iter().cloned());
    columns.extend(measured());
    let row = |trial: &TrialView| {
        let mut row = vec![
            Value::Count(u64::from(trial.number)),
            Value::Number(trial.alpha),
            Value::Count(u64::from(trial.resolution)),
            Value::Count(trial.seed),
        ];
        row.extend(axis_values(Some(trial), &axes));
        row.extend(values(results, trial));
        row
    };
    Tabular {
        name: "trials".to_owned(),
        title: "trials".to_owned(),
        notes: notes(results),
        columns,
        rows: results.view.trials.iter().map(row).collect(),
    }
}

fn notes(results: &Results) -> Vec<String> {
    let mut notes = vec!["Accuracies in percent of the validation set. time: in epochs, all attempts.".to_owned()];
    notes.extend(
        results
            .view
            .trials
            .iter()
            .filter(|trial| !trial.reason.is_empty() && !trial.is_completed())
            .map(|trial| format!("Trial {} ({}-{}): {}", trial.number, trial.alpha, trial.resolution, trial.reason)),
    );
    notes.extend(super::inexact_notes(results));
    notes
}

fn measured() -> Vec<Column> {
    vec![
        Column::hidden("key", Kind::Text),
        Column::hidden("mult_adds", Kind::Count),
        Column::hidden("params", Kind::Count),
        Column::new("state", "state", Kind::Text, Style::Plain),
        Column::hidden("reason", Kind::Text),
        Column::hidden("epochs", Kind::Count),
        Column::new("epochs_done", "epochs", Kind::Count, Style::Plain),
        Column::new("val_top1_best", "top-1 best", Kind::Number, Style::Percent),
        Column::new("best_epoch", "best epoch", Kind::Count, Style::Plain),
        Column::new("val_top1_last", "top-1 last", Kind::Number, Style::Percent),
        Column::new("val_top5_best", "top-5 best", Kind::Number, Style::Percent),
        Column::hidden("val_top5_last", Kind::Number),
        Column::hidden("val_loss_best", Kind::Number),
        Column::new("val_loss_last", "val. loss last", Kind::Number, Style::Decimals(4)),
        Column::new("train_loss_last", "train loss last", Kind::Number, Style::Decimals(4)),
        Column::new("images_per_second", "images/s", Kind::Number, Style::Rate),
        Column::new("train_seconds", "time", Kind::Number, Style::Duration),
        Column::new("attempts", "attempts", Kind::Count, Style::Plain),
        Column::new("worker", "worker", Kind::Text, Style::Plain),
        Column::hidden("device", Kind::Text),
        Column::hidden("instruction_set", Kind::Text),
        Column::hidden("threads", Kind::Count),
        Column::hidden("libtorch", Kind::Text),
        Column::hidden("pareto", Kind::Bool),
        Column::new("bit_exact", "bit-exact", Kind::Bool, Style::YesNo),
        Column::hidden("bit_exact_why_not", Kind::Text),
    ]
}

fn values(results: &Results, trial: &TrialView) -> Vec<Value> {
    let exactness = exactness::of(results, trial.number);
    let newest: Option<&Attempt> = results.attempts_at(trial.number).filter(|attempt| attempt.threads > 0).last();
    let key = results.extras.get(&trial.number).map(|extra| extra.key.clone()).unwrap_or_default();
    let best = |name: &str| Value::number(trial.best.get(name).copied());
    let last = |name: &str| Value::number(trial.last(name));
    let count = |count: u32| Value::Count(u64::from(count));
    vec![
        Value::text(key),
        Value::Count(trial.mult_adds),
        Value::Count(trial.params),
        Value::text(trial.state.clone()),
        Value::text(trial.reason.clone()),
        count(trial.epochs),
        count(trial.epochs_done),
        best("val_top1"),
        trial.best_epoch.map_or(Value::None, count),
        last("val_top1"),
        best("val_top5"),
        last("val_top5"),
        best("val_loss"),
        last("val_loss"),
        last("train_loss"),
        last("images_per_second"),
        Value::number((trial.train_seconds > 0.0).then_some(trial.train_seconds)),
        count(trial.attempts),
        Value::text(trial.worker.clone()),
        Value::text(trial.device.clone()),
        Value::text(newest.map(|attempt| attempt.instruction_set.clone()).unwrap_or_default()),
        newest.map_or(Value::None, |attempt| count(attempt.threads)),
        Value::text(newest.map(|attempt| attempt.libtorch.clone()).unwrap_or_default()),
        Value::Bool(trial.pareto),
        exactness.is_exact().map_or(Value::None, Value::Bool),
        Value::text(exactness.reasons()),
    ]
}
