//! A coordinator, and the workers that are attached to it.

use super::{Raw, is_clear};
use ::coordinator::{Config, Coordinator, Error, Scraper, upkeep};
use prost::Message;
use proto::wire;
use proto::wire::coordinator_message::Body;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Short, so that leases run out too.
const HEARTBEAT_MS: u64 = 100;
/// A stream that says nothing for so long has nothing to say.
const QUIET: Duration = Duration::from_millis(4);
/// Messages read of an answer.
const READ_MAX: usize = 3;
/// Workers' streams open at a time.
const SESSIONS_MAX: usize = 4;
/// Whoever answers at all has answered by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// There from the start, so that there is something to train.
const SWEEP: &str = "name: first\nparameters:\n  alpha: {values: [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.25]}\n  resolution: \
                     {values: [224, 192, 160, 128, 96, 64]}\ndata: {format: image_folder, train: photos, validation: \
                     {fraction: 0.25}, classes: 10}\ntraining: {epochs: 3}\n";

/// What a worker heard of the coordinator.
#[derive(Debug, Default)]
struct Heard {
    leases: Vec<wire::Token>,
    end: Option<Status>,
    has_ended: bool,
}

#[derive(Debug)]
struct Session {
    to: mpsc::Sender<Vec<u8>>,
    sequence: u64,
    heard: Arc<Mutex<Heard>>,
}

impl Session {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self, which: u8) -> Option<wire::Token> {
        let heard = self.heard();
        let newest = heard.leases.len().checked_sub(1 + usize::from(which) % 2)?;
        heard.leases.get(newest).copied()
    }
}

pub(super) struct House {
    folder: TempDir,
    runtime: Runtime,
    channel: Channel,
    scraper: Scraper,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
    sessions: Vec<Session>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl House {
    pub(super) fn open() -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(text)?;
        let folder = tempfile::tempdir().map_err(text)?;
        let config = config(&folder);
        let opened = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
            let coordinator = Coordinator::open(config, listener).await.map_err(text)?;
            let endpoint = Endpoint::from_shared(coordinator.address().to_owned()).map_err(text)?;
            let scraper = coordinator.scraper();
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(coordinator.serve(async {
                let _ = stopped.await;
            }));
            let channel = endpoint.connect().await.map_err(text)?;
            Ok::<_, String>((channel, scraper, stop, serving))
        });
        let (channel, scraper, stop, serving) = opened?;
        let house = Self { folder, runtime, channel, scraper, stop, serving, sessions: Vec::new() };
        let submit = wire::SubmitRequest { yaml: SWEEP.to_owned(), ..wire::SubmitRequest::default() };
        house.call("/alpharho.v1.Sweeps/Submit", vec![submit.encode_to_vec()]).map_err(text)?;
        Ok(house)
    }

    /// Its numbers for operators.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> String {
        self.runtime.block_on(self.scraper.text())
    }

    /// Any call, whose answer is read for a moment.
    pub(super) fn call(&self, path: &'static str, messages: Vec<Vec<u8>>) -> Result<(), Status> {
        let channel = self.channel.clone();
        self.runtime.block_on(async {
            let mut answers = begin(channel, path, tokio_stream::iter(messages)).await?;
            for _ in 0..READ_MAX {
                match tokio::time::timeout(QUIET, answers.message()).await {
                    Ok(answer) => {
                        if answer?.is_none() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
            Ok(())
        })
    }

    /// A worker registers, and stays.
    pub(super) fn attach(&mut self, messages: Vec<Vec<u8>>) -> Result<(), Status> {
        let (to, messages_to) = mpsc::channel(16);
        let register = messages.first().and_then(|bytes| wire::Register::decode(&bytes[..]).ok()).unwrap_or_default();
        let body = Some(wire::worker_message::Body::Register(register));
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (channel, hears) = (self.channel.clone(), Arc::clone(&heard));
        self.runtime.block_on(async {
            let _ = to.send(wire::WorkerMessage { sequence: 1, body }.encode_to_vec()).await;
            let mut answers = begin(channel, "/alpharho.v1.Workers/Session", ReceiverStream::new(messages_to)).await?;
            tokio::spawn(async move {
                let end = loop {
                    match answers.message().await {
                        Ok(Some(bytes)) => note(&hears, &bytes),
                        Ok(None) => break None,
                        Err(end) => break Some(end),
                    }
                };
                let mut heard = hears.lock().unwrap_or_else(PoisonError::into_inner);
                (heard.end, heard.has_ended) = (end, true);
            });
            Ok::<(), Status>(())
        })?;
        self.sessions.push(Session { to, sequence: 1, heard });
        if self.sessions.len() > SESSIONS_MAX {
            drop(self.sessions.remove(0));
        }
        Ok(())
    }

    /// An attached worker says something; of a lease that was granted, if it is to make sense.
    pub(super) fn say(&mut self, which: u8, messages: Vec<Vec<u8>>, of_a_lease: bool) -> Result<(), Status> {
        if self.sessions.is_empty() {
            self.attach(vec![usual(which).encode_to_vec()])?;
        }
        let count = self.sessions.len().max(1);
        let Some(session) = self.sessions.get_mut(usize::from(which) % count) else { return Ok(()) };
        let lease = session.lease(which);
        for bytes in messages {
            session.sequence += 1;
            let bytes = match wire::WorkerMessage::decode(&bytes[..]) {
                // One in eight is numbered as it came.
                Ok(mut message) if which % 8 != 7 => {
                    message.sequence = session.sequence;
                    if let (Some(wire::worker_message::Body::Report(report)), true) = (&mut message.body, of_a_lease) {
                        report.token = lease;
                    }
                    message.encode_to_vec()
                }
                Ok(_) | Err(_) => bytes,
            };
            // A stream that has ended takes nothing.
            let _ = self.runtime.block_on(session.to.send(bytes));
        }
        Ok(())
    }

    pub(super) fn upload(&self, which: u8, mut messages: Vec<Vec<u8>>) -> Result<(), Status> {
        let header = messages.first().and_then(|bytes| wire::UploadMessage::decode(&bytes[..]).ok());
        if let Some(wire::UploadMessage { body: Some(wire::upload_message::Body::Header(mut header)) }) = header
            && !which.is_multiple_of(4)
        {
            header.token = self.sessions.iter().find_map(|session| session.lease(which));
            let body = Some(wire::upload_message::Body::Header(header));
            messages[0] = wire::UploadMessage { body }.encode_to_vec();
        }
        self.call("/alpharho.v1.Workers/Upload", messages)
    }

    /// Whatever was said has reached the coordinator, which answers still.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let asked = self.call("/alpharho.v1.Sweeps/Workers", vec![Vec::new()]);
        asked.map_err(|status| format!("the coordinator does not answer any more: {status:?}"))?;
        let ends: Vec<Status> = self.sessions.iter().filter_map(|session| session.heard().end.take()).collect();
        self.sessions.retain(|session| !session.heard().has_ended);
        ends.iter().try_for_each(is_clear)
    }

    /// Looks at what the scheduler knows, stops it, looks at the store, and has another one go on from that.
    pub(super) fn close(self) -> Result<(), String> {
        let Self { folder, runtime, channel, scraper, stop, serving, sessions } = self;
        let config = config(&folder);
        runtime.block_on(async {
            let late = |_| "the coordinator does not end".to_owned();
            scraper.check_invariants().await;
            drop((sessions, channel));
            let _ = stop.send(());
            let served = tokio::time::timeout(PATIENCE, serving).await.map_err(late)?;
            served.map_err(text)?.map_err(|error| format!("the coordinator ended with {error}"))?;
            let checked = upkeep::check(&config.store, &config.artifacts, true).await.map_err(text)?;
            if !checked.problems.is_empty() {
                return Err(format!("the store is not whole: {:?}", checked.problems));
            }
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
            let again = Coordinator::open(config, listener).await;
            let again = again.map_err(|error| format!("the store does not open again: {error}"))?;
            again.scraper().check_invariants().await;
            tokio::time::timeout(PATIENCE, again.serve(std::future::ready(()))).await.map_err(late)?.map_err(text)
        })
    }
}

/// A worker as they are.
fn usual(which: u8) -> wire::Register {
    wire::Register {
        worker: 1 + u64::from(which) % super::WORKERS,
        host: "gpu1".to_owned(),
        version: "0.1.0".to_owned(),
        process: 1,
        slots: vec![wire::Slot { device: "cpu".to_owned() }; 2],
        holding: Vec::new(),
    }
}

fn config(folder: &TempDir) -> Config {
    let mut config = Config::new(folder.path().join("alpharho.db"), folder.path().join("artifacts"));
    config.heartbeat_ms = HEARTBEAT_MS;
    // However full the disk is.
    config.disk_reserve_bytes = Some(0);
    config
}

fn note(heard: &Mutex<Heard>, bytes: &[u8]) {
    if let Ok(wire::CoordinatorMessage { body: Some(Body::Grant(grant)) }) = wire::CoordinatorMessage::decode(bytes) {
        let tokens = grant.members.into_iter().filter_map(|member| member.token);
        heard.lock().unwrap_or_else(PoisonError::into_inner).leases.extend(tokens);
    }
}

async fn begin(
    channel: Channel,
    path: &'static str,
    messages: impl tokio_stream::Stream<Item = Vec<u8>> + Send + 'static,
) -> Result<tonic::Streaming<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let call = client.streaming(Request::new(messages), PathAndQuery::from_static(path), Raw);
    let late = |_| Status::unknown("no answer came");
    Ok(tokio::time::timeout(PATIENCE, call).await.map_err(late)??.into_inner())
}
