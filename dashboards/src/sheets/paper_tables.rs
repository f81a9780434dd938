//! `width` and `resolution`: the paper's Tables 6 and 7, with its numbers beside ours where the data are ImageNet.

use super::cells;
use super::{axis_columns, axis_values};
use crate::paper::{self, CITATION};
use crate::results::Results;
use crate::tabular::{Column, Kind, Style, Tabular, Value};
use crate::view::Cell;
use std::cmp::Reverse;

/// The width multiplier at the largest ρ: thinner models (Table 6).
#[must_use]
pub fn width(results: &Results) -> Tabular {
    let mut cells = results.view.cells();
    let largest = cells.iter().map(|cell| cell.resolution).max();
    cells.retain(|cell| Some(cell.resolution) == largest);
    cells.sort_by(|a, b| b.alpha.total_cmp(&a.alpha));
    let title = match largest {
        Some(largest) => format!("width multiplier, at ρ = {largest}"),
        None => "width multiplier".to_owned(),
    };
    table(results, "width", title, 6, &cells)
}

/// The resolution at the largest α: smaller inputs (Table 7).
#[must_use]
pub fn resolution(results: &Results) -> Tabular {
    let mut cells = results.view.cells();
    let largest = cells.iter().map(|cell| cell.alpha).max_by(f64::total_cmp);
    cells.retain(|cell| Some(cell.alpha) == largest);
    cells.sort_by_key(|cell| Reverse(cell.resolution));
    let title = match largest {
        Some(largest) => format!("resolution, at α = {largest}"),
        None => "resolution".to_owned(),
    };
    table(results, "resolution", title, 7, &cells)
}

fn table(results: &Results, name: &str, title: String, number: u32, cells: &[Cell]) -> Tabular {
    let imagenet = results.spec.as_ref().is_some_and(paper::is_imagenet);
    let axes = axis_columns(results);
    let mut columns = vec![
        Column::new("alpha", "α", Kind::Number, Style::Plain),
        Column::new("resolution", "ρ", Kind::Count, Style::Plain),
    ];
    columns.extend(axes.iter().cloned());
    columns.extend([
        Column::new("val_top1_best", "top-1 best", Kind::Number, Style::Percent),
        Column::spread("val_top1_best_std", Style::Percent),
        Column::new("val_top1_last", "top-1 last", Kind::Number, Style::Percent),
        Column::spread("val_top1_last_std", Style::Percent),
        Column::new("mult_adds", "Mult-Adds", Kind::Count, Style::Thousands),
        Column::new("params", "params", Kind::Count, Style::Thousands),
        if cells.iter().all(|cell| cell.completed) {
            Column::hidden("state", Kind::Text)
        } else {
            Column::new("state", "state", Kind::Text, Style::Plain)
        },
    ]);
    if imagenet {
        columns.extend([
            Column::new("paper_top1", "paper's top-1", Kind::Number, Style::Percent),
            Column::new("top1_minus_paper", "last − paper", Kind::Number, Style::Points),
            Column::new("paper_mult_adds_m", "paper's Mult-Adds (M)", Kind::Number, Style::Plain),
            Column::new("paper_params_m", "paper's params (M)", Kind::Number, Style::Plain),
        ]);
    }
    let row = |cell: &Cell| {
        let members = cells::members(&results.view, cell);
        let best = cells::over(&members, |trial| trial.top1_best());
        let last = cells::over(&members, |trial| trial.last("val_top1"));
        let mut row = vec![Value::Number(cell.alpha), Value::Count(u64::from(cell.resolution))];
        row.extend(axis_values(members.first().copied(), &axes));
        row.extend([
            Value::number(best.mean),
            Value::number(best.deviation),
            Value::number(last.mean),
            Value::number(last.deviation),
            Value::Count(cell.mult_adds),
            Value::Count(cell.params),
            Value::text(cells::state(&members)),
        ]);
        if imagenet {
            let paper = paper::cell_of(cell.alpha, cell.resolution);
            let top1 = paper.map(|paper| paper.top1);
            let completed = if cell.completed { last.mean } else { None };
            row.extend([
                Value::number(top1),
                Value::number(completed.zip(top1).map(|(ours, paper)| ours - paper)),
                Value::number(paper.map(|paper| paper.mult_adds / 1e6)),
                Value::number(paper.map(|paper| paper.params / 1e6)),
            ]);
        }
        row
    };
    let mut notes = vec!["Accuracies in percent of the validation set.".to_owned()];
    if imagenet {
        notes.push(format!("Paper: Table {number} of {CITATION}; the difference is of the last epoch, in points."));
    }
    Tabular { name: name.to_owned(), title, notes, columns, rows: cells.iter().map(row).collect() }
}
