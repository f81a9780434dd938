//! From axes to points: every combination, or draws.

use super::model::{Distribution, Method, Parameter, Range, Single, Sweep, Values};
use crate::canonical;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Values of all axes, by name.
pub(crate) type Point = BTreeMap<String, Value>;

/// Spaces of up to so many points are shuffled; larger ones are drawn from again until a point is new, which
/// takes two tries or fewer on average, as at most 100,000 are wanted.
const SHUFFLED_MAX: u128 = 200_000;
/// Draws for each trial wanted before giving up; only spaces of almost nothing need so many.
const TRIES_PER_TRIAL: usize = 100;

/// How many trials a sweep has. Counts without expanding; never overflows.
pub(super) fn count(sweep: &Sweep) -> u128 {
    let points = match sweep.method {
        Method::Grid => space(sweep).unwrap_or(0),
        Method::Random => sweep.trials.unwrap_or(0).into(),
    };
    points.saturating_mul(sweep.seeds.len() as u128)
}

/// The points of a sweep, without seeds, in order: a grid's with the last axis fastest, a random sweep's as
/// drawn. A larger `trials` gives the same points first.
pub(crate) fn points(sweep: &Sweep) -> Vec<Point> {
    let axes: Vec<(&String, &Parameter)> = sweep.parameters.iter().collect();
    match sweep.method {
        Method::Grid => {
            let total = space(sweep).unwrap_or(0);
            (0..total).map(|index| point(&axes, index)).collect()
        }
        Method::Random => {
            let wanted = sweep.trials.unwrap_or(0) as usize;
            let mut random = ChaCha8Rng::seed_from_u64(sweep.data.seed);
            match space(sweep) {
                Some(total) if total <= SHUFFLED_MAX => shuffled(&axes, total, wanted, &mut random),
                _ => drawn(&axes, wanted, &mut random),
            }
        }
    }
}

/// How many points there are; None if a range is continuous.
fn space(sweep: &Sweep) -> Option<u128> {
    sweep.parameters.values().try_fold(1_u128, |total, parameter| Some(total.saturating_mul(size(parameter)?)))
}

fn size(parameter: &Parameter) -> Option<u128> {
    match parameter {
        Parameter::Values(Values { values }) => Some(values.len() as u128),
        Parameter::Value(_) => Some(1),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and not negative")]
        Parameter::Range(Range { min, max, distribution: Distribution::IntUniform }) => {
            Some((max - min).max(0.0) as u128 + 1)
        }
        Parameter::Range(Range { distribution: Distribution::Uniform | Distribution::LogUniform, .. }) => None,
    }
}

/// The point of that place in the order of a grid.
fn point(axes: &[(&String, &Parameter)], index: u128) -> Point {
    let mut rest = index;
    let mut point = Point::new();
    for (name, parameter) in axes.iter().rev() {
        let size = size(parameter).unwrap_or(1).max(1);
        if let Some(value) = nth(parameter, rest % size) {
            point.insert((*name).clone(), value);
        }
        rest /= size;
    }
    point
}

/// One value of a countable axis.
fn nth(parameter: &Parameter, index: u128) -> Option<Value> {
    match parameter {
        Parameter::Values(Values { values }) => values.get(usize::try_from(index).ok()?).map(canonical::plain),
        Parameter::Value(Single { value }) => Some(canonical::plain(value)),
        #[expect(clippy::cast_precision_loss, reason = "the bounds of whole numbers are below 2^53")]
        Parameter::Range(Range { min, .. }) => Some(canonical::plain(&json!(min + index as f64))),
    }
}

/// Fisher and Yates, from the front: so many of `total` points, no two alike.
fn shuffled(axes: &[(&String, &Parameter)], total: u128, wanted: usize, random: &mut ChaCha8Rng) -> Vec<Point> {
    let mut order: Vec<u128> = (0..total).collect();
    let wanted = wanted.min(order.len());
    for place in 0..wanted {
        let left = (order.len() - place) as u128;
        let other = place + usize::try_from(below(left, random)).unwrap_or(0);
        order.swap(place, other);
    }
    order[..wanted].iter().map(|index| point(axes, *index)).collect()
}

fn drawn(axes: &[(&String, &Parameter)], wanted: usize, random: &mut ChaCha8Rng) -> Vec<Point> {
    let mut points = Vec::with_capacity(wanted);
    let mut seen = BTreeSet::new();
    for _ in 0..wanted.saturating_mul(TRIES_PER_TRIAL) {
        if points.len() == wanted {
            break;
        }
        let point: Point =
            axes.iter().filter_map(|(name, axis)| Some(((*name).clone(), draw(axis, random)?))).collect();
        if seen.insert(canonical::text(&json!(point))) {
            points.push(point);
        }
    }
    points
}

fn draw(parameter: &Parameter, random: &mut ChaCha8Rng) -> Option<Value> {
    let Parameter::Range(Range { min, max, distribution }) = parameter else {
        return nth(parameter, below(size(parameter)?, random));
    };
    let unit = unit(random);
    let value = match distribution {
        Distribution::IntUniform => return nth(parameter, below(size(parameter)?, random)),
        Distribution::Uniform => min + (max - min) * unit,
        Distribution::LogUniform => (min.ln() + (max.ln() - min.ln()) * unit).exp(),
    };
    // Six digits: nicer to read and to quote, and no machine's logarithm can make another trial of it.
    let rounded: f64 = format!("{value:.5e}").parse().ok()?;
    Some(canonical::plain(&json!(rounded.clamp(*min, *max))))
}

/// In [0, 1), of 53 bits.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (random.next_u64() >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}

/// In [0, limit): the high half of a product. The bias of 1 in 2^64 / limit is of no matter here, and the rule
/// is one line that every version will follow.
fn below(limit: u128, random: &mut ChaCha8Rng) -> u128 {
    let bits = u128::from(random.next_u64());
    (bits * limit.min(u128::from(u64::MAX))) >> 64
}
