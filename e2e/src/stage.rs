//! A folder, a store, and who works on it.

use crate::events::{Happened, Watcher};
use crate::process::{Process, all_processes, is_alive};
use crate::wait_for;
use rustix::process::Signal;
use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// How often workers say that they live: short, so that losses are noticed soon, but a lease (six of these) still
/// outlasts the pauses of a machine that is busy with other things.
const HEARTBEAT_MS: &str = "1000";
/// By how many milliseconds the coordinators' clock is wrong.
const CLOCK: &str = "clock";
/// Marks all processes of a stage, and those that they start.
const MARK: &str = "ALPHARHO_STAGE";

/// Everything of one test.
#[derive(Debug)]
pub struct Stage {
    home: TempDir,
    started: Cell<u32>,
}

/// `alpharho coordinator`.
#[derive(Debug)]
pub struct Coordinator {
    /// The process.
    pub process: Process,
    /// `http://127.0.0.1:PORT`.
    pub address: String,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// An empty one.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), started: Cell::new(0) }
    }

    /// Its folder, which is also the working folder of all its processes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into its folder.
    ///
    /// # Panics
    /// When the disk is full.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a scripted sweep of that name: trials of α 1, 0.5, .. in this order, all of ρ 128.
    pub fn sweep(&self, name: &str, alphas: &str, epochs: u32, more: &str) -> String {
        let yaml = format!(
            "name: {name}\nparameters:\n  alpha: {{values: [{alphas}]}}\n  resolution: {{values: [128]}}\n\
             data: {{format: idx, train: nowhere, validation: nowhere-too, classes: 10}}\n\
             training: {{epochs: {epochs}}}\n{more}\n"
        );
        self.file(&format!("{name}.yaml"), yaml).display().to_string()
    }

    /// One of the built executables, to be started in the stage's folder.
    ///
    /// # Panics
    /// When it was not built.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let test = std::env::current_exe().unwrap();
        // target/debug/deps/test-program → target/debug
        let executable = test.ancestors().nth(2).unwrap().join(name);
        assert!(executable.exists(), "{} is not built; run `cargo build --workspace` first", executable.display());
        let mut command = Command::new(executable);
        command
            .current_dir(self.folder())
            .env_remove("ALPHARHO_COORDINATOR")
            .env_remove("ALPHARHO_CREDENTIALS")
            .env("ALPHARHO_SCRIPTED_ONLY", "true");
        command.env(MARK, self.folder());
        command
    }

    /// Whether that process was started by this stage, or by a process that was.
    #[must_use]
    pub fn is_ours(&self, process: u32) -> bool {
        let mark = format!("{MARK}={}", self.folder().display());
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    }

    /// All processes of this stage that live.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        all_processes().filter(|process| is_alive(*process) && self.is_ours(*process)).collect()
    }

    /// Starts something in the background.
    pub fn start(&self, name: &str, command: Command) -> Process {
        let number = self.started.get() + 1;
        self.started.set(number);
        Process::start(name, command, self.folder().join(format!("{number}-{name}.log")))
    }

    /// Starts a coordinator on a free port, or on the one of a coordinator before.
    ///
    /// # Panics
    /// When it does not start.
    pub fn coordinator(&self, before: Option<&str>) -> Coordinator {
        self.coordinator_beating(before, HEARTBEAT_MS)
    }

    /// Starts a coordinator on an address, told more.
    ///
    /// # Panics
    /// When it does not start.
    pub fn coordinator_on(&self, listen: &str, more: &[&str]) -> Coordinator {
        let mut command = self.coordinator_command(Some(listen), HEARTBEAT_MS);
        command.args(more);
        self.started_coordinator(command)
    }

    /// The same as [`Self::coordinator`], with another heartbeat.
    ///
    /// # Panics
    /// When it does not start.
    pub fn coordinator_beating(&self, before: Option<&str>, heartbeat_ms: &str) -> Coordinator {
        self.started_coordinator(self.coordinator_command(before, heartbeat_ms))
    }

    fn started_coordinator(&self, command: Command) -> Coordinator {
        let lock = self.folder().join("store.db.lock");
        // What one that was killed left there says nothing of the new one.
        let _ = std::fs::write(&lock, "");
        let mut process = self.start("coordinator", command);
        let address = wait_for("the coordinator's address", || {
            assert!(!process.has_ended(), "the coordinator ended: {}", process.written());
            std::fs::read_to_string(&lock).ok().filter(|address| address.starts_with("http"))
        });
        Coordinator { process, address }
    }

    /// How a coordinator is started.
    #[must_use]
    pub fn coordinator_command(&self, before: Option<&str>, heartbeat_ms: &str) -> Command {
        let listen = before.map_or("127.0.0.1:0", |address| address.trim_start_matches("http://"));
        let mut command = self.command("alpharho");
        command.env("ALPHARHO_TEST_CLOCK", self.folder().join(CLOCK));
        command.args(["coordinator", "--store", "store.db", "--listen", listen, "--heartbeat-ms", heartbeat_ms]);
        command
    }

    /// Makes the calendar's clock of all coordinators of this stage so much wrong, from now on.
    ///
    /// # Panics
    /// When the disk is full.
    pub fn move_clock(&self, by_ms: i64) {
        // In one step: it is read at any time.
        let written = self.file("clock.new", by_ms.to_string());
        std::fs::rename(written, self.folder().join(CLOCK)).unwrap();
    }

    /// Starts a worker with one slot for scripted trials.
    pub fn worker(&self, coordinator: &str, more: &[&str]) -> Process {
        let mut command = self.command("alpharho-worker");
        command.args(["--coordinator", coordinator, "--device", "cpu", "--slots", "1"]).args(more);
        self.start("worker", command)
    }

    /// Runs `alpharho` on the stage's store to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn alpharho(&self, arguments: &[&str]) -> Output {
        self.command("alpharho").args(arguments).args(["--store", "store.db"]).output().unwrap()
    }

    /// The same; it must succeed. Returns its standard output.
    ///
    /// # Panics
    /// When it does not.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.alpharho(arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "alpharho {}: {}\n{told}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        told
    }

    /// `alpharho status --json`.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn status(&self, sweep: &str) -> Value {
        serde_json::from_str(&self.ask(&["status", sweep, "--json"])).unwrap()
    }

    /// Which of these workers trains as a replica of that number (0: a chief), as the coordinator tells.
    ///
    /// # Panics
    /// When none does for long.
    pub fn place_of(&self, workers: &[Process], wanted: impl Fn(u64) -> bool) -> usize {
        wait_for("the replica's worker", || {
            let told: Value = serde_json::from_str(&self.ask(&["workers", "--json"])).unwrap();
            let found = told.as_array().unwrap().iter().filter(|worker| {
                let slot = &worker["slots"][0];
                let trains = slot["trial_ids"].as_array().is_some_and(|ids| !ids.is_empty());
                trains && slot["replica"].as_u64().is_some_and(&wanted)
            });
            let ids: Vec<&str> = found.filter_map(|worker| worker["id"].as_str()).collect();
            workers.iter().position(|worker| ids.iter().any(|id| worker.written().contains(id)))
        })
    }

    /// Of each trial, in order: its state and how many attempts it took.
    ///
    /// # Panics
    /// When the status cannot be asked for.
    #[must_use]
    pub fn states(&self, sweep: &str) -> Vec<(String, u64)> {
        let status = self.status(sweep);
        let trials = status["trials"].as_array().unwrap_or_else(|| panic!("no trials in {status}")).iter();
        trials.map(|trial| (trial["state"].as_str().unwrap().to_owned(), trial["attempts"].as_u64().unwrap())).collect()
    }

    /// All events of a sweep, once it is over.
    ///
    /// # Panics
    /// When it is not over in time.
    #[must_use]
    pub fn events(&self, sweep: &str) -> Vec<Happened> {
        let mut watcher = self.watch(sweep);
        let status = watcher.process.wait();
        let events = watcher.told();
        // 3: it is over, and trials of it failed.
        assert!(matches!(status.code(), Some(0 | 3)), "watch: {status}: {}", watcher.process.written());
        // A worker that was believed dead may say something still.
        assert!(events.iter().any(|event| event.kind == "sweep_over"), "it is not over");
        events
    }

    /// Watches a sweep from its beginning.
    #[must_use]
    pub fn watch(&self, sweep: &str) -> Watcher {
        self.watch_with(&[sweep])
    }

    /// Watches what these arguments say.
    #[must_use]
    pub fn watch_with(&self, arguments: &[&str]) -> Watcher {
        let mut command = self.command("alpharho");
        command.arg("watch").args(arguments).args(["--json", "--store", "store.db"]);
        Watcher { process: self.start("watch", command) }
    }
}

impl Coordinator {
    /// Ends it as the out-of-memory killer would.
    #[must_use]
    pub fn kill(self) -> String {
        self.process.kill();
        self.address
    }

    /// Ends it as a person would; it must end well.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "the coordinator ended with {status}");
    }
}
