//! The paper's Figure 4: accuracy against Mult-Adds.

use super::drawing::Drawing;
use super::scatter::Scatter;
use super::{PlotError, axis};
use crate::paper;
use crate::results::Results;

/// Best top-1 accuracy against Mult-Adds on a logarithmic axis: a colour for each ρ, a marker for each α, the Pareto
/// front of the finished cells, the line fitted to them with its R², and what it leaves below. Cells of several seeds
/// are drawn at their mean, with a bar from least to most; cells that are not finished are hollow; where the data are
/// ImageNet the paper's points are there, faint.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn tradeoff(results: &Results) -> Result<Drawing, PlotError> {
    let scatter = Scatter {
        view: &results.view,
        about: "accuracy against Mult-Adds",
        across: "Mult-Adds of one image (logarithmic)",
        remarks: Vec::new(),
        cost: &|cell| Some(cell.mult_adds.max(1) as f64),
        tick: axis::thousands,
        nothing: "No trial has finished an epoch yet",
        front: true,
        lines: false,
        fit: true,
        paper: published(results, |cell| cell.mult_adds),
    };
    scatter.draw()
}

/// The paper's points of this cost, if the sweep is about the same data.
pub(super) fn published(results: &Results, cost: impl Fn(&paper::PaperCell) -> f64) -> Vec<(f64, f64)> {
    if !results.spec.as_ref().is_some_and(paper::is_imagenet) {
        return Vec::new();
    }
    paper::cells().iter().map(|cell| (cost(cell), cell.top1)).collect()
}
