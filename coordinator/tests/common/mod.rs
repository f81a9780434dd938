//! A coordinator in a runtime of its own, so that it can be ended as by SIGKILL; and a worker written by hand.
#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use access::{Connection, Credentials};
use coordinator::{Config, Coordinator};
use proto::wire;
use proto::wire::coordinator_message::Body as Told;
use proto::wire::sweeps_client::SweepsClient;
use proto::wire::worker_message::Body as Says;
use proto::wire::workers_client::WorkersClient;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sweeps::ids::{Token, TrialId};
use sweeps::scheduler::AttemptEnd;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Nothing here takes so long, except when something is broken.
pub const CAP: Duration = Duration::from_secs(60);

/// Never waits longer than the cap.
pub async fn capped<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(CAP, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub struct House {
    pub folder: tempfile::TempDir,
    runtime: Option<Runtime>,
    scraper: Option<coordinator::Scraper>,
    pub address: String,
    pub heartbeat_ms: u64,
    pub disk_reserve_bytes: Option<u64>,
    pub reader_max: Option<Duration>,
}

impl House {
    /// With a heartbeat that leaves leases alone.
    pub async fn open() -> Self {
        Self::with_heartbeat(10_000).await
    }

    pub async fn with_heartbeat(heartbeat_ms: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut house = Self {
            folder,
            runtime: None,
            scraper: None,
            address: String::new(),
            heartbeat_ms,
            disk_reserve_bytes: None,
            reader_max: None,
        };
        house.start().await;
        house
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("runs/alpharho.db")
    }

    pub fn artifacts(&self) -> PathBuf {
        self.folder.path().join("runs/artifacts")
    }

    pub fn config(&self) -> Config {
        let Self { heartbeat_ms, disk_reserve_bytes, .. } = *self;
        let usual = Config::new(self.store(), self.artifacts());
        Config { heartbeat_ms, disk_reserve_bytes, reader_max: self.reader_max.unwrap_or(usual.reader_max), ..usual }
    }

    pub fn scraper(&self) -> &coordinator::Scraper {
        self.scraper.as_ref().unwrap()
    }

    pub async fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = self.config();
        let opened = runtime.spawn(async move {
            // The one before may still be letting go.
            loop {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                match Coordinator::open(config.clone(), listener).await {
                    Ok(coordinator) => break coordinator,
                    Err(coordinator::Error::Lock(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let coordinator = capped("a coordinator", opened).await.unwrap();
        self.address = coordinator.address().to_owned();
        self.scraper = Some(coordinator.scraper());
        runtime.spawn(coordinator.serve(std::future::pending()));
        self.runtime = Some(runtime);
    }

    /// All its tasks end where they are.
    pub fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    pub async fn client(&self) -> Client {
        Client::at(&self.address).await
    }

    pub async fn agent(&self, worker: u64, slots: usize, holding: &[(u32, Token)]) -> Agent {
        Agent::attach(&self.address, worker, slots, holding).await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connect(address: &str) -> Connection {
    connect_with(address, None).await.unwrap()
}

/// Showing these.
pub async fn connect_with(address: &str, shown: Option<&Credentials>) -> Result<Connection, String> {
    let (endpoint, bearer) = access::endpoint(address, shown).unwrap();
    let channel = capped("a connection", endpoint.connect()).await;
    Ok(bearer.on(channel.map_err(|error| access::explain(&error, None))?))
}

/// `alphas` cells of so many epochs.
pub fn sweep_yaml(name: &str, alphas: &[f64], epochs: u32) -> String {
    format!(
        "name: {name}
parameters:
  alpha: {{values: {alphas:?}}}
  resolution: {{values: [128]}}
data: {{format: image_folder, train: photos, validation: {{fraction: 0.25}}, classes: 10}}
training: {{epochs: {epochs}}}
resources: {{packing: {{max_trials_per_slot: 1}}}}
"
    )
}

pub struct Client(pub SweepsClient<Connection>);

impl Client {
    pub async fn at(address: &str) -> Self {
        Self(SweepsClient::new(connect(address).await))
    }

    pub async fn submit(&mut self, yaml: &str) -> Result<wire::SubmitReply, Status> {
        self.submit_as(yaml, None, false).await
    }

    pub async fn submitted(&mut self, yaml: &str) {
        self.submit(yaml).await.unwrap();
    }

    pub async fn submit_as(
        &mut self,
        yaml: &str,
        new_name: Option<&str>,
        replace: bool,
    ) -> Result<wire::SubmitReply, Status> {
        let request = wire::SubmitRequest {
            file_name: "sweep.yaml".to_owned(),
            yaml: yaml.to_owned(),
            new_name: new_name.map(str::to_owned),
            replace,
        };
        capped("submit", self.0.submit(request)).await.map(tonic::Response::into_inner)
    }

    pub async fn status(&mut self, sweep: &str) -> wire::StatusReply {
        let request = wire::StatusRequest { sweep: sweep.to_owned(), metrics: Vec::new(), metrics_last: Vec::new() };
        capped("status", self.0.status(request)).await.unwrap().into_inner()
    }

    pub async fn control(&mut self, sweep: &str, action: wire::Action) -> Result<(), Status> {
        let target = Some(wire::control_request::Target::Sweep(sweep.to_owned()));
        let request = wire::ControlRequest { target, action: action.into() };
        capped("control", self.0.control(request)).await.map(drop)
    }

    pub async fn explain(&mut self, trial: u64) -> String {
        capped("explain", self.0.explain(wire::ExplainRequest { trial })).await.unwrap().into_inner().text
    }

    /// All events of a sweep after a sequence number, of a sweep that is over.
    pub async fn events(&mut self, sweep: &str, after: u64) -> Vec<wire::Event> {
        let request = wire::WatchRequest { sweep: sweep.to_owned(), after, follow: false, last: 0, workers: false };
        let stream = self.0.watch(request).await.unwrap().into_inner();
        capped("all events", all(stream)).await.unwrap()
    }

    /// The first event of that kind, as JSON; waits for it. Of an empty sweep: of any, or of none.
    pub async fn event(&mut self, sweep: &str, kind: &str) -> String {
        let request = wire::WatchRequest { sweep: sweep.to_owned(), after: 0, follow: true, last: 0, workers: true };
        let mut stream = self.0.watch(request).await.unwrap().into_inner();
        let kind = format!("\"kind\":\"{kind}\"");
        capped("an event", async {
            loop {
                let event = stream.message().await.unwrap().unwrap();
                if event.json.contains(&kind) {
                    return event.json;
                }
            }
        })
        .await
    }

    /// `(trial, attempt, name, step, value)`.
    pub async fn points(&mut self, sweep: &str) -> Vec<(u64, u32, String, u64, f64)> {
        let request = wire::MetricsRequest { sweep: sweep.to_owned(), trial: None, names: Vec::new() };
        let stream = self.0.metrics(request).await.unwrap().into_inner();
        let batches = capped("all points", all(stream)).await.unwrap();
        let points = batches.into_iter().flat_map(|batch| batch.points);
        points.map(|point| (point.trial, point.attempt, point.name, point.step, point.value)).collect()
    }

    pub async fn checkpoints(&mut self, trial: u64) -> Vec<wire::Checkpoint> {
        let request = wire::CheckpointsRequest { trial };
        capped("checkpoints", self.0.checkpoints(request)).await.unwrap().into_inner().checkpoints
    }

    pub async fn fetch(&mut self, checkpoint: u64) -> Result<Vec<u8>, Status> {
        let stream = self.0.fetch(wire::FetchRequest { checkpoint }).await?.into_inner();
        Ok(all(stream).await?.into_iter().flat_map(|chunk| chunk.data).collect())
    }
}

pub fn sha256(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

pub async fn all<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut items = Vec::new();
    while let Some(item) = stream.message().await? {
        items.push(item);
    }
    Ok(items)
}

/// The way to the coordinator, with the number of the last message.
struct Mouth {
    to: mpsc::Sender<wire::WorkerMessage>,
    sequence: u64,
}

impl Mouth {
    async fn say(&mut self, body: Says) -> u64 {
        self.sequence += 1;
        let message = wire::WorkerMessage { sequence: self.sequence, body: Some(body) };
        // A test that goes on after its stream has ended reads that from the other direction.
        let _ = self.to.send(message).await;
        self.sequence
    }
}

/// A worker that does as it is told, by the test; only its heart beats by itself.
pub struct Agent {
    channel: Connection,
    mouth: Arc<Mutex<Mouth>>,
    from: Streaming<wire::CoordinatorMessage>,
    told: VecDeque<Told>,
    acknowledged: u64,
    heart: Option<tokio::task::JoinHandle<()>>,
    pub registered: wire::Registered,
}

impl Agent {
    pub async fn attach(address: &str, worker: u64, slots: usize, holding: &[(u32, Token)]) -> Self {
        Self::attach_by(connect(address).await, worker, slots, holding).await.unwrap()
    }

    pub async fn attach_by(
        channel: Connection,
        worker: u64,
        slots: usize,
        holding: &[(u32, Token)],
    ) -> Result<Self, Status> {
        let (to, messages) = mpsc::channel(64);
        let mut client = WorkersClient::new(channel.clone());
        let from = capped("a session", client.session(ReceiverStream::new(messages))).await?.into_inner();
        let registered = wire::Registered::default();
        let mouth = Arc::new(Mutex::new(Mouth { to, sequence: 0 }));
        let mut agent = Self { channel, mouth, from, told: VecDeque::new(), acknowledged: 0, heart: None, registered };
        let held = |&(slot, token): &(u32, Token)| wire::Held { slot, token: Some(token.into()) };
        agent
            .say(Says::Register(wire::Register {
                worker,
                host: format!("host{worker}"),
                version: "0.1.0".to_owned(),
                process: 1,
                slots: vec![wire::Slot { device: "cpu".to_owned() }; slots],
                holding: holding.iter().map(held).collect(),
            }))
            .await;
        while agent.told.is_empty() {
            agent.read().await?;
        }
        match agent.next().await {
            Told::Registered(registered) => agent.registered = registered,
            other => panic!("expected a registration, was told {other:?}"),
        }
        let mouth = Arc::clone(&agent.mouth);
        let beat = Duration::from_millis(agent.registered.heartbeat_ms);
        agent.heart = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(beat).await;
                mouth.lock().await.say(Says::Heartbeat(wire::Heartbeat::default())).await;
            }
        }));
        Ok(agent)
    }

    /// Says something; its sequence number.
    pub async fn say(&mut self, body: Says) -> u64 {
        self.mouth.lock().await.say(body).await
    }

    pub async fn report(&mut self, token: Token, body: wire::report::Body) -> u64 {
        self.say(Says::Report(wire::Report { token: Some(token.into()), body: Some(body) })).await
    }

    pub async fn epoch(&mut self, token: Token, epoch: u32, top1: f64) -> u64 {
        let point = |name: &str, value| wire::Point { name: name.to_owned(), step: u64::from(epoch), value };
        let points = vec![point("val_top1", top1), point("images_per_second", 100.0)];
        let finished = wire::EpochFinished { epoch, duration_ms: 1500, points };
        self.report(token, wire::report::Body::EpochFinished(finished)).await
    }

    pub async fn end(&mut self, token: Token, end: &AttemptEnd) -> u64 {
        let end_json = serde_json::to_string(end).unwrap();
        self.report(token, wire::report::Body::Ended(wire::Ended { end_json })).await
    }

    /// The next thing it is told, acknowledgements aside.
    pub async fn next(&mut self) -> Told {
        loop {
            if let Some(told) = self.told.pop_front() {
                return told;
            }
            self.read().await.unwrap();
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        match capped("a message", self.from.message()).await? {
            Some(wire::CoordinatorMessage { body: Some(Told::Ack(wire::Ack { sequence })) }) => {
                self.acknowledged = self.acknowledged.max(sequence);
            }
            Some(wire::CoordinatorMessage { body: Some(told) }) => self.told.push_back(told),
            Some(wire::CoordinatorMessage { body: None }) => panic!("an empty message"),
            None => return Err(Status::new(Code::Ok, "the stream ended")),
        }
        Ok(())
    }

    /// Until its stream ends, and how.
    pub async fn until_cut_off(&mut self) -> Status {
        loop {
            if let Err(status) = self.read().await {
                return status;
            }
        }
    }

    pub async fn acknowledged(&mut self, sequence: u64) {
        while self.acknowledged < sequence {
            self.read().await.unwrap();
        }
    }

    pub fn is_acknowledged(&self, sequence: u64) -> bool {
        self.acknowledged >= sequence
    }

    pub async fn granted(&mut self) -> (Token, wire::Member) {
        match self.next().await {
            Told::Grant(wire::Grant { mut members, .. }) => {
                let member = members.remove(0);
                (proto::convert::token(member.token).unwrap(), member)
            }
            other => panic!("expected a grant, was told {other:?}"),
        }
    }

    /// Token and reason of a stop.
    pub async fn stopped(&mut self) -> (Token, String) {
        match self.next().await {
            Told::Stop(wire::Stop { token, reason }) => (proto::convert::token(token).unwrap(), reason),
            other => panic!("expected a stop, was told {other:?}"),
        }
    }

    pub async fn upload(&self, token: Token, epoch: u32, best: bool, data: &[u8]) -> Result<u64, Status> {
        let sha256 = sha256(data);
        self.upload_as(token, epoch, best, data, data.len() as u64, &sha256).await
    }

    /// An upload whose messages come when the test likes.
    pub fn upload_messages(
        &self,
        messages: mpsc::Receiver<wire::UploadMessage>,
    ) -> impl Future<Output = Result<u64, Status>> + Send + 'static {
        let mut client = WorkersClient::new(self.channel.clone());
        async move { Ok(client.upload(ReceiverStream::new(messages)).await?.into_inner().checkpoint) }
    }

    pub async fn download(&self, checkpoint: u64) -> Result<Vec<u8>, Status> {
        let mut client = WorkersClient::new(self.channel.clone());
        let stream = client.download(wire::FetchRequest { checkpoint }).await?.into_inner();
        Ok(all(stream).await?.into_iter().flat_map(|chunk| chunk.data).collect())
    }

    pub async fn upload_as(
        &self,
        token: Token,
        epoch: u32,
        best: bool,
        data: &[u8],
        bytes: u64,
        sha256: &str,
    ) -> Result<u64, Status> {
        use wire::upload_message::Body;
        let header = wire::UploadHeader {
            token: Some(token.into()),
            epoch,
            step: u64::from(epoch) * 10,
            bytes,
            sha256: sha256.to_owned(),
            best,
        };
        let mut messages = vec![wire::UploadMessage { body: Some(Body::Header(header)) }];
        for chunk in data.chunks(5) {
            messages.push(wire::UploadMessage { body: Some(Body::Data(chunk.to_vec().into())) });
        }
        let mut client = WorkersClient::new(self.channel.clone());
        let receipt = capped("an upload", client.upload(tokio_stream::iter(messages))).await?;
        Ok(receipt.into_inner().checkpoint)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(heart) = self.heart.take() {
            heart.abort();
        }
    }
}

pub fn token(trial: u64, attempt: u32) -> Token {
    Token::chief(TrialId(trial), attempt)
}

/// Names of files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some() {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The `kind`s of events, in order.
pub fn kinds(events: &[wire::Event]) -> Vec<String> {
    let kind = |event: &wire::Event| {
        let value: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        let kind = value["kind"].as_str().unwrap().to_owned();
        match value["state"]["state"].as_str() {
            Some(state) => format!("{kind} {state}"),
            None => kind,
        }
    };
    events.iter().map(kind).collect()
}
