//! Each target for a moment.
#![allow(clippy::unwrap_used, reason = "a test may")]

use fuzz::run::{Report, Wish, run};
use fuzz::targets::DOORS;
use std::time::Duration;

/// So many cases, always the same: what is found here can be found again.
fn check(target: &str, cases_max: u64) {
    let folder = tempfile::tempdir().unwrap();
    let door = DOORS.iter().find(|door| door.name == target).unwrap();
    let time = Duration::from_secs(3600);
    let wish = Wish { seed: 1, from: 0, time, cases_max, folder: folder.path().to_owned() };
    let Report { cases, taken, findings, .. } = run(door, &wish, |_| {}).unwrap();
    assert_eq!(findings, []);
    assert_eq!(cases, cases_max);
    // Both what is good and what is not was tried.
    assert!(taken > 0 && taken < cases, "{taken} of {cases} were taken");
}

#[test]
fn sweep_files() {
    check("sweep-file", 1_500);
}

#[test]
fn messages() {
    check("messages", 10_000);
}

#[test]
fn pipe() {
    check("pipe", 5_000);
}

#[test]
fn trainer() {
    check("trainer", 5_000);
}

#[test]
fn scripted() {
    check("scripted", 3_000);
}

#[test]
fn images() {
    check("images", 1_500);
}

#[test]
fn data_sets() {
    check("data-sets", 400);
}

#[test]
fn checkpoints() {
    check("checkpoints", 300);
}

#[test]
fn coordinator() {
    check("coordinator", 600);
}

#[test]
fn gradients() {
    check("gradients", 400);
}

#[test]
fn every_target_is_here() {
    let names: Vec<&str> = DOORS.iter().map(|door| door.name).collect();
    let here = [
        "sweep-file",
        "messages",
        "pipe",
        "trainer",
        "scripted",
        "images",
        "data-sets",
        "checkpoints",
        "coordinator",
        "gradients",
    ];
    assert_eq!(names, here);
}
