//! `grid`: a row for each cell; `pareto`: those that nothing beats.

use super::cells::{self, Spread};
use super::{axis_columns, axis_values, inexact_notes};
use crate::results::Results;
use crate::tabular::{Column, Kind, Show, Style, Tabular, Value};
use crate::view::{Cell, TrialView};

/// Every cell: what it costs, what it reaches, how long it took, where. Means over seeds, with the sample standard
/// deviation where there are several.
#[must_use]
pub fn grid(results: &Results) -> Tabular {
    let cells = results.view.cells();
    let mut table = of_cells(results, &cells);
    table.name = "grid".to_owned();
    table.title = "cells, cost and accuracy".to_owned();
    table.notes.extend(inexact_notes(results));
    table
}

/// The cells of the Pareto front, cheapest first: no finished cell is at least as accurate and cheaper, nor as cheap
/// and more accurate.
#[must_use]
pub fn pareto(results: &Results) -> Tabular {
    let mut cells: Vec<Cell> = results.view.cells().into_iter().filter(|cell| cell.pareto).collect();
    cells.sort_by_key(|cell| cell.mult_adds);
    let mut table = of_cells(results, &cells);
    table.name = "pareto".to_owned();
    table.title = "Pareto front of accuracy against Mult-Adds".to_owned();
    // All of them are finished and on the front.
    for column in table.columns.iter_mut().filter(|column| ["pareto", "attempts"].contains(&column.name.as_str())) {
        column.show = Show::Programs;
    }
    table.notes.insert(0, "Of finished cells, by the best epoch's top-1. Cheapest first.".to_owned());
    table
}

fn of_cells(results: &Results, cells: &[Cell]) -> Tabular {
    let axes = axis_columns(results);
    let mut columns = vec![
        Column::new("alpha", "α", Kind::Number, Style::Plain),
        Column::new("resolution", "ρ", Kind::Count, Style::Plain),
    ];
    columns.extend(axes.iter().cloned());
    columns.extend(measured(cells.iter().any(|cell| cell.seeds > 1)));
    if cells.iter().all(|cell| cell.completed) {
        columns.iter_mut().filter(|column| column.name == "state").for_each(|column| column.show = Show::Programs);
    }
    let row = |cell: &Cell| {
        let members = cells::members(&results.view, cell);
        let mut row = vec![Value::Number(cell.alpha), Value::Count(u64::from(cell.resolution))];
        row.extend(axis_values(members.first().copied(), &axes));
        row.extend(values(results, cell, &members));
        row
    };
    let mut notes = vec![
        "Accuracies in percent of the validation set; best: of the epoch with the best first metric. time: in epochs \
         (training, evaluation, checkpoints). images/s: of training, last epoch."
            .to_owned(),
    ];
    if cells.iter().any(|cell| cell.seeds > 1) {
        notes.push("Several seeds: mean ± sample standard deviation.".to_owned());
    }
    Tabular { columns, rows: cells.iter().map(row).collect(), notes, ..Tabular::default() }
}

fn measured(seeds: bool) -> Vec<Column> {
    let seeds = if seeds {
        Column::new("seeds", "seeds", Kind::Count, Style::Plain)
    } else {
        Column::hidden("seeds", Kind::Count)
    };
    vec![
        Column::new("mult_adds", "Mult-Adds", Kind::Count, Style::Thousands),
        Column::new("params", "params", Kind::Count, Style::Thousands),
        seeds,
        Column::new("state", "state", Kind::Text, Style::Plain),
        Column::hidden("epochs", Kind::Count),
        Column::hidden("epochs_done", Kind::Count),
        Column::new("val_top1_best", "top-1 best", Kind::Number, Style::Percent),
        Column::spread("val_top1_best_std", Style::Percent),
        Column::new("val_top1_last", "top-1 last", Kind::Number, Style::Percent),
        Column::spread("val_top1_last_std", Style::Percent),
        Column::new("val_top5_best", "top-5 best", Kind::Number, Style::Percent),
        Column::spread("val_top5_best_std", Style::Percent),
        Column::hidden("val_top5_last", Kind::Number),
        Column::new("val_loss_best", "loss best", Kind::Number, Style::Decimals(4)),
        Column::spread("val_loss_best_std", Style::Decimals(4)),
        Column::hidden("val_loss_last", Kind::Number),
        Column::hidden("train_loss_last", Kind::Number),
        Column::new("best_epoch", "best epoch", Kind::Number, Style::Plain),
        Column::new("train_seconds", "time", Kind::Number, Style::Duration),
        Column::new("images_per_second", "images/s", Kind::Number, Style::Rate),
        Column::new("attempts", "attempts", Kind::Count, Style::Plain),
        Column::new("worker", "worker", Kind::Text, Style::Plain),
        Column::hidden("device", Kind::Text),
        Column::new("pareto", "Pareto", Kind::Bool, Style::Mark),
        Column::new("bit_exact", "bit-exact", Kind::Bool, Style::YesNo),
    ]
}

fn values(results: &Results, cell: &Cell, members: &[&TrialView]) -> Vec<Value> {
    let best = |name: &'static str| cells::over(members, |trial| trial.best.get(name).copied());
    let last = |name: &'static str| cells::over(members, |trial| trial.last(name));
    let both = |spread: Spread| [Value::number(spread.mean), Value::number(spread.deviation)];
    let count = |value: Option<u32>| value.map_or(Value::None, |value| Value::Count(u64::from(value)));
    let mut values = vec![
        Value::Count(cell.mult_adds),
        Value::Count(cell.params),
        Value::Count(cell.seeds as u64),
        Value::text(cells::state(members)),
        count(members.iter().map(|trial| trial.epochs).max()),
        count(members.iter().map(|trial| trial.epochs_done).min()),
    ];
    values.extend(both(best("val_top1")));
    values.extend(both(last("val_top1")));
    values.extend(both(best("val_top5")));
    values.push(Value::number(last("val_top5").mean));
    values.extend(both(best("val_loss")));
    values.push(Value::number(last("val_loss").mean));
    values.push(Value::number(last("train_loss").mean));
    values.push(Value::number(cells::over(members, |trial| trial.best_epoch.map(f64::from)).mean));
    let trained = |trial: &TrialView| (trial.train_seconds > 0.0).then_some(trial.train_seconds);
    values.push(Value::number(cells::over(members, trained).mean));
    values.push(Value::number(last("images_per_second").mean));
    values.push(Value::Count(members.iter().map(|trial| u64::from(trial.attempts)).sum()));
    values.push(Value::text(cells::distinct(members.iter().map(|trial| trial.worker.clone()))));
    values.push(Value::text(cells::distinct(members.iter().map(|trial| trial.device.clone()))));
    values.push(Value::Bool(cell.pareto));
    values.push(cells::is_exact(results, cell).map_or(Value::None, Value::Bool));
    values
}
