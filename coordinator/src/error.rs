use crate::{ArtifactsError, DriverError, LockError, StoreError};
use std::net::SocketAddr;
use thiserror::Error;

/// Why a coordinator did not start, or ended.
#[derive(Debug, Error)]
pub enum Error {
    /// The socket has no address.
    #[error("the listening socket cannot be used: {0}")]
    Listener(#[source] std::io::Error),
    /// Anybody who can connect can do anything, so far.
    #[error(
        "refusing to listen on {address}: anybody who reaches it could use it. Listen on a loopback address, as \
         127.0.0.1:7070, and reach it from other machines through a tunnel (ssh -L 7070:127.0.0.1:7070 HOST)"
    )]
    NotLoopback {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Somebody else has the store, or its lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of checkpoints.
    #[error(transparent)]
    Artifacts(#[from] ArtifactsError),
    /// The driver ended by itself.
    #[error(transparent)]
    DriverEnded(#[from] DriverError),
    /// The driver's task panicked.
    #[error("the coordinator's driver ended: {0}; this is a bug, please report it")]
    Driver(#[source] tokio::task::JoinError),
    /// A number for operators has no good name.
    #[error("metrics cannot be counted: {0}; this is a bug, please report it")]
    Metrics(#[from] telemetry::MetricError),
    /// The server.
    #[error("the server ended: {0}")]
    Serve(#[source] tonic::transport::Error),
}
