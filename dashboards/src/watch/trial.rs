//! One trial: its curves, its attempts, what is kept of it, what its trainer says.

use super::chart::{Axis, Chart, sparkline};
use super::detail::{Attempt, Curve, Detail};
use super::grid::{sign, tint};
use super::model::{Model, Standing, Trial};
use super::paint::{Paper, bottom, left, span, top};
use super::tradeoff_cell::wrapped;
use crate::format;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Draws it.
pub(super) struct TrialView<'a> {
    pub(super) model: &'a Model,
    pub(super) detail: Option<&'a Detail>,
    pub(super) now_ms: u64,
}

/// A curve to draw: its metric, what it is called, and as what it is drawn.
type Named = (&'static str, &'static str, usize);

const LOSSES: [Named; 2] = [("train_loss", "training", 1), ("val_loss", "validation", 0)];
const ACCURACIES: [Named; 3] =
    [("train_top1", "train top-1", 1), ("val_top1", "val. top-1", 0), ("val_top5", "val. top-5", 2)];

/// Measures shown as a number and the way it went; unit and decimals.
const FACTS: [(&str, &str, &str); 7] = [
    ("learning_rate", "learning rate", ""),
    ("images_per_second", "images/s", ""),
    ("epoch_seconds", "epoch", "s"),
    ("gradient_norm", "gradient norm", ""),
    ("replicas", "replicas", ""),
    ("staleness_mean", "staleness, mean", ""),
    ("staleness_max", "staleness, max", ""),
];

impl TrialView<'_> {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect) {
        let theme = paper.theme;
        let Some((detail, trial)) = self.detail.and_then(|detail| Some((detail, self.model.by_id(detail.trial)?)))
        else {
            paper.put(area, 2, 1, "no trial is open: Enter on the trade-off or on the grid opens one", theme.faint());
            return;
        };
        let (head, rest) = top(area, 1);
        self.head(paper, head, trial);
        let talk = match area.height {
            ..20 => 4,
            20..30 => 5,
            height => height / 4,
        };
        let (upper, log) = bottom(rest, talk);
        let (charts, facts) = top(upper, (u32::from(upper.height) * 12 / 20) as u16);
        let (first, second) = left(charts, charts.width / 2);
        self.losses(paper, first, detail, trial);
        self.accuracies(paper, second, detail, trial);
        let (numbers, lists) = left(facts, facts.width / 2);
        self.facts(paper, numbers, detail);
        let lines = self.attempts_lines(paper, detail, trial, usize::from(lists.width).saturating_sub(6));
        let kept = detail.checkpoints.len().clamp(1, 3) as u16 + 2;
        let attempts_rows = (lines.len().min(999) as u16 + 2).max(3).min(lists.height.saturating_sub(kept));
        let (attempts, checkpoints) = top(lists, attempts_rows);
        self.attempts(paper, attempts, &lines, trial);
        self.checkpoints(paper, checkpoints, detail);
        self.talk(paper, log, detail, trial);
    }

    fn head(&self, paper: &mut Paper<'_>, area: Rect, trial: &Trial) {
        let theme = paper.theme;
        let mut spans = vec![span(
            format!(" trial {}  α {}  ρ {}", trial.number, format::alpha(trial.alpha), trial.resolution),
            theme.strong(),
        )];
        if self.model.seeds {
            spans.push(span(format!("  seed {}", trial.seed), theme.ink()));
        }
        let word = if trial.stopping { "stopping" } else { trial.standing.word() };
        let state = format!("  {} {word} {}/{}", sign(trial.standing), trial.epochs_done, trial.epochs);
        spans.push(span(state, tint(theme, trial.standing)));
        for (axis, value) in self.model.axes.iter().zip(&trial.settings) {
            let name = axis.strip_prefix("training.").unwrap_or(axis);
            spans.push(span(format!("  {name} {value}"), theme.ink()));
        }
        let (host, device) = self.model.host_and_device(trial);
        if !host.is_empty() {
            spans.push(span(format!("  {host} {device}"), theme.faint()));
        }
        spans.push(span(
            format!("  {} Mult-Adds · {} parameters", format::count(trial.mult_adds), format::count(trial.params)),
            theme.faint(),
        ));
        paper.line(area, 0, 0, &Line::from(spans));
    }

    fn losses(&self, paper: &mut Paper<'_>, area: Rect, detail: &Detail, trial: &Trial) {
        if trial.epochs_done == 0 && detail.curves.contains_key("step_loss") {
            let named = [("step_loss", "training, by step", 1)];
            return self.curves(paper, area, detail, "loss by step", &named, None, 1.0);
        }
        self.curves(paper, area, detail, "loss by epoch", &LOSSES, Some(trial.epochs), 1.0);
    }

    fn accuracies(&self, paper: &mut Paper<'_>, area: Rect, detail: &Detail, trial: &Trial) {
        self.curves(paper, area, detail, "accuracy (%) by epoch", &ACCURACIES, Some(trial.epochs), 100.0);
    }

    #[expect(clippy::too_many_arguments, reason = "one place for both charts")]
    fn curves(
        &self,
        paper: &mut Paper<'_>,
        area: Rect,
        detail: &Detail,
        title: &str,
        named: &[Named],
        epochs: Option<u32>,
        factor: f64,
    ) {
        let theme = paper.theme;
        let present: Vec<(&Curve, &Named)> =
            named.iter().filter_map(|name| Some((detail.curves.get(name.0)?, name))).collect();
        let mut legend: Vec<Span<'_>> = Vec::new();
        for (curve, (_, name, series)) in &present {
            let value = curve.last().map(|value| value * factor);
            let digits = if factor > 1.0 { 2 } else { 4 };
            let words = format!("{} {name} {}  ", theme.shape(*series, true), format::decimals(value, digits));
            legend.push(span(words, theme.series(*series)));
        }
        let inside = paper.frame(area, &Line::from(span(title, theme.strong())), &Line::default());
        let (key, rest) = top(inside, 1);
        paper.line(key, 1, 0, &Line::from(legend));
        let all = || present.iter().flat_map(|(curve, _)| curve.points());
        let across = match epochs {
            Some(epochs) => Some(Axis { from: 0.0, to: f64::from(epochs.max(1)) * 1.02, log: false }),
            None => Axis::around(all().map(|point| point.0), false, 1.0),
        };
        let up = Axis::around(all().map(|point| point.1 * factor), false, 1e-3);
        let Some((x, y)) = across.zip(up) else {
            let words = "nothing yet: points come with each epoch";
            paper.put(rest, 1, rest.height / 2, words, theme.faint());
            return;
        };
        let words = |value: f64, digits: usize| format!("{value:.digits$}");
        let Some(mut chart) = Chart::new(paper, rest, (x, &words), (y, &words)) else { return };
        for (curve, (_, _, series)) in &present {
            let points: Vec<(f64, f64)> = curve.points().iter().map(|(step, value)| (*step, value * factor)).collect();
            chart.line(&points, 0, theme.series(*series));
            if let [(step, value)] = points.as_slice() {
                chart.dot(*step, *value, theme.series(*series));
            }
        }
        chart.finish(paper);
        for (curve, (_, _, series)) in &present {
            let Some((step, value)) = curve.points().last() else { continue };
            if let Some((column, row)) = chart.cell(*step, value * factor) {
                paper.put(chart.area, column, row, theme.shape(*series, true), theme.series(*series));
            }
        }
    }

    fn facts(&self, paper: &mut Paper<'_>, area: Rect, detail: &Detail) {
        let theme = paper.theme;
        let inside = paper.frame(area, &Line::from(span("speed and steps", theme.strong())), &Line::default());
        let mut y = 0;
        // Apart from each other where there is room.
        let known = FACTS.iter().filter(|(metric, ..)| detail.curves.contains_key(*metric)).count() as u16 + 1;
        let step = if inside.height >= 2 * known { 2 } else { 1 };
        let name_width = 16;
        let mut row = |paper: &mut Paper<'_>, name: &str, value: String, trend: Trend<'_>| {
            paper.put(inside, 1, y, name, theme.faint());
            let x = 1 + name_width + paper.put(inside, 1 + name_width, y, &format!("{value:<10}"), theme.ink()) + 1;
            let room = inside.width.saturating_sub(x + 1);
            match trend {
                Trend::Values(values) => {
                    paper.put(inside, x, y, &sparkline(values, usize::from(room)), theme.series(0));
                }
                Trend::Share(share, style) => paper.bar(inside, x, y, room.min(24), share, style),
            }
            y += step;
        };
        for (metric, name, unit) in FACTS {
            let Some(curve) = detail.curves.get(metric) else { continue };
            let value = curve.last().map(|value| format!("{} {unit}", short(value))).unwrap_or_default();
            row(paper, name, value, Trend::Values(&curve.values()));
            if metric == "images_per_second"
                && let Some(share) = detail.waiting_share()
            {
                let style = if share > 0.2 { theme.warn() } else { theme.good() };
                row(paper, "waits for data", format!("{:.1} %", share * 100.0), Trend::Share(share, style));
            }
        }
        if detail.curves.is_empty() {
            paper.put(inside, 1, 0, "no epoch is finished yet", theme.faint());
        }
    }

    /// Each attempt in words: how it ended, where and for how long; in lines of at most so many characters.
    fn attempts_lines(&self, paper: &Paper<'_>, detail: &Detail, trial: &Trial, width: usize) -> Vec<(String, Style)> {
        let theme = paper.theme;
        let mut lines = Vec::new();
        for attempt in &detail.attempts {
            let Attempt { attempt: number, host, device, started_ms, ended_ms, end, resumed_epoch } = attempt;
            let until = if *ended_ms > 0 { *ended_ms } else { self.now_ms };
            let took = format::duration(until.saturating_sub(*started_ms) as f64 / 1_000.0);
            let runs = end.is_empty() && trial.standing == Standing::Running;
            let (words, style) = match end.as_str() {
                "" if runs => ("runs".to_owned(), theme.accent()),
                "" => ("no end is known".to_owned(), theme.faint()),
                end => (end.to_owned(), end_style(end, paper)),
            };
            let resumed = if *resumed_epoch > 0 { format!(" from epoch {resumed_epoch}") } else { String::new() };
            let words = format!("{number} {host} {device}{resumed}, {took}: {words}");
            lines.extend(
                wrapped(&words, width)
                    .into_iter()
                    .enumerate()
                    .map(|(place, line)| (if place == 0 { line } else { format!("  {line}") }, style)),
            );
        }
        lines
    }

    fn attempts(&self, paper: &mut Paper<'_>, area: Rect, lines: &[(String, Style)], trial: &Trial) {
        let theme = paper.theme;
        let title = Line::from(span("attempts", theme.strong()));
        let inside = paper.frame(area, &title, &Line::default());
        let rows = usize::from(inside.height);
        for (y, (words, style)) in lines.iter().skip(lines.len().saturating_sub(rows)).enumerate() {
            paper.put(inside, 1, y as u16, words, *style);
        }
        if lines.is_empty() {
            let words = if trial.attempts == 0 { "none yet".to_owned() } else { format!("{}", trial.attempts) };
            paper.put(inside, 1, 0, &words, theme.faint());
        }
    }

    fn checkpoints(&self, paper: &mut Paper<'_>, area: Rect, detail: &Detail) {
        let theme = paper.theme;
        let inside = paper.frame(area, &Line::from(span("checkpoints kept", theme.strong())), &Line::default());
        let rows = usize::from(inside.height);
        for (y, kept) in detail.checkpoints.iter().rev().take(rows).enumerate() {
            let marks = [(kept.best, "best"), (kept.latest, "latest")];
            let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
            let line = vec![
                span(format!(" epoch {:<4}", kept.epoch), theme.ink()),
                span(format!("{:>10}  ", format::bytes(kept.bytes)), theme.faint()),
                span(marks.join(", "), theme.good()),
                span(format!("  {}", kept.sha256.get(..12).unwrap_or_default()), theme.faint()),
            ];
            paper.line(inside, 0, y as u16, &Line::from(line));
        }
        if detail.checkpoints.is_empty() {
            paper.put(inside, 1, 0, "none", theme.faint());
        }
    }

    /// Why it waits or how it failed, then the tail of its log.
    fn talk(&self, paper: &mut Paper<'_>, area: Rect, detail: &Detail, trial: &Trial) {
        let theme = paper.theme;
        let waits = matches!(trial.standing, Standing::Pending | Standing::Paused);
        let explained = if waits { detail.explained.as_str() } else { "" };
        let failed = if trial.standing == Standing::Failed { &*trial.reason } else { "" };
        let title = if waits { "why it waits" } else { "log" };
        let inside = paper.frame(area, &Line::from(span(title, theme.strong())), &Line::default());
        let width = usize::from(inside.width.saturating_sub(2));
        let mut lines: Vec<(String, Style)> = Vec::new();
        for (words, style) in [(explained, theme.ink()), (failed, theme.bad())] {
            lines.extend(wrapped(words, width).into_iter().map(|line| (line, style)));
        }
        let room = usize::from(inside.height).saturating_sub(lines.len());
        for (attempt, time_ms, text) in detail.log.iter().skip(detail.log.len().saturating_sub(room)) {
            let time = format::time(*time_ms);
            lines.push((format!("{} [{attempt}] {text}", time.get(11..19).unwrap_or_default()), theme.faint()));
        }
        if lines.is_empty() {
            lines.push(("its trainer wrote nothing".to_owned(), theme.faint()));
        }
        for (y, (words, style)) in lines.iter().enumerate() {
            paper.put(inside, 1, y as u16, words, *style);
        }
    }
}

/// What stands after a number.
enum Trend<'a> {
    Values(&'a [f64]),
    Share(f64, Style),
}

fn end_style(end: &str, paper: &Paper<'_>) -> Style {
    if end.starts_with("is complete") {
        paper.theme.good()
    } else if end.starts_with("failed") || end.starts_with("crashed") {
        paper.theme.bad()
    } else if end.starts_with("was lost") {
        paper.theme.warn()
    } else {
        paper.theme.ink()
    }
}

/// Four digits that matter.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() < 1e-3 {
        return format!("{value:.2e}");
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 5) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(0.0, "0"), (312.44, "312.4"), (0.045, "0.04500"), (0.000_012, "1.20e-5"), (12345.6, "12346")]
        {
            assert_eq!(short(value), expected);
        }
    }
}
