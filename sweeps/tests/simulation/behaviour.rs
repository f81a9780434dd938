//! One rule at a time.

use sweeps::ids::{SlotId, Token, TrialId, WorkerId};
use sweeps::scheduler::{
    AskedLimit, AttemptEnd, Command, Config, Event, Fact, Millis, NewTrial, Refusal, ReplicaLimits, Scheduler,
    SlotOffer, StopReason, SweepLimits, TrialRecord, TrialState, Waiting, WorkerState,
};

pub(crate) const LIMITS: SweepLimits =
    SweepLimits { priority: 50, max_concurrent_trials: None, max_restarts: 2, max_losses: 2, max_trials_per_slot: 1 };
pub(crate) const CONFIG: Config = Config { heartbeat_ms: 10, lease_ms: 60, grace_ms: 20 };

type Order = fn(TrialId) -> Event;

/// A scheduler whose invariants are checked after every step.
pub(crate) struct Bench {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Millis,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { scheduler: Scheduler::new(CONFIG), now: 0 }
    }

    /// With workers 1 to `workers`, one slot each.
    pub(crate) fn with(workers: u64) -> Self {
        let mut bench = Self::new();
        for worker in 1..=workers {
            bench.ok(join(worker, 1, &[]));
        }
        bench
    }

    pub(crate) fn ok(&mut self, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        let result = self.scheduler.handle(self.now, event.clone(), &mut commands);
        assert_eq!(result, Ok(()), "{event:?}");
        self.scheduler.check_invariants();
        commands
    }

    /// Refused, without a trace.
    pub(crate) fn refused(&mut self, event: Event) -> Refusal {
        let mut commands = Vec::new();
        let before = format!("{:?}", self.scheduler);
        let refusal = self.scheduler.handle(self.now, event.clone(), &mut commands).expect_err("must be refused");
        assert_eq!(commands, [], "{event:?}");
        assert_eq!(format!("{:?}", self.scheduler), before, "a refused event changes nothing: {event:?}");
        refusal
    }

    pub(crate) fn at(&mut self, now: Millis) -> Vec<Command> {
        self.now = now;
        let mut commands = Vec::new();
        self.scheduler.handle_timeout(now, &mut commands);
        self.scheduler.check_invariants();
        commands
    }

    pub(crate) fn record(&self, trial: u64) -> &TrialRecord {
        self.scheduler.trial(TrialId(trial)).expect("a known trial")
    }

    pub(crate) fn state(&self, trial: u64) -> TrialState {
        self.record(trial).state.clone()
    }

    pub(crate) fn explain(&self, trial: u64) -> Waiting {
        self.scheduler.explain(self.now, TrialId(trial)).expect("a known trial")
    }
}

fn submit(sweep: &str, limits: SweepLimits, trials: &[u64]) -> Event {
    // A lower id is more work.
    let trial = |&id| NewTrial {
        id: TrialId(id),
        work: 10_000 - id,
        mult_adds: 10_000 - id,
        epochs: 10,
        replicas: ReplicaLimits::ONE,
        stream: None,
    };
    Event::SweepSubmitted { sweep: sweep.into(), limits, trials: trials.iter().map(trial).collect() }
}

pub(crate) fn join(worker: u64, session: u64, holding: &[Token]) -> Event {
    Event::WorkerJoined {
        worker: WorkerId(worker),
        session,
        host: "node".into(),
        slots: vec![SlotOffer { device: "cpu".into() }],
        holding: holding.iter().map(|&token| (0, token)).collect(),
    }
}

pub(crate) fn token(trial: u64, attempt: u32) -> Token {
    Token::chief(TrialId(trial), attempt)
}

pub(crate) fn slot(worker: u64) -> SlotId {
    SlotId { worker: WorkerId(worker), index: 0 }
}

pub(crate) fn running(attempt: u32, worker: u64, stopping: Option<StopReason>) -> TrialState {
    TrialState::Running { attempt, slot: slot(worker), stopping }
}

pub(crate) fn ended(trial: u64, attempt: u32, end: AttemptEnd) -> Event {
    Event::AttemptEnded { token: token(trial, attempt), end }
}

pub(crate) fn crashed() -> AttemptEnd {
    AttemptEnd::Crashed { reason: "signal 9".into() }
}

pub(crate) fn epoch(trial: u64, attempt: u32, epoch: u32) -> Event {
    Event::EpochFinished { token: token(trial, attempt), epoch, duration_ms: 10_000 }
}

/// Grants as (worker, session, token), stops as (worker, token, reason).
pub(crate) fn grants(commands: &[Command]) -> Vec<(u64, u64, Token)> {
    let grant = |command: &Command| match command {
        Command::Grant { slot, session, members, .. } => Some((slot.worker.0, *session, members[0])),
        _ => None,
    };
    commands.iter().filter_map(grant).collect()
}

pub(crate) fn stops(commands: &[Command]) -> Vec<(u64, Token, StopReason)> {
    let stop = |command: &Command| match command {
        Command::Stop { worker, token, reason, .. } => Some((worker.0, *token, *reason)),
        _ => None,
    };
    commands.iter().filter_map(stop).collect()
}

#[test]
fn a_trial_is_leased_trained_and_done_once() {
    let mut bench = Bench::with(1);
    let commands = bench.ok(submit("grid", LIMITS, &[1]));
    let record = TrialRecord { state: running(1, 1, None), attempts: 1, ..bench.record(1).clone() };
    let (token, slot) = (token(1, 1), slot(1));
    let expected = [
        Command::Remember(Fact::SweepKnown { sweep: "grid".into(), limits: LIMITS }),
        Command::Remember(Fact::Trial(record.clone())),
        Command::Remember(Fact::AttemptStarted { token, slot }),
        Command::Grant { slot, session: 1, members: vec![token], joins: false },
    ];
    assert_eq!(commands, expected);
    let commands = bench.ok(epoch(1, 1, 1));
    assert_eq!(commands, [Command::Remember(Fact::Trial(TrialRecord { epochs_done: 1, ..record.clone() }))]);
    assert_eq!(bench.ok(epoch(1, 1, 1)), [], "told twice");
    let commands = bench.ok(ended(1, 1, AttemptEnd::Completed));
    let done = TrialRecord { state: TrialState::Completed, epochs_done: 10, ..record };
    let over = Fact::AttemptEnded { token, end: AttemptEnd::Completed };
    assert_eq!(commands, [Command::Remember(Fact::Trial(done)), Command::Remember(over)]);
    for event in [ended(1, 1, AttemptEnd::Completed), ended(1, 1, crashed()), epoch(1, 1, 2)] {
        assert_eq!(bench.refused(event), Refusal::StaleToken(token));
    }
    assert_eq!(bench.ok(submit("grid", LIMITS, &[1])), [], "submitted again");
}

#[test]
fn tokens_that_are_not_current_are_refused() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1, 2]));
    bench.ok(ended(1, 1, crashed()));
    let current = token(1, 2);
    let stale = [
        token(1, 1),
        token(1, 3),
        token(2, 1),
        token(9, 1),
        Token { replica: 1, ..current },
        Token { incarnation: 2, ..current },
    ];
    for token in stale {
        assert_eq!(
            bench.refused(Event::AttemptEnded { token, end: AttemptEnd::Completed }),
            Refusal::StaleToken(token)
        );
    }
    bench.ok(ended(1, 2, AttemptEnd::Completed));
}

#[test]
fn what_follows_the_end_of_an_attempt() {
    let failed = |reason: &str| TrialState::Failed { reason: reason.into() };
    let reason = || "disk full".to_owned();
    let asked: [Option<Order>; 3] =
        [None, Some(|trial| Event::TrialPaused { trial }), Some(|trial| Event::TrialCancelled { trial })];
    let again = || running(2, 1, None);
    let cases = [
        (AttemptEnd::Completed, [TrialState::Completed, TrialState::Completed, TrialState::Completed]),
        (AttemptEnd::Failed { reason: reason() }, [failed("disk full"), failed("disk full"), TrialState::Cancelled]),
        (AttemptEnd::Crashed { reason: reason() }, [again(), TrialState::Paused, TrialState::Cancelled]),
        (AttemptEnd::Stopped, [again(), TrialState::Paused, TrialState::Cancelled]),
        (AttemptEnd::Lost { reason: reason() }, [again(), TrialState::Paused, TrialState::Cancelled]),
    ];
    for (end, states) in cases {
        for (asked, state) in asked.iter().zip(states) {
            let mut bench = Bench::with(1);
            bench.ok(submit("grid", LIMITS, &[1]));
            if let Some(asked) = asked {
                let commands = bench.ok(asked(TrialId(1)));
                assert_eq!(stops(&commands).len(), 1);
            }
            bench.ok(ended(1, 1, end.clone()));
            assert_eq!(bench.state(1), state, "{end:?}");
        }
    }
}

#[test]
fn crashes_are_counted_and_the_last_reason_is_kept() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1]));
    for attempt in 1..=3 {
        assert_eq!(bench.state(1), running(attempt, 1, None));
        bench.ok(epoch(1, attempt, attempt));
        bench.ok(ended(1, attempt, crashed()));
    }
    let reason = "crashed 3 times (max_restarts is 2); the last time: signal 9".to_owned();
    assert_eq!(bench.state(1), TrialState::Failed { reason });
    bench.ok(Event::TrialRetried { trial: TrialId(1) });
    assert_eq!((bench.state(1), bench.record(1).restarts), (running(4, 1, None), 0));
}

#[test]
fn losses_are_counted_until_an_epoch_is_done() {
    let mut bench = Bench::new();
    bench.ok(submit("grid", LIMITS, &[1]));
    let lose = |bench: &mut Bench, attempt: u32| {
        bench.ok(join(u64::from(attempt), 1, &[]));
        assert_eq!(bench.state(1), running(attempt, u64::from(attempt), None));
        bench.at(bench.now + CONFIG.lease_ms);
    };
    lose(&mut bench, 1);
    lose(&mut bench, 2);
    assert_eq!(bench.record(1).losses, 2);
    bench.ok(join(3, 1, &[]));
    bench.ok(epoch(1, 3, 1));
    assert_eq!(bench.record(1).losses, 0);
    bench.at(bench.now + CONFIG.lease_ms);
    lose(&mut bench, 4);
    lose(&mut bench, 5);
    let TrialState::Failed { reason } = bench.state(1) else { panic!("{:?}", bench.state(1)) };
    assert!(
        reason.starts_with("lost its worker 3 times without finishing an epoch (max_losses is 2); the last"),
        "{reason}"
    );
    assert!(reason.ends_with("was lost: it said nothing for a whole lease"), "{reason}");
}

#[test]
fn a_crashed_trial_tries_another_worker_first() {
    let mut bench = Bench::with(2);
    bench.ok(submit("grid", LIMITS, &[1]));
    assert_eq!(grants(&bench.ok(ended(1, 1, crashed()))), [(2, 1, token(1, 2))]);
    // Nobody else is free: better the same than none.
    bench.ok(submit("grid", LIMITS, &[2]));
    assert_eq!(grants(&bench.ok(ended(1, 2, crashed()))), [(2, 1, token(1, 3))]);
}

#[test]
fn a_lease_lasts_as_long_as_its_worker_is_heard() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1]));
    let heartbeat = Event::Heartbeat { worker: WorkerId(1), session: 1 };
    for (now, event) in [(50, heartbeat), (100, epoch(1, 1, 1)), (150, epoch(1, 1, 2))] {
        assert_eq!(bench.at(now), []);
        bench.ok(event);
    }
    assert_eq!(bench.scheduler.next_timeout(), Some(210));
    assert_eq!(bench.at(209), []);
    let commands = bench.at(210);
    assert!(matches!(commands.last(), Some(Command::WorkerLost { worker: WorkerId(1), .. })), "{commands:?}");
    assert_eq!((bench.state(1), bench.explain(1)), (TrialState::Pending, Waiting::NoWorkers));
    assert_eq!(bench.scheduler.next_timeout(), None);
    // Back from the dead.
    assert_eq!(bench.refused(Event::Heartbeat { worker: WorkerId(1), session: 1 }), Refusal::StaleSession(WorkerId(1)));
    let commands = bench.ok(join(1, 2, &[token(1, 1)]));
    assert_eq!(stops(&commands), [(1, token(1, 1), StopReason::Superseded)]);
    assert_eq!(grants(&commands), [(1, 2, token(1, 2))]);
}

#[test]
fn a_closed_stream_leaves_only_the_grace() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1, 2]));
    bench.ok(Event::WorkerDisconnected { worker: WorkerId(1), session: 1 });
    assert_eq!(bench.explain(2), Waiting::NoUsableWorkers);
    bench.at(10);
    // A report that was on its way is good, but does not undo the grace; nor does a second notice.
    bench.ok(epoch(1, 1, 1));
    bench.ok(Event::WorkerDisconnected { worker: WorkerId(1), session: 1 });
    assert_eq!(bench.refused(Event::Heartbeat { worker: WorkerId(1), session: 1 }), Refusal::StaleSession(WorkerId(1)));
    assert_eq!(bench.scheduler.next_timeout(), Some(20));
    // Back in time: the lease goes on, whole.
    bench.ok(join(1, 2, &[token(1, 1)]));
    assert_eq!((bench.state(1), bench.scheduler.next_timeout()), (running(1, 1, None), Some(70)));
    // The old session's end is told late.
    let late = Event::WorkerDisconnected { worker: WorkerId(1), session: 1 };
    assert_eq!(bench.refused(late), Refusal::StaleSession(WorkerId(1)));
    bench.ok(Event::WorkerDisconnected { worker: WorkerId(1), session: 2 });
    bench.at(30);
    assert_eq!(bench.state(1), TrialState::Pending);
}

#[test]
fn a_worker_that_comes_back_keeps_what_it_lists() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1]));
    // Twice under one session: nothing, though the list is older than the grant.
    assert_eq!(bench.ok(join(1, 1, &[])), []);
    assert_eq!(bench.state(1), running(1, 1, None));
    assert_eq!(bench.refused(join(1, 0, &[])), Refusal::StaleSession(WorkerId(1)));
    let commands = bench.ok(join(1, 2, &[token(1, 1), token(7, 3)]));
    assert_eq!(stops(&commands), [(1, token(7, 3), StopReason::Superseded)]);
    assert_eq!(bench.state(1), running(1, 1, None));
    // What it does not list any more is lost, and begins again.
    let commands = bench.ok(join(1, 3, &[]));
    assert_eq!(grants(&commands), [(1, 3, token(1, 2))]);
    assert_eq!(bench.record(1).losses, 1);
    // A stop that may not have arrived is said again.
    bench.ok(Event::WorkerDisconnected { worker: WorkerId(1), session: 3 });
    assert_eq!(stops(&bench.ok(Event::TrialCancelled { trial: TrialId(1) })), [], "no stream to say it on");
    let commands = bench.ok(join(1, 4, &[token(1, 2)]));
    assert_eq!(stops(&commands), [(1, token(1, 2), StopReason::Cancel)]);
    // A stop that is never answered ends with the lease.
    bench.at(60);
    assert_eq!(bench.state(1), TrialState::Cancelled);
}

#[test]
fn a_draining_worker_takes_no_more_and_leaves_without_blame() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1, 2]));
    bench.ok(Event::WorkerDraining { worker: WorkerId(1), session: 1 });
    assert_eq!(bench.scheduler.worker(WorkerId(1)).map(|view| view.state), Some(WorkerState::Draining));
    assert_eq!(grants(&bench.ok(ended(1, 1, AttemptEnd::Completed))), []);
    assert_eq!(bench.explain(2), Waiting::NoUsableWorkers);
    // Draining outlives a broken stream.
    assert_eq!(grants(&bench.ok(join(1, 2, &[]))), []);
    bench.ok(join(2, 1, &[]));
    assert_eq!(bench.state(2), running(1, 2, None));
    bench.ok(Event::WorkerLeft { worker: WorkerId(2), session: 1 });
    assert_eq!((bench.state(2), bench.record(2).losses), (TrialState::Pending, 0));
    let again = Event::WorkerLeft { worker: WorkerId(2), session: 1 };
    assert_eq!(bench.refused(again), Refusal::StaleSession(WorkerId(2)));
}

#[test]
fn a_worker_asked_to_drain_is_told_once_a_stream_and_takes_no_more() {
    let drains =
        |commands: &[Command]| commands.iter().filter(|command| matches!(command, Command::Drain { .. })).count();
    let asked = |worker| Event::WorkerDrainAsked { worker: WorkerId(worker) };
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1, 2]));
    assert_eq!(bench.ok(asked(1)), [Command::Drain { worker: WorkerId(1), session: 1 }]);
    assert_eq!(bench.ok(asked(1)), [], "asked twice");
    assert_eq!(bench.state(1), running(1, 1, None), "what it holds it finishes");
    assert_eq!(grants(&bench.ok(ended(1, 1, AttemptEnd::Completed))), []);
    assert_eq!(bench.explain(2), Waiting::NoUsableWorkers);
    assert_eq!(drains(&bench.ok(join(1, 2, &[]))), 1, "said again on a new stream");
    // Away while it is asked.
    bench.ok(join(2, 1, &[]));
    bench.ok(Event::WorkerDisconnected { worker: WorkerId(2), session: 1 });
    assert_eq!(bench.ok(asked(2)), []);
    assert_eq!(drains(&bench.ok(join(2, 2, &[token(2, 1)]))), 1);
    assert_eq!(bench.state(2), running(1, 2, None));
    assert_eq!(bench.refused(asked(9)), Refusal::UnknownWorker(WorkerId(9)));
}

#[test]
fn a_limit_asked_for_holds_until_the_file_has_another() {
    let limited = |limit| Event::SweepLimited { sweep: "grid".into(), max_concurrent_trials: limit };
    let fact = |asked: Option<Option<u32>>| {
        let asked = asked.map(|max_concurrent_trials| AskedLimit { max_concurrent_trials });
        Command::Remember(Fact::SweepLimited { sweep: "grid".into(), asked })
    };
    let of_file = |limit| SweepLimits { max_concurrent_trials: limit, ..LIMITS };
    let mut bench = Bench::with(3);
    bench.ok(submit("grid", of_file(Some(2)), &[1, 2, 3, 4]));
    let mut facts = vec![fact(Some(Some(1)))];
    assert_eq!(bench.ok(limited(Some(1))), facts, "those that run go on");
    assert_eq!(bench.ok(limited(Some(1))), [], "asked twice");
    assert_eq!(grants(&bench.ok(ended(1, 1, AttemptEnd::Completed))), []);
    assert_eq!(bench.explain(3), Waiting::ConcurrencyLimit { limit: 1 });
    assert_eq!(bench.ok(submit("grid", of_file(Some(2)), &[1, 2, 3, 4])), [], "the same file does not undo it");
    let commands = bench.ok(limited(None));
    assert_eq!((commands[0].clone(), grants(&commands).len()), (fact(Some(None)), 2));
    facts.push(commands[0].clone());
    // The file's own limit is no wish of its own.
    assert_eq!(bench.ok(limited(Some(2))), [fact(None)]);
    assert_eq!(bench.ok(limited(Some(3))), [fact(Some(Some(3)))]);
    let commands = bench.ok(submit("grid", of_file(Some(1)), &[1, 2, 3, 4]));
    assert_eq!(commands[0], fact(None), "another file has the last word");
    assert_eq!(bench.scheduler.sweep("grid").and_then(|view| view.asked), None);
    assert_eq!(
        bench.refused(Event::SweepLimited { sweep: "gird".into(), max_concurrent_trials: None }),
        Refusal::UnknownSweep("gird".into())
    );
    // Folded, the last one counts; a replaced sweep begins with its file's.
    let known = Fact::SweepKnown { sweep: "grid".into(), limits: LIMITS };
    let remembered = |commands: &[Command]| {
        let fact = |command: &Command| match command {
            Command::Remember(fact) => Some(fact.clone()),
            _ => None,
        };
        std::iter::once(known.clone()).chain(commands.iter().filter_map(fact)).collect::<Vec<Fact>>()
    };
    let mut history = remembered(&facts);
    let asked = |history: &[Fact]| sweeps::scheduler::fold(history)[0].asked;
    assert_eq!(asked(&history), Some(AskedLimit { max_concurrent_trials: None }));
    history.push(Fact::SweepCleared { sweep: "grid".into() });
    assert_eq!(asked(&history), None);
    bench.ok(limited(Some(3)));
    bench.ok(Event::SweepCleared { sweep: "grid".into() });
    assert_eq!(bench.scheduler.sweep("grid").and_then(|view| view.asked), None);
}

#[test]
fn the_limit_of_a_sweep_holds_also_after_a_restart() {
    let limits = SweepLimits { max_concurrent_trials: Some(2), ..LIMITS };
    let mut bench = Bench::with(2);
    let mut commands = bench.ok(submit("grid", limits, &[1, 2, 3, 4]));
    commands.extend(bench.ok(join(3, 1, &[])));
    assert_eq!(grants(&commands).len(), 2);
    assert_eq!(bench.explain(3), Waiting::ConcurrencyLimit { limit: 2 });
    let facts: Vec<Fact> = commands
        .into_iter()
        .filter_map(|command| match command {
            Command::Remember(fact) => Some(fact),
            _ => None,
        })
        .collect();
    bench.scheduler = Scheduler::restore(CONFIG, 100, sweeps::scheduler::fold(&facts));
    bench.now = 100;
    bench.scheduler.check_invariants();
    assert_eq!(bench.scheduler.next_timeout(), Some(160), "leases are given anew in full");
    assert_eq!(grants(&bench.ok(join(3, 9, &[]))), []);
    bench.ok(join(1, 8, &[token(1, 1)]));
    assert_eq!(bench.state(1), running(1, 1, None));
    // The one that does not come back.
    assert_eq!(grants(&bench.at(160)).len(), 0);
    bench.ok(join(4, 1, &[]));
    assert_eq!(bench.scheduler.sweep("grid").map(|view| view.counts.running), Some(1));
}

#[test]
fn higher_priority_goes_first_then_longer_work() {
    let mut bench = Bench::new();
    bench.ok(submit("low", LIMITS, &[1, 2]));
    bench.ok(submit("high", SweepLimits { priority: 60, ..LIMITS }, &[4, 3]));
    bench.ok(join(1, 1, &[]));
    let ahead = |ahead| Waiting::NoFreeSlot { ahead, slots: 1 };
    assert_eq!(bench.state(3), running(1, 1, None));
    for (trial, waiting) in [(3, Waiting::NotWaiting), (4, ahead(0)), (1, ahead(1)), (2, ahead(2))] {
        assert_eq!(bench.explain(trial), waiting, "trial {trial}");
    }
    let mut order = vec![3];
    while let Some(trial) = bench.scheduler.worker(WorkerId(1)).and_then(|view| view.slots[0].trials.first().copied()) {
        let commands = bench.ok(ended(trial.0, 1, AttemptEnd::Completed));
        order.extend(grants(&commands).iter().map(|grant| grant.2.trial.0));
    }
    assert_eq!(order, [3, 4, 1, 2]);
}

#[test]
fn a_paused_sweep_runs_nothing_and_goes_on_when_resumed() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1, 2]));
    let paused = || Event::SweepPaused { sweep: "grid".into() };
    let resumed = || Event::SweepResumed { sweep: "grid".into() };
    assert_eq!(stops(&bench.ok(paused())), [(1, token(1, 1), StopReason::Pause)]);
    assert_eq!(bench.ok(paused()), [], "asked twice");
    // Taken back before the worker answered: it stops all the same, and goes on at once.
    bench.ok(resumed());
    assert_eq!(bench.state(1), running(1, 1, None));
    assert_eq!(grants(&bench.ok(ended(1, 1, AttemptEnd::Stopped))), [(1, 1, token(1, 2))]);
    bench.ok(paused());
    assert_eq!(grants(&bench.ok(ended(1, 2, AttemptEnd::Stopped))), []);
    assert_eq!((bench.state(1), bench.state(2)), (TrialState::Paused, TrialState::Pending));
    assert_eq!((bench.explain(1), bench.explain(2)), (Waiting::Paused, Waiting::Paused));
    assert_eq!(grants(&bench.ok(resumed())), [(1, 1, token(1, 3))]);
    assert_eq!((bench.record(1).restarts, bench.record(1).losses), (0, 0));
    // Cancel overrules pause.
    bench.ok(Event::TrialPaused { trial: TrialId(1) });
    let commands = bench.ok(Event::SweepCancelled { sweep: "grid".into() });
    assert_eq!(stops(&commands), [(1, token(1, 3), StopReason::Cancel)]);
    assert_eq!(bench.state(2), TrialState::Cancelled);
    bench.ok(ended(1, 3, AttemptEnd::Stopped));
    assert_eq!(grants(&bench.ok(Event::SweepRetried { sweep: "grid".into() })), [(1, 1, token(1, 4))]);
    assert_eq!(bench.refused(Event::SweepPaused { sweep: "gird".into() }), Refusal::UnknownSweep("gird".into()));
    assert_eq!(bench.refused(Event::TrialPaused { trial: TrialId(9) }), Refusal::UnknownTrial(TrialId(9)));
}

#[test]
fn orders_to_trials_in_each_state() {
    /// What an order does: nothing, something, or it is refused.
    #[derive(Debug, PartialEq)]
    enum Does {
        Nothing,
        Something,
        Refused,
    }
    use Does::{Nothing, Refused, Something};
    let orders: [Order; 4] = [
        |trial| Event::TrialPaused { trial },
        |trial| Event::TrialResumed { trial },
        |trial| Event::TrialCancelled { trial },
        |trial| Event::TrialRetried { trial },
    ];
    let failed = || ended(1, 1, AttemptEnd::Failed { reason: "no data".into() });
    let cases: [(&str, u64, Vec<Event>, [Does; 4]); 8] = [
        ("pending", 0, vec![], [Something, Nothing, Something, Nothing]),
        ("paused", 0, vec![orders[0](TrialId(1))], [Nothing, Something, Something, Refused]),
        ("running", 1, vec![], [Something, Nothing, Something, Nothing]),
        ("pausing", 1, vec![orders[0](TrialId(1))], [Nothing, Something, Something, Nothing]),
        ("cancelling", 1, vec![orders[2](TrialId(1))], [Refused, Refused, Nothing, Refused]),
        ("completed", 1, vec![ended(1, 1, AttemptEnd::Completed)], [Refused, Refused, Refused, Refused]),
        ("failed", 1, vec![failed()], [Refused, Refused, Refused, Something]),
        ("cancelled", 0, vec![orders[2](TrialId(1))], [Refused, Refused, Nothing, Something]),
    ];
    for (name, workers, before, expected) in cases {
        for (order, expected) in orders.iter().zip(expected) {
            let mut bench = Bench::with(workers);
            bench.ok(submit("grid", LIMITS, &[1]));
            for event in &before {
                bench.ok(event.clone());
            }
            let order = order(TrialId(1));
            let mut commands = Vec::new();
            let does = match bench.scheduler.handle(bench.now, order.clone(), &mut commands) {
                Ok(()) if commands.is_empty() => Nothing,
                Ok(()) => Something,
                Err(Refusal::WrongState { .. }) => Refused,
                Err(other) => panic!("{other}"),
            };
            bench.scheduler.check_invariants();
            assert_eq!(does, expected, "a {name} trial and {order:?}");
        }
    }
}

#[test]
fn a_cleared_sweep_is_as_if_it_had_never_been() {
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1, 2]));
    let commands = bench.ok(Event::SweepCleared { sweep: "grid".into() });
    assert_eq!(stops(&commands), [(1, token(1, 1), StopReason::Superseded)]);
    assert_eq!(bench.scheduler.trial(TrialId(1)), None);
    assert_eq!(bench.scheduler.sweep("grid").map(|view| view.counts.total()), Some(0));
    assert_eq!(bench.refused(ended(1, 1, AttemptEnd::Stopped)), Refusal::StaleToken(token(1, 1)));
    assert_eq!(grants(&bench.ok(submit("grid", LIMITS, &[3]))), [(1, 1, token(3, 1))]);
}
