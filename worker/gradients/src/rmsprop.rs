//! RMSprop as TensorFlow defines it, over flat buffers on the CPU: every buffer is read and written once.
//!
//! ```text
//! ms  ← ms + (1 − decay) · (g² − ms)                     ms starts at 1
//! mom ← momentum · mom + lr · g / sqrt(ms + epsilon)     epsilon inside the root, lr inside the buffer
//! w   ← w − mom
//! ```
//!
//! libtorch's own starts at 0, with epsilon outside the root and lr outside the buffer; with epsilon = 1 that
//! is a different optimizer.

use crate::values::{SquareSum, Values};
use std::ops::Range;
use sweeps::spec::model::Optimizer;

/// The update of one trial: its optimizer, and which parameters are decayed how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// RMSprop's settings.
    pub optimizer: Optimizer,
    /// Runs of the flat buffer, and the L2 that is added to their gradient once it is clipped.
    pub decays: Vec<(Range<usize>, f64)>,
    /// Gradients longer than this are shortened to it.
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the weights, where there is one.
    pub average_decay: Option<f64>,
}

/// The buffers that an update moves, all of one length.
#[derive(Debug)]
pub struct Slots<'a> {
    /// What is trained.
    pub weights: &'a mut [f32],
    /// RMSprop's mean square; starts at 1.
    pub mean_square: &'a mut [f32],
    /// RMSprop's momentum; starts at 0.
    pub momentum: &'a mut [f32],
    /// The moving average of the weights.
    pub average: Option<&'a mut [f32]>,
}

/// How one gradient is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The learning rate.
    pub rate: f64,
    /// The gradient's norm, from [`norm`].
    pub norm: f64,
}

/// For gradients of weights that have moved on: DC-ASGD's term (Zheng et al. 2017, in its adaptive form),
/// `λ / sqrt(ms + epsilon) · g² · (w − read)`, with the mean square that RMSprop keeps anyway.
#[derive(Clone, Copy, Debug)]
pub struct Compensation<'a> {
    /// λ.
    pub strength: f64,
    /// The weights that the gradient was computed at.
    pub read: &'a [f32],
}

/// Length of a gradient. Not finite if one of its values is not. The order of summation is fixed, so the same
/// values give the same bits on any machine. It is rounded to an f32: sums of many of those are exact in f64, and so the
/// same in whichever parts an epoch is added up.
#[must_use]
pub fn norm(gradient: Values<'_>) -> f64 {
    let mut squares = SquareSum::default();
    squares.add(gradient);
    norm_of(squares)
}

/// The same of a gradient that came in parts.
pub(crate) fn norm_of(squares: SquareSum) -> f64 {
    f64::from(narrow(squares.total().sqrt()))
}

impl Rule {
    /// One update.
    pub fn apply(&self, slots: Slots<'_>, gradient: Values<'_>, step: Step, compensation: Option<Compensation<'_>>) {
        let Slots { weights, mean_square, momentum, average } = slots;
        let scale = self.clip_norm.map_or(1.0, |clip| (clip / (step.norm + 1e-12)).min(1.0));
        for (range, decay) in &self.decays {
            let factors = Factors::new(&self.optimizer, step.rate, scale, *decay);
            let (w, ms, mom) =
                (&mut weights[range.clone()], &mut mean_square[range.clone()], &mut momentum[range.clone()]);
            let read = compensation.map(|known| (narrow(known.strength), &known.read[range.clone()]));
            match gradient.part(range.clone()) {
                Values::F32(values) => factors.run(w, ms, mom, values, |value| *value, read),
                Values::F32Bytes(values) => factors.run(w, ms, mom, values, |value| f32::from_le_bytes(*value), read),
                Values::Bf16Bytes(values) => factors.run(w, ms, mom, values, crate::values::from_bf16, read),
            }
        }
        if let (Some(average), Some(decay)) = (average, self.average_decay) {
            let share = narrow(1.0 - decay);
            for (kept, new) in average.iter_mut().zip(weights.iter()) {
                *kept += share * (new - *kept);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Factors {
    rate: f32,
    keep: f32,
    epsilon: f32,
    beta: f32,
    decay: f32,
    scale: f32,
}

impl Factors {
    fn new(optimizer: &Optimizer, rate: f64, scale: f64, decay: f64) -> Self {
        let [rate, keep, epsilon, beta, decay, scale] =
            [rate, 1.0 - optimizer.decay, optimizer.epsilon, optimizer.momentum, decay, scale].map(narrow);
        Self { rate, keep, epsilon, beta, decay, scale }
    }

    #[inline(always)]
    fn one(self, w: &mut f32, ms: &mut f32, mom: &mut f32, gradient: f32) {
        let g = gradient + self.decay * *w;
        *ms += self.keep * (g * g - *ms);
        *mom = self.beta * *mom + self.rate * g / (*ms + self.epsilon).sqrt();
        *w -= *mom;
    }

    fn run<T>(
        self,
        weights: &mut [f32],
        mean_square: &mut [f32],
        momentum: &mut [f32],
        gradient: &[T],
        value: impl Fn(&T) -> f32,
        compensation: Option<(f32, &[f32])>,
    ) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "wider vectors than every x86-64 has")]
            // SAFETY: the instructions were found just now.
            unsafe {
                self.run_avx2(weights, mean_square, momentum, gradient, value, compensation);
            }
            return;
        }
        self.run_plain(weights, mean_square, momentum, gradient, value, compensation);
    }

    /// The same operations on twice as many floats at a time: the same bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2<T>(
        self,
        weights: &mut [f32],
        mean_square: &mut [f32],
        momentum: &mut [f32],
        gradient: &[T],
        value: impl Fn(&T) -> f32,
        compensation: Option<(f32, &[f32])>,
    ) {
        self.run_plain(weights, mean_square, momentum, gradient, value, compensation);
    }

    #[inline(always)]
    fn run_plain<T>(
        self,
        weights: &mut [f32],
        mean_square: &mut [f32],
        momentum: &mut [f32],
        gradient: &[T],
        value: impl Fn(&T) -> f32,
        compensation: Option<(f32, &[f32])>,
    ) {
        let slots = weights.iter_mut().zip(mean_square).zip(momentum).zip(gradient);
        match compensation {
            None => {
                for (((w, ms), mom), g) in slots {
                    self.one(w, ms, mom, self.scale * value(g));
                }
            }
            Some((strength, read)) => {
                for ((((w, ms), mom), g), read) in slots.zip(read) {
                    let g = self.scale * value(g);
                    let g = g + strength / (*ms + self.epsilon).sqrt() * g * g * (*w - read);
                    self.one(w, ms, mom, g);
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "settings are computed in f64 and applied in f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(len: usize, decay: f64) -> Rule {
        Rule { optimizer: Optimizer::default(), decays: vec![(0..len, decay)], clip_norm: None, average_decay: None }
    }

    /// One weight through gradients, in f32 and as bytes.
    fn check(first: f32, steps: &[(f32, f64)], expected: &[f64]) {
        let [mut w, mut ms, mut mom] = [[first], [1.0], [0.0]];
        for ((gradient, rate), expected) in steps.iter().zip(expected) {
            let bytes = [gradient.to_le_bytes()];
            let step = Step { rate: *rate, norm: norm(Values::F32Bytes(&bytes)) };
            let slots = Slots { weights: &mut w, mean_square: &mut ms, momentum: &mut mom, average: None };
            rule(1, 0.0).apply(slots, Values::F32Bytes(&bytes), step, None);
            assert!((f64::from(w[0]) - expected).abs() < 2e-7, "{} is not {expected}", w[0]);
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

    fn apply(rule: &Rule, start: f32, gradient: &[f32], compensation: Option<Compensation<'_>>) -> Vec<f32> {
        let len = gradient.len();
        let (mut w, mut ms, mut mom) = (vec![start; len], vec![1.0; len], vec![0.0; len]);
        let mut average = w.clone();
        let slots = Slots { weights: &mut w, mean_square: &mut ms, momentum: &mut mom, average: Some(&mut average) };
        let gradient = Values::F32(gradient);
        rule.apply(slots, gradient, Step { rate: 0.1, norm: norm(gradient) }, compensation);
        if rule.average_decay.is_some() { average } else { w }
    }

    /// Whatever instructions are used.
    #[test]
    fn wide_and_plain_updates_have_the_same_bits() {
        let gradient: Vec<f32> = (0..1003_u16).map(|at| (f32::from(at) * 0.37).sin() * 3.0).collect();
        let read: Vec<f32> = gradient.iter().map(|value| 1.0 + 0.1 * value).collect();
        let factors = Factors::new(&Optimizer::default(), 0.045, 0.7, 4e-5);
        for compensation in [None, Some((0.04, &read[..]))] {
            let [mut wide, mut plain] =
                [1.0_f32, 1.0].map(|start| [vec![start; 1003], vec![1.0; 1003], vec![0.1; 1003]]);
            for _ in 0..3 {
                let [w, ms, mom] = &mut wide;
                factors.run(w, ms, mom, &gradient, |value| *value, compensation);
                let [w, ms, mom] = &mut plain;
                factors.run_plain(w, ms, mom, &gradient, |value| *value, compensation);
            }
            assert_eq!(
                wide.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
                plain.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn weight_decay_is_added_to_the_gradient() {
        assert_eq!(apply(&rule(1, 0.25), 2.0, &[0.5], None), apply(&rule(1, 0.0), 2.0, &[1.0], None));
    }

    #[test]
    fn long_gradients_are_shortened_before_they_are_decayed() {
        let clipped = Rule { clip_norm: Some(1.0), ..rule(2, 0.25) };
        assert_eq!(norm(Values::F32(&[3.0, 4.0])), 5.0);
        assert_eq!(apply(&clipped, 2.0, &[3.0, 4.0], None), apply(&rule(2, 0.25), 2.0, &[0.6, 0.8], None));
        assert_eq!(apply(&clipped, 2.0, &[0.3, 0.4], None), apply(&rule(2, 0.25), 2.0, &[0.3, 0.4], None));
    }

    #[test]
    fn the_average_follows_the_weights() {
        let moved = apply(&rule(1, 0.0), 1.0, &[1.0], None)[0];
        let averaged = apply(&Rule { average_decay: Some(0.9), ..rule(1, 0.0) }, 1.0, &[1.0], None)[0];
        assert!((averaged - (1.0 + 0.1 * (moved - 1.0))).abs() < 1e-7, "{averaged}");
    }

    /// With the weights where they were read the term is nothing; else it is λ g² (w − read) / sqrt(ms + ε).
    #[test]
    fn late_gradients_are_corrected() {
        let compensation = |read| Some(Compensation { strength: 0.5, read });
        assert_eq!(apply(&rule(1, 0.0), 2.0, &[0.8], compensation(&[2.0])), apply(&rule(1, 0.0), 2.0, &[0.8], None));
        let by_hand = 0.8 + 0.5 / 2.0_f32.sqrt() * 0.8 * 0.8 * (2.0 - 1.5);
        let corrected = apply(&rule(1, 0.0), 2.0, &[0.8], compensation(&[1.5]))[0];
        assert!((corrected - apply(&rule(1, 0.0), 2.0, &[by_hand], None)[0]).abs() < 1e-6);
    }

    #[test]
    fn a_bad_value_makes_the_norm_bad() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 7, 40] {
                let mut gradient = vec![1.0; 41];
                gradient[place] = bad;
                assert!(!norm(Values::F32(&gradient)).is_finite());
            }
        }
    }
}
