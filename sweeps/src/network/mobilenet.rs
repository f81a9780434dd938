//! MobileNet and its two variants as tables (Howard et al. 2017, Tables 1, 4 and 5).

use super::{Connection, Convolution, Layer, Operation, Source};
use crate::spec::model::Variant;

/// (output channels, stride) of the 13 blocks. The paper prints "s2" at the last one; its shapes say 1.
const BLOCKS: [(u32, u32); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// The five 14 × 14 × 512 blocks that the shallow network leaves out.
const DEEP: std::ops::Range<usize> = 6..11;

/// The layers of a variant.
pub(super) fn layers(variant: Variant, alpha: f64, classes: u32) -> Vec<Layer> {
    let mut chain = Chain::default();
    let mut channels = wide(32, alpha);
    chain.push("conv1", convolution(channels, 3, 2, Connection::Full));
    for (index, (base, stride)) in BLOCKS.into_iter().enumerate() {
        if variant == Variant::ShallowMobilenet && DEEP.contains(&index) {
            continue;
        }
        let block = format!("block{:02}", index + 1);
        let next = wide(base, alpha);
        match variant {
            Variant::ConvMobilenet => chain.push(&block, convolution(next, 3, stride, Connection::Full)),
            Variant::Mobilenet | Variant::ShallowMobilenet => {
                chain.push(&format!("{block}.depthwise"), convolution(channels, 3, stride, Connection::Depthwise));
                chain.push(&format!("{block}.pointwise"), convolution(next, 1, 1, Connection::Full));
            }
        }
        channels = next;
    }
    chain.push("pool", Operation::GlobalAveragePool);
    chain.push("dropout", Operation::Dropout);
    chain.push("classifier", Operation::Dense { outputs: classes, bias: true });
    chain.layers
}

/// max(8, int(c · α)): the integer part, not rounded to a multiple of 8.
fn wide(channels: u32, alpha: f64) -> u32 {
    // A sweep allows α in (0, 2], so the product is small and positive.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2048")]
    let scaled = (f64::from(channels) * alpha) as u32;
    scaled.max(8)
}

fn convolution(channels: u32, kernel: u32, stride: u32, connection: Connection) -> Operation {
    Operation::Convolution(Convolution {
        channels,
        kernel,
        stride,
        connection,
        bias: false,
        batch_norm: true,
        activation: true,
    })
}

/// Layers that each read the one before.
#[derive(Default)]
struct Chain {
    layers: Vec<Layer>,
}

impl Chain {
    fn push(&mut self, name: &str, operation: Operation) {
        let input = self.layers.len().checked_sub(1).map_or(Source::Image, Source::Layer);
        self.layers.push(Layer { name: name.to_owned(), operation, inputs: vec![input] });
    }
}
