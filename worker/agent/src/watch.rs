//! When to leave: signals, and the end of the parent.

use agent::Leave;
use rustix::process::{Pid, Signal};
use std::io::Read;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const EXIT_AT_ONCE: i32 = 130;

/// Whoever started this process.
#[derive(Clone, Copy)]
pub(crate) struct Parent(Option<Pid>);

/// Asks the kernel for a signal when the parent is gone. Not one that people send: a parent that is killed ends thread
/// by thread, and the kernel may signal at the end of each, while the parent's number is still the same. As SIGTERM
/// the second of them would be an order to leave at once.
pub(crate) fn tie_to_parent() -> Parent {
    let parent = rustix::process::getppid();
    // Where the kernel cannot, the parent is looked at every second.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::USR1));
    Parent(parent)
}

/// Tells when to leave. A second signal ends the process at once, and the trainers with it.
pub(crate) fn leave_when_told(parent: Option<Parent>) -> std::io::Result<mpsc::Receiver<Leave>> {
    let (tell, leave) = mpsc::channel(4);
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut parent_death = signal(SignalKind::user_defined1())?;
    let of_signals = tell.clone();
    tokio::spawn(async move {
        let mut before = false;
        loop {
            let name = tokio::select! {
                Some(()) = term.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                Some(()) = parent_death.recv(), if parent.is_some() => {
                    // An agent that is leaving already does not listen.
                    let _ = of_signals.send(Leave::ParentGone).await;
                    continue;
                }
                else => return,
            };
            if before {
                tracing::warn!("{name} again: leaving at once, trainers are killed");
                std::process::exit(EXIT_AT_ONCE);
            }
            before = true;
            // An agent that is leaving already does not listen.
            let _ = of_signals.send(Leave::Signal(name)).await;
        }
    });
    if let Some(parent) = parent {
        let of_number = tell.clone();
        tokio::spawn(async move {
            while rustix::process::getppid() == parent.0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let _ = of_number.send(Leave::ParentGone).await;
        });
        if stdin_is_a_pipe() {
            std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
                let mut pipe = std::io::stdin().lock();
                let mut bytes = [0; 256];
                while pipe.read(&mut bytes).is_ok_and(|read| read > 0) {}
                let _ = tell.blocking_send(Leave::ParentGone);
            })?;
        }
    }
    Ok(leave)
}

/// A terminal or `/dev/null` says nothing about the parent; a pipe ends with it.
fn stdin_is_a_pipe() -> bool {
    let file_type = rustix::fs::fstat(std::io::stdin()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    file_type.is_ok_and(|file_type| file_type == rustix::fs::FileType::Fifo)
}
