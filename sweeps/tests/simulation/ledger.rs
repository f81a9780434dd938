//! An observer that knows only the commands, and checks that they keep the promises.

use std::collections::{BTreeMap, BTreeSet};
use sweeps::ids::{SlotId, Token, TrialId, WorkerId};
use sweeps::scheduler::{AskedLimit, AttemptEnd, Command, Fact, SweepLimits, TrialRecord, TrialState};

/// Facts are what a store would hold; all else is derived from them as they come.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) facts: Vec<Fact>,
    pub(crate) trials: BTreeMap<TrialId, TrialRecord>,
    limits: BTreeMap<String, SweepLimits>,
    asked: BTreeMap<String, Option<AskedLimit>>,
    live: BTreeMap<TrialId, (Token, SlotId)>,
    /// What each slot trains.
    taken: BTreeMap<SlotId, BTreeSet<TrialId>>,
    live_by_sweep: BTreeMap<String, u32>,
    attempts: BTreeMap<TrialId, u32>,
    completed: BTreeSet<TrialId>,
    /// Replicas besides chiefs, as far as the present coordinator knows.
    replicas: BTreeMap<Token, SlotId>,
    /// The last number given, by trial.
    numbers: BTreeMap<TrialId, u32>,
    pub(crate) replicas_joined: u64,
    /// Found to train on by a restarted coordinator, or after their worker had been given up.
    pub(crate) replicas_adopted: u64,
    /// Trials that are not over.
    open: BTreeSet<TrialId>,
}

impl Ledger {
    /// Takes the commands of one event, `accepted` if it was not refused; gives back what is not a fact.
    pub(crate) fn take(&mut self, commands: Vec<Command>, accepted: bool) -> Vec<Command> {
        let mut actions = Vec::new();
        let mut touched = Vec::new();
        for command in commands {
            match command {
                Command::Remember(fact) => {
                    assert!(actions.is_empty(), "a fact comes after an action: {fact:?}");
                    assert!(accepted, "a refused event left a fact: {fact:?}");
                    self.remember(&fact, &mut touched);
                    self.facts.push(fact);
                }
                action => actions.push(action),
            }
        }
        for trial in touched {
            self.check_trial(trial);
        }
        for action in &actions {
            self.check_action(action);
        }
        actions
    }

    pub(crate) fn all_over(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &TrialRecord> {
        self.open.iter().map(|id| &self.trials[id])
    }

    /// Every trial is done, and was done once.
    pub(crate) fn demand_all_completed(&self) {
        for record in self.trials.values() {
            assert_eq!(record.state, TrialState::Completed, "trial {}: {record:?}", record.trial.id);
            assert!(self.completed.contains(&record.trial.id));
        }
        assert!(self.live.is_empty() && self.taken.is_empty());
    }

    pub(crate) fn is_live(&self, token: Token) -> bool {
        self.live.get(&token.trial).is_some_and(|(live, _)| *live == token) || self.replicas.contains_key(&token)
    }

    /// Another coordinator knows of none until their workers tell.
    pub(crate) fn forget_replicas(&mut self) {
        for slot in std::mem::take(&mut self.replicas).into_values() {
            self.taken.remove(&slot);
        }
    }

    fn replicas_of(&self, trial: TrialId) -> impl Iterator<Item = &Token> {
        let of_trial = self.replicas.range(Token::replica(trial, 0, 0)..).map(|(token, _)| token);
        of_trial.take_while(move |token| token.trial == trial)
    }

    fn remember(&mut self, fact: &Fact, touched: &mut Vec<TrialId>) {
        match fact {
            Fact::SweepKnown { sweep, limits } => {
                self.limits.insert(sweep.clone(), limits.clone());
            }
            Fact::SweepLimited { sweep, asked } => {
                self.asked.insert(sweep.clone(), *asked);
            }
            Fact::SweepPaused { .. } => {}
            Fact::SweepCleared { sweep } => self.clear(sweep),
            Fact::Trial(record) => {
                let id = record.trial.id;
                if let Some(old) = self.trials.insert(id, record.clone()) {
                    assert!(old.state != TrialState::Completed, "completed is final, but trial {id} is {record:?}");
                    assert!(record.attempts >= old.attempts && record.epochs_done >= old.epochs_done);
                }
                let limits = &self.limits[&record.sweep];
                assert!(record.restarts <= limits.max_restarts + 1 && record.losses <= limits.max_losses + 1);
                if record.state.is_over() {
                    self.open.remove(&id);
                } else {
                    self.open.insert(id);
                }
                touched.push(id);
            }
            Fact::AttemptStarted { token, slot } => {
                let trial = token.trial;
                let attempts = self.attempts.entry(trial).or_default();
                *attempts += 1;
                assert_eq!(*token, Token::chief(trial, *attempts), "attempts are counted one by one");
                let before = self.live.insert(trial, (*token, *slot));
                assert_eq!(before, None, "two live leases for trial {trial}");
                let beside = self.taken.entry(*slot).or_default();
                assert!(beside.insert(trial), "{trial} begins twice on {slot}");
                let record = &self.trials[&trial];
                let sweep = &record.sweep;
                for other in beside.iter().map(|other| &self.trials[other]) {
                    let shared = (&other.sweep, other.trial.stream);
                    assert_eq!(shared, (sweep, record.trial.stream), "{other:?} and {record:?} side by side");
                    assert!(beside.len() == 1 || shared.1.is_some(), "{other:?} is not alone");
                }
                let company = beside.len() as u32;
                assert!(company <= self.limits[sweep].max_trials_per_slot, "{company} trials on {slot}");
                let live = self.live_by_sweep.entry(sweep.clone()).or_default();
                *live += 1;
                let asked = self.asked.get(sweep).copied().flatten();
                let files = self.limits[sweep].max_concurrent_trials;
                if let Some(limit) = asked.map_or(files, |asked| asked.max_concurrent_trials) {
                    assert!(*live <= limit, "{live} trials of {sweep} run, {limit} may");
                }
                touched.push(trial);
            }
            Fact::ReplicaJoined { token, slot } => {
                let chief = Token::chief(token.trial, token.attempt);
                assert!(self.is_live(chief), "{token} joins an attempt that does not run");
                let record = &self.trials[&token.trial];
                let number = self.numbers.entry(token.trial).or_default();
                if token.replica > *number {
                    *number = token.replica;
                    self.replicas_joined += 1;
                } else {
                    self.replicas_adopted += 1;
                }
                assert!(token.replica <= record.replicas_started, "{token} has a number that is not remembered");
                let before = self.replicas.insert(*token, *slot);
                assert_eq!(before, None, "{token} joins twice");
                let other = self.taken.insert(*slot, [token.trial].into());
                assert_eq!(other, None, "two on {slot}");
                assert!(
                    self.replicas_of(token.trial).count() < record.trial.replicas.max as usize,
                    "too many with {token}"
                );
                touched.push(token.trial);
            }
            Fact::ReplicaLeft { token, slot, .. } => {
                let there = self.replicas.remove(token);
                assert_eq!(there, Some(*slot), "{token} leaves a slot that it does not have");
                self.taken.remove(slot);
            }
            Fact::AttemptEnded { token, end } => {
                let trial = token.trial;
                let Some((live, slot)) = self.live.remove(&trial) else { panic!("{token} ended, and was not live") };
                assert_eq!(live, *token, "another attempt was live");
                if let Some(beside) = self.taken.get_mut(&slot) {
                    beside.remove(&trial);
                    if beside.is_empty() {
                        self.taken.remove(&slot);
                    }
                }
                if let Some(live) = self.live_by_sweep.get_mut(&self.trials[&trial].sweep) {
                    *live -= 1;
                }
                if *end == AttemptEnd::Completed {
                    assert!(self.completed.insert(trial), "trial {trial} was completed twice");
                }
                touched.push(trial);
            }
        }
    }

    fn clear(&mut self, sweep: &str) {
        self.trials.retain(|_, record| record.sweep != sweep);
        let known = &self.trials;
        self.live.retain(|trial, _| known.contains_key(trial));
        for trials in self.taken.values_mut() {
            trials.retain(|trial| known.contains_key(trial));
        }
        self.taken.retain(|_, trials| !trials.is_empty());
        self.attempts.retain(|trial, _| known.contains_key(trial));
        self.completed.retain(|trial| known.contains_key(trial));
        self.open.retain(|trial| known.contains_key(trial));
        self.replicas.retain(|token, _| known.contains_key(&token.trial));
        self.numbers.retain(|trial, _| known.contains_key(trial));
        self.live_by_sweep.remove(sweep);
        self.asked.remove(sweep);
    }

    /// Once a batch is in, rows and attempts say the same.
    fn check_trial(&self, trial: TrialId) {
        let Some(record) = self.trials.get(&trial) else { return };
        let helped = self.replicas_of(trial).next();
        if let Some(token) = helped {
            let runs =
                matches!(record.state, TrialState::Running { attempt, stopping: None, .. } if attempt == token.attempt);
            assert!(runs, "{token} helps {record:?}");
        }
        assert_eq!(record.attempts, self.attempts.get(&trial).copied().unwrap_or(0), "attempts of {record:?}");
        let running = match record.state {
            TrialState::Running { attempt, slot, .. } => Some((Token::chief(trial, attempt), slot)),
            _ => None,
        };
        assert_eq!(running, self.live.get(&trial).copied(), "the live attempt of {record:?}");
        assert_eq!(self.completed.contains(&trial), record.state == TrialState::Completed, "{record:?}");
    }

    fn check_action(&self, action: &Command) {
        match action {
            Command::Grant { slot, members, joins, .. } => {
                for token in members {
                    if token.replica > 0 {
                        assert_eq!(self.replicas.get(token), Some(slot), "a grant to a replica that has not joined");
                        continue;
                    }
                    let lease = self.live.get(&token.trial).copied();
                    assert_eq!(lease, Some((*token, *slot)), "a grant without a remembered attempt");
                }
                let company = self.taken.get(slot).map_or(0, BTreeSet::len);
                let others = company - members.len();
                assert_eq!(others > 0, *joins, "{slot} trains {others} others than those granted: {members:?}");
            }
            Command::WorkerLost { worker, .. } => assert!(!self.holds_any(*worker), "{worker} is lost and holds"),
            Command::Stop { .. } | Command::Drain { .. } | Command::WorkerSetAside { .. } | Command::Remember(_) => {}
        }
    }

    fn holds_any(&self, worker: WorkerId) -> bool {
        let (first, last) = (SlotId { worker, index: 0 }, SlotId { worker, index: u32::MAX });
        self.taken.range(first..=last).next().is_some()
    }
}
