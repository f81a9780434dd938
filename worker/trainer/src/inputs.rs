//! What a step reads, and the step as a graph.

use crate::gpu::Graph;
use tch::Tensor;

/// A step as a graph.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Not before a first step has been done without: libtorch makes choices in it, and takes memory.
    Cold,
    /// The next whole batch.
    Warm,
    /// Reads these inputs, wherever they were copied from.
    Graph(Box<Inputs>, Graph),
}

/// What a step reads, on the device.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// u8, `[n, ρ, ρ, 3]`.
    pub(crate) images: Tensor,
    /// i64, `[n]`.
    pub(crate) labels: Tensor,
    /// As [`crate::model::Model::dropout_masks`] gives them.
    pub(crate) masks: Vec<Tensor>,
    /// f64, `[]`.
    pub(crate) rate: Tensor,
}

impl Inputs {
    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.images, &self.labels, &self.rate].into_iter().chain(&self.masks)
    }

    /// With tensors of its own, on this thread's stream.
    pub(crate) fn copy(&self) -> Self {
        Self {
            images: self.images.copy(),
            labels: self.labels.copy(),
            masks: self.masks.iter().map(Tensor::copy).collect(),
            rate: self.rate.copy(),
        }
    }

    /// What the other one reads, to be read in place of its own.
    pub(crate) fn copy_from(&self, other: &Self) {
        for (to, from) in self.tensors().zip(other.tensors()) {
            to.shallow_clone().copy_(from);
        }
    }
}
