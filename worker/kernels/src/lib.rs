//! What a training step computes between its convolutions, on the CPU. Knows no libtorch: buffers are slices of f32,
//! channels innermost (NHWC).
//!
//! libtorch normalises, clamps and differentiates in passes of their own over activations that no cache holds; here
//! each is read as seldom as the mathematics allows. Forward: once for the statistics, once to normalise and clamp.
//! Backward: once for the sums, once for the gradient.
//!
//! Sums are over blocks of a fixed size, added up in f64 in the blocks' order: how many threads there are, and which
//! takes which block, changes no bit.

pub mod blocks;
pub mod depthwise;
pub mod normalise;
mod vector;

pub use blocks::{Alone, Team};
