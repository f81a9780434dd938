//! The loop as a whole, on small generated photographs: it learns, resumes to the bit, and keeps members apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod common;

use common::{Ear, end, metrics, newest, photographs, tensors, trial};
use crossbeam_channel::unbounded;
use proto::link::{DataPlaces, Member, Order, Said, Start};
use std::path::{Path, PathBuf};
use sweeps::ids::{Token, TrialId};
use sweeps::network::Network;
use sweeps::scheduler::{AttemptEnd, StopReason};
use sweeps::trial::Trial;
use trainer::checkpoint::read_header;
use trainer::model::Model;
use trainer::speech::Speech;

fn settings() -> serde_json::Value {
    serde_json::json!({
        "epochs": 3, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.1, "weight_ema": 0.9,
        "batch_norm": {"decay": 0.9, "reestimate_batches": 2},
    })
}

/// Trains on one thread and gives what was said.
fn train(folder: &Path, trials: &[(Trial, Option<PathBuf>)], orders: &[Order]) -> Vec<Said> {
    train_on(1, folder, trials, orders)
}

/// On so many threads, each trial with one of them.
fn train_on(threads: u32, folder: &Path, trials: &[(Trial, Option<PathBuf>)], orders: &[Order]) -> Vec<Said> {
    let members = trials
        .iter()
        .zip(1..)
        .map(|((trial, resume), id)| Member {
            token: Token::chief(TrialId(id), 1),
            trial: trial.clone(),
            resume: resume.clone(),
            threads: 1,
            exchange: None,
        })
        .collect();
    let start = Start {
        members,
        device: "cpu".into(),
        threads,
        slots: 1,
        folder: folder.to_owned(),
        data: DataPlaces::default(),
    };
    let (sender, receiver) = unbounded();
    for order in orders {
        sender.send(order.clone()).unwrap();
    }
    let ear = Ear::default();
    trainer::cohort::run(start, &receiver, &Speech::to(Box::new(ear.clone()))).unwrap();
    ear.heard()
}

#[test]
fn it_learns() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let mut settings = settings();
    settings["epochs"] = serde_json::json!(12);
    let said = train(folder.path(), &[(trial(folder.path(), 32, settings), None)], &[]);
    assert_eq!(end(&said, 1), AttemptEnd::Completed);
    let metrics = metrics(&said, 1);
    let last = |name: &str| metrics.iter().rev().find(|(_, known, _)| known == name).unwrap().2;
    // With dropout and 80 images an epoch's share of right ones leaps; held out ones are told apart by averaged weights.
    let late = metrics.iter().filter(|(epoch, name, _)| *epoch > 8 && name == "train_top1").map(|(_, _, value)| *value);
    assert!(late.fold(0.0, f64::max) > 0.9 && last("val_top1") > 0.9, "colours are easy: {metrics:?}");
    assert!(metrics.iter().all(|(_, name, _)| name != "val_top5"), "there are only two classes");
    assert!(metrics.iter().all(|(_, name, _)| sweeps::metrics::find(name).is_some()));
}

#[test]
fn a_trial_that_was_stopped_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trial = trial(folder.path(), 32, settings());
    let whole = train(folder.path(), &[(trial.clone(), None)], &[]);
    let expected = (tensors(&newest(&whole, 1)), metrics(&whole, 1));

    // The order waits already, so the trainer obeys after the first batch: in the middle of an epoch.
    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let stopped = train(folder.path(), &[(trial.clone(), None)], &[stop]);
    assert_eq!(end(&stopped, 1), AttemptEnd::Stopped);
    assert_eq!(metrics(&stopped, 1), []);
    let middle = newest(&stopped, 1);
    let resumed = train(folder.path(), &[(trial.clone(), Some(middle))], &[]);
    assert_eq!((tensors(&newest(&resumed, 1)), metrics(&resumed, 1)), expected);

    // And from the end of an epoch.
    let first_epoch = whole
        .iter()
        .find_map(|said| match said {
            Said::CheckpointSaved { path, epoch: 1, .. } => Some(path.clone()),
            _ => None,
        })
        .unwrap();
    let resumed = train(folder.path(), &[(trial, Some(first_epoch))], &[]);
    assert_eq!(tensors(&newest(&resumed, 1)), expected.0);
    let later: Vec<_> = expected.1.into_iter().filter(|(epoch, ..)| *epoch > 1).collect();
    assert_eq!(metrics(&resumed, 1), later);
}

/// The epoch's training is over, its evaluation is not: what a stop during a long evaluation leaves.
#[test]
fn a_trial_stopped_while_it_is_evaluated_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let mut one_batch = settings();
    one_batch["batch_size"] = serde_json::json!(80);
    let trial = trial(folder.path(), 32, one_batch);
    let whole = train(folder.path(), &[(trial.clone(), None)], &[]);
    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let stopped = train(folder.path(), &[(trial.clone(), None)], &[stop]);
    let path = newest(&stopped, 1);
    let progress = read_header(&std::fs::read(&path).unwrap()).unwrap().progress;
    assert_eq!((progress.epochs_done, progress.next_sample), (0, 80));
    let resumed = train(folder.path(), &[(trial, Some(path))], &[]);
    assert_eq!(metrics(&resumed, 1), metrics(&whole, 1));
    assert_eq!(tensors(&newest(&resumed, 1)), tensors(&newest(&whole, 1)));
}

#[test]
fn company_does_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let cells: Vec<_> = [32, 24].map(|resolution| trial(folder.path(), resolution, settings())).into();
    let together = train(folder.path(), &cells.iter().map(|cell| (cell.clone(), None)).collect::<Vec<_>>(), &[]);
    for (cell, id) in cells.into_iter().zip(1..) {
        let alone = train(folder.path(), &[(cell, None)], &[]);
        assert_eq!(metrics(&alone, 1), metrics(&together, id));
        assert_eq!(tensors(&newest(&alone, 1)), tensors(&newest(&together, id)));
    }
}

/// What was measured of a trial in its first epoch.
fn first(said: &[Said], id: u64, name: &str) -> f64 {
    let points = said.iter().filter_map(|said| match said {
        Said::EpochFinished { token, epoch: 1, points, .. } if token.trial.0 == id => Some(points),
        _ => None,
    });
    points.flatten().find(|point| point.name == name).unwrap().value
}

#[test]
fn trials_side_by_side_share_the_time_as_they_took_it() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trials = [32, 128].map(|resolution| (trial(folder.path(), resolution, settings()), None));
    let said = train(folder.path(), &trials, &[]);
    let parts = [1, 2].map(|id| 80.0 / first(&said, id, "images_per_second"));
    assert!(parts[1] > parts[0], "sixteen times the pixels: {parts:?}");
    let trained = first(&said, 1, "epoch_seconds") - first(&said, 1, "eval_seconds");
    let together: f64 = parts.iter().sum();
    assert!((together - trained).abs() < 0.05 * trained + 0.01, "{parts:?} of {trained}");
}

#[test]
fn several_at_a_time_do_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let cells: Vec<_> = [32, 24, 16].map(|resolution| (trial(folder.path(), resolution, settings()), None)).into();
    let in_turn = train(folder.path(), &cells, &[]);
    let expected: Vec<_> = (1..=3).map(|id| (metrics(&in_turn, id), tensors(&newest(&in_turn, id)))).collect();
    let at_a_time = train_on(3, folder.path(), &cells, &[]);
    for (id, expected) in (1..).zip(expected) {
        assert!(!expected.0.is_empty());
        assert_eq!((metrics(&at_a_time, id), tensors(&newest(&at_a_time, id))), expected);
    }
}

/// Its company has done an epoch more, or none: whoever is behind catches up first.
#[test]
fn a_member_that_comes_from_elsewhere_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let [one, other] = [32, 24].map(|resolution| trial(folder.path(), resolution, settings()));
    let alone = train(folder.path(), &[(one.clone(), None)], &[]);
    let expected = tensors(&newest(&alone, 1));
    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let stopped = train(folder.path(), &[(one.clone(), None)], &[stop]);
    let together = train_on(2, folder.path(), &[(one, Some(newest(&stopped, 1))), (other.clone(), None)], &[]);
    assert_eq!(tensors(&newest(&together, 1)), expected);
    assert_eq!(metrics(&together, 1).len(), metrics(&alone, 1).len());
    let alone = train(folder.path(), &[(other, None)], &[]);
    assert_eq!(tensors(&newest(&together, 2)), tensors(&newest(&alone, 1)));
}

fn join(trial: &Trial, resume: Option<PathBuf>) -> Order {
    let (token, trial) = (Token::chief(TrialId(2), 1), trial.clone());
    Order::Join { member: Box::new(Member { token, trial, resume, threads: 1, exchange: None }) }
}

/// The checkpoint of a trial's first epoch.
fn after_one_epoch(said: &[Said]) -> PathBuf {
    let saved = said.iter().find_map(|said| match said {
        Said::CheckpointSaved { path, epoch: 1, .. } => Some(path.clone()),
        _ => None,
    });
    saved.unwrap()
}

#[test]
fn one_that_joins_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let [one, other] = [32, 24].map(|resolution| trial(folder.path(), resolution, settings()));
    // Each has a folder of its own: what is trained later does not write over it.
    let alone = |place: &str, trial: &Trial, orders: &[Order]| {
        let place = folder.path().join(place);
        std::fs::create_dir(&place).unwrap();
        train(&place, &[(trial.clone(), None)], orders)
    };
    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let within = newest(&alone("within", &other, &[stop]), 1);
    let alone = [("one", &one), ("other", &other)].map(|(place, trial)| alone(place, trial, &[]));
    let expected = alone.each_ref().map(|said| tensors(&newest(said, 1)));
    let [one_ahead, other_ahead] = alone.each_ref().map(|said| after_one_epoch(said));
    let cases = [
        // As it should be: the others come to where it is.
        (None, Some(other_ahead.clone())),
        // It missed them by an epoch, and catches up.
        (Some(one_ahead.clone()), None),
        // Both begin, and in the middle of an epoch.
        (None, None),
        (None, Some(within.clone())),
        (Some(one_ahead), Some(within)),
    ];
    for (resume, join_from) in cases {
        let said = train(folder.path(), &[(one.clone(), resume.clone())], &[join(&other, join_from.clone())]);
        let ended = [1, 2].map(|id| tensors(&newest(&said, id)));
        assert_eq!(ended, expected, "{resume:?} is joined by {join_from:?}");
        let later = metrics(&alone[1], 1);
        let heard = metrics(&said, 2);
        assert_eq!(heard, later[later.len() - heard.len()..]);
    }
    // Nobody is left when it comes.
    let done = newest(&alone[0], 1);
    let said = train(folder.path(), &[(one, Some(done))], &[join(&other, Some(other_ahead))]);
    assert_eq!((end(&said, 1), end(&said, 2)), (AttemptEnd::Completed, AttemptEnd::Completed));
    assert_eq!(tensors(&newest(&said, 2)), expected[1]);
}

#[test]
fn one_that_cannot_join_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let [one, other] = [32, 24].map(|resolution| trial(folder.path(), resolution, settings()));
    let mut elsewhere = other.clone();
    elsewhere.data.classes = 3;
    let nowhere = Some(PathBuf::from("/nowhere/at-all"));
    for (trial, resume, expected) in [(elsewhere, None, "its data are not those"), (other, nowhere, "/nowhere/at-all")]
    {
        let said = train(folder.path(), &[(one.clone(), None)], &[join(&trial, resume)]);
        match end(&said, 2) {
            AttemptEnd::Failed { reason } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(end(&said, 1), AttemptEnd::Completed);
    }
}

#[test]
fn a_member_that_waits_for_others_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let [one, other] = [32, 24].map(|resolution| trial(folder.path(), resolution, settings()));
    let ahead = after_one_epoch(&train(folder.path(), &[(one.clone(), None)], &[]));
    // The second one is behind; the first one waits when it is told to stop.
    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let said = train(folder.path(), &[(one, Some(ahead)), (other, None)], &[stop]);
    assert_eq!((end(&said, 1), end(&said, 2)), (AttemptEnd::Stopped, AttemptEnd::Completed));
    let progress = read_header(&std::fs::read(newest(&said, 1)).unwrap()).unwrap().progress;
    assert_eq!((progress.epochs_done, progress.next_sample), (1, 0));
}

#[test]
fn a_member_that_diverges_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let mut wild = settings();
    wild["learning_rate"] = serde_json::json!(1e30);
    let trials = [(trial(folder.path(), 24, wild), None), (trial(folder.path(), 128, settings()), None)];
    let said = train(folder.path(), &trials, &[]);
    let trained = first(&said, 2, "epoch_seconds") - first(&said, 2, "eval_seconds");
    assert!(
        80.0 / first(&said, 2, "images_per_second") > 0.5 * trained,
        "it was not told the other's part of the time"
    );
    match end(&said, 1) {
        AttemptEnd::Failed { reason } => assert!(reason.contains("not finite") && reason.contains("learning_rate")),
        other => panic!("{other:?}"),
    }
    assert_eq!(end(&said, 2), AttemptEnd::Completed);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trial = trial(folder.path(), 32, settings());
    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let path = newest(&train(folder.path(), &[(trial.clone(), None)], &[stop]), 1);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        ("its tensors do not have the hash", flipped),
        ("is damaged", good[..good.len() / 2].to_vec()),
        ("is damaged", b"no checkpoint".to_vec()),
    ];
    for (expected, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        match end(&train(folder.path(), &[(trial.clone(), Some(path.clone()))], &[]), 1) {
            AttemptEnd::Failed { reason } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    std::fs::write(&path, good).unwrap();
    let mut other = trial;
    other.key = "another".into();
    match end(&train(folder.path(), &[(other, Some(path))], &[]), 1) {
        AttemptEnd::Failed { reason } => assert!(reason.contains("not of another"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_data_fails_every_member_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let said = train(folder.path(), &[(trial(folder.path(), 32, settings()), None)], &[]);
    match end(&said, 1) {
        AttemptEnd::Failed { reason } => assert!(reason.contains("train"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// Statistics that were estimated anew for an evaluation lie in the checkpoint beside those that training goes on
/// from, so that an export is what was evaluated.
#[test]
fn a_checkpoint_holds_the_statistics_that_were_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trial = trial(folder.path(), 32, settings());
    let load = |path: &Path| {
        let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes).unwrap();
        let mut model = Model::new(network, &trial.training, trial.seed, tch::Device::Cpu).unwrap();
        trainer::checkpoint::load(path, &mut model, &trial).unwrap();
        model
    };
    let whole = train(folder.path(), &[(trial.clone(), None)], &[]);
    let mut model = load(&newest(&whole, 1));
    let running = model.statistics().copy();
    let evaluated = model.evaluated().unwrap().copy();
    assert_ne!(running, evaluated);
    let average = model.flat().average.as_ref().unwrap().copy();
    assert_ne!(model.flat().weights, average);
    trainer::evaluation::take_evaluated(&mut model);
    assert_eq!((model.statistics(), &model.flat().weights), (&evaluated, &average));

    let stop = Order::Stop { token: Token::chief(TrialId(1), 1), reason: StopReason::Pause };
    let stopped = train(folder.path(), &[(trial.clone(), None)], &[stop]);
    assert!(load(&newest(&stopped, 1)).evaluated().is_none(), "nothing was evaluated yet");
}
