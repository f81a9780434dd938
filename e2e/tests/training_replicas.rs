//! Several replicas really train one trial: one after the other is killed; over TLS, as on different machines.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Coordinator, Happened, Process, Stage, attempts, children, epochs_of, plain, wait_for, write_pictures};
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::time::Duration;

const IMAGES: usize = 320;
const EPOCHS: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Of a replica that is not the chief, its trainer.
    Replica,
    /// The chief's trainer.
    Chief,
    Coordinator,
}

/// Numbers that look like chance, the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn sweep(stage: &Stage, replicas: &str, mode: &str) -> String {
    write_pictures(stage, "train", IMAGES);
    write_pictures(stage, "t10k", 32);
    let yaml = format!(
        "name: shared\nparameters: {{alpha: {{value: 0.25}}, resolution: {{value: 32}}}}\n\
         data: {{format: idx, train: pictures/train-images-idx3-ubyte, validation: pictures/t10k-images-idx3-ubyte, \
         classes: 2, crop: {{area: [0.8, 1.0]}}}}\n\
         training: {{epochs: {EPOCHS}, batch_size: 16, learning_rate: 0.002, optimizer: {{epsilon: 0.001}}, \
         batch_norm: {{reestimate_batches: 10}}, replicas: {replicas}, gradients: {{mode: {mode}}}}}\n"
    );
    stage.file("shared.yaml", yaml).display().to_string()
}

fn worker(stage: &Stage, coordinator: &str) -> Process {
    let mut command = plain(stage, "alpharho-worker");
    command.args(["--coordinator", coordinator, "--device", "cpu", "--slots", "1", "--threads", "1"]);
    command.args(["--data-folder", "data"]);
    stage.start("worker", command)
}

fn kill_trainer(worker: &Process) {
    let trainer = wait_for("a trainer", || children(worker.id()).first().copied());
    rustix::process::kill_process(Pid::from_raw(trainer.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

fn epochs_finished(events: &[Happened]) -> usize {
    events.iter().filter(|event| event.is("epoch_finished", 1)).count()
}

/// Does it, a little after the trial has gone on. The coordinator that works then.
fn happen(stage: &Stage, fault: Fault, workers: &[Process], coordinator: Coordinator, draw: &mut Draw) -> Coordinator {
    let watcher = stage.watch("shared");
    let before = epochs_finished(&watcher.told());
    wait_for("another epoch", || (epochs_finished(&watcher.told()) > before).then_some(()));
    std::thread::sleep(Duration::from_millis(draw.below(700)));
    match fault {
        Fault::Replica => kill_trainer(&workers[stage.place_of(workers, |replica| replica > 0)]),
        Fault::Chief => {
            kill_trainer(&workers[stage.place_of(workers, |replica| replica == 0)]);
            watcher.until("the next attempt", |event| event.is("attempt_started", 1) && event.number("attempt") == 2);
        }
        Fault::Coordinator => {
            let address = coordinator.kill();
            return stage.coordinator(Some(&address));
        }
    }
    coordinator
}

/// How many epochs were trained by several replicas together. In each of them each image counts once.
fn epochs_shared(events: &[Happened]) -> usize {
    let mut shared = 0;
    for epoch in events.iter().filter(|event| event.is("epoch_finished", 1)) {
        let points = epoch.happening["points"].as_array().unwrap();
        let value = |name: &str| {
            let point = points.iter().find(|point| point["name"] == name);
            point.unwrap_or_else(|| panic!("no {name} in {epoch:?}"))["value"].as_f64().unwrap()
        };
        assert_eq!(value("images_trained"), IMAGES as f64, "each image counts once: {epoch:?}");
        assert_eq!(value("samples_refused"), 0.0, "{epoch:?}");
        // Of those whose images were taken.
        shared += usize::from(value("replicas") > 1.0);
    }
    shared
}

/// Kills one of each, in an order and at moments that the seed says.
fn survives(seed: u64, mode: &str) {
    let mut draw = Draw(seed);
    let stage = Stage::new();
    let mut coordinator = stage.coordinator(None);
    stage.ask(&["submit", &sweep(&stage, "{min: 1, max: 3}", mode)]);
    let workers: Vec<Process> = (0..3).map(|_| worker(&stage, &coordinator.address)).collect();
    stage.watch("shared").until("a replica", |event| event.kind == "replica_joined");
    let mut faults = vec![Fault::Replica, Fault::Chief, Fault::Coordinator];
    while !faults.is_empty() {
        let next = usize::try_from(draw.below(faults.len() as u64)).unwrap();
        coordinator = happen(&stage, faults.remove(next), &workers, coordinator, &mut draw);
    }
    let events = stage.events("shared");
    assert_eq!(attempts(&events, 1), ["crashed", "completed"], "only the chief's death costs an attempt");
    let finished: BTreeSet<u64> = epochs_of(&events, 1).into_values().flatten().collect();
    assert_eq!(finished, (1..=EPOCHS).collect::<BTreeSet<_>>());
    assert!(epochs_shared(&events) > 0, "no epoch was trained by several");
    let trial = stage.status("shared")["trials"][0].clone();
    assert!(trial["best"]["val_top1"].as_f64().unwrap() > 0.8, "two plain classes are learned: {trial}");
}

#[test]
fn a_killed_replica_chief_and_coordinator_cost_no_image_async() {
    survives(1, "async");
}

#[test]
fn a_killed_replica_chief_and_coordinator_cost_no_image_sync() {
    survives(2, "sync");
}

/// Chiefs listen on all addresses and are called by the host's name, as by workers of other machines: not by the socket
/// that replicas of one host share, but over TLS.
#[test]
fn two_agents_train_one_trial_over_tls() {
    let stage = Stage::new();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    let found = (host.as_str(), 0).to_socket_addrs();
    assert!(found.is_ok(), "this machine does not know its own name, {host}; put it into /etc/hosts");
    stage.ask(&["certs", "init"]);
    stage.ask(&["certs", "issue", "coordinator", "--host", "127.0.0.1"]);
    for (name, role) in [("me", "admin"), ("node1", "worker"), ("node2", "worker")] {
        stage.ask(&["certs", "issue", name, "--host", &host]);
        stage.ask(&["tokens", "create", name, "--role", role]);
    }
    let coordinator = stage.coordinator_on("127.0.0.1:0", &["--credentials", "certs/coordinator"]);
    stage.ask(&["submit", &sweep(&stage, "2", "async"), "--credentials", "certs/me"]);
    let start = |name: &str| {
        let mut command = plain(&stage, "alpharho-worker");
        command.args(["--coordinator", &coordinator.address, "--device", "cpu", "--slots", "1", "--threads", "1"]);
        command.args(["--data-folder", "data", "--gradients-listen", "0.0.0.0:0"]);
        command.args(["--credentials", &format!("certs/{name}")]);
        stage.start(name, command)
    };
    let workers = [start("node1"), start("node2")];
    let watcher = stage.watch_with(&["shared", "--credentials", "certs/me"]);
    watcher.until("the replica", |event| event.kind == "replica_joined");
    watcher.until("the end", |event| event.kind == "sweep_over");
    let events = watcher.told();
    assert_eq!(attempts(&events, 1), ["completed"]);
    let finished: Vec<u64> = epochs_of(&events, 1).into_values().flatten().collect();
    assert_eq!(finished, (1..=EPOCHS).collect::<Vec<_>>());
    assert!(epochs_shared(&events) > 0, "no epoch was trained by both");
    for worker in &workers {
        assert!(!worker.written().contains("not encrypted"), "{}", worker.written());
    }
}
