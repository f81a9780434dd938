use super::*;
use crate::rmsprop::{Rule, norm};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sweeps::spec::model::Optimizer;

const VALUES: usize = 5;
const SAMPLES: u64 = 48;

fn settings(gradients: Gradients, batch_size: u64) -> Settings {
    Settings {
        rule: Rule {
            optimizer: Optimizer { epsilon: 0.01, ..Optimizer::default() },
            decays: vec![(0..3, 0.01), (3..VALUES, 0.0)],
            clip_norm: Some(2.0),
            average_decay: Some(0.9),
        },
        gradients,
        learning_rate: Box::new(|position| 0.1 / (1.0 + position)),
        samples: SAMPLES,
        batch_size,
    }
}

fn master() -> Master {
    let weights = vec![0.5, -0.25, 1.0, 0.125, -1.0];
    Master { average: Some(weights.clone()), weights, mean_square: vec![1.0; VALUES], momentum: vec![0.0; VALUES] }
}

const START: Place = Place { epoch: 0, version: 0, next: 0, holes: Vec::new() };

fn chief(gradients: Gradients, batch_size: u64) -> Chief {
    Chief::new(settings(gradients, batch_size), master(), &START, Tally::default(), Tally::default())
}

/// The gradient of a sample's loss: pulls the weights to a point that the sample decides.
fn sample_gradient(weights: &[f32], sample: u64) -> Vec<f32> {
    let pull = |place: usize| {
        let point = (sample * 7 + u64::try_from(place).unwrap() * 3) % 11;
        f32::from(u16::try_from(point).unwrap()) / 11.0
    };
    weights.iter().enumerate().map(|(place, weight)| weight - pull(place)).collect()
}

/// The mean gradient of some samples, and their loss.
fn gradient(weights: &[f32], ranges: &[Range]) -> (Vec<f32>, f64) {
    let samples: Vec<u64> = ranges.iter().flat_map(|range| range.first..range.next).collect();
    let mut sum = vec![0.0; weights.len()];
    for sample in &samples {
        for (sum, value) in sum.iter_mut().zip(sample_gradient(weights, *sample)) {
            *sum += value;
        }
    }
    let share = 1.0 / samples.len() as f32;
    sum.iter_mut().for_each(|value| *value *= share);
    let loss = sum.iter().map(|value| f64::from(value * value)).sum();
    (sum, loss)
}

fn finished<'a>(version: u64, ranges: &[Range], gradient: &'a [f32], loss: f64) -> Finished<'a> {
    let samples = ranges.iter().map(|range| range.len()).sum();
    Finished {
        version,
        ranges: ranges.to_vec(),
        samples,
        loss,
        right: 1.0,
        gradient: Some(Values::F32(gradient)),
        norm: None,
    }
}

/// One replica trains an epoch by itself.
fn train_alone(chief: &mut Chief, replica: u32) {
    chief.join(replica);
    for sequence in 1.. {
        let ranges = chief.hand_out(replica, 1, 0);
        if ranges.is_empty() {
            break;
        }
        let (gradient, loss) = gradient(&chief.master().weights, &ranges);
        let finished = finished(chief.version(), &ranges, &gradient, loss);
        assert_eq!(chief.push(replica, sequence, Some(&finished), 0), Ok(Verdict::Applied));
    }
    assert_eq!(chief.phase(), Phase::Resting);
}

#[test]
fn one_replica_is_plain_training() {
    let mut alone = chief(Gradients::default(), 6);
    train_alone(&mut alone, 0);
    let (rule, mut plain, mut loss_sum) = (settings(Gradients::default(), 6).rule, master(), 0.0);
    for step in 0..SAMPLES / 6 {
        let range = Range { first: step * 6, next: step * 6 + 6 };
        let (gradient, loss) = gradient(&plain.weights, &[range]);
        let gradient = Values::F32(&gradient);
        let rate = 0.1 / (1.0 + range.first as f64 / SAMPLES as f64);
        let Master { weights, mean_square, momentum, average } = &mut plain;
        let slots = Slots { weights, mean_square, momentum, average: average.as_deref_mut() };
        rule.apply(slots, gradient, Step { rate, norm: norm(gradient) }, None);
        loss_sum += loss;
    }
    assert_eq!(*alone.master(), plain);
    let (tally, counts) = alone.end_epoch();
    assert_eq!((tally.loss, tally.samples, tally.updates), (loss_sum, SAMPLES, SAMPLES / 6));
    assert_eq!((counts.staleness.count(), counts.staleness.max()), (SAMPLES / 6, 0));
}

/// Replicas that wait for each other make the steps of one replica with all their batches together.
#[test]
fn replicas_that_wait_are_one_with_a_larger_batch() {
    let sync = Gradients { mode: GradientMode::Sync, ..Gradients::default() };
    for replicas in [2_u32, 3, 4] {
        let mut together = chief(sync, 4);
        (0..replicas).for_each(|replica| together.join(replica));
        let mut sequence = 0;
        while together.phase() == Phase::Training {
            sequence += 1;
            let weights = together.master().weights.clone();
            let version = together.version();
            let hands: Vec<_> = (0..replicas).map(|replica| (replica, together.hand_out(replica, 1, 0))).collect();
            for (replica, ranges) in hands {
                let (gradient, loss) = gradient(&weights, &ranges);
                let finished = finished(version, &ranges, &gradient, loss);
                assert_eq!(together.push(replica, sequence, Some(&finished), 0), Ok(Verdict::Applied));
            }
            assert_eq!(together.version(), version + 1, "a step is made once all have pushed");
        }
        let mut alone = chief(Gradients::default(), 4 * u64::from(replicas));
        train_alone(&mut alone, 0);
        for (one, other) in alone.master().weights.iter().zip(&together.master().weights) {
            assert!((one - other).abs() < 1e-5, "{replicas} replicas: {one} and {other}");
        }
        assert_eq!(alone.end_epoch().0.updates, together.end_epoch().0.updates);
    }
}

#[test]
fn backups_are_not_waited_for() {
    let sync = Gradients { mode: GradientMode::Sync, drop_slowest: 1, ..Gradients::default() };
    let mut chief = chief(sync, 4);
    (0..2).for_each(|replica| chief.join(replica));
    let hands = [0, 1].map(|replica| chief.hand_out(replica, 1, 0));
    let values = [0.1; VALUES];
    let push = |chief: &mut Chief, replica: u32, version| {
        chief.push(replica, 1, Some(&finished(version, &hands[replica as usize], &values, 0.0)), 0)
    };
    assert_eq!(push(&mut chief, 1, 0), Ok(Verdict::Applied));
    assert_eq!(chief.version(), 1, "replica 0 is the slowest and is not waited for");
    assert_eq!(push(&mut chief, 0, 0), Ok(Verdict::TooStale));
    assert_eq!(chief.hand_out(1, 1, 0), hands[0], "its samples are handed out again");
}

/// A checkpoint in the middle of a step knows nothing of the gradients that wait for it.
#[test]
fn a_step_not_made_is_not_done() {
    let sync = Gradients { mode: GradientMode::Sync, ..Gradients::default() };
    let mut chief = chief(sync, 4);
    (0..2).for_each(|replica| chief.join(replica));
    let hands = [0, 1].map(|replica| chief.hand_out(replica, 1, 0));
    let values = [0.1; VALUES];
    chief.push(0, 1, Some(&finished(0, &hands[0], &values, 0.0)), 0).unwrap();
    assert!(chief.must_wait(0) && !chief.must_wait(1));
    let place = chief.place();
    assert_eq!((place.next, place.holes), (8, vec![hands[0][0], hands[1][0]]));
    chief.leave(1);
    assert_eq!(chief.version(), 1, "who is lost is not waited for");
    assert_eq!(chief.place().holes, hands[1]);
}

#[test]
fn a_push_sent_twice_is_applied_once() {
    let mut chief = chief(Gradients::default(), 6);
    chief.join(1);
    let ranges = chief.hand_out(1, 2, 0);
    let values = [0.1; VALUES];
    let first = finished(0, &ranges[..1], &values, 0.0);
    assert_eq!(chief.push(1, 1, Some(&first), 0), Ok(Verdict::Applied));
    let after = chief.master().clone();
    assert_eq!(chief.push(1, 1, Some(&first), 0), Ok(Verdict::Applied));
    assert_eq!((chief.master(), chief.version()), (&after, 1));
    let second = finished(0, &ranges[1..], &values, 0.0);
    assert_eq!(chief.push(1, 2, Some(&second), 0), Ok(Verdict::Applied));
    let old = Nonsense::OldSequence { replica: 1, sequence: 1, newest: 2 };
    assert_eq!(chief.push(1, 1, Some(&first), 0), Err(old));
    assert_eq!(chief.version(), 2);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let mut chief = chief(Gradients::default(), 6);
    chief.join(1);
    let ranges = chief.hand_out(1, 1, 0);
    let (values, short) = ([0.1; VALUES], [0.1; VALUES - 1]);
    let good = finished(0, &ranges, &values, 0.0);
    let cases = [
        (7, good.clone(), Nonsense::Unknown(7)),
        (1, Finished { version: 9, ..good.clone() }, Nonsense::FromTheFuture { version: 9, newest: 0 }),
        (
            1,
            Finished { gradient: Some(Values::F32(&short)), ..good.clone() },
            Nonsense::WrongSize { values: VALUES - 1, expected: VALUES },
        ),
        (1, Finished { ranges: vec![], ..good.clone() }, Nonsense::BadRange("it names no samples")),
        (
            1,
            Finished { ranges: vec![Range { first: 0, next: SAMPLES + 1 }], ..good.clone() },
            Nonsense::BadRange("a range of samples is empty or beyond the epoch"),
        ),
        (
            1,
            Finished { ranges: vec![Range { first: 6, next: 6 }], ..good.clone() },
            Nonsense::BadRange("a range of samples is empty or beyond the epoch"),
        ),
        (
            1,
            Finished { ranges: [&ranges[..], &ranges[..]].concat(), ..good.clone() },
            Nonsense::BadRange("it counts more samples than its ranges hold"),
        ),
        (1, Finished { samples: 7, ..good.clone() }, Nonsense::BadRange("it counts more samples than its ranges hold")),
        (1, Finished { samples: 0, ..good.clone() }, Nonsense::BadRange("a gradient of no samples")),
    ];
    let before = (chief.master().clone(), chief.place());
    for (replica, finished, expected) in cases {
        assert_eq!(chief.push(replica, 1, Some(&finished), 0), Err(expected));
        assert_eq!((chief.master().clone(), chief.place()), before);
    }
    // Samples that others have in hand, or nobody: nothing is applied either.
    let others = finished(0, &[Range { first: 6, next: 12 }], &values, 0.0);
    assert_eq!(chief.push(1, 1, Some(&others), 0), Ok(Verdict::NotYours));
    assert_eq!((chief.master().clone(), chief.place()), before);
}

#[test]
fn gradients_that_are_not_finite_are_skipped_and_then_fail_the_trial() {
    let mut chief = chief(Gradients::default(), 6);
    chief.join(1);
    let mut values = [0.1; VALUES];
    values[2] = f32::NAN;
    for sequence in 1..=u64::from(NOT_FINITE_MAX) {
        assert_eq!(chief.failure(), None);
        let ranges = chief.hand_out(1, 1, 0);
        let bad = finished(0, &ranges, &values, 0.0);
        assert_eq!(chief.push(1, sequence, Some(&bad), 0), Ok(Verdict::NotFinite));
        assert_eq!(*chief.master(), master());
    }
    assert_eq!(chief.phase(), Phase::Done);
    assert!(chief.failure().unwrap().contains("not finite"), "{:?}", chief.failure());
    assert_eq!(chief.end_epoch().1.samples_skipped, 6 * u64::from(NOT_FINITE_MAX));
}

#[test]
fn gradients_whose_squares_are_not_finite_are_skipped_unless_they_are_shortened() {
    for (clip_norm, expected) in [(None, Verdict::NotFinite), (Some(2.0), Verdict::Applied)] {
        let mut settings = settings(Gradients::default(), 6);
        settings.rule.clip_norm = clip_norm;
        let mut chief = Chief::new(settings, master(), &START, Tally::default(), Tally::default());
        chief.join(1);
        // Two of them: the second would meet what the first has left.
        for (sequence, size) in [(1, 1e20), (2, -1e20)] {
            let ranges = chief.hand_out(1, 1, 0);
            let values = [size; VALUES];
            let large = finished(chief.version(), &ranges, &values, 0.0);
            assert_eq!(chief.push(1, sequence, Some(&large), 0), Ok(expected), "{clip_norm:?}");
        }
        let Master { weights, mean_square, .. } = chief.master();
        assert!(weights.iter().chain(mean_square).all(|value| value.is_finite()), "{:?}", chief.master());
    }
}

#[test]
fn staleness_is_bounded_where_asked() {
    let gradients = Gradients { max_staleness: Some(1), ..Gradients::default() };
    let mut chief = chief(gradients, 6);
    (1..=3).for_each(|replica| chief.join(replica));
    let hands = [1, 2, 3].map(|replica| chief.hand_out(replica, 1, 0));
    let values = [0.1; VALUES];
    let mut verdicts = Vec::new();
    for (replica, ranges) in (1..).zip(&hands) {
        verdicts.push(chief.push(replica, 1, Some(&finished(0, ranges, &values, 0.0)), 0).unwrap());
    }
    assert_eq!(verdicts, [Verdict::Applied, Verdict::Applied, Verdict::TooStale]);
    assert_eq!(chief.hand_out(1, 1, 0), hands[2]);
    let (_, counts) = chief.end_epoch();
    assert_eq!((counts.samples_refused, counts.staleness.max()), (6, 1));
}

#[test]
fn stale_gradients_go_slower_where_asked() {
    let moved = |staleness_lr| {
        let mut chief = chief(Gradients { staleness_lr, ..Gradients::default() }, 6);
        (1..=4).for_each(|replica| chief.join(replica));
        let hands = [1, 2, 3, 4].map(|replica| chief.hand_out(replica, 1, 0));
        let nothing = [0.0; VALUES];
        for (replica, ranges) in (1..).zip(&hands[..3]) {
            chief.push(replica, 1, Some(&finished(0, ranges, &nothing, 0.0)), 0).unwrap();
        }
        let before = (chief.master().weights[4], chief.master().momentum[4]);
        chief.push(4, 1, Some(&finished(0, &hands[3], &[0.1; VALUES], 0.0)), 0).unwrap();
        let momentum = chief.master().momentum[4] - 0.9 * before.1;
        assert!((before.0 - chief.master().weights[4] - chief.master().momentum[4]).abs() < 1e-6);
        momentum
    };
    let (full, third) = (moved(StalenessRate::None), moved(StalenessRate::Inverse));
    assert!((full / third - 3.0).abs() < 1e-3, "staleness 3: {full} and {third}");
}

/// Replicas that come, compute at old parameters, vanish, and are too late; the run is then computed again from what
/// was recorded, one gradient after the other.
#[test]
fn a_recorded_run_is_replayed_to_the_bit() {
    for seed in 0..50 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: u64| random.next_u64() % bound;
        let gradients = Gradients { delay_compensation: if seed % 2 == 0 { 0.0 } else { 0.5 }, ..Gradients::default() };
        let mut live = chief(gradients, 1 + below(7));
        live.record();
        let batch_size = live.settings.batch_size;
        // Of each replica: its next push's number, the version and weights it reads, what it has in hand.
        let mut replicas: BTreeMap<u32, (u64, u64, Vec<f32>, Vec<Range>)> = BTreeMap::new();
        let mut counted = vec![0_u32; usize::try_from(SAMPLES).unwrap()];
        let mut events = 0;
        while live.phase() == Phase::Training {
            events += 1;
            assert!(events < 10_000, "seed {seed} does not end");
            let replica = u32::try_from(below(4)).unwrap();
            match below(12) {
                0 => {
                    live.leave(replica);
                    replicas.remove(&replica);
                }
                _ => {
                    let known = replicas.entry(replica).or_insert_with(|| {
                        live.join(replica);
                        live.note_read(replica);
                        (1, live.version(), live.master().weights.clone(), Vec::new())
                    });
                    if known.3.is_empty() {
                        known.3 = live.hand_out(replica, 1, 0);
                    } else {
                        let ranges = std::mem::take(&mut known.3);
                        let (values, loss) = gradient(&known.2, &ranges);
                        let push = finished(known.1, &ranges, &values, loss);
                        if live.push(replica, known.0, Some(&push), 0) == Ok(Verdict::Applied) {
                            for at in ranges.iter().flat_map(|range| range.first..range.next) {
                                counted[usize::try_from(at).unwrap()] += 1;
                            }
                        }
                        known.0 += 1;
                        live.note_read(replica);
                        (known.1, known.2) = (live.version(), live.master().weights.clone());
                    }
                }
            }
        }
        assert!(counted.iter().all(|times| *times == 1), "seed {seed}: {counted:?}");

        let mut again = chief(gradients, batch_size);
        let mut versions = vec![again.master().weights.clone()];
        for (sequence, Arrival { replica, version, ranges }) in (1..).zip(live.take_arrivals()) {
            // It takes ranges until it has those of the recorded push, and then gives the others back.
            again.join(replica);
            let read = &versions[usize::try_from(version).unwrap()];
            again.replicas.get_mut(&replica).unwrap().read.push_back((version, read.clone()));
            while !ranges.iter().all(|range| again.ranges.holds(replica, *range)) {
                assert!(again.ranges.hand_out(replica, 0).is_some(), "seed {seed}: the samples are left");
            }
            let (values, loss) = gradient(read, &ranges);
            assert_eq!(
                again.push(replica, sequence, Some(&finished(version, &ranges, &values, loss)), 0),
                Ok(Verdict::Applied)
            );
            versions.push(again.master().weights.clone());
            again.leave(replica);
        }
        assert_eq!(again.master(), live.master(), "seed {seed}");
    }
}

/// A chief made anew from what a checkpoint keeps goes on as if it had never stopped.
#[test]
fn a_chief_goes_on_from_its_place() {
    let mut whole = chief(Gradients::default(), 6);
    train_alone(&mut whole, 0);
    let mut first = chief(Gradients::default(), 6);
    first.join(0);
    for sequence in 1..=3 {
        let ranges = first.hand_out(0, 2, 0);
        let held = [Range { first: (sequence - 1) * 6, next: sequence * 6 }];
        let (values, loss) = gradient(&first.master().weights, &held);
        assert!(!ranges.is_empty());
        first.push(0, sequence, Some(&finished(first.version(), &held, &values, loss)), 0).unwrap();
    }
    let (place, (epoch, window)) = (first.place(), first.tallies());
    assert_eq!(place, Place { epoch: 0, version: 3, next: 24, holes: vec![Range { first: 18, next: 24 }] });
    let mut second = Chief::new(settings(Gradients::default(), 6), first.master().clone(), &place, epoch, window);
    train_alone(&mut second, 0);
    assert_eq!(second.master(), whole.master());
    let (one, other) = (whole.end_epoch().0, second.end_epoch().0);
    assert!((one.loss - other.loss).abs() < 1e-12 && one.samples == other.samples && one.updates == other.updates);
}
