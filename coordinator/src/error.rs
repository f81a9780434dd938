use crate::{ArtifactsError, DriverError, LockError, StoreError};
use access::CredentialsError;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Why a coordinator did not start, or ended.
#[derive(Debug, Error)]
pub enum Error {
    /// The socket has no address.
    #[error("the listening socket cannot be used: {0}")]
    Listener(#[source] std::io::Error),
    /// Anybody who can connect could do anything.
    #[error(
        "refusing to listen on {address} without TLS and tokens: anybody who reaches it could use it. Make them with:\n  \
         alpharho certs init\n  \
         alpharho certs issue coordinator --host {host}\n  \
         alpharho certs issue me\n  \
         alpharho tokens create me --role admin\nthen add: --credentials certs/coordinator",
        host = host_of(address)
    )]
    NotLoopback {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Nobody could do anything.
    #[error(
        "the store {store} has no token yet, so nobody could use this coordinator; make the first one with: alpharho \
         tokens create NAME --role admin --store {store}", store = store.display()
    )]
    NoTokens {
        /// The store.
        store: PathBuf,
    },
    /// They cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// They cannot be used.
    #[error("the certificate in {folder} cannot be used to listen: {source}", folder = folder.display())]
    Tls {
        /// Where it lies.
        folder: PathBuf,
        /// Why.
        source: tonic::transport::Error,
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

/// What the certificate must name.
fn host_of(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() { "NAME-OF-THIS-MACHINE".to_owned() } else { address.ip().to_string() }
}
