//! Two clocks: one that never jumps, for leases; the calendar's, for people.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use sweeps::scheduler::Millis;

/// A clock that never jumps and can be held still: while the coordinator itself cannot go on, nobody's lease runs
/// out.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    held: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), held: Duration::ZERO }
    }

    /// Milliseconds since the start, without the time for which it was held.
    pub(crate) fn now_ms(&self) -> Millis {
        let running = self.start.elapsed().saturating_sub(self.held);
        Millis::try_from(running.as_millis()).unwrap_or(Millis::MAX)
    }

    /// The time since `from` does not count.
    pub(crate) fn hold_since(&mut self, from: Instant) {
        self.held += from.elapsed();
    }

    /// When this clock will show `at_ms`.
    pub(crate) fn instant_of(&self, at_ms: Millis) -> Instant {
        self.start + self.held + Duration::from_millis(at_ms)
    }
}

/// Names a file with the milliseconds by which the calendar's clock of this process is wrong: for tests, which move it
/// while the process runs.
const MOVED_BY: &str = "ALPHARHO_TEST_CLOCK";

/// Milliseconds of the Unix epoch. For people: whoever sets the machine's clock moves it, forward or back, so nothing
/// may be decided or put into order by it.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(moved_by_ms())
}

fn moved_by_ms() -> i64 {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os(MOVED_BY).map(PathBuf::from)) else { return 0 };
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
