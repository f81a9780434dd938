//! Batch normalisation and the activation behind it, together: `z = clamp(scale · (y − mean) / σ + shift, low, high)`,
//! σ = √(variance + ε), mean and variance by channel over all pixels of a batch (Ioffe & Szegedy 2015).

use crate::blocks::{Team, Walk, lock};
use crate::vector::{multiply_add, with_widest_vectors};

/// What the activation cuts off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Values below become this.
    pub low: f32,
    /// Values above become this.
    pub high: f32,
}

impl Clamp {
    /// No activation.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
    /// max(0, x)
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };
    /// min(max(0, x), 6)
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };

    /// What is not a number stays that, unlike with `f32::max`: a run that has failed must show.
    #[inline(always)]
    fn of(self, value: f32) -> f32 {
        let value = if value < self.low { self.low } else { value };
        if value > self.high { self.high } else { value }
    }
}

/// Mean and variance (over n, not n − 1) by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Of each channel.
    pub mean: Vec<f32>,
    /// Of each channel.
    pub variance: Vec<f32>,
}

/// By channel, what normalising a value and the scale and shift after it come to: `factor · y + offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    factor: Vec<f32>,
    offset: Vec<f32>,
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

/// The gradient of scale and shift.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// Of each channel.
    pub scale: Vec<f32>,
    /// Of each channel.
    pub shift: Vec<f32>,
}

/// By channel: the sum of the gradients that came through the activation, and that of their products with what lies
/// above the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums(pub(crate) [Vec<f64>; 2]);

/// What the gradient of a value has through the statistics: `by_value · value + constant`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slopes {
    pub(crate) by_value: Vec<f32>,
    pub(crate) constant: Vec<f32>,
}

/// Mean and variance of a batch: values are read once. The sums are of differences from the first pixel, so that a mean
/// far from 0 costs no digits.
#[must_use]
pub fn statistics(team: &dyn Team, values: &[f32], channels: usize) -> Statistics {
    let walk = Walk::new(channels);
    let first: Vec<f32> = values.iter().copied().take(walk.channels).collect();
    let origin = walk.repeat(&first);
    let blocks = walk.cut(values);
    let [sums, squares] = walk.sums(team, blocks.len(), |block, sums, squares| {
        add_differences(blocks[block], &origin, sums, squares);
    });
    fold_differences([sums, squares], &first, values.len() / walk.channels)
}

/// From sums of differences from an origin, and of their squares.
pub(crate) fn fold_differences([sums, squares]: [Vec<f64>; 2], origin: &[f32], count: usize) -> Statistics {
    let count = count.max(1) as f64;
    let mut statistics = Statistics { mean: Vec::new(), variance: Vec::new() };
    for ((sum, square), first) in sums.into_iter().zip(squares).zip(origin) {
        let mean = sum / count;
        statistics.mean.push((mean + f64::from(*first)) as f32);
        statistics.variance.push((square / count - mean * mean).max(0.0) as f32);
    }
    statistics
}

impl Line {
    /// For these statistics, with the scale and shift of each channel.
    #[must_use]
    pub fn new(statistics: &Statistics, scale: &[f32], shift: &[f32], epsilon: f64) -> Self {
        let mut line = Self {
            factor: Vec::new(),
            offset: Vec::new(),
            mean: statistics.mean.clone(),
            inverse_deviation: Vec::new(),
        };
        for (((mean, variance), scale), shift) in statistics.mean.iter().zip(&statistics.variance).zip(scale).zip(shift)
        {
            let inverse = 1.0 / (f64::from(*variance) + epsilon).sqrt();
            let factor = f64::from(*scale) * inverse;
            line.factor.push(factor as f32);
            line.offset.push((f64::from(*shift) - f64::from(*mean) * factor) as f32);
            line.inverse_deviation.push(inverse as f32);
        }
        line
    }

    /// Normalises and clamps `from` into `to`, both of one length.
    pub fn apply(&self, team: &dyn Team, clamp: Clamp, from: &[f32], to: &mut [f32]) {
        let walk = Walk::new(self.factor.len());
        let (factor, offset) = self.rows(&walk);
        let (from, to) = (walk.cut(from), walk.cut_mut(to));
        team.each(from.len(), &|block| {
            if let Some(to) = to.get(block) {
                put_line(from[block], &mut lock(to), &factor, &offset, clamp);
            }
        });
    }

    /// Turns `gradient`, of the loss by what [`Self::apply`] gave, into that by what it was given (`from`), and
    /// gives the gradient of scale and shift. The statistics are taken to be those of `from`.
    #[must_use]
    pub fn differentiate(&self, team: &dyn Team, clamp: Clamp, from: &[f32], gradient: &mut [f32]) -> Gradient {
        let sums = self.sums(team, clamp, from, gradient);
        self.turn_where(team, clamp, &sums, from, gradient)
    }

    /// The same for a gradient that is 0 already where the activation cut off, and whose sums are known.
    #[must_use]
    pub fn turn(&self, team: &dyn Team, sums: &Sums, from: &[f32], gradient: &mut [f32]) -> Gradient {
        self.turn_where(team, Clamp::NONE, sums, from, gradient)
    }

    /// [`Sums`] of a gradient of the loss by what [`Self::apply`] gave.
    pub(crate) fn sums(&self, team: &dyn Team, clamp: Clamp, from: &[f32], gradient: &[f32]) -> Sums {
        let walk = Walk::new(self.factor.len());
        let (factor, offset) = self.rows(&walk);
        let (mean, from, gradient) = (walk.repeat(&self.mean), walk.cut(from), walk.cut(gradient));
        Sums(walk.sums(team, from.len().min(gradient.len()), |block, sums, products| {
            let lines = [&factor[..], &offset, &mean];
            add_gradients(from[block], gradient[block], lines, clamp, sums, products);
        }))
    }

    /// By the chain rule through mean and variance: factor · (g − mean of g − normalised · mean of g · normalised).
    /// `values`: how many there are in all.
    pub(crate) fn slopes(&self, Sums([sums, products]): &Sums, values: usize) -> (Gradient, Slopes) {
        let count = (values / self.factor.len().max(1)).max(1) as f64;
        let mut slopes = Slopes { by_value: Vec::new(), constant: Vec::new() };
        let mut result = Gradient { scale: Vec::new(), shift: Vec::new() };
        for (channel, (sum, product)) in sums.iter().zip(products).enumerate() {
            let [factor, mean, inverse] =
                [&self.factor, &self.mean, &self.inverse_deviation].map(|of| f64::from(of[channel]));
            let slope = -factor * inverse * inverse * product / count;
            slopes.by_value.push(slope as f32);
            slopes.constant.push((-factor * sum / count - slope * mean) as f32);
            result.scale.push((product * inverse) as f32);
            result.shift.push(*sum as f32);
        }
        (result, slopes)
    }

    fn turn_where(&self, team: &dyn Team, clamp: Clamp, sums: &Sums, from: &[f32], gradient: &mut [f32]) -> Gradient {
        let walk = Walk::new(self.factor.len());
        let (factor, offset) = self.rows(&walk);
        let (result, slopes) = self.slopes(sums, from.len());
        let (by_value, constant) = (walk.repeat(&slopes.by_value), walk.repeat(&slopes.constant));
        let (from, gradient) = (walk.cut(from), walk.cut_mut(gradient));
        team.each(from.len().min(gradient.len()), &|block| {
            let lines = [&factor[..], &offset, &by_value, &constant];
            turn_gradients(from[block], &mut lock(&gradient[block]), lines, clamp);
        });
        result
    }

    /// Of each channel.
    pub(crate) fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Factor and offset for each value of a row.
    pub(crate) fn rows(&self, walk: &Walk) -> (Vec<f32>, Vec<f32>) {
        (walk.repeat(&self.factor), walk.repeat(&self.offset))
    }
}

pub(crate) fn add_differences(values: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    with_widest_vectors!(differences(values: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32]))
}

#[inline(always)]
fn differences<const FUSED: bool>(values: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    for row in values.chunks(origin.len()) {
        let count = row.len().min(origin.len()).min(sums.len()).min(squares.len());
        let (row, origin, sums, squares) = (&row[..count], &origin[..count], &mut sums[..count], &mut squares[..count]);
        for at in 0..count {
            let difference = row[at] - origin[at];
            sums[at] += difference;
            squares[at] = multiply_add::<FUSED>(difference, difference, squares[at]);
        }
    }
}

pub(crate) fn put_line(from: &[f32], to: &mut [f32], factor: &[f32], offset: &[f32], clamp: Clamp) {
    with_widest_vectors!(line(from: &[f32], to: &mut [f32], factor: &[f32], offset: &[f32], clamp: Clamp))
}

#[inline(always)]
fn line<const FUSED: bool>(from: &[f32], to: &mut [f32], factor: &[f32], offset: &[f32], clamp: Clamp) {
    for (from, to) in from.chunks(factor.len()).zip(to.chunks_mut(factor.len())) {
        let count = from.len().min(to.len()).min(factor.len()).min(offset.len());
        let (from, to, factor, offset) = (&from[..count], &mut to[..count], &factor[..count], &offset[..count]);
        for at in 0..count {
            to[at] = clamp.of(multiply_add::<FUSED>(from[at], factor[at], offset[at]));
        }
    }
}

fn add_gradients(
    from: &[f32],
    gradient: &[f32],
    lines: [&[f32]; 3],
    clamp: Clamp,
    sums: &mut [f32],
    products: &mut [f32],
) {
    with_widest_vectors!(gradients(
        from: &[f32],
        gradient: &[f32],
        lines: [&[f32]; 3],
        clamp: Clamp,
        sums: &mut [f32],
        products: &mut [f32],
    ))
}

#[inline(always)]
fn gradients<const FUSED: bool>(
    from: &[f32],
    gradient: &[f32],
    [factor, offset, mean]: [&[f32]; 3],
    clamp: Clamp,
    sums: &mut [f32],
    products: &mut [f32],
) {
    for (from, gradient) in from.chunks(factor.len()).zip(gradient.chunks(factor.len())) {
        let count = from.len().min(gradient.len()).min(sums.len()).min(products.len());
        let (from, gradient, sums, products) =
            (&from[..count], &gradient[..count], &mut sums[..count], &mut products[..count]);
        let (factor, offset, mean) = (&factor[..count], &offset[..count], &mean[..count]);
        for at in 0..count {
            let passed = passed::<FUSED>(from[at], gradient[at], factor[at], offset[at], clamp);
            sums[at] += passed;
            products[at] = multiply_add::<FUSED>(passed, from[at] - mean[at], products[at]);
        }
    }
}

fn turn_gradients(from: &[f32], gradient: &mut [f32], lines: [&[f32]; 4], clamp: Clamp) {
    with_widest_vectors!(turned(from: &[f32], gradient: &mut [f32], lines: [&[f32]; 4], clamp: Clamp))
}

#[inline(always)]
fn turned<const FUSED: bool>(
    from: &[f32],
    gradient: &mut [f32],
    [factor, offset, by_value, constant]: [&[f32]; 4],
    clamp: Clamp,
) {
    for (from, gradient) in from.chunks(factor.len()).zip(gradient.chunks_mut(factor.len())) {
        let count = from.len().min(gradient.len());
        let (from, gradient) = (&from[..count], &mut gradient[..count]);
        let (factor, offset) = (&factor[..count], &offset[..count]);
        let (by_value, constant) = (&by_value[..count], &constant[..count]);
        for at in 0..count {
            let passed = passed::<FUSED>(from[at], gradient[at], factor[at], offset[at], clamp);
            gradient[at] = whole::<FUSED>(passed, from[at], factor[at], by_value[at], constant[at]);
        }
    }
}

/// What [`Line::turn`] does, to elsewhere.
pub(crate) fn put_slopes(
    from: &[f32],
    gradient: &[f32],
    to: &mut [f32],
    line: &(Vec<f32>, Vec<f32>),
    slopes: &Slopes,
    clamp: Clamp,
) {
    let lines = [&line.0[..], &line.1, &slopes.by_value, &slopes.constant];
    with_widest_vectors!(turned_elsewhere(
        from: &[f32],
        gradient: &[f32],
        to: &mut [f32],
        lines: [&[f32]; 4],
        clamp: Clamp,
    ))
}

#[inline(always)]
fn turned_elsewhere<const FUSED: bool>(
    from: &[f32],
    gradient: &[f32],
    to: &mut [f32],
    [factor, offset, by_value, constant]: [&[f32]; 4],
    clamp: Clamp,
) {
    let row = factor.len();
    for ((from, gradient), to) in from.chunks(row).zip(gradient.chunks(row)).zip(to.chunks_mut(row)) {
        let count = from.len().min(gradient.len()).min(to.len());
        let (from, gradient, to) = (&from[..count], &gradient[..count], &mut to[..count]);
        let (factor, offset) = (&factor[..count], &offset[..count]);
        let (by_value, constant) = (&by_value[..count], &constant[..count]);
        for at in 0..count {
            let passed = passed::<FUSED>(from[at], gradient[at], factor[at], offset[at], clamp);
            to[at] = whole::<FUSED>(passed, from[at], factor[at], by_value[at], constant[at]);
        }
    }
}

/// Sets a gradient to 0 where the activation cut off, and adds up what [`Sums`] are of.
pub(crate) fn mask_and_add(
    from: &[f32],
    gradient: &mut [f32],
    lines: [&[f32]; 3],
    clamp: Clamp,
    sums: &mut [f32],
    products: &mut [f32],
) {
    with_widest_vectors!(masked(
        from: &[f32],
        gradient: &mut [f32],
        lines: [&[f32]; 3],
        clamp: Clamp,
        sums: &mut [f32],
        products: &mut [f32],
    ))
}

#[inline(always)]
fn masked<const FUSED: bool>(
    from: &[f32],
    gradient: &mut [f32],
    [factor, offset, mean]: [&[f32]; 3],
    clamp: Clamp,
    sums: &mut [f32],
    products: &mut [f32],
) {
    for (from, gradient) in from.chunks(factor.len()).zip(gradient.chunks_mut(factor.len())) {
        let count = from.len().min(gradient.len()).min(sums.len()).min(products.len());
        let (from, gradient, sums, products) =
            (&from[..count], &mut gradient[..count], &mut sums[..count], &mut products[..count]);
        let (factor, offset, mean) = (&factor[..count], &offset[..count], &mean[..count]);
        for at in 0..count {
            let passed = passed::<FUSED>(from[at], gradient[at], factor[at], offset[at], clamp);
            gradient[at] = passed;
            sums[at] += passed;
            products[at] = multiply_add::<FUSED>(passed, from[at] - mean[at], products[at]);
        }
    }
}

/// The gradient where the activation let the value through.
#[inline(always)]
fn passed<const FUSED: bool>(from: f32, gradient: f32, factor: f32, offset: f32, clamp: Clamp) -> f32 {
    let value = multiply_add::<FUSED>(from, factor, offset);
    if (value > clamp.low) & (value < clamp.high) { gradient } else { 0.0 }
}

/// With what it has through the statistics.
#[inline(always)]
fn whole<const FUSED: bool>(passed: f32, from: f32, factor: f32, by_value: f32, constant: f32) -> f32 {
    multiply_add::<FUSED>(passed, factor, multiply_add::<FUSED>(from, by_value, constant))
}
