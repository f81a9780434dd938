//! Randomness as pure functions: of a seed, a purpose and a place, never of what was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

/// A generator for one purpose, as `init/conv1`, under one seed.
#[must_use]
pub fn generator(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A draw from the normal distribution cut off at two standard deviations, of standard deviation 1 before the
/// cut, as TensorFlow's truncated normal.
pub fn truncated_normal(generator: &mut ChaCha8Rng) -> f64 {
    loop {
        let value: f64 = StandardNormal.sample(generator);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

/// A uniform number in [0, 1) that depends on its arguments alone: for dropout masks, where a generator for
/// each sample would cost more than the layer.
#[must_use]
pub fn hashed_uniform(seed: u64, step: u64, sample: u64, channel: u64) -> f64 {
    let mut state = seed;
    for part in [step, sample, channel] {
        state = mix(state ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    unit(state)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn unit(bits: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let fraction = (bits >> 11) as f64;
    fraction / 9_007_199_254_740_992.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_has_its_own_stream() {
        let draw = |seed, purpose: &str| truncated_normal(&mut generator(seed, purpose)).to_bits();
        assert_eq!(draw(1, "init/conv1"), draw(1, "init/conv1"));
        assert_ne!(draw(1, "init/conv1"), draw(2, "init/conv1"));
        assert_ne!(draw(1, "init/conv1"), draw(1, "init/block01.depthwise"));
    }

    /// Cutting a normal at ±2 leaves a standard deviation of 0.8796.
    #[test]
    fn the_truncated_normal_has_its_moments() {
        let mut generator = generator(1, "moments");
        let draws: Vec<f64> = (0..100_000).map(|_| truncated_normal(&mut generator)).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let deviation = (draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 1e5).sqrt();
        assert!(draws.iter().all(|draw| draw.abs() <= 2.0));
        assert!(mean.abs() < 0.01 && (deviation - 0.8796).abs() < 0.01, "mean {mean}, deviation {deviation}");
    }

    #[test]
    fn hashed_numbers_are_even() {
        let count = |step| (0..100_000).filter(|sample| hashed_uniform(7, step, *sample, 3) < 0.25).count();
        for step in 0..4 {
            assert!((24_500..25_500).contains(&count(step)), "{}", count(step));
        }
    }
}
