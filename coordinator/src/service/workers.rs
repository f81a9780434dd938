//! The service that agents call.

use super::share::{Place, Share};
use super::{Answers, SLOW_MAX, Service, caller, transfer};
use crate::driver::{Attach, Input, ToWorker};
use crate::tokens::{Caller, ended};
use proto::wire;
use proto::wire::worker_message::Body;
use proto::wire::workers_server::Workers;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

/// Messages that may wait for a worker to read them: a lease for each of its slots, and some.
const TO_WORKER_MAX: usize = 4096;

#[tonic::async_trait]
impl Workers for Service {
    /// A queue that takes room for what is in it only: there is one a worker.
    type SessionStream = futures::channel::mpsc::Receiver<Result<wire::CoordinatorMessage, Status>>;
    type DownloadStream = Answers<wire::Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request);
        let mut stream = request.into_inner();
        let (to_worker, answers) = futures::channel::mpsc::channel(TO_WORKER_MAX);
        let service = self.clone();
        // Answered at once: a worker may wait for the stream before it says its first word.
        tokio::spawn(async move {
            let mut reply = to_worker.clone();
            if let Err(status) = service.listen(&mut stream, to_worker, caller).await {
                // Full or gone: the stream ends all the same.
                let _ = reply.try_send(Err(status));
            }
        });
        Ok(Response::new(answers))
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

/// There is one such future for each worker, so it is kept small: what is rare is boxed.
impl Service {
    /// Reads a worker's stream until it, the driver or the coordinator ends it.
    async fn listen(
        &self,
        stream: &mut Streaming<wire::WorkerMessage>,
        to_worker: ToWorker,
        caller: Option<Caller>,
    ) -> Result<(), Status> {
        let name = caller.as_ref().map(|caller| caller.name.clone());
        let (session, sequence, driver_closed) = Box::pin(self.attach(stream, to_worker, name)).await?;
        let result = tokio::select! {
            result = self.listen_attached(session, sequence, stream) => result,
            // By the driver; all of them when it ends because the coordinator does.
            _ = driver_closed => if *self.shared.closed.borrow() { Err(super::stopping()) } else { Ok(()) },
            status = ended(caller) => Err(status),
        };
        Box::pin(self.say(Input::Detached { session })).await?;
        result
    }

    /// The session's number, that of its first message, and what ends when the driver closes it.
    async fn attach(
        &self,
        stream: &mut Streaming<wire::WorkerMessage>,
        to_worker: ToWorker,
        name: Option<String>,
    ) -> Result<(u64, u64, oneshot::Receiver<()>), Status> {
        let late = |_| Status::deadline_exceeded("a worker's first message took too long");
        let first = tokio::time::timeout(SLOW_MAX, stream.message()).await.map_err(late)??;
        let Some(wire::WorkerMessage { sequence, body: Some(Body::Register(register)) }) = first else {
            return Err(Status::invalid_argument("a worker's first message must register it"));
        };
        let registration = proto::convert::registration(register)?;
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let (open, driver_closed) = oneshot::channel();
        let attach = Attach { session, sequence, registration, name, to_worker, open };
        self.say(Input::Attach(Box::new(attach))).await?;
        Ok((session, sequence, driver_closed))
    }

    async fn listen_attached(
        &self,
        session: u64,
        mut last: u64,
        stream: &mut Streaming<wire::WorkerMessage>,
    ) -> Result<(), Status> {
        let share = Share::new(&self.unheard);
        while let Some(message) = stream.message().await? {
            let place = self.place(&share, &message).await?;
            let input = said(session, &mut last, message, place)?;
            let full = self.shared.inputs.try_send(input).err();
            let waiting = full.map(|full| Box::pin(self.say(full.into_inner())));
            if let Some(waiting) = waiting {
                waiting.await?;
            }
        }
        Ok(())
    }

    /// Room for a message; who waits for it does so in a box, because there are many who do not.
    async fn place(&self, share: &Share, message: &wire::WorkerMessage) -> Result<Place, Status> {
        let bytes = proto::convert::bytes_of(message);
        match share.try_place(bytes) {
            Some(place) => Ok(place),
            None => Box::pin(share.place(bytes)).await.ok_or_else(super::stopping),
        }
    }

    async fn say(&self, input: Input) -> Result<(), Status> {
        self.shared.inputs.send(input).await.map_err(|_| super::stopping())
    }
}

fn said(session: u64, last: &mut u64, message: wire::WorkerMessage, place: Place) -> Result<Input, Status> {
    let wire::WorkerMessage { sequence, body } = message;
    if sequence <= *last {
        let text = format!("message {sequence} came after message {last}; they are numbered upwards");
        return Err(Status::invalid_argument(text));
    }
    *last = sequence;
    let body = body.ok_or(proto::convert::BadMessage::Missing("body"))?;
    Ok(Input::Said { session, sequence, saying: proto::convert::saying(body)?, place })
}
