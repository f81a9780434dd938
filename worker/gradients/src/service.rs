//! The chief on the network.

use crate::chief::{Finished, Nonsense, Phase, Verdict};
use crate::near;
use crate::parts::{Buffer, Buffers, Incoming, PART_BYTES_MAX, TooLong, cut};
use crate::ranges::Range;
use crate::shared::{Answer, IDLE, OWN, Shared, next_work};
use crate::values::Values;
use access::{Credentials, Door, Limits};
use bytes::Bytes;
use proto::gradients::gradients_server::{Gradients, GradientsServer};
use proto::gradients::push_part::Part as PushedPart;
use proto::gradients::reply_part::Part as RepliedPart;
use proto::gradients::{self as wire, JoinRequest, PushPart, PushReply, PushRequest, ReplyPart, Welcome};
use std::collections::BTreeMap;
use std::io;
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
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Interceptor;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// The largest message, ranges included.
pub(crate) const MESSAGE_BYTES_MAX: usize = PART_BYTES_MAX + (1 << 16);
/// Bytes of an HTTP/2 frame: a part goes in one.
pub(crate) const FRAME_BYTES_MAX: u32 = 1 << 20;
/// HTTP/2's window: bytes on their way. More than any line holds, and no more, because what came and was not read yet
/// takes memory beside the buffers.
pub(crate) const WINDOW_BYTES: u32 = 4 << 20;
/// A connection is asked for a sign of life so often, and closed if none comes in twice the time.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);
/// Ranges that a replica may ask to have in hand.
const WANTED_MAX: usize = 1024;
/// Calls at a time on one connection: a replica joins and pushes.
const STREAMS_MAX: u32 = 16;
/// Names and values of a call's headers, all together.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Replicas have one connection each.
const LIMITS: Limits =
    Limits { connections_max: 1_024, connections_of_peer_max: 256, silence_max: Duration::from_secs(60) };
/// How long the next part of a gradient may take.
const PART_MAX: Duration = Duration::from_secs(60);
/// Numbers of replicas that an attempt may have seen.
const REPLICAS_MAX: usize = 10_000;
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

/// Listens for the replicas of the attempt of `chief`, whose secret they must know. With credentials it speaks TLS, and
/// lets nobody in without a certificate of the same authority; but for replicas of this host, which come by a socket of
/// their own.
///
/// # Errors
/// When the address cannot be listened on, or the certificate is not one to listen with.
pub fn listen(
    shared: &Arc<Shared>,
    chief: Token,
    secret: &str,
    address: &str,
    credentials: Option<&Credentials>,
) -> io::Result<Listening> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("gradients")
        .enable_all()
        .build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    let (values, precision) = shared.look(|chief| (chief.master().weights.len(), chief.gradients().wire));
    let service = Service {
        shared: Arc::clone(shared),
        chief,
        precision,
        values,
        joined: Arc::default(),
        buffers: Buffers::default(),
    };
    let service = GradientsServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let guarded = tonic::service::interceptor::InterceptedService::new(service, Guard::new(secret));
    let mut server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(2 * KEEPALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX);
    let mut server_far = match credentials {
        Some(credentials) => {
            let tls = credentials.to_listen().map_err(io::Error::other)?;
            server.clone().tls_config(tls).map_err(io::Error::other)?
        }
        None => server.clone(),
    };
    let near = {
        let _inside = runtime.enter();
        near::listen(address)
    };
    // Without it replicas of this host come by TCP like others.
    if let Ok(listener) = near {
        let router = server.add_service(guarded.clone());
        runtime.spawn(report(router.serve_with_incoming(UnixListenerStream::new(listener))));
    }
    let incoming = Door::new(listener, LIMITS);
    runtime.spawn(report(server_far.add_service(guarded).serve_with_incoming(incoming)));
    Ok(Listening { address, runtime: Some(runtime) })
}

async fn report(served: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = served.await {
        eprintln!("the exchange of gradients has ended: {error}");
    }
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
    /// One for each push that is being answered: its gradient comes into it, and then the parameters go out of it.
    buffers: Buffers,
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

    async fn answer(
        &self,
        replica: u32,
        wanted: usize,
        verdict: Verdict,
        mut buffer: Buffer,
    ) -> Result<(PushReply, Bytes), Status> {
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
                chief.note_read(replica);
                buffer.write(&chief.master().weights, self.precision);
                Some(Ok(reply(&answer, version)))
            });
            match reply {
                Some(reply) => return reply.map(|reply| (reply, buffer.into_bytes())),
                None => tokio::select! {
                    // The sender lives as long as `self`.
                    _ = changes.changed() => {}
                    () = &mut idle, if !is_late => is_late = true,
                },
            }
        }
    }
}

fn reply(answer: &Answer, version: u64) -> PushReply {
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
    PushReply { verdict: verdict.into(), phase: phase.into(), epoch: answer.epoch, version, ranges }
}

#[tonic::async_trait]
impl Gradients for Service {
    type JoinStream = Attendance;
    type PushStream = ReplyParts;

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
            if joined.len() >= REPLICAS_MAX && !joined.contains_key(&replica) {
                return Err(Status::resource_exhausted(format!("{REPLICAS_MAX} replicas have joined this attempt")));
            }
            let connection = joined.get(&replica).map_or(1, |(_, connection)| connection + 1);
            joined.insert(replica, (incarnation, connection));
            connection
        };
        self.shared.with(|chief| chief.join(replica));
        Ok(Response::new(Attendance { service: self.clone(), replica, connection, welcomed: false }))
    }

    async fn push(&self, request: Request<Streaming<PushPart>>) -> Result<Response<ReplyParts>, Status> {
        let mut parts = request.into_inner();
        let Some(PushedPart::Push(push)) = next_part(&mut parts).await?.and_then(|first| first.part) else {
            return Err(Status::invalid_argument("the first part of a push must say who it is from"));
        };
        let (replica, incarnation) = self.check(push.from)?;
        self.check_incarnation(replica, incarnation)?;
        let mut gradient = Incoming::new(self.buffers.take(), self.values, self.precision);
        while let Some(part) = next_part(&mut parts).await? {
            let Some(PushedPart::Gradient(bytes)) = part.part else {
                return Err(Status::invalid_argument("after the first part of a push only its gradient may come"));
            };
            gradient.add_measured(&bytes).map_err(|TooLong| {
                Status::invalid_argument(format!("the gradient is too long: there are {} parameters", self.values))
            })?;
        }
        let verdict = self.take(&push, &gradient)?;
        let wanted = usize::try_from(push.ranges_wanted).unwrap_or(WANTED_MAX).clamp(1, WANTED_MAX);
        let (reply, parameters) = self.answer(replica, wanted, verdict, gradient.into_buffer()).await?;
        Ok(Response::new(reply_parts(reply, parameters)))
    }
}

/// The next part; a replica that is slower than slow does not hold a buffer for ever.
async fn next_part(parts: &mut Streaming<PushPart>) -> Result<Option<PushPart>, Status> {
    let late = |_| Status::deadline_exceeded("the next part of the push took too long; send it again");
    tokio::time::timeout(PART_MAX, parts.message()).await.map_err(late)?
}

/// An answer in parts.
type ReplyParts = Pin<Box<dyn Stream<Item = Result<ReplyPart, Status>> + Send>>;

fn reply_parts(reply: PushReply, parameters: Bytes) -> ReplyParts {
    let parameters = cut(parameters).map(RepliedPart::Parameters);
    let parts = std::iter::once(RepliedPart::Reply(reply)).chain(parameters);
    Box::pin(tokio_stream::iter(parts.map(|part| Ok(ReplyPart { part: Some(part) }))))
}

impl Service {
    /// Gives the chief what a push brought.
    fn take(&self, push: &PushRequest, gradient: &Incoming) -> Result<Verdict, Status> {
        let now_ms = self.shared.now_ms();
        let replica = push.from.map_or(OWN, |from| from.replica);
        let finished = match &push.finished {
            Some(finished) => Some(understood(finished, gradient, self.precision)?),
            None if gradient.bytes().is_empty() => None,
            None => return Err(Status::invalid_argument("a gradient came without saying what it is of")),
        };
        self.shared.with(|chief| chief.push(replica, push.sequence, finished.as_ref(), now_ms)).map_err(refusal)
    }
}

fn understood<'a>(
    finished: &wire::Finished,
    gradient: &'a Incoming,
    precision: Precision,
) -> Result<Finished<'a>, Status> {
    let values = Values::from_wire(gradient.bytes(), precision)
        .ok_or_else(|| Status::invalid_argument("the gradient's bytes are not a whole number of floats"))?;
    Ok(Finished {
        version: finished.version,
        ranges: finished.ranges.iter().map(|range| Range { first: range.first, next: range.next }).collect(),
        samples: finished.samples,
        loss: finished.loss,
        right: finished.right,
        gradient: (!values.is_empty()).then_some(values),
        norm: Some(gradient.norm()),
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
            self.service.buffers.shrink();
        }
    }
}
