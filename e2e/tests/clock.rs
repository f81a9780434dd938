//! The calendar's clock is set while a coordinator works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Stage, attempts, epochs_of};
use serde_json::Value;

const HOUR_MS: i64 = 3_600_000;

/// Hours on from now, then back, then far back: leases do not mind, and what came first stays first.
#[test]
fn a_clock_that_is_set_ends_no_lease_and_changes_no_order() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("zebra", "1, 0.5", 8, "script: [{do: sleep, ms: 250}]");
    stage.ask(&["submit", &file]);
    let _workers = [(); 2].map(|()| stage.worker(&coordinator.address, &[]));
    let watcher = stage.watch("zebra");
    for (epoch, moved_by_ms) in [(2, 5 * HOUR_MS), (4, -3 * HOUR_MS), (6, -30 * HOUR_MS)] {
        watcher.until("an epoch", |event| event.is("epoch_finished", 1) && event.number("epoch") == epoch);
        stage.move_clock(moved_by_ms);
    }
    stage.ask(&["submit", &stage.sweep("aardvark", "1", 2, "script: [{do: sleep, ms: 10}]")]);
    let events = stage.events("zebra");
    for trial in [1, 2] {
        assert_eq!(attempts(&events, trial), ["completed"], "no lease was lost");
        assert_eq!(epochs_of(&events, trial)[&1], (1..=8).collect::<Vec<_>>());
    }
    let times: Vec<i64> = events.iter().map(|event| event.time_ms).collect();
    let (first, last) = (times[0], times[times.len() - 1]);
    assert!(last < first - 29 * HOUR_MS, "the clock was set back: {first} {last}");
    assert!(times.iter().any(|time| *time > first + 4 * HOUR_MS), "and forward before: {times:?}");
    assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let listed = || -> Vec<String> {
        let told: Value = serde_json::from_str(&stage.ask(&["list", "--json"])).unwrap();
        let sweeps = told.as_array().unwrap_or_else(|| panic!("{told}")).iter();
        sweeps.map(|sweep| sweep["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(), ["zebra", "aardvark"], "in the order they were submitted");
    assert_eq!(stage.events("aardvark").last().unwrap().kind, "sweep_over");
    let workers: Value = serde_json::from_str(&stage.ask(&["workers", "--json"])).unwrap();
    let states = workers.as_array().unwrap().iter().map(|worker| (&worker["state"], &worker["times_lost"]));
    assert_eq!(states.collect::<Vec<_>>(), [(&Value::from("attached"), &Value::from(0)); 2]);
    // Restarted under a clock that is set on: all as before.
    let address = coordinator.kill();
    stage.move_clock(20 * HOUR_MS);
    let _coordinator = stage.coordinator(Some(&address));
    assert_eq!(listed(), ["zebra", "aardvark"]);
    assert_eq!(stage.events("zebra")[..events.len()], events);
}
