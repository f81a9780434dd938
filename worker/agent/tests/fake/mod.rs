//! A coordinator that does as a test says, and trainers that are small shell scripts.

use agent::config::{Config, SlotPlan};
use agent::trainers::Trainers;
use agent::{Leave, Left};
use proto::wire;
use proto::wire::coordinator_message::Body as Tell;
use proto::wire::report::Body as ReportBody;
use proto::wire::worker_message::Body as Said;
use proto::wire::workers_server::{Workers, WorkersServer};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sweeps::ids::WorkerId;
use sweeps::scheduler::AttemptEnd;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What reached the coordinator, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Said { session: u32, sequence: u64, body: Said },
    Uploaded { epoch: u32, best: bool, bytes: usize },
}

/// Calls to come that are not answered.
#[derive(Default)]
pub(crate) struct Swallowed {
    pub(crate) uploads: u32,
    pub(crate) downloads: u32,
    /// Within the answer.
    pub(crate) downloads_half: u32,
}

/// Counts one down; true if there was one.
fn take_one(count: &mut u32) -> bool {
    let is_one = *count > 0;
    *count -= u32::from(is_one);
    is_one
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) sessions: u32,
    pub(crate) to_worker: Option<mpsc::Sender<Result<wire::CoordinatorMessage, Status>>>,
    /// Acknowledge nothing.
    pub(crate) silent: bool,
    /// Refuse so many uploads as if away.
    pub(crate) uploads_refused: u32,
    /// So many calls of each kind are swallowed: they arrive on a connection that lives, and are never answered.
    pub(crate) swallowed: Swallowed,
    pub(crate) checkpoints: BTreeMap<u64, Vec<u8>>,
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    heard: mpsc::UnboundedSender<Heard>,
}

#[tonic::async_trait]
impl Workers for Service {
    type SessionStream = Answers<wire::CoordinatorMessage>;
    type DownloadStream = Answers<wire::Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut stream = request.into_inner();
        let (to_worker, answers) = mpsc::channel(64);
        let session = {
            let mut state = self.state.lock().unwrap();
            state.sessions += 1;
            state.to_worker = Some(to_worker.clone());
            state.sessions
        };
        let (state, heard) = (Arc::clone(&self.state), self.heard.clone());
        // Weak: the stream to the worker ends when the test drops its sender.
        let weak = to_worker.downgrade();
        tokio::spawn(async move {
            while let Ok(Some(wire::WorkerMessage { sequence, body: Some(body) })) = stream.message().await {
                let Some(to_worker) = weak.upgrade() else { return };
                let registered = matches!(body, Said::Register(_));
                heard.send(Heard::Said { session, sequence, body }).unwrap();
                let mut answers = Vec::new();
                if registered {
                    answers.push(Tell::Registered(wire::Registered { session: 1, heartbeat_ms: 50, lease_ms: 300 }));
                }
                if !state.lock().unwrap().silent {
                    answers.push(Tell::Ack(wire::Ack { sequence }));
                }
                for body in answers {
                    let _ = to_worker.send(Ok(wire::CoordinatorMessage { body: Some(body) })).await;
                }
            }
            // The worker's half ended: so does ours.
            let mut state = state.lock().unwrap();
            if state.sessions == session {
                state.to_worker = None;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadMessage>>,
    ) -> Result<Response<wire::UploadReceipt>, Status> {
        use wire::upload_message::Body;
        {
            let mut state = self.state.lock().unwrap();
            if state.uploads_refused > 0 {
                state.uploads_refused -= 1;
                return Err(Status::unavailable("not now"));
            }
        }
        let mut stream = request.into_inner();
        if take_one(&mut self.state.lock().unwrap().swallowed.uploads) {
            while stream.message().await?.is_some() {}
            return std::future::pending().await;
        }
        let Some(wire::UploadMessage { body: Some(Body::Header(header)) }) = stream.message().await? else {
            return Err(Status::invalid_argument("header"));
        };
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            if let Some(Body::Data(data)) = message.body {
                bytes.extend_from_slice(&data);
            }
        }
        assert_eq!(hex::encode(Sha256::digest(&bytes)), header.sha256);
        self.heard.send(Heard::Uploaded { epoch: header.epoch, best: header.best, bytes: bytes.len() }).unwrap();
        Ok(Response::new(wire::UploadReceipt { checkpoint: 1 }))
    }

    async fn download(&self, request: Request<wire::FetchRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let id = request.into_inner().checkpoint;
        let bytes = self.state.lock().unwrap().checkpoints.get(&id).cloned();
        let bytes = bytes.ok_or_else(|| Status::not_found(format!("there is no checkpoint {id}")))?;
        if take_one(&mut self.state.lock().unwrap().swallowed.downloads) {
            return std::future::pending().await;
        }
        if take_one(&mut self.state.lock().unwrap().swallowed.downloads_half) {
            let (to, answers) = mpsc::channel(1);
            tokio::spawn(async move {
                let _ = to.send(Ok(wire::Chunk { data: bytes[..1].to_vec().into() })).await;
                to.closed().await;
            });
            return Ok(Response::new(Box::pin(ReceiverStream::new(answers))));
        }
        let chunks: Vec<_> = bytes.chunks(5).map(|part| Ok(wire::Chunk { data: part.to_vec().into() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// A coordinator, an agent attached to it, and a trainer script.
pub(crate) struct Scene {
    pub(crate) state: Arc<Mutex<State>>,
    heard: mpsc::UnboundedReceiver<Heard>,
    pub(crate) leave: mpsc::Sender<Leave>,
    pub(crate) agent: tokio::task::JoinHandle<Left>,
    _home: tempfile::TempDir,
}

/// What every trainer script begins with.
const PROLOGUE: &str = r#"#!/bin/sh
say() { echo "$1"; }
ended() { say '{"said":"ended","token":'"$token"',"end":{"end":"'"$1"'"}}'; }
epoch() { say '{"said":"epoch_finished","token":'"$token"',"epoch":'"$1"',"duration_ms":1,"points":[{"name":"val_top1","step":'"$1"',"value":0.5}]}'; }
checkpoint() {
  path="$folder/checkpoint-$1"; echo "weights of epoch $1" > "$path"
  say '{"said":"checkpoint_saved","token":'"$token"',"path":"'"$path"'","epoch":'"$1"',"step":'"$1"',"bytes":'"$(stat -c %s "$path")"',"sha256":"'"$(sha256sum "$path" | cut -d' ' -f1)"'","best":'"$2"'}'
}
read -r start
token=$(echo "$start" | sed 's/.*"token":\({[^}]*}\).*/\1/')
folder=$(echo "$start" | sed 's/.*"folder":"\([^"]*\)".*/\1/')
say '{"said":"started","token":'"$token"',"device":"cpu","threads":1,"instruction_set":"none","libtorch":"none","resumed_epoch":0}'
"#;

impl Scene {
    /// With a trainer that does this.
    pub(crate) async fn new(script: &str) -> Self {
        Self::with(script, |_| {}).await
    }

    pub(crate) async fn with(script: &str, change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let trainer = home.path().join("trainer");
        std::fs::write(&trainer, format!("{PROLOGUE}{script}\n")).unwrap();
        std::fs::set_permissions(&trainer, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, heard) = mpsc::unbounded_channel();
        let state = Arc::new(Mutex::new(State::default()));
        let service = Service { state: Arc::clone(&state), heard: tell };
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(WorkersServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let mut config = Config {
            credentials: None,
            gradients_listen: "127.0.0.1:0".to_owned(),
            gradients_credentials: None,
            coordinator: format!("http://{address}"),
            worker: WorkerId(42),
            host: "test".to_owned(),
            slots: vec![SlotPlan { device: "cpu".to_owned(), threads: 1 }],
            data: proto::link::DataPlaces::default(),
            folder: home.path().join("tmp"),
            trainers: Trainers { real: Err("there is no libtorch here".to_owned()), scripted: Ok(trainer) },
            silence: Duration::from_secs(60),
            patience: agent::config::PATIENCE,
            metrics: agent::metrics::Metrics::new().unwrap(),
            leave_when_idle: None,
        };
        change(&mut config);
        let (leave, leaving) = mpsc::channel(4);
        let agent = tokio::spawn(async move { agent::run(config, leaving).await.unwrap() });
        let mut scene = Self { state, heard, leave, agent, _home: home };
        scene.until("the registration", |heard| matches!(heard, Heard::Said { body: Said::Register(_), .. })).await;
        scene
    }

    /// Sends a message to the worker.
    pub(crate) async fn tell(&self, body: Tell) {
        let to_worker = self.state.lock().unwrap().to_worker.clone().unwrap();
        to_worker.send(Ok(wire::CoordinatorMessage { body: Some(body) })).await.unwrap();
    }

    /// Leases slot 0 to that trial.
    pub(crate) async fn grant(&self, trial: u64, change: impl FnOnce(&mut wire::Member)) {
        self.grant_slot(trial, false, change).await;
    }

    /// Lets that trial join what slot 0 trains.
    pub(crate) async fn join(&self, trial: u64, change: impl FnOnce(&mut wire::Member)) {
        self.grant_slot(trial, true, change).await;
    }

    async fn grant_slot(&self, trial: u64, joins: bool, change: impl FnOnce(&mut wire::Member)) {
        let mut member = wire::Member {
            exchange: None,
            token: Some(token(trial)),
            sweep: "test".to_owned(),
            trial_json: trial_json(true),
            resume: None,
            threads: 0,
        };
        change(&mut member);
        self.tell(Tell::Grant(wire::Grant { slot: 0, members: vec![member], joins })).await;
    }

    pub(crate) async fn stop(&self, trial: u64, reason: &str) {
        self.tell(Tell::Stop(wire::Stop { token: Some(token(trial)), reason: reason.to_owned() })).await;
    }

    /// What reached the coordinator up to such a thing, heartbeats and log lines left out.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut seen = Vec::new();
        let search = async {
            while let Some(heard) = self.heard.recv().await {
                let is_heartbeat = matches!(heard, Heard::Said { body: Said::Heartbeat(_), .. });
                let is_log = matches!(&heard, Heard::Said { body: Said::Report(r), .. } if matches!(r.body, Some(ReportBody::Log(_))));
                let found = wanted(&heard);
                if found || !(is_heartbeat || is_log) {
                    seen.push(heard);
                }
                if found {
                    return;
                }
            }
            panic!("the coordinator is gone");
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), search).await;
        assert!(in_time.is_ok(), "{what} did not come; what came: {seen:#?}");
        seen
    }

    /// How the attempt ended, and all that reached the coordinator before.
    pub(crate) async fn end(&mut self) -> (AttemptEnd, Vec<Heard>) {
        let mut seen = self.until("the end", |heard| end_of(heard).is_some()).await;
        let end = end_of(&seen.pop().unwrap()).unwrap();
        (end, seen)
    }
}

pub(crate) fn token(trial: u64) -> wire::Token {
    wire::Token { trial, attempt: 1, replica: 0, incarnation: 1 }
}

pub(crate) fn report_of(heard: &Heard) -> Option<&ReportBody> {
    match heard {
        Heard::Said { body: Said::Report(report), .. } => report.body.as_ref(),
        _ => None,
    }
}

pub(crate) fn end_of(heard: &Heard) -> Option<AttemptEnd> {
    match report_of(heard)? {
        ReportBody::Ended(ended) => Some(proto::convert::attempt_end(&ended.end_json).unwrap()),
        _ => None,
    }
}

pub(crate) fn trial_json(scripted: bool) -> String {
    let mut trial = serde_json::json!({
        "key": "0".repeat(32), "parameters": {}, "network": "mobilenet", "alpha": 0.5, "resolution": 128, "seed": 1,
        "data": {"format": "idx", "train": "x", "validation": "y", "classes": 10},
        "training": {"epochs": 3}, "checkpoint": {}, "best": {"name": "val_top1", "goal": "maximize"},
    });
    if scripted {
        trial["script"] = serde_json::json!([]);
    }
    trial.to_string()
}

pub(crate) fn checkpoint(id: u64, bytes: &[u8]) -> wire::Checkpoint {
    wire::Checkpoint {
        id,
        trial: 7,
        attempt: 1,
        epoch: 1,
        step: 1,
        bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
        best: false,
        latest: true,
    }
}
