//! What the trade-off says of the cell under its cursor, and of the front.

use super::model::{Measure, Standing};
use super::paint::{Paper, span};
use super::points::{Points, time_per_image_ms};
use super::tradeoff::TradeoffView;
use crate::format;
use ratatui::layout::Rect;
use ratatui::text::Line;

impl TradeoffView<'_> {
    /// In 3 lines where it is narrow, in up to 15 where there is a column for it.
    pub(super) fn tell(&self, paper: &mut Paper<'_>, area: Rect, points: &Points, place: usize, column: bool) {
        let theme = paper.theme;
        let Some(point) = points.points.get(place) else { return };
        let cell = &self.model.cells[point.cell];
        let trial = &self.model.trials[point.trial];
        let (faint, strong) = (theme.faint(), theme.strong());
        let name = format!("α {}  ρ {}", format::alpha(cell.alpha), cell.resolution);
        let standing = self.standing(point.cell);
        let value = match point.value {
            Some(value) => self.value_words(value),
            None => "no value yet".to_owned(),
        };
        let spread = point.spread.map(|(low, high)| format!("{low:.2} to {high:.2} over seeds"));
        let when = format!("epoch {}", trial.best_epoch);
        let cost = format!("{} Mult-Adds", format::count(cell.mult_adds));
        let size = format!("{} parameters", format::count(cell.params));
        let of_cell = cell.members.iter().map(|member| &self.model.trials[*member as usize]);
        let time = time_per_image_ms(of_cell).map(|ms| format!("{} ms/image", significant(ms)));
        let verdict = self.verdict(points, place);
        let residual = points.residual(place).map(|residual| {
            let unit = if self.measure() == Measure::Loss { "" } else { " points" };
            let side = if residual < 0.0 { "below" } else { "above" };
            format!("{:.2}{unit} {side} the fitted line", residual.abs())
        });
        if column {
            let rows = [
                Some(Line::from(span(name, strong))),
                Some(Line::from(span(standing, faint))),
                Some(Line::default()),
                Some(Line::from(vec![span(value, strong), span(format!("  {when}"), faint)]))
                    .filter(|_| point.value.is_some()),
                spread.map(|words| Line::from(span(words, faint))),
                Some(Line::from(cost)),
                Some(Line::from(size)),
                time.map(Line::from),
                Some(Line::default()),
            ];
            let mut y = 0;
            for row in rows.into_iter().flatten() {
                paper.line(area, 1, y, &row);
                y += 1;
            }
            for words in verdict.into_iter().chain(residual) {
                for line in wrapped(&words, usize::from(area.width).saturating_sub(2)) {
                    paper.put(area, 1, y, &line, theme.ink());
                    y += 1;
                }
            }
            return;
        }
        let mut first = vec![span(format!(" {name}  "), strong), span(value, strong), span(format!(" {when}"), faint)];
        if let Some(spread) = spread {
            first.push(span(format!(", {spread}"), faint));
        }
        first.push(span(format!("  {standing}"), faint));
        paper.line(area, 0, 0, &Line::from(first));
        let facts: Vec<String> = [Some(cost), Some(size), time].into_iter().flatten().collect();
        paper.put(area, 1, 1, &facts.join(" · "), theme.ink());
        let words: Vec<String> = verdict.into_iter().chain(residual).collect();
        paper.put(area, 1, 2, &words.join("; "), theme.ink());
    }

    /// `completed`, or how its trials stand.
    fn standing(&self, cell: usize) -> String {
        let members = &self.model.cells[cell].members;
        let trials = || members.iter().map(|member| &self.model.trials[*member as usize]);
        if let [one] = members.as_slice() {
            let trial = &self.model.trials[*one as usize];
            let number = trial.number;
            return match trial.standing {
                Standing::Completed => format!("trial {number}, completed"),
                standing => format!("trial {number}, {} {}/{}", standing.word(), trial.epochs_done, trial.epochs),
            };
        }
        let over = trials().filter(|trial| trial.standing == Standing::Completed).count();
        format!("{} trials, {over} completed", members.len())
    }

    fn value_words(&self, value: f64) -> String {
        match self.measure() {
            Measure::Top1 => format!("top-1 {value:.2} %"),
            Measure::Top5 => format!("top-5 {value:.2} %"),
            Measure::Loss => format!("loss {value:.4}"),
            Measure::ImagesPerSecond => format!("{value:.1} images/s"),
        }
    }

    fn verdict(&self, points: &Points, place: usize) -> Option<String> {
        let point = points.points.get(place)?;
        let value = point.value?;
        if point.front {
            return Some("on the Pareto front".to_owned());
        }
        if !point.cost.is_finite() {
            return None;
        }
        let by = points.points.get(points.dominating(place)?)?;
        let cell = &self.model.cells[by.cell];
        let better = (by.value? - value).abs();
        let gain = match self.measure() {
            Measure::Top1 | Measure::Top5 => format!("{better:.2} points better"),
            Measure::Loss | Measure::ImagesPerSecond => format!("better by {better:.4}"),
        };
        let times = point.cost / by.cost;
        let cheaper = if times >= 1.005 { format!("{times:.2} times cheaper") } else { "at the same cost".to_owned() };
        Some(format!("dominated by α {} ρ {}: {cheaper}, {gain}", format::alpha(cell.alpha), cell.resolution))
    }

    /// The front, cheapest first: what there is to choose from.
    pub(super) fn front(&self, paper: &mut Paper<'_>, area: Rect, points: &Points) {
        let theme = paper.theme;
        paper.put(area, 1, 0, "Pareto front, cheapest first", theme.strong());
        for (row, place) in points.front.iter().enumerate() {
            let point = &points.points[*place];
            let cell = &self.model.cells[point.cell];
            let value = match (self.measure(), point.value) {
                (_, None) => "–".to_owned(),
                (Measure::Loss, Some(value)) => format!("{value:.4}"),
                (_, Some(value)) => format!("{value:.2}"),
            };
            let name = format!("{}-{}", format::alpha(cell.alpha), cell.resolution);
            let open = if point.finished { "" } else { " still training" };
            let words = format!("{name:<9} {:>8} {value:>8}{open}", format::count(cell.mult_adds));
            paper.put(area, 1, 1 + row as u16, &words, theme.ink());
        }
    }
}

fn significant(value: f64) -> String {
    let digits = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

/// Words in lines of at most so many characters.
pub(super) fn wrapped(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrapped("one two three four", 8), ["one two", "three", "four"]);
        assert_eq!(wrapped("extraordinarily long", 5), ["extraordinarily", "long"]);
        assert_eq!(wrapped("", 0), Vec::<String>::new());
    }

    #[test]
    fn three_digits_are_enough() {
        for (value, expected) in [(3.2194, "3.22"), (0.012_345, "0.0123"), (154.4, "154"), (0.0, "0.000000")] {
            assert_eq!(significant(value), expected);
        }
    }
}
