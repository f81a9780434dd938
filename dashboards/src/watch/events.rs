//! What happened, newest last.

use super::model::{Happened, Model, Tone};
use super::paint::{Paper, span};
use super::tradeoff_cell::wrapped;
use crate::format;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// What the screen shows, besides the model.
#[derive(Clone, Debug, Default)]
pub(super) struct EventsState {
    /// Words that a line must have.
    pub(super) filter: String,
    /// Lines between the last one shown and the newest.
    back: usize,
    page: usize,
}

impl EventsState {
    pub(super) fn key(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Up | KeyCode::Char('k') => self.back += 1,
            KeyCode::Down | KeyCode::Char('j') => self.back = self.back.saturating_sub(1),
            KeyCode::PageUp => self.back += self.page.max(1),
            KeyCode::PageDown => self.back = self.back.saturating_sub(self.page.max(1)),
            KeyCode::Home => self.back = usize::MAX / 2,
            KeyCode::End => self.back = 0,
            _ => return false,
        }
        true
    }

    pub(super) fn prepare(&mut self, model: &Model, area: Rect) {
        self.page = usize::from(area.height.saturating_sub(2));
        self.back = self.back.min(self.lines(model).count().saturating_sub(self.page));
    }

    /// Newest first.
    fn lines<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a Happened> {
        let needles: Vec<String> = self.filter.split_whitespace().map(str::to_lowercase).collect();
        model.lines.iter().rev().filter(move |line| {
            needles.is_empty() || {
                let text = format!("{} {}", name(model, line), line.words).to_lowercase();
                needles.iter().all(|needle| text.contains(needle.as_str()))
            }
        })
    }
}

/// `trial 3 (0.75-160)`, or nothing.
fn name(model: &Model, line: &Happened) -> String {
    let found = model.trials.get((line.number as usize).wrapping_sub(1)).filter(|trial| trial.number == line.number);
    match found {
        Some(trial) => format!("trial {} ({}-{})", trial.number, format::alpha(trial.alpha), trial.resolution),
        None if line.number > 0 => format!("trial {}", line.number),
        None => String::new(),
    }
}

/// Draws it.
pub(super) struct EventsView<'a> {
    pub(super) state: &'a EventsState,
    pub(super) model: &'a Model,
}

impl EventsView<'_> {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect) {
        let Self { state, model } = self;
        let theme = paper.theme;
        let title = Line::from(vec![
            span("events", theme.strong()),
            span(format!(", {} kept, newest last", model.lines.len()), theme.faint()),
        ]);
        let right = match (state.filter.is_empty(), state.back) {
            (false, _) => span(format!("filter: {}", state.filter), theme.warn()),
            (true, 0) => span("", theme.faint()),
            (true, back) => span(format!("{back} newer below (End)"), theme.warn()),
        };
        let inside = paper.frame(area, &title, &Line::from(right));
        let rows = usize::from(inside.height);
        let shown: Vec<&Happened> = state.lines(model).skip(state.back).take(rows).collect();
        if shown.is_empty() {
            let words =
                if state.filter.is_empty() { "nothing happened yet" } else { "no event has all of these words" };
            paper.put(inside, 1, 0, words, theme.faint());
        }
        // The width of the longest name, so that words stand below each other.
        let width = shown.iter().map(|line| name(model, line).chars().count()).max().unwrap_or(0);
        // From the newest upwards: long ones take several lines.
        let mut below = rows as u16;
        for line in &shown {
            let time = format::time(line.time_ms);
            let time = if inside.width >= 140 { time.as_str() } else { time.get(11..19).unwrap_or(&time) };
            let style = match line.tone {
                Tone::Plain => theme.ink(),
                Tone::Good => theme.good(),
                Tone::Warn => theme.warn(),
                Tone::Bad => theme.bad(),
            };
            let mut head = format!(" {time}  ");
            if width > 0 {
                head.push_str(&format!("{:<width$}  ", name(model, line)));
            }
            let indent = head.chars().count() as u16;
            let words = wrapped(&line.words, usize::from(inside.width.saturating_sub(indent)));
            let height = words.len().max(1) as u16;
            let Some(y) = below.checked_sub(height) else { break };
            paper.put(inside, 0, y, &head, theme.faint());
            for (row, words) in words.iter().enumerate() {
                paper.put(inside, indent, y + row as u16, words, style);
            }
            below = y;
        }
        // Few of them stand at the top.
        if below > 0 && shown.len() < rows {
            paper.raise(inside, below);
        }
    }
}
