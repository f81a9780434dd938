//! Exported figures: the same data gives the same bytes, and what they say is there.

use crate::made_up::{self, PAPER, Row};
use dashboards::export::write_all;
use dashboards::view::SweepView;
use proto::wire::StatusReply;
use std::path::PathBuf;

/// Exports into a folder that stays, so that the figures can be looked at, and returns the SVG.
fn export(folder: &str, reply: &StatusReply) -> String {
    let view = SweepView::new(reply);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let files = write_all(&view, &folder).unwrap();
    let first: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let again = write_all(&view, &folder).unwrap();
    for (file, before) in again.iter().zip(&first) {
        assert!(std::fs::read(file).unwrap() == *before, "{} changed", file.display());
    }
    let image = image::load_from_memory(&first[3]).unwrap();
    assert_eq!((image.width(), image.height()), (1600, 1000));
    String::from_utf8(first[2].clone()).unwrap()
}

fn label(words: &str) -> String {
    format!("aria-label=\"{words}\"")
}

#[test]
fn the_papers_cells_are_all_labelled() {
    let svg = export("paper", &made_up::sweep("mobilenet-imagenet", &PAPER));
    for row in &PAPER {
        assert!(svg.contains(&label(&format!("{}-{}", row.0, row.1))), "{row:?}");
    }
    assert!(svg.contains(&label("Pareto front")));
    assert!(!svg.contains("scripted"));
    assert!(!svg.contains("<text"), "text must be outlines");
}

#[test]
fn close_accuracies_are_all_labelled_too() {
    let svg = export("crowded", &made_up::sweep("fashion-mnist", &made_up::crowded()));
    for row in &PAPER {
        assert!(svg.contains(&label(&format!("{}-{}", row.0, row.1))), "{row:?}");
    }
}

#[test]
fn made_up_numbers_say_so() {
    let mut reply = made_up::sweep("rehearsal", &PAPER);
    for trial in &mut reply.trials {
        trial.scripted = true;
    }
    assert!(export("scripted", &reply).contains(&label("scripted: made-up numbers")));
}

#[test]
fn several_seeds_are_a_mean_and_a_bar() {
    let mut trials = Vec::new();
    for row in &PAPER {
        for (seed, shift) in [(1, -0.7), (2, 0.1), (3, 0.9)] {
            let shifted: Row = (row.0, row.1, row.2, row.3, row.4 + shift);
            trials.push(made_up::trial(trials.len() as u32 + 1, &shifted, seed));
        }
    }
    let svg = export("seeds", &made_up::reply("three-seeds", trials));
    assert!(svg.contains(&label("range of the seeds")));
    assert_eq!(svg.matches(&label("0.5-160")).count(), 1);
}

#[test]
fn a_running_sweep_shows_what_is_there() {
    let mut reply = made_up::sweep("half-way", &PAPER);
    for trial in &mut reply.trials[..8] {
        trial.state = "running".into();
        trial.epochs_done = 12;
    }
    for trial in &mut reply.trials[..2] {
        trial.state = "pending".into();
        trial.epochs_done = 0;
        trial.best_epoch = 0;
        trial.best.clear();
        trial.last.clear();
    }
    let svg = export("running", &reply);
    assert!(svg.contains(&label("not finished")));
    assert!(!svg.contains(&label("1-224")));
    assert!(svg.contains("8 of 16 trials completed, 6 running, 2 pending"));
}

#[test]
fn nothing_yet_is_said() {
    let mut reply = made_up::sweep("fresh", &PAPER[..1]);
    reply.trials[0].best.clear();
    assert!(export("empty", &reply).contains(&label("No trial has finished an epoch yet")));
    export("one", &made_up::sweep("single", &PAPER[..1]));
    export("none", &made_up::sweep("no-trials", &[]));
}

#[test]
fn a_random_search_of_many_cells_is_drawn() {
    let rows: Vec<Row> = (0..200_u32)
        .map(|place| {
            let alpha = f64::from(5 + place * 37 % 96) / 100.0;
            let resolution = 16 + place * 53 % 210;
            let cost = alpha * alpha * f64::from(resolution).powi(2) * 11_000.0;
            let noise = f64::from(place * 7919 % 100) / 20.0;
            (alpha, resolution, cost as u64, 1_000_000, 20.0 + 6.0 * cost.log10() - noise)
        })
        .collect();
    let svg = export("random", &made_up::sweep("random-search", &rows));
    assert!(svg.contains("without a label"));
}
