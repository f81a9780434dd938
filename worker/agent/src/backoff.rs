//! How long to wait before trying again.

use std::time::Duration;

/// Doubling waits from 0.2 to 5 seconds, or to less where leases are short, shifted a little by who waits, so that a thousand workers do not come
/// back in the same instant.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    tries: u32,
    noise: u64,
    max_ms: u64,
}

impl Backoff {
    const FIRST_MS: u64 = 200;
    const MAX_MS: u64 = 5_000;

    /// Of that worker.
    pub(crate) fn new(seed: u64) -> Self {
        Self { tries: 0, noise: seed | 1, max_ms: Self::MAX_MS }
    }

    /// From now on several tries fit into a lease of that length.
    pub(crate) fn fit_lease(&mut self, lease_ms: u64) {
        self.max_ms = (lease_ms / 6).clamp(Self::FIRST_MS, Self::MAX_MS);
    }

    /// It worked: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next wait: between three quarters and five quarters of the plain one.
    pub(crate) fn next(&mut self) -> Duration {
        let plain = (Self::FIRST_MS << self.tries.min(8)).min(self.max_ms);
        self.tries += 1;
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(plain * 3 / 4 + (self.noise >> 33) % (plain / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_start_over() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<u128> = (0..12).map(|_| backoff.next().as_millis()).collect();
        assert!((150..=250).contains(&waits[0]), "{waits:?}");
        assert!((300..=500).contains(&waits[1]), "{waits:?}");
        assert!(waits[6..].iter().all(|ms| (3_750..=6_250).contains(ms)), "{waits:?}");
        backoff.reset();
        assert!(backoff.next().as_millis() <= 250);
        backoff.fit_lease(3_000);
        assert!((0..9).map(|_| backoff.next().as_millis()).all(|ms| ms <= 625));
        assert_ne!(Backoff::new(1).next(), Backoff::new(12_345_678_901).next());
    }
}
