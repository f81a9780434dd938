//! `attempts`: a row for each try at a trial: where it ran, on what, from where, and how it ended.

use crate::results::{Attempt, Results};
use crate::tabular::{Column, Kind, Style, Tabular, Value};

/// Every attempt that the coordinator told of.
#[must_use]
pub fn attempts(results: &Results) -> Tabular {
    let columns = vec![
        Column::new("trial", "trial", Kind::Count, Style::Plain),
        Column::new("attempt", "attempt", Kind::Count, Style::Plain),
        Column::new("host", "host", Kind::Text, Style::Plain),
        Column::new("device", "device", Kind::Text, Style::Plain),
        Column::new("instruction_set", "instructions", Kind::Text, Style::Plain),
        Column::new("threads", "threads", Kind::Count, Style::Plain),
        Column::new("libtorch", "libtorch", Kind::Text, Style::Plain),
        Column::new("resumed_epoch", "resumed after epoch", Kind::Count, Style::Plain),
        Column::hidden("started_ms", Kind::Count),
        Column::hidden("ended_ms", Kind::Count),
        Column::new("seconds", "time", Kind::Number, Style::Duration),
        Column::new("end", "ended", Kind::Text, Style::Plain),
    ];
    let known = |value: u64| if value > 0 { Value::Count(value) } else { Value::None };
    let row = |attempt: &Attempt| {
        let over = attempt.ended_ms >= attempt.started_ms && attempt.ended_ms > 0;
        let seconds = over.then(|| (attempt.ended_ms - attempt.started_ms) as f64 / 1e3);
        vec![
            Value::Count(u64::from(attempt.trial)),
            Value::Count(u64::from(attempt.attempt)),
            Value::text(attempt.host.clone()),
            Value::text(attempt.device.clone()),
            Value::text(attempt.instruction_set.clone()),
            known(u64::from(attempt.threads)),
            Value::text(attempt.libtorch.clone()),
            known(u64::from(attempt.resumed_epoch)),
            known(attempt.started_ms),
            known(attempt.ended_ms),
            Value::number(seconds),
            Value::text(attempt.end.clone()),
        ]
    };
    Tabular {
        name: "attempts".to_owned(),
        title: "attempts".to_owned(),
        notes: super::inexact_notes(results),
        columns,
        rows: results.attempts.iter().map(row).collect(),
    }
}
