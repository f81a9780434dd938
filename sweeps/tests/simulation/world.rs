//! A discrete-event world: one coordinator around the scheduler, agents, and a network that loses, doubles,
//! delays and reorders. From coordinator to agent messages of one stream stay in order, as on a real one, and a
//! lost one breaks it; calls of agents go each their own way.

use crate::agent::{Agent, Slot};
use crate::ledger::Ledger;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use sweeps::ids::{Token, TrialId, WorkerId};
use sweeps::scheduler::{AttemptEnd, Config, Event, Millis, NewTrial, ReplicaLimits, Scheduler, StopReason};

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
    /// Chance of one start of an agent: everything crashes there until it dies, or the world heals.
    pub(crate) agent_is_sick: u32,
    /// Chances of one event at the coordinator.
    pub(crate) coordinator_dies: u32,
    /// A time from the past is told once; the clock moves for good, forward or backward.
    pub(crate) clock_stumbles: u32,
    pub(crate) clock_jumps: u32,
    /// Chance of one report of a replica.
    pub(crate) replica_ends: u32,
    /// Check all invariants after so many events.
    pub(crate) check_every: u64,
}

/// What agents say.
#[derive(Clone)]
pub(crate) enum Call {
    Join { nonce: u64, holding: Vec<(u32, Token)> },
    Heartbeat { session: u64 },
    Draining { session: u64 },
    Left { session: u64 },
    Epoch { token: Token, epoch: u32, duration_ms: Millis },
    Progress { token: Token, epoch: u32, share: f64, duration_ms: Millis },
    Listening { token: Token, address: String },
    Ended { token: Token, end: AttemptEnd },
}

/// What the coordinator says on a stream, or answers.
#[derive(Clone)]
pub(crate) enum Say {
    Welcome { nonce: u64 },
    Grant { index: u32, tokens: Vec<Token>, joins: bool },
    Stop { token: Token, reason: StopReason },
    Drain,
    Alive,
    Register,
    Gone { token: Token },
}

pub(crate) enum Item {
    Call { agent: usize, sent: u64, id: WorkerId, slots: usize, call: Call },
    Say { agent: usize, generation: u32, session: Option<u64>, say: Say },
    Closed { worker: WorkerId, session: u64 },
    Beat { agent: usize, generation: u32 },
    Train { agent: usize, generation: u32, token: Token },
    Progress { agent: usize, generation: u32, token: Token, duration_ms: Millis },
    StopDone { agent: usize, generation: u32, token: Token },
    Up { agent: usize },
}

pub(crate) struct Stream {
    pub(crate) agent: usize,
    pub(crate) generation: u32,
    pub(crate) broken: bool,
    pub(crate) last_arrival: Millis,
}

pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) now: Millis,
    /// How far the coordinator's clock is ahead of `now`.
    pub(crate) clock_ahead: i64,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) scheduler: Scheduler,
    pub(crate) ledger: Ledger,
    pub(crate) chaos: bool,
    pub(crate) events: u64,
    pub(crate) restarts: u32,
    /// Of all commands, for comparing two runs.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) refused: u64,
    /// How often each fault happened.
    pub(crate) met: BTreeMap<&'static str, u64>,
    pub(crate) config: Config,
    pub(crate) agents: Vec<Agent>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) queue: BTreeMap<(Millis, u64), Item>,
    pub(crate) next_item: u64,
    pub(crate) next_session: u64,
    pub(crate) next_worker: u64,
    pub(crate) next_nonce: u64,
    pub(crate) away_until: Millis,
}

impl World {
    /// `speeds`: of each agent's slots.
    pub(crate) fn new(seed: u64, shape: Shape, speeds: Vec<Vec<f64>>) -> Self {
        let config = Config::from_heartbeat(shape.heartbeat_ms);
        let mut world = Self {
            shape,
            now: 0,
            clock_ahead: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            scheduler: Scheduler::new(config),
            ledger: Ledger::default(),
            chaos: true,
            events: 0,
            restarts: 0,
            trace: None,
            refused: 0,
            met: BTreeMap::new(),
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
            let slots = speeds.into_iter().map(|speed| Slot { speed, training: Vec::new() }).collect();
            world.agents.push(Agent {
                id: WorkerId(0),
                generation: 0,
                up: false,
                frozen_until: 0,
                sick: false,
                newest_arrived: 0,
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

    /// Whether that fault happens now, where that many of a million are wanted.
    pub(crate) fn chance(&mut self, fault: &'static str, millionths: u32) -> bool {
        let happens = self.chaos && self.rng.random_range(0..1_000_000) < millionths;
        if happens {
            self.met(fault);
        }
        happens
    }

    pub(crate) fn met(&mut self, fault: &'static str) {
        *self.met.entry(fault).or_default() += 1;
    }

    /// What the coordinator's clock shows.
    pub(crate) fn clock(&self) -> Millis {
        self.now.saturating_add_signed(self.clock_ahead)
    }

    /// When, by the world's time, the coordinator's clock will show that.
    fn when_clock_shows(&self, at: Millis) -> Millis {
        at.saturating_add_signed(-self.clock_ahead)
    }

    /// Runs the world until `end`, or until all trials are over if `until_over`.
    pub(crate) fn run(&mut self, end: Millis, until_over: bool) {
        loop {
            if until_over && self.ledger.all_over() {
                return;
            }
            let next_item = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next_timeout = self.scheduler.next_timeout().map(|at| self.when_clock_shows(at).max(self.away_until));
            let Some(next) = next_item.into_iter().chain(next_timeout).min() else { return };
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if next_timeout.is_some_and(|at| at <= next) {
                let mut commands = Vec::new();
                self.scheduler.handle_timeout(self.clock(), &mut commands);
                self.settle(commands, true);
            } else if let Some((_, item)) = self.queue.pop_first() {
                self.step(item);
            }
        }
    }

    /// No more chaos: everybody is up, the network only delays. Who is frozen thaws in time: waking it now would let
    /// what comes next overtake what waits for it.
    pub(crate) fn heal(&mut self) {
        self.chaos = false;
        for agent in 0..self.agents.len() {
            if !self.agents[agent].up {
                self.at(self.now, Item::Up { agent });
            }
        }
    }

    pub(crate) fn at(&mut self, at: Millis, item: Item) {
        self.next_item += 1;
        self.queue.insert((at.max(self.now), self.next_item), item);
    }

    pub(crate) fn delay(&mut self) -> Millis {
        let usual = self.rng.random_range(1..=self.shape.delay_ms_max);
        if self.chance("late", self.shape.late) {
            usual + self.rng.random_range(0..12 * self.shape.heartbeat_ms)
        } else {
            usual
        }
    }

    /// On a stream: in order, possibly twice; if it is lost, so is all that follows.
    pub(crate) fn push(&mut self, session: u64, say: Say) {
        let delay = self.delay();
        let (lost, doubled) = (self.chance("lost", self.shape.lost), self.chance("doubled", self.shape.doubled));
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
    pub(crate) fn maybe_closed(&mut self, worker: WorkerId, session: u64) {
        if !self.chaos || self.rng.random_range(0..10) < 7 {
            let delay = self.delay();
            self.at(self.now + delay, Item::Closed { worker, session });
        }
    }

    pub(crate) fn call(&mut self, agent: usize, call: Call) {
        let (lost, doubled) = (self.chance("lost", self.shape.lost), self.chance("doubled", self.shape.doubled));
        let copies = if lost { 0 } else { 1 + u32::from(doubled) };
        for _ in 0..copies {
            let delay = self.delay();
            let (id, slots) = (self.agents[agent].id, self.agents[agent].slots.len());
            let sent = self.next_item;
            self.at(self.now + delay, Item::Call { agent, sent, id, slots, call: call.clone() });
        }
    }

    pub(crate) fn answer(&mut self, agent: usize, say: Say) {
        if !self.chance("lost", self.shape.lost) {
            let delay = self.delay();
            let generation = self.agents[agent].generation;
            self.at(self.now + delay, Item::Say { agent, generation, session: None, say });
        }
    }

    pub(crate) fn step(&mut self, item: Item) {
        match item {
            Item::Call { agent, sent, id, slots, call } => {
                if self.now >= self.away_until {
                    if sent < std::mem::replace(&mut self.agents[agent].newest_arrived, sent) {
                        self.met("reordered");
                    }
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
            Item::Progress { agent, generation, token, duration_ms } => {
                if self.frozen(agent, generation).is_none() && self.is_current(agent, generation) {
                    self.progress(agent, token, duration_ms);
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

    pub(crate) fn is_current(&self, agent: usize, generation: u32) -> bool {
        self.agents[agent].up && self.agents[agent].generation == generation
    }

    pub(crate) fn frozen(&self, agent: usize, generation: u32) -> Option<Millis> {
        let until = self.agents[agent].frozen_until;
        (self.is_current(agent, generation) && until > self.now).then_some(until)
    }

    /// Who trains now, by the agents' own word: for messages of failed tests.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for record in self.ledger.open().take(20) {
            let why = self.scheduler.explain(self.clock(), record.trial.id);
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

    /// Any worker that the coordinator knows.
    pub(crate) fn some_worker(&mut self) -> Option<WorkerId> {
        let workers: Vec<WorkerId> = self.scheduler.workers().map(|view| view.worker).collect();
        let place = self.rng.random_range(0..workers.len().max(1));
        workers.get(place).copied()
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
pub(crate) fn draw_trials(
    rng: &mut ChaCha8Rng,
    first: u64,
    count: u64,
    epochs_max: u32,
    replicas_max: u32,
) -> Vec<NewTrial> {
    (first..first + count)
        .map(|id| {
            let mult_adds = rng.random_range(100..2000);
            let epochs = rng.random_range(1..=epochs_max);
            let replicas = draw_replicas(rng, replicas_max);
            let shares = replicas.max == 1 && rng.random_bool(0.7);
            let stream = shares.then(|| rng.random_range(1..=2));
            NewTrial { id: TrialId(id), work: mult_adds, mult_adds, epochs, replicas, stream }
        })
        .collect()
}

fn draw_replicas(rng: &mut ChaCha8Rng, replicas_max: u32) -> ReplicaLimits {
    if replicas_max == 1 {
        return ReplicaLimits::ONE;
    }
    let max = rng.random_range(1..=replicas_max);
    ReplicaLimits { min: if rng.random_range(0..3) == 0 { rng.random_range(1..=max) } else { 1 }, max }
}
