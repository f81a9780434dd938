//! Sweeps from the file to the last trial, with scripted trainers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Stage, attempts, epochs_of, wait_for};
use rustix::process::Signal;

fn state(word: &str, attempts: u64) -> (String, u64) {
    (word.to_owned(), attempts)
}

#[test]
fn two_workers_finish_a_sweep_and_leave() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("whole", "1, 0.75, 0.5, 0.25", 3, "script: [{do: sleep, ms: 50}]");
    stage.ask(&["submit", &file]);
    let mut workers =
        [(); 2].map(|()| stage.worker(&coordinator.address, &["--exit-when-idle", "--idle-seconds", "1"]));
    let events = stage.events("whole");
    assert_eq!(stage.states("whole"), vec![state("completed", 1); 4]);
    for trial in 1..=4 {
        assert_eq!(attempts(&events, trial), ["completed"], "trial {trial}");
        assert_eq!(epochs_of(&events, trial), [(1, vec![1, 2, 3])].into(), "trial {trial}");
        let place = |kind: &str| events.iter().rposition(|event| event.is(kind, trial)).unwrap();
        assert!(place("checkpoint_saved") < place("attempt_ended"), "trial {trial}: stored before it counts as done");
    }
    let hosts: std::collections::BTreeSet<u64> =
        events.iter().filter(|event| event.kind == "attempt_started").map(|event| event.number("worker")).collect();
    assert_eq!(hosts.len(), 2, "both workers worked");
    for worker in &mut workers {
        assert_eq!(worker.wait().code(), Some(0));
    }
    coordinator.stop();
    // With nothing running the results are still there.
    assert_eq!(stage.states("whole"), vec![state("completed", 1); 4]);
    assert_eq!(stage.status("whole")["scripted"], true);
}

#[test]
fn submitting_again_continues_and_adds_cells() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let _worker = stage.worker(&coordinator.address, &[]);
    stage.ask(&["submit", &stage.sweep("more", "1", 2, "script: []")]);
    wait_for("the first cell", || (stage.states("more") == [state("completed", 1)]).then_some(()));
    stage.ask(&["submit", &stage.sweep("more", "1, 0.5", 2, "script: []")]);
    let both = [state("completed", 1), state("completed", 1)];
    wait_for("both cells", || (stage.states("more") == both).then_some(()));
}

#[test]
fn pause_saves_resume_goes_on_cancel_ends_retry_starts_again() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let _worker = stage.worker(&coordinator.address, &[]);
    let file = stage.sweep("asked", "1", 6, "script: [{do: sleep, ms: 300}]");
    stage.ask(&["submit", &file]);
    let watcher = stage.watch("asked");
    watcher.until("an epoch", |event| event.is("epoch_finished", 1));
    stage.ask(&["pause", "asked"]);
    wait_for("the pause", || (stage.states("asked") == [state("paused", 1)]).then_some(()));
    stage.ask(&["resume", "asked"]);
    watcher.until("the second attempt", |event| event.is("attempt_started", 1) && event.number("attempt") == 2);
    stage.ask(&["cancel", "asked"]);
    wait_for("the cancel", || (stage.states("asked") == [state("cancelled", 2)]).then_some(()));
    stage.ask(&["retry", "asked"]);
    let events = stage.events("asked");
    assert_eq!(attempts(&events, 1), ["stopped", "stopped", "completed"]);
    let epochs: Vec<u64> = epochs_of(&events, 1).into_values().flatten().collect();
    assert_eq!(epochs.last(), Some(&6));
    let first = &epochs_of(&events, 1)[&1];
    let after = epochs_of(&events, 1).into_iter().find(|(attempt, _)| *attempt > 1).unwrap().1[0];
    assert_eq!(after, first.last().unwrap() + 1, "what was trained before the pause is not trained again");
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let stage = Stage::new();
    let file = stage.sweep("again", "1, 0.5", 6, "script: [{do: sleep, ms: 300}]");
    let run = || {
        let mut command = stage.command("alpharho");
        command.args(["run", &file, "--store", "store.db", "--slots", "2", "--device", "cpu"]);
        stage.start("run", command)
    };
    let mut first = run();
    wait_for("an epoch of each", || {
        // Until the run has made the store there is nobody to ask.
        let output = stage.alpharho(&["status", "again", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let done = |trial: &serde_json::Value| trial["epochs_done"].as_u64() >= Some(1);
        status["trials"].as_array()?.iter().all(done).then_some(())
    });
    first.signal(Signal::INT);
    assert_eq!(first.wait().code(), Some(130));
    let states = stage.states("again");
    assert_eq!(states, vec![state("paused", 1); 2], "they saved, and wait");
    let mut second = run();
    assert_eq!(second.wait().code(), Some(0));
    assert_eq!(stage.states("again"), vec![state("completed", 2); 2]);
    let events = stage.events("again");
    for trial in [1, 2] {
        let epochs = epochs_of(&events, trial);
        assert_eq!(epochs[&2][0], epochs[&1].last().unwrap() + 1, "trial {trial} goes on from its checkpoint");
        assert_eq!(epochs[&2].last(), Some(&6));
    }
    for (file, says_so) in [("grid.csv", true), ("grid.md", true), ("tradeoff.svg", true), ("tradeoff.png", false)] {
        let content = std::fs::read(stage.folder().join("again").join(file)).unwrap();
        let marked = String::from_utf8_lossy(&content).contains("scripted");
        assert!(!says_so || marked, "{file} does not say that its numbers are made up");
    }
}
