//! The coordinator's half of the world: remember, then act; die and begin again from what was remembered.

use crate::world::{Call, Item, Say, Stream, World};
use rand::RngExt;
use sweeps::ids::WorkerId;
use sweeps::scheduler::{Command, Event, Refusal, Scheduler, SlotOffer, StopReason, SweepRecord, SweepView, fold};

impl World {
    /// An order or a submission: reaches the coordinator at once.
    pub(crate) fn tell(&mut self, event: Event) -> Result<(), Refusal> {
        if self.now < self.away_until {
            return Ok(());
        }
        let mut commands = Vec::new();
        self.feed(event, &mut commands)
    }

    pub(crate) fn feed(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Refusal> {
        if self.chance("clock_jumps", self.shape.clock_jumps) {
            self.jump_clock();
        }
        // Whoever tells the time may stumble.
        let back_ms = if self.chance("clock_stumbles", self.shape.clock_stumbles) {
            self.rng.random_range(0..100_000)
        } else {
            0
        };
        let result = self.scheduler.handle(self.clock().saturating_sub(back_ms), event, commands);
        self.refused += u64::from(result.is_err());
        self.settle(std::mem::take(commands), result.is_ok());
        result
    }

    /// Remembers, then acts; or dies before, between or after.
    pub(crate) fn settle(&mut self, commands: Vec<Command>, accepted: bool) {
        self.events += 1;
        if self.events.is_multiple_of(self.shape.check_every) {
            self.scheduler.check_invariants();
        }
        if let Some(trace) = &mut self.trace {
            trace.extend(commands.iter().map(|command| format!("{} {command:?}", self.now)));
        }
        let dies = self.chance("coordinator_dies", self.shape.coordinator_dies);
        let how = if dies { self.rng.random_range(0..3) } else { 2 };
        if how == 0 {
            self.restart();
            return;
        }
        let actions = self.ledger.take(commands, accepted);
        let lived = dies.then(|| self.known());
        if how == 1 {
            self.restart();
            assert_eq!(lived, Some(self.known()), "restored and lived are the same");
            return;
        }
        for action in actions {
            match action {
                Command::Grant { slot, session, members, joins } => {
                    self.check_newest_session(slot.worker, session);
                    self.push(session, Say::Grant { index: slot.index, tokens: members, joins });
                }
                Command::Stop { worker, session, token, reason } => {
                    let record = self.scheduler.trial(token.trial);
                    if reason == StopReason::Pause && record.is_some_and(|record| record.state.stopping().is_none()) {
                        self.met("moved");
                    }
                    self.check_newest_session(worker, session);
                    self.push(session, Say::Stop { token, reason });
                }
                Command::Drain { worker, session } => {
                    self.check_newest_session(worker, session);
                    self.push(session, Say::Drain);
                }
                Command::WorkerLost { .. } => {}
                Command::WorkerSetAside { .. } => self.met("set_aside"),
                Command::Remember(_) => unreachable!("the ledger keeps facts"),
            }
        }
        if dies {
            self.restart();
            assert_eq!(lived, Some(self.known()), "restored and lived are the same");
        }
    }

    /// All that a scheduler remembers of sweeps and trials.
    fn known(&self) -> Vec<SweepRecord> {
        let record = |view: SweepView<'_>| {
            let mut trials: Vec<_> = self.scheduler.trials_of(view.sweep).cloned().collect();
            trials.sort_by_key(|record| record.trial.id);
            SweepRecord {
                sweep: view.sweep.into(),
                limits: view.limits.clone(),
                asked: view.asked,
                paused: view.paused,
                trials,
            }
        };
        self.scheduler.sweeps().map(record).collect()
    }

    /// What was told is all that is needed to know the same.
    pub(crate) fn check_fold(&self) {
        assert_eq!(fold(&self.ledger.facts), self.known(), "the facts folded, and what was lived through");
    }

    /// For good, by up to 8 seconds: many leases.
    fn jump_clock(&mut self) {
        let octave = self.rng.random_range(1..=13);
        let by_ms = self.rng.random_range(0..1i64 << octave);
        if self.rng.random_bool(0.5) {
            self.clock_ahead += by_ms;
        } else {
            self.clock_ahead -= by_ms;
            self.met("clock_jumps_back");
        }
    }

    fn check_newest_session(&self, worker: WorkerId, session: u64) {
        let known = self.scheduler.worker(worker).and_then(|view| view.session);
        assert_eq!(known, Some(session), "a command for a session that is not current");
    }

    /// The coordinator's process is replaced by one that knows what the facts say.
    pub(crate) fn restart(&mut self) {
        self.restarts += 1;
        // The clock of another process begins anew.
        self.clock_ahead = self.rng.random_range(0..10_000) - self.now.cast_signed();
        let records = fold(&self.ledger.facts);
        self.ledger.forget_replicas();
        self.scheduler = Scheduler::restore(self.config, self.clock(), records);
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

    pub(crate) fn take_call(&mut self, agent: usize, worker: WorkerId, slots: usize, call: Call) {
        let mut commands = Vec::new();
        match call {
            Call::Join { nonce, holding } => {
                let session = self.next_session;
                self.next_session += 1;
                let generation = self.agents[agent].generation;
                self.streams.insert(session, Stream { agent, generation, broken: false, last_arrival: self.now });
                self.push(session, Say::Welcome { nonce });
                let offers = (0..slots).map(|index| SlotOffer { device: format!("cuda:{index}") }).collect();
                // Two agents a host.
                let host = format!("node{}", agent / 2);
                let event = Event::WorkerJoined { worker, session, host, slots: offers, holding };
                let restarts = self.restarts;
                let joined = self.feed(event.clone(), &mut commands);
                assert_eq!(joined, Ok(()), "a newer session joins");
                // The same event twice is as good as once.
                if self.chance("doubled", self.shape.doubled) && restarts == self.restarts {
                    let _ = self.feed(event, &mut commands);
                }
            }
            Call::Heartbeat { session } => {
                let newest = self.scheduler.worker(worker).and_then(|view| view.session);
                let result = self.feed(Event::Heartbeat { worker, session }, &mut commands);
                assert!(result.is_err() || newest == Some(session), "a heartbeat of an old session");
                self.answer(agent, if result.is_ok() { Say::Alive } else { Say::Register });
            }
            Call::Draining { session } => {
                let _ = self.feed(Event::WorkerDraining { worker, session }, &mut commands);
            }
            Call::Left { session } => {
                let _ = self.feed(Event::WorkerLeft { worker, session }, &mut commands);
            }
            Call::Epoch { token, epoch, duration_ms } => {
                let live = self.ledger.is_live(token);
                let result = self.feed(Event::EpochFinished { token, epoch, duration_ms }, &mut commands);
                assert_eq!(result.is_ok(), live, "an epoch of {token}");
                if result.is_err() && self.now >= self.away_until {
                    self.answer(agent, Say::Gone { token });
                }
            }
            Call::Progress { token, epoch, share, duration_ms } => {
                let live = self.ledger.is_live(token);
                let result = self.feed(Event::Progress { token, epoch, share, duration_ms }, &mut commands);
                assert_eq!(result.is_ok(), live, "progress of {token}");
            }
            Call::Listening { token, address } => {
                let live = self.ledger.is_live(token);
                let result = self.feed(Event::ChiefListening { token, address }, &mut commands);
                assert_eq!(result.is_ok(), live, "the chief of {token}");
            }
            Call::Ended { token, end } => {
                let restarts = self.restarts;
                let before = self.scheduler.trial(token.trial).cloned();
                let live = self.ledger.is_live(token);
                let result = self.feed(Event::AttemptEnded { token, end }, &mut commands);
                assert_eq!(result.is_ok(), live, "the end of {token}");
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
}
