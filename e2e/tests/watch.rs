//! The dashboard in a real terminal, on a sweep that really runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::{Stage, Terminal, children, has_tmux, wait_for};
use rustix::process::{Pid, Signal};

/// What follows `alpharho watch SWEEP` on a shell's line; says how it ended and how the terminal was left.
fn shell(stage: &Stage, sweep: &str, more: &str) -> String {
    let program = stage.command("alpharho").get_program().to_str().unwrap().to_owned();
    let folder = stage.folder().display();
    let watch = format!("cd {folder} && {program} watch {sweep} --store store.db {more}");
    format!("sh -c '{watch}; echo \"left with $?\"; stty -a | tr \";\" \"\\n\" | grep -o -- \"-*icanon\"; exec cat'")
}

#[test]
fn a_running_sweep_is_watched_and_steered_by_keys() {
    if !has_tmux() {
        return;
    }
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let _worker = stage.worker(&coordinator.address, &[]);
    let file = stage.sweep("seen", "1, 0.75, 0.5, 0.25", 40, "script: [{do: sleep, ms: 250}]");
    stage.ask(&["submit", &file]);
    let terminal = Terminal::start(stage.folder().join("tmux"), 120, 40, &shell(&stage, "seen", ""));

    terminal.until(&["seen", "Trade-off", "against Mult-Adds", "live", "1 running", "scripted"]);
    assert!(terminal.shows_program());
    // A point for the first cell as soon as it has an epoch.
    terminal.until(&["on the Pareto front", "α 1  ρ 128", "trial 1, running"]);
    terminal.press(&["2"]);
    terminal.until(&["α × ρ, best top-1", "ρ 128", "α 0.25", "3 pending"]);
    terminal.press(&["Enter"]);
    terminal.until(&["trial 1  α 1  ρ 128", "running", "speed and steps", "checkpoints kept", "train"]);
    terminal.press(&["5"]);
    terminal.until(&["attempt 1 starts on", "trial 1 (1-128)"]);
    terminal.press(&["4"]);
    terminal.until(&["workers, 1 with 1 slots, 1 busy", "attached", "1 (1-128)"]);
    terminal.press(&["5", "/", "r", "u", "n", "s", "Enter"]);
    terminal.until(&["filter: runs"]);

    terminal.press(&["a", "P"]);
    terminal.until(&["please confirm", "Pause the sweep seen?"]);
    assert_eq!(stage.status("seen")["paused"], false, "a question does nothing");
    terminal.press(&["y"]);
    wait_for("the pause", || (stage.status("seen")["paused"] == true).then_some(()));
    terminal.until(&["the sweep is paused", "paused"]);
    terminal.press(&["a", "R", "y"]);
    wait_for("the resumption", || (stage.status("seen")["paused"] == false).then_some(()));
    terminal.press(&["1", "?"]);
    terminal.until(&["keys", "another screen", "leave; the sweep goes on"]);
    terminal.press(&["Escape"]);

    // The coordinator dies and comes back: what is known stays, then it goes on.
    let address = coordinator.kill();
    terminal.until(&["away", "the coordinator is away", "against Mult-Adds", "α 1  ρ 128"]);
    let coordinator = stage.coordinator(Some(&address));
    terminal.until(&["live"]);
    wait_for("an event after the return", || {
        terminal.press(&["2"]);
        (!terminal.screen().contains("away")).then_some(())
    });

    terminal.resize(50, 12);
    terminal.until(&["too small", "50 x 12"]);
    terminal.resize(80, 24);
    terminal.until(&["α × ρ, best top-1"]);
    terminal.press(&["q"]);
    terminal.until(&["left with 0", "icanon"]);
    assert!(!terminal.screen().contains("-icanon") && !terminal.shows_program(), "{}", terminal.screen());
    coordinator.stop();
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    if !has_tmux() {
        return;
    }
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    stage.ask(&["submit", &stage.sweep("ended", "1", 2, "script: []")]);
    for (number, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        let terminal =
            Terminal::start(stage.folder().join(format!("tmux{number}")), 80, 24, &shell(&stage, "ended", "--ascii"));
        let screen = terminal.until(&["Trade-off", "1 pending", "no epoch is finished yet"]);
        assert!(screen.is_ascii(), "{screen}");
        // The terminal's shell is the parent of the dashboard.
        let dashboard = wait_for("the dashboard's process", || watching(&stage));
        rustix::process::kill_process(Pid::from_raw(i32::try_from(dashboard).unwrap()).unwrap(), signal).unwrap();
        terminal.until(&["left with 130", "icanon"]);
        assert!(!terminal.screen().contains("-icanon") && !terminal.shows_program(), "{}", terminal.screen());
    }
    coordinator.stop();
}

#[test]
fn without_a_terminal_there_are_lines() {
    let stage = Stage::new();
    let coordinator = stage.coordinator(None);
    let _worker = stage.worker(&coordinator.address, &[]);
    stage.ask(&["submit", &stage.sweep("lines", "1", 1, "script: []")]);
    let told = stage.ask(&["watch", "lines"]);
    assert!(told.contains("trial 1 (1-128)  completed") && !told.contains('\u{1b}'), "{told}");
    coordinator.stop();
}

/// The process that runs `alpharho watch` on this stage's folder.
fn watching(stage: &Stage) -> Option<u32> {
    let folder = std::fs::canonicalize(stage.folder()).ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_it = |process: &u32| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let here = std::fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|at| at == folder);
        here && line.contains("\0watch\0") && children(*process).is_empty()
    };
    processes.filter(|process: &u32| *process != std::process::id()).find(is_it)
}
