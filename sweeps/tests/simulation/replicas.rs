//! Idle slots that help running trials: one rule at a time, and what the end of a sweep gains.

use crate::behaviour::{Bench, CONFIG, LIMITS, crashed, ended, epoch, grants, running, slot, stops, token};
use crate::makespan::Shop;
use sweeps::ids::{Token, TrialId, WorkerId};
use sweeps::scheduler::{
    AttemptEnd, Command, Event, Fact, NewTrial, Refusal, ReplicaLimits, Scheduler, SlotOffer, StopReason, SweepLimits,
    SweepRecord, TrialState, Waiting, fold,
};

const REMOTE: &str = "10.0.0.5:4000";

fn submit(sweep: &str, limits: SweepLimits, trials: &[u64], (min, max): (u32, u32)) -> Event {
    // A lower id is more work.
    let replicas = ReplicaLimits { min, max };
    let trial = |&id| NewTrial {
        id: TrialId(id),
        work: 10_000 - id,
        mult_adds: 10_000 - id,
        epochs: 10,
        replicas,
        stream: None,
    };
    Event::SweepSubmitted { sweep: sweep.into(), limits, trials: trials.iter().map(trial).collect() }
}

fn join(worker: u64, session: u64, host: &str, holding: &[Token]) -> Event {
    Event::WorkerJoined {
        worker: WorkerId(worker),
        session,
        host: host.into(),
        slots: vec![SlotOffer { device: "cpu".into() }],
        holding: holding.iter().map(|&token| (0, token)).collect(),
    }
}

fn listening(trial: u64, attempt: u32) -> Event {
    Event::ChiefListening { token: token(trial, attempt), address: REMOTE.into() }
}

fn replica(trial: u64, attempt: u32, number: u32) -> Token {
    Token::replica(TrialId(trial), attempt, number)
}

fn end_of(token: Token, end: AttemptEnd) -> Event {
    Event::AttemptEnded { token, end }
}

/// Where each replica of a trial trains.
fn replicas(bench: &Bench, trial: u64) -> Vec<(u32, u64)> {
    bench.scheduler.replicas(TrialId(trial)).map(|(number, slot)| (number, slot.worker.0)).collect()
}

/// Why replicas left.
fn left(commands: &[Command]) -> Vec<(Token, &str)> {
    let reason = |command: &'_ Command| match command {
        Command::Remember(Fact::ReplicaLeft { token, reason, .. }) => Some((*token, reason.clone())),
        _ => None,
    };
    let found: Vec<(Token, String)> = commands.iter().filter_map(reason).collect();
    found.into_iter().map(|(token, reason)| (token, &*reason.leak())).collect()
}

/// Trial 1 on worker 1, its chief listening, and workers 2 to `workers` helping.
fn helped(workers: u64, max: u32) -> Bench {
    let mut bench = Bench::with(workers);
    bench.ok(submit("grid", LIMITS, &[1], (1, max)));
    bench.ok(listening(1, 1));
    bench
}

#[test]
fn idle_slots_join_when_the_chief_listens_and_no_more_than_may() {
    let mut bench = Bench::with(4);
    bench.ok(submit("grid", LIMITS, &[1], (1, 3)));
    assert_eq!(replicas(&bench, 1), [], "nobody knows where the chief is");
    let commands = bench.ok(listening(1, 1));
    assert_eq!(grants(&commands), [(2, 1, replica(1, 1, 1)), (3, 1, replica(1, 1, 2))]);
    assert_eq!((bench.record(1).replicas_started, bench.record(1).chief_address.as_deref()), (2, Some(REMOTE)));
    assert_eq!(bench.state(1), running(1, 1, None));
    let remembered = commands.iter().position(|command| matches!(command, Command::Remember(Fact::Trial(_))));
    let granted = commands.iter().position(|command| matches!(command, Command::Grant { .. }));
    assert!(remembered < granted, "the number is on disk before it is used");
    assert_eq!(bench.ok(listening(1, 1)), [], "told twice");
    let view = bench.scheduler.worker(WorkerId(3)).expect("a worker");
    assert_eq!((&view.slots[0].trials[..], view.slots[0].replica), (&[TrialId(1)][..], 2));
    assert_eq!(bench.scheduler.slot_of(replica(1, 1, 2)), Some(slot(3)));
}

#[test]
fn a_trial_with_one_replica_is_left_alone() {
    let mut bench = Bench::with(3);
    bench.ok(submit("grid", LIMITS, &[1], (1, 1)));
    assert_eq!(bench.ok(listening(1, 1)), []);
    assert_eq!(bench.record(1).chief_address, None);
}

#[test]
fn the_longest_trial_is_helped_first_and_estimates_count() {
    let mut bench = Bench::with(3);
    bench.ok(submit("grid", LIMITS, &[1, 2], (1, 8)));
    // Of worker 2 it is known that it is slow: its trial will take longest.
    bench.ok(Event::EpochFinished { token: token(1, 1), epoch: 1, duration_ms: 1_000 });
    bench.ok(Event::EpochFinished { token: token(2, 1), epoch: 1, duration_ms: 9_000 });
    bench.ok(listening(1, 1));
    assert_eq!(replicas(&bench, 1), [(1, 3)], "the only one that listens");
    bench.ok(listening(2, 1));
    bench.ok(join(4, 1, "node", &[]));
    assert_eq!((replicas(&bench, 1), replicas(&bench, 2)), (vec![(1, 3)], vec![(1, 4)]));
}

#[test]
fn pending_trials_take_the_slots_of_replicas_the_newest_first() {
    let mut bench = helped(4, 8);
    assert_eq!(replicas(&bench, 1), [(1, 2), (2, 3), (3, 4)]);
    let commands = bench.ok(submit("more", LIMITS, &[5, 6], (1, 1)));
    let superseded = StopReason::Superseded;
    assert_eq!(stops(&commands), [(3, replica(1, 1, 2), superseded), (4, replica(1, 1, 3), superseded)]);
    assert_eq!(grants(&commands).iter().map(|grant| grant.2).collect::<Vec<_>>(), [token(5, 1), token(6, 1)]);
    assert_eq!(replicas(&bench, 1), [(1, 2)]);
    for (stale, reason) in left(&commands) {
        assert_eq!(reason, "a pending trial needs its slot");
        assert_eq!(bench.refused(end_of(stale, AttemptEnd::Stopped)), Refusal::StaleToken(stale));
    }
    // They come back under new numbers.
    bench.ok(ended(5, 1, AttemptEnd::Completed));
    assert_eq!(replicas(&bench, 1).iter().map(|found| found.0).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn what_a_trial_must_have_comes_before_pending_trials_and_is_kept_while_it_starts() {
    let mut bench = Bench::with(3);
    let commands = bench.ok(submit("grid", LIMITS, &[1, 2, 3], (3, 3)));
    assert_eq!(grants(&commands), [(1, 1, token(1, 1))], "two slots are kept");
    assert_eq!(bench.explain(2), Waiting::SlotsForReplicas { trial: TrialId(1) });
    let commands = bench.ok(listening(1, 1));
    assert_eq!(grants(&commands), [(2, 1, replica(1, 1, 1)), (3, 1, replica(1, 1, 2))]);
    assert_eq!(bench.explain(2), Waiting::NoFreeSlot { ahead: 0, slots: 3 });
    let commands = bench.ok(ended(1, 1, AttemptEnd::Completed));
    assert_eq!(stops(&commands).len(), 2);
    assert_eq!(grants(&commands).len(), 1, "two are kept again");
    // A chief that never listens keeps them no longer than two leases.
    let mut now = bench.now;
    while bench.state(3) == TrialState::Pending {
        now += CONFIG.heartbeat_ms;
        assert!(now <= 3 * CONFIG.lease_ms, "kept for ever");
        bench.now = now;
        for worker in 1..=3 {
            bench.ok(Event::Heartbeat { worker: WorkerId(worker), session: 1 });
        }
        bench.at(now);
    }
    assert!(now >= 2 * CONFIG.lease_ms);
}

#[test]
fn slots_kept_for_a_trial_that_ended_on_a_worker_that_is_away_are_given_on_at_once() {
    let leaves: [fn() -> Event; 2] = [
        || Event::WorkerDraining { worker: WorkerId(1), session: 1 },
        || Event::WorkerDisconnected { worker: WorkerId(1), session: 1 },
    ];
    for leave in leaves {
        let mut bench = Bench::with(3);
        let commands = bench.ok(submit("grid", LIMITS, &[1], (3, 3)));
        assert_eq!(grants(&commands), [(1, 1, token(1, 1))]);
        assert_eq!(grants(&bench.ok(submit("more", LIMITS, &[2], (1, 1)))), [], "two slots are kept");
        assert_eq!(grants(&bench.ok(leave())), [], "its chief may still come to listen");
        bench.now += 1;
        let commands = bench.ok(ended(1, 1, AttemptEnd::Completed));
        assert_eq!(grants(&commands), [(2, 1, token(2, 1))], "{:?}", leave());
    }
}

#[test]
fn of_workers_lost_at_once_none_is_told_what_becomes_of_anothers_trials() {
    let mut bench = helped(2, 2);
    let commands = bench.at(CONFIG.lease_ms);
    let lost = |command: &&Command| matches!(command, Command::WorkerLost { .. });
    assert_eq!(commands.iter().filter(lost).count(), 2, "{commands:?}");
    assert_eq!(left(&commands), [(replica(1, 1, 1), "the attempt is over")]);
    assert_eq!(stops(&commands), [], "nobody is there to be told");
}

#[test]
fn a_trial_that_lacks_replicas_takes_those_that_others_can_spare() {
    let mut bench = helped(4, 8);
    bench.ok(join(5, 1, "node", &[]));
    assert_eq!(replicas(&bench, 1).len(), 4);
    bench.ok(submit("must", LIMITS, &[2], (2, 2)));
    let commands = bench.ok(listening(2, 1));
    assert_eq!(left(&commands)[0].1, "another trial lacks replicas that it must have");
    assert_eq!((replicas(&bench, 1).len(), replicas(&bench, 2).len()), (2, 1));
}

#[test]
fn a_chief_on_loopback_takes_what_is_spare_on_its_own_host() {
    let mut bench = Bench::new();
    for (worker, host) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        bench.ok(join(worker, 1, host, &[]));
    }
    bench.ok(submit("helped", LIMITS, &[1], (1, 8)));
    bench.ok(submit("must", LIMITS, &[2], (2, 2)));
    // Trial 2 began on worker 2; all slots that are left help trial 1.
    assert_eq!(bench.state(2), running(1, 2, None));
    bench.now = 3 * CONFIG.lease_ms;
    for worker in 1..=4 {
        bench.ok(Event::Heartbeat { worker: WorkerId(worker), session: 1 });
    }
    bench.at(bench.now);
    bench.ok(listening(1, 1));
    assert_eq!(replicas(&bench, 1), [(1, 3), (2, 4)]);
    let commands = bench.ok(Event::ChiefListening { token: token(2, 1), address: "127.0.0.1:4000".into() });
    assert_eq!(stops(&commands), [(4, replica(1, 1, 2), StopReason::Superseded)]);
    assert_eq!(replicas(&bench, 2), [(1, 4)]);
}

#[test]
fn replicas_go_with_their_chief() {
    type Order = fn() -> Event;
    let orders: [(&str, Order); 6] = [
        ("the trial is being stopped", || Event::TrialPaused { trial: TrialId(1) }),
        ("the trial is being stopped", || Event::SweepCancelled { sweep: "grid".into() }),
        ("the trial is done", || ended(1, 1, AttemptEnd::Completed)),
        ("the attempt is over", || ended(1, 1, crashed())),
        ("the attempt is over", || Event::WorkerLeft { worker: WorkerId(1), session: 1 }),
        ("the attempt is over", || join(1, 2, "node", &[])),
    ];
    for (reason, order) in orders {
        let mut bench = helped(3, 8);
        let commands = bench.ok(order());
        let told: Vec<(u64, Token)> = stops(&commands)
            .into_iter()
            .filter(|stop| stop.2 == StopReason::Superseded)
            .map(|stop| (stop.0, stop.1))
            .collect();
        assert_eq!(told, [(3, replica(1, 1, 2)), (2, replica(1, 1, 1))], "{reason}");
        assert!(left(&commands).iter().all(|left| left.1 == reason), "{:?}", left(&commands));
        assert_eq!(replicas(&bench, 1), []);
        let forgotten = bench.scheduler.slot_of(replica(1, 1, 1));
        assert_eq!(forgotten, None);
    }
    let mut bench = helped(3, 8);
    let commands = bench.ok(Event::SweepCleared { sweep: "grid".into() });
    assert_eq!((stops(&commands).len(), left(&commands).len()), (3, 0));
}

#[test]
fn a_lost_chief_goes_on_where_it_was_helped() {
    let mut bench = helped(2, 2);
    bench.now = CONFIG.lease_ms;
    bench.ok(Event::Heartbeat { worker: WorkerId(2), session: 1 });
    let commands = bench.at(bench.now);
    assert_eq!(stops(&commands), [(2, replica(1, 1, 1), StopReason::Superseded)]);
    assert_eq!(grants(&commands), [(2, 1, token(1, 2))]);
    assert_eq!(bench.record(1).chief_address, None, "the new chief has not listened yet");
}

#[test]
fn a_replica_that_fails_is_blamed_on_nobody_and_not_tried_again_there_at_once() {
    let mut bench = helped(2, 2);
    for number in 1..=4 {
        assert_eq!(replicas(&bench, 1), [(number, 2)]);
        let commands = bench.ok(end_of(replica(1, 1, number), crashed()));
        assert_eq!((grants(&commands).len(), stops(&commands).len()), (0, 0));
        assert_eq!(left(&commands), [(replica(1, 1, number), "signal 9")]);
        assert_eq!((bench.record(1).restarts, bench.state(1)), (0, running(1, 1, None)));
        bench.now += CONFIG.lease_ms - 1;
        for worker in [1, 2] {
            bench.ok(Event::Heartbeat { worker: WorkerId(worker), session: 1 });
        }
        bench.at(bench.now);
        assert_eq!(replicas(&bench, 1), [], "not yet");
        bench.at(bench.now + 1);
    }
    assert_eq!(replicas(&bench, 1), [], "four times was enough");
    bench.ok(epoch(1, 1, 1));
    bench.at(bench.now);
    assert_eq!(replicas(&bench, 1), [(5, 2)], "an epoch forgives one");
}

#[test]
fn a_replica_that_fails_on_one_worker_is_tried_on_another() {
    let mut bench = helped(3, 2);
    assert_eq!(replicas(&bench, 1), [(1, 2)]);
    let commands = bench.ok(end_of(replica(1, 1, 1), AttemptEnd::Failed { reason: "no data".into() }));
    assert_eq!(grants(&commands), [(3, 1, replica(1, 1, 2))]);
    // That all is done it knows from its chief, whose own word is on its way.
    let commands = bench.ok(end_of(replica(1, 1, 2), AttemptEnd::Completed));
    assert_eq!(grants(&commands), []);
}

#[test]
fn workers_that_drain_or_are_lost_give_their_replicas_back() {
    let mut bench = helped(2, 2);
    let commands = bench.ok(Event::WorkerDraining { worker: WorkerId(2), session: 1 });
    assert_eq!(stops(&commands), [(2, replica(1, 1, 1), StopReason::Superseded)]);
    let mut bench = helped(2, 2);
    bench.now = CONFIG.lease_ms;
    bench.ok(Event::Heartbeat { worker: WorkerId(1), session: 1 });
    let commands = bench.at(bench.now);
    assert_eq!(left(&commands).len(), 1);
    assert_eq!((bench.record(1).losses, bench.record(1).restarts), (0, 0));
}

#[test]
fn a_chief_on_loopback_is_joined_from_its_own_host_only() {
    let mut bench = Bench::new();
    for (worker, host) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        bench.ok(join(worker, 1, host, &[]));
    }
    bench.ok(submit("grid", LIMITS, &[1], (1, 8)));
    for address in ["127.0.0.1:4000", "[::1]:4000", "localhost:4000"] {
        bench.ok(Event::ChiefListening { token: token(1, 1), address: address.into() });
        assert_eq!(replicas(&bench, 1), [(1, 3)], "{address}");
    }
    bench.ok(listening(1, 1));
    assert_eq!(replicas(&bench, 1).len(), 3);
}

#[test]
fn replicas_count_in_no_limit() {
    let limits = SweepLimits { max_concurrent_trials: Some(1), ..LIMITS };
    let mut bench = Bench::with(3);
    bench.ok(submit("grid", limits, &[1, 2], (1, 8)));
    bench.ok(listening(1, 1));
    assert_eq!(replicas(&bench, 1).len(), 2, "the second trial may not run, so its slot helps");
    assert_eq!(bench.explain(2), Waiting::ConcurrencyLimit { limit: 1 });
    let counts = bench.scheduler.sweep("grid").map(|view| view.counts).expect("a sweep");
    assert_eq!((counts.running, counts.pending), (1, 1));
}

#[test]
fn epochs_of_several_replicas_do_not_change_what_is_known_of_a_slot() {
    let speed = |bench: &Bench| bench.scheduler.worker(WorkerId(1)).and_then(|view| view.slots[0].speed);
    let mut bench = Bench::with(1);
    bench.ok(submit("grid", LIMITS, &[1], (1, 2)));
    bench.ok(listening(1, 1));
    bench.ok(epoch(1, 1, 1));
    let alone = speed(&bench);
    assert!(alone.is_some());
    bench.ok(join(2, 1, "node", &[]));
    bench.ok(Event::EpochFinished { token: token(1, 1), epoch: 2, duration_ms: 5_000 });
    assert_eq!(speed(&bench), alone);
    // It left in the middle of the epoch that ends now.
    bench.ok(Event::WorkerLeft { worker: WorkerId(2), session: 1 });
    bench.ok(Event::EpochFinished { token: token(1, 1), epoch: 3, duration_ms: 7_000 });
    assert_eq!(speed(&bench), alone);
    bench.ok(Event::EpochFinished { token: token(1, 1), epoch: 4, duration_ms: 20_000 });
    assert!(speed(&bench) < alone);
}

#[test]
fn epochs_and_addresses_are_the_chiefs_to_tell() {
    let mut bench = helped(2, 2);
    let helper = replica(1, 1, 1);
    bench.ok(Event::EpochFinished { token: helper, epoch: 5, duration_ms: 1 });
    assert_eq!(bench.record(1).epochs_done, 0);
    let stolen = Event::ChiefListening { token: helper, address: "10.6.6.6:1".into() };
    assert_eq!(bench.refused(stolen), Refusal::StaleToken(helper));
    let again = Token { incarnation: 2, ..helper };
    for stale in [again, replica(1, 1, 2), replica(1, 2, 1), replica(2, 1, 1)] {
        assert_eq!(bench.refused(end_of(stale, AttemptEnd::Stopped)), Refusal::StaleToken(stale));
    }
}

#[test]
fn a_restarted_coordinator_learns_of_replicas_from_their_workers() {
    let mut facts: Vec<Fact> = Vec::new();
    let mut told = Bench::with(4);
    for event in [submit("grid", LIMITS, &[1], (1, 4)), listening(1, 1)] {
        let commands = told.ok(event);
        facts.extend(commands.into_iter().filter_map(|command| match command {
            Command::Remember(fact) => Some(fact),
            _ => None,
        }));
    }
    assert_eq!(replicas(&told, 1).len(), 3);
    let records: Vec<SweepRecord> = fold(&facts);
    let restored = || Bench { scheduler: Scheduler::restore(CONFIG, 0, records.clone()), now: 0 };

    let mut bench = restored();
    assert_eq!(replicas(&bench, 1), []);
    // Its number was in use: it goes on. It may come back before its chief.
    assert_eq!(grants(&bench.ok(join(3, 2, "node", &[replica(1, 1, 2)]))), []);
    bench.ok(join(1, 2, "node", &[token(1, 1)]));
    assert_eq!(replicas(&bench, 1), [(2, 3)]);
    // A worker that lost its own joins anew, under a number that was never used.
    let commands = bench.ok(join(2, 2, "node", &[]));
    assert_eq!(grants(&commands), [(2, 2, replica(1, 1, 4))]);
    // The same number from elsewhere, numbers never given, and other attempts are stopped.
    for stale in [replica(1, 1, 2), replica(1, 1, 9), replica(1, 2, 3), replica(7, 1, 3)] {
        let mut bench = restored();
        bench.ok(join(1, 2, "node", &[token(1, 1)]));
        bench.ok(join(3, 2, "node", &[replica(1, 1, 2)]));
        let commands = bench.ok(join(4, 2, "node", &[stale]));
        assert_eq!(stops(&commands), [(4, stale, StopReason::Superseded)]);
    }
    let mut bench = restored();
    bench.ok(join(1, 2, "node", &[token(1, 1)]));
    bench.ok(ended(1, 1, AttemptEnd::Completed));
    let commands = bench.ok(join(3, 2, "node", &[replica(1, 1, 2)]));
    assert_eq!(stops(&commands), [(3, replica(1, 1, 2), StopReason::Superseded)], "the trial is over");
}

/// Four workers and five trials, four short and one long: with replicas the long one is not trained by one slot alone
/// at the end.
#[test]
fn the_last_long_trial_gets_the_idle_slots() {
    let took_ms = |max| {
        let mut shop = Shop::new(&[1e4; 4]);
        let replicas = ReplicaLimits { min: 1, max };
        let trial = |id, epochs| NewTrial {
            id: TrialId(id),
            work: 10_000_000,
            mult_adds: 10_000_000,
            epochs,
            replicas,
            stream: None,
        };
        shop.submit("warm-up", (11..=14).map(|id| trial(id, 1)).collect());
        while shop.step() {}
        let begin = shop.now;
        shop.submit("grid", vec![trial(1, 40), trial(2, 10), trial(3, 10), trial(4, 10)]);
        while shop.step() {}
        assert_eq!(shop.scheduler.sweep("grid").map(|view| view.counts.completed), Some(4));
        (shop.now - begin) as f64
    };
    let (alone, helped) = (took_ms(1), took_ms(8));
    assert!((39_999.0..41_000.0).contains(&alone), "{alone}");
    // 70 epochs of a second by four slots take 17.5 seconds, if they share all of it.
    assert!((17_500.0..20_000.0).contains(&helped), "{helped}");
}
