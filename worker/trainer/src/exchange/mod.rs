//! Several replicas train one trial: the chief's side, and the side of the others. How gradients meet is the crate
//! `gradients`; here they are computed.

pub mod chief;
mod hand;
pub mod replica;
