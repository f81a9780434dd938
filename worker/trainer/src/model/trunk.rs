//! The convolutions at a network's start, on a CPU in f32: forward and backward by themselves, without autograd.
//!
//! libtorch convolves; everything between two convolutions (statistics, normalising, activation) is one pass of
//! [`kernels`] instead of three, and its gradient two instead of four. What is kept for the way back is each
//! convolution's input and output.

use super::flat::{slice, values};
use super::{Bound, Mode, Model};
use crate::shim::{Geometry, convolution_backward};
use crate::threads::LibtorchThreads;
use anyhow::{Context, Result};
use kernels::normalise::{Clamp, Line, Statistics, statistics};
use sweeps::network::{Connection, Convolution, Network, Operation, Source};
use sweeps::spec::model::{Activation, Precision};
use tch::{Device, Tensor};

/// What one layer's way back needs.
#[derive(Debug)]
pub(super) struct Kept {
    place: usize,
    /// f32, `[n, channels, height, width]`, channels last.
    input: Tensor,
    /// The convolution's output: f32, `[n, height, width, channels]`.
    convolved: Tensor,
    line: Line,
}

/// How many layers from the first on are convolutions with BatchNorm of which each reads the one before, and nothing else
/// reads it. None where libtorch does better: on a GPU, or in bf16.
pub(super) fn length(network: &Network, device: Device, precision: Precision) -> usize {
    if device != Device::Cpu || precision != Precision::F32 {
        return 0;
    }
    let read_by =
        |place: usize| network.layers.iter().filter(|layer| layer.inputs.contains(&Source::Layer(place))).count();
    let mut length = 0;
    for (place, layer) in network.layers.iter().enumerate() {
        let before = place.checked_sub(1).map_or(Source::Image, Source::Layer);
        let is_alone = layer.inputs == [before] && place.checked_sub(1).is_none_or(|before| read_by(before) == 1);
        let Operation::Convolution(convolution) = &layer.operation else { break };
        if !(is_alone && convolution.batch_norm && !convolution.bias) {
            break;
        }
        length += 1;
    }
    length
}

impl Model {
    /// The trunk's output for f32 images `[n, 3, ρ, ρ]`; what the way back needs goes to `kept`, where there is one.
    pub(super) fn trunk(&mut self, images: Tensor, mode: Mode<'_>, mut kept: Option<&mut Vec<Kept>>) -> Result<Tensor> {
        let mut input = images;
        for place in 0..self.trunk {
            let (convolution, bound) = self.convolution(place)?;
            let geometry = geometry(&convolution);
            let weight = self.leaf(bound.weight)?;
            let Geometry { stride, padding, groups } = geometry;
            let convolved = input.f_conv2d(weight, None::<&Tensor>, stride, padding, 1_i64, groups)?;
            let mut convolved = channels_last(&convolved);
            let line = self.line(bound, &convolved, mode)?;
            let clamp = self.clamp(&convolution);
            let output = match &mut kept {
                Some(kept) => {
                    let mut output = convolved.f_empty_like()?;
                    line.apply(&LibtorchThreads, clamp, values(&convolved), slice(&mut output));
                    kept.push(Kept { place, input, convolved, line });
                    output
                }
                None => {
                    line.apply_in_place(&LibtorchThreads, clamp, slice(&mut convolved));
                    convolved
                }
            };
            input = output.permute([0, 3, 1, 2]);
        }
        Ok(input)
    }

    /// From the gradient of the trunk's output to that of its parameters, in the flat buffer.
    pub(super) fn trunk_backward(&mut self, gradient: &Tensor, kept: Vec<Kept>) -> Result<()> {
        let mut gradient = channels_last(gradient);
        for Kept { place, input, convolved, line } in kept.into_iter().rev() {
            let (convolution, bound) = self.convolution(place)?;
            let clamp = self.clamp(&convolution);
            let of = line.differentiate(&LibtorchThreads, clamp, values(&convolved), slice(&mut gradient));
            drop(convolved);
            let flat = slice(&mut self.flat.gradient);
            for (index, values) in [(bound.scale, &of.scale), (bound.shift, &of.shift)] {
                let segment = &self.layout.segments[index.context("a layer without scale or shift")?];
                flat[segment.offset..segment.offset + segment.len].copy_from_slice(values);
            }
            let gradient_of_output = gradient.permute([0, 3, 1, 2]);
            let weight = self.leaf(bound.weight)?;
            let wants_input = place > 0;
            let (of_input, of_weight) =
                convolution_backward(&gradient_of_output, &input, weight, geometry(&convolution), wants_input)?;
            let segment = &self.layout.segments[bound.weight.context("a convolution without weight")?];
            segment.view(&self.flat.gradient).copy_(&of_weight);
            if let Some(of_input) = of_input {
                gradient = channels_last(&of_input);
            }
        }
        Ok(())
    }

    /// What normalising comes to: by this batch's statistics, which move the running ones, or by the running ones.
    fn line(&mut self, bound: Bound, convolved: &Tensor, mode: Mode<'_>) -> Result<Line> {
        let of = &self.layout.statistics[bound.statistic.context("a layer without statistics")?];
        let running = &mut slice(&mut self.statistics)[of.offset..of.offset + 2 * of.channels];
        let (mean, variance) = running.split_at_mut(of.channels);
        let known = match mode {
            Mode::Train { decay, .. } | Mode::Estimate { decay } => {
                let values = values(convolved);
                let batch = statistics(&LibtorchThreads, values, of.channels);
                // As libtorch has it: kept is the variance over n − 1.
                let count = (values.len() / of.channels.max(1)) as f64;
                let unbiased = count / (count - 1.0).max(1.0);
                move_towards(mean, &batch.mean, 1.0, decay);
                move_towards(variance, &batch.variance, unbiased, decay);
                batch
            }
            Mode::Evaluate => Statistics { mean: mean.to_vec(), variance: variance.to_vec() },
        };
        let weights = values(&self.flat.weights);
        let segment = |index: Option<usize>| {
            let segment = &self.layout.segments[index.context("a layer without scale or shift")?];
            anyhow::Ok(&weights[segment.offset..segment.offset + segment.len])
        };
        Ok(Line::new(&known, segment(bound.scale)?, segment(bound.shift)?, self.settings.epsilon))
    }

    fn convolution(&self, place: usize) -> Result<(Convolution, Bound)> {
        match &self.network.layers[place].operation {
            Operation::Convolution(convolution) => Ok((convolution.clone(), self.layers[place])),
            _ => anyhow::bail!("layer {place} of the trunk is no convolution"),
        }
    }

    fn leaf(&self, index: Option<usize>) -> Result<&Tensor> {
        index.and_then(|index| self.leaves.get(index)).context("a convolution without weight")
    }

    fn clamp(&self, convolution: &Convolution) -> Clamp {
        match (convolution.activation, self.settings.activation) {
            (false, _) => Clamp::NONE,
            (true, Activation::Relu6) => Clamp::RELU6,
            (true, Activation::Relu) => Clamp::RELU,
        }
    }
}

fn geometry(convolution: &Convolution) -> Geometry {
    let groups = match convolution.connection {
        Connection::Full => 1,
        Connection::Depthwise => i64::from(convolution.channels),
    };
    Geometry { stride: i64::from(convolution.stride), padding: i64::from((convolution.kernel - 1) / 2), groups }
}

/// `[n, channels, height, width]` as contiguous `[n, height, width, channels]`: a view where it lies so already.
fn channels_last(tensor: &Tensor) -> Tensor {
    tensor.permute([0, 2, 3, 1]).contiguous()
}

#[expect(clippy::cast_possible_truncation, reason = "statistics are f32")]
fn move_towards(running: &mut [f32], batch: &[f32], factor: f64, decay: f64) {
    for (running, batch) in running.iter_mut().zip(batch) {
        *running = (decay * f64::from(*running) + (1.0 - decay) * factor * f64::from(*batch)) as f32;
    }
}
