//! Accuracy against a cost: what the figures of cells have in common.

use super::axis::{self, Axis};
use super::drawing::{Anchor, Color, Drawing, Point, Shape, Text, WIDTH};
use super::labels::{self, Placed, Rect, Surroundings, Wanted};
use super::legend::{self, Legend};
use super::lettering::Letters;
use super::palette::{self, FRONT, GREY, INK, WHITE};
use super::residuals::{self, Residuals};
use super::scale::{self, Scale};
use super::{PlotError, marker};
use crate::fit::{self, Fit};
use crate::format;
use crate::pareto;
use crate::view::{Cell, SweepView};

const LEFT: f64 = 150.0;
const RIGHT: f64 = 1260.0;
const TOP: f64 = 130.0;
/// Height of the frame.
const TALL: f64 = 750.0;
/// The same above a panel of residuals.
const TALL_ABOVE_RESIDUALS: f64 = 690.0;
/// Height of a line of facts below the title.
const FACTS_LINE: f64 = 28.0;
/// Below the lowest frame: ticks and the axis' words.
const FOOT: f64 = 120.0;
pub(super) const MARKER: f64 = 11.0;
const LABEL: f64 = 19.0;
/// With more cells than this only the front is labelled.
const LABELS_MAX: usize = 40;

/// What one of these figures shows.
pub(super) struct Scatter<'a> {
    pub(super) view: &'a SweepView,
    /// `accuracy against Mult-Adds`.
    pub(super) about: &'a str,
    /// Words below the axis.
    pub(super) across: &'a str,
    /// Further lines of facts below the title.
    pub(super) remarks: Vec<String>,
    /// A cell's place on the axis; positive.
    pub(super) cost: &'a dyn Fn(&Cell) -> Option<f64>,
    /// What stands at a tick.
    pub(super) tick: fn(f64) -> String,
    /// What to say if no cell has a place.
    pub(super) nothing: &'a str,
    /// Draw the Pareto front.
    pub(super) front: bool,
    /// Draw a line through the cells of each ρ.
    pub(super) lines: bool,
    /// Fit a line, and draw its residuals.
    pub(super) fit: bool,
    /// Published points, faint: cost and accuracy as a fraction.
    pub(super) paper: Vec<(f64, f64)>,
}

/// A cell on the page.
pub(super) struct Dot {
    pub(super) cost: f64,
    /// In percent.
    pub(super) accuracy: f64,
    pub(super) alpha: f64,
    pub(super) color: Color,
    pub(super) shape: usize,
    pub(super) hollow: bool,
    resolution: u32,
    spread: Option<(f64, f64)>,
    name: String,
    pareto: bool,
    at: Point,
    bar: Option<(f64, f64)>,
}

impl Scatter<'_> {
    pub(super) fn draw(&self) -> Result<Drawing, PlotError> {
        let letters = Letters::new()?;
        let cells = self.view.cells();
        let mut dots = self.dots(&cells);
        let fitted = if self.fit { fitted(&dots) } else { None };
        let top = TOP + FACTS_LINE * self.remarks.len() as f64;
        let bottom = top + if fitted.is_some() { TALL_ABOVE_RESIDUALS } else { TALL };
        let frame = Rect { left: LEFT, top, right: RIGHT, bottom };
        let lowest = if fitted.is_some() { residuals::frame(&frame).bottom } else { bottom };
        let scripted = if self.view.scripted { " (scripted: made-up numbers)" } else { "" };
        let mut drawing = Drawing::new(format!("{}: {}{scripted}", self.view.name, self.about), lowest + FOOT);
        self.head(&mut drawing, &frame);
        if self.view.scripted {
            watermark(&mut drawing, &frame);
        }
        let Some((across, up)) = self.axes(&dots, &frame) else {
            axis::corner(&mut drawing, &frame);
            empty(&mut drawing, &frame, self.nothing);
            return Ok(drawing);
        };
        axis::grid(&mut drawing, &frame, &across, &up, fitted.is_none());
        for dot in &mut dots {
            dot.at = (across.scale.at(dot.cost), up.scale.at(dot.accuracy));
            dot.bar = dot.spread.map(|(least, most)| (up.scale.at(least), up.scale.at(most)));
        }
        let paper: Vec<Point> =
            self.paper.iter().map(|(cost, top1)| (across.scale.at(*cost), up.scale.at(top1 * 100.0))).collect();
        for at in &paper {
            marker::draw(&mut drawing, 3, *at, 8.0, palette::FAINT, true);
        }
        let front = if self.front { front(&mut dots) } else { Vec::new() };
        let line = fitted.as_ref().and_then(|(fit, _)| straight(fit, &across, &up, &frame));
        let ways = if self.lines { ways(&dots) } else { Vec::new() };
        let placed = place_labels(&letters, &dots, &paper, &obstacles(&front, line, &ways), &frame);
        if let Some((from, to)) = line {
            drawing.dashes(from, to, 2.2, INK);
        }
        for (points, color) in ways {
            drawing.shapes.push(Shape::Line { points, width: 2.0, color });
        }
        plot(&mut drawing, &dots, &front, &placed);
        names(&mut drawing, &dots, &placed);
        self.foot(&mut drawing, lowest);
        let shapes = alphas(&cells);
        let legend = Legend {
            alphas: if shapes.len() <= marker::SHAPES { &shapes } else { &[] },
            resolutions: &resolutions(&cells),
            front: front.len() > 1,
            bars: dots.iter().any(|dot| dot.spread.is_some()),
            hollow: dots.iter().any(|dot| dot.hollow),
            paper: !self.paper.is_empty(),
            fit: fitted.as_ref().map(|(fit, _)| fit),
            unlabelled: placed.iter().filter(|place| place.is_none()).count(),
        };
        legend::draw(&mut drawing, &legend, RIGHT + 40.0, top + 20.0);
        if let Some((fit, members)) = fitted {
            residuals::draw(
                &mut drawing,
                &Residuals { dots: &dots, members: &members, fit: &fit, across: &across },
                &frame,
            );
        }
        debug_assert!(dots.iter().all(|dot| dot.at.0 <= WIDTH && dot.color != WHITE), "dots lie on the page");
        Ok(drawing)
    }

    fn dots(&self, cells: &[Cell]) -> Vec<Dot> {
        let shapes = alphas(cells);
        let colors = resolutions(cells);
        let dot = |cell: &Cell| {
            Some(Dot {
                cost: (self.cost)(cell).filter(|cost| cost.is_finite() && *cost > 0.0)?,
                accuracy: cell.mean()? * 100.0,
                alpha: cell.alpha,
                resolution: cell.resolution,
                spread: cell.spread().map(|(least, most)| (least * 100.0, most * 100.0)),
                name: format!("{}-{}", format::alpha(cell.alpha), cell.resolution),
                color: colors.iter().find(|(value, _)| *value == cell.resolution).map_or(INK, |(_, color)| *color),
                shape: shapes.iter().find(|(value, _)| *value == cell.alpha).map_or(0, |(_, shape)| *shape),
                hollow: !cell.completed,
                pareto: false,
                at: (0.0, 0.0),
                bar: None,
            })
        };
        cells.iter().filter_map(dot).collect()
    }

    fn axes(&self, dots: &[Dot], frame: &Rect) -> Option<(Axis, Axis)> {
        if dots.is_empty() {
            return None;
        }
        let costs = dots.iter().map(|dot| dot.cost).chain(self.paper.iter().map(|point| point.0));
        let (low, high) = scale::around(costs.map(f64::log10), 0.5, 0.08)?;
        let (from, to) = (10f64.powf(low), 10f64.powf(high));
        let (named, fine) = scale::log_ticks(from, to);
        let across = Axis {
            scale: Scale::log(from, to, frame.left, frame.right),
            ticks: named.into_iter().map(|tick| (tick, (self.tick)(tick))).collect(),
            fine,
        };
        let values = dots.iter().flat_map(|dot| {
            let (least, most) = dot.spread.unwrap_or((dot.accuracy, dot.accuracy));
            [least, most]
        });
        let (low, high) = scale::around(values.chain(self.paper.iter().map(|point| point.1 * 100.0)), 1.0, 0.1)?;
        // An accuracy is a share: no axis below 0 or above 100 %, but markers at the ends stay whole.
        let (low, high) = (low.max(-1.0), high.min(101.0));
        Some((across, Axis::linear(low, high, 7, (0.0, 100.0), frame)))
    }

    fn head(&self, drawing: &mut Drawing, frame: &Rect) {
        let mut name = Text::new(self.view.name.clone(), (frame.left, 62.0), 34.0);
        name.bold = true;
        drawing.texts.push(name);
        let mut facts = Vec::new();
        if !self.view.data.is_empty() {
            facts.push(self.view.data.clone());
        }
        facts.push(self.view.epochs_words());
        facts.push(self.view.standing());
        drawing.texts.push(Text::new(facts.join("  ·  "), (frame.left, 100.0), 20.0).colored(GREY));
        for (line, remark) in self.remarks.iter().enumerate() {
            let at = (frame.left, 100.0 + FACTS_LINE * (line + 1) as f64);
            drawing.texts.push(Text::new(remark.clone(), at, 20.0).colored(GREY));
        }
        axis::upwards(drawing, "Top-1 accuracy on the validation set, best epoch (%)", frame, 24.0);
    }

    fn foot(&self, drawing: &mut Drawing, lowest: f64) {
        let middle = f64::midpoint(LEFT, RIGHT);
        drawing.texts.push(Text::new(self.across, (middle, lowest + 82.0), 24.0).anchored(Anchor::Middle));
    }
}

fn alphas(cells: &[Cell]) -> Vec<(f64, usize)> {
    let mut alphas: Vec<f64> = cells.iter().map(|cell| cell.alpha).collect();
    alphas.sort_by(|a, b| b.total_cmp(a));
    alphas.dedup();
    let few = alphas.len() <= marker::SHAPES;
    alphas.into_iter().enumerate().map(|(place, alpha)| (alpha, if few { place } else { 0 })).collect()
}

fn resolutions(cells: &[Cell]) -> Vec<(u32, Color)> {
    let mut resolutions: Vec<u32> = cells.iter().map(|cell| cell.resolution).collect();
    resolutions.sort_by(|a, b| b.cmp(a));
    resolutions.dedup();
    let count = resolutions.len();
    resolutions.into_iter().enumerate().map(|(place, resolution)| (resolution, palette::color(place, count))).collect()
}

/// The line through the finished cells and the places of those it is of: of cells that differ in other axes alone,
/// the best.
fn fitted(dots: &[Dot]) -> Option<(Fit, Vec<usize>)> {
    let mut members: Vec<usize> = Vec::new();
    for (place, dot) in dots.iter().enumerate().filter(|(_, dot)| !dot.hollow) {
        let same = |member: &usize| dots[*member].alpha == dot.alpha && dots[*member].resolution == dot.resolution;
        match members.iter().position(same) {
            None => members.push(place),
            Some(known) if dots[members[known]].accuracy < dot.accuracy => members[known] = place,
            Some(_) => {}
        }
    }
    let points: Vec<(f64, f64)> = members.iter().map(|place| (dots[*place].cost, dots[*place].accuracy)).collect();
    Some((fit::log_linear(&points)?, members))
}

/// The fitted line within the frame: straight, since the axis is logarithmic.
fn straight(fit: &Fit, across: &Axis, up: &Axis, frame: &Rect) -> Option<(Point, Point)> {
    let (from, to) = across.scale.range();
    let end = |cost: f64| (across.scale.at(cost), up.scale.at(fit.at(cost)));
    frame.clipped(end(from), end(to))
}

/// Marks the dots that nothing beats; the way through them.
fn front(dots: &mut [Dot]) -> Vec<Point> {
    let points: Vec<Option<(f64, f64)>> =
        dots.iter().map(|dot| (!dot.hollow).then_some((dot.cost, dot.accuracy))).collect();
    let places = pareto::front(&points);
    for place in &places {
        dots[*place].pareto = true;
    }
    places.into_iter().map(|place| dots[place].at).collect()
}

/// Through the dots of each ρ, by cost.
fn ways(dots: &[Dot]) -> Vec<(Vec<Point>, Color)> {
    let mut resolutions: Vec<u32> = dots.iter().map(|dot| dot.resolution).collect();
    resolutions.sort_unstable();
    resolutions.dedup();
    let way = |resolution: u32| {
        let mut members: Vec<&Dot> = dots.iter().filter(|dot| dot.resolution == resolution).collect();
        members.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let color = members.first()?.color;
        let apart = members.windows(2).all(|pair| pair[0].alpha != pair[1].alpha);
        (members.len() > 1 && apart).then(|| (members.iter().map(|dot| dot.at).collect(), color))
    };
    resolutions.into_iter().filter_map(way).collect()
}

fn obstacles(front: &[Point], line: Option<(Point, Point)>, ways: &[(Vec<Point>, Color)]) -> Vec<(Point, Point)> {
    let pairs = |points: &[Point]| points.windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>();
    let mut lines = pairs(front);
    lines.extend(line);
    lines.extend(ways.iter().flat_map(|(points, _)| pairs(points)));
    lines
}

fn watermark(drawing: &mut Drawing, frame: &Rect) {
    let middle = f64::midpoint(frame.left, frame.right);
    for (y, size) in [(frame.top + 200.0, 66.0), (frame.bottom - 170.0, 66.0)] {
        let mut text = Text::new("scripted: made-up numbers", (middle, y), size).anchored(Anchor::Middle);
        text.bold = true;
        text.opacity = 0.12;
        drawing.behind.push(text);
    }
}

fn empty(drawing: &mut Drawing, frame: &Rect, words: &str) {
    let middle = (f64::midpoint(frame.left, frame.right), f64::midpoint(frame.top, frame.bottom));
    drawing.texts.push(Text::new(words, middle, 28.0).anchored(Anchor::Middle).colored(GREY));
}

fn place_labels(
    letters: &Letters,
    dots: &[Dot],
    paper: &[Point],
    obstacles: &[(Point, Point)],
    frame: &Rect,
) -> Vec<Option<Placed>> {
    let all = dots.len() <= LABELS_MAX;
    let labelled: Vec<usize> = (0..dots.len()).filter(|dot| all || dots[*dot].pareto).take(LABELS_MAX).collect();
    let wanted: Vec<Wanted> = labelled
        .iter()
        .map(|dot| Wanted {
            at: dots[*dot].at,
            width: letters.width(&dots[*dot].name, LABEL, false) + 2.0,
            height: LABEL * Letters::CAP_HEIGHT + 4.0,
        })
        .collect();
    let markers: Vec<Point> = dots.iter().map(|dot| dot.at).chain(paper.iter().copied()).collect();
    let mut lines: Vec<(Point, Point)> = obstacles.to_vec();
    lines.extend(dots.iter().filter_map(|dot| dot.bar.map(|(from, to)| ((dot.at.0, from), (dot.at.0, to)))));
    let area = Rect { left: frame.left + 6.0, top: frame.top, right: frame.right, bottom: frame.bottom - 6.0 };
    let around = Surroundings { markers: &markers, radius: MARKER + 2.0, lines: &lines, area };
    let mut placed = vec![None; dots.len()];
    for (dot, place) in labelled.into_iter().zip(labels::place(&wanted, &around)) {
        placed[dot] = place;
    }
    placed
}

fn plot(drawing: &mut Drawing, dots: &[Dot], front: &[Point], placed: &[Option<Placed>]) {
    if front.len() > 1 {
        drawing.shapes.push(Shape::Line { points: front.to_vec(), width: 3.0, color: FRONT });
    }
    for leader in placed.iter().flatten().filter_map(|place| place.leader) {
        drawing.line(leader.0, leader.1, 1.2, GREY);
    }
    for dot in dots {
        if let Some(bar) = dot.bar {
            legend::bar(drawing, dot.at, bar, dot.color);
        }
    }
    for dot in dots {
        marker::draw(drawing, dot.shape, dot.at, MARKER, dot.color, dot.hollow);
    }
}

fn names(drawing: &mut Drawing, dots: &[Dot], placed: &[Option<Placed>]) {
    for (dot, place) in dots.iter().zip(placed) {
        let Some(Placed { place, .. }) = place else { continue };
        let mut text = Text::new(dot.name.clone(), (place.left + 1.0, place.bottom - 2.0), LABEL).colored(INK);
        text.rim = 2.5;
        drawing.texts.push(text);
    }
}
