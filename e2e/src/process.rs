//! A process that ends with the test.

use crate::wait_for;
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Started, in a process group of its own, its output in files; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it. `log` gets both outputs unless the command's standard output is a pipe already.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        let program = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, name: name.to_owned(), log }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Signals it alone.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as the out-of-memory killer would, and waits for its end.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        let status = self.wait();
        assert_eq!(status.signal(), Some(9), "{} ended by itself before it was killed: {status}", self.name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for(&format!("the end of {}", self.name), || self.child.try_wait().unwrap())
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not know it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let written = self.written();
            let skipped = written.lines().count().saturating_sub(40);
            let tail: Vec<&str> = written.lines().skip(skipped).collect();
            eprintln!("---- {} wrote:\n{}\n----", self.name, tail.join("\n"));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The processes that a process has started and that are alive.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    all_processes().filter(|number| stat(*number).is_some_and(|(state, of)| of == parent && state != 'Z')).collect()
}

/// The numbers of all processes of this machine.
pub(crate) fn all_processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    })
}

/// Whether a process of that number runs; one that only waits to be reaped does not.
#[must_use]
pub fn is_alive(number: u32) -> bool {
    stat(number).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent.
fn stat(number: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut rest = text.rsplit_once(')')?.1.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}
