//! The tables that commands print.

use crate::format;
use crate::table::{Align, Table};
use crate::view::{SweepView, TrialView};
use proto::wire::{SweepSummary, WorkerStatus};

/// The trials of a sweep: what each is, how far it is, how good.
#[must_use]
pub fn sweep(view: &SweepView) -> String {
    let mut table = Table::new(&[
        ("trial", Align::Right),
        ("α", Align::Right),
        ("ρ", Align::Right),
        ("Mult-Adds", Align::Right),
        ("params", Align::Right),
    ]);
    let axes = view.other_axes();
    let seeds = has_seeds(view);
    if seeds {
        table.column("seed", Align::Right);
    }
    for axis in &axes {
        table.column(axis, Align::Right);
    }
    for (name, align) in [
        ("state", Align::Left),
        ("epoch", Align::Right),
        ("top-1 best %", Align::Right),
        ("(epoch)", Align::Right),
        ("last %", Align::Right),
        ("images/s", Align::Right),
        ("time", Align::Right),
        ("", Align::Left),
    ] {
        table.column(name, align);
    }
    for trial in &view.trials {
        let mut row = vec![
            trial.number.to_string(),
            format::alpha(trial.alpha),
            trial.resolution.to_string(),
            format::count(trial.mult_adds),
            format::count(trial.params),
        ];
        if seeds {
            row.push(trial.seed.to_string());
        }
        row.extend(axes.iter().map(|axis| axis_value(trial, axis)));
        row.extend([
            trial.state.clone(),
            format!("{}/{}", trial.epochs_done, trial.epochs),
            format::percent(trial.top1_best()),
            trial.best_epoch.map(|epoch| format!("({epoch})")).unwrap_or_default(),
            format::percent(trial.last("val_top1")),
            format::rate(trial.last("images_per_second")),
            if trial.train_seconds > 0.0 { format::duration(trial.train_seconds) } else { "–".to_owned() },
            remark(trial),
        ]);
        table.row(row);
    }
    table.text()
}

/// One line above the table of trials: which sweep, how far.
#[must_use]
pub fn headline(view: &SweepView) -> String {
    let mut line = format!("{}: {}", view.name, view.standing());
    line.push_str(&format!(", {:.0} % of the work done", view.progress * 100.0));
    if view.paused {
        line.push_str(", paused");
    }
    if view.scripted {
        line.push_str("  [scripted: made-up numbers]");
    }
    line
}

/// All sweeps of a store.
#[must_use]
pub fn sweeps(list: &[SweepSummary]) -> String {
    let mut table = Table::new(&[
        ("sweep", Align::Left),
        ("trials", Align::Right),
        ("completed", Align::Right),
        ("running", Align::Right),
        ("waiting", Align::Right),
        ("failed", Align::Right),
        ("done", Align::Right),
        ("submitted", Align::Left),
        ("description", Align::Left),
    ]);
    for sweep in list {
        let counts = sweep.counts.unwrap_or_default();
        let trials =
            counts.pending + counts.running + counts.paused + counts.completed + counts.failed + counts.cancelled;
        let mut description = sweep.description.clone();
        if sweep.paused {
            description = format!("[paused] {description}");
        }
        if sweep.scripted {
            description = format!("[scripted] {description}");
        }
        table.row([
            sweep.name.clone(),
            trials.to_string(),
            counts.completed.to_string(),
            counts.running.to_string(),
            (counts.pending + counts.paused).to_string(),
            counts.failed.to_string(),
            format!("{:.0} %", sweep.progress * 100.0),
            format::time(sweep.submitted_ms),
            description,
        ]);
    }
    table.text()
}

/// Workers and their slots, a row for each slot.
#[must_use]
pub fn workers(list: &[WorkerStatus]) -> String {
    let mut table = Table::new(&[
        ("worker", Align::Left),
        ("host", Align::Left),
        ("version", Align::Left),
        ("state", Align::Left),
        ("device", Align::Left),
        ("trials", Align::Left),
        ("Mult-Adds/s", Align::Right),
        ("images/s", Align::Right),
        ("last seen", Align::Left),
    ]);
    for worker in list {
        for slot in &worker.slots {
            let name = |trial: &u64| match slot.replica {
                0 => trial.to_string(),
                replica => format!("{trial} (replica {replica})"),
            };
            let trials: Vec<String> = slot.trials.iter().map(name).collect();
            let speed = slot.mult_adds_per_second;
            table.row([
                format!("{:016x}", worker.id),
                worker.host.clone(),
                worker.version.clone(),
                worker.state.clone(),
                slot.device.clone(),
                if trials.is_empty() { "–".to_owned() } else { trials.join(", ") },
                if speed > 0.0 { format::count(speed as u64) } else { "–".to_owned() },
                format::rate((slot.images_per_second > 0.0).then_some(slot.images_per_second)),
                format::time(worker.last_seen_ms),
            ]);
        }
    }
    table.text()
}

/// Whether some cell is trained with more than one seed.
pub(crate) fn has_seeds(view: &SweepView) -> bool {
    view.trials.iter().any(|trial| view.trials.first().is_some_and(|first| first.seed != trial.seed))
}

/// An axis' value as the sweep file writes it.
pub(crate) fn axis_value(trial: &TrialView, axis: &str) -> String {
    match trial.parameters.get(axis) {
        None => "–".to_owned(),
        Some(serde_json::Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
    }
}

fn remark(trial: &TrialView) -> String {
    let mut words = Vec::new();
    if trial.pareto {
        words.push("Pareto".to_owned());
    }
    if trial.replicas > 1 {
        words.push(format!("{} replicas", trial.replicas));
    }
    if trial.attempts > 1 {
        words.push(format!("{} attempts", trial.attempts));
    }
    if !trial.reason.is_empty() && trial.state != "completed" {
        words.push(trial.reason.clone());
    }
    words.join(", ")
}
