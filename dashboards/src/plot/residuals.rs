//! What the fitted line leaves: a panel below the plot, on the same axis. The paper's jump at small α is seen here.

use super::axis::{self, Axis};
use super::drawing::{Drawing, Text};
use super::labels::Rect;
use super::palette::{GREY, INK};
use super::scatter::{Dot, MARKER};
use super::{marker, scale};
use crate::fit::Fit;
use crate::format;

const GAP: f64 = 46.0;
const TALL: f64 = 190.0;
/// With more α than this there is no room to list their means.
const MEANS_MAX: usize = 5;

pub(super) struct Residuals<'a> {
    pub(super) dots: &'a [Dot],
    /// Places of the dots that the line is fitted to, in the order of its residuals.
    pub(super) members: &'a [usize],
    pub(super) fit: &'a Fit,
    pub(super) across: &'a Axis,
}

/// Where the panel lies below a frame.
pub(super) fn frame(above: &Rect) -> Rect {
    Rect { top: above.bottom + GAP, bottom: above.bottom + GAP + TALL, ..*above }
}

pub(super) fn draw(drawing: &mut Drawing, residuals: &Residuals<'_>, above: &Rect) {
    let frame = frame(above);
    let Residuals { dots, members, fit, across } = residuals;
    let values = fit.residuals.iter().copied().chain([0.0]);
    let Some((low, high)) = scale::around(values, 0.2, 0.2) else { return };
    let up = Axis::linear(low, high, 4, (low, high), &frame);
    axis::grid(drawing, &frame, across, &up, true);
    let zero = up.scale.at(0.0);
    drawing.dashes((frame.left, zero), (frame.right, zero), 2.2, INK);
    for (place, residual) in members.iter().zip(&fit.residuals) {
        let dot = &dots[*place];
        let at = (across.scale.at(dot.cost), up.scale.at(*residual));
        drawing.line((at.0, zero), at, 2.0, dot.color);
        marker::draw(drawing, dot.shape, at, MARKER - 2.0, dot.color, dot.hollow);
    }
    axis::upwards(drawing, "Residual (points)", &frame, 20.0);
    means(drawing, residuals, &frame);
}

/// Mean residual by α, beside the panel.
fn means(drawing: &mut Drawing, residuals: &Residuals<'_>, frame: &Rect) {
    let of = |place: &usize| residuals.dots[*place].alpha;
    let mut alphas: Vec<f64> = residuals.members.iter().map(of).collect();
    alphas.sort_by(|a, b| b.total_cmp(a));
    alphas.dedup();
    if alphas.len() < 2 || alphas.len() > MEANS_MAX {
        return;
    }
    let left = frame.right + 40.0;
    let mut head = Text::new("mean residual by α", (left, frame.top + 14.0), 21.0);
    head.bold = true;
    drawing.texts.push(head);
    for (row, alpha) in alphas.into_iter().enumerate() {
        let members = residuals.members.iter().zip(&residuals.fit.residuals).filter(|(place, _)| of(place) == alpha);
        let values: Vec<f64> = members.clone().map(|(_, residual)| *residual).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let shape = members.map(|(place, _)| residuals.dots[*place].shape).next().unwrap_or(0);
        let y = frame.top + 48.0 + 34.0 * row as f64;
        marker::draw(drawing, shape, (left + 16.0, y - 7.5), 9.0, GREY, false);
        let words = format!("{}:  {} points", format::alpha(alpha), format::points(mean));
        drawing.texts.push(Text::new(words, (left + 44.0, y), 21.0));
    }
}
