//! How the cells learned: accuracy and loss by epoch; and staleness, where there was any.

use super::PlotError;
use super::drawing::Drawing;
use super::multiples::{Multiples, Panel, Series};
use super::palette;
use crate::results::Results;

/// Top-1 accuracy and loss by epoch, training and validation, one pair of panels for each cell on the grid of α and ρ,
/// all with the same axes.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn curves(results: &Results) -> Result<Drawing, PlotError> {
    let series = |metric, words, place| Series { metric, words, color: palette::color(place, 2) };
    let accuracy = Panel {
        words: "Top-1 (%)",
        height: 150.0,
        log: false,
        factor: 100.0,
        bounds: (0.0, 100.0),
        series: vec![series("train_top1", "training", 1), series("val_top1", "validation", 0)],
        from_zero: false,
        mark_best: true,
    };
    let loss = Panel {
        words: "Loss (nats)",
        height: 150.0,
        log: true,
        factor: 1.0,
        bounds: (0.0, f64::INFINITY),
        series: vec![series("train_loss", "training", 1), series("val_loss", "validation", 0)],
        from_zero: false,
        mark_best: false,
    };
    let multiples = Multiples {
        results,
        about: "accuracy and loss (logarithmic) by epoch",
        panels: vec![accuracy, loss],
        nothing: "No trial has finished an epoch yet",
    };
    multiples.draw()
}

/// Names of the metrics of asynchronous training.
pub(crate) const STALENESS: [&str; 2] = ["staleness_mean", "staleness_max"];

/// Updates by others between reading parameters and adding a gradient, mean and largest of each epoch. `None` where
/// no trial reported any.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn staleness(results: &Results) -> Result<Option<Drawing>, PlotError> {
    if !STALENESS.iter().any(|name| results.has_metric(name)) {
        return Ok(None);
    }
    let panel = Panel {
        words: "Updates",
        height: 220.0,
        log: false,
        factor: 1.0,
        bounds: (0.0, f64::INFINITY),
        series: vec![
            Series { metric: STALENESS[1], words: "largest", color: palette::color(1, 2) },
            Series { metric: STALENESS[0], words: "mean", color: palette::color(0, 2) },
        ],
        from_zero: true,
        mark_best: false,
    };
    let multiples = Multiples {
        results,
        about: "staleness of gradients by epoch",
        panels: vec![panel],
        nothing: "No gradient was stale",
    };
    multiples.draw().map(Some)
}
