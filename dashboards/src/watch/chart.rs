//! Lines and points on two axes, in braille or in ASCII.

use super::paint::{Paper, bottom, left};
use crate::plot::scale;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Values to places along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) log: bool,
}

impl Axis {
    /// Around the values with a little room; `least` is the smallest width of a linear axis. A logarithmic axis
    /// leaves out what is not positive.
    pub(super) fn around(values: impl Iterator<Item = f64>, log: bool, least: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (!log || *value > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        if log {
            let room = ((high / low).log10() * 0.06).max(0.05);
            return Some(Self { from: low / 10f64.powf(room), to: high * 10f64.powf(room), log });
        }
        let middle = f64::midpoint(low, high);
        let half = ((high - low) * 0.56).max(least / 2.0).max(middle.abs() * 1e-9).max(1e-12);
        Some(Self { from: middle - half, to: middle + half, log })
    }

    /// 0 at the start of the axis, 1 at its end; values outside lie outside.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        let share = if self.log {
            (value.log10() - self.from.log10()) / (self.to.log10() - self.from.log10())
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.is_finite().then_some(share)
    }

    fn ticks(&self, wanted: u32) -> (Vec<f64>, usize) {
        if self.log { (scale::log_ticks(self.from, self.to).0, 0) } else { scale::ticks(self.from, self.to, wanted) }
    }
}

/// What a tick says.
pub(super) type TickWords<'a> = &'a dyn Fn(f64, usize) -> String;

/// A chart being drawn.
pub(super) struct Chart {
    /// Where the data goes.
    pub(super) area: Rect,
    x: Axis,
    y: Axis,
    dots: Vec<u8>,
    styles: Vec<Style>,
}

impl Chart {
    /// Draws the axes and leaves the rest for data. `None` if there is no room for any.
    pub(super) fn new(
        paper: &mut Paper<'_>,
        area: Rect,
        (x, x_words): (Axis, TickWords<'_>),
        (y, y_words): (Axis, TickWords<'_>),
    ) -> Option<Self> {
        let (y_ticks, digits) = y.ticks((u32::from(area.height) * 2 / 5).max(2));
        let labels: Vec<(f64, String)> = y_ticks.iter().map(|tick| (*tick, y_words(*tick, digits))).collect();
        let width = labels.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0) as u16 + 1;
        let (margin, rest) = left(area, width + 1);
        let (inside, foot) = bottom(rest, 2);
        if inside.width < 4 || inside.height < 2 || foot.height < 2 {
            return None;
        }
        let (rule, faint) = (paper.theme.rule(), paper.theme.faint());
        for row in 0..inside.height {
            paper.put(margin, width, row, "│", rule);
        }
        for (tick, label) in labels {
            let Some(row) = y.share(tick).and_then(|share| row_of(share, inside.height)) else { continue };
            let x = width.saturating_sub(1 + label.chars().count() as u16);
            paper.put(margin, x, row, &label, faint);
            paper.put(margin, width, row, "┤", rule);
        }
        paper.put(margin, width, inside.height, "└", rule);
        paper.put(foot, 0, 0, &"─".repeat(usize::from(foot.width)), rule);
        let (x_ticks, digits) = x.ticks((u32::from(area.width) / 9).max(2));
        let mut free_from = 0;
        for tick in x_ticks {
            let label = x_words(tick, digits);
            let half = label.chars().count() as u16 / 2;
            let Some(column) = x.share(tick).and_then(|share| column_of(share, inside.width)) else { continue };
            paper.put(foot, column, 0, "┴", rule);
            let begins = column.saturating_sub(half);
            let ends = begins + label.chars().count() as u16;
            if begins >= free_from && ends <= foot.width {
                paper.put(foot, begins, 1, &label, faint);
                free_from = ends + 1;
            }
        }
        let count = usize::from(inside.width) * usize::from(inside.height);
        Some(Self { area: inside, x, y, dots: vec![0; count], styles: vec![Style::new(); count] })
    }

    /// The character cell of a point, within [`Self::area`]; `None` outside.
    pub(super) fn cell(&self, x: f64, y: f64) -> Option<(u16, u16)> {
        let column = column_of(self.x.share(x)?, self.area.width)?;
        let row = row_of(self.y.share(y)?, self.area.height)?;
        Some((column, row))
    }

    /// One dot.
    pub(super) fn dot(&mut self, x: f64, y: f64, style: Style) {
        if let (Some(x), Some(y)) = (self.x.share(x), self.y.share(y)) {
            let (wide, high) = self.size();
            self.set((x * (wide - 1.0)).round(), ((1.0 - y) * (high - 1.0)).round(), style);
        }
    }

    /// A line from point to point; `gap` leaves every so many dots out (0: none).
    pub(super) fn line(&mut self, points: &[(f64, f64)], gap: u32, style: Style) {
        let (wide, high) = self.size();
        let place = |(x, y): (f64, f64)| {
            let (x, y) = (self.x.share(x)?, self.y.share(y)?);
            // Far outside is as good as a little outside, and keeps the walk short.
            Some((x.clamp(-4.0, 5.0) * (wide - 1.0), (1.0 - y.clamp(-4.0, 5.0)) * (high - 1.0)))
        };
        let places: Vec<Option<(f64, f64)>> = points.iter().map(|point| place(*point)).collect();
        let mut walked: u32 = 0;
        for pair in places.windows(2) {
            let (Some(from), Some(to)) = (pair[0], pair[1]) else { continue };
            let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0) as u32;
            for step in 0..=steps {
                walked += 1;
                if gap > 0 && walked % (2 * gap) >= gap {
                    continue;
                }
                let way = f64::from(step) / f64::from(steps);
                let (x, y) = (from.0 + (to.0 - from.0) * way, from.1 + (to.1 - from.1) * way);
                self.set(x.round(), y.round(), style);
            }
        }
    }

    /// Puts lines and dots on the paper; signs are written over them afterwards.
    pub(super) fn finish(&self, paper: &mut Paper<'_>) {
        let width = usize::from(self.area.width);
        for (place, dots) in self.dots.iter().enumerate().filter(|(_, dots)| **dots != 0) {
            let (x, y) = ((place % width) as u16, (place / width) as u16);
            let sign = if paper.theme.ascii {
                if dots & 0b0010_0100 != 0 && dots.count_ones() > 1 { ':' } else { '.' }
            } else {
                char::from_u32(0x2800 + u32::from(*dots)).unwrap_or('.')
            };
            paper.put(self.area, x, y, sign.encode_utf8(&mut [0; 4]), self.styles[place]);
        }
    }

    /// Dots across and down: 2 × 4 in a character.
    fn size(&self) -> (f64, f64) {
        (f64::from(self.area.width) * 2.0, f64::from(self.area.height) * 4.0)
    }

    fn set(&mut self, x: f64, y: f64, style: Style) {
        let (wide, high) = self.size();
        if !(0.0..wide).contains(&x) || !(0.0..high).contains(&y) {
            return;
        }
        let (x, y) = (x as usize, y as usize);
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let place = y / 4 * usize::from(self.area.width) + x / 2;
        self.dots[place] |= BITS[y % 4][x % 2];
        self.styles[place] = style;
    }
}

/// The character that holds the dot of a share of the width; the same dot that a line through it has.
fn column_of(share: f64, width: u16) -> Option<u16> {
    place_of(share, width, 2)
}

fn row_of(share: f64, height: u16) -> Option<u16> {
    place_of(1.0 - share, height, 4)
}

fn place_of(share: f64, characters: u16, dots: u16) -> Option<u16> {
    let count = f64::from(characters) * f64::from(dots);
    let dot = (share * (count - 1.0)).round();
    (0.0..count).contains(&dot).then_some(dot as u16 / dots)
}

/// The heights of a row of bars, oldest first, over the values' own range; few values get broader bars.
pub(super) fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &values[values.len().saturating_sub(width)..];
    let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: &f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    let broad = (width / shown.len().max(1)).clamp(1, 3);
    shown.iter().filter(|value| value.is_finite()).flat_map(|value| std::iter::repeat_n(bar(value), broad)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::theme::{Depth, Theme};
    use ratatui::buffer::Buffer;

    fn drawn(width: u16, height: u16, ascii: bool) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let mut paper = Paper { buffer: &mut buffer, theme: Theme { depth: Depth::Plain, ascii } };
        let x = Axis { from: 1e6, to: 1e9, log: true };
        let y = Axis { from: 0.0, to: 10.0, log: false };
        let words = |value: f64, digits: usize| format!("{value:.digits$}");
        let mega = |value: f64, _: usize| format!("{}M", value / 1e6);
        if let Some(mut chart) = Chart::new(&mut paper, area, (x, &mega), (y, &words)) {
            chart.line(&[(1e6, 0.0), (1e9, 10.0)], 0, Style::new());
            chart.dot(1e7, 9.0, Style::new());
            // Nothing of these is a place.
            chart.dot(-1.0, 5.0, Style::new());
            chart.line(&[(1e7, f64::NAN), (1e8, 1e300), (f64::INFINITY, 0.0)], 1, Style::new());
            chart.finish(&mut paper);
        }
        paper.theme.finish(&mut buffer);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let expected =
            ["10 ┤    ⠠      ⢀⡠⠊", "   │         ⢀⠔⠁", "   │       ⡠⠒⠁", " 5 ┤    ⢀⠤⠊", "   │  ⢀⠔⠁", " 0 ┤⡠⠊⠁"];
        let lines = drawn(18, 8, false);
        assert_eq!(lines[..6], expected);
        assert!(lines[6].starts_with("   └┴"), "{lines:#?}");
        assert!(lines[7].contains("1M") && lines[7].contains("10M"), "{lines:#?}");
    }

    #[test]
    fn ascii_is_ascii() {
        for line in drawn(30, 10, true) {
            assert!(line.is_ascii(), "{line}");
        }
    }

    #[test]
    fn without_room_nothing_is_drawn() {
        for (width, height) in [(1, 1), (3, 9), (9, 3), (7, 3)] {
            drawn(width, height, false);
        }
        assert!(drawn(5, 3, false).iter().all(String::is_empty));
    }

    #[test]
    fn sparklines_show_the_newest() {
        assert_eq!(sparkline(&[9.0, 0.0, 1.0, 2.0], 3), "▁▅█");
        assert_eq!(sparkline(&[5.0, 5.0], 8), "▅▅▅▅▅▅");
        assert_eq!(sparkline(&[5.0, 6.0], 4), "▁▁██");
        assert_eq!(sparkline(&[], 8), "");
    }
}
