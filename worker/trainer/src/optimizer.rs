//! RMSprop as TensorFlow defines it, over flat buffers.
//!
//! ```text
//! ms  ← ms + (1 − decay) · (g² − ms)                     ms starts at 1
//! mom ← momentum · mom + lr · g / sqrt(ms + epsilon)     epsilon inside the root, lr inside the buffer
//! w   ← w − mom
//! ```
//!
//! libtorch's own starts at 0, with epsilon outside the root and lr outside the buffer; with epsilon = 1 that
//! is a different optimizer.

use crate::model::flat::{Flat, Layout};
use std::ops::Range;
use sweeps::spec::model::{Optimizer, Training};
use tch::{Device, Tensor};

/// One update of every parameter from the gradient in `flat`. Weight decay is L2 added to the gradient, after
/// it was clipped.
pub fn update(flat: &mut Flat, layout: &Layout, training: &Training, learning_rate: f64) {
    let ranges = [
        (layout.decayed.clone(), training.weight_decay),
        (layout.depthwise.clone(), training.weight_decay_depthwise),
        (layout.plain.clone(), 0.0),
    ];
    for (range, weight_decay) in ranges {
        if flat.weights.device() == Device::Cpu {
            let [weights, gradient, mean_square, momentum] = flat.slices();
            rmsprop(
                &mut weights[range.clone()],
                &gradient[range.clone()],
                &mut mean_square[range.clone()],
                &mut momentum[range],
                &training.optimizer,
                learning_rate,
                weight_decay,
            );
        } else {
            rmsprop_tensors(flat, &range, &training.optimizer, learning_rate, weight_decay);
        }
    }
}

/// Shortens the gradient to a norm of at most `norm_max`. Gives the norm before, as a tensor, so that nothing
/// waits for the device.
pub fn clip(gradient: &mut Tensor, norm_max: Option<f64>) -> Tensor {
    let norm = gradient.norm();
    if let Some(norm_max) = norm_max {
        let factor = (&norm + 1e-12).reciprocal() * norm_max;
        let _ = gradient.g_mul_(&factor.clamp_max(1.0));
    }
    norm
}

/// The update on the CPU: every buffer is read and written once.
fn rmsprop(
    weights: &mut [f32],
    gradient: &[f32],
    mean_square: &mut [f32],
    momentum: &mut [f32],
    optimizer: &Optimizer,
    learning_rate: f64,
    weight_decay: f64,
) {
    let [rate, keep, epsilon, beta, decay] =
        [learning_rate, 1.0 - optimizer.decay, optimizer.epsilon, optimizer.momentum, weight_decay].map(narrow);
    for (((w, g), ms), mom) in weights.iter_mut().zip(gradient).zip(mean_square).zip(momentum) {
        let g = g + decay * *w;
        *ms += keep * (g * g - *ms);
        *mom = beta * *mom + rate * g / (*ms + epsilon).sqrt();
        *w -= *mom;
    }
}

/// The same on any device, by libtorch's kernels.
fn rmsprop_tensors(
    flat: &mut Flat,
    range: &Range<usize>,
    optimizer: &Optimizer,
    learning_rate: f64,
    weight_decay: f64,
) {
    let part = |tensor: &Tensor| tensor.narrow(0, signed(range.start), signed(range.len()));
    let (mut weights, gradient) = (part(&flat.weights), part(&flat.gradient));
    let (mut mean_square, mut momentum) = (part(&flat.mean_square), part(&flat.momentum));
    let gradient = if weight_decay == 0.0 { gradient } else { gradient + &weights * weight_decay };
    let _ = mean_square.lerp_(&gradient.square(), 1.0 - optimizer.decay);
    let scaled = (&mean_square + optimizer.epsilon).rsqrt_() * gradient * learning_rate;
    let _ = momentum.g_mul_scalar_(optimizer.momentum);
    let _ = momentum.g_add_(&scaled);
    let _ = weights.g_sub_(&momentum);
}

/// The moving average of weights: `average ← decay · average + (1 − decay) · weights`.
pub fn average(average: &mut Tensor, weights: &Tensor, decay: f64) {
    let _ = average.lerp_(weights, 1.0 - decay);
}

#[expect(clippy::cast_possible_truncation, reason = "settings are computed in f64 and applied in f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One weight through gradients; what both forms of the update give.
    fn check(first: f32, steps: &[(f32, f64)], expected: &[f64]) {
        let optimizer = Optimizer::default();
        let [mut w, mut ms, mut mom] = [[first], [1.0], [0.0]];
        let mut flat = Flat::zeros(1, Device::Cpu, false);
        let _ = flat.weights.fill_(f64::from(first));
        for ((gradient, rate), expected) in steps.iter().zip(expected) {
            rmsprop(&mut w, &[*gradient], &mut ms, &mut mom, &optimizer, *rate, 0.0);
            let _ = flat.gradient.fill_(f64::from(*gradient));
            rmsprop_tensors(&mut flat, &(0..1), &optimizer, *rate, 0.0);
            assert!((f64::from(w[0]) - expected).abs() < 2e-7, "{} is not {expected}", w[0]);
            assert!((flat.weights.double_value(&[0]) - expected).abs() < 2e-7);
        }
    }

    /// Vectors computed in f64 from TensorFlow's definition; the second agrees with timm's `RMSpropTF`.
    #[test]
    fn it_is_tensorflows() {
        check(0.0, &[(1.0, 0.1); 3], &[-0.070_710_678_1, -0.205_060_966_5, -0.396_686_904_2]);
        check(
            0.5,
            &[(0.3, 0.045), (-1.2, 0.045), (0.05, 0.0423), (2.0, 0.0423)],
            &[0.490_229_184_7, 0.519_986_232_8, 0.545_219_336_2, 0.510_624_548_9],
        );
    }

    #[test]
    fn weight_decay_is_added_to_the_gradient() {
        let optimizer = Optimizer::default();
        let [mut decayed, mut shifted] = [([2.0_f32], [1.0], [0.0]); 2];
        rmsprop(&mut decayed.0, &[0.5], &mut decayed.1, &mut decayed.2, &optimizer, 0.1, 0.25);
        rmsprop(&mut shifted.0, &[1.0], &mut shifted.1, &mut shifted.2, &optimizer, 0.1, 0.0);
        assert_eq!(decayed, shifted);
    }

    #[test]
    fn long_gradients_are_shortened() {
        let mut gradient = Tensor::from_slice(&[3.0_f32, 4.0]);
        let norm = clip(&mut gradient, Some(1.0));
        assert!((norm.double_value(&[]) - 5.0).abs() < 1e-6);
        assert!((gradient.double_value(&[0]) - 0.6).abs() < 1e-6);
        let norm = clip(&mut gradient, Some(2.0));
        assert!((norm.double_value(&[]) - 1.0).abs() < 1e-6);
        assert!((gradient.double_value(&[1]) - 0.8).abs() < 1e-6);
    }
}
