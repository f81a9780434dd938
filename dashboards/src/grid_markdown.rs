//! `grid.md`: the same for people.

use crate::format;
use crate::table::{Align, Table};
use crate::tables::{axis_value, has_seeds};
use crate::view::{Cell, SweepView, TrialView};

/// The tables, with a head that says what they are of and whether they are complete.
pub(crate) fn write(view: &SweepView) -> String {
    let mut out = format!("# {}\n\n", view.name);
    if !view.description.is_empty() {
        out.push_str(&format!("{}\n\n", view.description));
    }
    if view.scripted {
        out.push_str("**Scripted: these numbers are made up by the scripted trainer. Nothing was trained.**\n\n");
    }
    for (name, value) in facts(view) {
        out.push_str(&format!("- {name}: {value}\n"));
    }
    if let Some(matrix) = matrix(view) {
        out.push_str("\n## Accuracy by α and ρ\n\n");
        out.push_str("Top-1 on the validation set in percent: best epoch / last epoch");
        out.push_str(if has_seeds(view) { ", mean of the seeds." } else { "." });
        out.push_str(if view.count("completed") == view.trials.len() { "\n\n" } else { " \\*: not finished.\n\n" });
        out.push_str(&matrix.markdown());
    }
    out.push_str("\n## Trials\n\n");
    out.push_str(&trials(view).markdown());
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

fn facts(view: &SweepView) -> Vec<(&'static str, String)> {
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
        format!("**not finished: {:.0} % of the work is done**", view.progress * 100.0)
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

/// α down, ρ across. Where other axes vary there is no such table.
fn matrix(view: &SweepView) -> Option<Table> {
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
    let mut table = Table::new(&[("α \\ ρ", Align::Right)]);
    for resolution in &resolutions {
        table.column(&resolution.to_string(), Align::Right);
    }
    for alpha in alphas {
        let mut row = vec![format::alpha(alpha)];
        for resolution in &resolutions {
            let found = cells.iter().find(|cell| cell.alpha == alpha && cell.resolution == *resolution);
            row.push(found.map(|cell| both_accuracies(view, cell)).unwrap_or_default());
        }
        table.row(row);
    }
    Some(table)
}

fn both_accuracies(view: &SweepView, cell: &Cell) -> String {
    let last: Vec<f64> = view
        .trials
        .iter()
        .filter(|trial| trial.alpha == cell.alpha && trial.resolution == cell.resolution)
        .filter_map(|trial| trial.last("val_top1"))
        .collect();
    let last_mean = (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64);
    if cell.accuracies.is_empty() && last.is_empty() {
        return "–".to_owned();
    }
    let unfinished = if cell.completed { "" } else { " \\*" };
    format!("{} / {}{unfinished}", format::percent(cell.mean()), format::percent(last_mean))
}

fn trials(view: &SweepView) -> Table {
    let mut table = Table::new(&[("trial", Align::Right), ("α", Align::Right), ("ρ", Align::Right)]);
    let axes = view.other_axes();
    let seeds = has_seeds(view);
    if seeds {
        table.column("seed", Align::Right);
    }
    for axis in &axes {
        table.column(axis, Align::Right);
    }
    for (name, align) in [
        ("Mult-Adds", Align::Right),
        ("parameters", Align::Right),
        ("state", Align::Left),
        ("epochs", Align::Right),
        ("top-1 best %", Align::Right),
        ("in epoch", Align::Right),
        ("top-1 last %", Align::Right),
        ("top-5 last %", Align::Right),
        ("val. loss", Align::Right),
        ("train loss", Align::Right),
        ("images/s", Align::Right),
        ("time", Align::Right),
        ("Pareto", Align::Left),
    ] {
        table.column(name, align);
    }
    for trial in &view.trials {
        table.row(row(trial, seeds, &axes));
    }
    table
}

fn row(trial: &TrialView, seeds: bool, axes: &[String]) -> Vec<String> {
    let mut row = vec![trial.number.to_string(), format::alpha(trial.alpha), trial.resolution.to_string()];
    if seeds {
        row.push(trial.seed.to_string());
    }
    row.extend(axes.iter().map(|axis| axis_value(trial, axis)));
    row.extend([
        format::grouped(trial.mult_adds),
        format::grouped(trial.params),
        trial.state.clone(),
        format!("{}/{}", trial.epochs_done, trial.epochs),
        format::percent(trial.top1_best()),
        trial.best_epoch.map_or_else(|| "–".to_owned(), |epoch| epoch.to_string()),
        format::percent(trial.last("val_top1")),
        format::percent(trial.last("val_top5")),
        format::decimals(trial.last("val_loss"), 4),
        format::decimals(trial.last("train_loss"), 4),
        format::rate(trial.last("images_per_second")),
        if trial.train_seconds > 0.0 { format::duration(trial.train_seconds) } else { "–".to_owned() },
        if trial.pareto { "yes".to_owned() } else { String::new() },
    ]);
    row
}
