//! Full disks, real ones: small file systems in memory, where the machine lets us mount them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Process, Stage, attempts, epochs_of, wait_for};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Runs a program with a small disk of its own at `disk` in the stage's folder; `None` where that is not permitted.
fn with_disk(stage: &Stage, mebibytes: u32, program: &Command) -> Option<Command> {
    let inside = |script: &str| {
        let mut command = stage.command("alpharho");
        // The stage's environment, another program.
        let environment: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = Command::new("unshare");
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(stage.folder()).args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    std::fs::create_dir_all(stage.folder().join("disk")).unwrap();
    let mount = format!("mount -t tmpfs -o size={mebibytes}m tmpfs disk");
    let permitted = inside(&mount).output().is_ok_and(|output| output.status.success());
    if !permitted {
        eprintln!("skipped: this machine does not let us mount a file system (unshare --user --map-root-user --mount)");
        return None;
    }
    let mut command = inside(&format!("{mount} && exec \"$0\" \"$@\""));
    command.arg(program.get_program()).args(program.get_args());
    Some(command)
}

/// The disk of such a process, seen from outside.
fn disk_of(stage: &Stage, process: &Process) -> PathBuf {
    let path = stage.folder().join("disk");
    PathBuf::from(format!("/proc/{}/root{}", process.id(), path.display()))
}

/// Fills a disk but for so many bytes.
fn fill(disk: &std::path::Path, but: u64) {
    let mut file = File::create(disk.join("filler")).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(but)).unwrap();
}

#[test]
fn a_full_disk_under_store_and_checkpoints_stops_nothing_for_good() {
    let stage = Stage::new();
    let mut program = stage.command("alpharho");
    program.args(["coordinator", "--store", "disk/store.db", "--listen", "127.0.0.1:0", "--heartbeat-ms", "1000"]);
    program.args(["--disk-reserve-mib", "4", "--json"]);
    let Some(command) = with_disk(&stage, 16, &program) else { return };
    let coordinator = stage.start("coordinator", command);
    let address = wait_for("the coordinator's address", || {
        let hello: Value = serde_json::from_str(coordinator.written().lines().next()?).ok()?;
        Some(hello["address"].as_str()?.to_owned())
    });
    let ask = |arguments: &[&str]| {
        let output = stage.command("alpharho").args(arguments).args(["--coordinator", &address]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    ask(&["submit", &stage.sweep("full", "1, 0.5", 30, "script: [{do: sleep, ms: 200}]")]);
    let _worker = stage.worker(&address, &[]);
    wait_for("an epoch", || {
        let status: Value = serde_json::from_str(&ask(&["status", "full", "--json"])).ok()?;
        (status["trials"][0]["epochs_done"].as_u64() >= Some(1)).then_some(())
    });
    let disk = disk_of(&stage, &coordinator);
    fill(&disk, 2 << 20);
    wait_for("the reason", || ask(&["explain", "full", "2"]).contains("little room on the disk").then_some(()));
    assert!(ask(&["status", "full"]).contains("no trial is begun now: little room on the disk of disk"));
    // Now not even what runs can be remembered.
    fill(&disk, 0);
    wait_for("trouble", || coordinator.written().contains("cannot be written").then_some(()));
    std::fs::remove_file(disk.join("filler")).unwrap();
    let told = ask(&["watch", "full", "--json"]);
    assert!(told.contains("sweep_over"), "{told}");
    let events: Vec<_> = told.lines().filter(|line| line.starts_with('{')).map(e2e::Happened::read).collect();
    for trial in [1, 2] {
        assert_eq!(attempts(&events, trial), ["completed"], "trial {trial}");
        let epochs: Vec<u64> = epochs_of(&events, trial).into_values().flatten().collect();
        assert_eq!(epochs, (1..=30).collect::<Vec<_>>(), "trial {trial}");
    }
}

#[test]
fn a_full_disk_on_a_worker_is_waited_for() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &stage.sweep("cache", "1", 12, "script: [{do: sleep, ms: 100}]")]);
    let mut program = stage.command("alpharho-worker");
    program.args([
        "--coordinator",
        &coordinator.address,
        "--device",
        "cpu",
        "--slots",
        "1",
        "--folder",
        "disk/scratch",
    ]);
    let Some(command) = with_disk(&stage, 1, &program) else { return };
    let worker = stage.start("worker", command);
    let watcher = stage.watch("cache");
    watcher.until("an epoch", |event| event.is("epoch_finished", 1));
    let disk = disk_of(&stage, &worker);
    fill(&disk, 0);
    wait_for("the reason", || stage.ask(&["logs", "cache", "1"]).contains("the disk is full").then_some(()));
    std::fs::remove_file(disk.join("filler")).unwrap();
    let events = stage.events("cache");
    assert_eq!(attempts(&events, 1), ["completed"], "nobody is blamed");
}
