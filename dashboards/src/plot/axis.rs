//! Axes of a frame: lines of the grid, ticks, words.

use super::drawing::{Anchor, Drawing, Shape, Text};
use super::labels::Rect;
use super::palette::{GRID, INK};
use super::scale::{self, Scale};

const TICK_WORDS: f64 = 21.0;

/// An axis: where values lie, where its ticks are, and what stands at them.
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) fine: Vec<f64>,
}

impl Axis {
    /// Upwards in a frame, with about `wanted` ticks, none outside `bounds`.
    pub(super) fn linear(low: f64, high: f64, wanted: u32, bounds: (f64, f64), frame: &Rect) -> Self {
        let (ticks, digits) = scale::ticks(low, high, wanted);
        let ticks = ticks.into_iter().filter(|tick| (bounds.0..=bounds.1).contains(tick));
        Self {
            scale: Scale::linear(low, high, frame.bottom, frame.top),
            ticks: ticks.map(|tick| (tick, signed(tick, digits))).collect(),
            fine: Vec::new(),
        }
    }
}

/// With a true minus, and no `-0`.
fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// `20 M`, `1.5 G`: a tick of a count.
pub(super) fn thousands(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, letter) = UNITS.into_iter().find(|(unit, _)| value >= *unit * 0.999_999).unwrap_or((1.0, ""));
    format!("{} {letter}", plain(value / unit)).trim_end().to_owned()
}

/// `0.25`, `20`: four digits at most.
pub(super) fn plain(value: f64) -> String {
    let digits = if value < 0.1 { 5 } else { 3 };
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The left and the lower side.
pub(super) fn corner(drawing: &mut Drawing, frame: &Rect) {
    let corners = [(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)];
    drawing.shapes.push(Shape::Line { points: corners.to_vec(), width: 2.0, color: INK });
}

/// Words along the left side.
pub(super) fn upwards(drawing: &mut Drawing, words: &str, frame: &Rect, size: f64) {
    let at = (frame.left - 100.0, f64::midpoint(frame.top, frame.bottom));
    let mut text = Text::new(words, at, size).anchored(Anchor::Middle);
    text.upwards = true;
    drawing.texts.push(text);
}

/// Lines, sides, ticks; the lower axis' words only if wanted: another frame below may share it.
pub(super) fn grid(drawing: &mut Drawing, frame: &Rect, across: &Axis, up: &Axis, words: bool) {
    for (tick, _) in &across.ticks {
        let x = across.scale.at(*tick);
        drawing.line((x, frame.top), (x, frame.bottom), 1.5, GRID);
    }
    for (tick, _) in &up.ticks {
        let y = up.scale.at(*tick);
        drawing.line((frame.left, y), (frame.right, y), 1.5, GRID);
    }
    corner(drawing, frame);
    for tick in &across.fine {
        let x = across.scale.at(*tick);
        drawing.line((x, frame.bottom), (x, frame.bottom + 6.0), 1.5, INK);
    }
    for (tick, number) in &across.ticks {
        let x = across.scale.at(*tick);
        drawing.line((x, frame.bottom), (x, frame.bottom + 11.0), 2.0, INK);
        if words {
            let at = (x, frame.bottom + 38.0);
            drawing.texts.push(Text::new(number.clone(), at, TICK_WORDS).anchored(Anchor::Middle));
        }
    }
    for (tick, words) in &up.ticks {
        let y = up.scale.at(*tick);
        drawing.line((frame.left - 9.0, y), (frame.left, y), 2.0, INK);
        drawing.texts.push(Text::new(words.clone(), (frame.left - 16.0, y + 7.5), TICK_WORDS).anchored(Anchor::End));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_read_well() {
        for (value, expected) in [(2e7, "20 M"), (1.5e9, "1.5 G"), (999.0, "999"), (1e6, "1 M"), (0.5, "0.5")] {
            assert_eq!(thousands(value), expected);
        }
        for (value, expected) in [(0.0005, "0.0005"), (0.25, "0.25"), (20.0, "20")] {
            assert_eq!(plain(value), expected);
        }
        assert_eq!((signed(-0.0, 1).as_str(), signed(-2.0, 0).as_str(), signed(1.5, 1).as_str()), ("0.0", "−2", "1.5"));
    }
}
