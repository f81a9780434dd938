//! What workers say. Everything may be said twice, and late.

use super::Driver;
use super::act::After;
use super::input::{Attach, ToWorker, Uploaded};
use crate::clock::unix_ms;
use crate::store::{AttemptFacts, Grouped, LogRow, NewCheckpoint, PointRow, Write};
use proto::convert::{Registration, Report, Saying};
use proto::wire;
use std::collections::{BTreeMap, BTreeSet};
use sweeps::event::Happening;
use sweeps::ids::{SlotId, Token, WorkerId};
use sweeps::metrics::{self, Axis, Point};
use sweeps::scheduler::{AttemptEnd, Event, Refusal, StopReason, WorkerState};
use tokio::sync::oneshot;
use tonic::Status;

/// Tokens remembered of those that were refused or have ended.
pub(super) const TOKENS_MAX: usize = 10_000;
/// Lines of a trial's log after which it is pruned again.
const PRUNE_EVERY_LINES: usize = 1_000;
/// What a trainer that only acts out a script says that its libtorch is.
const NO_LIBTORCH: &str = "none";

/// A stream from a worker.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) worker: WorkerId,
    pub(super) to_worker: ToWorker,
    /// Dropped with the session, which tells the task that reads the stream.
    _open: oneshot::Sender<()>,
}

/// What is known of a worker besides what the scheduler knows.
#[derive(Debug, Default)]
pub(super) struct Guest {
    version: String,
    pub(super) last_seen_ms: i64,
    /// Mult-Adds of the images it trains on in a second, by slot.
    mult_adds_per_second: BTreeMap<u32, f64>,
    /// Of the trials that its slots train now.
    pub(super) images_per_second: BTreeMap<u32, f64>,
    /// As told last, by slot.
    gpus: BTreeMap<u32, wire::GpuUse>,
}

/// The current attempt of a trial.
#[derive(Debug)]
pub(super) struct Running {
    /// The last epoch that this attempt has reported.
    epoch: u32,
    /// The hash of the last checkpoint it has sent.
    sha256: String,
}

impl Running {
    pub(super) fn new(epoch: u32) -> Self {
        Self { epoch, sha256: String::new() }
    }
}

impl Driver {
    pub(super) fn attach(&mut self, attach: Attach) {
        let Attach { session, sequence, registration, name, mut to_worker, open } = attach;
        let Registration { worker, host, version, process, slots, holding } = registration;
        if let Err(refused) = self.claim(worker, name.as_deref()) {
            // Empty so far. The stream ends with it.
            let _ = to_worker.try_send(Err(refused));
            return;
        }
        if let Some(old) = self.session_of(worker) {
            let status = Status::aborted("the worker has registered again, on another stream");
            self.after.push(After::Close { session: old, status });
        }
        tracing::info!(%worker, host, version, process, slots = slots.len(), held = holding.len(), "a worker joined");
        self.metrics.workers_joined.inc();
        let devices = slots.iter().map(|slot| slot.device.clone()).collect();
        let guest = self.guests.entry(worker).or_default();
        guest.version = version;
        guest.last_seen_ms = unix_ms();
        self.sessions.insert(session, Session { worker, to_worker, _open: open });
        let registered =
            wire::Registered { session, heartbeat_ms: self.timing.heartbeat_ms, lease_ms: self.timing.lease_ms };
        let message = wire::coordinator_message::Body::Registered(registered);
        self.after.push(After::Send { session, message });
        self.acks.insert(session, sequence);
        self.happened_to_worker(Happening::WorkerJoined { worker, host: host.clone(), devices });
        if let Err(refusal) = self.tell_scheduler(Event::WorkerJoined { worker, session, host, slots, holding }) {
            self.after.push(After::Close { session, status: super::act::status_of(&refusal) });
        }
    }

    /// A session of which nothing more will come.
    pub(super) fn detach(&mut self, session: u64) {
        let worker = match self.sessions.remove(&session) {
            Some(known) => known.worker,
            // We closed it ourselves; the scheduler still has to hear of it.
            None => match self.scheduler.workers().find(|worker| worker.session == Some(session)) {
                Some(worker) => worker.worker,
                None => return,
            },
        };
        if self.tell_scheduler(Event::WorkerDisconnected { worker, session }).is_ok() {
            tracing::info!(%worker, "a worker's stream closed");
            self.happened_to_worker(Happening::WorkerDisconnected { worker });
        }
    }

    pub(super) fn said(&mut self, session: u64, sequence: u64, saying: Saying) {
        // What an older session says is not acknowledged: the worker says it again in the new one.
        let Some(worker) = self.sessions.get(&session).map(|session| session.worker) else { return };
        self.acks.insert(session, sequence);
        if let Some(guest) = self.guests.get_mut(&worker) {
            guest.last_seen_ms = unix_ms();
        }
        self.metrics.reports.with_label_values(&[kind_of(&saying)]).inc();
        let result = match saying {
            Saying::Heartbeat(gpus) => {
                if let Some(guest) = self.guests.get_mut(&worker).filter(|_| !gpus.is_empty()) {
                    guest.gpus = gpus.into_iter().collect();
                }
                self.tell_scheduler(Event::Heartbeat { worker, session })
            }
            Saying::Draining => self.drain(worker, Event::WorkerDraining { worker, session }),
            Saying::Goodbye => {
                tracing::info!(%worker, "a worker left");
                self.happened_to_worker(Happening::WorkerLeft { worker });
                self.guests.remove(&worker);
                self.ending.insert(session);
                self.tell_scheduler(Event::WorkerLeft { worker, session })
            }
            Saying::Report(token, report) => {
                let alive = self.tell_scheduler(Event::Heartbeat { worker, session });
                if alive.is_ok() {
                    self.report(session, worker, token, report);
                }
                alive
            }
        };
        if let Err(refusal) = result {
            self.acks.remove(&session);
            self.after.push(After::Close { session, status: super::act::status_of(&refusal) });
        }
    }

    /// What a person orders.
    pub(super) fn tell_order(&mut self, event: Event) -> Result<(), Refusal> {
        match event {
            Event::WorkerDrainAsked { worker } => self.drain(worker, event),
            event => self.tell_scheduler(event),
        }
    }

    /// Watchers hear of it the first time.
    fn drain(&mut self, worker: WorkerId, event: Event) -> Result<(), Refusal> {
        let drained_before = self.scheduler.worker(worker).is_some_and(|view| view.draining);
        self.tell_scheduler(event)?;
        if !drained_before {
            tracing::info!(%worker, "a worker takes no more leases");
            self.happened_to_worker(Happening::WorkerDraining { worker });
        }
        Ok(())
    }

    fn report(&mut self, session: u64, worker: WorkerId, token: Token, report: Report) {
        if let Report::Log(lines) = report {
            self.log(worker, token, lines);
            return;
        }
        match self.scheduler.slot_of(token) {
            Some(slot) if slot.worker == worker && token.replica > 0 => self.report_replica(session, token, report),
            Some(slot) if slot.worker == worker => self.report_current(session, slot, token, report),
            Some(_) | None => self.refuse(session, token, &report),
        }
    }

    fn report_current(&mut self, session: u64, slot: SlotId, token: Token, report: Report) {
        match report {
            Report::Started(started) => self.started(session, token, started),
            Report::Points(points) => {
                self.put_speed(slot, &points);
                self.put_points(token, points);
            }
            Report::EpochFinished { epoch, duration_ms, points } => {
                self.epoch_finished(slot, token, epoch, duration_ms, points);
            }
            Report::Progress { epoch, share, duration_ms } => {
                // Current a moment ago, in the same task.
                let _ = self.tell_scheduler(Event::Progress { token, epoch, share, duration_ms });
            }
            Report::Ended(end) => self.end(token, end),
            // Taken before: also of attempts that are over.
            Report::Log(_) => {}
            Report::Listening(address) => {
                // Current a moment ago, in the same task.
                let _ = self.tell_scheduler(Event::ChiefListening { token, address });
            }
        }
    }

    /// Of a replica only its end counts: the chief reports for all.
    fn report_replica(&mut self, session: u64, token: Token, report: Report) {
        match report {
            Report::Started(started) => {
                if self.is_wrong_trainer(token, &started) {
                    self.stop(session, token, StopReason::Superseded);
                    let reason = "the worker has started the scripted trainer for a trial without a script".to_owned();
                    let _ = self.tell_scheduler(Event::AttemptEnded { token, end: AttemptEnd::Failed { reason } });
                }
            }
            Report::Ended(end) => {
                remember_token(&mut self.ended, token);
                // Current a moment ago, in the same task.
                let _ = self.tell_scheduler(Event::AttemptEnded { token, end });
            }
            Report::Points(_)
            | Report::Progress { .. }
            | Report::EpochFinished { .. }
            | Report::Listening(_)
            | Report::Log(_) => {
                tracing::debug!(%token, "a replica reported what is the chief's to report");
            }
        }
    }

    /// Made-up numbers must never look like real ones.
    fn is_wrong_trainer(&self, token: Token, started: &wire::Started) -> bool {
        let scripted =
            self.sweep_of(token).and_then(|sweep| self.sweeps.get(&sweep)).is_some_and(|sweep| sweep.scripted);
        started.libtorch == NO_LIBTORCH && !scripted
    }

    fn started(&mut self, session: u64, token: Token, started: wire::Started) {
        let is_wrong = self.is_wrong_trainer(token, &started);
        let wire::Started { device, threads, instruction_set, libtorch, resumed_epoch } = started;
        if is_wrong {
            let reason = "the worker has started the scripted trainer for a trial without a script".to_owned();
            self.stop(session, token, StopReason::Superseded);
            self.end(token, AttemptEnd::Failed { reason });
            return;
        }
        let facts = AttemptFacts { token, device, threads, instruction_set, libtorch, resumed_epoch };
        self.pending.group(Grouped::AttemptFacts(Box::new(facts)));
    }

    fn epoch_finished(&mut self, slot: SlotId, token: Token, epoch: u32, duration_ms: u64, mut points: Vec<Point>) {
        let Some(record) = self.scheduler.trial(token.trial) else { return };
        let (sweep, trial) = (record.sweep.clone(), record.trial);
        let Some(running) = self.running.get_mut(&token.trial) else { return };
        if epoch > trial.epochs {
            tracing::warn!(%token, epoch, epochs = trial.epochs, "an epoch was reported that is not to be; it is left out");
            return;
        }
        if epoch <= running.epoch {
            // Told twice.
            return;
        }
        running.epoch = epoch;
        for point in &mut points {
            if metrics::find(&point.name).is_some_and(|metric| metric.axis == Axis::Epoch) {
                point.step = u64::from(epoch);
            }
        }
        // What several slots did together says nothing of one.
        let alone = self.scheduler.replicas(token.trial).next().is_none()
            && !points.iter().any(|point| point.name == "replicas" && point.value > 1.0);
        let images = self.put_speed(slot, &points).filter(|_| alone);
        let mult_adds = self.scheduler.trial(token.trial).map_or(0, |record| record.trial.mult_adds);
        if let (Some(images), Some(guest)) = (images, self.guests.get_mut(&slot.worker)) {
            guest.mult_adds_per_second.insert(slot.index, images * mult_adds as f64);
        }
        if let Some(facts) = self.sweeps.get(&sweep) {
            self.pending.best.insert(token.trial, (facts.best.name.clone(), facts.best.goal));
        }
        self.count_epoch(duration_ms, &points);
        let attempt = token.attempt;
        self.happened(&sweep, Some(token.trial), &Happening::EpochFinished { attempt, epoch, points: points.clone() });
        self.put_points(token, points);
        self.pending.group(Grouped::TrainTime { trial: token.trial, duration_ms });
        // Current a moment ago, in the same task.
        let _ = self.tell_scheduler(Event::EpochFinished { token, epoch, duration_ms });
    }

    fn count_epoch(&self, duration_ms: u64, points: &[Point]) {
        let metrics = &self.metrics;
        metrics.epochs.inc();
        metrics.epoch_seconds.observe(duration_ms as f64 / 1000.0);
        for Point { name, value, .. } in points {
            match name.as_str() {
                "images_per_second" => metrics.epoch_images_per_second.observe(*value),
                "staleness_mean" => metrics.staleness_mean.observe(*value),
                "staleness_max" => metrics.staleness_max.observe(*value),
                _ => {}
            }
        }
    }

    /// The images per second among these points, remembered of the slot.
    fn put_speed(&mut self, slot: SlotId, points: &[Point]) -> Option<f64> {
        let images = points.iter().rfind(|point| point.name == "images_per_second")?.value;
        if let Some(guest) = self.guests.get_mut(&slot.worker) {
            guest.images_per_second.insert(slot.index, images);
        }
        Some(images)
    }

    /// What the slot trained before says nothing of what it trains now.
    pub(super) fn forget_speed(&mut self, slot: SlotId) {
        if let Some(guest) = self.guests.get_mut(&slot.worker) {
            guest.images_per_second.remove(&slot.index);
        }
    }

    fn end(&mut self, token: Token, end: AttemptEnd) {
        let Some(record) = self.scheduler.trial(token.trial) else { return };
        let (done, epochs) = (record.epochs_done, record.trial.epochs);
        let end = match end {
            // Completion is only believed with all its numbers on disk, or in the same transaction.
            AttemptEnd::Completed if done < epochs => {
                let reason = format!("the trainer said that it was done, but has reported {done} of {epochs} epochs");
                AttemptEnd::Crashed { reason }
            }
            end => end,
        };
        remember_token(&mut self.ended, token);
        // Current a moment ago, in the same task.
        let _ = self.tell_scheduler(Event::AttemptEnded { token, end });
    }

    fn put_points(&mut self, token: Token, points: Vec<Point>) {
        let Token { trial, attempt, .. } = token;
        let row = |Point { name, step, value }| PointRow { trial, attempt, name, step, value };
        self.metrics.points.inc_by(points.len() as u64);
        self.pending.points.extend(points.into_iter().map(row));
    }

    /// Last words are welcome, of any attempt that there was.
    fn log(&mut self, worker: WorkerId, token: Token, lines: Vec<String>) {
        let known = self.scheduler.trial(token.trial).is_some_and(|record| token.attempt <= record.attempts);
        if known && self.may_log(worker, token) {
            let at_ms = unix_ms();
            let Token { trial, attempt, replica, .. } = token;
            let unpruned = self.unpruned.entry(trial).or_default();
            *unpruned += lines.len();
            if *unpruned >= PRUNE_EVERY_LINES {
                *unpruned = 0;
                self.pending.writes.push(Write::PruneLog { trial });
            }
            let name = |text| if replica == 0 { text } else { format!("replica {replica}: {text}") };
            let row = |text| LogRow { trial, attempt, at_ms, text: name(text) };
            self.pending.logs.extend(lines.into_iter().map(row));
        }
    }

    /// Not current: counted, told to stop; watchers hear of it once a token.
    fn refuse(&mut self, session: u64, token: Token, report: &Report) {
        if (matches!(report, Report::Ended(_)) || token.replica > 0) && self.ended.contains(&token) {
            // We know, and it could not know that we do.
            return;
        }
        self.refusals += 1;
        self.metrics.reports_refused.inc();
        self.stop(session, token, StopReason::Superseded);
        if remember_token(&mut self.refused, token) {
            let refusals = self.refusals;
            tracing::info!(%token, refusals, "a report was refused: it is not current");
            let sweep = self.sweep_of(token).unwrap_or_default();
            let reason = format!("{token} is not current any more: the trial is over, or runs elsewhere");
            self.happened(&sweep, Some(token.trial), &Happening::ReportRefused { reason });
        }
    }

    fn stop(&mut self, session: u64, token: Token, reason: StopReason) {
        let reason = proto::convert::stop_word(reason).to_owned();
        let message = wire::coordinator_message::Body::Stop(wire::Stop { token: Some(token.into()), reason });
        self.after.push(After::Send { session, message });
    }

    pub(super) fn uploaded(&mut self, upload: Uploaded, reply: super::input::Reply<u64>) {
        let Uploaded { token, epoch, step, bytes, sha256, best, file } = upload;
        if self.chief_slot(token).is_none() {
            let status =
                Status::failed_precondition(format!("{token} is not current any more: its checkpoint is not wanted"));
            self.after.push(After::reply(reply, Err(status)));
            return;
        }
        let is_new = self.running.get_mut(&token.trial).is_some_and(|running| {
            let is_new = running.sha256 != sha256;
            running.sha256.clone_from(&sha256);
            is_new
        });
        if let Some(sweep) = self.sweep_of(token).filter(|_| is_new) {
            self.metrics.checkpoints.inc();
            self.metrics.checkpoint_bytes.observe(bytes as f64);
            let happening = Happening::CheckpointSaved { attempt: token.attempt, epoch, bytes, best };
            self.happened(&sweep, Some(token.trial), &happening);
        }
        let place = self.pending.writes.iter().filter(|write| matches!(write, Write::Checkpoint(_))).count();
        let checkpoint = NewCheckpoint { token, epoch, step, bytes, sha256, file, best, at_ms: unix_ms() };
        self.pending.writes.push(Write::Checkpoint(Box::new(checkpoint)));
        self.after.push(After::Reply(Box::new(move |outcome| {
            let id = outcome.checkpoints.get(place).copied();
            drop(reply.send(id.ok_or_else(|| Status::internal("the checkpoint's row was not written"))));
        })));
    }

    pub(super) fn session_of(&self, worker: WorkerId) -> Option<u64> {
        let session = self.scheduler.worker(worker)?.session?;
        self.sessions.contains_key(&session).then_some(session)
    }

    pub(super) fn worker_statuses(&self) -> Vec<wire::WorkerStatus> {
        let statuses = self.scheduler.workers().map(|worker| {
            let guest = self.guests.get(&worker.worker);
            let slots = worker.slots.iter().map(|slot| wire::SlotStatus {
                device: slot.device.to_owned(),
                trials: slot.trials.iter().map(|trial| trial.0).collect(),
                replica: slot.replica,
                mult_adds_per_second: guest
                    .and_then(|guest| guest.mult_adds_per_second.get(&slot.index).copied())
                    .unwrap_or(0.0),
                images_per_second: guest
                    .and_then(|guest| guest.images_per_second.get(&slot.index).copied())
                    .filter(|_| !slot.trials.is_empty())
                    .unwrap_or(0.0),
                gpu: guest.and_then(|guest| guest.gpus.get(&slot.index).cloned()),
            });
            let state = match worker.state {
                WorkerState::Attached => "attached",
                WorkerState::Disconnected => "disconnected",
                WorkerState::Draining => "draining",
                WorkerState::SetAside => "set aside",
            };
            let (times_lost, times_returned) = self.history.times(worker.worker);
            wire::WorkerStatus {
                times_lost,
                times_returned,
                id: worker.worker.0,
                host: worker.host.to_owned(),
                version: guest.map(|guest| guest.version.clone()).unwrap_or_default(),
                state: state.to_owned(),
                reason: worker.set_aside.unwrap_or_default().to_owned(),
                slots: slots.collect(),
                last_seen_ms: guest.and_then(|guest| u64::try_from(guest.last_seen_ms).ok()).unwrap_or(0),
            }
        });
        statuses.chain(self.history.lost()).collect()
    }
}

fn kind_of(saying: &Saying) -> &'static str {
    match saying {
        Saying::Heartbeat(_) => "heartbeat",
        Saying::Draining => "draining",
        Saying::Goodbye => "goodbye",
        Saying::Report(_, Report::Started(_)) => "started",
        Saying::Report(_, Report::Points(_)) => "points",
        Saying::Report(_, Report::Progress { .. }) => "progress",
        Saying::Report(_, Report::EpochFinished { .. }) => "epoch",
        Saying::Report(_, Report::Ended(_)) => "ended",
        Saying::Report(_, Report::Log(_)) => "log",
        Saying::Report(_, Report::Listening(_)) => "listening",
    }
}

/// Puts a token into a bounded set; true if it was not there. The lowest, of the oldest trials, are forgotten first.
pub(super) fn remember_token(tokens: &mut BTreeSet<Token>, token: Token) -> bool {
    let is_new = tokens.insert(token);
    if tokens.len() > TOKENS_MAX {
        tokens.pop_first();
    }
    is_new
}
