//! Tables and grid files, word by word.

use crate::made_up::{self, PAPER};
use dashboards::export::write_all;
use dashboards::tables;
use dashboards::view::SweepView;
use proto::wire::{SlotStatus, StatusReply, SweepSummary, WorkerStatus};

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

fn grid(name: &str, reply: &StatusReply) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_all(&SweepView::new(reply), folder.path()).unwrap();
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

#[test]
fn grid_csv_of_a_sweep_that_is_half_way() {
    assert_eq!(grid("grid.csv", &half_way()), include_str!("expected/half_way.csv"));
}

#[test]
fn grid_markdown_of_a_sweep_that_is_half_way() {
    assert_eq!(grid("grid.md", &half_way()), include_str!("expected/half_way.md"));
}

#[test]
fn grid_markdown_of_a_finished_sweep() {
    assert_eq!(grid("grid.md", &made_up::sweep("finished", &PAPER)), include_str!("expected/finished.md"));
}

#[test]
fn other_axes_and_seeds_have_their_columns() {
    let mut reply = made_up::sweep("search", &[PAPER[0], PAPER[0]]);
    for (trial, rate) in reply.trials.iter_mut().zip(["0.045", "0.1"]) {
        trial.parameters_json = format!(r#"{{"alpha":1,"resolution":224,"training.learning_rate":{rate}}}"#);
    }
    reply.trials[1].seed = 2;
    let csv = grid("grid.csv", &reply);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].ends_with(",scripted,training.learning_rate"), "{}", lines[0]);
    assert!(lines[1].ends_with(",false,0.045") && lines[2].ends_with(",false,0.1"), "{csv}");
    let table = tables::sweep(&SweepView::new(&reply));
    assert!(table.lines().next().unwrap().contains("seed  training.learning_rate  state"), "{table}");
}

#[test]
fn scripted_numbers_are_marked_everywhere() {
    let mut reply = made_up::sweep("rehearsal", &PAPER);
    reply.trials.iter_mut().for_each(|trial| trial.scripted = true);
    assert!(grid("grid.md", &reply).contains("**Scripted: these numbers are made up"));
    assert!(grid("grid.csv", &reply).lines().skip(1).all(|line| line.ends_with(",true")));
    assert!(tables::headline(&SweepView::new(&reply)).ends_with("[scripted: made-up numbers]"));
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
    };
    let worker = WorkerStatus {
        id: 0xbd71,
        host: "node-a".into(),
        version: "0.1.0".into(),
        state: "attached".into(),
        slots: vec![slot("cuda:0", vec![3]), slot("cuda:1", vec![])],
        last_seen_ms: 1_795_399_652_000,
    };
    let text = format!("{}\n{}", tables::sweeps(&list), tables::workers(&[worker]));
    assert_eq!(text, include_str!("expected/lists.txt"));
}
