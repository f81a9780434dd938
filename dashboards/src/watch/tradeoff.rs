//! The main screen: accuracy against cost, cell by cell, while it grows.

use super::chart::{Axis, Chart};
use super::hits::{Hit, Hits};
use super::model::{Measure, Model};
use super::paint::{Paper, bottom, right, span, top};
use super::points::{Cost, Points, next_value, shown, time_per_image_ms, value_title};
use crate::{format, paper};
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Which cells a line joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lines {
    /// Those of one ρ: α varies along the line.
    #[default]
    Resolution,
    /// Those of one α.
    Alpha,
    /// None.
    Off,
}

/// What the screen shows, besides the model.
#[derive(Clone, Debug)]
pub(super) struct TradeoffState {
    cost: Cost,
    value: Measure,
    lines: Lines,
    fit: bool,
    paper: bool,
    /// The cell under the cursor: α's bits and ρ, which stay the same when cells are added.
    cursor: Option<(u64, u32)>,
}

impl Default for TradeoffState {
    fn default() -> Self {
        Self {
            cost: Cost::default(),
            value: Measure::Top1,
            lines: Lines::default(),
            fit: true,
            paper: true,
            cursor: None,
        }
    }
}

impl TradeoffState {
    /// Takes a key; whether it meant something.
    pub(super) fn key(&mut self, model: &Model, key: KeyCode) -> bool {
        match key {
            KeyCode::Char('x') => self.cost = self.cost.next(),
            KeyCode::Char('y') => self.value = next_value(self.value),
            KeyCode::Char('g') => {
                self.lines = match self.lines {
                    Lines::Resolution => Lines::Alpha,
                    Lines::Alpha => Lines::Off,
                    Lines::Off => Lines::Resolution,
                };
            }
            KeyCode::Char('f') => self.fit = !self.fit,
            KeyCode::Char('p') => self.paper = !self.paper,
            KeyCode::Right | KeyCode::Char('l') => self.walk(model, 1),
            KeyCode::Left | KeyCode::Char('h') => self.walk(model, -1),
            KeyCode::Up | KeyCode::Char('k') => self.climb(model, 1),
            KeyCode::Down | KeyCode::Char('j') => self.climb(model, -1),
            KeyCode::Home => self.walk(model, i64::MIN),
            KeyCode::End => self.walk(model, i64::MAX),
            _ => return false,
        }
        true
    }

    /// The trial that made the point under the cursor: its place in the model.
    pub(super) fn trial(&self, model: &Model) -> Option<usize> {
        let points = Points::new(model, self.cost, self.value);
        Some(points.points.get(self.place(model, &points)?)?.trial)
    }

    pub(super) fn put_cursor(&mut self, model: &Model, cell: usize) {
        self.cursor = model.cells.get(cell).map(|cell| (cell.alpha.to_bits(), cell.resolution));
    }

    /// The place of the cursor's point; at first that of the best value.
    fn place(&self, model: &Model, points: &Points) -> Option<usize> {
        let is_cursor = |place: &usize| {
            let cell = &model.cells[points.points[*place].cell];
            self.cursor == Some((cell.alpha.to_bits(), cell.resolution))
        };
        let found = (0..points.points.len()).find(is_cursor);
        found.or_else(|| points.front.last().copied()).or_else(|| (!points.points.is_empty()).then_some(0))
    }

    /// Along the cost, over points that can be seen.
    fn walk(&mut self, model: &Model, by: i64) {
        let points = Points::new(model, self.cost, self.value);
        let mut order: Vec<usize> =
            (0..points.points.len()).filter(|place| points.points[*place].value.is_some()).collect();
        if order.is_empty() {
            order = (0..points.points.len()).collect();
        }
        let key = |place: &usize| (points.points[*place].cost, points.points[*place].value.unwrap_or(0.0));
        order.sort_by(|a, b| {
            let (a, b) = (key(a), key(b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let at = self.place(model, &points).and_then(|cursor| order.iter().position(|place| *place == cursor));
        let last = order.len().saturating_sub(1) as i64;
        let to = match at {
            Some(at) => (at as i64).saturating_add(by).clamp(0, last),
            None => 0,
        };
        if let Some(place) = order.get(to as usize) {
            self.put_cursor(model, points.points[*place].cell);
        }
    }

    /// To the next better (1) or worse (-1) value.
    fn climb(&mut self, model: &Model, by: i64) {
        let points = Points::new(model, self.cost, self.value);
        let mut order: Vec<usize> =
            (0..points.points.len()).filter(|place| points.points[*place].value.is_some()).collect();
        order.sort_by(|a, b| {
            let value = |place: &usize| points.points[*place].value.unwrap_or(0.0);
            value(a).total_cmp(&value(b))
        });
        let at = self.place(model, &points).and_then(|cursor| order.iter().position(|place| *place == cursor));
        let to = at.map_or(0, |at| (at as i64 + by).clamp(0, order.len() as i64 - 1));
        if let Some(place) = order.get(to as usize) {
            self.put_cursor(model, points.points[*place].cell);
        }
    }
}

/// Draws it.
pub(super) struct TradeoffView<'a> {
    pub(super) state: &'a TradeoffState,
    pub(super) model: &'a Model,
}

impl TradeoffView<'_> {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect, hits: &mut Hits) {
        let Self { state, model } = self;
        let points = Points::new(model, state.cost, state.value);
        let cursor = state.place(model, &points);
        let wide = area.width >= 116;
        let (plot, info) = if wide { right(area, 38) } else { bottom(area, 5) };
        self.plot(paper, plot, &points, cursor, hits);
        let title = Line::from(span("cell", paper.theme.strong()));
        let inside = paper.frame(info, &title, &Line::default());
        if let Some(cursor) = cursor {
            self.tell(paper, inside, &points, cursor, wide);
        }
        if wide {
            let below =
                Rect { y: inside.y + 16.min(inside.height), height: inside.height.saturating_sub(16), ..inside };
            self.front(paper, below, &points);
        }
    }

    fn plot(&self, paper: &mut Paper<'_>, area: Rect, points: &Points, cursor: Option<usize>, hits: &mut Hits) {
        let state = self.state;
        let theme = paper.theme;
        let title = Line::from(vec![
            span(value_title(state.value), theme.strong()),
            span(" against ", theme.faint()),
            span(state.cost.title(), theme.strong()),
        ]);
        let inside = paper.frame(area, &title, &self.fit_words(points, theme.faint()));
        let (legend, rest) = top(inside, 1);
        self.legend(paper, legend);
        let published = self.published();
        let seen = || points.points.iter().filter(|point| point.value.is_some());
        let costs = seen().map(|point| point.cost).chain(published.iter().map(|point| point.0));
        let values = seen()
            .flat_map(|point| [point.value, point.spread.map(|s| s.0), point.spread.map(|s| s.1)])
            .flatten()
            .chain(published.iter().map(|point| point.1));
        let axes = Axis::around(costs, true, 0.0).zip(Axis::around(values, false, least_height(state.value)));
        let Some((x, y)) = axes else {
            let words = match state.value {
                Measure::Top5 => "no top-5 here: it is measured from 6 classes up (y: another measure)",
                _ if state.cost == Cost::TimePerImage => "nothing measured yet (x: another axis)",
                _ => "no epoch is finished yet; points appear with the first one of each cell",
            };
            paper.put(rest, 2, rest.height / 2, words, theme.faint());
            return;
        };
        let x_words = |value: f64, _: usize| match state.cost {
            Cost::MultAdds | Cost::Parameters => short_count(value),
            Cost::TimePerImage => format!("{}", (value * 1e4).round() / 1e4),
        };
        let y_words = |value: f64, digits: usize| format!("{value:.digits$}");
        let Some(mut chart) = Chart::new(paper, rest, (x, &x_words), (y, &y_words)) else { return };
        if state.fit
            && let Some(fit) = &points.fit
        {
            let ends = [x.from, x.to].map(|cost| (cost, fit.at(cost)));
            chart.line(&ends, 2, theme.faint());
        }
        self.join(&mut chart, points, theme);
        self.scatter(&mut chart, theme);
        // Over the others, but leaving every second dot to them.
        let front: Vec<(f64, f64)> = points.front.iter().filter_map(|place| place_of(points, *place)).collect();
        chart.line(&front, if state.lines == Lines::Off { 0 } else { 1 }, theme.strong());
        chart.finish(paper);
        for (cost, value) in &published {
            if let Some((column, row)) = chart.cell(*cost, *value) {
                paper.put(chart.area, column, row, "×", theme.faint());
            }
        }
        self.signs(paper, &chart, points, cursor, hits);
    }

    /// Lines through the cells of a series, cheapest first.
    fn join(&self, chart: &mut Chart, points: &Points, theme: super::theme::Theme) {
        let (alphas, resolutions) = self.model.sides();
        let count = match self.state.lines {
            Lines::Resolution => resolutions.len(),
            Lines::Alpha => alphas.len(),
            Lines::Off => 0,
        };
        for series in 0..count {
            let mut of: Vec<(f64, f64)> = points
                .points
                .iter()
                .enumerate()
                .filter(|(_, point)| self.series(point.cell, &alphas, &resolutions) == series)
                .filter_map(|(place, _)| place_of(points, place))
                .collect();
            of.sort_by(|a, b| a.0.total_cmp(&b.0));
            chart.line(&of, 0, theme.series(series));
        }
    }

    /// Where a cell has many trials, each is a faint dot.
    fn scatter(&self, chart: &mut Chart, theme: super::theme::Theme) {
        let Self { state, model } = self;
        if model.trials.len() <= model.cells.len() {
            return;
        }
        for trial in &model.trials {
            let cost = match state.cost {
                Cost::MultAdds => Some(trial.mult_adds as f64),
                Cost::Parameters => Some(trial.params as f64),
                Cost::TimePerImage => time_per_image_ms(std::iter::once(trial)),
            };
            if let Some((cost, value)) = cost.zip(trial.best.get(state.value)) {
                chart.dot(cost, shown(state.value, value), theme.faint());
            }
        }
    }

    fn signs(&self, paper: &mut Paper<'_>, chart: &Chart, points: &Points, cursor: Option<usize>, hits: &mut Hits) {
        let theme = paper.theme;
        let (alphas, resolutions) = self.model.sides();
        for (place, point) in points.points.iter().enumerate() {
            let Some((column, row)) = point.value.and_then(|value| chart.cell(point.cost, value)) else { continue };
            let series = self.series(point.cell, &alphas, &resolutions);
            let mut style = theme.series(series);
            if point.front {
                style = style.add_modifier(Modifier::BOLD);
            }
            paper.put(chart.area, column, row, theme.shape(series, point.finished), style);
            let at = Rect::new(chart.area.x + column, chart.area.y + row, 1, 1);
            hits.add(at, Hit::Cell(point.cell));
            if Some(place) == cursor {
                self.mark(paper, chart, (column, row), point.cell);
            }
        }
        // Over its neighbours.
        if let Some((point, (column, row))) = cursor
            .and_then(|cursor| points.points.get(cursor))
            .and_then(|point| Some((point, chart.cell(point.cost, point.value?)?)))
        {
            let series = self.series(point.cell, &alphas, &resolutions);
            let style = theme.series(series).add_modifier(Modifier::REVERSED | Modifier::BOLD);
            paper.put(chart.area, column, row, theme.shape(series, point.finished), style);
        }
    }

    /// The name of the cursor's cell beside its point.
    fn mark(&self, paper: &mut Paper<'_>, chart: &Chart, (column, row): (u16, u16), cell: usize) {
        let cell = &self.model.cells[cell];
        let words = format!(" {}-{} ", format::alpha(cell.alpha), cell.resolution);
        let width = words.chars().count() as u16;
        let y = if row > 0 { row - 1 } else { row + 1 };
        let x = column.saturating_sub(width / 2).min(chart.area.width.saturating_sub(width));
        paper.put(chart.area, x, y, &words, paper.theme.selected());
    }

    fn legend(&self, paper: &mut Paper<'_>, area: Rect) {
        let theme = paper.theme;
        let (alphas, resolutions) = self.model.sides();
        let mut spans = vec![span(" ", theme.ink())];
        let mut series = |name: &str, values: Vec<String>| {
            spans.push(span(format!("{name} "), theme.faint()));
            for (place, value) in values.into_iter().enumerate().take(8) {
                spans.push(span(format!("{} {value}  ", theme.shape(place, true)), theme.series(place)));
            }
        };
        match self.state.lines {
            Lines::Alpha => series("α", alphas.iter().map(|alpha| format::alpha(*alpha)).collect()),
            Lines::Resolution | Lines::Off => series("ρ", resolutions.iter().map(u32::to_string).collect()),
        }
        if area.width >= 70 {
            spans.push(span("·· front  ", theme.strong()));
        }
        if !self.model.is_over() {
            let hollow = if theme.ascii { "small: training" } else { "hollow: training" };
            spans.push(span(format!("{hollow}  "), theme.faint()));
        }
        if !self.published().is_empty() {
            let whole = format!("× {}", paper::CITATION);
            let used: usize = spans.iter().map(Span::width).sum();
            let fits = used + whole.chars().count() <= usize::from(area.width);
            spans.push(span(if fits { whole } else { "× paper".to_owned() }, theme.faint()));
        }
        paper.line(area, 0, 0, &Line::from(spans));
    }

    fn fit_words(&self, points: &Points, style: Style) -> Line<'static> {
        match &points.fit {
            Some(fit) if self.state.fit => {
                let unit = if self.state.value == Measure::Loss { "" } else { " points" };
                let share = fit.r_squared.map_or_else(String::new, |share| format!(", R² {share:.3}"));
                Line::from(span(format!("fit: {:+.2}{unit} per ten-fold{share}", fit.slope), style))
            }
            _ => Line::default(),
        }
    }

    /// The paper's cells, on these axes, where they mean something.
    fn published(&self) -> Vec<(f64, f64)> {
        let Self { state, model } = self;
        if !state.paper || !model.imagenet || state.value != Measure::Top1 {
            return Vec::new();
        }
        let cells = paper::cells().into_iter();
        match state.cost {
            Cost::MultAdds => cells.map(|cell| (cell.mult_adds, cell.top1 * 100.0)).collect(),
            Cost::Parameters => cells.map(|cell| (cell.params, cell.top1 * 100.0)).collect(),
            Cost::TimePerImage => Vec::new(),
        }
    }

    fn series(&self, cell: usize, alphas: &[f64], resolutions: &[u32]) -> usize {
        let cell = &self.model.cells[cell];
        let found = match self.state.lines {
            Lines::Alpha => alphas.iter().position(|alpha| *alpha == cell.alpha),
            Lines::Resolution | Lines::Off => resolutions.iter().position(|resolution| *resolution == cell.resolution),
        };
        found.unwrap_or(0)
    }
}

fn place_of(points: &Points, place: usize) -> Option<(f64, f64)> {
    let point = points.points.get(place)?;
    Some((point.cost, point.value?))
}

/// So that noise does not fill the screen.
fn least_height(value: Measure) -> f64 {
    match value {
        Measure::Top1 | Measure::Top5 => 1.0,
        Measure::Loss => 0.02,
        Measure::ImagesPerSecond => 1.0,
    }
}

/// `20M`, `1.5G`.
fn short_count(value: f64) -> String {
    let (scaled, unit) = match value {
        1e12.. => (value / 1e12, "T"),
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{unit}", (scaled * 100.0).round() / 100.0)
}

impl TradeoffView<'_> {
    pub(super) fn measure(&self) -> Measure {
        self.state.value
    }
}
