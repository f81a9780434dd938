//! Trains MobileNets with libtorch: the only room that knows it.
//!
//! The way of a batch: `images` (decoded, cropped, u8) → [`model`] (forward, gradients into one flat buffer)
//! → [`optimizer`] (one fused update) → [`evaluation`] → [`checkpoint`]. [`cohort`] is the loop around it,
//! [`member`] one trial in it, [`exchange`] what changes where several replicas train one trial, [`speech`] the pipe
//! to the agent.

pub mod allocator;
pub mod batch;
pub mod checkpoint;
pub mod cohort;
pub mod crew;
pub mod device;
pub mod evaluation;
pub mod exchange;
pub mod gpu;
mod inputs;
mod joining;
pub mod member;
pub mod memory;
pub mod model;
pub mod optimizer;
mod pace;
pub mod random;
mod saving;
pub mod schedule;
pub mod sharing;
mod shim;
pub mod speech;
mod threads;

/// The libtorch that this trainer is built for.
pub const LIBTORCH_VERSION: &str = "2.11.0";
