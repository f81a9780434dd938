//! All parameters in one buffer; layers are views of it.
//!
//! Filters lie as `[out, height, width, in]`, which is NHWC: a view permuted to `[out, in, height, width]` has
//! the strides that libtorch calls channels-last. Parameters of one fate under weight decay lie together, so
//! that an update is three runs over contiguous memory.

use gradients::chief::Master;
use std::ops::Range;
use sweeps::network::{Connection, Network, Operation};
use tch::{Device, Kind, Tensor};

/// Segments begin at multiples of this many values: 64 bytes, a cache line and the widest vector.
const ALIGNMENT: usize = 16;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Filters over all channels, or the classifier's weights: decayed.
    Weight,
    /// Filters of single channels: decayed by a setting of their own.
    Depthwise,
    /// BatchNorm's scale; starts at 1.
    Scale,
    /// BatchNorm's shift or a bias; starts at 0.
    Shift,
}

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// As stored: `block01.depthwise.weight`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// `[out, in, height, width]`, `[out, in]` or `[channels]`.
    pub shape: Vec<i64>,
    /// Where it begins in the flat buffer.
    pub offset: usize,
    /// Values in it.
    pub len: usize,
}

impl Segment {
    /// Its view of a flat buffer, in its shape.
    pub fn view(&self, flat: &Tensor) -> Tensor {
        let part = flat.narrow(0, signed(self.offset), signed(self.len));
        match self.shape[..] {
            [out, within, height, width] => part.view([out, height, width, within]).permute([0, 3, 1, 2]),
            _ => part.view(&self.shape[..]),
        }
    }
}

/// BatchNorm's running statistics of one layer: a mean and a variance a channel, in a flat buffer of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// As stored: `block01.depthwise.batch_norm.mean` and `.variance`.
    pub name: String,
    /// Where the means begin; the variances follow them.
    pub offset: usize,
    /// Channels.
    pub channels: usize,
}

impl Statistic {
    /// Views of the means and the variances in the flat buffer of statistics.
    pub fn views(&self, flat: &Tensor) -> (Tensor, Tensor) {
        let channels = signed(self.channels);
        (flat.narrow(0, signed(self.offset), channels), flat.narrow(0, signed(self.offset) + channels, channels))
    }
}

/// Which parameter lies where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// By offset.
    pub segments: Vec<Segment>,
    /// Layers with BatchNorm, in order of computation.
    pub statistics: Vec<Statistic>,
    /// Values in the flat buffer, gaps included.
    pub len: usize,
    /// Values in the buffer of statistics.
    pub statistics_len: usize,
    /// Where [`Role::Weight`] lies.
    pub decayed: Range<usize>,
    /// Where [`Role::Depthwise`] lies.
    pub depthwise: Range<usize>,
    /// Where the rest lies.
    pub plain: Range<usize>,
}

impl Layout {
    /// The layout of a network.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let (parameters, statistics) = parameters(network);
        let mut layout = Self {
            segments: Vec::with_capacity(parameters.len()),
            statistics_len: statistics.iter().map(|statistic| 2 * statistic.channels).sum(),
            statistics,
            len: 0,
            decayed: 0..0,
            depthwise: 0..0,
            plain: 0..0,
        };
        layout.decayed = layout.place(&parameters, |role| role == Role::Weight);
        layout.depthwise = layout.place(&parameters, |role| role == Role::Depthwise);
        layout.plain = layout.place(&parameters, |role| matches!(role, Role::Scale | Role::Shift));
        layout
    }

    /// The segment of that name.
    #[cfg(test)]
    pub(crate) fn find(&self, name: &str) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.name == name)
    }

    fn place(&mut self, parameters: &[Parameter], wanted: impl Fn(Role) -> bool) -> Range<usize> {
        let start = self.len;
        for parameter in parameters.iter().filter(|parameter| wanted(parameter.role)) {
            let len = parameter.shape.iter().map(|side| usize::try_from(*side).unwrap_or(0)).product();
            self.segments.push(Segment {
                name: parameter.name.clone(),
                role: parameter.role,
                shape: parameter.shape.clone(),
                offset: self.len,
                len,
            });
            self.len += usize::next_multiple_of(len, ALIGNMENT);
        }
        start..self.len
    }
}

struct Parameter {
    name: String,
    role: Role,
    shape: Vec<i64>,
}

/// The parameters and statistics of a network, by layer.
fn parameters(network: &Network) -> (Vec<Parameter>, Vec<Statistic>) {
    let (mut parameters, mut statistics) = (Vec::new(), Vec::new());
    let mut statistics_len = 0;
    for (layer, input, output) in network.with_shapes() {
        let mut add = |part: &str, role, shape: &[u32]| {
            let shape = shape.iter().copied().map(i64::from).collect();
            parameters.push(Parameter { name: format!("{}.{part}", layer.name), role, shape });
        };
        match layer.operation {
            Operation::Convolution(convolution) => {
                let (role, within) = match convolution.connection {
                    Connection::Full => (Role::Weight, input.channels),
                    Connection::Depthwise => (Role::Depthwise, 1),
                };
                add("weight", role, &[output.channels, within, convolution.kernel, convolution.kernel]);
                if convolution.bias {
                    add("bias", Role::Shift, &[output.channels]);
                }
                if convolution.batch_norm {
                    add("batch_norm.scale", Role::Scale, &[output.channels]);
                    add("batch_norm.shift", Role::Shift, &[output.channels]);
                    let channels = usize::try_from(output.channels).unwrap_or(0);
                    let name = format!("{}.batch_norm", layer.name);
                    statistics.push(Statistic { name, offset: statistics_len, channels });
                    statistics_len += 2 * channels;
                }
            }
            Operation::Dense { outputs, bias } => {
                add("weight", Role::Weight, &[outputs, u32::try_from(input.elements()).unwrap_or(u32::MAX)]);
                if bias {
                    add("bias", Role::Shift, &[outputs]);
                }
            }
            Operation::Pool { .. } | Operation::GlobalAveragePool | Operation::Concatenate | Operation::Dropout => {}
        }
    }
    (parameters, statistics)
}

/// The flat buffers of one trial, all of the layout's length.
#[derive(Debug)]
pub struct Flat {
    /// What is trained.
    pub weights: Tensor,
    /// Autograd adds into it.
    pub gradient: Tensor,
    /// RMSprop's mean square; starts at 1.
    pub mean_square: Tensor,
    /// RMSprop's momentum; starts at 0.
    pub momentum: Tensor,
    /// The moving average of the weights, where asked for.
    pub average: Option<Tensor>,
}

impl Flat {
    /// Weights of 0, and optimizer slots as they start.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn zeros(len: usize, device: Device, averaged: bool) -> Result<Self, tch::TchError> {
        let zeros = || Tensor::f_zeros([signed(len)], (Kind::Float, device));
        Ok(Self {
            weights: zeros()?,
            gradient: zeros()?,
            mean_square: zeros()?.f_fill_(1.0)?,
            momentum: zeros()?,
            average: averaged.then(zeros).transpose()?,
        })
    }

    /// Weights, gradient, mean square, momentum and average (empty where there is none) as slices. On the CPU only.
    pub(crate) fn slices(&mut self) -> [&mut [f32]; 5] {
        let Self { weights, gradient, mean_square, momentum, average } = self;
        let average = average.as_mut().map(slice).unwrap_or_default();
        [slice(weights), slice(gradient), slice(mean_square), slice(momentum), average]
    }

    /// Gives the optimizer's slots and the average away, as they are on the host: whoever has them now updates them.
    pub(crate) fn take_slots(&mut self) -> Result<Master, tch::TchError> {
        let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor.to_device(Device::Cpu));
        let master = Master {
            weights: values(&self.weights)?,
            mean_square: values(&self.mean_square)?,
            momentum: values(&self.momentum)?,
            average: self.average.as_ref().map(values).transpose()?,
        };
        self.drop_slots();
        Ok(master)
    }

    /// Copies everything back, to be evaluated and saved.
    pub(crate) fn copy_from(&mut self, master: &Master) {
        let device = self.weights.device();
        let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        self.weights.copy_(&tensor(&master.weights));
        self.mean_square = tensor(&master.mean_square);
        self.momentum = tensor(&master.momentum);
        self.average = master.average.as_deref().map(tensor);
    }

    /// Frees what [`Self::copy_from`] brought beside the weights.
    pub(crate) fn drop_slots(&mut self) {
        let nothing = || Tensor::zeros([0], (Kind::Float, Device::Cpu));
        (self.mean_square, self.momentum, self.average) = (nothing(), nothing(), None);
    }
}

/// The values of a contiguous f32 tensor on the CPU, to be read.
pub(super) fn values(tensor: &Tensor) -> &[f32] {
    debug_assert!(tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous());
    let len = tensor.numel();
    if len == 0 {
        return &[];
    }
    #[expect(unsafe_code, reason = "tch gives no view of a tensor's memory")]
    // SAFETY: as for `slice`; nothing writes to what a shared borrow of the tensor, or of what holds it, keeps.
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), len)
    }
}

/// The same to be written to. The tensor must be the only one of its memory that is in use.
pub(super) fn slice(tensor: &mut Tensor) -> &mut [f32] {
    debug_assert!(tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous());
    let len = tensor.numel();
    // An empty tensor has no memory to point to.
    if len == 0 {
        return &mut [];
    }
    #[expect(unsafe_code, reason = "tch gives no view of a tensor's memory")]
    // SAFETY: a contiguous f32 tensor on the CPU is `len` floats from its data pointer, which stay allocated
    // while the tensor does. Tensors of `Flat`, statistics, and activations that were just made are distinct allocations;
    // a member is worked on by one thread, and this borrow excludes the tensor's other uses there.
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), len)
    }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweeps::spec::model::Variant;

    #[test]
    fn segments_hold_what_is_counted() {
        for variant in [Variant::Mobilenet, Variant::ConvMobilenet, Variant::ShallowMobilenet] {
            let network = Network::new(variant, 0.25, 64, 10).unwrap();
            let layout = Layout::new(&network);
            let values: usize = layout.segments.iter().map(|segment| segment.len).sum();
            assert_eq!(u64::try_from(values).unwrap(), network.cost().params);
            for pair in layout.segments.windows(2) {
                assert!(pair[0].offset + pair[0].len <= pair[1].offset && pair[1].offset % ALIGNMENT == 0);
            }
            for segment in &layout.segments {
                let range = match segment.role {
                    Role::Weight => &layout.decayed,
                    Role::Depthwise => &layout.depthwise,
                    Role::Scale | Role::Shift => &layout.plain,
                };
                assert!(range.contains(&segment.offset), "{}", segment.name);
            }
        }
    }

    #[test]
    fn filters_are_channels_last_views() {
        let network = Network::new(Variant::Mobilenet, 0.25, 64, 10).unwrap();
        let layout = Layout::new(&network);
        let flat = Tensor::zeros([signed(layout.len)], (Kind::Float, Device::Cpu));
        let pointwise = layout.find("block02.pointwise.weight").unwrap();
        let view = pointwise.view(&flat);
        assert_eq!(view.size(), [32, 16, 1, 1]);
        assert_eq!(view.stride()[1], 1, "channels are innermost");
        let _ = view.shallow_clone().fill_(1.0);
        assert!((flat.sum(Kind::Float).double_value(&[]) - 512.0).abs() < 1e-9, "views share the buffer's memory");
    }
}
