//! Accuracy against measured time for each image.

use super::drawing::Drawing;
use super::scatter::Scatter;
use super::{PlotError, axis};
use crate::results::Results;
use crate::view::Cell;

/// Best top-1 accuracy against the measured training time of one image on the worker's slot: 1 / `images_per_second`,
/// the median over the epochs, mean of the seeds. That is the wall time of the training loop (forward, backward,
/// update, waiting for data) by the images it saw; evaluation and checkpoints are not in it.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn time(results: &Results) -> Result<Drawing, PlotError> {
    let scatter = Scatter {
        view: &results.view,
        about: "accuracy against measured training time of an image",
        across: "Training time of one image on one slot (ms, logarithmic)",
        remarks: remarks(results),
        cost: &|cell| milliseconds(results, cell),
        tick: axis::plain,
        nothing: "No trial has measured an epoch yet",
        front: true,
        lines: false,
        fit: false,
        paper: Vec::new(),
    };
    scatter.draw()
}

/// Of one image; mean of the cell's trials.
pub(crate) fn milliseconds(results: &Results, cell: &Cell) -> Option<f64> {
    let times: Vec<f64> = cell.numbers.iter().filter_map(|number| of_trial(results, *number)).collect();
    (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
}

fn of_trial(results: &Results, trial: u32) -> Option<f64> {
    let rates = results.series(trial, "images_per_second").into_iter().map(|(_, rate)| rate);
    let mut times: Vec<f64> = rates.filter(|rate| *rate > 0.0).map(|rate| 1_000.0 / rate).collect();
    times.sort_by(f64::total_cmp);
    match times.len() {
        0 => None,
        count if count % 2 == 1 => Some(times[count / 2]),
        count => Some(f64::midpoint(times[count / 2 - 1], times[count / 2])),
    }
}

/// What was measured, and on what.
fn remarks(results: &Results) -> Vec<String> {
    /// More are counted.
    const NAMED_MAX: usize = 2;
    let mut devices: Vec<String> = Vec::new();
    for trial in results.view.trials.iter().filter(|trial| !trial.device.is_empty()) {
        let newest = results.attempts_at(trial.number).filter(|attempt| attempt.threads > 0).last();
        let cpu = newest.filter(|_| trial.device == "cpu").map(|attempt| {
            let threads = if attempt.threads == 1 { "thread" } else { "threads" };
            format!(" ({}, {} {threads})", attempt.instruction_set, attempt.threads)
        });
        let device = format!("{} of {}{}", trial.device, trial.worker, cpu.unwrap_or_default());
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    devices.sort();
    let mut lines = vec![
        "1 / images per second of training, median over epochs: forward, backward, update, waiting for data; \
         no evaluation"
            .to_owned(),
    ];
    match devices.len() {
        0 => {}
        1 => lines.push(format!("measured on {}", devices[0])),
        count if count <= NAMED_MAX => lines.push(format!("measured on {}; compare with care", devices.join(" and "))),
        count => lines.push(format!("measured on {count} different devices; compare with care")),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Point;

    #[test]
    fn an_odd_epoch_does_not_move_the_median() {
        let point = |step, value| Point { trial: 1, attempt: 1, name: "images_per_second".into(), step, value };
        let mut results =
            Results { points: vec![point(1, 10.0), point(2, 500.0), point(3, 400.0)], ..Results::default() };
        assert_eq!(of_trial(&results, 1), Some(2.5));
        results.points.remove(0);
        assert_eq!(of_trial(&results, 1), Some(2.25));
        assert_eq!(of_trial(&results, 2), None);
    }
}
