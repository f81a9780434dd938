//! The workers that `run` starts: children that say nothing on the terminal and die with it.

use crate::arguments::Worker as Arguments;
use crate::exit::Failure;
use crate::session::Way;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

const EXECUTABLE: &str = "alpharho-worker";
/// A worker gives its trainers 30 seconds to save what they have.
const STOPPING_MAX: Duration = Duration::from_secs(40);
/// Lines and bytes of a log that are shown.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 16 << 10;

/// Running children.
pub(super) struct Workers {
    running: Vec<Worker>,
}

struct Worker {
    process: Child,
    log: PathBuf,
}

/// A child that ended by itself.
pub(super) struct Exited {
    /// How.
    pub(super) status: ExitStatus,
    /// What it wrote.
    pub(super) log: PathBuf,
}

impl Workers {
    /// Starts as many as asked for, logging into `folder`.
    pub(super) fn start(arguments: &Arguments, way: &Way, scripted: bool, folder: &Path) -> anyhow::Result<Self> {
        let mut running = Vec::new();
        for place in 1..=arguments.workers {
            let name = if arguments.workers == 1 { "worker.log".to_owned() } else { format!("worker-{place}.log") };
            running.push(start_one(arguments, way, scripted, &folder.join(name))?);
        }
        Ok(Self { running })
    }

    /// How many have not ended.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// The log of one that runs.
    pub(super) fn log(&self) -> Option<&Path> {
        self.running.first().map(|worker| worker.log.as_path())
    }

    /// One that has ended by itself since the last call.
    pub(super) fn exited(&mut self) -> anyhow::Result<Option<Exited>> {
        for place in 0..self.running.len() {
            if let Some(status) = self.running[place].process.try_wait()? {
                let worker = self.running.remove(place);
                return Ok(Some(Exited { status, log: worker.log }));
            }
        }
        Ok(None)
    }

    /// Lets all leave in order: trials save a checkpoint.
    pub(super) async fn stop(&mut self) {
        for worker in &self.running {
            if let Some(process) = worker.process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                // It may have ended just now.
                let _ = kill_process(process, Signal::TERM);
            }
        }
        for worker in &mut self.running {
            if tokio::time::timeout(STOPPING_MAX, worker.process.wait()).await.is_err() {
                tracing::warn!("a worker did not leave within {} s; killing it", STOPPING_MAX.as_secs());
                let _ = worker.process.kill().await;
            }
        }
        self.running.clear();
    }

    /// Kills all at once; their trainers die with them.
    pub(super) fn kill(&mut self) {
        for worker in &mut self.running {
            let _ = worker.process.start_kill();
        }
    }
}

fn start_one(arguments: &Arguments, way: &Way, scripted: bool, log: &Path) -> anyhow::Result<Worker> {
    let executable = executable(arguments)?;
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(&executable);
    command.args(["--coordinator", &way.address, "--die-with-parent"]);
    if let Some(folder) = &way.credentials {
        command.arg("--credentials").arg(folder);
    }
    for (flag, value) in
        [("--slots", &arguments.slots), ("--device", &arguments.device), ("--threads", &arguments.threads)]
    {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    for (flag, value) in [("--data-folder", &arguments.data_folder), ("--libtorch", &arguments.libtorch)] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    if scripted {
        // Neither trainer nor libtorch is needed then.
        command.arg("--scripted-only");
    }
    for data in &arguments.data {
        command.arg("--data").arg(data);
    }
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("cannot share the worker's log")?)
        .stderr(file)
        // A log is read as it is.
        .env("NO_COLOR", "1")
        // Ctrl-C on the terminal is for us; we tell the worker what it means.
        .process_group(0)
        .kill_on_drop(true);
    let process = command.spawn().map_err(|error| {
        Failure::new(format!("cannot start {}: {error}", executable.display()))
            .hint("it is built beside this program: cargo build --release --bin alpharho-worker --bin alpharho-trainer")
    })?;
    Ok(Worker { process, log: log.to_owned() })
}

/// Beside this executable; else whatever `PATH` has.
fn executable(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(told) = &arguments.worker {
        return Ok(told.clone());
    }
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let beside = own.with_file_name(EXECUTABLE);
    Ok(if beside.exists() { beside } else { PathBuf::from(EXECUTABLE) })
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = read_end(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<String>>().join("\n")
}

fn read_end(log: &Path) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("worker.log");
        assert_eq!(tail(&log), "");
        let lines: Vec<String> = (0..5000).map(|line| format!("line {line}")).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.starts_with("  line 4988\n") && tail.ends_with("  line 4999"), "{tail}");
    }
}
