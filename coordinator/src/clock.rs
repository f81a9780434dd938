//! Two clocks: one that never jumps, for leases; the calendar's, for people.

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

/// Milliseconds of the Unix epoch.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
