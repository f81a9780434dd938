//! What is known of a cell over its seeds.

use crate::exactness::{self, Exactness};
use crate::results::Results;
use crate::view::{Cell, SweepView, TrialView};

/// A mean, and the sample standard deviation where there are two values or more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) mean: Option<f64>,
    pub(super) deviation: Option<f64>,
}

pub(super) fn spread(values: &[f64]) -> Spread {
    if values.is_empty() {
        return Spread::default();
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    Spread { mean: Some(mean), deviation }
}

/// The cell's trials.
pub(super) fn members<'a>(view: &'a SweepView, cell: &'a Cell) -> Vec<&'a TrialView> {
    view.trials.iter().filter(|trial| cell.numbers.contains(&trial.number)).collect()
}

/// Over the trials that have the value.
pub(super) fn over(members: &[&TrialView], value: impl Fn(&TrialView) -> Option<f64>) -> Spread {
    spread(&members.iter().filter_map(|trial| value(trial)).collect::<Vec<_>>())
}

/// `completed`, or `2 completed, 1 running`.
pub(super) fn state(members: &[&TrialView]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for trial in members {
        match counts.iter_mut().find(|(state, _)| *state == trial.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((&trial.state, 1)),
        }
    }
    match counts.as_slice() {
        [(state, _)] => (*state).to_owned(),
        several => several.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", "),
    }
}

/// The different words, in the order met.
pub(super) fn distinct(words: impl Iterator<Item = String>) -> String {
    let mut found: Vec<String> = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found.join("; ")
}

/// Of all members: exact if all are, not if one is not.
pub(super) fn is_exact(results: &Results, cell: &Cell) -> Option<bool> {
    let known: Vec<Exactness> = cell.numbers.iter().map(|number| exactness::of(results, *number)).collect();
    if known.iter().any(|exactness| exactness.is_exact() == Some(false)) {
        return Some(false);
    }
    known.iter().all(|exactness| exactness.is_exact() == Some(true)).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_samples() {
        assert_eq!(spread(&[]), Spread { mean: None, deviation: None });
        assert_eq!(spread(&[0.5]), Spread { mean: Some(0.5), deviation: None });
        assert_eq!(spread(&[1.0, 2.0, 3.0]), Spread { mean: Some(2.0), deviation: Some(1.0) });
    }
}
