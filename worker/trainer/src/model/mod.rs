//! The libtorch module: a fold over the network's list of layers, with nothing of it stated again.

pub mod flat;
mod trunk;

use crate::random;
use crate::shim::Geometry;
use anyhow::Result;
use flat::{Flat, Layout, Role};
use sweeps::network::{Convolution, Network, Operation, Pooling, Source};
use sweeps::spec::model::{Activation, Precision, Training};
use tch::{Device, Kind, Tensor};

/// A network with its parameters, trained on one device.
#[derive(Debug)]
pub struct Model {
    network: Network,
    layout: Layout,
    flat: Flat,
    statistics: Tensor,
    /// The statistics that were evaluated last, where they were estimated anew for it and nothing was trained since.
    evaluated: Option<Tensor>,
    /// Leaf views of the flat weights whose gradients are views of the flat gradient, by segment.
    leaves: Vec<Tensor>,
    layers: Vec<Bound>,
    /// So many layers from the first on are computed without autograd.
    trunk: usize,
    settings: Settings,
}

/// Which leaves and statistics a layer uses.
#[derive(Clone, Copy, Debug, Default)]
struct Bound {
    weight: Option<usize>,
    bias: Option<usize>,
    scale: Option<usize>,
    shift: Option<usize>,
    statistic: Option<usize>,
    /// Among the layers of dropout.
    dropout: Option<usize>,
}

/// What of the training settings the forward pass needs.
#[derive(Clone, Copy, Debug)]
struct Settings {
    seed: u64,
    activation: Activation,
    precision: Precision,
    dropout: f64,
    label_smoothing: f64,
    epsilon: f64,
}

/// What the forward pass does besides computing logits.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Batch statistics, which move the running ones by `1 − decay`; dropout.
    Train {
        /// As [`Model::dropout_masks`] gives them, on the device.
        masks: &'a [Tensor],
        /// Of the running statistics.
        decay: f64,
    },
    /// Batch statistics alone, which move the running ones by `1 − decay`: to estimate them anew.
    Estimate {
        /// Of the running statistics.
        decay: f64,
    },
    /// Running statistics.
    Evaluate,
}

impl Model {
    /// A network with seeded weights: truncated normals for filters and the classifier, scales of 1, shifts
    /// and biases of 0.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn new(network: Network, training: &Training, seed: u64, device: Device) -> Result<Self> {
        let layout = Layout::new(&network);
        let flat = Flat::zeros(layout.len, device, training.weight_ema.is_some())?;
        let leaves = leaves(&layout, &flat);
        let layers = bind(&network, &layout);
        let statistics = Tensor::zeros([signed(layout.statistics_len)], (Kind::Float, device));
        for statistic in &layout.statistics {
            let _ = statistic.views(&statistics).1.fill_(1.0);
        }
        let settings = Settings {
            seed,
            activation: training.activation,
            precision: training.precision,
            dropout: training.dropout,
            label_smoothing: training.label_smoothing,
            epsilon: training.batch_norm.epsilon,
        };
        let trunk = trunk::length(&network, device, settings.precision);
        let mut model = Self { network, layout, flat, statistics, evaluated: None, leaves, layers, trunk, settings };
        model.initialise(training.init_std);
        Ok(model)
    }

    fn initialise(&mut self, std: f64) {
        let _no_grad = tch::no_grad_guard();
        for segment in &self.layout.segments {
            let mut view = segment.view(&self.flat.weights);
            match segment.role {
                Role::Weight | Role::Depthwise => {
                    let mut generator = random::generator(self.settings.seed, &format!("init/{}", segment.name));
                    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                    let values: Vec<f32> =
                        (0..segment.len).map(|_| (std * random::truncated_normal(&mut generator)) as f32).collect();
                    view.copy_(&Tensor::from_slice(&values).view(&segment.shape[..]));
                }
                Role::Scale => {
                    let _ = view.fill_(1.0);
                }
                Role::Shift => {}
            }
        }
        if let Some(average) = &mut self.flat.average {
            average.copy_(&self.flat.weights);
        }
    }

    /// Which parameter lies where.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The flat buffers.
    #[must_use]
    pub fn flat(&self) -> &Flat {
        &self.flat
    }

    /// BatchNorm's running statistics, flat.
    pub fn statistics(&self) -> &Tensor {
        &self.statistics
    }

    /// The statistics that were evaluated last, flat, where they are not [`Model::statistics`].
    #[must_use]
    pub fn evaluated(&self) -> Option<&Tensor> {
        self.evaluated.as_ref()
    }

    /// Keeps a copy of the statistics as those that were evaluated, until something is trained.
    pub fn keep_evaluated(&mut self) {
        self.evaluated = Some(self.statistics.copy());
    }

    /// Something was trained elsewhere: what was evaluated is not what there is any more.
    pub fn forget_evaluated(&mut self) {
        self.evaluated = None;
    }

    /// The flat buffers and their layout, to update them.
    pub fn parts(&mut self) -> (&mut Flat, &Layout) {
        (&mut self.flat, &self.layout)
    }

    /// Mean cross-entropy of a batch with its gradient in the flat buffer. Gives the loss and how many samples were
    /// classified right, both still on the device.
    ///
    /// `images`: u8, `[n, ρ, ρ, 3]`; `labels`: i64, `[n]`.
    ///
    /// # Errors
    /// When libtorch cannot compute it, as for want of memory.
    pub fn gradient(&mut self, images: &Tensor, labels: &Tensor, mode: Mode<'_>) -> Result<(Tensor, Tensor)> {
        self.clear_gradient();
        self.evaluated = None;
        let (trunk, layers) = tch::no_grad(|| self.trunk(self.input(images), mode, true))?;
        let trunk = if self.trunk > 0 { trunk.set_requires_grad(true) } else { trunk };
        let logits = self.rest(&trunk, mode);
        let loss = logits.cross_entropy_loss::<Tensor>(
            labels,
            None,
            tch::Reduction::Mean,
            -100,
            self.settings.label_smoothing,
        );
        loss.f_backward()?;
        if self.trunk > 0 {
            tch::no_grad(|| self.trunk_backward(&trunk.grad(), layers))?;
        }
        let right = tch::no_grad(|| logits.argmax(-1, false).eq_tensor(labels).sum(Kind::Double));
        Ok((loss.detach(), right))
    }

    /// Zeroes what autograd adds to. The trunk writes its own part anew.
    fn clear_gradient(&mut self) {
        if self.trunk == 0 {
            let _ = self.flat.gradient.zero_();
            return;
        }
        for Bound { weight, bias, scale, shift, .. } in &self.layers[self.trunk..] {
            for index in [weight, bias, scale, shift].into_iter().copied().flatten() {
                let _ = self.layout.segments[index].view(&self.flat.gradient).zero_();
            }
        }
    }

    /// Logits in f32, `[n, classes]`, of u8 images `[n, ρ, ρ, 3]`, without gradients.
    ///
    /// # Errors
    /// When libtorch cannot compute it, as for want of memory.
    pub fn logits(&mut self, images: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let (trunk, _) = self.trunk(self.input(images), mode, false)?;
        Ok(self.rest(&trunk, mode))
    }

    /// [0, 255] to [−1, 1]; the NHWC buffer seen as NCHW keeps its strides, which are channels-last.
    fn input(&self, images: &Tensor) -> Tensor {
        self.cast(&(images.to_kind(Kind::Float) * (1.0 / 127.5) - 1.0).permute([0, 3, 1, 2]))
    }

    /// The layers after the trunk, for its output.
    fn rest(&self, trunk: &Tensor, mode: Mode<'_>) -> Tensor {
        let mut uses = self.uses();
        let mut outputs: Vec<Option<Tensor>> = vec![];
        outputs.resize_with(self.trunk, || None);
        if let Some(last) = outputs.last_mut() {
            *last = Some(trunk.shallow_clone());
        }
        for (place, layer) in self.network.layers.iter().enumerate().skip(self.trunk) {
            let read = |source: &Source| match source {
                Source::Image => Some(trunk),
                Source::Layer(index) => outputs.get(*index).and_then(Option::as_ref),
            };
            // Shape inference has proved that every input is an earlier layer.
            let inputs: Vec<&Tensor> = layer.inputs.iter().filter_map(read).collect();
            let output = self.apply(place, &layer.operation, &inputs, mode);
            outputs.push(Some(output));
            for source in &layer.inputs {
                if let Source::Layer(index) = source {
                    uses[*index] -= 1;
                    if uses[*index] == 0 {
                        outputs[*index] = None;
                    }
                }
            }
        }
        let logits = outputs.pop().flatten().unwrap_or_else(|| trunk.shallow_clone());
        logits.flatten(1, -1).to_kind(Kind::Float)
    }

    /// How often each layer's output is read.
    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.network.layers.len()];
        for source in self.network.layers.iter().flat_map(|layer| &layer.inputs) {
            if let Source::Layer(index) = source {
                uses[*index] += 1;
            }
        }
        uses
    }

    fn apply(&self, place: usize, operation: &Operation, inputs: &[&Tensor], mode: Mode<'_>) -> Tensor {
        let input = inputs[0];
        match operation {
            Operation::Convolution(convolution) => self.convolve(place, convolution, input, mode),
            Operation::Pool { pooling, kernel, stride } => {
                let (kernel, stride) = (i64::from(*kernel), i64::from(*stride));
                let padding = (kernel - 1) / 2;
                match pooling {
                    Pooling::Maximum => input.max_pool2d(kernel, stride, padding, 1, true),
                    Pooling::Average => input.avg_pool2d(kernel, stride, padding, true, false, None::<i64>),
                }
            }
            Operation::GlobalAveragePool => input.mean_dim([2_i64, 3].as_slice(), true, None::<Kind>),
            Operation::Concatenate => Tensor::cat(inputs, 1),
            Operation::Dropout => match mode {
                Mode::Train { masks, .. } => match self.layers[place].dropout.and_then(|index| masks.get(index)) {
                    Some(mask) => input * mask.to_kind(input.kind()),
                    None => input.shallow_clone(),
                },
                Mode::Estimate { .. } | Mode::Evaluate => input.shallow_clone(),
            },
            Operation::Dense { .. } => {
                let bound = self.layers[place];
                let flat = input.flatten(1, -1);
                let bias = bound.bias.map(|index| self.cast(&self.leaves[index]));
                match bound.weight {
                    Some(index) => flat.linear(&self.cast(&self.leaves[index]), bias.as_ref()),
                    None => flat,
                }
            }
        }
    }

    fn convolve(&self, place: usize, convolution: &Convolution, input: &Tensor, mode: Mode<'_>) -> Tensor {
        let bound = self.layers[place];
        let Some(weight) = bound.weight.map(|index| self.cast(&self.leaves[index])) else {
            return input.shallow_clone();
        };
        let bias = bound.bias.map(|index| self.cast(&self.leaves[index]));
        let Geometry { stride, padding, groups } = trunk::geometry(convolution);
        let mut output = input.conv2d(&weight, bias.as_ref(), stride, padding, 1_i64, groups);
        if let (Some(scale), Some(shift), Some(statistic)) = (bound.scale, bound.shift, bound.statistic) {
            let (mean, variance) = self.layout.statistics[statistic].views(&self.statistics);
            let (batch_statistics, momentum) = match mode {
                Mode::Train { decay, .. } | Mode::Estimate { decay } => (true, 1.0 - decay),
                Mode::Evaluate => (false, 0.0),
            };
            output = output.batch_norm(
                Some(&self.leaves[scale]),
                Some(&self.leaves[shift]),
                Some(&mean),
                Some(&variance),
                batch_statistics,
                momentum,
                self.settings.epsilon,
                true,
            );
        }
        if convolution.activation {
            output = match self.settings.activation {
                Activation::Relu6 => output.relu6_(),
                Activation::Relu => output.relu_(),
            };
        }
        output
    }

    /// What each layer of dropout multiplies a training batch by: 0 with the setting's probability, else such a factor that
    /// the mean stays. A pure function of seed, step, sample and channel: f32, `[n, channels, 1, 1]`, on the CPU. Nothing
    /// where nothing is dropped.
    #[must_use]
    pub fn dropout_masks(&self, step: u64, samples: &[u32]) -> Vec<Tensor> {
        if self.settings.dropout <= 0.0 {
            return Vec::new();
        }
        let layers = self.network.layers.iter().zip(&self.network.outputs);
        let channels =
            layers.filter(|(layer, _)| layer.operation == Operation::Dropout).map(|(_, output)| output.channels);
        channels.map(|channels| self.dropout_mask(channels, step, samples)).collect()
    }

    fn dropout_mask(&self, channels: u32, step: u64, samples: &[u32]) -> Tensor {
        #[expect(clippy::cast_possible_truncation, reason = "a factor of activations")]
        let kept = (1.0 / (1.0 - self.settings.dropout)) as f32;
        let mut mask = Vec::with_capacity(samples.len() * usize::try_from(channels).unwrap_or(0));
        for sample in samples {
            for channel in 0..u64::from(channels) {
                let draw = random::hashed_uniform(self.settings.seed, step, u64::from(*sample), channel);
                mask.push(if draw < self.settings.dropout { 0.0 } else { kept });
            }
        }
        Tensor::from_slice(&mask).view([signed(samples.len()), i64::from(channels), 1, 1])
    }

    fn cast(&self, tensor: &Tensor) -> Tensor {
        match self.settings.precision {
            Precision::F32 => tensor.shallow_clone(),
            Precision::Bf16 => tensor.to_kind(Kind::BFloat16),
        }
    }
}

/// Leaves whose gradients autograd adds straight into the flat gradient.
fn leaves(layout: &Layout, flat: &Flat) -> Vec<Tensor> {
    let leaves: Vec<Tensor> =
        layout.segments.iter().map(|segment| segment.view(&flat.weights).set_requires_grad(true)).collect();
    // A gradient exists after a first backward pass; from then on it is a view of the flat one.
    let sums: Vec<Tensor> = leaves.iter().map(|leaf| leaf.sum(Kind::Float)).collect();
    Tensor::stack(&sums, 0).sum(Kind::Float).backward();
    for (leaf, segment) in leaves.iter().zip(&layout.segments) {
        leaf.grad().set_data(&segment.view(&flat.gradient));
    }
    leaves
}

/// Finds each layer's parameters by name, once.
fn bind(network: &Network, layout: &Layout) -> Vec<Bound> {
    let mut masks = 0..;
    network
        .layers
        .iter()
        .map(|layer| {
            let segment = |part: &str| {
                let name = format!("{}.{part}", layer.name);
                layout.segments.iter().position(|segment| segment.name == name)
            };
            let statistic = format!("{}.batch_norm", layer.name);
            Bound {
                weight: segment("weight"),
                bias: segment("bias"),
                scale: segment("batch_norm.scale"),
                shift: segment("batch_norm.shift"),
                statistic: layout.statistics.iter().position(|known| known.name == statistic),
                dropout: (layer.operation == Operation::Dropout).then(|| masks.next()).flatten(),
            }
        })
        .collect()
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweeps::spec::model::Variant;

    fn model(json: serde_json::Value) -> Model {
        let training = serde_json::from_value(json).unwrap();
        let network = Network::new(Variant::Mobilenet, 0.25, 32, 10).unwrap();
        Model::new(network, &training, 1, Device::Cpu).unwrap()
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    pub(in crate::model) fn images(count: u8) -> (Tensor, Tensor) {
        let noise = |at| (random::hashed_uniform(5, 0, 0, at) * 256.0) as u8;
        let bytes: Vec<u8> = (0..u64::from(count) * 32 * 32 * 3).map(noise).collect();
        let labels: Vec<i64> = (0..count).map(|at| i64::from(at % 10)).collect();
        (Tensor::from_slice(&bytes).view([i64::from(count), 32, 32, 3]), Tensor::from_slice(&labels))
    }

    #[test]
    fn gradients_add_up_in_the_flat_buffer() {
        let mut model = model(serde_json::json!({"epochs": 1}));
        let (images, labels) = images(4);
        let masks = model.dropout_masks(0, &[0, 1, 2, 3]);
        let mode = Mode::Train { masks: &masks, decay: 0.9 };
        let (loss, _) = model.gradient(&images, &labels, mode).unwrap();
        assert!(loss.double_value(&[]).is_finite());
        for (leaf, segment) in model.leaves.iter().zip(&model.layout.segments) {
            let expected = segment.view(&model.flat.gradient);
            assert_eq!(leaf.grad(), expected, "{}", segment.name);
            assert_eq!(leaf.grad().data_ptr(), expected.data_ptr(), "{}", segment.name);
        }
        let norm = model.flat.gradient.norm().double_value(&[]);
        let _ = model.gradient(&images, &labels, mode).unwrap();
        let again = model.flat.gradient.norm().double_value(&[]);
        assert!(norm > 0.0 && (norm - again).abs() < 1e-4 * norm, "each step begins at zero: {norm}, {again}");
    }

    /// The slope along a direction, by the gradient and by two evaluations of the loss.
    #[test]
    fn the_gradient_is_the_slope() {
        let mut model = model(serde_json::json!({"epochs": 1, "dropout": 0}));
        let (images, labels) = images(64);
        let mode = Mode::Train { masks: &[], decay: 0.9 };
        let _ = model.gradient(&images, &labels, mode).unwrap();
        let direction = &model.flat.gradient / model.flat.gradient.norm();
        let slope = model.flat.gradient.norm().double_value(&[]);
        let start = model.flat.weights.copy();
        let mut loss_at = |distance: f64| {
            tch::no_grad(|| model.flat.weights.copy_(&(&start + &direction * distance)));
            model.gradient(&images, &labels, mode).unwrap().0.double_value(&[])
        };
        // Short enough for the slope to hold: BatchNorm, whose last means are over 64 values, makes it steep.
        let step = 0.002 / slope;
        let measured = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        assert!((measured - slope).abs() < 0.02 * slope, "{measured} is not {slope}");
    }

    #[test]
    fn the_seed_decides_the_weights() {
        let first = model(serde_json::json!({"epochs": 1}));
        let second = model(serde_json::json!({"epochs": 1}));
        assert_eq!(first.flat.weights, second.flat.weights);
        let filters = first.layout.find("conv1.weight").unwrap().view(&first.flat.weights);
        let deviation = filters.std(true).double_value(&[]);
        assert!((0.06..0.1).contains(&deviation), "{deviation}");
        let scale = first.layout.find("conv1.batch_norm.scale").unwrap().view(&first.flat.weights);
        assert_eq!(scale, Tensor::ones([8], (Kind::Float, Device::Cpu)));
    }

    #[test]
    fn dropout_follows_the_sample_not_its_place() {
        let model = model(serde_json::json!({"epochs": 1, "dropout": 0.5}));
        let mask = |step, samples: &[u32]| {
            let masks = model.dropout_masks(step, samples);
            assert_eq!(masks.len(), 1);
            masks[0].shallow_clone()
        };
        let (first, turned) = (mask(3, &[7, 9]), mask(3, &[9, 7]));
        assert_eq!(first.size(), [2, 256, 1, 1]);
        assert_eq!(first.get(0), turned.get(1));
        assert_ne!(first.get(0), first.get(1));
        assert_ne!(first, mask(4, &[7, 9]));
        let kept = first.mean(Kind::Float).double_value(&[]);
        assert!((0.8..1.2).contains(&kept), "{kept}");
    }

    #[test]
    fn half_precision_is_near() {
        let (images, labels) = images(64);
        let samples: Vec<u32> = (0..64).collect();
        let loss = |precision: &str| {
            let mut model = model(serde_json::json!({"epochs": 1, "precision": precision}));
            let masks = model.dropout_masks(0, &samples);
            let mode = Mode::Train { masks: &masks, decay: 0.9 };
            let (loss, _) = model.gradient(&images, &labels, mode).unwrap();
            (loss.double_value(&[]), model.flat.gradient.norm().double_value(&[]))
        };
        let (full, half) = (loss("f32"), loss("bf16"));
        assert!((full.0 - half.0).abs() < 0.05 * full.0, "losses {full:?}, {half:?}");
        assert!((full.1 - half.1).abs() < 0.2 * full.1, "losses and gradients' norms {full:?}, {half:?}");
    }
}
