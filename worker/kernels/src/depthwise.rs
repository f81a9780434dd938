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
    let filter = by_tap(filter);
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
            convolve_line(around, &filter, to, (shape.channels, shape.stride));
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
    let filter = mirrored(&by_tap(filter), shape.channels);
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
            spread_line(around, &filter, to, (shape.channels, shape.stride));
            for (tap, line) in around.into_iter().enumerate() {
                if parts[tap].is_some() {
                    let of_taps = &mut of_taps[tap * 3 * shape.channels..(tap + 1) * 3 * shape.channels];
                    add_taps(line, &normal, of_taps, width, (shape.channels, shape.stride));
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

/// A filter's values by tap: `[3, 3, channels]`.
fn by_tap(filter: &[f32]) -> Vec<f32> {
    (0..TAPS).flat_map(|tap| filter.iter().copied().skip(tap).step_by(TAPS)).collect()
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

/// A filter by tap, left and right exchanged.
fn mirrored(filter: &[f32], channels: usize) -> Vec<f32> {
    (0..TAPS).flat_map(|tap| filter[(tap / 3 * 3 + 2 - tap % 3) * channels..][..channels].iter().copied()).collect()
}

/// Calls one of two versions: for channels by 16, or by 8.
macro_rules! by_lanes {
    ($of:ident ( $($argument:ident : $type:ty),* $(,)? ) by $channels:expr) => {{
        #[inline(always)]
        fn sixteen<const FUSED: bool>($($argument: $type),*) {
            $of::<FUSED, 16>($($argument),*);
        }
        #[inline(always)]
        fn eight<const FUSED: bool>($($argument: $type),*) {
            $of::<FUSED, 8>($($argument),*);
        }
        if $channels.is_multiple_of(16) {
            with_widest_vectors!(sixteen($($argument: $type),*))
        } else {
            with_widest_vectors!(eight($($argument: $type),*))
        }
    }};
}

/// Channels, and pixels between two places of the filter.
type Steps = (usize, usize);

/// A line of output from three of input, which have their padding.
fn convolve_line(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], steps: Steps) {
    by_lanes!(convolved(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], steps: Steps) by steps.0)
}

#[inline(always)]
fn convolved<const FUSED: bool, const LANES: usize>(
    lines: [&[f32]; 3],
    filter: &[f32],
    to: &mut [f32],
    (channels, stride): Steps,
) {
    for first in (0..channels).step_by(LANES) {
        let filter: [[f32; LANES]; TAPS] = std::array::from_fn(|tap| lanes(filter, tap * channels + first));
        for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
            let at = pixel * stride * channels + first;
            let mut sum = [0.0; LANES];
            for (line, filter) in lines.into_iter().zip(filter.as_chunks::<3>().0) {
                let line = &line[at..][..2 * channels + LANES];
                for (tap, filter) in filter.iter().enumerate() {
                    add::<FUSED, LANES>(&lanes(line, tap * channels), filter, &mut sum);
                }
            }
            to[first..][..LANES].copy_from_slice(&sum);
        }
    }
}

/// The gradient of a line of input from the three lines of output that it may be part of, by the tap's line; `filter`:
/// mirrored.
fn spread_line(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], steps: Steps) {
    by_lanes!(spread(lines: [&[f32]; 3], filter: &[f32], to: &mut [f32], steps: Steps) by steps.0)
}

#[inline(always)]
fn spread<const FUSED: bool, const LANES: usize>(
    lines: [&[f32]; 3],
    filter: &[f32],
    to: &mut [f32],
    (channels, stride): Steps,
) {
    if stride == 1 {
        return convolved::<FUSED, LANES>(lines, filter, to, (channels, 1));
    }
    for first in (0..channels).step_by(LANES) {
        let filter: [[f32; LANES]; TAPS] = std::array::from_fn(|tap| lanes(filter, tap * channels + first));
        for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
            // With the padding before it. Pixels between two places of the filter are under both, the others under one.
            let place = (pixel / 2 + 1) * channels + first;
            let mut sum = [0.0; LANES];
            for (line, filter) in lines.into_iter().zip(filter.as_chunks::<3>().0) {
                let here = lanes(line, place);
                if pixel.is_multiple_of(2) {
                    add::<FUSED, LANES>(&here, &filter[1], &mut sum);
                } else {
                    add::<FUSED, LANES>(&here, &filter[0], &mut sum);
                    add::<FUSED, LANES>(&lanes(line, place + channels), &filter[2], &mut sum);
                }
            }
            to[first..][..LANES].copy_from_slice(&sum);
        }
    }
}

/// Adds what a line of output's gradient says of the three taps that looked at a line of input. Both with their padding.
fn add_taps(gradient: &[f32], input: &[f32], taps: &mut [f32], width: usize, steps: Steps) {
    by_lanes!(taps_of(gradient: &[f32], input: &[f32], taps: &mut [f32], width: usize, steps: Steps) by steps.0)
}

#[inline(always)]
fn taps_of<const FUSED: bool, const LANES: usize>(
    gradient: &[f32],
    input: &[f32],
    taps: &mut [f32],
    width: usize,
    (channels, stride): Steps,
) {
    for first in (0..channels).step_by(LANES) {
        let mut sums = [[0.0_f32; LANES]; 3];
        for pixel in 0..width {
            let gradient = lanes(gradient, (pixel + 1) * channels + first);
            let input = &input[pixel * stride * channels + first..][..2 * channels + LANES];
            for (tap, sum) in sums.iter_mut().enumerate() {
                add::<FUSED, LANES>(&gradient, &lanes(input, tap * channels), sum);
            }
        }
        for (tap, sums) in sums.iter().enumerate() {
            let taps = &mut taps[tap * channels + first..][..LANES];
            taps.iter_mut().zip(sums).for_each(|(tap, sum)| *tap += sum);
        }
    }
}

/// A vector's values from a place on.
#[inline(always)]
fn lanes<const LANES: usize>(values: &[f32], at: usize) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&values[at..][..LANES]);
    lanes
}

#[inline(always)]
fn add<const FUSED: bool, const LANES: usize>(one: &[f32; LANES], other: &[f32; LANES], sum: &mut [f32; LANES]) {
    for at in 0..LANES {
        sum[at] = multiply_add::<FUSED>(one[at], other[at], sum[at]);
    }
}
