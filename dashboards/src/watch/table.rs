//! All trials, sorted and filtered: for sweeps over more than α and ρ.

use super::grid::{sign, tint};
use super::hits::{Hit, Hits};
use super::model::{Measure, Model, Setting, Trial};
use super::paint::{Paper, scrolled, span};
use super::points::{Cost, Points};
use crate::format;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::text::Line;
use std::cmp::Ordering;

/// What the table shows, besides the model.
#[derive(Clone, Debug, Default)]
pub(super) struct TableState {
    /// Words that a row must have.
    pub(super) filter: String,
    /// Only the best trial of each cell.
    best_only: bool,
    /// The column sorted by, and whether from the end.
    sort: usize,
    reverse: bool,
    /// Places in the model, as shown.
    rows: Vec<u32>,
    cursor: usize,
    first: usize,
    page: usize,
    built: Option<(u64, String, bool, usize, bool)>,
}

/// A column's head, whether it is words (to the left), and a cell.
struct Column {
    head: String,
    words: bool,
    least: usize,
}

impl TableState {
    pub(super) fn key(&mut self, model: &Model, key: KeyCode) -> bool {
        let last = self.rows.len().saturating_sub(1);
        match key {
            KeyCode::Up | KeyCode::Char('k') => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.cursor = (self.cursor + 1).min(last),
            KeyCode::PageUp => self.cursor = self.cursor.saturating_sub(self.page.max(1)),
            KeyCode::PageDown => self.cursor = (self.cursor + self.page.max(1)).min(last),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = last,
            KeyCode::Char('s') | KeyCode::Right => self.sort = (self.sort + 1) % columns(model).len(),
            KeyCode::Left => self.sort = (self.sort + columns(model).len() - 1) % columns(model).len(),
            KeyCode::Char('S') => self.reverse = !self.reverse,
            KeyCode::Char('b') => self.best_only = !self.best_only,
            _ => return false,
        }
        true
    }

    /// The trial under the cursor: its place in the model.
    pub(super) fn trial(&self) -> Option<usize> {
        self.rows.get(self.cursor).map(|place| *place as usize)
    }

    pub(super) fn put_cursor(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
    }

    /// Sorts and filters anew when something changed.
    pub(super) fn prepare(&mut self, model: &Model, area: Rect) {
        self.page = usize::from(area.height.saturating_sub(3));
        self.sort = self.sort.min(columns(model).len().saturating_sub(1));
        let wanted = (model.generation, self.filter.clone(), self.best_only, self.sort, self.reverse);
        if self.built.as_ref() != Some(&wanted) {
            let under = self.trial();
            self.rows = self.pick(model);
            let (sort, reverse) = (self.sort, self.reverse);
            self.rows.sort_by(|a, b| {
                let (a, b) = (&model.trials[*a as usize], &model.trials[*b as usize]);
                let order = compare(model, a, b, sort);
                (if reverse { order.reverse() } else { order }).then(a.number.cmp(&b.number))
            });
            let stays = under.and_then(|under| self.rows.iter().position(|place| *place as usize == under));
            self.cursor = stays.unwrap_or(self.cursor).min(self.rows.len().saturating_sub(1));
            self.built = Some(wanted);
        }
        self.first = scrolled(self.first, self.cursor, self.page, self.rows.len());
    }

    fn pick(&self, model: &Model) -> Vec<u32> {
        let needles: Vec<String> = self.filter.split_whitespace().map(str::to_lowercase).collect();
        let fits = |place: &u32| {
            let trial = &model.trials[*place as usize];
            needles.is_empty() || {
                let text =
                    (0..columns(model).len()).map(|column| cell(model, trial, column)).collect::<Vec<_>>().join(" ");
                let text = format!("{text} {}", trial.reason).to_lowercase();
                needles.iter().all(|needle| text.contains(needle.as_str()))
            }
        };
        if self.best_only {
            let points = Points::new(model, Cost::MultAdds, Measure::Top1).points;
            return points.iter().map(|point| point.trial as u32).filter(fits).collect();
        }
        (0..model.trials.len() as u32).filter(fits).collect()
    }
}

const FIXED_FIRST: usize = 3;

fn columns(model: &Model) -> Vec<Column> {
    let column = |head: &str, words: bool, least: usize| Column { head: head.to_owned(), words, least };
    let mut columns = vec![column("trial", false, 5), column("α", false, 5), column("ρ", false, 4)];
    columns.extend(model.axes.iter().map(|axis| Column {
        head: axis.strip_prefix("training.").unwrap_or(axis).to_owned(),
        words: false,
        least: 8,
    }));
    columns.push(column("seed", false, 4));
    columns.push(column("state", true, 11));
    columns.push(column("epoch", false, 7));
    columns.push(column("top-1 %", false, 7));
    columns.push(column("loss", false, 7));
    columns.push(column("Mult-Adds", false, 9));
    columns.push(column("images/s", false, 8));
    columns.push(column("time", false, 10));
    columns.push(column("worker", true, 12));
    columns
}

fn cell(model: &Model, trial: &Trial, column: usize) -> String {
    let axes = model.axes.len();
    match column {
        0 => trial.number.to_string(),
        1 => format::alpha(trial.alpha),
        2 => trial.resolution.to_string(),
        column if column < FIXED_FIRST + axes => {
            trial.settings.get(column - FIXED_FIRST).map(ToString::to_string).unwrap_or_default()
        }
        column => match column - FIXED_FIRST - axes {
            0 => trial.seed.to_string(),
            1 if trial.stopping => format!("{} stopping", sign(trial.standing)),
            1 => format!("{} {}", sign(trial.standing), trial.standing.word()),
            2 => format!("{}/{}", trial.epochs_done, trial.epochs),
            3 => format::percent(trial.best.get(Measure::Top1)),
            4 => format::decimals(trial.best.get(Measure::Loss), 4),
            5 => format::count(trial.mult_adds),
            6 => format::rate(trial.last.get(Measure::ImagesPerSecond)),
            7 if trial.train_seconds > 0.0 => format::duration(trial.train_seconds),
            7 => "–".to_owned(),
            _ => {
                let (host, device) = model.host_and_device(trial);
                format!("{host} {device}")
            }
        },
    }
}

fn compare(model: &Model, a: &Trial, b: &Trial, column: usize) -> Ordering {
    let axes = model.axes.len();
    // What has no value comes last.
    let value = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    match column {
        0 => a.number.cmp(&b.number),
        1 => b.alpha.total_cmp(&a.alpha),
        2 => b.resolution.cmp(&a.resolution),
        column if column < FIXED_FIRST + axes => {
            match (a.settings.get(column - FIXED_FIRST), b.settings.get(column - FIXED_FIRST)) {
                (Some(Setting::Number(a)), Some(Setting::Number(b))) => a.total_cmp(b),
                (a, b) => {
                    let text = |setting: Option<&Setting>| setting.map(ToString::to_string);
                    text(a).cmp(&text(b))
                }
            }
        }
        column => match column - FIXED_FIRST - axes {
            0 => a.seed.cmp(&b.seed),
            1 => a.standing.cmp(&b.standing),
            2 => b.epochs_done.cmp(&a.epochs_done),
            3 => value(a.best.get(Measure::Top1), b.best.get(Measure::Top1)),
            4 => value(b.best.get(Measure::Loss), a.best.get(Measure::Loss)),
            5 => a.mult_adds.cmp(&b.mult_adds),
            6 => value(a.last.get(Measure::ImagesPerSecond), b.last.get(Measure::ImagesPerSecond)),
            7 => b.train_seconds.total_cmp(&a.train_seconds),
            _ => model.host_and_device(a).cmp(&model.host_and_device(b)),
        },
    }
}

/// Draws it.
pub(super) struct TableView<'a> {
    pub(super) state: &'a TableState,
    pub(super) model: &'a Model,
}

impl TableView<'_> {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect, hits: &mut Hits) {
        let Self { state, model } = self;
        let theme = paper.theme;
        let columns = columns(model);
        let what = if state.best_only { "the best trial of each cell" } else { "trials" };
        let title = Line::from(vec![
            span(what, theme.strong()),
            span(format!(", {} of {}", state.rows.len(), model.trials.len()), theme.faint()),
        ]);
        let filter = if state.filter.is_empty() { String::new() } else { format!("filter: {}", state.filter) };
        let inside = paper.frame(area, &title, &Line::from(span(filter, theme.warn())));
        let shown: Vec<&u32> = state.rows.iter().skip(state.first).take(state.page).collect();
        let cells: Vec<Vec<String>> = shown
            .iter()
            .map(|place| {
                (0..columns.len()).map(|column| cell(model, &model.trials[**place as usize], column)).collect()
            })
            .collect();
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| {
                let widest = cells.iter().map(|row| row[place].chars().count()).max().unwrap_or(0);
                // Room for the arrow of the sorted one.
                widest.max(column.head.chars().count() + 1).max(column.least)
            })
            .collect();
        let from = first_column(&widths, state.sort, usize::from(inside.width));
        let mut x = 1;
        for (place, column) in columns.iter().enumerate() {
            let is_seed = place == FIXED_FIRST + model.axes.len();
            if (place > 0 && place < from) || (is_seed && !model.seeds && state.sort != place) {
                continue;
            }
            // A number that is cut is a wrong number.
            if usize::from(x) + widths[place] > usize::from(inside.width) && !column.words {
                break;
            }
            let arrow = if state.sort != place {
                ""
            } else if state.reverse {
                "↑"
            } else {
                "↓"
            };
            let style = if state.sort == place { theme.accent() } else { theme.strong() };
            let head = format!("{}{arrow}", column.head);
            paper.put(inside, x, 0, &aligned(&head, widths[place], column.words), style);
            for (row, cells) in cells.iter().enumerate() {
                let trial = &model.trials[*shown[row] as usize];
                let is_state = place == FIXED_FIRST + model.axes.len() + 1;
                let style = if is_state { tint(theme, trial.standing) } else { theme.ink() };
                paper.put(inside, x, 1 + row as u16, &aligned(&cells[place], widths[place], column.words), style);
            }
            x = x.saturating_add(widths[place] as u16 + 2);
            if x >= inside.width {
                break;
            }
        }
        for row in 0..shown.len() {
            let line = Rect::new(inside.x, inside.y + 1 + row as u16, inside.width, 1).intersection(inside);
            hits.add(line, Hit::Row(state.first + row));
            if state.first + row == state.cursor {
                paper.shine(line, theme.selected());
            }
        }
        if shown.is_empty() {
            paper.put(inside, 2, 2, "no trial has all of these words (/ changes the filter)", theme.faint());
        }
    }
}

/// The first column after the trial's number, so that the sorted one can be seen.
fn first_column(widths: &[usize], sort: usize, room: usize) -> usize {
    let used = |from: usize| {
        widths[0]
            + 3
            + widths
                .iter()
                .enumerate()
                .filter(|(place, _)| *place >= from.max(1) && *place <= sort)
                .map(|(_, w)| w + 2)
                .sum::<usize>()
    };
    (1..=sort.max(1)).find(|from| used(*from) <= room).unwrap_or(sort.max(1))
}

fn aligned(words: &str, width: usize, to_the_left: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(words.chars().count()));
    if to_the_left { format!("{words}{blanks}") } else { format!("{blanks}{words}") }
}
