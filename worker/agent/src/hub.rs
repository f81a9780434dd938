//! The middle of the agent: knows the slots, keeps what is not yet acknowledged, decides when to leave.
//!
//! It alone changes that state, one event after another, and never waits for anything but the next event.

use crate::config::Config;
use crate::gpu::GpuWatch;
use crate::lease::{self, Granted, Order, Tools};
use crate::outbox::Outbox;
use proto::wire::coordinator_message::Body as FromCoordinator;
use proto::wire::report::Body as ReportBody;
use proto::wire::worker_message::Body as ToCoordinator;
use proto::{convert, link, wire};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::scheduler::{AttemptEnd, StopReason};
use tokio::sync::mpsc;

/// From SIGTERM to the exit, at most.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(28);
/// The same, when whoever started the agent is gone, and the coordinator probably with it.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than usual an idle agent stays for a coordinator that has not heard of all it did.
const UNHEARD_PATIENCE: Duration = Duration::from_secs(60);
/// How long the goodbye may take.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

/// All that can happen.
pub(crate) enum Event {
    /// A stream is open: the registration is to be sent on it.
    Connected { outgoing: mpsc::Sender<wire::WorkerMessage> },
    /// The coordinator said something.
    Told(FromCoordinator),
    /// The stream is closed, or could not be opened.
    Closed { why: String },
    /// A lease has something to report.
    Report { slot: u32, report: wire::Report },
    /// A lease is over; those came too late to join it.
    Released { slot: u32, late: Vec<Granted> },
}

/// Why the agent should leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It got this signal.
    Signal(&'static str),
    /// Whoever started it is gone.
    ParentGone,
}

/// How the agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing runs, and the coordinator knows all of it.
    Clean,
    /// Time ran out: the coordinator has not heard of everything.
    Unheard,
    /// It was idle all the time, because the coordinator never answered.
    NeverAttached,
}

pub(crate) struct Hub {
    tools: Arc<Tools>,
    slots: Vec<Slot>,
    outbox: Outbox,
    stream: Option<Stream>,
    ever_attached: bool,
    told_away: bool,
    leaving: Option<Leaving>,
    /// The coordinator wants no more of it than what it holds.
    drains: bool,
    idle_since: Instant,
    gpus: GpuWatch,
}

#[derive(Default)]
struct Slot {
    lease: Option<Running>,
    /// Granted while the lease before it is not yet gone.
    next: Option<Vec<Granted>>,
}

impl Slot {
    /// All that was granted and has not ended.
    fn tokens(&self) -> impl Iterator<Item = Token> {
        let tokens = self.lease.iter().flat_map(|lease| &lease.tokens).copied();
        tokens.chain(self.next.iter().flatten().map(|granted| granted.member.token))
    }
}

struct Running {
    /// Those whose end is not yet reported.
    tokens: Vec<Token>,
    orders: mpsc::UnboundedSender<Order>,
    /// Those that were to stop when the lease did not listen any more.
    unheard_stops: Vec<Token>,
}

struct Stream {
    outgoing: mpsc::Sender<wire::WorkerMessage>,
    sequence: u64,
    /// Once the coordinator has taken the registration.
    attached: Option<Heartbeats>,
}

struct Heartbeats {
    every: Duration,
    next_at: Instant,
}

struct Leaving {
    why: String,
    until: Instant,
    goodbye_until: Option<Instant>,
}

impl Hub {
    pub(crate) fn new(tools: Arc<Tools>) -> Self {
        let slots = tools.config.slots.iter().map(|_| Slot::default()).collect();
        let gpus = GpuWatch::start(&tools.config.slots, tools.config.metrics.clone());
        Self {
            gpus,
            tools,
            slots,
            outbox: Outbox::default(),
            stream: None,
            ever_attached: false,
            told_away: false,
            leaving: None,
            drains: false,
            idle_since: Instant::now(),
        }
    }

    /// Works until it is time to leave.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, mut leave: mpsc::Receiver<Leave>) -> Left {
        loop {
            let wake_at = self.next_wake();
            tokio::select! {
                Some(event) = events.recv() => self.handle(event),
                Some(why) = leave.recv() => self.leave(why),
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            if let Some(left) = self.look_at_the_clock(Instant::now()) {
                return left;
            }
            self.send_reports();
            self.count();
        }
    }

    /// What is now, for operators.
    fn count(&self) {
        let metrics = &self.tools.config.metrics;
        let attached = self.stream.as_ref().is_some_and(|stream| stream.attached.is_some());
        metrics.attached.set(if attached { 1.0 } else { 0.0 });
        metrics.outbox_reports.set(self.outbox.len() as f64);
        let busy = self.slots.iter().filter(|slot| slot.lease.is_some()).count();
        metrics.slots.with_label_values(&["busy"]).set(busy as f64);
        metrics.slots.with_label_values(&["free"]).set((self.slots.len() - busy) as f64);
    }

    /// What a report says of the slot.
    fn count_report(&self, slot: u32, report: &wire::Report) {
        let metrics = &self.tools.config.metrics;
        match &report.body {
            Some(ReportBody::Ended(ended)) => {
                if let Ok(end) = convert::attempt_end(&ended.end_json) {
                    metrics.attempts_ended.with_label_values(&[end.word()]).inc();
                }
            }
            Some(ReportBody::EpochFinished(epoch)) => {
                let speed = epoch.points.iter().find(|point| point.name == "images_per_second");
                if let Some(speed) = speed {
                    let labels = [slot.to_string(), self.device(slot).to_owned()];
                    metrics.images_per_second.with_label_values(&labels).set(speed.value);
                }
            }
            _ => {}
        }
    }

    fn device(&self, slot: u32) -> &str {
        let plan = usize::try_from(slot).ok().and_then(|place| self.config().slots.get(place));
        plan.map_or("", |plan| &plan.device)
    }

    fn config(&self) -> &Config {
        &self.tools.config
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { outgoing } => {
                self.outbox.resend();
                self.stream = Some(Stream { outgoing, sequence: 0, attached: None });
                let register = self.registration();
                self.send(ToCoordinator::Register(register));
            }
            Event::Told(body) => self.told(body),
            Event::Closed { why } => {
                self.stream = None;
                if !self.told_away && self.leaving.as_ref().is_none_or(|leaving| leaving.goodbye_until.is_none()) {
                    self.told_away = true;
                    tracing::warn!(
                        "the coordinator at {} is away ({why}); trials train on, and it is tried again until it is back",
                        self.config().coordinator
                    );
                }
            }
            Event::Report { slot, report } => {
                self.count_report(slot, &report);
                if let (Some(ReportBody::Ended(ended)), Ok(token)) = (&report.body, convert::token(report.token)) {
                    tracing::info!(
                        worker = %self.config().worker,
                        slot,
                        trial = token.trial.0,
                        attempt = token.attempt,
                        end = ended.end_json,
                        "an attempt ended"
                    );
                    if let Some(lease) = self.slot(slot).and_then(|slot| slot.lease.as_mut()) {
                        lease.tokens.retain(|held| *held != token);
                    }
                }
                self.outbox.push(slot, report);
            }
            Event::Released { slot: index, late } => {
                self.idle_since = Instant::now();
                let labels = [index.to_string(), self.device(index).to_owned()];
                // Not there if no epoch was finished.
                let _ = self.tools.config.metrics.images_per_second.remove_label_values(&labels);
                let Some(slot) = self.slot(index) else { return };
                let (lease, next) = (slot.lease.take(), slot.next.take());
                let (mut members, mut stopped) = (next.unwrap_or_default(), Vec::new());
                if let Some(lease) = lease {
                    let wanted = late.into_iter().filter(|granted| lease.tokens.contains(&granted.member.token));
                    let (stops, begins): (Vec<_>, Vec<_>) =
                        wanted.partition(|granted| lease.unheard_stops.contains(&granted.member.token));
                    members.extend(begins);
                    stopped.extend(stops);
                }
                for granted in stopped {
                    self.stopped_before_it_began(index, granted.member.token);
                }
                if !members.is_empty() {
                    self.start(index, members);
                }
            }
        }
    }

    fn told(&mut self, body: FromCoordinator) {
        match body {
            FromCoordinator::Registered(registered) => {
                let every = Duration::from_millis(registered.heartbeat_ms.clamp(10, 600_000));
                if let Some(stream) = &mut self.stream {
                    stream.attached = Some(Heartbeats { every, next_at: Instant::now() + every });
                }
                let again = if self.ever_attached { " again" } else { "" };
                tracing::info!(
                    worker = %self.config().worker,
                    coordinator = self.config().coordinator,
                    slots = self.slots.len(),
                    "attached{again}"
                );
                self.tools.config.metrics.sessions.inc();
                self.ever_attached = true;
                self.told_away = false;
                if self.drains || self.leaving.is_some() {
                    self.send(ToCoordinator::Draining(wire::Draining {}));
                }
            }
            FromCoordinator::Ack(ack) => {
                let unheard = &self.tools.unheard;
                self.outbox.acknowledge(ack.sequence).iter().for_each(|report| unheard.heard(report));
            }
            FromCoordinator::Grant(grant) if self.drains => self.give_back(grant),
            FromCoordinator::Grant(grant) => self.granted(grant),
            FromCoordinator::LeaveWhenDone(wire::LeaveWhenDone {}) => {
                if !self.drains {
                    tracing::info!("asked to drain: no more leases are taken, and the worker leaves when all are done");
                }
                self.drains = true;
            }
            FromCoordinator::Stop(stop) => match (convert::token(stop.token), convert::stop_reason(&stop.reason)) {
                (Ok(token), Ok(reason)) => self.stop(token, reason),
                (Err(bad), _) | (_, Err(bad)) => tracing::error!("an order to stop is not understood: {bad}"),
            },
        }
    }

    /// Granted by a coordinator that was restarted and does not know yet that this worker drains. A trial that
    /// stopped without being asked to is pending again, at nobody's cost.
    fn give_back(&mut self, grant: wire::Grant) {
        let held: Vec<Token> = self.slots.iter().flat_map(Slot::tokens).collect();
        for token in grant.members.into_iter().filter_map(|member| convert::token(member.token).ok()) {
            if !held.contains(&token) {
                self.stopped_before_it_began(grant.slot, token);
            }
        }
    }

    fn stopped_before_it_began(&mut self, slot: u32, token: Token) {
        let end_json = convert::to_json(&AttemptEnd::Stopped);
        let body = Some(ReportBody::Ended(wire::Ended { end_json }));
        self.outbox.push(slot, wire::Report { token: Some(token.into()), body });
    }

    fn granted(&mut self, grant: wire::Grant) {
        let index = grant.slot;
        let mut members = Vec::new();
        for member in grant.members {
            let sweep = member.sweep.clone();
            match understood(member, self.config()) {
                Ok(granted) => {
                    let token = granted.member.token;
                    tracing::info!(
                        worker = %self.config().worker,
                        slot = index,
                        device = self.device(index),
                        sweep,
                        trial = token.trial.0,
                        attempt = token.attempt,
                        "an attempt begins"
                    );
                    members.push(granted);
                }
                Err((token, bad)) => {
                    tracing::error!("a granted trial is not understood: {bad}");
                    let reason = format!("worker {} does not understand the trial: {bad}", self.config().worker);
                    let end_json = convert::to_json(&AttemptEnd::Crashed { reason });
                    let body = Some(ReportBody::Ended(wire::Ended { end_json }));
                    if token.is_some() {
                        self.outbox.push(index, wire::Report { token, body });
                    }
                }
            }
        }
        self.idle_since = Instant::now();
        let Some(slot) = self.slot(index) else {
            tracing::error!("slot {index} was leased, which this worker does not have");
            return;
        };
        if members.is_empty() {
            return;
        }
        if slot.tokens().any(|held| members.iter().any(|granted| granted.member.token == held)) {
            tracing::debug!("slot {index} was leased twice to the same trial");
            return;
        }
        match (&mut slot.lease, &mut slot.next) {
            (None, _) => self.start(index, members),
            (Some(_), Some(next)) if grant.joins => next.extend(members),
            (Some(lease), None) if grant.joins => {
                let tokens: Vec<Token> = members.iter().map(|granted| granted.member.token).collect();
                match lease.orders.send(Order::Join(members)) {
                    Ok(()) => lease.tokens.extend(tokens),
                    // It is over, and they begin when it is gone.
                    Err(mpsc::error::SendError(Order::Join(members))) => slot.next = Some(members),
                    Err(mpsc::error::SendError(Order::Stop(..) | Order::Drain { .. } | Order::Replace)) => {}
                }
                self.tell_leaving();
            }
            (Some(lease), next) => {
                // The coordinator has given up what runs here: it must make room.
                // A lease that does not listen is over.
                let _ = lease.orders.send(Order::Replace);
                *next = Some(members);
            }
        }
    }

    fn start(&mut self, index: u32, members: Vec<Granted>) {
        let tools = Arc::clone(&self.tools);
        let plan = usize::try_from(index).ok().and_then(|place| tools.config.slots.get(place).cloned());
        let (Some(plan), true) = (plan, self.slot(index).is_some()) else { return };
        let tokens: Vec<Token> = members.iter().map(|granted| granted.member.token).collect();
        self.tools.config.metrics.leases.inc();
        let (orders, inbox) = mpsc::unbounded_channel();
        if let Some(slot) = self.slot(index) {
            slot.lease = Some(Running { tokens, orders, unheard_stops: Vec::new() });
        }
        tokio::spawn(lease::run(tools, index, plan, members, inbox));
        self.tell_leaving();
    }

    fn stop(&mut self, token: Token, reason: StopReason) {
        tracing::info!(
            trial = token.trial.0,
            attempt = token.attempt,
            reason = convert::stop_word(reason),
            "an attempt is to stop"
        );
        if reason == StopReason::Superseded {
            self.outbox.forget(token.into());
            self.tools.unheard.forget(token);
        }
        let mut never_began = None;
        for (slot, index) in self.slots.iter_mut().zip(0_u32..) {
            if let Some(next) = &mut slot.next {
                let waited = next.len();
                next.retain(|granted| granted.member.token != token);
                if next.len() < waited && reason != StopReason::Superseded {
                    never_began = Some(index);
                }
            }
            if let Some(lease) = slot.lease.as_mut().filter(|lease| lease.tokens.contains(&token)) {
                if reason == StopReason::Superseded {
                    lease.tokens.retain(|held| *held != token);
                }
                if lease.orders.send(Order::Stop(token, reason)).is_err() {
                    lease.unheard_stops.push(token);
                }
            }
        }
        if let Some(index) = never_began {
            self.stopped_before_it_began(index, token);
        }
    }

    fn leave(&mut self, leave: Leave) {
        let now = Instant::now();
        let (why, until) = match leave {
            Leave::Signal(name) => (format!("worker stopped: {name}"), now + LEAVE_PATIENCE),
            Leave::ParentGone => ("worker stopped: its parent is gone".to_owned(), now + ORPHAN_PATIENCE),
        };
        if let Some(leaving) = &mut self.leaving {
            leaving.until = leaving.until.min(until);
            return;
        }
        tracing::info!("{why}; trials save their checkpoints and are given back");
        self.begin_to_leave(why, until);
    }

    fn begin_to_leave(&mut self, why: String, until: Instant) {
        self.leaving = Some(Leaving { why, until, goodbye_until: None });
        self.send(ToCoordinator::Draining(wire::Draining {}));
        self.tell_leaving();
    }

    fn tell_leaving(&mut self) {
        let Some(leaving) = &self.leaving else { return };
        let until = leaving.until.checked_sub(Duration::from_secs(2)).unwrap_or(leaving.until);
        for lease in self.slots.iter().filter_map(|slot| slot.lease.as_ref()) {
            // A lease that does not listen is over.
            let _ = lease.orders.send(Order::Drain { why: leaving.why.clone(), until });
        }
    }

    /// Heartbeats, idleness, leaving.
    fn look_at_the_clock(&mut self, now: Instant) -> Option<Left> {
        if let Some(heartbeats) = self.stream.as_mut().and_then(|stream| stream.attached.as_mut())
            && now >= heartbeats.next_at
        {
            heartbeats.next_at = now + heartbeats.every;
            let gpus = self.gpus.news();
            self.tools.config.metrics.heartbeats.inc();
            self.send(ToCoordinator::Heartbeat(wire::Heartbeat { gpus }));
        }
        let free = self.slots.iter().all(|slot| slot.lease.is_none() && slot.next.is_none());
        if self.leaving.is_none() && free && self.idle_until().is_some_and(|until| now >= until) {
            if !self.ever_attached {
                return Some(Left::NeverAttached);
            }
            tracing::info!("{}: leaving", if self.drains { "drained" } else { "nothing to do" });
            let why = if self.drains { "worker stopped: drained" } else { "worker stopped: idle" };
            self.begin_to_leave(why.to_owned(), now + ORPHAN_PATIENCE);
        }
        let heard = self.outbox.is_empty();
        let attached = self.stream.as_ref().is_some_and(|stream| stream.attached.is_some());
        let leaving = self.leaving.as_mut()?;
        if let Some(goodbye_until) = leaving.goodbye_until {
            return (self.stream.is_none() || now >= goodbye_until).then_some(Left::Clean);
        }
        if free && heard && attached {
            leaving.goodbye_until = Some(now + GOODBYE_PATIENCE);
            self.send(ToCoordinator::Goodbye(wire::Goodbye {}));
            // Dropping the sender ends our half of the stream; the coordinator then ends its own.
            if let Some(stream) = &mut self.stream {
                stream.outgoing = mpsc::channel(1).0;
            }
            return None;
        }
        if free && heard && !self.ever_attached {
            return Some(Left::Clean);
        }
        (now >= leaving.until).then_some(if heard && free { Left::Clean } else { Left::Unheard })
    }

    /// When an idle agent leaves.
    fn idle_until(&self) -> Option<Instant> {
        let patience = if self.drains { Duration::ZERO } else { self.config().leave_when_idle? };
        let unheard = if self.outbox.is_empty() { Duration::ZERO } else { UNHEARD_PATIENCE };
        Some(self.idle_since + patience + unheard)
    }

    fn next_wake(&self) -> Instant {
        let heartbeat = self.stream.as_ref().and_then(|stream| Some(stream.attached.as_ref()?.next_at));
        let leave = self.leaving.as_ref().map(|leaving| leaving.goodbye_until.unwrap_or(leaving.until));
        let free = self.slots.iter().all(|slot| slot.lease.is_none());
        let idle = self.idle_until().filter(|_| free && self.leaving.is_none());
        let far = Instant::now() + Duration::from_secs(60);
        [heartbeat, leave, idle].into_iter().flatten().min().unwrap_or(far).min(far)
    }

    fn registration(&self) -> wire::Register {
        let config = self.config();
        let running = self
            .slots
            .iter()
            .zip(0_u32..)
            .flat_map(|(slot, index)| slot.tokens().map(move |token| (index, token.into())));
        let holding =
            running.chain(self.outbox.ended()).map(|(slot, token)| wire::Held { slot, token: Some(token) }).collect();
        wire::Register {
            worker: config.worker.0,
            host: config.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            slots: config.slots.iter().map(|slot| wire::Slot { device: slot.device.clone() }).collect(),
            holding,
        }
    }

    fn send_reports(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if stream.attached.is_none() {
            return;
        }
        while stream.outgoing.capacity() > 0
            && let Some(report) = self.outbox.send(stream.sequence + 1)
        {
            stream.sequence += 1;
            let message = wire::WorkerMessage { sequence: stream.sequence, body: Some(ToCoordinator::Report(report)) };
            if stream.outgoing.try_send(message).is_err() {
                // The stream broke: we are told, and everything is sent again on the next one.
                return;
            }
        }
    }

    /// What is not a report is not sent again: a heartbeat follows, and a new session begins with the rest.
    fn send(&mut self, body: ToCoordinator) {
        if let Some(stream) = &mut self.stream {
            stream.sequence += 1;
            let message = wire::WorkerMessage { sequence: stream.sequence, body: Some(body) };
            // Full or broken: see above.
            let _ = stream.outgoing.try_send(message);
        }
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(index).ok()?)
    }
}

fn understood(member: wire::Member, config: &Config) -> Result<Granted, (Option<wire::Token>, convert::BadMessage)> {
    let wire_token = member.token;
    let token = convert::token(wire_token).map_err(|bad| (wire_token, bad))?;
    let trial = convert::trial(&member.trial_json).map_err(|bad| (wire_token, bad))?;
    let exchange = member.exchange.map(|wire::Exchange { secret, chief }| link::Exchange {
        secret,
        role: match chief {
            None => link::ExchangeRole::Chief { listen: config.gradients_listen.clone() },
            Some(chief) => link::ExchangeRole::Replica { chief },
        },
        credentials: config.gradients_credentials.clone(),
    });
    let (resume, threads) = (member.resume, member.threads);
    Ok(Granted { member: link::Member { token, trial, resume: None, threads, exchange }, resume })
}
