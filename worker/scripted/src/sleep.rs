//! How far a scripted epoch is, which is to say: how much of what its script sleeps is slept.

use proto::link::FIRST_PROGRESS;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The variable of the environment that says how many times as fast as its script a trainer sleeps: workers of unequal speed.
pub(crate) const SPEED: &str = "ALPHARHO_SCRIPTED_SPEED";

/// How many times as fast as the script says.
pub(crate) fn speed() -> f64 {
    static KNOWN: OnceLock<f64> = OnceLock::new();
    *KNOWN.get_or_init(|| check_speed().unwrap_or(1.0))
}

/// The same, or what is wrong with it.
pub(crate) fn check_speed() -> Result<f64, String> {
    let Ok(word) = std::env::var(SPEED) else { return Ok(1.0) };
    let speed = word.parse().ok().filter(|speed| (1e-3..=1e6).contains(speed));
    speed.ok_or_else(|| format!("{SPEED} is {word:?}; it must be a number from 0.001 to 1000000"))
}

/// Of one epoch; durations are the script's.
#[derive(Default)]
pub(crate) struct Sleep {
    /// In attempts before this one.
    before: Duration,
    /// Of that, what was not passed over yet.
    to_skip: Duration,
    slept: Duration,
    wanted: Duration,
    began: Option<Instant>,
    /// Told after so long last; zero before.
    told_after: Duration,
}

impl Sleep {
    /// In an epoch of which so much was slept before.
    pub(crate) fn after(slept_ms: u64) -> Self {
        let before = Duration::from_millis(slept_ms);
        Self { before, to_skip: before, ..Self::default() }
    }

    /// The epoch's steps begin, which sleep so long together.
    pub(crate) fn begin(&mut self, wanted_ms: u64) {
        self.wanted = Duration::from_millis(wanted_ms);
        self.began = Some(Instant::now());
    }

    /// What is left of a step that sleeps so long.
    pub(crate) fn left_of(&mut self, step: Duration) -> Duration {
        let skipped = self.to_skip.min(step);
        self.to_skip -= skipped;
        step - skipped
    }

    /// In how long it is to be told how far it is.
    pub(crate) fn told_in(&self) -> Duration {
        let told_at = FIRST_PROGRESS.max(self.told_after * 2);
        told_at.saturating_sub(self.took()).max(Duration::from_millis(1))
    }

    /// So much more; the share of the epoch that was slept in this attempt, and in what time, where that is to be told.
    pub(crate) fn slept(&mut self, more: Duration) -> Option<(f64, Duration)> {
        self.slept += more;
        let took = self.took();
        if took < FIRST_PROGRESS.max(self.told_after * 2) {
            return None;
        }
        self.told_after = took;
        Some((self.slept.div_duration_f64(self.wanted).clamp(0.0, 1.0), took))
    }

    /// In all attempts.
    pub(crate) fn slept_ms(&self) -> u64 {
        u64::try_from((self.before + self.slept).as_millis()).unwrap_or(u64::MAX)
    }

    fn took(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_slept_before_is_not_slept_again() {
        let mut sleep = Sleep::after(2_500);
        sleep.begin(6_000);
        assert_eq!(
            [2, 2, 2].map(|seconds| sleep.left_of(seconds * SECOND)),
            [Duration::ZERO, 3 * SECOND / 2, 2 * SECOND]
        );
        assert_eq!(sleep.slept(SECOND / 2), None);
        assert_eq!(sleep.slept_ms(), 3_000);
    }

    #[test]
    fn it_is_told_whenever_it_has_taken_twice_as_long() {
        let mut sleep = Sleep::after(0);
        sleep.begin(10_000);
        assert_eq!(sleep.slept(SECOND), None);
        sleep.began = Instant::now().checked_sub(2 * SECOND);
        let told = sleep.slept(SECOND);
        assert!(told.is_some_and(|(share, took)| (share - 0.2).abs() < 1e-9 && took >= 2 * SECOND), "{told:?}");
        assert_eq!(sleep.slept(SECOND), None);
        assert!(sleep.told_in() > SECOND && sleep.told_in() <= 2 * SECOND, "{:?}", sleep.told_in());
    }
}
