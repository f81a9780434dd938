//! The network as data. One list of layers, shapes inferred once; Mult-Adds and parameters are a fold over
//! it ([`Network::cost`]), the libtorch module is another, export is a third. What is counted is what is
//! trained.
//!
//! A layer names its inputs, so that branches and concatenation have a form; a plain chain is the case where
//! each layer's only input is the one before.

mod mobilenet;

use crate::spec::model::Variant;
use thiserror::Error;

/// Height, width and channels of one image's feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Channels.
    pub channels: u32,
}

impl Shape {
    /// Values in it.
    #[must_use]
    pub fn elements(self) -> u64 {
        u64::from(self.height) * u64::from(self.width) * u64::from(self.channels)
    }
}

/// What a layer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The image.
    Image,
    /// The output of the layer at this place in the list; always an earlier one.
    Layer(usize),
}

/// How the channels of a convolution are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Every input channel feeds every output channel.
    Full,
    /// Each channel has a filter of its own.
    Depthwise,
}

/// A convolution with "same" padding: the output's side is ceil(side / stride).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Channels out; for depthwise ones, as many as come in.
    pub channels: u32,
    /// Side of the square filter; odd.
    pub kernel: u32,
    /// Pixels between two places of the filter.
    pub stride: u32,
    /// How channels are connected.
    pub connection: Connection,
    /// A bias a channel.
    pub bias: bool,
    /// Followed by batch normalisation with scale and shift.
    pub batch_norm: bool,
    /// Followed by the sweep's activation.
    pub activation: bool,
}

/// What is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value.
    Maximum,
    /// The mean.
    Average,
}

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Filters.
    Convolution(Convolution),
    /// A moving window, padded like a convolution.
    Pool {
        /// What is taken.
        pooling: Pooling,
        /// Side of the window.
        kernel: u32,
        /// Pixels between two windows.
        stride: u32,
    },
    /// The mean of each channel: 1 × 1.
    GlobalAveragePool,
    /// Joins its inputs' channels.
    Concatenate,
    /// Zeroes values at random while training, with the sweep's probability.
    Dropout,
    /// Every value feeds every output.
    Dense {
        /// Values out.
        outputs: u32,
        /// A bias an output.
        bias: bool,
    },
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Unique; weights are stored under it.
    pub name: String,
    /// What it does.
    pub operation: Operation,
    /// What it reads: one source, several for a concatenation.
    pub inputs: Vec<Source>,
}

/// Layers with the shapes that follow from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The image's shape.
    pub input: Shape,
    /// In order of computation; the last one gives the logits.
    pub layers: Vec<Layer>,
    /// What each layer gives, in the same order.
    pub outputs: Vec<Shape>,
}

/// A list of layers that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// A layer reads something that does not come before it, or nothing.
    #[error("layer {layer}: its inputs must be earlier layers, at least one, and several only for a concatenation")]
    Inputs {
        /// The layer's name.
        layer: String,
    },
    /// Shapes that do not fit.
    #[error("layer {layer}: {problem}")]
    Shape {
        /// The layer's name.
        layer: String,
        /// What does not fit.
        problem: String,
    },
    /// Two layers of the same name.
    #[error("two layers are called {layer}")]
    Name {
        /// The name.
        layer: String,
    },
}

/// What one forward pass of one image costs, and what the network holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and dense layers; no BatchNorm, activation or pooling.
    pub mult_adds: u64,
    /// Weights, biases, and BatchNorm's scale and shift.
    pub params: u64,
    /// The same without BatchNorm: the paper's way of counting.
    pub params_without_batch_norm: u64,
    /// Bytes of all layers' outputs in f32: what a training step keeps for one image, before BatchNorm's and
    /// the activations' own copies.
    pub activation_bytes: u64,
}

/// Mult-Adds that take as long as one value of an activation goes through normalisation, depthwise filter and back:
/// memory's price beside arithmetic's. Measured on a core with AVX-512 and on one with AVX2 alone, where it tells the times of
/// the 16 cells apart to within 6 %; by Mult-Adds alone a narrow network takes twice as long as told
/// (`docs/results/throughput.md`).
const MULT_ADDS_OF_ACTIVATION: u64 = 55;

impl Cost {
    /// What training on one image costs, in Mult-Adds.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.mult_adds.saturating_add(self.activation_bytes / 4 * MULT_ADDS_OF_ACTIVATION)
    }
}

impl Network {
    /// The network of a trial: a variant's table at width α for ρ × ρ × 3 images.
    ///
    /// Channels are max(8, int(c · α)), as in the published code.
    ///
    /// # Errors
    /// When the table does not make a network; the shipped ones do for every α and ρ that a sweep allows.
    pub fn new(variant: Variant, alpha: f64, resolution: u32, classes: u32) -> Result<Self, NetworkError> {
        let image = Shape { height: resolution, width: resolution, channels: 3 };
        Self::from_layers(image, mobilenet::layers(variant, alpha, classes))
    }

    /// Infers every layer's shape.
    ///
    /// # Errors
    /// When a layer reads what does not come before it, shapes do not fit, or a name occurs twice.
    pub fn from_layers(input: Shape, layers: Vec<Layer>) -> Result<Self, NetworkError> {
        let mut outputs: Vec<Shape> = Vec::with_capacity(layers.len());
        for (place, layer) in layers.iter().enumerate() {
            if layers[..place].iter().any(|earlier| earlier.name == layer.name) {
                return Err(NetworkError::Name { layer: layer.name.clone() });
            }
            let mut shapes = Vec::with_capacity(layer.inputs.len());
            for source in &layer.inputs {
                shapes.push(match source {
                    Source::Image => input,
                    Source::Layer(index) if *index < place => outputs[*index],
                    Source::Layer(_) => return Err(NetworkError::Inputs { layer: layer.name.clone() }),
                });
            }
            outputs.push(infer(layer, &shapes)?);
        }
        Ok(Self { input, layers, outputs })
    }

    /// The shape that a source gives.
    #[must_use]
    pub fn shape_of(&self, source: Source) -> Shape {
        match source {
            Source::Image => self.input,
            Source::Layer(index) => self.outputs[index],
        }
    }

    /// Each layer with the shape it reads (its first input's) and the shape it gives.
    pub fn with_shapes(&self) -> impl Iterator<Item = (&Layer, Shape, Shape)> {
        self.layers.iter().zip(&self.outputs).map(|(layer, output)| {
            let input = layer.inputs.first().map_or(self.input, |source| self.shape_of(*source));
            (layer, input, *output)
        })
    }

    /// Folds the layers to what they cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.with_shapes().fold(Cost::default(), |mut cost, (layer, input, output)| {
            let (weights, biases, batch_norm, places) = match layer.operation {
                Operation::Convolution(convolution) => {
                    let per_output = match convolution.connection {
                        Connection::Full => u64::from(input.channels),
                        Connection::Depthwise => 1,
                    } * u64::from(convolution.kernel).pow(2);
                    let channels = u64::from(output.channels);
                    (
                        per_output * channels,
                        if convolution.bias { channels } else { 0 },
                        if convolution.batch_norm { 2 * channels } else { 0 },
                        u64::from(output.height) * u64::from(output.width),
                    )
                }
                Operation::Dense { outputs, bias } => {
                    (input.elements() * u64::from(outputs), if bias { u64::from(outputs) } else { 0 }, 0, 1)
                }
                Operation::Pool { .. } | Operation::GlobalAveragePool | Operation::Concatenate | Operation::Dropout => {
                    (0, 0, 0, 0)
                }
            };
            cost.mult_adds += weights * places;
            cost.params += weights + biases + batch_norm;
            cost.params_without_batch_norm += weights + biases;
            cost.activation_bytes += output.elements() * 4;
            cost
        })
    }
}

fn infer(layer: &Layer, inputs: &[Shape]) -> Result<Shape, NetworkError> {
    let wrong = |problem: &str| NetworkError::Shape { layer: layer.name.clone(), problem: problem.to_owned() };
    let (Some(&first), true) =
        (inputs.first(), inputs.len() == 1 || (layer.operation == Operation::Concatenate && inputs.len() > 1))
    else {
        return Err(NetworkError::Inputs { layer: layer.name.clone() });
    };
    let strided = |stride: u32, channels: u32| Shape {
        height: first.height.div_ceil(stride),
        width: first.width.div_ceil(stride),
        channels,
    };
    Ok(match layer.operation {
        Operation::Convolution(convolution) => {
            if convolution.kernel % 2 == 0 || convolution.stride == 0 || convolution.channels == 0 {
                return Err(wrong("a convolution needs an odd kernel, a stride and channels"));
            }
            if convolution.connection == Connection::Depthwise && convolution.channels != first.channels {
                return Err(wrong("a depthwise convolution gives as many channels as it reads"));
            }
            strided(convolution.stride, convolution.channels)
        }
        Operation::Pool { kernel, stride, .. } => {
            if kernel == 0 || stride == 0 {
                return Err(wrong("a pool needs a window and a stride"));
            }
            strided(stride, first.channels)
        }
        Operation::GlobalAveragePool => Shape { height: 1, width: 1, channels: first.channels },
        Operation::Dropout => first,
        Operation::Dense { outputs, .. } => Shape { height: 1, width: 1, channels: outputs },
        Operation::Concatenate => {
            if inputs.iter().any(|shape| (shape.height, shape.width) != (first.height, first.width)) {
                return Err(wrong("joined feature maps must have the same height and width"));
            }
            Shape { channels: inputs.iter().map(|shape| shape.channels).sum(), ..first }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// α, ρ, Mult-Adds, parameters of the 16 cells, counted independently.
    const GRID: [(f64, u32, u64, u64); 16] = [
        (1.0, 224, 568_740_352, 4_231_976),
        (1.0, 192, 418_121_728, 4_231_976),
        (1.0, 160, 290_675_200, 4_231_976),
        (1.0, 128, 186_400_768, 4_231_976),
        (0.75, 224, 325_400_448, 2_585_560),
        (0.75, 192, 239_273_472, 2_585_560),
        (0.75, 160, 166_396_800, 2_585_560),
        (0.75, 128, 106_770_432, 2_585_560),
        (0.5, 224, 149_497_088, 1_331_592),
        (0.5, 192, 109_970_432, 1_331_592),
        (0.5, 160, 76_524_800, 1_331_592),
        (0.5, 128, 49_160_192, 1_331_592),
        (0.25, 224, 41_030_272, 470_072),
        (0.25, 192, 30_212_608, 470_072),
        (0.25, 160, 21_059_200, 470_072),
        (0.25, 128, 13_570_048, 470_072),
    ];

    fn cost(variant: Variant, alpha: f64, resolution: u32) -> Cost {
        Network::new(variant, alpha, resolution, 1000).unwrap().cost()
    }

    #[test]
    fn the_sixteen_cells_cost_what_the_paper_counts() {
        for (alpha, resolution, mult_adds, params) in GRID {
            let cost = cost(Variant::Mobilenet, alpha, resolution);
            assert_eq!((cost.mult_adds, cost.params), (mult_adds, params), "α {alpha}, ρ {resolution}");
        }
    }

    /// Milliseconds that training on one image took on one core of each of the two machines in `docs/results/throughput.md`, in
    /// the order of [`GRID`].
    #[test]
    fn work_tells_how_long_a_cell_takes() {
        const MEASURED: [[f64; 16]; 2] = [
            [24.53, 18.22, 12.89, 8.59, 15.35, 11.22, 7.59, 4.97, 8.38, 6.00, 4.18, 2.67, 3.36, 2.52, 1.69, 1.12],
            [71.37, 52.21, 36.24, 23.79, 42.44, 30.78, 22.30, 14.71, 23.49, 16.44, 12.29, 7.66, 8.52, 6.27, 4.48, 3.03],
        ];
        let works: Vec<f64> = GRID.iter().map(|cell| cost(Variant::Mobilenet, cell.0, cell.1).work() as f64).collect();
        for measured in MEASURED {
            let rate = measured.iter().zip(&works).map(|(took, work)| took / work).sum::<f64>() / 16.0;
            for ((took, work), cell) in measured.iter().zip(&works).zip(GRID) {
                assert!((took / work / rate - 1.0).abs() < 0.06, "{cell:?} takes {took} ms, told {}", work * rate);
            }
        }
    }

    #[test]
    fn the_variants_cost_what_tables_4_and_5_count() {
        let full = cost(Variant::ConvMobilenet, 1.0, 224);
        assert_eq!(
            (full.mult_adds, full.params, full.params_without_batch_norm),
            (4_867_293_184, 29_294_088, 29_282_120)
        );
        let shallow = cost(Variant::ShallowMobilenet, 1.0, 224);
        assert_eq!(
            (shallow.mult_adds, shallow.params, shallow.params_without_batch_norm),
            (307_323_392, 2_887_976, 2_876_328)
        );
        assert_eq!(cost(Variant::Mobilenet, 1.0, 224).params_without_batch_norm, 4_210_088);
    }

    /// The paper: 95 % of Mult-Adds and 75 % of parameters are in 1 × 1 convolutions.
    #[test]
    fn most_work_is_pointwise() {
        let network = Network::new(Variant::Mobilenet, 1.0, 224, 1000).unwrap();
        let (mut mult_adds, mut params) = (0, 0);
        for (layer, input, output) in network.with_shapes() {
            if let Operation::Convolution(Convolution { kernel: 1, .. }) = layer.operation {
                let weights = u64::from(input.channels) * u64::from(output.channels);
                params += weights;
                mult_adds += weights * u64::from(output.height) * u64::from(output.width);
            }
        }
        assert_eq!(mult_adds * 1000 / network.cost().mult_adds, 948);
        assert_eq!(params * 1000 / network.cost().params_without_batch_norm, 745);
    }

    #[test]
    fn every_allowed_size_makes_a_network() {
        for resolution in 16..=1024 {
            Network::new(Variant::Mobilenet, 0.25, resolution, 10).unwrap();
        }
        for hundredths in 1..=200 {
            Network::new(Variant::Mobilenet, f64::from(hundredths) / 100.0, 32, 2).unwrap();
        }
    }

    #[test]
    fn branches_have_a_form() {
        let image = Shape { height: 28, width: 28, channels: 192 };
        let branch = |name: &str, channels| Layer {
            name: name.into(),
            operation: Operation::Convolution(Convolution {
                channels,
                kernel: 1,
                stride: 1,
                connection: Connection::Full,
                bias: true,
                batch_norm: false,
                activation: true,
            }),
            inputs: vec![Source::Image],
        };
        let pool = Layer {
            name: "pool".into(),
            operation: Operation::Pool { pooling: Pooling::Maximum, kernel: 3, stride: 1 },
            inputs: vec![Source::Image],
        };
        let joined = Layer {
            name: "joined".into(),
            operation: Operation::Concatenate,
            inputs: vec![Source::Layer(0), Source::Layer(1), Source::Layer(2)],
        };
        let network = Network::from_layers(image, vec![branch("a", 64), branch("b", 96), pool, joined]).unwrap();
        assert_eq!(network.outputs[3], Shape { height: 28, width: 28, channels: 64 + 96 + 192 });
        assert_eq!(network.cost().params, 192 * 160 + 160);
    }

    #[test]
    fn what_is_not_a_network_is_refused() {
        let image = Shape { height: 8, width: 8, channels: 3 };
        let layer = |name: &str, inputs| Layer { name: name.into(), operation: Operation::Dropout, inputs };
        let later = Network::from_layers(image, vec![layer("a", vec![Source::Layer(0)])]);
        assert!(matches!(later, Err(NetworkError::Inputs { .. })));
        let none = Network::from_layers(image, vec![layer("a", vec![])]);
        assert!(matches!(none, Err(NetworkError::Inputs { .. })));
        let twice =
            Network::from_layers(image, vec![layer("a", vec![Source::Image]), layer("a", vec![Source::Layer(0)])]);
        assert!(matches!(twice, Err(NetworkError::Name { .. })));
    }
}
