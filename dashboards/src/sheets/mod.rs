//! The tables of an export: what stands in each.

mod attempts;
mod cells;
mod grid;
mod matrix;
mod metrics;
mod paper_tables;
mod trials;

pub use attempts::attempts;
pub use grid::{grid, pareto};
pub use matrix::matrix;
pub use metrics::metrics;
pub use paper_tables::{resolution, width};
pub use trials::trials;

use crate::results::Results;
use crate::tabular::{Column, Kind, Style, Tabular, Value};
use crate::view::TrialView;

/// The table of this name; see [`crate::selection::TABLES`].
#[must_use]
pub fn sheet(name: &str, results: &Results) -> Option<Tabular> {
    Some(match name {
        "grid" => grid(results),
        "width" => width(results),
        "resolution" => resolution(results),
        "pareto" => pareto(results),
        "trials" => trials(results),
        "attempts" => attempts(results),
        "metrics" => metrics(results),
        _ => return None,
    })
}

/// Columns of the axes other than α and ρ: numbers where all values are.
fn axis_columns(results: &Results) -> Vec<Column> {
    let column = |name: String| {
        let mut values = results.view.trials.iter().filter_map(|trial| trial.parameters.get(&name));
        let kind = if values.all(serde_json::Value::is_number) { Kind::Number } else { Kind::Text };
        Column::new(name.clone(), name, kind, Style::Plain)
    };
    results.view.other_axes().into_iter().map(column).collect()
}

/// A trial's values for [`axis_columns`].
fn axis_values(trial: Option<&TrialView>, columns: &[Column]) -> Vec<Value> {
    let value = |column: &Column| match trial.and_then(|trial| trial.parameters.get(&column.name)) {
        None | Some(serde_json::Value::Null) => Value::None,
        Some(value) if column.kind == Kind::Number => Value::number(value.as_f64()),
        Some(serde_json::Value::String(words)) => Value::text(words.clone()),
        Some(value) => Value::Text(value.to_string()),
    };
    columns.iter().map(value).collect()
}

/// `trial 3 (0.5-160): reason`, for each trial that is not bit-exact.
pub(crate) fn inexact(results: &Results) -> Vec<String> {
    let line = |trial: &TrialView| {
        let reasons = crate::exactness::of(results, trial.number).reasons();
        (!reasons.is_empty())
            .then(|| format!("trial {} ({}-{}): {reasons}", trial.number, trial.alpha, trial.resolution))
    };
    results.view.trials.iter().filter_map(line).collect()
}

/// What stands below tables about trials that cannot be repeated to the bit.
fn inexact_notes(results: &Results) -> Vec<String> {
    /// More are counted, and listed in the table of trials.
    const LISTED_MAX: usize = 8;
    let lines = inexact(results);
    let mut notes: Vec<String> = lines.iter().take(LISTED_MAX).map(|line| format!("Not bit-exact: {line}.")).collect();
    if lines.len() > LISTED_MAX {
        notes.push(format!(
            "Not bit-exact either: {} more trials; trials.csv has the reasons.",
            lines.len() - LISTED_MAX
        ));
    }
    notes
}
