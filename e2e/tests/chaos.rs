//! A short run of `cargo xtask chaos`.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use e2e::chaos::{Chaos, What, run};
use std::time::Duration;

#[test]
fn nothing_of_ten_seconds_of_faults_can_be_seen_in_the_results() {
    let chaos = Chaos { seed: 1, how_long: Duration::from_secs(10), what: What::Processes };
    let report = run(chaos, |what| eprintln!("{what}"));
    assert!(report.problems.is_empty(), "seed 1: {}", report.problems.join("\n"));
    let faults: u64 = report.faults.values().sum();
    assert!(faults >= 5 && report.values > 0, "{report:?}");
}
