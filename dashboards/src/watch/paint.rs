//! Writing into a buffer that never leaves its area: every view draws through these.

use super::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Something to draw on.
pub(super) struct Paper<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) theme: Theme,
}

impl Paper<'_> {
    /// Writes words at a place within an area, cut at its right edge. Returns the width written.
    pub(super) fn put(&mut self, area: Rect, x: u16, y: u16, words: &str, style: Style) -> u16 {
        let Some((x, y, room)) = self.room(area, x, y) else { return 0 };
        self.buffer.set_stringn(x, y, words, usize::from(room), style).0 - x
    }

    /// Writes a styled line at a place within an area, cut at its right edge. Returns the width written.
    pub(super) fn line(&mut self, area: Rect, x: u16, y: u16, line: &Line<'_>) -> u16 {
        let Some((x, y, room)) = self.room(area, x, y) else { return 0 };
        self.buffer.set_line(x, y, line, room).0 - x
    }

    /// Writes words that end at the right edge; nothing if they do not fit.
    pub(super) fn put_right(&mut self, area: Rect, y: u16, line: &Line<'_>) {
        if let Some(x) = usize::from(area.width).checked_sub(line.width()) {
            self.line(area, x as u16, y, line);
        }
    }

    /// Lets a style shine over an area.
    pub(super) fn shine(&mut self, area: Rect, style: Style) {
        let area = area.intersection(self.buffer.area);
        self.buffer.set_style(area, style);
    }

    /// Moves what an area shows up by so many rows.
    pub(super) fn raise(&mut self, area: Rect, rows: u16) {
        let area = area.intersection(self.buffer.area);
        for y in 0..area.height {
            for x in 0..area.width {
                let from = self.buffer.cell((area.x + x, area.y.saturating_add(y).saturating_add(rows)));
                let cell = from.filter(|_| y + rows < area.height).cloned().unwrap_or_default();
                if let Some(to) = self.buffer.cell_mut((area.x + x, area.y + y)) {
                    *to = cell;
                }
            }
        }
    }

    /// Empties an area.
    pub(super) fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for position in area.positions() {
            if let Some(cell) = self.buffer.cell_mut(position) {
                cell.reset();
            }
        }
    }

    /// A frame with a title; what is left inside.
    pub(super) fn frame(&mut self, area: Rect, title: &Line<'_>, right: &Line<'_>) -> Rect {
        let area = area.intersection(self.buffer.area);
        if area.width < 2 || area.height < 2 {
            return Rect::new(area.x, area.y, 0, 0);
        }
        let rule = self.theme.rule();
        let (last_x, last_y) = (area.width - 1, area.height - 1);
        let across = "─".repeat(usize::from(area.width - 2));
        self.put(area, 1, 0, &across, rule);
        self.put(area, 1, last_y, &across, rule);
        for y in 1..last_y {
            self.put(area, 0, y, "│", rule);
            self.put(area, last_x, y, "│", rule);
        }
        for (x, y, corner) in [(0, 0, "╭"), (last_x, 0, "╮"), (0, last_y, "╰"), (last_x, last_y, "╯")] {
            self.put(area, x, y, corner, rule);
        }
        let top = Rect { x: area.x + 1, width: area.width - 2, height: 1, ..area };
        let mut taken = 0;
        if title.width() > 0 {
            taken = self.put(top, 1, 0, " ", rule);
            taken += self.line(top, 1 + taken, 0, title);
            taken += 1 + self.put(top, 1 + taken, 0, " ", rule);
        }
        if right.width() > 0 && usize::from(taken) + right.width() + 3 < usize::from(top.width) {
            let x = top.width - right.width() as u16 - 3;
            self.put(top, x, 0, " ", rule);
            self.line(top, x + 1, 0, right);
            self.put(top, x + 1 + right.width() as u16, 0, " ", rule);
        }
        Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 2 }
    }

    /// A bar of a share of 0 to 1.
    pub(super) fn bar(&mut self, area: Rect, x: u16, y: u16, width: u16, share: f64, style: Style) {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let full = (share * f64::from(width)).round() as usize;
        let rest = usize::from(width) - full;
        let done = self.put(area, x, y, &"█".repeat(full), style);
        self.put(area, x + done, y, &"░".repeat(rest), self.theme.rule());
    }

    /// Absolute place of a place within an area, and the columns from there.
    fn room(&self, area: Rect, x: u16, y: u16) -> Option<(u16, u16, u16)> {
        let area = area.intersection(self.buffer.area);
        if x >= area.width || y >= area.height {
            return None;
        }
        Some((area.x + x, area.y + y, area.width - x))
    }
}

/// The first rows of an area, and the rest.
pub(super) fn top(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    (Rect { height: rows, ..area }, Rect { y: area.y + rows, height: area.height - rows, ..area })
}

/// All but the last rows of an area, and these.
pub(super) fn bottom(area: Rect, rows: u16) -> (Rect, Rect) {
    top(area, area.height.saturating_sub(rows))
}

/// The first columns of an area, and the rest.
pub(super) fn left(area: Rect, columns: u16) -> (Rect, Rect) {
    let columns = columns.min(area.width);
    (Rect { width: columns, ..area }, Rect { x: area.x + columns, width: area.width - columns, ..area })
}

/// All but the last columns of an area, and these.
pub(super) fn right(area: Rect, columns: u16) -> (Rect, Rect) {
    left(area, area.width.saturating_sub(columns))
}

/// A smaller area in the middle.
pub(super) fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Words with a style.
pub(super) fn span(words: impl Into<String>, style: Style) -> Span<'static> {
    Span::styled(words.into(), style)
}

/// The first rows to show of `count`, so that `cursor` is among the `rows` shown and `first` moves no more than
/// needed.
pub(super) fn scrolled(first: usize, cursor: usize, rows: usize, count: usize) -> usize {
    let last_first = count.saturating_sub(rows);
    let first = first.min(cursor).max((cursor + 1).saturating_sub(rows.max(1)));
    first.min(last_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrolling_keeps_the_cursor_in_sight() {
        for (first, cursor, rows, count, expected) in
            [(0, 0, 5, 10, 0), (0, 5, 5, 10, 1), (4, 2, 5, 10, 2), (9, 9, 5, 10, 5), (3, 0, 5, 2, 0), (0, 3, 0, 9, 3)]
        {
            assert_eq!(scrolled(first, cursor, rows, count), expected, "{first} {cursor} {rows} {count}");
        }
    }

    #[test]
    fn areas_never_grow() {
        let area = Rect::new(3, 4, 5, 6);
        assert_eq!(top(area, 9), (area, Rect::new(3, 10, 5, 0)));
        assert_eq!(right(area, 2), (Rect::new(3, 4, 3, 6), Rect::new(6, 4, 2, 6)));
        assert_eq!(middle(area, 99, 2), Rect::new(3, 6, 5, 2));
    }
}
