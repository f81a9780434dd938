//! Events into what is known.

use crate::made_up::{NOW_MS, PLAIN, asks, event, happening, id, searched, status, told, watch};
use dashboards::watch::model::{Measure, Standing, Trial};
use dashboards::watch::points::{Cost, Points};
use dashboards::watch::{Ask, Input, Watch};
use proto::wire::{Event, StatusReply};
use serde_json::json;

fn trial(watch: &Watch, number: u32) -> &Trial {
    watch.model().by_id(id(number)).unwrap()
}

fn epoch(attempt: u32, epoch: u32, top1: f64) -> serde_json::Value {
    json!({"kind": "epoch_finished", "attempt": attempt, "epoch": epoch, "points": [
        {"name": "val_top1", "step": epoch, "value": top1},
        {"name": "epoch_seconds", "step": epoch, "value": 60.0},
        {"name": "images_per_second", "step": epoch, "value": 500.0}]})
}

fn is_status(ask: &Ask) -> bool {
    matches!(ask, Ask::Status { .. })
}

#[test]
fn a_trial_from_lease_to_end() {
    let mut watch = watch(PLAIN, status());
    let running = json!({"kind": "trial_changed", "state": {"state": "running", "attempt": 1,
        "slot": {"worker": 5, "index": 0}, "stopping": null}});
    watch.handle(NOW_MS, told(1001, 14, running));
    let started = json!({"kind": "attempt_started", "attempt": 1, "worker": 5, "host": "cpu-7", "device": "cpu"});
    watch.handle(NOW_MS, told(1002, 14, started));
    watch.handle(NOW_MS, told(1003, 14, epoch(1, 1, 0.2)));
    watch.handle(NOW_MS, told(1004, 14, epoch(1, 2, 0.3)));
    watch.handle(NOW_MS, told(1005, 14, epoch(1, 3, 0.25)));
    let known = trial(&watch, 14);
    assert_eq!((known.standing, known.epochs_done, known.best_epoch, known.attempts), (Standing::Running, 3, 2, 1));
    assert_eq!((known.best.get(Measure::Top1), known.last.get(Measure::Top1)), (Some(0.3), Some(0.25)));
    assert_eq!(known.train_seconds, 180.0);
    assert_eq!(watch.model().host_and_device(known), ("cpu-7", "cpu"));
    watch.handle(
        NOW_MS,
        told(1006, 14, json!({"kind": "attempt_ended", "attempt": 1, "end": "crashed", "reason": "signal 9"})),
    );
    watch.handle(NOW_MS, told(1007, 14, json!({"kind": "trial_changed", "state": {"state": "pending"}})));
    let known = trial(&watch, 14);
    assert_eq!((known.standing, &*known.reason), (Standing::Pending, "signal 9"));
    watch.handle(NOW_MS, told(1008, 14, json!({"kind": "trial_changed", "state": {"state": "completed"}})));
    assert_eq!(trial(&watch, 14).epochs_done, 100);
    assert!(!asks(&mut watch).iter().any(is_status), "events told it all");
}

#[test]
fn what_the_status_knew_is_not_counted_twice() {
    let mut watch = watch(PLAIN, status());
    let before = trial(&watch, 11).clone();
    watch.handle(NOW_MS, told(999, 11, epoch(1, 62, 0.99)));
    let after = trial(&watch, 11);
    assert_eq!(after.best.get(Measure::Top1), before.best.get(Measure::Top1));
    assert_eq!(after.train_seconds, before.train_seconds);
    // But it is a line.
    assert!(watch.model().lines.back().unwrap().words.contains("99.00 %"));
}

#[test]
fn history_told_again_is_not_doubled() {
    let mut watch = watch(PLAIN, status());
    let count = watch.model().lines.len();
    for sequence in [905, 909] {
        watch.handle(NOW_MS, told(sequence, 0, json!({"kind": "sweep_paused"})));
    }
    assert_eq!(watch.model().lines.len(), count);
}

#[test]
fn an_epoch_trained_again_asks_which_is_best() {
    let mut watch = watch(PLAIN, status());
    watch.handle(NOW_MS + 2_000, told(1001, 12, epoch(2, 15, 0.1)));
    assert_eq!(trial(&watch, 12).epochs_done, 17);
    assert!(asks(&mut watch).iter().any(is_status));
}

#[test]
fn a_trial_nobody_told_of_is_asked_for_once_a_second() {
    let mut watch = watch(PLAIN, status());
    for (after_ms, wanted) in [(2_000, 1), (2_100, 0), (2_900, 0), (3_100, 1)] {
        let stranger = told(1000 + after_ms, 99, json!({"kind": "trial_changed", "state": {"state": "pending"}}));
        watch.handle(NOW_MS + after_ms, stranger);
        assert_eq!(asks(&mut watch).iter().filter(|ask| is_status(ask)).count(), wanted, "after {after_ms} ms");
    }
}

#[test]
fn another_metric_that_decides_is_asked_for() {
    let mut reply = status();
    reply.spec_json = reply.spec_json.replace(r#""name":"val_top1""#, r#""name":"train_loss""#);
    let mut watch = Watch::new(dashboards::watch::Setup { theme: PLAIN, read_only: false, embedded: false }, NOW_MS);
    asks(&mut watch);
    watch.handle(NOW_MS, Input::Status(Box::new(reply)));
    let asked = asks(&mut watch);
    assert!(
        asked.iter().any(|ask| matches!(ask, Ask::Status { metrics } if metrics.contains(&"train_loss".to_owned()))),
        "{asked:?}"
    );
}

#[test]
fn an_unknown_event_is_a_line() {
    let mut watch = watch(PLAIN, status());
    let json = r#"{"kind":"moon_rose"}"#.to_owned();
    watch.handle(NOW_MS, Input::Event(Event { sequence: 1001, json: json.clone(), ..Event::default() }));
    assert_eq!(&*watch.model().lines.back().unwrap().words, json);
}

#[test]
fn lines_are_bounded() {
    let mut watch = watch(PLAIN, status());
    let paused = happening(json!({"kind": "sweep_paused"}));
    for sequence in 1..5_000 {
        watch.handle(NOW_MS, event(1_000 + sequence, 0, &paused));
    }
    assert_eq!(watch.model().lines.len(), 2_000);
    assert!(watch.model().paused);
}

#[test]
fn the_best_configuration_of_a_cell_counts_by_its_mean() {
    let watch = watch(PLAIN, searched());
    let points = Points::new(watch.model(), Cost::MultAdds, Measure::Top1);
    assert_eq!((watch.model().trials.len(), points.points.len()), (96, 16));
    let first = &points.points[0];
    // The middle learning rate, mean of two seeds.
    let expected = 70.9 * (0.998 + 0.996) / 2.0;
    assert!((first.value.unwrap() - expected).abs() < 1e-9, "{:?}", first.value);
    assert_eq!(watch.model().trials[first.trial].settings[0].to_string(), "0.045");
    assert!(first.spread.is_some());
}

#[test]
fn front_fit_and_who_dominates() {
    let watch = watch(PLAIN, status());
    let points = Points::new(watch.model(), Cost::MultAdds, Measure::Top1);
    let front: Vec<(f64, u32)> = points
        .front
        .iter()
        .map(|place| &watch.model().cells[*place])
        .map(|cell| (cell.alpha, cell.resolution))
        .collect();
    assert_eq!(front.first(), Some(&(0.25, 224)), "cells without an epoch are not on it");
    assert_eq!(front.last(), Some(&(1.0, 224)));
    for (place, point) in points.points.iter().enumerate().filter(|(_, point)| point.value.is_some()) {
        match points.dominating(place) {
            Some(by) => {
                let by = &points.points[by];
                assert!(!point.front && by.front);
                assert!(by.cost <= point.cost && by.value >= point.value);
            }
            None => assert!(point.front, "cell {place}"),
        }
    }
    let fit = points.fit.as_ref().unwrap();
    assert!(fit.r_squared > Some(0.5) && fit.slope > 0.0);
    // By loss less is better.
    let by_loss = Points::new(watch.model(), Cost::Parameters, Measure::Loss);
    let values: Vec<f64> = by_loss.front.iter().map(|place| by_loss.points[*place].value.unwrap()).collect();
    assert!(values.windows(2).all(|pair| pair[1] < pair[0]), "{values:?}");
}

#[test]
fn ten_thousand_trials_take_little() {
    let mut reply = status();
    let pattern = reply.trials[0].clone();
    reply.trials = (1..=10_000u32)
        .map(|number| proto::wire::TrialStatus { id: id(number), number, seed: u64::from(number), ..pattern.clone() })
        .collect();
    let StatusReply { trials, .. } = &reply;
    assert_eq!(trials.len(), 10_000);
    let watch = watch(PLAIN, reply);
    assert!(size_of::<Trial>() <= 320, "{} bytes a trial", size_of::<Trial>());
    assert_eq!((watch.model().trials.len(), watch.model().cells.len()), (10_000, 1));
}
