//! A simulated agent with its trainers: trains, reports, is told to stop, forgets, comes back.

use crate::world::{Call, Item, Say, World};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use sweeps::ids::{Token, WorkerId};
use sweeps::scheduler::{AttemptEnd, Millis, StopReason, TrialState};

pub(crate) struct Agent {
    pub(crate) id: WorkerId,
    /// Raised by every start: what was scheduled for an older one is void.
    pub(crate) generation: u32,
    pub(crate) up: bool,
    /// The whole node hangs until then; what reaches it waits.
    pub(crate) frozen_until: Millis,
    /// Every trainer crashes there.
    pub(crate) sick: bool,
    /// Of its calls, the newest that has arrived.
    pub(crate) newest_arrived: u64,
    /// Tells the answer to its last join from answers to older ones.
    pub(crate) nonce: u64,
    pub(crate) session: Option<u64>,
    pub(crate) last_heard: Millis,
    pub(crate) draining: bool,
    pub(crate) slots: Vec<Slot>,
    /// Ends not yet acknowledged, by token: slot and end.
    pub(crate) unacked: BTreeMap<Token, (u32, AttemptEnd)>,
    /// Every lease ever taken: a grant that comes twice is taken once.
    pub(crate) seen: BTreeSet<Token>,
}

pub(crate) struct Slot {
    /// Mult-Adds × images per millisecond.
    pub(crate) speed: f64,
    /// Side by side.
    pub(crate) training: Vec<Training>,
}

pub(crate) struct Training {
    pub(crate) token: Token,
    pub(crate) epoch: u32,
    pub(crate) epochs: u32,
    pub(crate) mult_adds: u64,
    /// An epoch of it is under way. Those that are further on wait for it.
    pub(crate) trains: bool,
    pub(crate) hangs: bool,
}

impl Agent {
    pub(crate) fn holding(&self) -> Vec<(u32, Token)> {
        let slots = (0u32..).zip(&self.slots);
        let training =
            slots.flat_map(|(index, slot)| slot.training.iter().map(move |training| (index, training.token)));
        training.chain(self.unacked.iter().map(|(&token, &(index, _))| (index, token))).collect()
    }

    /// The slot that trains that token, and its number.
    pub(crate) fn slot_training(&mut self, token: Token) -> Option<(u32, &mut Slot)> {
        (0u32..).zip(&mut self.slots).find(|(_, slot)| slot.training.iter().any(|training| training.token == token))
    }

    /// Nothing of that token is wanted any more.
    pub(crate) fn drop_token(&mut self, token: Token) {
        self.unacked.remove(&token);
        if let Some((_, slot)) = self.slot_training(token) {
            slot.training.retain(|training| training.token != token);
        }
    }

    /// Its process died, and everything in it.
    pub(crate) fn die(&mut self) {
        self.up = false;
        self.generation += 1;
        self.session = None;
        self.draining = false;
        self.unacked.clear();
        self.seen.clear();
        for slot in &mut self.slots {
            slot.training.clear();
        }
    }
}

/// The agents' half of the world.
impl World {
    pub(crate) fn start(&mut self, index: usize) {
        if self.agents[index].up {
            return;
        }
        let same_id = self.agents[index].id.0 != 0 && self.rng.random_range(0..10) < 3;
        if !same_id {
            self.agents[index].id = WorkerId(self.next_worker);
            self.next_worker += 1;
        }
        let sick = self.chance("agent_is_sick", self.shape.agent_is_sick);
        let agent = &mut self.agents[index];
        agent.sick = sick;
        agent.up = true;
        agent.generation += 1;
        let generation = agent.generation;
        self.register(index);
        self.at(self.now + self.shape.heartbeat_ms, Item::Beat { agent: index, generation });
    }

    pub(crate) fn register(&mut self, index: usize) {
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

    pub(crate) fn beat(&mut self, index: usize) {
        let generation = self.agents[index].generation;
        if self.chance("agent_dies", self.shape.agent_dies) {
            self.die(index);
            return;
        }
        if self.chance("agent_freezes", self.shape.agent_freezes) {
            let freeze_ms = self.rng.random_range(0..20 * self.shape.heartbeat_ms);
            self.agents[index].frozen_until = self.now + freeze_ms;
        }
        if self.chance("agent_drains", self.shape.agent_drains) {
            self.agents[index].draining = true;
            if let Some(session) = self.agents[index].session {
                self.call(index, Call::Draining { session });
            }
        }
        let agent = &self.agents[index];
        let idle = agent.draining && agent.holding().is_empty();
        if let Some(session) = agent.session {
            if idle || self.chance("agent_leaves", self.shape.agent_leaves) {
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

    pub(crate) fn die(&mut self, index: usize) {
        let (id, session) = (self.agents[index].id, self.agents[index].session);
        if let Some(session) = session {
            self.maybe_closed(id, session);
        }
        self.agents[index].die();
        let away_ms = self.rng.random_range(0..15 * self.shape.heartbeat_ms);
        self.at(self.now + away_ms, Item::Up { agent: index });
    }

    pub(crate) fn hear(&mut self, index: usize, session: Option<u64>, say: Say) {
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
            Say::Gone { token } => self.drop_token(index, token),
            Say::Drain => self.agents[index].draining = true,
            Say::Grant { index: slot, tokens, joins } => self.begin(index, slot, &tokens, joins),
            Say::Stop { token, reason: StopReason::Superseded } => self.drop_token(index, token),
            Say::Stop { token, reason: StopReason::Pause | StopReason::Cancel } => {
                let generation = self.agents[index].generation;
                let delay = self.delay();
                self.at(self.now + delay, Item::StopDone { agent: index, generation, token });
            }
        }
    }

    /// What the slot trained before is not wanted any more, unless they join it.
    pub(crate) fn begin(&mut self, index: usize, slot: u32, tokens: &[Token], joins: bool) {
        if tokens.iter().all(|token| self.agents[index].seen.contains(token)) {
            return;
        }
        let training = &mut self.agents[index].slots[slot as usize].training;
        if !joins {
            training.clear();
        } else {
            let fault = if training.is_empty() { "joined_too_late" } else { "joined" };
            self.met(fault);
        }
        for &token in tokens {
            self.begin_one(index, slot, token);
        }
        self.go_on(index);
        if tokens.len() > 1 {
            self.met("cohort");
        }
    }

    fn begin_one(&mut self, index: usize, slot: u32, token: Token) {
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
        let elastic = record.trial.replicas.max > 1;
        agent.slots[slot as usize].training.push(Training {
            token,
            epoch,
            epochs,
            mult_adds,
            trains: false,
            hangs: false,
        });
        if elastic && token.replica == 0 {
            self.listen(index, token);
        }
    }

    fn drop_token(&mut self, index: usize, token: Token) {
        self.agents[index].drop_token(token);
        self.go_on(index);
    }

    /// Where no epoch is under way, those that are furthest behind begin one.
    fn go_on(&mut self, index: usize) {
        let slots =
            self.agents[index].slots.iter().filter(|slot| !slot.training.iter().any(|training| training.trains));
        let behind = slots.flat_map(|slot| {
            let epoch = slot.training.iter().map(|training| training.epoch).min();
            slot.training.iter().filter(move |training| Some(training.epoch) == epoch).map(|training| training.token)
        });
        for token in behind.collect::<Vec<_>>() {
            self.plan_epoch(index, token);
        }
    }

    /// Said again and again here, in place of an outbox.
    fn listen(&mut self, index: usize, token: Token) {
        let host = if token.trial.0.is_multiple_of(2) { "127.0.0.1".to_owned() } else { format!("10.0.0.{index}") };
        self.call(index, Call::Listening { token, address: format!("{host}:{}", 1 + token.attempt) });
    }

    /// A replica helps for another while, or ends.
    fn help(&mut self, index: usize, token: Token) {
        let ends = self.chance("replica_ends", self.shape.replica_ends);
        let attempt = Token::chief(token.trial, token.attempt);
        let end = if ends {
            AttemptEnd::Stopped
        } else if self.ledger.is_live(attempt) {
            return self.plan_epoch(index, token);
        } else if self.ledger.trials.get(&token.trial).is_some_and(|record| record.state == TrialState::Completed) {
            AttemptEnd::Completed
        } else {
            AttemptEnd::Stopped
        };
        self.end(index, token, end);
    }

    pub(crate) fn plan_epoch(&mut self, index: usize, token: Token) {
        let jitter = self.rng.random_range(0.95..1.05);
        let hang_ms = 10 * self.shape.heartbeat_ms;
        let hangs = self.chance("hang", self.shape.hang);
        let generation = self.agents[index].generation;
        let Some((_, slot)) = self.agents[index].slot_training(token) else { return };
        let mult_adds: u64 = slot.training.iter().map(|training| training.mult_adds).sum();
        let mut epoch_ms = (mult_adds as f64 / slot.speed * jitter) as Millis + 1;
        let Some(training) = slot.training.iter_mut().find(|training| training.token == token) else { return };
        training.trains = true;
        if hangs {
            training.hangs = true;
            epoch_ms += hang_ms;
        }
        if self.rng.random_range(0..3) == 0 {
            let duration_ms = epoch_ms / 2;
            self.at(self.now + duration_ms, Item::Progress { agent: index, generation, token, duration_ms });
        }
        self.at(self.now + epoch_ms, Item::Train { agent: index, generation, token });
    }

    /// Half of an epoch, more or less, was done in that time: its own part of it is told, or the trainer crashes.
    pub(crate) fn progress(&mut self, index: usize, token: Token, duration_ms: Millis) {
        let share = self.rng.random_range(0.4..0.6);
        let crashes = self.chance("crash", self.shape.crash);
        let Some((_, slot)) = self.agents[index].slot_training(token) else { return };
        if crashes {
            return self.trainer_dies(index, token, "signal 9");
        }
        let mult_adds: u64 = slot.training.iter().map(|training| training.mult_adds).sum();
        let Some(training) = slot.training.iter().find(|training| training.token == token) else { return };
        let duration_ms = (duration_ms as f64 * training.mult_adds as f64 / mult_adds as f64) as Millis;
        let epoch = training.epoch + 1;
        self.call(index, Call::Progress { token, epoch, share, duration_ms });
    }

    /// An epoch of a trainer is over, or the trainer.
    pub(crate) fn train(&mut self, index: usize, token: Token) {
        let crashes = self.chance("crash", self.shape.crash) || self.chaos && self.agents[index].sick;
        let fails = self.chance("fail", self.shape.fail);
        let Some((_, slot)) = self.agents[index].slot_training(token) else { return };
        let speed = slot.speed;
        let Some(training) = slot.training.iter_mut().find(|training| training.token == token) else { return };
        if training.hangs {
            return self.trainer_dies(index, token, "it made no progress");
        }
        if crashes {
            return self.trainer_dies(index, token, "signal 9");
        }
        if fails {
            return self.end(index, token, AttemptEnd::Failed { reason: "loss is not finite".into() });
        }
        if token.replica > 0 {
            return self.help(index, token);
        }
        training.epoch += 1;
        training.trains = false;
        let (epoch, done) = (training.epoch, training.epoch >= training.epochs);
        let duration_ms = (training.mult_adds as f64 / speed) as Millis + 1;
        self.call(index, Call::Epoch { token, epoch, duration_ms });
        if !done && self.ledger.trials.get(&token.trial).is_some_and(|record| record.trial.replicas.max > 1) {
            self.listen(index, token);
        }
        if done {
            self.end(index, token, AttemptEnd::Completed);
        } else {
            self.go_on(index);
        }
    }

    /// And all that it trains with it.
    fn trainer_dies(&mut self, index: usize, token: Token, reason: &str) {
        let Some((_, slot)) = self.agents[index].slot_training(token) else { return };
        let tokens: Vec<Token> = slot.training.iter().map(|training| training.token).collect();
        let reason = reason.to_owned();
        let end = match tokens.len() {
            1 => AttemptEnd::Crashed { reason },
            several => AttemptEnd::CrashedTogether { reason, trials: several as u32 },
        };
        if tokens.len() > 1 {
            self.met("crashed_together");
        }
        for token in tokens {
            self.end(index, token, end.clone());
        }
    }

    pub(crate) fn end(&mut self, index: usize, token: Token, end: AttemptEnd) {
        let agent = &mut self.agents[index];
        let Some((slot_index, slot)) = agent.slot_training(token) else { return };
        slot.training.retain(|training| training.token != token);
        agent.unacked.insert(token, (slot_index, end.clone()));
        self.call(index, Call::Ended { token, end });
        self.go_on(index);
    }
}
