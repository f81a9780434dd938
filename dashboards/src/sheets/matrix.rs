//! α down, ρ across.

use super::cells;
use crate::format;
use crate::results::Results;
use crate::tabular::{Column, Kind, Style, Tabular, Value};
use crate::view::Cell;

/// Best / last top-1 in percent for each α and ρ. `None` where other axes vary, or there is one cell.
#[must_use]
pub fn matrix(results: &Results) -> Option<Tabular> {
    let view = &results.view;
    let cells = view.cells();
    if !view.other_axes().is_empty() || cells.len() < 2 {
        return None;
    }
    let mut alphas: Vec<f64> = cells.iter().map(|cell| cell.alpha).collect();
    alphas.sort_by(|a, b| b.total_cmp(a));
    alphas.dedup();
    let mut resolutions: Vec<u32> = cells.iter().map(|cell| cell.resolution).collect();
    resolutions.sort_by(|a, b| b.cmp(a));
    resolutions.dedup();
    let mut columns = vec![Column::new("alpha", "α \\ ρ", Kind::Number, Style::Plain)];
    columns.extend(resolutions.iter().map(|resolution| {
        // Two numbers in one place are words, but they lean as numbers do.
        Column::new(resolution.to_string(), resolution.to_string(), Kind::Number, Style::Plain)
    }));
    let rows = alphas.iter().map(|alpha| {
        let mut row = vec![Value::Number(*alpha)];
        row.extend(resolutions.iter().map(|resolution| {
            let found = cells.iter().find(|cell| cell.alpha == *alpha && cell.resolution == *resolution);
            found.map_or(Value::None, |cell| both(results, cell))
        }));
        row
    });
    let rows = rows.collect();
    let seeds = cells.iter().any(|cell| cell.seeds > 1);
    let mut notes = vec![format!(
        "Top-1 on the validation set in percent: best epoch / last epoch{}",
        if seeds { ", mean of the seeds." } else { "." }
    )];
    if cells.iter().any(|cell| !cell.completed) {
        notes.push("*: not finished.".to_owned());
    }
    Some(Tabular { name: "matrix".to_owned(), title: "accuracy by α and ρ".to_owned(), notes, columns, rows })
}

fn both(results: &Results, cell: &Cell) -> Value {
    let members = cells::members(&results.view, cell);
    let last = cells::over(&members, |trial| trial.last("val_top1")).mean;
    if cell.accuracies.is_empty() && last.is_none() {
        return Value::None;
    }
    let unfinished = if cell.completed { "" } else { " *" };
    Value::Text(format!("{} / {}{unfinished}", format::percent(cell.mean()), format::percent(last)))
}
