//! The legend, beside the plot: it covers nothing.

use super::drawing::{Color, Drawing, Text};
use super::marker;
use super::palette::{FAINT, FRONT, GREY, INK};
use crate::fit::Fit;
use crate::format;

/// Colours shown at most: of more, which are a ramp, these many, evenly chosen, first and last among them.
const ROWS_MAX: usize = 7;
const ROW: f64 = 34.0;
const SIZE: f64 = 21.0;

/// What the legend must explain.
pub(super) struct Legend<'a> {
    /// α with its marker; empty where all markers are circles.
    pub(super) alphas: &'a [(f64, usize)],
    /// ρ with its colour.
    pub(super) resolutions: &'a [(u32, Color)],
    /// A front is drawn.
    pub(super) front: bool,
    /// Some cells have a bar of several seeds.
    pub(super) bars: bool,
    /// Some cells are not finished.
    pub(super) hollow: bool,
    /// The paper's points are drawn.
    pub(super) paper: bool,
    /// The line that is drawn.
    pub(super) fit: Option<&'a Fit>,
    /// Labels that found no room.
    pub(super) unlabelled: usize,
}

/// Draws it with its top left corner at this place.
pub(super) fn draw(drawing: &mut Drawing, legend: &Legend<'_>, left: f64, top: f64) {
    let mut pen = Pen { drawing, left, y: top };
    if !legend.alphas.is_empty() {
        pen.head("α  width multiplier");
        for (alpha, shape) in legend.alphas {
            let at = pen.mark();
            marker::draw(pen.drawing, *shape, at, 9.0, GREY, false);
            pen.row(&format::alpha(*alpha));
        }
    }
    pen.head("ρ  resolution in pixels");
    for (resolution, color) in samples(legend.resolutions) {
        let at = pen.mark();
        marker::draw(pen.drawing, 0, at, 9.0, color, false);
        pen.row(&resolution.to_string());
    }
    pen.y += 10.0;
    if legend.front {
        let at = pen.mark();
        pen.drawing.line((at.0 - 14.0, at.1), (at.0 + 14.0, at.1), 3.0, FRONT);
        pen.row("Pareto front");
    }
    if legend.bars {
        let at = pen.mark();
        bar(pen.drawing, at, (at.1 - 12.0, at.1 + 12.0), GREY);
        marker::draw(pen.drawing, 0, at, 7.0, GREY, false);
        pen.row("range of the seeds");
    }
    if legend.hollow {
        let at = pen.mark();
        marker::draw(pen.drawing, 0, at, 9.0, GREY, true);
        pen.row("not finished");
    }
    if legend.paper {
        let at = pen.mark();
        marker::draw(pen.drawing, 3, at, 8.0, FAINT, true);
        pen.row("the paper, ImageNet");
    }
    if let Some(fit) = legend.fit {
        let at = pen.mark();
        pen.drawing.dashes((at.0 - 14.0, at.1), (at.0 + 14.0, at.1), 2.2, INK);
        pen.row(&fit.r_squared.map_or("fit".to_owned(), |share| format!("fit, R² = {share:.3}")));
        pen.row(&format!("{} points", format::points(fit.slope)));
        pen.y -= 6.0;
        pen.row("for 10 × Mult-Adds");
    }
    if legend.unlabelled > 0 {
        pen.row(&format!("{} without a label", legend.unlabelled));
    }
}

/// A vertical bar with caps, around `at`, between two heights.
pub(super) fn bar(drawing: &mut Drawing, at: (f64, f64), (from, to): (f64, f64), color: Color) {
    drawing.line((at.0, from), (at.0, to), 2.0, color);
    for y in [from, to] {
        drawing.line((at.0 - 6.0, y), (at.0 + 6.0, y), 2.0, color);
    }
}

fn samples(all: &[(u32, Color)]) -> Vec<(u32, Color)> {
    if all.len() <= ROWS_MAX {
        return all.to_vec();
    }
    (0..ROWS_MAX).map(|row| all[row * (all.len() - 1) / (ROWS_MAX - 1)]).collect()
}

struct Pen<'a> {
    drawing: &'a mut Drawing,
    left: f64,
    y: f64,
}

impl Pen<'_> {
    fn head(&mut self, words: &str) {
        if self.drawing.texts.last().is_some_and(|text| text.at.0 > self.left) {
            self.y += 18.0;
        }
        let mut text = Text::new(words, (self.left, self.y), SIZE).colored(INK);
        text.bold = true;
        self.drawing.texts.push(text);
        self.y += ROW;
    }

    fn mark(&self) -> (f64, f64) {
        (self.left + 16.0, self.y - SIZE * 0.36)
    }

    fn row(&mut self, words: &str) {
        self.drawing.texts.push(Text::new(words, (self.left + 44.0, self.y), SIZE));
        self.y += ROW;
    }
}
