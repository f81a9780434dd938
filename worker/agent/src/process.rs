//! Trainer processes that cannot outlive the agent.
//!
//! Each is the head of its own process group and is killed by the kernel when its spawning THREAD ends, so one
//! thread, which lives as long as the agent, spawns them all.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::oneshot;

/// The thread that spawns. When the last clone is dropped it ends, and every trainer with it.
#[derive(Clone)]
pub(crate) struct Spawner(mpsc::Sender<Job>);

struct Job {
    command: Command,
    reply: oneshot::Sender<io::Result<Process>>,
}

/// A running trainer.
pub(crate) struct Process {
    /// Its orders.
    pub(crate) stdin: ChildStdin,
    /// What it says.
    pub(crate) stdout: ChildStdout,
    /// Its log.
    pub(crate) stderr: ChildStderr,
    /// How it ended, once it has.
    pub(crate) exit: oneshot::Receiver<io::Result<ExitStatus>>,
    /// To signal it.
    pub(crate) group: Group,
}

/// A process group that is signalled only while its head is not yet reaped: its number cannot be another's.
#[derive(Clone)]
pub(crate) struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    /// Signals every process of the group; nothing when it is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(head) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It can only fail because nobody is left.
            let _ = rustix::process::kill_process_group(head, signal);
        }
    }
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn new() -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for job in inbox {
                // Who asked may be gone: then the process is dropped, and its standard input closes.
                let _ = job.reply.send(start(job.command));
            }
        })?;
        Ok(Self(jobs))
    }

    /// Starts a program with pipes to its standard input and outputs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn spawn(&self, command: Command) -> io::Result<Process> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Job { command, reply }).map_err(|_| io::Error::other("the spawning thread is gone"))?;
        answer.await.map_err(|_| io::Error::other("the spawning thread is gone"))?
    }
}

fn start(mut command: Command) -> io::Result<Process> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let agent = rustix::process::getpid();
    let die_with_agent = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() == Some(agent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    #[expect(unsafe_code, reason = "the parent-death signal must be set between fork and exec")]
    // SAFETY: the closure makes two system calls and allocates nothing, so it may run in a forked child of a
    // process with threads; it touches no memory but its own copy of a process number.
    unsafe {
        command.pre_exec(die_with_agent);
    }
    let mut child = command.spawn()?;
    let head = Pid::from_child(&child);
    let missing = || io::Error::other("a pipe to the trainer is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let group = Group(Arc::new(Mutex::new(Some(head))));
    let (ended, exit) = oneshot::channel();
    let waited_for = group.clone();
    let waiting = std::thread::Builder::new().name("trainer-wait".to_owned()).spawn(move || {
        let _ = ended.send(wait(child, head, &waited_for));
    });
    if let Err(error) = waiting {
        group.signal(Signal::KILL);
        return Err(error);
    }
    Ok(Process { stdin, stdout, stderr, exit, group })
}

/// Waits for the head of the group, ends what is left of the group, then reaps.
fn wait(mut child: Child, head: Pid, group: &Group) -> io::Result<ExitStatus> {
    let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(head), exited) {}
    let mut open = group.0.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = rustix::process::kill_process_group(head, Signal::KILL);
    *open = None;
    child.wait()
}

/// `exit code 1`, `killed by signal 9 (SIGKILL)`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}{}", signal_name(signal)),
        (None, None) => status.to_string(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: the out-of-memory killer, or somebody)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn how_a_process_ended_is_told() {
        async fn check(script: &str, expected: &str) {
            let spawner = Spawner::new().unwrap();
            let process = spawner.spawn(shell(script)).await.unwrap();
            assert_eq!(describe(process.exit.await.unwrap().unwrap()), expected, "{script}");
        }
        check("exit 0", "exit code 0").await;
        check("exit 7", "exit code 7").await;
        check("kill -ABRT $$", "killed by signal 6 (SIGABRT)").await;
    }

    #[tokio::test]
    async fn the_whole_group_is_killed() {
        let spawner = Spawner::new().unwrap();
        let process = spawner.spawn(shell("sleep 1000 & echo ready; wait")).await.unwrap();
        let mut lines = BufReader::new(process.stdout);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        process.group.signal(Signal::KILL);
        let status = process.exit.await.unwrap().unwrap();
        assert_eq!(status.signal(), Some(9));
        // The end of the pipe comes only when the grandchild is gone too.
        assert_eq!(lines.read(&mut [0]).unwrap(), 0);
        process.group.signal(Signal::KILL);
    }

    #[tokio::test]
    async fn a_process_dies_with_the_spawning_thread() {
        let spawner = Spawner::new().unwrap();
        let process = spawner.spawn(shell("exec sleep 1000")).await.unwrap();
        drop(spawner);
        assert_eq!(process.exit.await.unwrap().unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        assert!(Spawner::new().unwrap().spawn(Command::new("/nowhere/at-all")).await.is_err());
    }
}
