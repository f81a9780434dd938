//! How fast BatchNorm's running statistics forget.

use super::model::BatchNorm;

/// The published decay.
const LONG_RUN: f64 = 0.9997;
/// No faster than this: statistics of fewer than about ten batches are noise.
const SHORTEST: f64 = 0.9;
/// What the initial statistics may weigh after a quarter of the run.
const WEIGHT: f64 = 0.001;

/// Decay of the running mean and variance: the given one, or for `auto` the one with which the initial
/// statistics weigh a thousandth after a quarter of the run, between 0.9 and the published 0.9997.
///
/// `total_steps` are the optimizer steps of the whole trial. 0.9997 is reached from 92,090 steps on.
#[must_use]
pub fn effective_batch_norm_decay(batch_norm: &BatchNorm, total_steps: u64) -> f64 {
    batch_norm.decay.unwrap_or_else(|| {
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let steps = total_steps.max(1) as f64;
        WEIGHT.powf(4.0 / steps).clamp(SHORTEST, LONG_RUN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_forget_faster() {
        for (decay, steps, expected) in [
            (None, 0, 0.9),
            (None, 100, 0.9),
            (None, 5_628, 0.995_102),
            (None, 92_000, 0.999_699_7),
            (None, 93_000, 0.9997),
            (None, u64::MAX, 0.9997),
            (Some(0.99), 10, 0.99),
        ] {
            let found = effective_batch_norm_decay(&BatchNorm { decay, ..BatchNorm::default() }, steps);
            assert!((found - expected).abs() < 1e-6, "{steps} steps: {found}");
        }
        let quarter = effective_batch_norm_decay(&BatchNorm::default(), 4_000).powi(1_000);
        assert!((quarter - 0.001).abs() < 1e-9, "{quarter}");
    }
}
