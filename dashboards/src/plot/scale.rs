//! From values to places on the page, and where the ticks go.

/// A value axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
    log: bool,
}

impl Scale {
    /// Values `from..to` on places `start..end`.
    pub(super) fn linear(from: f64, to: f64, start: f64, end: f64) -> Self {
        Self { from, to, start, end, log: false }
    }

    /// The same by the logarithm; values are positive.
    pub(super) fn log(from: f64, to: f64, start: f64, end: f64) -> Self {
        Self { from: from.log10(), to: to.log10(), start, end, log: true }
    }

    /// The first and the last value.
    pub(super) fn range(&self) -> (f64, f64) {
        if self.log { (10f64.powf(self.from), 10f64.powf(self.to)) } else { (self.from, self.to) }
    }

    /// The place of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }
}

/// A range around the values with `room` of their width at both ends, never narrower than `least`.
pub(super) fn around(values: impl Iterator<Item = f64> + Clone, least: f64, room: f64) -> Option<(f64, f64)> {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let middle = f64::midpoint(low, high);
    let half = ((high - low) * (0.5 + room)).max(least / 2.0);
    Some((middle - half, middle + half))
}

/// About `wanted` round values (1, 2 or 5 times a power of ten apart) within the range, and the decimals
/// they need.
pub(crate) fn ticks(from: f64, to: f64, wanted: u32) -> (Vec<f64>, usize) {
    let rough = (to - from) / f64::from(wanted.max(1));
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    let step = factor * power;
    let first = (from / step).ceil() as i64;
    let last = (to / step).floor() as i64;
    let decimals = (0..6).find(|digits| {
        let scaled = step * 10f64.powi(*digits);
        (scaled - scaled.round()).abs() < 1e-6
    });
    ((first..=last).map(|count| count as f64 * step).collect(), decimals.unwrap_or(6) as usize)
}

/// Ticks of a logarithmic axis within the range: 1, 2 and 5 times the powers of ten, or denser where there would
/// be fewer than 4; and the fine ones between, without a number.
pub(crate) fn log_ticks(from: f64, to: f64) -> (Vec<f64>, Vec<f64>) {
    let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let within = |factors: &[f64]| -> Vec<f64> {
        powers
            .clone()
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(|value| (from..=to).contains(value))
            .collect()
    };
    let sets: [&[f64]; 4] = [
        &[1.0],
        &[1.0, 2.0, 5.0],
        &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        &[1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 9.0],
    ];
    let named = sets.iter().map(|set| within(set)).find(|ticks| ticks.len() >= 4);
    let fine = within(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    match named {
        Some(named) => (named, fine),
        None => (ticks(from, to, 5).0, fine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let check = |from, to, expected: &[&str]| {
            let (ticks, digits) = ticks(from, to, 6);
            let words: Vec<String> = ticks.iter().map(|tick| format!("{tick:.digits$}")).collect();
            assert_eq!(words, expected);
        };
        check(40.0, 72.0, &["40", "50", "60", "70"]);
        check(0.0, 5.0, &["0", "1", "2", "3", "4", "5"]);
        check(93.1, 94.2, &["93.2", "93.4", "93.6", "93.8", "94.0", "94.2"]);
        check(10.0, 24.0, &["10", "15", "20"]);
    }

    #[test]
    fn log_ticks_are_enough() {
        assert_eq!(log_ticks(1.1e7, 7e8).0, [2e7, 5e7, 1e8, 2e8, 5e8]);
        for (from, to) in [(1e6, 2e6), (3.1e6, 3.3e6), (1e3, 1e12), (9.9e5, 1.01e6)] {
            let (named, _) = log_ticks(from, to);
            assert!((3..=12).contains(&named.len()), "{from} to {to}: {named:?}");
            assert!(named.iter().all(|tick| (from..=to).contains(tick)), "{named:?}");
        }
    }

    #[test]
    fn a_scale_maps_its_ends() {
        let scale = Scale::log(1e6, 1e8, 100.0, 300.0);
        assert!((scale.at(1e7) - 200.0).abs() < 1e-9);
        assert!((Scale::linear(0.0, 10.0, 500.0, 100.0).at(2.5) - 400.0).abs() < 1e-9);
    }

    #[test]
    fn a_single_value_still_has_a_range() {
        assert_eq!(around([5.0].into_iter(), 2.0, 0.1), Some((4.0, 6.0)));
        assert_eq!(around([].into_iter(), 2.0, 0.1), None);
    }
}
