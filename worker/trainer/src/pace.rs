//! How fast an epoch goes, as soon as that can be told.

use proto::link::FIRST_PROGRESS;
use std::time::{Duration, Instant};

/// So few batches are not measured: one may wait for a photograph, or be small.
const BATCHES_MIN: u32 = 2;

/// Of one epoch, from its second batch on: in the first one memory is touched and kernels are chosen.
#[derive(Default)]
pub(crate) struct Pace {
    /// When the first batch was done, and the sample behind it.
    begin: Option<(Instant, usize)>,
    batches: u32,
    /// Told after so long last; zero before.
    told_after: Duration,
}

impl Pace {
    /// A batch is done; how many samples since the first batch, and in what time, where that is to be told.
    pub(crate) fn batch_done(&mut self, next_sample: usize) -> Option<(usize, Duration)> {
        let Some((begin, first)) = self.begin else {
            self.begin = Some((Instant::now(), next_sample));
            return None;
        };
        self.batches += 1;
        let took = begin.elapsed();
        if self.batches < BATCHES_MIN || took < FIRST_PROGRESS.max(self.told_after * 2) {
            return None;
        }
        self.told_after = took;
        Some((next_sample.saturating_sub(first), took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_whenever_it_has_taken_twice_as_long() {
        let mut pace = Pace::default();
        assert_eq!(pace.batch_done(32), None);
        let began = Instant::now();
        pace.begin = began.checked_sub(Duration::from_secs(3)).map(|begin| (begin, 32));
        assert_eq!(pace.batch_done(64), None, "too few batches");
        let told = pace.batch_done(96);
        assert!(told.is_some_and(|(samples, took)| samples == 64 && took >= Duration::from_secs(3)), "{told:?}");
        assert_eq!(pace.batch_done(128), None, "too soon");
        pace.begin = began.checked_sub(Duration::from_secs(60)).map(|begin| (begin, 32));
        assert_eq!(pace.batch_done(160).map(|(samples, _)| samples), Some(128));
    }
}
