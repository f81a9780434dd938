//! A discrete-event world: one coordinator around the scheduler, agents, and a network that loses, doubles,
//! delays and reorders. From coordinator to agent messages of one stream stay in order, as on a real one, and a
//! lost one breaks it; calls of agents go each their own way.

use crate::agent::{Agent, Slot, Training};
use crate::ledger::Ledger;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use sweeps::ids::{Token, TrialId, WorkerId};
use sweeps::scheduler::{
    AttemptEnd, Command, Config, Event, Millis, NewTrial, Refusal, Scheduler, SlotOffer, StopReason, fold,
};

/// How big and how bad.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) heartbeat_ms: Millis,
    pub(crate) delay_ms_max: Millis,
    /// Chances of one message, one in a million.
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) late: u32,
    /// Chances of one epoch.
    pub(crate) crash: u32,
    pub(crate) fail: u32,
    pub(crate) hang: u32,
    /// Chances of one heartbeat of an agent.
    pub(crate) agent_dies: u32,
    pub(crate) agent_freezes: u32,
    pub(crate) agent_drains: u32,
    pub(crate) agent_leaves: u32,
    /// Chances of one event at the coordinator.
    pub(crate) coordinator_dies: u32,
    /// Check all invariants after so many events.
    pub(crate) check_every: u64,
}

/// What agents say.
#[derive(Clone)]
enum Call {
    Join { nonce: u64, holding: Vec<(u32, Token)> },
    Heartbeat { session: u64 },
    Draining { session: u64 },
    Left { session: u64 },
    Epoch { token: Token, epoch: u32, duration_ms: Millis },
    Ended { token: Token, end: AttemptEnd },
}

/// What the coordinator says on a stream, or answers.
#[derive(Clone)]
enum Say {
    Welcome { nonce: u64 },
    Grant { index: u32, token: Token },
    Stop { token: Token, reason: StopReason },
    Alive,
    Register,
    Gone { token: Token },
}

enum Item {
    Call { agent: usize, id: WorkerId, slots: usize, call: Call },
    Say { agent: usize, generation: u32, session: Option<u64>, say: Say },
    Closed { worker: WorkerId, session: u64 },
    Beat { agent: usize, generation: u32 },
    Train { agent: usize, generation: u32, token: Token },
    StopDone { agent: usize, generation: u32, token: Token },
    Up { agent: usize },
}

struct Stream {
    agent: usize,
    generation: u32,
    broken: bool,
    last_arrival: Millis,
}

pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) now: Millis,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) scheduler: Scheduler,
    pub(crate) ledger: Ledger,
    pub(crate) chaos: bool,
    pub(crate) events: u64,
    pub(crate) restarts: u32,
    /// Of all commands, for comparing two runs.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) refused: u64,
    config: Config,
    agents: Vec<Agent>,
    streams: BTreeMap<u64, Stream>,
    queue: BTreeMap<(Millis, u64), Item>,
    next_item: u64,
    next_session: u64,
    next_worker: u64,
    next_nonce: u64,
    away_until: Millis,
}

impl World {
    /// `speeds`: of each agent's slots.
    pub(crate) fn new(seed: u64, shape: Shape, speeds: Vec<Vec<f64>>) -> Self {
        let config = Config::from_heartbeat(shape.heartbeat_ms);
        let mut world = Self {
            shape,
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            scheduler: Scheduler::new(config),
            ledger: Ledger::default(),
            chaos: true,
            events: 0,
            restarts: 0,
            trace: None,
            refused: 0,
            config,
            agents: Vec::new(),
            streams: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_item: 0,
            next_session: 1,
            next_worker: 1,
            next_nonce: 1,
            away_until: 0,
        };
        for (index, speeds) in speeds.into_iter().enumerate() {
            let slots = speeds.into_iter().map(|speed| Slot { speed, training: None }).collect();
            world.agents.push(Agent {
                id: WorkerId(0),
                generation: 0,
                up: false,
                frozen_until: 0,
                nonce: 0,
                session: None,
                last_heard: 0,
                draining: false,
                slots,
                unacked: BTreeMap::new(),
                seen: Default::default(),
            });
            let at = world.rng.random_range(0..=shape.heartbeat_ms);
            world.at(at, Item::Up { agent: index });
        }
        world
    }

    pub(crate) fn chance(&mut self, millionths: u32) -> bool {
        self.chaos && self.rng.random_range(0..1_000_000) < millionths
    }

    /// Runs the world until `end`, or until all trials are over if `until_over`.
    pub(crate) fn run(&mut self, end: Millis, until_over: bool) {
        loop {
            if until_over && self.ledger.all_over() {
                return;
            }
            let next_item = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next_timeout = self.scheduler.next_timeout().map(|at| at.max(self.away_until));
            let Some(next) = next_item.into_iter().chain(next_timeout).min() else { return };
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if next_timeout.is_some_and(|at| at <= next) {
                let mut commands = Vec::new();
                self.scheduler.handle_timeout(self.now, &mut commands);
                self.settle(commands, true);
            } else if let Some((_, item)) = self.queue.pop_first() {
                self.step(item);
            }
        }
    }

    /// No more chaos: everybody is up, the network only delays.
    pub(crate) fn heal(&mut self) {
        self.chaos = false;
        for agent in 0..self.agents.len() {
            self.agents[agent].frozen_until = self.now;
            if !self.agents[agent].up {
                self.at(self.now, Item::Up { agent });
            }
        }
    }

    /// An order or a submission: reaches the coordinator at once.
    pub(crate) fn tell(&mut self, event: Event) -> Result<(), Refusal> {
        if self.now < self.away_until {
            return Ok(());
        }
        let mut commands = Vec::new();
        self.feed(event, &mut commands)
    }

    fn feed(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Refusal> {
        let result = self.scheduler.handle(self.now, event, commands);
        self.refused += u64::from(result.is_err());
        self.settle(std::mem::take(commands), result.is_ok());
        result
    }

    /// Remembers, then acts; or dies before, between or after.
    fn settle(&mut self, commands: Vec<Command>, accepted: bool) {
        self.events += 1;
        if self.events % self.shape.check_every == 0 {
            self.scheduler.check_invariants();
        }
        if let Some(trace) = &mut self.trace {
            trace.extend(commands.iter().map(|command| format!("{} {command:?}", self.now)));
        }
        let dies = self.chance(self.shape.coordinator_dies);
        let how = if dies { self.rng.random_range(0..3) } else { 2 };
        if how == 0 {
            self.restart();
            return;
        }
        let actions = self.ledger.take(commands, accepted);
        if how == 1 {
            self.restart();
            return;
        }
        for action in actions {
            match action {
                Command::Grant { slot, session, members } => {
                    self.check_newest_session(slot.worker, session);
                    for token in members {
                        self.push(session, Say::Grant { index: slot.index, token });
                    }
                }
                Command::Stop { worker, session, token, reason } => {
                    self.check_newest_session(worker, session);
                    self.push(session, Say::Stop { token, reason });
                }
                Command::WorkerLost { .. } => {}
                Command::Remember(_) => unreachable!("the ledger keeps facts"),
            }
        }
        if dies {
            self.restart();
        }
    }

    fn check_newest_session(&self, worker: WorkerId, session: u64) {
        let known = self.scheduler.worker(worker).and_then(|view| view.session);
        assert_eq!(known, Some(session), "a command for a session that is not current");
    }

    /// The coordinator's process is replaced by one that knows what the facts say.
    pub(crate) fn restart(&mut self) {
        self.restarts += 1;
        let records = fold(&self.ledger.facts);
        self.scheduler = Scheduler::restore(self.config, self.now, records);
        for (id, record) in &self.ledger.trials {
            assert_eq!(self.scheduler.trial(*id), Some(record), "the facts folded");
        }
        self.scheduler.check_invariants();
        for stream in self.streams.values_mut() {
            stream.broken = true;
        }
        // What was on its way to the old process is gone.
        self.queue.retain(|_, item| !matches!(item, Item::Call { .. } | Item::Closed { .. }));
        self.away_until = self.now + self.rng.random_range(0..=4 * self.shape.heartbeat_ms);
    }

    fn at(&mut self, at: Millis, item: Item) {
        self.next_item += 1;
        self.queue.insert((at.max(self.now), self.next_item), item);
    }

    fn delay(&mut self) -> Millis {
        let usual = self.rng.random_range(1..=self.shape.delay_ms_max);
        if self.chance(self.shape.late) {
            usual + self.rng.random_range(0..12 * self.shape.heartbeat_ms)
        } else {
            usual
        }
    }

    /// On a stream: in order, possibly twice; if it is lost, so is all that follows.
    fn push(&mut self, session: u64, say: Say) {
        let delay = self.delay();
        let (lost, doubled) = (self.chance(self.shape.lost), self.chance(self.shape.doubled));
        let Some(stream) = self.streams.get_mut(&session) else { return };
        if stream.broken {
            return;
        }
        if lost {
            stream.broken = true;
            let (agent, generation) = (stream.agent, stream.generation);
            self.maybe_closed(self.agents[agent].id, session);
            // The agent finds out for certain, some time.
            let notice_ms = self.rng.random_range(1..=4 * self.shape.heartbeat_ms);
            self.at(self.now + notice_ms, Item::Say { agent, generation, session: None, say: Say::Register });
            return;
        }
        stream.last_arrival = stream.last_arrival.max(self.now + delay);
        let (at, agent, generation) = (stream.last_arrival, stream.agent, stream.generation);
        for _ in 0..=u32::from(doubled) {
            self.at(at, Item::Say { agent, generation, session: Some(session), say: say.clone() });
        }
    }

    /// The coordinator notices that a stream is closed; now and then it does not.
    fn maybe_closed(&mut self, worker: WorkerId, session: u64) {
        if !self.chaos || self.rng.random_range(0..10) < 7 {
            let delay = self.delay();
            self.at(self.now + delay, Item::Closed { worker, session });
        }
    }

    fn call(&mut self, agent: usize, call: Call) {
        let (lost, doubled) = (self.chance(self.shape.lost), self.chance(self.shape.doubled));
        let copies = if lost { 0 } else { 1 + u32::from(doubled) };
        for _ in 0..copies {
            let delay = self.delay();
            let (id, slots) = (self.agents[agent].id, self.agents[agent].slots.len());
            self.at(self.now + delay, Item::Call { agent, id, slots, call: call.clone() });
        }
    }

    fn answer(&mut self, agent: usize, say: Say) {
        if !self.chance(self.shape.lost) {
            let delay = self.delay();
            let generation = self.agents[agent].generation;
            self.at(self.now + delay, Item::Say { agent, generation, session: None, say });
        }
    }

    fn step(&mut self, item: Item) {
        match item {
            Item::Call { agent, id, slots, call } => {
                if self.now >= self.away_until {
                    self.take_call(agent, id, slots, call);
                }
            }
            Item::Closed { worker, session } => {
                if self.now >= self.away_until {
                    let _ = self.feed(Event::WorkerDisconnected { worker, session }, &mut Vec::new());
                }
            }
            Item::Up { agent } => self.start(agent),
            Item::Say { agent, generation, session, say } => {
                if let Some(later) = self.frozen(agent, generation) {
                    self.at(later, Item::Say { agent, generation, session, say });
                } else if self.is_current(agent, generation) {
                    self.hear(agent, session, say);
                }
            }
            Item::Beat { agent, generation } => {
                if let Some(later) = self.frozen(agent, generation) {
                    self.at(later, Item::Beat { agent, generation });
                } else if self.is_current(agent, generation) {
                    self.beat(agent);
                }
            }
            Item::Train { agent, generation, token } => {
                if let Some(later) = self.frozen(agent, generation) {
                    self.at(later, Item::Train { agent, generation, token });
                } else if self.is_current(agent, generation) {
                    self.train(agent, token);
                }
            }
            Item::StopDone { agent, generation, token } => {
                if let Some(later) = self.frozen(agent, generation) {
                    self.at(later, Item::StopDone { agent, generation, token });
                } else if self.is_current(agent, generation) {
                    self.end(agent, token, AttemptEnd::Stopped);
                }
            }
        }
    }

    fn is_current(&self, agent: usize, generation: u32) -> bool {
        self.agents[agent].up && self.agents[agent].generation == generation
    }

    fn frozen(&self, agent: usize, generation: u32) -> Option<Millis> {
        let until = self.agents[agent].frozen_until;
        (self.is_current(agent, generation) && until > self.now).then_some(until)
    }

    // The coordinator.

    fn take_call(&mut self, agent: usize, worker: WorkerId, slots: usize, call: Call) {
        let mut commands = Vec::new();
        match call {
            Call::Join { nonce, holding } => {
                let session = self.next_session;
                self.next_session += 1;
                let generation = self.agents[agent].generation;
                self.streams.insert(session, Stream { agent, generation, broken: false, last_arrival: self.now });
                self.push(session, Say::Welcome { nonce });
                let offers = (0..slots).map(|index| SlotOffer { device: format!("cuda:{index}") }).collect();
                let host = format!("node{agent}");
                let event = Event::WorkerJoined { worker, session, host, slots: offers, holding };
                let restarts = self.restarts;
                let joined = self.feed(event.clone(), &mut commands);
                assert_eq!(joined, Ok(()), "a newer session joins");
                // The same event twice is as good as once.
                if self.chance(self.shape.doubled) && restarts == self.restarts {
                    let _ = self.feed(event, &mut commands);
                }
            }
            Call::Heartbeat { session } => {
                let result = self.feed(Event::Heartbeat { worker, session }, &mut commands);
                self.answer(agent, if result.is_ok() { Say::Alive } else { Say::Register });
            }
            Call::Draining { session } => {
                let _ = self.feed(Event::WorkerDraining { worker, session }, &mut commands);
            }
            Call::Left { session } => {
                let _ = self.feed(Event::WorkerLeft { worker, session }, &mut commands);
            }
            Call::Epoch { token, epoch, duration_ms } => {
                let result = self.feed(Event::EpochFinished { token, epoch, duration_ms }, &mut commands);
                if result.is_err() && self.now >= self.away_until {
                    self.answer(agent, Say::Gone { token });
                }
            }
            Call::Ended { token, end } => {
                let restarts = self.restarts;
                let before = self.scheduler.trial(token.trial).cloned();
                let result = self.feed(Event::AttemptEnded { token, end }, &mut commands);
                if result.is_err() && restarts == self.restarts {
                    assert_eq!(before.as_ref(), self.scheduler.trial(token.trial), "a stale end changed the trial");
                }
                // A coordinator that died in between has not answered.
                if restarts == self.restarts {
                    self.answer(agent, Say::Gone { token });
                }
            }
        }
    }

    // Agents.

    fn start(&mut self, index: usize) {
        if self.agents[index].up {
            return;
        }
        let same_id = self.agents[index].id.0 != 0 && self.rng.random_range(0..10) < 3;
        if !same_id {
            self.agents[index].id = WorkerId(self.next_worker);
            self.next_worker += 1;
        }
        let agent = &mut self.agents[index];
        agent.up = true;
        agent.generation += 1;
        let generation = agent.generation;
        self.register(index);
        self.at(self.now + self.shape.heartbeat_ms, Item::Beat { agent: index, generation });
    }

    fn register(&mut self, index: usize) {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let agent = &mut self.agents[index];
        agent.nonce = nonce;
        agent.last_heard = self.now;
        let old = agent.session.take();
        let (id, holding) = (agent.id, agent.holding());
        if let Some(session) = old {
            self.maybe_closed(id, session);
        }
        self.call(index, Call::Join { nonce, holding });
    }

    fn beat(&mut self, index: usize) {
        let generation = self.agents[index].generation;
        if self.chance(self.shape.agent_dies) {
            self.die(index);
            return;
        }
        if self.chance(self.shape.agent_freezes) {
            let freeze_ms = self.rng.random_range(0..20 * self.shape.heartbeat_ms);
            self.agents[index].frozen_until = self.now + freeze_ms;
        }
        if self.chance(self.shape.agent_drains) {
            self.agents[index].draining = true;
            if let Some(session) = self.agents[index].session {
                self.call(index, Call::Draining { session });
            }
        }
        let agent = &self.agents[index];
        let idle = agent.draining && agent.holding().is_empty();
        if let Some(session) = agent.session {
            if idle || self.chance(self.shape.agent_leaves) {
                self.call(index, Call::Left { session });
                self.die(index);
                return;
            }
            self.call(index, Call::Heartbeat { session });
        }
        if self.now.saturating_sub(self.agents[index].last_heard) > 3 * self.shape.heartbeat_ms {
            self.register(index);
        }
        let unacked: Vec<_> =
            self.agents[index].unacked.iter().map(|(&token, (_, end))| (token, end.clone())).collect();
        for (token, end) in unacked {
            self.call(index, Call::Ended { token, end });
        }
        self.at(self.now + self.shape.heartbeat_ms, Item::Beat { agent: index, generation });
    }

    fn die(&mut self, index: usize) {
        let (id, session) = (self.agents[index].id, self.agents[index].session);
        if let Some(session) = session {
            self.maybe_closed(id, session);
        }
        self.agents[index].die();
        let away_ms = self.rng.random_range(0..15 * self.shape.heartbeat_ms);
        self.at(self.now + away_ms, Item::Up { agent: index });
    }

    fn hear(&mut self, index: usize, session: Option<u64>, say: Say) {
        self.agents[index].last_heard = self.now;
        if let Say::Welcome { nonce } = say {
            let agent = &mut self.agents[index];
            if nonce == agent.nonce {
                agent.session = agent.session.max(session);
                if let (true, Some(session)) = (agent.draining, agent.session) {
                    self.call(index, Call::Draining { session });
                }
            }
            return;
        }
        // On a stream that is not the one it holds open.
        if session.is_some() && session != self.agents[index].session {
            return;
        }
        match say {
            Say::Welcome { .. } | Say::Alive => {}
            Say::Register => self.register(index),
            Say::Gone { token } => self.agents[index].drop_token(token),
            Say::Grant { index: slot, token } => self.begin(index, slot, token),
            Say::Stop { token, reason: StopReason::Superseded } => self.agents[index].drop_token(token),
            Say::Stop { token, reason: StopReason::Pause | StopReason::Cancel } => {
                let generation = self.agents[index].generation;
                let delay = self.delay();
                self.at(self.now + delay, Item::StopDone { agent: index, generation, token });
            }
        }
    }

    fn begin(&mut self, index: usize, slot: u32, token: Token) {
        // Forgotten since: it is about to be told to stop.
        let Some(record) = self.ledger.trials.get(&token.trial) else { return };
        // From the last checkpoint, which may be older than the last epoch told.
        let epoch = self.rng.random_range(record.epochs_done.saturating_sub(1)..=record.epochs_done);
        let (epochs, mult_adds) = (record.trial.epochs, record.trial.mult_adds);
        let epoch = epoch.min(epochs.saturating_sub(1));
        let agent = &mut self.agents[index];
        if !agent.seen.insert(token) {
            return;
        }
        agent.slots[slot as usize].training = Some(Training { token, epoch, epochs, mult_adds, hangs: false });
        self.plan_epoch(index, token);
    }

    fn plan_epoch(&mut self, index: usize, token: Token) {
        let jitter = self.rng.random_range(0.95..1.05);
        let hang_ms = 10 * self.shape.heartbeat_ms;
        let hangs = self.chance(self.shape.hang);
        let generation = self.agents[index].generation;
        let Some((_, slot)) = self.agents[index].slot_training(token) else { return };
        let Some(training) = &mut slot.training else { return };
        let mut epoch_ms = (training.mult_adds as f64 / slot.speed * jitter) as Millis + 1;
        if hangs {
            training.hangs = true;
            epoch_ms += hang_ms;
        }
        self.at(self.now + epoch_ms, Item::Train { agent: index, generation, token });
    }

    /// An epoch of a trainer is over, or the trainer.
    fn train(&mut self, index: usize, token: Token) {
        let crashes = self.chance(self.shape.crash);
        let fails = self.chance(self.shape.fail);
        let Some((_, slot)) = self.agents[index].slot_training(token) else { return };
        let speed = slot.speed;
        let Some(training) = &mut slot.training else { return };
        if training.hangs {
            return self.end(index, token, AttemptEnd::Crashed { reason: "it made no progress".into() });
        }
        if crashes {
            return self.end(index, token, AttemptEnd::Crashed { reason: "signal 9".into() });
        }
        if fails {
            return self.end(index, token, AttemptEnd::Failed { reason: "loss is not finite".into() });
        }
        training.epoch += 1;
        let (epoch, done) = (training.epoch, training.epoch >= training.epochs);
        let duration_ms = (training.mult_adds as f64 / speed) as Millis + 1;
        self.call(index, Call::Epoch { token, epoch, duration_ms });
        if done {
            self.end(index, token, AttemptEnd::Completed);
        } else {
            self.plan_epoch(index, token);
        }
    }

    fn end(&mut self, index: usize, token: Token, end: AttemptEnd) {
        let agent = &mut self.agents[index];
        let Some((slot_index, slot)) = agent.slot_training(token) else { return };
        slot.training = None;
        agent.unacked.insert(token, (slot_index, end.clone()));
        self.call(index, Call::Ended { token, end });
    }

    /// Who trains now, by the agents' own word: for messages of failed tests.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for record in self.ledger.open().take(20) {
            let why = self.scheduler.explain(self.now, record.trial.id);
            text += &format!("{record:?} waits: {why:?}\n");
        }
        for view in self.scheduler.workers().take(20) {
            text += &format!("{view:?}\n");
        }
        for agent in self.agents.iter().take(20) {
            text += &format!(
                "agent {} up {} session {:?} holding {:?}\n",
                agent.id,
                agent.up,
                agent.session,
                agent.holding()
            );
        }
        text
    }

    /// Any trial: for orders that need one.
    pub(crate) fn some_trial(&mut self) -> Option<TrialId> {
        let count = self.ledger.trials.len();
        if count == 0 {
            return None;
        }
        let place = self.rng.random_range(0..count);
        self.ledger.trials.keys().nth(place).copied()
    }
}

/// Trials with ids from `first`, sizes drawn.
pub(crate) fn draw_trials(rng: &mut ChaCha8Rng, first: u64, count: u64, epochs_max: u32) -> Vec<NewTrial> {
    (first..first + count)
        .map(|id| NewTrial {
            id: TrialId(id),
            mult_adds: rng.random_range(100..2000),
            epochs: rng.random_range(1..=epochs_max),
        })
        .collect()
}
