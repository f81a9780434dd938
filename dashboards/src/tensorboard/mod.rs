//! A trial's metrics as a TensorBoard event file.
//!
//! One run a trial; a tag is the axis and the metric's name, `epoch/val_top1` or `step/step_loss`, so that TensorBoard
//! puts what shares an axis together. Values are 32-bit floats there. The wall time of a point is when the trial
//! started plus the seconds its epochs took, so that "relative" shows time spent training, without the pauses.

mod record;
#[cfg(test)]
mod tests;

use message::summary_metadata::{DataClass, PluginData};
use message::{Event, SourceMetadata, Summary, SummaryMetadata, event, summary};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use sweeps::metrics::{self, Axis, Metric, Point};

/// Generated from `proto/tensorboard.proto`.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, reason = "generated code")]
pub(crate) mod message {
    include!(concat!(env!("OUT_DIR"), "/tensorboard.rs"));
}

/// What the first record says.
const VERSION: &str = "brain.Event:2";

/// The file's name: TensorBoard reads what has `tfevents` in it. `started_ms` is Unix time.
#[must_use]
pub fn file_name(started_ms: u64) -> String {
    format!("events.out.tfevents.{:010}.alpharho", started_ms / 1000)
}

/// The file's bytes, from the trial's points in any order; `started_ms` is Unix time, when its first attempt began.
/// Points of metrics that are not in the table are left out. The same points give the same bytes.
#[must_use]
pub fn write(started_ms: u64, points: &[Point]) -> Vec<u8> {
    let clock = Clock::new(started_ms, points);
    let mut file = Vec::new();
    record::append(&mut file, &first(clock.started).encode_to_vec());
    // By time; at the same time in the order of the table.
    let mut sorted: Vec<(f64, usize, &Metric, &Point)> = points
        .iter()
        .filter_map(|point| {
            let place = metrics::METRICS.iter().position(|metric| metric.name == point.name)?;
            let metric = &metrics::METRICS[place];
            Some((clock.at(metric.axis, point.step), place, metric, point))
        })
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.3.step.cmp(&b.3.step)));
    let mut described = BTreeSet::new();
    for (time, _, metric, point) in sorted {
        let description = described.insert(metric.name).then(|| describe(metric));
        record::append(&mut file, &scalar(time, metric, point, description).encode_to_vec());
    }
    file
}

/// `epoch/val_top1`.
#[must_use]
pub fn tag(metric: &Metric) -> String {
    let axis = match metric.axis {
        Axis::Epoch => "epoch",
        Axis::Step => "step",
        Axis::Constant => "trial",
    };
    format!("{axis}/{}", metric.name)
}

fn describe(metric: &Metric) -> String {
    if metric.unit.is_empty() { metric.meaning.to_owned() } else { format!("{} ({})", metric.meaning, metric.unit) }
}

fn first(wall_time: f64) -> Event {
    let source_metadata = Some(SourceMetadata { writer: "alpharho".to_owned() });
    Event { wall_time, step: 0, what: Some(event::What::FileVersion(VERSION.to_owned())), source_metadata }
}

#[expect(clippy::cast_possible_truncation, reason = "TensorBoard keeps scalars in 32 bits")]
fn scalar(wall_time: f64, metric: &Metric, point: &Point, description: Option<String>) -> Event {
    let value = summary::Value {
        tag: tag(metric),
        value: Some(summary::value::Value::SimpleValue(point.value as f32)),
        metadata: description.map(|summary_description| SummaryMetadata {
            plugin_data: Some(PluginData { plugin_name: "scalars".to_owned() }),
            display_name: metric.name.to_owned(),
            summary_description,
            // Otherwise TensorBoard makes metadata of its own, without the description.
            data_class: DataClass::Scalar.into(),
        }),
    };
    Event {
        wall_time,
        step: i64::try_from(point.step).unwrap_or(i64::MAX),
        what: Some(event::What::Summary(Summary { value: vec![value] })),
        source_metadata: None,
    }
}

/// When things happened, as far as the points themselves tell.
struct Clock {
    /// Seconds of Unix time.
    started: f64,
    /// Seconds after the start at which each epoch ended, by epoch.
    ends: BTreeMap<u64, f64>,
    /// Of an epoch; an estimate, since an epoch's steps are not among the points.
    steps: f64,
}

impl Clock {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds and steps, far below 2^53")]
    fn new(started_ms: u64, points: &[Point]) -> Self {
        let mut seconds: BTreeMap<u64, f64> = BTreeMap::new();
        for point in points.iter().filter(|point| point.name == "epoch_seconds") {
            seconds.insert(point.step, point.value);
        }
        let mut total = 0.0;
        let mut ends = BTreeMap::new();
        for (epoch, duration) in seconds {
            total += duration;
            ends.insert(epoch, total);
        }
        let last = points.iter().filter(|point| is_by_step(&point.name)).map(|point| point.step).max().unwrap_or(0);
        let steps = last as f64 / ends.len().max(1) as f64;
        Self { started: started_ms as f64 / 1000.0, ends, steps: steps.max(1.0) }
    }

    /// The wall time of a point, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "steps, far below 2^53")]
    fn at(&self, axis: Axis, step: u64) -> f64 {
        self.started
            + match axis {
                Axis::Constant => 0.0,
                Axis::Epoch => self.end_of(step),
                Axis::Step => {
                    let epochs = step as f64 / self.steps;
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
                    let whole = epochs as u64;
                    let (before, after) = (self.end_of(whole), self.end_of(whole + 1));
                    before + (epochs - epochs.floor()) * (after - before)
                }
            }
    }

    /// Seconds from the start to the end of an epoch, or to the newest end before it.
    fn end_of(&self, epoch: u64) -> f64 {
        self.ends.range(..=epoch).next_back().map_or(0.0, |(_, seconds)| *seconds)
    }
}

fn is_by_step(name: &str) -> bool {
    metrics::find(name).is_some_and(|metric| metric.axis == Axis::Step)
}
