//! How old the parameters were that gradients were computed at.

/// Counts of applied gradients by staleness: how many updates came between reading the parameters and applying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: std::collections::BTreeMap<u64, u64>,
}

/// The metrics of a share, with the stalenesses it takes in.
const SHARES: [(&str, std::ops::RangeInclusive<u64>); 6] = [
    ("staleness_share_0", 0..=0),
    ("staleness_share_1", 1..=1),
    ("staleness_share_2", 2..=2),
    ("staleness_share_3_4", 3..=4),
    ("staleness_share_5_8", 5..=8),
    ("staleness_share_9_up", 9..=u64::MAX),
];

impl Histogram {
    /// Counts one gradient.
    pub fn add(&mut self, staleness: u64) {
        *self.counts.entry(staleness).or_default() += 1;
    }

    /// Gradients counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Largest staleness; 0 if nothing was counted.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.counts.keys().last().copied().unwrap_or(0)
    }

    /// Mean staleness; 0 if nothing was counted.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum: u128 = self.counts.iter().map(|(staleness, count)| u128::from(*staleness) * u128::from(*count)).sum();
        ratio(sum, self.count().into())
    }

    /// Name and value of each metric of the table in `sweeps::metrics`.
    #[must_use]
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let share = |range: &std::ops::RangeInclusive<u64>| {
            let within: u64 = self.counts.range(range.clone()).map(|(_, count)| count).sum();
            ratio(within.into(), self.count().into())
        };
        let mut metrics = vec![("staleness_mean", self.mean()), ("staleness_max", ratio(self.max().into(), 1))];
        metrics.extend(SHARES.iter().map(|(name, range)| (*name, share(range))));
        metrics
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn ratio(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let mut histogram = Histogram::default();
        for staleness in [0, 0, 1, 2, 3, 4, 8, 100] {
            histogram.add(staleness);
        }
        assert_eq!((histogram.count(), histogram.max()), (8, 100));
        assert!((histogram.mean() - 118.0 / 8.0).abs() < 1e-12);
        let metrics = histogram.metrics();
        let shares: Vec<f64> = metrics.iter().skip(2).map(|(_, value)| *value).collect();
        assert_eq!(shares, [0.25, 0.125, 0.125, 0.25, 0.125, 0.125]);
        assert!(metrics.iter().all(|(name, _)| sweeps::metrics::find(name).is_some()));
        assert_eq!(Histogram::default().mean(), 0.0);
    }
}
