//! What operators do and read: limits, drains, metrics, logs as JSON.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Stage, attempts, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

/// `GET` of an address that looks like `http://127.0.0.1:9463/metrics`.
fn get(address: &str) -> String {
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer
}

fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
}

#[test]
fn a_drained_worker_finishes_its_trial_and_leaves_the_rest_to_others() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("drained", "1, 0.5", 4, "script: [{do: sleep, ms: 200}]");
    stage.ask(&["submit", &file]);
    let mut worker = stage.worker(&coordinator.address, &[]);
    let watcher = stage.watch("drained");
    watcher.until("an epoch", |event| event.is("epoch_finished", 1));
    let workers: Value = serde_json::from_str(&stage.ask(&["workers", "--json"])).unwrap();
    let id = workers[0]["id"].as_str().unwrap();
    let told = stage.ask(&["drain", &id[..6]]);
    assert!(told.contains("takes no more trials; it finishes the trial that it trains, and leaves"), "{told}");
    assert_eq!(worker.wait().code(), Some(0));
    let states = stage.states("drained");
    assert_eq!(states[0], ("completed".to_owned(), 1), "nothing was stopped");
    assert_eq!(states[1], ("pending".to_owned(), 0));
    let _other = stage.worker(&coordinator.address, &[]);
    assert_eq!(attempts(&stage.events("drained"), 2), ["completed"]);
    // The attempts are told with the trials.
    let status = stage.status("drained");
    let made = &status["trials"][0]["attempts_made"];
    assert_eq!((made.as_array().unwrap().len(), &made[0]["worker"]), (1, &Value::from(id)));
    assert_eq!(made[0]["end"]["end"], "completed");
    let explained = stage.ask(&["explain", "drained", "1"]);
    assert!(explained.lines().any(|line| line.starts_with("  attempt 1, ") && line.ends_with(": is complete")));
}

#[test]
fn a_limit_is_changed_while_the_sweep_runs() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let file = stage.sweep("limited", "1, 0.75, 0.5", 4, "max_concurrent_trials: 1\nscript: [{do: sleep, ms: 300}]");
    stage.ask(&["submit", &file]);
    let _workers = [(); 2].map(|()| stage.worker(&coordinator.address, &[]));
    let running = || stage.states("limited").iter().filter(|(state, _)| state == "running").count();
    wait_for("one trial to run", || (running() == 1).then_some(()));
    assert!(stage.ask(&["explain", "limited", "3"]).contains("at most 1 trials at a time"));
    stage.ask(&["limit", "limited", "2"]);
    wait_for("two trials to run", || (running() == 2).then_some(()));
    // The same file again does not undo it.
    stage.ask(&["submit", &file]);
    let list: Value = serde_json::from_str(&stage.ask(&["list", "--json"])).unwrap();
    assert_eq!((&list[0]["max_concurrent_trials"], &list[0]["limit_asked"]), (&Value::from(2), &Value::from(true)));
    let refused = stage.alpharho(&["limit", "limited", "0"]);
    assert_eq!(refused.status.code(), Some(2));
    let events = stage.events("limited");
    assert_eq!(events.iter().filter(|event| event.kind == "sweep_limited").count(), 1);
}

#[test]
fn both_programs_serve_metrics_and_log_json() {
    let stage = Stage::new();
    let mut command = stage.command("alpharho");
    command.args(["coordinator", "--store", "store.db", "--listen", "127.0.0.1:0", "--heartbeat-ms", "1000", "--json"]);
    command.args(["--metrics-listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut coordinator = stage.start("coordinator", command);
    let hello: Value = wait_for("the coordinator's address", || {
        let written = coordinator.written();
        written
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .find(|line: &Value| line["metrics"].is_string())
    });
    let address = hello["address"].as_str().unwrap();
    stage.ask(&["submit", &stage.sweep("counted", "1, 0.5", 2, "script: []")]);
    let mut worker = stage.worker(address, &["--metrics-listen", "127.0.0.1:0", "--log-format", "json"]);
    drop(stage.events("counted"));
    let lines = |written: String| -> Vec<Value> {
        written.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    };
    let log = lines(worker.written());
    let message = |line: &&Value, words: &str| line["message"].as_str().is_some_and(|said| said.starts_with(words));
    let at = log.iter().find(|line| message(line, "metrics at ")).unwrap()["message"].as_str().unwrap();
    let of_worker = at.trim_start_matches("metrics at ").to_owned();
    let began = log.iter().find(|line| message(line, "an attempt begins")).unwrap();
    assert_eq!((&began["sweep"], &began["attempt"]), (&Value::from("counted"), &Value::from(1)));
    assert!(began["worker"].as_str().is_some_and(|id| id.len() == 16) && began["trial"].is_u64(), "{began}");

    let text = get(hello["metrics"].as_str().unwrap());
    for (name, expected) in [
        ("alpharho_trials{state=\"completed\",sweep=\"counted\"}", 2.0),
        ("alpharho_attempts_ended_total{end=\"completed\"}", 2.0),
        ("alpharho_epochs_total", 4.0),
        ("alpharho_workers{state=\"attached\"}", 1.0),
    ] {
        assert_eq!(sample(&text, name), Some(expected), "{name} in\n{text}");
    }
    assert!(sample(&text, "alpharho_checkpoint_bytes_sum").is_some_and(|bytes| bytes > 0.0), "{text}");
    let text = get(&of_worker);
    for (name, expected) in [
        ("alpharho_worker_attached", 1.0),
        ("alpharho_worker_leases_total", 2.0),
        ("alpharho_worker_attempts_ended_total{end=\"completed\"}", 2.0),
        ("alpharho_worker_slots{state=\"free\"}", 1.0),
    ] {
        assert_eq!(sample(&text, name), Some(expected), "{name} in\n{text}");
    }
    assert!(sample(&text, "alpharho_worker_uploads_total{result=\"stored\"}").is_some_and(|stored| stored >= 2.0));
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait().code(), Some(0));
    coordinator.signal(Signal::TERM);
    assert!(coordinator.wait().success());
    let log = lines(coordinator.written());
    assert!(log.iter().any(|line| message(&line, "a worker joined") && line["worker"].is_string()), "{log:?}");
}

#[test]
fn off_loopback_metrics_are_served_only_where_that_is_meant() {
    let stage = Stage::new();
    let said = |program: &str, arguments: &[&str]| {
        let mut command = stage.command(program);
        let output = command.args(arguments).output().unwrap();
        assert!(!output.status.success(), "{program} {arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let open = ["--metrics-listen", "0.0.0.0:0"];
    let coordinator = [&["coordinator", "--store", "store.db", "--listen", "127.0.0.1:0"][..], &open].concat();
    let worker = [&["--scripted-only"][..], &open].concat();
    for said in [said("alpharho", &coordinator), said("alpharho-worker", &worker)] {
        assert!(said.contains("is not on loopback") && said.contains("--metrics-public"), "{said}");
    }
}
