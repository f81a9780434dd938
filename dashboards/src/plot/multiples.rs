//! Small multiples: the same panels for each cell, on the grid of α and ρ, all with the same axes.

use super::PlotError;
use super::axis::plain;
use super::drawing::{Anchor, Color, Drawing, Point, Shape, Text, WIDTH};
use super::labels::Rect;
use super::lettering::Letters;
use super::palette::{GREY, GRID, INK};
use super::scale::{self, Scale};
use crate::format;
use crate::results::Results;
use crate::view::TrialView;

/// More α or ρ than this are not laid out as a grid.
const GRID_MAX: usize = 6;
/// Cells shown where they are not laid out as a grid.
const CELLS_MAX: usize = 24;
const COLUMNS_WITHOUT_GRID: usize = 4;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 1570.0;
const TOP: f64 = 150.0;
const FOOT: f64 = 72.0;
const GAP: f64 = 26.0;
const TITLE: f64 = 34.0;
/// Between the panels of a cell.
const SEAM: f64 = 14.0;
const BELOW_CELL: f64 = 18.0;
const WORDS: f64 = 16.0;

/// One line of a panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    /// Of the table of metrics.
    pub(super) metric: &'static str,
    /// For the legend.
    pub(super) words: &'static str,
    pub(super) color: Color,
}

/// One panel of each cell.
pub(super) struct Panel {
    pub(super) words: &'static str,
    pub(super) height: f64,
    pub(super) log: bool,
    /// Values are drawn times this.
    pub(super) factor: f64,
    /// No tick outside.
    pub(super) bounds: (f64, f64),
    /// From back to front.
    pub(super) series: Vec<Series>,
    /// The axis begins at 0.
    pub(super) from_zero: bool,
    /// Marks the best epoch on the last of the series.
    pub(super) mark_best: bool,
}

/// What a figure of these shows.
pub(super) struct Multiples<'a> {
    pub(super) results: &'a Results,
    pub(super) about: &'a str,
    pub(super) panels: Vec<Panel>,
    pub(super) nothing: &'a str,
}

/// A cell: trials of one α and ρ.
struct Group<'a> {
    alpha: f64,
    resolution: u32,
    trials: Vec<&'a TrialView>,
    column: usize,
    row: usize,
}

/// A panel's axis, the same for all cells.
struct Up {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Multiples<'_> {
    pub(super) fn draw(&self) -> Result<Drawing, PlotError> {
        let view = &self.results.view;
        let (groups, left_out) = groups(self.results);
        let columns = groups.iter().map(|group| group.column + 1).max().unwrap_or(1);
        let rows = groups.iter().map(|group| group.row + 1).max().unwrap_or(1);
        let inner: f64 = self.panels.iter().map(|panel| panel.height).sum::<f64>()
            + SEAM * (self.panels.len().saturating_sub(1)) as f64;
        let cell_height = TITLE + inner + BELOW_CELL;
        let height = TOP + cell_height * rows as f64 + FOOT;
        let scripted = if view.scripted { " (scripted: made-up numbers)" } else { "" };
        let mut drawing = Drawing::new(format!("{}: {}{scripted}", view.name, self.about), height.round());
        let letters = Letters::new()?;
        self.head(&mut drawing, left_out, &letters);
        if view.scripted {
            watermark(&mut drawing);
        }
        let ups: Vec<Option<Up>> = self.panels.iter().map(|panel| self.up(panel, &groups)).collect();
        if ups.iter().all(Option::is_none) {
            let at = (WIDTH / 2.0, height / 2.0);
            drawing.texts.push(Text::new(self.nothing, at, 28.0).anchored(Anchor::Middle).colored(GREY));
            return Ok(drawing);
        }
        let epochs = view.trials.iter().map(|trial| trial.epochs).max().unwrap_or(1).max(1);
        let width = (RIGHT - LEFT - GAP * (columns - 1) as f64) / columns as f64;
        for group in &groups {
            let left = LEFT + (width + GAP) * group.column as f64;
            let mut top = TOP + cell_height * group.row as f64;
            title(&mut drawing, group, (left, top + 22.0), width, &letters);
            top += TITLE;
            // Below the last row, and where the row below is shorter.
            let lowest = !groups.iter().any(|other| other.column == group.column && other.row > group.row);
            for (place, (panel, up)) in self.panels.iter().zip(&ups).enumerate() {
                let frame = Rect { left, top, right: left + width, bottom: top + panel.height };
                let words = Words { up: group.column == 0, across: lowest && place + 1 == self.panels.len() };
                self.panel(&mut drawing, &frame, (panel, up.as_ref()), group, epochs, words);
                top += panel.height + SEAM;
            }
        }
        let middle = (f64::midpoint(LEFT, RIGHT), height - 22.0);
        drawing.texts.push(Text::new("Epoch", middle, 22.0).anchored(Anchor::Middle));
        Ok(drawing)
    }

    fn head(&self, drawing: &mut Drawing, left_out: usize, letters: &Letters) {
        let view = &self.results.view;
        let mut name = Text::new(view.name.clone(), (LEFT, 56.0), 34.0);
        name.bold = true;
        drawing.texts.push(name);
        let mut facts = vec![self.about.to_owned(), view.standing()];
        if left_out > 0 {
            facts.push(format!("the best {CELLS_MAX} cells; {left_out} more are not shown"));
        }
        drawing.texts.push(Text::new(facts.join("  ·  "), (LEFT, 92.0), 20.0).colored(GREY));
        let mut known: Vec<&str> = Vec::new();
        let mut x = LEFT;
        for series in self.panels.iter().flat_map(|panel| panel.series.iter().rev()) {
            if known.contains(&series.words) {
                continue;
            }
            known.push(series.words);
            drawing.line((x, 118.0), (x + 36.0, 118.0), 3.5, series.color);
            drawing.texts.push(Text::new(series.words, (x + 46.0, 125.0), 20.0));
            x += 46.0 + letters.width(series.words, 20.0, false) + 40.0;
        }
        if self.panels.iter().any(|panel| panel.mark_best) {
            drawing.shapes.push(Shape::Circle { center: (x + 8.0, 118.0), radius: 6.0, color: INK });
            drawing.texts.push(Text::new("best epoch", (x + 26.0, 125.0), 20.0));
        }
    }

    /// Values of a trial for the page.
    fn values(&self, trial: &TrialView, series: &Series, panel: &Panel) -> Vec<(f64, f64)> {
        let points = self.results.series(trial.number, series.metric).into_iter();
        points
            .map(|(step, value)| (step as f64, value * panel.factor))
            .filter(|(_, value)| !panel.log || *value > 0.0)
            .collect()
    }

    fn up(&self, panel: &Panel, groups: &[Group<'_>]) -> Option<Up> {
        let values: Vec<f64> = groups
            .iter()
            .flat_map(|group| &group.trials)
            .flat_map(|trial| panel.series.iter().flat_map(|series| self.values(trial, series, panel)))
            .map(|(_, value)| if panel.log { value.log10() } else { value })
            .collect();
        let least = if panel.log { 0.1 } else { 0.02 * panel.factor };
        let zero = panel.from_zero.then_some(0.0);
        let (low, high) = scale::around(values.iter().copied(), least, 0.06)?;
        let low = zero.unwrap_or(low);
        if panel.log {
            let (low, high) = (10f64.powf(low), 10f64.powf(high));
            let ticks = thinned(scale::log_ticks(low, high).0).into_iter().map(|tick| (tick, plain(tick))).collect();
            return Some(Up { low, high, log: true, ticks });
        }
        let (ticks, digits) = scale::ticks(low, high, 5);
        let ticks = ticks.into_iter().filter(|tick| (panel.bounds.0..=panel.bounds.1).contains(tick));
        Some(Up { low, high, log: false, ticks: ticks.map(|tick| (tick, format!("{tick:.digits$}"))).collect() })
    }

    fn panel(
        &self,
        drawing: &mut Drawing,
        frame: &Rect,
        (panel, up): (&Panel, Option<&Up>),
        group: &Group<'_>,
        epochs: u32,
        words: Words,
    ) {
        let across = Scale::linear(0.0, f64::from(epochs), frame.left, frame.right);
        for epoch in ticks_of_epochs(epochs, frame.right - frame.left) {
            let x = across.at(f64::from(epoch));
            drawing.line((x, frame.top), (x, frame.bottom), 1.0, GRID);
            if words.across {
                // The last number must not run into the next cell's first one.
                let (x, anchor) = if frame.right - x < 12.0 { (frame.right, Anchor::End) } else { (x, Anchor::Middle) };
                drawing.texts.push(Text::new(epoch.to_string(), (x, frame.bottom + 22.0), WORDS).anchored(anchor));
            }
        }
        if words.up {
            let mut text = Text::new(panel.words, (frame.left - 66.0, f64::midpoint(frame.top, frame.bottom)), 18.0)
                .anchored(Anchor::Middle);
            text.upwards = true;
            drawing.texts.push(text);
        }
        let corners = [(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)];
        let Some(up) = up else {
            drawing.shapes.push(Shape::Line { points: corners.to_vec(), width: 1.5, color: INK });
            return;
        };
        let scale = if up.log {
            Scale::log(up.low, up.high, frame.bottom, frame.top)
        } else {
            Scale::linear(up.low, up.high, frame.bottom, frame.top)
        };
        for (tick, number) in &up.ticks {
            let y = scale.at(*tick);
            drawing.line((frame.left, y), (frame.right, y), 1.0, GRID);
            if words.up {
                let at = (frame.left - 9.0, y + 5.5);
                drawing.texts.push(Text::new(number.clone(), at, WORDS).anchored(Anchor::End));
            }
        }
        drawing.shapes.push(Shape::Line { points: corners.to_vec(), width: 1.5, color: INK });
        let width = if group.trials.len() == 1 { 2.6 } else { 1.6 };
        for series in &panel.series {
            for trial in &group.trials {
                let points: Vec<Point> = self
                    .values(trial, series, panel)
                    .into_iter()
                    .map(|(step, value)| (across.at(step), scale.at(value)))
                    .collect();
                match points.as_slice() {
                    [] => {}
                    [only] => drawing.shapes.push(Shape::Circle { center: *only, radius: 3.5, color: series.color }),
                    _ => drawing.shapes.push(Shape::Line { points, width, color: series.color }),
                }
            }
        }
        let Some(series) = panel.series.last().filter(|_| panel.mark_best) else { return };
        for trial in &group.trials {
            let Some(epoch) = trial.best_epoch.map(f64::from) else { continue };
            for (step, value) in self.values(trial, series, panel).into_iter().filter(|(step, _)| *step == epoch) {
                let center = (across.at(step), scale.at(value));
                drawing.shapes.push(Shape::Circle { center, radius: 5.0, color: INK });
            }
        }
    }
}

/// Where words stand: beside the first column, below the last row.
#[derive(Clone, Copy)]
struct Words {
    up: bool,
    across: bool,
}

/// The cell's name, and as much of how it stands as there is room for.
fn title(drawing: &mut Drawing, group: &Group<'_>, at: Point, width: f64, letters: &Letters) {
    const SIZE: f64 = 17.0;
    let mut name = Text::new(format!("{}-{}", format::alpha(group.alpha), group.resolution), at, 20.0);
    name.bold = true;
    let room = width - letters.width(&name.words, name.size, true) - 12.0;
    drawing.texts.push(name);
    let best = group.trials.iter().filter_map(|trial| trial.top1_best()).reduce(f64::max);
    let best = best.map(|best| format!("{} %", format::percent(Some(best))));
    let done: u32 = group.trials.iter().map(|trial| trial.epochs_done).sum();
    let wanted: u32 = group.trials.iter().map(|trial| trial.epochs).sum();
    let progress = match group.trials.len() {
        1 => format!("epoch {done} of {wanted}"),
        _ => format!("{done} of {wanted} epochs"),
    };
    let choices = match best {
        Some(best) if group.trials.iter().all(|trial| trial.is_completed()) => vec![format!("best {best}"), best],
        Some(best) if done > 0 => vec![
            format!("best {best}, {progress}"),
            format!("{best}, {progress}"),
            format!("{best}, {done}/{wanted}"),
            format!("{done}/{wanted}"),
        ],
        _ => vec![progress, format!("{done}/{wanted}")],
    };
    if let Some(words) = choices.into_iter().find(|words| letters.width(words, SIZE, false) <= room) {
        drawing.texts.push(Text::new(words, (at.0 + width, at.1), SIZE).anchored(Anchor::End).colored(GREY));
    }
}

fn watermark(drawing: &mut Drawing) {
    let mut y = 380.0;
    while y < drawing.height - 60.0 {
        let mut text = Text::new("scripted: made-up numbers", (WIDTH / 2.0, y), 66.0).anchored(Anchor::Middle);
        text.bold = true;
        text.opacity = 0.12;
        drawing.behind.push(text);
        y += 420.0;
    }
}

/// The cells on a grid of α down and ρ across; of many, the best by accuracy, row by row. And how many are left out.
fn groups(results: &Results) -> (Vec<Group<'_>>, usize) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for trial in &results.view.trials {
        match groups.iter_mut().find(|known| known.alpha == trial.alpha && known.resolution == trial.resolution) {
            Some(group) => group.trials.push(trial),
            None => groups.push(Group {
                alpha: trial.alpha,
                resolution: trial.resolution,
                trials: vec![trial],
                column: 0,
                row: 0,
            }),
        }
    }
    let mut alphas: Vec<f64> = groups.iter().map(|group| group.alpha).collect();
    alphas.sort_by(|a, b| b.total_cmp(a));
    alphas.dedup();
    let mut resolutions: Vec<u32> = groups.iter().map(|group| group.resolution).collect();
    resolutions.sort_by(|a, b| b.cmp(a));
    resolutions.dedup();
    if alphas.len() <= GRID_MAX && resolutions.len() <= GRID_MAX {
        for group in &mut groups {
            group.row = alphas.iter().position(|alpha| *alpha == group.alpha).unwrap_or(0);
            group.column = resolutions.iter().position(|resolution| *resolution == group.resolution).unwrap_or(0);
        }
        return (groups, 0);
    }
    let best =
        |group: &Group<'_>| group.trials.iter().filter_map(|trial| trial.top1_best()).fold(f64::NEG_INFINITY, f64::max);
    groups.sort_by(|a, b| best(b).total_cmp(&best(a)));
    let left_out = groups.len().saturating_sub(CELLS_MAX);
    groups.truncate(CELLS_MAX);
    for (place, group) in groups.iter_mut().enumerate() {
        (group.row, group.column) = (place / COLUMNS_WITHOUT_GRID, place % COLUMNS_WITHOUT_GRID);
    }
    (groups, left_out)
}

/// Every other one until they fit a small panel.
fn thinned(mut ticks: Vec<f64>) -> Vec<f64> {
    const TICKS_MAX: usize = 6;
    while ticks.len() > TICKS_MAX {
        ticks = ticks.into_iter().step_by(2).collect();
    }
    ticks
}

/// Whole epochs, about 60 points apart.
fn ticks_of_epochs(epochs: u32, width: f64) -> Vec<u32> {
    let wanted = ((width / 60.0) as u32).clamp(2, 10);
    let (ticks, digits) = scale::ticks(0.0, f64::from(epochs), wanted);
    if digits > 0 {
        return (0..=epochs).collect();
    }
    ticks.into_iter().map(|tick| tick.round() as u32).collect()
}
