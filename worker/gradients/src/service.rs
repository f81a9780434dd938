//! The chief on the network.

use crate::chief::{Finished, Nonsense, Phase, Verdict};
use crate::ranges::Range;
use crate::shared::{Answer, IDLE, OWN, Shared, next_work};
use crate::values::{Values, to_wire, wire_bytes};
use proto::gradients::gradients_server::{Gradients, GradientsServer};
use proto::gradients::{self as wire, JoinRequest, PushReply, PushRequest, Welcome};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use subtle::ConstantTimeEq;
use sweeps::ids::Token;
use sweeps::spec::model::Precision;
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tonic::service::Interceptor;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Room in a message beside its floats.
pub(crate) const HEADER_BYTES_MAX: usize = 1 << 16;
/// HTTP/2 windows beyond the largest message, so that a whole one is on its way without waiting.
pub(crate) const WINDOW_BYTES: u32 = 64 << 20;
/// A connection is asked for a sign of life so often, and closed if none comes in twice the time.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);
/// Ranges that a replica may ask to have in hand.
const WANTED_MAX: usize = 1024;
/// Threads for connections: one for each direction of a busy exchange.
const THREADS: usize = 2;

/// A chief that listens, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Listens for the replicas of the attempt of `chief`, whose secret they must know.
///
/// # Errors
/// When the address cannot be listened on.
pub fn listen(shared: &Arc<Shared>, chief: Token, secret: &str, address: &str) -> std::io::Result<Listening> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("gradients")
        .enable_all()
        .build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    let (values, precision) = shared.look(|chief| (chief.master().weights.len(), chief.gradients().wire));
    let message_bytes_max = values * wire_bytes(precision) + HEADER_BYTES_MAX;
    let service = Service { shared: Arc::clone(shared), chief, precision, values, joined: Arc::default() };
    let service = GradientsServer::new(service)
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(message_bytes_max);
    let guarded = tonic::service::interceptor::InterceptedService::new(service, Guard::new(secret));
    let server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_frame_size(1 << 20)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(2 * KEEPALIVE))
        .add_service(guarded);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    runtime.spawn(async move {
        if let Err(error) = server.serve_with_incoming(incoming).await {
            eprintln!("the exchange of gradients has ended: {error}");
        }
    });
    Ok(Listening { address, runtime: Some(runtime) })
}

/// Lets nobody in who does not know the secret.
#[derive(Clone)]
struct Guard {
    expected: Arc<[u8]>,
}

impl Guard {
    fn new(secret: &str) -> Self {
        Self { expected: bearer(secret).into_bytes().into() }
    }
}

pub(crate) fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let said = request.metadata().get("authorization").map(|value| value.as_bytes()).unwrap_or_default();
        if bool::from(said.ct_eq(&self.expected)) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("this is not the secret of the attempt that is trained here"))
        }
    }
}

/// Which incarnation of each replica joined last, and its how manieth connection is open.
type Joined = Arc<Mutex<BTreeMap<u32, (u32, u64)>>>;

#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
    chief: Token,
    precision: Precision,
    values: usize,
    joined: Joined,
}

impl Service {
    /// Who speaks, if it may.
    fn check(&self, from: Option<wire::Replica>) -> Result<(u32, u32), Status> {
        let from = from.ok_or_else(|| Status::invalid_argument("the message does not say who it is from"))?;
        if from.trial != self.chief.trial.0 {
            return Err(Status::permission_denied(format!("trial {} is not trained here", from.trial)));
        }
        if from.attempt != self.chief.attempt {
            let Token { trial, attempt, .. } = self.chief;
            return Err(Status::permission_denied(format!(
                "attempt {} of trial {trial} is over; attempt {attempt} is trained here",
                from.attempt
            )));
        }
        if from.replica == OWN {
            return Err(Status::permission_denied("replica 0 is the chief itself"));
        }
        Ok((from.replica, from.incarnation))
    }

    fn check_incarnation(&self, replica: u32, incarnation: u32) -> Result<(), Status> {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        match joined.get(&replica) {
            Some((newest, _)) if incarnation < *newest => Err(Status::permission_denied(format!(
                "incarnation {incarnation} of replica {replica} is over; {newest} has joined"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    async fn answer(&self, replica: u32, wanted: usize, verdict: Verdict) -> Result<PushReply, Status> {
        let mut changes = self.shared.changes();
        let idle = tokio::time::sleep(IDLE);
        tokio::pin!(idle);
        let mut is_late = false;
        loop {
            changes.mark_unchanged();
            let reply = self.shared.look_mut(|chief| {
                if let Some(failure) = chief.failure() {
                    return Some(Err(Status::aborted(failure.to_owned())));
                }
                let answer = next_work(chief, replica, wanted, verdict, self.shared.now_ms());
                let answer = answer.filter(|answer| answer.phase != Phase::Resting || is_late);
                let answer = answer.or_else(|| {
                    let (phase, epoch) = (chief.phase(), chief.epoch());
                    is_late.then_some(Answer { verdict, phase, epoch, ranges: Vec::new() })
                })?;
                let version = chief.version();
                let parameters = match chief.note_read(replica) {
                    Some(weights) => to_wire(&weights, self.precision),
                    None => to_wire(&chief.master().weights, self.precision),
                };
                Some(Ok(reply(&answer, version, parameters)))
            });
            match reply {
                Some(reply) => return reply,
                None => tokio::select! {
                    // The sender lives as long as `self`.
                    _ = changes.changed() => {}
                    () = &mut idle, if !is_late => is_late = true,
                },
            }
        }
    }
}

fn reply(answer: &Answer, version: u64, parameters: bytes::Bytes) -> PushReply {
    let verdict = match answer.verdict {
        Verdict::Nothing => wire::Verdict::Nothing,
        Verdict::Applied => wire::Verdict::Applied,
        Verdict::TooStale => wire::Verdict::TooStale,
        Verdict::NotFinite => wire::Verdict::NotFinite,
        Verdict::NotYours => wire::Verdict::NotYours,
    };
    let phase = match answer.phase {
        Phase::Training => wire::Phase::Training,
        Phase::Resting => wire::Phase::Resting,
        Phase::Done => wire::Phase::Done,
    };
    let ranges = answer.ranges.iter().map(|range| wire::Range { first: range.first, next: range.next }).collect();
    PushReply { verdict: verdict.into(), phase: phase.into(), epoch: answer.epoch, version, ranges, parameters }
}

#[tonic::async_trait]
impl Gradients for Service {
    type JoinStream = Attendance;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Attendance>, Status> {
        let JoinRequest { from, values } = request.into_inner();
        let (replica, incarnation) = self.check(from)?;
        self.check_incarnation(replica, incarnation)?;
        if usize::try_from(values) != Ok(self.values) {
            return Err(Status::failed_precondition(format!(
                "the replica's network has {values} parameters, the chief's {}; are both of the same version?",
                self.values
            )));
        }
        let connection = {
            let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = joined.get(&replica).map_or(1, |(_, connection)| connection + 1);
            joined.insert(replica, (incarnation, connection));
            connection
        };
        self.shared.with(|chief| chief.join(replica));
        Ok(Response::new(Attendance { service: self.clone(), replica, connection, welcomed: false }))
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushReply>, Status> {
        let PushRequest { from, sequence, finished, ranges_wanted, gradient } = request.into_inner();
        let (replica, incarnation) = self.check(from)?;
        self.check_incarnation(replica, incarnation)?;
        let now_ms = self.shared.now_ms();
        let verdict = {
            let finished = match &finished {
                Some(finished) => Some(understood(finished, &gradient, self.precision)?),
                None if gradient.is_empty() => None,
                None => return Err(Status::invalid_argument("a gradient came without saying what it is of")),
            };
            self.shared.with(|chief| chief.push(replica, sequence, finished.as_ref(), now_ms)).map_err(refusal)?
        };
        // Its memory is wanted for the answer.
        drop(gradient);
        let wanted = usize::try_from(ranges_wanted).unwrap_or(WANTED_MAX).clamp(1, WANTED_MAX);
        self.answer(replica, wanted, verdict).await.map(Response::new)
    }
}

fn understood<'a>(finished: &wire::Finished, gradient: &'a [u8], precision: Precision) -> Result<Finished<'a>, Status> {
    let values = Values::from_wire(gradient, precision)
        .ok_or_else(|| Status::invalid_argument("the gradient's bytes are not a whole number of floats"))?;
    Ok(Finished {
        version: finished.version,
        ranges: finished.ranges.iter().map(|range| Range { first: range.first, next: range.next }).collect(),
        samples: finished.samples,
        loss: finished.loss,
        right: finished.right,
        gradient: (!values.is_empty()).then_some(values),
    })
}

fn refusal(nonsense: Nonsense) -> Status {
    let text = nonsense.to_string();
    match nonsense {
        Nonsense::Unknown(_) => Status::not_found(text),
        Nonsense::OldSequence { .. } | Nonsense::FromTheFuture { .. } => Status::failed_precondition(text),
        Nonsense::WrongSize { .. } | Nonsense::BadRange(_) => Status::invalid_argument(text),
    }
}

/// Open as long as the replica's connection: what it had in hand is then handed out again.
pub struct Attendance {
    service: Service,
    replica: u32,
    connection: u64,
    welcomed: bool,
}

impl Stream for Attendance {
    type Item = Result<Welcome, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.welcomed {
            // Nothing more is ever said; tonic drops the stream when the connection ends.
            return Poll::Pending;
        }
        self.welcomed = true;
        Poll::Ready(Some(Ok(Welcome {})))
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let is_newest = {
            let joined = self.service.joined.lock().unwrap_or_else(PoisonError::into_inner);
            joined.get(&self.replica).is_some_and(|(_, connection)| *connection == self.connection)
        };
        if is_newest {
            self.service.shared.with(|chief| chief.leave(self.replica));
        }
    }
}
