//! Real training: libtorch, made-up pictures, from the sweep file to the plot.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Stage, attempts, epochs_of, plain, wait_for, write_pictures};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt;

/// What a trainer may map. It takes half of that before its first trial: libtorch's files, above all.
const MEMORY_KIB: u32 = 900_000;

fn sweep(stage: &Stage, epochs: u32) -> String {
    write_pictures(stage, "train", 320);
    write_pictures(stage, "t10k", 32);
    let yaml = format!(
        "name: pictures\nparameters: {{alpha: {{values: [0.25]}}, resolution: {{values: [32, 24]}}}}\n\
         data: {{format: idx, train: pictures/train-images-idx3-ubyte, validation: pictures/t10k-images-idx3-ubyte, \
         classes: 2, crop: {{area: [0.8, 1.0]}}}}\n\
         training: {{epochs: {epochs}, batch_size: 16, learning_rate: 0.002, optimizer: {{epsilon: 0.001}}, \
         batch_norm: {{reestimate_batches: 10}}}}\n"
    );
    stage.file("pictures.yaml", yaml).display().to_string()
}

#[test]
fn run_trains_interrupted_goes_on_and_exports() {
    let stage = Stage::new();
    let epochs = 6;
    let file = sweep(&stage, epochs);
    let run = || {
        let mut command = plain(&stage, "alpharho");
        command.args(["run", &file, "--store", "store.db", "--data-folder", "data", "--device", "cpu"]);
        command.args(["--slots", "1", "--threads", "1"]);
        stage.start("run", command)
    };
    let mut first = run();
    wait_for("an epoch", || {
        assert!(!first.has_ended(), "the run ended: {}", first.written());
        // Until the run has made the store there is nobody to ask.
        let output = stage.alpharho(&["status", "pictures", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["trials"].as_array()?.iter().any(|trial| trial["epochs_done"].as_u64() >= Some(1)).then_some(())
    });
    first.signal(Signal::INT);
    assert_eq!(first.wait().code(), Some(130));
    let mut second = run();
    assert_eq!(second.wait().code(), Some(0), "{}", second.written());
    let status = stage.status("pictures");
    assert_eq!(status["scripted"], false);
    for trial in status["trials"].as_array().unwrap() {
        assert_eq!(trial["state"], "completed", "{trial}");
        assert!(trial["best"]["val_top1"].as_f64().unwrap() > 0.8, "two plain classes are learned: {trial}");
        assert!(trial["last"]["val_loss"].as_f64().unwrap().is_finite());
    }
    let events = stage.events("pictures");
    for trial in [1, 2] {
        let finished: Vec<u64> = epochs_of(&events, trial).into_values().flatten().collect();
        assert_eq!(finished, (1..=u64::from(epochs)).collect::<Vec<_>>(), "no epoch is trained twice");
    }
    let grid = std::fs::read_to_string(stage.folder().join("pictures/grid.csv")).unwrap();
    assert_eq!(grid.lines().count(), 3, "{grid}");
    for file in ["grid.md", "tradeoff.svg", "tradeoff.png"] {
        assert!(stage.folder().join("pictures").join(file).exists(), "{file}");
    }
}

#[test]
fn missing_data_fails_the_trial_with_a_sentence() {
    let stage = Stage::new();
    let file = sweep(&stage, 1);
    std::fs::remove_dir_all(stage.folder().join("data/pictures")).unwrap();
    let mut command = plain(&stage, "alpharho");
    command.args(["run", &file, "--store", "store.db", "--data-folder", "data", "--device", "cpu", "--slots", "1"]);
    let mut run = stage.start("run", command);
    assert_eq!(run.wait().code(), Some(3), "{}", run.written());
    for trial in stage.status("pictures")["trials"].as_array().unwrap() {
        assert_eq!((&trial["state"], &trial["attempts"]), (&"failed".into(), &1.into()), "{trial}");
        assert!(trial["reason"].as_str().unwrap().contains("train-images-idx3-ubyte"), "{trial}");
    }
}

#[test]
fn a_pack_trains_as_what_it_was_made_of() {
    let stage = Stage::new();
    let file = sweep(&stage, 1);
    let mut yaml = std::fs::read_to_string(&file).unwrap().replace("format: idx", "format: pack");
    for name in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"] {
        let (source, pack) = (format!("data/pictures/{name}"), format!("data/pictures/{name}.pack"));
        let packed = stage.alpharho(&["pack", &source, "--format", "idx", "--classes", "2", "--out", &pack]);
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        assert!(stage.alpharho(&["pack", "--check", &pack]).status.success());
        yaml = yaml.replace(name, &format!("{name}.pack"));
    }
    let packed = stage.file("packed.yaml", yaml.replace("name: pictures", "name: packed")).display().to_string();
    for file in [&file, &packed] {
        let mut command = plain(&stage, "alpharho");
        command.args(["run", file, "--store", "store.db", "--data-folder", "data", "--device", "cpu"]);
        command.args(["--slots", "1", "--threads", "1"]);
        let mut run = stage.start("run", command);
        assert_eq!(run.wait().code(), Some(0), "{}", run.written());
    }
    let losses = |name: &str| -> Vec<serde_json::Value> {
        let status = stage.status(name);
        status["trials"].as_array().unwrap().iter().map(|trial| trial["last"]["val_loss"].clone()).collect()
    };
    assert_eq!(losses("pictures"), losses("packed"), "the same pixels in the same order");
    assert!(losses("packed").iter().all(serde_json::Value::is_f64));
}

#[test]
fn a_cohort_that_memory_does_not_suffice_for_goes_on_in_halves() {
    let stage = Stage::new();
    write_pictures(&stage, "train", 32);
    write_pictures(&stage, "t10k", 16);
    // Weights, gradient and optimizer slots of a trial are 51 MB.
    let file = stage.file(
        "crowded.yaml",
        "name: crowded\nparameters: {alpha: {values: [1]}, resolution: {values: [32]}}\nseeds: [1, 2, 3, 4, 5, 6, 7, 8]\n\
         data: {format: idx, train: pictures/train-images-idx3-ubyte, validation: pictures/t10k-images-idx3-ubyte, \
         classes: 2}\ntraining: {epochs: 1, batch_size: 16}\nmax_restarts: 0\n",
    );
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &file.display().to_string()]);
    // A trainer that finds no more memory than one on a crowded machine: enough for libtorch and a few trials.
    let trainer = stage.command("alpharho-trainer").get_program().to_owned();
    let script = format!("#!/bin/sh\nulimit -v {MEMORY_KIB}\nexec {} \"$@\"\n", trainer.display());
    let script = stage.file("crowded-trainer", script);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut worker = plain(&stage, "alpharho-worker");
    worker.args(["--coordinator", &coordinator.address, "--data-folder", "data", "--device", "cpu", "--slots", "1"]);
    worker.args(["--threads", "1", "--trainer"]).arg(&script);
    let _worker = stage.start("worker", worker);
    let events = stage.events("crowded");
    for trial in 1..=8 {
        let ends = attempts(&events, trial);
        let (last, before) = ends.split_last().unwrap();
        assert_eq!(last, "completed", "trial {trial}: {ends:?}");
        assert!(before.iter().all(|end| *end == "crashed_together"), "nobody is blamed: trial {trial}: {ends:?}");
    }
    let first = events.iter().find(|event| event.kind == "attempt_ended").unwrap();
    let told = first.happening.to_string();
    assert!(told.contains("memory does not suffice for 8 trials at a time: "), "{told}");
}
