//! Feeds events to the scheduler, carries out its commands, writes the store.
//!
//! One task, the driver, owns the scheduler and the only writing connection. Whatever reaches the coordinator
//! (`service`: gRPC) becomes an input of the driver; the driver takes what is queued, asks the scheduler, writes
//! all that must be remembered in one transaction, and only then sends grants, acknowledgements and answers.
//! What only reads goes to the store beside it, through connections of its own.
//!
//! [`Coordinator::open`] then [`Coordinator::serve`], or [`run`] for both. The caller owns the socket and decides
//! what stopping means.

mod artifacts;
mod clock;
mod disk;
mod driver;
mod error;
mod lock;
pub mod metrics;
mod secret;
mod service;
mod store;
mod tokens;
pub mod upkeep;

pub use artifacts::ArtifactsError;
pub use driver::DriverError;
pub use error::Error;
pub use lock::{LockError, find_running};
pub use metrics::Scraper;
pub use store::StoreError;

use access::Credentials;
use driver::{Driver, Shared};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;

/// How often workers say that they live, unless told otherwise.
pub const HEARTBEAT_MS_DEFAULT: u64 = 5_000;
/// See [`Config::reader_max`].
const READER_MAX: Duration = Duration::from_secs(60);
/// How long open streams may take to end once stopping has begun.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// Settings of a coordinator.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database's file. Its folder is made if need be.
    pub store: PathBuf,
    /// The folder of checkpoints.
    pub artifacts: PathBuf,
    /// How often workers say that they live; leases last six of these.
    pub heartbeat_ms: u64,
    /// With these it listens with TLS, anywhere, and whoever calls must show a certificate of the same authority and
    /// a token. Without, it listens on loopback alone and asks for nothing.
    pub credentials: Option<Credentials>,
    /// Bytes to keep free on the disks of store and checkpoints: with less, no trial is begun. `None`: a fiftieth of
    /// the disk, from 64 MiB to 1 GiB.
    pub disk_reserve_bytes: Option<u64>,
    /// How long somebody who watches, or reads results, may leave what he is told unread; then he is let go, and may ask
    /// for the rest.
    pub reader_max: Duration,
}

impl Config {
    /// With the default heartbeat, on loopback.
    #[must_use]
    pub fn new(store: impl Into<PathBuf>, artifacts: impl Into<PathBuf>) -> Self {
        Self {
            store: store.into(),
            artifacts: artifacts.into(),
            heartbeat_ms: HEARTBEAT_MS_DEFAULT,
            credentials: None,
            disk_reserve_bytes: None,
            reader_max: READER_MAX,
        }
    }
}

/// A coordinator whose store is open and held, and whose driver runs.
#[derive(Debug)]
pub struct Coordinator {
    listener: TcpListener,
    server: Server,
    address: String,
    reader_max: Duration,
    shared: Arc<Shared>,
    driver: tokio::task::JoinHandle<Result<(), DriverError>>,
    closing: watch::Sender<bool>,
}

impl Coordinator {
    /// Takes the store, brings its schema up to date, restores the scheduler, and starts the driver. Nothing is
    /// answered before [`Self::serve`], but connections are accepted by the kernel and wait.
    ///
    /// # Errors
    /// When the listener is not on loopback and there are no credentials, when they are no good or the store has no
    /// token, when another coordinator holds the store (the error names its
    /// address), or when store or artifacts folder cannot be used.
    pub async fn open(config: Config, listener: TcpListener) -> Result<Self, Error> {
        let local = listener.local_addr().map_err(Error::Listener)?;
        if !local.ip().is_loopback() && config.credentials.is_none() {
            return Err(Error::NotLoopback { address: local });
        }
        let server = server(config.credentials.as_ref())?;
        let scheme = if config.credentials.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", reached_at(local));
        let mut lock = lock::StoreLock::take(&config.store)?;
        let mut store = store::Store::open(&config.store).await?;
        let files = store.artifact_files().await?;
        let artifacts = artifacts::Artifacts::open(&config.artifacts, store.id(), &files)?;
        let (closing, closed) = watch::channel(false);
        lock.write_address(&address)?;
        let (driver, shared) = Driver::start(&config, lock, store, artifacts, closed).await?;
        if shared.is_guarded && shared.tokens.borrow().0.is_empty() {
            return Err(Error::NoTokens { store: config.store });
        }
        let reader_max = config.reader_max;
        Ok(Self { listener, server, address, reader_max, shared, driver: tokio::spawn(driver.run()), closing })
    }

    /// Where this machine reaches it, as `http://127.0.0.1:7070`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Gives the numbers for operators, for as long as it is kept.
    #[must_use]
    pub fn scraper(&self) -> Scraper {
        Scraper { shared: Arc::clone(&self.shared) }
    }

    /// Answers until `shutdown` is ready, then ends all streams. What is acknowledged is on disk at any time.
    ///
    /// # Errors
    /// When the socket fails, or when the store fails in a way that waiting does not mend.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { listener, server, address: _, reader_max, shared, mut driver, closing } = self;
        let mut closed = closing.subscribe();
        let server = service::serve(server, listener, shared, reader_max, async move {
            // An error means that the sender is gone, which is stopping too.
            let _ = closed.wait_for(|closing| *closing).await;
        });
        tokio::pin!(server);
        let mut driver_result = None;
        let server_result = tokio::select! {
            result = &mut server => Some(result),
            result = &mut driver => {
                driver_result = Some(result);
                None
            }
            () = shutdown => None,
        };
        closing.send_replace(true);
        let server_result = match server_result {
            Some(result) => result,
            // Streams that do not end in time are cut by dropping the server.
            None => tokio::time::timeout(STOPPING_MAX, server).await.unwrap_or(Ok(())),
        };
        let driver_result = match driver_result {
            Some(result) => result,
            None => driver.await,
        };
        match driver_result {
            Ok(result) => result?,
            Err(error) => return Err(Error::Driver(error)),
        }
        server_result.map_err(Error::Serve)
    }
}

fn server(credentials: Option<&Credentials>) -> Result<Server, Error> {
    let tls = credentials.map(Credentials::to_listen).transpose()?;
    let folder = credentials.map(|credentials| credentials.folder().to_owned()).unwrap_or_default();
    service::server(tls).map_err(|source| Error::Tls { folder, source })
}

/// One that listens everywhere is reached on loopback too.
fn reached_at(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// [`Coordinator::open`] and [`Coordinator::serve`].
///
/// # Errors
/// As theirs.
pub async fn run(config: Config, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    Coordinator::open(config, listener).await?.serve(shutdown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever embeds a coordinator spawns it.
    #[test]
    fn running_can_be_spawned() {
        fn is_send<T: Send>(_: &T) {}
        fn check(listener: TcpListener) {
            is_send(&run(Config::new("a.db", "artifacts"), listener, std::future::pending()));
        }
        let _ = check;
    }
}
