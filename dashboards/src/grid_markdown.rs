//! `grid.md`: the page people read first.

use crate::format;
use crate::results::Results;
use crate::sheets;
use crate::tabular::markdown::bare;
use crate::tabular::{About, Tabular};
use crate::view::SweepView;

/// The grid with a head that says what it is of, and the accuracies by α and ρ.
pub(crate) fn write(results: &Results, grid: &Tabular, about: &About) -> String {
    let view = &results.view;
    let mut out = format!("# {}\n\n", view.name);
    if !view.description.is_empty() {
        out.push_str(&format!("{}\n\n", view.description));
    }
    for warning in about.warnings() {
        out.push_str(&format!("**{warning}**\n\n"));
    }
    for (name, value) in facts(view) {
        out.push_str(&format!("- {name}: {value}\n"));
    }
    if let Some(matrix) = sheets::matrix(results) {
        out.push_str(&format!(
            "\n## Accuracy by α and ρ\n\n{}\n\n{}",
            matrix.notes.join(" ").replace('*', "\\*"),
            bare(&matrix)
        ));
    }
    out.push_str(&format!("\n## Cells\n\n{}", bare(grid)));
    for (place, note) in grid.notes.iter().enumerate() {
        out.push_str(&format!("{}- {note}\n", if place == 0 { "\n" } else { "" }));
    }
    let reasons: Vec<String> = view
        .trials
        .iter()
        .filter(|trial| !trial.reason.is_empty() && !trial.is_completed())
        .map(|trial| format!("- trial {}: {}\n", trial.number, trial.reason.replace('\n', " ")))
        .collect();
    if !reasons.is_empty() {
        out.push_str("\n## Trials without a result\n\n");
        out.push_str(&reasons.concat());
    }
    out
}

/// What a reader wants to know before the numbers: name and value.
pub(crate) fn facts(view: &SweepView) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if !view.data.is_empty() {
        facts.push(("data", view.data.clone()));
    }
    facts.push(("training", view.epochs_words()));
    let complete = if view.count("completed") == view.trials.len() {
        "complete".to_owned()
    } else if view.is_over() {
        "over, not complete".to_owned()
    } else {
        format!("not finished, {:.0} % of the work is done", view.progress * 100.0)
    };
    facts.push(("state", format!("{complete}; {}", view.standing())));
    let devices = devices(view);
    if !devices.is_empty() {
        facts.push(("trained on", devices.join("; ")));
    }
    let seconds: f64 = view.trials.iter().map(|trial| trial.train_seconds).sum();
    if seconds > 0.0 {
        facts.push(("time in epochs, all trials", format::duration(seconds)));
    }
    facts
}

fn devices(view: &SweepView) -> Vec<String> {
    let mut devices: Vec<String> = view
        .trials
        .iter()
        .filter(|trial| !trial.device.is_empty())
        .map(|trial| format!("{} ({})", trial.device, trial.worker))
        .collect();
    devices.sort();
    devices.dedup();
    devices
}
