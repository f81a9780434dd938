//! Answers of a coordinator that never was.

pub(crate) use crate::cells::{PAPER, Row};
use dashboards::results::{Attempt, Results};
use proto::wire::{Counts, MetricPoint, StatusReply, SweepSummary, TrialStatus};

/// The same cells with accuracies as close as those of an easy data set.
pub(crate) fn crowded() -> Vec<Row> {
    let percents =
        [94.02, 93.91, 93.88, 93.52, 93.95, 93.86, 93.71, 93.60, 93.72, 93.75, 93.55, 93.2, 93.30, 93.1, 92.95, 92.6];
    PAPER.iter().zip(percents).map(|(row, percent)| (row.0, row.1, row.2, row.3, percent)).collect()
}

/// A finished trial.
pub(crate) fn trial(number: u32, row: &Row, seed: u64) -> TrialStatus {
    let (alpha, resolution, mult_adds, params, percent) = *row;
    let best = percent / 100.0;
    TrialStatus {
        id: u64::from(number),
        key: format!("{number:032x}"),
        number,
        alpha,
        resolution,
        seed,
        parameters_json: format!("{{\"alpha\":{alpha},\"resolution\":{resolution}}}"),
        mult_adds,
        params,
        epochs: 30,
        epochs_done: 30,
        state: "completed".into(),
        attempts: 1,
        worker: "node-a".into(),
        device: "cpu".into(),
        best_epoch: 28,
        best: [("val_top1".to_owned(), best)].into(),
        last: [
            ("val_top1".to_owned(), best - 0.002),
            ("val_top5".to_owned(), 0.98),
            ("val_loss".to_owned(), 0.25),
            ("train_loss".to_owned(), 0.125),
            ("images_per_second".to_owned(), 8e9 / mult_adds as f64),
        ]
        .into(),
        train_seconds: 60.5,
        ..TrialStatus::default()
    }
}

/// A finished sweep of one seed.
pub(crate) fn sweep(name: &str, rows: &[Row]) -> StatusReply {
    let trials: Vec<TrialStatus> =
        rows.iter().enumerate().map(|(place, row)| trial(place as u32 + 1, row, 1)).collect();
    reply(name, trials)
}

/// A sweep of these trials.
pub(crate) fn reply(name: &str, trials: Vec<TrialStatus>) -> StatusReply {
    let summary = SweepSummary {
        name: name.into(),
        description: "Accuracies of TF-slim's table".into(),
        submitted_ms: 1_795_399_652_000,
        counts: Some(Counts { completed: trials.len() as u64, ..Counts::default() }),
        progress: 1.0,
        ..SweepSummary::default()
    };
    let spec_json = r#"{"name":"x","parameters":{},"data":{"format":"image_folder","train":"imagenet/train",
        "validation":"imagenet/val","classes":1000},"training":{"epochs":30}}"#;
    let yaml = format!("name: {name}\n# as <submitted>\n");
    StatusReply { summary: Some(summary), yaml, spec_json: spec_json.into(), trials, ..StatusReply::default() }
}

/// The paper's cells, each with three seeds 0.9 points around a mean.
pub(crate) fn three_seeds() -> StatusReply {
    let mut trials = Vec::new();
    for row in &PAPER {
        for (seed, shift) in [(1, -0.9), (2, 0.0), (3, 0.9)] {
            let shifted: Row = (row.0, row.1, row.2, row.3, row.4 + shift);
            trials.push(trial(trials.len() as u32 + 1, &shifted, seed));
        }
    }
    reply("three-seeds", trials)
}

/// The answers together, with curves of the trials' epochs that end at their accuracies.
pub(crate) fn results(reply: &StatusReply) -> Results {
    Results::new(reply, reply.trials.iter().flat_map(curve).collect(), "0.1.0")
}

fn curve(trial: &TrialStatus) -> Vec<MetricPoint> {
    let best = trial.best.get("val_top1").copied().unwrap_or(0.5);
    let mut points = Vec::new();
    for epoch in 1..=trial.epochs_done {
        let left = (-f64::from(epoch) / 5.0).exp();
        let wobble = f64::from((epoch * 7 + trial.number * 5) % 11) / 1_000.0;
        let mut point = |name: &str, value: f64| {
            points.push(MetricPoint {
                trial: trial.id,
                attempt: trial.attempts,
                name: name.to_owned(),
                step: u64::from(epoch),
                value,
            });
        };
        point("val_top1", best - 0.4 * left - wobble);
        point("train_top1", best + 0.02 - 0.5 * left);
        point("val_loss", 0.25 + 1.5 * left + wobble);
        point("train_loss", 0.125 + 1.75 * left);
        point("images_per_second", 8e9 / trial.mult_adds as f64 * (1.0 + wobble));
    }
    points
}

/// Attempts on a CPU that changed its instruction set on the way.
pub(crate) fn moved(trial: u32) -> [Attempt; 2] {
    let first = Attempt {
        trial,
        attempt: 1,
        host: "node-a".into(),
        device: "cpu".into(),
        threads: 2,
        instruction_set: "avx512".into(),
        libtorch: "2.11.0".into(),
        resumed_epoch: 0,
        started_ms: 1_795_399_652_000,
        ended_ms: 1_795_399_712_000,
        end: "lost: worker 1 was lost".into(),
    };
    let second = Attempt {
        attempt: 2,
        host: "node-b".into(),
        instruction_set: "avx2".into(),
        resumed_epoch: 7,
        started_ms: 1_795_399_720_000,
        ended_ms: 1_795_399_780_000,
        end: "completed".into(),
        ..first.clone()
    };
    [first, second]
}
