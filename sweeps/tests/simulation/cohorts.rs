//! Trials side by side on one slot.

use crate::behaviour::{Bench, CONFIG, LIMITS, crashed, ended, join, running, slot, token};
use std::collections::{BTreeMap, BTreeSet};
use sweeps::ids::{Token, TrialId, WorkerId};
use sweeps::scheduler::{
    AttemptEnd, Command, Event, NewTrial, ReplicaLimits, Scheduler, StopReason, SweepLimits, SweepRecord, TrialState,
    Waiting,
};

const SIDE_BY_SIDE: SweepLimits = SweepLimits { max_trials_per_slot: 16, ..LIMITS };

/// Trials by id, Mult-Adds and stream.
fn submit(limits: SweepLimits, trials: &[(u64, u64, Option<u64>)]) -> Event {
    let trial = |&(id, mult_adds, stream)| NewTrial {
        id: TrialId(id),
        work: mult_adds,
        mult_adds,
        epochs: 10,
        replicas: ReplicaLimits::ONE,
        stream,
    };
    Event::SweepSubmitted { sweep: "grid".into(), limits, trials: trials.iter().map(trial).collect() }
}

/// By worker: the trials granted together.
fn granted(commands: &[Command]) -> BTreeSet<(u64, Vec<u64>)> {
    let grant = |command: &Command| match command {
        Command::Grant { slot, members, .. } => {
            let mut trials: Vec<u64> = members.iter().map(|token| token.trial.0).collect();
            trials.sort_unstable();
            Some((slot.worker.0, trials))
        }
        _ => None,
    };
    commands.iter().filter_map(grant).collect()
}

fn check(workers: u64, limits: SweepLimits, trials: &[(u64, u64, Option<u64>)], expected: &[(u64, &[u64])]) {
    let mut bench = Bench::with(workers);
    let commands = bench.ok(submit(limits, trials));
    let expected: BTreeSet<_> = expected.iter().map(|(worker, trials)| (*worker, trials.to_vec())).collect();
    assert_eq!(granted(&commands), expected, "{trials:?}");
}

#[test]
fn those_of_one_stream_begin_together_so_that_slots_finish_together() {
    let one = Some(1);
    let grid = [(1, 900, one), (2, 500, one), (3, 400, one), (4, 100, one)];
    check(1, SIDE_BY_SIDE, &grid, &[(1, &[1, 2, 3, 4])]);
    check(2, SIDE_BY_SIDE, &grid, &[(1, &[1, 4]), (2, &[2, 3])]);
    check(4, SIDE_BY_SIDE, &grid, &[(1, &[1]), (2, &[2]), (3, &[3]), (4, &[4])]);
    // Limits: of a slot, and of the sweep.
    check(1, SweepLimits { max_trials_per_slot: 3, ..LIMITS }, &grid, &[(1, &[1, 2, 3])]);
    check(1, LIMITS, &grid, &[(1, &[1])]);
    let two_at_a_time = SweepLimits { max_concurrent_trials: Some(2), ..SIDE_BY_SIDE };
    check(1, two_at_a_time, &grid, &[(1, &[1, 2])]);
    // Other streams, and none.
    check(1, SIDE_BY_SIDE, &[(1, 900, one), (2, 500, Some(2)), (3, 400, one), (4, 100, None)], &[(1, &[1, 3])]);
    check(1, SIDE_BY_SIDE, &[(1, 900, None), (2, 500, None)], &[(1, &[1])]);
}

#[test]
fn many_are_packed_too() {
    let mut bench = Bench::with(2);
    let trials: Vec<_> = (1..=300).map(|id| (id, 1_000, Some(id % 2))).collect();
    let commands = bench.ok(submit(SIDE_BY_SIDE, &trials));
    let granted = granted(&commands);
    assert_eq!(granted.len(), 2);
    for (_, trials) in granted {
        assert_eq!(trials.len(), 16);
        assert!(trials.iter().all(|trial| trial % 2 == trials[0] % 2), "{trials:?}");
    }
}

#[test]
fn one_ends_and_the_others_go_on() {
    let mut bench = Bench::with(1);
    bench.ok(submit(SIDE_BY_SIDE, &[(1, 900, Some(1)), (2, 500, Some(1)), (3, 400, Some(1)), (4, 300, None)]));
    let failed = AttemptEnd::Failed { reason: "the loss is not finite any more".into() };
    assert_eq!(granted(&bench.ok(ended(2, 1, failed))), [].into());
    assert_eq!(bench.state(1), running(1, 1, None));
    // The slot is free when the last one has left.
    assert_eq!(granted(&bench.ok(ended(1, 1, AttemptEnd::Completed))), [].into());
    assert_eq!(granted(&bench.ok(ended(3, 1, AttemptEnd::Completed))), [(1, vec![4])].into());
}

#[test]
fn nobody_is_blamed_for_a_shared_trainer_and_the_company_is_halved() {
    let mut bench = Bench::with(1);
    let four: Vec<_> = (1..=4).map(|id| (id, 1_000, Some(1))).collect();
    bench.ok(submit(SIDE_BY_SIDE, &four));
    let mut sizes = Vec::new();
    let mut attempts = BTreeMap::<u64, u32>::new();
    let mut members = vec![1, 2, 3, 4];
    // Trial 3 kills every trainer.
    for _ in 0..100 {
        sizes.push(members.len());
        let end = match members.len() {
            1 if members != [3] => AttemptEnd::Completed,
            1 => crashed(),
            _ if !members.contains(&3) => AttemptEnd::Completed,
            several => AttemptEnd::CrashedTogether { reason: "signal 11".into(), trials: several as u32 },
        };
        let mut next = Vec::new();
        for &trial in &members {
            let attempt = attempts.entry(trial).or_default();
            *attempt += 1;
            let commands = bench.ok(ended(trial, *attempt, end.clone()));
            next.extend(granted(&commands).into_iter().flat_map(|(_, trials)| trials));
        }
        if next.is_empty() {
            break;
        }
        members = next;
    }
    for trial in [1, 2, 4] {
        assert_eq!((bench.state(trial), bench.record(trial).restarts), (TrialState::Completed, 0), "trial {trial}");
    }
    assert_eq!(bench.record(3).restarts, LIMITS.max_restarts + 1);
    assert!(matches!(bench.state(3), TrialState::Failed { reason } if reason.contains("crashed 3 times")));
    assert_eq!(sizes[..2], [4, 2]);
}

#[test]
fn a_restarted_coordinator_knows_who_trains_where() {
    let mut bench = Bench::with(1);
    bench.ok(submit(SIDE_BY_SIDE, &[(1, 900, Some(1)), (2, 500, Some(1)), (3, 400, Some(1))]));
    let records = [1, 2, 3].map(|trial| bench.record(trial).clone());
    let sweep =
        SweepRecord { sweep: "grid".into(), limits: SIDE_BY_SIDE, asked: None, paused: false, trials: records.into() };
    let scheduler = Scheduler::restore(CONFIG, 0, vec![sweep]);
    let mut bench = Bench { scheduler, now: 0 };
    // It comes back without one of them.
    bench.ok(join(1, 1, &[token(1, 1), token(3, 1)]));
    assert_eq!([1, 3].map(|trial| bench.state(trial)), [1, 3].map(|_| running(1, 1, None)));
    assert_eq!(bench.state(2), TrialState::Pending);
}

/// Ten minutes an epoch of a thousand Mult-Adds, at the slot's speed 1.
fn epoch(trial: u64, attempt: u32, epoch: u32, mult_adds: u64) -> Event {
    Event::EpochFinished { token: token(trial, attempt), epoch, duration_ms: mult_adds * 600 }
}

/// So much of the first epoch, at the speed of [`epoch`].
fn progress(trial: u64, attempt: u32, share: f64, mult_adds: u64) -> Event {
    let duration_ms = (mult_adds as f64 * 600.0 * share) as u64;
    Event::Progress { token: token(trial, attempt), epoch: 1, share, duration_ms }
}

fn moved(commands: &[Command]) -> Vec<Token> {
    let stop = |command: &Command| match command {
        Command::Stop { token, reason: StopReason::Pause, .. } => Some(*token),
        _ => None,
    };
    commands.iter().filter_map(stop).collect()
}

#[test]
fn a_slot_that_has_nothing_to_do_takes_others_over() {
    let mut bench = Bench::with(1);
    let trials = [(1, 1_000, Some(1)), (2, 600, Some(1)), (3, 300, Some(1))];
    bench.ok(submit(SIDE_BY_SIDE, &trials));
    bench.ok(join(2, 1, &[]));
    // Until something is measured nobody knows that it pays.
    assert_eq!(moved(&bench.at(50)), []);
    assert_eq!(moved(&bench.ok(progress(1, 1, 0.1, 1_000))), [token(2, 1), token(3, 1)]);
    assert_eq!(moved(&bench.ok(progress(2, 1, 0.1, 600))), [], "they are on their way");
    assert_eq!(bench.state(2), running(1, 1, None));
    // The slot is kept until both can have it.
    assert_eq!(granted(&bench.ok(ended(2, 1, AttemptEnd::Stopped))), [].into());
    let commands = bench.ok(ended(3, 1, AttemptEnd::Stopped));
    assert_eq!(granted(&commands), [(2, vec![2, 3])].into());
    for trial in [2, 3] {
        assert_eq!(bench.state(trial), running(2, 2, None));
        assert_eq!(bench.record(trial).losses + bench.record(trial).restarts, 0);
    }
    for trial in 1..=3 {
        let (attempt, mult_adds) = (bench.record(trial).attempts, trials[trial as usize - 1].1);
        assert_eq!(moved(&bench.ok(epoch(trial, attempt, 1, mult_adds))), [], "it would be no gain");
    }
}

#[test]
fn slots_are_kept_for_those_that_are_to_move_for_a_lease_at_most() {
    let mut bench = Bench::with(1);
    bench.ok(submit(SIDE_BY_SIDE, &[(1, 1_000, Some(1)), (2, 600, Some(1)), (3, 300, Some(1))]));
    bench.ok(join(2, 1, &[]));
    assert_eq!(moved(&bench.ok(progress(1, 1, 0.1, 1_000))), [token(2, 1), token(3, 1)]);
    assert_eq!(granted(&bench.ok(submit(SIDE_BY_SIDE, &[(4, 10, None)]))), [].into());
    // Their trainer does not say a word.
    let begin = bench.now;
    while bench.now < begin + CONFIG.lease_ms {
        assert_eq!(bench.explain(4), Waiting::SlotsForMoves { trials: 2 });
        for worker in [1, 2] {
            bench.ok(Event::Heartbeat { worker: WorkerId(worker), session: 1 });
        }
        let now = bench.now + CONFIG.heartbeat_ms;
        if let Some((worker, trials)) = granted(&bench.at(now)).into_iter().next() {
            assert_eq!((worker, trials, now >= begin + CONFIG.lease_ms), (2, vec![4], true));
            return;
        }
    }
    panic!("trial 4 still waits");
}

#[test]
fn a_trial_leaves_a_slow_slot_for_a_fast_one_and_does_not_go_back() {
    let mut bench = Bench::with(2);
    bench.ok(submit(LIMITS, &[(1, 1_000, None), (2, 900, None), (3, 800, None)]));
    // Worker 1, which has the longest, is ten times as slow as worker 2.
    let commands = bench.ok(progress(2, 1, 0.1, 900));
    assert_eq!(moved(&commands), []);
    let slow = Event::Progress { token: token(1, 1), epoch: 1, share: 0.01, duration_ms: 60_000 };
    assert_eq!(moved(&bench.ok(slow.clone())), []);
    let now = bench.now + CONFIG.heartbeat_ms;
    assert_eq!(moved(&bench.at(now)), [token(1, 1)]);
    assert_eq!(moved(&bench.ok(slow)), [], "it was told");
    // None would be finished there before all else is done.
    assert_eq!(granted(&bench.ok(ended(1, 1, AttemptEnd::Stopped))), [].into());
    let waits = Waiting::BetterSlotSoon { slot: slot(2) };
    assert_eq!([1, 3].map(|trial| bench.explain(trial)), [waits.clone(), waits]);
    for epoch_done in 1..=10 {
        bench.ok(epoch(2, 1, epoch_done, 900));
    }
    assert_eq!(granted(&bench.ok(ended(2, 1, AttemptEnd::Completed))), [(2, vec![1])].into());
}

#[test]
fn one_that_stopped_to_move_is_paused_if_somebody_asked_for_that() {
    let mut bench = Bench::with(2);
    bench.ok(submit(SIDE_BY_SIDE, &[(1, 1_000, Some(1)), (2, 600, Some(1)), (3, 600, Some(1))]));
    bench.ok(Event::TrialPaused { trial: TrialId(2) });
    assert_eq!(bench.state(2), running(1, 2, Some(StopReason::Pause)));
    bench.ok(ended(2, 1, AttemptEnd::Stopped));
    assert_eq!(bench.state(2), TrialState::Paused);
    let held = bench.scheduler.worker(slot(2).worker).map(|view| view.slots[0].trials.clone());
    assert_eq!(held, Some(vec![TrialId(3)]));
}

/// By worker: the trials that join others there.
fn joined(commands: &[Command]) -> BTreeSet<(u64, Vec<u64>)> {
    let joins = |command: &&Command| matches!(command, Command::Grant { joins: true, .. });
    granted(&commands.iter().filter(joins).cloned().collect::<Vec<_>>())
}

fn left(worker: u64) -> Event {
    Event::WorkerLeft { worker: WorkerId(worker), session: 1 }
}

/// Trial 1 on worker 1 has done one epoch, and trial 2 on worker 2 one more.
fn one_is_ahead() -> Bench {
    let mut bench = Bench::with(2);
    bench.ok(submit(SIDE_BY_SIDE, &[(1, 1_000, Some(1)), (2, 1_000, Some(1))]));
    for (trial, told) in [(1, 1), (2, 1), (2, 2)] {
        bench.ok(epoch(trial, 1, told, 1_000));
    }
    bench
}

#[test]
fn one_that_lost_its_slot_joins_those_that_are_about_to_begin_its_next_epoch() {
    let mut bench = one_is_ahead();
    let commands = bench.ok(left(2));
    assert_eq!(joined(&commands), [(1, vec![2])].into());
    assert_eq!(bench.state(2), running(2, 1, None));
    let held = bench.scheduler.worker(WorkerId(1)).map(|view| view.slots[0].trials.clone());
    assert_eq!(held, Some(vec![TrialId(1), TrialId(2)]));
    // A restarted coordinator knows of both.
    let records = [1, 2].map(|trial| bench.record(trial).clone());
    let (sweep, limits) = ("grid".to_owned(), SIDE_BY_SIDE);
    let record = SweepRecord { sweep, limits, asked: None, paused: false, trials: records.into() };
    let mut restored = Bench { scheduler: Scheduler::restore(CONFIG, 0, vec![record]), now: 0 };
    restored.ok(join(1, 2, &[token(1, 1), token(2, 2)]));
    for bench in [&mut bench, &mut restored] {
        bench.ok(ended(1, 1, AttemptEnd::Completed));
        assert_eq!(bench.state(2), running(2, 1, None));
        bench.ok(ended(2, 2, AttemptEnd::Completed));
        assert_eq!(bench.state(2), TrialState::Completed);
    }
}

#[test]
fn one_that_is_further_on_joins_when_the_others_have_come_as_far() {
    let mut bench = one_is_ahead();
    bench.ok(epoch(2, 1, 3, 1_000));
    assert_eq!(granted(&bench.ok(left(2))), [].into());
    assert_eq!(bench.explain(2), Waiting::NoFreeSlot { ahead: 0, slots: 1 });
    assert_eq!(joined(&bench.ok(epoch(1, 1, 2, 1_000))), [(1, vec![2])].into());
    // One that is behind has missed them.
    bench.ok(Event::TrialPaused { trial: TrialId(2) });
    bench.ok(ended(2, 2, AttemptEnd::Stopped));
    bench.ok(epoch(1, 1, 3, 1_000));
    assert_eq!(granted(&bench.ok(Event::TrialResumed { trial: TrialId(2) })), [].into());
    assert_eq!(granted(&bench.ok(ended(1, 1, AttemptEnd::Completed))), [(1, vec![2])].into());
}

#[test]
fn several_join_together_and_no_more_than_may() {
    for (max_trials_per_slot, expected) in [(16, vec![2, 3]), (2, vec![2]), (1, vec![])] {
        let mut bench = Bench::with(3);
        let trials = [(1, 1_000, Some(1)), (2, 900, Some(1)), (3, 800, Some(1))];
        bench.ok(submit(SweepLimits { max_trials_per_slot, ..LIMITS }, &trials));
        for (trial, told) in [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
            bench.ok(epoch(trial, 1, told, trials[trial as usize - 1].1));
        }
        bench.ok(Event::LeasesHeld { reason: Some("no room".into()) });
        bench.ok(left(2));
        bench.ok(left(3));
        let commands = bench.ok(Event::LeasesHeld { reason: None });
        let expected = if expected.is_empty() { [].into() } else { [(1, expected)].into() };
        assert_eq!(joined(&commands), expected, "{max_trials_per_slot} a slot");
    }
}

#[test]
fn nobody_joins_where_that_is_not_wanted() {
    let check = |what: &str, before: &[Event], expected: bool| {
        let mut bench = one_is_ahead();
        for event in before {
            bench.ok(event.clone());
        }
        let commands = bench.ok(left(2));
        assert_eq!(!joined(&commands).is_empty(), expected, "{what}");
    };
    let other = |priority: u8, id: u64| {
        let limits = SweepLimits { priority, ..LIMITS };
        let Event::SweepSubmitted { trials, .. } = submit(LIMITS, &[(id, 5_000, None)]) else { return Vec::new() };
        vec![Event::SweepSubmitted { sweep: "other".into(), limits, trials }]
    };
    check("nothing else", &[], true);
    check("its worker drains", &[Event::WorkerDraining { worker: WorkerId(1), session: 1 }], false);
    check("its worker's stream is closed", &[Event::WorkerDisconnected { worker: WorkerId(1), session: 1 }], false);
    check("the one there is being paused", &[Event::TrialPaused { trial: TrialId(1) }], false);
    check("no leases are granted", &[Event::LeasesHeld { reason: Some("no room".into()) }], false);
    check("one at a time", &[Event::SweepLimited { sweep: "grid".into(), max_concurrent_trials: Some(1) }], false);
    check("all are paused", &[Event::SweepPaused { sweep: "grid".into() }], false);
    check("it has come as far", &[epoch(1, 1, 2, 1_000)], false);
    check(
        "one epoch is left",
        &(2..=9)
            .map(|told| epoch(2, 1, told, 1_000))
            .chain((2..=8).map(|told| epoch(1, 1, told, 1_000)))
            .collect::<Vec<_>>(),
        true,
    );
    check(
        "none is left",
        &(2..=10)
            .map(|told| epoch(2, 1, told, 1_000))
            .chain((2..=9).map(|told| epoch(1, 1, told, 1_000)))
            .collect::<Vec<_>>(),
        false,
    );
    check("one of higher priority waits", &other(60, 9), false);
    check("one of lower priority waits", &other(40, 9), true);
    check("a longer one waits", &other(50, 9), true);
}

#[test]
fn one_waits_for_a_slot_that_would_finish_it_earlier() {
    let mut bench = one_is_ahead();
    bench.ok(join(3, 1, &[]));
    // Worker 3 will be free in no time.
    bench.ok(submit(SIDE_BY_SIDE, &[(3, 10, None)]));
    bench.ok(Event::EpochFinished { token: token(3, 1), epoch: 1, duration_ms: 10 * 600 });
    assert_eq!(granted(&bench.ok(left(2))), [].into());
    assert_eq!(granted(&bench.ok(ended(3, 1, AttemptEnd::Completed))), [(3, vec![2])].into());
}

#[test]
fn whoever_is_under_suspicion_joins_nobody() {
    // Both of worker 2's died in one trainer: each is to be alone, and one of them finds worker 2 free.
    let mut bench = Bench::with(2);
    bench.ok(submit(SIDE_BY_SIDE, &[(1, 2_000, Some(1)), (2, 1_000, Some(1)), (3, 1_000, Some(1))]));
    for (trial, told) in [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2)] {
        bench.ok(epoch(trial, 1, told, 1_000));
    }
    let mut begun = BTreeSet::new();
    for trial in [2, 3] {
        let end = AttemptEnd::CrashedTogether { reason: "signal 11".into(), trials: 2 };
        begun.extend(granted(&bench.ok(ended(trial, 1, end))));
    }
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert!(begun.iter().all(|(worker, trials)| *worker == 2 && trials.len() == 1), "{begun:?}");
}

#[test]
fn nobody_joins_where_something_has_failed_until_something_works() {
    for fails in [false, true] {
        let mut bench = Bench::new();
        let Event::WorkerJoined { host, slots, .. } = join(1, 1, &[]) else { return };
        let slots = [slots.clone(), slots].concat();
        bench.ok(Event::WorkerJoined { worker: WorkerId(1), session: 1, host, slots, holding: Vec::new() });
        bench.ok(join(2, 1, &[]));
        bench.ok(submit(SIDE_BY_SIDE, &[(1, 1_000, Some(1)), (2, 900, None), (3, 800, Some(1))]));
        for (trial, told, mult_adds) in [(1, 1, 1_000), (3, 1, 800), (3, 2, 800)] {
            bench.ok(epoch(trial, 1, told, mult_adds));
        }
        // Trial 4 follows on the other slot of worker 1, for long.
        bench.ok(submit(SIDE_BY_SIDE, &[(4, 5_000, None)]));
        let end = if fails { AttemptEnd::Failed { reason: "no data".into() } } else { AttemptEnd::Completed };
        assert_eq!(granted(&bench.ok(ended(2, 1, end))), [(1, vec![4])].into());
        let commands = bench.ok(left(2));
        if fails {
            assert_eq!(granted(&commands), [].into());
            assert_eq!(joined(&bench.ok(epoch(4, 1, 1, 5_000))), [(1, vec![3])].into());
        } else {
            assert_eq!(joined(&commands), [(1, vec![3])].into());
        }
    }
}
