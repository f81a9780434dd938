//! The one trial that is open: its curves, thinned; its attempts, checkpoints and the tail of its log.

use proto::wire::{Checkpoint, Event, LogLine, MetricPoint};
use std::collections::{BTreeMap, VecDeque};
use sweeps::event::Happening;
use sweeps::metrics::{self, Axis};

/// Points kept of a curve: more than any terminal has columns.
const POINTS_MAX: usize = 2_048;
/// Lines kept of a log.
const LOG_MAX: usize = 400;
/// Bytes kept of a line.
const LINE_BYTES_MAX: usize = 500;

/// A curve, thinned to a bounded number of points: neighbours are merged into their mean when there are too many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// By step.
    points: Vec<(f64, f64)>,
    /// Points merged into one.
    merged: u64,
    /// Points of the next one: how many, and their sum.
    open: (u64, f64),
}

impl Curve {
    /// Adds a point. One of an earlier step starts the curve anew from there.
    pub fn push(&mut self, step: f64, value: f64) {
        while self.points.last().is_some_and(|last| last.0 >= step) {
            self.points.pop();
            self.open = (0, 0.0);
        }
        self.merged = self.merged.max(1);
        self.open = (self.open.0 + 1, self.open.1 + value);
        if self.open.0 < self.merged {
            return;
        }
        self.points.push((step, self.open.1 / self.open.0 as f64));
        self.open = (0, 0.0);
        if self.points.len() >= POINTS_MAX {
            self.points = self.points.chunks(2).map(merge).collect();
            self.merged *= 2;
        }
    }

    /// By step.
    #[must_use]
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The newest value.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|point| point.1)
    }

    /// Its values, oldest first.
    pub(super) fn values(&self) -> Vec<f64> {
        self.points.iter().map(|point| point.1).collect()
    }
}

fn merge(pair: &[(f64, f64)]) -> (f64, f64) {
    let count = pair.len() as f64;
    (pair.last().map_or(0.0, |last| last.0), pair.iter().map(|point| point.1).sum::<f64>() / count)
}

/// One try at the trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Which, from 1.
    pub attempt: u32,
    /// Where.
    pub host: String,
    /// `cpu`, `cuda:0`, ..
    pub device: String,
    /// Unix times; 0 while unknown.
    pub started_ms: u64,
    /// 0 while it runs.
    pub ended_ms: u64,
    /// How it ended, in words; empty while it runs.
    pub end: String,
    /// Epochs done when it started.
    pub resumed_epoch: u32,
}

/// The open trial.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Its id.
    pub trial: u64,
    /// By metric.
    pub curves: BTreeMap<String, Curve>,
    /// By number.
    pub attempts: Vec<Attempt>,
    /// As kept.
    pub checkpoints: Vec<Checkpoint>,
    /// The newest lines of its log: attempt, Unix time, words.
    pub log: VecDeque<(u32, u64, Box<str>)>,
    /// What the coordinator says of it.
    pub explained: String,
}

impl Detail {
    /// Nothing known yet.
    #[must_use]
    pub fn new(trial: u64) -> Self {
        Self { trial, ..Self::default() }
    }

    /// Takes points, in order of name and step.
    pub fn points(&mut self, points: Vec<MetricPoint>) {
        for MetricPoint { trial: _, attempt: _, name, step, value } in points {
            match self.curves.get_mut(&name) {
                Some(curve) => curve.push(step as f64, value),
                None => self.curves.entry(name).or_default().push(step as f64, value),
            }
        }
    }

    /// Takes lines of its log.
    pub fn lines(&mut self, lines: Vec<LogLine>) {
        for LogLine { attempt, time_ms, mut text } in lines {
            if self.log.len() == LOG_MAX {
                self.log.pop_front();
            }
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
            self.log.push_back((attempt, time_ms, text.into()));
        }
    }

    /// Folds an event of this trial that came after its points were asked for.
    pub fn event(&mut self, event: &Event, happening: &Happening) {
        match happening {
            Happening::EpochFinished { points, .. } => {
                for point in points {
                    if metrics::find(&point.name).is_some_and(|metric| metric.axis == Axis::Epoch) {
                        self.curves.entry(point.name.clone()).or_default().push(point.step as f64, point.value);
                    }
                }
            }
            Happening::AttemptStarted { attempt, worker: _, host, device } => {
                self.attempts.retain(|known| known.attempt != *attempt);
                let (host, device) = (host.clone(), device.clone());
                let started_ms = event.time_ms;
                self.attempts.push(Attempt { attempt: *attempt, host, device, started_ms, ..Attempt::default() });
            }
            Happening::AttemptEnded { attempt, end } => {
                if let Some(known) = self.attempts.iter_mut().find(|known| known.attempt == *attempt) {
                    known.ended_ms = event.time_ms;
                    known.end = crate::happenings::end_words(end);
                }
            }
            _ => {}
        }
    }

    /// Share of the last epoch that training waited for data.
    #[must_use]
    pub fn waiting_share(&self) -> Option<f64> {
        let last = |name: &str| self.curves.get(name).and_then(Curve::last);
        let seconds = last("epoch_seconds")? - last("eval_seconds").unwrap_or(0.0);
        (seconds > 0.0).then(|| (last("data_wait_seconds").unwrap_or(0.0) / seconds).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_stays_small_and_keeps_its_shape() {
        let mut curve = Curve::default();
        for step in 1..=1_000_000u32 {
            curve.push(f64::from(step), f64::from(step) / 1e6);
        }
        let points = curve.points();
        assert!((POINTS_MAX / 2 - 1..POINTS_MAX).contains(&points.len()), "{}", points.len());
        for (step, value) in points {
            assert!((step / 1e6 - value).abs() < 1e-3, "{step} {value}");
        }
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn an_epoch_trained_again_replaces_what_followed() {
        let mut curve = Curve::default();
        for (step, value) in [(1.0, 0.1), (2.0, 0.2), (3.0, 0.3), (2.0, 0.25)] {
            curve.push(step, value);
        }
        assert_eq!(curve.points(), [(1.0, 0.1), (2.0, 0.25)]);
    }

    #[test]
    fn a_log_keeps_its_tail() {
        let mut detail = Detail::new(1);
        let line = |number: usize| LogLine { attempt: 1, time_ms: 5, text: format!("{number} {}", "ä".repeat(400)) };
        detail.lines((0..1000).map(line).collect());
        assert_eq!(detail.log.len(), LOG_MAX);
        assert!(detail.log.back().unwrap().2.starts_with("999 ") && detail.log.back().unwrap().2.len() <= 500);
    }
}
