//! Depthwise 3 × 3 convolutions together with the normalisation and activation before them: `y = filter * z`,
//! `z = clamp(line(x))`, `x` what the layer before has convolved. `z` is made line by line and never stored.
//!
//! Forward reads `x` and writes `y`, whose statistics fall out of it. Backward reads `x`, `y` and the gradient behind `y`,
//! and writes the gradient before the activation of `x`: filter, scale, shift and the sums of the layer before fall out of it.

use crate::blocks::{Team, Walk, lock};
use crate::normalise::{Clamp, Gradient, Line, Slopes, Statistics, Sums, fold_differences};
use crate::normalise::{add_differences, mask_and_add, put_line, put_slopes};
use crate::vector::{multiply_add, with_widest_vectors};
use std::sync::{Mutex, OnceLock};

/// Values of a filter.
const TAPS: usize = 9;

/// What goes in, and how the filter moves; padded with a pixel of zeros on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// In the batch.
    pub images: usize,
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
    /// As many come out.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
}

/// The layer before: what it has convolved, and what is still to be done to it.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// `[images, height, width, channels]`
    pub convolved: &'a [f32],
    /// Its normalisation.
    pub line: &'a Line,
    /// Its activation.
    pub clamp: Clamp,
}

/// What comes after the convolution.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'a> {
    /// What [`forward`] gave.
    pub convolved: &'a [f32],
    /// Its normalisation.
    pub line: &'a Line,
    /// Its activation.
    pub clamp: Clamp,
    /// Of the loss, by what comes out of the activation.
    pub gradient: &'a [f32],
}

/// What the way back finds beside the gradient that it hands on.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the filter: `[channels, 3, 3]`.
    pub filter: Vec<f32>,
    /// Of the scale and shift behind the convolution.
    pub behind: Gradient,
    /// For [`Line::turn`] of the layer before.
    pub before: Sums,
}

impl Shape {
    /// Whether it can be computed here: by whole vectors.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.channels.is_multiple_of(8) && matches!(self.stride, 1 | 2) && self.height.min(self.width) > 0
    }

    /// Height and width of what comes out.
    #[must_use]
    pub fn output(&self) -> (usize, usize) {
        (self.height.div_ceil(self.stride), self.width.div_ceil(self.stride))
    }

    fn line(&self) -> usize {
        self.width * self.channels
    }

    fn output_line(&self) -> usize {
        self.output().1 * self.channels
    }
}

/// Convolves into `to`; `filter`: `[channels, 3, 3]`. Gives the statistics of what comes out.
#[must_use]
pub fn forward(team: &dyn Team, shape: Shape, before: Before<'_>, filter: &[f32], to: &mut [f32]) -> Statistics {
    let walk = Walk::new(shape.channels);
    let filter = by_tap(&walk, filter);
    let (factor, offset) = before.line.rows(&walk);
    let image = shape.height * shape.line();
    let convolve = |number: usize, to: &mut [f32], look: &mut dyn FnMut(&[f32])| {
        let Some(from) = before.convolved.get(number * image..(number + 1) * image) else { return };
        let mut lines = Lines::new(shape.width, shape.channels);
        let make = |line: &mut [f32], at: usize| {
            put_line(&from[at * shape.line()..(at + 1) * shape.line()], line, &factor, &offset, before.clamp);
        };
        for (row, to) in to.chunks_mut(shape.output_line()).enumerate() {
            let around = lines.around(row * shape.stride, shape.height, make);
            convolve_line(around, &filter, to, (shape.channels, walk.row, shape.stride));
            look(to);
        }
    };
    // Differences from some value of each channel: as good as from the mean.
    let mut first = vec![0.0; shape.output_line()];
    convolve(0, &mut first, &mut |_| ());
    first.truncate(shape.channels);
    let origin = walk.repeat(&first);
    let size = shape.output().0 * shape.output_line();
    let images: Vec<Mutex<&mut [f32]>> = to.chunks_mut(size).map(Mutex::new).collect();
    let totals = walk.sums(team, images.len(), |number, sums, squares| {
        convolve(number, &mut lock(&images[number]), &mut |line| add_differences(line, &origin, sums, squares));
    });
    fold_differences(totals, &first, shape.images * size / shape.channels)
}

/// The way back: writes the gradient before the activation of the layer before to `to`.
#[must_use]
pub fn backward(
    team: &dyn Team,
    shape: Shape,
    before: Before<'_>,
    behind: Behind<'_>,
    filter: &[f32],
    to: &mut [f32],
) -> Found {
    let walk = Walk::new(shape.channels);
    let filter = mirrored(&by_tap(&walk, filter), walk.row);
    let sums = behind.line.sums(team, behind.clamp, behind.convolved, behind.gradient);
    let (of_behind, slopes) = behind.line.slopes(&sums, behind.convolved.len());
    let behind_rows = behind.line.rows(&walk);
    let slopes = Slopes { by_value: walk.repeat(&slopes.by_value), constant: walk.repeat(&slopes.constant) };
    let (factor, offset) = before.line.rows(&walk);
    let mean = walk.repeat(before.line.mean());
    let (rows, width) = shape.output();
    let (size, output_size) = (shape.height * shape.line(), rows * shape.output_line());
    let of_filter: Vec<OnceLock<Vec<f32>>> = (0..shape.images).map(|_| OnceLock::new()).collect();
    let images: Vec<Mutex<&mut [f32]>> = to.chunks_mut(size).map(Mutex::new).collect();
    let totals = walk.sums(team, images.len(), |number, sums, products| {
        let (Some(from), Some(convolved), Some(gradient)) = (
            before.convolved.get(number * size..(number + 1) * size),
            behind.convolved.get(number * output_size..(number + 1) * output_size),
            behind.gradient.get(number * output_size..(number + 1) * output_size),
        ) else {
            return;
        };
        let mut to = lock(&images[number]);
        let mut of_taps = vec![0.0; TAPS * shape.channels];
        let mut normal = vec![0.0; (shape.width + 2) * shape.channels];
        let mut lines = Lines::new(width, shape.channels);
        let output_line = shape.output_line();
        let make = |line: &mut [f32], at: usize| {
            let range = at * output_line..(at + 1) * output_line;
            put_slopes(&convolved[range.clone()], &gradient[range], line, &behind_rows, &slopes, behind.clamp);
        };
        for (row, to) in to.chunks_mut(shape.line()).enumerate() {
            let from = &from[row * shape.line()..(row + 1) * shape.line()];
            let inside = shape.channels..(shape.width + 1) * shape.channels;
            put_line(from, &mut normal[inside], &factor, &offset, before.clamp);
            // Output lines that this input line was part of, by the tap's line.
            let parts: [Option<usize>; 3] = std::array::from_fn(|tap| {
                let at = (row + 1).checked_sub(tap)?;
                (at.is_multiple_of(shape.stride) && at / shape.stride < rows).then_some(at / shape.stride)
            });
            let around = lines.these(parts, make);
            spread_line(around, &filter, to, (shape.channels, walk.row, shape.stride));
            for (tap, line) in around.into_iter().enumerate() {
                if parts[tap].is_some() {
                    let of_taps = &mut of_taps[tap * 3 * shape.channels..(tap + 1) * 3 * shape.channels];
                    add_taps(line, &normal, of_taps, (shape.channels, width, shape.stride));
                }
            }
            mask_and_add(from, to, [&factor, &offset, &mean], before.clamp, sums, products);
        }
        // Each is done once.
        let _ = of_filter[number].set(of_taps);
    });
    let mut of_taps = vec![0.0_f64; TAPS * shape.channels];
    for image in of_filter.into_iter().filter_map(OnceLock::into_inner) {
        of_taps.iter_mut().zip(image).for_each(|(total, part)| *total += f64::from(part));
    }
    let by_channel = |at: usize| of_taps[(at % TAPS) * shape.channels + at / TAPS] as f32;
    Found { filter: (0..of_taps.len()).map(by_channel).collect(), behind: of_behind, before: Sums(totals) }
}

/// A filter's values by tap, each for every value of a row.
fn by_tap(walk: &Walk, filter: &[f32]) -> Vec<f32> {
    let tap = |tap: usize| walk.repeat(&filter.iter().copied().skip(tap).step_by(TAPS).collect::<Vec<f32>>());
    (0..TAPS).flat_map(tap).collect()
}

/// The last three lines that were made, with a pixel of zeros at both ends.
struct Lines {
    buffers: [Vec<f32>; 3],
    /// Which line each buffer holds.
    held: [Option<usize>; 3],
    zeros: Vec<f32>,
    channels: usize,
}

impl Lines {
    fn new(width: usize, channels: usize) -> Self {
        let blank = || vec![0.0; (width + 2) * channels];
        Self { buffers: [blank(), blank(), blank()], held: [None; 3], zeros: blank(), channels }
    }

    /// The line `centre` and those beside it; zeros beyond the image.
    fn around(&mut self, centre: usize, height: usize, make: impl Fn(&mut [f32], usize)) -> [&[f32]; 3] {
        let wanted = std::array::from_fn(|at| (centre + at).checked_sub(1).filter(|line| *line < height));
        self.these(wanted, make)
    }

    /// These lines, made where they are not there yet. Three that follow each other never want one buffer.
    fn these(&mut self, wanted: [Option<usize>; 3], make: impl Fn(&mut [f32], usize)) -> [&[f32]; 3] {
        for line in wanted.into_iter().flatten() {
            if self.held[line % 3] != Some(line) {
                let end = self.buffers[line % 3].len() - self.channels;
                make(&mut self.buffers[line % 3][self.channels..end], line);
                self.held[line % 3] = Some(line);
            }
        }
        wanted.map(|line| line.map_or(&self.zeros[..], |line| &self.buffers[line % 3][..]))
    }
}

/// A line of output from three of input (with their padding). `(channels, row, stride)`
fn convolve_line(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], shape: (usize, usize, usize)) {
    with_widest_vectors!(convolved(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], shape: (usize, usize, usize)))
}

#[inline(always)]
fn convolved<const FUSED: bool>(
    lines: [&[f32]; 3],
    filter: &[f32],
    to: &mut [f32],
    (channels, row, stride): (usize, usize, usize),
) {
    // Where the filter moves by a pixel, pixels that follow each other read what follows each other.
    let step = if stride == 1 { row } else { channels };
    for (number, to) in to.chunks_mut(step).enumerate() {
        let (at, count) = (number * step * stride, to.len());
        correlate::<FUSED>(lines, filter, to, (at, channels, row), count);
    }
}

/// `to` at i: the sum over all taps of the filter at i times the line at `at + i`, moved on by a pixel for each tap.
#[inline(always)]
fn correlate<const FUSED: bool>(
    [above, here, below]: [&[f32]; 3],
    filter: &[f32],
    to: &mut [f32],
    (at, channels, row): (usize, usize, usize),
    count: usize,
) {
    let to = &mut to[..count];
    let (a0, a1, a2) = (&above[at..][..count], &above[at + channels..][..count], &above[at + 2 * channels..][..count]);
    let (h0, h1, h2) = (&here[at..][..count], &here[at + channels..][..count], &here[at + 2 * channels..][..count]);
    let (b0, b1, b2) = (&below[at..][..count], &below[at + channels..][..count], &below[at + 2 * channels..][..count]);
    let f: [&[f32]; TAPS] = std::array::from_fn(|tap| &filter[tap * row..][..count]);
    for i in 0..count {
        let mut sum = a0[i] * f[0][i];
        sum = multiply_add::<FUSED>(a1[i], f[1][i], sum);
        sum = multiply_add::<FUSED>(a2[i], f[2][i], sum);
        sum = multiply_add::<FUSED>(h0[i], f[3][i], sum);
        sum = multiply_add::<FUSED>(h1[i], f[4][i], sum);
        sum = multiply_add::<FUSED>(h2[i], f[5][i], sum);
        sum = multiply_add::<FUSED>(b0[i], f[6][i], sum);
        sum = multiply_add::<FUSED>(b1[i], f[7][i], sum);
        sum = multiply_add::<FUSED>(b2[i], f[8][i], sum);
        to[i] = sum;
    }
}

/// A filter by tap, left and right exchanged.
fn mirrored(filter: &[f32], row: usize) -> Vec<f32> {
    (0..TAPS).flat_map(|tap| filter[(tap / 3 * 3 + 2 - tap % 3) * row..][..row].iter().copied()).collect()
}

/// The gradient of a line of input from the three lines of output that it may be part of, by the tap's line; `filter`:
/// mirrored.
fn spread_line(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], shape: (usize, usize, usize)) {
    with_widest_vectors!(spread(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], shape: (usize, usize, usize)))
}

#[inline(always)]
fn spread<const FUSED: bool>(
    lines: [&[f32]; 3],
    filter: &[f32],
    to: &mut [f32],
    (channels, row, stride): (usize, usize, usize),
) {
    if stride == 1 {
        return convolved::<FUSED>(lines, filter, to, (channels, row, 1));
    }
    for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
        // With the padding before it. Pixels in between two places of the filter are under both, the others under one.
        let place = (pixel / 2 + 1) * channels;
        let middle = lines.map(|line| &line[place..][..channels]);
        let tap = |at: usize| &filter[at * row..][..channels];
        if pixel.is_multiple_of(2) {
            let (above, here, below) = (tap(1), tap(4), tap(7));
            for at in 0..channels {
                let sum = multiply_add::<FUSED>(middle[1][at], here[at], middle[0][at] * above[at]);
                to[at] = multiply_add::<FUSED>(middle[2][at], below[at], sum);
            }
        } else {
            let next = lines.map(|line| &line[place + channels..][..channels]);
            let (left, right) = ([tap(0), tap(3), tap(6)], [tap(2), tap(5), tap(8)]);
            for at in 0..channels {
                let mut sum = middle[0][at] * left[0][at];
                sum = multiply_add::<FUSED>(middle[1][at], left[1][at], sum);
                sum = multiply_add::<FUSED>(middle[2][at], left[2][at], sum);
                sum = multiply_add::<FUSED>(next[0][at], right[0][at], sum);
                sum = multiply_add::<FUSED>(next[1][at], right[1][at], sum);
                to[at] = multiply_add::<FUSED>(next[2][at], right[2][at], sum);
            }
        }
    }
}

/// Adds what a line of output's gradient says of the three taps that looked at a line of input. Both with their padding;
/// `(channels, width of the output, stride)`
fn add_taps(gradient: &[f32], input: &[f32], taps: &mut [f32], shape: (usize, usize, usize)) {
    if shape.0.is_multiple_of(16) {
        with_widest_vectors!(taps_16(gradient: &[f32], input: &[f32], taps: &mut [f32], shape: (usize, usize, usize)))
    } else {
        with_widest_vectors!(taps_8(gradient: &[f32], input: &[f32], taps: &mut [f32], shape: (usize, usize, usize)))
    }
}

#[inline(always)]
fn taps_16<const FUSED: bool>(gradient: &[f32], input: &[f32], taps: &mut [f32], shape: (usize, usize, usize)) {
    taps_of::<FUSED, 16>(gradient, input, taps, shape);
}

#[inline(always)]
fn taps_8<const FUSED: bool>(gradient: &[f32], input: &[f32], taps: &mut [f32], shape: (usize, usize, usize)) {
    taps_of::<FUSED, 8>(gradient, input, taps, shape);
}

#[inline(always)]
fn taps_of<const FUSED: bool, const LANES: usize>(
    gradient: &[f32],
    input: &[f32],
    taps: &mut [f32],
    (channels, width, stride): (usize, usize, usize),
) {
    for first in (0..channels).step_by(LANES) {
        let mut sums = [[0.0_f32; LANES]; 3];
        for pixel in 0..width {
            let gradient = &gradient[(pixel + 1) * channels + first..][..LANES];
            let input = &input[pixel * stride * channels + first..][..2 * channels + LANES];
            let (left, middle, right) = (&input[..LANES], &input[channels..][..LANES], &input[2 * channels..][..LANES]);
            for at in 0..LANES {
                sums[0][at] = multiply_add::<FUSED>(gradient[at], left[at], sums[0][at]);
                sums[1][at] = multiply_add::<FUSED>(gradient[at], middle[at], sums[1][at]);
                sums[2][at] = multiply_add::<FUSED>(gradient[at], right[at], sums[2][at]);
            }
        }
        for (tap, sums) in sums.iter().enumerate() {
            let taps = &mut taps[tap * channels + first..][..LANES];
            taps.iter_mut().zip(sums).for_each(|(tap, sum)| *tap += sum);
        }
    }
}
