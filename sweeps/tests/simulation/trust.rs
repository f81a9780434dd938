//! Workers on which everything fails, and disks without room.

use crate::behaviour::{Bench, LIMITS, slot, token};
use sweeps::ids::{TrialId, WorkerId};
use sweeps::scheduler::{
    AttemptEnd, Command, Event, NewTrial, ReplicaLimits, SweepLimits, TrialState, Waiting, WorkerState,
};

const MANY: SweepLimits = SweepLimits { max_restarts: 5, ..LIMITS };

fn submit(trials: std::ops::RangeInclusive<u64>) -> Event {
    let trial = |id| NewTrial {
        id: TrialId(id),
        work: 1_000,
        mult_adds: 1_000,
        epochs: 10,
        replicas: ReplicaLimits::ONE,
        stream: None,
    };
    Event::SweepSubmitted { sweep: "grid".into(), limits: MANY, trials: trials.map(trial).collect() }
}

/// What each worker trains: trial and attempt.
fn trains(bench: &Bench, worker: u64) -> Option<(u64, u32)> {
    let trial = bench.scheduler.worker(WorkerId(worker))?.slots[0].trials.first().copied()?;
    Some((trial.0, bench.record(trial.0).attempts))
}

fn crash(bench: &mut Bench, worker: u64) -> Vec<Command> {
    let (trial, attempt) = trains(bench, worker).expect("it trains something");
    let end = AttemptEnd::Crashed { reason: "no such library".into() };
    bench.ok(Event::AttemptEnded { token: token(trial, attempt), end })
}

fn finish_epoch(bench: &mut Bench, worker: u64, epoch: u32) {
    let (trial, attempt) = trains(bench, worker).expect("it trains something");
    bench.ok(Event::EpochFinished { token: token(trial, attempt), epoch, duration_ms: 10 });
}

fn state(bench: &Bench, worker: u64) -> WorkerState {
    bench.scheduler.worker(WorkerId(worker)).expect("a known worker").state
}

fn is_set_aside(commands: &[Command], worker: u64) -> bool {
    commands.iter().any(|command| {
        matches!(command, Command::WorkerSetAside { worker: who, reason }
            if *who == WorkerId(worker) && reason.contains("no such library"))
    })
}

#[test]
fn a_worker_on_which_everything_fails_is_set_aside_and_its_trials_are_not_blamed() {
    let mut bench = Bench::with(2);
    bench.ok(submit(1..=20));
    let mut victims = Vec::new();
    for step in 1..=3 {
        finish_epoch(&mut bench, 2, step);
        victims.push(trains(&bench, 1).expect("it trains something").0);
        let commands = crash(&mut bench, 1);
        assert_eq!(is_set_aside(&commands, 1), step == 3, "{commands:?}");
    }
    victims.sort_unstable();
    victims.dedup();
    assert_eq!(victims.len(), 3, "three different trials");
    assert_eq!((state(&bench, 1), trains(&bench, 1)), (WorkerState::SetAside, None));
    for victim in &victims {
        let record = bench.record(*victim);
        assert_eq!((&record.state, record.restarts), (&TrialState::Pending, 0), "{record:?}");
    }
    // 12 heartbeats later it is tried again; one more failure is enough then, and it is set aside for longer.
    let heartbeat = |worker| Event::Heartbeat { worker: WorkerId(worker), session: 1 };
    for now in (10..=110).step_by(10) {
        bench.at(now);
        bench.ok(heartbeat(1));
        finish_epoch(&mut bench, 2, 3);
        assert_eq!(trains(&bench, 1), None, "at {now}");
    }
    bench.at(120);
    assert!(trains(&bench, 1).is_some());
    bench.ok(heartbeat(1));
    finish_epoch(&mut bench, 2, 4);
    assert!(is_set_aside(&crash(&mut bench, 1), 1));
    for now in (130..=350).step_by(10) {
        bench.at(now);
        bench.ok(heartbeat(1));
        bench.ok(heartbeat(2));
        assert_eq!(trains(&bench, 1), None, "at {now}");
    }
    bench.at(360);
    // Something works there: it is as good as any other.
    finish_epoch(&mut bench, 1, 1);
    assert!(!is_set_aside(&crash(&mut bench, 1), 1));
    assert_eq!(state(&bench, 1), WorkerState::Attached);
}

#[test]
fn where_nothing_works_anywhere_trials_are_to_blame_and_end() {
    let mut bench = Bench::with(2);
    bench.ok(submit(1..=4));
    for _ in 0..1_000 {
        for worker in [1, 2] {
            if trains(&bench, worker).is_some() {
                assert!(!is_set_aside(&crash(&mut bench, worker), worker));
            }
        }
    }
    for trial in 1..=4 {
        assert!(matches!(bench.state(trial), TrialState::Failed { .. }), "{:?}", bench.record(trial));
        assert_eq!(bench.record(trial).attempts, 6);
    }
}

#[test]
fn one_trial_that_fails_again_and_again_takes_no_worker_down_with_it() {
    let mut bench = Bench::with(1);
    bench.ok(submit(1..=1));
    bench.ok(Event::WorkerJoined {
        worker: WorkerId(2),
        session: 1,
        host: "node".into(),
        slots: Vec::new(),
        holding: Vec::new(),
    });
    for _ in 0..6 {
        assert!(!is_set_aside(&crash(&mut bench, 1), 1));
    }
    assert!(matches!(bench.state(1), TrialState::Failed { .. }));
    assert_eq!(state(&bench, 1), WorkerState::Attached);
}

#[test]
fn while_leases_are_held_nothing_begins_what_runs_goes_on_and_then_all_does() {
    let mut bench = Bench::with(2);
    bench.ok(submit(1..=1));
    let reason = Some("the disk is full".to_owned());
    bench.ok(Event::LeasesHeld { reason: reason.clone() });
    bench.ok(submit(1..=3));
    finish_epoch(&mut bench, 1, 1);
    assert_eq!(trains(&bench, 2), None);
    assert_eq!(bench.explain(2), Waiting::Held { reason: "the disk is full".into() });
    bench.at(20);
    assert_eq!(trains(&bench, 2), None);
    let commands = bench.ok(Event::LeasesHeld { reason: None });
    let granted = commands.iter().any(|command| matches!(command, Command::Grant { slot: at, .. } if *at == slot(2)));
    assert!(granted, "{commands:?}");
}
