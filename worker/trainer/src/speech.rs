//! The pipe to the agent: orders come in on standard input, words go out on standard output.

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use proto::link::{Order, Said};
use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Something is said at least this often.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How often somebody who works long looks whether it is time for that.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Says things to the agent.
pub struct Speech {
    mouth: Mutex<Mouth>,
}

struct Mouth {
    out: Box<dyn Write + Send>,
    last: Instant,
}

impl Speech {
    /// Speaks to `out`, a line a thing.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self { mouth: Mutex::new(Mouth { out, last: Instant::now() }) }
    }

    /// Says one thing. An agent that does not listen any more is gone, and the end of its orders says so too:
    /// nothing is done about it here.
    pub fn say(&self, said: &Said) {
        let Ok(mut line) = serde_json::to_string(said) else { return };
        line.push('\n');
        let Ok(mut mouth) = self.mouth.lock() else { return };
        if mouth.out.write_all(line.as_bytes()).and_then(|()| mouth.out.flush()).is_ok() {
            mouth.last = Instant::now();
        }
    }

    /// Says that the trainer lives, if nothing was said for a while.
    pub fn alive(&self) {
        let quiet = self.mouth.lock().is_ok_and(|mouth| mouth.last.elapsed() >= ALIVE_EVERY);
        if quiet {
            self.say(&Said::Alive);
        }
    }

    /// Does something long that cannot say by itself that it lives: opening a large data set.
    pub fn alive_while<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            // Nothing is sent: it ends at once when this side is dropped, also by a panic.
            let (_working, done) = unbounded::<()>();
            scope.spawn(move || {
                while done.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    self.alive();
                }
            });
            work()
        })
    }
}

/// Reads orders in a thread of its own. At the end of the file the agent is gone: the process ends at once,
/// with `exit_code`. A line that is no order is an agent of another version: the same, with a word about it.
#[must_use]
pub fn listen(exit_code: i32) -> Receiver<Order> {
    let (sender, orders) = unbounded();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.map_err(anyhow::Error::from).and_then(|line| Ok(serde_json::from_str(&line)?));
            match order {
                Ok(order) => {
                    if sender.send(order).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    eprintln!("cannot understand an order: {error}; are agent and trainer of the same version?");
                    std::process::exit(proto::link::EXIT_ORDERS);
                }
            }
        }
        std::process::exit(exit_code);
    });
    orders
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn work_that_panics_holds_nobody_up() {
        let speech = Speech::to(Box::new(std::io::sink()));
        let panicked = catch_unwind(AssertUnwindSafe(|| speech.alive_while(|| assert_eq!(1, 2))));
        assert!(panicked.is_err());
        assert_eq!(speech.alive_while(|| 3), 3);
    }
}
