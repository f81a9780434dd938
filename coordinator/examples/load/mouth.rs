//! What all made-up workers do: submit, register, number what they say.

use anyhow::{Context, Result, bail};
use proto::wire;
use proto::wire::coordinator_message::Body as Told;
use proto::wire::report::Body as Report;
use proto::wire::sweeps_client::SweepsClient;
use proto::wire::worker_message::Body as Says;
use proto::wire::workers_client::WorkersClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Sessions of one connection: the coordinator takes 200.
const SESSIONS_OF_CONNECTION: usize = 128;
/// Messages on their way to the connection.
const QUEUE: usize = 64;

/// As many connections as that many sessions need.
pub(crate) async fn connections(address: &str, sessions: usize) -> Result<Vec<Channel>> {
    let mut connections = Vec::new();
    for _ in 0..sessions.div_ceil(SESSIONS_OF_CONNECTION) {
        connections.push(Endpoint::from_shared(address.to_owned())?.connect().await?);
    }
    Ok(connections)
}

/// So many trials of one small cell that say that they are done. Returns when they are on disk.
pub(crate) async fn submit(channel: &Channel, sweep: &str, trials: u64) -> Result<()> {
    let seeds: Vec<u64> = (1..=trials).collect();
    let yaml = format!(
        "name: {sweep}\nparameters:\n  alpha: {{values: [0.25]}}\n  resolution: {{values: [128]}}\n\
         seeds: {seeds:?}\ndata: {{format: idx, train: nowhere, validation: nowhere-too, classes: 10}}\n\
         training: {{epochs: 1}}\nscript: []\n"
    );
    let request = wire::SubmitRequest { file_name: "load.yaml".to_owned(), yaml, ..wire::SubmitRequest::default() };
    let submitted = SweepsClient::new(channel.clone()).submit(request).await?.into_inner();
    anyhow::ensure!(submitted.trials_new == trials, "the sweep {sweep} was there already");
    Ok(())
}

/// A worker's way to the coordinator, with the number of the last message.
pub(crate) struct Mouth {
    to: mpsc::Sender<wire::WorkerMessage>,
    pub(crate) sequence: u64,
}

impl Mouth {
    /// Registers a worker; what it is told then comes by the stream.
    pub(crate) async fn open(
        channel: Channel,
        worker: u64,
        slots: usize,
    ) -> Result<(Self, Streaming<wire::CoordinatorMessage>)> {
        let (to, messages) = mpsc::channel(QUEUE);
        let mut mouth = Self { to, sequence: 0 };
        let register = wire::Register {
            worker,
            host: format!("made-up-{worker}"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: 1,
            slots: vec![wire::Slot { device: "cpu".to_owned() }; slots],
            ..wire::Register::default()
        };
        mouth.say(Says::Register(register)).await?;
        let mut told = WorkersClient::new(channel).session(ReceiverStream::new(messages)).await?.into_inner();
        match told.message().await?.and_then(|message| message.body) {
            Some(Told::Registered(_)) => Ok((mouth, told)),
            other => bail!("worker {worker} was not registered but told {other:?}"),
        }
    }

    pub(crate) async fn say(&mut self, body: Says) -> Result<u64> {
        self.sequence += 1;
        let message = wire::WorkerMessage { sequence: self.sequence, body: Some(body) };
        self.to.send(message).await.context("the session has ended")?;
        Ok(self.sequence)
    }

    pub(crate) async fn report(&mut self, token: Option<wire::Token>, body: Report) -> Result<u64> {
        self.say(Says::Report(wire::Report { token, body: Some(body) })).await
    }

    /// As a scripted trainer does.
    pub(crate) async fn started(&mut self, token: Option<wire::Token>) -> Result<()> {
        let started = wire::Started {
            device: "cpu".to_owned(),
            threads: 1,
            instruction_set: "avx2".to_owned(),
            libtorch: "none".to_owned(),
            resumed_epoch: 0,
        };
        self.report(token, Report::Started(started)).await.map(drop)
    }

    /// The one epoch of a trial from [`submit`], with one number; then its end. Returns the number of the last message.
    pub(crate) async fn finished(&mut self, token: Option<wire::Token>, took: Duration) -> Result<u64> {
        let point = wire::Point { name: "val_top1".to_owned(), step: 1, value: 0.5 };
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let finished = wire::EpochFinished { epoch: 1, duration_ms, points: vec![point] };
        self.report(token, Report::EpochFinished(finished)).await?;
        self.ended(token).await
    }

    pub(crate) async fn ended(&mut self, token: Option<wire::Token>) -> Result<u64> {
        let ended = wire::Ended { end_json: r#"{"end":"completed"}"#.to_owned() };
        self.report(token, Report::Ended(ended)).await
    }
}
