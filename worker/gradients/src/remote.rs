//! A replica that calls the chief of its trial over the network.
//!
//! While one push is on its way, the next gradient is computed: fetching overlaps computing, at the price of one
//! update's staleness. In `sync` mode each push is waited for.

use crate::chief::{Finished, Phase, Verdict};
use crate::near::Near;
use crate::parts::{Buffers, Incoming, TooLong, cut};
use crate::ranges::Range;
use crate::service::{FRAME_BYTES_MAX, KEEPALIVE, MESSAGE_BYTES_MAX, WINDOW_BYTES, bearer};
use crate::values::Values;
use crate::{Assignment, Exchange, ExchangeError};
use access::Credentials;
use bytes::Bytes;
use proto::gradients::gradients_client::GradientsClient;
use proto::gradients::push_part::Part as PushedPart;
use proto::gradients::reply_part::Part as RepliedPart;
use proto::gradients::{self as wire, JoinRequest, PushPart, PushReply, PushRequest, Welcome};
use std::io;
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::spec::model::{GradientMode, Gradients, Precision};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

/// How long a chief that does not answer is tried. The coordinator stops the replicas of a chief that it has given
/// up, so this matters only where the coordinator is away too.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);
/// A push of the largest network over a slow line takes less.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Where the chief is, and who calls.
#[derive(Clone)]
pub struct Caller {
    /// `127.0.0.1:43121`
    pub chief: String,
    /// The replica's token.
    pub token: Token,
    /// Of the attempt; never printed.
    pub secret: String,
    /// Floats in the flat buffer.
    pub values: usize,
    /// How gradients come together.
    pub gradients: Gradients,
    /// With these it speaks TLS, believes a chief of the same authority alone whose certificate names the host, and
    /// shows its own; but for a chief of this host, which it reaches by a socket of its own.
    pub credentials: Option<Credentials>,
}

/// A replica that has joined.
pub struct Remote {
    runtime: Runtime,
    call: Call,
    is_sync: bool,
    sequence: u64,
    /// The one push on its way, with when it was sent first.
    on_its_way: Option<JoinHandle<Result<Answer, ExchangeError>>>,
    /// Open as long as we take part.
    attendance: Option<Streaming<Welcome>>,
}

/// What the chief answers to a push.
struct Answer {
    reply: PushReply,
    parameters: Incoming,
}

/// What it takes to call.
#[derive(Clone)]
struct Call {
    chief: String,
    client: GradientsClient<Channel>,
    authorization: MetadataValue<Ascii>,
    from: wire::Replica,
    values: usize,
    precision: Precision,
    /// Of the push on its way, of its answer, and of the next push.
    buffers: Buffers,
}

impl Remote {
    /// Connects and joins.
    ///
    /// # Errors
    /// When the chief cannot be reached for a minute, or refuses.
    pub fn join(caller: &Caller) -> Result<Self, ExchangeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gradients")
            .enable_all()
            .build()?;
        let bad = |what: String| ExchangeError::BadAnswer(what);
        let near = {
            let _inside = runtime.enter();
            Near::find(&caller.chief)
        };
        let credentials = caller.credentials.as_ref().filter(|_| near.is_none());
        let scheme = if credentials.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", caller.chief))
            .map_err(|error| bad(format!("{} is no address: {error}", caller.chief)))?;
        if let Some(credentials) = credentials {
            let tls = credentials.to_call(endpoint.uri().host().unwrap_or_default());
            endpoint = endpoint.tls_config(tls).map_err(io::Error::other)?;
        }
        let endpoint = endpoint
            .tcp_nodelay(true)
            .connect_timeout(ANSWER_PATIENCE)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(2 * KEEPALIVE)
            .keep_alive_while_idle(true);
        let channel = {
            let _inside = runtime.enter();
            match near {
                Some(near) => endpoint.connect_with_connector_lazy(near),
                None => endpoint.connect_lazy(),
            }
        };
        let client = GradientsClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut authorization: MetadataValue<Ascii> = bearer(&caller.secret)
            .parse()
            .map_err(|_| bad("the secret has characters that it must not have".into()))?;
        authorization.set_sensitive(true);
        let Token { trial, attempt, replica, incarnation } = caller.token;
        let from = wire::Replica { trial: trial.0, attempt, replica, incarnation };
        let (chief, values, precision) = (caller.chief.clone(), caller.values, caller.gradients.wire);
        let buffers = Buffers::default();
        let call = Call { chief, client, authorization, from, values, precision, buffers };
        let mut remote = Self {
            runtime,
            call,
            is_sync: caller.gradients.mode == GradientMode::Sync,
            sequence: 0,
            on_its_way: None,
            attendance: None,
        };
        remote.attend()?;
        Ok(remote)
    }

    fn attend(&mut self) -> Result<(), ExchangeError> {
        let request = JoinRequest { from: Some(self.call.from), values: u64::try_from(self.call.values).unwrap_or(0) };
        self.attendance = Some(self.runtime.block_on(self.call.join(request))?);
        Ok(())
    }

    /// Sends a push; the answer comes in its time.
    fn send(&mut self, finished: Option<wire::Finished>, gradient: Bytes, wanted: usize) {
        self.sequence += 1;
        let request = PushRequest {
            from: Some(self.call.from),
            sequence: self.sequence,
            finished,
            ranges_wanted: u32::try_from(wanted).unwrap_or(u32::MAX),
        };
        self.on_its_way = Some(self.runtime.spawn(self.call.clone().push(request, gradient)));
    }

    /// Waits for the push on its way. None if the chief has taken us for lost: we have joined anew, and have nothing.
    fn wait(&mut self, push: JoinHandle<Result<Answer, ExchangeError>>) -> Result<Option<Answer>, ExchangeError> {
        let answered = self.runtime.block_on(push);
        match answered.map_err(|error| ExchangeError::BadAnswer(error.to_string()))? {
            Err(ExchangeError::Refused(reason)) if reason.starts_with(LOST) => {
                self.attend()?;
                Ok(None)
            }
            answered => answered.map(Some),
        }
    }
}

/// Begins the reason of a refusal by a chief that has given us up.
const LOST: &str = "taken for lost: ";

impl Call {
    async fn join(&mut self, request: JoinRequest) -> Result<Streaming<Welcome>, ExchangeError> {
        let started = Instant::now();
        loop {
            let joined = async {
                let mut welcomes = self.client.join(self.authorized(request)).await?.into_inner();
                welcomes.message().await?;
                Ok(welcomes)
            };
            match joined.await {
                Ok(attendance) => return Ok(attendance),
                Err(status) => self.try_again(&status, started).await?,
            }
        }
    }

    async fn push(mut self, request: PushRequest, gradient: Bytes) -> Result<Answer, ExchangeError> {
        let started = Instant::now();
        loop {
            let pushed = tokio::time::timeout(ANSWER_PATIENCE, self.push_once(request.clone(), gradient.clone()));
            match pushed.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => self.try_again(&status, started).await?,
                Err(_) => self.try_again(&Status::deadline_exceeded("no answer came in time"), started).await?,
            }
        }
    }

    async fn push_once(&mut self, request: PushRequest, gradient: Bytes) -> Result<Answer, Status> {
        let parts = std::iter::once(PushedPart::Push(request)).chain(cut(gradient).map(PushedPart::Gradient));
        let parts = tokio_stream::iter(parts.map(|part| PushPart { part: Some(part) }));
        let request = self.authorized(parts);
        let mut parts = self.client.push(request).await?.into_inner();
        let Some(RepliedPart::Reply(reply)) = parts.message().await?.and_then(|first| first.part) else {
            return Err(Status::data_loss("the chief's answer has no beginning"));
        };
        let mut parameters = Incoming::new(self.buffers.take(), self.values, self.precision);
        while let Some(part) = parts.message().await? {
            let Some(RepliedPart::Parameters(bytes)) = part.part else {
                return Err(Status::data_loss("the chief's answer has two beginnings"));
            };
            parameters.add(&bytes).map_err(|TooLong| Status::data_loss("the chief's parameters are too long"))?;
        }
        Ok(Answer { reply, parameters })
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    /// Waits a little if the error is of the line and not of what was said; gives up after [`PATIENCE`].
    async fn try_again(&self, status: &Status, started: Instant) -> Result<(), ExchangeError> {
        match status.code() {
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::Internal => {}
            Code::NotFound => return Err(ExchangeError::Refused(format!("{LOST}{}", status.message()))),
            Code::Aborted => return Err(ExchangeError::Failed(status.message().to_owned())),
            _ => return Err(ExchangeError::Refused(status.message().to_owned())),
        }
        if started.elapsed() >= PATIENCE {
            let reason = status.message().to_owned();
            return Err(ExchangeError::Gone { chief: self.chief.clone(), patience: PATIENCE, reason });
        }
        tokio::time::sleep(RETRY).await;
        Ok(())
    }
}

impl Exchange for Remote {
    fn exchange(
        &mut self,
        finished: Option<&Finished<'_>>,
        wanted: usize,
        weights: &mut [f32],
    ) -> Result<Assignment, ExchangeError> {
        // Packed while the push before is on its way, which is waited for then.
        let gradient = finished.and_then(|finished| finished.gradient);
        let gradient = gradient.map(|gradient| self.gradient_bytes(gradient)).unwrap_or_default();
        let mut newest = None;
        if let Some(push) = self.on_its_way.take() {
            match self.wait(push)? {
                Some(reply) => newest = Some(reply),
                // What is finished is of samples that are not ours any more.
                None => return self.begin_anew(wanted, weights),
            }
        }
        if finished.is_some() || newest.is_none() {
            self.send(finished.map(|finished| said(finished)), gradient, wanted);
            if (newest.is_none() || self.is_sync)
                && let Some(push) = self.on_its_way.take()
            {
                match self.wait(push)? {
                    Some(reply) => newest = Some(merged(newest, reply)),
                    None => return self.begin_anew(wanted, weights),
                }
            }
        }
        let reply = newest.ok_or_else(|| ExchangeError::BadAnswer("none came".to_owned()))?;
        self.understood(reply, weights)
    }
}

impl Remote {
    /// The first work after joining again.
    fn begin_anew(&mut self, wanted: usize, weights: &mut [f32]) -> Result<Assignment, ExchangeError> {
        self.on_its_way = None;
        self.send(None, Bytes::new(), wanted);
        let reply = match self.on_its_way.take() {
            Some(push) => self.wait(push)?,
            None => None,
        };
        let reply = reply.ok_or_else(|| ExchangeError::Refused("it takes this replica for lost".to_owned()))?;
        Ok(Assignment { is_fresh: true, ..self.understood(reply, weights)? })
    }

    fn gradient_bytes(&self, gradient: Values<'_>) -> Bytes {
        let mut buffer = self.call.buffers.take();
        match gradient {
            Values::F32(values) => buffer.write(values, self.call.precision),
            Values::F32Bytes(_) | Values::Bf16Bytes(_) => {
                let mut values = vec![0.0; gradient.len()];
                gradient.copy_to(&mut values);
                buffer.write(&values, self.call.precision);
            }
        }
        buffer.into_bytes()
    }

    fn understood(
        &self,
        Answer { reply, parameters }: Answer,
        weights: &mut [f32],
    ) -> Result<Assignment, ExchangeError> {
        Values::from_wire(parameters.bytes(), self.call.precision)
            .filter(|values| values.len() == weights.len())
            .ok_or_else(|| ExchangeError::BadAnswer("the parameters have another size".to_owned()))?
            .copy_to(weights);
        let verdict = match reply.verdict() {
            wire::Verdict::Nothing => Verdict::Nothing,
            wire::Verdict::Applied => Verdict::Applied,
            wire::Verdict::TooStale => Verdict::TooStale,
            wire::Verdict::NotFinite => Verdict::NotFinite,
            wire::Verdict::NotYours => Verdict::NotYours,
        };
        let phase = match reply.phase() {
            wire::Phase::Training => Phase::Training,
            wire::Phase::Resting => Phase::Resting,
            wire::Phase::Done => Phase::Done,
        };
        let ranges = reply.ranges.iter().map(|range| Range { first: range.first, next: range.next }).collect();
        Ok(Assignment { verdict, phase, epoch: reply.epoch, version: reply.version, ranges, is_fresh: false })
    }
}

/// A newer answer, with the work of the older one too.
fn merged(older: Option<Answer>, mut newer: Answer) -> Answer {
    if let Some(older) = older {
        newer.reply.ranges.splice(0..0, older.reply.ranges);
    }
    newer
}

fn said(finished: &Finished<'_>) -> wire::Finished {
    wire::Finished {
        version: finished.version,
        ranges: finished.ranges.iter().map(|range| wire::Range { first: range.first, next: range.next }).collect(),
        samples: finished.samples,
        loss: finished.loss,
        right: finished.right,
    }
}
