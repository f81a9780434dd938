//! Standard output: one JSON value a line, whole lines only.

use proto::link::Said;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Says things to the agent.
#[derive(Clone, Default)]
pub(crate) struct Voice {
    silent: Arc<AtomicBool>,
}

impl Voice {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Says it; nothing once it is silenced.
    pub(crate) fn say(&self, said: &Said) -> anyhow::Result<()> {
        if self.silent.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        Ok(out.flush()?)
    }

    /// As a real trainer does from a thread of its own.
    pub(crate) fn keep_saying_alive(&self) {
        let voice = self.clone();
        std::thread::spawn(move || {
            while voice.say(&Said::Alive).is_ok() {
                std::thread::sleep(Duration::from_secs(5));
            }
        });
    }

    /// Stops doing anything, for ever: not even alive is said.
    pub(crate) fn hang(&self) -> ! {
        self.silent.store(true, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }
}
