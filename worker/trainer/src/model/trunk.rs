//! The convolutions at a network's start, on a CPU in f32: forward and backward by themselves, without autograd.
//!
//! libtorch convolves where matrices are multiplied; [`kernels`] does what only moves memory: statistics, normalising,
//! activation, and depthwise convolutions together with what stands before them. Kept for the way back is what each layer
//! has convolved, and what libtorch convolved it from.

use super::flat::{slice, values};
use super::{Bound, Mode, Model};
use crate::member::as_f64;
use crate::shim::{Geometry, convolution_backward};
use crate::threads::LibtorchThreads;
use anyhow::{Context, Result};
use kernels::depthwise::{self, Before, Behind, Shape};
use kernels::normalise::{Clamp, Line, Statistics, Sums, statistics};
use std::ops::Range;
use sweeps::network::{Connection, Convolution, Network, Operation, Source};
use sweeps::spec::model::{Activation, Precision};
use tch::{Device, Kind, Tensor};

/// A layer on the way forward: what it has convolved is still to be normalised and clamped. Its way back needs no more.
#[derive(Debug)]
pub(super) struct Layer {
    /// What libtorch convolved: f32, `[n, channels, height, width]`, channels last. None where [`depthwise`] did, from the
    /// layer before.
    input: Option<Tensor>,
    /// f32, `[n, height, width, channels]`.
    convolved: Tensor,
    line: Line,
    clamp: Clamp,
}

/// A gradient on the way back: f32, `[n, height, width, channels]`.
enum Gradient {
    /// By what came out of the activation.
    Behind(Tensor),
    /// By what went into it, with its sums.
    Within(Tensor, Sums),
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
    /// The trunk's output for f32 images `[n, 3, ρ, ρ]`, and its layers for the way back, if they are to be kept.
    pub(super) fn trunk(&mut self, images: Tensor, mode: Mode<'_>, keeps: bool) -> Result<(Tensor, Vec<Layer>)> {
        let mut layers: Vec<Layer> = Vec::with_capacity(self.trunk);
        for place in 0..self.trunk {
            let layer = match layers.last() {
                None => self.convolve_by_libtorch(place, images.shallow_clone(), mode)?,
                Some(before) => match self.known_shape(place, before) {
                    Some(shape) => self.convolve_depthwise(place, before, shape, mode)?,
                    None => self.convolve_by_libtorch(place, before.output()?, mode)?,
                },
            };
            if !keeps {
                layers.clear();
            }
            layers.push(layer);
        }
        let output = layers.last().map_or(Ok(images), Layer::output)?;
        Ok((output, layers))
    }

    fn convolve_by_libtorch(&mut self, place: usize, input: Tensor, mode: Mode<'_>) -> Result<Layer> {
        let (convolution, bound) = self.convolution(place)?;
        let convolved = channels_last(&convolve(&input, self.leaf(bound.weight)?, geometry(&convolution))?);
        let channels = usize::try_from(convolution.channels)?;
        let measure = || statistics(&LibtorchThreads, values(&convolved), channels);
        let line = self.line(bound, mode, convolved.numel(), measure)?;
        Ok(Layer { input: Some(input), convolved, line, clamp: self.clamp(&convolution) })
    }

    fn convolve_depthwise(&mut self, place: usize, before: &Layer, shape: Shape, mode: Mode<'_>) -> Result<Layer> {
        let (convolution, bound) = self.convolution(place)?;
        let (height, width) = shape.output();
        let size = [shape.images, height, width, shape.channels].map(|side| i64::try_from(side).unwrap_or(i64::MAX));
        let mut convolved = Tensor::f_empty(size, (Kind::Float, Device::Cpu))?;
        let filter = &values(&self.flat.weights)[self.range(bound.weight)?];
        let known = depthwise::forward(&LibtorchThreads, shape, before.as_before(), filter, slice(&mut convolved));
        let line = self.line(bound, mode, convolved.numel(), || known)?;
        Ok(Layer { input: None, convolved, line, clamp: self.clamp(&convolution) })
    }

    /// The shape of what comes into a depthwise layer, if it is one of those that are computed here.
    fn known_shape(&self, place: usize, before: &Layer) -> Option<Shape> {
        let (convolution, _) = self.convolution(place).ok()?;
        let [images, height, width, channels] = before.convolved.size()[..] else { return None };
        let side = |side: i64| usize::try_from(side).ok();
        let shape = Shape {
            images: side(images)?,
            height: side(height)?,
            width: side(width)?,
            channels: side(channels)?,
            stride: usize::try_from(convolution.stride).ok()?,
        };
        let is_known = convolution.connection == Connection::Depthwise && convolution.kernel == 3 && shape.is_known();
        (is_known && before.input.is_some()).then_some(shape)
    }

    /// From the gradient of the trunk's output to that of its parameters, in the flat buffer.
    pub(super) fn trunk_backward(&mut self, gradient: &Tensor, mut layers: Vec<Layer>) -> Result<()> {
        let mut gradient = Gradient::Behind(channels_last(gradient));
        while let Some(layer) = layers.pop() {
            let place = layers.len();
            let (convolution, bound) = self.convolution(place)?;
            gradient = match (&layer.input, layers.last(), gradient) {
                (None, Some(before), Gradient::Behind(gradient)) => {
                    let shape = self.known_shape(place, before).context("a layer's shape has changed")?;
                    let behind = layer.as_behind(&gradient);
                    let filter = &values(&self.flat.weights)[self.range(bound.weight)?];
                    let mut within = before.convolved.f_empty_like()?;
                    let to = slice(&mut within);
                    let found = depthwise::backward(&LibtorchThreads, shape, before.as_before(), behind, filter, to);
                    self.put_gradient(bound.weight, &found.filter)?;
                    self.put_gradient(bound.scale, &found.behind.scale)?;
                    self.put_gradient(bound.shift, &found.behind.shift)?;
                    Gradient::Within(within, found.before)
                }
                (Some(input), _, gradient) => {
                    let Layer { convolved, line, clamp, .. } = &layer;
                    let (of, gradient) = match gradient {
                        Gradient::Behind(mut gradient) => {
                            let within = slice(&mut gradient);
                            (line.differentiate(&LibtorchThreads, *clamp, values(convolved), within), gradient)
                        }
                        Gradient::Within(mut gradient, sums) => {
                            let within = slice(&mut gradient);
                            (line.turn(&LibtorchThreads, &sums, values(convolved), within), gradient)
                        }
                    };
                    self.put_gradient(bound.scale, &of.scale)?;
                    self.put_gradient(bound.shift, &of.shift)?;
                    let gradient = gradient.permute([0, 3, 1, 2]);
                    let (weight, geometry) = (self.leaf(bound.weight)?, geometry(&convolution));
                    let (of_input, of_weight) = convolution_backward(&gradient, input, weight, geometry, place > 0)?;
                    let segment = &self.layout.segments[bound.weight.context("a convolution without weight")?];
                    segment.view(&self.flat.gradient).copy_(&of_weight);
                    let Some(of_input) = of_input else { break };
                    Gradient::Behind(channels_last(&of_input))
                }
                _ => anyhow::bail!("layer {place} of the trunk has nothing to be computed from"),
            };
        }
        Ok(())
    }

    /// What normalising comes to: by this batch's statistics, which move the running ones, or by the running ones.
    fn line(
        &mut self,
        bound: Bound,
        mode: Mode<'_>,
        values_seen: usize,
        measure: impl FnOnce() -> Statistics,
    ) -> Result<Line> {
        let of = &self.layout.statistics[bound.statistic.context("a layer without statistics")?];
        let running = &mut slice(&mut self.statistics)[of.offset..of.offset + 2 * of.channels];
        let (mean, variance) = running.split_at_mut(of.channels);
        let known = match mode {
            Mode::Train { decay, .. } | Mode::Estimate { decay } => {
                let batch = measure();
                // As libtorch has it: kept is the variance over n − 1.
                let count = as_f64(u64::try_from(values_seen / of.channels.max(1))?);
                let unbiased = count / (count - 1.0).max(1.0);
                move_towards(mean, &batch.mean, 1.0, decay);
                move_towards(variance, &batch.variance, unbiased, decay);
                batch
            }
            Mode::Evaluate => Statistics { mean: mean.to_vec(), variance: variance.to_vec() },
        };
        let weights = values(&self.flat.weights);
        let (scale, shift) = (self.range(bound.scale)?, self.range(bound.shift)?);
        Ok(Line::new(&known, &weights[scale], &weights[shift], self.settings.epsilon))
    }

    fn convolution(&self, place: usize) -> Result<(Convolution, Bound)> {
        match &self.network.layers[place].operation {
            Operation::Convolution(convolution) => Ok((*convolution, self.layers[place])),
            _ => anyhow::bail!("layer {place} of the trunk is no convolution"),
        }
    }

    fn leaf(&self, index: Option<usize>) -> Result<&Tensor> {
        index.and_then(|index| self.leaves.get(index)).context("a convolution without weight")
    }

    /// Where a parameter lies in the flat buffers.
    fn range(&self, index: Option<usize>) -> Result<Range<usize>> {
        let segment = index.and_then(|index| self.layout.segments.get(index)).context("a layer without a parameter")?;
        Ok(segment.offset..segment.offset + segment.len)
    }

    fn put_gradient(&mut self, index: Option<usize>, values: &[f32]) -> Result<()> {
        let range = self.range(index)?;
        slice(&mut self.flat.gradient)[range].copy_from_slice(values);
        Ok(())
    }

    fn clamp(&self, convolution: &Convolution) -> Clamp {
        match (convolution.activation, self.settings.activation) {
            (false, _) => Clamp::NONE,
            (true, Activation::Relu6) => Clamp::RELU6,
            (true, Activation::Relu) => Clamp::RELU,
        }
    }
}

impl Layer {
    /// Normalised and clamped: `[n, channels, height, width]`.
    fn output(&self) -> Result<Tensor> {
        let mut output = self.convolved.f_empty_like()?;
        self.line.apply(&LibtorchThreads, self.clamp, values(&self.convolved), slice(&mut output));
        Ok(output.permute([0, 3, 1, 2]))
    }

    fn as_before(&self) -> Before<'_> {
        Before { convolved: values(&self.convolved), line: &self.line, clamp: self.clamp }
    }

    fn as_behind<'a>(&'a self, gradient: &'a Tensor) -> Behind<'a> {
        Behind { convolved: values(&self.convolved), line: &self.line, clamp: self.clamp, gradient: values(gradient) }
    }
}

pub(super) fn geometry(convolution: &Convolution) -> Geometry {
    let groups = match convolution.connection {
        Connection::Full => 1,
        Connection::Depthwise => i64::from(convolution.channels),
    };
    Geometry { stride: i64::from(convolution.stride), padding: i64::from((convolution.kernel - 1) / 2), groups }
}

/// By oneDNN where there is one. Left to itself, libtorch takes a slow product of matrices instead for fewer than 16 images
/// on one thread, such as an epoch's last ones.
fn convolve(input: &Tensor, weight: &Tensor, Geometry { stride, padding, groups }: Geometry) -> Result<Tensor> {
    let bias = None::<&Tensor>;
    Ok(if tch::utils::has_mkldnn() {
        input.f_mkldnn_convolution(weight, bias, [padding; 2], [stride; 2], [1; 2], groups)?
    } else {
        input.f_conv2d(weight, bias, stride, padding, 1_i64, groups)?
    })
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

#[cfg(test)]
mod tests {
    use super::super::tests::images;
    use super::*;
    use sweeps::spec::model::Variant;

    /// The trunk by itself and by autograd: the same but for rounding. Now and then a value lies so near an activation's
    /// edge that rounding decides whether its gradient passes; so the best of several batches counts.
    #[test]
    fn the_trunk_computes_what_autograd_does() {
        for (variant, activation) in
            [(Variant::Mobilenet, "relu6"), (Variant::ShallowMobilenet, "relu"), (Variant::ConvMobilenet, "relu6")]
        {
            let training = serde_json::json!({"epochs": 1, "dropout": 0.2, "activation": activation});
            let training = serde_json::from_value(training).unwrap();
            let of = |count: u8, with_trunk: bool| {
                let network = Network::new(variant, 0.25, 32, 10).unwrap();
                let mut model = Model::new(network, &training, 1, Device::Cpu).unwrap();
                assert!(model.trunk > 10, "{variant:?} {}", model.trunk);
                if !with_trunk {
                    model.trunk = 0;
                }
                let (images, labels) = images(count);
                let samples: Vec<u32> = (0..u32::from(count)).collect();
                let masks = model.dropout_masks(0, &samples);
                let mode = Mode::Train { masks: &masks, decay: 0.9 };
                let (loss, right) = model.gradient(&images, &labels, mode).unwrap();
                let logits = model.logits(&images, Mode::Evaluate).unwrap();
                [loss, right, model.flat.gradient.copy(), model.statistics.copy(), logits]
            };
            let difference = |count: u8| -> f64 {
                let pairs = of(count, true).into_iter().zip(of(count, false));
                let relative = pairs.map(|(own, autograd)| (own - &autograd).norm() / autograd.norm());
                relative.map(|ratio| ratio.double_value(&[])).fold(0.0, f64::max)
            };
            let best = [64, 48, 40, 56].map(difference).into_iter().fold(f64::INFINITY, f64::min);
            assert!(best < 1e-3, "{variant:?}: they differ by {best}");
        }
    }
}
