//! Tables and grid files, word by word.

use crate::made_up::{self, PAPER};
use dashboards::export::write;
use dashboards::results::{Attempt, Results};
use dashboards::selection::Selection;
use dashboards::tables;
use dashboards::view::SweepView;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use proto::wire::{SlotStatus, StatusReply, SweepSummary, WorkerStatus};
use std::path::Path;

/// A small sweep of which one trial is done, one runs, one has failed and one waits.
fn half_way() -> StatusReply {
    let cells = [PAPER[0], PAPER[3], PAPER[12], PAPER[15]];
    let mut reply = made_up::sweep("half-way", &cells);
    let trials = &mut reply.trials;
    trials[1].state = "running".into();
    trials[1].epochs_done = 12;
    trials[1].best_epoch = 11;
    trials[1].attempts = 2;
    trials[2].state = "failed".into();
    trials[2].reason = "the data folder /data is empty".into();
    for trial in &mut trials[2..] {
        trial.epochs_done = 0;
        trial.best_epoch = 0;
        trial.best.clear();
        trial.last.clear();
        trial.train_seconds = 0.0;
    }
    trials[3].state = "pending".into();
    trials[3].attempts = 0;
    trials[3].worker.clear();
    trials[3].device.clear();
    if let Some(summary) = &mut reply.summary {
        summary.progress = 0.8125;
    }
    reply
}

/// The text of one exported file.
fn file(name: &str, results: &Results) -> String {
    let folder = tempfile::tempdir().unwrap();
    let files = write(results, &Selection::parse(&[name]).unwrap(), folder.path()).unwrap();
    assert_eq!(files, [folder.path().join(name)]);
    std::fs::read_to_string(&files[0]).unwrap()
}

/// Holds a text against the one in `expected`; run with UPDATE_EXPECTED=1 to accept what is written now.
fn check(actual: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{name} is now:\n{actual}");
}

#[test]
fn tables_of_a_sweep_that_is_half_way() {
    let results = made_up::results(&half_way());
    check(&file("grid.csv", &results), "half_way.csv");
    check(&file("grid.md", &results), "half_way.md");
    check(&file("trials.csv", &results), "half_way_trials.csv");
    check(&file("trials.md", &results), "half_way_trials.md");
    check(&file("pareto.tex", &results), "half_way_pareto.tex");
}

#[test]
fn tables_of_a_finished_sweep_on_imagenet() {
    let results = made_up::results(&made_up::sweep("finished", &PAPER));
    check(&file("grid.md", &results), "finished.md");
    check(&file("width.md", &results), "finished_width.md");
    check(&file("resolution.tex", &results), "finished_resolution.tex");
    check(&file("resolution.json", &results), "finished_resolution.json");
    check(&file("pareto.md", &results), "finished_pareto.md");
}

#[test]
fn seeds_are_means_and_deviations() {
    let results = made_up::results(&made_up::three_seeds());
    check(&file("grid.md", &results), "three_seeds.md");
    check(&file("width.csv", &results), "three_seeds_width.csv");
}

#[test]
fn measured_values_are_long() {
    let mut reply = made_up::sweep("short", &PAPER[14..]);
    for trial in &mut reply.trials {
        (trial.epochs, trial.epochs_done) = (2, 2);
    }
    let results = made_up::results(&reply);
    check(&file("metrics.csv", &results), "short_metrics.csv");
    check(&file("metrics.tex", &results), "short_metrics.tex");
}

#[test]
fn what_is_not_bit_exact_says_why() {
    let mut results = made_up::results(&made_up::sweep("moved", &PAPER[..2]));
    let [first, second] = made_up::moved(2);
    results.attempts = vec![Attempt { trial: 1, ended_ms: 0, end: String::new(), ..first.clone() }, first, second];
    check(&file("attempts.csv", &results), "moved_attempts.csv");
    check(&file("grid.md", &results), "moved.md");
    let reason = "attempt 2 resumed after epoch 7 on instruction set avx2, before it was avx512";
    assert!(file("trials.csv", &results).contains(reason));
    let mut several = results.clone();
    several.spec.as_mut().unwrap().training.replicas = sweeps::spec::model::Replicas::Exactly(4);
    assert!(file("trials.csv", &several).contains(&format!("{reason}; several replicas may train it")));
    let report = file("report.html", &results);
    assert!(
        report.contains(&format!("Trial 2 (1-192): {reason}")) && report.contains("1 of 2 trials are not bit-exact")
    );
}

#[test]
fn other_axes_have_their_columns() {
    let mut reply = made_up::sweep("search", &[PAPER[0], PAPER[0]]);
    for (trial, rate) in reply.trials.iter_mut().zip(["0.045", "0.1"]) {
        trial.parameters_json =
            format!(r#"{{"alpha":1,"resolution":224,"training.learning_rate":{rate},"training.activation":"relu6"}}"#);
    }
    let results = made_up::results(&reply);
    let grid = file("grid.csv", &results);
    let lines: Vec<&str> = grid.lines().collect();
    assert!(lines[0].starts_with("alpha,resolution,training.activation,training.learning_rate,mult_adds"), "{grid}");
    assert!(lines[1].starts_with("1,224,relu6,0.045,") && lines[2].starts_with("1,224,relu6,0.1,"), "{grid}");
    assert!(file("metrics.csv", &results).lines().nth(1).unwrap().starts_with("1,1,224,1,relu6,0.045,"));
    assert!(!file("grid.md", &results).contains("by α and ρ"));
    reply.trials[1].seed = 2;
    let table = tables::sweep(&SweepView::new(&reply));
    assert!(table.lines().next().unwrap().contains("seed  training.activation  training.learning_rate"), "{table}");
}

#[test]
fn scripted_numbers_are_marked_everywhere() {
    let mut reply = made_up::sweep("rehearsal", &PAPER);
    reply.trials.iter_mut().for_each(|trial| trial.scripted = true);
    let results = made_up::results(&reply);
    for name in ["grid.md", "width.md", "pareto.tex", "report.html"] {
        assert!(file(name, &results).contains("Scripted: these numbers are made up"), "{name}");
    }
    for name in ["grid.csv", "trials.csv", "metrics.csv"] {
        assert!(file(name, &results).lines().skip(1).all(|line| line.ends_with(",true,true")), "{name}");
    }
    assert!(file("grid.json", &results).contains("\"scripted\": true"));
    assert!(tables::headline(&results.view).ends_with("[scripted: made-up numbers]"));
}

#[test]
fn what_is_not_complete_says_so_in_every_file() {
    let results = made_up::results(&half_way());
    for name in ["grid.md", "trials.md", "resolution.tex", "report.html"] {
        let text = file(name, &results);
        assert!(
            text.contains("Not complete: 1 of 4 trials completed, 1 running, 1 pending, 1 failed"),
            "{name}: {text}"
        );
    }
    assert!(file("grid.csv", &results).lines().skip(1).all(|line| line.ends_with(",false,false")));
    assert!(file("grid.json", &results).contains("\"complete\": false"));
}

#[test]
fn a_report_needs_nothing_else_and_is_the_same_each_time() {
    let results = made_up::results(&made_up::sweep("finished", &PAPER));
    let report = file("report.html", &results);
    assert!(report == file("report.html", &results));
    for outside in ["<script", "<link", "<img", "src=", "url(", "@import"] {
        assert!(!report.contains(outside), "{outside}");
    }
    let addresses: Vec<&str> = report.match_indices("http").map(|(at, _)| &report[at..at + 26]).collect();
    assert!(addresses.iter().all(|address| *address == "http://www.w3.org/2000/svg"), "{addresses:?}");
    assert_eq!(report.matches("<svg").count(), 4);
    assert!(report.contains("# as &lt;submitted&gt;") && report.contains("learning_rate: 0.045"));
    assert!(report.contains("00000000000000000000000000000001"), "the trial's key");
    for tag in ["table", "figure", "pre", "dl", "p", "ul", "h2", "h3", "nav", "header", "svg"] {
        let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
        let opened =
            report.match_indices(&opened).filter(|(at, _)| matches!(report.as_bytes()[at + opened.len()], b'>' | b' '));
        assert_eq!(opened.count(), report.matches(&closed).count(), "{tag}");
    }
}

#[test]
fn parquet_reads_back() {
    let results = made_up::results(&half_way());
    let folder = tempfile::tempdir().unwrap();
    let files = write(&results, &Selection::parse(&["grid.parquet"]).unwrap(), folder.path()).unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(&files[0]).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let pair = |key: &str| metadata.iter().find(|pair| pair.key == key).unwrap().value.clone().unwrap();
    assert_eq!((pair("sweep").as_str(), pair("complete").as_str()), ("half-way", "false"));
    let rows: Vec<Row> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let plain = |field: &Field| match field {
        Field::Null => serde_json::Value::Null,
        Field::Bool(yes) => serde_json::json!(yes),
        Field::Long(count) => serde_json::json!(count),
        Field::Double(number) => serde_json::json!(number),
        Field::Str(words) => serde_json::json!(words),
        other => panic!("{other:?}"),
    };
    let object = |row: &Row| row.get_column_iter().map(|(name, field)| (name.clone(), plain(field))).collect();
    let json: Vec<serde_json::Value> = rows.iter().map(object).map(serde_json::Value::Object).collect();
    let expected: serde_json::Value = serde_json::from_str(&file("grid.json", &results)).unwrap();
    assert_eq!(json.len(), 4);
    for (row, wanted) in json.iter().zip(expected["rows"].as_array().unwrap()) {
        assert_eq!(row, wanted);
    }
}

#[test]
fn the_front_is_of_finished_trials_and_of_means() {
    let mut reply = made_up::sweep("front", &[PAPER[15], PAPER[14], PAPER[13], PAPER[12]]);
    // Dearer and worse than the one before it; and one that is not finished.
    reply.trials[1].best.insert("val_top1".into(), 0.4);
    reply.trials[2].state = "running".into();
    let front: Vec<bool> = SweepView::new(&reply).trials.iter().map(|trial| trial.pareto).collect();
    assert_eq!(front, [true, false, false, true]);
}

#[test]
fn the_table_of_a_sweep_that_is_half_way() {
    let view = SweepView::new(&half_way());
    let text = format!("{}\n{}", tables::headline(&view), tables::sweep(&view));
    assert_eq!(text, include_str!("expected/half_way.txt"));
}

#[test]
fn the_tables_of_sweeps_and_workers() {
    let mut scripted = made_up::sweep("rehearsal", &PAPER).summary.unwrap();
    scripted.scripted = true;
    scripted.paused = true;
    let list: [SweepSummary; 2] = [made_up::sweep("mobilenet-imagenet", &PAPER).summary.unwrap(), scripted];
    let slot = |device: &str, trials: Vec<u64>| SlotStatus {
        device: device.into(),
        mult_adds_per_second: 3.2e11 * trials.len() as f64,
        trials,
        ..SlotStatus::default()
    };
    let worker = WorkerStatus {
        id: 0xbd71,
        host: "node-a".into(),
        version: "0.1.0".into(),
        state: "attached".into(),
        slots: vec![slot("cuda:0", vec![3]), slot("cuda:1", vec![])],
        last_seen_ms: 1_795_399_652_000,
        ..WorkerStatus::default()
    };
    let text = format!("{}\n{}", tables::sweeps(&list), tables::workers(&[worker]));
    assert_eq!(text, include_str!("expected/lists.txt"));
}
