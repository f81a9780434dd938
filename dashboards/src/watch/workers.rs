//! Who trains what, and how fast.

use super::hits::{Hit, Hits};
use super::model::{Measure, Model};
use super::paint::{Paper, scrolled, span};
use crate::format;
use proto::wire::{SlotStatus, WorkerStatus};
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

/// What the screen shows, besides the model.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkersState {
    /// Row under the cursor: a row for each slot.
    cursor: usize,
    first: usize,
    page: usize,
}

impl WorkersState {
    pub(super) fn key(&mut self, model: &Model, key: KeyCode) -> bool {
        let last = rows(model).count().saturating_sub(1);
        match key {
            KeyCode::Up | KeyCode::Char('k') => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.cursor = (self.cursor + 1).min(last),
            KeyCode::PageUp => self.cursor = self.cursor.saturating_sub(self.page.max(1)),
            KeyCode::PageDown => self.cursor = (self.cursor + self.page.max(1)).min(last),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = last,
            _ => return false,
        }
        true
    }

    pub(super) fn put_cursor(&mut self, row: usize) {
        self.cursor = row;
    }

    /// The worker under the cursor.
    pub(super) fn worker<'a>(&self, model: &'a Model) -> Option<&'a WorkerStatus> {
        rows(model).nth(self.cursor).map(|(worker, _)| worker)
    }

    /// The first trial of the slot under the cursor.
    pub(super) fn trial(&self, model: &Model) -> Option<u64> {
        rows(model).nth(self.cursor)?.1?.trials.first().copied()
    }

    pub(super) fn prepare(&mut self, model: &Model, area: Rect) {
        let count = rows(model).count();
        self.page = usize::from(area.height.saturating_sub(3));
        self.cursor = self.cursor.min(count.saturating_sub(1));
        self.first = scrolled(self.first, self.cursor, self.page, count);
    }
}

/// Each worker with each of its slots; one without slots once.
fn rows(model: &Model) -> impl Iterator<Item = (&WorkerStatus, Option<&SlotStatus>)> {
    model.workers.iter().flat_map(|worker| {
        let none = worker.slots.is_empty().then_some((worker, None));
        worker.slots.iter().map(move |slot| (worker, Some(slot))).chain(none)
    })
}

/// Draws it.
pub(super) struct WorkersView<'a> {
    pub(super) state: &'a WorkersState,
    pub(super) model: &'a Model,
    pub(super) now_ms: u64,
}

/// Head and width of each column, and how wide the screen must be for it.
const COLUMNS: [(&str, u16, u16); 10] = [
    ("worker", 17, 0),
    ("state", 13, 0),
    ("device", 7, 0),
    ("trains", 22, 0),
    ("images/s", 9, 0),
    ("GPU memory", 21, 120),
    ("busy", 6, 120),
    ("heard", 9, 0),
    ("lost/back", 11, 100),
    ("GPU", 24, 150),
];

impl WorkersView<'_> {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect, hits: &mut Hits) {
        let Self { state, model, .. } = self;
        let theme = paper.theme;
        let slots: usize = model.workers.iter().map(|worker| worker.slots.len()).sum();
        let busy = rows(model).filter(|(_, slot)| slot.is_some_and(|slot| !slot.trials.is_empty())).count();
        let title = Line::from(vec![
            span("workers", theme.strong()),
            span(format!(", {} with {slots} slots, {busy} busy", model.workers.len()), theme.faint()),
        ]);
        let inside = paper.frame(area, &title, &Line::default());
        let shown: Vec<(&'static str, u16)> =
            COLUMNS.iter().filter(|(_, _, from)| area.width >= *from).map(|(head, width, _)| (*head, *width)).collect();
        if model.workers.is_empty() {
            paper.put(inside, 1, 0, "nobody is attached", theme.ink());
            paper.put(
                inside,
                1,
                1,
                "alpharho-worker --coordinator URL, on a machine that can train, changes that",
                theme.faint(),
            );
            return;
        }
        let mut x = 1;
        for (head, width) in &shown {
            paper.put(inside, x, 0, head, theme.strong());
            x += width;
        }
        let mut before: Option<u64> = None;
        for (place, (worker, slot)) in rows(model).enumerate().skip(state.first).take(state.page) {
            let y = 1 + (place - state.first) as u16;
            let again = before == Some(worker.id);
            before = Some(worker.id);
            let mut x = 1;
            for (head, width) in &shown {
                let (words, style) = self.cell(paper, head, worker, slot, again);
                let cut: String = words.chars().take(usize::from(width.saturating_sub(1))).collect();
                paper.put(inside, x, y, &cut, style);
                x += width;
            }
            let line = Rect::new(inside.x, inside.y + y, inside.width, 1).intersection(inside);
            hits.add(line, Hit::Row(place));
            if place == state.cursor {
                paper.shine(line, theme.selected());
            }
        }
    }

    fn cell(
        &self,
        paper: &Paper<'_>,
        head: &str,
        worker: &WorkerStatus,
        slot: Option<&SlotStatus>,
        again: bool,
    ) -> (String, Style) {
        let theme = paper.theme;
        let once = |words: String, style: Style| if again { (String::new(), style) } else { (words, style) };
        let gone = (String::new(), theme.faint());
        match head {
            "worker" => once(format!("{} {:04x}", worker.host, worker.id >> 48), theme.ink()),
            "state" => {
                let style = if worker.state == "attached" { theme.good() } else { theme.warn() };
                once(worker.state.clone(), style)
            }
            "device" => (slot.map(|slot| slot.device.clone()).unwrap_or_default(), theme.ink()),
            "trains" => match slot {
                Some(slot) if !slot.trials.is_empty() => (self.doing(slot), theme.accent()),
                Some(_) => ("–".to_owned(), theme.faint()),
                None => gone,
            },
            "images/s" => (
                slot.and_then(|slot| self.speed(slot)).map(|rate| format::rate(Some(rate))).unwrap_or_default(),
                theme.ink(),
            ),
            "heard" => once(heard(self.now_ms, worker.last_seen_ms), theme.faint()),
            _ => self.more(paper, head, worker, slot, again),
        }
    }

    fn doing(&self, slot: &SlotStatus) -> String {
        let words = slot.trials.iter().map(|id| match self.model.by_id(*id) {
            Some(trial) => format!(
                "{} ({}-{}) {}/{}",
                trial.number,
                format::alpha(trial.alpha),
                trial.resolution,
                trial.epochs_done,
                trial.epochs
            ),
            None => "another sweep's".to_owned(),
        });
        let words = words.collect::<Vec<_>>().join(", ");
        if slot.replica > 0 { format!("{words}, replica {}", slot.replica) } else { words }
    }

    /// As the coordinator says; else of the last epochs of what is trained there.
    fn speed(&self, slot: &SlotStatus) -> Option<f64> {
        if slot.images_per_second > 0.0 {
            return Some(slot.images_per_second);
        }
        let rates = slot.trials.iter().filter_map(|id| self.model.by_id(*id)?.last.get(Measure::ImagesPerSecond));
        rates.reduce(|a, b| a + b)
    }

    /// What only wide screens have room for.
    fn more(
        &self,
        paper: &Paper<'_>,
        head: &str,
        worker: &WorkerStatus,
        slot: Option<&SlotStatus>,
        again: bool,
    ) -> (String, Style) {
        let theme = paper.theme;
        let gpu = slot.and_then(|slot| slot.gpu.as_ref());
        match head {
            "lost/back" if again => (String::new(), theme.faint()),
            "lost/back" => {
                let style = if worker.times_lost > 0 { theme.warn() } else { theme.faint() };
                (format!("{} / {}", worker.times_lost, worker.times_returned), style)
            }
            "GPU memory" => {
                let words = gpu.map(|gpu| {
                    format!("{} of {}", format::bytes(gpu.memory_used_bytes), format::bytes(gpu.memory_total_bytes))
                });
                (words.unwrap_or_default(), theme.ink())
            }
            "busy" => (gpu.map(|gpu| format!("{:.0} %", gpu.utilisation * 100.0)).unwrap_or_default(), theme.ink()),
            _ => (gpu.map(|gpu| gpu.name.clone()).unwrap_or_default(), theme.faint()),
        }
    }
}

/// `3 s ago`.
pub(super) fn heard(now_ms: u64, then_ms: u64) -> String {
    match now_ms.saturating_sub(then_ms) / 1_000 {
        _ if then_ms == 0 => "–".to_owned(),
        0..=1 => "now".to_owned(),
        seconds @ 2..=99 => format!("{seconds} s ago"),
        seconds @ 100..=5_999 => format!("{} m ago", seconds / 60),
        seconds @ 6_000..=172_799 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_since() {
        for (seconds, expected) in
            [(0, "now"), (5, "5 s ago"), (130, "2 m ago"), (7_200, "2 h ago"), (300_000, "3 d ago")]
        {
            assert_eq!(heard(1_000_000_000, 1_000_000_000 - seconds * 1_000), expected);
        }
        assert_eq!(heard(5, 0), "–");
        assert_eq!(heard(5, 900), "now");
    }
}
