//! Chance that is the same everywhere: SplitMix64.

/// A source of chance.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// Numbers at which things break.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    1 << 53,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Floats at which things break.
const EDGES_FLOAT: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN_POSITIVE,
    1e-320,
    -1e300,
];

impl Dice {
    /// Of case `index` of a run with that seed.
    #[must_use]
    pub fn of(seed: u64, index: u64) -> Self {
        let mut dice = Self(seed ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.next();
        dice
    }

    /// 64 bits.
    #[expect(clippy::should_implement_trait, reason = "never ends, and is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Below a limit; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let wide = u128::from(self.next()) * limit as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// One time in so many.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Mostly small, at times where numbers end.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => *self.pick(&EDGES),
            1 => self.next() >> self.below(64),
            2 => self.pick(&EDGES).wrapping_add(self.next() % 5).wrapping_sub(2),
            _ => self.next() % 6,
        }
    }

    /// Mostly ordinary, at times none that can be counted with.
    pub fn float(&mut self) -> f64 {
        match self.below(6) {
            0 => *self.pick(&EDGES_FLOAT),
            1 => f64::from_bits(self.next()),
            _ => (self.next() % 1_000) as f64 / 500.0,
        }
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_each_time_and_no_two_are_alike() {
        let of = |seed, index| Dice::of(seed, index).bytes(16);
        assert_eq!(of(1, 7), of(1, 7));
        assert!(of(1, 7) != of(1, 8) && of(1, 7) != of(2, 7));
        let mut dice = Dice::of(3, 3);
        assert!((0..1000).all(|_| dice.below(7) < 7));
        assert_eq!(dice.below(0), 0);
    }
}
