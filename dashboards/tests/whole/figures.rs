//! Exported figures: the same data gives the same bytes, and what they say is there.

use crate::made_up::{self, PAPER, Row};
use dashboards::export::write;
use dashboards::results::Results;
use dashboards::selection::Selection;
use proto::wire::{MetricPoint, StatusReply};
use std::path::PathBuf;

/// Exports a plot into a folder that stays, so that it can be looked at, and returns the SVG.
fn export(folder: &str, plot: &str, results: &Results) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let selection = Selection::parse(&[format!("{plot}.svg")]).unwrap();
    let files = write(results, &selection, &folder).unwrap();
    let first = std::fs::read(&files[0]).unwrap();
    write(results, &selection, &folder).unwrap();
    assert!(std::fs::read(&files[0]).unwrap() == first, "{plot} changed");
    let svg = String::from_utf8(first).unwrap();
    assert!(!svg.contains("<text"), "text must be outlines");
    svg
}

fn tradeoff(folder: &str, reply: &StatusReply) -> String {
    export(folder, "tradeoff", &made_up::results(reply))
}

fn label(words: &str) -> String {
    format!("aria-label=\"{words}\"")
}

#[test]
fn the_papers_cells_are_all_labelled() {
    for plot in ["tradeoff", "parameters", "time"] {
        let svg = export("paper", plot, &made_up::results(&made_up::sweep("mobilenet-imagenet", &PAPER)));
        for row in &PAPER {
            assert!(svg.contains(&label(&format!("{}-{}", row.0, row.1))), "{plot} {row:?}");
        }
        assert_eq!(svg.contains(&label("Pareto front")), plot != "parameters");
        assert!(!svg.contains("scripted"));
    }
}

#[test]
fn close_accuracies_are_all_labelled_too() {
    let mut reply = made_up::sweep("fashion-mnist", &made_up::crowded());
    reply.spec_json = reply.spec_json.replace("imagenet", "fashion-mnist");
    for plot in ["tradeoff", "parameters", "time"] {
        let svg = export("crowded", plot, &made_up::results(&reply));
        for row in &PAPER {
            assert!(svg.contains(&label(&format!("{}-{}", row.0, row.1))), "{plot} {row:?}");
        }
    }
}

/// TF-slim's 16 accuracies: the line and the jump at α = 0.25 as any other program computes them.
#[test]
fn the_line_and_what_it_leaves_are_told() {
    let svg = tradeoff("paper-fit", &made_up::sweep("mobilenet-imagenet", &PAPER));
    for words in ["fit, R² = 0.966", "+19.09 points", "Residual (points)", "0.25:  −1.60 points", "the paper, ImageNet"]
    {
        assert!(svg.contains(&label(words)), "{words}: {:?}", labels(&svg));
    }
    let mut elsewhere = made_up::sweep("fashion-mnist", &PAPER);
    elsewhere.spec_json = elsewhere.spec_json.replace("imagenet", "fashion");
    assert!(!tradeoff("elsewhere", &elsewhere).contains("the paper"));
    assert!(!tradeoff("too-few", &made_up::sweep("two", &PAPER[..2])).contains("Residual"));
}

fn labels(svg: &str) -> Vec<&str> {
    svg.split("aria-label=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn made_up_numbers_say_so() {
    let mut reply = made_up::sweep("rehearsal", &PAPER);
    for trial in &mut reply.trials {
        trial.scripted = true;
    }
    for plot in ["tradeoff", "parameters", "time", "curves"] {
        let svg = export("scripted", plot, &made_up::results(&reply));
        assert!(svg.contains(&label("scripted: made-up numbers")), "{plot}");
    }
}

#[test]
fn several_seeds_are_a_mean_and_a_bar() {
    let svg = tradeoff("seeds", &made_up::three_seeds());
    assert!(svg.contains(&label("range of the seeds")));
    assert_eq!(svg.matches(&label("0.5-160")).count(), 1);
    assert!(export("seeds", "curves", &made_up::results(&made_up::three_seeds())).contains(&label("best 60.00 %")));
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
    let results = made_up::results(&reply);
    let svg = export("running", "tradeoff", &results);
    assert!(svg.contains(&label("not finished")));
    assert!(!svg.contains(&label("1-224")));
    assert!(svg.contains("8 of 16 trials completed, 6 running, 2 pending"));
    let svg = export("running", "curves", &results);
    assert!(svg.contains("8 of 16 trials completed, 6 running, 2 pending"));
    assert!(svg.contains(&label("68.40 %, epoch 12 of 30")) && svg.contains(&label("epoch 0 of 30")));
}

#[test]
fn nothing_yet_is_said() {
    let mut reply = made_up::sweep("fresh", &PAPER[..1]);
    reply.trials[0].best.clear();
    reply.trials[0].epochs_done = 0;
    for plot in ["tradeoff", "parameters", "curves"] {
        let svg = export("empty", plot, &made_up::results(&reply));
        assert!(svg.contains(&label("No trial has finished an epoch yet")), "{plot}");
        export("none", plot, &made_up::results(&made_up::sweep("no-trials", &[])));
    }
    let svg = export("empty", "time", &made_up::results(&reply));
    assert!(svg.contains(&label("No trial has measured an epoch yet")));
    tradeoff("one", &made_up::sweep("single", &PAPER[..1]));
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
    let results = made_up::results(&made_up::sweep("random-search", &rows));
    assert!(export("random", "tradeoff", &results).contains("without a label"));
    assert!(export("random", "curves", &results).contains("the best 24 cells; 176 more are not shown"));
}

#[test]
fn staleness_is_drawn_where_there_was_any() {
    let reply = made_up::sweep("asynchronous", &PAPER[..4]);
    let mut points = Vec::new();
    for trial in &reply.trials {
        for step in 1..=30_u32 {
            for (name, value) in [("staleness_mean", 1.5), ("staleness_max", 4.0 + f64::from(step % 3))] {
                let (name, step) = (name.to_owned(), u64::from(step));
                points.push(MetricPoint { trial: trial.id, attempt: 1, name, step, value });
            }
        }
    }
    let svg = export("staleness", "staleness", &Results::new(&reply, points, "0.1.0"));
    assert!(svg.contains(&label("largest")) && svg.contains(&label("Updates")));
    let folder = tempfile::tempdir().unwrap();
    let selection = Selection::parse(&["staleness"]).unwrap();
    assert_eq!(write(&made_up::results(&reply), &selection, folder.path()).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_picture_has_the_size_of_its_page_and_is_the_same_each_time() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("paper");
    let results = made_up::results(&made_up::sweep("mobilenet-imagenet", &PAPER));
    let selection = Selection::parse(&["tradeoff.png"]).unwrap();
    let files = write(&results, &selection, &folder).unwrap();
    let first = std::fs::read(&files[0]).unwrap();
    write(&results, &selection, &folder).unwrap();
    assert!(std::fs::read(&files[0]).unwrap() == first, "the picture changed");
    let image = image::load_from_memory(&first).unwrap();
    assert_eq!((image.width(), image.height()), (1600, 1176));
}
