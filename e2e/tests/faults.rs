//! Processes that die, hang or are asked to leave, with scripted trainers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Happened, Stage, attempts, children, epochs_of, is_alive, wait_for};
use rustix::process::Signal;

fn state(word: &str, attempts: u64) -> (String, u64) {
    (word.to_owned(), attempts)
}

/// The second attempt goes on exactly where the first had its last checkpoint, and goes to the end.
fn check_resumed(events: &[Happened], trial: u64, epochs: u64) {
    let saved = events.iter().filter(|event| event.is("checkpoint_saved", trial) && event.number("attempt") == 1);
    let saved = saved.map(|event| event.number("epoch")).max().unwrap_or(0);
    assert_eq!(epochs_of(events, trial)[&2], (saved + 1..=epochs).collect::<Vec<_>>(), "trial {trial}");
}

/// Every epoch from 1 to the last is finished, none twice: each attempt saved what it had done.
fn check_epochs(events: &[Happened], trial: u64, epochs: u64) {
    let finished: Vec<u64> = epochs_of(events, trial).into_values().flatten().collect();
    assert_eq!(finished, (1..=epochs).collect::<Vec<_>>(), "trial {trial}");
}

#[test]
fn a_killed_coordinator_goes_on_and_running_attempts_run_on() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("away", "1, 0.75, 0.5, 0.25", 6, "script: [{do: sleep, ms: 250}]");
    stage.ask(&["submit", &file]);
    let workers = [(); 2].map(|()| stage.worker(&coordinator.address, &[]));
    let watcher = stage.watch("away");
    watcher.until("both first trials to have trained", |event| event.is("epoch_finished", 2));
    let trainers: Vec<u32> = wait_for("two trainers", || {
        let trainers: Vec<u32> = workers.iter().flat_map(|worker| children(worker.id())).collect();
        (trainers.len() == 2).then_some(trainers)
    });
    let address = coordinator.kill();
    let before = watcher.told();
    assert!(trainers.iter().all(|trainer| is_alive(*trainer)), "trainers do not mind");
    let _coordinator = stage.coordinator(Some(&address));
    let events = stage.events("away");
    assert_eq!(events[..before.len()], before, "nothing that was told is lost");
    assert_eq!(stage.states("away"), vec![state("completed", 1); 4]);
    for trial in 1..=4 {
        assert_eq!(attempts(&events, trial), ["completed"], "trial {trial}: no attempt was begun anew");
        check_epochs(&events, trial, 6);
    }
}

#[test]
fn a_coordinator_killed_again_and_again_loses_nothing() {
    let stage = Stage::new();
    let mut coordinator = stage.coordinator(None);
    let file = stage.sweep("often", "1, 0.5", 12, "script: [{do: sleep, ms: 100}]");
    stage.ask(&["submit", &file]);
    let _workers = [(); 2].map(|()| stage.worker(&coordinator.address, &[]));
    let mut told: Vec<Happened> = Vec::new();
    for _ in 0..3 {
        let watcher = stage.watch("often");
        let seen = told.len();
        wait_for("some events more", || (watcher.told().len() > seen + 3).then_some(()));
        let address = coordinator.kill();
        let now = watcher.told();
        assert_eq!(now[..seen], told, "what was told once is told again");
        told = now;
        coordinator = stage.coordinator(Some(&address));
    }
    let events = stage.events("often");
    assert_eq!(events[..told.len()], told);
    assert_eq!(stage.states("often"), vec![state("completed", 1); 2]);
    check_epochs(&events, 1, 12);
    check_epochs(&events, 2, 12);
}

#[test]
fn the_trial_of_a_killed_worker_resumes_elsewhere_from_its_last_checkpoint() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("lost", "1", 6, "script: [{do: sleep, ms: 200}]");
    stage.ask(&["submit", &file]);
    let first = stage.worker(&coordinator.address, &[]);
    let watcher = stage.watch("lost");
    watcher.until("a checkpoint", |event| event.is("checkpoint_saved", 1) && event.number("epoch") >= 2);
    let trainers = children(first.id());
    assert_eq!(trainers.len(), 1);
    first.kill();
    wait_for("the end of its trainer", || trainers.iter().all(|trainer| !is_alive(*trainer)).then_some(()));
    let _second = stage.worker(&coordinator.address, &[]);
    let events = stage.events("lost");
    assert_eq!(attempts(&events, 1), ["lost", "completed"]);
    assert_eq!(stage.states("lost"), [state("completed", 2)]);
    check_resumed(&events, 1, 6);
    let place = |kind: &str| events.iter().position(|event| event.kind == kind).unwrap();
    assert!(place("attempt_ended") < events.iter().rposition(|event| event.kind == "attempt_started").unwrap());
}

#[test]
fn crashes_are_survived_and_counted_and_poison_ends() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let script = "max_restarts: 2\nscript:\n  - {do: crash, when: {alpha: 1, attempt: 1, epoch: 2}}\n  \
                  - {do: crash, when: {alpha: 0.5, epoch: 3}}\n  \
                  - {do: fail, message: the data is not there, when: {alpha: 0.25, epoch: 1}}";
    stage.ask(&["submit", &stage.sweep("crashes", "1, 0.5, 0.25", 4, script)]);
    let mut worker = stage.worker(&coordinator.address, &[]);
    let events = stage.events("crashes");
    assert_eq!(attempts(&events, 1), ["crashed", "completed"]);
    check_epochs(&events, 1, 4);
    assert_eq!(attempts(&events, 2), ["crashed"; 3]);
    assert_eq!(attempts(&events, 3), ["failed"]);
    assert_eq!(stage.states("crashes"), [state("completed", 2), state("failed", 3), state("failed", 1)]);
    let status = stage.status("crashes");
    let reason = |trial: usize| status["trials"][trial]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason(1).contains("SIGABRT") && reason(1).contains("the script says: crash in epoch 3"), "{}", reason(1));
    assert!(reason(2).contains("the data is not there"), "{}", reason(2));
    assert!(!worker.has_ended(), "the worker does not mind");
    let log = stage.ask(&["logs", "crashes", "2"]);
    assert_eq!(log.matches("the script says: crash in epoch 3").count(), 3, "{log}");
}

#[test]
fn a_trainer_that_hangs_is_killed_and_its_trial_goes_on() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let script = "script: [{do: hang, when: {attempt: 1, epoch: 3}}]";
    stage.ask(&["submit", &stage.sweep("hangs", "1", 4, script)]);
    let _worker = stage.worker(&coordinator.address, &["--trainer-silence-seconds", "1"]);
    let events = stage.events("hangs");
    assert_eq!(attempts(&events, 1), ["crashed", "completed"]);
    let ended = events.iter().find(|event| event.is("attempt_ended", 1)).unwrap();
    assert!(ended.word("reason").contains("said nothing for 1 s and was killed"), "{ended:?}");
    check_epochs(&events, 1, 4);
}

#[test]
fn a_worker_asked_to_leave_saves_and_gives_back() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("leaves", "1", 6, "checkpoint: {every_epochs: 100}\nscript: [{do: sleep, ms: 200}]");
    stage.ask(&["submit", &file]);
    let mut first = stage.worker(&coordinator.address, &[]);
    let watcher = stage.watch("leaves");
    watcher.until("two epochs", |event| event.is("epoch_finished", 1) && event.number("epoch") == 2);
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0));
    assert!(first.written().contains("worker stopped: SIGTERM"), "{}", first.written());
    let _second = stage.worker(&coordinator.address, &[]);
    let events = stage.events("leaves");
    assert_eq!(attempts(&events, 1), ["lost", "completed"]);
    check_epochs(&events, 1, 6);
    let ended = events.iter().position(|event| event.is("attempt_ended", 1)).unwrap();
    assert_eq!(events[ended].word("reason"), "worker stopped: SIGTERM");
    let saved = events.iter().position(|event| event.is("checkpoint_saved", 1)).unwrap();
    assert!(saved < ended, "stored before the lease was given back");
    assert!(!events.iter().any(|event| event.kind == "worker_lost"), "it said goodbye");
}

#[test]
fn a_second_signal_ends_worker_and_trainer_at_once() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    // It hangs, so that the first signal cannot succeed soon.
    stage.ask(&["submit", &stage.sweep("twice", "1", 4, "script: [{do: hang, when: {epoch: 2}}]")]);
    let mut worker = stage.worker(&coordinator.address, &[]);
    stage.watch("twice").until("an epoch", |event| event.is("epoch_finished", 1));
    let trainers = children(worker.id());
    worker.signal(Signal::INT);
    wait_for("its word", || worker.written().contains("worker stopped: SIGINT").then_some(()));
    worker.signal(Signal::INT);
    assert_eq!(worker.wait().code(), Some(130));
    assert_eq!(trainers.len(), 1);
    wait_for("the end of its trainer", || (!is_alive(trainers[0])).then_some(()));
}

/// The kernel may tell a worker more than once that its parent dies: at the end of each of its threads.
#[test]
fn a_worker_told_twice_that_its_parent_is_gone_leaves_in_order() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &stage.sweep("orphan", "1", 4, "script: [{do: hang, when: {epoch: 2}}]")]);
    let mut worker = stage.worker(&coordinator.address, &["--die-with-parent"]);
    stage.watch("orphan").until("an epoch", |event| event.is("epoch_finished", 1));
    worker.signal(Signal::USR1);
    wait_for("its word", || worker.written().contains("its parent is gone").then_some(()));
    worker.signal(Signal::USR1);
    assert_ne!(worker.wait().code(), Some(130), "it did not leave at once");
    let left = std::fs::read_dir(stage.folder().join("runs")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "its folder is removed");
}

#[test]
fn a_killed_run_takes_its_worker_and_trainers_along_and_can_be_run_again() {
    let stage = Stage::new();
    let file = stage.sweep("killed", "1, 0.5", 6, "script: [{do: sleep, ms: 250}]");
    let run = || {
        let mut command = stage.command("alpharho");
        command.args(["run", &file, "--store", "store.db", "--slots", "2", "--device", "cpu"]);
        stage.start("run", command)
    };
    let first = run();
    let workers = wait_for("its worker", || Some(children(first.id())).filter(|workers| workers.len() == 1));
    let trainers = wait_for("two trainers", || Some(children(workers[0])).filter(|trainers| trainers.len() == 2));
    wait_for("an epoch", || first.written().contains("epoch 1/6").then_some(()));
    first.kill();
    for process in workers.iter().chain(&trainers) {
        wait_for("the end of all it started", || (!is_alive(*process)).then_some(()));
    }
    let mut second = run();
    assert_eq!(second.wait().code(), Some(0));
    let events = stage.events("killed");
    for trial in [1, 2] {
        check_resumed(&events, trial, 6);
    }
    assert_eq!(stage.states("killed"), vec![state("completed", 2); 2]);
    let left = std::fs::read_dir(stage.folder().join("runs")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the workers' folders are removed");
}

#[test]
fn a_worker_whose_trainer_is_missing_says_what_it_looked_for() {
    let stage = Stage::new();
    let mut command = stage.command("alpharho-worker");
    command.env_remove("ALPHARHO_SCRIPTED_ONLY").args(["--libtorch", "nowhere"]);
    let mut worker = stage.start("worker", command);
    assert_eq!(worker.wait().code(), Some(3));
    let written = worker.written();
    assert!(written.contains("--libtorch: no libtorch_cpu.so in nowhere or its lib"), "{written}");
}
