//! The whole screen: what stands above and below every panel, and the panel between.

use super::app::{SCREENS, Screen, Watch};
use super::dialog::Dialog;
use super::events::EventsView;
use super::grid::{GridView, sign, tint};
use super::hits::Hit;
use super::input::Link;
use super::model::STANDINGS;
use super::paint::{Paper, bottom, middle, span, top};
use super::tradeoff::TradeoffView;
use super::trial::TrialView;
use super::workers::{WorkersView, heard};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

/// The least that the screens are made for.
const COLUMNS_MIN: u16 = 60;
const ROWS_MIN: u16 = 16;

impl Watch {
    /// Draws it all.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let theme = self.setup.theme;
        self.hits.clear();
        if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
            let mut paper = Paper { buffer: frame.buffer_mut(), theme };
            too_small(&mut paper, area);
        } else {
            let mut hits = std::mem::take(&mut self.hits);
            let (head, rest) = top(area, 2);
            let (panel, foot) = bottom(rest, 1);
            self.prepare(panel);
            let mut paper = Paper { buffer: frame.buffer_mut(), theme };
            self.head(&mut paper, head, &mut hits);
            self.panel(&mut paper, panel, &mut hits);
            self.foot(&mut paper, foot);
            if self.dialog != Dialog::None && !matches!(self.dialog, Dialog::Filter { .. }) {
                // What lies under it is not to be clicked.
                hits.clear();
            }
            self.dialog.draw(&mut paper, panel, self.screen, self.setup.read_only, &mut hits);
            self.hits = hits;
        }
        theme.finish(frame.buffer_mut());
        self.drawn();
    }

    fn prepare(&mut self, panel: Rect) {
        match self.screen {
            Screen::Grid => self.grid.prepare(&self.model, panel),
            Screen::Workers => self.workers.prepare(&self.model, panel),
            Screen::Events => self.events.prepare(&self.model, panel),
            Screen::Tradeoff | Screen::Trial => {}
        }
    }

    fn panel(&self, paper: &mut Paper<'_>, area: Rect, hits: &mut super::hits::Hits) {
        let model = &self.model;
        if model.name.is_empty() {
            paper.put(area, 2, 1, "asking the coordinator …", paper.theme.faint());
            return;
        }
        match self.screen {
            Screen::Tradeoff => TradeoffView { state: &self.tradeoff, model }.draw(paper, area, hits),
            Screen::Grid => GridView { state: &self.grid, model }.draw(paper, area, hits),
            Screen::Trial => {
                TrialView { model, detail: self.detail.as_ref(), now_ms: self.now_ms }.draw(paper, area);
            }
            Screen::Workers => {
                WorkersView { state: &self.workers, model, now_ms: self.now_ms }.draw(paper, area, hits);
            }
            Screen::Events => EventsView { state: &self.events, model }.draw(paper, area),
        }
    }

    /// Which sweep, which screens, whether the coordinator is there; then how far it is.
    fn head(&self, paper: &mut Paper<'_>, area: Rect, hits: &mut super::hits::Hits) {
        let theme = paper.theme;
        let link = self.link_words(paper);
        let room = usize::from(area.width).saturating_sub(link.width() + 2);
        let gap = u16::from(area.width >= 100);
        let tabs_width: usize = SCREENS.iter().map(|(_, name)| name.len() + 4 + usize::from(gap)).sum();
        let name_room = room.saturating_sub(tabs_width);
        let mut name: String = self.model.name.chars().take(name_room.saturating_sub(3)).collect();
        if name.chars().count() < self.model.name.chars().count() && !name.is_empty() {
            name.pop();
            name.push('…');
        }
        let mut x = paper.put(area, 0, 0, &format!(" {name} "), theme.strong());
        for (place, (screen, title)) in SCREENS.iter().enumerate() {
            let words = format!(" {} {title} ", place + 1);
            let style = if *screen == self.screen {
                theme.accent().add_modifier(Modifier::REVERSED | Modifier::BOLD)
            } else {
                theme.ink()
            };
            let width = paper.put(area, x, 0, &words, style);
            hits.add(Rect::new(area.x + x, area.y, width, 1), Hit::Screen(*screen));
            x += width + gap;
        }
        if usize::from(x) + link.width() < usize::from(area.width) {
            paper.put_right(area, 0, &link);
        }
        self.progress(paper, area);
    }

    fn progress(&self, paper: &mut Paper<'_>, area: Rect) {
        let theme = paper.theme;
        let model = &self.model;
        let share = model.progress();
        paper.bar(area, 1, 1, 16, share, theme.good());
        let mut spans: Vec<Span<'_>> = vec![span(format!("{:>4.0} %  ", share * 100.0), theme.ink())];
        for standing in STANDINGS {
            let count = model.count(standing);
            if count > 0 {
                let words = format!("{} {count} {}  ", sign(standing), standing.word());
                spans.push(span(words, tint(theme, standing)));
            }
        }
        if model.paused {
            spans.push(span("‖ the sweep is paused  ", theme.warn()));
        }
        if model.scripted {
            spans.push(span("[scripted: made-up numbers]  ", theme.warn()));
        }
        if let Some(limit) = model.concurrent_max {
            spans.push(span(format!("at most {limit} at a time  "), theme.faint()));
        }
        let used: usize = spans.iter().map(Span::width).sum();
        if !model.data.is_empty() && 18 + used + model.data.chars().count() + 3 <= usize::from(area.width) {
            spans.push(span(format!("· {}", model.data), theme.faint()));
        }
        paper.line(area, 18, 1, &Line::from(spans));
    }

    fn link_words(&self, paper: &Paper<'_>) -> Line<'static> {
        let theme = paper.theme;
        match &self.link {
            Link::Away { since_ms, .. } => {
                Line::from(span(format!("✗ away since {} ", heard(self.now_ms, *since_ms)), theme.bad()))
            }
            Link::Live if self.model.name.is_empty() => Line::from(span("… ", theme.faint())),
            Link::Live if self.model.is_over() => Line::from(span("■ over ", theme.faint())),
            Link::Live if self.setup.embedded => Line::from(span("○ nobody trains ", theme.warn())),
            Link::Live => Line::from(span("● live ", theme.good())),
        }
    }

    fn foot(&self, paper: &mut Paper<'_>, area: Rect) {
        let theme = paper.theme;
        if let Dialog::Filter { .. } = self.dialog {
            let words = if self.screen == Screen::Events { &self.events.filter } else { &self.grid.table.filter };
            let line = Line::from(vec![
                span(" / ", theme.accent()),
                span(format!("{words}_"), theme.strong()),
                span("   all of these words; Enter keeps it, Esc undoes it", theme.faint()),
            ]);
            paper.line(area, 0, 0, &line);
            return;
        }
        if let Link::Away { why, .. } = &self.link {
            let words = format!(" the coordinator is away: {why}; this is what was known, and it is tried again");
            paper.put(area, 0, 0, &words, theme.bad());
            return;
        }
        if let Some((words, bad, _)) = &self.note {
            paper.put(area, 1, 0, words, if *bad { theme.bad() } else { theme.good() });
            return;
        }
        let own: &[(&str, &str)] = match self.screen {
            Screen::Tradeoff => &[("x y", "axes"), ("g", "lines"), ("f", "fit"), ("arrows", "walk"), ("Enter", "open")],
            Screen::Grid if self.grid.shows_table => {
                &[("s S", "sort"), ("b", "best"), ("/", "filter"), ("t", "matrix"), ("Enter", "open")]
            }
            Screen::Grid => &[("m", "heat"), ("t", "table"), ("arrows", "walk"), ("Enter", "open")],
            Screen::Trial => &[("← →", "other trials"), ("Esc", "grid")],
            Screen::Workers => &[("arrows", "walk"), ("Enter", "open")],
            Screen::Events => &[("/", "filter"), ("End", "newest")],
        };
        let act: &[(&str, &str)] = if self.setup.read_only { &[] } else { &[("a", "act")] };
        let all = own.iter().chain(act).chain(&[("?", "keys"), ("q", "leave")]);
        let mut spans = Vec::new();
        for (key, words) in all {
            spans.push(span(format!(" {key}"), theme.accent()));
            spans.push(span(format!(" {words} "), theme.faint()));
        }
        paper.line(area, 0, 0, &Line::from(spans));
        if self.setup.read_only {
            paper.put_right(area, 0, &Line::from(span("read-only ", theme.faint())));
        }
    }
}

fn too_small(paper: &mut Paper<'_>, area: Rect) {
    let words = [
        "This terminal is too small:".to_owned(),
        format!("{} x {}; it takes {COLUMNS_MIN} x {ROWS_MIN}.", area.width, area.height),
        "q leaves.".to_owned(),
    ];
    let place = middle(area, words.iter().map(String::len).max().unwrap_or(0) as u16, words.len() as u16);
    for (y, line) in words.iter().enumerate() {
        paper.put(place, 0, y as u16, line, paper.theme.ink());
    }
}
