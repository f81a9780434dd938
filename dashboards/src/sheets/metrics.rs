//! `metrics`: a row for each measured value.

use super::{axis_columns, axis_values};
use crate::results::Results;
use crate::tabular::{Column, Kind, Style, Tabular, Value};
use std::collections::BTreeMap;
use sweeps::metrics::{Axis, find};

/// Long form: trial, metric, step, value; of each step the newest attempt's.
#[must_use]
pub fn metrics(results: &Results) -> Tabular {
    let axes = axis_columns(results);
    let mut columns = vec![
        Column::new("trial", "trial", Kind::Count, Style::Plain),
        Column::new("alpha", "α", Kind::Number, Style::Plain),
        Column::new("resolution", "ρ", Kind::Count, Style::Plain),
        Column::new("seed", "seed", Kind::Count, Style::Plain),
    ];
    columns.extend(axes.iter().cloned());
    columns.extend([
        Column::new("attempt", "attempt", Kind::Count, Style::Plain),
        Column::new("name", "metric", Kind::Text, Style::Plain),
        Column::new("unit", "unit", Kind::Text, Style::Plain),
        Column::new("axis", "step counts", Kind::Text, Style::Plain),
        Column::new("step", "step", Kind::Count, Style::Plain),
        Column::new("value", "value", Kind::Number, Style::Plain),
    ]);
    let heads: BTreeMap<u32, Vec<Value>> = results
        .view
        .trials
        .iter()
        .map(|trial| {
            let mut head = vec![
                Value::Count(u64::from(trial.number)),
                Value::Number(trial.alpha),
                Value::Count(u64::from(trial.resolution)),
                Value::Count(trial.seed),
            ];
            head.extend(axis_values(Some(trial), &axes));
            (trial.number, head)
        })
        .collect();
    let rows = results.points.iter().filter_map(|point| {
        let mut row = heads.get(&point.trial)?.clone();
        let metric = find(&point.name);
        let axis = metric.map(|metric| match metric.axis {
            Axis::Epoch => "epoch",
            Axis::Step => "step",
            Axis::Constant => "constant",
        });
        row.extend([
            Value::Count(u64::from(point.attempt)),
            Value::text(&*point.name),
            Value::text(metric.map(|metric| metric.unit).unwrap_or_default()),
            Value::text(axis.unwrap_or_default()),
            Value::Count(point.step),
            Value::Number(point.value),
        ]);
        Some(row)
    });
    Tabular {
        name: "metrics".to_owned(),
        title: "measured values".to_owned(),
        notes: vec!["Of each step the newest attempt's value.".to_owned()],
        rows: rows.collect(),
        columns,
    }
}
