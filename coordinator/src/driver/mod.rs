//! The one task that owns the scheduler and the writing connection.
//!
//! It takes what is queued, up to a bound; asks the scheduler; writes facts, points, logs and events in one
//! transaction; only then sends grants, stops, acknowledgements and answers. If the transaction fails it is tried
//! again until it succeeds: nothing more is taken meanwhile, nothing is acknowledged, and no lease runs out.

mod act;
mod damage;
mod facts;
mod history;
mod input;
mod scrape;
mod submit;
mod tokens;
mod workers;

pub(crate) use input::{Attach, Explained, Input, NewToken, PricedTrial, Submission, ToWorker, Uploaded};

use crate::artifacts::Artifacts;
use crate::clock::{Clock, unix_ms};
use crate::disk::Room;
use crate::lock::StoreLock;
use crate::metrics::Metrics;
use crate::secret::ExchangeKey;
use crate::store::{EventRow, Outcome, Pending, Reader, Store, StoreError};
use crate::tokens::Tokens;
use crate::{Config, Error};
use act::After;
use history::History;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sweeps::event::Happening;
use sweeps::ids::{SlotId, Token, TrialId, WorkerId};
use sweeps::scheduler::{Millis, Scheduler, TrialState};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use workers::{Guest, Running, Session};

/// Inputs that wait; more have to wait at the door.
const QUEUE: usize = 4096;
/// Inputs of one batch.
const BATCH_INPUTS_MAX: usize = 4096;
/// Points of one batch.
const BATCH_POINTS_MAX: usize = 50_000;
/// Between tries to write, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Between two looks at the disks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the driver cannot go on.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The store failed in a way that waiting does not mend.
    #[error(
        "the store {path} failed: {source}; nothing acknowledged is lost. Check the disk, run `alpharho store check`, then \
         start again",
        path = path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: sqlx::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
}

/// What the services share with the driver.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) reader: Reader,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) store_path: PathBuf,
    pub(crate) metrics: Arc<Metrics>,
    /// Raised with each transaction.
    pub(crate) commits: watch::Receiver<u64>,
    /// How many replicas train each running trial that has more than its chief.
    pub(crate) replicas: watch::Receiver<BTreeMap<u64, u32>>,
    /// Why no trial is begun at the moment.
    pub(crate) held: watch::Receiver<Option<String>>,
    /// Why the store cannot be written at the moment.
    pub(crate) trouble: watch::Receiver<Option<String>>,
    /// The coordinator is stopping.
    pub(crate) closed: watch::Receiver<bool>,
    /// Those that are good, as the store has them.
    pub(crate) tokens: watch::Receiver<Tokens>,
    /// Callers must show a certificate and a token.
    pub(crate) is_guarded: bool,
}

/// What the driver must know of a sweep and the scheduler need not.
#[derive(Debug)]
struct SweepFacts {
    best: sweeps::spec::model::MetricGoal,
    keep: Vec<sweeps::spec::model::Keep>,
    scripted: bool,
}

impl From<&sweeps::spec::model::Sweep> for SweepFacts {
    fn from(sweep: &sweeps::spec::model::Sweep) -> Self {
        let usual =
            || sweeps::spec::model::MetricGoal { name: "val_top1".to_owned(), goal: sweeps::metrics::Goal::Maximize };
        Self {
            best: sweep.metrics.first().cloned().unwrap_or_else(usual),
            keep: sweep.checkpoint.keep.clone(),
            scripted: sweep.script.is_some(),
        }
    }
}

/// The task's state.
#[derive(Debug)]
pub(crate) struct Driver {
    /// Held for as long as anything may be written.
    _lock: StoreLock,
    store: Store,
    exchange_key: ExchangeKey,
    artifacts: Arc<Artifacts>,
    scheduler: Scheduler,
    timing: sweeps::scheduler::Config,
    clock: Clock,
    metrics: Arc<Metrics>,
    inputs: mpsc::Receiver<Input>,
    closed: watch::Receiver<bool>,
    commits: watch::Sender<u64>,
    replicas: watch::Sender<BTreeMap<u64, u32>>,
    /// Some joined or left in this batch.
    replicas_changed: bool,
    trouble: watch::Sender<Option<String>>,
    /// With those of this batch.
    tokens: Tokens,
    tokens_shown: Arc<watch::Sender<Tokens>>,
    is_guarded: bool,
    /// The names that workers belong to.
    owners: BTreeMap<WorkerId, String>,
    /// Which worker got a lease, of the last few: its last words may come when it is over.
    granted: BTreeMap<Token, WorkerId>,
    room: Room,
    held: watch::Sender<Option<String>>,

    sweeps: BTreeMap<String, SweepFacts>,
    /// States last told to watchers; pending if absent.
    shown: BTreeMap<TrialId, TrialState>,
    /// Limits last told to watchers, by sweep.
    shown_limits: BTreeMap<String, Option<u32>>,
    running: BTreeMap<TrialId, Running>,
    /// Workers that were lost or came back.
    history: History,
    sessions: BTreeMap<u64, Session>,
    /// Boxed, as nodes of a map are half empty.
    guests: BTreeMap<WorkerId, Box<Guest>>,
    /// Attempts that their own trainers ended, the last few: told again, they were not acknowledged in time.
    ended: BTreeSet<Token>,
    /// Tokens whose refusal watchers have been told of, the last few.
    refused: BTreeSet<Token>,
    /// Ids of checkpoints that are missing or damaged, as watchers were told.
    damaged: BTreeSet<i64>,
    /// Lines since a trial's log was pruned.
    unpruned: BTreeMap<TrialId, usize>,
    refusals: u64,
    last_trial: u64,
    last_event: u64,
    timeouts_at: Millis,

    pending: Pending,
    /// Trials put in by this batch: what the scheduler says of them while they are new is no news.
    fresh: BTreeSet<TrialId>,
    after: Vec<After>,
    /// The highest sequence number taken, by session.
    acks: BTreeMap<u64, u64>,
    /// Sessions to end once they have been answered.
    ending: BTreeSet<u64>,
}

impl Driver {
    /// Restores the scheduler from the store.
    pub(crate) async fn start(
        config: &Config,
        lock: StoreLock,
        mut store: Store,
        artifacts: Artifacts,
        closed: watch::Receiver<bool>,
    ) -> Result<(Self, Arc<Shared>), Error> {
        let restored = store.restore().await?;
        let exchange_key = store.exchange_key().await?;
        let (tokens, owners) = (store.tokens().await?, store.owners().await?);
        let is_guarded = config.credentials.is_some();
        let clock = Clock::start();
        let timing = sweeps::scheduler::Config::from_heartbeat(config.heartbeat_ms);
        let mut shown = BTreeMap::new();
        for record in restored.sweeps.iter().flat_map(|sweep| &sweep.trials) {
            if record.state != TrialState::Pending {
                shown.insert(record.trial.id, record.state.clone());
            }
        }
        let running = restored.epochs.into_iter().map(|(trial, epoch)| (trial, Running::new(epoch))).collect();
        let sweeps = restored.specs.iter().map(|sweep| (sweep.name.clone(), SweepFacts::from(sweep))).collect();
        let scheduler = Scheduler::restore(timing, clock.now_ms(), restored.sweeps);
        let shown_limits =
            scheduler.sweeps().map(|view| (view.sweep.to_owned(), view.max_concurrent_trials())).collect();
        let (input_sender, inputs) = mpsc::channel(QUEUE);
        let (commits, commits_seen) = watch::channel(0);
        let (replicas, replicas_seen) = watch::channel(BTreeMap::new());
        let (trouble, trouble_seen) = watch::channel(None);
        let (tokens_shown, tokens_seen) = watch::channel(tokens.clone());
        let (held, held_seen) = watch::channel(None);
        let folders = vec![folder_of(store.path()), config.artifacts.clone()];
        let artifacts = Arc::new(artifacts);
        let metrics = Arc::new(Metrics::new()?);
        let shared = Shared {
            inputs: input_sender,
            reader: store.reader().clone(),
            artifacts: Arc::clone(&artifacts),
            store_path: store.path().to_owned(),
            metrics: Arc::clone(&metrics),
            commits: commits_seen,
            replicas: replicas_seen,
            held: held_seen,
            trouble: trouble_seen,
            closed: closed.clone(),
            tokens: tokens_seen,
            is_guarded,
        };
        let driver = Self {
            _lock: lock,
            store,
            exchange_key,
            artifacts,
            scheduler,
            timing,
            clock,
            metrics,
            inputs,
            closed,
            commits,
            replicas,
            replicas_changed: false,
            trouble,
            tokens,
            tokens_shown: Arc::new(tokens_shown),
            is_guarded,
            owners,
            granted: BTreeMap::new(),
            room: Room::new(folders, config.disk_reserve_bytes),
            held,
            sweeps,
            shown,
            shown_limits,
            running,
            history: History::from(restored.workers),
            sessions: BTreeMap::new(),
            guests: BTreeMap::new(),
            ended: BTreeSet::new(),
            refused: BTreeSet::new(),
            damaged: BTreeSet::new(),
            unpruned: BTreeMap::new(),
            refusals: 0,
            last_trial: restored.last_trial,
            last_event: restored.last_event,
            timeouts_at: 0,
            pending: Pending::default(),
            fresh: BTreeSet::new(),
            after: Vec::new(),
            acks: BTreeMap::new(),
            ending: BTreeSet::new(),
        };
        Ok((driver, Arc::new(shared)))
    }

    /// Until the coordinator stops.
    pub(crate) async fn run(mut self) -> Result<(), DriverError> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let timeout = self.scheduler.next_timeout().map(|at| self.clock.instant_of(at));
            let mut look = false;
            let input = tokio::select! {
                biased;
                _ = self.closed.wait_for(|closed| *closed) => return Ok(()),
                _ = looks.tick() => {
                    look = true;
                    None
                }
                input = self.inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return Ok(()),
                },
                () = sleep_until(timeout) => None,
            };
            if look {
                self.look_at_disks();
            }
            if let Some(input) = input {
                self.take(input).await?;
            }
            let drained = self.take_queued().await?;
            self.handle_timeouts(drained);
            if !self.flush().await? {
                return Ok(());
            }
        }
    }

    /// With little room no trial is begun; those that run go on, and so does everything once there is room.
    fn look_at_disks(&mut self) {
        let reason = self.room.look();
        if reason.is_some() == self.held.borrow().is_some() {
            return;
        }
        match &reason {
            Some(reason) => tracing::warn!("no trial is begun: {reason}"),
            None => tracing::info!("there is room on the disk again; trials are begun"),
        }
        self.happened("", None, &Happening::LeasesHeld { reason: reason.clone() });
        self.held.send_replace(reason.clone());
        // Never refused.
        let _ = self.tell_scheduler(sweeps::scheduler::Event::LeasesHeld { reason });
    }

    /// Takes what is queued, up to the bounds of a batch. True if nothing is left.
    async fn take_queued(&mut self) -> Result<bool, DriverError> {
        for _ in 1..BATCH_INPUTS_MAX {
            if self.pending.points.len() > BATCH_POINTS_MAX {
                return Ok(false);
            }
            match self.inputs.try_recv() {
                Ok(input) => self.take(input).await?,
                Err(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    async fn take(&mut self, input: Input) -> Result<(), DriverError> {
        match input {
            Input::Submit { submission, reply } => self.submit(*submission, reply).await?,
            Input::Control { event, reply } => {
                let result = self.tell_order(event).map_err(|refusal| act::status_of(&refusal));
                self.after.push(After::reply(reply, result));
            }
            Input::Explain { trial, reply } => drop(reply.send(self.explain(trial))),
            Input::Workers { reply } => drop(reply.send(self.worker_statuses())),
            Input::Scrape { reply } => {
                self.refresh_metrics();
                // A scrape that took too long has gone.
                let _ = reply.send(());
            }
            Input::CheckInvariants { reply } => {
                self.scheduler.check_invariants();
                let _ = reply.send(());
            }
            Input::Attach(attach) => self.attach(*attach),
            Input::Said { session, sequence, saying, place } => {
                self.said(session, sequence, saying);
                drop(place);
            }
            Input::Detached { session } => self.detach(session),
            Input::MayUpload { token, name, reply } => drop(reply.send(self.may_upload(token, name.as_deref()))),
            Input::MayDownload { trial, name, reply } => drop(reply.send(self.may_download(trial, name.as_deref()))),
            Input::PutToken { token, reply } => self.put_token(*token, reply),
            Input::RevokeTokens { name, reply } => self.revoke_tokens(&name, reply),
            Input::Damaged { row, problem, reply } => {
                self.set_aside(&row, problem);
                self.after.push(After::reply(reply, Ok(())));
            }
            Input::Uploaded { upload, reply } => self.uploaded(*upload, reply),
        }
        Ok(())
    }

    /// While inputs are still queued, heartbeats may be among them: nobody's lease ends for our slowness, unless
    /// the queue is never empty for a whole lease.
    fn handle_timeouts(&mut self, drained: bool) {
        let now = self.clock.now_ms();
        let overdue = now.saturating_sub(self.timeouts_at) > self.timing.lease_ms;
        let due = self.scheduler.next_timeout().is_some_and(|at| at <= now);
        if drained || overdue {
            self.timeouts_at = now;
            if due {
                let mut commands = Vec::new();
                self.scheduler.handle_timeout(now, &mut commands);
                self.carry_out(commands);
            }
        }
    }

    /// Puts the batch on disk, then acts on it. False if the coordinator stops before that succeeded.
    async fn flush(&mut self) -> Result<bool, DriverError> {
        let outcome = if self.pending.is_empty() {
            Outcome::default()
        } else {
            match self.commit().await? {
                Some(outcome) => outcome,
                None => return Ok(false),
            }
        };
        if std::mem::take(&mut self.replicas_changed) {
            self.replicas.send_replace(self.replica_counts());
        }
        self.act(outcome).await?;
        Ok(true)
    }

    /// Tries until the batch is on disk; `None` if the coordinator stops before.
    async fn commit(&mut self) -> Result<Option<Outcome>, DriverError> {
        let pending = std::mem::take(&mut self.pending);
        self.fresh.clear();
        let begun = Instant::now();
        let mut pause = RETRY_FIRST;
        let outcome = loop {
            let tried_at = Instant::now();
            match self.store.commit(&pending).await {
                Ok(outcome) => {
                    self.metrics.transaction_seconds.observe(tried_at.elapsed().as_secs_f64());
                    break outcome;
                }
                Err(error) if crate::store::may_mend(&error) => {
                    self.metrics.transactions_failed.inc();
                    if self.trouble.borrow().is_none() {
                        let store = self.store.path().display().to_string();
                        tracing::error!(
                            store,
                            %error,
                            "the store cannot be written; nothing is acknowledged until it can be. Is the disk full?"
                        );
                        self.trouble.send_replace(Some(format!("the store {store} cannot be written: {error}")));
                    }
                }
                Err(source) => return Err(DriverError::Write { path: self.store.path().to_owned(), source }),
            }
            tokio::select! {
                biased;
                _ = self.closed.wait_for(|closed| *closed) => return Ok(None),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            }
        };
        if self.trouble.send_replace(None).is_some() {
            // Nobody could renew a lease meanwhile.
            self.clock.hold_since(begun);
            tracing::info!("the store can be written again");
        }
        self.commits.send_modify(|commits| *commits += 1);
        Ok(Some(outcome))
    }

    /// For watchers, with the next sequence number.
    fn happened(&mut self, sweep: &str, trial: Option<TrialId>, happening: &Happening) {
        self.last_event += 1;
        self.pending.events.push(EventRow {
            sequence: self.last_event,
            at_ms: unix_ms(),
            sweep: sweep.to_owned(),
            trial,
            json: proto::convert::to_json(happening),
        });
    }

    /// Of no sweep: of a worker.
    fn happened_to_worker(&mut self, happening: Happening) {
        self.history.learn(&happening);
        self.happened("", None, &happening);
    }

    /// Where the attempt of that token runs, if it does, and the token is its chief's.
    fn chief_slot(&self, token: Token) -> Option<SlotId> {
        self.scheduler.slot_of(token).filter(|_| token.replica == 0)
    }

    /// How many replicas train each running trial that has more than its chief.
    fn replica_counts(&self) -> BTreeMap<u64, u32> {
        let mut counts = BTreeMap::new();
        for slot in self.scheduler.workers().flat_map(|worker| worker.slots) {
            for trial in slot.trials.iter().filter(|_| slot.replica > 0) {
                *counts.entry(trial.0).or_insert(1) += 1;
            }
        }
        counts
    }

    /// What a slot trains.
    fn trials_on(&self, slot: SlotId) -> impl Iterator<Item = TrialId> {
        let worker = self.scheduler.worker(slot.worker);
        let place = worker.and_then(|worker| worker.slots.into_iter().find(|place| place.index == slot.index));
        place.into_iter().flat_map(|place| place.trials)
    }

    /// Host and device of a slot, for people.
    fn names_of(&self, slot: SlotId) -> (String, String) {
        let Some(worker) = self.scheduler.worker(slot.worker) else { return Default::default() };
        let device = worker.slots.iter().find(|place| place.index == slot.index).map(|place| place.device.to_owned());
        (worker.host.to_owned(), device.unwrap_or_default())
    }

    fn explain(&self, trial: TrialId) -> Option<Explained> {
        let record = self.scheduler.trial(trial)?.clone();
        let waiting = self.scheduler.explain(self.clock.now_ms(), trial).ok()?;
        let sweep_paused = self.scheduler.sweep(&record.sweep).is_some_and(|sweep| sweep.paused);
        let replicas = self.scheduler.replicas(trial).map(|(number, slot)| (number, self.names_of(slot))).collect();
        let beside = match record.state {
            TrialState::Running { slot, .. } => self.trials_on(slot).count().saturating_sub(1),
            _ => 0,
        };
        Some(Explained { record, waiting, sweep_paused, replicas, beside })
    }
}

fn folder_of(store: &std::path::Path) -> PathBuf {
    store.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(std::path::Path::new(".")).to_owned()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
