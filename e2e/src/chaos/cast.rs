//! The processes, and the ways to break them.

use super::{Chaos, Sweep, What, wait_at_most};
use crate::calls::Calls;
use crate::{Coordinator, Happened, Process, Proxy, Random, Stage, Watcher, Way, children, plain};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Short, so that much happens: a lease is six of these.
const HEARTBEAT_MS: &str = "250";
const WORKERS: usize = 3;
/// After healing: far more than any sweep takes.
const END_MAX: Duration = Duration::from_secs(300);

/// A coordinator, workers that reach it through a proxy, and a watcher that sees everything.
pub(super) struct Cast<'a> {
    stage: &'a Stage,
    trained: bool,
    address: String,
    pub(super) coordinator: Option<Coordinator>,
    pub(super) workers: Vec<Process>,
    /// Asked to leave, and not yet gone.
    leaving: Vec<Process>,
    proxy: Proxy,
    /// In front of the proxy, where single calls are broken.
    pub(super) calls: Option<Calls>,
    /// Stopped processes and when they go on.
    asleep: Vec<(Instant, u32)>,
    witness: Watcher,
    pub(super) random: Random,
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl<'a> Cast<'a> {
    pub(super) fn new(stage: &'a Stage, chaos: Chaos) -> Self {
        let coordinator = stage.coordinator_beating(None, HEARTBEAT_MS);
        let proxy = Proxy::start(&coordinator.address);
        let breaks_calls = matches!(chaos.what, What::Calls | What::ProcessesAndCalls);
        let calls = breaks_calls.then(|| Calls::start(&proxy.address, chaos.seed));
        let mut cast = Self {
            stage,
            trained: chaos.what == What::Trained,
            calls,
            address: coordinator.address.clone(),
            coordinator: Some(coordinator),
            workers: Vec::new(),
            leaving: Vec::new(),
            proxy,
            asleep: Vec::new(),
            witness: stage.watch_with(&["", "--follow"]),
            random: Random::new(chaos.seed),
            faults: BTreeMap::new(),
        };
        cast.hire();
        cast
    }

    pub(super) fn count(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// As many workers as there should be.
    pub(super) fn hire(&mut self) {
        // Drained, say: how they ended is looked at when all leave.
        let all = std::mem::take(&mut self.workers);
        for mut worker in all {
            let side = if worker.has_ended() { &mut self.leaving } else { &mut self.workers };
            side.push(worker);
        }
        let address = self.calls.as_ref().map_or(&self.proxy.address, |calls| &calls.address).clone();
        while self.workers.len() < WORKERS {
            let mut command =
                if self.trained { plain(self.stage, "alpharho-worker") } else { self.stage.command("alpharho-worker") };
            command.args(["--coordinator", &address, "--device", "cpu"]);
            if self.trained {
                command.args(["--slots", "1", "--threads", "1", "--data-folder", "data"]);
            } else {
                command.args(["--slots", "2", "--trainer-silence-seconds", "6"]);
            }
            self.workers.push(self.stage.start("worker", command));
        }
    }

    pub(super) fn file(&self, name: &str, content: &str) -> String {
        self.stage.file(name, content).display().to_string()
    }

    pub(super) fn submit(&self, sweep: &Sweep) {
        self.stage.ask(&["submit", &sweep.file]);
    }

    /// Whether that sweep is over, as far as the watcher has heard.
    pub(super) fn is_over(&self, sweep: &Sweep) -> bool {
        let of_sweep = format!("\"sweep\":\"{}\"", sweep.name);
        let written = self.witness.process.written();
        written.lines().any(|line| line.contains("\"sweep_over\"") && line.replace(' ', "").contains(&of_sweep))
    }

    pub(super) fn kill_coordinator(&mut self) {
        if let Some(coordinator) = self.coordinator.take() {
            self.count("kill coordinator");
            let _ = coordinator.kill();
        }
    }

    /// One that is killed before it can be of use.
    pub(super) fn kill_starting_coordinator(&mut self, after: Duration) {
        let command = self.stage.coordinator_command(Some(&self.address), HEARTBEAT_MS);
        let process = self.stage.start("coordinator", command);
        std::thread::sleep(after);
        self.count("kill coordinator that starts");
        process.kill();
    }

    pub(super) fn start_coordinator(&mut self) {
        if self.coordinator.is_none() {
            self.coordinator = Some(self.stage.coordinator_beating(Some(&self.address), HEARTBEAT_MS));
        }
    }

    pub(super) fn kill_worker(&mut self, place: usize) {
        self.count("kill worker");
        self.workers.remove(place).kill();
    }

    /// Asks it to leave, as Slurm does before it takes a node away.
    pub(super) fn dismiss_worker(&mut self, place: usize) {
        self.count("terminate worker");
        let worker = self.workers.remove(place);
        worker.signal(Signal::TERM);
        self.leaving.push(worker);
    }

    /// The coordinators' calendar: up to 30 hours forward or back.
    pub(super) fn move_clock(&mut self) {
        let hours_30_ms = 30 * 3_600_000;
        let by_ms = self.random.between(0, 2 * hours_30_ms).cast_signed() - hours_30_ms.cast_signed();
        self.count(if by_ms > 0 { "set clock forward" } else { "set clock back" });
        self.stage.move_clock(by_ms);
    }

    /// As a person does; the sweep may be over, or the worker gone.
    pub(super) fn order(&mut self, kind: &'static str, arguments: &[&str]) {
        if self.stage.alpharho(arguments).status.success() {
            self.count(kind);
        }
    }

    /// Any worker that the coordinator knows.
    pub(super) fn some_worker(&mut self) -> Option<String> {
        let told: Value = serde_json::from_str(&self.stage.ask(&["workers", "--json"])).unwrap();
        let attached = told.as_array().into_iter().flatten().filter(|worker| worker["state"] == "attached");
        let ids: Vec<String> = attached.filter_map(|worker| worker["id"].as_str().map(str::to_owned)).collect();
        (!ids.is_empty()).then(|| ids[self.random.place(ids.len())].clone())
    }

    pub(super) fn trainers(&self) -> Vec<u32> {
        self.workers.iter().flat_map(|worker| children(worker.id())).collect()
    }

    /// False when it was gone already.
    fn signal(&self, process: u32, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return false };
        self.stage.is_ours(process) && kill_process(pid, signal).is_ok()
    }

    pub(super) fn kill_trainer(&mut self, trainer: u32) {
        if self.signal(trainer, Signal::KILL) {
            self.count("kill trainer");
        }
    }

    pub(super) fn stop(&mut self, kind: &'static str, process: u32, how_long: Duration) {
        if self.signal(process, Signal::STOP) {
            self.count(kind);
            self.asleep.push((Instant::now() + how_long, process));
        }
    }

    /// Whether the coordinator is there and not stopped.
    pub(super) fn is_coordinated(&self) -> bool {
        let asleep = |id: u32| self.asleep.iter().any(|(_, process)| *process == id);
        self.coordinator.as_ref().is_some_and(|coordinator| !asleep(coordinator.process.id()))
    }

    /// Those whose time has come go on.
    pub(super) fn wake(&mut self, now: Instant) {
        let (due, later): (Vec<_>, Vec<_>) = self.asleep.iter().partition(|(until, _)| *until <= now);
        self.asleep = later;
        for (_, process) in due {
            // It may have been killed meanwhile.
            let _ = self.signal(process, Signal::CONT);
        }
    }

    pub(super) fn cut(&mut self) {
        if self.proxy.cut() > 0 {
            self.count("cut connections");
        }
    }

    pub(super) fn silence(&mut self, way: Way, how_long: Duration) {
        self.count(match way {
            Way::In => "silence to coordinator",
            Way::Out => "silence to workers",
        });
        self.proxy.silence(way, how_long);
    }

    /// Spoils the newest checkpoint of some trials that are not over. Nobody may run.
    pub(super) fn damage_checkpoints(&mut self, sweep: &Sweep) {
        let status = self.stage.status(&sweep.name);
        let open = status["trials"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|trial| !matches!(trial["state"].as_str(), Some("completed" | "failed" | "cancelled")));
        let ids: Vec<u64> = open.filter_map(|trial| trial["id"].as_u64()).collect();
        for id in ids {
            if self.random.between(0, 1) == 0 {
                continue;
            }
            let folder = self.stage.folder().join(format!("artifacts/{}/trial-{id}", sweep.name));
            // The epoch comes first in their names.
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let Some(newest) = files.max() else { continue };
            self.damage(newest);
        }
    }

    fn damage(&mut self, file: PathBuf) {
        let mut bytes = std::fs::read(&file).unwrap();
        let kind = match self.random.between(0, 3) {
            0 => {
                std::fs::remove_file(file).unwrap();
                self.count("remove checkpoint");
                return;
            }
            1 => {
                bytes.truncate(self.random.place(bytes.len()));
                "truncate checkpoint"
            }
            2 => {
                bytes.fill(0);
                "zero checkpoint"
            }
            _ => {
                let place = self.random.place(bytes.len());
                bytes[place] ^= 1 << self.random.between(0, 7);
                "flip bit of checkpoint"
            }
        };
        std::fs::write(file, bytes).unwrap();
        self.count(kind);
    }

    /// Everybody is there and awake, and the network is whole.
    pub(super) fn heal(&mut self) {
        self.proxy.heal();
        self.calls.as_ref().inspect(|calls| calls.heal());
        self.wake(Instant::now() + Duration::from_secs(3600));
        self.start_coordinator();
        self.hire();
    }

    pub(super) fn wait_until_over(&mut self, sweeps: &[Sweep]) -> Result<(), String> {
        let over = wait_at_most(END_MAX, || sweeps.iter().all(|sweep| self.is_over(sweep)));
        if over {
            return Ok(());
        }
        let open = sweeps.iter().find(|sweep| !self.is_over(sweep)).map_or("", |sweep| sweep.name.as_str());
        let states = self.stage.alpharho(&["status", open]);
        Err(format!("{open} never ended:\n{}", String::from_utf8_lossy(&states.stdout)))
    }

    /// Asks everybody to leave; what was not as it should be.
    pub(super) fn leave(mut self) -> Vec<String> {
        let mut problems = Vec::new();
        self.leaving.append(&mut self.workers);
        for worker in &self.leaving {
            // Those that were asked before may be gone.
            let _ = self.signal(worker.id(), Signal::TERM);
        }
        for worker in &mut self.leaving {
            let status = worker.wait();
            // 4: the coordinator was away. 130: asked twice.
            // By the signal itself: asked before it had begun, as it looks for libtorch first.
            let had_not_begun = status.signal() == Some(Signal::TERM.as_raw()) && worker.written().is_empty();
            if !matches!(status.code(), Some(0 | 4 | 130)) && !had_not_begun {
                problems.push(format!("a worker ended with {status}: {}", worker.written()));
            }
        }
        let told = what_happened(&self.witness);
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.stop();
        }
        let mut all = self.stage.watch_with(&["", "--after", "0"]);
        let _ = all.process.wait();
        let all = what_happened(&all);
        if told.is_empty() || all.len() < told.len() || all[..told.len()] != told {
            let place = all.iter().zip(&told).position(|(one, other)| one != other);
            problems.push(format!(
                "a watcher was told {} events, the store has {}; they differ at {place:?}",
                told.len(),
                all.len()
            ));
        }
        problems
    }
}

/// Trials' numbers are left out: they are looked up when an event is shown, and that may fail.
fn what_happened(watcher: &Watcher) -> Vec<(u64, Value)> {
    watcher.told().into_iter().map(|Happened { sequence, happening, .. }| (sequence, happening)).collect()
}
