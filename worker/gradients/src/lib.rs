//! Asynchronous-gradient RMSprop: the replicas of one trial send their gradients, without waiting for each other, to
//! the chief that holds the parameters. Knows nothing of libtorch: gradients are slices of floats.
//!
//! - [`chief`] what the chief keeps and does: a pure state machine
//! - [`ranges`] whose samples are whose, each counted once
//! - [`rmsprop`] the update, [`values`] floats in memory and on the wire, [`staleness`] how old gradients were
//! - [`shared`] the chief among threads: its own trainer is a replica like others, without a socket between
//! - [`service`] the chief on the network, [`remote`] a replica that calls it, by a Unix socket if both are on one host

pub mod chief;
mod near;
mod parts;
pub mod ranges;
pub mod remote;
pub mod rmsprop;
pub mod service;
pub mod shared;
pub mod staleness;
pub mod values;

use chief::{Finished, Phase, Verdict};
use ranges::Range;
use std::time::Duration;

/// What a replica gets for a push.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// What became of the last gradient that is known of; with a push on its way that is the one before.
    pub verdict: Verdict,
    /// Whether there is work.
    pub phase: Phase,
    /// Of the ranges, from 0.
    pub epoch: u32,
    /// Of the parameters that were written.
    pub version: u64,
    /// To do next, after those that the replica has already.
    pub ranges: Vec<Range>,
    /// The replica was taken for lost and has joined anew: the ranges that it had are not its any more.
    pub is_fresh: bool,
}

/// Why a replica cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The chief has not answered for a while.
    #[error("the chief at {chief} has not answered for {} s: {reason}", .patience.as_secs())]
    Gone {
        /// Its address.
        chief: String,
        /// How long it was tried.
        patience: Duration,
        /// The last error.
        reason: String,
    },
    /// The chief has refused.
    #[error("the chief refuses: {0}")]
    Refused(String),
    /// What the chief said cannot be used.
    #[error("the chief's answer cannot be used: {0}")]
    BadAnswer(String),
    /// The trial has failed.
    #[error("{0}")]
    Failed(String),
    /// The machine does not let us.
    #[error("the exchange of gradients cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// A replica's side of the exchange. The chief's own replica and those elsewhere train by the same loop.
pub trait Exchange {
    /// Gives what was finished, if anything; writes the newest parameters that have come into `weights`, and gives
    /// the next samples so that `wanted` ranges are in hand.
    ///
    /// May come back without work, after a second or two: so that the caller can say that it lives.
    ///
    /// # Errors
    /// When the exchange is over for this replica.
    fn exchange(
        &mut self,
        finished: Option<&Finished<'_>>,
        wanted: usize,
        weights: &mut [f32],
    ) -> Result<Assignment, ExchangeError>;
}
