//! The update over a model's flat buffers: on the CPU the one that chiefs use ([`gradients::rmsprop`]), elsewhere
//! the same by libtorch's kernels.

use crate::model::flat::{Flat, Layout};
use anyhow::Result;
use gradients::rmsprop::{Rule, Slots, Step, norm};
use gradients::values::Values;
use std::ops::Range;
use sweeps::spec::model::{Optimizer, Training};
use tch::{Device, Kind, Tensor};

/// The update that a trial's settings ask for. Weight decay is L2 added to the gradient, after it was clipped.
#[must_use]
pub fn rule(layout: &Layout, training: &Training) -> Rule {
    Rule {
        optimizer: training.optimizer.clone(),
        decays: vec![
            (layout.decayed.clone(), training.weight_decay),
            (layout.depthwise.clone(), training.weight_decay_depthwise),
            (layout.plain.clone(), 0.0),
        ],
        clip_norm: training.gradient_clip_norm,
        average_decay: training.weight_ema,
    }
}

/// One update of every parameter from the gradient in `flat`, at a learning rate that lies on the device: f64, `[]`. Gives
/// the gradient's norm before clipping, f64, on the device, so that nothing waits for it.
///
/// # Errors
/// When the rate is not one number.
pub fn update(flat: &mut Flat, rule: &Rule, rate: &Tensor) -> Result<Tensor> {
    if flat.weights.device() != Device::Cpu {
        return Ok(update_tensors(flat, rule, rate));
    }
    let rate = f64::try_from(rate)?;
    let [weights, gradient, mean_square, momentum, average] = flat.slices();
    let gradient = Values::F32(gradient);
    let norm = norm(gradient);
    let average = rule.average_decay.map(|_| average);
    rule.apply(Slots { weights, mean_square, momentum, average }, gradient, Step { rate, norm }, None);
    Ok(Tensor::from(norm))
}

fn update_tensors(flat: &mut Flat, rule: &Rule, rate: &Tensor) -> Tensor {
    let norm = clip(&mut flat.gradient, rule.clip_norm);
    for (range, decay) in &rule.decays {
        rmsprop_tensors(flat, range, &rule.optimizer, rate, *decay);
    }
    if let (Some(average), Some(decay)) = (&mut flat.average, rule.average_decay) {
        let _ = average.lerp_(&flat.weights, 1.0 - decay);
    }
    norm.to_kind(Kind::Double)
}

/// Shortens the gradient to a norm of at most `norm_max`. Gives the norm before, as a tensor, so that nothing
/// waits for the device.
fn clip(gradient: &mut Tensor, norm_max: Option<f64>) -> Tensor {
    let norm = gradient.norm();
    if let Some(norm_max) = norm_max {
        let factor = (&norm + 1e-12).reciprocal() * norm_max;
        let _ = gradient.g_mul_(&factor.clamp_max(1.0));
    }
    norm
}

/// RMSprop by libtorch's kernels.
fn rmsprop_tensors(
    flat: &mut Flat,
    range: &Range<usize>,
    optimizer: &Optimizer,
    learning_rate: &Tensor,
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

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The update by libtorch's kernels, here on the CPU, is that of the slices.
    #[test]
    fn both_forms_agree() {
        let rule = Rule {
            optimizer: Optimizer { epsilon: 0.01, ..Optimizer::default() },
            decays: vec![(0..16, 0.1), (16..40, 0.0)],
            clip_norm: Some(3.0),
            average_decay: Some(0.9),
        };
        let [mut slices, mut tensors] = [(); 2].map(|()| Flat::zeros(40, Device::Cpu, true).unwrap());
        for step in 0..5_u16 {
            let gradient: Vec<f32> = (0..40_u16).map(|at| f32::from(at * 7 + step).sin()).collect();
            for flat in [&mut slices, &mut tensors] {
                flat.gradient.copy_(&Tensor::from_slice(&gradient));
            }
            let rate = Tensor::from(0.1_f64);
            let norms = (update(&mut slices, &rule, &rate).unwrap(), update_tensors(&mut tensors, &rule, &rate));
            assert!((norms.0.double_value(&[]) - norms.1.double_value(&[])).abs() < 1e-5);
        }
        let pairs = [
            (&slices.weights, &tensors.weights),
            (&slices.mean_square, &tensors.mean_square),
            (&slices.momentum, &tensors.momentum),
            (slices.average.as_ref().unwrap(), tensors.average.as_ref().unwrap()),
        ];
        for (one, other) in pairs {
            assert!((one - other).abs().max().double_value(&[]) < 1e-5, "{one} {other}");
            assert!(one.abs().max().double_value(&[]) > 0.0);
        }
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
