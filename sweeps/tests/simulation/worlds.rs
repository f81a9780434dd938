//! Many small worlds with everything checked after each event; one large one.

use crate::orders::Orders;
use crate::world::{Shape, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use sweeps::scheduler::SweepLimits;

const SMALL: Shape = Shape {
    heartbeat_ms: 100,
    delay_ms_max: 20,
    lost: 20_000,
    doubled: 50_000,
    late: 10_000,
    crash: 40_000,
    fail: 5_000,
    hang: 20_000,
    agent_dies: 6_000,
    agent_freezes: 6_000,
    agent_drains: 1_000,
    agent_leaves: 1_000,
    agent_is_sick: 50_000,
    coordinator_dies: 800,
    clock_stumbles: 10_000,
    clock_jumps: 1_000,
    replica_ends: 20_000,
    check_every: 1,
};

/// Prints the seed when a test dies with it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed: ALPHARHO_SEED={}", self.0);
        }
    }
}

/// Chaos, then healing, then everything must end; gives back the world. 20 workers, or any number up to that, or few for
/// many long trials.
fn live(seed: u64, trace: bool) -> World {
    let _seed = Seed(seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let drawn: u32 = 1 + rng.random_range(0..20) * rng.random_range(0..20) / 20;
    let is_crowded = seed >= CROWDED;
    let workers = match seed {
        // Cohorts do not last where slots are free.
        ..SEEDS if seed % 4 == 1 => 3,
        ..SEEDS => 20,
        SEEDS..CROWDED => drawn,
        CROWDED.. => drawn.div_ceil(5),
    };
    let slots_max = if is_crowded { 1 } else { 3 };
    let speeds =
        (0..workers).map(|_| (0..rng.random_range(1..=slots_max)).map(|_| rng.random_range(0.5..2.0)).collect());
    let mut world = World::new(seed, SMALL, speeds.collect());
    world.trace = trace.then(Vec::new);
    let sweeps = (0..rng.random_range(1..=3)).map(|index| {
        let limits = SweepLimits {
            priority: rng.random_range(49..=51),
            max_concurrent_trials: rng.random_bool(0.3).then(|| rng.random_range(1..4)),
            max_restarts: rng.random_range(0..4),
            max_losses: rng.random_range(0..8),
            max_trials_per_slot: if is_crowded { 16 } else { [1, 2, 3, 16][rng.random_range(0..4)] },
        };
        (format!("sweep{index}"), limits)
    });
    let sweeps = sweeps.collect();
    let replicas_max = if is_crowded || seed.is_multiple_of(3) || workers == 3 { 1 } else { 4 };
    let epochs_max = if is_crowded { 16 } else { 4 };
    let mut orders = Orders { sweeps, next_trial: 1, epochs_max, replicas_max };
    for sweep in 0..orders.sweeps.len() {
        // More than there are slots, or fewer.
        let count = world.rng.random_range(1..12) * if is_crowded { 1 } else { 2 };
        orders.submit(&mut world, sweep, count);
    }
    let chaos_end = rng.random_range(2_000..9_000) * if is_crowded { 20 } else { 1 };
    while world.now < chaos_end {
        let pause_ms = world.rng.random_range(50..2_000);
        world.run(world.now + pause_ms, false);
        orders.give(&mut world);
        world.check_fold();
    }
    world.heal();
    // Whoever is frozen thaws, and the last late message comes.
    world.run(world.now + 2_500, false);
    orders.release(&mut world, false);
    finish(&mut world);
    orders.release(&mut world, true);
    finish(&mut world);
    world.scheduler.check_invariants();
    world.check_fold();
    world.ledger.demand_all_completed();
    world
}

fn finish(world: &mut World) {
    let patience_ms = 3_000_000;
    world.run(world.now + patience_ms, true);
    assert!(world.ledger.all_over(), "trials that never ended, at {}:\n{}", world.now, world.describe());
}

/// Every fault must be met, and bite: chaos that never does would prove nothing.
const FAULTS: [&str; 20] = [
    "cohort",
    "crashed_together",
    "moved",
    "lost",
    "doubled",
    "late",
    "reordered",
    "crash",
    "fail",
    "hang",
    "agent_dies",
    "agent_freezes",
    "agent_drains",
    "agent_leaves",
    "agent_is_sick",
    "set_aside",
    "coordinator_dies",
    "clock_stumbles",
    "clock_jumps",
    "clock_jumps_back",
];

fn small_worlds(seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let is_crowded = seeds.start >= CROWDED;
    if let Ok(seed) = std::env::var("ALPHARHO_SEED") {
        let seed = seed.parse().expect("ALPHARHO_SEED is a number");
        if seeds.start == 0 {
            live(seed, false);
        }
        return;
    }
    let (mut refused, mut restarts, mut events, mut joined, mut adopted) = (0, 0, 0, 0, 0);
    let mut met = BTreeMap::<_, u64>::new();
    for seed in seeds {
        let world = live(seed, false);
        refused += world.refused;
        restarts += u64::from(world.restarts);
        events += world.events;
        joined += world.ledger.replicas_joined;
        adopted += world.ledger.replicas_adopted;
        for (fault, times) in world.met {
            *met.entry(fault).or_default() += times;
        }
    }
    println!(
        "{count} worlds, {events} events, {refused} refused, {joined} replicas joined, {adopted} adopted, {met:?}"
    );
    // Only with many pending trials do cohorts take some in; there they have no replicas.
    let more = if is_crowded { "joined" } else { "replica_ends" };
    for fault in FAULTS.into_iter().chain([more]) {
        assert!(met.get(fault).is_some_and(|&times| times > count / 20), "{fault} in {count} worlds: {met:?}");
    }
    assert!(refused > 3 * count && restarts > count / 4 && events > 250 * count, "{refused} {restarts} {events}");
    assert!(is_crowded || (joined > 3 * count && adopted > count / 20), "{joined} {adopted}");
}

/// Of worlds with 20 workers. Those with greater seeds have fewer, which then have more to do.
const SEEDS: u64 = 10_000;
/// Worlds from here on have 4 workers at most, and trials that have none but each other for company.
const CROWDED: u64 = 20_000;

macro_rules! small_worlds {
    ($($name:ident: $seeds:expr;)*) => {
        $(#[test]
        fn $name() {
            small_worlds($seeds);
        })*
    };
}

small_worlds! {
    small_worlds_end_well_1: 0..1_250;
    small_worlds_end_well_2: 1_250..2_500;
    small_worlds_end_well_3: 2_500..3_750;
    small_worlds_end_well_4: 3_750..5_000;
    small_worlds_end_well_5: 5_000..6_250;
    small_worlds_end_well_6: 6_250..7_500;
    small_worlds_end_well_7: 7_500..8_750;
    small_worlds_end_well_8: 8_750..SEEDS;
    small_worlds_of_fewer_workers_end_well: SEEDS..SEEDS + 1_600;
    small_worlds_of_few_workers_and_many_trials_end_well: CROWDED..CROWDED + 1_600;
}

#[test]
fn the_same_seed_gives_the_same_commands() {
    for seed in (0..SEEDS).step_by(100) {
        let (one, other) = (live(seed, true), live(seed, true));
        assert!(one.trace.as_ref().is_some_and(|trace| trace.len() > 20));
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

/// Calm enough for thousands.
const LARGE: Shape = Shape {
    heartbeat_ms: 1_000,
    delay_ms_max: 50,
    lost: 200,
    doubled: 1_000,
    late: 500,
    crash: 1_000,
    fail: 0,
    hang: 200,
    agent_dies: 500,
    agent_freezes: 200,
    agent_drains: 50,
    agent_leaves: 50,
    agent_is_sick: 1_000,
    coordinator_dies: 0,
    clock_stumbles: 1_000,
    clock_jumps: 0,
    replica_ends: 0,
    check_every: 100_000,
};

#[test]
fn ten_thousand_workers_train_a_hundred_thousand_trials() {
    let seed = 7;
    let _seed = Seed(seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let speeds = (0..10_000).map(|_| vec![rng.random_range(0.25..2.0)]).collect();
    let mut world = World::new(seed, LARGE, speeds);
    let limits = SweepLimits {
        priority: 50,
        max_concurrent_trials: None,
        max_restarts: 20,
        max_losses: 100,
        max_trials_per_slot: 4,
    };
    let small = SweepLimits { priority: 60, max_concurrent_trials: Some(500), ..limits.clone() };
    let sweeps = vec![("large".to_owned(), limits), ("limited".to_owned(), small)];
    let mut orders = Orders { sweeps, next_trial: 1, epochs_max: 3, replicas_max: 1 };
    orders.submit(&mut world, 0, 95_000);
    orders.submit(&mut world, 1, 5_000);
    world.run(4_000, false);
    world.restart();
    world.run(8_000, false);
    world.heal();
    finish(&mut world);
    orders.release(&mut world, true);
    finish(&mut world);
    world.scheduler.check_invariants();
    world.ledger.demand_all_completed();
    assert!(world.refused > 100, "{}", world.refused);
}

#[test]
fn three_thousand_workers_share_two_hundred_trials() {
    // With this one the coordinator is not away for so long that nobody is left to be found again.
    let seed = 13;
    let _seed = Seed(seed);
    let shape = Shape { replica_ends: 500, ..LARGE };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let speeds = (0..3_000).map(|_| vec![rng.random_range(0.25..2.0)]).collect();
    let mut world = World::new(seed, shape, speeds);
    let limits = SweepLimits {
        priority: 50,
        max_concurrent_trials: None,
        max_restarts: 20,
        max_losses: 100,
        max_trials_per_slot: 4,
    };
    let sweeps = vec![("shared".to_owned(), limits)];
    let mut orders = Orders { sweeps, next_trial: 1, epochs_max: 20, replicas_max: 32 };
    orders.submit(&mut world, 0, 150);
    world.run(6_000, false);
    world.restart();
    world.run(12_000, false);
    // They take the slots that helped.
    orders.submit(&mut world, 0, 50);
    world.run(15_000, false);
    world.heal();
    finish(&mut world);
    orders.release(&mut world, true);
    finish(&mut world);
    world.scheduler.check_invariants();
    world.ledger.demand_all_completed();
    let (joined, adopted) = (world.ledger.replicas_joined, world.ledger.replicas_adopted);
    assert!(joined > 1_000 && adopted > 200, "{joined} {adopted}");
}
