//! Agents and coordinator over a network that breaks single calls.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use e2e::calls::{table, unmet};
use e2e::chaos::{Chaos, What, run};
use std::time::Duration;

#[test]
fn every_call_and_message_is_lost_doubled_delayed_and_cut_off_and_nothing_of_it_can_be_seen() {
    let chaos = Chaos { seed: 1, how_long: Duration::from_secs(300), what: What::Calls };
    let report = run(chaos, |what| eprintln!("{what}"));
    println!("{}\n{report:?}", table(&report.calls));
    assert!(report.problems.is_empty(), "seed 1: {}", report.problems.join("\n"));
    assert!(report.values > 0, "{report:?}");
    assert_eq!(unmet(&report.calls), [""; 0], "never happened");
}
