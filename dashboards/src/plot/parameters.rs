//! The paper's Figure 5: accuracy against parameters.

use super::drawing::Drawing;
use super::scatter::Scatter;
use super::tradeoff::published;
use super::{PlotError, axis};
use crate::results::Results;

/// Best top-1 accuracy against trainable parameters on a logarithmic axis. ρ changes no parameter: each α is a column,
/// each ρ a colour and a line.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn parameters(results: &Results) -> Result<Drawing, PlotError> {
    let scatter = Scatter {
        view: &results.view,
        about: "accuracy against parameters",
        across: "Trainable parameters (logarithmic)",
        remarks: Vec::new(),
        cost: &|cell| Some(cell.params.max(1) as f64),
        tick: axis::thousands,
        nothing: "No trial has finished an epoch yet",
        front: false,
        lines: results.view.other_axes().is_empty(),
        fit: false,
        paper: published(results, |cell| cell.params),
    };
    scatter.draw()
}
