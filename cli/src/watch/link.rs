//! Requests to the coordinator and its answers; when it is away, the way back to it.

use crate::commands::is_broken;
use crate::exit::refused;
use crate::session::{Session, Way};
use access::Connection;
use dashboards::happenings;
use dashboards::watch::detail::Attempt;
use dashboards::watch::{Ask, Input, Link as State};
use proto::wire::control_request::Target;
use proto::wire::sweeps_client::SweepsClient;
use proto::wire::{
    AttemptStatus, AttemptsRequest, CheckpointsRequest, ControlRequest, DrainRequest, ExplainRequest, LimitRequest,
    LogsRequest, MetricsRequest, StatusRequest, WatchRequest, WorkersRequest,
};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;

/// Events told of the time before: what the last screenful of a busy hour takes.
const EVENTS_BEFORE: u32 = 2_000;
/// Between tries to reach a coordinator that is away.
const RETRY: Duration = Duration::from_secs(1);
/// Metrics of an open trial.
const CURVES: [&str; 15] = [
    "train_loss",
    "val_loss",
    "train_top1",
    "val_top1",
    "val_top5",
    "learning_rate",
    "images_per_second",
    "epoch_seconds",
    "eval_seconds",
    "data_wait_seconds",
    "gradient_norm",
    "replicas",
    "staleness_mean",
    "staleness_max",
    "step_loss",
];

type Client = SweepsClient<Connection>;
type Answers = Sender<Result<Input, tonic::Status>>;

/// A connection that comes back.
pub(super) struct Link {
    shared: Arc<Shared>,
    following: bool,
    /// What goes on for the open trial.
    open: Vec<AbortHandle>,
}

struct Shared {
    client: Mutex<Client>,
    sweep: String,
    way: Way,
    /// Where the lock file of a coordinator tells its new address; `None`: the address was given.
    store: Option<PathBuf>,
    answers: Answers,
}

impl Link {
    pub(super) fn new(session: &Session, sweep: String, store: Option<PathBuf>, answers: Answers) -> Self {
        let store = store.filter(|_| !session.is_embedded());
        let client = Mutex::new(session.client.clone());
        let shared = Shared { client, sweep, way: session.way.clone(), store, answers };
        Self { shared: Arc::new(shared), following: false, open: Vec::new() }
    }

    /// Sets about what is asked; answers come by themselves.
    pub(super) fn ask(&mut self, ask: Ask) {
        let shared = Arc::clone(&self.shared);
        match ask {
            Ask::Status { metrics } => {
                let follow = !std::mem::replace(&mut self.following, true);
                tokio::spawn(async move { shared.status(metrics, follow).await });
            }
            Ask::Workers => {
                tokio::spawn(async move {
                    if let Ok(reply) = shared.client().workers(WorkersRequest {}).await {
                        shared.tell(Input::Workers(reply.into_inner().workers)).await;
                    }
                });
            }
            Ask::Open(trial) => {
                self.open.drain(..).for_each(|task| task.abort());
                let other = Arc::clone(&shared);
                self.open.push(tokio::spawn(async move { other.log(trial).await }).abort_handle());
                let task = tokio::spawn(async move {
                    shared.curves(trial, &CURVES).await;
                    shared.lists(trial).await;
                });
                self.open.push(task.abort_handle());
            }
            Ask::Refresh(trial) => {
                let task = tokio::spawn(async move {
                    shared.curves(trial, &["step_loss"]).await;
                    shared.lists(trial).await;
                });
                self.open.retain(|task| !task.is_finished());
                self.open.push(task.abort_handle());
            }
            Ask::Control(trial, action) => {
                tokio::spawn(async move {
                    let target = match trial {
                        Some(id) => Target::Trial(id),
                        None => Target::Sweep(shared.sweep.clone()),
                    };
                    let request = ControlRequest { target: Some(target), action: action.into() };
                    let done = shared.client().control(request).await.map(drop);
                    shared.report(done).await;
                });
            }
            Ask::Limit(max_concurrent_trials) => {
                tokio::spawn(async move {
                    let request = LimitRequest { sweep: shared.sweep.clone(), max_concurrent_trials };
                    let done = shared.client().limit(request).await.map(drop);
                    shared.report(done).await;
                });
            }
            Ask::Drain(worker) => {
                tokio::spawn(async move {
                    let done = shared.client().drain(DrainRequest { worker }).await.map(drop);
                    shared.report(done).await;
                });
            }
            Ask::Quit => {}
        }
    }
}

impl Shared {
    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody may listen any more: then nothing is to be done.
    async fn tell(&self, input: Input) {
        let _ = self.answers.send(Ok(input)).await;
    }

    async fn report(&self, done: Result<(), tonic::Status>) {
        let input = match done {
            Ok(()) => Input::Done("done: the coordinator has taken it".to_owned()),
            Err(status) => Input::Refused(refused(&status).message),
        };
        self.tell(input).await;
    }

    /// The status, and after the first one what happens from there on.
    async fn status(self: Arc<Self>, metrics: Vec<String>, follow: bool) {
        // Of the last epoch only the speed is shown.
        let metrics_last = vec!["images_per_second".to_owned()];
        let request = StatusRequest { sweep: self.sweep.clone(), metrics, metrics_last };
        match self.client().status(request).await {
            Ok(reply) => self.tell(Input::Status(Box::new(reply.into_inner()))).await,
            // Whoever follows the events notices too.
            Err(status) if is_broken(&status) => {}
            Err(status) => {
                let _ = self.answers.send(Err(status)).await;
                return;
            }
        }
        if follow {
            tokio::spawn(async move { self.follow().await });
        }
    }

    /// Events for as long as there is a dashboard.
    async fn follow(&self) {
        let mut after = 0;
        let mut away: Option<u64> = None;
        loop {
            let last = if after == 0 { EVENTS_BEFORE } else { 0 };
            let request = WatchRequest { sweep: self.sweep.clone(), after, follow: true, last, workers: true };
            let why = match self.client().watch(request).await {
                Ok(reply) => {
                    if away.take().is_some() {
                        self.tell(Input::Link(State::Live)).await;
                    }
                    let mut events = reply.into_inner();
                    loop {
                        match events.next().await {
                            Some(Ok(event)) => {
                                after = event.sequence;
                                self.tell(Input::Event(event)).await;
                            }
                            Some(Err(status)) => break words(&status),
                            None => break "it has stopped".to_owned(),
                        }
                    }
                }
                Err(status) => words(&status),
            };
            let since_ms = *away.get_or_insert_with(super::now_ms);
            self.tell(Input::Link(State::Away { since_ms, why })).await;
            if self.answers.is_closed() {
                return;
            }
            tokio::time::sleep(RETRY).await;
            self.reconnect().await;
        }
    }

    /// It may have come back elsewhere: the lock file of the store tells.
    async fn reconnect(&self) {
        let mut way = self.way.clone();
        if let Some(store) = self.store.clone() {
            let found = tokio::task::spawn_blocking(move || coordinator::find_running(&store)).await;
            if let Ok(Some(found)) = found {
                way.address = found;
            }
        }
        if let Ok(client) = way.client().await {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        }
    }

    async fn curves(&self, trial: u64, names: &[&str]) {
        // Those that this version of the coordinator does not know would be refused.
        let known = names.iter().filter(|name| sweeps::metrics::find(name).is_some());
        let names = known.map(|name| (*name).to_owned()).collect();
        let request = MetricsRequest { sweep: self.sweep.clone(), trial: Some(trial), names };
        let Ok(reply) = self.client().metrics(request).await else { return };
        let mut batches = reply.into_inner();
        let mut first = true;
        while let Some(Ok(batch)) = batches.next().await {
            self.tell(Input::Points { trial, first, points: batch.points }).await;
            first = false;
        }
    }

    /// What is kept of a trial, and what is said of it.
    async fn lists(&self, trial: u64) {
        let mut client = self.client();
        let request = AttemptsRequest { trial, sweep: self.sweep.clone() };
        if let Ok(reply) = client.attempts(request).await {
            let attempts = reply.into_inner().attempts.into_iter().map(attempt).collect();
            self.tell(Input::Attempts(trial, attempts)).await;
        }
        if let Ok(reply) = client.checkpoints(CheckpointsRequest { trial }).await {
            self.tell(Input::Checkpoints(trial, reply.into_inner().checkpoints)).await;
        }
        if let Ok(reply) = client.explain(ExplainRequest { trial }).await {
            self.tell(Input::Explained(trial, reply.into_inner().text)).await;
        }
    }

    /// Its log, from the beginning and as lines come.
    async fn log(&self, trial: u64) {
        let Ok(reply) = self.client().logs(LogsRequest { trial, follow: true }).await else { return };
        let mut batches = reply.into_inner();
        let mut first = true;
        while let Some(Ok(batch)) = batches.next().await {
            self.tell(Input::Log(trial, first, batch.lines)).await;
            first = false;
        }
    }
}

fn attempt(status: AttemptStatus) -> Attempt {
    let end = proto::convert::attempt_end(&status.end_json).map(|end| happenings::end_words(&end));
    Attempt {
        attempt: status.attempt,
        host: status.host,
        device: status.device,
        started_ms: status.started_ms,
        ended_ms: status.ended_ms,
        // Empty while it runs.
        end: end.unwrap_or_default(),
        resumed_epoch: status.resumed_epoch,
    }
}

/// Why it is away, in a few words.
fn words(status: &tonic::Status) -> String {
    let said = status.message();
    let said = said.rsplit(": ").next().unwrap_or(said);
    if said.is_empty() { "the connection broke".to_owned() } else { said.chars().take(60).collect() }
}
