//! Accuracy against Mult-Adds: what each cell costs, and what it is worth.

use super::drawing::{Anchor, Color, Drawing, HEIGHT, Point, Shape, Text, WIDTH};
use super::labels::{self, Placed, Rect, Surroundings, Wanted};
use super::legend::{self, Legend};
use super::lettering::Letters;
use super::palette::{self, FRONT, GREY, GRID, INK, WHITE};
use super::scale::{self, Scale};
use super::{PlotError, marker};
use crate::format;
use crate::view::{Cell, SweepView};

/// The frame of the plot itself.
const FRAME: Rect = Rect { left: 150.0, top: 130.0, right: 1260.0, bottom: 880.0 };
const MARKER: f64 = 11.0;
const LABEL: f64 = 19.0;
/// With more cells than this only the front is labelled.
const LABELS_MAX: usize = 40;

/// The figure of a sweep: best top-1 accuracy against Mult-Adds on a logarithmic axis, a colour for each ρ, a
/// marker for each α, the Pareto front of the finished cells as a line. Cells of several seeds are drawn at their
/// mean, with a bar from least to most; cells that are not finished are hollow.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn tradeoff(view: &SweepView) -> Result<Drawing, PlotError> {
    let letters = Letters::new()?;
    let mut drawing = Drawing { title: title(view), ..Drawing::default() };
    let cells: Vec<Cell> = view.cells();
    let mut dots = dots(&cells);
    let axes = axes(&dots);
    head(&mut drawing, view);
    if view.scripted {
        watermark(&mut drawing);
    }
    let Some((across, up)) = axes else {
        frame(&mut drawing);
        empty(&mut drawing);
        return Ok(drawing);
    };
    grid(&mut drawing, &across, &up);
    for dot in &mut dots {
        dot.at = (across.scale.at(dot.cost), up.scale.at(dot.accuracy));
        dot.bar = dot.spread.map(|(least, most)| (up.scale.at(least), up.scale.at(most)));
    }
    let front = front(&dots);
    let placed = place_labels(&letters, &dots, &front);
    plot(&mut drawing, &dots, &front, &placed);
    names(&mut drawing, &dots, &placed);
    let shapes = alphas(&cells);
    let legend = Legend {
        alphas: if shapes.len() <= marker::SHAPES { &shapes } else { &[] },
        resolutions: &resolutions(&cells),
        front: front.len() > 1,
        bars: dots.iter().any(|dot| dot.spread.is_some()),
        hollow: dots.iter().any(|dot| dot.hollow),
        unlabelled: placed.iter().filter(|place| place.is_none()).count(),
    };
    legend::draw(&mut drawing, &legend, FRAME.right + 40.0, FRAME.top + 20.0);
    Ok(drawing)
}

/// A cell on the page.
struct Dot {
    cost: f64,
    accuracy: f64,
    spread: Option<(f64, f64)>,
    name: String,
    color: Color,
    shape: usize,
    hollow: bool,
    pareto: bool,
    at: Point,
    bar: Option<(f64, f64)>,
}

/// An axis: where values lie, where its ticks are, and what stands at them.
struct Axis {
    scale: Scale,
    ticks: Vec<(f64, String)>,
    fine: Vec<f64>,
}

fn title(view: &SweepView) -> String {
    let scripted = if view.scripted { " (scripted: made-up numbers)" } else { "" };
    format!("{}: accuracy against Mult-Adds{scripted}", view.name)
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

fn dots(cells: &[Cell]) -> Vec<Dot> {
    let shapes = alphas(cells);
    let colors = resolutions(cells);
    let dot = |cell: &Cell| {
        Some(Dot {
            cost: (cell.mult_adds.max(1)) as f64,
            accuracy: cell.mean()? * 100.0,
            spread: cell.spread().map(|(least, most)| (least * 100.0, most * 100.0)),
            name: format!("{}-{}", format::alpha(cell.alpha), cell.resolution),
            color: colors.iter().find(|(value, _)| *value == cell.resolution).map_or(INK, |(_, color)| *color),
            shape: shapes.iter().find(|(value, _)| *value == cell.alpha).map_or(0, |(_, shape)| *shape),
            hollow: !cell.completed,
            pareto: cell.pareto,
            at: (0.0, 0.0),
            bar: None,
        })
    };
    cells.iter().filter_map(dot).collect()
}

fn axes(dots: &[Dot]) -> Option<(Axis, Axis)> {
    let (low, high) = scale::around(dots.iter().map(|dot| dot.cost.log10()), 0.5, 0.08)?;
    let (from, to) = (10f64.powf(low), 10f64.powf(high));
    let (named, fine) = scale::log_ticks(from, to);
    let across = Axis {
        scale: Scale::log(from, to, FRAME.left, FRAME.right),
        ticks: named.into_iter().map(|tick| (tick, short(tick))).collect(),
        fine,
    };
    let values = dots.iter().flat_map(|dot| {
        let (least, most) = dot.spread.unwrap_or((dot.accuracy, dot.accuracy));
        [least, most]
    });
    let (low, high) = scale::around(values, 1.0, 0.1)?;
    // An accuracy is a share: no axis below 0 or above 100 %, but markers at the ends stay whole.
    let (low, high) = (low.max(-1.0), high.min(101.0));
    let (ticks, digits) = scale::ticks(low, high, 7);
    let up = Axis {
        scale: Scale::linear(low, high, FRAME.bottom, FRAME.top),
        ticks: ticks
            .into_iter()
            .filter(|tick| (0.0..=100.0).contains(tick))
            .map(|tick| (tick, format!("{tick:.digits$}")))
            .collect(),
        fine: Vec::new(),
    };
    Some((across, up))
}

/// `20 M`, `1.5 G`: a tick of Mult-Adds.
fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, letter) = UNITS.into_iter().find(|(unit, _)| value >= *unit * 0.999_999).unwrap_or((1.0, ""));
    let text = format!("{:.3}", value / unit);
    format!("{} {letter}", text.trim_end_matches('0').trim_end_matches('.')).trim_end().to_owned()
}

fn head(drawing: &mut Drawing, view: &SweepView) {
    let mut name = Text::new(view.name.clone(), (FRAME.left, 62.0), 34.0);
    name.bold = true;
    drawing.texts.push(name);
    let mut facts = Vec::new();
    if !view.data.is_empty() {
        facts.push(view.data.clone());
    }
    facts.push(view.epochs_words());
    facts.push(view.standing());
    drawing.texts.push(Text::new(facts.join("  ·  "), (FRAME.left, 100.0), 20.0).colored(GREY));
    let middle = f64::midpoint(FRAME.left, FRAME.right);
    drawing.texts.push(
        Text::new("Mult-Adds of one image (logarithmic)", (middle, HEIGHT - 42.0), 24.0).anchored(Anchor::Middle),
    );
    let mut up = Text::new(
        "Top-1 accuracy on the validation set, best epoch (%)",
        (50.0, f64::midpoint(FRAME.top, FRAME.bottom)),
        24.0,
    )
    .anchored(Anchor::Middle);
    up.upwards = true;
    drawing.texts.push(up);
}

fn watermark(drawing: &mut Drawing) {
    let middle = f64::midpoint(FRAME.left, FRAME.right);
    for (y, size) in [(FRAME.top + 200.0, 66.0), (FRAME.bottom - 170.0, 66.0)] {
        let mut text = Text::new("scripted: made-up numbers", (middle, y), size).anchored(Anchor::Middle);
        text.bold = true;
        text.opacity = 0.12;
        drawing.behind.push(text);
    }
}

fn frame(drawing: &mut Drawing) {
    let corners = [(FRAME.left, FRAME.top), (FRAME.left, FRAME.bottom), (FRAME.right, FRAME.bottom)];
    drawing.shapes.push(Shape::Line { points: corners.to_vec(), width: 2.0, color: INK });
}

fn empty(drawing: &mut Drawing) {
    let middle = (f64::midpoint(FRAME.left, FRAME.right), f64::midpoint(FRAME.top, FRAME.bottom));
    drawing
        .texts
        .push(Text::new("No trial has finished an epoch yet", middle, 28.0).anchored(Anchor::Middle).colored(GREY));
}

fn grid(drawing: &mut Drawing, across: &Axis, up: &Axis) {
    for (tick, _) in &across.ticks {
        let x = across.scale.at(*tick);
        drawing.line((x, FRAME.top), (x, FRAME.bottom), 1.5, GRID);
    }
    for (tick, _) in &up.ticks {
        let y = up.scale.at(*tick);
        drawing.line((FRAME.left, y), (FRAME.right, y), 1.5, GRID);
    }
    frame(drawing);
    for tick in &across.fine {
        let x = across.scale.at(*tick);
        drawing.line((x, FRAME.bottom), (x, FRAME.bottom + 6.0), 1.5, INK);
    }
    for (tick, words) in &across.ticks {
        let x = across.scale.at(*tick);
        drawing.line((x, FRAME.bottom), (x, FRAME.bottom + 11.0), 2.0, INK);
        drawing.texts.push(Text::new(words.clone(), (x, FRAME.bottom + 38.0), 21.0).anchored(Anchor::Middle));
    }
    for (tick, words) in &up.ticks {
        let y = up.scale.at(*tick);
        drawing.line((FRAME.left - 9.0, y), (FRAME.left, y), 2.0, INK);
        drawing.texts.push(Text::new(words.clone(), (FRAME.left - 16.0, y + 7.5), 21.0).anchored(Anchor::End));
    }
}

fn front(dots: &[Dot]) -> Vec<Point> {
    let mut front: Vec<Point> = dots.iter().filter(|dot| dot.pareto).map(|dot| dot.at).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    front
}

fn place_labels(letters: &Letters, dots: &[Dot], front: &[Point]) -> Vec<Option<Placed>> {
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
    let markers: Vec<Point> = dots.iter().map(|dot| dot.at).collect();
    let mut lines: Vec<(Point, Point)> = front.windows(2).map(|pair| (pair[0], pair[1])).collect();
    lines.extend(dots.iter().filter_map(|dot| dot.bar.map(|(from, to)| ((dot.at.0, from), (dot.at.0, to)))));
    let area = Rect { left: FRAME.left + 6.0, top: FRAME.top, right: FRAME.right, bottom: FRAME.bottom - 6.0 };
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
    debug_assert!(dots.iter().all(|dot| dot.at.0 <= WIDTH && dot.color != WHITE), "dots lie on the page");
}

fn names(drawing: &mut Drawing, dots: &[Dot], placed: &[Option<Placed>]) {
    for (dot, place) in dots.iter().zip(placed) {
        let Some(Placed { place, .. }) = place else { continue };
        let mut text = Text::new(dot.name.clone(), (place.left + 1.0, place.bottom - 2.0), LABEL).colored(INK);
        text.rim = 2.5;
        drawing.texts.push(text);
    }
}
