//! gRPC: what comes from outside is checked here, and becomes an input of the driver or a question to the store.
#![allow(clippy::result_large_err, reason = "tonic's own error type")]

mod answers;
mod clients;
mod counted;
mod explain;
mod guarded;
mod share;
mod submit;
mod tokens;
mod transfer;
mod watch;
mod workers;

use crate::driver::{Input, Shared};
use crate::tokens::Caller;
use access::{Door, Limits};
use answers::{Answers, answers};
use counted::Counted;
use guarded::Guarded;
use proto::wire::sweeps_server::SweepsServer;
use proto::wire::tokens_server::TokensServer;
use proto::wire::workers_server::WorkersServer;
pub(crate) use share::Place;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;
use tonic::transport::{Server, ServerTlsConfig};

/// Dead peers are found by pings, also where TCP would wait for hours.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest message taken: a sweep file of 1 MiB, a batch of reports, a chunk of a checkpoint.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 200;
/// Names and values of a call's headers, all together.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Two connections for each of 10,000 workers, and some.
const LIMITS: Limits =
    Limits { connections_max: 32_768, connections_of_peer_max: 4_096, silence_max: Duration::from_secs(60) };
/// Sweep files that are read at a time: a large one takes a few hundred megabytes.
const SUBMISSIONS_MAX: usize = 2;
/// How long the next message of a checkpoint, or the first of a worker, may take.
const SLOW_MAX: Duration = Duration::from_secs(60);

/// Both services.
#[derive(Clone, Debug)]
struct Service {
    shared: Arc<Shared>,
    sessions: Arc<AtomicU64>,
    /// Sweep files that may be read now.
    submissions: Arc<Semaphore>,
    /// What workers have said and the driver has not taken yet.
    unheard: Arc<Semaphore>,
    /// How long a reader may leave what he is told unread.
    reader_max: Duration,
}

/// How to serve, should the certificate be good for it.
pub(crate) fn server(tls: Option<ServerTlsConfig>) -> Result<Server, tonic::transport::Error> {
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    match tls {
        Some(tls) => server.tls_config(tls),
        None => Ok(server),
    }
}

pub(crate) async fn serve(
    mut server: Server,
    listener: TcpListener,
    shared: Arc<Shared>,
    reader_max: Duration,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = Service {
        shared,
        sessions: Arc::new(AtomicU64::new(0)),
        submissions: Arc::new(Semaphore::new(SUBMISSIONS_MAX)),
        unheard: share::of_all(),
        reader_max,
    };
    let metrics = Arc::clone(&service.shared.metrics);
    let asked = service.shared.is_guarded.then(|| service.shared.tokens.clone());
    let sweeps = SweepsServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let tokens = TokensServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let workers = WorkersServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    server
        .add_service(Counted::new(Guarded::new(sweeps, asked.clone()), Arc::clone(&metrics)))
        .add_service(Counted::new(Guarded::new(tokens, asked.clone()), Arc::clone(&metrics)))
        .add_service(Counted::new(Guarded::new(workers, asked), metrics))
        .serve_with_incoming_shutdown(Door::new(listener, LIMITS), shutdown)
        .await
}

impl Service {
    /// Asks the driver, and waits until the answer's consequences are on disk.
    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, Status> {
        let (sender, answer) = oneshot::channel();
        self.shared.inputs.send(input(sender)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// For what a person waits for: better a reason now than an answer when the disk has room again.
    fn check_writable(&self) -> Result<(), Status> {
        match self.shared.trouble.borrow().as_deref() {
            None => Ok(()),
            Some(trouble) => Err(Status::unavailable(format!("{trouble}; it is tried again until it succeeds"))),
        }
    }

    async fn no_sweep(&self, name: &str) -> Status {
        let names = self.shared.reader.sweep_names().await.unwrap_or_default();
        Status::not_found(explain::no_sweep(name, &names))
    }
}

fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping")
}

fn cannot_read(error: sqlx::Error) -> Status {
    tracing::error!(%error, "the store cannot be read");
    Status::internal(format!("the store cannot be read: {error}"))
}

fn no_trial(trial: u64) -> Status {
    Status::not_found(format!("there is no trial {trial}; `alpharho status SWEEP` lists those of a sweep"))
}

/// Who made a call, where callers must say so.
fn caller<T>(request: &tonic::Request<T>) -> Option<Caller> {
    request.extensions().get::<Caller>().cloned()
}
