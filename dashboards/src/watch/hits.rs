//! What lies where on the screen, for the mouse.

use super::app::Screen;
use ratatui::layout::{Position, Rect};

/// What was clicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hit {
    /// The name of a screen.
    Screen(Screen),
    /// A cell, by its place in the model.
    Cell(usize),
    /// A row of a list, by its place in it.
    Row(usize),
    /// A line of a menu.
    Choice(usize),
}

/// What lies where, as drawn last.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits(Vec<(Rect, Hit)>);

impl Hits {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, area: Rect, hit: Hit) {
        self.0.push((area, hit));
    }

    /// What is there; what was drawn later lies above.
    pub(super) fn at(&self, x: u16, y: u16) -> Option<Hit> {
        self.0.iter().rev().find(|(area, _)| area.contains(Position { x, y })).map(|(_, hit)| *hit)
    }
}
