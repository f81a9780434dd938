//! Each kernel against sums written out in f64, and each gradient against two evaluations of the loss.

use kernels::depthwise::{self, Before, Behind, Shape};
use kernels::normalise::{Clamp, Line, statistics};
use kernels::{Alone, Team};
use std::thread;

const EPSILON: f64 = 1e-3;

/// Noise in (−1, 1) that follows from a seed.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| draw()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Normalises by the values' own statistics and clamps.
fn normalise(values: &[f64], scale: &[f64], shift: &[f64], clamp: Clamp) -> Vec<f64> {
    let channels = scale.len();
    let count = (values.len() / channels) as f64;
    let of = |channel: usize| values.iter().copied().skip(channel).step_by(channels);
    let known: Vec<(f64, f64)> = (0..channels)
        .map(|channel| {
            let mean = of(channel).sum::<f64>() / count;
            let variance = of(channel).map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
            (mean, 1.0 / (variance + EPSILON).sqrt())
        })
        .collect();
    let one = |(at, value): (usize, &f64)| {
        let (mean, inverse) = known[at % channels];
        ((value - mean) * inverse * scale[at % channels] + shift[at % channels])
            .clamp(f64::from(clamp.low), f64::from(clamp.high))
    };
    values.iter().enumerate().map(one).collect()
}

/// 3 × 3, a filter a channel.
fn convolve(shape: Shape, values: &[f64], filter: &[f64]) -> Vec<f64> {
    let (height, width) = shape.output();
    let mut output = Vec::new();
    for image in 0..shape.images {
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
            for channel in 0..shape.channels {
                let mut sum = 0.0;
                for tap in 0..9 {
                    let (y, x) = (row * shape.stride + tap / 3, column * shape.stride + tap % 3);
                    if (1..=shape.height).contains(&y) && (1..=shape.width).contains(&x) {
                        let pixel = (image * shape.height + y - 1) * shape.width + x - 1;
                        sum += values[pixel * shape.channels + channel] * filter[channel * 9 + tap];
                    }
                }
                output.push(sum);
            }
        }
    }
    output
}

/// Slopes of `loss` in each direction of `at`.
fn slopes(at: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-6;
    let slope = |place: usize| {
        let moved = |by: f64| {
            let mut moved = at.to_vec();
            moved[place] += by;
            loss(&moved)
        };
        (moved(step) - moved(-step)) / (2.0 * step)
    };
    (0..at.len()).map(slope).collect()
}

#[track_caller]
fn check(what: &str, own: &[f32], expected: &[f64]) {
    assert_eq!(own.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3, |largest: f64, value| largest.max(value.abs()));
    for (at, (own, expected)) in own.iter().zip(expected).enumerate() {
        assert!((f64::from(*own) - expected).abs() < 2e-4 * largest, "{what}[{at}]: {own}, not {expected}");
    }
}

fn dot(values: &[f64], with: &[f32]) -> f64 {
    values.iter().zip(with).map(|(value, with)| value * f64::from(*with)).sum()
}

#[test]
fn normalising_and_its_gradient() {
    for (channels, pixels, clamp) in [
        (1, 37, Clamp::RELU),
        (3, 40, Clamp::RELU6),
        (8, 25, Clamp::NONE),
        (24, 9, Clamp::RELU6),
        (100, 5, Clamp::RELU),
    ] {
        // Far from 0, where sums of squares would lose their digits.
        let values: Vec<f32> = noise(1, channels * pixels).iter().map(|value| value + 30.0).collect();
        let (scale, shift, weights) = (noise(2, channels), noise(3, channels), noise(4, channels * pixels));
        let known = statistics(&Alone, &values, channels);
        let line = Line::new(&known, &scale, &shift, EPSILON);
        let mut output = vec![0.0; values.len()];
        line.apply(&Alone, clamp, &values, &mut output);
        let expected = normalise(&wide(&values), &wide(&scale), &wide(&shift), clamp);
        check("output", &output, &expected);
        let mut gradient = weights.clone();
        let of = line.differentiate(&Alone, clamp, &values, &mut gradient);
        let (wide_values, wide_scale, wide_shift) = (wide(&values), wide(&scale), wide(&shift));
        let loss =
            |values: &[f64], scale: &[f64], shift: &[f64]| dot(&normalise(values, scale, shift, clamp), &weights);
        check("gradient", &gradient, &slopes(&wide_values, |values| loss(values, &wide_scale, &wide_shift)));
        check("scale", &of.scale, &slopes(&wide_scale, |scale| loss(&wide_values, scale, &wide_shift)));
        check("shift", &of.shift, &slopes(&wide_shift, |shift| loss(&wide_values, &wide_scale, shift)));
    }
}

#[test]
fn what_is_not_a_number_stays_that() {
    let values = [1.0, f32::NAN, 3.0, 4.0];
    let line = Line::new(&statistics(&Alone, &values, 1), &[1.0], &[0.0], EPSILON);
    let mut output = [0.0; 4];
    line.apply(&Alone, Clamp::RELU6, &values, &mut output);
    assert!(output.iter().all(|value| value.is_nan()), "{output:?}");
}

#[test]
fn depthwise_convolutions_and_their_gradients() {
    for (images, height, width, channels, stride) in [
        (2, 5, 4, 8, 1),
        (2, 5, 4, 8, 2),
        (1, 4, 7, 16, 1),
        (2, 6, 6, 16, 2),
        (1, 3, 3, 24, 1),
        (3, 1, 1, 8, 1),
        (2, 2, 2, 40, 2),
    ] {
        let shape = Shape { images, height, width, channels, stride };
        assert!(shape.is_known());
        let count = images * height * width * channels;
        let values: Vec<f32> = noise(105, count).iter().map(|value| value * 3.0 + 10.0).collect();
        let filter = noise(6, channels * 9);
        let [(scale, shift), (next_scale, next_shift)] =
            [7, 9].map(|seed| (noise(seed, channels), noise(seed + 1, channels)));
        let line = Line::new(&statistics(&Alone, &values, channels), &scale, &shift, EPSILON);
        let before = Before { convolved: &values, line: &line, clamp: Clamp::RELU6 };
        let (rows, columns) = shape.output();
        let mut convolved = vec![0.0; images * rows * columns * channels];
        let known = depthwise::forward(&Alone, shape, before, &filter, &mut convolved);
        let wide_of = [&values, &scale, &shift, &filter, &next_scale, &next_shift].map(|of| wide(of));
        let [values_64, scale_64, shift_64, filter_64, next_scale_64, next_shift_64] = &wide_of;
        let convolve_all = |values: &[f64], scale: &[f64], shift: &[f64], filter: &[f64]| {
            convolve(shape, &normalise(values, scale, shift, Clamp::RELU6), filter)
        };
        check("convolved", &convolved, &convolve_all(values_64, scale_64, shift_64, filter_64));
        let measured = statistics(&Alone, &convolved, channels);
        check("mean", &known.mean, &wide(&measured.mean));
        check("variance", &known.variance, &wide(&measured.variance));

        let weights = noise(11, convolved.len());
        let next = Line::new(&known, &next_scale, &next_shift, EPSILON);
        let behind = Behind { convolved: &convolved, line: &next, clamp: Clamp::RELU, gradient: &weights };
        let mut gradient = vec![0.0; count];
        let found = depthwise::backward(&Alone, shape, before, behind, &filter, &mut gradient);
        let of = line.turn(&Alone, &found.before, &values, &mut gradient);
        let loss = |parts: [&[f64]; 6]| {
            let [values, scale, shift, filter, next_scale, next_shift] = parts;
            let convolved = convolve_all(values, scale, shift, filter);
            dot(&normalise(&convolved, next_scale, next_shift, Clamp::RELU), &weights)
        };
        let slopes_of = |part: usize| {
            slopes(&wide_of[part], |moved| {
                let mut parts = [&values_64[..], scale_64, shift_64, filter_64, next_scale_64, next_shift_64];
                parts[part] = moved;
                loss(parts)
            })
        };
        let all = [&gradient, &of.scale, &of.shift, &found.filter, &found.behind.scale, &found.behind.shift];
        for (part, (name, own)) in
            ["values", "scale", "shift", "filter", "next scale", "next shift"].iter().zip(all).enumerate()
        {
            check(&format!("{shape:?} {name}"), own, &slopes_of(part));
        }
    }
}

/// As many threads as wanted, blocks taken from the end.
struct Backwards(usize);

impl Team for Backwards {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        thread::scope(|scope| {
            for thread in 0..self.0 {
                scope.spawn(move || (0..count).rev().filter(|at| at % self.0 == thread).for_each(work));
            }
        });
    }
}

#[test]
fn threads_change_no_bit() {
    let shape = Shape { images: 5, height: 24, width: 20, channels: 64, stride: 2 };
    let count = 5 * 24 * 20 * 64;
    let (values, filter, weights) = (noise(1, count), noise(2, 64 * 9), noise(3, count / 4));
    let (scale, shift) = (noise(4, 64), noise(5, 64));
    let all = |team: &dyn Team| {
        let line = Line::new(&statistics(team, &values, 64), &scale, &shift, EPSILON);
        let before = Before { convolved: &values, line: &line, clamp: Clamp::RELU6 };
        let mut convolved = vec![0.0; count / 4];
        let known = depthwise::forward(team, shape, before, &filter, &mut convolved);
        let next = Line::new(&known, &scale, &shift, EPSILON);
        let behind = Behind { convolved: &convolved, line: &next, clamp: Clamp::RELU, gradient: &weights };
        let mut gradient = vec![0.0; count];
        let found = depthwise::backward(team, shape, before, behind, &filter, &mut gradient);
        let of = line.turn(team, &found.before, &values, &mut gradient);
        let mut plain = weights.clone();
        let differentiated = next.differentiate(team, Clamp::RELU6, &convolved, &mut plain);
        (known, found.filter, found.behind, of, gradient, plain, differentiated)
    };
    assert_eq!(all(&Alone), all(&Backwards(3)));
}
