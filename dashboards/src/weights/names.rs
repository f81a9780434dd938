//! timm's names for the layers: `conv_stem`, then `blocks.STAGE.BLOCK`, a stage beginning at each stride of 2.

use sweeps::network::{self, Connection, Network, Operation};

/// What timm calls a convolution and its BatchNorm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Convolution {
    pub(super) filters: String,
    pub(super) batch_norm: String,
}

/// Counts stages and blocks; to be asked in order of computation.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Stage and block that the newest convolution belongs to; none before the first block.
    block: Option<(usize, usize)>,
    stem_seen: bool,
    /// The newest convolution was depthwise: the next one is its pointwise half.
    half: bool,
}

impl Names {
    /// The names of the next convolution.
    pub(super) fn convolution(&mut self, convolution: network::Convolution) -> Convolution {
        let names = |filters: String, batch_norm: String| Convolution { filters, batch_norm };
        if !self.stem_seen {
            self.stem_seen = true;
            return names("conv_stem".to_owned(), "bn1".to_owned());
        }
        let depthwise = convolution.connection == Connection::Depthwise;
        let pointwise = !depthwise && self.half;
        self.half = depthwise;
        if !pointwise {
            self.block = Some(match self.block {
                None => (0, 0),
                Some((stage, _)) if convolution.stride > 1 => (stage + 1, 0),
                Some((stage, block)) => (stage, block + 1),
            });
        }
        let (stage, block) = self.block.unwrap_or_default();
        let (filters, batch_norm) = match (depthwise, pointwise) {
            (true, _) => ("conv_dw", "bn1"),
            (false, true) => ("conv_pw", "bn2"),
            (false, false) => ("conv", "bn1"),
        };
        names(format!("blocks.{stage}.{block}.{filters}"), format!("blocks.{stage}.{block}.{batch_norm}"))
    }
}

/// Whether timm gives the layers as many channels: it rounds to multiples of 8, and training takes the integer part,
/// at least 8. They agree where all products are multiples of 8.
pub(super) fn timm_rounds_alike(network: &Network) -> bool {
    network.layers.iter().all(|layer| match layer.operation {
        Operation::Convolution(convolution) => convolution.channels % 8 == 0,
        _ => true,
    })
}
