//! The service that agents call.

use super::{Answers, SLOW_MAX, Service, caller, transfer};
use crate::driver::{Attach, Input};
use crate::tokens::{Caller, ended};
use proto::wire;
use proto::wire::worker_message::Body;
use proto::wire::workers_server::Workers;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages that may wait for a worker to read them: a lease for each of its slots, and some.
const TO_WORKER_MAX: usize = 4096;

#[tonic::async_trait]
impl Workers for Service {
    type SessionStream = Answers<wire::CoordinatorMessage>;
    type DownloadStream = Answers<wire::Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request);
        let mut stream = request.into_inner();
        let (to_worker, answers) = mpsc::channel(TO_WORKER_MAX);
        let service = self.clone();
        // Answered at once: a worker may wait for the stream before it says its first word.
        tokio::spawn(async move {
            let reply = to_worker.clone();
            if let Err(status) = service.listen(&mut stream, to_worker, caller).await {
                // Full or gone: the stream ends all the same.
                let _ = reply.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadMessage>>,
    ) -> Result<Response<wire::UploadReceipt>, Status> {
        let name = caller(&request).map(|caller| caller.name);
        transfer::receive(self, request.into_inner(), name).await
    }

    async fn download(&self, request: Request<wire::FetchRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = caller(&request);
        transfer::send(self, request.into_inner(), caller).await
    }
}

impl Service {
    /// Reads a worker's stream until it, the driver or the coordinator ends it.
    async fn listen(
        &self,
        stream: &mut Streaming<wire::WorkerMessage>,
        to_worker: mpsc::Sender<Result<wire::CoordinatorMessage, Status>>,
        caller: Option<Caller>,
    ) -> Result<(), Status> {
        let late = |_| Status::deadline_exceeded("a worker's first message took too long");
        let first = tokio::time::timeout(SLOW_MAX, stream.message()).await.map_err(late)??;
        let Some(wire::WorkerMessage { sequence, body: Some(Body::Register(register)) }) = first else {
            return Err(Status::invalid_argument("a worker's first message must register it"));
        };
        let registration = proto::convert::registration(register)?;
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let (open, driver_closed) = oneshot::channel();
        let name = caller.as_ref().map(|caller| caller.name.clone());
        let attach = Attach { session, sequence, registration, name, to_worker, open };
        self.say(Input::Attach(Box::new(attach))).await?;
        let result = tokio::select! {
            result = self.listen_attached(session, sequence, stream) => result,
            _ = driver_closed => Ok(()),
            status = ended(caller) => Err(status),
        };
        self.say(Input::Detached { session }).await?;
        result
    }

    async fn listen_attached(
        &self,
        session: u64,
        mut last: u64,
        stream: &mut Streaming<wire::WorkerMessage>,
    ) -> Result<(), Status> {
        let mut closed = self.shared.closed.clone();
        loop {
            let message = tokio::select! {
                message = stream.message() => message?,
                _ = closed.wait_for(|closed| *closed) => return Err(super::stopping()),
            };
            let Some(wire::WorkerMessage { sequence, body }) = message else { return Ok(()) };
            if sequence <= last {
                let text = format!("message {sequence} came after message {last}; they are numbered upwards");
                return Err(Status::invalid_argument(text));
            }
            last = sequence;
            let body = body.ok_or(proto::convert::BadMessage::Missing("body"))?;
            let saying = proto::convert::saying(body)?;
            self.say(Input::Said { session, sequence, saying }).await?;
        }
    }

    async fn say(&self, input: Input) -> Result<(), Status> {
        self.shared.inputs.send(input).await.map_err(|_| super::stopping())
    }
}
