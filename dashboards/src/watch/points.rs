//! The points of the trade-off: one for each cell, on axes that can be switched.

use super::model::{Cell, Measure, Model, Standing, Trial};
use crate::fit::{self, Fit};
use crate::pareto;

/// What lies across.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// Multiply-accumulates of one forward pass of one image.
    #[default]
    MultAdds,
    /// Trainable parameters.
    Parameters,
    /// Milliseconds of training an image, measured on the trial's device.
    TimePerImage,
}

impl Cost {
    /// The next one, round and round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::MultAdds => Self::Parameters,
            Self::Parameters => Self::TimePerImage,
            Self::TimePerImage => Self::MultAdds,
        }
    }

    /// On the axis.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::MultAdds => "Mult-Adds",
            Self::Parameters => "parameters",
            Self::TimePerImage => "training time per image (ms)",
        }
    }
}

/// What lies up.
#[must_use]
pub(super) fn next_value(value: Measure) -> Measure {
    match value {
        Measure::Top1 => Measure::Top5,
        Measure::Top5 => Measure::Loss,
        Measure::Loss | Measure::ImagesPerSecond => Measure::Top1,
    }
}

/// On the axis.
pub(super) fn value_title(value: Measure) -> &'static str {
    match value {
        Measure::Top1 => "top-1 (%)",
        Measure::Top5 => "top-5 (%)",
        Measure::Loss => "validation loss",
        Measure::ImagesPerSecond => "images/s",
    }
}

/// As drawn and printed: accuracies in percent.
pub(super) fn shown(value: Measure, raw: f64) -> f64 {
    match value {
        Measure::Top1 | Measure::Top5 => raw * 100.0,
        Measure::Loss | Measure::ImagesPerSecond => raw,
    }
}

/// A cell's point.
#[derive(Clone, Debug)]
pub struct Point {
    /// The cell's place in [`Model::cells`].
    pub cell: usize,
    /// Of the axis across.
    pub cost: f64,
    /// Of the axis up, as drawn; `None` before the first epoch, or where it was not measured.
    pub value: Option<f64>,
    /// The trial that reached it, the first of its seeds: its place in [`Model::trials`].
    pub trial: usize,
    /// Lowest and highest of its seeds, where there are several.
    pub spread: Option<(f64, f64)>,
    /// All its trials are over.
    pub finished: bool,
    /// Some of its trials train.
    pub running: bool,
    /// No other is at least as good and cheaper, nor as cheap and better.
    pub front: bool,
}

/// All points, the front and the line through them.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// In the order of [`Model::cells`].
    pub points: Vec<Point>,
    /// Places of the front's points, cheapest first.
    pub front: Vec<usize>,
    /// Through those that have a value, on the logarithm of the cost.
    pub fit: Option<Fit>,
    /// Places of the points that the fit is through, in the order of its residuals.
    fitted: Vec<usize>,
}

impl Points {
    /// Of a model, on these axes.
    #[must_use]
    pub fn new(model: &Model, cost: Cost, value: Measure) -> Self {
        let mut points: Vec<Point> =
            model.cells.iter().enumerate().map(|(place, cell)| point(model, place, cell, cost, value)).collect();
        let sign = if value == Measure::Loss { -1.0 } else { 1.0 };
        let comparable: Vec<Option<(f64, f64)>> = points
            .iter()
            .map(|point| Some((point.cost, sign * point.value?)).filter(|_| point.cost.is_finite()))
            .collect();
        let front = pareto::front(&comparable);
        for place in &front {
            points[*place].front = true;
        }
        let fitted: Vec<usize> = (0..points.len()).filter(|place| comparable[*place].is_some()).collect();
        let of_fit: Vec<(f64, f64)> =
            fitted.iter().map(|place| (points[*place].cost, points[*place].value.unwrap_or(f64::NAN))).collect();
        Self { points, front, fit: fit::log_linear(&of_fit), fitted }
    }

    /// The front's point that dominates one: at least as good and cheaper, or as cheap and better. The best of
    /// those there are.
    #[must_use]
    pub fn dominating(&self, place: usize) -> Option<usize> {
        let cost = self.points.get(place)?.cost;
        if self.points[place].front || self.points[place].value.is_none() {
            return None;
        }
        self.front.iter().copied().rfind(|on_front| self.points[*on_front].cost <= cost)
    }

    /// How far a point lies above the fitted line.
    #[must_use]
    pub fn residual(&self, place: usize) -> Option<f64> {
        let at = self.fitted.iter().position(|fitted| *fitted == place)?;
        self.fit.as_ref()?.residuals.get(at).copied()
    }
}

fn point(model: &Model, place: usize, cell: &Cell, cost: Cost, value: Measure) -> Point {
    let trials = || cell.members.iter().map(|member| (*member as usize, &model.trials[*member as usize]));
    let mut best: Option<(f64, usize, (f64, f64))> = None;
    let mut rest: &[u32] = &cell.members;
    while let Some(first) = rest.first() {
        let configuration = model.trials[*first as usize].configuration;
        let count = rest.iter().take_while(|m| model.trials[**m as usize].configuration == configuration).count();
        let (seeds, after) = rest.split_at(count);
        rest = after;
        let Some((mean, low, high)) = mean_of(model, seeds, value) else { continue };
        let better = best.is_none_or(|(known, ..)| if value == Measure::Loss { mean < known } else { mean > known });
        if better {
            best = Some((mean, *first as usize, (low, high)));
        }
    }
    Point {
        cell: place,
        cost: match cost {
            Cost::MultAdds => cell.mult_adds as f64,
            Cost::Parameters => cell.params as f64,
            Cost::TimePerImage => time_per_image_ms(trials().map(|(_, trial)| trial)).unwrap_or(f64::NAN),
        },
        value: best.map(|(mean, ..)| mean),
        trial: best.map_or_else(|| cell.members.first().map_or(0, |first| *first as usize), |(_, trial, _)| trial),
        spread: best.map(|(_, _, spread)| spread).filter(|(low, high)| high > low),
        finished: trials().all(|(_, trial)| trial.standing.is_over()),
        running: trials().any(|(_, trial)| trial.standing == Standing::Running),
        front: false,
    }
}

/// Mean, least and most over the seeds that have a value, as drawn.
fn mean_of(model: &Model, seeds: &[u32], value: Measure) -> Option<(f64, f64, f64)> {
    let values = seeds.iter().filter_map(|member| model.trials[*member as usize].best.get(value));
    let (mut sum, mut count, mut low, mut high) = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for value in values.map(|raw| shown(value, raw)) {
        (sum, count, low, high) = (sum + value, count + 1.0, low.min(value), high.max(value));
    }
    (count > 0.0).then(|| (sum / count, low, high))
}

/// Mean of the trials that were measured.
pub(super) fn time_per_image_ms<'a>(trials: impl Iterator<Item = &'a Trial>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for rate in trials.filter_map(|trial| trial.last.get(Measure::ImagesPerSecond)).filter(|rate| *rate > 0.0) {
        (sum, count) = (sum + 1_000.0 / rate, count + 1.0);
    }
    (count > 0.0).then(|| sum / count)
}
