//! The α × ρ matrix as a heat map; for sweeps over more, the table of trials.

use super::hits::{Hit, Hits};
use super::model::{Cell, Measure, Model, STANDINGS, Standing};
use super::paint::{Paper, bottom, left, scrolled, span, top};
use super::points::{Cost, Points};
use super::table::{TableState, TableView};
use super::theme::Theme;
use crate::format;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

/// What the heat means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heat {
    /// Best top-1, or what there is of it.
    #[default]
    Accuracy,
    /// Epochs done.
    Progress,
    /// Where the trials stand.
    State,
}

/// What the screen shows, besides the model.
#[derive(Clone, Debug, Default)]
pub(super) struct GridState {
    heat: Heat,
    /// Place of the row (α) and of the column (ρ).
    cursor: (usize, usize),
    first: (usize, usize),
    /// The table instead of the matrix.
    pub(super) shows_table: bool,
    pub(super) table: TableState,
}

impl GridState {
    /// Takes a key; whether it meant something.
    pub(super) fn key(&mut self, model: &Model, key: KeyCode) -> bool {
        if key == KeyCode::Char('t') {
            self.shows_table = !self.shows_table;
            return true;
        }
        if self.shows_table {
            return self.table.key(model, key);
        }
        let (alphas, resolutions) = model.sides();
        let (row, column) = self.cursor;
        match key {
            KeyCode::Char('m') => {
                self.heat = match self.heat {
                    Heat::Accuracy => Heat::Progress,
                    Heat::Progress => Heat::State,
                    Heat::State => Heat::Accuracy,
                };
            }
            KeyCode::Up | KeyCode::Char('k') => self.cursor.0 = row.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.cursor.0 = row + 1,
            KeyCode::Left | KeyCode::Char('h') => self.cursor.1 = column.saturating_sub(1),
            KeyCode::Right | KeyCode::Char('l') => self.cursor.1 = column + 1,
            KeyCode::Home => self.cursor = (0, 0),
            KeyCode::End => self.cursor = (usize::MAX, usize::MAX),
            _ => return false,
        }
        let last = |count: usize| count.saturating_sub(1);
        self.cursor = (self.cursor.0.min(last(alphas.len())), self.cursor.1.min(last(resolutions.len())));
        true
    }

    /// The trial under the cursor: its place in the model. Of a cell with several, the best.
    pub(super) fn trial(&self, model: &Model) -> Option<usize> {
        if self.shows_table {
            return self.table.trial();
        }
        let cell = self.cell(model)?;
        Some(Points::new(model, Cost::MultAdds, Measure::Top1).points.get(cell)?.trial)
    }

    /// The place of the cell under the cursor.
    pub(super) fn cell(&self, model: &Model) -> Option<usize> {
        let (alphas, resolutions) = model.sides();
        let (alpha, resolution) = (alphas.get(self.cursor.0)?, resolutions.get(self.cursor.1)?);
        model.cells.iter().position(|cell| cell.alpha == *alpha && cell.resolution == *resolution)
    }

    pub(super) fn put_cursor(&mut self, model: &Model, cell: usize) {
        let (alphas, resolutions) = model.sides();
        if let Some(cell) = model.cells.get(cell) {
            self.cursor.0 = alphas.iter().position(|alpha| *alpha == cell.alpha).unwrap_or(0);
            self.cursor.1 = resolutions.iter().position(|resolution| *resolution == cell.resolution).unwrap_or(0);
        }
    }

    /// Brings up to date what depends on the model and the room there is.
    pub(super) fn prepare(&mut self, model: &Model, area: Rect) {
        if self.shows_table {
            self.table.prepare(model, area);
            return;
        }
        let (alphas, resolutions) = model.sides();
        let shape = Shape::of(area, alphas.len(), resolutions.len());
        self.cursor.0 = self.cursor.0.min(alphas.len().saturating_sub(1));
        self.cursor.1 = self.cursor.1.min(resolutions.len().saturating_sub(1));
        self.first.0 = scrolled(self.first.0, self.cursor.0, shape.rows, alphas.len());
        self.first.1 = scrolled(self.first.1, self.cursor.1, shape.columns, resolutions.len());
    }
}

/// How large cells are, and how many can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    width: u16,
    height: u16,
    rows: usize,
    columns: usize,
}

const LABEL_WIDTH: u16 = 9;
const CELL_WIDTH_MIN: u16 = 12;

impl Shape {
    fn of(area: Rect, alphas: usize, resolutions: usize) -> Self {
        // Frame, the row of ρ, the legend, and the words on the cell.
        let wide = area.width.saturating_sub(2 + LABEL_WIDTH);
        let high = area.height.saturating_sub(6);
        let width = (wide / (resolutions.clamp(1, 1_000) as u16)).clamp(CELL_WIDTH_MIN, 26);
        let height = (high / (alphas.clamp(1, 1_000) as u16)).clamp(2, 7);
        Self { width, height, rows: usize::from(high / height).max(1), columns: usize::from(wide / width).max(1) }
    }
}

/// Draws it.
pub(super) struct GridView<'a> {
    pub(super) state: &'a GridState,
    pub(super) model: &'a Model,
}

impl GridView<'_> {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect, hits: &mut Hits) {
        let Self { state, model } = self;
        if state.shows_table {
            TableView { state: &state.table, model }.draw(paper, area, hits);
            return;
        }
        let theme = paper.theme;
        let (alphas, resolutions) = model.sides();
        let points = Points::new(model, Cost::MultAdds, Measure::Top1);
        let range = range(&points);
        let title = Line::from(vec![
            span("α × ρ", theme.strong()),
            span(
                match state.heat {
                    Heat::Accuracy => ", best top-1 (%)",
                    Heat::Progress => ", epochs done",
                    Heat::State => ", state",
                },
                theme.faint(),
            ),
        ]);
        let other = format!("{} cells, {} trials", model.cells.len(), model.trials.len());
        let inside = paper.frame(area, &title, &Line::from(span(other, theme.faint())));
        let (matrix, foot) = bottom(inside, 3);
        let shape = Shape::of(area, alphas.len(), resolutions.len());
        let (names, cells) = left(matrix, LABEL_WIDTH);
        let (heads, cells) = top(cells, 1);
        let rows = alphas.iter().enumerate().skip(state.first.0).take(shape.rows);
        for (shown, (row, alpha)) in rows.enumerate() {
            let y = shown as u16 * shape.height;
            paper.put(
                names,
                1,
                1 + y + (shape.height - 1) / 2,
                &format!("α {}", format::alpha(*alpha)),
                theme.strong(),
            );
            let columns = resolutions.iter().enumerate().skip(state.first.1).take(shape.columns);
            for (across, (column, resolution)) in columns.enumerate() {
                let x = across as u16 * shape.width;
                if shown == 0 {
                    let head = format!("ρ {resolution}");
                    let indent = shape.width.saturating_sub(head.chars().count() as u16) / 2;
                    paper.put(heads, x + indent, 0, &head, theme.strong());
                }
                let found = model.cells.iter().position(|cell| cell.alpha == *alpha && cell.resolution == *resolution);
                let place =
                    Rect::new(cells.x + x, cells.y + y, shape.width - 1, shape.height - u16::from(shape.height > 2));
                let place = place.intersection(cells);
                match found {
                    Some(found) => {
                        hits.add(place, Hit::Cell(found));
                        self.cell(paper, place, &points, range, found, state.cursor == (row, column));
                    }
                    None => {
                        paper.put(place, place.width / 2, place.height / 2, "·", theme.faint());
                    }
                }
            }
        }
        self.foot(paper, foot, &points, range);
    }

    fn cell(
        &self,
        paper: &mut Paper<'_>,
        area: Rect,
        points: &Points,
        range: Option<(f64, f64)>,
        place: usize,
        cursor: bool,
    ) {
        let theme = paper.theme;
        let point = &points.points[place];
        let cell = &self.model.cells[place];
        let (done, wanted) = epochs(self.model, cell);
        let share = if wanted > 0 { done as f64 / wanted as f64 } else { 0.0 };
        let standing = standing(self.model, cell);
        let heat = match self.state.heat {
            Heat::Accuracy => point.value.zip(range).map_or(Style::new(), |(value, (low, high))| {
                theme.heat(if high > low { (value - low) / (high - low) } else { 0.5 })
            }),
            Heat::Progress => theme.heat(share),
            Heat::State => Style::new(),
        };
        paper.shine(area, heat);
        let value = point.value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let front = if point.front { " ◆" } else { "" };
        let number = point.spread.map(|(low, high)| format!(" ±{:.2}", (high - low) / 2.0)).unwrap_or_default();
        let state = format!("{} {done}/{wanted}", sign(standing));
        let (first, second) = match self.state.heat {
            Heat::Accuracy => (format!("{value}{number}{front}"), state),
            Heat::Progress => (format!("{done}/{wanted}"), format!("{:.0} %", share * 100.0)),
            Heat::State => (format!("{} {}", sign(standing), standing.word()), self.trials_words(cell, done, wanted)),
        };
        let mut lines = vec![first, second];
        if area.height > 3 {
            lines.push(format::count(cell.mult_adds));
        }
        let y = area.height.saturating_sub(lines.len() as u16) / 2;
        for (row, words) in lines.iter().enumerate() {
            let x = area.width.saturating_sub(words.chars().count() as u16) / 2;
            let style = match (self.state.heat, row) {
                (Heat::State, 0) => tint(theme, standing),
                (_, 0) => heat.add_modifier(Modifier::BOLD),
                _ if theme.has_ramp() => heat,
                _ => theme.faint(),
            };
            paper.put(area, x, y + row as u16, words, style);
        }
        if cursor {
            self.corner(paper, area, heat);
        }
    }

    /// The cursor: a frame, or marks at both sides, so that the heat stays to be seen.
    fn corner(&self, paper: &mut Paper<'_>, area: Rect, heat: Style) {
        let style = if heat.bg.is_some() { heat } else { paper.theme.accent() }.add_modifier(Modifier::BOLD);
        let (last_x, last_y) = (area.width.saturating_sub(1), area.height.saturating_sub(1));
        let framed = area.height > 4;
        for y in 0..area.height {
            paper.put(area, 0, y, if framed { "┃" } else { "▸" }, style);
            paper.put(area, last_x, y, if framed { "┃" } else { "◂" }, style);
        }
        if framed {
            let across = "━".repeat(usize::from(area.width.saturating_sub(2)));
            for (y, begin, end) in [(0, "┏", "┓"), (last_y, "┗", "┛")] {
                paper.put(area, 1, y, &across, style);
                paper.put(area, 0, y, begin, style);
                paper.put(area, last_x, y, end, style);
            }
        }
    }

    fn trials_words(&self, cell: &Cell, done: u64, wanted: u64) -> String {
        if cell.members.len() > 1 { format!("{} trials", cell.members.len()) } else { format!("{done}/{wanted}") }
    }

    fn foot(&self, paper: &mut Paper<'_>, area: Rect, points: &Points, range: Option<(f64, f64)>) {
        let theme = paper.theme;
        let mut spans = vec![span(" ", theme.ink())];
        match (self.state.heat, range) {
            (Heat::Accuracy, Some((low, high))) => {
                spans.push(span(format!("{low:.2} "), theme.faint()));
                if theme.has_ramp() {
                    for step in 0..16 {
                        spans.push(span(" ", theme.heat(f64::from(step) / 15.0)));
                    }
                } else {
                    spans.push(span("to", theme.faint()));
                }
                spans.push(span(format!(" {high:.2}   ◆ on the Pareto front"), theme.faint()));
            }
            _ => {
                for standing in STANDINGS {
                    let count = self.model.count(standing);
                    if count > 0 {
                        spans.push(span(
                            format!("{} {} {count}   ", sign(standing), standing.word()),
                            tint(theme, standing),
                        ));
                    }
                }
            }
        }
        paper.line(area, 0, 0, &Line::from(spans));
        let Some(place) = self.state.cell(self.model) else { return };
        let (cell, point) = (&self.model.cells[place], &points.points[place]);
        let name = format!(" α {}  ρ {}", format::alpha(cell.alpha), cell.resolution);
        let mut line = vec![span(name, theme.strong())];
        line.push(span(
            format!("  {} Mult-Adds · {} parameters", format::count(cell.mult_adds), format::count(cell.params)),
            theme.ink(),
        ));
        paper.line(area, 0, 1, &Line::from(line));
        let trial = &self.model.trials[point.trial];
        let mut words = match cell.members.len() {
            1 => format!(" trial {}, {}", trial.number, trial.standing.word()),
            count => format!(" {count} trials, the best is trial {}", trial.number),
        };
        if let Some(loss) = trial.best.get(Measure::Loss) {
            words.push_str(&format!(" · loss {loss:.4}"));
        }
        if trial.train_seconds > 0.0 {
            words.push_str(&format!(" · {} of training", format::duration(trial.train_seconds)));
        }
        if !trial.reason.is_empty() && trial.standing != Standing::Completed {
            words.push_str(&format!(" · {}", trial.reason));
        }
        words.push_str("   Enter opens it");
        paper.put(area, 0, 2, &words, theme.faint());
    }
}

/// Least and greatest value.
fn range(points: &Points) -> Option<(f64, f64)> {
    let values = points.points.iter().filter_map(|point| point.value);
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    (low <= high).then_some((low, high))
}

/// Over all trials of a cell.
fn epochs(model: &Model, cell: &Cell) -> (u64, u64) {
    let trials = cell.members.iter().map(|member| &model.trials[*member as usize]);
    trials.fold((0, 0), |(done, wanted), trial| {
        (done + u64::from(trial.epochs_done.min(trial.epochs)), wanted + u64::from(trial.epochs))
    })
}

/// What can be said of a cell's trials together: whatever asks most for attention.
fn standing(model: &Model, cell: &Cell) -> Standing {
    let has = |standing| cell.members.iter().any(|member| model.trials[*member as usize].standing == standing);
    let order = [
        Standing::Running,
        Standing::Failed,
        Standing::Pending,
        Standing::Paused,
        Standing::Cancelled,
        Standing::Completed,
    ];
    order.into_iter().find(|standing| has(*standing)).unwrap_or(Standing::Pending)
}

/// The sign of a state.
pub(super) fn sign(standing: Standing) -> &'static str {
    match standing {
        Standing::Running => "▶",
        Standing::Pending => "·",
        Standing::Paused => "‖",
        Standing::Completed => "✓",
        Standing::Failed => "✗",
        Standing::Cancelled => "–",
    }
}

/// The colour of a state.
pub(super) fn tint(theme: Theme, standing: Standing) -> Style {
    match standing {
        Standing::Running => theme.accent(),
        Standing::Pending | Standing::Cancelled => theme.faint(),
        Standing::Paused => theme.warn(),
        Standing::Completed => theme.good(),
        Standing::Failed => theme.bad(),
    }
}
