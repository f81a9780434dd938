//! Trials side by side on one slot, with scripted trainers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Stage, attempts, wait_for};
use std::collections::BTreeSet;

const SIDE_BY_SIDE: &str = "resources: {packing: {max_trials_per_slot: 4}}";

fn state(word: &str, attempts: u64) -> (String, u64) {
    (word.to_owned(), attempts)
}

#[test]
fn four_trials_share_a_slot_and_end_on_their_own() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let script = "script: [{do: sleep, ms: 100}, {do: fail, message: not today, when: {alpha: 0.25, epoch: 2}}]";
    stage.ask(&["submit", &stage.sweep("shared", "1, 0.75, 0.5, 0.25", 4, &format!("{script}\n{SIDE_BY_SIDE}"))]);
    let worker = stage.worker(&coordinator.address, &[]);
    wait_for("all four on its slot", || {
        let told: serde_json::Value = serde_json::from_str(&stage.ask(&["workers", "--json"])).unwrap();
        (told[0]["slots"][0]["trial_ids"].as_array()?.len() == 4).then_some(())
    });
    let events = stage.events("shared");
    assert_eq!(
        stage.states("shared"),
        [state("completed", 1), state("completed", 1), state("completed", 1), state("failed", 1)]
    );
    assert_eq!(attempts(&events, 4), ["failed"]);
    drop(worker);
}

#[test]
fn whoever_kills_a_shared_trainer_ends_alone_and_nobody_else_is_blamed() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let script = "script: [{do: sleep, ms: 20}, {do: crash, when: {alpha: 0.5, epoch: 2}}]\nmax_restarts: 1";
    stage.ask(&["submit", &stage.sweep("poison", "1, 0.75, 0.5, 0.25", 3, &format!("{script}\n{SIDE_BY_SIDE}"))]);
    let _worker = stage.worker(&coordinator.address, &[]);
    let events = stage.events("poison");
    let states: Vec<String> = stage.states("poison").into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["completed", "completed", "failed", "completed"]);
    let ends = attempts(&events, 3);
    let (together, alone) = ends.split_at(ends.len() - 2);
    assert_eq!(alone, ["crashed", "crashed"], "max_restarts counts what it did alone: {ends:?}");
    assert!(!together.is_empty() && together.iter().all(|end| *end == "crashed_together"), "{ends:?}");
    for trial in [1, 2, 4] {
        let ends = attempts(&events, trial);
        assert_eq!(ends.iter().filter(|end| **end == "crashed").count(), 0, "trial {trial}: {ends:?}");
        assert_eq!(ends.last().map(AsRef::as_ref), Some("completed"), "trial {trial}: {ends:?}");
    }
}

#[test]
fn a_worker_that_comes_later_takes_a_trial_over() {
    let stage = Stage::new();
    let coordinator = stage.coordinator_beating(None, "100");
    let more = format!("script: [{{do: sleep, ms: 60}}]\n{SIDE_BY_SIDE}");
    stage.ask(&["submit", &stage.sweep("spread", "1, 0.75", 40, &more)]);
    let _first = stage.worker(&coordinator.address, &[]);
    let watcher = stage.watch("spread");
    watcher.until("an epoch", |event| event.is("epoch_finished", 1));
    let _second = stage.worker(&coordinator.address, &[]);
    let events = stage.events("spread");
    let moved: Vec<u64> = [1, 2].into_iter().filter(|trial| attempts(&events, *trial).len() > 1).collect();
    assert_eq!(moved.len(), 1, "one moves, one stays");
    assert_eq!(attempts(&events, moved[0]), ["stopped", "completed"]);
    let started = events.iter().filter(|event| event.is("attempt_started", moved[0]));
    let workers: BTreeSet<u64> = started.map(|event| event.number("worker")).collect();
    assert_eq!(workers.len(), 2, "it went on elsewhere");
    let all: BTreeSet<(String, u64)> = stage.states("spread").into_iter().collect();
    assert_eq!(all, [state("completed", 1), state("completed", 2)].into());
}

#[test]
fn a_trial_leaves_a_slow_worker_for_a_fast_one() {
    let stage = Stage::new();
    let coordinator = stage.coordinator_beating(None, "100");
    let worker = |speed: &str| {
        let mut command = stage.command("alpharho-worker");
        command.args(["--coordinator", &coordinator.address, "--device", "cpu", "--slots", "1"]);
        command.env("ALPHARHO_SCRIPTED_SPEED", speed);
        stage.start("worker", command)
    };
    let _slow = worker("0.2");
    let script = "script: [{do: sleep, ms: 250}, {do: sleep, ms: 150, when: {alpha: 1}}]";
    stage.ask(&["submit", &stage.sweep("uneven", "1, 0.75", 4, script)]);
    stage.watch("uneven").until("the longer one on the slow worker", |event| event.is("attempt_started", 1));
    let _fast = worker("1");
    let events = stage.events("uneven");
    assert_eq!(attempts(&events, 1), words(&["stopped", "completed"]));
    let workers_of = |trial: u64| {
        let started = events.iter().filter(move |event| event.is("attempt_started", trial));
        started.map(|event| event.number("worker")).collect::<Vec<_>>()
    };
    assert_eq!(workers_of(1)[1], workers_of(2)[0], "it went on, on the fast one");
    assert_ne!(workers_of(1)[0], workers_of(1)[1]);
    let states: Vec<String> = stage.states("uneven").into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["completed", "completed"]);
}

#[test]
fn one_whose_worker_dies_joins_those_that_come_to_its_next_epoch() {
    let stage = Stage::new();
    let coordinator = stage.coordinator_beating(None, "100");
    let mut workers = vec![stage.worker(&coordinator.address, &[]), stage.worker(&coordinator.address, &[])];
    wait_for("both workers", || {
        let told: serde_json::Value = serde_json::from_str(&stage.ask(&["workers", "--json"])).unwrap();
        (told.as_array()?.len() == 2).then_some(())
    });
    // The second one is far ahead in time, although both slots are as fast: else the first one would change its slot.
    let script = "script: [{do: sleep, ms: 50}, {do: sleep, ms: 30, when: {alpha: 1}}]";
    stage.ask(&["submit", &stage.sweep("ahead", "1, 0.75", 60, &format!("{script}\n{SIDE_BY_SIDE}"))]);
    let watcher = stage.watch("ahead");
    watcher.until("its fortieth epoch", |event| event.is("epoch_finished", 2) && event.number("epoch") == 40);
    let told: serde_json::Value = serde_json::from_str(&stage.ask(&["workers", "--json"])).unwrap();
    let trains_it = |worker: &&serde_json::Value| worker["slots"][0]["trial_ids"] == serde_json::json!([2]);
    let id = told.as_array().unwrap().iter().find(trains_it).unwrap()["id"].as_str().unwrap();
    workers.remove(workers.iter().position(|worker| worker.written().contains(id)).unwrap()).kill();
    let events = stage.events("ahead");
    let all: BTreeSet<(String, u64)> = stage.states("ahead").into_iter().collect();
    assert_eq!(all, [state("completed", 1), state("completed", 2)].into());
    assert_eq!((attempts(&events, 1), attempts(&events, 2)), (words(&["completed"]), words(&["lost", "completed"])));
    let place = |kind: &str, trial: u64| events.iter().rposition(|event| event.is(kind, trial)).unwrap();
    let worker_of = |trial: u64| events[place("attempt_started", trial)].number("worker");
    assert_eq!(worker_of(1), worker_of(2));
    assert!(place("attempt_started", 2) < place("attempt_ended", 1), "it did not wait for the slot: {events:?}");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
