//! Several replicas of one trial, with scripted trainers: who joins, and what follows when one is killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Happened, Process, Stage, attempts, children, epochs_of, is_alive, wait_for};
use rustix::process::{Pid, Signal};
use std::collections::{BTreeMap, BTreeSet};

/// A sweep of one trial that several may train. Its third epoch is long: half a minute for one replica, a third of
/// that for three; `third` may make it another time.
fn long(stage: &Stage, name: &str, epochs: u32, replicas: &str, third: &str) -> String {
    let third = if third.is_empty() { "{do: sleep, ms: 30000, when: {epoch: 3}}" } else { third };
    let yaml = format!(
        "name: {name}\nparameters:\n  alpha: {{value: 1}}\n  resolution: {{value: 128}}\n\
         data: {{format: idx, train: nowhere, validation: nowhere-too, classes: 10}}\n\
         training: {{epochs: {epochs}, replicas: {replicas}}}\nscript: [{{do: sleep, ms: 200}}, {third}]\n"
    );
    stage.file(&format!("{name}.yaml"), yaml).display().to_string()
}

fn workers(stage: &Stage, coordinator: &str, count: usize) -> Vec<Process> {
    (0..count).map(|_| stage.worker(coordinator, &[])).collect()
}

/// Each epoch is finished once, by whichever attempt: what an attempt had not saved is trained again under the next.
fn check_all_epochs(events: &[Happened], epochs: u64) {
    let finished: BTreeSet<u64> = epochs_of(events, 1).into_values().flatten().collect();
    assert_eq!(finished, (1..=epochs).collect::<BTreeSet<_>>());
}

/// A number is never used twice, and who left had joined. With a restart in between some joined twice.
fn check_replicas(events: &[Happened]) -> Vec<u64> {
    let mut joined: BTreeMap<u64, String> = BTreeMap::new();
    for event in events {
        let number = event.number("replica");
        match event.kind.as_str() {
            "replica_joined" => {
                let place = format!("{} {}", event.happening["worker"], event.number("attempt"));
                let before = joined.insert(number, place.clone());
                assert!(before.is_none_or(|before| before == place), "replica {number} is used twice");
            }
            "replica_left" => assert!(joined.contains_key(&number), "{event:?}"),
            _ => {}
        }
    }
    joined.into_keys().collect()
}

/// The process number of a worker's trainer.
fn trainer(worker: &Process) -> u32 {
    wait_for("a trainer", || children(worker.id()).first().copied())
}

#[test]
fn idle_slots_join_the_last_trial_and_make_room_for_the_next() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &long(&stage, "long", 8, "{min: 1, max: 3}", "")]);
    let _workers = workers(&stage, &coordinator.address, 3);
    let watcher = stage.watch("long");
    watcher.until("the second replica", |event| event.kind == "replica_joined" && event.number("replica") == 2);
    wait_for("the status to say so", || {
        (stage.status("long")["trials"][0]["replicas"].as_u64() == Some(3)).then_some(())
    });
    let text = stage.ask(&["explain", "long", "1"]);
    assert!(text.contains("it is helped by replica 1 on "), "{text}");
    stage.ask(&["submit", &stage.sweep("short", "0.5", 1, "script: [{do: sleep, ms: 100}]")]);
    assert_eq!(attempts(&stage.events("short"), 1), ["completed"]);
    let events = stage.events("long");
    assert_eq!(stage.states("long"), [("completed".to_owned(), 1)]);
    check_all_epochs(&events, 8);
    let left = |reason: &str| events.iter().filter(|event| event.word("reason") == reason).count();
    assert_eq!(left("a pending trial needs its slot"), 1);
    assert!(check_replicas(&events).starts_with(&[1, 2]));
    assert_eq!(events.iter().filter(|event| event.kind == "replica_joined").count(), {
        events.iter().filter(|event| event.kind == "replica_left").count()
    });
    // The chief said how many took part.
    let measured = |event: &Happened| {
        let points = event.happening["points"].as_array().cloned().unwrap_or_default();
        points.iter().find(|point| point["name"] == "replicas").and_then(|point| point["value"].as_f64())
    };
    assert!(events.iter().filter_map(measured).any(|replicas| replicas > 2.5));
}

#[test]
fn a_killed_replica_is_replaced_and_costs_the_trial_nothing() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &long(&stage, "helped", 8, "3", "")]);
    let mut workers = workers(&stage, &coordinator.address, 3);
    let watcher = stage.watch("helped");
    watcher.until("both replicas", |event| event.kind == "replica_joined" && event.number("replica") == 2);
    // Its agent, with all it started.
    let gone = workers.remove(stage.place_of(&workers, |replica| replica == 1));
    let trainers = children(gone.id());
    gone.kill();
    wait_for("the end of its trainer", || trainers.iter().all(|trainer| !is_alive(*trainer)).then_some(()));
    // And the trainer of the other one alone.
    let other = trainer(&workers[stage.place_of(&workers, |replica| replica == 2)]);
    rustix::process::kill_process(Pid::from_raw(other.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    let events = stage.events("helped");
    assert_eq!(attempts(&events, 1), ["completed"]);
    check_all_epochs(&events, 8);
    let reasons: Vec<&str> =
        events.iter().filter(|event| event.kind == "replica_left").map(|e| e.word("reason")).collect();
    assert!(reasons.iter().any(|reason| reason.contains("SIGKILL")), "{reasons:?}");
    check_replicas(&events);
    let status = stage.status("helped");
    assert_eq!(status["trials"][0]["attempts"], 1);
}

#[test]
fn a_killed_chief_resumes_where_it_was_helped() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let third = "{do: sleep, ms: 600000, when: {epoch: 3, attempt: 1}}";
    stage.ask(&["submit", &long(&stage, "chief", 8, "{min: 1, max: 4}", third)]);
    let mut workers = workers(&stage, &coordinator.address, 3);
    let watcher = stage.watch("chief");
    watcher.until("both replicas", |event| event.kind == "replica_joined" && event.number("replica") == 2);
    watcher.until("a checkpoint", |event| event.is("checkpoint_saved", 1));
    let chief = workers.remove(stage.place_of(&workers, |replica| replica == 0));
    chief.kill();
    let events = stage.events("chief");
    assert_eq!(attempts(&events, 1), ["lost", "completed"]);
    check_all_epochs(&events, 8);
    check_replicas(&events);
    let ended = events.iter().position(|event| event.is("attempt_ended", 1)).unwrap();
    let helped_after =
        events[ended..].iter().any(|event| event.kind == "replica_joined" && event.number("attempt") == 2);
    assert!(helped_after, "the second attempt is helped as well");
    let first: Vec<u64> =
        events[..ended].iter().filter(|e| e.kind == "replica_left").map(|e| e.number("attempt")).collect();
    assert!(first.len() >= 2 && first.iter().all(|attempt| *attempt == 1), "its replicas left before: {first:?}");
}

#[test]
fn a_killed_coordinator_finds_the_replicas_again() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &long(&stage, "away", 10, "{min: 1, max: 3}", "")]);
    let workers = workers(&stage, &coordinator.address, 3);
    let watcher = stage.watch("away");
    watcher.until("both replicas", |event| event.kind == "replica_joined" && event.number("replica") == 2);
    let trainers: Vec<u32> = workers.iter().map(trainer).collect();
    let address = coordinator.kill();
    assert!(trainers.iter().all(|trainer| is_alive(*trainer)), "trainers do not mind");
    let _coordinator = stage.coordinator(Some(&address));
    wait_for("all three to be known again", || {
        (stage.status("away")["trials"][0]["replicas"].as_u64() == Some(3)).then_some(())
    });
    assert!(trainers.iter().all(|trainer| is_alive(*trainer)), "nobody was started anew");
    let events = stage.events("away");
    assert_eq!(attempts(&events, 1), ["completed"]);
    check_all_epochs(&events, 10);
    assert_eq!(check_replicas(&events), [1, 2], "the same ones");
}
